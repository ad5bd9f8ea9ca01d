//! 2-D convolution (cross-correlation, as every framework calls it) on dense NCHW; 1-D uses h = kh = 1.
use crate::element::Real;
use crate::gemm::Activation;

/// Geometry. `y (n, o, oh, ow)`, `x (n, c, h, w)`, `w (o, c / groups, kh, kw)`;
/// `y[n,o,i,j] = b[o] + sum_{c,p,q} w[o,c,p,q] * x[n, c, i*stride + p*dilation - pad, ...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Conv2d {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub oh: usize,
    pub ow: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// top, left (bottom and right follow from oh, ow; they may differ: 'same' with even kernels)
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

/// `y = act(conv(x, w) + bias)`.
pub fn conv2d<T: Real>(
    p: &Conv2d,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    act: Activation,
    y: &mut [T],
) {
    unimplemented!()
}
/// Gradient of the input (also: transposed convolution). Overwrites `dx`.
pub fn conv2d_dx<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    unimplemented!()
}
/// Gradient of the weight and the bias. Overwrites both.
pub fn conv2d_dw<T: Real>(
    p: &Conv2d,
    x: &[T],
    dy: &[T],
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    unimplemented!()
}
