//! 2-D pooling on dense NCHW (n and c are merged in `planes`).
//!
//! Max-pooling stores the number of the winning tap, a byte for all usual windows. 2x2 windows that tile the plane
//! split even and odd columns in registers and write each gradient once; other windows run over their taps with a
//! vector of outputs in registers.
use crate::element::Real;
use crate::parallel::{Cost, SharedMut, for_each_chunk};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on};
use core::any::TypeId;
use core::ops::Range;

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
        assert_eq!(x, self.planes * self.h * self.w);
        assert_eq!(y, self.planes * self.oh * self.ow);
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
            taps: (0..p.ow).map(|j| p.taps(1, j)).collect(),
            padded: (0..p.ow).map(|j| p.padded_taps(1, j)).collect(),
            inside: (0..p.kernel[1]).map(|kw| p.inside(1, kw)).collect(),
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

/// Byte `i` of the result is bit `i` of `bits`.
#[inline(always)]
fn spread(bits: u32) -> u64 {
    let one_each =
        u64::from(bits & 0xff).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    (one_each + 0x7f7f_7f7f_7f7f_7f7f) >> 7 & 0x0101_0101_0101_0101
}

/// Stores the taps `bit0 + 2 * bit1` of `n <= 16` outputs at the start of `tap`, which may be longer: what follows is
/// scratch until it is written in its turn.
#[inline(always)]
fn store_taps<I: Tap>(tap: &mut [I], n: usize, bit0: u32, bit1: u32) {
    let low = spread(bit0) + 2 * spread(bit1);
    let high = if n > 8 {
        spread(bit0 >> 8) + 2 * spread(bit1 >> 8)
    } else {
        0
    };
    let all = u128::from(low) | u128::from(high) << 64;
    if TypeId::of::<I>() == TypeId::of::<u8>() && tap.len() >= 16 {
        // SAFETY: I is u8, and 16 of them may be written.
        unsafe { tap.as_mut_ptr().cast::<[u8; 16]>().write(all.to_le_bytes()) };
    } else {
        let bytes = all.to_le_bytes();
        for (t, b) in tap[..n].iter_mut().zip(bytes) {
            *t = I::from_usize(b.into());
        }
    }
}

