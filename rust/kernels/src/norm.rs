//! Batch normalisation of dense `(n, c, s)` (s: product of the spatial axes).
//!
//! Statistics are taken chunk by chunk while a chunk is in the first-level cache: its mean, then the sum of squares
//! around it (with the correction for the rounding of that mean); chunks are merged in f64 (Chan, Golub, LeVeque
//! 1979). So a mean of 10,000 does not drown a variance of 1e-6. Threads take whole channels; a sum's order depends
//! on the shape alone.
use crate::element::{Number, Real};
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{self, Kernel, Simd, dispatch_on};
use crate::stream;
use crate::sum::{CHUNK, add_first, each_vector, fold, load, put, store};
use core::ops::Range;

mod rows;
pub use rows::{layer_norm, layer_norm_backward};

/// Rows per chunk of the `s == 1` path, whose lanes lie along the channels.
const ROWS: usize = 256;
/// Channels per tile of that path.
const COLUMNS: usize = 64;

/// Shape of the operand.
#[derive(Clone, Copy)]
struct Shape {
    n: usize,
    c: usize,
    s: usize,
}

impl Shape {
    fn len(&self) -> usize {
        numel(&[self.n, self.c, self.s])
    }
    /// Elements per channel.
    fn count(&self) -> f64 {
        (self.n * self.s) as f64
    }
    /// Chunks of one channel: images, and the part of each plane.
    #[inline(always)]
    fn chunks(self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let images = (CHUNK / self.s).max(1);
        let Shape { n, s, .. } = self;
        (0..n).step_by(images).flat_map(move |i| {
            let images = i..(i + images).min(n);
            (0..s)
                .step_by(CHUNK)
                .map(move |j| (images.clone(), j..(j + CHUNK).min(s)))
        })
    }
    /// Index of the first element of a run of channel `k`.
    #[inline(always)]
    fn at(&self, image: usize, k: usize, j: usize) -> usize {
        (image * self.c + k) * self.s + j
    }
    /// Calls `f(channels)` in parallel.
    fn over_channels<T>(&self, arrays: usize, f: impl Fn(Range<usize>) + Sync) {
        let n = self.len() as f64;
        let cost = Cost {
            flops: 6.0 * n,
            bytes: n * (arrays * size_of::<T>()) as f64,
        };
        let per_tile = if self.s == 1 { COLUMNS } else { 1 };
        for_each_chunk(self.c, per_tile, cost, &f);
    }
}

/// Count, mean and sum of squares around it.
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    const NONE: Moments = Moments {
        count: 0.0,
        mean: 0.0,
        squares: 0.0,
    };
    /// From `sum(d)` and `sum(d^2)` of the differences `d = x - mean`, where `mean` is rounded.
    #[inline(always)]
    fn new(count: usize, mean: f64, d: f64, d2: f64) -> Self {
        let count = count as f64;
        Moments {
            count,
            mean: mean + d / count,
            squares: d2 - d * d / count,
        }
    }
    #[inline(always)]
    fn merge(self, other: Self) -> Self {
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        Moments {
            count,
            mean: self.mean + delta * (other.count / count),
            squares: self.squares
                + other.squares
                + delta * delta * (self.count * other.count / count),
        }
    }
    #[inline(always)]
    fn finish<T: Real>(self, mean: &mut T, var: &mut T) {
        // An empty channel has neither: 0 / 0.
        let valid = if self.count > 0.0 { 0.0 } else { f64::NAN };
        *mean = T::from_f64(self.mean + valid);
        // Rounding may leave a tiny negative number; NaN stays.
        let squares = if self.squares < 0.0 {
            0.0
        } else {
            self.squares
        };
        *var = T::from_f64(squares / self.count);
    }
}

/// `v`, with lanes from `n` up 0.
/// # Safety
/// S is enabled.
#[inline(always)]
unsafe fn first<S: Simd>(v: S::V, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if n == S::LANES {
            v
        } else {
            S::select(S::mask_first(n), v, S::zero())
        }
    }
}

