//! The forward pass: per image and group a product `weights (o, taps) x B (taps, pixels)` whose right operand is read at
//! `copy + offset[tap]` (see `expand`).
use super::expand::{Axis, Layout, SLACK, Strip, cut, fill};
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, Tile, select, strips};
use crate::gemm::{Activation, apply_activation};
use crate::parallel::{Cost, SharedMut, abandoned, for_each, num_threads};
use crate::simd;

/// Bytes that a thread's copy may take: it has to stay in a second-level cache beside the weights.
const COPY_BYTES: usize = 256 << 10;
/// Taps that run as one block, and the block length otherwise; as in `gemm`.
const ONE_BLOCK: usize = 384;
const BLOCK: usize = 256;

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

/// Channels of a block, so that a block has about BLOCK taps; by the shape alone, since it shows in the bits.
fn block_channels(c: usize, taps: usize) -> usize {
    if c * taps <= ONE_BLOCK {
        c
    } else {
        c.div_ceil((c * taps).div_ceil(BLOCK))
    }
}

/// Rows and width of a strip whose copy fits the cache. Not visible in the bits.
pub(crate) fn strip_size(
    rows: &Axis,
    cols: &Axis,
    channels: usize,
    limit: usize,
    at_least: usize,
) -> (usize, usize) {
    let per_row = (channels * cols.taps.len()).max(1);
    let fits = |r: usize| Layout::new(rows, cols, r, cols.out, channels.max(1)).len() <= limit;
    // Enough pieces for all threads, and none so thin that the rows which neighbours share dominate.
    let cap = rows.out.div_ceil(at_least).max(1);
    if cols.out <= 1024 || fits(1) {
        let (mut low, mut high) = (1, cap);
        while low < high {
            let mid = (low + high).div_ceil(2);
            if fits(mid) { low = mid } else { high = mid - 1 }
        }
        let r = rows.out.div_ceil(rows.out.div_ceil(low));
        (r, cols.out)
    } else {
        // Very long rows: one at a time, in pieces.
        let width = limit / (per_row * rows.taps.len().max(1));
        (1, width.clamp(256, cols.out) / 64 * 64)
    }
}

impl<T: Real> Correlate<'_, T> {
    /// Computes all outputs.
    pub fn run(&self) {
        let (oh, ow) = (self.rows.out, self.cols.out);
        let planes = self.n * self.groups;
        if self.n == 0 || self.groups * self.o == 0 || oh == 0 || ow == 0 {
            return;
        }
        let taps = self.rows.taps.len() * self.cols.taps.len();
        let flops = 2.0 * (planes * self.o * oh * ow) as f64 * (self.c * taps) as f64;
        let elements = self.src.len() + planes * self.o * oh * ow;
        let cost = Cost {
            flops,
            bytes: (elements * size_of::<T>()) as f64,
        };
        let threads = if flops < 10e3 { 1 } else { num_threads() };
        let block = block_channels(self.c, taps);
        let limit = COPY_BYTES / size_of::<T>();
        let pieces = (2 * threads).div_ceil(planes);
        let (rows, width) = strip_size(&self.rows, &self.cols, block, limit, pieces);
        let layout = Layout::new(&self.rows, &self.cols, rows, width, block);
        let list = cut(oh, ow, rows, width);
        // Too few strips for all threads: the output channels are shared out too.
        let chunks = threads
            .div_ceil(planes * list.len())
            .min(self.o.div_ceil(8));
        let task = Task {
            all: self,
            isa: simd::isa(),
            block,
            tap_count: taps,
            taps: layout.taps(),
            kernels: select::<T>(simd::isa(), rows * width),
            layout,
        };
        let per_plane = list.len() * chunks;
        for_each(planes * per_plane, cost, &|i| {
            let (plane, rest) = (i / per_plane, i % per_plane);
            let (strip, chunk) = (list[rest / chunks], rest % chunks);
            let o0 = self.o * chunk / chunks;
            task.run(plane, strip, o0, self.o * (chunk + 1) / chunks - o0);
        });
    }
}

struct Task<'a, T> {
    all: &'a Correlate<'a, T>,
    isa: simd::Isa,
    layout: Layout,
    block: usize,
    tap_count: usize,
    taps: Vec<usize>,
    kernels: Kernels<T>,
}

impl<T: Real> Task<'_, T> {
    /// Output channels `o0 .. o0 + o` of one strip of one (image, group).
    fn run(&self, plane: usize, strip: Strip, o0: usize, o: usize) {
        let all = self.all;
        let group = plane % all.groups;
        let len = strip.len();
        let kernels = &self.kernels;
        let copy = Buffer::<T>::new(self.layout.len() + SLACK);
        let area = all.rows.out * all.cols.out;
        // Strips are whole rows, or parts of one row, so their pixels lie one after the other.
        let at = (plane * all.o + o0) * area + strip.i0 * all.cols.out + strip.j0;
        let out = all.out.0.wrapping_add(at);
        let source = all.rows.src * all.cols.src;
        let k = all.c * self.tap_count;
        let mut c0 = 0;
        loop {
            let channels = self.block.min(all.c - c0);
            let planes = &all.src[(plane * all.c + c0) * source..][..channels * source];
            // SAFETY: the buffer holds `block` channels and the slack.
            unsafe {
                let axes = [&all.rows, &all.cols];
                fill(
                    self.isa,
                    &self.layout,
                    axes,
                    strip,
                    channels,
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
                for j0 in (0..len).step_by(kernels.nr) {
                    let tile = Tile {
                        k: k_here,
                        a: all
                            .weights
                            .as_ptr()
                            .wrapping_add(row * k + c0 * self.tap_count),
                        a_rs: k as isize,
                        a_ks: 1,
                        b: copy.ptr().wrapping_add(j0),
                        b_ks: 0,
                        taps: self.taps.as_ptr(),
                        c: out.wrapping_add(i0 * area + j0),
                        ldc: area,
                        c_rows: core::ptr::null(),
                        cols: kernels.nr.min(len - j0),
                        load_c: c0 > 0,
                        bias: core::ptr::null(),
                        row_bias: match all.bias {
                            Some(bias) if last => bias[row..].as_ptr(),
                            _ => core::ptr::null(),
                        },
                        relu: last && all.act == Activation::Relu,
                        pre: core::ptr::null_mut(),
                    };
                    // SAFETY: the weights, the copy (with slack for a partial tile) and the output hold what the tile
                    // touches (lengths were checked by the caller); tasks write disjoint outputs.
                    unsafe {
                        kernels.run_table(height, &tile);
                        if last {
                            apply_activation(self.isa, all.act, tile.c, height, tile.cols, area);
                        }
                    }
                }
            }
            c0 += channels;
            if c0 >= all.c {
                break;
            }
        }
    }
}
