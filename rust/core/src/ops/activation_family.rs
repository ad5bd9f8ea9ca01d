//! Activations that are made of other operations, and so have gradients of every order.
//!
//! Most are two-sided: `relu(x)` carries the positive side and `negative_side(x) = min(x, 0)` the other one. Each half is 0
//! where the other counts, so their sum rounds no more than either does, and neither an overflow nor a NaN crosses over.
use super::common::{affine, rounded_once, shaped};
use super::shape::slice_axis;
use super::{
    abs, add, astype, clip, divide, expm1, greater, multiply, negative, relu, sigmoid, softplus,
    subtract, tanh, r#where,
};
use crate::dtype::Scalar;
use crate::error::{Error, Result};
use crate::shape::normalize_axis;
use crate::tensor::Tensor;

/// `x` as a floating-point tensor: integers become float32.
fn float(x: &Tensor) -> Result<Tensor> {
    astype(x, x.dtype().to_float())
}

/// `min(x, 0)`; the gradient at 0 is 1, where that of [`relu`] is 0.
fn negative_side(x: &Tensor) -> Result<Tensor> {
    clip(x, None, Some(Scalar::Float(0.0)))
}

/// `x` between two bounds; the gradient at the bounds is 1.
fn between(x: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    clip(x, Some(Scalar::Float(low)), Some(Scalar::Float(high)))
}

/// `x` where `x > 0`, else `negative_slope * x`; the gradient at 0 is `negative_slope`. Integers become float32.
///
/// Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.
pub fn leaky_relu(x: &Tensor, negative_slope: f64) -> Result<Tensor> {
    rounded_once!(x => leaky_relu(x, negative_slope));
    let x = float(x)?;
    add(
        &relu(&x)?,
        &affine(&negative_side(&x)?, negative_slope, 0.0)?,
    )
}

/// [`leaky_relu`] with a slope that is learnt: `max(x, 0) + weight * min(x, 0)`.
///
/// `x (N, C, *)` with `weight (C,)`, one slope per channel; or `x` of any shape with `weight (1,)` or `()`.
/// Gradients: `dx = g` or `weight * g`, `dweight = sum(g * min(x, 0))`.
///
/// Errors: `Shape` when `weight` is neither, `Dtype` when the dtypes differ.
///
/// He et al., <https://arxiv.org/abs/1502.01852>.
pub fn prelu(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    const OP: &str = "prelu";
    super::common::check_same_kind(OP, ("x", x), &[("weight", Some(weight))])?;
    let (xs, ws) = (x.shape(), weight.shape());
    let channels = xs.get(1).copied().unwrap_or(1);
    if ws.len() > 1 || (weight.numel() != 1 && (xs.len() < 2 || weight.numel() != channels)) {
        return Err(Error::shape(
            OP,
            format!("weight must be (1,) or ({channels},), one per channel of x {xs}, got {ws}"),
        ));
    }
    let mut shape = vec![1; xs.len()];
    if xs.len() > 1 && weight.numel() == channels {
        shape[1] = channels;
    }
    let slope = shaped(weight, &shape)?;
    add(&relu(x)?, &multiply(&slope, &negative_side(x)?)?)
}

/// `x` where `x > 0`, else `alpha * (exp(x) - 1)`. Integers become float32.
///
/// Clevert, Unterthiner and Hochreiter, <https://arxiv.org/abs/1511.07289>.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    rounded_once!(x => elu(x, alpha));
    let x = float(x)?;
    add(
        &relu(&x)?,
        &affine(&expm1(&negative_side(&x)?)?, alpha, 0.0)?,
    )
}

/// `x` where `x > 0`, else `alpha * (exp(x / alpha) - 1)`: [`elu`] whose gradient is continuous for every `alpha`.
///
/// Errors: `Value` unless `alpha` is positive.
///
/// Barron, <https://arxiv.org/abs/1704.07483>.
pub fn celu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    rounded_once!(x => celu(x, alpha));
    if alpha.is_nan() || alpha <= 0.0 {
        return Err(Error::value(
            "celu",
            format!("alpha must be positive, got {alpha}"),
        ));
    }
    let x = float(x)?;
    let tail = expm1(&affine(&negative_side(&x)?, 1.0 / alpha, 0.0)?)?;
    add(&relu(&x)?, &affine(&tail, alpha, 0.0)?)
}