struct Stats<'a, T> {
    shape: Shape,
    channels: Range<usize>,
    x: &'a [T],
    mean: &'a mut [T],
    var: &'a mut [T],
}
impl<T: Real> Kernel<T> for Stats<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Stats {
            shape,
            channels,
            x,
            mean,
            var,
        } = self;
        let first_channel = channels.start;
        if shape.s == 1 {
            let mut k = channels.start;
            while k < channels.end {
                let lanes = (channels.end - k).min(S::LANES);
                // SAFETY: run by dispatch; columns k .. k + lanes lie inside each row.
                let moments = unsafe { column_moments::<S>(shape, x, k, lanes) };
                for (l, m) in moments[..lanes].iter().enumerate() {
                    let o = k + l - first_channel;
                    m.finish(&mut mean[o], &mut var[o]);
                }
                k += lanes;
            }
            return;
        }
        for k in channels {
            let mut all = Moments::NONE;
            for (images, part) in shape.chunks() {
                if abandoned(CHUNK as f64) {
                    return;
                }
                let count = images.len() * part.len();
                // SAFETY: run by dispatch; every run is a slice of x.
                let moments = unsafe {
                    let mut acc = [S::zero(); 4];
                    for image in images.clone() {
                        let x = &x[shape.at(image, k, part.start)..][..part.len()];
                        each_vector!(S, x.len(), |i, n, j| {
                            let v = load::<S>(x.as_ptr().add(i), n);
                            acc[j] = add_first::<S>(acc[j], v, n);
                        });
                    }
                    let mean = fold::<S>(acc) / T::from_f64(count as f64);
                    let m = S::splat(mean);
                    let (mut sum, mut squares) = ([S::zero(); 4], [S::zero(); 4]);
                    for image in images {
                        let x = &x[shape.at(image, k, part.start)..][..part.len()];
                        each_vector!(S, x.len(), |i, n, j| {
                            let d = S::sub(load::<S>(x.as_ptr().add(i), n), m);
                            let d = first::<S>(d, n);
                            sum[j] = S::add(sum[j], d);
                            squares[j] = S::fma(d, d, squares[j]);
                        });
                    }
                    let (d, d2) = (fold::<S>(sum), fold::<S>(squares));
                    Moments::new(count, mean.to_f64(), d.to_f64(), d2.to_f64())
                };
                all = all.merge(moments);
            }
            all.finish(&mut mean[k - first_channel], &mut var[k - first_channel]);
        }
    }
}

/// Moments of columns `k .. k + lanes` of an `(n, c)` matrix, one per lane.
/// # Safety
/// S is enabled.
#[inline(always)]
unsafe fn column_moments<S: Simd>(
    shape: Shape,
    x: &[S::T],
    k: usize,
    lanes: usize,
) -> [Moments; 16] {
    let mut all = [Moments::NONE; 16];
    for start in (0..shape.n).step_by(ROWS) {
        if abandoned((ROWS * lanes) as f64) {
            break;
        }
        let rows = start..(start + ROWS).min(shape.n);
        let count = rows.len();
        // SAFETY: S is enabled; each vector lies inside its row.
        unsafe {
            let mut acc = S::zero();
            for r in rows.clone() {
                acc = S::add(
                    acc,
                    load::<S>(x[r * shape.c + k..][..lanes].as_ptr(), lanes),
                );
            }
            let mean = S::div(acc, S::c(count as f64));
            let (mut sum, mut squares) = (S::zero(), S::zero());
            for r in rows {
                let v = load::<S>(x[r * shape.c + k..][..lanes].as_ptr(), lanes);
                let d = S::sub(v, mean);
                sum = S::add(sum, d);
                squares = S::fma(d, d, squares);
            }
            let (mean, sum, squares) = (S::to_array(mean), S::to_array(sum), S::to_array(squares));
            for l in 0..lanes {
                let m = Moments::new(
                    count,
                    mean[l].to_f64(),
                    sum[l].to_f64(),
                    squares[l].to_f64(),
                );
                all[l] = all[l].merge(m);
            }
        }
    }
    all
}

/// Mean and biased variance per channel (Welford chunks / centred, combined in fixed order); NaN for empty channels.
pub fn batch_norm_stats<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    mean: &mut [T],
    var: &mut [T],
) {
    let shape = Shape { n, c, s };
    assert_eq!((x.len(), mean.len(), var.len()), (shape.len(), c, c));
    if x.is_empty() {
        mean.fill(T::NAN);
        return var.fill(T::NAN);
    }
    let isa = simd::isa();
    let (mean, var) = (SharedMut(mean.as_mut_ptr()), SharedMut(var.as_mut_ptr()));
    shape.over_channels::<T>(1, |channels| {
        let (at, len) = (channels.start, channels.len());
        // SAFETY: runs of channels are disjoint parts of mean and var, which we hold exclusively.
        let (mean, var) = unsafe { (mean.slice(at, len), var.slice(at, len)) };
        dispatch_on(
            isa,
            Stats {
                shape,
                channels,
                x,
                mean,
                var,
            },
        );
    });
}

