//! 2-D convolution (cross-correlation, as every framework calls it) on dense NCHW; 1-D uses h = kh = 1.
//!
//! All passes read copies of the source in the cache in which every tap of the kernel is a run of pixels (`expand`).
//! `correlate` multiplies weights with such runs: the forward pass, and the gradient of the input where there is no stride;
//! otherwise `dx` goes the other way, from weights and dy into the runs and from those back into the image. The weight's
//! gradient is a product of runs and dy in tiles of output channels (`dw_tiles`), or, where those are few, inner products
//! (`dw`). No im2col matrix exists, and what is summed in which order depends on the geometry alone. Small images with many
//! channels go another way (`taps`): products of channels, one for each tap. Depthwise convolutions, which are no products of
//! matrices, have a file of their own.
mod correlate;
mod depthwise;
mod dw;
mod dw_tiles;
mod dx;
mod expand;
mod taps;
#[cfg(test)]
mod tests;
mod turn;

use crate::alloc::collect;
use crate::element::Real;
use crate::gemm::Activation;
use crate::gemm::buffer::Buffer;
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, for_each};
use correlate::Correlate;
use expand::Axis;

/// Geometry. `y (n, o, oh, ow)`, `x (n, c, h, w)`, `w (o, c / groups, kh, kw)`;
/// `y[n,o,i,j] = b[o] + sum_{c,p,q} w[o,c,p,q] * x[n, c, i*stride + p*dilation - pad, ...]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Conv2d {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub oh: usize,
    pub ow: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// top, left (bottom and right follow from oh, ow; they may differ: 'same' with even kernels)
    pub pad: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

impl Conv2d {
    fn x_len(&self) -> usize {
        numel(&[self.n, self.c, self.h, self.w])
    }
    fn y_len(&self) -> usize {
        numel(&[self.n, self.o, self.oh, self.ow])
    }
    fn w_len(&self) -> usize {
        numel(&[self.o, self.c / self.groups, self.kernel[0], self.kernel[1]])
    }

    /// Panics where the geometry or a length is wrong: the unsafe code below relies on it.
    fn check(&self, lengths: [(&str, Option<usize>, usize); 3]) {
        let (c, o, groups) = (self.c, self.o, self.groups);
        assert!(
            groups > 0 && c % groups == 0 && o % groups == 0,
            "{c} and {o} channels do not divide into {groups} groups"
        );
        let steps = [self.stride, self.dilation].concat();
        assert!(
            steps.iter().all(|&s| s > 0),
            "stride and dilation must be at least 1"
        );
        for (name, have, want) in lengths {
            if let Some(have) = have {
                assert!(have >= want, "{name} has {have} elements, not {want}");
            }
        }
    }

    /// How axis `d` (0: rows, 1: columns) of the output reads the input.
    fn axis(&self, d: usize) -> Axis {
        let out = [self.oh, self.ow][d];
        let tap = |p: usize| (p * self.dilation[d]) as isize - self.pad[d] as isize;
        Axis {
            src: [self.h, self.w][d],
            out,
            // A single output takes no step; a huge one would only make work.
            step: if out > 1 { self.stride[d] } else { 1 },
            taps: collect((0..self.kernel[d]).map(tap)),
        }
    }
}

/// A 1x1 convolution does not care which pixels are neighbours: each image becomes one row. Otherwise the geometry itself.
fn flattened(p: &Conv2d) -> Conv2d {
    let pointwise = p.kernel == [1, 1] && p.stride == [1, 1] && p.pad == [0, 0];
    if pointwise && (p.oh, p.ow) == (p.h, p.w) {
        let pixels = p.h * p.w;
        return Conv2d {
            h: 1,
            w: pixels,
            oh: 1,
            ow: pixels,
            ..*p
        };
    }
    *p
}

/// `y = act(conv(x, w) + bias)` with x (n, c, h, w), w (o, c/groups, kh, kw), bias (o), y (n, o, oh, ow).
///
/// # Panics
/// When groups do not divide the channels, or a slice is too short.
pub fn conv2d<T: Real>(
    p: &Conv2d,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    act: Activation,
    y: &mut [T],
) {
    let p = &flattened(p);
    p.check([
        ("y", Some(y.len()), p.y_len()),
        ("bias", bias.map(<[T]>::len), p.o),
        ("x", Some(x.len()), p.x_len()),
    ]);
    assert!(
        w.len() >= p.w_len(),
        "w has {} elements, not {}",
        w.len(),
        p.w_len()
    );
    if depthwise::fits(p) {
        return depthwise::forward(p, x, w, bias, act, y);
    }
    if taps::fits::<T>(p) && !taps::lone(p) {
        return taps::forward(p, x, w, bias, act, y);
    }
    let correlate = Correlate {
        n: p.n,
        groups: p.groups,
        c: p.c / p.groups,
        o: p.o / p.groups,
        src: &x[..p.x_len()],
        rows: p.axis(0),
        cols: p.axis(1),
        weights: w,
        bias,
        act,
        out: SharedMut(y.as_mut_ptr()),
    };
    correlate.run();
}

