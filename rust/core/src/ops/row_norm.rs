//! Normalisation within each sample: layer, RMS, group, instance and local response norm.
//!
//! One fused kernel normalises rows and saves their mean and reciprocal deviation; the others bring their elements into rows.
use super::common::{affine, check_eps, check_float, check_same_kind, rounded_once, shaped};
use super::shape::slice_axis;
use super::{add, astype, composed, concat, multiply, pow, square, zeros};
use crate::autograd::{Saved, record, twin_vjp, vjp};
use crate::backend::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::numel;
use crate::tensor::Tensor;

/// `y = (x - mean) / sqrt(var + eps) * weight + bias`, mean and biased variance being those of the last axes.
///
/// * `x (*, S)`, `S = normalized_shape`; `weight` and `bias` are `S`; result like `x`.
/// * Gradient, with `h = weight * dy` and `xh = (x - mean) * rstd`: `dx = rstd * (h - mean(h) - xh * mean(h * xh))`,
///   `dweight = sum(dy * xh)`, `dbias = sum(dy)`, the sums being over all axes before `S`.
///
/// Errors: `Shape` when `x` does not end in `normalized_shape`, or `weight` or `bias` has another shape; `Dtype` unless all are the
/// same floating-point type.
///
/// Ba, Kiros and Hinton, <https://arxiv.org/abs/1607.06450>.
pub fn layer_norm(
    x: &Tensor,
    normalized_shape: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    last_axes(
        "layer_norm",
        x,
        normalized_shape,
        weight,
        bias,
        Some(eps),
        true,
    )
}

/// `y = x / sqrt(mean(x^2) + eps) * weight`, the mean being over the last axes: [`layer_norm`] that does not centre.
///
/// `x (*, S)`, `S = normalized_shape`, `weight S`; `eps` is the dtype's machine epsilon unless given.
///
/// Errors: as for [`layer_norm`].
///
/// Zhang and Sennrich, <https://arxiv.org/abs/1910.07467>.
pub fn rms_norm(
    x: &Tensor,
    normalized_shape: &[usize],
    weight: Option<&Tensor>,
    eps: Option<f64>,
) -> Result<Tensor> {
    last_axes("rms_norm", x, normalized_shape, weight, None, eps, false)
}

fn last_axes(
    op: &'static str,
    x: &Tensor,
    normalized_shape: &[usize],
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: Option<f64>,
    centred: bool,
) -> Result<Tensor> {
    check_same_kind(op, ("x", x), &[("weight", weight), ("bias", bias)])?;
    let xs = x.shape();
    let show = crate::shape::show(normalized_shape);
    if normalized_shape.is_empty() || !xs.ends_with(normalized_shape) {
        return Err(Error::shape(
            op,
            format!(
                "x must end in the axes normalized_shape={show}, of which there must be one at least, got {xs}"
            ),
        ));
    }
    for (name, t) in [("weight", weight), ("bias", bias)] {
        if let Some(t) = t
            && t.shape()[..] != *normalized_shape
        {
            return Err(Error::shape(
                op,
                format!(
                    "{name} must be {show}, as normalized_shape, got {}",
                    t.shape()
                ),
            ));
        }
    }
    let cols = numel(normalized_shape);
    let rows = numel(&xs[..xs.len() - normalized_shape.len()]);
    let flat = |t: Option<&Tensor>| t.map(|t| shaped(t, &[cols])).transpose();
    let (weight, bias) = (flat(weight)?, flat(bias)?);
    let eps = eps.unwrap_or(if x.dtype() == DType::F64 {
        f64::EPSILON
    } else {
        f64::from(f32::EPSILON)
    });
    let y = rows_norm(
        op,
        &shaped(x, &[rows, cols])?,
        weight.as_ref(),
        bias.as_ref(),
        eps,
        centred,
    )?;
    shaped(&y, xs)
}

