//! Depthwise convolution: every group has one input channel. Nothing is reused but the pixels, so a plane is read once, and they meet all
//! taps while they are in the first-level cache.
//!
//! A strip of rows is copied with its padding, columns sorted by remainder modulo the stride; then tap (p, q) of `LANES`
//! neighbouring outputs is one vector at a fixed distance from the first. Forward and, at stride 1, the input gradient (the
//! same sum over flipped taps) keep the outputs in registers over all taps, two rows of them for 3 x 3; at other strides the input gradient is the
//! adjoint, vectors added to the copy. The weight gradient ([`dw`]) keeps one vector of sums per tap. The usual kernel, 3 x 3 at stride 1,
//! needs no copy ([`direct`]). Everything is cut by planes and by the geometry, so no thread count shows in the bits.
mod direct;
pub(super) mod dw;

use super::Conv2d;
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::{Activation, apply_activation};
use crate::parallel::{Cost, SharedMut, abandoned, for_each, for_each_chunk};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on, prefetch_run};
use core::ops::Range;
use direct::Direct;

/// Bytes of a strip's copy.
const COPY_BYTES: usize = 24 << 10;
/// Elements behind the copy that a vector may read, and that one store may overrun.
const SLACK: usize = 64;
/// Widest vector: rows of the copy are padded to a multiple, so that a vector behind the last column reads zeros.
const LANES: usize = 16;

/// Rows of the copy are multiples of this, so that vectors of up to 8 numbers fill one without a masked store.
const ALIGN: usize = 8;

/// Whether a geometry is for this file: a product with one row of weights per channel has nothing to reuse.
pub(super) fn fits(p: &Conv2d) -> bool {
    p.groups > 1 && p.c == p.groups && p.o / p.groups <= 4 && !p.kernel.contains(&0)
}

/// How outputs of one plane read a source plane: row `i * step + p * dilation - pad`, columns alike.
#[derive(Clone, Copy, Debug)]
struct Reads {
    src: [usize; 2],
    out: [usize; 2],
    kernel: [usize; 2],
    step: [usize; 2],
    dilation: [usize; 2],
    pad: [isize; 2],
}

