//! The order of elements along rows.
use core::cmp::Ordering;

use crate::element::Number;
use crate::parallel::{Cost, SharedMut, for_each_chunk};

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

/// The indices that sort each row of `x (rows, n)`, dense. Stable in either direction: equal elements (and NaNs, which come last)
/// keep their order.
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
    let cost = Cost {
        flops: x.len() as f64 * 8.0 * (n as f64).log2().max(1.0),
        bytes: (size_of_val(x) + size_of_val(out)) as f64,
    };
    let to = &SharedMut(out.as_mut_ptr());
    for_each_chunk(x.len() / n, (1024 / n).max(1), cost, &|range| {
        for r in range {
            let x = &x[r * n..(r + 1) * n];
            // SAFETY: rows of `out` are disjoint, and r * n + n <= out.len().
            let y = unsafe { to.slice(r * n, n) };
            for (i, y) in y.iter_mut().enumerate() {
                *y = i as i64;
            }
            y.sort_by(|&a, &b| order(descending, x[a as usize], x[b as usize]));
        }
    });
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
            naive::argsort(descending, n, &x, &mut want);
            for threads in [1, 3] {
                with_forced_threads(threads, || argsort(descending, n, &x, &mut got));
                assert_eq!(got, want, "{x:?}");
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
    fn ties_keep_their_order_and_nan_comes_last() {
        let x = [2.0, f32::NAN, 1.0, 2.0, -0.0, 0.0];
        let mut y = [0; 6];
        argsort(false, 6, &x, &mut y);
        assert_eq!(y, [4, 5, 2, 0, 3, 1]);
        argsort(true, 6, &x, &mut y);
        assert_eq!(y, [0, 3, 2, 4, 5, 1]);
    }
}
