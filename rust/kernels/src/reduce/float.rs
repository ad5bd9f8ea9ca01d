//! Real reductions: rows whose elements are dense, columns that lie side by side, and gathered rows for the rest; the
//! same additions in the same order in all three.
use super::fold::{FOLD_CHUNK, Fold, Tree, Trees};
use super::tall;
use crate::element::{Real, Strided};
use crate::layout::{CHUNK, Dims, check_bounds, gather, numel, offset_of};
use crate::parallel::{Cost, SharedMut, abandoned, for_each, for_each_chunk};
use crate::simd::{Isa, Kernel, LANES16, Lanes, Simd, dispatch_on};
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// Columns that are folded together: 16 lanes of them fill half of L1.
const COLUMNS_BYTES: usize = 1024;
/// Parts that a single long row is cut into at most.
const PARTS: usize = 256;

pub(super) fn reduce<T: Real, O: Fold>(
    isa: Isa,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [T],
) {
    let (rows, k) = (numel(outer), numel(inner));
    assert_eq!(out.len(), rows, "output length");
    assert_eq!(
        x.strides.len(),
        outer.len() + inner.len(),
        "one stride per axis"
    );
    if rows == 0 {
        return;
    }
    if k == 0 {
        out.fill(O::identity());
        return;
    }
    let (so, si) = x.strides.split_at(outer.len());
    // Both halves inside one storage: check them as one walk.
    check_halves(x.data.len(), x.offset, (outer, so), (inner, si));
    let o = Dims::new(outer, [so]);
    let i = Dims::new(inner, [si]);
    let base = x.data.as_ptr().wrapping_add(x.offset);
    let dense = i.len() == 0 || (i.len() == 1 && i.strides(0)[0] == 1);
    let side_by_side = o.len() > 0 && o.strides(0)[o.len() - 1] == 1;
    if side_by_side && (!dense || k == 1) {
        if i.len() == 1 && k >= tall::ROWS {
            tall::tall::<T, O>(isa, &o, i.strides(0)[0], k, Base(base), out);
        } else {
            columns::<T, O>(isa, &o, &i, base, out);
        }
    } else if dense && rows < 16 && k >= 4 * CHUNK {
        for (r, y) in out.iter_mut().enumerate() {
            *y = long_row::<T, O>(
                isa,
                base.wrapping_offset(offset_of(o.shape(), o.strides(0), r)),
                k,
            );
        }
    } else {
        let to = SharedMut(out.as_mut_ptr());
        let (from, to) = (&Base(base), &to);
        for_each_chunk(rows, (CHUNK / k).max(1), cost::<T>(rows * k), &|range| {
            // SAFETY: ranges are disjoint and inside `out`.
            let out = unsafe { to.slice(range.start, range.len()) };
            let (o, i) = (&o, &i);
            let rows = Rows {
                base: from.0,
                o,
                i,
                dense,
                k,
                first: range.start,
                out,
                fold: PhantomData::<O>,
            };
            dispatch_on(isa, rows);
        });
    }
}

pub(super) struct Base<T>(pub(super) *const T);
// SAFETY: only read through; T: Real is Sync.
unsafe impl<T> Sync for Base<T> {}

fn cost<T>(n: usize) -> Cost {
    Cost {
        flops: n as f64,
        bytes: (n * size_of::<T>()) as f64,
    }
}

/// [`check_bounds`] of the shape `outer ++ inner`, without joining the two.
pub(super) fn check_halves(
    len: usize,
    offset: usize,
    a: (&[usize], &[isize]),
    b: (&[usize], &[isize]),
) {
    // The first half alone reaches its lowest and highest element; the second starts from each of them.
    check_bounds(len, offset, a.0, a.1);
    let ends =
        a.0.iter()
            .zip(a.1)
            .fold((offset, offset), |(lo, hi), (&n, &s)| {
                let span = (n as isize - 1) * s;
                if span < 0 {
                    (lo.wrapping_add_signed(span), hi)
                } else {
                    (lo, hi.wrapping_add_signed(span))
                }
            });
    check_bounds(len, ends.0, b.0, b.1);
    check_bounds(len, ends.1, b.0, b.1);
}

#[inline(always)]
fn both<S: Simd, O: Fold>(a: S::V, b: S::V) -> S::V {
    // SAFETY: private to bodies that dispatch runs.
    unsafe { O::vector::<S>(a, b) }
}

