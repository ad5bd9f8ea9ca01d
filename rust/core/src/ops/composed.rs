//! The composed twin of every fused operation: the same mathematics out of basic operations.
//!
//! A twin is slow and easy to read. Tests compare the fused operation and its gradients with it, and
//! [`twin_vjp`](crate::autograd::twin_vjp) differentiates it where a fused backward has no derivative of its own.
use super::common::{affine, shaped};
use super::index::{Spans, slice_spans};
use super::shape::slice_axis;
use super::window::extent;
use super::{
    abs, add, arange, concat, divide, equal, erf, exp, expand_dims, full, greater_equal, less,
    less_equal, log, log1p, logical_and, matmul, max, maximum, mean, multiply, negative, ones,
    permute_dims, sqrt, squeeze, stack, subtract, sum, transpose, r#where,
};
use crate::backend::attention::Attention;
use crate::backend::dispatch;
use crate::dtype::{DType, Scalar};
use crate::error::Result;
use crate::layout::Span;
use crate::tensor::Tensor;
use corten_kernels::conv::Conv2d;
use corten_kernels::pool::Pool2d;

pub use super::composed_rnn::recurrent;

/// `max(x, 0)`.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    maximum(x, 0.0)
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    divide(1.0, &affine(&exp(&negative(x)?)?, 1.0, 1.0)?)
}

/// `2 sigmoid(2x) - 1`.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    affine(&sigmoid(&affine(x, 2.0, 0.0)?)?, 2.0, -1.0)
}

/// `log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))`.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    add(&relu(x)?, &log1p(&exp(&negative(&abs(x)?)?)?)?)
}

/// `x sigmoid(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    multiply(x, &sigmoid(x)?)
}

/// `x/2 (1 + erf(x / sqrt(2)))`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let phi = affine(
        &erf(&affine(x, std::f64::consts::FRAC_1_SQRT_2, 0.0)?)?,
        0.5,
        0.5,
    )?;
    multiply(x, &phi)
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let cube = multiply(x, &multiply(x, x)?)?;
    let inner = affine(
        &add(x, &affine(&cube, 0.044715, 0.0)?)?,
        (2.0 / std::f64::consts::PI).sqrt(),
        0.0,
    )?;
    multiply(x, &affine(&tanh(&inner)?, 0.5, 0.5)?)
}

/// `x W^T + b`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = matmul(x, &permute_dims(weight, &[1, 0])?)?;
    bias.map_or(Ok(y.clone()), |bias| add(&y, bias))
}

/// `x (..., H, W)` with `before` and `after` elements of `value` around the last two axes.
fn pad(x: &Tensor, before: [usize; 2], after: [usize; 2], value: f64) -> Result<Tensor> {
    let mut x = x.clone();
    for (i, (before, after)) in before.into_iter().zip(after).enumerate() {
        let axis = x.ndim() - 2 + i;
        let border = |size: usize| {
            let mut shape = x.shape().to_vec();
            shape[axis] = size;
            full(&shape, Scalar::Float(value), x.dtype(), x.device())
        };
        x = concat(&[&border(before)?, &x, &border(after)?], axis as isize)?;
    }
    Ok(x)
}

/// The element of every window that one tap sees: a strided slice of the padded input, `(..., OH, OW)`.
fn tap(x: &Tensor, at: [usize; 2], stride: [usize; 2], out: [usize; 2]) -> Result<Tensor> {
    let mut spans: Spans = x
        .shape()
        .iter()
        .map(|&len| Span {
            start: 0,
            step: 1,
            len,
        })
        .collect();
    let first = x.ndim() - 2;
    for i in 0..2 {
        spans[first + i] = Span {
            start: at[i],
            step: stride[i] as isize,
            len: out[i],
        };
    }
    slice_spans(x, spans)
}

/// Windows below and to the right of the input, beyond the declared padding: `(OH-1)*s + extent - pad - H`, at least 0.
fn after(
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    out: usize,
) -> usize {
    (out.saturating_sub(1) * stride + extent(kernel, dilation)).saturating_sub(before + input)
}

