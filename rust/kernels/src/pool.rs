//! 2-D pooling on dense NCHW (n and c are merged in `planes`).
//!
//! Max-pooling stores the number of the winning tap, a byte for all usual windows. 2x2 windows that tile the plane
//! split even and odd columns in registers and write each gradient once; other windows run over their taps with a
//! vector of outputs in registers.
use crate::alloc::collect;
use crate::element::Real;
use crate::elementwise::fill;
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on};
use crate::stream;
use core::ops::Range;

mod adaptive;
mod avg;
mod max;
pub use adaptive::{adaptive_avg_pool2d, adaptive_avg_pool2d_backward};
pub use avg::{avg_pool2d, avg_pool2d_backward};
pub use max::{max_pool2d, max_pool2d_backward, max_pool2d_gather};

/// Geometry of a 2-D window; 1-D pooling uses h = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Pool2d {
    pub planes: usize,
    pub h: usize,
    pub w: usize,
    pub oh: usize,
    pub ow: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// top, left (what lies beyond the bottom and right follows from oh, ow)
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
}

/// Integer type that stores the winning tap `kh * KW + kw`.
pub trait Tap: Copy + Send + Sync + 'static {
    /// From a tap number that fits.
    fn from_usize(x: usize) -> Self;
    /// Back.
    fn to_usize(self) -> usize;
}
impl Tap for u8 {
    #[inline(always)]
    fn from_usize(x: usize) -> Self {
        x as u8
    }
    #[inline(always)]
    fn to_usize(self) -> usize {
        self as usize
    }
}
impl Tap for i32 {
    #[inline(always)]
    fn from_usize(x: usize) -> Self {
        x as i32
    }
    #[inline(always)]
    fn to_usize(self) -> usize {
        self as usize
    }
}

impl Pool2d {
    /// Windows that tile the plane two by two, without padding.
    fn is_2x2(&self) -> bool {
        self.kernel == [2, 2]
            && self.stride == [2, 2]
            && self.pad == [0, 0]
            && self.dilation == [1, 1]
            && 2 * self.oh <= self.h
            && 2 * self.ow <= self.w
    }
    fn check(&self, x: usize, y: usize) {
        assert_eq!(x, numel(&[self.planes, self.h, self.w]));
        assert_eq!(y, numel(&[self.planes, self.oh, self.ow]));
    }
    /// Outputs along one axis whose tap `k` lies inside the input: `0 <= o * stride + k * dilation - pad < len`.
    #[inline(always)]
    fn inside(&self, axis: usize, k: usize) -> Range<usize> {
        let (len, out) = [(self.h, self.oh), (self.w, self.ow)][axis];
        let (s, shift) = (self.stride[axis], k * self.dilation[axis]);
        let first = self.pad[axis].saturating_sub(shift).div_ceil(s);
        let end = (len + self.pad[axis]).saturating_sub(shift).div_ceil(s);
        first.min(out)..end.min(out).max(first.min(out))
    }
    /// First tap along one axis that lies inside the input for output `o`, and how many do.
    #[inline(always)]
    fn taps(&self, axis: usize, o: usize) -> (usize, usize) {
        let len = [self.h, self.w][axis];
        let d = self.dilation[axis];
        let start = o * self.stride[axis];
        let first = self.pad[axis]
            .saturating_sub(start)
            .div_ceil(d)
            .min(self.kernel[axis]);
        let end = (len + self.pad[axis]).saturating_sub(start).div_ceil(d);
        (first, end.clamp(first, self.kernel[axis]) - first)
    }
    /// Taps along one axis that lie inside the input or its padding, which is `pad` on both sides: all of them, unless
    /// rounding up the number of windows made the last one reach beyond.
    #[inline(always)]
    fn padded_taps(&self, axis: usize, o: usize) -> usize {
        let len = [self.h, self.w][axis] + 2 * self.pad[axis];
        let room = len.saturating_sub(o * self.stride[axis]);
        room.div_ceil(self.dilation[axis]).min(self.kernel[axis])
    }
    /// Position in the plane that tap `t` of output (i, j) reads; `None` in the padding.
    #[inline(always)]
    fn position(&self, i: usize, j: usize, t: usize) -> Option<usize> {
        let (kh, kw) = (t / self.kernel[1], t % self.kernel[1]);
        let y = (i * self.stride[0] + kh * self.dilation[0]).wrapping_sub(self.pad[0]);
        let x = (j * self.stride[1] + kw * self.dilation[1]).wrapping_sub(self.pad[1]);
        (y < self.h && x < self.w).then(|| y * self.w + x)
    }
}

