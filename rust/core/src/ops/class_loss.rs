//! Losses over classes with weights, label smoothing and rows that do not count.
use super::common::{Reduction, affine, check_same_kind, rounded_once};
use super::loss::{Logits, reduced};
use super::{
    arange, astype, cross_entropy, divide, equal, expand_dims, log_softmax, logical_and, multiply,
    negative, not_equal, sum, r#where,
};
use crate::autograd::no_grad;
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::value::Value;

/// How [`cross_entropy_with`] counts rows and classes.
#[derive(Clone, Copy, Debug)]
pub struct ClassOptions<'a> {
    /// One weight per class, `(C,)`, of the scores' dtype; a constant, which gets no gradient.
    pub weight: Option<&'a Tensor>,
    /// Rows of this class do not count.
    pub ignore_index: i64,
    /// The share of the target that is spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
}

impl Default for ClassOptions<'_> {
    fn default() -> Self {
        Self {
            weight: None,
            ignore_index: -100,
            label_smoothing: 0.0,
        }
    }
}

/// [`cross_entropy`] with class weights `w`, label smoothing `e` and rows to be ignored:
/// `loss[r] = -sum_c w[c] * ((1 - e) * t[r,c] + e / C) * log_softmax(x)[r,c]`.
///
/// * Shapes as for [`cross_entropy`].
/// * For class indices, rows whose class is `ignore_index` have loss 0, and "mean" divides by the sum of `w[class]` over the
///   others (their number, without weights); if there are none the mean is NaN.
/// * For probabilities nothing is ignored, and "mean" divides by the number of rows.
/// * With the default options it is [`cross_entropy`], in its fused kernel.
///
/// Errors: those of [`cross_entropy`]; `Value` unless `0 <= label_smoothing <= 1`; `Shape` unless `weight` is `(C,)`.
///
/// Definition: <https://pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html>. Label smoothing: Szegedy et al.,
/// <https://arxiv.org/abs/1512.00567>.
pub fn cross_entropy_with(
    x: &Tensor,
    target: &Tensor,
    options: ClassOptions<'_>,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "cross_entropy";
    let smoothing = options.label_smoothing;
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::value(
            OP,
            format!("label_smoothing must be between 0 and 1, got {smoothing}"),
        ));
    }
    let logits = Logits::new(OP, x, target)?;
    check_weight(OP, &logits, x, options.weight)?;
    if x.dtype().is_half() {
        // As `rounded_once!`, with whatever else is of that type.
        let wide = |t: &Tensor| {
            let same = t.dtype() == x.dtype();
            astype(t, if same { DType::F32 } else { t.dtype() })
        };
        let weight = options.weight.map(wide).transpose()?;
        let weight = weight.as_ref();
        let options = ClassOptions { weight, ..options };
        let loss = cross_entropy_with(&wide(x)?, &wide(target)?, options, reduction)?;
        return astype(&loss, x.dtype());
    }
    let plain = options.weight.is_none() && smoothing == 0.0;
    if target.dtype().is_float() {
        if plain {
            return cross_entropy(x, target, reduction);
        }
        logits.check_probabilities(x, target)?;
        let even = smoothing / logits.classes.max(1) as f64;
        let mut t = affine(&logits.rows_of(target)?, 1.0 - smoothing, even)?;
        if let Some(w) = options.weight {
            t = multiply(&t, &w.detach())?;
        }
        let log_p = log_softmax(&logits.rows_of(x)?, -1)?;
        let losses = negative(&sum(&multiply(&t, &log_p)?, Some(&[-1]), false, None)?)?;
        return match reduction {
            Reduction::None => logits.outer_shape(&losses),
            _ => reduced(&losses, reduction),
        };
    }
    let index = logits.classes_of(x, target, Some(options.ignore_index))?;
    let ignores = |index: &Value| {
        let all = index.dense::<i64>().unwrap_or(&[]);
        all.contains(&options.ignore_index)
    };
    if plain && !ignores(&index) {
        return cross_entropy(x, target, reduction);
    }
    let log_p = log_softmax(&logits.rows_of(x)?, -1)?;
    weighted(&logits, &log_p, index, options, reduction)
}

/// Negative log-likelihood of scores that are log-probabilities already: `loss[r] = -w[class] * x[r, class]`.
///
/// * `x (N, C)`, `(C,)` or `(N, C, d1, ...)`, `target` class indices of any integer dtype and of `x`'s shape without C.
/// * Rows whose class is `ignore_index` have loss 0; "mean" divides by the sum of `w[class]` over the others.
/// * `weight (C,)` is a constant. Gradient: `-w[class]` at the class, 0 elsewhere.
///
/// Errors: `Index` for a class that does not exist, `Shape` when shapes disagree, `Dtype` unless `target` holds integers.
pub fn nll_loss(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    ignore_index: i64,
    reduction: Reduction,
) -> Result<Tensor> {
    const OP: &str = "nll_loss";
    let logits = Logits::new(OP, x, target)?;
    check_weight(OP, &logits, x, weight)?;
    if let Some(weight) = weight {
        rounded_once!(x, weight => nll_loss(x, target, Some(weight), ignore_index, reduction));
    }
    rounded_once!(x => nll_loss(x, target, weight, ignore_index, reduction));
    let index = logits.classes_of(x, target, Some(ignore_index))?;
    let options = ClassOptions {
        weight,
        ignore_index,
        label_smoothing: 0.0,
    };
    weighted(&logits, &logits.rows_of(x)?, index, options, reduction)
}

