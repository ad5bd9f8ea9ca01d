//! Gather and scatter: whole rows, and whatever an index tensor picks out of a strided operand.
use crate::element::{Number, Real, Strided};
use crate::elementwise::fill;
use crate::layout::{self, CHUNK, Dims, check_bounds, numel, offset_of};
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{Kernel, Simd, autovec, dispatch_on, isa};
use crate::stream;
use crate::sum::{load, put as put_vector, store};

/// Row numbers as offsets; panics when one is outside.
#[inline(always)]
fn start(i: i64, cols: usize, len: usize) -> usize {
    let s = usize::try_from(i).ok().and_then(|i| i.checked_mul(cols));
    match s {
        Some(s) if s <= len && len - s >= cols => s,
        _ => panic!("row {i} of an array of {len} elements in rows of {cols}"),
    }
}

/// `out[r, :] = x[idx[r], :]`, `x (rows, cols)` dense; indices are in range (checked by the caller).
///
/// # Panics
/// When an index is out of range or `out` is not `(idx.len(), cols)`.
pub fn gather_rows<T: Number>(cols: usize, x: &[T], idx: &[i64], out: &mut [T]) {
    assert_eq!(out.len(), numel(&[idx.len(), cols]), "output length");
    if cols == 0 {
        return;
    }
    let cost = Cost {
        flops: 0.0,
        bytes: (2 * size_of_val(out)) as f64,
    };
    let to = &SharedMut(out.as_mut_ptr());
    for_each_chunk(idx.len(), (CHUNK / cols).max(1), cost, &|range| {
        for r in range {
            let s = start(idx[r], cols, x.len());
            // SAFETY: rows of `out` are disjoint, and r < idx.len().
            unsafe { to.slice(r * cols, cols) }.copy_from_slice(&x[s..s + cols]);
        }
    });
}

/// The rows of `idx` by destination: row `i` gets `order[starts[i]..starts[i + 1]]`, ascending.
struct Destinations {
    starts: Vec<u32>,
    order: Vec<u32>,
}
impl Destinations {
    /// Counting sort; `None` if that many do not fit, or if one destination gets so much that threads had nothing to share.
    fn new(rows: usize, idx: &[i64]) -> Option<Self> {
        u32::try_from(idx.len()).ok()?;
        let mut starts = vec![0u32; rows + 1];
        for &i in idx {
            starts[i as usize + 1] += 1;
        }
        let most = starts.iter().max().map_or(0, |&m| m as usize);
        if most > 64 && most > idx.len() / 8 {
            return None;
        }
        for i in 0..rows {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut order = vec![0u32; idx.len()];
        for (r, &i) in idx.iter().enumerate() {
            let at = &mut next[i as usize];
            order[*at as usize] = r as u32;
            *at += 1;
        }
        Some(Destinations { starts, order })
    }
}

/// Writes whole rows of the result: the sum of what goes to each, or 0.
struct Scatter<'a, T> {
    cols: usize,
    /// Write past the caches.
    past: bool,
    to: &'a Destinations,
    g: &'a [T],
    first: usize,
    out: &'a mut [T],
}
impl<T: Real> Kernel<T> for Scatter<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Scatter {
            cols,
            past,
            to,
            g,
            first,
            out,
        } = self;
        // Rows added in registers; more are added in the result, a row at a time.
        const FEW: usize = 8;
        for (k, out) in out.chunks_exact_mut(cols).enumerate() {
            let [from, end] = [0, 1].map(|d| to.starts[first + k + d] as usize);
            let all = &to.order[from..end];
            let few = &all[..all.len().min(FEW)];
            for r in all {
                assert!((*r as usize + 1) * cols <= g.len(), "gradient length");
            }
            // SAFETY: run by dispatch; the rows of g exist, and vectors stay below cols.
            unsafe {
                let row = |r: u32| g.as_ptr().add(r as usize * cols);
                let mut i = 0;
                while i < cols {
                    let n = (cols - i).min(S::LANES);
                    let mut sum = S::zero();
                    for &r in few {
                        sum = S::add(sum, load::<S>(row(r).add(i), n));
                    }
                    put_vector::<S>(past && all.len() <= FEW, out.as_mut_ptr().add(i), sum, n);
                    i += S::LANES;
                }
                for &r in &all[few.len()..] {
                    let mut i = 0;
                    while i < cols {
                        let n = (cols - i).min(S::LANES);
                        let y = out.as_mut_ptr().add(i);
                        store::<S>(y, S::add(load::<S>(y, n), load::<S>(row(r).add(i), n)), n);
                        i += S::LANES;
                    }
                }
            }
        }
        if past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

