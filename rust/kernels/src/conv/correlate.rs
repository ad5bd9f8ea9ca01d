//! The forward pass: per image and group a product `weights (o, taps) x B (taps, pixels)` whose right operand is read at
//! `copy + offset[pixel] + offset[tap]` (see `expand`), a vector of pixels at a time.
use super::expand::{Axis, Layout, SLACK, Strip, cut, fill};
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Segment, Tile, exact, strips};
use crate::gemm::{Activation, apply_activation};
use crate::parallel::{Cost, SharedMut, abandoned, for_each, threads_for};
use crate::simd::{self, cache};

/// Bytes that a thread's copy may take: it has to stay in a second-level cache beside the weights.
const COPY_BYTES: usize = 256 << 10;
/// Taps that run as one block, at most.
const BLOCK: usize = 384;

/// One batch of correlations.
pub(crate) struct Correlate<'a, T> {
    pub n: usize,
    pub groups: usize,
    /// Source channels and output channels per group.
    pub c: usize,
    pub o: usize,
    /// (n, groups, c, rows.src, cols.src) dense.
    pub src: &'a [T],
    pub rows: Axis,
    pub cols: Axis,
    /// (groups, o, c, row taps, column taps) dense.
    pub weights: &'a [T],
    /// One per (group, o).
    pub bias: Option<&'a [T]>,
    pub act: Activation,
    /// (n, groups, o, rows.out, cols.out) dense.
    pub out: SharedMut<T>,
}

/// Channels of a block, so that a block has at most about BLOCK taps; by the shape alone, since it shows in the bits.
fn block_channels(c: usize, taps: usize) -> usize {
    c.div_ceil((c * taps).div_ceil(BLOCK).max(1)).max(1)
}

/// Rows and width of a strip whose copy fits the cache. Not visible in the bits.
pub(crate) fn strip_size(
    rows: &Axis,
    cols: &Axis,
    channels: usize,
    limit: usize,
    at_least: usize,
    shared: bool,
) -> (usize, usize) {
    let layout = |rows_here: usize, width: usize| {
        let layout = Layout::new(rows, cols, rows_here, width, channels.max(1));
        if shared { layout.shared(cols) } else { layout }
    };
    let fits = |r: usize| layout(r, cols.out).len() <= limit;
    // Enough pieces for all threads, and none so thin that the rows which neighbours share dominate.
    let cap = rows.out.div_ceil(at_least).max(1);
    if cols.out <= 256 || fits(1) {
        let (mut low, mut high) = (1, cap);
        while low < high {
            let mid = (low + high).div_ceil(2);
            if fits(mid) { low = mid } else { high = mid - 1 }
        }
        let r = rows.out.div_ceil(rows.out.div_ceil(low));
        (r, cols.out)
    } else {
        // Very long rows: one at a time, in pieces.
        let width = 64 * limit / layout(1, 64).len().max(1);
        (1, width.clamp(256, cols.out) / 64 * 64)
    }
}

/// Pixels that a strip of several small images has, about.
const PIXELS: usize = 384;
/// Bytes of the results of such a strip that a task keeps before it sorts them into images. Each task fills copies of its own.
fn mixed_bytes() -> usize {
    (cache::second_level() / 8).max(128 << 10)
}

