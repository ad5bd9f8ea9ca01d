//! Small images with many channels, tap by tap.
//!
//! One tap of the kernel is a product of matrices: rows are the pixels that it reads, columns the output channels, and what is
//! summed over are the input channels. So the source is turned, pixels by channels, and the weights are packed by taps; the pixels
//! of a product are any list, in which those that would meet padding do not occur: a fifth of all, for 3 x 3 taps on 7 x 7 pixels.
//! Channels fill vectors, however few pixels a row has. The input gradient is the same with the ends of the list exchanged; that of
//! the weight (`dw`) sums over the list.
//!
//! Each tap adds to what the others left in memory, which only pays where channels are many.
pub(super) mod dw;

use super::Conv2d;
use super::expand::Axis;
use super::turn::Turn;
use crate::alloc;
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, exact, select_exact, strips};
use crate::gemm::{Activation, apply_activation};
use crate::parallel::{Cost, Runs, SharedMut, abandoned, for_each, num_threads};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on, transpose};
use core::ops::Range;

/// Channels have to come in whole vectors of any instruction set.
const VECTOR: usize = 16;
/// Channels of either side, at least, and pixels of an image, at most: where rows leave vectors of 16 empty, where they fill them,
/// and with shorter vectors, which the other ways fill too and for which additions to memory cost twice as much.
const THIN: (usize, usize) = (64, 1024);
const FULL: (usize, usize) = (128, 1024);
const SHORT: (usize, usize) = (192, 256);
/// Pixels that are summed together, about: whole images.
const TOGETHER: usize = 512;
/// Longest chain over channels: by the shape alone, since it shows in the bits.
const CHAIN: usize = 512;
/// Channels of a source that are turned together.
const TURNED: usize = 64;

/// Whether this is the faster way, forward and for the gradient of the input.
pub(super) fn fits<T: Real>(p: &Conv2d) -> bool {
    let (channels, pixels) = match wide::<T>() {
        true if p.ow < VECTOR => THIN,
        true => FULL,
        false => SHORT,
    };
    small(p, channels, pixels)
}

/// Whether vectors are the longest that there are.
fn wide<T: Real>() -> bool {
    exact::<T>(simd::isa(), 1).0.lanes == VECTOR
}

/// Whether there are at least so many channels, and at most so many pixels and taps.
fn small(p: &Conv2d, channels: usize, pixels: usize) -> bool {
    let many = |c: usize| c >= channels && c.is_multiple_of(VECTOR);
    let few = |h: usize, w: usize| (1..=pixels).contains(&h.saturating_mul(w));
    let area = p.kernel[0].saturating_mul(p.kernel[1]);
    // No more taps than pixels: others only meet padding.
    (2..=pixels).contains(&area)
        && many(p.c / p.groups)
        && many(p.o / p.groups)
        && few(p.h, p.w)
        && few(p.oh, p.ow)
}

/// For each tap, the pixels that it joins in an image: `(input, output)`, in the order of the outputs.
struct Pairs {
    all: Vec<(usize, usize)>,
    /// Where each tap's end.
    ends: Vec<usize>,
}

impl Pairs {
    fn new(p: &Conv2d) -> Self {
        let [rows, cols] = [p.axis(0), p.axis(1)];
        let mut all = alloc::vec(rows.taps.len() * cols.taps.len() * p.oh * p.ow);
        let mut ends = alloc::vec(rows.taps.len() * cols.taps.len());
        let inside = |axis: &Axis, i: usize, tap: isize| {
            let at = (i * axis.step) as isize + tap;
            (at >= 0 && at < axis.src as isize).then_some(at as usize)
        };
        for &p in &rows.taps {
            for &q in &cols.taps {
                for i in 0..rows.out {
                    let Some(row) = inside(&rows, i, p) else {
                        continue;
                    };
                    for j in 0..cols.out {
                        if let Some(col) = inside(&cols, j, q) {
                            all.push((row * cols.src + col, i * cols.out + j));
                        }
                    }
                }
                ends.push(all.len());
            }
        }
        Pairs { all, ends }
    }