/// The fused primitive: `x (rows, cols)`, `weight` and `bias (cols,)`, all checked.
fn rows_norm(
    op: &'static str,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
    centred: bool,
) -> Result<Tensor> {
    check_eps(op, eps)?;
    let backend = dispatch(x.device());
    let (weight_value, bias_value) = (weight.map(Tensor::value), bias.map(Tensor::value));
    let [y, mean, rstd] = backend.layer_norm(
        centred,
        eps,
        &x.value(),
        weight_value.as_ref(),
        bias_value.as_ref(),
    )?;
    let inputs: Vec<&Tensor> = [Some(x), weight, bias].into_iter().flatten().collect();
    let (has_weight, has_bias) = (weight.is_some(), bias.is_some());
    Ok(record(op, &inputs, y, |_| {
        let saved: Vec<Saved> = inputs.iter().map(|t| Saved::input(t)).collect();
        vjp(move |cx, g, needs| {
            let (at_weight, at_bias) = (1, 1 + usize::from(has_weight)); // positions among the inputs
            if cx.create_graph() {
                let inputs: Vec<Tensor> = saved.iter().map(|s| s.get(cx)).collect();
                return twin_vjp(&inputs, &[Some(g.clone())], needs, |inputs| {
                    let weight = has_weight.then(|| &inputs[at_weight]);
                    let bias = has_bias.then(|| &inputs[at_bias]);
                    Ok(vec![composed::rows_norm(
                        &inputs[0], weight, bias, eps, centred,
                    )?])
                });
            }
            let wanted = [
                needs[0],
                has_weight && needs[at_weight],
                has_bias && needs[at_bias],
            ];
            let weight = has_weight.then(|| saved[at_weight].value());
            let found = backend.layer_norm_backward(
                centred,
                saved[0].value(),
                &g.value(),
                &mean,
                &rstd,
                weight,
                wanted,
            )?;
            let mut grads = vec![None; needs.len()];
            for (place, value) in [0, at_weight, at_bias].into_iter().zip(found) {
                if let Some(value) = value {
                    grads[place] = Some(Tensor::from_value(value));
                }
            }
            Ok(grads)
        })
    }))
}

/// Normalises groups of channels of each sample: `y = (x - mean) / sqrt(var + eps) * weight + bias`.
///
/// * `x (N, C, *)`; mean and biased variance over the `C / groups` channels of a group and all `*`; `weight` and `bias` are `(C,)`.
///
/// Errors: `Value` unless `groups` divides C; `Shape` when `x` has no channels' axis or `weight` or `bias` is not `(C,)`; `Dtype`
/// unless all are the same floating-point type.
///
/// Wu and He, <https://arxiv.org/abs/1803.08494>.
pub fn group_norm(
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    grouped("group_norm", x, groups, weight, bias, eps)
}

/// Normalises every channel of each sample: [`group_norm`] with one channel per group, `x (N, C, *)`.
///
/// Errors: as for [`group_norm`], and `Value` when a channel has one element only.
///
/// Ulyanov, Vedaldi and Lempitsky, <https://arxiv.org/abs/1607.08022>.
pub fn instance_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    const OP: &str = "instance_norm";
    let xs = x.shape();
    let &[_, c, ref rest @ ..] = &xs[..] else {
        return Err(Error::shape(OP, format!("x must be (N, C, *), got {xs}")));
    };
    if numel(rest) == 1 {
        return Err(Error::value(
            OP,
            format!("a channel with one element has no variance: x {xs}"),
        ));
    }
    grouped(OP, x, c.max(1), weight, bias, eps)
}

