//! Adaptive average pooling.
use super::*;

/// Input cells that output cell `i` of `out` averages along an axis of `len`.
#[inline(always)]
fn adaptive_window(i: usize, len: usize, out: usize) -> Range<usize> {
    i * len / out..((i + 1) * len).div_ceil(out)
}

/// Sum of a slice in 16 lanes, the lanes added pairwise; runs of 4096 added in order.
#[inline(always)]
fn sum<T: Real>(x: &[T]) -> T {
    let mut total = T::ZERO;
    for run in x.chunks(4096) {
        if abandoned(run.len() as f64) {
            break;
        }
        let mut lanes = [T::ZERO; 16];
        for c in run.chunks(16) {
            for (l, v) in lanes.iter_mut().zip(c) {
                *l += *v;
            }
        }
        for half in [8, 4, 2, 1] {
            for k in 0..half {
                lanes[k] += lanes[k + half];
            }
        }
        total += lanes[0];
    }
    total
}

struct Adaptive<'a, T>([usize; 4], &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Adaptive<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Adaptive([h, w, oh, ow], x, y) = self;
        for (x, y) in x.chunks_exact(h * w).zip(y.chunks_exact_mut(oh * ow)) {
            for i in 0..oh {
                let ys = adaptive_window(i, h, oh);
                for j in 0..ow {
                    let xs = adaptive_window(j, w, ow);
                    let total = if xs.len() == w {
                        sum(&x[ys.start * w..ys.end * w])
                    } else {
                        let mut t = T::ZERO;
                        for r in ys.clone() {
                            t += sum(&x[r * w + xs.start..r * w + xs.end]);
                        }
                        t
                    };
                    y[i * ow + j] = total / T::from_f64((ys.len() * xs.len()) as f64);
                }
            }
        }
    }
}

/// Adaptive average: output cell i averages input `floor(i*H/OH) .. ceil((i+1)*H/OH)`.
pub fn adaptive_avg_pool2d<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    x: &[T],
    y: &mut [T],
) {
    assert_eq!(x.len(), numel(&[planes, h, w]));
    assert_eq!(y.len(), numel(&[planes, oh, ow]));
    if y.is_empty() || x.is_empty() {
        return y.fill(T::ZERO);
    }
    let isa: Isa = simd::isa();
    let shared = SharedMut(y.as_mut_ptr());
    over_planes::<T>(planes, h * w, oh * ow, |r| {
        let x = &x[r.start * h * w..r.end * h * w];
        // SAFETY: runs of planes are disjoint parts of y, which we hold exclusively.
        let y = unsafe { shared.slice(r.start * oh * ow, r.len() * oh * ow) };
        dispatch_on(isa, Adaptive([h, w, oh, ow], x, y));
    });
}

/// Its transpose; overwrites `dx`.
pub fn adaptive_avg_pool2d_backward<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    dy: &[T],
    dx: &mut [T],
) {
    assert_eq!(dx.len(), numel(&[planes, h, w]));
    assert_eq!(dy.len(), numel(&[planes, oh, ow]));
    let shared = SharedMut(dx.as_mut_ptr());
    over_planes::<T>(planes, h * w, oh * ow, |r| {
        for plane in r {
            // SAFETY: planes are disjoint parts of dx, which we hold exclusively.
            let dx = unsafe { shared.slice(plane * h * w, h * w) };
            fill(dx, T::ZERO);
            for i in 0..oh {
                let ys = adaptive_window(i, h, oh);
                for j in 0..ow {
                    let xs = adaptive_window(j, w, ow);
                    let count = T::from_f64((ys.len() * xs.len()) as f64);
                    let g = dy[(plane * oh + i) * ow + j] / count;
                    for r in ys.clone() {
                        if abandoned(xs.len() as f64) {
                            return;
                        }
                        for d in &mut dx[r * w + xs.start..r * w + xs.end] {
                            *d += g;
                        }
                    }
                }
            }
        }
    });
}