/// `scale * elu(x, alpha)` with the two constants that keep mean 0 and variance 1 from layer to layer.
///
/// Klambauer et al., <https://arxiv.org/abs/1706.02515>.
pub fn selu(x: &Tensor) -> Result<Tensor> {
    rounded_once!(x => selu(x));
    const ALPHA: f64 = 1.673_263_242_354_377_2;
    const SCALE: f64 = 1.050_700_987_355_480_5;
    let x = float(x)?;
    let tail = expm1(&negative_side(&x)?)?;
    add(
        &affine(&relu(&x)?, SCALE, 0.0)?,
        &affine(&tail, SCALE * ALPHA, 0.0)?,
    )
}

/// `x * tanh(softplus(x))`. Integers become float32.
///
/// Misra, <https://arxiv.org/abs/1908.08681>.
pub fn mish(x: &Tensor) -> Result<Tensor> {
    rounded_once!(x => mish(x));
    let x = float(x)?;
    multiply(&x, &tanh(&softplus(&x)?)?)
}

/// `min(max(x, min_val), max_val)`. Gradient: `g` between the bounds, 0 outside. Integers become float32.
///
/// Errors: `Value` unless `min_val <= max_val`, as when one of them is NaN.
pub fn hardtanh(x: &Tensor, min_val: f64, max_val: f64) -> Result<Tensor> {
    if min_val.is_nan() || max_val.is_nan() || min_val > max_val {
        return Err(Error::value(
            "hardtanh",
            format!("min_val must not exceed max_val, got {min_val} and {max_val}"),
        ));
    }
    between(&float(x)?, min_val, max_val)
}

/// `min(max(x, 0), 6)`. Integers become float32.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    between(&float(x)?, 0.0, 6.0)
}

/// `x / (1 + |x|)`. Gradient: `g / (1 + |x|)^2`. Integers become float32.
pub fn softsign(x: &Tensor) -> Result<Tensor> {
    rounded_once!(x => softsign(x));
    let x = float(x)?;
    divide(&x, &affine(&abs(&x)?, 1.0, 1.0)?)
}

/// `min(max(x + 3, 0), 6) / 6`: [`sigmoid`] in three straight pieces. Integers become float32.
///
/// Howard et al., <https://arxiv.org/abs/1905.02244>.
pub fn hardsigmoid(x: &Tensor) -> Result<Tensor> {
    rounded_once!(x => hardsigmoid(x));
    let x = affine(&float(x)?, 1.0, 3.0)?;
    affine(&between(&x, 0.0, 6.0)?, 1.0 / 6.0, 0.0)
}

/// `x * min(max(x + 3, 0), 6) / 6`: [`super::silu`] with [`hardsigmoid`]. Integers become float32.
///
/// Howard et al., <https://arxiv.org/abs/1905.02244>.
pub fn hardswish(x: &Tensor) -> Result<Tensor> {
    rounded_once!(x => hardswish(x));
    let x = float(x)?;
    multiply(&x, &hardsigmoid(&x)?)
}

/// `log(sigmoid(x)) = -softplus(-x)`, without overflow. Gradient: `g * sigmoid(-x)`. Integers become float32.
pub fn logsigmoid(x: &Tensor) -> Result<Tensor> {
    negative(&softplus(&negative(&float(x)?)?)?)
}

/// `x - tanh(x)`. Integers become float32.
pub fn tanhshrink(x: &Tensor) -> Result<Tensor> {
    rounded_once!(x => tanhshrink(x));
    let x = float(x)?;
    subtract(&x, &tanh(&x)?)
}

/// `x` moved towards 0 by `lambda`, and 0 where `|x| <= lambda`. Integers become float32.
///
/// Errors: `Value` when `lambda` is negative.
pub fn softshrink(x: &Tensor, lambda: f64) -> Result<Tensor> {
    rounded_once!(x => softshrink(x, lambda));
    if lambda.is_nan() || lambda < 0.0 {
        return Err(Error::value(
            "softshrink",
            format!("lambd must not be negative, got {lambda}"),
        ));
    }
    let x = float(x)?;
    subtract(&x, &between(&x, -lambda, lambda)?)
}

