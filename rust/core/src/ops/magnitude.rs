//! Norms and the logarithm of a sum of exponentials: reductions composed of simpler ones, with gradients that stay finite.

use crate::dtype::Scalar;
use crate::error::Result;
use crate::ops::common::{check_float, rounded_once};
use crate::ops::{
    abs, add, astype, equal, exp, full, isfinite, log, max, min, not_equal, pow, reshape_to, sqrt,
    square, subtract, sum, r#where,
};
use crate::tensor::Tensor;

/// The vector norm of order `ord` over `axis` (default all): `(sum |x|^ord)^(1/ord)`; the largest `|x|` for `inf`, the smallest for
/// `-inf`, the number of elements that are not 0 for 0.
///
/// Gradient for `ord = 2`: `x / norm`, and 0 where the norm is 0 (where the norm has a kink, 0 is one of its subgradients).
///
/// Errors: `Dtype` unless `x` is floating-point; `Value` for the extrema of no elements.
pub fn norm(x: &Tensor, ord: f64, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    check_float("norm", "x", x)?;
    rounded_once!(x => norm(x, ord, axis, keepdims));
    let total = |x: &Tensor| sum(x, axis, keepdims, None);
    if ord == f64::INFINITY {
        return max(&abs(x)?, axis, keepdims);
    }
    if ord == f64::NEG_INFINITY {
        return min(&abs(x)?, axis, keepdims);
    }
    if ord == 0.0 {
        return total(&astype(&not_equal(x, 0.0)?, x.dtype())?);
    }
    if ord == 1.0 {
        return total(&abs(x)?);
    }
    if ord == 2.0 {
        let s = total(&square(x)?)?;
        return positive(&s, sqrt);
    }
    let a = abs(x)?;
    if ord < 0.0 || ord.is_nan() {
        return pow(&total(&pow(&a, ord)?)?, 1.0 / ord);
    }
    let powers = positive(&a, |a| pow(a, ord))?;
    positive(&total(&powers)?, |s| pow(s, 1.0 / ord))
}
/// `f(x)` where `x != 0`; 0 with gradient 0 where `x = 0`, at which `f` has an infinite slope. (NaN stays NaN.)
fn positive(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let nonzero = not_equal(&x.detach(), 0.0)?;
    r#where(&nonzero, &f(&r#where(&nonzero, x, 1.0)?)?, 0.0)
}

/// `log(sum(exp(x)))` over `axis` (default all), without overflow: the maximum is taken out. Gradient: `g softmax(x)`.
///
/// `-inf` for no elements. Errors: `Dtype` unless `x` is floating-point.
pub fn logsumexp(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    const OP: &str = "logsumexp";
    check_float(OP, "x", x)?;
    rounded_once!(x => logsumexp(x, axis, keepdims));
    if x.numel() == 0 {
        return log(&sum(&exp(x)?, axis, keepdims, None)?);
    }
    let top = max(&x.detach(), axis, true)?;
    // An infinite maximum would turn inf - inf into NaN; then the plain formula is right.
    let zero = full(&[], Scalar::Float(0.0), x.dtype(), x.device())?;
    let top = r#where(&isfinite(&top)?, &top, &zero)?;
    let s = sum(&exp(&subtract(x, &top)?)?, axis, keepdims, None)?;
    let top = reshape_to(OP, &top, s.shape().clone())?;
    // log has no finite slope at 0, where every exponential and with it the gradient is 0.
    let none = equal(&s.detach(), 0.0)?;
    let y = log(&r#where(&none, 1.0, &s)?)?;
    add(&r#where(&none, f64::NEG_INFINITY, &y)?, &top)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DEVICES, check, leaf, numbers};

    #[test]
    fn the_gradient_at_zero_is_zero() {
        for d in DEVICES {
            for ord in [1.0, 2.0, 3.0, 0.5, f64::INFINITY] {
                let x = leaf(&[0.0; 3], &[3], d);
                let y = norm(&x, ord, None, false).unwrap();
                assert_eq!(numbers(&y), [0.0]);
                y.backward(None, false, false).unwrap();
                assert_eq!(numbers(&x.grad().unwrap()), [0.0; 3], "ord {ord}");
            }
        }
    }

    #[test]
    fn huge_and_infinite_arguments() {
        let inf = f64::INFINITY;
        for (data, want) in [
            ([1000.0, 1000.0], 1000.0 + 2f64.ln()),
            ([-inf, -inf], -inf),
            ([inf, 0.0], inf),
            ([-inf, 3.0], 3.0),
        ] {
            let x = Tensor::from_slice(&data, &[2]).unwrap();
            let y = logsumexp(&x, None, false).unwrap().item().unwrap().to_f64();
            assert_eq!(y, want);
        }
        let x = Tensor::from_slice(&[f64::NAN, 0.0], &[2]).unwrap();
        let y = logsumexp(&x, None, false).unwrap().item().unwrap();
        assert!(y.to_f64().is_nan());
    }

    #[test]
    fn gradients() {
        for ord in [2.0, 3.0, 1.0, 1.5, -1.0] {
            check(&[&[3, 4]], false, |x| norm(&x[0], ord, Some(&[1]), false));
        }
        check(&[&[3, 4]], false, |x| logsumexp(&x[0], Some(&[0]), true));
    }
}
