//! Batch normalisation.
use super::common::{affine, check_eps, check_float, check_same_kind};
use super::{add, composed, rsqrt};
use crate::autograd::{Saved, no_grad, record, twin_vjp, vjp};
use crate::backend::dispatch;
use crate::error::{Error, Result};
use crate::shape::numel;
use crate::tensor::Tensor;

/// Normalises every channel: `y = (x - mean) / sqrt(var + eps) * weight + bias`.
///
/// * `x (N, C, *)`; `weight`, `bias`, `running_mean`, `running_var` are `(C,)`; result like `x`.
/// * `training`: mean and (biased) variance are those of the batch, over all axes but 1. Then the running statistics, if given,
///   are overwritten: `running = (1 - momentum) * running + momentum * batch`, with the unbiased variance, as PyTorch does.
/// * Otherwise the running statistics are used, as constants.
/// * Gradient in training, `n` elements per channel: `dx = weight * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))`,
///   `dweight = sum(dy * xhat)`, `dbias = sum(dy)`.
///
/// Errors: `Shape` when sizes disagree, `Value` when training with one element per channel, evaluating without running
/// statistics, or `eps` is negative, `Dtype` unless `x`, `weight` and `bias` are the same floating-point type.
///
/// Ioffe and Szegedy, <https://arxiv.org/abs/1502.03167>.
pub fn batch_norm(
    x: &Tensor,
    running_mean: Option<&Tensor>,
    running_var: Option<&Tensor>,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    training: bool,
    momentum: f64,
    eps: f64,
) -> Result<Tensor> {
    const OP: &str = "batch_norm";
    check_same_kind(OP, ("x", x), &[("weight", weight), ("bias", bias)])?;
    check_eps(OP, eps)?;
    let xs = x.shape();
    let &[n, c, ref rest @ ..] = &xs[..] else {
        return Err(Error::shape(OP, format!("x must be (N, C, *), got {xs}")));
    };
    let named = [
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ];
    for (name, t) in named {
        let Some(t) = t else { continue };
        check_float(OP, name, t)?;
        if t.shape()[..] != [c] {
            return Err(Error::shape(
                OP,
                format!(
                    "{name} must be ({c},), one per channel of x {xs}, got {}",
                    t.shape()
                ),
            ));
        }
    }
    let backend = dispatch(x.device());
    let count = n.saturating_mul(numel(rest));
    let (mean, var) = if training {
        if count < 2 {
            return Err(Error::value(
                OP,
                format!(
                    "training needs at least two elements per channel, got x {xs} (use a larger batch, or evaluate)"
                ),
            ));
        }
        let (mean, var) = backend.batch_norm_stats(&x.value())?;
        let (mean, var) = (Tensor::from_value(mean), Tensor::from_value(var));
        (mean, var)
    } else {
        let (Some(mean), Some(var)) = (running_mean, running_var) else {
            return Err(Error::value(
                OP,
                "evaluating needs running_mean and running_var (pass them, or training=True to use the batch's statistics)",
            ));
        };
        let like_x = |t: &Tensor| {
            backend
                .cast(&t.value(), x.dtype().arithmetic())
                .map(Tensor::from_value)
        };
        (like_x(mean)?, like_x(var)?)
    };
    let rstd = {
        let _off = no_grad();
        rsqrt(&affine(&var, 1.0, eps)?)?.value()
    };
    let mean = mean.value();
    let (weight_value, bias_value) = (weight.map(Tensor::value), bias.map(Tensor::value));
    let y = backend.batch_norm_apply(
        &x.value(),
        &mean,
        &rstd,
        weight_value.as_ref(),
        bias_value.as_ref(),
    )?;
    if training {
        // Last, so that a pass that failed or was interrupted leaves no trace.
        let unbiased = count as f64 / (count - 1) as f64;
        update(
            running_mean,
            &Tensor::from_value(mean.clone()),
            momentum,
            1.0,
        )?;
        update(running_var, &var, momentum, unbiased)?;
    }

    let inputs: Vec<&Tensor> = [Some(x), weight, bias].into_iter().flatten().collect();
    let (has_weight, has_bias) = (weight.is_some(), bias.is_some());
    Ok(record(OP, &inputs, y, |_| {
        let saved: Vec<Saved> = inputs.iter().map(|t| Saved::input(t)).collect();
        vjp(move |cx, g, needs| {
            let (at_weight, at_bias) = (1, 1 + usize::from(has_weight)); // positions among the inputs
            if cx.create_graph() {
                let inputs: Vec<Tensor> = saved.iter().map(|s| s.get(cx)).collect();
                return twin_vjp(&inputs, &[Some(g.clone())], needs, |inputs| {
                    let weight = has_weight.then(|| &inputs[at_weight]);
                    let bias = has_bias.then(|| &inputs[at_bias]);
                    let y = if training {
                        composed::batch_norm(&inputs[0], weight, bias, eps)?
                    } else {
                        let (mean, rstd) = (
                            Tensor::from_value(mean.clone()),
                            Tensor::from_value(rstd.clone()),
                        );
                        composed::normalize(&inputs[0], &mean, &rstd, weight, bias)?
                    };
                    Ok(vec![y])
                });
            }
            let wanted = [
                needs[0],
                has_weight && needs[at_weight],
                has_bias && needs[at_bias],
            ];
            let weight = has_weight.then(|| saved[at_weight].value());
            let found = backend.batch_norm_backward(
                saved[0].value(),
                &g.value(),
                &mean,
                &rstd,
                weight,
                training,
                wanted,
            )?;
            let mut grads = vec![None; needs.len()];
            let places = [
                Some(0),
                has_weight.then_some(at_weight),
                has_bias.then_some(at_bias),
            ];
            for (place, value) in places.into_iter().zip(found) {
                if let (Some(place), Some(value)) = (place, value) {
                    grads[place] = Some(Tensor::from_value(value));
                }
            }
            Ok(grads)
        })
    }))
}

