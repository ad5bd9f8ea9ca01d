//! Gradients of weight and bias where there are enough output channels to fill vectors: a product `taps (rows) x pixels`
//! times `pixels x output channels` on the tiles of `gemm`.
//!
//! The left operand is the copies of `expand`, read where they lie: element (tap, pixel) is at the sum of their offsets. The
//! right operand is dy with the output channels innermost, packed a panel at a time. One more row, all ones, gives the
//! bias. Small images are taken several at a time, so that chains are long enough. Work is cut as in `dw`: by the geometry
//! alone.
use super::Conv2d;
use super::correlate::strip_size;
use super::expand::{Axis, Layout, SLACK, Strip, cut, fill};
use super::turn::Turn;
use crate::element::Real;
use crate::gemm::Mat;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, select, strips};
use crate::gemm::pack::pack_b;
use crate::parallel::{Cost, SharedMut, abandoned, for_each};
use crate::simd::{self, Isa, dispatch_on};

/// Elements of the copies of one unit of work (several images, or a strip of one).
const COPY_ELEMENTS: usize = 48 << 10;
/// Pixels of a chain: a panel of dy stays in a first-level cache.
const CHAIN: usize = 256;
/// Pixels that are copied together, about, where images are small.
const PIXELS: usize = 512;
/// Taps of a block of channels, about: dy is packed once for each block.
const BLOCK: usize = 384;
/// Tasks that every problem is cut into, if it is big enough; not a function of the number of threads.
const TASKS: usize = 32;

/// Whether tiles are well used: few columns of padding, and enough taps to pay for packing dy.
pub(super) fn fits(p: &Conv2d) -> bool {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    4 * o >= 3 * o.next_multiple_of(16) && c * p.kernel[0] * p.kernel[1] >= 32
}

struct Plan<'a, T> {
    p: &'a Conv2d,
    x: &'a [T],
    dy: &'a [T],
    axes: [Axis; 2],
    isa: Isa,
    kernels: Kernels<T>,
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
    /// Starts of the runs of a whole block, in the order of a weight.
    taps: Vec<usize>,
    /// Pixels of a whole strip, of all its images.
    longest: usize,
    /// Channels of x are read where they lie: a 1x1 convolution needs no copies.
    in_place: bool,
    /// Panels of dy, for (batch of images, group) after another, where images are small: cut into so many pieces they are
    /// packed once for all blocks. Otherwise empty.
    packed: Buffer<T>,
    /// Rows (a whole block and the ones) and columns of a task's sums.
    rows: usize,
    ld: usize,
}

pub(super) fn run<T: Real>(p: &Conv2d, x: &[T], dy: &[T], dw: &mut [T], db: Option<&mut [T]>) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let plan = Plan::new(p, c, o, x, dy);
    let part = plan.rows * plan.ld;
    let tasks = plan.chunks * p.groups * plan.blocks;
    let partial = Buffer::<T>::new(tasks.saturating_mul(part));
    let cost = Cost {
        flops: 2.0 * p.y_len() as f64 * (c * plan.area) as f64,
        bytes: ((p.x_len() + p.y_len()) * size_of::<T>()) as f64,
    };
    let shared = SharedMut(partial.ptr());
    plan.pack_all(o);
    let bias = db.is_some();
    for_each(tasks, cost, &|task| {
        // SAFETY: every task has its own part, and parts are only read after all tasks are done.
        let out = unsafe { shared.slice(task * part, part) };
        plan.run(task, (c, o), bias, out.as_mut_ptr());
    });
    // Chunks are the slowest axis of the tasks: add them in order.
    let units = p.groups * plan.blocks;
    let adding = Cost {
        flops: 0.0,
        bytes: (2 * tasks * part * size_of::<T>()) as f64,
    };
    let dw = SharedMut(dw.as_mut_ptr());
    let db = db.map(|db| SharedMut(db.as_mut_ptr()));
    for_each(units, adding, &|unit| {
        let (group, c0) = (unit / plan.blocks, unit % plan.blocks * plan.block);
        let used = plan.block.min(c - c0) * plan.area;
        // SAFETY: written by the tasks above, which are done (a buffer's numbers are valid anyway); each unit has its own.
        let sums = unsafe { shared.slice(unit * part, part) };
        for chunk in 1..plan.chunks {
            // SAFETY: as above; another chunk's part.
            let more = unsafe { &*shared.slice((chunk * units + unit) * part, part) };
            for (sum, more) in sums.iter_mut().zip(more) {
                *sum += *more;
            }
        }
        let (from, ld, dw) = (sums.as_ptr(), c * plan.area, &dw);
        let turn = Turn {
            from,
            from_ld: plan.ld,
            size: (used, o),
            to: dw.0.wrapping_add(group * o * ld + c0 * plan.area),
            to_ld: ld,
            relu: false,
        };
        dispatch_on(plan.isa, turn);
        if let (Some(db), 0) = (&db, c0) {
            // SAFETY: the first unit of each group owns its part of db, whose length was checked by the caller.
            let db = unsafe { db.slice(group * o, o) };
            db.copy_from_slice(&sums[used * plan.ld..][..o]);
        }
    });
}

