//! Average pooling.
use super::*;

struct Avg2x2<'a, T>(&'a Pool2d, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Avg2x2<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Avg2x2(p, x, y) = self;
        for (row, y) in y.chunks_exact_mut(p.ow).enumerate() {
            if abandoned(4.0 * p.ow as f64) {
                return;
            }
            let x = &x[(row / p.oh * p.h + row % p.oh * 2) * p.w..][..2 * p.w];
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                // SAFETY: run by dispatch; 2 (j + n) <= 2 ow <= w columns of two rows, j + n <= ow outputs.
                unsafe {
                    let (a, b) = load_pairs::<S>(x.as_ptr().add(2 * j), n);
                    let (c, d) = load_pairs::<S>(x.as_ptr().add(p.w + 2 * j), n);
                    let sum = S::add(S::add(S::add(a, b), c), d);
                    S::store_n(y.as_mut_ptr().add(j), S::mul(sum, S::c(0.25)), n);
                }
                j += S::LANES;
            }
        }
    }
}

struct Avg2x2Backward<'a, T>(&'a Pool2d, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Avg2x2Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Avg2x2Backward(p, dy, dx) = self;
        for (k, dx) in dx.chunks_exact_mut(p.h * p.w).enumerate() {
            zero_rest(p, dx);
            for i in 0..p.oh {
                if abandoned(4.0 * p.ow as f64) {
                    return;
                }
                let dy = &dy[(k * p.oh + i) * p.ow..][..p.ow];
                let mut j = 0;
                while j < p.ow {
                    let n = (p.ow - j).min(S::LANES);
                    // SAFETY: run by dispatch; n outputs from j, 2 n columns of rows 2 i and 2 i + 1.
                    unsafe {
                        let d = S::mul(S::load_n(dy.as_ptr().add(j), n), S::c(0.25));
                        let at = dx.as_mut_ptr().add(2 * (i * p.w + j));
                        store_pairs::<S>(false, at, n, d, d);
                        store_pairs::<S>(false, at.add(p.w), n, d, d);
                    }
                    j += S::LANES;
                }
            }
        }
    }
}

/// What the sum over the window of output column `j` is divided by: the taps in it, in a row of windows that has
/// `rows` rows of them; with or without those in the padding. 1 for a window wholly in the padding.
#[inline(always)]
fn divisor<T: Real>(columns: &Columns, count_include_pad: bool, rows: usize, j: usize) -> T {
    let taps = if count_include_pad {
        columns.padded[j]
    } else {
        columns.taps[j].1
    };
    T::from_f64((rows * taps).max(1) as f64)
}

struct Avg<'a, T>(&'a Pool2d, &'a Columns, bool, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Avg<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Avg(p, columns, count_include_pad, x, y) = self;
        for (row, y) in y.chunks_exact_mut(p.ow).enumerate() {
            if abandoned(4.0 * p.ow as f64) {
                return;
            }
            let (plane, i) = (row / p.oh, row % p.oh);
            let x = &x[plane * p.h * p.w..][..p.h * p.w];
            let (first, count) = p.taps(0, i);
            let rows = if count_include_pad {
                p.padded_taps(0, i)
            } else {
                count
            };
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                let mut by = [T::ONE; 16];
                for (l, by) in by[..n].iter_mut().enumerate() {
                    *by = divisor::<T>(columns, count_include_pad, rows, j + l);
                }
                // SAFETY: run by dispatch; rows first .. first + count lie in the plane, j + n <= ow outputs.
                unsafe {
                    let mut sum = S::zero();
                    for kh in first..first + count {
                        if abandoned((8 * n * p.kernel[1]) as f64) {
                            return;
                        }
                        let at = i * p.stride[0] + kh * p.dilation[0] - p.pad[0];
                        let line = x[at * p.w..][..p.w].as_ptr();
                        for kw in 0..p.kernel[1] {
                            let js = &columns.inside[kw];
                            sum = S::add(sum, tap_lanes::<S>(p, line, kw, js, j, n, T::ZERO));
                        }
                    }
                    let mean = S::div(sum, S::load(by.as_ptr()));
                    S::store_n(y.as_mut_ptr().add(j), mean, n);
                }
                j += S::LANES;
            }
        }
    }
}

