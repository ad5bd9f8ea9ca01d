//! Losses. Each is stable for logits of any size.
use super::common::{Reduction, affine, check_float, check_same_kind, rounded_once, shaped};
use super::{
    composed, expand_dims, mean, multiply, negative, permute_dims, sigmoid, square, subtract, sum,
};
use crate::autograd::{Saved, no_grad, record, twin_vjp, vjp};
use crate::backend::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::numel;
use crate::tensor::{Tensor, check_device};
use crate::value::Value;

/// The mean, the sum, or the losses themselves.
pub(super) fn reduced(losses: &Tensor, reduction: Reduction) -> Result<Tensor> {
    match reduction {
        Reduction::Mean => mean(losses, None, false),
        Reduction::Sum => sum(losses, None, false, None),
        Reduction::None => Ok(losses.clone()),
    }
}

/// Softmax and negative log-likelihood in one: `loss[r] = -sum_c t[r,c] * (x[r,c] - logsumexp(x[r]))`, `t` being 1 at the class.
///
/// * `x` logits `(N, C)`, `(C,)` or `(N, C, d1, ...)`.
/// * `target`: class indices of any integer dtype, of `x`'s shape without the class axis; or probabilities of `x`'s shape and
///   dtype, which get a gradient too.
/// * Result: a scalar for "mean" and "sum" (over all `N * d1 * ...` rows), for "none" one loss per row, `(N, d1, ...)`.
/// * Gradients: `dx = g * (softmax(x) * sum_c(t) - t)`, `dt = -g * log_softmax(x)`.
///
/// Errors: `Index` for a class outside `0..C` (names the row), `Shape` when shapes disagree, `Dtype` for logits that are not
/// floating-point or targets of another float type.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html> ("mean" over probabilities
/// divides by the number of rows).
pub fn cross_entropy(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    const OP: &str = "cross_entropy";
    let logits = Logits::new(OP, x, target)?;
    if target.dtype().is_int() {
        rounded_once!(x => cross_entropy(x, target, reduction));
    }
    let losses = if target.dtype().is_float() {
        logits.check_probabilities(x, target)?;
        rounded_once!(x, target => cross_entropy(x, target, reduction));
        rows_with_probabilities(&logits.rows_of(x)?, &logits.rows_of(target)?, reduction)?
    } else {
        let index = logits.classes_of(x, target, None)?;
        rows_with_classes(&logits.rows_of(x)?, index, reduction)?
    };
    if reduction == Reduction::None {
        logits.outer_shape(&losses)
    } else {
        Ok(losses)
    }
}

/// Where the classes of scores `(N, C)`, `(C,)` or `(N, C, d1, ...)` lie: what every loss over classes starts with.
pub(super) struct Logits {
    op: &'static str,
    /// Axis of the classes.
    axis: usize,
    /// C.
    pub(super) classes: usize,
    /// The shape without C.
    outer: Vec<usize>,
}

