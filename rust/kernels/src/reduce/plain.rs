//! Reductions whose result does not depend on the order: integers, indices, booleans. Plain loops.
use super::float::check_halves;
use crate::element::{Number, Strided};
use crate::layout::{BLOCK, CHUNK, Dims, gather, numel, offset_of};
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{Isa, autovec};
use core::mem::MaybeUninit;

struct Base<T>(*const T);
// SAFETY: only read through; T: Number is Sync.
unsafe impl<T> Sync for Base<T> {}

/// Calls `f(row, start, elements)` for consecutive dense pieces of each row in `range`.
/// # Safety
/// The rows exist.
unsafe fn pieces<T: Number>(
    base: *const T,
    o: &Dims<1>,
    i: &Dims<1>,
    range: core::ops::Range<usize>,
    mut f: impl FnMut(usize, usize, &[T]),
) {
    let k = numel(i.shape());
    let dense = i.len() == 0 || (i.len() == 1 && i.strides(0)[0] == 1);
    let mut buf = MaybeUninit::<[T; BLOCK]>::uninit();
    let buf = buf.as_mut_ptr().cast::<T>();
    for r in range {
        // SAFETY: the caller's promise; pieces stay inside the row, and gather fills what is then read.
        unsafe {
            let p = base.offset(offset_of(o.shape(), o.strides(0), r));
            if dense {
                for start in (0..k).step_by(CHUNK) {
                    let n = CHUNK.min(k - start);
                    f(r, start, core::slice::from_raw_parts(p.add(start), n));
                    if abandoned(n as f64) {
                        return;
                    }
                }
                continue;
            }
            for start in (0..k).step_by(BLOCK) {
                let n = BLOCK.min(k - start);
                if abandoned(n as f64) {
                    return;
                }
                gather(i.shape(), i.strides(0), p, start, n, buf);
                f(r, start, core::slice::from_raw_parts(buf, n));
            }
        }
    }
}

/// The two halves of the walk, checked.
fn dims<T>(outer: &[usize], inner: &[usize], x: &Strided<'_, T>, out: usize) -> (Dims<1>, Dims<1>) {
    assert_eq!(out, numel(outer), "output length");
    assert_eq!(
        x.strides.len(),
        outer.len() + inner.len(),
        "one stride per axis"
    );
    let (so, si) = x.strides.split_at(outer.len());
    if numel(outer) > 0 && numel(inner) > 0 {
        check_halves(x.data.len(), x.offset, (outer, so), (inner, si));
    }
    (Dims::new(outer, [so]), Dims::new(inner, [si]))
}

fn cost<T>(n: usize) -> Cost {
    Cost {
        flops: n as f64,
        bytes: (n * size_of::<T>()) as f64,
    }
}

/// `out[r] = fold of the row with f, from id`.
pub(super) fn reduce<T: Number, A: Number>(
    isa: Isa,
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [A],
    id: A,
    f: impl Fn(A, A) -> A + Sync + Copy,
) {
    let (o, i) = dims(outer, inner, &x, out.len());
    let k = numel(inner);
    out.fill(id);
    if out.is_empty() || k == 0 {
        return;
    }
    let base = Base(x.data.as_ptr().wrapping_add(x.offset));
    let (base, to) = (&base, &SharedMut(out.as_mut_ptr()));
    if o.len() > 0 && o.strides(0)[o.len() - 1] == 1 && !(i.len() == 1 && i.strides(0)[0] == 1) {
        // Columns side by side: add row after row to the output, a block of columns at a time.
        let last = o.len() - 1;
        let c = o.shape()[last];
        let blocks = c.div_ceil(BLOCK);
        let units = out.len() / c * blocks;
        for_each_chunk(
            units,
            (CHUNK / (k * c.min(BLOCK))).max(1),
            cost::<T>(out.len() * k),
            &|range| {
                for unit in range {
                    let (image, start) = (unit / blocks, unit % blocks * BLOCK);
                    let n = BLOCK.min(c - start);
                    let at = offset_of(&o.shape()[..last], &o.strides(0)[..last], image)
                        + start as isize;
                    // SAFETY: units cover disjoint parts of `out`, and `dims` checked the bounds of x.
                    unsafe {
                        let y = to.slice(image * c + start, n);
                        for j in 0..k {
                            if j % 64 == 0 && abandoned((64 * n) as f64) {
                                return;
                            }
                            let row = base.0.offset(at + offset_of(i.shape(), i.strides(0), j));
                            let row = core::slice::from_raw_parts(row, n);
                            autovec(isa, || {
                                for (y, x) in y.iter_mut().zip(row) {
                                    *y = f(*y, x.convert());
                                }
                            });
                        }
                    }
                }
            },
        );
        return;
    }
    for_each_chunk(
        out.len(),
        (CHUNK / k).max(1),
        cost::<T>(out.len() * k),
        &|range| {
            // SAFETY: `dims` checked the bounds; rows are disjoint parts of `out`.
            unsafe {
                pieces(base.0, &o, &i, range, |r, _, xs| {
                    let y = &mut to.slice(r, 1)[0];
                    *y = autovec(isa, || xs.iter().fold(*y, |a, x| f(a, x.convert())));
                });
            }
        },
    );
}

/// Index of the first element that no other one beats; a NaN beats all numbers.
pub(super) fn arg<T: Number>(
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    out: &mut [i64],
    beats: impl Fn(T, T) -> bool + Sync,
) {
    let (o, i) = dims(outer, inner, &x, out.len());
    let k = numel(inner);
    out.fill(0);
    if out.is_empty() || k == 0 {
        return;
    }
    let base = Base(x.data.as_ptr().wrapping_add(x.offset));
    let (base, to) = (&base, &SharedMut(out.as_mut_ptr()));
    // Equal to itself: not NaN.
    #[allow(clippy::eq_op)]
    let nan = |x: T| x != x;
    for_each_chunk(
        out.len(),
        (CHUNK / k).max(1),
        cost::<T>(out.len() * k),
        &|range| {
            let mut best = T::ZERO;
            // SAFETY: `dims` checked the bounds; rows are disjoint parts of `out`.
            unsafe {
                pieces(base.0, &o, &i, range, |r, start, xs| {
                    let y = &mut to.slice(r, 1)[0];
                    if start == 0 {
                        best = xs[0];
                    }
                    if nan(best) {
                        return;
                    }
                    for (j, &x) in xs.iter().enumerate() {
                        if beats(best, x) || nan(x) {
                            best = x;
                            *y = (start + j) as i64;
                            if nan(x) {
                                return;
                            }
                        }
                    }
                });
            }
        },
    );
}