/// Per-channel operands of the normalisation.
#[derive(Clone, Copy)]
struct Affine<'a, T> {
    mean: &'a [T],
    rstd: &'a [T],
    gamma: Option<&'a [T]>,
    beta: Option<&'a [T]>,
}

struct Apply<'a, T> {
    shape: Shape,
    /// First plane of x and y (a row when `s == 1`).
    plane: usize,
    a: Affine<'a, T>,
    x: &'a [T],
    y: &'a mut [T],
    /// Write past the caches; then every plane of y begins where a vector may.
    past: bool,
}
impl<T: Real> Kernel<T> for Apply<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Apply {
            shape,
            plane,
            a,
            x,
            y,
            past,
        } = self;
        if shape.s == 1 {
            for (x, y) in x.chunks_exact(shape.c).zip(y.chunks_exact_mut(shape.c)) {
                // SAFETY: run by dispatch; all operands have c elements.
                unsafe {
                    each_vector!(S, shape.c, |i, n, _k| {
                        let d = S::sub(
                            load::<S>(x.as_ptr().add(i), n),
                            load::<S>(a.mean.as_ptr().add(i), n),
                        );
                        let mut scale = load::<S>(a.rstd.as_ptr().add(i), n);
                        if let Some(g) = a.gamma {
                            scale = S::mul(scale, load::<S>(g.as_ptr().add(i), n));
                        }
                        let shift = match a.beta {
                            Some(b) => load::<S>(b.as_ptr().add(i), n),
                            None => S::zero(),
                        };
                        store::<S>(y.as_mut_ptr().add(i), S::fma(d, scale, shift), n);
                    });
                }
            }
            return;
        }
        let planes = x.chunks_exact(shape.s).zip(y.chunks_exact_mut(shape.s));
        for (p, (x, y)) in planes.enumerate() {
            let k = (plane + p) % shape.c;
            let scale = a.rstd[k] * a.gamma.map_or(T::ONE, |g| g[k]);
            let shift = a.beta.map_or(T::ZERO, |b| b[k]);
            // SAFETY: run by dispatch; x and y are planes of s elements.
            unsafe {
                let (mean, scale, shift) = (S::splat(a.mean[k]), S::splat(scale), S::splat(shift));
                each_vector!(S, shape.s, |i, n, _k| {
                    let d = S::sub(load::<S>(x.as_ptr().add(i), n), mean);
                    put::<S>(past, y.as_mut_ptr().add(i), S::fma(d, scale, shift), n);
                });
            }
        }
        if past {
            // SAFETY: run by dispatch.
            unsafe { S::fence() };
        }
    }
}

/// `y = (x - mean) * rstd * gamma + beta` per channel.
pub fn batch_norm_apply<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    y: &mut [T],
) {
    let shape = Shape { n, c, s };
    assert_eq!((x.len(), y.len()), (shape.len(), shape.len()));
    assert_eq!((mean.len(), rstd.len()), (c, c));
    assert!(gamma.is_none_or(|g| g.len() == c) && beta.is_none_or(|b| b.len() == c));
    if x.is_empty() {
        return;
    }
    let isa = simd::isa();
    let a = Affine {
        mean,
        rstd,
        gamma,
        beta,
    };
    let unit = if s == 1 { c } else { s };
    let past = s > 1 && stream::pays_rows(2 * size_of_val(y), y.as_ptr(), s);
    let shared = SharedMut(y.as_mut_ptr());
    let cost = Cost {
        flops: 3.0 * x.len() as f64,
        bytes: (2 * size_of_val(x)) as f64,
    };
    for_each_chunk(x.len() / unit, (16_384 / unit).max(1), cost, &|r| {
        let (at, len) = (r.start * unit, r.len() * unit);
        // SAFETY: runs of planes are disjoint parts of y, which we hold exclusively.
        let y = unsafe { shared.slice(at, len) };
        let x = &x[at..at + len];
        dispatch_on(
            isa,
            Apply {
                shape,
                plane: r.start,
                a,
                x,
                y,
                past,
            },
        );
    });
}

