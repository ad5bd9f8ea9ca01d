//! Fused softmax-cross-entropy on dense `(rows, cols)` logits.
//!
//! Everything happens while a row is in the first-level cache: the forward pass reads the logits once and keeps two
//! numbers per row, the backward pass reads them once more and writes the gradient.
use crate::element::Real;
use crate::layout::numel;
use crate::parallel::{SharedMut, abandoned};
use crate::simd::{self, Kernel, Simd, dispatch_on, math};
use crate::softmax::{exp_sum, log_one, over_rows, row_max};
use crate::stream;
use crate::sum::{CHUNK, Pairwise, add_first, each_vector, fold, load, put};

/// What a row should be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a, T> {
    /// One class index per row, in range (checked by the caller).
    Index(&'a [i64]),
    /// One distribution per row, dense `(rows, cols)`.
    Probs(&'a [T]),
}

impl<'a, T> Target<'a, T> {
    /// The targets of rows `start..end`.
    fn rows(&self, start: usize, end: usize, cols: usize) -> Target<'a, T> {
        match *self {
            Target::Index(t) => Target::Index(&t[start..end]),
            Target::Probs(t) => Target::Probs(&t[start * cols..end * cols]),
        }
    }
    fn check(&self, rows: usize, cols: usize) {
        match self {
            Target::Index(t) => assert_eq!(t.len(), rows),
            Target::Probs(t) => assert_eq!(t.len(), numel(&[rows, cols])),
        }
    }
}

struct Forward<'a, T> {
    cols: usize,
    x: &'a [T],
    target: Target<'a, T>,
    stats: &'a mut [[T; 2]],
    loss: &'a mut [T],
}
impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Forward {
            cols,
            x,
            target,
            stats,
            loss,
        } = self;
        for (r, x) in x.chunks_exact(cols).enumerate() {
            // SAFETY: run by dispatch; x and the row of targets have `cols` elements.
            unsafe {
                let max = row_max::<S>(x);
                let sum = exp_sum::<S>(x, max, core::ptr::null_mut());
                let log = log_one::<S>(sum);
                stats[r] = [max, sum];
                // log - (x - max) rather than logsumexp - x, which may be large and rounded accordingly.
                loss[r] = match target {
                    Target::Index(t) => log - (x[t[r] as usize] - max),
                    Target::Probs(t) => {
                        let t = &t[r * cols..(r + 1) * cols];
                        let (max, log) = (S::splat(max), S::splat(log));
                        let mut total = Pairwise::new();
                        for (x, t) in x.chunks(CHUNK).zip(t.chunks(CHUNK)) {
                            if abandoned(CHUNK as f64) {
                                return;
                            }
                            let mut acc = [S::zero(); 4];
                            each_vector!(S, x.len(), |i, n, k| {
                                let d = S::sub(load::<S>(x.as_ptr().add(i), n), max);
                                let t = load::<S>(t.as_ptr().add(i), n);
                                let term = S::mul(t, S::sub(log, d));
                                acc[k] = add_first::<S>(acc[k], term, n);
                            });
                            total.push(fold::<S>(acc));
                        }
                        total.total()
                    }
                };
            }
        }
    }
}

/// `stats[r] = [max, sum]`, the largest logit of row r and `sum_c exp(x[r,c] - max)`: logsumexp in two parts, whose rounded sum
/// would cost logits of 10,000 four digits. `loss[r] = -sum_c t[r,c] * (x[r,c] - logsumexp(x[r]))`.
///
/// # Panics
/// If lengths do not fit, or a class index is out of range.
pub fn cross_entropy<T: Real>(
    rows: usize,
    cols: usize,
    x: &[T],
    target: Target<'_, T>,
    stats: &mut [[T; 2]],
    loss: &mut [T],
) {
    assert_eq!(x.len(), numel(&[rows, cols]));
    assert_eq!((stats.len(), loss.len()), (rows, rows));
    target.check(rows, cols);
    if cols == 0 {
        // The sum of nothing.
        stats.fill([T::NEG_INFINITY, T::ZERO]);
        return loss.fill(T::ZERO);
    }
    let isa = simd::isa();
    let (stats, loss) = (SharedMut(stats.as_mut_ptr()), SharedMut(loss.as_mut_ptr()));
    over_rows::<T>(rows, cols, 25.0, 1, |r| {
        // SAFETY: runs of rows are disjoint parts of stats and loss, which we hold exclusively.
        let (stats, loss) =
            unsafe { (stats.slice(r.start, r.len()), loss.slice(r.start, r.len())) };
        let x = &x[r.start * cols..r.end * cols];
        let target = target.rows(r.start, r.end, cols);
        dispatch_on(
            isa,
            Forward {
                cols,
                x,
                target,
                stats,
                loss,
            },
        );
    });
}