impl<'a, T: Real> Plan<'a, T> {
    fn new(p: &'a Conv2d, c: usize, o: usize, x: &'a [T], dy: &'a [T]) -> Self {
        let axes = [p.axis(0), p.axis(1)];
        let area = p.kernel[0] * p.kernel[1];
        let pixels = p.oh * p.ow;
        // A block of channels whose copies for some pixels fit; then as many rows, or images, as fit with it.
        let copies = axes[1].step.min(axes[1].taps.len()).max(1);
        let most = (BLOCK / area.max(1)).clamp(1, c);
        let block = (COPY_ELEMENTS / (copies * pixels.min(CHAIN) * 3 / 2)).clamp(1, most);
        // Many blocks: a number that most numbers of threads divide.
        let blocks = match c.div_ceil(block) {
            few @ ..4 => few,
            many => many.next_multiple_of(4).min(c),
        };
        let block = c.div_ceil(blocks);
        let blocks = c.div_ceil(block);
        let (rows, width) = strip_size(&axes[0], &axes[1], block, COPY_ELEMENTS, 1, true);
        let layout = Layout::new(&axes[0], &axes[1], rows, width, block).shared(&axes[1]);
        let strips = cut(p.oh, p.ow, rows, width);
        let batch = if strips.len() > 1 {
            1
        } else {
            let fits = (2 * COPY_ELEMENTS / layout.len().max(1)).max(1);
            fits.min(PIXELS.div_ceil(pixels)).min(p.n)
        };
        let longest = rows * width * batch;
        let batches = p.n.div_ceil(batch);
        let per_chunk = batches.div_ceil(TASKS.div_ceil(p.groups * blocks).min(batches));
        let kernels = select::<T>(simd::isa(), o);
        let ld = o.next_multiple_of(kernels.nr);
        let whole = if batch > 1 && blocks > 1 {
            batches * p.groups * longest * ld
        } else {
            0
        };
        let taken_as_is = |a: &Axis| a.step == 1 && a.taps == [0] && a.src == a.out;
        let in_place = batch == 1 && axes.iter().all(taken_as_is);
        Plan {
            p,
            x,
            dy,
            axes,
            isa: simd::isa(),
            taps: layout.taps(),
            rows: block * area + 1,
            longest,
            in_place,
            packed: Buffer::new(whole),
            ld,
            kernels,
            layout,
            strips,
            batch,
            block,
            blocks,
            area,
            chunks: batches.div_ceil(per_chunk),
            per_chunk,
        }
    }

    /// Packs dy ahead, where that is done once.
    fn pack_all(&self, o: usize) {
        if self.packed.is_empty() {
            return;
        }
        let p = self.p;
        let (len, nr) = (self.longest, self.kernels.nr);
        let panels = self.ld / nr;
        let cost = Cost {
            flops: 0.0,
            bytes: (4 * p.y_len() * size_of::<T>()) as f64,
        };
        let packed = SharedMut(self.packed.ptr());
        for_each(p.n.div_ceil(self.batch) * p.groups * panels, cost, &|i| {
            let (unit, o0) = (i / panels, i % panels * nr);
            let (first, group) = (unit / p.groups * self.batch, unit % p.groups);
            let images = self.batch.min(p.n - first);
            // SAFETY: panel i of the buffer, which is this task's alone.
            let out = unsafe { packed.slice(i * len * nr, len * nr) };
            let strip = self.strips[0];
            self.pack(
                strip,
                (first, images),
                group * o + o0,
                o - o0,
                out.as_mut_ptr(),
            );
        });
    }