struct Backward<'a, T> {
    shape: Shape,
    channels: Range<usize>,
    a: Affine<'a, T>,
    batch_stats: bool,
    x: &'a [T],
    dy: &'a [T],
    /// Write dx past the caches; then every plane of it begins where a vector may.
    past: bool,
    /// Null where not asked for.
    dx: SharedMut<T>,
    dgamma: SharedMut<T>,
    dbeta: SharedMut<T>,
}

impl<T: Real> Backward<'_, T> {
    /// Stores the parameters' gradients of channel `k` from `sum(dy)` and `sum(dy (x - mean))`, and gives the
    /// coefficients of `dx = p dy + q (x - mean) + r`.
    #[inline(always)]
    fn channel(&self, k: usize, sum: f64, dot: f64) -> [T; 3] {
        let rstd = self.a.rstd[k].to_f64();
        let dgamma = dot * rstd;
        if !self.dgamma.0.is_null() {
            // SAFETY: k < c, and channel k belongs to this tile alone.
            unsafe { self.dgamma.slice(k, 1)[0] = T::from_f64(dgamma) };
        }
        if !self.dbeta.0.is_null() {
            // SAFETY: as above.
            unsafe { self.dbeta.slice(k, 1)[0] = T::from_f64(sum) };
        }
        let p = rstd * self.a.gamma.map_or(1.0, |g| g[k].to_f64());
        let count = self.shape.count();
        let (q, r) = if self.batch_stats {
            (-p * rstd * dgamma / count, -p * sum / count)
        } else {
            (0.0, 0.0)
        };
        [p, q, r].map(T::from_f64)
    }

    /// Lanes along a plane.
    /// # Safety
    /// S is enabled.
    #[inline(always)]
    unsafe fn planes<S: Simd<T = T>>(&self) {
        let Backward { shape, x, dy, .. } = *self;
        for k in self.channels.clone() {
            let (mut sum, mut dot) = (0.0, 0.0);
            for (images, part) in shape.chunks() {
                if abandoned(CHUNK as f64) {
                    return;
                }
                // SAFETY: S is enabled; every run is a slice.
                unsafe {
                    let mean = S::splat(self.a.mean[k]);
                    let (mut sums, mut dots) = ([S::zero(); 4], [S::zero(); 4]);
                    for image in images {
                        let at = shape.at(image, k, part.start);
                        let (x, dy) = (&x[at..][..part.len()], &dy[at..][..part.len()]);
                        each_vector!(S, x.len(), |i, n, j| {
                            let d = S::sub(load::<S>(x.as_ptr().add(i), n), mean);
                            // 0 beyond the end, where d is -mean; 0 * inf must not come in.
                            let d = first::<S>(d, n);
                            let g = load::<S>(dy.as_ptr().add(i), n);
                            sums[j] = S::add(sums[j], g);
                            dots[j] = S::fma(g, d, dots[j]);
                        });
                    }
                    sum += fold::<S>(sums).to_f64();
                    dot += fold::<S>(dots).to_f64();
                }
            }
            let [p, q, r] = self.channel(k, sum, dot);
            if self.dx.0.is_null() {
                continue;
            }
            for image in 0..shape.n {
                if abandoned(shape.s as f64) {
                    return;
                }
                let at = shape.at(image, k, 0);
                // SAFETY: S is enabled; plane (image, k) of dx belongs to this tile alone.
                unsafe {
                    let (x, dy) = (&x[at..][..shape.s], &dy[at..][..shape.s]);
                    let dx = self.dx.slice(at, shape.s);
                    let (p, q, r) = (S::splat(p), S::splat(q), S::splat(r));
                    let mean = S::splat(self.a.mean[k]);
                    each_vector!(S, shape.s, |i, n, _j| {
                        let mut g = S::mul(p, load::<S>(dy.as_ptr().add(i), n));
                        if self.batch_stats {
                            let d = S::sub(load::<S>(x.as_ptr().add(i), n), mean);
                            g = S::fma(q, d, S::add(g, r));
                        }
                        put::<S>(self.past, dx.as_mut_ptr().add(i), g, n);
                    });
                }
            }
        }
        if self.past {
            // SAFETY: S is enabled.
            unsafe { S::fence() };
        }
    }

    /// Lanes along the channels of an `(n, c)` matrix.
    /// # Safety
    /// S is enabled.
    #[inline(always)]
    unsafe fn columns<S: Simd<T = T>>(&self) {
        let Backward {
            shape: Shape { n: rows, c, .. },
            x,
            dy,
            ..
        } = *self;
        let mut k = self.channels.start;
        while k < self.channels.end {
            let lanes = (self.channels.end - k).min(S::LANES);
            let (mut sum, mut dot) = ([0.0; 16], [0.0; 16]);
            let mut coefficients = [[T::ZERO; 16]; 3];
            // SAFETY: S is enabled; each vector lies inside its row.
            unsafe {
                let mean = load::<S>(self.a.mean[k..][..lanes].as_ptr(), lanes);
                for start in (0..rows).step_by(ROWS) {
                    if abandoned((ROWS * lanes) as f64) {
                        return;
                    }
                    let (mut sums, mut dots) = (S::zero(), S::zero());
                    for r in start..(start + ROWS).min(rows) {
                        let v = load::<S>(x[r * c + k..][..lanes].as_ptr(), lanes);
                        let g = load::<S>(dy[r * c + k..][..lanes].as_ptr(), lanes);
                        sums = S::add(sums, g);
                        dots = S::fma(g, S::sub(v, mean), dots);
                    }
                    let (sums, dots) = (S::to_array(sums), S::to_array(dots));
                    for l in 0..lanes {
                        sum[l] += sums[l].to_f64();
                        dot[l] += dots[l].to_f64();
                    }
                }
                for l in 0..lanes {
                    let of_channel = self.channel(k + l, sum[l], dot[l]);
                    for (all, one) in coefficients.iter_mut().zip(of_channel) {
                        all[l] = one;
                    }
                }
                if !self.dx.0.is_null() {
                    let [p, q, r] = [0, 1, 2].map(|i| S::load(coefficients[i].as_ptr()));
                    for row in 0..rows {
                        if row % ROWS == 0 && abandoned((ROWS * lanes) as f64) {
                            return;
                        }
                        let at = row * c + k;
                        let mut g = S::mul(p, load::<S>(dy[at..][..lanes].as_ptr(), lanes));
                        if self.batch_stats {
                            let v = load::<S>(x[at..][..lanes].as_ptr(), lanes);
                            g = S::fma(q, S::sub(v, mean), S::add(g, r));
                        }
                        // These columns belong to this tile alone.
                        store::<S>(self.dx.slice(at, lanes).as_mut_ptr(), g, lanes);
                    }
                }
            }
            k += lanes;
        }
    }
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: run by dispatch.
        unsafe {
            if self.shape.s == 1 {
                self.columns::<S>();
            } else {
                self.planes::<S>();
            }
        }
    }
}

