//! Losses between two tensors of one shape, element by element.
use super::common::{Reduction, affine, check_same_kind, rounded_once};
use super::loss::{check_target, reduced};
use super::{
    abs, broadcast_to, clip, divide, equal, exp, log, log1p, max, maximum, min, multiply, negative,
    ones_like, subtract, r#where,
};
use crate::autograd::{Saved, no_grad, record, vjp};
use crate::dtype::Scalar;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// `|x - target|`, averaged or summed over all elements, or as it is. Gradient: `dx = g * sign(x - target) = -dt`.
///
/// Errors: `Shape` when shapes differ (nothing is broadcast), `Dtype` unless both are the same floating-point type.
pub fn l1_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    check_target("l1_loss", x, target)?;
    rounded_once!(x, target => l1_loss(x, target, reduction));
    reduced(&abs(&subtract(x, target)?)?, reduction)
}

/// `d^2 / 2` where `|d| <= delta`, else `delta * (|d| - delta / 2)`, with `d = x - target`.
///
/// Gradient: `dx = g * min(max(d, -delta), delta) = -dt`.
///
/// Errors: `Value` unless `delta` is positive; else those of [`l1_loss`].
///
/// Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.
pub fn huber_loss(x: &Tensor, target: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    const OP: &str = "huber_loss";
    check_target(OP, x, target)?;
    if delta.is_nan() || delta <= 0.0 {
        return Err(Error::value(
            OP,
            format!("delta must be positive, got {delta}"),
        ));
    }
    rounded_once!(x, target => huber_loss(x, target, delta, reduction));
    reduced(&huber(x, target, delta)?, reduction)
}

/// `c (d - c / 2)` with `c = min(max(d, -delta), delta)`: both pieces in one, without a kink in the gradient.
fn huber(x: &Tensor, target: &Tensor, delta: f64) -> Result<Tensor> {
    let d = subtract(x, target)?;
    let c = clip(&d, Some(Scalar::Float(-delta)), Some(Scalar::Float(delta)))?;
    multiply(&c, &subtract(&d, &affine(&c, 0.5, 0.0)?)?)
}

/// `d^2 / (2 beta)` where `|d| < beta`, else `|d| - beta / 2`: [`huber_loss`] divided by `beta`; for `beta = 0` [`l1_loss`].
///
/// Errors: `Value` when `beta` is negative; else those of [`l1_loss`].
///
/// Girshick, <https://arxiv.org/abs/1504.08083>.
pub fn smooth_l1_loss(
    x: &Tensor,
    target: &Tensor,
    beta: f64,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "smooth_l1_loss";
    check_target(OP, x, target)?;
    if beta.is_nan() || beta < 0.0 {
        return Err(Error::value(
            OP,
            format!("beta must not be negative, got {beta}"),
        ));
    }
    rounded_once!(x, target => smooth_l1_loss(x, target, beta, reduction));
    if beta == 0.0 {
        return l1_loss(x, target, reduction);
    }
    reduced(
        &affine(&huber(x, target, beta)?, 1.0 / beta, 0.0)?,
        reduction,
    )
}