impl Logits {
    /// Raises unless `x` is floating-point, has an axis of classes, and lies where `target` does.
    pub(super) fn new(op: &'static str, x: &Tensor, target: &Tensor) -> Result<Self> {
        check_float(op, "x", x)?;
        check_device(op, x, target)?;
        let xs = x.shape();
        let axis = match xs.len() {
            0 => {
                return Err(Error::shape(
                    op,
                    "x must be (N, C), (C,) or (N, C, d1, ...), got a scalar of shape ()",
                ));
            }
            1 => 0,
            _ => 1,
        };
        let mut outer = xs.to_vec();
        let classes = outer.remove(axis);
        Ok(Self {
            op,
            axis,
            classes,
            outer,
        })
    }
    /// Number of rows: `N * d1 * ...`.
    pub(super) fn rows(&self) -> usize {
        numel(&self.outer)
    }
    /// A tensor of the scores' shape as `(rows, C)`.
    pub(super) fn rows_of(&self, t: &Tensor) -> Result<Tensor> {
        let ndim = self.outer.len() + 1;
        let axes: Vec<isize> = (0..ndim)
            .filter(|&a| a != self.axis)
            .chain([self.axis])
            .map(|a| a as isize)
            .collect();
        let t = if self.axis + 1 == ndim {
            t.clone()
        } else {
            permute_dims(t, &axes)?
        };
        if t.ndim() == 2 {
            Ok(t)
        } else {
            shaped(&t, &[self.rows(), self.classes])
        }
    }
    /// One number per row in the shape of the scores without C.
    pub(super) fn outer_shape(&self, losses: &Tensor) -> Result<Tensor> {
        if losses.shape()[..] == self.outer[..] {
            Ok(losses.clone())
        } else {
            shaped(losses, &self.outer)
        }
    }
    /// Raises unless `target` holds probabilities for `x`.
    pub(super) fn check_probabilities(&self, x: &Tensor, target: &Tensor) -> Result<()> {
        let (xs, ts) = (x.shape(), target.shape());
        if ts != xs {
            return Err(Error::shape(
                self.op,
                format!(
                    "probabilities must have the shape of x {xs}, got {ts} (class indices need an integer dtype)"
                ),
            ));
        }
        check_same_kind(self.op, ("x", x), &[("target", Some(target))])
    }
    /// The classes of all rows as int64 `(rows,)`, dense and each either in range or equal to `ignore`.
    pub(super) fn classes_of(
        &self,
        x: &Tensor,
        target: &Tensor,
        ignore: Option<i64>,
    ) -> Result<Value> {
        if !target.dtype().is_int() {
            return Err(Error::dtype(
                self.op,
                format!(
                    "target must hold class indices (any integer dtype) or probabilities, got {}",
                    target.dtype()
                ),
            ));
        }
        if target.shape()[..] != self.outer[..] {
            return Err(Error::shape(
                self.op,
                format!(
                    "class indices for x {} must have shape {}, got {} (one index per row, or probabilities of x's \
                     shape and dtype)",
                    x.shape(),
                    crate::shape::show(&self.outer),
                    target.shape()
                ),
            ));
        }
        let backend = dispatch(x.device());
        let index = backend.contiguous(&backend.cast(&target.value(), DType::I64)?)?;
        let flat = index.layout.reshape(&[self.rows()]);
        let flat =
            flat.ok_or_else(|| Error::internal(self.op, "a contiguous target does not flatten"))?;
        let index = index.with_layout(flat);
        self.check_classes(&index, ignore)?;
        Ok(index)
    }
    /// Raises for the first class that does not exist.
    fn check_classes(&self, index: &Value, ignore: Option<i64>) -> Result<()> {
        let all = index.dense::<i64>().unwrap_or(&[]);
        let wrong = |&t: &i64| Some(t) != ignore && (t < 0 || t as u64 >= self.classes as u64);
        match all.iter().position(wrong) {
            None => Ok(()),
            Some(row) => Err(Error::index(
                self.op,
                format!(
                    "target {} in row {row} is not a class: x has {} classes, 0 to {}",
                    all[row],
                    self.classes,
                    self.classes as i64 - 1
                ),
            )),
        }
    }
}

/// Gradient of every row's loss from the gradient of the reduced loss: one number for all rows, or one per row.
fn row_gradient(g: &Tensor, rows: usize, reduction: Reduction) -> Result<Tensor> {
    match reduction {
        Reduction::Mean => affine(g, 1.0 / rows as f64, 0.0),
        Reduction::Sum | Reduction::None => Ok(g.clone()),
    }
}