/// `x` where `|x| > lambda`, else 0. Integers become float32.
pub fn hardshrink(x: &Tensor, lambda: f64) -> Result<Tensor> {
    let x = float(x)?;
    r#where(&greater(&abs(&x.detach())?, lambda)?, &x, 0.0)
}

/// `x` where `x > threshold`, else `value`. Integers become float32.
pub fn threshold(x: &Tensor, threshold: f64, value: f64) -> Result<Tensor> {
    let x = float(x)?;
    r#where(&greater(&x.detach(), threshold)?, &x, value)
}

/// Gated linear unit: `a * sigmoid(b)`, `a` and `b` being the halves of `x` along `axis`.
///
/// `x (.., 2 n, ..)`, result `(.., n, ..)`.
///
/// Errors: `Shape` when the size of the axis is odd, `Index` when there is no such axis.
///
/// Dauphin et al., <https://arxiv.org/abs/1612.08083>.
pub fn glu(x: &Tensor, axis: isize) -> Result<Tensor> {
    rounded_once!(x => glu(x, axis));
    const OP: &str = "glu";
    let x = float(x)?;
    let axis = normalize_axis(OP, axis, x.ndim())?;
    let size = x.shape()[axis];
    if !size.is_multiple_of(2) {
        return Err(Error::shape(
            OP,
            format!(
                "axis {axis} must have an even size to be halved, got {size}: x {}",
                x.shape()
            ),
        ));
    }
    let half = |i: usize| slice_axis(&x, axis, i * (size / 2), size / 2);
    multiply(&half(0)?, &sigmoid(&half(1)?)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, check_gradients, check_gradients_strided, integers, leaf, message, to_f64,
    };
    use super::*;
    use crate::{DType, Device};

    type Function = fn(&Tensor) -> Result<Tensor>;
    /// Name, the function, and what it is by definition, written for one number.
    type Definition = (&'static str, Function, fn(f64) -> f64);

    fn log_sigmoid(x: f64) -> f64 {
        -(-x).exp().ln_1p()
    }
    fn soft_plus(x: f64) -> f64 {
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }
    const SELU: [f64; 2] = [1.050_700_987_355_480_5, 1.673_263_242_354_377_2];

    const ALL: [Definition; 16] = [
        (
            "leaky_relu",
            |x| leaky_relu(x, 0.1),
            |x| if x > 0.0 { x } else { 0.1 * x },
        ),
        (
            "elu",
            |x| elu(x, 0.7),
            |x| if x > 0.0 { x } else { 0.7 * x.exp_m1() },
        ),
        (
            "celu",
            |x| celu(x, 0.7),
            |x| {
                if x > 0.0 { x } else { 0.7 * (x / 0.7).exp_m1() }
            },
        ),
        ("selu", selu, |x| {
            SELU[0] * if x > 0.0 { x } else { SELU[1] * x.exp_m1() }
        }),
        ("mish", mish, |x| x * soft_plus(x).tanh()),
        (
            "hardtanh",
            |x| hardtanh(x, -0.5, 0.8),
            |x| x.clamp(-0.5, 0.8),
        ),
        ("relu6", relu6, |x| x.clamp(0.0, 6.0)),
        ("softsign", softsign, |x| x / (1.0 + x.abs())),
        ("hardsigmoid", hardsigmoid, |x| {
            (x + 3.0).clamp(0.0, 6.0) / 6.0
        }),
        ("hardswish", hardswish, |x| {
            x * (x + 3.0).clamp(0.0, 6.0) / 6.0
        }),
        ("logsigmoid", logsigmoid, log_sigmoid),
        ("tanhshrink", tanhshrink, |x| x - x.tanh()),
        (
            "softshrink",
            |x| softshrink(x, 0.4),
            |x| {
                if x.abs() > 0.4 {
                    x - 0.4 * x.signum()
                } else {
                    0.0
                }
            },
        ),
        (
            "hardshrink",
            |x| hardshrink(x, 0.4),
            |x| if x.abs() > 0.4 { x } else { 0.0 },
        ),
        (
            "threshold",
            |x| threshold(x, 0.3, -2.0),
            |x| if x > 0.3 { x } else { -2.0 },
        ),
        (
            "glu of two halves",
            |x| glu(&super::super::concat(&[x, x], 0)?, 0),
            |x| x / (1.0 + (-x).exp()),
        ),
    ];

    fn points(device: Device) -> Tensor {
        let data: Vec<f64> = (-36..37).map(|i| f64::from(i) * 0.2 + 0.013).collect();
        Tensor::from_slice_on(&data, &[data.len()], DType::F64, device).unwrap()
    }

    #[test]
    fn equal_their_definitions() {
        for device in DEVICES {
            let x = points(device);
            for (name, f, definition) in ALL {
                for (x, y) in to_f64(&x).into_iter().zip(to_f64(&f(&x).unwrap())) {
                    let want = definition(x);
                    assert!(
                        (y - want).abs() <= 1e-14 * want.abs().max(1.0),
                        "{name}({x}) = {y}, not {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for (_, f, _) in ALL {
                let x = points(device).to_leaf(true).unwrap();
                check_gradients(|t| f(&t[0]), &[x]);
                check_gradients_strided(|t| f(&t[0]), device, &[&[3, 5]]);
            }
            for weight in [&[3][..], &[1], &[]] {
                let t = [leaf(device, &[2, 3, 4], 1), leaf(device, weight, 2)];
                check_gradients(|t| prelu(&t[0], &t[1]), &t);
            }
            check_gradients(|t| glu(&t[0], -2), &[leaf(device, &[2, 4, 3], 1)]);
        }
    }

    #[test]
    fn far_tails_have_neither_overflow_nor_nan() {
        for device in DEVICES {
            for (name, f, _) in ALL {
                let x = Tensor::from_slice_on(&[-1e4f32, 1e4], &[2], DType::F32, device).unwrap();
                x.set_requires_grad(true).unwrap();
                let y = f(&x).unwrap();
                let g = super::super::ones_like(&y, None).unwrap();
                y.backward(Some(&g), false, false).unwrap();
                assert!(to_f64(&y).iter().all(|y| y.is_finite()), "{name}");
                let slopes = to_f64(&x.grad().unwrap());
                assert!(slopes.iter().all(|s| s.is_finite()), "{name}: {slopes:?}");
            }
        }
    }

    #[test]
    fn slopes_at_zero_are_pytorchs() {
        for device in DEVICES {
            let slope = |f: Function| {
                let x = Tensor::from_slice_on(&[0.0], &[1], DType::F64, device).unwrap();
                x.set_requires_grad(true).unwrap();
                f(&x).unwrap().backward(None, false, false).unwrap();
                to_f64(&x.grad().unwrap())[0]
            };
            assert_eq!(slope(|x| leaky_relu(x, 0.1)), 0.1);
            assert_eq!(slope(|x| elu(x, 0.7)), 0.7);
            assert_eq!(slope(|x| celu(x, 0.7)), 1.0);
        }
    }

    #[test]
    fn integers_become_float() {
        for device in DEVICES {
            let x = integers(device, &[2], &[-2, 3]);
            for (name, f, definition) in ALL {
                let y = f(&x).unwrap();
                assert_eq!(y.dtype(), DType::F32, "{name}");
                for (y, x) in to_f64(&y).into_iter().zip([-2.0, 3.0]) {
                    assert!((y - definition(x)).abs() < 1e-6, "{name}({x}) = {y}");
                }
            }
        }
    }

    #[test]
    fn errors_teach() {
        let x = leaf(DEVICES[0], &[2, 3], 1);
        assert_eq!(
            message(prelu(&x, &leaf(DEVICES[0], &[2], 1))),
            "[prelu] weight must be (1,) or (3,), one per channel of x (2, 3), got (2,)"
        );
        assert_eq!(
            message(glu(&x, 1)),
            "[glu] axis 1 must have an even size to be halved, got 3: x (2, 3)"
        );
        assert_eq!(
            message(celu(&x, 0.0)),
            "[celu] alpha must be positive, got 0"
        );
        assert_eq!(
            message(softshrink(&x, -1.0)),
            "[softshrink] lambd must not be negative, got -1"
        );
        assert_eq!(
            message(hardtanh(&x, 2.0, 1.0)),
            "[hardtanh] min_val must not exceed max_val, got 2 and 1"
        );
    }
}