impl<T: Real> Correlate<'_, T> {
    /// Computes all outputs.
    pub fn run(&self) {
        let (oh, ow) = (self.rows.out, self.cols.out);
        if self.n == 0 || self.groups * self.o == 0 || oh == 0 || ow == 0 {
            return;
        }
        let taps = self.rows.taps.len() * self.cols.taps.len();
        let outputs = self.n * self.groups * self.o * oh * ow;
        let cost = Cost {
            flops: 2.0 * outputs as f64 * (self.c * taps) as f64,
            bytes: ((self.src.len() + outputs) * size_of::<T>()) as f64,
        };
        let threads = threads_for(cost);
        let block = block_channels(self.c, taps);
        let limit = COPY_BYTES / size_of::<T>();
        let pieces = (2 * threads).div_ceil(self.n * self.groups);
        let Kernels { lanes, mr, .. } = exact::<T>(simd::isa(), 3).0;
        // Taps share their copies, and tiles are put together from vectors of single rows, unless that would leave too many
        // lanes empty.
        let shared = self.cols.taps.len() > 1 && 10 * ow.next_multiple_of(lanes) <= 11 * ow;
        let axes = [&self.rows, &self.cols];
        let (rows, width) = strip_size(axes[0], axes[1], block, limit, pieces, shared);
        let mut layout = Layout::new(axes[0], axes[1], rows, width, block);
        let list = cut(oh, ow, rows, width);
        let images = if list.len() == 1 && !shared {
            self.images(oh * ow, limit / layout.len().max(1))
        } else {
            1
        };
        layout = if shared {
            layout.shared(&self.cols)
        } else {
            layout.of_images(images)
        };
        let units = self.n.div_ceil(images) * self.groups;
        // Too few strips for all threads: the output channels are shared out too.
        let shares = threads.div_ceil(units * list.len());
        let mixed = if images > 1 {
            (self.o * images * oh * ow * size_of::<T>()).div_ceil(mixed_bytes())
        } else {
            1
        };
        // Few tasks: as many for each thread.
        let mut chunks = shares.max(mixed);
        if units * list.len() < threads {
            chunks = chunks.next_multiple_of(threads);
        }
        let chunks = chunks.min(self.o.div_ceil(8));
        // Whole strips of rows, where there are enough of them.
        let height = if self.o >= 2 * chunks * mr { mr } else { 1 };
        let cuts = self.o.div_ceil(height);
        let task = Task {
            all: self,
            isa: simd::isa(),
            block,
            images,
            shared,
            tap_count: taps,
            taps: layout.taps(),
            lanes,
            layout,
        };
        let per_unit = list.len() * chunks;
        for_each(units * per_unit, cost, &|i| {
            let (unit, rest) = (i / per_unit, i % per_unit);
            let (strip, chunk) = (list[rest / chunks], rest % chunks);
            let from = |chunk: usize| (cuts * chunk / chunks * height).min(self.o);
            task.run(unit, strip, from(chunk), from(chunk + 1) - from(chunk));
        });
    }

    /// How many images of so many pixels share a strip, where `fit` have room: one, unless that would leave much of the
    /// last tile empty.
    fn images(&self, pixels: usize, fit: usize) -> usize {
        // Where there are kernels for what is left beside whole tiles, only a vector is not full.
        let (wide, rest) = exact::<T>(simd::isa(), 4);
        let unit = if rest.is_some() { wide.lanes } else { wide.nr };
        if 20 * pixels.next_multiple_of(unit) <= 21 * pixels {
            return 1;
        }
        PIXELS.div_ceil(pixels).min(fit.max(1)).min(self.n)
    }
}

struct Task<'a, T> {
    all: &'a Correlate<'a, T>,
    isa: simd::Isa,
    layout: Layout,
    block: usize,
    images: usize,
    shared: bool,
    tap_count: usize,
    taps: Vec<usize>,
    lanes: usize,
}