/// Folds up to [`FOLD_CHUNK`] dense elements.
/// # Safety
/// As for every method of [`Simd`]; n elements at p may be read.
#[inline(always)]
unsafe fn chunk<S: Simd, O: Fold>(p: *const S::T, n: usize) -> S::T {
    // SAFETY: the caller's promise; reads stay below n.
    unsafe {
        let mut acc = Lanes::<S>::splat(O::identity());
        let mut i = 0;
        while i + LANES16 <= n {
            acc = acc.zip(Lanes::load(p.add(i)), both::<S, O>);
            i += LANES16;
        }
        if i < n {
            // The identity in the lanes that have no element changes nothing.
            acc = acc.zip(Lanes::load_n(p.add(i), n - i, O::identity()), both::<S, O>);
        }
        O::lanes::<S>(acc)
    }
}

/// Folds a dense row.
/// # Safety
/// As for [`chunk`].
#[inline(always)]
unsafe fn row<S: Simd, O: Fold>(p: *const S::T, n: usize) -> S::T {
    // SAFETY: the caller's promise.
    unsafe {
        if n <= FOLD_CHUNK {
            return chunk::<S, O>(p, n);
        }
        let mut tree = Tree::new();
        let mut i = 0;
        while i < n {
            let len = FOLD_CHUNK.min(n - i);
            if i % CHUNK == 0 && abandoned(CHUNK as f64) {
                break;
            }
            tree.push::<O>(chunk::<S, O>(p.add(i), len));
            i += len;
        }
        tree.finish::<O>(None)
    }
}

/// Rows `first ..`, one result each.
struct Rows<'a, T, O> {
    base: *const T,
    o: &'a Dims<1>,
    i: &'a Dims<1>,
    dense: bool,
    k: usize,
    first: usize,
    out: &'a mut [T],
    fold: PhantomData<O>,
}
impl<T: Real, O: Fold> Kernel<T> for Rows<'_, T, O> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Rows {
            base,
            o,
            i,
            dense,
            k,
            first,
            out,
            ..
        } = self;
        // SAFETY: run by dispatch; `reduce` checked the bounds of every element.
        unsafe {
            if dense {
                // One outer axis, the common case, needs no divisions.
                let step = if o.len() == 1 {
                    Some(o.strides(0)[0])
                } else {
                    None
                };
                for (r, y) in out.iter_mut().enumerate() {
                    let at = match step {
                        Some(s) => (first + r) as isize * s,
                        None => offset_of(o.shape(), o.strides(0), first + r),
                    };
                    *y = row::<S, O>(base.offset(at), k);
                }
                return;
            }
            let mut buf = MaybeUninit::<[T; FOLD_CHUNK]>::uninit();
            let buf = buf.as_mut_ptr().cast::<T>();
            for (r, y) in out.iter_mut().enumerate() {
                let p = base.offset(offset_of(o.shape(), o.strides(0), first + r));
                let mut tree = Tree::new();
                let mut start = 0;
                while start < k {
                    let n = FOLD_CHUNK.min(k - start);
                    if abandoned(n as f64) {
                        return;
                    }
                    gather(i.shape(), i.strides(0), p, start, n, buf);
                    tree.push::<O>(chunk::<S, O>(buf, n));
                    start += n;
                }
                *y = tree.finish::<O>(None);
            }
        }
    }
}

struct OneRow<T, O>(*const T, usize, PhantomData<O>);
impl<T: Real, O: Fold> Kernel<T> for OneRow<T, O> {
    type Out = T;
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> T {
        // SAFETY: run by dispatch; the caller's elements exist.
        unsafe { row::<S, O>(self.0, self.1) }
    }
}

/// One long dense row over threads: parts of `2^m` chunks are subtrees of the row's tree.
fn long_row<T: Real, O: Fold>(isa: Isa, p: *const T, k: usize) -> T {
    let chunks = k.div_ceil(FOLD_CHUNK);
    let part = FOLD_CHUNK * chunks.div_ceil(PARTS).next_power_of_two();
    let parts = k.div_ceil(part);
    let mut values = [T::ZERO; PARTS];
    let to = SharedMut(values.as_mut_ptr());
    let (from, to) = (&Base(p), &to);
    for_each(parts, cost::<T>(k), &|t| {
        let n = part.min(k - t * part);
        let v = dispatch_on(
            isa,
            OneRow(from.0.wrapping_add(t * part), n, PhantomData::<O>),
        );
        // SAFETY: one element per tile, parts <= PARTS.
        unsafe { to.slice(t, 1)[0] = v };
    });
    let full = k / part;
    let mut tree = Tree::new();
    for v in &values[..full] {
        tree.push::<O>(*v);
    }
    tree.finish::<O>((full < parts).then(|| values[full]))
}

