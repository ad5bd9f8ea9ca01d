//! Running sums and products along rows.
use crate::element::{Number, Real};
use crate::layout::CHUNK;
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};

/// What is accumulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// `y[i] = x[0] + .. + x[i]`
    Sum,
    /// `y[i] = x[0] .. x[i]`
    Prod,
}

/// Calls `f(row of x, row of out)` for every row of `n`, spread over the threads: a row belongs to one of them.
fn rows<T: Sync, U: Send>(n: usize, x: &[T], out: &mut [U], f: impl Fn(&[T], &mut [U]) + Sync) {
    assert_eq!(x.len(), out.len(), "output length");
    if n == 0 {
        return;
    }
    assert!(x.len().is_multiple_of(n), "rows of {n}");
    let cost = Cost {
        flops: x.len() as f64,
        bytes: (size_of_val(x) + size_of_val(out)) as f64,
    };
    let to = &SharedMut(out.as_mut_ptr());
    for_each_chunk(x.len() / n, (CHUNK / n).max(1), cost, &|range| {
        for r in range {
            // SAFETY: rows of `out` are disjoint, and r * n + n <= out.len().
            f(&x[r * n..(r + 1) * n], unsafe { to.slice(r * n, n) });
        }
    });
}

/// Calls `f` on consecutive pieces of a row, until the call is abandoned (Ctrl-C).
fn pieces<T, U>(x: &[T], y: &mut [U], mut f: impl FnMut(&[T], &mut [U])) {
    for (x, y) in x.chunks(CHUNK).zip(y.chunks_mut(CHUNK)) {
        f(x, y);
        if abandoned(x.len() as f64) {
            return;
        }
    }
}

/// Running sums or products along each row of `x (rows, n)`, dense; accumulated in f64 and rounded once per element.
///
/// # Panics
/// When `out` is not as long as `x`, or `n` does not divide that.
pub fn scan<T: Real>(op: Scan, n: usize, x: &[T], out: &mut [T]) {
    rows(n, x, out, |x, y| {
        // -0, not 0: it leaves a first element of -0 as it is.
        let mut total = if op == Scan::Sum { -0.0 } else { 1.0 };
        pieces(x, y, |x, y| {
            for (x, y) in x.iter().zip(y) {
                match op {
                    Scan::Sum => total += x.to_f64(),
                    Scan::Prod => total *= x.to_f64(),
                }
                *y = T::from_f64(total);
            }
        });
    });
}

/// [`scan`] of integers, in int64; wraps.
///
/// # Panics
/// When `out` is not as long as `x`, or `n` does not divide that.
pub fn scan_int<T: Number>(op: Scan, n: usize, x: &[T], out: &mut [i64]) {
    rows(n, x, out, |x, y| {
        let mut total = i64::from(op == Scan::Prod);
        pieces(x, y, |x, y| {
            for (x, y) in x.iter().zip(y) {
                total = match op {
                    Scan::Sum => total.wrapping_add(x.to_i64()),
                    Scan::Prod => total.wrapping_mul(x.to_i64()),
                };
                *y = total;
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::testing::{Rng, SIZES, bits};
    use crate::parallel::with_forced_threads;
    use crate::reference::scan as naive;
    use proptest::prelude::*;

    fn check<T: Real>(op: Scan, rows: usize, n: usize, seed: u64) {
        let mut rng = Rng(seed);
        let x: Vec<T> = (0..rows * n).map(|_| rng.number()).collect();
        let (mut got, mut want) = (vec![T::NAN; x.len()], vec![T::NAN; x.len()]);
        naive::scan(op, n, &x, &mut want);
        for threads in [1, 3] {
            got.fill(T::NAN);
            with_forced_threads(threads, || scan(op, n, &x, &mut got));
            assert_eq!(bits(&got), bits(&want));
        }
    }

    proptest! {
        #[test]
        fn rows_match_their_twins(rows in 0usize..9, n in proptest::sample::select(&SIZES[..]), seed: u64) {
            for op in [Scan::Sum, Scan::Prod] {
                check::<f32>(op, rows, n, seed);
                check::<f64>(op, rows, n, seed);
                let mut rng = Rng(seed);
                let x: Vec<i16> = (0..rows * n).map(|_| rng.number()).collect();
                let (mut got, mut want) = (vec![9; x.len()], vec![9; x.len()]);
                scan_int(op, n, &x, &mut got);
                naive::scan_int(op, n, &x, &mut want);
                assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn known_values() {
        let (mut y, mut z) = ([0.0f32; 6], [0i64; 3]);
        scan(Scan::Sum, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut y);
        assert_eq!(y, [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
        scan_int(Scan::Prod, 3, &[100u8, 100, 100], &mut z);
        assert_eq!(z, [100, 10_000, 1_000_000]);
    }
}
