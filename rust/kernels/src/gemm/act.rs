//! Activations other than ReLU, on a tile of C that has just been stored and is still in the first-level cache.
use super::Activation;
use crate::element::Real;
use crate::simd::{Isa, Kernel, Simd, dispatch_on, math};

struct Apply<T> {
    act: Activation,
    c: *mut T,
    rows: usize,
    cols: usize,
    ld: usize,
}

/// Applies `act` to `rows x cols` elements with row stride `ld`; nothing for None and Relu (the kernel has done it).
///
/// # Safety
/// The elements may be read and written, and nobody else uses them.
#[inline]
pub(crate) unsafe fn apply<T: Real>(
    isa: Isa,
    act: Activation,
    c: *mut T,
    rows: usize,
    cols: usize,
    ld: usize,
) {
    if !matches!(act, Activation::None | Activation::Relu) {
        let body = Apply {
            act,
            c,
            rows,
            cols,
            ld,
        };
        dispatch_on(isa, body);
    }
}

impl<T: Real> Kernel<T> for Apply<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        for i in 0..self.rows {
            for j in (0..self.cols).step_by(S::LANES) {
                let n = S::LANES.min(self.cols - j);
                // SAFETY: apply's promise: n elements of the row.
                unsafe {
                    let p = self.c.add(i * self.ld + j);
                    let x = S::load_n(p, n);
                    let y = match self.act {
                        Activation::None | Activation::Relu => x,
                        Activation::Gelu => math::gelu::<S>(x),
                        Activation::Silu => math::silu::<S>(x),
                        Activation::Sigmoid => math::sigmoid::<S>(x),
                        Activation::Tanh => math::tanh::<S>(x),
                    };
                    S::store_n(p, y, n);
                }
            }
        }
    }
}
