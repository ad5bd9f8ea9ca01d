//! Activations: one fused kernel forward, one backward; the gradient as a formula where it will be differentiated again.
use super::common::affine;
use super::{add, astype, erf, exp, greater, maximum, multiply, square};
use crate::autograd::{Ctx, Saved, mode, record, vjp};
use crate::backend::{Unary, UnaryGrad, dispatch};
use crate::error::Result;
use crate::tensor::Tensor;

/// `dx` from what was saved (the input or the output) and the gradient `g` of the output, in tensor operations.
type Formula = fn(saved: &Tensor, g: &Tensor) -> Result<Tensor>;

/// What the backward pass needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Input,
    Output,
}

/// One activation: forward kernel, backward kernel, and the same gradient as a formula.
fn activate(
    name: &'static str,
    op: Unary,
    grad: UnaryGrad,
    keep: Keep,
    formula: Formula,
    x: &Tensor,
) -> Result<Tensor> {
    let x = &astype(x, x.dtype().to_float())?;
    let y = dispatch(x.device()).unary(op, &x.value())?;
    Ok(record(name, &[x], y, |y| {
        let saved = match keep {
            Keep::Input => Saved::input(x),
            Keep::Output => Saved::output(y, 0),
        };
        vjp(move |cx, g, _| Ok(vec![Some(activation_grad(cx, grad, formula, &saved, g)?)]))
    }))
}

fn activation_grad(
    cx: &Ctx<'_>,
    grad: UnaryGrad,
    formula: Formula,
    saved: &Saved,
    g: &Tensor,
) -> Result<Tensor> {
    if cx.create_graph() {
        return formula(&saved.get(cx), g);
    }
    let dx = dispatch(g.device()).unary_backward(grad, saved.value(), &g.value())?;
    Ok(Tensor::from_value(dx))
}

/// Gradient through a ReLU whose output was saved: `g` where `y > 0`, else 0. For layers that fuse it.
pub(super) fn relu_grad(cx: &Ctx<'_>, y: &Saved, g: &Tensor) -> Result<Tensor> {
    activation_grad(cx, UnaryGrad::Relu, relu_formula, y, g)
}

fn relu_formula(y: &Tensor, g: &Tensor) -> Result<Tensor> {
    multiply(g, &astype(&greater(&y.detach(), 0.0)?, g.dtype())?)
}

/// `max(x, 0)`; the gradient at 0 is 0. NaN stays NaN.
///
/// Integers are clipped and stay integers.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if x.dtype().is_int() {
        return maximum(x, 0);
    }
    activate(
        "relu",
        Unary::Relu,
        UnaryGrad::Relu,
        Keep::Output,
        relu_formula,
        x,
    )
}

/// Gaussian error linear unit `x * Phi(x)`, `Phi(x) = (1 + erf(x / sqrt(2))) / 2`; see [`gelu_tanh`] for the approximation.
///
/// Gradient: `Phi(x) + x * exp(-x^2 / 2) / sqrt(2 pi)`. Integers become float32.
///
/// Hendrycks and Gimpel, <https://arxiv.org/abs/1606.08415>.
pub fn gelu(x: &Tensor, approximate: Approximate) -> Result<Tensor> {
    match approximate {
        Approximate::None if x.requires_grad() && mode::is_enabled() && !x.dtype().is_half() => {
            gelu_for_backward(x)
        }
        Approximate::None => activate(
            "gelu",
            Unary::Gelu,
            UnaryGrad::Gelu,
            Keep::Input,
            gelu_formula,
            x,
        ),
        Approximate::Tanh => activate(
            "gelu",
            Unary::GeluTanh,
            UnaryGrad::GeluTanh,
            Keep::Input,
            gelu_tanh_formula,
            x,
        ),
    }
}

/// GELU with its derivative, which shares most of the work, kept for the backward pass.
fn gelu_for_backward(x: &Tensor) -> Result<Tensor> {
    let (y, slope) = dispatch(x.device()).gelu_with_slope(&x.value())?;
    Ok(record("gelu", &[x], y, |_| {
        let (x, slope) = (Saved::input(x), Saved::constant(&slope));
        vjp(move |cx, g, _| {
            let dx = if cx.create_graph() {
                gelu_formula(&x.get(cx), g)?
            } else {
                multiply(g, &slope.get(cx))?
            };
            Ok(vec![Some(dx)])
        })
    }))
}

/// Which formula [`gelu`] uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approximate {
    /// The exact one.
    #[default]
    None,
    /// `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`, as BERT and GPT-2.
    Tanh,
}

impl Approximate {
    /// The formula called `name`: "none" or "tanh".
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "tanh" => Ok(Self::Tanh),
            _ => Err(crate::error::Error::value(
                "gelu",
                format!("approximate must be 'none' or 'tanh', got '{name}'"),
            )),
        }
    }
}

fn gelu_formula(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};
    let phi = affine(&erf(&affine(x, FRAC_1_SQRT_2, 0.0)?)?, 0.5, 0.5)?;
    let density = affine(
        &exp(&affine(&square(x)?, -0.5, 0.0)?)?,
        1.0 / (2.0 * PI).sqrt(),
        0.0,
    )?;
    multiply(g, &add(&phi, &multiply(x, &density)?)?)
}

fn gelu_tanh_formula(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let x2 = square(x)?;
    let t = tanh(&multiply(x, &affine(&x2, scale * 0.044715, scale)?)?)?;
    let slope = affine(&x2, scale * 3.0 * 0.044715, scale)?; // derivative of tanh's argument
    let sech2 = affine(&square(&t)?, -1.0, 1.0)?;
    let tail = multiply(&affine(x, 0.5, 0.0)?, &multiply(&sech2, &slope)?)?;
    multiply(g, &add(&affine(&t, 0.5, 0.5)?, &tail)?)
}

