//! Softmax over the last axis of dense `(rows, cols)`; finite for logits of any size.
//!
//! As in PyTorch, a row of nothing but -inf (everything masked) has no softmax and gives NaN; so do rows with +inf or
//! NaN.
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{self, Kernel, Simd, dispatch_on, math};
use crate::stream;
use crate::sum::{CHUNK, Pairwise, add_first, each_vector, fold, load, put, store};
use core::ops::Range;

/// Calls `f` on runs of rows of about 16 Ki elements, in parallel.
pub(crate) fn over_rows<T>(
    rows: usize,
    cols: usize,
    flops: f64,
    arrays: usize,
    f: impl Fn(Range<usize>) + Sync,
) {
    let n = rows as f64 * cols as f64;
    let cost = Cost {
        flops: n * flops,
        bytes: n * (arrays * size_of::<T>()) as f64,
    };
    for_each_chunk(rows, (16_384 / cols.max(1)).max(1), cost, &f);
}

/// The largest number of a row, -inf when there is none; NaN is passed over (it shows in the sum).
/// # Safety
/// S is enabled.
#[inline(always)]
pub(crate) unsafe fn row_max<S: Simd>(x: &[S::T]) -> S::T {
    // SAFETY: the caller's promise; vectors lie inside the row.
    unsafe {
        let least = S::splat(S::T::NEG_INFINITY);
        let mut acc = [least; 4];
        each_vector!(S, x.len(), |i, n, k| {
            let v = load::<S>(x.as_ptr().add(i), n);
            let v = if n == S::LANES {
                v
            } else {
                S::select(S::mask_first(n), v, least)
            };
            acc[k] = S::max(v, acc[k]);
        });
        let mut best = acc[0];
        for v in &acc[1..] {
            best = S::max(*v, best);
        }
        let lanes = S::to_array(best);
        let mut max = lanes[0];
        for v in &lanes[1..S::LANES] {
            max = if *v > max { *v } else { max };
        }
        max
    }
}

/// Longest row whose exponentials wait in a buffer for their sum where the result goes past the caches.
const BUFFERED: usize = 32 << 10;

/// Where a row's exponentials are kept until their sum is known: in the result, or in a buffer of the task.
pub(crate) struct Waiting<T>(Option<Buffer<T>>);
impl<T: Real> Waiting<T> {
    /// Whether results of `rows` rows, beside `operands` arrays of that size, are written past the caches.
    pub(crate) fn past(operands: usize, cols: usize, out: &[T]) -> bool {
        let bytes = size_of_val(out).saturating_mul(1 + operands);
        cols <= BUFFERED && stream::pays_rows(bytes, out.as_ptr(), cols)
    }
    pub(crate) fn new(past: bool, cols: usize) -> Self {
        Waiting(past.then(|| Buffer::new(cols)))
    }
    #[inline(always)]
    pub(crate) fn of(&self, row: &mut [T]) -> *mut T {
        match &self.0 {
            Some(b) => b.ptr(),
            None => row.as_mut_ptr(),
        }
    }
}

/// `sum(exp(x - shift))` for `shift` of about the largest element; writes the terms to `out` if there is one.
/// # Safety
/// S is enabled; `out` is null or has room for the row (and may be the row).
#[inline(always)]
pub(crate) unsafe fn exp_sum<S: Simd>(x: &[S::T], shift: S::T, out: *mut S::T) -> S::T {
    // SAFETY: the caller's promise; vectors lie inside the row.
    unsafe {
        let shift = S::splat(shift);
        let mut total = Pairwise::new();
        for (c, x) in x.chunks(CHUNK).enumerate() {
            if abandoned(10.0 * CHUNK as f64) {
                break;
            }
            let mut acc = [S::zero(); 4];
            each_vector!(S, x.len(), |i, n, k| {
                let e = math::exp_weight::<S>(S::sub(load::<S>(x.as_ptr().add(i), n), shift));
                if !out.is_null() {
                    store::<S>(out.add(c * CHUNK + i), e, n);
                }
                acc[k] = add_first::<S>(acc[k], e, n);
            });
            total.push(fold::<S>(acc));
        }
        total.total()
    }
}

/// Natural logarithm of one number, the same on every path.
/// # Safety
/// S is enabled.
#[inline(always)]
pub(crate) unsafe fn log_one<S: Simd>(x: S::T) -> S::T {
    // SAFETY: the caller's promise.
    unsafe { S::to_array(math::log::<S>(S::splat(x)))[0] }
}