impl<T: Real> Task<'_, T> {
    /// The vectors of a strip's outputs, and empty ones up to a multiple of `nv`.
    fn segments(&self, strip: Strip, nv: usize) -> Buffer<Segment> {
        let lanes = self.lanes;
        let (rows, cols) = self.runs(strip);
        let used = rows * cols.div_ceil(lanes);
        let segments = Buffer::new(used.next_multiple_of(nv));
        let mut at: *mut Segment = segments.ptr();
        let mut push = |segment| {
            // SAFETY: called once for each element.
            unsafe { at.write(segment) };
            at = at.wrapping_add(1);
        };
        for row in 0..rows {
            for j in (0..cols).step_by(lanes) {
                push(Segment {
                    b: self.layout.row(row) + j,
                    c: row * cols + j,
                    cols: lanes.min(cols - j),
                });
            }
        }
        for _ in used..used.next_multiple_of(nv) {
            push(Segment::default());
        }
        segments
    }

    /// Runs of a strip's outputs and their lengths: unless the copies are shared, all rows are one run.
    fn runs(&self, strip: Strip) -> (usize, usize) {
        if self.shared {
            (strip.rows, strip.cols)
        } else {
            (1, strip.len() * self.images)
        }
    }

    /// Output channels `o0 .. o0 + o` of one strip of one (image or several, group).
    fn run(&self, unit: usize, strip: Strip, o0: usize, o: usize) {
        let all = self.all;
        let (first, group) = (unit / all.groups * self.images, unit % all.groups);
        let images = self.images.min(all.n - first);
        let plane = first * all.groups + group;
        let len = strip.len() * self.images;
        let (rows, cols) = self.runs(strip);
        let (kernels, rest) = exact::<T>(self.isa, rows * cols.div_ceil(self.lanes));
        let copy = Buffer::<T>::new(self.layout.len() + SLACK);
        let area = all.rows.out * all.cols.out;
        // Strips are whole rows, or parts of one row, so their pixels lie one after the other. Those of several images are
        // mixed, and are sorted at the end.
        let mixed_ld = len.next_multiple_of(self.lanes);
        let mixed = Buffer::<T>::new(if self.images > 1 { o * mixed_ld } else { 0 });
        let (out, ldc) = if self.images > 1 {
            (mixed.ptr(), mixed_ld)
        } else {
            let at = (plane * all.o + o0) * area + strip.i0 * all.cols.out + strip.j0;
            (all.out.0.wrapping_add(at), area)
        };
        let nv = kernels.nr / self.lanes;
        let segments = self.segments(strip, if rest.is_some() { 1 } else { nv });
        // SAFETY: all of them were written.
        let segments = unsafe { segments.slice() };
        let source = all.rows.src * all.cols.src;
        let image = all.groups * all.c * source;
        let k = all.c * self.tap_count;
        let mut c0 = 0;
        loop {
            let channels = self.block.min(all.c - c0);
            let from = (plane * all.c + c0) * source;
            let planes = &all.src[from..][..(images - 1) * image + channels * source];
            // SAFETY: the buffer holds `images` times `block` channels and the slack.
            unsafe {
                let axes = [&all.rows, &all.cols];
                fill(
                    self.isa,
                    &self.layout,
                    axes,
                    strip,
                    channels,
                    (images, image),
                    planes,
                    copy.ptr(),
                );
            }
            let last = c0 + channels == all.c;
            for (i0, height) in strips(o, kernels.mr) {
                let k_here = channels * self.tap_count;
                if abandoned(2.0 * (height * len) as f64 * k_here as f64) {
                    return;
                }
                let row = group * all.o + o0 + i0;
                for segments in segments.chunks(nv) {
                    let kernels = match &rest {
                        Some(rest) if segments.len() < nv => rest,
                        _ => &kernels,
                    };
                    let tile = Tile {
                        k: k_here,
                        a: all
                            .weights
                            .as_ptr()
                            .wrapping_add(row * k + c0 * self.tap_count),
                        a_rs: k as isize,
                        b: copy.ptr(),
                        taps: self.taps.as_ptr(),
                        segments: segments.as_ptr(),
                        c: out.wrapping_add(i0 * ldc),
                        ldc,
                        load_c: c0 > 0,
                        row_bias: match all.bias {
                            Some(bias) if last => bias[row..].as_ptr(),
                            _ => core::ptr::null(),
                        },
                        relu: last && all.act == Activation::Relu,
                        ..Tile::none()
                    };
                    // SAFETY: the weights, the copy (with slack for a partial tile) and the output hold what the tile
                    // touches (lengths were checked by the caller); tasks write disjoint outputs.
                    unsafe {
                        kernels.run_table_b(height, &tile);
                        for segment in segments.iter().filter(|s| last && s.cols > 0) {
                            let c = tile.c.add(segment.c);
                            apply_activation(self.isa, all.act, c, height, segment.cols, ldc);
                        }
                    }
                }
            }
            c0 += channels;
            if c0 >= all.c {
                break;
            }
        }
        if self.images > 1 {
            // A strip of several images is all of their rows.
            let width = all.cols.out;
            for oi in 0..o {
                for image in 0..images {
                    let plane = (plane + image * all.groups) * all.o + o0 + oi;
                    // SAFETY: this task's alone; the caller checked the length. The second is inside the buffer.
                    unsafe {
                        let to = all.out.slice(plane * area, area);
                        let from = mixed.ptr().add(oi * mixed_ld + image * width);
                        for (row, to) in to.chunks_exact_mut(width).enumerate() {
                            let from = from.add(row * self.images * width);
                            core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), width);
                        }
                    }
                }
            }
        }
    }
}