/// The `n <= 16` taps at the start of `tap`, as numbers; lanes from `n` up are anything.
#[inline(always)]
fn load_taps<T: Real, I: Tap>(tap: &[I], n: usize) -> [T; 16] {
    let mut out = [T::ZERO; 16];
    if tap.len() >= 16 {
        for (o, t) in out.iter_mut().zip(&tap[..16]) {
            *o = T::from_f64(f64::from(t.to_usize() as u32));
        }
    } else {
        for (o, t) in out.iter_mut().zip(&tap[..n]) {
            *o = T::from_f64(f64::from(t.to_usize() as u32));
        }
    }
    out
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
unsafe fn store_pairs<S: Simd>(p: *mut S::T, n: usize, even: S::V, odd: S::V) {
    // SAFETY: the caller's promise; vectors past the end write nothing.
    unsafe {
        let (a, b) = S::interleave(even, odd);
        if n == S::LANES {
            S::store(p, a);
            S::store(p.add(S::LANES), b);
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

/// Whether `v` takes the place of `best`: greater, or NaN where there was none (the first of equals stays).
/// # Safety
/// S is enabled.
#[inline(always)]
unsafe fn wins<S: Simd>(v: S::V, best: S::V) -> S::M {
    // SAFETY: the caller's promise.
    unsafe { S::mask_and(S::mask_not(S::le(v, best)), S::eq(best, best)) }
}

struct Max2x2<'a, T, I>(&'a Pool2d, &'a [T], &'a mut [T], &'a mut [I]);
impl<T: Real, I: Tap> Kernel<T> for Max2x2<'_, T, I> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Max2x2(p, x, y, tap) = self;
        for (row, y) in y.chunks_exact_mut(p.ow).enumerate() {
            let x = &x[(row / p.oh * p.h + row % p.oh * 2) * p.w..][..2 * p.w];
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                // SAFETY: run by dispatch; 2 (j + n) <= 2 ow <= w columns of two rows, j + n <= ow outputs.
                unsafe {
                    let (a, b) = load_pairs::<S>(x.as_ptr().add(2 * j), n);
                    let (c, d) = load_pairs::<S>(x.as_ptr().add(p.w + 2 * j), n);
                    let m1 = wins::<S>(b, a);
                    let m = S::select(m1, b, a);
                    let m2 = wins::<S>(c, m);
                    let m = S::select(m2, c, m);
                    let m3 = wins::<S>(d, m);
                    S::store_n(y.as_mut_ptr().add(j), S::select(m3, d, m), n);
                    let (m1, m2, m3) = (S::mask_bits(m1), S::mask_bits(m2), S::mask_bits(m3));
                    store_taps(&mut tap[row * p.ow + j..], n, m3 | (m1 & !m2), m3 | m2);
                }
                j += S::LANES;
            }
        }
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

struct Max2x2Backward<'a, T, I>(&'a Pool2d, &'a [I], &'a [T], &'a mut [T]);
impl<T: Real, I: Tap> Kernel<T> for Max2x2Backward<'_, T, I> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Max2x2Backward(p, tap, dy, dx) = self;
        let size = p.oh * p.ow;
        for (k, dx) in dx.chunks_exact_mut(p.h * p.w).enumerate() {
            zero_rest(p, dx);
            for i in 0..p.oh {
                let at = k * size + i * p.ow;
                let mut j = 0;
                while j < p.ow {
                    let n = (p.ow - j).min(S::LANES);
                    let t = load_taps::<T, I>(&tap[at + j..], n);
                    // SAFETY: run by dispatch; n outputs from at + j, 2 n columns of rows 2 i and 2 i + 1.
                    unsafe {
                        let t = S::load(t.as_ptr());
                        let d = S::load_n(dy[at + j..at + j + n].as_ptr(), n);
                        let zero = S::zero();
                        let v0 = S::select(S::eq(t, zero), d, zero);
                        let v1 = S::select(S::eq(t, S::c(1.0)), d, zero);
                        let v2 = S::select(S::eq(t, S::c(2.0)), d, zero);
                        let v3 = S::select(S::eq(t, S::c(3.0)), d, zero);
                        let at = dx.as_mut_ptr().add(2 * (i * p.w + j));
                        store_pairs::<S>(at, n, v0, v1);
                        store_pairs::<S>(at.add(p.w), n, v2, v3);
                    }
                    j += S::LANES;
                }
            }
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

struct Max<'a, T, I>(&'a Pool2d, &'a Columns, &'a [T], &'a mut [T], &'a mut [I]);
impl<T: Real, I: Tap> Kernel<T> for Max<'_, T, I> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Max(p, columns, x, y, tap) = self;
        let rows = y.chunks_exact_mut(p.ow).zip(tap.chunks_exact_mut(p.ow));
        for (row, (y, tap)) in rows.enumerate() {
            let (plane, i) = (row / p.oh, row % p.oh);
            let x = &x[plane * p.h * p.w..][..p.h * p.w];
            let (first, count) = p.taps(0, i);
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                // The first tap inside the input wins until a larger one comes.
                let mut t = [T::ZERO; 16];
                for (l, t) in t[..n].iter_mut().enumerate() {
                    let (kw, seen) = columns.taps[j + l];
                    if count > 0 && seen > 0 {
                        *t = T::from_f64((first * p.kernel[1] + kw) as f64);
                    }
                }
                // SAFETY: run by dispatch; rows first .. first + count lie in the plane, j + n <= ow outputs.
                unsafe {
                    let (mut best, mut which) = (S::splat(T::NEG_INFINITY), S::load(t.as_ptr()));
                    for kh in first..first + count {
                        let at = i * p.stride[0] + kh * p.dilation[0] - p.pad[0];
                        let line = x[at * p.w..][..p.w].as_ptr();
                        for kw in 0..p.kernel[1] {
                            let js = &columns.inside[kw];
                            let v = tap_lanes::<S>(p, line, kw, js, j, n, T::NEG_INFINITY);
                            let m = wins::<S>(v, best);
                            best = S::select(m, v, best);
                            let number = (kh * p.kernel[1] + kw) as f64;
                            which = S::select(m, S::c(number), which);
                        }
                    }
                    S::store_n(y.as_mut_ptr().add(j), best, n);
                    let which = S::to_array(which);
                    let mut numbers = [0i32; 16];
                    for (o, t) in numbers.iter_mut().zip(which) {
                        *o = t.to_f64() as i32;
                    }
                    for (o, t) in tap[j..j + n].iter_mut().zip(numbers) {
                        *o = I::from_usize(t as usize);
                    }
                }
                j += S::LANES;
            }
        }
    }
}