/// Convolution as a sum over taps: a slice of the padded input times the weights of that tap.
pub fn conv2d(p: &Conv2d, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (g, cg, og) = (p.groups, p.c / p.groups, p.o / p.groups);
    let far = [
        after(p.h, p.kernel[0], p.stride[0], p.dilation[0], p.pad[0], p.oh),
        after(p.w, p.kernel[1], p.stride[1], p.dilation[1], p.pad[1], p.ow),
    ];
    let x = pad(x, p.pad, far, 0.0)?;
    let mut y = full(
        &[p.n, p.o, p.oh, p.ow],
        Scalar::Float(0.0),
        x.dtype(),
        x.device(),
    )?;
    for q in 0..p.kernel[0] {
        for r in 0..p.kernel[1] {
            let seen = tap(
                &x,
                [q * p.dilation[0], r * p.dilation[1]],
                p.stride,
                [p.oh, p.ow],
            )?;
            let seen = shaped(&seen, &[p.n, g, cg, p.oh * p.ow])?; // (N, G, C/G, OH*OW)
            let w = tap(weight, [q, r], [1, 1], [1, 1])?;
            let w = shaped(&w, &[g, og, cg])?; // (G, O/G, C/G)
            let part = matmul(&w, &seen)?; // (N, G, O/G, OH*OW)
            y = add(&y, &shaped(&part, &[p.n, p.o, p.oh, p.ow])?)?;
        }
    }
    match bias {
        Some(bias) => add(&y, &shaped(bias, &[p.o, 1, 1])?),
        None => Ok(y),
    }
}

/// What every window of a pooling sees, `(KH*KW, N, C, OH, OW)`; padding counts as `border`.
fn windows(p: &Pool2d, x: &Tensor, border: f64) -> Result<Tensor> {
    let far = [
        after(p.h, p.kernel[0], p.stride[0], p.dilation[0], p.pad[0], p.oh),
        after(p.w, p.kernel[1], p.stride[1], p.dilation[1], p.pad[1], p.ow),
    ];
    let x = pad(x, p.pad, far, border)?;
    let mut taps = Vec::new();
    for q in 0..p.kernel[0] {
        for r in 0..p.kernel[1] {
            taps.push(tap(
                &x,
                [q * p.dilation[0], r * p.dilation[1]],
                p.stride,
                [p.oh, p.ow],
            )?);
        }
    }
    stack(&taps.iter().collect::<Vec<_>>(), 0)
}

/// Maximum over each window.
pub fn max_pool2d(p: &Pool2d, x: &Tensor) -> Result<Tensor> {
    max(&windows(p, x, f64::NEG_INFINITY)?, Some(&[0]), false)
}

/// Sum over each window divided by the number of elements in it.
pub fn avg_pool2d(p: &Pool2d, count_include_pad: bool, x: &Tensor) -> Result<Tensor> {
    let total = sum(&windows(p, x, 0.0)?, Some(&[0]), false, None)?;
    // Count a plane of ones in the same way; where padding counts, it is ones too, but never beyond the declared padding.
    let ones = full(&[p.h, p.w], Scalar::Float(1.0), x.dtype(), x.device())?;
    let (ones, p) = if count_include_pad {
        let padded = Pool2d {
            h: p.h + 2 * p.pad[0],
            w: p.w + 2 * p.pad[1],
            pad: [0, 0],
            ..*p
        };
        (pad(&ones, p.pad, p.pad, 1.0)?, padded)
    } else {
        (ones, *p)
    };
    divide(
        &total,
        &sum(&windows(&p, &ones, 0.0)?, Some(&[0]), false, None)?,
    )
}