struct AvgBackward<'a, T>(&'a Pool2d, &'a Columns, bool, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for AvgBackward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let AvgBackward(p, columns, count_include_pad, dy, dx) = self;
        let mut g = collect((0..p.ow).map(|_| T::ZERO));
        fill(dx, T::ZERO);
        for (row, dy) in dy.chunks_exact(p.ow).enumerate() {
            let (plane, i) = (row / p.oh, row % p.oh);
            let dx = &mut dx[plane * p.h * p.w..][..p.h * p.w];
            let (first, count) = p.taps(0, i);
            let rows = if count_include_pad {
                p.padded_taps(0, i)
            } else {
                count
            };
            for j in 0..p.ow {
                g[j] = dy[j] / divisor::<T>(columns, count_include_pad, rows, j);
            }
            for kh in first..first + count {
                if abandoned((p.ow * p.kernel[1]) as f64) {
                    return;
                }
                let at = i * p.stride[0] + kh * p.dilation[0] - p.pad[0];
                let line = &mut dx[at * p.w..][..p.w];
                for kw in 0..p.kernel[1] {
                    let js = columns.inside[kw].clone();
                    if js.is_empty() {
                        continue;
                    }
                    let s = p.stride[1];
                    let line = &mut line[js.start * s + kw * p.dilation[1] - p.pad[1]..];
                    let g = &g[js];
                    if s == 1 {
                        for (d, g) in line.iter_mut().zip(g) {
                            *d += *g;
                        }
                    } else {
                        for (d, g) in line.iter_mut().step_by(s).zip(g) {
                            *d += *g;
                        }
                    }
                }
            }
        }
    }
}

/// Mean over the window; divides by the number of real elements or, with `count_include_pad`, by that of all elements
/// in the padded input: the kernel area, except in a last window that reaches beyond the padding.
/// A window wholly in the padding gives 0.
pub fn avg_pool2d<T: Real>(p: &Pool2d, count_include_pad: bool, x: &[T], y: &mut [T]) {
    p.check(x.len(), y.len());
    if y.is_empty() {
        return;
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(y.as_mut_ptr());
    let columns = Columns::new(p);
    over_planes::<T>(p.planes, ins, outs, |r| {
        let x = &x[r.start * ins..r.end * ins];
        // SAFETY: runs of planes are disjoint parts of y, which we hold exclusively.
        let y = unsafe { shared.slice(r.start * outs, r.len() * outs) };
        if p.is_2x2() {
            dispatch_on(isa, Avg2x2(p, x, y));
        } else {
            dispatch_on(isa, Avg(p, &columns, count_include_pad, x, y));
        }
    });
}

/// Its transpose; overwrites `dx`.
pub fn avg_pool2d_backward<T: Real>(p: &Pool2d, count_include_pad: bool, dy: &[T], dx: &mut [T]) {
    p.check(dx.len(), dy.len());
    if dy.is_empty() {
        return dx.fill(T::ZERO);
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(dx.as_mut_ptr());
    let columns = Columns::new(p);
    over_planes::<T>(p.planes, ins, outs, |r| {
        let dy = &dy[r.start * outs..r.end * outs];
        // SAFETY: runs of planes are disjoint parts of dx, which we hold exclusively.
        let dx = unsafe { shared.slice(r.start * ins, r.len() * ins) };
        if p.is_2x2() {
            dispatch_on(isa, Avg2x2Backward(p, dy, dx));
        } else {
            dispatch_on(isa, AvgBackward(p, &columns, count_include_pad, dy, dx));
        }
    });
}