impl Reads {
    fn forward(p: &Conv2d) -> Self {
        Reads {
            src: [p.h, p.w],
            out: [p.oh, p.ow],
            kernel: p.kernel,
            // A single output takes no step; a huge one would only make work.
            step: [
                if p.oh > 1 { p.stride[0] } else { 1 },
                if p.ow > 1 { p.stride[1] } else { 1 },
            ],
            dilation: p.dilation,
            pad: p.pad.map(|x| x as isize),
        }
    }
    /// Pixels of x as sums over dy, at stride 1; the taps are flipped.
    fn backward(p: &Conv2d) -> Self {
        let pad = |d: usize| ((p.kernel[d] - 1) * p.dilation[d]) as isize - p.pad[d] as isize;
        Reads {
            src: [p.oh, p.ow],
            out: [p.h, p.w],
            kernel: p.kernel,
            step: [1, 1],
            dilation: p.dilation,
            pad: [pad(0), pad(1)],
        }
    }
    /// Distance from the first to the last tap.
    fn reach(&self, d: usize) -> usize {
        (self.kernel[d] - 1) * self.dilation[d]
    }
    /// Elements from one column remainder to the next.
    fn pitch(&self) -> usize {
        let columns = self.out[1].next_multiple_of(LANES) + self.reach(1) / self.step[1];
        columns.next_multiple_of(ALIGN)
    }
    /// Elements of a row of the copy: all remainders.
    fn row(&self) -> usize {
        self.pitch() * self.step[1]
    }
    /// Rows of the copy that `rows` outputs read.
    fn rows(&self, rows: usize) -> usize {
        (rows - 1) * self.step[0] + self.reach(0) + 1
    }
    /// Output rows of a strip, so that its copy stays in the cache.
    fn strip(&self, bytes: usize) -> usize {
        let fits = bytes / (self.row() * size_of::<f32>());
        let rows = fits.saturating_sub(self.reach(0) + 1) / self.step[0] + 1;
        // Strips much lower than the kernel would copy most rows several times.
        rows.max(self.reach(0) + 1).min(self.out[0])
    }
    /// Where each tap lies, from an output's first.
    fn taps(&self) -> Vec<usize> {
        let mut taps = Vec::with_capacity(self.kernel[0] * self.kernel[1]);
        for p in 0..self.kernel[0] {
            for q in 0..self.kernel[1] {
                let column = q * self.dilation[1];
                let at = column % self.step[1] * self.pitch() + column / self.step[1];
                taps.push(p * self.dilation[0] * self.row() + at);
            }
        }
        taps
    }
    /// Whether this is a dense 3 x 3 kernel that takes so long steps.
    fn is_square(&self, step: usize) -> bool {
        self.kernel == [SIDE; 2] && self.dilation == [1; 2] && self.step == [step; 2]
    }
    /// Columns of remainder `f` that come from the source: `low..high` of the copy, the first of them from column `from`.
    fn columns(&self, f: usize) -> (usize, usize, usize) {
        let step = self.step[1] as isize;
        let start = f as isize - self.pad[1];
        let count = |limit: isize| {
            let n = (limit - start + step - 1).div_euclid(step);
            n.clamp(0, self.pitch() as isize) as usize
        };
        let (low, high) = (count(0), count(self.src[1] as isize));
        (
            low,
            high.max(low),
            (start + low as isize * step).max(0) as usize,
        )
    }
    /// The source row that row `r` of the copy of a strip from output row `i0` holds.
    fn source_row(&self, i0: usize, r: usize) -> Option<usize> {
        let row = (i0 * self.step[0] + r) as isize - self.pad[0];
        usize::try_from(row).ok().filter(|&row| row < self.src[0])
    }
}

/// Copies what output rows `i0 .. i0 + rows` read. Zeros stand for the padding and fill every row up: those in the columns are there
/// from the beginning, in a buffer that has seen copies of this geometry only.
struct Fill<'a, T> {
    reads: &'a Reads,
    i0: usize,
    rows: usize,
    plane: &'a [T],
    copy: *mut T,
}

impl<T: Real> Kernel<T> for Fill<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let g = self.reads;
        let (pitch, step) = (g.pitch(), g.step[1]);
        for f in 0..step {
            let (low, high, from) = g.columns(f);
            for r in 0..g.rows(self.rows) {
                // SAFETY: the copy has room for these rows and the slack; what is read lies in the plane's row.
                unsafe {
                    let out = self.copy.add((r * step + f) * pitch);
                    let Some(row) = g.source_row(self.i0, r) else {
                        zeros::<S>(out, pitch);
                        continue;
                    };
                    let mut source = self.plane[row * g.src[1]..][..g.src[1]].as_ptr();
                    source = source.wrapping_add(from);
                    let mut j = low;
                    if step == 1 {
                        while j + S::LANES <= high {
                            S::store(out.add(j), S::load(source));
                            source = source.wrapping_add(S::LANES);
                            j += S::LANES;
                        }
                        if j < high {
                            // A whole vector, if it ends in this row: what follows are zeros.
                            let x = S::load_n(source, high - j);
                            if j + S::LANES <= pitch {
                                S::store(out.add(j), x);
                            } else {
                                S::store_n(out.add(j), x, high - j);
                            }
                        }
                    } else {
                        while step == 2 && j + S::LANES < high {
                            let (a, b) = (S::load(source), S::load(source.add(S::LANES)));
                            S::store(out.add(j), S::deinterleave(a, b).0);
                            source = source.wrapping_add(2 * S::LANES);
                            j += S::LANES;
                        }
                        while j < high {
                            *out.add(j) = *source;
                            source = source.wrapping_add(step);
                            j += 1;
                        }
                    }
                }
            }
        }
    }
}

