//! General matrix multiply: `C = act(A B + C0 + bias)`.
use crate::element::Real;

/// A matrix: element (i, j) is `data[offset + i * rs + j * cs]`; strides may be 0 or negative.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Mat<'a, T> {
    pub data: &'a [T],
    pub offset: usize,
    pub rs: isize,
    pub cs: isize,
}

/// Activation applied in the epilogue, on the registers that hold the tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Activation {
    #[default]
    None,
    Relu,
    Gelu,
    Silu,
    Sigmoid,
    Tanh,
}

/// What happens to a tile before it is stored.
#[derive(Debug)]
pub struct Epilogue<'a, T> {
    /// Added per column (length n).
    pub bias: Option<&'a [T]>,
    /// Applied last.
    pub act: Activation,
    /// Add to what `c` holds instead of overwriting it.
    pub accumulate: bool,
    /// Second store: the value before the activation (dense m x n).
    pub pre: Option<&'a mut [T]>,
}
impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self {
            bias: None,
            act: Activation::None,
            accumulate: false,
            pre: None,
        }
    }
}

/// `c` is dense row-major `(m, n)`. k = 0 gives the epilogue of zeros. Any thread count gives the same bits; so does any
/// stride pattern of a and b.
pub fn gemm<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    c: &mut [T],
    epilogue: Epilogue<'_, T>,
) {
    unimplemented!()
}
/// `batch` products; product i reads a at `a.offset + a_off[i]`, b at `b.offset + b_off[i]`, writes `c[i*m*n ..]`.
pub fn gemm_batched<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'_, T>,
    a_off: &[isize],
    b: Mat<'_, T>,
    b_off: &[isize],
    c: &mut [T],
) {
    unimplemented!()
}

/// Gradients of `y = act(x w^T + b)`: x (m, k), w (n, k) dense, dz = dy * act'(saved) (m, n) dense is given.
/// `dx = dz w`, `dw = dz^T x`, `db = column sums of dz`; only those asked for, in one region.
pub fn linear_backward<T: Real>(
    m: usize,
    n: usize,
    k: usize,
    x: &[T],
    w: &[T],
    dz: &[T],
    dx: Option<&mut [T]>,
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    unimplemented!()
}