fn grouped(
    op: &'static str,
    x: &Tensor,
    groups: usize,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    check_same_kind(op, ("x", x), &[("weight", weight), ("bias", bias)])?;
    if x.dtype().is_half() {
        // As `rounded_once!`, with what may be there.
        let wide = |t: &Tensor| astype(t, t.dtype().arithmetic());
        let (weight, bias) = (weight.map(wide).transpose()?, bias.map(wide).transpose()?);
        let y = grouped(op, &wide(x)?, groups, weight.as_ref(), bias.as_ref(), eps)?;
        return astype(&y, x.dtype());
    }
    let xs = x.shape();
    let &[n, c, ref rest @ ..] = &xs[..] else {
        return Err(Error::shape(op, format!("x must be (N, C, *), got {xs}")));
    };
    if groups == 0 || c % groups != 0 {
        return Err(Error::value(
            op,
            format!("groups must divide the {c} channels of x {xs}, got {groups}"),
        ));
    }
    for (name, t) in [("weight", weight), ("bias", bias)] {
        if let Some(t) = t
            && t.shape()[..] != [c]
        {
            return Err(Error::shape(
                op,
                format!(
                    "{name} must be ({c},), one per channel of x {xs}, got {}",
                    t.shape()
                ),
            ));
        }
    }
    let cols = (c / groups).saturating_mul(numel(rest));
    let rows = shaped(x, &[n.saturating_mul(groups), cols])?;
    let mut y = shaped(&rows_norm(op, &rows, None, None, eps, true)?, xs)?;
    let mut per_channel = vec![1; xs.len()];
    per_channel[1] = c;
    if let Some(weight) = weight {
        y = multiply(&y, &shaped(weight, &per_channel)?)?;
    }
    if let Some(bias) = bias {
        y = add(&y, &shaped(bias, &per_channel)?)?;
    }
    Ok(y)
}

