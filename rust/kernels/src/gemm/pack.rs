//! Packing: B into panels `[k][nr]`, whatever its strides are; strips of A into `[k][rows]`.
use super::Mat;
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
                // Squares of LANES x LANES, transposed in registers. Addresses are computed in place: a call of `at` for
                // each vector would cost more than the vector.
                let base = b.at(k0, j0);
                for j in (0..nr).step_by(S::LANES) {
                    let n = cols.saturating_sub(j).min(S::LANES);
                    let column = base.wrapping_offset(j as isize * b.cs);
                    for l in (0..k).step_by(S::LANES) {
                        let depth = S::LANES.min(k - l);
                        let (src, dst) = (column.wrapping_add(l), out.add(l * nr + j));
                        let mut square = [S::zero(); 16];
                        if n == S::LANES && depth == S::LANES {
                            for i in 0..S::LANES {
                                square[i] = S::load(src.wrapping_offset(i as isize * b.cs));
                            }
                            transpose::<S>(&mut square);
                            for i in 0..S::LANES {
                                S::store(dst.add(i * nr), square[i]);
                            }
                            continue;
                        }
                        for i in 0..S::LANES {
                            if i < n {
                                square[i] =
                                    S::load_n(src.wrapping_offset(i as isize * b.cs), depth);
                            }
                        }
                        transpose::<S>(&mut square);
                        let copy = square;
                        let square = core::hint::black_box(&copy);
                        for i in 0..depth {
                            S::store(dst.add(i * nr), square[i]);
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
        if rs == 1 {
            // The usual case (a transposed A), with copies of known length.
            macro_rules! copy {
                ($($n:literal)*) => {
                    match rows {
                        $($n => {
                            for l in 0..k {
                                let src = a.offset(l as isize * ks).cast::<[T; $n]>();
                                out.add(l * $n).cast::<[T; $n]>().write(src.read());
                            }
                            return;
                        })*
                        _ => (),
                    }
                };
            }
            copy!(4 5 6 7 8);
        }
        for l in 0..k {
            for i in 0..rows {
                *out.add(l * rows + i) = *a.offset(i as isize * rs + l as isize * ks);
            }
        }
    }
}