/// Narrowest rows that are written one by one: in narrower ones sorting costs as much as adding.
const SORTED: usize = 16;

/// `out[idx[r], :] += g[r, :]` in ascending r for each destination; `out (rows, cols)` is overwritten (zeroed first).
///
/// # Panics
/// When an index is out of range or `g` is not `(idx.len(), cols)`.
pub fn scatter_add_rows<T: Real>(cols: usize, g: &[T], idx: &[i64], out: &mut [T]) {
    assert_eq!(g.len(), numel(&[idx.len(), cols]), "gradient length");
    if cols == 0 {
        return;
    }
    for &i in idx {
        start(i, cols, out.len());
    }
    let isa = isa();
    let rows = out.len() / cols;
    let sorted = cols >= SORTED && out.len() == rows * cols;
    if let Some(to) = sorted.then(|| Destinations::new(rows, idx)).flatten() {
        let bytes = size_of_val(g) + size_of_val(out);
        let past = stream::pays_rows(bytes, out.as_ptr(), cols);
        let cost = Cost {
            flops: g.len() as f64,
            bytes: bytes as f64,
        };
        let shared = &SharedMut(out.as_mut_ptr());
        for_each_chunk(rows, (CHUNK / cols).max(1), cost, &|range| {
            // SAFETY: runs of rows are disjoint parts of `out`, which we hold exclusively.
            let out = unsafe { shared.slice(range.start * cols, range.len() * cols) };
            let body = Scatter {
                cols,
                past,
                to: &to,
                g,
                first: range.start,
                out,
            };
            dispatch_on(isa, body);
        });
        return;
    }
    fill(out, T::ZERO);
    let bytes = (3 * size_of_val(g)) as f64;
    let cost = Cost {
        flops: g.len() as f64,
        bytes,
    };
    let to = &SharedMut(out.as_mut_ptr());
    // Wide rows are split by columns, narrow ones by destination: either way a destination element belongs to one tile,
    // which adds in ascending r.
    let by_columns = cols >= 256;
    let (len, piece) = if by_columns {
        (cols, 128)
    } else {
        (rows, rows.div_ceil(8).max(64))
    };
    for_each_chunk(len, piece, cost, &|range| {
        autovec(isa, || {
            for (r, &i) in idx.iter().enumerate() {
                if r % 1024 == 0 && abandoned((1024 * cols.min(128)) as f64) {
                    return;
                }
                let i = i as usize;
                let (from, at, n) = if by_columns {
                    (r * cols + range.start, i * cols + range.start, range.len())
                } else if range.contains(&i) {
                    (r * cols, i * cols, cols)
                } else {
                    continue;
                };
                // SAFETY: the indices were checked; tiles own disjoint columns or rows of `out`.
                let y = unsafe { to.slice(at, n) };
                for (y, g) in y.iter_mut().zip(&g[from..from + n]) {
                    *y += *g;
                }
            }
        });
    });
}

/// Panics unless every element that [`gather`] or [`put`] meets lies in an array of `len` elements.
fn check_picks(len: usize, offset: usize, shape: &[&[usize]; 2], strides: &[isize], at: &[i64]) {
    let (lo, hi) = at
        .iter()
        .fold((i64::MAX, i64::MIN), |(lo, hi), &a| (lo.min(a), hi.max(a)));
    let shape = shape.concat();
    for far in [lo, hi] {
        let first = i64::try_from(offset).ok().and_then(|o| o.checked_add(far));
        let first = first.and_then(|f| usize::try_from(f).ok());
        let first = first.expect("a pick lies before its storage");
        check_bounds(len, first, &shape, strides);
    }
}