    fn taps(&self) -> usize {
        self.ends.len()
    }

    fn of(&self, tap: usize) -> &[(usize, usize)] {
        let first = if tap == 0 { 0 } else { self.ends[tap - 1] };
        &self.all[first..self.ends[tap]]
    }
}

/// Turns images `(n, groups, channels, pixels)` into `(groups, n, pixels, channels)`.
fn by_pixels<T: Real>(
    src: &[T],
    (n, groups, channels, pixels): (usize, usize, usize, usize),
) -> Buffer<T> {
    let turned = Buffer::<T>::new(n * groups * channels * pixels);
    let cost = Cost {
        flops: 0.0,
        bytes: (2 * src.len() * size_of::<T>()) as f64,
    };
    let runs = channels.div_ceil(TURNED);
    for_each(n * groups * runs, cost, &|task| {
        let (plane, c0) = (task / runs, task % runs * TURNED);
        let (image, group) = (plane / groups, plane % groups);
        let some = TURNED.min(channels - c0);
        let from = &src[(plane * channels + c0) * pixels..][..some * pixels];
        let turn = Turn {
            from: from.as_ptr(),
            from_ld: pixels,
            size: (some, pixels),
            to: turned
                .ptr()
                .wrapping_add((group * n + image) * pixels * channels + c0),
            to_ld: channels,
            relu: false,
        };
        // These channels of this image are this task's alone.
        dispatch_on(simd::isa(), turn);
    });
    turned
}

/// `y = act(conv(x, w) + bias)`, as [`super::conv2d`].
pub(super) fn forward<T: Real>(
    p: &Conv2d,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    act: Activation,
    y: &mut [T],
) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let product = Product {
        n: p.n,
        groups: p.groups,
        src: (c, p.h * p.w),
        dst: (o, p.oh * p.ow),
        pairs: Pairs::new(p),
        backward: false,
        weights: w,
        bias,
        act,
        out: SharedMut(y.as_mut_ptr()),
    };
    product.run(&x[..p.x_len()]);
}

/// The gradient of the input, as [`super::conv2d_dx`].
pub(super) fn dx<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let product = Product {
        n: p.n,
        groups: p.groups,
        src: (o, p.oh * p.ow),
        dst: (c, p.h * p.w),
        pairs: Pairs::new(p),
        backward: true,
        weights: w,
        bias: None,
        act: Activation::None,
        out: SharedMut(dx.as_mut_ptr()),
    };
    product.run(&dy[..p.y_len()]);
}

/// Kernels for panels of so many whole vectors of columns, and for the last panel if it is narrower.
fn widths<T: Real>(isa: Isa, cols: usize) -> (Kernels<T>, Option<Kernels<T>>) {
    let (wide, rest) = select_exact::<T>(isa, cols);
    if rest.is_none() && !cols.is_multiple_of(wide.nr) {
        return exact::<T>(isa, cols / wide.lanes);
    }
    (wide, rest)
}

/// A sum of products, one for each tap.
struct Product<'a, T> {
    n: usize,
    groups: usize,
    /// Channels of a group, and pixels of an image.
    src: (usize, usize),
    dst: (usize, usize),
    pairs: Pairs,
    /// From outputs to inputs.
    backward: bool,
    /// (groups, o, c, taps) dense.
    weights: &'a [T],
    bias: Option<&'a [T]>,
    act: Activation,
    /// (n, groups, channels, pixels) dense.
    out: SharedMut<T>,
}

