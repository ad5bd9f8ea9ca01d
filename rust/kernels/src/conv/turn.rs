//! Turning matrices: rows become columns, in squares of vectors.
use crate::element::Real;
use crate::simd::{Kernel, Simd, transpose};

/// `to[j, i] = from[i, j]`, or the larger of that and 0: a matrix of `size`, whose rows are `from_ld` apart, into rows `to_ld`
/// apart.
///
/// Run it only where `from` may be read and `to` written, and neither overlaps the other.
pub(super) struct Turn<T> {
    pub from: *const T,
    pub from_ld: usize,
    pub size: (usize, usize),
    pub to: *mut T,
    pub to_ld: usize,
    pub relu: bool,
}

impl<T: Real> Kernel<T> for Turn<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let (rows, cols) = self.size;
        // SAFETY: whoever runs this promises that both matrices exist; everything below stays inside `size`.
        unsafe {
            for i in (0..rows).step_by(S::LANES) {
                let high = S::LANES.min(rows - i);
                for j in (0..cols).step_by(S::LANES) {
                    let wide = S::LANES.min(cols - j);
                    let from = self.from.wrapping_add(i * self.from_ld + j);
                    let to = self.to.wrapping_add(j * self.to_ld + i);
                    if high == S::LANES && wide == S::LANES {
                        let mut lines = [core::ptr::null(); 16];
                        for l in 0..S::LANES {
                            lines[l] = from.add(l * self.from_ld);
                        }
                        let square = S::load_transposed(&lines);
                        for l in 0..S::LANES {
                            let x = if self.relu {
                                // Written so that NaN stays NaN.
                                S::max(S::zero(), square[l])
                            } else {
                                square[l]
                            };
                            S::store(to.add(l * self.to_ld), x);
                        }
                        continue;
                    }
                    let mut square = [S::zero(); 16];
                    for l in 0..S::LANES {
                        if l < high {
                            square[l] = S::load_n(from.add(l * self.from_ld), wide);
                        }
                    }
                    if self.relu {
                        for l in 0..S::LANES {
                            square[l] = S::max(S::zero(), square[l]);
                        }
                    }
                    transpose::<S>(&mut square);
                    // In memory: registers cannot be counted through.
                    let square = core::hint::black_box(square);
                    for l in 0..wide {
                        S::store_n(to.add(l * self.to_ld), square[l], high);
                    }
                }
            }
        }
    }
}