    /// Sums one chunk of the batch for one block of channels into `out`, `[rows][ld]`.
    fn run(&self, task: usize, (c, o): (usize, usize), bias: bool, out: *mut T) {
        let p = self.p;
        let units = p.groups * self.blocks;
        let (chunk, unit) = (task / units, task % units);
        let (group, c0) = (unit / self.blocks, unit % self.blocks * self.block);
        let channels = self.block.min(c - c0);
        let used = channels * self.area;
        let bias = bias && c0 == 0;
        let room = if self.in_place {
            0
        } else {
            self.batch
                .saturating_mul(self.layout.len())
                .saturating_add(SLACK)
        };
        let copy = Buffer::<T>::new(room);
        let source = p.h * p.w;
        let rows = Buffer::<usize>::new(used);
        for tap in 0..used {
            let at = if self.in_place {
                tap * source
            } else {
                self.taps[tap]
            };
            // SAFETY: one of `used`.
            unsafe { rows.ptr().add(tap).write(at) };
        }
        let nr = self.kernels.nr;
        let own = Buffer::<T>::new(if self.packed.is_empty() {
            self.longest * nr
        } else {
            0
        });
        let one = T::ONE;
        let mut first_sum = true;
        for first in (chunk * self.per_chunk..)
            .take(self.per_chunk)
            .map(|b| b * self.batch)
            .take_while(|&first| first < p.n)
        {
            let images = self.batch.min(p.n - first);
            let plane = (first * p.groups + group) * c + c0;
            let x = &self.x[plane * source..(plane + (images - 1) * p.c + channels) * source];
            for &strip in &self.strips {
                let left = if self.in_place {
                    x[strip.i0 * p.w + strip.j0..].as_ptr()
                } else {
                    let axes = [&self.axes[0], &self.axes[1]];
                    for (i, x) in x.chunks(p.c * source).enumerate() {
                        let copy = copy.ptr().wrapping_add(i * self.layout.len());
                        // SAFETY: the buffer holds `batch` images of `block` channels and the slack.
                        unsafe {
                            fill(
                                self.isa,
                                &self.layout,
                                axes,
                                strip,
                                channels,
                                (1, 0),
                                x,
                                copy,
                            );
                        }
                    }
                    copy.ptr().cast_const()
                };
                let pixels = self.pixels(strip, images);
                let len = strip.len() * images;
                let chain = len.div_ceil(len.div_ceil(CHAIN));
                for o0 in (0..o).step_by(nr) {
                    let panel = if self.packed.is_empty() {
                        self.pack(strip, (first, images), group * o + o0, o - o0, own.ptr());
                        own.ptr()
                    } else {
                        let unit = first / self.batch * p.groups + group;
                        let at = (unit * self.ld + o0) * self.longest;
                        self.packed.ptr().wrapping_add(at)
                    };
                    for l0 in (0..len).step_by(chain) {
                        let k = chain.min(len - l0);
                        if abandoned(2.0 * (k * nr) as f64 * used as f64) {
                            return;
                        }
                        let tile = Tile {
                            k,
                            a: left.wrapping_add(if self.in_place { l0 } else { 0 }),
                            a_ks: 1,
                            taps: pixels.ptr().wrapping_add(l0),
                            b: panel.wrapping_add(l0 * nr),
                            b_ks: nr as isize,
                            c: out.wrapping_add(o0),
                            ldc: self.ld,
                            cols: nr,
                            load_c: !(first_sum && l0 == 0),
                            ..Tile::none()
                        };
                        for (i0, height) in strips(used, self.kernels.mr) {
                            let tile = Tile {
                                a_rows: rows.ptr().wrapping_add(i0),
                                c: tile.c.wrapping_add(i0 * self.ld),
                                ..tile
                            };
                            // SAFETY: the copies (or x), the panel and this task's sums hold what the tile touches: ld is
                            // a multiple of its columns.
                            unsafe {
                                if self.in_place {
                                    self.kernels.run(height, &tile);
                                } else {
                                    self.kernels.run_table_a(height, &tile);
                                }
                            }
                        }
                        if bias {
                            // The same number again and again: a row of ones.
                            let tile = Tile {
                                a: &raw const one,
                                a_ks: 0,
                                c: tile.c.wrapping_add(used * self.ld),
                                ..tile
                            };
                            // SAFETY: as above; the last row.
                            unsafe { self.kernels.run(1, &tile) };
                        }
                    }
                }
                first_sum = false;
            }
        }
    }

    /// Where the pixels of a strip lie in the copies, image after image.
    fn pixels(&self, strip: Strip, images: usize) -> Buffer<usize> {
        let pixels = Buffer::new(strip.len() * images);
        let mut at: *mut usize = pixels.ptr();
        for image in 0..images {
            for row in 0..strip.rows {
                let first = image * self.layout.len() + self.layout.row(row);
                for pixel in first..first + strip.cols {
                    // SAFETY: as many as the strip has pixels, in each image.
                    unsafe { at.write(pixel) };
                    at = at.wrapping_add(1);
                }
            }
        }
        pixels
    }

    /// Packs output channels from `o0` on (at most `limit`) of the strip's pixels of dy: `[pixels][nr]`, image after image.
    fn pack(
        &self,
        strip: Strip,
        (first, images): (usize, usize),
        o0: usize,
        limit: usize,
        out: *mut T,
    ) {
        let p = self.p;
        let nr = self.kernels.nr;
        let pixels = p.oh * p.ow;
        for image in 0..images {
            // Strips are whole rows, or parts of one row, so their pixels lie one after the other.
            let dy = Mat {
                data: self.dy,
                offset: ((first + image) * p.o + o0) * pixels + strip.i0 * p.ow + strip.j0,
                rs: 1,
                cs: pixels as isize,
            };
            let out = out.wrapping_add(image * strip.len() * nr);
            // SAFETY: the pixels are inside dy; the panel holds nr columns of a whole strip of all images.
            unsafe { pack_b(self.isa, dy, (0, strip.len()), (0, limit.min(nr)), nr, out) };
        }
    }
}