struct Forward<'a, T> {
    log: bool,
    cols: usize,
    /// Write past the caches.
    past: bool,
    waiting: &'a Waiting<T>,
    x: &'a [T],
    y: &'a mut [T],
}
impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Forward {
            log,
            cols,
            past,
            waiting,
            x,
            y,
        } = self;
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            // SAFETY: run by dispatch; x and y are rows of the same length.
            unsafe {
                let max = row_max::<S>(x);
                if log {
                    let sum = exp_sum::<S>(x, max, core::ptr::null_mut());
                    let (max, sum) = (S::splat(max), S::splat(log_one::<S>(sum)));
                    each_vector!(S, cols, |i, n, _k| {
                        let v = S::sub(load::<S>(x.as_ptr().add(i), n), max);
                        put::<S>(past, y.as_mut_ptr().add(i), S::sub(v, sum), n);
                    });
                } else {
                    let e = waiting.of(y);
                    let sum = exp_sum::<S>(x, max, e);
                    let scale = S::splat(T::ONE / sum);
                    each_vector!(S, cols, |i, n, _k| {
                        let v = S::mul(load::<S>(e.add(i), n), scale);
                        put::<S>(past, y.as_mut_ptr().add(i), v, n);
                    });
                }
            }
        }
        if past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

/// `y = exp(x - max) / sum`, or its logarithm when `log`.
pub fn softmax<T: Real>(log: bool, rows: usize, cols: usize, x: &[T], y: &mut [T]) {
    let n = numel(&[rows, cols]);
    assert_eq!((x.len(), y.len()), (n, n));
    if x.is_empty() {
        return;
    }
    let isa = simd::isa();
    let past = Waiting::past(1, cols, y);
    let shared = SharedMut(y.as_mut_ptr());
    over_rows::<T>(rows, cols, 25.0, 2, |r| {
        let waiting = &Waiting::new(past && !log, cols);
        let x = &x[r.start * cols..r.end * cols];
        // SAFETY: runs of rows are disjoint parts of y, which we hold exclusively.
        let y = unsafe { shared.slice(r.start * cols, r.len() * cols) };
        let body = Forward {
            log,
            cols,
            past,
            waiting,
            x,
            y,
        };
        dispatch_on(isa, body);
    });
}

struct Backward<'a, T> {
    log: bool,
    cols: usize,
    /// Write past the caches.
    past: bool,
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}
impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Backward {
            log,
            cols,
            past,
            y,
            dy,
            dx,
        } = self;
        let rows = y.chunks_exact(cols).zip(dy.chunks_exact(cols));
        for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(cols)) {
            // SAFETY: run by dispatch; y, dy and dx are rows of the same length.
            unsafe {
                let mut total = Pairwise::new();
                for (y, dy) in y.chunks(CHUNK).zip(dy.chunks(CHUNK)) {
                    if abandoned(CHUNK as f64) {
                        return;
                    }
                    let mut acc = [S::zero(); 4];
                    each_vector!(S, y.len(), |i, n, k| {
                        let d = load::<S>(dy.as_ptr().add(i), n);
                        // Lanes beyond the row are 0 in both.
                        acc[k] = if log {
                            S::add(acc[k], d)
                        } else {
                            S::fma(d, load::<S>(y.as_ptr().add(i), n), acc[k])
                        };
                    });
                    total.push(fold::<S>(acc));
                }
                let sum = S::splat(total.total());
                each_vector!(S, cols, |i, n, _k| {
                    let d = load::<S>(dy.as_ptr().add(i), n);
                    let v = load::<S>(y.as_ptr().add(i), n);
                    let g = if log {
                        S::fnma(math::exp::<S>(v), sum, d)
                    } else {
                        S::mul(v, S::sub(d, sum))
                    };
                    put::<S>(past, dx.as_mut_ptr().add(i), g, n);
                });
            }
        }
        if past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

