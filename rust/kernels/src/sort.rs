//! The order of elements along rows.
use core::cmp::Ordering;

use crate::element::Number;
use crate::gemm::buffer::Buffer;
use crate::parallel::{Cost, SharedMut, for_each, for_each_chunk, is_interrupted};

/// Whether `a` comes before `b`; NaN comes last in either direction.
#[inline(always)]
fn order<T: Number>(descending: bool, a: T, b: T) -> Ordering {
    match a.partial_cmp(&b) {
        Some(o) if descending => o.reverse(),
        Some(o) => o,
        // Only NaN is unlike itself.
        #[allow(clippy::eq_op)]
        None => (a != a).cmp(&(b != b)),
    }
}

/// Elements that are sorted in one go, and results of one piece of a merge.
const RUN: usize = 16 << 10;

/// The indices that sort each row of `x (rows, n)`, dense. Stable in either direction: equal elements (and NaNs, which come last)
/// keep their order.
///
/// A long row is cut into runs, which are sorted, and neighbours are merged until one is left; every merge is cut into
/// pieces of equal length. So all threads have work, and no piece of it takes long.
///
/// # Panics
/// When `out` is not as long as `x`, or `n` does not divide that.
pub fn argsort<T: Number>(descending: bool, n: usize, x: &[T], out: &mut [i64]) {
    assert_eq!(x.len(), out.len(), "output length");
    if n == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(n), "rows of {n}");
    // About log2(n) comparisons per element, each a few operations and a read out of order.
    let bytes = (size_of_val(x) + size_of_val(out)) as f64;
    let cost = |comparisons: f64| Cost {
        flops: x.len() as f64 * 8.0 * comparisons,
        bytes,
    };
    let to = &SharedMut(out.as_mut_ptr());
    if n <= RUN {
        let cost = cost((n as f64).log2().max(1.0));
        for_each_chunk(x.len() / n, (1024 / n).max(1), cost, &|range| {
            for r in range {
                // SAFETY: rows of `out` are disjoint, and r * n + n <= out.len().
                let y = unsafe { to.slice(r * n, n) };
                sort_run(descending, &x[r * n..(r + 1) * n], 0, y);
            }
        });
        return;
    }
    let runs = n.div_ceil(RUN);
    for_each(x.len() / n * runs, cost((RUN as f64).log2()), &|tile| {
        let (r, first) = (tile / runs, tile % runs * RUN);
        let len = RUN.min(n - first);
        // SAFETY: runs are disjoint parts of `out`.
        let y = unsafe { to.slice(r * n + first, len) };
        sort_run(descending, &x[r * n..(r + 1) * n], first, y);
    });
    let room = Buffer::<i64>::new(x.len());
    let (mut from, mut to) = (SharedMut(out.as_mut_ptr()), SharedMut(room.ptr()));
    let mut width = RUN;
    while width < n {
        let (source, target) = (&from, &to);
        // An abandoned pass (Ctrl-C) leaves numbers that are no indices: nothing more is done with them.
        for_each(x.len() / n * runs, cost(1.0), &|tile| {
            let (r, start) = (tile / runs, tile % runs * RUN);
            let x = &x[r * n..(r + 1) * n];
            let pair = start / (2 * width) * (2 * width);
            let middle = (pair + width).min(n);
            let end = (pair + 2 * width).min(n);
            // SAFETY: nobody writes to the source in this pass; pieces are disjoint parts of the target.
            let (a, b, y) = unsafe {
                let row = |i: usize, len: usize| &*source.slice(r * n + i, len);
                let (a, b) = (row(pair, middle - pair), row(middle, end - middle));
                (a, b, target.slice(r * n + start, RUN.min(end - start)))
            };
            let before = |i: i64, j: i64| order(descending, x[i as usize], x[j as usize]).is_lt();
            merge(a, b, start - pair, y, before);
        });
        if is_interrupted() {
            return;
        }
        (from, to) = (to, from);
        width *= 2;
    }
    if from.0 != out.as_mut_ptr() {
        // SAFETY: both hold as many numbers as x, and all of `from` was written by the last pass.
        let sorted = unsafe { core::slice::from_raw_parts(from.0, x.len()) };
        let to = &SharedMut(out.as_mut_ptr());
        for_each_chunk(sorted.len(), RUN, cost(0.0), &|range| {
            // SAFETY: ranges are disjoint parts of `out`.
            unsafe { to.slice(range.start, range.len()) }.copy_from_slice(&sorted[range]);
        });
    }
}

