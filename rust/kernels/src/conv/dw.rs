//! Gradients of weight and bias: inner products of dy with the runs of `expand`, over pixels and images.
//!
//! Work is cut into (group, block of input channels, chunk of the batch). Each task sums its chunk into a private block of
//! gradients; the chunks are then added in order. Chunks, blocks and strips depend on the geometry alone. The bias
//! gradient is one more column, whose run is all ones.
use super::Conv2d;
use super::correlate::strip_size;
use super::expand::{Axis, Layout, SLACK, Strip, cut, fill};
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::dot::{Dot, Dots, dots};
use crate::gemm::kernel::strips;
use crate::parallel::{Cost, SharedMut, abandoned, for_each};
use crate::simd::{self, Isa};

/// Elements of the copies of one unit of work (several images, or a strip of one).
const COPY_ELEMENTS: usize = 48 << 10;
/// Pixels that a tile sums before it adds to memory, at least (unless a chunk has fewer): the sum across lanes costs
/// about as much as 30 of them.
const PIXELS: usize = 512;
/// Channels of a block, at most: blocks are tasks without private sums to add up later, and a deep layer has big ones.
const BLOCK: usize = 32;
/// Rows of dy that stay in a first-level cache together with their tiles.
const ROWS: usize = 16;
/// Tasks that every problem is cut into, if it is big enough; not a function of the number of threads.
const TASKS: usize = 32;

struct Plan<'a, T> {
    p: &'a Conv2d,
    x: &'a [T],
    dy: &'a [T],
    axes: [Axis; 2],
    isa: Isa,
    dots: Dots<T>,
    layout: Layout,
    strips: Vec<Strip>,
    /// Images that are copied, and summed over, together.
    batch: usize,
    /// Input channels of a block; blocks of a group; taps of a channel.
    block: usize,
    blocks: usize,
    area: usize,
    /// Chunks of the batch, and batches of images in each.
    chunks: usize,
    per_chunk: usize,
    /// Starts of the runs of a whole block, then of the ones.
    taps: Vec<usize>,
    /// Whether the ones are needed.
    bias: bool,
}

pub(super) fn run<T: Real>(
    p: &Conv2d,
    x: &[T],
    dy: &[T],
    mut dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
) {
    if let Some(dw) = &mut dw {
        dw[..p.w_len()].fill(T::ZERO);
    }
    if let Some(db) = &mut db {
        db[..p.o].fill(T::ZERO);
    }
    if p.y_len() == 0 || (dw.is_none() && db.is_none()) {
        return;
    }
    // Without dw there are no input channels to look at.
    let (c, o) = (
        if dw.is_some() { p.c / p.groups } else { 0 },
        p.o / p.groups,
    );
    let plan = Plan::new(p, c, x, dy, db.is_some());
    let ld = plan.taps.len();
    let sizes = [p.groups, plan.blocks, o, ld];
    let room = sizes.iter().fold(plan.chunks, |n, &s| n.saturating_mul(s));
    let partial = Buffer::<T>::new(room);
    let tasks = plan.chunks * p.groups * plan.blocks;
    let cost = Cost {
        flops: 2.0 * p.y_len() as f64 * (c * plan.area + 1) as f64,
        bytes: ((p.x_len() + p.y_len()) * size_of::<T>()) as f64,
    };
    let shared = SharedMut(partial.ptr());
    for_each(tasks, cost, &|task| {
        // SAFETY: every task has its own part, and parts are only read after all tasks are done.
        let out = unsafe {
            core::ptr::write_bytes(shared.0.wrapping_add(task * o * ld), 0, o * ld);
            shared.slice(task * o * ld, o * ld)
        };
        plan.run(task, c, o, out);
    });
    // Chunks are the slowest axis of the tasks: add them in order.
    let units = p.groups * plan.blocks;
    let row = c * plan.area;
    let adding = Cost {
        flops: 0.0,
        bytes: (tasks * o * ld * size_of::<T>()) as f64,
    };
    let dw = dw.map(|dw| SharedMut(dw.as_mut_ptr()));
    let db = db.map(|db| SharedMut(db.as_mut_ptr()));
    for_each(units, adding, &|unit| {
        let (group, c0) = (unit / plan.blocks, unit % plan.blocks * plan.block);
        let taps = plan.block.min(c - c0) * plan.area;
        for oi in 0..o {
            let at = group * o + oi;
            for chunk in 0..plan.chunks {
                // SAFETY: written by the tasks above, which are done. Units own different channels of dw, and the first
                // of each group its part of db; lengths were checked by the caller.
                unsafe {
                    let sums = &*shared.slice(((chunk * units + unit) * o + oi) * ld, ld);
                    if let Some(dw) = &dw {
                        let dw = dw.slice(at * row + c0 * plan.area, taps);
                        for (dw, sum) in dw.iter_mut().zip(sums) {
                            *dw += *sum;
                        }
                    }
                    if let (Some(db), 0) = (&db, c0) {
                        db.slice(at, 1)[0] += sums[ld - 1];
                    }
                }
            }
        }
    });
}

