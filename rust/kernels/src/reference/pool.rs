//! Naive twins of [`crate::pool`].
use crate::element::Real;
pub use crate::pool::{Pool2d, Tap};

/// Position in the plane that tap `t` of output (i, j) reads; `None` in the padding.
fn position(p: &Pool2d, i: usize, j: usize, t: usize) -> Option<usize> {
    let (kh, kw) = (t / p.kernel[1], t % p.kernel[1]);
    let y = (i * p.stride[0] + kh * p.dilation[0]).checked_sub(p.pad[0])?;
    let x = (j * p.stride[1] + kw * p.dilation[1]).checked_sub(p.pad[1])?;
    (y < p.h && x < p.w).then_some(y * p.w + x)
}

/// Calls `f(plane offset in x, output index, i, j)` for every output.
fn outputs(p: &Pool2d, mut f: impl FnMut(usize, usize, usize, usize)) {
    for plane in 0..p.planes {
        for i in 0..p.oh {
            for j in 0..p.ow {
                f(plane * p.h * p.w, (plane * p.oh + i) * p.ow + j, i, j);
            }
        }
    }
}

/// Twin of [`crate::pool::max_pool2d`].
pub fn max_pool2d<T: Real, I: Tap>(p: &Pool2d, x: &[T], y: &mut [T], tap: &mut [I]) {
    outputs(p, |plane, o, i, j| {
        let mut best: Option<(f64, usize)> = None;
        for t in 0..p.kernel[0] * p.kernel[1] {
            if let Some(at) = position(p, i, j, t) {
                let v = x[plane + at].to_f64();
                let wins = match best {
                    None => true,
                    Some((b, _)) => v > b || (v.is_nan() && !b.is_nan()),
                };
                if wins {
                    best = Some((v, t));
                }
            }
        }
        let (v, t) = best.unwrap_or((f64::NEG_INFINITY, 0));
        y[o] = T::from_f64(v);
        tap[o] = I::from_usize(t);
    });
}

/// Twin of [`crate::pool::max_pool2d_backward`].
pub fn max_pool2d_backward<T: Real, I: Tap>(p: &Pool2d, tap: &[I], dy: &[T], dx: &mut [T]) {
    let mut sum = vec![0.0; dx.len()];
    outputs(p, |plane, o, i, j| {
        if let Some(at) = position(p, i, j, tap[o].to_usize()) {
            sum[plane + at] += dy[o].to_f64();
        }
    });
    for (d, s) in dx.iter_mut().zip(sum) {
        *d = T::from_f64(s);
    }
}

/// Twin of [`crate::pool::max_pool2d_gather`].
pub fn max_pool2d_gather<T: Real, I: Tap>(p: &Pool2d, tap: &[I], x: &[T], y: &mut [T]) {
    outputs(p, |plane, o, i, j| {
        y[o] = position(p, i, j, tap[o].to_usize()).map_or(T::ZERO, |at| x[plane + at]);
    });
}

/// The positions that output (i, j) averages, and what their sum is divided by.
fn average(p: &Pool2d, count_include_pad: bool, i: usize, j: usize) -> (Vec<usize>, f64) {
    let taps = 0..p.kernel[0] * p.kernel[1];
    let inside: Vec<usize> = taps.clone().filter_map(|t| position(p, i, j, t)).collect();
    let count = if count_include_pad {
        // What rounding up the number of windows adds beyond the padding does not count.
        taps.filter(|t| {
            let (kh, kw) = (t / p.kernel[1], t % p.kernel[1]);
            i * p.stride[0] + kh * p.dilation[0] < p.h + 2 * p.pad[0]
                && j * p.stride[1] + kw * p.dilation[1] < p.w + 2 * p.pad[1]
        })
        .count()
    } else {
        inside.len()
    };
    // A window wholly in the padding averages nothing: 0.
    (inside, count.max(1) as f64)
}

/// Twin of [`crate::pool::avg_pool2d`].
pub fn avg_pool2d<T: Real>(p: &Pool2d, count_include_pad: bool, x: &[T], y: &mut [T]) {
    outputs(p, |plane, o, i, j| {
        let (inside, count) = average(p, count_include_pad, i, j);
        let sum: f64 = inside.iter().map(|at| x[plane + at].to_f64()).sum();
        y[o] = T::from_f64(sum / count);
    });
}

/// Twin of [`crate::pool::avg_pool2d_backward`].
pub fn avg_pool2d_backward<T: Real>(p: &Pool2d, count_include_pad: bool, dy: &[T], dx: &mut [T]) {
    let mut sum = vec![0.0; dx.len()];
    outputs(p, |plane, o, i, j| {
        let (inside, count) = average(p, count_include_pad, i, j);
        for at in inside {
            sum[plane + at] += dy[o].to_f64() / count;
        }
    });
    for (d, s) in dx.iter_mut().zip(sum) {
        *d = T::from_f64(s);
    }
}

/// Calls `f(output index, input index, cells in the window)` for every pair that belongs together.
fn adaptive(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    mut f: impl FnMut(usize, usize, f64),
) {
    let window = |i: usize, len: usize, out: usize| i * len / out..((i + 1) * len).div_ceil(out);
    for plane in 0..planes {
        for i in 0..oh {
            for j in 0..ow {
                let (ys, xs) = (window(i, h, oh), window(j, w, ow));
                let count = (ys.len() * xs.len()) as f64;
                for y in ys {
                    for x in xs.clone() {
                        f((plane * oh + i) * ow + j, (plane * h + y) * w + x, count);
                    }
                }
            }
        }
    }
}

/// Twin of [`crate::pool::adaptive_avg_pool2d`].
pub fn adaptive_avg_pool2d<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    x: &[T],
    y: &mut [T],
) {
    let mut mean = vec![0.0; y.len()];
    adaptive(planes, h, w, oh, ow, |o, i, count| {
        mean[o] += x[i].to_f64() / count;
    });
    for (y, m) in y.iter_mut().zip(mean) {
        *y = T::from_f64(m);
    }
}

/// Twin of [`crate::pool::adaptive_avg_pool2d_backward`].
pub fn adaptive_avg_pool2d_backward<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    dy: &[T],
    dx: &mut [T],
) {
    let mut sum = vec![0.0; dx.len()];
    adaptive(planes, h, w, oh, ow, |o, i, count| {
        sum[i] += dy[o].to_f64() / count;
    });
    for (d, s) in dx.iter_mut().zip(sum) {
        *d = T::from_f64(s);
    }
}
