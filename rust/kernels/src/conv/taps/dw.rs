//! The weight's gradient: for each tap a product dy^T (output channels, pixels) times x (pixels, input channels), summed over the
//! pixels that the tap joins.
use super::{Pairs, at_once, by_pixels, each_panel, small, wide, widths};
use crate::alloc;
use crate::conv::Conv2d;
use crate::conv::turn::Turn;
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, strips};
use crate::parallel::{Cost, SharedMut, abandoned, for_each};
use crate::simd::{self, Kernel, Simd, dispatch_on, transpose};
use core::ops::Range;

/// Pixels of a chain, about: whole images, by the geometry alone, since it shows in the bits.
const CHAIN: usize = 512;

/// Channels of either side, at least, and pixels of an image, at most.
const CHANNELS: usize = 192;
const PIXELS: usize = 256;

/// Whether this is the faster way.
pub(in crate::conv) fn fits<T: Real>(p: &Conv2d) -> bool {
    wide::<T>() && small(p, CHANNELS, PIXELS)
}

struct Plan<'a, T> {
    p: &'a Conv2d,
    pairs: Pairs,
    /// Channels per group.
    c: usize,
    o: usize,
    /// Images of a chain.
    batch: usize,
    /// Strips of output channels.
    strips: Vec<(usize, usize)>,
    /// The sums of all images before, (groups, panels, o, taps, nr), unless all are copied at once.
    sums: Option<Buffer<T>>,
    /// (groups, o, c, taps).
    dw: SharedMut<T>,
}

/// Some images.
struct Images<T> {
    all: Range<usize>,
    /// (groups, images, pixels, c).
    x: Buffer<T>,
    /// (groups, strips, images, pixels, channels of the strip).
    dy: Buffer<T>,
}

/// Overwrites `dw`, as [`crate::conv::conv2d_dw`].
pub(in crate::conv) fn dw<T: Real>(p: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let (x_pixels, y_pixels) = (p.h * p.w, p.oh * p.ow);
    let kernels = widths::<T>(simd::isa(), c);
    let batch = (CHAIN / y_pixels).clamp(1, p.n);
    let some = at_once::<T>(p.n, batch, batch * (p.c * x_pixels + p.o * y_pixels));
    let plan = Plan {
        p,
        pairs: Pairs::new(p),
        c,
        o,
        batch,
        strips: alloc::collect(strips(o, kernels.0.mr)),
        sums: (some < p.n).then(|| Buffer::new(p.w_len())),
        dw: SharedMut(dw.as_mut_ptr()),
    };
    for first in (0..p.n).step_by(some) {
        let all = first..(first + some).min(p.n);
        let n = all.len();
        let x = &x[all.start * p.c * x_pixels..all.end * p.c * x_pixels];
        let dy = &dy[all.start * p.o * y_pixels..all.end * p.o * y_pixels];
        let images = Images {
            all,
            x: by_pixels(x, (n, p.groups, c, x_pixels)),
            dy: plan.turn(dy, n),
        };
        let cost = Cost {
            flops: 2.0 * (n * p.groups * plan.pairs.all.len()) as f64 * (c * o) as f64,
            bytes: ((x.len() + dy.len() + p.w_len()) * size_of::<T>()) as f64,
        };
        // Shares of a panel are strips of output channels.
        let most = plan.strips.len();
        each_panel(
            (p.groups, c),
            &kernels,
            most,
            cost,
            |kernels, panel, part| plan.panel(kernels, panel, &images, part.of(plan.strips.len())),
        );
    }
}