/// `out[o, j, i] = x[o, at[j], i]`: `x` is seen through the strides of `outer ++ inner`, and `at[j]` is where pick `j` lies
/// relative to that. So any layout is read as it is, and several indexed axes are one list of offsets.
///
/// # Panics
/// When a pick leaves the storage or `out` is not `outer ++ (at.len(),) ++ inner`.
pub fn gather<T: Number>(
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    at: &[i64],
    out: &mut [T],
) {
    let (blocks, picks, n) = (numel(outer), at.len(), numel(inner));
    assert_eq!(out.len(), numel(&[blocks, picks, n]), "output length");
    if out.is_empty() {
        return;
    }
    check_picks(x.data.len(), x.offset, &[outer, inner], x.strides, at);
    let (so, si) = x.strides.split_at(outer.len());
    let dims = Dims::new(inner, [si]);
    let run = dims.len() == 1 && dims.strides(0)[0] == 1;
    let cost = Cost {
        flops: 0.0,
        bytes: (2 * size_of_val(out)) as f64,
    };
    let to = &SharedMut(out.as_mut_ptr());
    for_each_chunk(blocks * picks, (CHUNK / n).max(1), cost, &|range| {
        let mut r = range.start;
        while r < range.end {
            // The picks of one block.
            let (block, j) = (r / picks, r % picks);
            let at = &at[j..picks.min(j + range.end - r)];
            let base = x.offset as isize + offset_of(outer, so, block);
            // SAFETY: the bounds of every pick were checked; rows of `out` are disjoint, and r + at.len() <= blocks * picks.
            unsafe {
                let (from, to) = (x.data.as_ptr().offset(base), to.0.add(r * n));
                if n == 1 {
                    for (j, &a) in at.iter().enumerate() {
                        *to.add(j) = *from.offset(a as isize);
                    }
                } else {
                    for (j, &a) in at.iter().enumerate() {
                        let (from, to) = (from.offset(a as isize), to.add(j * n));
                        if run {
                            core::ptr::copy_nonoverlapping(from, to, n);
                        } else {
                            layout::gather(dims.shape(), dims.strides(0), from, 0, n, to);
                        }
                    }
                }
            }
            r += at.len();
        }
    });
}