/// `y = max over the window` (padding never wins), `tap` = first winning tap; NaN wins.
/// A window wholly in the padding gives -inf and tap 0.
pub fn max_pool2d<T: Real, I: Tap>(p: &Pool2d, x: &[T], y: &mut [T], tap: &mut [I]) {
    p.check(x.len(), y.len());
    assert_eq!(y.len(), tap.len());
    if y.is_empty() {
        return;
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let (y, tap) = (SharedMut(y.as_mut_ptr()), SharedMut(tap.as_mut_ptr()));
    let columns = Columns::new(p);
    over_planes::<T>(p.planes, ins, outs, |r| {
        let x = &x[r.start * ins..r.end * ins];
        // SAFETY: runs of planes are disjoint parts of y and tap, which we hold exclusively.
        let (y, tap) = unsafe {
            let (at, n) = (r.start * outs, r.len() * outs);
            (y.slice(at, n), tap.slice(at, n))
        };
        if p.is_2x2() {
            dispatch_on(isa, Max2x2(p, x, y, tap));
        } else {
            dispatch_on(isa, Max(p, &columns, x, y, tap));
        }
    });
}

/// `dx = sum of dy whose winner is x`; overwrites `dx`.
pub fn max_pool2d_backward<T: Real, I: Tap>(p: &Pool2d, tap: &[I], dy: &[T], dx: &mut [T]) {
    p.check(dx.len(), dy.len());
    assert_eq!(dy.len(), tap.len());
    if dx.is_empty() {
        return;
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(dx.as_mut_ptr());
    // Where each tap lies relative to the first one: dividing by the kernel's width for every output is slow.
    let taps = 0..p.kernel[0] * p.kernel[1];
    let offset = |t| t / p.kernel[1] * p.dilation[0] * p.w + t % p.kernel[1] * p.dilation[1];
    let offsets: Vec<usize> = taps.map(offset).collect();
    let columns = Columns::new(p);
    let narrow_padding = columns.taps.iter().all(|t| t.1 > 0);
    over_planes::<T>(p.planes, ins, outs, |r| {
        // SAFETY: runs of planes are disjoint parts of dx, which we hold exclusively.
        let dx = unsafe { shared.slice(r.start * ins, r.len() * ins) };
        let (tap, dy) = (
            &tap[r.start * outs..r.end * outs],
            &dy[r.start * outs..r.end * outs],
        );
        if p.is_2x2() {
            return dispatch_on(isa, Max2x2Backward(p, tap, dy, dx));
        }
        // One addition per output; the order within a plane is that of the outputs.
        dx.fill(T::ZERO);
        for (k, dx) in dx.chunks_exact_mut(ins).enumerate() {
            for i in 0..p.oh {
                let seen = p.taps(0, i).1 > 0;
                let start = (i * p.stride[0] * p.w).wrapping_sub(p.pad[0] * p.w + p.pad[1]);
                for j in 0..p.ow {
                    // A window wholly in the padding has no winner.
                    if seen && (narrow_padding || columns.taps[j].1 > 0) {
                        let o = k * outs + i * p.ow + j;
                        let at = start.wrapping_add(j * p.stride[1] + offsets[tap[o].to_usize()]);
                        dx[at] += dy[o];
                    }
                }
            }
        }
    });
}

/// The gradient of `max_pool2d_backward`: `y = x at the winning tap`.
pub fn max_pool2d_gather<T: Real, I: Tap>(p: &Pool2d, tap: &[I], x: &[T], y: &mut [T]) {
    p.check(x.len(), y.len());
    assert_eq!(y.len(), tap.len());
    let (ins, outs) = (p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(y.as_mut_ptr());
    over_planes::<T>(p.planes, ins, outs, |r| {
        for plane in r {
            // SAFETY: planes are disjoint parts of y, which we hold exclusively.
            let y = unsafe { shared.slice(plane * outs, outs) };
            let (x, tap) = (&x[plane * ins..][..ins], &tap[plane * outs..][..outs]);
            for i in 0..p.oh {
                for j in 0..p.ow {
                    let o = i * p.ow + j;
                    let at = p.position(i, j, tap[o].to_usize());
                    y[o] = at.map_or(T::ZERO, |at| x[at]);
                }
            }
        }
    });
}

struct Avg2x2<'a, T>(&'a Pool2d, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Avg2x2<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Avg2x2(p, x, y) = self;
        for (row, y) in y.chunks_exact_mut(p.ow).enumerate() {
            let x = &x[(row / p.oh * p.h + row % p.oh * 2) * p.w..][..2 * p.w];
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                // SAFETY: run by dispatch; 2 (j + n) <= 2 ow <= w columns of two rows, j + n <= ow outputs.
                unsafe {
                    let (a, b) = load_pairs::<S>(x.as_ptr().add(2 * j), n);
                    let (c, d) = load_pairs::<S>(x.as_ptr().add(p.w + 2 * j), n);
                    let sum = S::add(S::add(S::add(a, b), c), d);
                    S::store_n(y.as_mut_ptr().add(j), S::mul(sum, S::c(0.25)), n);
                }
                j += S::LANES;
            }
        }
    }
}