/// `n` zeros and no more: what lies behind may be filled already.
/// # Safety
/// That much may be written.
#[inline(always)]
unsafe fn zeros<S: Simd>(out: *mut S::T, n: usize) {
    let mut j = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while j + S::LANES <= n {
            S::store(out.add(j), S::zero());
            j += S::LANES;
        }
        if j < n {
            S::store_n(out.add(j), S::zero(), n - j);
        }
    }
}

/// Side of the kernels that have loops of their own: in bands with steps of STEP, [`direct`] without.
const SIDE: usize = 3;
const STEP: usize = 2;

/// Rows of outputs that are made together: a vector of the copy meets the taps of all rows that it belongs to.
const BAND: usize = 2;

/// `out = act(start + sum over taps of weight * copy)` for a strip of output rows.
struct Sum<'a, T> {
    reads: &'a Reads,
    rows: usize,
    taps: &'a [usize],
    weights: &'a [T],
    copy: *const T,
    /// What a sum starts from, unless it is added to what `out` holds.
    bias: T,
    accumulate: bool,
    relu: bool,
    /// The strip's first row; rows are dense.
    out: *mut T,
    /// What the next plane's strip is made of, to be fetched meanwhile.
    next: *const T,
}

impl<T: Real> Sum<'_, T> {
    /// `NV` vectors from column `j` of row `i`, the last of them `n` elements.
    #[inline(always)]
    unsafe fn vectors<S: Simd<T = T>, const NV: usize>(&self, i: usize, j: usize, n: usize) {
        // SAFETY: the caller's promise: the copy holds what the taps read, and the outputs are the strip's.
        unsafe {
            let g = self.reads;
            let out = self.out.add(i * g.out[1] + j);
            let mut acc = [S::splat(self.bias); NV];
            if self.accumulate {
                for v in 0..NV {
                    let len = if v + 1 == NV { n } else { S::LANES };
                    acc[v] = S::load_n(out.add(v * S::LANES), len);
                }
            }
            let from = self.copy.add(i * g.step[0] * g.row() + j);
            for (tap, w) in self.taps.iter().zip(self.weights) {
                let (at, w) = (from.add(*tap), S::splat(*w));
                for v in 0..NV {
                    acc[v] = S::fma(w, S::load(at.add(v * S::LANES)), acc[v]);
                }
            }
            for v in 0..NV {
                let x = if self.relu {
                    S::max(S::zero(), acc[v])
                } else {
                    acc[v]
                };
                if v + 1 == NV && n < S::LANES {
                    S::store_n(out.add(v * S::LANES), x, n);
                } else {
                    S::store(out.add(v * S::LANES), x);
                }
            }
        }
    }

    /// Rows `i .. i + BAND` of a dense 3 x 3 kernel, STEP rows of the copy apart. Every sum is that of [`Sum::vectors`], in the same
    /// order.
    #[inline(always)]
    unsafe fn band<S: Simd<T = T>>(&self, i: usize) {
        // SAFETY: the caller's promise: the copy holds what the taps of these rows read, and the outputs are the strip's.
        unsafe {
            let (width, ld) = (self.reads.out[1], self.reads.row());
            let mut w = [S::zero(); SIDE * SIDE];
            for t in 0..SIDE * SIDE {
                w[t] = S::splat(self.weights[t]);
            }
            let columns = [0, self.reads.pitch(), 1];
            let line = BAND * STEP * self.reads.src[1];
            prefetch_run(self.next.wrapping_add(i / BAND * line), line);
            for j in (0..width).step_by(S::LANES) {
                let n = S::LANES.min(width - j);
                let out = self.out.add(i * width + j);
                let mut acc = [S::splat(self.bias); BAND];
                let from = self.copy.add(i * STEP * ld + j);
                // Unrolled by hand: with a loop the compiler keeps sums and weights in memory.
                macro_rules! rows {
                    ($($r:literal)*) => {
                        $({
                            let row = from.add($r * ld);
                            for q in 0..SIDE {
                                let x = S::load(row.add(columns[q]));
                                for b in 0..BAND {
                                    if $r >= b * STEP && $r < b * STEP + SIDE {
                                        acc[b] = S::fma(w[($r - b * STEP) * SIDE + q], x, acc[b]);
                                    }
                                }
                            }
                        })*
                    };
                }
                rows!(0 1 2 3 4);
                for b in 0..BAND {
                    let x = if self.relu {
                        S::max(S::zero(), acc[b])
                    } else {
                        acc[b]
                    };
                    if n < S::LANES {
                        S::store_n(out.add(b * width), x, n);
                    } else {
                        S::store(out.add(b * width), x);
                    }
                }
            }
        }
    }
}

