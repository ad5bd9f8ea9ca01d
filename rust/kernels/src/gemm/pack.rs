//! Packing: B into panels `[k][nr]`, whatever its strides are; strips of A into `[k][rows]`.
use super::Mat;
use super::kernel::MAX_MR;
use crate::element::{Number, Real};
use crate::simd::{Isa, Kernel, Simd, dispatch_on};

impl<T: Real> Mat<'_, T> {
    /// Address of element (i, j).
    pub(crate) fn at(&self, i: usize, j: usize) -> *const T {
        let o = self.offset as isize + i as isize * self.rs + j as isize * self.cs;
        self.data.as_ptr().wrapping_offset(o)
    }

    /// Panics unless all of `rows x cols` lies inside the data: everything unsafe below relies on it.
    pub(crate) fn check(&self, rows: usize, cols: usize, name: &str) {
        if rows == 0 || cols == 0 {
            return;
        }
        let (mut low, mut high) = (self.offset as i128, self.offset as i128);
        for (n, s) in [(rows, self.rs), (cols, self.cs)] {
            let reach = (n as i128 - 1) * s as i128;
            low += reach.min(0);
            high += reach.max(0);
        }
        assert!(
            low >= 0 && high < self.data.len() as i128,
            "{name} ({rows}, {cols}) with strides ({}, {}) reaches outside its data of {} elements",
            self.rs,
            self.cs,
            self.data.len()
        );
    }

    pub(crate) fn t(&self) -> Self {
        Mat {
            rs: self.cs,
            cs: self.rs,
            ..*self
        }
    }
}

/// Packs rows `k0 .. k0 + k` and columns `j0 .. j0 + cols` of B into `out`, `[k][nr]`, zeros in columns from `cols` up.
struct PackB<'a, T> {
    b: Mat<'a, T>,
    k0: usize,
    k: usize,
    j0: usize,
    cols: usize,
    nr: usize,
    out: *mut T,
}

/// # Safety
/// The range lies inside B (which was checked), and `out` has room for `k * nr` elements that nobody else uses.
pub(crate) unsafe fn pack_b<T: Real>(
    isa: Isa,
    b: Mat<'_, T>,
    (k0, k): (usize, usize),
    (j0, cols): (usize, usize),
    nr: usize,
    out: *mut T,
) {
    let pack = PackB {
        b,
        k0,
        k,
        j0,
        cols,
        nr,
        out,
    };
    dispatch_on(isa, pack);
}

impl<T: Real> Kernel<T> for PackB<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let PackB {
            b,
            k0,
            k,
            j0,
            cols,
            nr,
            out,
        } = self;
        // SAFETY: pack_b's promise; nr is a multiple of the lanes.
        unsafe {
            if b.cs == 1 {
                for l in 0..k {
                    let (src, dst) = (b.at(k0 + l, j0), out.add(l * nr));
                    for j in (0..nr).step_by(S::LANES) {
                        let n = cols.saturating_sub(j).min(S::LANES);
                        let x = if n == S::LANES {
                            S::load(src.add(j))
                        } else {
                            S::load_n(src.wrapping_add(j), n)
                        };
                        S::store(dst.add(j), x);
                    }
                }
            } else if b.rs == 1 {
                // Squares of LANES x LANES, transposed in registers.
                for j in (0..nr).step_by(S::LANES) {
                    let n = cols.saturating_sub(j).min(S::LANES);
                    for l in (0..k).step_by(S::LANES) {
                        let depth = S::LANES.min(k - l);
                        let mut square = [S::zero(); 16];
                        for i in 0..S::LANES {
                            if i < n {
                                let src = b.at(k0 + l, j0 + j + i);
                                square[i] = if depth == S::LANES {
                                    S::load(src)
                                } else {
                                    S::load_n(src, depth)
                                };
                            }
                        }
                        transpose::<S>(&mut square);
                        let dst = out.add(l * nr + j);
                        if depth == S::LANES {
                            for i in 0..S::LANES {
                                S::store(dst.add(i * nr), square[i]);
                            }
                        } else {
                            let copy = square;
                            let square = core::hint::black_box(&copy);
                            for i in 0..depth {
                                S::store(dst.add(i * nr), square[i]);
                            }
                        }
                    }
                }
            } else {
                for l in 0..k {
                    for j in 0..nr {
                        let x = if j < cols {
                            *b.at(k0 + l, j0 + j)
                        } else {
                            T::ZERO
                        };
                        *out.add(l * nr + j) = x;
                    }
                }
            }
        }
    }
}

/// Transposes a square of LANES vectors: log2(LANES) perfect shuffles of the rows.
#[inline(always)]
pub(crate) unsafe fn transpose<S: Simd>(x: &mut [S::V; 16]) {
    // SAFETY: S is enabled by the caller.
    unsafe {
        let half = S::LANES / 2;
        let mut step = 1;
        while step < S::LANES {
            let mut y = *x;
            for i in 0..half {
                (y[2 * i], y[2 * i + 1]) = S::interleave(x[i], x[i + half]);
            }
            *x = y;
            step *= 2;
        }
    }
}

/// Packs `rows` rows of A from (i0, k0) into `[k][rows]`.
///
/// # Safety
/// The range lies inside A, and `out` has room for `k * rows` elements that nobody else uses.
pub(crate) unsafe fn pack_a<T: Number>(
    a: *const T,
    (rs, ks): (isize, isize),
    rows: usize,
    k: usize,
    out: *mut T,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if rs == 1 && rows == MAX_MR {
            // The usual case (a transposed A), with a copy of known length.
            for l in 0..k {
                let src = a.offset(l as isize * ks).cast::<[T; MAX_MR]>();
                out.add(l * MAX_MR).cast::<[T; MAX_MR]>().write(src.read());
            }
            return;
        }
        for l in 0..k {
            for i in 0..rows {
                *out.add(l * rows + i) = *a.offset(i as isize * rs + l as isize * ks);
            }
        }
    }
}
