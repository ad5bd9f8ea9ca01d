//! Columns of many rows, side by side in memory at one distance from row to row.
//!
//! Row `j` of a chunk belongs to virtual lane `j % 16`, and the lanes of a column do not meet before the chunk is done. So a
//! lane is a sum of rows of its own, which threads can share even where there are few columns; it is read some rows at a time,
//! each along a whole page, so that many lines of memory are under way at once. Rows without a gap between them make
//! one row of all sixteen lanes, however narrow they are.
use super::fold::{FOLD_CHUNK, Fold, Trees};
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::layout::{CHUNK, Dims, offset_of};
use crate::parallel::{Cost, SharedMut, abandoned, for_each, for_each_chunk};
use crate::simd::{Isa, Kernel, LANES16, Simd, dispatch_on};
use core::marker::PhantomData;

/// Fewest rows for which this pays.
pub(super) const ROWS: usize = 64;
/// Elements of a row that are added at a time: a page of f32.
const STRIP: usize = 1024;
/// Rows that are added to an accumulator at a time.
const TOGETHER: usize = 4;
/// Blocks of columns and chunks, below which the lanes of each are shared out too.
const UNITS: usize = 16;

/// Some columns of one chunk of rows.
struct Cell<T> {
    p: *const T,
    /// From row to row.
    step: isize,
    rows: usize,
    columns: usize,
}

impl<T> Cell<T> {
    /// No gap between the rows.
    fn flat(&self) -> bool {
        self.step == self.columns as isize
    }
    /// Parts that can be added independently of each other.
    fn strips(&self) -> usize {
        if self.flat() {
            (LANES16 * self.columns).div_ceil(STRIP)
        } else {
            LANES16
        }
    }
}

/// Adds up strip `strip` of a cell into `acc`, `[lane][column]`.
struct Strip<'a, T, O> {
    cell: &'a Cell<T>,
    strip: usize,
    acc: *mut T,
    fold: PhantomData<O>,
}
impl<T: Real, O: Fold> Kernel<T> for Strip<'_, T, O> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Strip {
            cell, strip, acc, ..
        } = self;
        let n = cell.columns;
        let (groups, left) = (cell.rows / LANES16, cell.rows % LANES16);
        let stride = cell.step * LANES16 as isize;
        // SAFETY: run by dispatch; the caller's rows exist, and acc has 16 times `columns` elements, of which only those of
        // this strip are touched.
        unsafe {
            if !cell.flat() {
                let rows = groups + usize::from(strip < left);
                let p = cell.p.wrapping_offset(strip as isize * cell.step);
                return add_rows::<S, O>(p, stride, rows, acc.add(strip * n), n);
            }
            let (from, to) = (strip * STRIP, ((strip + 1) * STRIP).min(LANES16 * n));
            // The first lanes have a row more.
            let cut = (left * n).clamp(from, to);
            for (from, to, rows) in [(from, cut, groups + 1), (cut, to, groups)] {
                let p = cell.p.wrapping_add(from);
                add_rows::<S, O>(p, stride, rows, acc.add(from), to - from);
            }
        }
    }
}

/// `acc = identity + row 0 + row 1 + ..`, for `n` columns.
/// # Safety
/// S is enabled; the rows exist, acc has n elements.
#[inline(always)]
unsafe fn add_rows<S: Simd, O: Fold>(
    p: *const S::T,
    stride: isize,
    rows: usize,
    acc: *mut S::T,
    n: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if rows < TOGETHER {
            add_some::<S, O, 0>(p, stride, acc, n, true);
        }
        let mut row = 0;
        while row < rows {
            let p = p.offset(row as isize * stride);
            if row + TOGETHER <= rows {
                add_some::<S, O, TOGETHER>(p, stride, acc, n, row == 0);
                row += TOGETHER;
            } else {
                add_some::<S, O, 1>(p, stride, acc, n, false);
                row += 1;
            }
        }
    }
}

/// Adds R rows to acc, or to the identity.
/// # Safety
/// As for [`add_rows`].
#[inline(always)]
unsafe fn add_some<S: Simd, O: Fold, const R: usize>(
    p: *const S::T,
    stride: isize,
    acc: *mut S::T,
    n: usize,
    fresh: bool,
) {
    // SAFETY: the caller's promise; what is masked stays below n.
    unsafe {
        let id = S::splat(O::identity());
        let mut i = 0;
        while i + S::LANES <= n {
            let mut a = if fresh { id } else { S::load(acc.add(i)) };
            for r in 0..R {
                a = O::vector::<S>(a, S::load(p.offset(r as isize * stride).add(i)));
            }
            S::store(acc.add(i), a);
            i += S::LANES;
        }
        if i < n {
            let left = n - i;
            let mut a = if fresh {
                id
            } else {
                S::load_n(acc.add(i), left)
            };
            for r in 0..R {
                a = O::vector::<S>(a, S::load_n(p.offset(r as isize * stride).add(i), left));
            }
            S::store_n(acc.add(i), a, left);
        }
    }
}

