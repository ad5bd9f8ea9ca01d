//! Softmax and its logarithm along one axis.
use super::common::check_float;
use super::{exp, multiply, subtract, sum, transpose};
use crate::autograd::{Saved, record, vjp};
use crate::backend::dispatch;
use crate::error::Result;
use crate::shape::normalize_axis;
use crate::tensor::Tensor;

/// `y = exp(x - max(x)) / sum(exp(x - max(x)))` along `axis`; finite for logits of any size. Same shape as `x`.
///
/// Gradient: `dx = y * (dy - sum(dy * y))`.
///
/// Errors: `Index` for an axis out of range, `Dtype` unless `x` is floating-point.
pub fn softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    along("softmax", false, x, axis)
}

/// `y = x - max(x) - log(sum(exp(x - max(x))))` along `axis`: the logarithm of [`softmax`], exact where that underflows.
///
/// Gradient: `dx = dy - exp(y) * sum(dy)`.
///
/// Errors: as for [`softmax`].
pub fn log_softmax(x: &Tensor, axis: isize) -> Result<Tensor> {
    along("log_softmax", true, x, axis)
}

/// The kernels work on the last axis; another one is brought there and back.
fn along(name: &'static str, log: bool, x: &Tensor, axis: isize) -> Result<Tensor> {
    check_float(name, "x", x)?;
    let axis = normalize_axis(name, axis, x.ndim())?;
    if axis + 1 == x.ndim() {
        return last(name, log, x);
    }
    let y = last(name, log, &transpose(x, axis as isize, -1)?)?;
    transpose(&y, axis as isize, -1)
}

fn last(name: &'static str, log: bool, x: &Tensor) -> Result<Tensor> {
    let backend = dispatch(x.device());
    let y = backend.softmax(log, &x.value())?;
    Ok(record(name, &[x], y, |y| {
        let y = Saved::output(y, 0);
        vjp(move |cx, g, _| {
            if !cx.create_graph() {
                let dx = backend.softmax_backward(log, y.value(), &g.value())?;
                return Ok(vec![Some(Tensor::from_value(dx))]);
            }
            let y = y.get(cx);
            let total = |t: &Tensor| sum(t, Some(&[-1]), true, None);
            let dx = if log {
                subtract(g, &multiply(&exp(&y)?, &total(g)?)?)?
            } else {
                multiply(&y, &subtract(g, &total(&multiply(g, &y)?)?)?)?
            };
            Ok(vec![Some(dx)])
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::super::composed;
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, check_twin, leaf, message,
        strided_leaf,
    };
    use super::*;

    #[test]
    fn equal_their_twins_along_any_axis() {
        for device in DEVICES {
            for make in [leaf, strided_leaf] {
                let x = [make(device, &[2, 3, 4], 1)];
                for axis in -3..3 {
                    check_twin(
                        |t| softmax(&t[0], axis),
                        |t| composed::softmax(&t[0], axis),
                        &x,
                    );
                    check_twin(
                        |t| log_softmax(&t[0], axis),
                        |t| composed::log_softmax(&t[0], axis),
                        &x,
                    );
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            for axis in [0, 1] {
                for f in [softmax, log_softmax] {
                    check_gradients(|t| f(&t[0], axis), &[leaf(device, &[3, 4], 1)]);
                    check_gradients_strided(|t| f(&t[0], axis), device, &[&[3, 4]]);
                }
            }
        }
    }

    #[test]
    fn huge_logits_stay_finite() {
        for device in DEVICES {
            let x =
                Tensor::from_slice_on(&[1000f32, 0.0, -1000.0], &[3], crate::DType::F32, device)
                    .unwrap();
            assert_eq!(
                softmax(&x, 0).unwrap().to_vec::<f32>().unwrap(),
                [1.0, 0.0, 0.0]
            );
            assert_eq!(
                log_softmax(&x, 0).unwrap().to_vec::<f32>().unwrap(),
                [0.0, -1000.0, -2000.0]
            );
        }
    }

    #[test]
    fn shifted_logits_have_the_same_softmax() {
        for device in DEVICES {
            let x = leaf(device, &[5, 7], 1);
            let shifted = super::super::common::affine(&x, 1.0, 300.0).unwrap();
            assert_close(
                &softmax(&x, -1).unwrap(),
                &softmax(&shifted, -1).unwrap(),
                1e-12,
            );
        }
    }

    #[test]
    fn errors_name_the_axis_and_the_dtype() {
        let x = leaf(DEVICES[0], &[2, 3], 1);
        assert!(message(softmax(&x, 2)).starts_with("[softmax] axis 2 is out of range"));
        let x = super::super::testing::integers(DEVICES[0], &[2], &[1, 2]);
        assert_eq!(
            message(log_softmax(&x, 0)),
            "[log_softmax] x must be floating-point, got int64 (cast with .astype('float32'))"
        );
    }
}
