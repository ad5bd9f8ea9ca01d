//! The input gradient: the forward pass backwards, image by image.
//!
//! A product `weights^T (c * taps, o) x dy (o, pixels)` gives what each tap sends back. It is added to the runs of the
//! layout in `expand` straight from the registers (taps of one kernel column share a run, shifted by rows), and the runs
//! are then added to the rows they came from. Each step is the adjoint of one of the forward pass, so stride, padding and
//! dilation need no cases, no multiplication with padding or with a stride's zeros happens, and pixels that no output
//! reads keep their 0. One task owns its channels of its image: nothing is shared, and the order of additions is fixed.
use super::Conv2d;
use super::correlate::strip_size;
use super::expand::{Axis, FRONT, Layout, SLACK, Strip, cut, fold};
use crate::alloc::collect;
use crate::element::Real;
use crate::elementwise::fill;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, select, strips};
use crate::gemm::pack::pack_b;
use crate::gemm::{Mat, k_blocks};
use crate::parallel::{Cost, SharedMut, abandoned, for_each};
use crate::simd::{self, Isa};

/// Elements that the runs of a task may take.
const RUN_ELEMENTS: usize = 64 << 10;
/// Pixels of a strip that the channels of a task leave room for.
const PIXELS: usize = 512;

struct Plan<'a, T> {
    p: &'a Conv2d,
    dy: &'a [T],
    dx: SharedMut<T>,
    axes: [Axis; 2],
    isa: Isa,
    kernels: Kernels<T>,
    layout: Layout,
    strips: Vec<Strip>,
    /// Channels of a task, and tasks of a group.
    block: usize,
    blocks: usize,
    area: usize,
    /// Of a full block, and of the last.
    orders: [Order; 2],
    /// Strips of the transposed weights, `[o][rows]` each, group after group and block after block.
    weights: Buffer<T>,
}

/// The rows of a block's product: (kernel row, channel, kernel column), so that taps which share a run (those of one channel
/// and kernel column) come far apart; a load that overlaps stores just made would wait for them.
struct Order {
    /// Where the run of each begins.
    taps: Vec<usize>,
    /// Its column in the weights of the block.
    columns: Vec<usize>,
}

impl Order {
    fn new(layout: &Layout, [kh, kw]: [usize; 2], channels: usize) -> Self {
        let rows =
            (0..kh).flat_map(|p| (0..channels).flat_map(move |c| (0..kw).map(move |q| (p, c, q))));
        Order {
            taps: collect(rows.clone().map(|(p, c, q)| layout.tap(c, p, q))),
            columns: collect(rows.map(|(p, c, q)| (c * kh + p) * kw + q)),
        }
    }
}

pub(super) fn run<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let area = p.kernel[0] * p.kernel[1];
    if p.x_len() == 0 || p.y_len() == 0 || area == 0 {
        fill(&mut dx[..p.x_len()], T::ZERO);
        return;
    }
    let axes = [p.axis(0), p.axis(1)];
    // All of this depends on the geometry alone, since it shows in the bits.
    let block = (RUN_ELEMENTS / (p.kernel[1] * (p.oh * p.ow).min(PIXELS) * 2)).clamp(1, c);
    let blocks = c.div_ceil(block);
    let block = c.div_ceil(blocks);
    let (rows, width) = strip_size(&axes[0], &axes[1], block, RUN_ELEMENTS, 1, false);
    let layout = Layout::new(&axes[0], &axes[1], rows, width, block);
    let isa = simd::isa();
    let last = c - (blocks - 1) * block;
    let orders = [block, last].map(|channels| Order::new(&layout, p.kernel, channels));
    let plan = Plan {
        p,
        dy,
        dx: SharedMut(dx.as_mut_ptr()),
        isa,
        kernels: select::<T>(isa, rows * width),
        strips: cut(p.oh, p.ow, rows, width),
        block,
        blocks,
        area,
        orders,
        weights: Buffer::new(p.groups * c * area * o),
        layout,
        axes,
    };
    let bytes = |elements: usize| (elements * size_of::<T>()) as f64;
    let packing = Cost {
        flops: 0.0,
        bytes: bytes(4 * p.w_len()),
    };
    for_each(p.groups * blocks, packing, &|unit| plan.pack(unit, c, o, w));
    let cost = Cost {
        flops: 2.0 * p.y_len() as f64 * (c * area) as f64,
        bytes: bytes(p.y_len() + p.x_len()),
    };
    for_each(p.n * p.groups * blocks, cost, &|task| plan.run(task, c, o));
}