/// The indices `first ..` of a row, sorted.
fn sort_run<T: Number>(descending: bool, x: &[T], first: usize, y: &mut [i64]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = (first + i) as i64;
    }
    y.sort_by(|&a, &b| order(descending, x[a as usize], x[b as usize]));
}

/// Elements `from ..` of the merge of two sorted runs, as many as `out` takes; of equals, those of `a` come first.
fn merge(a: &[i64], b: &[i64], from: usize, out: &mut [i64], before: impl Fn(i64, i64) -> bool) {
    // How many of the first `from` elements come from a.
    let (mut low, mut high) = (from.saturating_sub(b.len()), from.min(a.len()));
    while low < high {
        let i = (low + high) / 2;
        if before(b[from - i - 1], a[i]) {
            high = i;
        } else {
            low = i + 1;
        }
    }
    let (mut i, mut j) = (low, from - low);
    for y in out {
        if j < b.len() && (i == a.len() || before(b[j], a[i])) {
            *y = b[j];
            j += 1;
        } else {
            *y = a[i];
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::testing::{Rng, SIZES};
    use crate::parallel::with_forced_threads;
    use crate::reference::sort as naive;
    use proptest::prelude::*;

    fn check<T: Number>(rows: usize, n: usize, seed: u64) {
        let mut rng = Rng(seed);
        // Rounded, so that there are ties.
        let x: Vec<T> = (0..rows * n)
            .map(|_| match rng.number::<T>() {
                x if x.to_f64().is_finite() && x.to_f64().abs() < 100.0 => {
                    T::from_f64(x.to_f64().round())
                }
                x => x,
            })
            .collect();
        for descending in [false, true] {
            let (mut got, mut want) = (vec![-1; x.len()], vec![-2; x.len()]);
            if n <= RUN {
                naive::argsort(descending, n, &x, &mut want);
            } else {
                // The twin compares each with each: too slow for long rows, whose merging is checked against one sort.
                for (x, want) in x.chunks(n).zip(want.chunks_mut(n)) {
                    sort_run(descending, x, 0, want);
                }
            }
            for threads in [1, 3] {
                with_forced_threads(threads, || argsort(descending, n, &x, &mut got));
                assert!(got == want, "{rows} rows of {n}, seed {seed}");
            }
        }
    }

    proptest! {
        #[test]
        fn rows_match_their_twins(rows in 0usize..6, n in proptest::sample::select(&SIZES[..]), seed: u64) {
            check::<f32>(rows, n, seed);
            check::<f64>(rows, n, seed);
            check::<i64>(rows, n, seed);
            check::<u8>(rows, n, seed);
        }
    }

    #[test]
    fn long_rows_are_merged_from_runs() {
        let mut rng = Rng(5);
        for n in [RUN + 1, 2 * RUN, 3 * RUN - 1, 5 * RUN + 7] {
            // Few values, so that there are long runs of equals.
            let x: Vec<i64> = (0..2 * n).map(|_| rng.below(1000) as i64).collect();
            for descending in [false, true] {
                // The naive twin takes the square of the length; the standard library's sort is stable too.
                let sorted = x.chunks(n).flat_map(|x| {
                    let mut y: Vec<i64> = (0..n as i64).collect();
                    y.sort_by_key(|&i| {
                        if descending {
                            -x[i as usize]
                        } else {
                            x[i as usize]
                        }
                    });
                    y
                });
                let want: Vec<i64> = sorted.collect();
                let mut got = vec![-1; 2 * n];
                for threads in [1, 3] {
                    with_forced_threads(threads, || argsort(descending, n, &x, &mut got));
                    assert!(got == want, "{n} {descending} {threads}");
                }
            }
        }
    }

    #[test]
    fn ties_keep_their_order_and_nan_comes_last() {
        let x = [2.0, f32::NAN, 1.0, 2.0, -0.0, 0.0];
        let mut y = [0; 6];
        argsort(false, 6, &x, &mut y);
        assert_eq!(y, [4, 5, 2, 0, 3, 1]);
        argsort(true, 6, &x, &mut y);
        assert_eq!(y, [0, 3, 2, 4, 5, 1]);
    }
}
