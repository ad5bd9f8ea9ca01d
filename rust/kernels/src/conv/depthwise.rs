//! Depthwise convolution: every group has one input channel. Bound by memory, so a plane is read once and its pixels meet all
//! taps while they are in the first-level cache.
//!
//! A strip of rows is copied with its padding, columns sorted by remainder modulo the stride; then tap (p, q) of `LANES`
//! neighbouring outputs is one vector at a fixed distance from the first. Forward and, at stride 1, the input gradient (the
//! same sum over flipped taps) keep the outputs in registers over all taps; at other strides the input gradient is the
//! adjoint, vectors added to the copy. The weight gradient keeps one vector of sums per tap. Everything is cut by planes and
//! by the geometry, so no thread count shows in the bits.
use super::Conv2d;
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::{Activation, apply_activation};
use crate::parallel::{Cost, SharedMut, abandoned, for_each};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on};

/// Bytes of a strip's copy.
const COPY_BYTES: usize = 24 << 10;
/// Elements behind the copy that a vector may read, and that one store may overrun.
const SLACK: usize = 64;
/// Widest vector: rows of the copy are padded to a multiple, so that a vector behind the last column reads zeros.
const LANES: usize = 16;

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
        self.out[1].next_multiple_of(LANES) + self.reach(1) / self.step[1]
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

/// Copies what output rows `i0 .. i0 + rows` read; zeros stand for the padding and fill every row up.
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
                        zeros::<S>(out, 0, pitch);
                        continue;
                    };
                    let mut source = self.plane[row * g.src[1]..][..g.src[1]].as_ptr();
                    source = source.wrapping_add(from);
                    zeros::<S>(out, 0, low);
                    let mut j = low;
                    if step == 1 {
                        while j + S::LANES <= high {
                            S::store(out.add(j), S::load(source));
                            source = source.wrapping_add(S::LANES);
                            j += S::LANES;
                        }
                        if j < high {
                            S::store_n(out.add(j), S::load_n(source, high - j), high - j);
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
                    zeros::<S>(out, high, pitch);
                }
            }
        }
    }
}

/// Zeros from `low` to `high` and no further: what lies behind may be filled already.
/// # Safety
/// That much may be written.
#[inline(always)]
unsafe fn zeros<S: Simd>(out: *mut S::T, low: usize, high: usize) {
    let mut j = low;
    // SAFETY: the caller's promise.
    unsafe {
        while j + S::LANES <= high {
            S::store(out.add(j), S::zero());
            j += S::LANES;
        }
        if j < high {
            S::store_n(out.add(j), S::zero(), high - j);
        }
    }
}

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
}

impl<T: Real> Kernel<T> for Sum<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let width = self.reads.out[1];
        for i in 0..self.rows {
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

/// Sums over a strip of `dy * copy` for up to `NT` taps, added to `sums` (one vector per tap, spread over 16 lanes).
struct Inner<'a, T> {
    reads: &'a Reads,
    rows: usize,
    taps: &'a [usize],
    copy: *const T,
    dy: &'a [T],
    sums: &'a mut [T],
}

impl<T: Real> Inner<'_, T> {
    #[inline(always)]
    unsafe fn block<S: Simd<T = T>, const NT: usize>(&mut self, first: usize) {
        // SAFETY: the caller's promise: NT taps from `first` on, all of whose rows lie inside the copy.
        unsafe {
            let g = self.reads;
            let mut taps = [0; NT];
            taps.copy_from_slice(&self.taps[first..first + NT]);
            let mut acc = [S::zero(); NT];
            for i in 0..self.rows {
                let dy = &self.dy[i * g.out[1]..][..g.out[1]];
                let row = self.copy.add(i * g.step[0] * g.row());
                let whole = dy.len() / S::LANES * S::LANES;
                for j in (0..whole).step_by(S::LANES) {
                    let d = S::load(dy.as_ptr().add(j));
                    for t in 0..NT {
                        acc[t] = S::fma(d, S::load(row.add(taps[t] + j)), acc[t]);
                    }
                }
                if whole < dy.len() {
                    let n = dy.len() - whole;
                    let d = S::load_n(dy.as_ptr().add(whole), n);
                    for t in 0..NT {
                        // No more than the row: what lies behind it may be infinite, and 0 * inf is not 0.
                        let x = S::load_n(row.add(taps[t] + whole), n);
                        acc[t] = S::fma(d, x, acc[t]);
                    }
                }
            }
            for t in 0..NT {
                let sums = self.sums[(first + t) * LANES..][..S::LANES].as_mut_ptr();
                S::store(sums, S::add(S::load(sums), acc[t]));
            }
        }
    }
}