/// Divides by the squares of neighbouring channels: `y[c] = x[c] * (k + alpha / size * sum x[j]^2) ^ -beta`, the sum being over the
/// `size` channels from `c - size / 2` on, zeros beyond the ends.
///
/// `x (N, C, *)` with at least one axis after C.
///
/// Errors: `Value` for a size of 0, `Shape` when `x` has fewer than three axes, `Dtype` unless it is floating-point.
///
/// Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.
pub fn local_response_norm(
    x: &Tensor,
    size: usize,
    alpha: f64,
    beta: f64,
    k: f64,
) -> Result<Tensor> {
    const OP: &str = "local_response_norm";
    check_float(OP, "x", x)?;
    rounded_once!(x => local_response_norm(x, size, alpha, beta, k));
    if size == 0 {
        return Err(Error::value(OP, "size must be at least 1, got 0"));
    }
    let xs = x.shape();
    if xs.len() < 3 {
        return Err(Error::shape(
            OP,
            format!("x must be (N, C, *) with at least three axes, got {xs}"),
        ));
    }
    let c = xs[1];
    // Windows may be larger than C; their ends are zeros anyway.
    let (before, after) = ((size / 2).min(c), ((size - 1) / 2).min(c));
    let border = |channels: usize| {
        let mut shape = xs.to_vec();
        shape[1] = channels;
        zeros(&shape, x.dtype(), x.device())
    };
    let squares = concat(&[&border(before)?, &square(x)?, &border(after)?], 1)?;
    let mut sum = slice_axis(&squares, 1, 0, c)?;
    for i in 1..=before + after {
        sum = add(&sum, &slice_axis(&squares, 1, i, c)?)?;
    }
    let divisor = affine(&sum, alpha / size as f64, k)?;
    multiply(x, &pow(&divisor, -beta)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, check_twin, leaf, message,
        strided_leaf, to_f64,
    };
    use super::*;
    use crate::Device;

    fn inputs(
        make: fn(Device, &[usize], u64) -> Tensor,
        d: Device,
        x: &[usize],
        w: &[usize],
    ) -> [Tensor; 3] {
        [make(d, x, 1), make(d, w, 2), make(d, w, 3)]
    }

    #[test]
    fn rows_equal_their_twin() {
        for d in DEVICES {
            for make in [leaf, strided_leaf] {
                for shape in [&[4, 3][..], &[3, 2, 5], &[0, 3]] {
                    let cols = *shape.last().unwrap();
                    let t = inputs(make, d, shape, &[cols]);
                    for n in 1..=3 {
                        check_twin(
                            |t| layer_norm(&t[0], &[cols], t.get(1), t.get(2), 1e-5),
                            |t| {
                                let rows = t[0].numel() / cols;
                                let x = shaped(&t[0], &[rows, cols])?;
                                let y = composed::rows_norm(&x, t.get(1), t.get(2), 1e-5, true)?;
                                shaped(&y, t[0].shape())
                            },
                            &t[..n],
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for d in DEVICES {
            let t = inputs(leaf, d, &[2, 3, 4], &[3, 4]);
            for n in 1..=3 {
                check_gradients(
                    |t| layer_norm(&t[0], &[3, 4], t.get(1), t.get(2), 1e-2),
                    &t[..n],
                );
            }
            for n in 1..=2 {
                check_gradients(|t| rms_norm(&t[0], &[3, 4], t.get(1), Some(1e-2)), &t[..n]);
            }
            check_gradients_strided(
                |t| layer_norm(&t[0], &[3], t.get(1), t.get(2), 1e-2),
                d,
                &[&[4, 3], &[3], &[3]],
            );
            let t = inputs(leaf, d, &[2, 4, 3], &[4]);
            for n in 1..=3 {
                check_gradients(|t| group_norm(&t[0], 2, t.get(1), t.get(2), 1e-2), &t[..n]);
                check_gradients(|t| instance_norm(&t[0], t.get(1), t.get(2), 1e-2), &t[..n]);
            }
            for size in [1, 2, 3, 9] {
                check_gradients(
                    |t| local_response_norm(&t[0], size, 0.5, 0.75, 1.0),
                    &t[..1],
                );
            }
        }
    }

    #[test]
    fn one_group_is_a_layer_norm_and_one_channel_each_an_instance_norm() {
        for d in DEVICES {
            let x = leaf(d, &[2, 4, 3], 1);
            assert_close(
                &group_norm(&x, 1, None, None, 1e-5).unwrap(),
                &layer_norm(&x, &[4, 3], None, None, 1e-5).unwrap(),
                0.0,
            );
            assert_close(
                &instance_norm(&x, None, None, 1e-5).unwrap(),
                &layer_norm(&x, &[3], None, None, 1e-5).unwrap(),
                0.0,
            );
        }
    }

    #[test]
    fn values_by_hand() {
        for d in DEVICES {
            let x = Tensor::from_slice_on(&[3.0, 4.0], &[1, 2, 1], DType::F64, d).unwrap();
            let y = to_f64(&rms_norm(&x, &[2, 1], None, Some(0.0)).unwrap());
            let rms = 12.5f64.sqrt();
            assert!((y[0] - 3.0 / rms).abs() < 1e-15 && (y[1] - 4.0 / rms).abs() < 1e-15);
            // Window of two: channel 0 sees itself, channel 1 both.
            let y = to_f64(&local_response_norm(&x, 2, 2.0, 0.5, 0.0).unwrap());
            assert!((y[0] - 1.0).abs() < 1e-15 && (y[1] - 0.8).abs() < 1e-15);
        }
    }

    #[test]
    fn errors_teach() {
        let d = DEVICES[0];
        let x = leaf(d, &[2, 3], 1);
        assert_eq!(
            message(layer_norm(&x, &[2], None, None, 1e-5)),
            "[layer_norm] x must end in the axes normalized_shape=(2,), of which there must be one at least, got (2, 3)"
        );
        assert_eq!(
            message(rms_norm(&x, &[3], Some(&leaf(d, &[2], 1)), None)),
            "[rms_norm] weight must be (3,), as normalized_shape, got (2,)"
        );
        assert_eq!(
            message(group_norm(&x, 2, None, None, 1e-5)),
            "[group_norm] groups must divide the 3 channels of x (2, 3), got 2"
        );
        assert_eq!(
            message(instance_norm(&x, None, None, 1e-5)),
            "[instance_norm] a channel with one element has no variance: x (2, 3)"
        );
        assert!(message(local_response_norm(&x, 2, 1.0, 1.0, 1.0)).contains("at least three axes"));
    }
}