impl<'a, T: Real> Plan<'a, T> {
    fn new(p: &'a Conv2d, c: usize, x: &'a [T], dy: &'a [T], bias: bool) -> Self {
        let axes = [p.axis(0), p.axis(1)];
        let area = p.kernel[0] * p.kernel[1];
        let pixels = p.oh * p.ow;
        // A block of channels whose copies for some PIXELS fit; then as many rows as fit with it.
        let columns = axes[1].taps.len().max(1);
        let block =
            (COPY_ELEMENTS / (columns * pixels.min(PIXELS) * 2)).clamp(1, c.clamp(1, BLOCK));
        let blocks = c.max(1).div_ceil(block);
        let block = c.div_ceil(blocks);
        let (rows, width) = strip_size(&axes[0], &axes[1], block, COPY_ELEMENTS, 1, false);
        let layout = Layout::new(&axes[0], &axes[1], rows, width, block);
        let strips = cut(p.oh, p.ow, rows, width);
        let unit = layout.len();
        let batch = if strips.len() > 1 {
            1
        } else {
            (2 * COPY_ELEMENTS / unit.max(1))
                .clamp(1, PIXELS.div_ceil(pixels))
                .min(p.n)
        };
        let batches = p.n.div_ceil(batch);
        let per_chunk = batches.div_ceil(TASKS.div_ceil(p.groups * blocks).min(batches));
        let mut taps = layout.taps();
        taps.push(batch.wrapping_mul(unit));
        Plan {
            p,
            x,
            dy,
            axes,
            isa: simd::isa(),
            dots: dots(simd::isa()),
            layout,
            strips,
            batch,
            block,
            blocks,
            area,
            chunks: batches.div_ceil(per_chunk),
            per_chunk,
            taps,
            bias,
        }
    }

    fn run(&self, task: usize, c: usize, o: usize, out: &mut [T]) {
        let p = self.p;
        let (chunk, unit) = (
            task / (p.groups * self.blocks),
            task % (p.groups * self.blocks),
        );
        let (group, c0) = (unit / self.blocks, unit % self.blocks * self.block);
        let channels = self.block.min(c - c0);
        let used = channels * self.area;
        // The last column is the bias; its place is the end of the row, behind any unused taps.
        let bias = self.bias && c0 == 0;
        let image = self.layout.len();
        let longest = self.layout.rows * self.layout.width;
        let room = self.batch.saturating_mul(image);
        let copy = Buffer::<T>::new(room.saturating_add(longest + SLACK));
        let ones = self.batch * image;
        let ld = self.taps.len();
        let source = p.h * p.w;
        let pixels = p.oh * p.ow;
        for first in (chunk * self.per_chunk..)
            .take(self.per_chunk)
            .map(|b| b * self.batch)
        {
            if first >= p.n {
                break;
            }
            let images = self.batch.min(p.n - first);
            for &strip in &self.strips {
                let len = strip.len();
                for i in 0..images {
                    let plane = ((first + i) * p.groups + group) * (p.c / p.groups) + c0;
                    // SAFETY: the buffer holds `batch` images and the slack.
                    unsafe {
                        fill(
                            self.isa,
                            &self.layout,
                            [&self.axes[0], &self.axes[1]],
                            strip,
                            channels,
                            (1, 0),
                            &self.x[plane * source..][..channels * source],
                            copy.ptr().add(i * image),
                        );
                    }
                }
                // SAFETY: `longest` elements from `ones` on are inside the buffer; filled after the copies, whose
                // last vectors may have run over them.
                unsafe { core::slice::from_raw_parts_mut(copy.ptr().add(ones), len) }.fill(T::ONE);
                // Pieces short enough for the rows of dy to stay in the cache, from one tile of columns to the next.
                for l0 in (0..len).step_by(PIXELS) {
                    let piece = PIXELS.min(len - l0);
                    for o0 in (0..o).step_by(ROWS) {
                        let block_rows = ROWS.min(o - o0);
                        if abandoned(2.0 * (block_rows * piece * images) as f64 * used as f64) {
                            return;
                        }
                        let tile = |first_tap: usize, cols: usize, b_unit: usize, out: *mut T| {
                            for (i0, rows) in strips(block_rows, self.dots.mr) {
                                let plane = (first * p.groups + group) * o + o0 + i0;
                                let at = plane * pixels + strip.i0 * p.ow + strip.j0 + l0;
                                let dot = Dot {
                                    a: self.dy[at..].as_ptr(),
                                    a_rs: pixels,
                                    a_unit: p.o * pixels,
                                    b: copy.ptr().wrapping_add(l0),
                                    taps: self.taps[first_tap..].as_ptr(),
                                    b_unit,
                                    units: images,
                                    len: piece,
                                    out: out.wrapping_add((o0 + i0) * ld),
                                    ldo: ld,
                                    cols,
                                };
                                // SAFETY: dy, the copies and this task's sums hold what the tile touches.
                                unsafe { self.dots.run(rows, &dot) };
                            }
                        };
                        let out = out.as_mut_ptr();
                        for t0 in (0..used).step_by(self.dots.nt) {
                            let cols = self.dots.nt.min(used - t0);
                            tile(t0, cols, image, out.wrapping_add(t0));
                        }
                        if bias {
                            // The same ones for every image.
                            tile(ld - 1, 1, 0, out.wrapping_add(ld - 1));
                        }
                    }
                }
            }
        }
    }
}