struct Avg2x2Backward<'a, T>(&'a Pool2d, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Avg2x2Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Avg2x2Backward(p, dy, dx) = self;
        for (k, dx) in dx.chunks_exact_mut(p.h * p.w).enumerate() {
            zero_rest(p, dx);
            for i in 0..p.oh {
                let dy = &dy[(k * p.oh + i) * p.ow..][..p.ow];
                let mut j = 0;
                while j < p.ow {
                    let n = (p.ow - j).min(S::LANES);
                    // SAFETY: run by dispatch; n outputs from j, 2 n columns of rows 2 i and 2 i + 1.
                    unsafe {
                        let d = S::mul(S::load_n(dy.as_ptr().add(j), n), S::c(0.25));
                        let at = dx.as_mut_ptr().add(2 * (i * p.w + j));
                        store_pairs::<S>(at, n, d, d);
                        store_pairs::<S>(at.add(p.w), n, d, d);
                    }
                    j += S::LANES;
                }
            }
        }
    }
}

/// What the sum over the window of output column `j` is divided by: the taps in it, in a row of windows that has
/// `rows` rows of them; with or without those in the padding. 1 for a window wholly in the padding.
#[inline(always)]
fn divisor<T: Real>(columns: &Columns, count_include_pad: bool, rows: usize, j: usize) -> T {
    let taps = if count_include_pad {
        columns.padded[j]
    } else {
        columns.taps[j].1
    };
    T::from_f64((rows * taps).max(1) as f64)
}