/// softmax: `dx = y * (dy - sum(dy * y))`; log-softmax: `dx = dy - exp(y) * sum(dy)`.
pub fn softmax_backward<T: Real>(
    log: bool,
    rows: usize,
    cols: usize,
    y: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    let n = numel(&[rows, cols]);
    assert_eq!((y.len(), dy.len(), dx.len()), (n, n, n));
    if n == 0 {
        return;
    }
    let isa = simd::isa();
    let past = stream::pays_rows(3 * size_of_val(dx), dx.as_ptr(), cols);
    let shared = SharedMut(dx.as_mut_ptr());
    over_rows::<T>(rows, cols, if log { 25.0 } else { 5.0 }, 3, |r| {
        let part = r.start * cols..r.end * cols;
        // SAFETY: runs of rows are disjoint parts of dx, which we hold exclusively.
        let dx = unsafe { shared.slice(part.start, part.len()) };
        let body = Backward {
            log,
            cols,
            past,
            y: &y[part.clone()],
            dy: &dy[part],
            dx,
        };
        dispatch_on(isa, body);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::with_forced_threads;
    use crate::reference::softmax as twin;
    use crate::rng;
    use crate::simd::{Isa, available, with_isa};
    use proptest::prelude::*;

    const SIZES: [usize; 21] = [
        0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 4097, 9000,
    ];

    fn sample<T: Real>(n: usize, seed: u64, scale: f64) -> Vec<T> {
        let mut x = vec![T::ZERO; n];
        rng::normal(seed, 0, &mut x);
        x.iter_mut().for_each(|v| *v = *v * T::from_f64(scale));
        x
    }

    fn close<T: Real>(a: &[T], b: &[T], ulps: f64, floor: f64) {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (a.to_f64(), b.to_f64());
            let ok = a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= ulps * T::EPSILON.to_f64() * b.abs().max(floor);
            assert!(ok, "{i}: {a} {b}");
        }
    }

    fn check<T: Real>(rows: usize, cols: usize, seed: u64, scale: f64) {
        let n = rows * cols;
        let (mut x, dy) = (sample::<T>(n, seed, scale), sample::<T>(n, seed + 1, 1.0));
        for masked in [false, true] {
            if masked {
                for i in (0..n).filter(|i| i % 3 == 1) {
                    x[i] = T::NEG_INFINITY;
                }
            }
            for log in [false, true] {
                let (mut y, mut z) = (vec![T::ONE; n], vec![T::ONE; n]);
                softmax(log, rows, cols, &x, &mut y);
                twin::softmax(log, rows, cols, &x, &mut z);
                // e^d has the error of d = x - max, half an ulp of d, times 1; so `ulps` of the larger of 1 and |d|.
                let d = if log { 1.0 } else { 8.0 * scale };
                // The twin itself adds f64 one by one, to a sum of about 1 that small terms of one sign may be lost in: n u.
                let twins = match size_of::<T>() {
                    8 => cols as f64 / 2.0,
                    _ => (cols as f64).sqrt(),
                };
                close(&y, &z, 8.0 + d + twins, if log { 1.0 } else { 1e-30 });
                let (mut a, mut b) = (vec![T::ONE; n], vec![T::ONE; n]);
                softmax_backward(log, rows, cols, &z, &dy, &mut a);
                twin::softmax_backward(log, rows, cols, &z, &dy, &mut b);
                let size = if log { (cols as f64).sqrt() } else { 1.0 };
                close(&a, &b, 32.0 + twins, size.max(1.0));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn agrees_with_its_twin(rows in 0usize..4, cols in 0..21usize, seed in 0u64..1000, scale in 0.1f64..30.0) {
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
                let mut y = [0f32; 4];
                softmax(false, 1, 4, &[1e4, -1e4, 1e4, -inf], &mut y);
                assert_eq!(y, [0.5, 0.0, 0.5, 0.0]);
                softmax(true, 1, 4, &[1e4, -1e4, 1e4, -inf], &mut y);
                let half = -core::f32::consts::LN_2;
                assert_eq!(y, [half, -2e4 + half, half, -inf]);
                // As PyTorch: nothing to choose from is NaN, and NaN or +inf spoil their row only.
                for bad in [[-inf; 4], [1.0, f32::NAN, 2.0, 3.0], [1.0, inf, 2.0, 3.0]] {
                    for log in [false, true] {
                        softmax(log, 1, 4, &bad, &mut y);
                        assert!(y[1].is_nan(), "{bad:?} {y:?}");
                        let mut two = [0f32; 8];
                        let x = [bad, [1.0, 2.0, 3.0, 4.0]].concat();
                        softmax(log, 2, 4, &x, &mut two);
                        assert!(two[4..].iter().all(|v| v.is_finite()));
                    }
                }
            });
        }
    }

    #[test]
    fn same_bits_for_any_thread_count_and_fused_path() {
        let (rows, cols) = (37, 5001);
        let (x, dy) = (
            sample::<f32>(rows * cols, 1, 3.0),
            sample::<f32>(rows * cols, 2, 1.0),
        );
        let run = || {
            let mut out = Vec::new();
            for log in [false, true] {
                let (mut y, mut dx) = (vec![0.0; rows * cols], vec![0.0; rows * cols]);
                softmax(log, rows, cols, &x, &mut y);
                softmax_backward(log, rows, cols, &y, &dy, &mut dx);
                out.extend(y.iter().chain(&dx).map(|v| v.to_bits()));
            }
            out
        };
        for isa in available() {
            with_isa(isa, || {
                let one = with_forced_threads(1, run);
                for n in [2, 3, 8] {
                    assert!(with_forced_threads(n, run) == one, "{n} threads");
                }
            });
        }
        let fused: Vec<_> = available().filter(|i| *i != Isa::Scalar).collect();
        if let [a, b] = fused[..] {
            assert!(with_isa(a, run) == with_isa(b, run));
        }
    }
}