impl<T: Real> Product<'_, T> {
    fn run(&self, src: &[T]) {
        let ((k, src_pixels), (cols, dst_pixels)) = (self.src, self.dst);
        if self.n == 0 {
            return;
        }
        let turned = by_pixels(src, (self.n, self.groups, k, src_pixels));
        let isa = simd::isa();
        let (wide, rest) = widths::<T>(isa, cols);
        let panels = cols.div_ceil(wide.nr);
        let flops = 2.0 * (self.n * self.groups * self.pairs.all.len()) as f64 * (k * cols) as f64;
        let cost = Cost {
            flops,
            bytes: ((src.len() + self.n * self.groups * cols * dst_pixels) * size_of::<T>()) as f64,
        };
        // Panels of columns; the last are cut into shares of the images.
        let shares = if self.n < 4 { 1 } else { 4 };
        let threads = if flops < 10e3 { 1 } else { num_threads() };
        let runs = Runs::factored_shares(self.groups * panels, shares, threads, 1, usize::MAX);
        for_each(runs.count(), cost, &|task| {
            let part = runs.part(runs.at_place(task));
            let images = part.of(self.n);
            for unit in part.pieces {
                let (group, panel) = (unit / panels, unit % panels);
                let j0 = panel * wide.nr;
                let kernels = match &rest {
                    Some(rest) if j0 + wide.nr > cols => rest,
                    _ => &wide,
                };
                if !self.panel(isa, kernels, (group, j0), images.clone(), turned.ptr()) {
                    return;
                }
            }
        });
    }

    /// A panel of output channels of some images. False when the call is being abandoned.
    fn panel(
        &self,
        isa: Isa,
        kernels: &Kernels<T>,
        (group, j0): (usize, usize),
        images: Range<usize>,
        src: *const T,
    ) -> bool {
        let (k, (cols, dst_pixels)) = (self.src.0, self.dst);
        let (nr, taps) = (kernels.nr, self.pairs.taps());
        let weights = Buffer::<T>::new(taps * k * nr);
        let pack = Pack {
            from: self.weights[group * k * cols * taps..][..k * cols * taps].as_ptr(),
            size: (k, cols, taps),
            backward: self.backward,
            j0,
            nr,
            to: weights.ptr(),
        };
        dispatch_on(isa, pack);
        let together = (TOGETHER / dst_pixels).max(1);
        for first in images.clone().step_by(together) {
            let images = first..(first + together).min(images.end);
            if abandoned(2.0 * (images.len() * self.pairs.all.len() * nr) as f64 * k as f64) {
                return false;
            }
            self.images(isa, kernels, (group, j0), images, (src, weights.ptr()));
        }
        true
    }

    /// The same for images that are summed together, with the panel's weights.
    fn images(
        &self,
        isa: Isa,
        kernels: &Kernels<T>,
        (group, j0): (usize, usize),
        images: Range<usize>,
        (src, weights): (*const T, *const T),
    ) {
        let ((k, src_pixels), (cols, dst_pixels)) = (self.src, self.dst);
        let (nr, taps) = (kernels.nr, self.pairs.taps());
        // The sums, (images, pixels, channels).
        let sums = Buffer::<T>::new(images.len() * dst_pixels * nr);
        for pixel in 0..images.len() * dst_pixels {
            // SAFETY: nr elements of the buffer.
            let sums =
                unsafe { core::slice::from_raw_parts_mut(sums.ptr().wrapping_add(pixel * nr), nr) };
            match self.bias {
                Some(bias) => sums.copy_from_slice(&bias[group * cols + j0..][..nr]),
                None => sums.fill(T::ZERO),
            }
        }
        let longest = images.len() * src_pixels.max(dst_pixels);
        let (from, to) = (Buffer::<usize>::new(longest), Buffer::<usize>::new(longest));
        let src = src.wrapping_add((group * self.n + images.start) * src_pixels * k);
        let block = k.div_ceil(k.div_ceil(CHAIN));
        for tap in 0..taps {
            let pairs = self.pairs.of(tap);
            let pixels = images.len() * pairs.len();
            for (at, (image, &(input, output))) in (0..images.len())
                .flat_map(|image| pairs.iter().map(move |pair| (image, pair)))
                .enumerate()
            {
                let (source, dest) = if self.backward {
                    (output, input)
                } else {
                    (input, output)
                };
                // SAFETY: a tap joins a pixel of either side at most once, so there are no more than `longest`.
                unsafe {
                    from.ptr().add(at).write((image * src_pixels + source) * k);
                    to.ptr().add(at).write((image * dst_pixels + dest) * nr);
                }
            }
            for k0 in (0..k).step_by(block) {
                for (i0, height) in strips(pixels, kernels.mr) {
                    let tile = Tile {
                        k: block.min(k - k0),
                        a: src.wrapping_add(k0),
                        a_rows: from.ptr().wrapping_add(i0),
                        a_ks: 1,
                        b: weights.wrapping_add((tap * k + k0) * nr),
                        b_ks: nr as isize,
                        c: sums.ptr(),
                        c_rows: to.ptr().wrapping_add(i0),
                        cols: nr,
                        load_c: true,
                        ..Tile::none()
                    };
                    // SAFETY: the rows that the lists name are inside the source and the sums, the weights hold all of the
                    // tap's channels.
                    unsafe { kernels.run(height, &tile) };
                }
            }
        }
        for image in images.clone() {
            let plane = (image * self.groups + group) * cols + j0;
            let to = self.out.0.wrapping_add(plane * dst_pixels);
            let turn = Turn {
                from: sums
                    .ptr()
                    .wrapping_add((image - images.start) * dst_pixels * nr),
                from_ld: nr,
                size: (dst_pixels, nr),
                to,
                to_ld: dst_pixels,
                relu: self.act == Activation::Relu,
            };
            // These channels of these images are this task's alone; lengths were checked by the caller.
            dispatch_on(isa, turn);
            // SAFETY: as above.
            unsafe { apply_activation(isa, self.act, to, nr, dst_pixels, dst_pixels) };
        }
    }
}

