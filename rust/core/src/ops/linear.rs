//! The fully connected layer, with bias and ReLU in the product's epilogue.
use super::activation::relu_grad;
use super::common::{Activation, check_same_kind, shaped};
use super::{matmul, permute_dims, sum};
use crate::autograd::{Saved, record, vjp};
use crate::backend::dispatch;
use crate::error::{Error, Result};
use crate::shape::numel;
use crate::tensor::Tensor;

/// The hint for images or sequences that should have been flattened, where that would fit.
fn unflattened(x: &[usize], features: usize) -> &'static str {
    match x {
        [_, rest @ ..] if rest.len() > 1 && numel(rest) == features => {
            " (flatten it: x.flatten(1))"
        }
        _ => "",
    }
}

/// `y = act(x W^T + b)`.
///
/// * `x (*, in)`, `weight (out, in)`, `bias (out,)`; result `(*, out)`.
/// * Gradients: with `dz = dy * act'`, rows being all leading axes: `dx = dz W`, `dW = dz^T x`, `db = sum of rows of dz`; only
///   those that are needed, in one pass.
///
/// Errors: `Shape` when the features disagree; `Dtype` unless all are the same floating-point type.
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    const OP: &str = "linear";
    check_same_kind(OP, ("x", x), &[("weight", Some(weight)), ("bias", bias)])?;
    let (xs, ws) = (x.shape(), weight.shape());
    let [out, features] = ws[..] else {
        return Err(Error::shape(
            OP,
            format!("weight must be (out, in), got {ws}"),
        ));
    };
    let Some((&last, lead)) = xs.split_last() else {
        return Err(Error::shape(
            OP,
            "x must be (*, in), got a scalar of shape ()",
        ));
    };
    if last != features {
        return Err(Error::shape(
            OP,
            format!(
                "x has {last} features but weight {ws} expects {features}: x {xs}{}",
                unflattened(xs, features)
            ),
        ));
    }
    if let Some(bias) = bias
        && bias.shape()[..] != [out]
    {
        let got = bias.shape();
        return Err(Error::shape(
            OP,
            format!("bias must be ({out},), one per row of weight {ws}, got {got}"),
        ));
    }
    if xs.len() == 2 {
        return forward(x, weight, bias, activation);
    }
    let rows = numel(lead);
    let y = forward(&shaped(x, &[rows, features])?, weight, bias, activation)?;
    let mut shape = lead.to_vec();
    shape.push(out);
    shaped(&y, &shape)
}