impl<T: Real> Kernel<T> for Sum<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let width = self.reads.out[1];
        let banded = self.reads.is_square(STEP) && !self.accumulate;
        let mut first = 0;
        while banded && first + BAND <= self.rows {
            // SAFETY: rows of the strip.
            unsafe { self.band::<S>(first) };
            first += BAND;
        }
        for i in first..self.rows {
            let mut j = 0;
            // SAFETY: columns j .. j + NV * LANES, cut off at the row's end.
            unsafe {
                while width - j >= 4 * S::LANES {
                    self.vectors::<S, 4>(i, j, S::LANES);
                    j += 4 * S::LANES;
                }
                let rest = width - j;
                let last = (rest + S::LANES - 1) % S::LANES + 1;
                match rest.div_ceil(S::LANES) {
                    1 => self.vectors::<S, 1>(i, j, last),
                    2 => self.vectors::<S, 2>(i, j, last),
                    3 => self.vectors::<S, 3>(i, j, last),
                    4 => self.vectors::<S, 4>(i, j, last),
                    _ => {}
                }
            }
        }
    }
}

/// Adds `weight * dy` to the copy of x's gradient, for all taps of a strip: the adjoint of [`Sum`].
struct Spread<'a, T> {
    reads: &'a Reads,
    rows: usize,
    taps: &'a [usize],
    weights: &'a [T],
    dy: &'a [T],
    copy: *mut T,
}

impl<T: Real> Kernel<T> for Spread<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let g = self.reads;
        for i in 0..self.rows {
            let dy = &self.dy[i * g.out[1]..][..g.out[1]];
            for (tap, w) in self.taps.iter().zip(self.weights) {
                // SAFETY: every tap's run of a row lies inside the copy, whose rows are padded to whole vectors.
                unsafe {
                    let at = self.copy.add(i * g.step[0] * g.row() + tap);
                    let w = S::splat(*w);
                    for j in (0..dy.len()).step_by(S::LANES) {
                        let d = S::load_n(dy.as_ptr().add(j), S::LANES.min(dy.len() - j));
                        let old = S::load(at.add(j));
                        // Lanes behind the last column keep what they hold: 0 * inf would not be 0.
                        let new = S::fma(w, d, old);
                        let n = dy.len() - j;
                        S::store_n(at.add(j), new, n.min(S::LANES));
                    }
                }
            }
        }
    }
}

/// Multiply-adds of all planes, and the bytes of x and y.
fn cost<T>(p: &Conv2d) -> Cost {
    Cost {
        flops: 2.0 * p.y_len() as f64 * (p.kernel[0] * p.kernel[1]) as f64,
        bytes: ((p.x_len() + p.y_len()) * size_of::<T>()) as f64,
    }
}

/// Room for the copy of a strip, all zeros.
fn buffer<T: Real>(g: &Reads, rows: usize) -> Buffer<T> {
    let len = g.rows(rows) * g.row() + SLACK;
    let buffer = Buffer::new(len);
    // SAFETY: the buffer has that length; zero bytes are the number 0.
    unsafe { core::ptr::write_bytes(buffer.ptr(), 0, len) };
    buffer
}