struct Backward<'a, T> {
    cols: usize,
    /// Write past the caches.
    past: bool,
    x: &'a [T],
    target: Target<'a, T>,
    stats: &'a [[T; 2]],
    g: &'a [T],
    dx: &'a mut [T],
}
impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Backward {
            cols,
            past,
            x,
            target,
            stats,
            g,
            dx,
        } = self;
        for (r, (x, dx)) in x
            .chunks_exact(cols)
            .zip(dx.chunks_exact_mut(cols))
            .enumerate()
        {
            if abandoned(10.0 * cols as f64) {
                return;
            }
            let g = if g.len() == 1 { g[0] } else { g[r] };
            let [max, sum] = stats[r];
            // SAFETY: run by dispatch; x, dx and the row of targets have `cols` elements.
            unsafe {
                let top = S::splat(max);
                match target {
                    Target::Index(t) => {
                        let scale = S::splat(g / sum);
                        each_vector!(S, cols, |i, n, _k| {
                            let d = S::sub(load::<S>(x.as_ptr().add(i), n), top);
                            let v = S::mul(math::exp_weight::<S>(d), scale);
                            put::<S>(past, dx.as_mut_ptr().add(i), v, n);
                        });
                        // Computed anew, as what went past the cache is far away.
                        let hit = t[r] as usize;
                        let p = math::exp_weight::<S>(S::sub(S::splat(x[hit]), top));
                        dx[hit] = S::to_array(S::mul(p, scale))[0] - g;
                    }
                    Target::Probs(t) => {
                        let t = &t[r * cols..(r + 1) * cols];
                        let mut weight = Pairwise::new();
                        for t in t.chunks(CHUNK) {
                            if abandoned(CHUNK as f64) {
                                return;
                            }
                            let mut acc = [S::zero(); 4];
                            each_vector!(S, t.len(), |i, n, k| {
                                acc[k] = S::add(acc[k], load::<S>(t.as_ptr().add(i), n));
                            });
                            weight.push(fold::<S>(acc));
                        }
                        let scale = S::splat(g * (weight.total() / sum));
                        let g = S::splat(g);
                        each_vector!(S, cols, |i, n, _k| {
                            let d = S::sub(load::<S>(x.as_ptr().add(i), n), top);
                            let hit = S::mul(g, load::<S>(t.as_ptr().add(i), n));
                            let v = S::fms(math::exp_weight::<S>(d), scale, hit);
                            put::<S>(past, dx.as_mut_ptr().add(i), v, n);
                        });
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

/// `dx[r,c] = g[r] * (sum_c(t[r]) * exp(x[r,c] - max) / sum - t[r,c])`, `stats` being those of [`cross_entropy`]; `g` has one entry per row, or a single one for all.
///
/// # Panics
/// If lengths do not fit, or a class index is out of range.
pub fn cross_entropy_backward<T: Real>(
    rows: usize,
    cols: usize,
    x: &[T],
    target: Target<'_, T>,
    stats: &[[T; 2]],
    g: &[T],
    dx: &mut [T],
) {
    let n = numel(&[rows, cols]);
    assert_eq!((x.len(), dx.len(), stats.len()), (n, n, rows));
    assert!(g.len() == rows || g.len() == 1);
    target.check(rows, cols);
    if dx.is_empty() {
        return;
    }
    let isa = simd::isa();
    let past = stream::pays_rows(2 * size_of_val(dx), dx.as_ptr(), cols);
    let shared = SharedMut(dx.as_mut_ptr());
    over_rows::<T>(rows, cols, 25.0, 2, |r| {
        let part = r.start * cols..r.end * cols;
        // SAFETY: runs of rows are disjoint parts of dx, which we hold exclusively.
        let dx = unsafe { shared.slice(part.start, part.len()) };
        let body = Backward {
            cols,
            past,
            x: &x[part],
            target: target.rows(r.start, r.end, cols),
            stats: &stats[r.clone()],
            g: if g.len() == 1 { g } else { &g[r] },
            dx,
        };
        dispatch_on(isa, body);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::with_forced_threads;
    use crate::reference::{loss as twin, softmax as soft};
    use crate::rng;
    use crate::simd::{available, with_isa};
    use proptest::prelude::*;

    const SIZES: [usize; 21] = [
        1, 1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 4097, 9000,
    ];

    fn sample<T: Real>(n: usize, seed: u64, scale: f64) -> Vec<T> {
        let mut x = vec![T::ZERO; n];
        rng::normal(seed, 0, &mut x);
        x.iter_mut().for_each(|v| *v = *v * T::from_f64(scale));
        x
    }

    fn close<T: Real>(a: &[T], b: &[T], ulps: f64) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (a.to_f64(), b.to_f64());
            let ok = a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= ulps * T::EPSILON.to_f64() * b.abs().max(1.0);
            assert!(ok, "{i}: {a} {b}");
        }
    }

    fn check<T: Real>(rows: usize, cols: usize, seed: u64, scale: f64) {
        let n = rows * cols;
        let x = sample::<T>(n, seed, scale);
        let index: Vec<i64> = (0..rows)
            .map(|r| ((seed as usize + 7 * r) % cols) as i64)
            .collect();
        let mut probs = vec![T::ZERO; n];
        soft::softmax(
            false,
            rows,
            cols,
            &sample::<T>(n, seed + 1, 1.0),
            &mut probs,
        );
        for target in [Target::Index(&index), Target::Probs(&probs)] {
            let (mut stats, mut loss) = (vec![[T::ONE; 2]; rows], vec![T::ONE; rows]);
            let (mut stats2, mut loss2) = (stats.clone(), loss.clone());
            cross_entropy(rows, cols, &x, target, &mut stats, &mut loss);
            twin::cross_entropy(rows, cols, &x, target, &mut stats2, &mut loss2);
            // Both add f64 in some order of `cols` terms.
            let ulps = 32.0 + (cols as f64).sqrt();
            close(
                stats.as_flattened(),
                stats2.as_flattened(),
                ulps + 8.0 * scale,
            );
            close(&loss, &loss2, ulps);
            for g in [vec![T::from_f64(0.25)], sample::<T>(rows, seed + 2, 1.0)] {
                let (mut dx, mut dx2) = (vec![T::ONE; n], vec![T::ONE; n]);
                cross_entropy_backward(rows, cols, &x, target, &stats, &g, &mut dx);
                twin::cross_entropy_backward(rows, cols, &x, target, &stats, &g, &mut dx2);
                // exp(x - lse) has the error of x - lse, half an ulp of up to 8 `scale`.
                close(&dx, &dx2, ulps + 8.0 * scale);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn agrees_with_its_twin(rows in 0usize..5, cols in 0..21usize, seed in 0u64..1000, scale in 0.1f64..30.0) {
            for isa in available() {
                with_isa(isa, || {
                    check::<f32>(rows, SIZES[cols], seed, scale);
                    check::<f64>(rows, SIZES[cols], seed, scale);
                });
            }
        }
    }

    #[test]
    fn extreme_rows() {
        let inf = f32::INFINITY;
        for isa in available() {
            with_isa(isa, || {
                let run = |x: [f32; 3], t: i64| {
                    let (mut stats, mut loss, mut dx) = ([[0.0; 2]], [0.0], [0.0; 3]);
                    cross_entropy(1, 3, &x, Target::Index(&[t]), &mut stats, &mut loss);
                    cross_entropy_backward(1, 3, &x, Target::Index(&[t]), &stats, &[1.0], &mut dx);
                    (loss[0], dx)
                };
                assert_eq!(run([1e4, -1e4, -inf], 0), (0.0, [0.0; 3]));
                assert_eq!(run([1e4, -1e4, -inf], 1), (2e4, [1.0, -1.0, 0.0]));
                assert_eq!(run([1e4, -1e4, -inf], 2), (inf, [1.0, 0.0, -1.0]));
                // The rounding of logsumexp (half a thousandth at 10,000) does not show.
                let (loss, dx) = run([10_000.0, 9_999.0, 9_998.0], 1);
                let e = [1.0f64, (-1f64).exp(), (-2f64).exp()];
                let sum: f64 = e.iter().sum();
                assert!((f64::from(loss) - (sum.ln() + 1.0)).abs() < 1e-6);
                for c in 0..3 {
                    let want = e[c] / sum - f64::from(u8::from(c == 1));
                    assert!((f64::from(dx[c]) - want).abs() < 1e-6, "{dx:?}");
                }
                for bad in [
                    [f32::NAN, 1.0, 2.0],
                    [1.0, f32::NAN, 2.0],
                    [-inf; 3],
                    [inf, 0.0, 1.0],
                ] {
                    let (loss, dx) = run(bad, 0);
                    assert!(loss.is_nan() && dx[2].is_nan(), "{bad:?}");
                }
            });
        }
    }

    #[test]
    fn same_bits_for_any_thread_count() {
        let (rows, cols) = (61, 5003);
        let x = sample::<f32>(rows * cols, 1, 3.0);
        let index: Vec<i64> = (0..rows as i64).collect();
        let probs = sample::<f32>(rows * cols, 2, 1.0);
        for isa in available() {
            with_isa(isa, || {
                let run = || {
                    let mut out = Vec::new();
                    for target in [Target::Index(&index), Target::Probs(&probs)] {
                        let (mut stats, mut loss) = (vec![[0.0; 2]; rows], vec![0.0; rows]);
                        let mut dx = vec![0.0; rows * cols];
                        cross_entropy(rows, cols, &x, target, &mut stats, &mut loss);
                        cross_entropy_backward(rows, cols, &x, target, &stats, &[0.5], &mut dx);
                        out.extend(
                            stats
                                .as_flattened()
                                .iter()
                                .chain(&loss)
                                .chain(&dx)
                                .map(|v| v.to_bits()),
                        );
                    }
                    out
                };
                let one = with_forced_threads(1, run);
                for n in [2, 3, 8] {
                    assert!(with_forced_threads(n, run) == one, "{n} threads");
                }
            });
        }
    }
}
