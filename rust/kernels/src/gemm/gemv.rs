//! One row times a transposed matrix. Every row of the matrix is read once, where it lies, and squares of it are transposed in registers:
//! packing would write and read it again for a single use. The sums are those of the tiles, in the same order.
use super::band::Band;
use crate::element::Real;
use crate::simd::{Kernel, Simd, transpose};
use crate::sum::{load, store};

/// A band of one row; element l of column j is at `b + j * b_ks + l`, and `a_rs`, `step` and `ldc` are not used.
///
/// # Safety
/// Whoever runs it promises that the pointers are valid for what [`Band`] says and that C overlaps nothing that is read.
pub(super) struct Gemv<'a, T>(pub &'a Band<T>);

impl<T: Real> Kernel<T> for Gemv<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let mut j = 0;
        // SAFETY: columns that there are. One vector of them at a time: the rows may lie powers of two apart, and no more of them than
        // a cache has ways stay in it.
        unsafe {
            while j + S::LANES <= self.0.cols {
                self.vector::<S, true>(j);
                j += S::LANES;
            }
            if j < self.0.cols {
                self.vector::<S, false>(j);
            }
        }
    }
}

impl<T: Real> Gemv<'_, T> {
    /// A vector of columns, all of them there if WHOLE.
    #[inline(always)]
    unsafe fn vector<S: Simd<T = T>, const WHOLE: bool>(&self, j: usize) {
        let t = self.0;
        let n = if WHOLE { S::LANES } else { t.cols - j };
        let row = |i: usize, l: usize| {
            // Columns past the last repeat it; their sums are not stored.
            let column = j + if WHOLE { i } else { i.min(n - 1) };
            t.b.wrapping_offset((column as isize).wrapping_mul(t.b_ks))
                .wrapping_add(l)
        };
        // SAFETY: the maker's promise.
        unsafe {
            let mut acc = S::zero();
            let (mut l, mut a) = (0, t.a);
            while l + S::LANES <= t.k {
                let mut rows = [t.b; 16];
                for i in 0..S::LANES {
                    rows[i] = row(i, l);
                }
                let square = S::load_transposed(&rows);
                for i in 0..S::LANES {
                    acc = S::fma(S::splat(*a), square[i], acc);
                    a = a.wrapping_offset(t.a_ks);
                }
                l += S::LANES;
            }
            let rest = t.k - l;
            if rest > 0 {
                let mut square = [S::zero(); 16];
                for i in 0..S::LANES {
                    square[i] = S::load_n(row(i, l), rest);
                }
                transpose::<S>(&mut square);
                for i in 0..S::LANES {
                    if i < rest {
                        acc = S::fma(S::splat(*a), square[i], acc);
                        a = a.wrapping_offset(t.a_ks);
                    }
                }
            }
            let c = t.c.add(j);
            if t.load_c {
                acc = S::add(load::<S>(c, n), acc);
            }
            if !t.bias.is_null() {
                acc = S::add(acc, load::<S>(t.bias.add(j), n));
            }
            if !t.pre.is_null() {
                store::<S>(t.pre.add(j), acc, n);
            }
            if t.relu {
                // Written so that NaN stays NaN.
                acc = S::max(S::zero(), acc);
            }
            store::<S>(c, acc, n);
        }
    }
}