struct Avg<'a, T>(&'a Pool2d, &'a Columns, bool, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Avg<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Avg(p, columns, count_include_pad, x, y) = self;
        for (row, y) in y.chunks_exact_mut(p.ow).enumerate() {
            let (plane, i) = (row / p.oh, row % p.oh);
            let x = &x[plane * p.h * p.w..][..p.h * p.w];
            let (first, count) = p.taps(0, i);
            let rows = if count_include_pad {
                p.padded_taps(0, i)
            } else {
                count
            };
            let mut j = 0;
            while j < p.ow {
                let n = (p.ow - j).min(S::LANES);
                let mut by = [T::ONE; 16];
                for (l, by) in by[..n].iter_mut().enumerate() {
                    *by = divisor::<T>(columns, count_include_pad, rows, j + l);
                }
                // SAFETY: run by dispatch; rows first .. first + count lie in the plane, j + n <= ow outputs.
                unsafe {
                    let mut sum = S::zero();
                    for kh in first..first + count {
                        let at = i * p.stride[0] + kh * p.dilation[0] - p.pad[0];
                        let line = x[at * p.w..][..p.w].as_ptr();
                        for kw in 0..p.kernel[1] {
                            let js = &columns.inside[kw];
                            sum = S::add(sum, tap_lanes::<S>(p, line, kw, js, j, n, T::ZERO));
                        }
                    }
                    let mean = S::div(sum, S::load(by.as_ptr()));
                    S::store_n(y.as_mut_ptr().add(j), mean, n);
                }
                j += S::LANES;
            }
        }
    }
}

struct AvgBackward<'a, T>(&'a Pool2d, &'a Columns, bool, &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for AvgBackward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let AvgBackward(p, columns, count_include_pad, dy, dx) = self;
        let mut g = vec![T::ZERO; p.ow];
        dx.fill(T::ZERO);
        for (row, dy) in dy.chunks_exact(p.ow).enumerate() {
            let (plane, i) = (row / p.oh, row % p.oh);
            let dx = &mut dx[plane * p.h * p.w..][..p.h * p.w];
            let (first, count) = p.taps(0, i);
            let rows = if count_include_pad {
                p.padded_taps(0, i)
            } else {
                count
            };
            for j in 0..p.ow {
                g[j] = dy[j] / divisor::<T>(columns, count_include_pad, rows, j);
            }
            for kh in first..first + count {
                let at = i * p.stride[0] + kh * p.dilation[0] - p.pad[0];
                let line = &mut dx[at * p.w..][..p.w];
                for kw in 0..p.kernel[1] {
                    let js = columns.inside[kw].clone();
                    if js.is_empty() {
                        continue;
                    }
                    let s = p.stride[1];
                    let line = &mut line[js.start * s + kw * p.dilation[1] - p.pad[1]..];
                    let g = &g[js];
                    if s == 1 {
                        for (d, g) in line.iter_mut().zip(g) {
                            *d += *g;
                        }
                    } else {
                        for (d, g) in line.iter_mut().step_by(s).zip(g) {
                            *d += *g;
                        }
                    }
                }
            }
        }
    }
}