/// Pointwise Kullback-Leibler divergence `target * (log(target) - x)`, `x` being log-probabilities; 0 where the target is 0.
///
/// With `log_target` the target holds log-probabilities too: `exp(target) * (target - x)`. Gradients: `dx = -g * t`,
/// `dt = g * (log(t) + 1 - x)`.
///
/// Errors: those of [`l1_loss`].
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html> ("mean" is over all elements, which is
/// not the divergence of the rows: for that, divide the sum by their number).
pub fn kl_div(
    x: &Tensor,
    target: &Tensor,
    reduction: Reduction,
    log_target: bool,
) -> Result<Tensor> {
    check_target("kl_div", x, target)?;
    rounded_once!(x, target => kl_div(x, target, reduction, log_target));
    let losses = if log_target {
        multiply(&exp(target)?, &subtract(target, x)?)?
    } else {
        // log(1) in place of log(0): t log(t) tends to 0.
        let safe = r#where(&equal(&target.detach(), 0.0)?, 1.0, target)?;
        multiply(target, &subtract(&log(&safe)?, x)?)?
    };
    reduced(&losses, reduction)
}

/// `-(t log(x) + (1 - t) log(1 - x))` of probabilities `x`, logarithms being at least -100.
///
/// Prefer [`super::binary_cross_entropy_with_logits`], which loses no digits near 0 and 1. `weight`, which broadcasts to the shape
/// of `x`, scales each element's loss and gets no gradient.
///
/// Gradients: `dx = g * (x - t) / max(x (1 - x), 1e-12)`, `dt = g * (log(1 - x) - log(x))`.
///
/// Errors: `Value` when an element of `x` is outside of `[0, 1]`; else those of [`l1_loss`].
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html>.
pub fn binary_cross_entropy(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "binary_cross_entropy";
    check_target(OP, x, target)?;
    let weight = weight.map(|w| check_weight(OP, x, w)).transpose()?;
    if let Some(weight) = &weight {
        rounded_once!(x, target, weight => binary_cross_entropy(x, target, Some(weight), reduction));
    }
    rounded_once!(x, target => binary_cross_entropy(x, target, None, reduction));
    if x.numel() > 0 {
        let _off = no_grad();
        let lowest = min(x, None, false)?.item()?.to_f64();
        let highest = max(x, None, false)?.item()?.to_f64();
        if lowest < 0.0 || highest > 1.0 {
            let bad = if lowest < 0.0 { lowest } else { highest };
            return Err(Error::value(
                OP,
                format!(
                    "x must hold probabilities from 0 to 1, got {bad} (for logits: binary_cross_entropy_with_logits)"
                ),
            ));
        }
    }
    let losses = {
        let _off = no_grad();
        let hit = multiply(target, &log_or_100(&log(x)?)?)?;
        let miss = multiply(
            &affine(target, -1.0, 1.0)?,
            &log_or_100(&log1p(&negative(x)?)?)?,
        )?;
        negative(&super::add(&hit, &miss)?)?.value()
    };
    // Its own node: the pieces have infinite slopes at 0 and 1, where the bound of the logarithm stops them.
    let mut losses = record(OP, &[x, target], losses, |_| {
        let (x, target) = (Saved::input(x), Saved::input(target));
        vjp(move |cx, g, needs| {
            let (x, target) = (x.get(cx), target.get(cx));
            let of_x = || {
                let spread = multiply(&x, &subtract(&ones_like(&x, None)?, &x)?)?;
                let spread = maximum(&spread, 1e-12)?;
                multiply(g, &divide(&subtract(&x, &target)?, &spread)?)
            };
            let of_target = || {
                let miss = log_or_100(&log1p(&negative(&x)?)?)?;
                multiply(g, &subtract(&miss, &log_or_100(&log(&x)?)?)?)
            };
            Ok(vec![
                needs[0].then(of_x).transpose()?,
                needs[1].then(of_target).transpose()?,
            ])
        })
    });
    if let Some(weight) = weight {
        losses = multiply(&losses, &weight)?;
    }
    reduced(&losses, reduction)
}

/// `weight` in the shape of `x`, as a constant.
fn check_weight(op: &'static str, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    check_same_kind(op, ("x", x), &[("weight", Some(weight))])?;
    broadcast_to(&weight.detach(), x.shape()).map_err(|_| {
        Error::shape(
            op,
            format!(
                "weight {} must broadcast to the shape of x {}",
                weight.shape(),
                x.shape()
            ),
        )
    })
}

/// A logarithm, bounded below.
fn log_or_100(log: &Tensor) -> Result<Tensor> {
    clip(log, Some(Scalar::Float(-100.0)), None)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, check_gradients, check_gradients_strided, constant, leaf, message, to_f64,
    };
    use super::super::{log_softmax, sigmoid, softmax};
    use super::*;
    use crate::{DType, Device};

    const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

    fn row(data: &[f64], device: Device) -> Tensor {
        let x = Tensor::from_slice_on(data, &[data.len()], DType::F64, device).unwrap();
        x.set_requires_grad(true).unwrap();
        x
    }

    fn each(result: Result<Tensor>) -> Vec<f64> {
        to_f64(&result.unwrap())
    }

    #[test]
    fn values_by_hand() {
        for d in DEVICES {
            let (x, t) = (
                row(&[0.0, 3.0, -1.0, 0.5], d),
                row(&[0.0, 1.0, 3.0, 0.25], d),
            );
            let none = Reduction::None;
            assert_eq!(each(l1_loss(&x, &t, none)), [0.0, 2.0, 4.0, 0.25]);
            assert_eq!(
                each(huber_loss(&x, &t, 2.0, none)),
                [0.0, 2.0, 6.0, 0.03125]
            );
            assert_eq!(
                each(smooth_l1_loss(&x, &t, 2.0, none)),
                [0.0, 1.0, 3.0, 0.015625]
            );
            assert_eq!(
                each(smooth_l1_loss(&x, &t, 0.0, none)),
                [0.0, 2.0, 4.0, 0.25]
            );
            assert_eq!(each(l1_loss(&x, &t, Reduction::Sum)), [6.25]);
            assert_eq!(each(l1_loss(&x, &t, Reduction::Mean)), [6.25 / 4.0]);
            let ln2 = std::f64::consts::LN_2;
            let (p, q) = (row(&[0.0, 0.5, 1.0], d), row(&[0.0, -1.0, -2.0], d));
            let got = each(kl_div(&q, &p, none, false));
            for (got, want) in got.iter().zip([0.0, 0.5 * (1.0 - ln2), 2.0]) {
                assert!((got - want).abs() < 1e-15);
            }
            let got = each(kl_div(&q, &row(&[-ln2, 0.0, -ln2], d), none, true));
            for (got, want) in got.iter().zip([-0.5 * ln2, 1.0, 0.5 * (2.0 - ln2)]) {
                assert!((got - want).abs() < 1e-15);
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for d in DEVICES {
            for reduction in REDUCTIONS {
                let t = [leaf(d, &[3, 4], 1), leaf(d, &[3, 4], 2)];
                check_gradients(|t| l1_loss(&t[0], &t[1], reduction), &t);
                check_gradients(|t| huber_loss(&t[0], &t[1], 0.4, reduction), &t);
                check_gradients(|t| smooth_l1_loss(&t[0], &t[1], 0.4, reduction), &t);
                check_gradients(
                    |t| {
                        kl_div(
                            &log_softmax(&t[0], 1)?,
                            &softmax(&t[1], 1)?,
                            reduction,
                            false,
                        )
                    },
                    &t,
                );
                check_gradients(|t| kl_div(&t[0], &t[1], reduction, true), &t);
                let w = constant(d, &[3, 4], 5);
                let f = |t: &[Tensor]| {
                    binary_cross_entropy(&sigmoid(&t[0])?, &sigmoid(&t[1])?, Some(&w), reduction)
                };
                check_gradients(f, &t);
                check_gradients_strided(f, d, &[&[3, 4], &[3, 4]]);
            }
        }
    }

    #[test]
    fn hubers_second_derivative_at_zero_is_one() {
        for d in DEVICES {
            check_gradients(
                |t| huber_loss(&t[0], &t[1], 1.0, Reduction::Sum),
                &[row(&[0.0, 2.0], d), row(&[0.0, 0.0], d)],
            );
        }
    }

    #[test]
    fn certain_probabilities_give_finite_losses_and_slopes() {
        for d in DEVICES {
            let (x, t) = (row(&[0.0, 1.0, 0.0, 1.0], d), row(&[0.0, 1.0, 1.0, 0.0], d));
            let loss = binary_cross_entropy(&x, &t, None, Reduction::None).unwrap();
            assert_eq!(to_f64(&loss), [0.0, 0.0, 100.0, 100.0]);
            let g = ones_like(&loss, None).unwrap();
            loss.backward(Some(&g), false, false).unwrap();
            assert_eq!(to_f64(&x.grad().unwrap()), [0.0, 0.0, -1e12, 1e12]);
            assert_eq!(to_f64(&t.grad().unwrap()), [100.0, -100.0, 100.0, -100.0]);
            // Of a target that is 0, too.
            let (q, p) = (row(&[-1.0], d), row(&[0.0], d));
            kl_div(&q, &p, Reduction::Sum, false)
                .unwrap()
                .backward(None, false, false)
                .unwrap();
            assert!(to_f64(&p.grad().unwrap())[0].is_finite());
        }
    }

    #[test]
    fn errors_teach() {
        let d = DEVICES[0];
        let (x, t) = (leaf(d, &[2, 3], 1), leaf(d, &[3, 2], 2));
        assert!(
            message(l1_loss(&x, &t, Reduction::Mean))
                .contains("[l1_loss] x (2, 3) and target (3, 2) must have the same shape")
        );
        assert_eq!(
            message(huber_loss(&x, &x, 0.0, Reduction::Mean)),
            "[huber_loss] delta must be positive, got 0"
        );
        assert_eq!(
            message(smooth_l1_loss(&x, &x, -1.0, Reduction::Mean)),
            "[smooth_l1_loss] beta must not be negative, got -1"
        );
        let wrong = row(&[0.5, 1.5], d);
        assert_eq!(
            message(binary_cross_entropy(&wrong, &wrong, None, Reduction::Mean)),
            "[binary_cross_entropy] x must hold probabilities from 0 to 1, got 1.5 (for logits: \
             binary_cross_entropy_with_logits)"
        );
    }
}