/// Gradient of the input (also: transposed convolution): `dx[n,c,r,s] = sum of w[o,c,p,q] dy[n,o,i,j]` over all taps and
/// outputs that read pixel (r, s). Overwrites `dx`; pixels that no output reads get 0.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_dx<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let p = &flattened(p);
    p.check([
        ("dx", Some(dx.len()), p.x_len()),
        ("dy", Some(dy.len()), p.y_len()),
        ("x", None, 0),
    ]);
    assert!(
        w.len() >= p.w_len(),
        "w has {} elements, not {}",
        w.len(),
        p.w_len()
    );
    if depthwise::fits(p) {
        return depthwise::dx(p, dy, w, dx);
    }
    if taps::fits::<T>(p) {
        return taps::dx(p, dy, w, dx);
    }
    if dx_is_correlation(p) {
        return correlate_dx(p, dy, w, dx);
    }
    dx::run(p, dy, w, dx);
}

/// Without strides, the gradient of the input is itself a convolution: of dy, with the weights turned around. It also
/// multiplies with the padding of dy, so it pays where that is little.
fn dx_is_correlation(p: &Conv2d) -> bool {
    let steps = [(p.stride[0], p.oh), (p.stride[1], p.ow)];
    let dense = steps.iter().all(|&(step, out)| step == 1 || out <= 1);
    dense && 8 * p.h * p.w <= 9 * p.oh * p.ow
}

/// Channels whose weights are turned together.
const TURNED: usize = 16;

fn correlate_dx<T: Real>(p: &Conv2d, dy: &[T], w: &[T], dx: &mut [T]) {
    let (c, o) = (p.c / p.groups, p.o / p.groups);
    let area = p.kernel[0] * p.kernel[1];
    // (group, c, o, taps) from (group, o, c, taps).
    let turned = Buffer::<T>::new(p.w_len());
    let weights = SharedMut(turned.ptr());
    let turning = Cost {
        flops: 0.0,
        bytes: (4 * p.w_len() * size_of::<T>()) as f64,
    };
    // Some channels at a time: what is read lies side by side.
    let runs = c.div_ceil(TURNED);
    for_each(p.groups * runs, turning, &|task| {
        let (group, first) = (task / runs, task % runs * TURNED);
        let channels = TURNED.min(c - first);
        let len = o * area;
        // SAFETY: the elements of these channels in the buffer, which are this task's alone.
        let out = unsafe { weights.slice((group * c + first) * len, channels * len) };
        for oi in 0..o {
            let w = &w[((group * o + oi) * c + first) * area..][..channels * area];
            for (ci, w) in w.chunks_exact(area.max(1)).enumerate() {
                let out = &mut out[ci * len + oi * area..][..area];
                match (<&mut [T; 9]>::try_from(&mut *out), <&[T; 9]>::try_from(w)) {
                    // The usual size, without a call.
                    (Ok(out), Ok(w)) => *out = *w,
                    _ => out.copy_from_slice(w),
                }
            }
        }
    });
    // Pixel r meets tap p at the output r + pad - p * dilation.
    let axis = |d: usize| Axis {
        src: [p.oh, p.ow][d],
        out: [p.h, p.w][d],
        step: 1,
        taps: collect((0..p.kernel[d]).map(|t| p.pad[d] as isize - (t * p.dilation[d]) as isize)),
    };
    // SAFETY: all of the buffer, written above.
    let weights = unsafe { core::slice::from_raw_parts(turned.ptr(), p.w_len()) };
    let correlate = Correlate {
        n: p.n,
        groups: p.groups,
        c: o,
        o: c,
        src: &dy[..p.y_len()],
        rows: axis(0),
        cols: axis(1),
        weights,
        bias: None,
        act: Activation::None,
        out: SharedMut(dx.as_mut_ptr()),
    };
    correlate.run();
}

/// Gradients of the weight, `dw[o,c,p,q] = sum over n, i, j of dy[n,o,i,j] x[n, c, i*stride + p*dilation - pad, ...]`, and
/// of the bias, `db[o] = sum of dy[:,o]`. Overwrites both; only those asked for.
///
/// # Panics
/// As [`conv2d`].
pub fn conv2d_dw<T: Real>(
    p: &Conv2d,
    x: &[T],
    dy: &[T],
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
) {
    let p = &flattened(p);
    p.check([
        ("x", Some(x.len()), p.x_len()),
        ("dy", Some(dy.len()), p.y_len()),
        ("db", db.as_ref().map(|db| db.len()), p.o),
    ]);
    if let Some(dw) = &dw {
        assert!(
            dw.len() >= p.w_len(),
            "dw has {} elements, not {}",
            dw.len(),
            p.w_len()
        );
    }
    if depthwise::fits(p) {
        return depthwise::dw::dw(p, x, dy, dw, db);
    }
    match dw {
        Some(dw) if taps::dw::fits::<T>(p) => {
            taps::dw::dw(p, x, dy, dw);
            if db.is_some() {
                dw::run(p, x, dy, None, db);
            }
        }
        Some(dw) if dw_tiles::fits(p) && p.x_len() > 0 && p.y_len() > 0 => {
            dw_tiles::run(p, x, dy, dw, db);
        }
        dw => dw::run(p, x, dy, dw, db),
    }
}