impl<T: Real> Kernel<T> for Inner<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(mut self) {
        let count = self.taps.len();
        let mut t = 0;
        while t < count {
            // SAFETY: blocks of taps that are there.
            unsafe {
                match count - t {
                    9.. => {
                        self.block::<S, 9>(t);
                        t += 9;
                    }
                    5..9 => {
                        self.block::<S, 5>(t);
                        t += 5;
                    }
                    3..5 => {
                        self.block::<S, 3>(t);
                        t += 3;
                    }
                    _ => {
                        self.block::<S, 1>(t);
                        t += 1;
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

fn buffer<T: Copy>(g: &Reads, rows: usize) -> Buffer<T> {
    Buffer::new(g.rows(rows) * g.row() + SLACK)
}

/// One plane of a sum over flipped or plain taps: what both directions at stride 1 are.
struct Planes<'a, T> {
    isa: Isa,
    g: Reads,
    taps: Vec<usize>,
    strip: usize,
    copy: &'a Buffer<T>,
}

impl<T: Real> Planes<'_, T> {
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
    for_each(p.n * p.c, cost::<T>(p), &|plane| {
        let copy = buffer(&g, strip);
        let planes = Planes {
            isa,
            g,
            taps: g.taps(),
            strip,
            copy: &copy,
        };
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
                };
                dispatch_on(isa, sum);
                // SAFETY: as above.
                unsafe { apply_activation(isa, act, out, rows, p.ow, p.ow) };
            }
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
    for_each(p.n * p.c, cost::<T>(p), &|plane| {
        let channel = plane % p.c;
        let of = |k: usize| (plane - channel) * per + channel * per + k;
        // SAFETY: planes of dx belong to their task alone.
        let dx = unsafe { out.slice(plane * source, source) };
        if steps == [1, 1] {
            let g = Reads::backward(p);
            let strip = g.strip(COPY_BYTES);
            let copy = buffer(&g, strip);
            let planes = Planes {
                isa,
                g,
                taps: g.taps(),
                strip,
                copy: &copy,
            };
            for k in 0..per {
                let o = channel * per + k;
                planes.strips(&dy[of(k) * pixels..][..pixels], |i0, rows, copy| {
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
                    };
                    dispatch_on(isa, sum);
                });
            }
            return;
        }
        let g = Reads::forward(p);
        let len = g.rows(p.oh) * g.row();
        let copy = buffer::<T>(&g, p.oh);
        // SAFETY: the buffer has that length; zero bytes are the number 0.
        unsafe { core::ptr::write_bytes(copy.ptr(), 0, len + SLACK) };
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
                dy: &dy[of(k) * pixels..][..pixels],
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

/// Gradients of weight and bias: per plane, then added up over the images in order.
pub(super) fn dw<T: Real>(
    p: &Conv2d,
    x: &[T],
    dy: &[T],
    mut dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
) {
    let (isa, g) = (simd::isa(), Reads::forward(p));
    let (area, per) = (p.kernel[0] * p.kernel[1], p.o / p.groups);
    let (source, pixels) = (p.h * p.w, p.oh * p.ow);
    if p.y_len() == 0 {
        for d in [dw.map(|d| &mut d[..p.w_len()]), db.map(|d| &mut d[..p.o])] {
            d.into_iter().for_each(|d| d.fill(T::ZERO));
        }
        return;
    }
    let taps = g.taps();
    let strip = g.strip(COPY_BYTES);
    let wanted = [dw.is_some(), db.is_some()];
    // Per output plane: the taps' sums, then the bias's.
    let ld = area + 1;
    let partial = Buffer::<T>::new(p.n * p.o * ld);
    let shared = SharedMut(partial.ptr());
    for_each(p.n * p.c, cost::<T>(p), &|plane| {
        let (image, channel) = (plane / p.c, plane % p.c);
        let copy = buffer(&g, strip);
        let planes = Planes {
            isa,
            g,
            taps: g.taps(),
            strip,
            copy: &copy,
        };
        let first = image * p.o + channel * per;
        // SAFETY: the sums of a task's planes belong to it alone until all are done.
        let out = unsafe { shared.slice(first * ld, per * ld) };
        out.fill(T::ZERO);
        let mut sums = vec![T::ZERO; per * area * LANES];
        if wanted[0] {
            planes.strips(&x[plane * source..][..source], |i0, rows, copy| {
                for k in 0..per {
                    let inner = Inner {
                        reads: &g,
                        rows,
                        taps: &taps,
                        copy,
                        dy: &dy[(first + k) * pixels + i0 * p.ow..][..rows * p.ow],
                        sums: &mut sums[k * area * LANES..][..area * LANES],
                    };
                    dispatch_on(isa, inner);
                }
            });
        }
        for k in 0..per {
            let out = &mut out[k * ld..][..ld];
            for (out, lanes) in out
                .iter_mut()
                .zip(sums[k * area * LANES..].chunks(LANES))
                .take(area)
            {
                *out = lanes.iter().fold(T::ZERO, |a, b| a + *b);
            }
            if wanted[1] {
                out[area] = dispatch_on(isa, Total(&dy[(first + k) * pixels..][..pixels]));
            }
        }
    });
    // SAFETY: all tasks are done.
    let partial = unsafe { &*shared.slice(0, p.n * p.o * ld) };
    for o in 0..p.o {
        let each = || (0..p.n).map(|image| &partial[(image * p.o + o) * ld..][..ld]);
        if let Some(dw) = &mut dw {
            for (t, d) in dw[o * area..][..area].iter_mut().enumerate() {
                *d = each().fold(T::ZERO, |sum, part| sum + part[t]);
            }
        }
        if let Some(db) = &mut db {
            db[o] = each().fold(T::ZERO, |sum, part| sum + part[area]);
        }
    }
}

/// The sum of a plane.
struct Total<'a, T>(&'a [T]);

impl<T: Real> Kernel<T> for Total<'_, T> {
    type Out = T;
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> T {
        // SAFETY: run by dispatch; loads stay inside the slice.
        unsafe {
            let mut acc = [S::zero(); 4];
            let mut chunks = self.0.chunks_exact(4 * S::LANES);
            for c in &mut chunks {
                for v in 0..4 {
                    acc[v] = S::add(acc[v], S::load(c.as_ptr().add(v * S::LANES)));
                }
            }
            for (v, c) in chunks.remainder().chunks(S::LANES).enumerate() {
                acc[v] = S::add(acc[v], S::load_n(c.as_ptr(), c.len()));
            }
            let sum = S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3]));
            S::reduce_add(sum)
        }
    }
}