/// `running = (1 - momentum) * running + momentum * scale * batch`, written in place unless someone shares the old values.
fn update(running: Option<&Tensor>, batch: &Tensor, momentum: f64, scale: f64) -> Result<()> {
    let Some(running) = running else {
        return Ok(());
    };
    let _off = no_grad();
    let new = add(
        &affine(running, 1.0 - momentum, 0.0)?,
        &affine(batch, momentum * scale, 0.0)?,
    )?;
    running.assign(&new)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, check_twin, constant,
        leaf, message, strided_leaf, to_f64,
    };
    use super::*;

    fn train(t: &[Tensor]) -> Result<Tensor> {
        batch_norm(&t[0], None, None, t.get(1), t.get(2), true, 0.1, 1e-5)
    }

    const SHAPES: [&[usize]; 3] = [&[4, 3], &[3, 2, 4], &[2, 3, 2, 2]];

    #[test]
    fn training_equals_its_twin() {
        for device in DEVICES {
            for shape in SHAPES {
                for make in [leaf, strided_leaf] {
                    let t = [
                        make(device, shape, 1),
                        make(device, &shape[1..2], 2),
                        make(device, &shape[1..2], 3),
                    ];
                    for n in 1..=3 {
                        check_twin(
                            train,
                            |t| composed::batch_norm(&t[0], t.get(1), t.get(2), 1e-5),
                            &t[..n],
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            let running_mean = constant(device, &[2], 8);
            let running_var = super::super::square(&constant(device, &[2], 9)).unwrap();
            let evaluate = |t: &[Tensor]| {
                batch_norm(
                    &t[0],
                    Some(&running_mean),
                    Some(&running_var),
                    t.get(1),
                    t.get(2),
                    false,
                    0.1,
                    1e-2,
                )
            };
            let t = [
                leaf(device, &[3, 2, 2], 1),
                leaf(device, &[2], 2),
                leaf(device, &[2], 3),
            ];
            for n in 1..=3 {
                check_gradients(train, &t[..n]);
                check_gradients(evaluate, &t[..n]);
            }
            check_gradients_strided(train, device, &[&[3, 2, 2], &[2], &[2]]);
        }
    }

    #[test]
    fn running_statistics_follow_the_batch_with_unbiased_variance() {
        for device in DEVICES {
            let x =
                Tensor::from_slice_on(&[1.0, 2.0, 3.0, 6.0], &[4, 1], crate::DType::F64, device)
                    .unwrap();
            let (mean, var) = (constant(device, &[1], 1), constant(device, &[1], 2));
            let (m, v) = (to_f64(&mean)[0], to_f64(&var)[0]);
            batch_norm(&x, Some(&mean), Some(&var), None, None, true, 0.25, 1e-5).unwrap();
            assert!((to_f64(&mean)[0] - (0.75 * m + 0.25 * 3.0)).abs() < 1e-12);
            assert!((to_f64(&var)[0] - (0.75 * v + 0.25 * 14.0 / 3.0)).abs() < 1e-12);
        }
    }

    #[test]
    fn only_a_training_forward_updates_the_running_statistics() {
        for device in DEVICES {
            let x = leaf(device, &[4, 2], 1);
            let (mean, var) = (
                constant(device, &[2], 1),
                super::super::square(&constant(device, &[2], 2))
                    .unwrap()
                    .to_leaf(false)
                    .unwrap(),
            );
            let before = (to_f64(&mean), to_f64(&var));
            batch_norm(&x, Some(&mean), Some(&var), None, None, false, 0.1, 1e-5).unwrap();
            assert_eq!((to_f64(&mean), to_f64(&var)), before);
            let y = batch_norm(&x, Some(&mean), Some(&var), None, None, true, 0.1, 1e-5).unwrap();
            let after = (to_f64(&mean), to_f64(&var));
            assert_ne!(after, before);
            // The composed twin runs here; it must not count the batch again.
            y.backward(Some(&constant(device, &[4, 2], 3)), true, true)
                .unwrap();
            assert_eq!((to_f64(&mean), to_f64(&var)), after);
            // A gradient with a graph back to its own leaf is a cycle of references.
            x.set_grad(None).unwrap();
        }
    }

    #[test]
    fn a_graph_in_evaluation_keeps_the_statistics_that_it_saw() {
        for device in DEVICES {
            let run = |interfere: bool| {
                let t = [leaf(device, &[4, 2], 1), leaf(device, &[2], 2)];
                let (mean, var) = (
                    constant(device, &[2], 4),
                    super::super::square(&constant(device, &[2], 5))
                        .unwrap()
                        .to_leaf(false)
                        .unwrap(),
                );
                let y = batch_norm(
                    &t[0],
                    Some(&mean),
                    Some(&var),
                    Some(&t[1]),
                    None,
                    false,
                    0.1,
                    1e-5,
                )
                .unwrap();
                if interfere {
                    batch_norm(&t[0], Some(&mean), Some(&var), None, None, true, 0.5, 1e-5)
                        .unwrap();
                }
                y.backward(Some(&constant(device, &[4, 2], 6)), false, false)
                    .unwrap();
                t.map(|t| t.grad().unwrap())
            };
            for (a, b) in run(false).iter().zip(&run(true)) {
                assert_close(a, b, 0.0);
            }
        }
    }

    #[test]
    fn errors_say_what_is_missing() {
        let t = |shape: &[usize]| constant(DEVICES[0], shape, 1);
        assert_eq!(
            message(batch_norm(
                &t(&[1, 3]),
                None,
                None,
                None,
                None,
                true,
                0.1,
                1e-5
            )),
            "[batch_norm] training needs at least two elements per channel, got x (1, 3) (use a larger batch, or evaluate)"
        );
        assert!(
            message(batch_norm(
                &t(&[2, 3]),
                None,
                None,
                None,
                None,
                false,
                0.1,
                1e-5
            ))
            .contains("needs running_mean")
        );
        assert_eq!(
            message(batch_norm(
                &t(&[2, 3]),
                None,
                None,
                Some(&t(&[2])),
                None,
                true,
                0.1,
                1e-5
            )),
            "[batch_norm] weight must be (3,), one per channel of x (2, 3), got (2,)"
        );
        assert!(
            message(batch_norm(
                &t(&[3]),
                None,
                None,
                None,
                None,
                true,
                0.1,
                1e-5
            ))
            .contains("x must be (N, C, *), got (3,)")
        );
    }
}
