//! The weight gradient of a depthwise convolution.
use super::direct::DirectDw;
use super::{COPY_BYTES, Conv2d, LANES, Planes, Reads, for_each_run};
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::parallel::SharedMut;
use crate::simd::{self, Kernel, Simd, dispatch_on};

/// Gradients of weight and bias: per plane, then added up over the images in order.
pub(in crate::conv) fn dw<T: Real>(
    p: &Conv2d,
    x: &[T],
    dy: &[T],
    mut dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
) {
    let (isa, g) = (simd::isa(), Reads::forward(p));
    let (area, per) = (p.kernel[0] * p.kernel[1], p.o / p.groups);
    let (source, pixels) = (p.h * p.w, p.oh * p.ow);
    if p.y_len() == 0 {
        for d in [dw.map(|d| &mut d[..p.w_len()]), db.map(|d| &mut d[..p.o])] {
            d.into_iter().for_each(|d| d.fill(T::ZERO));
        }
        return;
    }
    let strip = g.strip(COPY_BYTES);
    let direct = g.is_square(1);
    let wanted = [dw.is_some(), db.is_some()];
    // Per output plane: the taps' sums, then the bias's.
    let ld = area + 1;
    let partial = Buffer::<T>::new(p.n * p.o * ld);
    let shared = SharedMut(partial.ptr());
    for_each_run::<T>(p, &|run| {
        let planes = (!direct).then(|| Planes::new(isa, g, strip));
        let mut sums = vec![T::ZERO; per * area * LANES];
        run.for_each(|plane| {
            let first = plane * per;
            // SAFETY: the sums of a task's planes belong to it alone until all are done.
            let out = unsafe { shared.slice(first * ld, per * ld) };
            out.fill(T::ZERO);
            sums.fill(T::ZERO);
            if let (true, Some(planes)) = (wanted[0], &planes) {
                planes.strips(&x[plane * source..][..source], |i0, rows, copy| {
                    for k in 0..per {
                        let inner = Inner {
                            reads: &g,
                            rows,
                            taps: &planes.taps,
                            copy,
                            dy: &dy[(first + k) * pixels + i0 * p.ow..][..rows * p.ow],
                            sums: &mut sums[k * area * LANES..][..area * LANES],
                        };
                        dispatch_on(isa, inner);
                    }
                });
            } else if wanted[0] {
                for k in 0..per {
                    let x = &x[plane * source..][..source];
                    let dy = &dy[(first + k) * pixels..][..pixels];
                    let sums = &mut sums[k * area * LANES..][..area * LANES];
                    DirectDw::new(&g, x, dy, sums).run(isa);
                }
            }
            for k in 0..per {
                let out = &mut out[k * ld..][..ld];
                for (out, lanes) in out
                    .iter_mut()
                    .zip(sums[k * area * LANES..].chunks(LANES))
                    .take(area)
                {
                    *out = lanes.iter().fold(T::ZERO, |a, b| a + *b);
                }
                if wanted[1] {
                    out[area] = dispatch_on(isa, Total(&dy[(first + k) * pixels..][..pixels]));
                }
            }
        });
    });
    // SAFETY: all tasks are done.
    let partial = unsafe { &*shared.slice(0, p.n * p.o * ld) };
    for o in 0..p.o {
        let each = || (0..p.n).map(|image| &partial[(image * p.o + o) * ld..][..ld]);
        if let Some(dw) = &mut dw {
            for (t, d) in dw[o * area..][..area].iter_mut().enumerate() {
                *d = each().fold(T::ZERO, |sum, part| sum + part[t]);
            }
        }
        if let Some(db) = &mut db {
            db[o] = each().fold(T::ZERO, |sum, part| sum + part[area]);
        }
    }
}

/// The sum of a plane.
struct Total<'a, T>(&'a [T]);

impl<T: Real> Kernel<T> for Total<'_, T> {
    type Out = T;
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> T {
        // SAFETY: run by dispatch; loads stay inside the slice.
        unsafe {
            let mut acc = [S::zero(); 4];
            let mut chunks = self.0.chunks_exact(4 * S::LANES);
            for c in &mut chunks {
                for v in 0..4 {
                    acc[v] = S::add(acc[v], S::load(c.as_ptr().add(v * S::LANES)));
                }
            }
            for (v, c) in chunks.remainder().chunks(S::LANES).enumerate() {
                acc[v] = S::add(acc[v], S::load_n(c.as_ptr(), c.len()));
            }
            let sum = S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3]));
            S::reduce_add(sum)
        }
    }
}

/// Sums over a strip of `dy * copy` for up to `NT` taps, added to `sums` (one vector per tap, spread over 16 lanes).
struct Inner<'a, T> {
    reads: &'a Reads,
    rows: usize,
    taps: &'a [usize],
    copy: *const T,
    dy: &'a [T],
    sums: &'a mut [T],
}

impl<T: Real> Inner<'_, T> {
    #[inline(always)]
    unsafe fn block<S: Simd<T = T>, const NT: usize>(&mut self, first: usize) {
        // SAFETY: the caller's promise: NT taps from `first` on, all of whose rows lie inside the copy.
        unsafe {
            let g = self.reads;
            let mut taps = [0; NT];
            taps.copy_from_slice(&self.taps[first..first + NT]);
            let mut acc = [S::zero(); NT];
            for i in 0..self.rows {
                let dy = &self.dy[i * g.out[1]..][..g.out[1]];
                let row = self.copy.add(i * g.step[0] * g.row());
                let whole = dy.len() / S::LANES * S::LANES;
                for j in (0..whole).step_by(S::LANES) {
                    let d = S::load(dy.as_ptr().add(j));
                    for t in 0..NT {
                        acc[t] = S::fma(d, S::load(row.add(taps[t] + j)), acc[t]);
                    }
                }
                if whole < dy.len() {
                    let n = dy.len() - whole;
                    let d = S::load_n(dy.as_ptr().add(whole), n);
                    for t in 0..NT {
                        // No more than the row: what lies behind it may be infinite, and 0 * inf is not 0.
                        let x = S::load_n(row.add(taps[t] + whole), n);
                        acc[t] = S::fma(d, x, acc[t]);
                    }
                }
            }
            for t in 0..NT {
                let sums = self.sums[(first + t) * LANES..][..S::LANES].as_mut_ptr();
                S::store(sums, S::add(S::load(sums), acc[t]));
            }
        }
    }
}

impl<T: Real> Kernel<T> for Inner<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(mut self) {
        let count = self.taps.len();
        let mut t = 0;
        while t < count {
            // SAFETY: blocks of taps that are there.
            unsafe {
                match count - t {
                    9.. => {
                        self.block::<S, 9>(t);
                        t += 9;
                    }
                    5..9 => {
                        self.block::<S, 5>(t);
                        t += 5;
                    }
                    3..5 => {
                        self.block::<S, 3>(t);
                        t += 3;
                    }
                    _ => {
                        self.block::<S, 1>(t);
                        t += 1;
                    }
                }
            }
        }
    }
}
