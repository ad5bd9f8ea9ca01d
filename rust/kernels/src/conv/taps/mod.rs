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
use crate::alloc::{self, collect};
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, exact, select_exact, strips};
use crate::gemm::{Activation, apply_activation};
use crate::parallel::{Cost, Part, Runs, SharedMut, abandoned, for_each, threads_for};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on, transpose};
use core::ops::Range;

/// Channels have to come in whole vectors of any instruction set.
const VECTOR: usize = 16;
/// Channels of either side, at least, and pixels of an image, at most: where a row does not fill a vector of 16, where it does, and
/// with shorter vectors, which the other ways fill too and for which additions to memory cost twice as much.
const THIN: (usize, usize) = (64, 1024);
const FULL: (usize, usize) = (128, 1024);
const SHORT: (usize, usize) = (192, 256);
/// Pixels that are summed together, about: whole images.
const TOGETHER: usize = 512;
/// Longest chain over channels: by the shape alone, since it shows in the bits.
const CHAIN: usize = 512;
/// Pixels that a share's packed weights have to serve, at least.
const ROWS: usize = 16;
/// Channels of a source that are turned together.
const TURNED: usize = 64;
/// Bytes of turned copies at once, about; tests see several rounds.
const COPY_BYTES: usize = if cfg!(test) { 1 << 20 } else { 32 << 20 };

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

/// Whether there are at least so many channels, and at most so many pixels. As many taps, at most: a bound on the list of pairs
/// and on the packed weights.
fn small(p: &Conv2d, channels: usize, pixels: usize) -> bool {
    let many = |c: usize| c >= channels && c.is_multiple_of(VECTOR);
    let few = |h: usize, w: usize| (1..=pixels).contains(&h.saturating_mul(w));
    let area = p.kernel[0].saturating_mul(p.kernel[1]);
    p.n > 0
        && (2..=pixels).contains(&area)
        && many(p.c / p.groups)
        && many(p.o / p.groups)
        && few(p.h, p.w)
        && few(p.oh, p.ow)
}

/// Whether this is not the faster way forward after all: a few images of one output that meets no padding. Each weight is read a
/// few times, and those of a channel are one long row where they lie.
pub(super) fn lone(p: &Conv2d) -> bool {
    let dense = |d: usize| {
        let axis = p.axis(d);
        axis.taps.iter().all(|&tap| inside(&axis, 0, tap).is_some())
    };
    p.oh * p.ow == 1 && p.n < ROWS && dense(0) && dense(1)
}

/// Where output `i` reads an axis through a tap, unless that is padding.
fn inside(axis: &Axis, i: usize, tap: isize) -> Option<usize> {
    let at = (i * axis.step) as isize + tap;
    (at >= 0 && at < axis.src as isize).then_some(at as usize)
}

