//! Packing: B into panels `[k][nr]`, whatever its strides are; strips of A into `[k][rows]`.
use super::Mat;
use super::kernel::MAX_MR;
use crate::element::{Number, Real};
use crate::parallel::SharedMut;
use crate::simd::{Isa, Kernel, Simd, dispatch_on, prefetch_run, transpose};

impl<T> Mat<'_, T> {
    /// Address of element (i, j).
    #[inline(always)]
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
                    let mut l = 0;
                    while n == S::LANES && l + S::LANES <= k {
                        let mut rows = [core::ptr::null(); 16];
                        for i in 0..S::LANES {
                            rows[i] = b.at(k0 + l, j0 + j + i);
                        }
                        let square = S::load_transposed(&rows);
                        let dst = out.add(l * nr + j);
                        for i in 0..S::LANES {
                            S::store(dst.add(i * nr), square[i]);
                        }
                        l += S::LANES;
                    }
                    for l in (l..k).step_by(S::LANES) {
                        let depth = S::LANES.min(k - l);
                        let mut square = [S::zero(); 16];
                        for i in 0..S::LANES {
                            if i < n {
                                square[i] = S::load_n(b.at(k0 + l, j0 + j + i), depth);
                            }
                        }
                        transpose::<S>(&mut square);
                        let dst = out.add(l * nr + j);
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

/// Where dense rows of B lie.
#[derive(Clone, Copy)]
pub(crate) enum RowsOf<'a, T> {
    /// At equal distances.
    Mat(Mat<'a, T>),
    /// Anywhere.
    Table(&'a [SharedMut<T>]),
}

impl<T> RowsOf<'_, T> {
    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> *const T {
        match self {
            RowsOf::Mat(b) => b.at(i, j),
            RowsOf::Table(rows) => rows[i].0.wrapping_add(j).cast_const(),
        }
    }
}

/// Packs rows `k0 .. k0 + rows` of B, whose rows are dense, into panels `panels.0 .. panels.1` of `nr` columns of `n`: the panels
/// lie `room` elements apart, and zeros stand in columns from `n` up. Row by row, as they lie in memory.
struct PackRows<'a, T> {
    b: RowsOf<'a, T>,
    k0: usize,
    rows: usize,
    n: usize,
    panels: (usize, usize),
    nr: usize,
    room: usize,
    out: *mut T,
}

/// # Safety
/// The range lies inside B (a matrix was checked, a table's rows have n elements), and `out` has `rows * nr` elements for every
/// panel, `room` apart, that nobody else uses.
pub(crate) unsafe fn pack_rows<T: Real>(
    isa: Isa,
    b: RowsOf<'_, T>,
    (k0, rows): (usize, usize),
    n: usize,
    panels: (usize, usize),
    nr: usize,
    (out, room): (*mut T, usize),
) {
    let pack = PackRows {
        b,
        k0,
        rows,
        n,
        panels,
        nr,
        room,
        out,
    };
    dispatch_on(isa, pack);
}

impl<T: Real> Kernel<T> for PackRows<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let nr = self.nr;
        let (first, last) = self.panels;
        let whole = last.min(self.n / nr);
        // SAFETY: pack_rows' promise; nr is a multiple of the lanes.
        unsafe {
            for l in 0..self.rows {
                let mut src = self.b.at(self.k0 + l, first * nr);
                let mut dst = self.out.wrapping_add(l * nr);
                for _ in first..whole {
                    for j in (0..nr).step_by(S::LANES) {
                        S::store(dst.add(j), S::load(src.add(j)));
                    }
                    (src, dst) = (src.wrapping_add(nr), dst.wrapping_add(self.room));
                }
                for panel in whole.max(first)..last {
                    let cols = self.n - panel * nr;
                    for j in (0..nr).step_by(S::LANES) {
                        let n = cols.saturating_sub(j).min(S::LANES);
                        S::store(dst.add(j), S::load_n(src.wrapping_add(j), n));
                    }
                }
            }
        }
    }
}

/// Elements behind a packed strip that may be written.
pub(crate) const PACK_SLACK: usize = MAX_MR;

/// Packs strips `(first row, rows)` of A, which follow one another, for `k` from `k0` on: each into `[k][rows]`, the next
/// one `room` elements further.
///
/// # Safety
/// The strips lie inside A (which was checked), and `out` has `room >= k * rows + PACK_SLACK` elements for each, that
/// nobody else uses.
pub(crate) unsafe fn pack_strips<T: Number>(
    a: Mat<'_, T>,
    strips: &[(usize, usize)],
    (k0, k): (usize, usize),
    room: usize,
    out: *mut T,
) {
    let (Some(first), Some(last)) = (strips.first(), strips.last()) else {
        return;
    };
    let end = last.0 + last.1;
    // SAFETY: the caller's promise. Copies of a known length are fast: they write what the next step writes again, or the
    // slack, and read no row of A that does not exist.
    unsafe {
        if a.rs == 1 {
            // A transposed A: rows lie side by side, so all strips are read together.
            for l in 0..k {
                let src = a.at(first.0, k0 + l);
                // The rows lie far apart: nothing else fetches them ahead.
                let ahead = a.at(first.0, k0 + l).wrapping_offset(16 * a.cs);
                prefetch_run(ahead, end - first.0);
                for (slot, &(i0, rows)) in strips.iter().enumerate() {
                    let (src, dst) = (src.add(i0 - first.0), out.add(slot * room + l * rows));
                    if i0 + MAX_MR <= end {
                        let copy = src.cast::<[T; MAX_MR]>().read();
                        dst.cast::<[T; MAX_MR]>().write(copy);
                    } else {
                        core::ptr::copy_nonoverlapping(src, dst, rows);
                    }
                }
            }
            return;
        }
        for (slot, &(i0, rows)) in strips.iter().enumerate() {
            let out = out.add(slot * room);
            for l in 0..k {
                for i in 0..rows {
                    *out.add(l * rows + i) = *a.at(i0 + i, k0 + l);
                }
            }
        }
    }
}