impl<T: Real> Plan<'_, T> {
    /// Turns `n` images of dy, strip by strip of its channels.
    fn turn(&self, dy: &[T], n: usize) -> Buffer<T> {
        let (p, pixels) = (self.p, self.p.oh * self.p.ow);
        let turned = Buffer::<T>::new(dy.len());
        let cost = Cost {
            flops: 0.0,
            bytes: (2 * dy.len() * size_of::<T>()) as f64,
        };
        for_each(p.groups * self.strips.len(), cost, &|task| {
            let (group, strip) = (task / self.strips.len(), task % self.strips.len());
            let (o0, height) = self.strips[strip];
            for image in 0..n {
                let from = &dy[((image * p.groups + group) * self.o + o0) * pixels..];
                let to = turned.ptr().wrapping_add(self.strip(n, group, o0));
                let turn = Turn {
                    from: from[..height * pixels].as_ptr(),
                    from_ld: pixels,
                    size: (height, pixels),
                    to: to.wrapping_add(image * pixels * height),
                    to_ld: height,
                    relu: false,
                };
                // This strip of the buffer is this task's alone.
                dispatch_on(simd::isa(), turn);
            }
        });
        turned
    }

    /// Where the strip that begins with channel `o0` lies in a turned dy of `n` images.
    fn strip(&self, n: usize, group: usize, o0: usize) -> usize {
        (group * self.o + o0) * n * self.p.oh * self.p.ow
    }

    /// The sums for a panel of input channels and some strips of output channels. False when the call is being abandoned.
    fn panel(
        &self,
        kernels: &Kernels<T>,
        (group, c0): (usize, usize),
        images: &Images<T>,
        some: Range<usize>,
    ) -> bool {
        let (p, nr, taps) = (self.p, kernels.nr, self.pairs.taps());
        let strips = &self.strips[some];
        let (Some(&(first, _)), Some(&(last, height))) = (strips.first(), strips.last()) else {
            return true;
        };
        let (x_pixels, y_pixels, n) = (p.h * p.w, p.oh * p.ow, images.all.len());
        // What a tap reads of x, (pixels, nr), and where its pixels of dy are.
        let pixels = self.batch * x_pixels.min(y_pixels);
        let (right, places) = (Buffer::<T>::new(pixels * nr), Buffer::<usize>::new(pixels));
        let offsets = Buffer::<usize>::new(pixels);
        let outputs = last + height - first;
        // (outputs, taps, nr).
        let own = if self.sums.is_some() { 0 } else { outputs };
        let own = Buffer::<T>::new(own * taps * nr);
        let sums = match &self.sums {
            Some(all) => {
                let panel = (group * self.c + c0) * self.o * taps;
                all.ptr().wrapping_add(panel + first * taps * nr)
            }
            None => own.ptr(),
        };
        let x = (images.x.ptr()).wrapping_add(group * n * x_pixels * self.c + c0);
        for start in (0..n).step_by(self.batch) {
            for tap in 0..taps {
                let mut len = 0;
                for image in start..(start + self.batch).min(n) {
                    for &(input, output) in self.pairs.of(tap) {
                        let from = x.wrapping_add((image * x_pixels + input) * self.c);
                        // SAFETY: nr channels of a pixel; a tap joins a pixel of either side at most once.
                        unsafe {
                            core::ptr::copy_nonoverlapping(from, right.ptr().add(len * nr), nr);
                            places.ptr().add(len).write(image * y_pixels + output);
                        }
                        len += 1;
                    }
                }
                if abandoned(2.0 * (len * nr) as f64 * outputs as f64) {
                    return false;
                }
                let mut high = 0;
                for &(o0, height) in strips {
                    if height != high {
                        high = height;
                        for i in 0..len {
                            // SAFETY: `len` of them were written.
                            unsafe {
                                let place = places.ptr().add(i).read();
                                offsets.ptr().add(i).write(place * height);
                            }
                        }
                    }
                    let tile = Tile {
                        k: len,
                        a: images.dy.ptr().wrapping_add(self.strip(n, group, o0)),
                        a_rs: 1,
                        taps: offsets.ptr(),
                        b: right.ptr(),
                        b_ks: nr as isize,
                        c: sums.wrapping_add(((o0 - first) * taps + tap) * nr),
                        ldc: taps * nr,
                        cols: nr,
                        load_c: images.all.start + start > 0,
                        ..Tile::none()
                    };
                    // SAFETY: the strip of dy has the pixels that the table names, x's copy as many rows, and the sums
                    // all taps of the strip.
                    unsafe { kernels.run_table_a(height, &tile) };
                }
            }
        }
        if images.all.end < p.n {
            return true;
        }
        for &(o0, height) in strips {
            let put = Put {
                from: sums.wrapping_add((o0 - first) * taps * nr),
                size: (height, taps, nr),
                to: self
                    .dw
                    .0
                    .wrapping_add(((group * self.o + o0) * self.c + c0) * taps),
                ld: self.c * taps,
            };
            // These weights are this task's alone; the length was checked by the caller.
            dispatch_on(kernels.isa, put);
        }
        true
    }
}

/// `to[i * ld + j * taps + tap] = from[(i * taps + tap) * nr + j]`, for rows, taps, nr of `size`.
struct Put<T> {
    from: *const T,
    size: (usize, usize, usize),
    to: *mut T,
    ld: usize,
}

impl<T: Real> Kernel<T> for Put<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let (rows, taps, nr) = self.size;
        // SAFETY: whoever runs this promises that both exist; nr is a multiple of the lanes.
        unsafe {
            for i in 0..rows {
                for j in (0..nr).step_by(S::LANES) {
                    let from = self.from.add(i * taps * nr + j);
                    let to = self.to.add(i * self.ld + j * taps);
                    for tap in (0..taps).step_by(S::LANES) {
                        let depth = S::LANES.min(taps - tap);
                        let mut square = [S::zero(); 16];
                        for l in 0..S::LANES {
                            if l < depth {
                                square[l] = S::load(from.add((tap + l) * nr));
                            }
                        }
                        transpose::<S>(&mut square);
                        for l in 0..S::LANES {
                            S::store_n(to.add(l * taps + tap), square[l], depth);
                        }
                    }
                }
            }
        }
    }
}