/// `x (rows, classes)`, `index (rows,)` of int64, checked.
fn rows_with_classes(x: &Tensor, index: Value, reduction: Reduction) -> Result<Tensor> {
    let backend = dispatch(x.device());
    let rows = x.shape()[0];
    let (stats, losses) = backend.cross_entropy(&x.value(), &index)?;
    let loss = {
        let _off = no_grad();
        reduced(&Tensor::from_value(losses), reduction)?.value()
    };
    Ok(record("cross_entropy", &[x], loss, |_| {
        let x = Saved::input(x);
        vjp(move |cx, g, needs| {
            if cx.create_graph() {
                return twin_vjp(&[x.get(cx)], &[Some(g.clone())], needs, |inputs| {
                    let index = Tensor::from_value(index.clone());
                    let losses = composed::cross_entropy_index(&inputs[0], &index)?;
                    Ok(vec![reduced(&losses, reduction)?])
                });
            }
            let g = row_gradient(g, rows, reduction)?;
            let dx = backend.cross_entropy_backward(x.value(), &index, &stats, &g.value())?;
            Ok(vec![Some(Tensor::from_value(dx))])
        })
    }))
}

/// `x` and `target (rows, classes)`.
fn rows_with_probabilities(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    let backend = dispatch(x.device());
    let rows = x.shape()[0];
    let (stats, losses) = backend.cross_entropy(&x.value(), &target.value())?;
    let loss = {
        let _off = no_grad();
        reduced(&Tensor::from_value(losses), reduction)?.value()
    };
    Ok(record("cross_entropy", &[x, target], loss, |_| {
        let (x, target) = (Saved::input(x), Saved::input(target));
        vjp(move |cx, g, needs| {
            if cx.create_graph() {
                return twin_vjp(
                    &[x.get(cx), target.get(cx)],
                    &[Some(g.clone())],
                    needs,
                    |inputs| {
                        let losses = composed::cross_entropy(&inputs[0], &inputs[1])?;
                        Ok(vec![reduced(&losses, reduction)?])
                    },
                );
            }
            let g = row_gradient(g, rows, reduction)?;
            let mut grads = vec![None, None];
            if needs[0] {
                let dx = backend.cross_entropy_backward(
                    x.value(),
                    target.value(),
                    &stats,
                    &g.value(),
                )?;
                grads[0] = Some(Tensor::from_value(dx));
            }
            if needs[1] {
                let log_p = Tensor::from_value(backend.softmax(true, x.value())?);
                let surprise = negative(&log_p)?;
                let g = if g.ndim() == 0 {
                    g
                } else {
                    expand_dims(&g, -1)?
                };
                grads[1] = Some(multiply(&surprise, &g)?);
            }
            Ok(grads)
        })
    }))
}

/// Both of the same shape: broadcasting a target is nearly always a mistake.
pub(super) fn check_target(op: &'static str, x: &Tensor, target: &Tensor) -> Result<()> {
    check_same_kind(op, ("x", x), &[("target", Some(target))])?;
    if x.shape() == target.shape() {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!(
            "x {} and target {} must have the same shape (use broadcast_to, reshape or squeeze if you mean it)",
            x.shape(),
            target.shape()
        ),
    ))
}

/// `-(t log sigmoid(x) + (1 - t) log(1 - sigmoid(x)))`, computed as `max(x, 0) - x t + log(1 + exp(-|x|))`.
///
/// * `x` logits and `target` probabilities, of the same shape and dtype.
/// * Result: the mean or sum over all elements, or one loss per element.
/// * Gradients: `dx = g * (sigmoid(x) - t)`, `dt = -g * x`.
///
/// Errors: `Shape` when shapes differ, `Dtype` unless both are the same floating-point type.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html>.
pub fn binary_cross_entropy_with_logits(
    x: &Tensor,
    target: &Tensor,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "binary_cross_entropy_with_logits";
    check_target(OP, x, target)?;
    rounded_once!(x, target => binary_cross_entropy_with_logits(x, target, reduction));
    let losses = {
        let _off = no_grad();
        composed::binary_cross_entropy_with_logits(x, target)?.value()
    };
    // Its own node: at x = 0 the pieces have kinks, the sum has none.
    let losses = record(OP, &[x, target], losses, |_| {
        let (x, target) = (Saved::input(x), Saved::input(target));
        vjp(move |cx, g, needs| {
            let x = x.get(cx);
            let of_x = || multiply(g, &subtract(&sigmoid(&x)?, &target.get(cx))?);
            let of_target = || negative(&multiply(g, &x)?);
            Ok(vec![
                needs[0].then(of_x).transpose()?,
                needs[1].then(of_target).transpose()?,
            ])
        })
    });
    reduced(&losses, reduction)
}