/// `1 / (1 + exp(-x))`; no overflow for any `x`. Gradient: `y * (1 - y)`. Integers become float32.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    activate(
        "sigmoid",
        Unary::Sigmoid,
        UnaryGrad::Sigmoid,
        Keep::Output,
        sigmoid_formula,
        x,
    )
}

fn sigmoid_formula(y: &Tensor, g: &Tensor) -> Result<Tensor> {
    multiply(g, &multiply(y, &affine(y, -1.0, 1.0)?)?)
}

/// Hyperbolic tangent. Gradient: `1 - y^2`. Integers become float32.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    activate(
        "tanh",
        Unary::Tanh,
        UnaryGrad::Tanh,
        Keep::Output,
        tanh_formula,
        x,
    )
}

fn tanh_formula(y: &Tensor, g: &Tensor) -> Result<Tensor> {
    multiply(g, &affine(&square(y)?, -1.0, 1.0)?)
}

/// `log(1 + exp(x))`, computed as `max(x, 0) + log1p(exp(-|x|))`. Gradient: `sigmoid(x)`. Integers become float32.
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    activate(
        "softplus",
        Unary::Softplus,
        UnaryGrad::Softplus,
        Keep::Input,
        softplus_formula,
        x,
    )
}

fn softplus_formula(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    multiply(g, &sigmoid(x)?)
}

/// `x * sigmoid(x)`, also called swish. Gradient: `s + x * s * (1 - s)` with `s = sigmoid(x)`. Integers become
/// float32.
///
/// Elfwing, Uchibe and Doya, <https://arxiv.org/abs/1702.03118>.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    activate(
        "silu",
        Unary::Silu,
        UnaryGrad::Silu,
        Keep::Input,
        silu_formula,
        x,
    )
}

fn silu_formula(x: &Tensor, g: &Tensor) -> Result<Tensor> {
    let s = sigmoid(x)?;
    let rest = multiply(x, &multiply(&s, &affine(&s, -1.0, 1.0)?)?)?;
    multiply(g, &add(&s, &rest)?)
}

#[cfg(test)]
mod tests {
    use super::super::composed;
    use super::super::testing::{
        DEVICES, check_gradients, check_gradients_strided, check_twin, integers, leaf, message,
        strided_leaf, to_f64,
    };
    use super::*;

    type Function = fn(&Tensor) -> Result<Tensor>;

    const ALL: [(Function, Function); 7] = [
        (relu, composed::relu),
        (|x| gelu(x, Approximate::None), composed::gelu),
        (|x| gelu(x, Approximate::Tanh), composed::gelu_tanh),
        (sigmoid, composed::sigmoid),
        (tanh, composed::tanh),
        (softplus, composed::softplus),
        (silu, composed::silu),
    ];

    #[test]
    fn equal_their_twins() {
        for device in DEVICES {
            for (fused, twin) in ALL {
                for make in [leaf, strided_leaf] {
                    for shape in [&[][..], &[0], &[33], &[3, 5]] {
                        check_twin(|t| fused(&t[0]), |t| twin(&t[0]), &[make(device, shape, 1)]);
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for (fused, _) in ALL {
                check_gradients(|t| fused(&t[0]), &[leaf(device, &[3, 5], 1)]);
                check_gradients_strided(|t| fused(&t[0]), device, &[&[3, 5]]);
                // Wider: the tails.
                check_gradients(
                    |t| fused(&affine(&t[0], 5.0, 0.0)?),
                    &[leaf(device, &[9], 2)],
                );
            }
        }
    }

    #[test]
    fn far_tails_have_neither_overflow_nor_nan() {
        for device in DEVICES {
            for (i, (fused, _)) in ALL.into_iter().enumerate() {
                let x = Tensor::from_slice_on(
                    &[-1e4f32, -100.0, 100.0, 1e4],
                    &[4],
                    crate::DType::F32,
                    device,
                )
                .unwrap();
                x.set_requires_grad(true).unwrap();
                let y = fused(&x).unwrap();
                y.backward(
                    Some(&super::super::ones_like(&y, None).unwrap()),
                    false,
                    false,
                )
                .unwrap();
                let saturates = i == 3 || i == 4; // sigmoid, tanh
                let slopes = if saturates {
                    [0.0; 4]
                } else {
                    [0.0, 0.0, 1.0, 1.0]
                };
                for (got, expect) in to_f64(&x.grad().unwrap()).into_iter().zip(slopes) {
                    assert!(
                        (got - expect).abs() < 1e-6,
                        "activation {i}: slope {got}, not {expect}"
                    );
                }
                assert!(to_f64(&y).iter().all(|y| y.is_finite()));
            }
        }
    }

    #[test]
    fn integers_are_clipped_by_relu_and_become_float_elsewhere() {
        let x = integers(DEVICES[0], &[3], &[-2, 0, 3]);
        assert_eq!(relu(&x).unwrap().to_vec::<i64>().unwrap(), [0, 0, 3]);
        let s = sigmoid(&x).unwrap();
        assert_eq!(s.dtype(), crate::DType::F32);
        assert_eq!(to_f64(&s)[1], 0.5);
        assert_eq!(
            message(Approximate::from_name("erf")),
            "[gelu] approximate must be 'none' or 'tanh', got 'erf'"
        );
    }
}