/// Gradients. `batch_stats`: mean and rstd were computed from `x` (training); otherwise they are constants.
///
/// With `xh = (x - mean) rstd`: `dbeta = sum(dy)`, `dgamma = sum(dy xh)`,
/// `dx = gamma rstd (dy - (dbeta + xh dgamma) / count)`, without the parenthesis for constants.
pub fn batch_norm_backward<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    dy: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    batch_stats: bool,
    dx: Option<&mut [T]>,
    dgamma: Option<&mut [T]>,
    dbeta: Option<&mut [T]>,
) {
    let shape = Shape { n, c, s };
    assert_eq!((x.len(), dy.len()), (shape.len(), shape.len()));
    assert_eq!((mean.len(), rstd.len()), (c, c));
    assert!(gamma.is_none_or(|g| g.len() == c));
    assert!(dx.as_ref().is_none_or(|d| d.len() == shape.len()));
    assert!(dgamma.as_ref().is_none_or(|d| d.len() == c));
    assert!(dbeta.as_ref().is_none_or(|d| d.len() == c));
    if x.is_empty() {
        // Sums of nothing.
        for d in [dgamma, dbeta].into_iter().flatten() {
            d.fill(T::ZERO);
        }
        return;
    }
    let pointer =
        |d: Option<&mut [T]>| SharedMut(d.map_or(core::ptr::null_mut(), |d| d.as_mut_ptr()));
    let a = Affine {
        mean,
        rstd,
        gamma,
        beta: None,
    };
    let isa = simd::isa();
    let past = (dx.as_ref())
        .is_some_and(|d| s > 1 && stream::pays_rows(3 * size_of_val(*d), d.as_ptr(), s));
    let (dx, dgamma, dbeta) = (pointer(dx), pointer(dgamma), pointer(dbeta));
    shape.over_channels::<T>(3, |channels| {
        dispatch_on(
            isa,
            Backward {
                shape,
                channels,
                a,
                batch_stats,
                x,
                dy,
                past,
                dx,
                dgamma,
                dbeta,
            },
        );
    });
}

#[cfg(test)]
mod tests;