/// Mean over the window; divides by the number of real elements or, with `count_include_pad`, by that of all elements
/// in the padded input: the kernel area, except in a last window that reaches beyond the padding.
/// A window wholly in the padding gives 0.
pub fn avg_pool2d<T: Real>(p: &Pool2d, count_include_pad: bool, x: &[T], y: &mut [T]) {
    p.check(x.len(), y.len());
    if y.is_empty() {
        return;
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(y.as_mut_ptr());
    let columns = Columns::new(p);
    over_planes::<T>(p.planes, ins, outs, |r| {
        let x = &x[r.start * ins..r.end * ins];
        // SAFETY: runs of planes are disjoint parts of y, which we hold exclusively.
        let y = unsafe { shared.slice(r.start * outs, r.len() * outs) };
        if p.is_2x2() {
            dispatch_on(isa, Avg2x2(p, x, y));
        } else {
            dispatch_on(isa, Avg(p, &columns, count_include_pad, x, y));
        }
    });
}

/// Its transpose; overwrites `dx`.
pub fn avg_pool2d_backward<T: Real>(p: &Pool2d, count_include_pad: bool, dy: &[T], dx: &mut [T]) {
    p.check(dx.len(), dy.len());
    if dy.is_empty() {
        return dx.fill(T::ZERO);
    }
    let (isa, ins, outs) = (simd::isa(), p.h * p.w, p.oh * p.ow);
    let shared = SharedMut(dx.as_mut_ptr());
    let columns = Columns::new(p);
    over_planes::<T>(p.planes, ins, outs, |r| {
        let dy = &dy[r.start * outs..r.end * outs];
        // SAFETY: runs of planes are disjoint parts of dx, which we hold exclusively.
        let dx = unsafe { shared.slice(r.start * ins, r.len() * ins) };
        if p.is_2x2() {
            dispatch_on(isa, Avg2x2Backward(p, dy, dx));
        } else {
            dispatch_on(isa, AvgBackward(p, &columns, count_include_pad, dy, dx));
        }
    });
}

/// Input cells that output cell `i` of `out` averages along an axis of `len`.
#[inline(always)]
fn adaptive_window(i: usize, len: usize, out: usize) -> Range<usize> {
    i * len / out..((i + 1) * len).div_ceil(out)
}

/// Sum of a slice in 16 lanes, the lanes added pairwise; runs of 4096 added in order.
#[inline(always)]
fn sum<T: Real>(x: &[T]) -> T {
    let mut total = T::ZERO;
    for run in x.chunks(4096) {
        let mut lanes = [T::ZERO; 16];
        for c in run.chunks(16) {
            for (l, v) in lanes.iter_mut().zip(c) {
                *l += *v;
            }
        }
        for half in [8, 4, 2, 1] {
            for k in 0..half {
                lanes[k] += lanes[k + half];
            }
        }
        total += lanes[0];
    }
    total
}

struct Adaptive<'a, T>([usize; 4], &'a [T], &'a mut [T]);
impl<T: Real> Kernel<T> for Adaptive<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Adaptive([h, w, oh, ow], x, y) = self;
        for (x, y) in x.chunks_exact(h * w).zip(y.chunks_exact_mut(oh * ow)) {
            for i in 0..oh {
                let ys = adaptive_window(i, h, oh);
                for j in 0..ow {
                    let xs = adaptive_window(j, w, ow);
                    let total = if xs.len() == w {
                        sum(&x[ys.start * w..ys.end * w])
                    } else {
                        let mut t = T::ZERO;
                        for r in ys.clone() {
                            t += sum(&x[r * w + xs.start..r * w + xs.end]);
                        }
                        t
                    };
                    y[i * ow + j] = total / T::from_f64((ys.len() * xs.len()) as f64);
                }
            }
        }
    }
}

/// Adaptive average: output cell i averages input `floor(i*H/OH) .. ceil((i+1)*H/OH)`.
pub fn adaptive_avg_pool2d<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    x: &[T],
    y: &mut [T],
) {
    assert_eq!((x.len(), y.len()), (planes * h * w, planes * oh * ow));
    if y.is_empty() || x.is_empty() {
        return y.fill(T::ZERO);
    }
    let isa: Isa = simd::isa();
    let shared = SharedMut(y.as_mut_ptr());
    over_planes::<T>(planes, h * w, oh * ow, |r| {
        let x = &x[r.start * h * w..r.end * h * w];
        // SAFETY: runs of planes are disjoint parts of y, which we hold exclusively.
        let y = unsafe { shared.slice(r.start * oh * ow, r.len() * oh * ow) };
        dispatch_on(isa, Adaptive([h, w, oh, ow], x, y));
    });
}

/// Its transpose; overwrites `dx`.
pub fn adaptive_avg_pool2d_backward<T: Real>(
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    dy: &[T],
    dx: &mut [T],
) {
    assert_eq!((dx.len(), dy.len()), (planes * h * w, planes * oh * ow));
    let shared = SharedMut(dx.as_mut_ptr());
    over_planes::<T>(planes, h * w, oh * ow, |r| {
        for plane in r {
            // SAFETY: planes are disjoint parts of dx, which we hold exclusively.
            let dx = unsafe { shared.slice(plane * h * w, h * w) };
            dx.fill(T::ZERO);
            for i in 0..oh {
                let ys = adaptive_window(i, h, oh);
                for j in 0..ow {
                    let xs = adaptive_window(j, w, ow);
                    let count = T::from_f64((ys.len() * xs.len()) as f64);
                    let g = dy[(plane * oh + i) * ow + j] / count;
                    for r in ys.clone() {
                        for d in &mut dx[r * w + xs.start..r * w + xs.end] {
                            *d += g;
                        }
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests;