/// `(x - target)^2`, averaged or summed over all elements, or as it is. Gradient: `dx = 2 g (x - target) = -dt`.
///
/// Errors: `Shape` when shapes differ (nothing is broadcast), `Dtype` unless both are the same floating-point type.
pub fn mse_loss(x: &Tensor, target: &Tensor, reduction: Reduction) -> Result<Tensor> {
    check_target("mse_loss", x, target)?;
    rounded_once!(x, target => mse_loss(x, target, reduction));
    reduced(&square(&subtract(x, target)?)?, reduction)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, check_twin, constant,
        integers, leaf, message, strided_leaf, to_f64,
    };
    use super::super::{astype, softmax};
    use super::*;

    const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

    /// Rows that sum to one, as a leaf of its own.
    fn distributions(x: &Tensor, axis: isize) -> Tensor {
        softmax(x, axis).unwrap().detach().to_leaf(true).unwrap()
    }

    #[test]
    fn class_indices_equal_the_twin() {
        for device in DEVICES {
            let index = integers(device, &[4], &[0, 2, 1, 2]);
            for reduction in REDUCTIONS {
                for make in [leaf, strided_leaf] {
                    check_twin(
                        |t| cross_entropy(&t[0], &index, reduction),
                        |t| reduced(&composed::cross_entropy_index(&t[0], &index)?, reduction),
                        &[make(device, &[4, 3], 1)],
                    );
                }
            }
        }
    }

    #[test]
    fn probabilities_equal_the_twin_and_get_a_gradient() {
        for device in DEVICES {
            for reduction in REDUCTIONS {
                let t = [
                    strided_leaf(device, &[4, 3], 1),
                    distributions(&constant(device, &[4, 3], 2), -1),
                ];
                check_twin(
                    |t| cross_entropy(&t[0], &t[1], reduction),
                    |t| reduced(&composed::cross_entropy(&t[0], &t[1])?, reduction),
                    &t,
                );
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            let index = integers(device, &[2], &[2, 0]);
            let image = integers(device, &[2, 2], &[2, 0, 1, 1]);
            let t = [leaf(device, &[2, 3], 1), leaf(device, &[2, 3], 2)];
            for reduction in REDUCTIONS {
                check_gradients(|t| cross_entropy(&t[0], &index, reduction), &t[..1]);
                // Targets that are no distributions: the formula holds for them too.
                check_gradients(|t| cross_entropy(&t[0], &t[1], reduction), &t);
                check_gradients(
                    |t| cross_entropy(&t[0], &image, reduction),
                    &[leaf(device, &[2, 3, 2], 1)],
                );
                check_gradients(
                    |t| binary_cross_entropy_with_logits(&t[0], &t[1], reduction),
                    &t,
                );
                check_gradients(|t| mse_loss(&t[0], &t[1], reduction), &t);
                let shapes: [&[usize]; 2] = [&[2, 3], &[2, 3]];
                check_gradients_strided(
                    |t| cross_entropy(&t[0], &t[1], reduction),
                    device,
                    &shapes,
                );
                check_gradients_strided(
                    |t| binary_cross_entropy_with_logits(&t[0], &t[1], reduction),
                    device,
                    &shapes,
                );
            }
        }
    }

    #[test]
    fn every_integer_type_and_every_rank() {
        for device in DEVICES {
            let x = constant(device, &[2, 3, 2, 2], 1);
            let classes = [0, 1, 2, 0, 2, 1, 0, 1];
            let index = integers(device, &[2, 2, 2], &classes);
            let loss = cross_entropy(&x, &index, Reduction::None).unwrap();
            assert_eq!(loss.shape()[..], [2, 2, 2]);
            // By hand: element (n, i, j) of the channels-first logits.
            let all = to_f64(&x);
            for (at, (&loss, &class)) in to_f64(&loss).iter().zip(&classes).enumerate() {
                let (n, s) = (at / 4, at % 4);
                let logits: Vec<f64> = (0..3).map(|c| all[(n * 3 + c) * 4 + s]).collect();
                let expect =
                    logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[class as usize];
                assert!((loss - expect).abs() < 1e-12);
            }
            let mean = cross_entropy(&x, &index, Reduction::Mean).unwrap();
            for dtype in [DType::I32, DType::I16, DType::I8, DType::U8] {
                let index = astype(&index, dtype).unwrap();
                assert_close(
                    &cross_entropy(&x, &index, Reduction::Mean).unwrap(),
                    &mean,
                    0.0,
                );
            }
            let one = cross_entropy(
                &constant(device, &[3], 1),
                &integers(device, &[], &[2]),
                Reduction::None,
            )
            .unwrap();
            assert_eq!(one.ndim(), 0);
        }
    }

    #[test]
    fn huge_logits_stay_finite() {
        for device in DEVICES {
            let x = Tensor::from_slice_on(&[10_000f32, -10_000.0], &[1, 2], DType::F32, device)
                .unwrap();
            let wrong = cross_entropy(&x, &integers(device, &[1], &[1]), Reduction::Mean).unwrap();
            assert_eq!(to_f64(&wrong), [20_000.0]);
            let x =
                Tensor::from_slice_on(&[1000f32, -1000.0, 0.0], &[3], DType::F32, device).unwrap();
            let t = Tensor::from_slice_on(&[0f32, 0.0, 1.0], &[3], DType::F32, device).unwrap();
            x.set_requires_grad(true).unwrap();
            let loss = binary_cross_entropy_with_logits(&x, &t, Reduction::Sum).unwrap();
            assert!((to_f64(&loss)[0] - 1_000.693_147).abs() < 1e-3);
            loss.backward(None, false, false).unwrap();
            assert_eq!(to_f64(&x.grad().unwrap()), [1.0, 0.0, -0.5]);
        }
    }

    #[test]
    fn errors_name_the_row_and_the_shapes() {
        let device = DEVICES[0];
        let x = constant(device, &[2, 10], 1);
        let bad = cross_entropy(&x, &integers(device, &[2], &[3, 12]), Reduction::Mean);
        assert!(matches!(bad, Err(Error::Index(_))));
        assert_eq!(
            message(bad),
            "[cross_entropy] target 12 in row 1 is not a class: x has 10 classes, 0 to 9"
        );
        let bad = cross_entropy(&x, &integers(device, &[2], &[-1, 0]), Reduction::Mean);
        assert!(message(bad).contains("target -1 in row 0"));
        let bad = cross_entropy(&x, &integers(device, &[1, 2], &[1, 0]), Reduction::Mean);
        assert!(message(bad).starts_with(
            "[cross_entropy] class indices for x (2, 10) must have shape (2,), got (1, 2)"
        ));
        let bad = cross_entropy(&x, &constant(device, &[2], 1), Reduction::Mean);
        assert!(message(bad).starts_with(
            "[cross_entropy] probabilities must have the shape of x (2, 10), got (2,)"
        ));
        let bad = mse_loss(
            &constant(device, &[4, 1], 1),
            &constant(device, &[4], 1),
            Reduction::Mean,
        );
        assert_eq!(
            message(bad),
            "[mse_loss] x (4, 1) and target (4,) must have the same shape (use broadcast_to, reshape or squeeze if you mean it)"
        );
        assert_eq!(
            message(Reduction::from_name("mse_loss", "avg")),
            "[mse_loss] reduction must be 'mean', 'sum' or 'none', got 'avg'"
        );
    }
}