fn check_weight(
    op: &'static str,
    logits: &Logits,
    x: &Tensor,
    weight: Option<&Tensor>,
) -> Result<()> {
    let Some(weight) = weight else { return Ok(()) };
    check_same_kind(op, ("x", x), &[("weight", Some(weight))])?;
    if weight.shape()[..] == [logits.classes] {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!(
            "weight must be ({},), one per class of x {}, got {}",
            logits.classes,
            x.shape(),
            weight.shape()
        ),
    ))
}

/// The loss of log-probabilities `(rows, C)` for classes `(rows,)`: linear, `-sum(k * log_p)` with constant coefficients `k`.
fn weighted(
    logits: &Logits,
    log_p: &Tensor,
    index: Value,
    options: ClassOptions<'_>,
    reduction: Reduction,
) -> Result<Tensor> {
    let (coefficients, total) = {
        let _off = no_grad();
        let index = Tensor::from_value(index);
        let end = Scalar::Int(logits.classes as i64);
        let classes = arange(Scalar::Int(0), end, Scalar::Int(1), None, log_p.device())?;
        let counts = expand_dims(&not_equal(&index, options.ignore_index)?, 1)?; // (rows, 1)
        let hit = logical_and(&equal(&expand_dims(&index, 1)?, &classes)?, &counts)?; // (rows, C)
        let float = |t: &Tensor| astype(t, log_p.dtype());
        let times_weight = |t: Tensor| match options.weight {
            Some(w) => multiply(&t, &w.detach()),
            None => Ok(t),
        };
        let hit = float(&hit)?;
        let smoothing = options.label_smoothing;
        let mut share = hit.clone();
        if smoothing > 0.0 {
            let even = affine(
                &float(&counts)?,
                smoothing / logits.classes.max(1) as f64,
                0.0,
            )?;
            share = super::add(&affine(&hit, 1.0 - smoothing, 0.0)?, &even)?;
        }
        (
            times_weight(share)?,
            sum(&times_weight(hit)?, None, false, None)?,
        )
    };
    // A class that does not count may be impossible: 0 times minus infinity must not come in.
    let terms = r#where(
        &not_equal(&coefficients, 0.0)?,
        &multiply(&coefficients, log_p)?,
        0.0,
    )?;
    let losses = negative(&sum(&terms, Some(&[-1]), false, None)?)?;
    match reduction {
        Reduction::Mean => divide(&sum(&losses, None, false, None)?, &total),
        Reduction::Sum => sum(&losses, None, false, None),
        Reduction::None => logits.outer_shape(&losses),
    }
}

#[cfg(test)]
mod tests {
    use super::super::softmax;
    use super::super::testing::{
        DEVICES, assert_close, check_gradients, check_gradients_strided, constant, integers, leaf,
        message, to_f64,
    };
    use super::*;

    const REDUCTIONS: [Reduction; 3] = [Reduction::Mean, Reduction::Sum, Reduction::None];

