//! 2-D convolution (cross-correlation, as every framework calls it) on dense NCHW; 1-D uses h = kh = 1.
//!
//! All three passes run on `expand`: copies of the source, one per kernel column, in which every tap of the kernel is one
//! unbroken run of pixels. `correlate` multiplies weights with such runs (the forward pass); `dx` goes the other way, from
//! weights and dy into the runs and from those back into the image; `dw` takes inner products of runs with dy. No im2col
//! matrix exists, and what is summed in which order depends on the geometry alone. Depthwise convolutions, which are no
//! products of matrices, have a file of their own.
mod correlate;
mod depthwise;
mod dw;
mod dx;
mod expand;
#[cfg(test)]
mod tests;

use crate::alloc::collect;
use crate::element::Real;
use crate::gemm::Activation;
use crate::layout::numel;
use crate::parallel::SharedMut;
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
    dx::run(p, dy, w, dx);
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
        return depthwise::dw(p, x, dy, dw, db);
    }
    dw::run(p, x, dy, dw, db);
}