/// Lanes at distance 8, 4, 2, 1 of `acc`, `[lane][column]`; a lane without rows holds the identity, which changes nothing.
struct Lanes<'a, T, O> {
    acc: *const T,
    out: &'a mut [T],
    fold: PhantomData<O>,
}
impl<T: Real, O: Fold> Kernel<T> for Lanes<'_, T, O> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let n = self.out.len();
        // SAFETY: run by dispatch; acc has 16 rows of n elements, and what is masked stays below n.
        unsafe {
            let mut i = 0;
            while i < n {
                let left = (n - i).min(S::LANES);
                let mut a = [S::zero(); LANES16];
                for l in 0..LANES16 {
                    a[l] = S::load_n(self.acc.add(l * n + i), left);
                }
                let mut half = LANES16 / 2;
                while half > 0 {
                    for l in 0..half {
                        a[l] = O::vector::<S>(a[l], a[l + half]);
                    }
                    half /= 2;
                }
                S::store_n(self.out.as_mut_ptr().add(i), a[0], left);
                i += S::LANES;
            }
        }
    }
}

/// `out[image, column]` over `k` rows at distance `step`; the columns are the last axis of `o`, its other axes the images.
pub(super) fn tall<T: Real, O: Fold>(
    isa: Isa,
    o: &Dims<1>,
    step: isize,
    k: usize,
    base: super::float::Base<T>,
    out: &mut [T],
) {
    let last = o.len() - 1;
    let c = o.shape()[last];
    let images = out.len() / c;
    let chunks = k.div_ceil(FOLD_CHUNK);
    let width = c.min(STRIP);
    let blocks = c.div_ceil(width);
    let units = images * chunks * blocks;
    let bytes = (images * c * k * size_of::<T>()) as f64;
    let cost = Cost {
        flops: (images * c * k) as f64,
        bytes,
    };
    // The sums of every chunk, `[image][chunk][column]`; a single one is the result.
    let parts = Buffer::<T>::new(if chunks == 1 { 0 } else { images * chunks * c });
    let to = SharedMut(if chunks == 1 {
        out.as_mut_ptr()
    } else {
        parts.ptr()
    });
    let (from, to) = (&base, &to);
    let cell = |unit: usize| {
        let (image, chunk) = (unit / blocks / chunks, unit / blocks % chunks);
        let (row, column) = (chunk * FOLD_CHUNK, unit % blocks * width);
        let at = offset_of(&o.shape()[..last], &o.strides(0)[..last], image)
            + row as isize * step
            + column as isize;
        Cell {
            p: from.0.wrapping_offset(at),
            step,
            rows: FOLD_CHUNK.min(k - row),
            columns: width.min(c - column),
        }
    };
    let add = |cell: &Cell<T>, strip: usize, acc: *mut T| {
        let fold = PhantomData::<O>;
        dispatch_on(
            isa,
            Strip {
                cell,
                strip,
                acc,
                fold,
            },
        );
    };
    let finish = |unit: usize, acc: *const T| {
        let column = unit % blocks * width;
        // SAFETY: units own disjoint parts of the sums, which we hold exclusively.
        let out = unsafe { to.slice(unit / blocks * c + column, width.min(c - column)) };
        let fold = PhantomData::<O>;
        dispatch_on(isa, Lanes { acc, out, fold });
    };
    if units >= UNITS {
        let group = (CHUNK / (k.min(FOLD_CHUNK) * width)).max(1);
        for_each_chunk(units, group, cost, &|range| {
            let acc = Buffer::<T>::new(LANES16 * width);
            for u in range {
                let cell = cell(u);
                for strip in 0..cell.strips() {
                    if abandoned((cell.rows * cell.columns / cell.strips()) as f64) {
                        return;
                    }
                    add(&cell, strip, acc.ptr());
                }
                finish(u, acc.ptr());
            }
        });
    } else {
        let room = Buffer::<T>::new(units * LANES16 * width);
        let acc = SharedMut(room.ptr());
        let acc = &acc;
        for_each(units * LANES16, cost, &|t| {
            let (u, strip) = (t / LANES16, t % LANES16);
            let cell = cell(u);
            // At most sixteen: a strip holds a row of every lane, or of one.
            if strip < cell.strips() {
                add(&cell, strip, acc.0.wrapping_add(u * LANES16 * width));
            }
        });
        for u in 0..units {
            finish(u, acc.0.wrapping_add(u * LANES16 * width));
        }
    }
    if chunks == 1 {
        return;
    }
    for (image, out) in out.chunks_exact_mut(c).enumerate() {
        let mut trees = Trees::new(c);
        for chunk in 0..chunks {
            // SAFETY: as in `finish`; nobody else uses the sums any more.
            trees.push::<O>(unsafe { to.slice((image * chunks + chunk) * c, c) });
        }
        trees.finish::<O>(out);
    }
}