/// Packs the weights of `nr` columns from `j0` on by taps: `(taps, k, nr)`.
struct Pack<T> {
    /// (columns, k, taps), or backward (k, columns, taps).
    from: *const T,
    /// k, columns, taps.
    size: (usize, usize, usize),
    backward: bool,
    j0: usize,
    nr: usize,
    to: *mut T,
}

impl<T: Real> Kernel<T> for Pack<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let (k, cols, taps) = self.size;
        let mut lines = [core::ptr::null(); 16];
        // SAFETY: the columns exist, and come in whole vectors, as k does; the panel is all written.
        unsafe {
            for j in (0..self.nr).step_by(S::LANES) {
                let (first, to) = (self.j0 + j, self.to.wrapping_add(j));
                if self.backward {
                    for l in 0..k {
                        let from = self.from.add((l * cols + first) * taps);
                        for tap in (0..taps).step_by(S::LANES) {
                            let depth = S::LANES.min(taps - tap);
                            let mut square = [S::zero(); 16];
                            for i in 0..S::LANES {
                                square[i] = S::load_n(from.add(i * taps + tap), depth);
                            }
                            transpose::<S>(&mut square);
                            // In memory: registers cannot be counted through.
                            let square = core::hint::black_box(square);
                            for i in 0..depth {
                                S::store(to.add(((tap + i) * k + l) * self.nr), square[i]);
                            }
                        }
                    }
                    continue;
                }
                let (mut channel, mut tap) = (0, 0);
                for at in (0..k * taps).step_by(S::LANES) {
                    for i in 0..S::LANES {
                        lines[i] = self.from.add((first + i) * k * taps + at);
                    }
                    let square = S::load_transposed(&lines);
                    for l in 0..S::LANES {
                        S::store(to.add((tap * k + channel) * self.nr), square[l]);
                        tap += 1;
                        if tap == taps {
                            (channel, tap) = (channel + 1, 0);
                        }
                    }
                }
            }
        }
    }
}