/// Copies of one plane after the other, strip by strip.
struct Planes<T> {
    isa: Isa,
    g: Reads,
    taps: Vec<usize>,
    strip: usize,
    copy: Buffer<T>,
}

impl<T: Real> Planes<T> {
    fn new(isa: Isa, g: Reads, strip: usize) -> Self {
        Planes {
            isa,
            g,
            taps: g.taps(),
            strip,
            copy: buffer(&g, strip),
        }
    }

    /// `each(i0, rows, copy)` for all strips of a source plane.
    fn strips(&self, plane: &[T], mut each: impl FnMut(usize, usize, *mut T)) {
        let g = &self.g;
        for i0 in (0..g.out[0]).step_by(self.strip) {
            let rows = self.strip.min(g.out[0] - i0);
            if abandoned((2 * rows * g.out[1] * self.taps.len()) as f64) {
                return;
            }
            let copy = self.copy.ptr();
            let fill = Fill {
                reads: g,
                i0,
                rows,
                plane,
                copy,
            };
            dispatch_on(self.isa, fill);
            each(i0, rows, copy);
        }
    }
}

/// Planes of a task: they use one copy, and one fetches what the next needs.
const RUN: usize = 8;

/// Runs `f` for the planes of x, `RUN` of them at a time.
fn for_each_run<T>(p: &Conv2d, f: &(dyn Fn(Range<usize>) + Sync)) {
    let planes = p.n * p.c;
    // Enough tasks to go round.
    for_each_chunk(planes, RUN.min(planes / 32), cost::<T>(p), f);
}

/// Runs `f` for the planes of x.
fn for_each_plane<T>(p: &Conv2d, f: &(dyn Fn(usize) + Sync)) {
    for_each_run::<T>(p, &|run| run.for_each(f));
}

/// The forward pass.
pub(super) fn forward<T: Real>(
    p: &Conv2d,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    act: Activation,
    y: &mut [T],
) {
    let (isa, g) = (simd::isa(), Reads::forward(p));
    let (area, per) = (p.kernel[0] * p.kernel[1], p.o / p.groups);
    let (source, pixels) = (p.h * p.w, p.oh * p.ow);
    if p.y_len() == 0 {
        return;
    }
    let strip = g.strip(COPY_BYTES);
    let y = SharedMut(y.as_mut_ptr());
    if g.is_square(1) {
        return for_each_plane::<T>(p, &|plane| {
            let channel = plane % p.c;
            for k in 0..per {
                let o = channel * per + k;
                // SAFETY: planes of y belong to their task alone.
                let out = unsafe { y.slice(((plane - channel) * per + o) * pixels, pixels) };
                let src = &x[plane * source..][..source];
                let direct = Direct {
                    bias: bias.map_or(T::ZERO, |b| b[o]),
                    relu: act == Activation::Relu,
                    ..Direct::new(&g, src, &w[o * area..][..area], &mut *out)
                };
                direct.run(isa);
                // SAFETY: as above.
                unsafe { apply_activation(isa, act, out.as_mut_ptr(), p.oh, p.ow, p.ow) };
            }
        });
    }
    for_each_run::<T>(p, &|run| {
        let planes = Planes::new(isa, g, strip);
        run.for_each(|plane| {
            let channel = plane % p.c;
            planes.strips(&x[plane * source..][..source], |i0, rows, copy| {
                for k in 0..per {
                    let o = channel * per + k;
                    let at = ((plane - channel) * per + o) * pixels + i0 * p.ow;
                    // SAFETY: planes of y belong to their task alone.
                    let out = unsafe { y.slice(at, rows * p.ow) }.as_mut_ptr();
                    let sum = Sum {
                        reads: &g,
                        rows,
                        taps: &planes.taps,
                        weights: &w[o * area..][..area],
                        copy,
                        bias: bias.map_or(T::ZERO, |b| b[o]),
                        accumulate: false,
                        relu: act == Activation::Relu,
                        out,
                        next: x[plane * source..]
                            .as_ptr()
                            .wrapping_add(source + (i0 * g.step[0]) * p.w),
                    };
                    dispatch_on(isa, sum);
                    // SAFETY: as above.
                    unsafe { apply_activation(isa, act, out, rows, p.ow, p.ow) };
                }
            });
        });
    });
}