/// Mean of input rows `floor(i*H/OH) .. ceil((i+1)*H/OH)`, and the same for columns, cell by cell.
pub fn adaptive_avg_pool2d(x: &Tensor, [oh, ow]: [usize; 2]) -> Result<Tensor> {
    let (rows, columns) = (x.ndim() - 2, x.ndim() - 1);
    let range =
        |i: usize, size: usize, out: usize| (i * size / out, ((i + 1) * size).div_ceil(out));
    let mut strips = Vec::new();
    for i in 0..oh {
        let (start, stop) = range(i, x.shape()[rows], oh);
        let strip = slice_axis(x, rows, start, stop - start)?;
        let mut cells = Vec::new();
        for j in 0..ow {
            let (start, stop) = range(j, x.shape()[columns], ow);
            let cell = slice_axis(&strip, columns, start, stop - start)?;
            cells.push(mean(&cell, Some(&[-2, -1]), false)?);
        }
        strips.push(stack(&cells.iter().collect::<Vec<_>>(), -1)?);
    }
    stack(&strips.iter().collect::<Vec<_>>(), -2)
}

/// `(x - mean) * rstd * weight + bias` per channel of `x (N, C, *)`; the others are `(C,)`.
pub fn normalize(
    x: &Tensor,
    mean: &Tensor,
    rstd: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
) -> Result<Tensor> {
    let mut shape = vec![1; x.ndim()];
    shape[1] = x.shape()[1];
    let per_channel = |t: &Tensor| shaped(t, &shape);
    let mut y = multiply(&subtract(x, &per_channel(mean)?)?, &per_channel(rstd)?)?;
    if let Some(weight) = weight {
        y = multiply(&y, &per_channel(weight)?)?;
    }
    if let Some(bias) = bias {
        y = add(&y, &per_channel(bias)?)?;
    }
    Ok(y)
}