/// What the kernels ask about columns again and again; the divisions behind it are slower than the work.
struct Columns {
    /// Per output column: the first tap inside the input, and how many are.
    taps: Vec<(usize, usize)>,
    /// Per output column: [`Pool2d::padded_taps`].
    padded: Vec<usize>,
    /// Per tap column: [`Pool2d::inside`].
    inside: Vec<Range<usize>>,
}

impl Columns {
    fn new(p: &Pool2d) -> Self {
        Columns {
            taps: collect((0..p.ow).map(|j| p.taps(1, j))),
            padded: collect((0..p.ow).map(|j| p.padded_taps(1, j))),
            inside: collect((0..p.kernel[1]).map(|kw| p.inside(1, kw))),
        }
    }
}

/// Calls `f(planes)` on runs of planes of about 16 Ki elements, in parallel.
fn over_planes<T>(planes: usize, ins: usize, outs: usize, f: impl Fn(Range<usize>) + Sync) {
    let cost = Cost {
        flops: 0.0,
        bytes: (planes * (ins + outs) * size_of::<T>()) as f64,
    };
    let per_tile = (16_384 / (ins + outs).max(1)).max(1);
    for_each_chunk(planes, per_tile, cost, &f);
}

/// `n <= LANES` pairs: even columns, then odd ones.
/// # Safety
/// S is enabled, and `2 n` elements at `p` may be read.
#[inline(always)]
unsafe fn load_pairs<S: Simd>(p: *const S::T, n: usize) -> (S::V, S::V) {
    // SAFETY: the caller's promise; vectors past the end read nothing.
    unsafe {
        if n == S::LANES {
            S::deinterleave(S::load(p), S::load(p.add(S::LANES)))
        } else {
            let (a, b) = ((2 * n).min(S::LANES), (2 * n).saturating_sub(S::LANES));
            S::deinterleave(S::load_n(p, a), S::load_n(p.wrapping_add(S::LANES), b))
        }
    }
}

/// Inverse of [`load_pairs`].
/// # Safety
/// S is enabled, and `2 n` elements at `p` may be written.
#[inline(always)]
unsafe fn store_pairs<S: Simd>(past: bool, p: *mut S::T, n: usize, even: S::V, odd: S::V) {
    // SAFETY: the caller's promise; vectors past the end write nothing.
    unsafe {
        let (a, b) = S::interleave(even, odd);
        if n == S::LANES {
            S::put(past, p, a);
            S::put(past, p.add(S::LANES), b);
        } else if 2 * n == S::LANES {
            S::put(past, p, a);
        } else {
            S::store_n(p, a, (2 * n).min(S::LANES));
            S::store_n(
                p.wrapping_add(S::LANES),
                b,
                (2 * n).saturating_sub(S::LANES),
            );
        }
    }
}

/// Columns that tap `kw` of outputs `j .. j + n` reads from one row of the input; `fill` where that is padding.
/// `js` is [`Pool2d::inside`] of the tap.
/// # Safety
/// S is enabled, `n <= LANES`, and `row` has `p.w` elements.
#[inline(always)]
unsafe fn tap_lanes<S: Simd>(
    p: &Pool2d,
    row: *const S::T,
    kw: usize,
    js: &Range<usize>,
    j: usize,
    n: usize,
    fill: S::T,
) -> S::V {
    let (s, shift) = (p.stride[1], kw * p.dilation[1]);
    // SAFETY: the caller's promise; columns of outputs inside `js` lie in the row, the last one at 2 (n - 1) for s = 2.
    unsafe {
        if js.start <= j && j + n <= js.end && s <= 2 {
            let at = row.add(j * s + shift - p.pad[1]);
            if s == 1 {
                return if n == S::LANES {
                    S::load(at)
                } else {
                    S::load_n(at, n)
                };
            }
            let (a, b) = (
                (2 * n - 1).min(S::LANES),
                (2 * n - 1).saturating_sub(S::LANES),
            );
            let (a, b) = (S::load_n(at, a), S::load_n(at.wrapping_add(S::LANES), b));
            return S::deinterleave(a, b).0;
        }
        let mut v = [fill; 16];
        for l in 0..n {
            if js.contains(&(j + l)) {
                v[l] = *row.add((j + l) * s + shift - p.pad[1]);
            }
        }
        S::load(v.as_ptr())
    }
}

/// What remains of a plane's gradient beside the 2x2 windows is 0.
#[inline(always)]
fn zero_rest<T: Real>(p: &Pool2d, plane: &mut [T]) {
    if 2 * p.ow < p.w {
        for row in plane.chunks_exact_mut(p.w) {
            row[2 * p.ow..].fill(T::ZERO);
        }
    }
    plane[2 * p.oh * p.w..].fill(T::ZERO);
}

#[cfg(test)]
mod tests;
