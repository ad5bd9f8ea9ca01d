//! Layer and RMS normalisation of dense `(rows, cols)`, row by row.
//!
//! A row is read while it lies in the first-level cache: moments as in [`super`], chunk by chunk, then the result. The
//! gradients of gamma and beta are sums over rows: each block of 64 rows adds its own, and the blocks' sums are added in
//! order in f64, so that neither threads nor their number show in a bit.
use super::{Moments, first};
use crate::element::{Number, Real};
use crate::elementwise::fill;
use crate::gemm::buffer::Buffer;
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{self, Kernel, Simd, dispatch_on};
use crate::stream;
use crate::sum::{CHUNK, add_first, each_vector, fold, load, put, store};

/// Rows whose contributions to gamma and beta are added before they meet those of others.
const BLOCK: usize = 64;
/// Columns per task when the blocks' sums are added.
const COLUMNS: usize = 256;

struct Forward<'a, T> {
    cols: usize,
    eps: f64,
    centred: bool,
    /// Write past the caches.
    past: bool,
    x: &'a [T],
    gamma: Option<&'a [T]>,
    beta: Option<&'a [T]>,
    y: &'a mut [T],
    mean: &'a mut [T],
    rstd: &'a mut [T],
}

/// Moments of one row; around 0 unless `centred`.
/// # Safety
/// S is enabled.
#[inline(always)]
unsafe fn moments<S: Simd>(x: &[S::T], centred: bool) -> Moments {
    let mut all = Moments::NONE;
    for x in x.chunks(CHUNK) {
        if abandoned(CHUNK as f64) {
            break;
        }
        // SAFETY: S is enabled; vectors lie inside the chunk.
        let part = unsafe {
            let mut mean = S::T::ZERO;
            if centred {
                let mut acc = [S::zero(); 4];
                each_vector!(S, x.len(), |i, n, j| {
                    acc[j] = add_first::<S>(acc[j], load::<S>(x.as_ptr().add(i), n), n);
                });
                mean = fold::<S>(acc) / S::T::from_f64(x.len() as f64);
            }
            let m = S::splat(mean);
            let (mut sum, mut squares) = ([S::zero(); 4], [S::zero(); 4]);
            each_vector!(S, x.len(), |i, n, j| {
                let d = first::<S>(S::sub(load::<S>(x.as_ptr().add(i), n), m), n);
                sum[j] = S::add(sum[j], d);
                squares[j] = S::fma(d, d, squares[j]);
            });
            let squares = fold::<S>(squares).to_f64();
            if centred {
                Moments::new(x.len(), mean.to_f64(), fold::<S>(sum).to_f64(), squares)
            } else {
                Moments {
                    count: x.len() as f64,
                    mean: 0.0,
                    squares,
                }
            }
        };
        all = all.merge(part);
    }
    all
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let rows = self
            .x
            .chunks_exact(self.cols)
            .zip(self.y.chunks_exact_mut(self.cols));
        for (r, (x, y)) in rows.enumerate() {
            // SAFETY: run by dispatch; all of a row's operands have cols elements.
            unsafe {
                let m = moments::<S>(x, self.centred);
                // Rounding may leave a tiny negative number.
                let var = if m.squares < 0.0 { 0.0 } else { m.squares } / m.count;
                self.mean[r] = T::from_f64(m.mean);
                self.rstd[r] = T::from_f64(1.0 / (var + self.eps).sqrt());
                let (mean, rstd) = (S::splat(self.mean[r]), S::splat(self.rstd[r]));
                each_vector!(S, self.cols, |i, n, _k| {
                    let v = load::<S>(x.as_ptr().add(i), n);
                    let mut v = S::mul(S::sub(v, mean), rstd);
                    if let Some(g) = self.gamma {
                        v = S::mul(v, load::<S>(g.as_ptr().add(i), n));
                    }
                    if let Some(b) = self.beta {
                        v = S::add(v, load::<S>(b.as_ptr().add(i), n));
                    }
                    put::<S>(self.past, y.as_mut_ptr().add(i), v, n);
                });
            }
        }
        if self.past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

/// `y = (x - mean) * rstd * gamma + beta` for every row, with the row's mean and `rstd = 1 / sqrt(var + eps)`, `var` biased; both
/// are saved. Not `centred`: the mean counts as 0 and the variance is the mean of the squares (RMS normalisation).
///
/// # Panics
/// If lengths do not fit.
pub fn layer_norm<T: Real>(
    rows: usize,
    cols: usize,
    centred: bool,
    eps: f64,
    x: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    let n = numel(&[rows, cols]);
    assert_eq!((x.len(), y.len()), (n, n));
    assert_eq!((mean.len(), rstd.len()), (rows, rows));
    assert!(gamma.is_none_or(|g| g.len() == cols) && beta.is_none_or(|b| b.len() == cols));
    if x.is_empty() {
        // A row without elements has neither: 0 / 0.
        mean.fill(T::NAN);
        return rstd.fill(T::NAN);
    }
    let isa = simd::isa();
    let past = stream::pays_rows(2 * size_of_val(y), y.as_ptr(), cols);
    let [y, mean, rstd] = [y, mean, rstd].map(|s| SharedMut(s.as_mut_ptr()));
    let cost = Cost {
        flops: 8.0 * x.len() as f64,
        bytes: (2 * size_of_val(x)) as f64,
    };
    for_each_chunk(rows, (16_384 / cols).max(1), cost, &|r| {
        let (at, len) = (r.start * cols, r.len() * cols);
        // SAFETY: runs of rows are disjoint parts of the outputs, which we hold exclusively.
        let (y, mean, rstd) = unsafe {
            (
                y.slice(at, len),
                mean.slice(r.start, r.len()),
                rstd.slice(r.start, r.len()),
            )
        };
        let body = Forward {
            cols,
            eps,
            centred,
            past,
            x: &x[at..at + len],
            gamma,
            beta,
            y,
            mean,
            rstd,
        };
        dispatch_on(isa, body);
    });
}

struct Backward<'a, T> {
    cols: usize,
    centred: bool,
    /// Write past the caches.
    past: bool,
    x: &'a [T],
    dy: &'a [T],
    mean: &'a [T],
    rstd: &'a [T],
    gamma: Option<&'a [T]>,
    dx: Option<&'a mut [T]>,
    /// This block's sums for gamma and beta, zero at first.
    dgamma: Option<&'a mut [T]>,
    dbeta: Option<&'a mut [T]>,
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(mut self) {
        let cols = self.cols;
        let pointer = |d: &mut Option<&mut [T]>| {
            d.as_deref_mut()
                .map_or(core::ptr::null_mut(), |d| d.as_mut_ptr())
        };
        let (dgamma, dbeta) = (pointer(&mut self.dgamma), pointer(&mut self.dbeta));
        for r in 0..self.mean.len() {
            let (x, dy) = (&self.x[r * cols..][..cols], &self.dy[r * cols..][..cols]);
            // SAFETY: run by dispatch; all of a row's operands have cols elements.
            unsafe {
                let (mean, rstd) = (S::splat(self.mean[r]), S::splat(self.rstd[r]));
                // Sums of h = gamma dy, and of h xh.
                let (mut sum, mut dot) = (0.0, 0.0);
                for at in (0..cols).step_by(CHUNK) {
                    if abandoned(CHUNK as f64) {
                        return;
                    }
                    let len = CHUNK.min(cols - at);
                    let (mut sums, mut dots) = ([S::zero(); 4], [S::zero(); 4]);
                    each_vector!(S, len, |i, n, j| {
                        let i = at + i;
                        let v = load::<S>(x.as_ptr().add(i), n);
                        let xh = first::<S>(S::mul(S::sub(v, mean), rstd), n);
                        let g = load::<S>(dy.as_ptr().add(i), n);
                        if !dgamma.is_null() {
                            let p = dgamma.add(i);
                            store::<S>(p, S::fma(g, xh, load::<S>(p, n)), n);
                        }
                        if !dbeta.is_null() {
                            let p = dbeta.add(i);
                            store::<S>(p, S::add(load::<S>(p, n), g), n);
                        }
                        let h = match self.gamma {
                            Some(gamma) => S::mul(g, load::<S>(gamma.as_ptr().add(i), n)),
                            None => g,
                        };
                        sums[j] = S::add(sums[j], h);
                        dots[j] = S::fma(h, xh, dots[j]);
                    });
                    sum += fold::<S>(sums).to_f64();
                    dot += fold::<S>(dots).to_f64();
                }
                let Some(dx) = self.dx.as_deref_mut() else {
                    continue;
                };
                let dx = &mut dx[r * cols..][..cols];
                let sum = if self.centred { sum / cols as f64 } else { 0.0 };
                let sum = S::splat(T::from_f64(sum));
                let dot = S::splat(T::from_f64(dot / cols as f64));
                each_vector!(S, cols, |i, n, _k| {
                    let v = load::<S>(x.as_ptr().add(i), n);
                    let xh = S::mul(S::sub(v, mean), rstd);
                    let mut h = load::<S>(dy.as_ptr().add(i), n);
                    if let Some(g) = self.gamma {
                        h = S::mul(h, load::<S>(g.as_ptr().add(i), n));
                    }
                    let d = S::mul(rstd, S::fnma(xh, dot, S::sub(h, sum)));
                    put::<S>(self.past, dx.as_mut_ptr().add(i), d, n);
                });
            }
        }
        if self.past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

/// Gradients of [`layer_norm`]. With `h = gamma dy` and `xh = (x - mean) rstd`:
/// `dx = rstd (h - mean(h) - xh mean(h xh))`, without `mean(h)` unless `centred`; `dgamma = sum over rows of dy xh`,
/// `dbeta = sum over rows of dy`.
///
/// # Panics
/// If lengths do not fit.
pub fn layer_norm_backward<T: Real>(
    rows: usize,
    cols: usize,
    centred: bool,
    x: &[T],
    dy: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    dx: Option<&mut [T]>,
    dgamma: Option<&mut [T]>,
    dbeta: Option<&mut [T]>,
) {
    let n = numel(&[rows, cols]);
    assert_eq!((x.len(), dy.len()), (n, n));
    assert_eq!((mean.len(), rstd.len()), (rows, rows));
    assert!(gamma.is_none_or(|g| g.len() == cols));
    assert!(dx.as_ref().is_none_or(|d| d.len() == x.len()));
    assert!(dgamma.as_ref().is_none_or(|d| d.len() == cols));
    assert!(dbeta.as_ref().is_none_or(|d| d.len() == cols));
    if x.is_empty() {
        // Sums of nothing.
        for d in [dgamma, dbeta].into_iter().flatten() {
            d.fill(T::ZERO);
        }
        return;
    }
    let isa = simd::isa();
    let blocks = rows.div_ceil(BLOCK);
    let sums = |d: &Option<&mut [T]>| {
        let n = if d.is_some() { blocks * cols } else { 0 };
        let room = Buffer::<T>::new(n);
        // SAFETY: the buffer holds n numbers, and any bits are one.
        fill(
            unsafe { core::slice::from_raw_parts_mut(room.ptr(), n) },
            T::ZERO,
        );
        (room, n)
    };
    let (of_gamma, of_beta) = (sums(&dgamma), sums(&dbeta));
    let pointers = [&of_gamma, &of_beta].map(|v| SharedMut(v.0.ptr()));
    let past = dx
        .as_deref()
        .is_some_and(|d| stream::pays_rows(3 * size_of_val(d), d.as_ptr(), cols));
    let pointer_dx = SharedMut(dx.map_or(core::ptr::null_mut(), |d| d.as_mut_ptr()));
    let wanted = [dgamma.is_some(), dbeta.is_some()];
    let cost = Cost {
        flops: 16.0 * x.len() as f64,
        bytes: (3 * size_of_val(x)) as f64,
    };
    // Blocks are what is summed; a task takes as many as make it worth while.
    let per_task = (16_384 / (BLOCK * cols)).max(1);
    for_each_chunk(blocks, per_task, cost, &|tasks| {
        for block in tasks {
            let r = block * BLOCK..((block + 1) * BLOCK).min(rows);
            let part = r.start * cols..r.end * cols;
            // SAFETY: blocks own disjoint rows of dx and disjoint rows of the partial sums, which we hold exclusively.
            let (dx, [dgamma, dbeta]) = unsafe {
                let dx =
                    (!pointer_dx.0.is_null()).then(|| pointer_dx.slice(part.start, part.len()));
                let own = |i: usize| wanted[i].then(|| pointers[i].slice(block * cols, cols));
                (dx, [own(0), own(1)])
            };
            let body = Backward {
                cols,
                centred,
                past,
                x: &x[part.clone()],
                dy: &dy[part],
                mean: &mean[r.clone()],
                rstd: &rstd[r],
                gamma,
                dx,
                dgamma,
                dbeta,
            };
            dispatch_on(isa, body);
        }
    });
    for (out, parts) in [(dgamma, &of_gamma), (dbeta, &of_beta)] {
        let Some(out) = out else { continue };
        // SAFETY: as above; nobody writes to the sums any more.
        let parts = unsafe { core::slice::from_raw_parts(parts.0.ptr(), parts.1) };
        let shared = SharedMut(out.as_mut_ptr());
        let n = parts.len() as f64;
        let cost = Cost {
            flops: n,
            bytes: n * size_of::<T>() as f64,
        };
        for_each_chunk(cols, COLUMNS, cost, &|columns| {
            // SAFETY: runs of columns are disjoint parts of the output, which we hold exclusively.
            let out = unsafe { shared.slice(columns.start, columns.len()) };
            for (o, k) in out.iter_mut().zip(columns) {
                let column = parts[k..].iter().step_by(cols);
                *o = T::from_f64(column.map(|v| v.to_f64()).sum());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::with_forced_threads;
    use crate::reference::norm as twin;
    use crate::rng;
    use crate::simd::{Isa, available, with_isa};
    use proptest::prelude::*;

    const SIZES: [usize; 21] = [
        0, 1, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 129, 300, 4100, 9000,
    ];

    fn sample<T: Real>(n: usize, seed: u64, mean: f64, sd: f64) -> Vec<T> {
        let mut x = vec![T::ZERO; n];
        rng::normal(seed, 0, &mut x);
        x.iter()
            .map(|v| T::from_f64(mean + sd * v.to_f64()))
            .collect()
    }

    fn close<T: Real>(what: &str, a: &[T], b: &[T], ulps: f64) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (a.to_f64(), b.to_f64());
            let ok = a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= ulps * T::EPSILON.to_f64() * b.abs().max(1.0);
            assert!(ok, "{what} {i}: {a} {b}");
        }
    }

    /// y, mean, rstd, dx, dgamma and dbeta.
    fn run<T: Real>(rows: usize, cols: usize, centred: bool, seed: u64, fast: bool) -> Vec<Vec<T>> {
        let n = rows * cols;
        let x = sample::<T>(n, seed, 0.5, 2.0);
        let dy = sample::<T>(n, seed + 1, 0.1, 1.0);
        let (gamma, beta) = (
            sample::<T>(cols, seed + 2, 1.0, 1.0),
            sample::<T>(cols, seed + 3, 0.0, 1.0),
        );
        let (gamma, beta) = (
            (!seed.is_multiple_of(3)).then_some(&gamma[..]),
            (seed % 3 == 2).then_some(&beta[..]),
        );
        let (mut y, mut dx) = (vec![T::ONE; n], vec![T::ONE; n]);
        let (mut mean, mut rstd) = (vec![T::ONE; rows], vec![T::ONE; rows]);
        let (mut dg, mut db) = (vec![T::ONE; cols], vec![T::ONE; cols]);
        let forward = if fast { layer_norm } else { twin::layer_norm };
        let backward = if fast {
            layer_norm_backward
        } else {
            twin::layer_norm_backward
        };
        forward(
            rows, cols, centred, 0.1, &x, gamma, beta, &mut y, &mut mean, &mut rstd,
        );
        backward(
            rows,
            cols,
            centred,
            &x,
            &dy,
            &mean,
            &rstd,
            gamma,
            Some(&mut dx),
            Some(&mut dg),
            Some(&mut db),
        );
        vec![y, mean, rstd, dx, dg, db]
    }

    fn check<T: Real>(rows: usize, cols: usize, centred: bool, seed: u64) {
        let (fast, slow) = (
            run::<T>(rows, cols, centred, seed, true),
            run::<T>(rows, cols, centred, seed, false),
        );
        // Along a row: values of order 5, whose sums are divided by their number again. Down a column: sums of `rows` values of
        // order 1 and any sign, which may cancel; their partial sums grow as sqrt(rows), and so does the number of half ULP of
        // those that add up.
        let (row, column) = (64.0 + 8.0 * (cols as f64).sqrt(), 64.0 + 4.0 * rows as f64);
        let names = ["y", "mean", "rstd", "dx", "dgamma", "dbeta"];
        for ((what, a), b) in names.iter().zip(&fast).zip(&slow) {
            let down = matches!(*what, "dgamma" | "dbeta");
            close(what, a, b, if down { column } else { row });
        }
    }

    fn small() -> impl Strategy<Value = (usize, usize)> {
        (
            prop::sample::select(&SIZES[..]),
            prop::sample::select(&SIZES[..]),
        )
            .prop_filter("at most 40,000 elements", |(r, c)| r * c <= 40_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn equal_their_twins((rows, cols) in small(), centred: bool, seed in 0u64..99) {
            for isa in available() {
                with_isa(isa, || {
                    check::<f32>(rows, cols, centred, seed);
                    check::<f64>(rows, cols, centred, seed);
                });
            }
        }
    }

    #[test]
    fn threads_and_vector_widths_do_not_show() {
        for (rows, cols) in [(700, 33), (3, 9000), (130, 257)] {
            let of = || run::<f32>(rows, cols, true, 5, true);
            for isa in available() {
                with_isa(isa, || {
                    let one = with_forced_threads(1, of);
                    for t in [2, 3, 8] {
                        assert!(with_forced_threads(t, of) == one, "{t} threads");
                    }
                });
            }
            let fused: Vec<_> = available().filter(|i| *i != Isa::Scalar).collect();
            if let [a, b] = fused[..] {
                assert!(with_isa(a, of) == with_isa(b, of));
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_drown_the_variance() {
        let x: Vec<f32> = [10000.0, 10001.0, 10002.0, 10003.0].repeat(1250);
        let (mut y, mut mean, mut rstd) = (vec![0.0; 5000], [0.0], [0.0]);
        layer_norm(
            1, 5000, true, 0.0, &x, None, None, &mut y, &mut mean, &mut rstd,
        );
        assert!((mean[0] - 10001.5).abs() <= 0.001);
        assert!((rstd[0] - 1.0 / 1.25f32.sqrt()).abs() < 1e-6);
    }
}
