//! The weight's gradient: for each tap a product dy^T (output channels, pixels) times x (pixels, input channels), summed over the
//! pixels that the tap joins.
use super::{Pairs, by_pixels, small, wide, widths};
use crate::alloc;
use crate::conv::Conv2d;
use crate::conv::turn::Turn;
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, strips};
use crate::parallel::{Cost, Runs, SharedMut, abandoned, for_each, num_threads};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on, transpose};
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
    isa: Isa,
    pairs: Pairs,
    /// Channels per group.
    c: usize,
    o: usize,
    /// Images of a chain.
    batch: usize,
    /// Strips of output channels.
    strips: Vec<(usize, usize)>,
    /// (groups, n, pixels, c).
    x: Buffer<T>,
    /// (groups, strips, n, pixels, channels of the strip).
    dy: Buffer<T>,
    /// (groups, o, c, taps).
    dw: SharedMut<T>,
}

/// Overwrites `dw`, as [`crate::conv::conv2d_dw`].
pub(in crate::conv) fn dw<T: Real>(p: &Conv2d, x: &[T], dy: &[T], dw: &mut [T]) {
    let (c, o, pixels) = (p.c / p.groups, p.o / p.groups, p.oh * p.ow);
    let isa = simd::isa();
    let (wide, rest) = widths::<T>(isa, c);
    let plan = Plan {
        p,
        isa,
        pairs: Pairs::new(p),
        c,
        o,
        batch: (CHAIN / pixels).max(1),
        strips: alloc::collect(strips(o, wide.mr)),
        x: by_pixels(&x[..p.x_len()], (p.n, p.groups, c, p.h * p.w)),
        dy: Buffer::new(p.y_len()),
        dw: SharedMut(dw.as_mut_ptr()),
    };
    plan.turn(&dy[..p.y_len()]);
    let panels = c.div_ceil(wide.nr);
    let flops = 2.0 * (p.n * p.groups * plan.pairs.all.len()) as f64 * (c * o) as f64;
    let cost = Cost {
        flops,
        bytes: ((p.x_len() + p.y_len() + p.w_len()) * size_of::<T>()) as f64,
    };
    // Panels of input channels; the last are cut into shares of the output channels.
    let shares = 4;
    let threads = if flops < 10e3 { 1 } else { num_threads() };
    let runs = Runs::factored_shares(p.groups * panels, shares, threads, 1, usize::MAX);
    for_each(runs.count(), cost, &|task| {
        let part = runs.part(runs.at_place(task));
        let some = part.of(plan.strips.len());
        for unit in part.pieces {
            let (group, panel) = (unit / panels, unit % panels);
            let c0 = panel * wide.nr;
            let kernels = match &rest {
                Some(rest) if c0 + wide.nr > c => rest,
                _ => &wide,
            };
            if !plan.panel(kernels, (group, c0), some.clone()) {
                return;
            }
        }
    });
}

impl<T: Real> Plan<'_, T> {
    /// Turns dy, strip by strip of its channels.
    fn turn(&self, dy: &[T]) {
        let (p, pixels) = (self.p, self.p.oh * self.p.ow);
        let cost = Cost {
            flops: 0.0,
            bytes: (2 * dy.len() * size_of::<T>()) as f64,
        };
        for_each(p.groups * self.strips.len(), cost, &|task| {
            let (group, strip) = (task / self.strips.len(), task % self.strips.len());
            let (o0, height) = self.strips[strip];
            for image in 0..p.n {
                let from = &dy[((image * p.groups + group) * self.o + o0) * pixels..];
                let to = self.dy.ptr().wrapping_add(self.strip(group, o0));
                let turn = Turn {
                    from: from[..height * pixels].as_ptr(),
                    from_ld: pixels,
                    size: (height, pixels),
                    to: to.wrapping_add(image * pixels * height),
                    to_ld: height,
                    relu: false,
                };
                // This strip of the buffer is this task's alone.
                dispatch_on(self.isa, turn);
            }
        });
    }

    /// Where the strip that begins with channel `o0` lies in the turned dy.
    fn strip(&self, group: usize, o0: usize) -> usize {
        (group * self.o + o0) * self.p.n * self.p.oh * self.p.ow
    }

    /// The sums for a panel of input channels and some strips of output channels. False when the call is being abandoned.
    fn panel(&self, kernels: &Kernels<T>, (group, c0): (usize, usize), some: Range<usize>) -> bool {
        let (p, nr, taps) = (self.p, kernels.nr, self.pairs.taps());
        let strips = &self.strips[some];
        let (Some(&(first, _)), Some(&(last, height))) = (strips.first(), strips.last()) else {
            return true;
        };
        let batch = self.batch.min(p.n);
        // What a tap reads of x, (pixels, nr), and where its pixels of dy are.
        let pixels = batch * p.oh * p.ow;
        let (right, places) = (Buffer::<T>::new(pixels * nr), Buffer::<usize>::new(pixels));
        let offsets = Buffer::<usize>::new(pixels);
        // (o, taps, nr).
        let sums = Buffer::<T>::new((last + height - first) * taps * nr);
        let x = self
            .x
            .ptr()
            .wrapping_add(group * p.n * p.h * p.w * self.c + c0);
        for image in (0..p.n).step_by(batch) {
            let images = batch.min(p.n - image);
            for tap in 0..taps {
                let mut len = 0;
                for image in image..image + images {
                    for &(input, output) in self.pairs.of(tap) {
                        let from = x.wrapping_add((image * p.h * p.w + input) * self.c);
                        // SAFETY: nr channels of a pixel; there are no more pairs in a batch.
                        unsafe {
                            core::ptr::copy_nonoverlapping(from, right.ptr().add(len * nr), nr);
                            places.ptr().add(len).write(image * p.oh * p.ow + output);
                        }
                        len += 1;
                    }
                }
                if abandoned(2.0 * (len * nr) as f64 * self.o as f64) {
                    return false;
                }
                let mut high = 0;
                for &(o0, height) in strips {
                    if height != high {
                        high = height;
                        for i in 0..len {
                            // SAFETY: `len` of them were written.
                            unsafe {
                                offsets
                                    .ptr()
                                    .add(i)
                                    .write(places.ptr().add(i).read() * height)
                            };
                        }
                    }
                    let tile = Tile {
                        k: len,
                        a: self.dy.ptr().wrapping_add(self.strip(group, o0)),
                        a_rs: 1,
                        taps: offsets.ptr(),
                        b: right.ptr(),
                        b_ks: nr as isize,
                        c: sums.ptr().wrapping_add(((o0 - first) * taps + tap) * nr),
                        ldc: taps * nr,
                        cols: nr,
                        load_c: image > 0,
                        ..Tile::none()
                    };
                    // SAFETY: the strip of dy has the pixels that the table names, x's copy as many rows, and the sums
                    // all taps of the strip.
                    unsafe { kernels.run_table_a(height, &tile) };
                }
            }
        }
        for &(o0, height) in strips {
            let put = Put {
                from: sums.ptr().wrapping_add((o0 - first) * taps * nr),
                size: (height, taps, nr),
                to: self
                    .dw
                    .0
                    .wrapping_add(((group * self.o + o0) * self.c + c0) * taps),
                ld: self.c * taps,
            };
            // These weights are this task's alone; the length was checked by the caller.
            dispatch_on(self.isa, put);
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