    fn options(weight: Option<&Tensor>, label_smoothing: f64) -> ClassOptions<'_> {
        ClassOptions {
            weight,
            label_smoothing,
            ..ClassOptions::default()
        }
    }

    #[test]
    fn one_row_by_hand() {
        // Scores whose softmax is 1/4, 1/4, 1/2.
        let ln2 = std::f64::consts::LN_2;
        for device in DEVICES {
            let f64s = |data: &[f64], shape: &[usize]| {
                Tensor::from_slice_on(data, shape, crate::DType::F64, device).unwrap()
            };
            let x = f64s(&[0.0, 0.0, ln2], &[1, 3]);
            let t = integers(device, &[1], &[2]);
            let w = f64s(&[1.0, 2.0, 8.0], &[3]);
            let loss = |w: Option<&Tensor>, smoothing| {
                let l = cross_entropy_with(&x, &t, options(w, smoothing), Reduction::Sum).unwrap();
                to_f64(&l)[0] / ln2
            };
            // -log2 p is 2, 2, 1.
            assert!((loss(Some(&w), 0.0) - 8.0).abs() < 1e-14);
            assert!((loss(None, 0.3) - (0.7 + 0.1 * 5.0)).abs() < 1e-14);
            assert!((loss(Some(&w), 0.3) - (0.7 * 8.0 + 0.1 * (2.0 + 4.0 + 8.0))).abs() < 1e-14);
        }
    }

    #[test]
    fn probabilities_at_the_classes_are_the_classes() {
        for device in DEVICES {
            let x = leaf(device, &[4, 3], 1);
            let index = integers(device, &[4], &[0, 2, 1, 2]);
            let hot = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
            let hot = Tensor::from_slice_on(&hot, &[4, 3], crate::DType::F64, device).unwrap();
            let w = softmax(&constant(device, &[3], 2), -1).unwrap();
            for smoothing in [0.0, 0.25] {
                for w in [None, Some(&w)] {
                    let by = |t: &Tensor| {
                        cross_entropy_with(&x, t, options(w, smoothing), Reduction::None).unwrap()
                    };
                    assert_close(&by(&index), &by(&hot), 1e-14);
                }
            }
        }
    }

    #[test]
    fn ignored_rows_leave_no_trace() {
        for device in DEVICES {
            let x = leaf(device, &[3, 4], 1);
            let kept = super::super::shape::slice_axis(&x, 0, 0, 2).unwrap();
            let all = integers(device, &[3], &[3, 1, -100]);
            let some = integers(device, &[2], &[3, 1]);
            for smoothing in [0.0, 0.25] {
                let o = options(None, smoothing);
                for reduction in [Reduction::Mean, Reduction::Sum] {
                    assert_close(
                        &cross_entropy_with(&x, &all, o, reduction).unwrap(),
                        &cross_entropy_with(&kept, &some, o, reduction).unwrap(),
                        1e-14,
                    );
                }
                let each = cross_entropy_with(&x, &all, o, Reduction::None).unwrap();
                assert_eq!(to_f64(&each)[2], 0.0);
            }
            // The class to ignore may be one that exists.
            let o = ClassOptions {
                ignore_index: 1,
                ..ClassOptions::default()
            };
            let t = integers(device, &[3], &[3, 1, 0]);
            assert_eq!(
                to_f64(&cross_entropy_with(&x, &t, o, Reduction::None).unwrap())[1],
                0.0
            );
            let none = integers(device, &[3], &[-100; 3]);
            let mean =
                cross_entropy_with(&x, &none, ClassOptions::default(), Reduction::Mean).unwrap();
            assert!(to_f64(&mean)[0].is_nan());
        }
    }

    #[test]
    fn nll_of_log_softmax_is_cross_entropy() {
        for device in DEVICES {
            let t = integers(device, &[2, 2], &[0, -100, 2, 1]);
            let x = leaf(device, &[2, 3, 2], 1);
            let w = softmax(&constant(device, &[3], 2), -1).unwrap();
            for reduction in REDUCTIONS {
                let log_p = log_softmax(&x, 1).unwrap();
                assert_close(
                    &nll_loss(&log_p, &t, Some(&w), -100, reduction).unwrap(),
                    &cross_entropy_with(&x, &t, options(Some(&w), 0.0), reduction).unwrap(),
                    1e-14,
                );
            }
        }
    }

    #[test]
    fn impossible_classes_that_do_not_count_do_no_harm() {
        for device in DEVICES {
            let data = [0.0, f64::NEG_INFINITY];
            let x = Tensor::from_slice_on(&data, &[1, 2], crate::DType::F64, device).unwrap();
            let t = integers(device, &[1], &[0]);
            let loss = nll_loss(&x, &t, None, -100, Reduction::Mean).unwrap();
            assert_eq!(to_f64(&loss), [0.0]);
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        for device in DEVICES {
            let t = integers(device, &[2, 2], &[0, -100, 2, 1]);
            let w = softmax(&constant(device, &[3], 2), -1).unwrap();
            for reduction in REDUCTIONS {
                let run =
                    |x: &[Tensor]| cross_entropy_with(&x[0], &t, options(Some(&w), 0.2), reduction);
                check_gradients(run, &[leaf(device, &[2, 3, 2], 1)]);
                check_gradients_strided(run, device, &[&[2, 3, 2]]);
                check_gradients(
                    |x| nll_loss(&x[0], &t, Some(&w), -100, reduction),
                    &[leaf(device, &[2, 3, 2], 1)],
                );
                let soft = softmax(&constant(device, &[2, 3], 3), 1)
                    .unwrap()
                    .to_leaf(true)
                    .unwrap();
                check_gradients(
                    |x| cross_entropy_with(&x[0], &x[1], options(Some(&w), 0.2), reduction),
                    &[leaf(device, &[2, 3], 1), soft],
                );
            }
        }
    }

    #[test]
    fn errors_teach() {
        let d = DEVICES[0];
        let (x, t) = (leaf(d, &[2, 3], 1), integers(d, &[2], &[0, 1]));
        let w = constant(d, &[2], 1);
        assert_eq!(
            message(nll_loss(&x, &t, Some(&w), -100, Reduction::Mean)),
            "[nll_loss] weight must be (3,), one per class of x (2, 3), got (2,)"
        );
        assert_eq!(
            message(cross_entropy_with(
                &x,
                &t,
                options(None, 1.5),
                Reduction::Mean
            )),
            "[cross_entropy] label_smoothing must be between 0 and 1, got 1.5"
        );
        assert_eq!(
            message(nll_loss(
                &x,
                &integers(d, &[2], &[0, 3]),
                None,
                -100,
                Reduction::Mean
            )),
            "[nll_loss] target 3 in row 1 is not a class: x has 3 classes, 0 to 2"
        );
    }
}