/// For each tap, the pixels that it joins in an image: `(input, output)`, both in ascending order.
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
        for &row_tap in &rows.taps {
            for &col_tap in &cols.taps {
                for i in 0..rows.out {
                    let Some(row) = inside(&rows, i, row_tap) else {
                        continue;
                    };
                    for j in 0..cols.out {
                        if let Some(col) = inside(&cols, j, col_tap) {
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

/// Images whose turned copies are made at once, so that memory does not grow with the batch: some multiple of `batch`, of which
/// each takes so many elements.
fn at_once<T>(n: usize, batch: usize, elements: usize) -> usize {
    let most = (COPY_BYTES / size_of::<T>() / elements.max(1) / batch).max(1);
    let batches = n.div_ceil(batch);
    batches.div_ceil(batches.div_ceil(most)) * batch
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

/// Runs `panel` for each panel of columns of each group: with its kernels, `(group, first column)`, and the part of its work that
/// is meant, since the last ones are cut into at most `most` shares. It says false when the call is being abandoned.
fn each_panel<T: Real>(
    (groups, cols): (usize, usize),
    (wide, rest): &(Kernels<T>, Option<Kernels<T>>),
    most: usize,
    cost: Cost,
    panel: impl Fn(&Kernels<T>, (usize, usize), &Part) -> bool + Sync,
) {
    let panels = cols.div_ceil(wide.nr);
    let threads = threads_for(cost);
    // A few for each thread, however few panels there are.
    let wanted = (4 * threads).div_ceil(groups * panels).max(4);
    let shares = wanted.next_power_of_two().min(1 << most.max(1).ilog2());
    let runs = Runs::factored_shares(groups * panels, shares, threads, 1, usize::MAX);
    for_each(runs.count(), cost, &|task| {
        let part = runs.part(runs.at_place(task));
        for unit in part.pieces.clone() {
            let (group, first) = (unit / panels, unit % panels * wide.nr);
            let kernels = match rest {
                Some(rest) if first + wide.nr > cols => rest,
                _ => wide,
            };
            if !panel(kernels, (group, first), &part) {
                return;
            }
        }
    });
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

/// Some images of the source, turned.
struct Images<T> {
    all: Range<usize>,
    /// (groups, images, pixels, channels).
    turned: Buffer<T>,
}

impl<T: Real> Product<'_, T> {
    fn run(&self, src: &[T]) {
        let ((k, src_pixels), (cols, dst_pixels)) = (self.src, self.dst);
        let kernels = widths::<T>(simd::isa(), cols);
        let pairs = &self.pairs;
        // Where the packed weights of each tap lie that joins any pixels.
        let mut used = 0;
        let places = collect((0..pairs.taps()).map(|tap| {
            (!pairs.of(tap).is_empty()).then(|| {
                used += 1;
                used - 1
            })
        }));
        let image = self.groups * k * src_pixels;
        let some = at_once::<T>(self.n, 1, image);
        for first in (0..self.n).step_by(some) {
            let all = first..(first + some).min(self.n);
            let n = all.len();
            let from = &src[all.start * image..all.end * image];
            let images = Images {
                all,
                turned: by_pixels(from, (n, self.groups, k, src_pixels)),
            };
            let cost = Cost {
                flops: 2.0 * (n * self.groups * pairs.all.len()) as f64 * (k * cols) as f64,
                bytes: (n * (image + self.groups * cols * dst_pixels) * size_of::<T>()) as f64,
            };
            // Each share packs the weights.
            let most = n * pairs.all.len() / used.max(1) / ROWS;
            let groups = (self.groups, cols);
            each_panel(groups, &kernels, most, cost, |kernels, panel, part| {
                self.panel(
                    kernels,
                    panel,
                    &images,
                    part.of(n * dst_pixels),
                    (used, &places),
                )
            });
        }
    }

    /// A panel of output channels, for some pixels of all that the images have. False when the call is being abandoned.
    fn panel(
        &self,
        kernels: &Kernels<T>,
        (group, j0): (usize, usize),
        images: &Images<T>,
        mut pixels: Range<usize>,
        (used, places): (usize, &[Option<usize>]),
    ) -> bool {
        let (k, (cols, dst_pixels)) = (self.src.0, self.dst);
        let (nr, taps) = (kernels.nr, self.pairs.taps());
        let weights = Buffer::<T>::new(used * k * nr);
        let pack = Pack {
            from: self.weights[group * k * cols * taps..][..k * cols * taps].as_ptr(),
            size: (k, cols),
            places,
            backward: self.backward,
            j0,
            nr,
            to: weights.ptr(),
        };
        dispatch_on(kernels.isa, pack);
        let together = (TOGETHER / dst_pixels).max(1);
        while !pixels.is_empty() {
            let (first, start) = (pixels.start / dst_pixels, pixels.start % dst_pixels);
            let whole = pixels.len() / dst_pixels;
            let (count, end) = if start == 0 && whole > 0 {
                (whole.min(together), dst_pixels)
            } else {
                (1, dst_pixels.min(start + pixels.len()))
            };
            let sums = Sums {
                images: first..first + count,
                pixels: start..end,
            };
            pixels.start += sums.images.len() * sums.pixels.len();
            if !self.sum(kernels, (group, j0), images, &sums, (&weights, places)) {
                return false;
            }
        }
        true
    }

    /// The same for what is summed together, with the panel's weights.
    fn sum(
        &self,
        kernels: &Kernels<T>,
        (group, j0): (usize, usize),
        images: &Images<T>,
        part: &Sums,
        (weights, places): (&Buffer<T>, &[Option<usize>]),
    ) -> bool {
        let ((k, src_pixels), (cols, dst_pixels)) = (self.src, self.dst);
        let (isa, nr) = (kernels.isa, kernels.nr);
        let (count, width) = (part.images.len(), part.pixels.len());
        // (images, pixels, channels).
        let sums = Buffer::<T>::new(count * width * nr);
        for pixel in 0..count * width {
            // SAFETY: nr elements of the buffer.
            let sums =
                unsafe { core::slice::from_raw_parts_mut(sums.ptr().wrapping_add(pixel * nr), nr) };
            match self.bias {
                Some(bias) => sums.copy_from_slice(&bias[group * cols + j0..][..nr]),
                None => sums.fill(T::ZERO),
            }
        }
        let longest = count * src_pixels.min(width);
        let (from, to) = (Buffer::<usize>::new(longest), Buffer::<usize>::new(longest));
        let first = (group * images.all.len() + part.images.start) * src_pixels * k;
        let src = images.turned.ptr().wrapping_add(first);
        let block = k.div_ceil(k.div_ceil(CHAIN));
        for (tap, place) in places.iter().enumerate() {
            let Some(place) = place else { continue };
            let ends = |&(input, output): &(usize, usize)| match self.backward {
                true => (output, input),
                false => (input, output),
            };
            let pairs = self.pairs.of(tap);
            let before = |pixel| pairs.partition_point(|pair| ends(pair).1 < pixel);
            let pairs = &pairs[before(part.pixels.start)..before(part.pixels.end)];
            let rows = count * pairs.len();
            if abandoned(2.0 * (rows * nr) as f64 * k as f64) {
                return false;
            }
            let mut at = 0;
            for image in 0..count {
                for pair in pairs {
                    let (source, dest) = ends(pair);
                    // SAFETY: a tap joins a pixel of either side at most once, so there are no more than `longest`.
                    unsafe {
                        from.ptr().add(at).write((image * src_pixels + source) * k);
                        let dest = image * width + dest - part.pixels.start;
                        to.ptr().add(at).write(dest * nr);
                    }
                    at += 1;
                }
            }
            for k0 in (0..k).step_by(block) {
                for (i0, height) in strips(rows, kernels.mr) {
                    let tile = Tile {
                        k: block.min(k - k0),
                        a: src.wrapping_add(k0),
                        a_rows: from.ptr().wrapping_add(i0),
                        a_ks: 1,
                        b: weights.ptr().wrapping_add((place * k + k0) * nr),
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
        for image in 0..count {
            let plane = (images.all.start + part.images.start + image) * self.groups + group;
            let to = (plane * cols + j0) * dst_pixels + part.pixels.start;
            let to = self.out.0.wrapping_add(to);
            let turn = Turn {
                from: sums.ptr().wrapping_add(image * width * nr),
                from_ld: nr,
                size: (width, nr),
                to,
                to_ld: dst_pixels,
                relu: self.act == Activation::Relu,
            };
            // These pixels of these channels are this task's alone; lengths were checked by the caller.
            dispatch_on(isa, turn);
            // SAFETY: as above.
            unsafe { apply_activation(isa, self.act, to, nr, width, dst_pixels) };
        }
        true
    }
}

/// Pixels that are summed together: of some images, of all in [`Images`].
struct Sums {
    images: Range<usize>,
    pixels: Range<usize>,
}

/// Packs the weights of `nr` columns from `j0` on by taps: `(places, k, nr)`.
struct Pack<'a, T> {
    /// (columns, k, taps), or backward (k, columns, taps).
    from: *const T,
    /// k, columns.
    size: (usize, usize),
    /// Where each tap goes, unless it is left out.
    places: &'a [Option<usize>],
    backward: bool,
    j0: usize,
    nr: usize,
    to: *mut T,
}

impl<T: Real> Kernel<T> for Pack<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let ((k, cols), taps) = (self.size, self.places.len());
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
                                if let Some(place) = self.places[tap + i] {
                                    S::store(to.add((place * k + l) * self.nr), square[i]);
                                }
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
                        if let Some(place) = self.places[tap] {
                            S::store(to.add((place * k + channel) * self.nr), square[l]);
                        }
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
