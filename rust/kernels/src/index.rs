//! Gather and scatter along one axis.
use crate::element::{Number, Real};
use crate::layout::{CHUNK, numel};
use crate::parallel::{Cost, SharedMut, for_each_chunk};
use crate::simd::{autovec, isa};

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

/// `out[idx[r], :] += g[r, :]` in ascending r for each destination; `out (rows, cols)` is overwritten (zeroed first).
///
/// # Panics
/// When an index is out of range or `g` is not `(idx.len(), cols)`.
pub fn scatter_add_rows<T: Real>(cols: usize, g: &[T], idx: &[i64], out: &mut [T]) {
    assert_eq!(g.len(), numel(&[idx.len(), cols]), "gradient length");
    out.fill(T::ZERO);
    if cols == 0 {
        return;
    }
    for &i in idx {
        start(i, cols, out.len());
    }
    let isa = isa();
    let rows = out.len() / cols;
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

    #[test]
    fn threads_do_not_change_bits() {
        for (rows, cols) in [(1000, 24), (50, 700)] {
            let mut rng = Rng(3);
            let g: Vec<f32> = (0..3000 * cols).map(|_| rng.number()).collect();
            let idx: Vec<i64> = (0..3000).map(|_| rng.below(rows) as i64).collect();
            let run = || {
                let mut sums = vec![0.0; rows * cols];
                scatter_add_rows(cols, &g, &idx, &mut sums);
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