/// The input gradient.
pub(super) fn dx<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let isa = simd::isa();
    let (area, per) = (p.kernel[0] * p.kernel[1], p.o / p.groups);
    let (source, pixels) = (p.h * p.w, p.oh * p.ow);
    if p.y_len() == 0 || area == 0 {
        return dx[..p.x_len()].fill(T::ZERO);
    }
    let steps = Reads::forward(p).step;
    let out = SharedMut(dx.as_mut_ptr());
    let flipped: Vec<T> = w[..p.o * area]
        .chunks_exact(area)
        .flat_map(|w| w.iter().rev().copied())
        .collect();
    let of = |plane: usize, k: usize| plane * per + k;
    if steps == [1, 1] {
        let g = Reads::backward(p);
        if g.is_square(1) {
            return for_each_plane::<T>(p, &|plane| {
                // SAFETY: planes of dx belong to their task alone.
                let dx = unsafe { out.slice(plane * source, source) };
                for k in 0..per {
                    let o = plane % p.c * per + k;
                    let dy = &dy[of(plane, k) * pixels..][..pixels];
                    let direct = Direct {
                        accumulate: k > 0,
                        ..Direct::new(&g, dy, &flipped[o * area..][..area], &mut *dx)
                    };
                    direct.run(isa);
                }
            });
        }
        let strip = g.strip(COPY_BYTES);
        return for_each_run::<T>(p, &|run| {
            let planes = Planes::new(isa, g, strip);
            run.for_each(|plane| {
                // SAFETY: planes of dx belong to their task alone.
                let dx = unsafe { out.slice(plane * source, source) };
                for k in 0..per {
                    let o = plane % p.c * per + k;
                    let dy = &dy[of(plane, k) * pixels..];
                    planes.strips(&dy[..pixels], |i0, rows, copy| {
                        let sum = Sum {
                            reads: &g,
                            rows,
                            taps: &planes.taps,
                            weights: &flipped[o * area..][..area],
                            copy,
                            bias: T::ZERO,
                            accumulate: k > 0,
                            relu: false,
                            out: dx[i0 * p.w..][..rows * p.w].as_mut_ptr(),
                            next: dy.as_ptr().wrapping_add(per * pixels + i0 * p.ow),
                        };
                        dispatch_on(isa, sum);
                    });
                }
            });
        });
    }
    for_each(p.n * p.c, cost::<T>(p), &|plane| {
        let channel = plane % p.c;
        // SAFETY: planes of dx belong to their task alone.
        let dx = unsafe { out.slice(plane * source, source) };
        let g = Reads::forward(p);
        let copy = buffer::<T>(&g, p.oh);
        let taps = g.taps();
        for k in 0..per {
            if abandoned((2 * pixels * area) as f64) {
                return;
            }
            let spread = Spread {
                reads: &g,
                rows: p.oh,
                taps: &taps,
                weights: &w[(channel * per + k) * area..][..area],
                dy: &dy[of(plane, k) * pixels..][..pixels],
                copy: copy.ptr(),
            };
            dispatch_on(isa, spread);
        }
        // Back to where the copy would have been made from.
        dx.fill(T::ZERO);
        for r in 0..g.rows(p.oh) {
            let Some(row) = g.source_row(0, r) else {
                continue;
            };
            for f in 0..g.step[1] {
                let (low, high, from) = g.columns(f);
                let to = dx[row * p.w..][..p.w].iter_mut().skip(from);
                for (j, d) in (low..high).zip(to.step_by(g.step[1])) {
                    // SAFETY: j is below the pitch, and r one of the copy's rows.
                    *d = unsafe { *copy.ptr().add((r * g.step[1] + f) * g.pitch() + j) };
                }
            }
        }
    });
}