/// [`normalize`] with the mean and the biased variance of the batch: `rstd = 1 / sqrt(var + eps)`.
pub fn batch_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let axes: Vec<isize> = (0..x.ndim() as isize).filter(|&a| a != 1).collect();
    let centre = mean(x, Some(&axes), true)?;
    let distance = subtract(x, &centre)?;
    let var = mean(&multiply(&distance, &distance)?, Some(&axes), false)?;
    let rstd = divide(1.0, &sqrt(&affine(&var, 1.0, eps)?)?)?;
    normalize(x, &squeeze(&centre, Some(&axes))?, &rstd, weight, bias)
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` for each row of `x (rows, cols)`; not `centred`, the mean counts as 0.
pub fn rows_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
    centred: bool,
) -> Result<Tensor> {
    let mut d = x.clone();
    if centred {
        d = subtract(x, &mean(x, Some(&[1]), true)?)?;
    }
    let var = mean(&multiply(&d, &d)?, Some(&[1]), true)?;
    let mut y = divide(&d, &sqrt(&affine(&var, 1.0, eps)?)?)?;
    if let Some(weight) = weight {
        y = multiply(&y, weight)?;
    }
    if let Some(bias) = bias {
        y = add(&y, bias)?;
    }
    Ok(y)
}

/// `exp(x - max) / sum(exp(x - max))`.
pub fn softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    let e = exp(&subtract(x, &max(x, Some(&[axis]), true)?.detach())?)?;
    divide(&e, &sum(&e, Some(&[axis]), true, None)?)
}

/// `x - max - log(sum(exp(x - max)))`.
pub fn log_softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    let x = subtract(x, &max(x, Some(&[axis]), true)?.detach())?;
    subtract(&x, &log(&sum(&exp(&x)?, Some(&[axis]), true, None)?)?)
}

/// `-sum_c target[r,c] * log_softmax(x)[r,c]` for every row of `x (rows, C)`; `target` holds probabilities.
pub fn cross_entropy(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let log_p = log_softmax(x, -1)?;
    negative(&sum(&multiply(target, &log_p)?, Some(&[-1]), false, None)?)
}

/// `-log_softmax(x)[r, index[r]]` for every row of `x (rows, C)`; `index` is int64.
pub fn cross_entropy_index(x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let end = Scalar::Int(x.shape()[1] as i64);
    let classes = arange(Scalar::Int(0), end, Scalar::Int(1), None, x.device())?;
    let hit = equal(&expand_dims(index, 1)?, &classes)?; // (rows, C)
    let log_p = r#where(&hit, &log_softmax(x, -1)?, 0.0)?;
    negative(&sum(&log_p, Some(&[-1]), false, None)?)
}

/// `max(x, 0) - x t + log1p(exp(-|x|))`.
pub fn binary_cross_entropy_with_logits(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let tail = log1p(&exp(&negative(&abs(x)?)?)?)?;
    add(&subtract(&relu(x)?, &multiply(x, target)?)?, &tail)
}

/// Which scores count: bool, broadcasting to `(batch, heads, tq, tk)`; `None` when all do.
fn visible(p: &Attention, lengths: Option<&Tensor>, like: &Tensor) -> Result<Option<Tensor>> {
    let device = like.device();
    let count = |n: usize| {
        let end = Scalar::Int(n as i64);
        arange(Scalar::Int(0), end, Scalar::Int(1), None, device)
    };
    let keys = count(p.tk)?;
    // Key minus position of the query, (tq, tk).
    let ahead = || -> Result<Tensor> {
        let at = add(&count(p.tq)?, p.offset as i64)?;
        subtract(&keys, &expand_dims(&at, 1)?)
    };
    let limit = |n: usize| n.min(i64::MAX as usize) as i64;
    let mut parts = Vec::new();
    if let Some(right) = p.right {
        parts.push(less_equal(&ahead()?, limit(right))?);
    }
    if let Some(left) = p.left {
        parts.push(greater_equal(&ahead()?, -limit(left))?);
    }
    if let Some(lengths) = lengths {
        let lengths = shaped(lengths, &[p.batch, 1, 1, 1])?;
        parts.push(less(&keys, &lengths)?);
    }
    let mut all = None;
    for part in parts {
        all = Some(match all {
            None => part,
            Some(all) => logical_and(&all, &part)?,
        });
    }
    Ok(all)
}

/// `softmax(scale q k^T + mask)`, `(batch, heads, tq, tk)`, zeros where a query sees nothing; with dropout.
pub fn attention_weights(
    p: &Attention,
    q: &Tensor,
    k: &Tensor,
    mask: Option<&Tensor>,
    lengths: Option<&Tensor>,
) -> Result<Tensor> {
    let all = [p.batch, p.heads, p.tq, p.tk];
    // The heads that share keys become rows of one product.
    let q = shaped(q, &[p.batch, p.kv_heads, p.group() * p.tq, p.d])?;
    let s = matmul(&q, &transpose(k, -1, -2)?)?;
    let mut s = affine(&shaped(&s, &all)?, p.scale, 0.0)?;
    let hide = |s: &Tensor, keep: &Tensor| r#where(keep, s, f64::NEG_INFINITY);
    match mask {
        None => (),
        Some(m) if m.dtype() == DType::Bool => s = hide(&s, m)?,
        Some(m) => s = add(&s, m)?,
    }
    if let Some(keep) = visible(p, lengths, &s)? {
        s = hide(&s, &keep)?;
    }
    if p.tk == 0 {
        return Ok(s);
    }
    let most = max(&s, Some(&[-1]), true)?.detach();
    let most = r#where(&equal(&most, f64::NEG_INFINITY)?, 0.0, &most)?;
    let e = exp(&subtract(&s, &most)?)?;
    let total = sum(&e, Some(&[-1]), true, None)?;
    let total = r#where(&equal(&total, 0.0)?, 1.0, &total)?;
    let w = divide(&e, &total)?;
    let Some(d) = p.dropout else { return Ok(w) };
    let ones = ones(&[p.batch, p.heads, p.tq, p.pitch()], w.dtype(), w.device())?;
    let kept = dispatch(w.device()).dropout(d.p, d.seed, d.stream, &ones.value())?;
    multiply(&w, &slice_axis(&Tensor::from_value(kept), 3, 0, p.tk)?)
}

/// [`attention_weights`] times the values.
pub fn attention(
    p: &Attention,
    [q, k, v]: [&Tensor; 3],
    mask: Option<&Tensor>,
    lengths: Option<&Tensor>,
) -> Result<Tensor> {
    let w = attention_weights(p, q, k, mask, lengths)?;
    let w = shaped(&w, &[p.batch, p.kv_heads, p.group() * p.tq, p.tk])?;
    shaped(&matmul(&w, v)?, &[p.batch, p.heads, p.tq, p.dv])
}