/// The fused primitive on checked arguments, `x (rows, in)`.
fn forward(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let backend = dispatch(x.device());
    let bias_value = bias.map(Tensor::value);
    let (y, _) = backend.linear(
        &x.value(),
        &weight.value(),
        bias_value.as_ref(),
        activation.kernel(),
        false,
    )?;
    let inputs = [x, weight, bias.unwrap_or(weight)];
    let inputs = &inputs[..if bias.is_some() { 3 } else { 2 }];
    Ok(record("linear", inputs, y, |y| {
        // The input can be large; it is kept only for the gradient of the weight.
        let saved_x = weight.requires_grad().then(|| Saved::input(x));
        let saved_w = Saved::input(weight);
        let relu = (activation == Activation::Relu).then(|| Saved::output(y, 0));
        vjp(move |cx, g, needs| {
            let dz = match &relu {
                Some(y) => relu_grad(cx, y, g)?,
                None => g.clone(),
            };
            let need_db = needs.get(2) == Some(&true);
            let mut grads = vec![None; needs.len()];
            match &saved_x {
                Some(x) if needs[1] && !cx.create_graph() => {
                    let wanted = [needs[0], true, need_db];
                    let found =
                        backend.linear_backward(x.value(), saved_w.value(), &dz.value(), wanted)?;
                    for (grad, value) in grads.iter_mut().zip(found) {
                        *grad = value.map(Tensor::from_value);
                    }
                }
                _ => {
                    if needs[0] {
                        grads[0] = Some(matmul(&dz, &saved_w.get(cx))?);
                    }
                    if let (true, Some(x)) = (needs[1], &saved_x) {
                        grads[1] = Some(matmul(&permute_dims(&dz, &[1, 0])?, &x.get(cx))?);
                    }
                    if need_db {
                        grads[2] = Some(sum(&dz, Some(&[0]), false, None)?);
                    }
                }
            }
            Ok(grads)
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::super::composed;
    use super::super::testing::{
        DEVICES, check_gradients, check_gradients_strided, check_twin, constant, leaf, message,
    };
    use super::*;

    #[test]
    fn equals_its_twin_for_any_number_of_leading_axes() {
        for device in DEVICES {
            for lead in [&[][..], &[5], &[2, 3], &[0]] {
                let mut shape = lead.to_vec();
                shape.push(4);
                let inputs = [
                    leaf(device, &shape, 1),
                    leaf(device, &[3, 4], 2),
                    leaf(device, &[3], 3),
                ];
                for activation in [Activation::None, Activation::Relu] {
                    check_twin(
                        |t| linear(&t[0], &t[1], Some(&t[2]), activation),
                        |t| {
                            let y = composed::linear(&t[0], &t[1], Some(&t[2]))?;
                            if activation == Activation::Relu {
                                composed::relu(&y)
                            } else {
                                Ok(y)
                            }
                        },
                        &inputs,
                    );
                }
                check_twin(
                    |t| linear(&t[0], &t[1], None, Activation::None),
                    |t| composed::linear(&t[0], &t[1], None),
                    &inputs[..2],
                );
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for activation in [Activation::None, Activation::Relu] {
                let f = |t: &[Tensor]| linear(&t[0], &t[1], Some(&t[2]), activation);
                check_gradients(
                    f,
                    &[
                        leaf(device, &[3, 4], 1),
                        leaf(device, &[2, 4], 2),
                        leaf(device, &[2], 3),
                    ],
                );
                check_gradients_strided(f, device, &[&[2, 3, 4], &[2, 4], &[2]]);
            }
        }
    }

    #[test]
    fn frozen_arguments_get_no_gradient_and_the_others_the_same() {
        for device in DEVICES {
            let run = |frozen: usize| {
                let t = [
                    leaf(device, &[3, 4], 1),
                    leaf(device, &[2, 4], 2),
                    leaf(device, &[2], 3),
                ];
                for (i, t) in t.iter().enumerate() {
                    t.set_requires_grad(frozen >> i & 1 == 0).unwrap();
                }
                let y = linear(&t[0], &t[1], Some(&t[2]), Activation::Relu).unwrap();
                y.backward(Some(&constant(device, &[3, 2], 4)), false, false)
                    .unwrap();
                t.map(|t| t.grad().map(|g| g.to_vec::<f64>().unwrap()))
            };
            let all = run(0);
            for frozen in 1..7 {
                for (i, (grad, full)) in run(frozen).into_iter().zip(&all).enumerate() {
                    if frozen >> i & 1 == 1 {
                        assert!(grad.is_none());
                    } else {
                        assert_eq!(&grad, full, "frozen {frozen}, argument {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn errors_say_what_was_expected() {
        let device = DEVICES[0];
        let (x, w) = (constant(device, &[2, 5], 1), constant(device, &[3, 4], 2));
        assert_eq!(
            message(linear(&x, &w, None, Activation::None)),
            "[linear] x has 5 features but weight (3, 4) expects 4: x (2, 5)"
        );
        let b = constant(device, &[4], 3);
        let x = constant(device, &[2, 4], 1);
        assert_eq!(
            message(linear(&x, &w, Some(&b), Activation::None)),
            "[linear] bias must be (3,), one per row of weight (3, 4), got (4,)"
        );
        let x = Tensor::from_slice(&[0f32; 8], &[2, 4]).unwrap();
        assert_eq!(
            message(linear(&x, &w, None, Activation::None)),
            "[linear] x is float32 but weight is float64 (cast one of them: .astype('float64'))"
        );
    }
}