/// The transpose of [`gather`] for writing: `out[o, at[j], i] = values[o, j, i]` in ascending order of `j`, so that of several
/// writes to one place the last remains. `out` is seen through `offset` and the strides of `outer ++ inner`.
///
/// # Panics
/// When a pick leaves `out`, or `values` is not `outer ++ (at.len(),) ++ inner`.
pub fn put<T: Number>(
    outer: &[usize],
    inner: &[usize],
    values: &[T],
    at: &[i64],
    out: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    let (blocks, picks, n) = (numel(outer), at.len(), numel(inner));
    assert_eq!(values.len(), numel(&[blocks, picks, n]), "number of values");
    if values.is_empty() {
        return;
    }
    check_picks(out.len(), offset, &[outer, inner], strides, at);
    let (so, si) = strides.split_at(outer.len());
    let dims = Dims::new(inner, [si]);
    // Runs along the innermost axis; one element where there is none.
    let lead = dims.len().saturating_sub(1);
    let (len, step) = match dims.len() {
        0 => (1, 1),
        _ => (dims.shape()[lead], dims.strides(0)[lead]),
    };
    for (block, values) in values.chunks_exact(picks * n).enumerate() {
        let base = offset as isize + offset_of(outer, so, block);
        if n == 1 {
            for (&v, &a) in values.iter().zip(at) {
                out[(base + a as isize) as usize] = v;
            }
            continue;
        }
        for (values, &a) in values.chunks_exact(n).zip(at) {
            for (part, run) in values.chunks_exact(len).enumerate() {
                let start = offset_of(&dims.shape()[..lead], &dims.strides(0)[..lead], part);
                let mut to = base + a as isize + start;
                if step == 1 {
                    out[to as usize..][..len].copy_from_slice(run);
                    continue;
                }
                for &v in run {
                    out[to as usize] = v;
                    to += step;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::testing::{Rng, SIZES, bits};
    use crate::parallel::with_forced_threads;
    use crate::reference::index as naive;
    use crate::simd::{available, with_isa};
    use proptest::prelude::*;

    fn check<T: Real>(rows: usize, cols: usize, n: usize, seed: u64) {
        let mut rng = Rng(seed);
        let x: Vec<T> = (0..rows * cols).map(|_| rng.number()).collect();
        let g: Vec<T> = (0..n * cols).map(|_| rng.number()).collect();
        let idx: Vec<i64> = (0..n).map(|_| rng.below(rows) as i64).collect();
        let mut want = vec![T::ZERO; n * cols];
        naive::gather_rows(cols, &x, &idx, &mut want);
        let mut sums = vec![T::NAN; rows * cols];
        naive::scatter_add_rows(cols, &g, &idx, &mut sums);
        for isa in available() {
            with_isa(isa, || {
                let mut got = vec![T::NAN; n * cols];
                gather_rows(cols, &x, &idx, &mut got);
                assert_eq!(bits(&got), bits(&want));
                let mut got = vec![T::NAN; rows * cols];
                scatter_add_rows(cols, &g, &idx, &mut got);
                // How much rounding the sum of at most n terms may gather.
                let mut scale = vec![T::ZERO; rows * cols];
                let size: Vec<T> = g.iter().map(|g| g.abs()).collect();
                naive::scatter_add_rows(cols, &size, &idx, &mut scale);
                for ((a, b), s) in got.iter().zip(&sums).zip(&scale) {
                    let (a, b, s) = (a.to_f64(), b.to_f64(), s.to_f64());
                    let same = a == b || (a.is_nan() && b.is_nan());
                    assert!(
                        same || (a - b).abs() <= n as f64 * T::EPSILON.to_f64() * s,
                        "{a} {b}"
                    );
                }
            });
        }
    }

    proptest! {
        #[test]
        fn rows_match_their_twins(
            rows in 1usize..70,
            cols in proptest::sample::select(&SIZES[..]),
            n in proptest::sample::select(&SIZES[..]),
            seed: u64,
        ) {
            check::<f32>(rows, cols, n, seed);
            check::<f64>(rows, cols, n, seed);
        }
    }

    /// Numbers in a storage, seen as `outer ++ inner` with picks between: axes in any order, stepped, some backwards.
    fn picked(
        outer: &[usize],
        inner: &[usize],
        axis: usize,
        picks: usize,
        seed: u64,
    ) -> (Vec<f32>, usize, Vec<isize>, Vec<i64>) {
        let mut rng = Rng(seed);
        let shape = [outer, &[axis], inner].concat();
        let mut order: Vec<usize> = (0..shape.len()).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, rng.below(i + 1));
        }
        let (mut strides, mut size, mut offset) = (vec![0isize; shape.len()], 1usize, 0usize);
        for d in order {
            strides[d] = size as isize;
            size *= shape[d].max(1) * (1 + rng.below(2));
            if rng.below(2) == 1 && shape[d] > 0 {
                offset += strides[d] as usize * (shape[d] - 1);
                strides[d] = -strides[d];
            }
        }
        let step = strides.remove(outer.len());
        let at = (0..picks).map(|_| rng.below(axis) as i64 * step as i64);
        let at = at.collect();
        (
            (0..size).map(|_| rng.number()).collect(),
            offset,
            strides,
            at,
        )
    }

    proptest! {
        #[test]
        fn picks_match_their_twins(
            outer in proptest::collection::vec(0usize..4, 0..3),
            inner in proptest::collection::vec(0usize..5, 0..3),
            axis in 1usize..6,
            picks in proptest::sample::select(&SIZES[..]),
            seed: u64,
        ) {
            let (x, offset, strides, at) = picked(&outer, &inner, axis, picks, seed);
            let n = numel(&outer) * picks * numel(&inner);
            let source = Strided { data: &x, offset, strides: &strides };
            let (mut got, mut want) = (vec![0.5; n], vec![0.5; n]);
            gather(&outer, &inner, source, &at, &mut got);
            naive::gather(&outer, &inner, source, &at, &mut want);
            assert_eq!(bits(&got), bits(&want));
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let (mut got, mut want) = (x.clone(), x.clone());
            put(&outer, &inner, &values, &at, &mut got, offset, &strides);
            naive::put(&outer, &inner, &values, &at, &mut want, offset, &strides);
            assert_eq!(bits(&got), bits(&want));
        }
    }

    #[test]
    fn the_last_of_several_writes_remains() {
        let mut out = [0.0f32; 3];
        put(&[], &[], &[1.0, 2.0, 3.0], &[1, 1, 0], &mut out, 0, &[]);
        assert_eq!(out, [3.0, 2.0, 0.0]);
    }

    #[test]
    fn threads_do_not_change_picks() {
        let x: Vec<f32> = (0..300 * 400).map(|i| i as f32).collect();
        let at: Vec<i64> = (0..1000).map(|i| i * 7 % 400).collect();
        let run = || {
            let mut out = vec![0.0; 300 * 1000];
            let source = Strided {
                data: &x,
                offset: 0,
                strides: &[400],
            };
            gather(&[300], &[], source, &at, &mut out);
            bits(&out)
        };
        let one = with_forced_threads(1, run);
        for t in [2, 3, 8] {
            assert!(with_forced_threads(t, run) == one, "{t} threads");
        }
    }

    #[test]
    #[should_panic(expected = "leaves its storage")]
    fn a_pick_beyond_the_storage_panics() {
        let source = Strided {
            data: &[0.0f32; 6],
            offset: 1,
            strides: &[1],
        };
        gather(&[], &[2], source, &[0, 4], &mut [0.0; 4]);
    }
    #[test]
    #[should_panic(expected = "before its storage")]
    fn a_pick_before_the_storage_panics() {
        put(&[], &[], &[1.0f32], &[-1], &mut [0.0; 4], 0, &[]);
    }

    #[test]
    fn threads_do_not_change_bits() {
        // The last two have a destination that gets most.
        for (rows, cols, skewed) in [
            (1000, 24, 0),
            (50, 700, 0),
            (300, 5, 0),
            (300, 24, 2000),
            (50, 300, 2000),
        ] {
            let mut rng = Rng(3);
            let g: Vec<f32> = (0..3000 * cols).map(|_| rng.number()).collect();
            let mut idx: Vec<i64> = (0..3000).map(|_| rng.below(rows) as i64).collect();
            idx[..skewed].fill(7);
            let run = || {
                let mut sums = vec![0.0; rows * cols];
                scatter_add_rows(cols, &g, &idx, &mut sums);
                // In ascending order, whichever way is taken.
                let mut plain = vec![0.0f32; rows * cols];
                for (&i, g) in idx.iter().zip(g.chunks_exact(cols)) {
                    for (y, g) in plain[i as usize * cols..].iter_mut().zip(g) {
                        *y += *g;
                    }
                }
                assert_eq!(bits(&sums), bits(&plain));
                let mut back = vec![0.0; g.len()];
                gather_rows(cols, &sums, &idx, &mut back);
                [bits(&sums), bits(&back)]
            };
            let one = with_forced_threads(1, run);
            for t in [2, 3, 8] {
                assert!(with_forced_threads(t, run) == one, "{t} threads");
            }
        }
    }

    #[test]
    #[should_panic(expected = "row 3 of an array")]
    fn an_index_out_of_range_panics() {
        gather_rows(2, &[0.0f32; 6], &[0, 3], &mut [0.0; 4]);
    }
    #[test]
    #[should_panic(expected = "row -1 of an array")]
    fn a_negative_index_panics() {
        scatter_add_rows(2, &[0.0f32; 2], &[-1], &mut [0.0; 4]);
    }
}