/// Columns that lie side by side in memory: whole vectors of columns, 16 virtual lanes each.
fn columns<T: Real, O: Fold>(isa: Isa, o: &Dims<1>, i: &Dims<1>, base: *const T, out: &mut [T]) {
    let last = o.len() - 1;
    let c = o.shape()[last];
    let k = numel(i.shape());
    // Narrow blocks when there are few columns, so that threads find work, but whole cache lines of a row.
    let widest = COLUMNS_BYTES / size_of::<T>();
    let width = if c >= 8 * widest || k * c <= CHUNK {
        widest
    } else {
        (c / 8 + 1).next_multiple_of(64).min(widest)
    };
    let blocks = c.div_ceil(width);
    let images = out.len() / c;
    let to = SharedMut(out.as_mut_ptr());
    let (from, to) = (&Base(base), &to);
    let group = (CHUNK / (k * width.min(c))).max(1);
    for_each_chunk(
        images * blocks,
        group,
        cost::<T>(images * c * k),
        &|range| {
            for unit in range {
                let (image, block) = (unit / blocks, unit % blocks);
                let start = block * width;
                let n = width.min(c - start);
                // SAFETY: units cover disjoint parts of `out`.
                let out = unsafe { to.slice(image * c + start, n) };
                let at =
                    offset_of(&o.shape()[..last], &o.strides(0)[..last], image) + start as isize;
                dispatch_on(
                    isa,
                    Columns {
                        p: from.0.wrapping_offset(at),
                        i,
                        k,
                        out,
                        fold: PhantomData::<O>,
                    },
                );
            }
        },
    );
}

/// `out.len()` columns from `p` on; element `j` of each at the offset of `j` in `i`.
struct Columns<'a, T, O> {
    p: *const T,
    i: &'a Dims<1>,
    k: usize,
    out: &'a mut [T],
    fold: PhantomData<O>,
}
impl<T: Real, O: Fold> Kernel<T> for Columns<'_, T, O> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Columns { p, i, k, out, .. } = self;
        let n = out.len();
        let width = n.next_multiple_of(S::LANES);
        // acc[lane][column]
        let mut acc = MaybeUninit::<[u64; LANES16 * COLUMNS_BYTES / 8]>::uninit();
        let acc = acc.as_mut_ptr().cast::<T>();
        // SAFETY: run by dispatch. acc has 16 x COLUMNS_BYTES bytes and width * size <= COLUMNS_BYTES (the widest block
        // is a multiple of every LANES); reads of x are masked at n; `reduce` checked the bounds of every element.
        unsafe {
            let id = S::splat(O::identity());
            let mut trees = Trees::new(n);
            // One inner axis, the common case, needs no divisions.
            let step = if i.len() == 1 {
                Some(i.strides(0)[0])
            } else {
                None
            };
            let mut start = 0;
            while start < k {
                let len = FOLD_CHUNK.min(k - start);
                let used = len.min(LANES16);
                if abandoned((len * n) as f64) {
                    return;
                }
                for v in (0..used * width).step_by(S::LANES) {
                    S::store(acc.add(v), id);
                }
                for j in 0..len {
                    let x = p.offset(match step {
                        Some(s) => (start + j) as isize * s,
                        None => offset_of(i.shape(), i.strides(0), start + j),
                    });
                    let a = acc.add(j % LANES16 * width);
                    let mut v = 0;
                    while v + S::LANES <= n {
                        S::store(
                            a.add(v),
                            O::vector::<S>(S::load(a.add(v)), S::load(x.add(v))),
                        );
                        v += S::LANES;
                    }
                    if v < n {
                        // What lands beyond column n is never used.
                        S::store(
                            a.add(v),
                            O::vector::<S>(S::load(a.add(v)), S::load_n(x.add(v), n - v)),
                        );
                    }
                }
                // Lanes at distance 8, 4, 2, 1; a lane without elements holds the identity, which changes nothing.
                let mut half = LANES16 / 2;
                while half > 0 {
                    for l in 0..half.min(used.saturating_sub(half)) {
                        let (a, b) = (acc.add(l * width), acc.add((l + half) * width));
                        for v in (0..width).step_by(S::LANES) {
                            S::store(
                                a.add(v),
                                O::vector::<S>(S::load(a.add(v)), S::load(b.add(v))),
                            );
                        }
                    }
                    half /= 2;
                }
                let sums = core::slice::from_raw_parts_mut(acc, n);
                if k <= FOLD_CHUNK {
                    out.copy_from_slice(sums);
                    return;
                }
                trees.push::<O>(sums);
                start += len;
            }
            trees.finish::<O>(out);
        }
    }
}