impl<T: Real> Plan<'_, T> {
    /// (group, first channel, channels) of a unit.
    fn unit(&self, unit: usize, c: usize) -> (usize, usize, usize) {
        let c0 = unit % self.blocks * self.block;
        (unit / self.blocks, c0, self.block.min(c - c0))
    }

    /// Where the packed weights of rows from `row` on begin.
    fn packed(&self, group: usize, row: usize, c: usize, o: usize) -> *mut T {
        self.weights
            .ptr()
            .wrapping_add((group * c * self.area + row) * o)
    }

    fn order(&self, channels: usize) -> &Order {
        &self.orders[usize::from(channels < self.block)]
    }

    fn pack(&self, unit: usize, c: usize, o: usize, w: &[T]) {
        let (group, c0, channels) = self.unit(unit, c);
        let row_len = c * self.area;
        let columns = &self.order(channels).columns;
        for (i0, rows) in strips(columns.len(), self.kernels.mr) {
            let out = self.packed(group, c0 * self.area + i0, c, o);
            // SAFETY: o * rows elements of the buffer, which are this strip's alone.
            let out = unsafe { core::slice::from_raw_parts_mut(out, o * rows) };
            for (oi, out) in out.chunks_exact_mut(rows).enumerate() {
                let w = &w[(group * o + oi) * row_len + c0 * self.area..];
                for (out, &column) in out.iter_mut().zip(&columns[i0..i0 + rows]) {
                    *out = w[column];
                }
            }
        }
    }

    fn run(&self, task: usize, c: usize, o: usize) {
        let p = self.p;
        let units = p.groups * self.blocks;
        let image = task / units;
        let (group, c0, channels) = self.unit(task % units, c);
        let source = p.h * p.w;
        let plane = (image * p.groups + group) * c + c0;
        // SAFETY: dx holds all planes; these are this task's alone.
        let dx = unsafe { self.dx.slice(plane * source, channels * source) };
        fill(dx, T::ZERO);
        let len = self.layout.len();
        let buffer = Buffer::<T>::new(FRONT + len + SLACK);
        let runs = buffer.ptr().wrapping_add(FRONT);
        for &strip in &self.strips {
            // SAFETY: all of the buffer but its ends, whose values do not matter.
            unsafe { core::slice::from_raw_parts_mut(runs, len) }.fill(T::ZERO);
            self.multiply(strip, (image, group, c0, channels), c, o, runs);
            // SAFETY: the runs are the layout's.
            unsafe {
                let axes = [&self.axes[0], &self.axes[1]];
                fold(self.isa, &self.layout, axes, strip, channels, runs, dx);
            }
        }
    }

    /// Adds what dy sends through the weights to the runs.
    fn multiply(
        &self,
        strip: Strip,
        (image, group, c0, channels): (usize, usize, usize, usize),
        c: usize,
        o: usize,
        runs: *mut T,
    ) {
        let p = self.p;
        let pixels = p.oh * p.ow;
        let (nr, len) = (self.kernels.nr, strip.len());
        let order = self.order(channels);
        let first = (image * p.groups + group) * o * pixels + strip.i0 * p.ow + strip.j0;
        let tail = Buffer::<T>::new(if len % nr == 0 { 0 } else { o.min(512) * nr });
        // Panels outside, rows inside: a run element gets its sums in an order that does not depend on how taps fall
        // into tiles.
        for (k0, kc) in k_blocks(o) {
            for j0 in (0..len).step_by(nr) {
                let cols = nr.min(len - j0);
                if abandoned(2.0 * (cols * kc) as f64 * order.taps.len() as f64) {
                    return;
                }
                let b = Mat {
                    data: self.dy,
                    offset: first + k0 * pixels + j0,
                    rs: pixels as isize,
                    cs: 1,
                };
                let (b, b_ks) = if cols == nr {
                    (b.at(0, 0), b.rs)
                } else {
                    // A tile reads whole vectors, and there may be nothing behind the last pixel.
                    // SAFETY: kc rows of `cols` pixels are inside dy; the buffer holds the longest block.
                    unsafe { pack_b(self.isa, b, (0, kc), (0, cols), nr, tail.ptr()) };
                    (tail.ptr().cast_const(), nr as isize)
                };
                for (i0, rows) in strips(order.taps.len(), self.kernels.mr) {
                    let a = self.packed(group, c0 * self.area + i0, c, o);
                    let tile = Tile {
                        k: kc,
                        a: a.wrapping_add(k0 * rows),
                        a_rs: 1,
                        a_ks: rows as isize,
                        b,
                        b_ks,
                        c: runs.wrapping_add(j0),
                        c_rows: order.taps[i0..].as_ptr(),
                        cols,
                        load_c: true,
                        ..Tile::none()
                    };
                    // SAFETY: packed weights, dy (or its copy) and the runs hold what the tile touches.
                    unsafe { self.kernels.run(rows, &tile) };
                }
            }
        }
    }
}
