//! Arithmetic, comparison and maps, with broadcasting and dtype promotion.
//!
//! Promotion: a float operand wins over integers, of two floats or two integers the larger wins, Python scalars are weak.
//! Arithmetic on two bools gives int64. Functions of a real number turn integers into float32.

use crate::autograd::{Saved, not_differentiable, record, vjp};
use crate::backend::{Binary, Compare, Logical, Unary, UnaryGrad, dispatch};
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::ops::{Operand, full, ones_like, zeros_like};
use crate::shape::broadcast_shapes;
use crate::tensor::{Tensor, check_device};

/// `x` in another dtype (itself if it has it already): Rust's `as` rules (floats are truncated and saturate), bool: `x != 0`.
/// Gradient between floats: `g`, cast back.
pub fn astype(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    let out = dispatch(x.device()).cast(&x.value(), dtype)?;
    Ok(record("astype", &[x], out, |_| {
        vjp(|_, g, _| Ok(vec![Some(g.clone())])) // the engine casts a gradient to its receiver's dtype
    }))
}

/// The two sides as tensors of one dtype on one device.
fn meet(
    op: &'static str,
    a: Operand<'_>,
    b: Operand<'_>,
    rule: fn(DType) -> DType,
) -> Result<(Tensor, Tensor)> {
    let weak = |t: &Tensor, s: Scalar| -> Result<(Tensor, Tensor)> {
        let dtype = rule(t.dtype().promote_scalar(s));
        s.check_fits(op, dtype)?;
        let s = Tensor::from_value(dispatch(t.device()).full(&[], dtype, s)?);
        Ok((astype(t, dtype)?, s))
    };
    match (a, b) {
        (Operand::Tensor(a), Operand::Tensor(b)) => {
            check_device(op, a, b)?;
            let dtype = rule(a.dtype().promote(b.dtype()));
            Ok((astype(a, dtype)?, astype(b, dtype)?))
        }
        (Operand::Tensor(a), Operand::Scalar(s)) => weak(a, s),
        (Operand::Scalar(s), Operand::Tensor(b)) => weak(b, s).map(|(b, s)| (s, b)),
        (Operand::Scalar(_), Operand::Scalar(_)) => Err(Error::value(
            op,
            "at least one operand must be a tensor, got two numbers (wrap one: tensor(x))",
        )),
    }
}
fn any_dtype(d: DType) -> DType {
    d
}
/// Arithmetic counts bools as integers.
fn arithmetic(d: DType) -> DType {
    if d == DType::Bool { DType::I64 } else { d }
}

/// Broadcasts and runs a binary kernel on tensors that met.
fn run(op: &'static str, kind: Binary, a: &Tensor, b: &Tensor) -> Result<crate::Value> {
    let shape = broadcast_shapes(op, a.shape(), b.shape())?;
    dispatch(a.device()).binary(kind, &shape, &a.value(), &b.value())
}
/// Runs `$body` with both operands as `&Tensor`: as they are in the usual case, converted otherwise.
macro_rules! with_operands {
    ($op:expr, $a:expr, $b:expr, $rule:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (a, b) = ($a.into(), $b.into());
        match (a, b) {
            (Operand::Tensor($x), Operand::Tensor($y))
                if $x.dtype() == $y.dtype()
                    && $x.device() == $y.device()
                    && $rule($x.dtype()) == $x.dtype() =>
            {
                $body
            }
            (a, b) => {
                let (x, y) = meet($op, a, b, $rule)?;
                let ($x, $y) = (&x, &y);
                $body
            }
        }
    }};
}
/// A float tensor with a scalar, for which one fused map does.
fn float_and_scalar<'a>(a: Operand<'a>, b: Operand<'_>) -> Option<(&'a Tensor, f64)> {
    match (a, b) {
        (Operand::Tensor(x), Operand::Scalar(s)) if x.dtype().is_float() => Some((x, s.to_f64())),
        _ => None,
    }
}
/// `mul * x + add`; gradient `mul * g`.
fn affine(name: &'static str, x: &Tensor, mul: f64, add: f64) -> Result<Tensor> {
    let out = dispatch(x.device()).unary(Unary::Affine { mul, add }, &x.value())?;
    Ok(record(name, &[x], out, |_| {
        vjp(move |_, g, _| {
            let g = if mul == 1.0 {
                g.clone()
            } else {
                multiply(g, mul)?
            };
            Ok(vec![Some(g)])
        })
    }))
}

/// `x1 + x2`. Gradients: `g`, `g`.
pub fn add<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    let (x1, x2) = (x1.into(), x2.into());
    if let Some((x, s)) = float_and_scalar(x1, x2).or_else(|| float_and_scalar(x2, x1)) {
        return affine("add", x, 1.0, s);
    }
    with_operands!("add", x1, x2, arithmetic, |a, b| {
        let out = run("add", Binary::Add, a, b)?;
        Ok(record("add", &[a, b], out, |_| {
            vjp(|_, g, needs| Ok(needs.iter().map(|&n| n.then(|| g.clone())).collect()))
        }))
    })
}
/// `x1 - x2`. Gradients: `g`, `-g`.
pub fn subtract<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    let (x1, x2) = (x1.into(), x2.into());
    if let Some((x, s)) = float_and_scalar(x1, x2) {
        return affine("subtract", x, 1.0, -s);
    }
    if let Some((x, s)) = float_and_scalar(x2, x1) {
        return affine("subtract", x, -1.0, s);
    }
    with_operands!("subtract", x1, x2, arithmetic, |a, b| {
        let out = run("subtract", Binary::Sub, a, b)?;
        Ok(record("subtract", &[a, b], out, |_| {
            vjp(|_, g, needs| {
                Ok(vec![
                    needs[0].then(|| g.clone()),
                    needs[1].then(|| negative(g)).transpose()?,
                ])
            })
        }))
    })
}
/// `x1 * x2`. Gradients: `g * x2`, `g * x1`.
pub fn multiply<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    let (x1, x2) = (x1.into(), x2.into());
    if let Some((x, s)) = float_and_scalar(x1, x2).or_else(|| float_and_scalar(x2, x1)) {
        return affine("multiply", x, s, -0.0); // adding -0.0 changes no number, adding 0.0 would change -0.0
    }
    with_operands!("multiply", x1, x2, arithmetic, |a, b| {
        let out = run("multiply", Binary::Mul, a, b)?;
        Ok(record("multiply", &[a, b], out, |_| {
            let sb = a.requires_grad().then(|| Saved::input(b));
            let sa = b.requires_grad().then(|| Saved::input(a));
            vjp(move |cx, g, needs| {
                let times = |need: bool, s: &Option<Saved>| match s {
                    Some(s) if need => multiply(g, &s.get(cx)).map(Some),
                    _ => Ok(None),
                };
                Ok(vec![times(needs[0], &sb)?, times(needs[1], &sa)?])
            })
        }))
    })
}
/// `x1 / x2`; integers give float32. Gradients: `g / x2`, `-g * y / x2` with the result `y`.
pub fn divide<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    with_operands!("divide", x1, x2, DType::to_float, |a, b| {
        let out = run("divide", Binary::Div, a, b)?;
        Ok(record("divide", &[a, b], out, |y| {
            let sb = Saved::input(b);
            let sy = b.requires_grad().then(|| Saved::output(y, 0));
            vjp(move |cx, g, needs| {
                let q = divide(g, &sb.get(cx))?;
                let db = match &sy {
                    Some(y) if needs[1] => Some(negative(&multiply(&q, &y.get(cx))?)?),
                    _ => None,
                };
                Ok(vec![needs[0].then_some(q), db])
            })
        }))
    })
}

/// Fails when an integer divisor is 0.
fn check_divisor(op: &'static str, b: &Tensor) -> Result<()> {
    if b.dtype().is_float() {
        return Ok(());
    }
    if any(&equal(b, 0)?, None, false)?.item()?.to_bool() {
        return Err(Error::value(op, "integer division by zero"));
    }
    Ok(())
}
/// `floor(x1 / x2)`, rounding toward minus infinity as Python does. Gradient 0. An integer divisor must not be 0.
pub fn floor_divide<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    with_operands!("floor_divide", x1, x2, arithmetic, |a, b| {
        check_divisor("floor_divide", b)?;
        let out = run("floor_divide", Binary::FloorDivide, a, b)?;
        Ok(record("floor_divide", &[a, b], out, |_| {
            vjp(|_, g, needs| {
                needs
                    .iter()
                    .map(|&n| n.then(|| zeros_like(g, None)).transpose())
                    .collect()
            })
        }))
    })
}
/// `x1 - floor(x1 / x2) * x2`, with the sign of `x2` as in Python. Gradients: `g`, `-g * floor(x1 / x2)`.
/// An integer divisor must not be 0.
pub fn remainder<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    with_operands!("remainder", x1, x2, arithmetic, |a, b| {
        check_divisor("remainder", b)?;
        let out = run("remainder", Binary::Remainder, a, b)?;
        Ok(record("remainder", &[a, b], out, |_| {
            let s = b
                .requires_grad()
                .then(|| (Saved::input(a), Saved::input(b)));
            vjp(move |cx, g, needs| {
                let db = match &s {
                    Some((a, b)) if needs[1] => {
                        let q = floor_divide(&a.get(cx), &b.get(cx))?;
                        Some(negative(&multiply(g, &q)?)?)
                    }
                    _ => None,
                };
                Ok(vec![needs[0].then(|| g.clone()), db])
            })
        }))
    })
}
/// `x1 ** x2`; `0 ** 0 = 1`. Integers stay integers and their exponents must not be negative.
/// Gradients: `g * x2 * x1 ** (x2 - 1)`, 0 where `x2 = 0`; `g * y * log(x1)`, 0 where `x1 = 0` and `x2 >= 0`.
pub fn pow<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    let (x1, x2) = (x1.into(), x2.into());
    if let Some((x, p)) = float_and_scalar(x1, x2) {
        return pow_scalar(x, p);
    }
    with_operands!("pow", x1, x2, arithmetic, |a, b| {
        if !b.dtype().is_float() && any(&less(b, 0)?, None, false)?.item()?.to_bool() {
            return Err(Error::value(
                "pow",
                "integers have no negative powers (cast the base: x.astype('float32'))",
            ));
        }
        let out = run("pow", Binary::Pow, a, b)?;
        Ok(record("pow", &[a, b], out, |y| {
            let (sa, sb) = (Saved::input(a), Saved::input(b));
            let sy = b.requires_grad().then(|| Saved::output(y, 0));
            vjp(move |cx, g, needs| {
                let (a, b) = (sa.get(cx), sb.get(cx));
                let da = if needs[0] {
                    let d = multiply(&b, &pow(&a, &subtract(&b, 1.0)?)?)?;
                    Some(r#where(&equal(&b, 0)?, 0.0, &multiply(g, &d)?)?)
                } else {
                    None
                };
                let db = match &sy {
                    Some(y) if needs[1] => {
                        let flat = logical_and(&equal(&a, 0)?, &greater_equal(&b, 0)?)?;
                        // The logarithm of 1 instead of 0 keeps the unused branch finite in every order of gradient.
                        let safe = r#where(&flat, 1.0, &a)?;
                        let d = multiply(g, &multiply(&y.get(cx), &log(&safe)?)?)?;
                        Some(r#where(&flat, 0.0, &d)?)
                    }
                    _ => None,
                };
                Ok(vec![da, db])
            })
        }))
    })
}
/// `x ** p` for a constant `p`.
fn pow_scalar(x: &Tensor, p: f64) -> Result<Tensor> {
    let kind = if p == 2.0 {
        Unary::Square
    } else {
        Unary::Powf(p)
    };
    let out = dispatch(x.device()).unary(kind, &x.value())?;
    Ok(record("pow", &[x], out, |_| {
        let s = Saved::input(x);
        vjp(move |cx, g, _| {
            let d = if p == 0.0 {
                zeros_like(g, None)?
            } else if p == 1.0 {
                g.clone()
            } else if p == 2.0 {
                multiply(g, &multiply(&s.get(cx), 2.0)?)?
            } else {
                multiply(g, &multiply(&pow_scalar(&s.get(cx), p - 1.0)?, p)?)?
            };
            Ok(vec![Some(d)])
        })
    }))
}

/// Gradient of `maximum` and `minimum`: to the winner; half to each where they tie.
fn extremum<'a>(
    name: &'static str,
    kind: Binary,
    x1: Operand<'a>,
    x2: Operand<'a>,
) -> Result<Tensor> {
    with_operands!(name, x1, x2, any_dtype, |a, b| {
        let out = run(name, kind, a, b)?;
        Ok(record(name, &[a, b], out, |_| {
            let (sa, sb) = (Saved::constant(&a.value()), Saved::constant(&b.value()));
            vjp(move |cx, g, needs| {
                let (a, b) = (sa.get(cx), sb.get(cx));
                let half = multiply(g, 0.5)?;
                let tie = equal(&a, &b)?;
                let share = |need: bool, won: Result<Tensor>| -> Result<Option<Tensor>> {
                    if !need {
                        return Ok(None);
                    }
                    Ok(Some(r#where(&tie, &half, &r#where(&won?, g, 0.0)?)?))
                };
                let max = kind == Binary::Maximum;
                Ok(vec![
                    share(needs[0], if max { greater(&a, &b) } else { less(&a, &b) })?,
                    share(needs[1], if max { less(&a, &b) } else { greater(&a, &b) })?,
                ])
            })
        }))
    })
}
/// The larger one; NaN if either is. Gradient to the larger, half to each where they tie.
pub fn maximum<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    extremum("maximum", Binary::Maximum, x1.into(), x2.into())
}
/// The smaller one; NaN if either is. Gradient to the smaller, half to each where they tie.
pub fn minimum<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
    extremum("minimum", Binary::Minimum, x1.into(), x2.into())
}

// -- comparison and logic: bool results, no gradient

fn compare<'a>(
    op: &'static str,
    kind: Compare,
    x1: Operand<'a>,
    x2: Operand<'a>,
) -> Result<Tensor> {
    // An integer tensor is compared with a float scalar, or with an integer that its dtype cannot hold, as numbers.
    let widen = |t: &Tensor, s: Scalar| {
        let integers = !t.dtype().is_float() && matches!(s, Scalar::Int(_));
        integers && s.check_fits(op, t.dtype()).is_err()
    };
    match (x1, x2) {
        (Operand::Tensor(t), Operand::Scalar(s)) if widen(t, s) => {
            return compare(op, kind, (&astype(t, DType::I64)?).into(), x2);
        }
        (Operand::Scalar(s), Operand::Tensor(t)) if widen(t, s) => {
            return compare(op, kind, x1, (&astype(t, DType::I64)?).into());
        }
        _ => {}
    }
    with_operands!(op, x1, x2, any_dtype, |a, b| {
        let shape = broadcast_shapes(op, a.shape(), b.shape())?;
        let out = dispatch(a.device()).compare(kind, &shape, &a.value(), &b.value())?;
        Ok(not_differentiable(op, &[a, b], out))
    })
}
macro_rules! comparisons {
    ($($name:ident $kind:ident $sign:literal;)*) => {$(
        #[doc = concat!("`x1 ", $sign, " x2`, bool, broadcast.")]
        pub fn $name<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
            compare(stringify!($name), Compare::$kind, x1.into(), x2.into())
        }
    )*};
}
comparisons! {
    equal Eq "==";
    not_equal Ne "!=";
    less Lt "<";
    less_equal Le "<=";
    greater Gt ">";
    greater_equal Ge ">=";
}
fn logical<'a>(
    op: &'static str,
    kind: Logical,
    x1: Operand<'a>,
    x2: Operand<'a>,
) -> Result<Tensor> {
    let (a, b) = meet(op, x1, x2, |_| DType::Bool)?;
    let shape = broadcast_shapes(op, a.shape(), b.shape())?;
    let out = dispatch(a.device()).logical(kind, &shape, &a.value(), &b.value())?;
    Ok(not_differentiable(op, &[&a, &b], out))
}
macro_rules! logicals {
    ($($name:ident $kind:ident $sign:literal;)*) => {$(
        #[doc = concat!("`x1 ", $sign, " x2`, bool, broadcast; a number counts as true unless it is 0.")]
        pub fn $name<'a>(x1: impl Into<Operand<'a>>, x2: impl Into<Operand<'a>>) -> Result<Tensor> {
            logical(stringify!($name), Logical::$kind, x1.into(), x2.into())
        }
    )*};
}
logicals! {
    logical_and And "and";
    logical_or Or "or";
    logical_xor Xor "xor";
}
/// `not x`, bool; a number counts as true unless it is 0.
pub fn logical_not(x: &Tensor) -> Result<Tensor> {
    logical_xor(x, true)
}
/// Whether `x` is NaN.
pub fn isnan(x: &Tensor) -> Result<Tensor> {
    not_equal(x, x)
}
/// Whether `x` is plus or minus infinity.
pub fn isinf(x: &Tensor) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return zeros_like(x, Some(DType::Bool));
    }
    equal(&abs(&x.detach())?, f64::INFINITY)
}
/// Whether `x` is neither infinite nor NaN.
pub fn isfinite(x: &Tensor) -> Result<Tensor> {
    if !x.dtype().is_float() {
        return ones_like(x, Some(DType::Bool));
    }
    less(&abs(&x.detach())?, f64::INFINITY)
}

/// `condition ? x1 : x2`, broadcast. Gradients: `g` where the condition picks that side, else 0.
pub fn r#where<'a>(
    condition: &Tensor,
    x1: impl Into<Operand<'a>>,
    x2: impl Into<Operand<'a>>,
) -> Result<Tensor> {
    const OP: &str = "where";
    if condition.dtype() != DType::Bool {
        return Err(Error::dtype(
            OP,
            format!(
                "the condition must be bool, not {} (compare it: x != 0)",
                condition.dtype()
            ),
        ));
    }
    let (mut x1, x2) = (x1.into(), x2.into());
    let number;
    if let (Operand::Scalar(a), Operand::Scalar(b)) = (x1, x2) {
        number = full(&[], a, a.dtype().promote(b.dtype()), condition.device())?;
        x1 = Operand::Tensor(&number);
    }
    with_operands!(OP, x1, x2, any_dtype, |a, b| {
        check_device(OP, condition, a)?;
        let shape = broadcast_shapes(OP, condition.shape(), a.shape())?;
        let shape = broadcast_shapes(OP, &shape, b.shape())?;
        let c = condition.value();
        let out = dispatch(a.device()).select(&shape, &c, &a.value(), &b.value())?;
        Ok(record(OP, &[a, b], out, |_| {
            let c = Saved::constant(&c);
            vjp(move |cx, g, needs| {
                let c = c.get(cx);
                Ok(vec![
                    needs[0].then(|| r#where(&c, g, 0.0)).transpose()?,
                    needs[1].then(|| r#where(&c, 0.0, g)).transpose()?,
                ])
            })
        }))
    })
}

/// `min(max(x, lo), hi)`; NaN stays NaN; if `lo > hi` the result is `hi`. Gradient: `g` where `lo <= x <= hi`, else 0.
pub fn clip(x: &Tensor, min: Option<Scalar>, max: Option<Scalar>) -> Result<Tensor> {
    if !x.dtype().is_float() {
        let mut y = x.clone();
        if let Some(lo) = min {
            y = maximum(&y, lo)?;
        }
        if let Some(hi) = max {
            y = minimum(&y, hi)?;
        }
        return Ok(y);
    }
    let lo = min.map_or(f64::NEG_INFINITY, Scalar::to_f64);
    let hi = max.map_or(f64::INFINITY, Scalar::to_f64);
    let out = dispatch(x.device()).unary(Unary::Clip { lo, hi }, &x.value())?;
    Ok(record("clip", &[x], out, |_| {
        let s = Saved::input(x);
        vjp(move |cx, g, _| {
            if !cx.create_graph() {
                let op = UnaryGrad::Clip { lo, hi };
                let d = dispatch(g.device()).unary_backward(op, s.value(), &g.value())?;
                return Ok(vec![Some(Tensor::from_value(d))]);
            }
            let x = s.get(cx).detach();
            let inside = logical_and(&greater_equal(&x, lo)?, &less_equal(&x, hi)?)?;
            Ok(vec![Some(r#where(&inside, g, 0.0)?)])
        })
    }))
}

// -- maps of one number

/// Forward part of a float map: integers become float32 first.
fn map(op: Unary, x: &Tensor) -> Result<(Tensor, crate::Value)> {
    let x = astype(x, x.dtype().to_float())?;
    let y = dispatch(x.device()).unary(op, &x.value())?;
    Ok((x, y))
}
/// Maps whose gradient needs the input: `name kind (g, x) => dx`.
macro_rules! maps_of_input {
    ($($(#[$doc:meta])* $name:ident $kind:ident |$g:ident, $x:ident| $dx:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            let (x, y) = map(Unary::$kind, x)?;
            Ok(record(stringify!($name), &[&x], y, |_| {
                let s = Saved::input(&x);
                vjp(move |cx, $g, _| {
                    let $x = &s.get(cx);
                    Ok(vec![Some($dx?)])
                })
            }))
        }
    )*};
}
/// Maps whose gradient needs the output: `name kind (g, y) => dx`.
macro_rules! maps_of_output {
    ($($(#[$doc:meta])* $name:ident $kind:ident |$g:ident, $y:ident| $dx:expr;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            let (x, y) = map(Unary::$kind, x)?;
            Ok(record(stringify!($name), &[&x], y, |y| {
                let s = Saved::output(y, 0);
                vjp(move |cx, $g, _| {
                    let $y = &s.get(cx);
                    Ok(vec![Some($dx?)])
                })
            }))
        }
    )*};
}
maps_of_input! {
    /// `ln(x)`. Gradient: `g / x`.
    log Log |g, x| divide(g, x);
    /// `ln(1 + x)`, accurate near 0. Gradient: `g / (1 + x)`.
    log1p Log1p |g, x| divide(g, &add(x, 1.0)?);
    /// `sin(x)`. Gradient: `g * cos(x)`.
    sin Sin |g, x| multiply(g, &cos(x)?);
    /// `cos(x)`. Gradient: `-g * sin(x)`.
    cos Cos |g, x| negative(&multiply(g, &sin(x)?)?);
    /// The error function. Gradient: `g * 2 / sqrt(pi) * exp(-x^2)`.
    erf Erf |g, x| multiply(g, &multiply(&exp(&negative(&square(x)?)?)?, core::f64::consts::FRAC_2_SQRT_PI)?);
}
maps_of_output! {
    /// Square root. Gradient: `g / (2 y)`.
    sqrt Sqrt |g, y| divide(g, &multiply(y, 2.0)?);
    /// `1 / sqrt(x)`. Gradient: `-g * y^3 / 2`.
    rsqrt Rsqrt |g, y| multiply(g, &multiply(&pow(y, 3.0)?, -0.5)?);
    /// `1 / x`. Gradient: `-g * y^2`.
    reciprocal Recip |g, y| negative(&multiply(g, &square(y)?)?);
    /// `e^x`. Gradient: `g * y`.
    exp Exp |g, y| multiply(g, y);
    /// `e^x - 1`, accurate near 0. Gradient: `g * (y + 1)`.
    expm1 Expm1 |g, y| multiply(g, &add(y, 1.0)?);
}

/// Forward part of a map that integers have too (bool counts as int64).
fn map_number(op: Unary, x: &Tensor) -> Result<(Tensor, crate::Value)> {
    let x = astype(x, arithmetic(x.dtype()))?;
    let y = dispatch(x.device()).unary(op, &x.value())?;
    Ok((x, y))
}
/// `-x`. Gradient: `-g`.
pub fn negative(x: &Tensor) -> Result<Tensor> {
    let (x, y) = map_number(Unary::Neg, x)?;
    Ok(record("negative", &[&x], y, |_| {
        vjp(|_, g, _| Ok(vec![Some(negative(g)?)]))
    }))
}
/// `|x|`. Gradient: `g * sign(x)`, 0 at 0.
pub fn abs(x: &Tensor) -> Result<Tensor> {
    let (x, y) = map_number(Unary::Abs, x)?;
    Ok(record("abs", &[&x], y, |_| {
        let s = Saved::input(&x);
        vjp(move |cx, g, _| Ok(vec![Some(multiply(g, &sign(&s.get(cx))?)?)]))
    }))
}
/// `x * x`. Gradient: `2 x g`.
pub fn square(x: &Tensor) -> Result<Tensor> {
    let (x, y) = map_number(Unary::Square, x)?;
    Ok(record("square", &[&x], y, |_| {
        let s = Saved::input(&x);
        vjp(move |cx, g, _| Ok(vec![Some(multiply(g, &multiply(&s.get(cx), 2.0)?)?)]))
    }))
}
/// A step function: gradient 0 everywhere.
fn step(name: &'static str, op: Unary, x: &Tensor) -> Result<Tensor> {
    let (x, y) = map_number(op, x)?;
    Ok(record(name, &[&x], y, |_| {
        vjp(|_, g, _| Ok(vec![Some(zeros_like(g, None)?)]))
    }))
}
/// -1, 0 or 1; NaN stays NaN. Gradient 0.
pub fn sign(x: &Tensor) -> Result<Tensor> {
    step("sign", Unary::Sign, x)
}
macro_rules! roundings {
    ($($(#[$doc:meta])* $name:ident $kind:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(x: &Tensor) -> Result<Tensor> {
            if !x.dtype().is_float() {
                return Ok(x.clone());
            }
            step(stringify!($name), Unary::$kind, x)
        }
    )*};
}
roundings! {
    /// The largest integer not above `x`; integers stay. Gradient 0.
    floor Floor;
    /// The smallest integer not below `x`; integers stay. Gradient 0.
    ceil Ceil;
    /// The nearest integer, ties to even; integers stay. Gradient 0.
    round Round;
    /// Rounded toward zero; integers stay. Gradient 0.
    trunc Trunc;
}

use crate::ops::any;

/// A scalar as a tensor that meets `x`: in `x`'s dtype where the weak rule allows.
pub fn scalar_like(x: &Tensor, s: Scalar) -> Result<Tensor> {
    full(&[], s, x.dtype().promote_scalar(s), x.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::testing::{DEVICES, check, leaf, numbers};

    fn t<T: crate::Element>(data: &[T], shape: &[usize], device: Device) -> Tensor {
        Tensor::from_slice_on(data, shape, T::DTYPE, device).unwrap()
    }

    #[test]
    fn arithmetic_promotes_and_broadcasts() {
        for d in DEVICES {
            let a = t(&[1i64, 2, 3], &[3], d);
            let b = t(&[1.5f32, 2.5], &[2, 1], d);
            let y = add(&a, &b).unwrap();
            assert_eq!((y.dtype(), y.shape()[..] == [2, 3]), (DType::F32, true));
            assert_eq!(numbers(&y), [2.5, 3.5, 4.5, 3.5, 4.5, 5.5]);
            assert_eq!(add(&a, 1).unwrap().dtype(), DType::I64);
            assert_eq!(add(&a, 0.5).unwrap().dtype(), DType::F32);
            assert_eq!(numbers(&subtract(10, &a).unwrap()), [9.0, 8.0, 7.0]);
            assert_eq!(numbers(&subtract(1.0, &b).unwrap()), [-0.5, -1.5]);
            let q = divide(&a, 2).unwrap();
            assert_eq!((q.dtype(), numbers(&q)), (DType::F32, vec![0.5, 1.0, 1.5]));
            let flags = t(&[1u8, 0], &[2], d);
            let flags = astype(&flags, DType::Bool).unwrap();
            let two = add(&flags, &flags).unwrap();
            assert_eq!((two.dtype(), numbers(&two)), (DType::I64, vec![2.0, 0.0]));
            let e = add(&a, &t(&[1i64, 2], &[2], d)).unwrap_err();
            assert!(matches!(e, Error::Shape(_)));
            assert!(matches!(
                add(&t(&[1u8], &[1], d), 256),
                Err(Error::Value(_))
            ));
        }
    }

    #[test]
    fn integers_divide_as_in_python() {
        for d in DEVICES {
            let a = t(&[7i64, -7, 7, -7], &[4], d);
            let b = t(&[2i64, 2, -2, -2], &[4], d);
            assert_eq!(
                numbers(&floor_divide(&a, &b).unwrap()),
                [3.0, -4.0, -4.0, 3.0]
            );
            assert_eq!(numbers(&remainder(&a, &b).unwrap()), [1.0, 1.0, -1.0, -1.0]);
            assert!(floor_divide(&a, 0).is_err());
            assert_eq!(numbers(&pow(&a, 2).unwrap()), [49.0; 4]);
            assert!(pow(&a, -1).is_err());
        }
    }

    #[test]
    fn comparisons_are_exact() {
        for d in DEVICES {
            let a = t(&[1u8, 200], &[2], d);
            assert_eq!(numbers(&less(&a, 300).unwrap()), [1.0, 1.0]);
            assert_eq!(numbers(&greater(&a, 1.5).unwrap()), [0.0, 1.0]);
            assert_eq!(numbers(&equal(200, &a).unwrap()), [0.0, 1.0]);
            let x = t(&[f64::NAN, f64::INFINITY, 1.0], &[3], d);
            assert_eq!(numbers(&isnan(&x).unwrap()), [1.0, 0.0, 0.0]);
            assert_eq!(numbers(&isinf(&x).unwrap()), [0.0, 1.0, 0.0]);
            assert_eq!(numbers(&isfinite(&x).unwrap()), [0.0, 0.0, 1.0]);
            assert_eq!(numbers(&logical_not(&a).unwrap()), [0.0, 0.0]);
            assert_eq!(logical_xor(&a, true).unwrap().dtype(), DType::Bool);
            let y = r#where(&isnan(&x).unwrap(), 1, 2.5).unwrap();
            assert_eq!((y.dtype(), numbers(&y)), (DType::F32, vec![1.0, 2.5, 2.5]));
        }
    }

    #[test]
    fn gradients_of_arithmetic() {
        let s: &[&[usize]] = &[&[2, 3], &[3]];
        check(s, false, |x| add(&x[0], &x[1]));
        check(s, false, |x| subtract(&x[0], &x[1]));
        check(s, false, |x| multiply(&x[0], &x[1]));
        check(s, false, |x| divide(&x[0], &x[1]));
        check(s, false, |x| maximum(&x[0], &x[1]));
        check(s, false, |x| minimum(&x[0], &x[1]));
        check(s, true, |x| pow(&x[0], &x[1]));
        check(s, true, |x| remainder(&x[0], &add(&x[1], 2.0)?));
        check(&[&[2, 3]], false, |x| pow(&x[0], 3.0));
        check(&[&[2, 3]], true, |x| pow(&x[0], 1.5));
        check(&[&[2, 3]], true, |x| pow(2.0, &x[0]));
        check(&[&[2, 3]], false, |x| {
            add(&multiply(&subtract(3.0, &x[0])?, 2.0)?, 1.0)
        });
        check(&[&[2, 3], &[3]], false, |x| {
            r#where(&greater(&x[0], 0.1)?, &x[0], &x[1])
        });
        check(&[&[3, 4]], false, |x| {
            clip(&x[0], Some((-0.4).into()), Some(0.5.into()))
        });
    }

    #[test]
    fn gradients_of_maps() {
        let s: &[&[usize]] = &[&[2, 3]];
        for f in [negative, abs, square, exp, expm1, sin, cos, erf] {
            check(s, false, |x| f(&x[0]));
        }
        for f in [log, log1p, sqrt, rsqrt, reciprocal] {
            check(s, true, |x| f(&x[0]));
        }
        for f in [sign, floor, ceil, round, trunc] {
            check(s, false, |x| f(&x[0]));
        }
    }

    /// The gradient of `sum(f(x))` at each element.
    fn slope(f: impl Fn(&Tensor) -> Result<Tensor>, x: &[f64], d: Device) -> Vec<f64> {
        let x = leaf(x, &[x.len()], d);
        let y = crate::ops::sum(&f(&x).unwrap(), None, false, None).unwrap();
        y.backward(None, false, false).unwrap();
        numbers(&x.grad().unwrap())
    }

    #[test]
    fn gradients_at_kinks_are_as_documented() {
        for d in DEVICES {
            assert_eq!(slope(abs, &[0.0, -2.0], d), [0.0, -1.0]);
            assert_eq!(
                slope(|x| maximum(x, 1.0), &[1.0, 2.0, 0.0], d),
                [0.5, 1.0, 0.0]
            );
            assert_eq!(
                slope(|x| minimum(x, 1.0), &[1.0, 2.0, 0.0], d),
                [0.5, 0.0, 1.0]
            );
            let c = |x: &Tensor| clip(x, Some(0.0.into()), Some(1.0.into()));
            assert_eq!(slope(c, &[0.0, 1.0, 1.5, -0.1], d), [1.0, 1.0, 0.0, 0.0]);
            assert_eq!(slope(|x| pow(x, 0.0), &[0.0, 3.0], d), [0.0, 0.0]);
            assert_eq!(slope(|x| pow(x, 2.0), &[-3.0, 0.0], d), [-6.0, 0.0]);
            assert_eq!(slope(|x| pow(x, 3.0), &[-3.0, 0.0], d), [27.0, 0.0]);
            assert_eq!(slope(|x| pow(0.0, x), &[0.0, 2.0], d), [0.0, 0.0]);
            let zero = t(&[0.0f64, 0.0], &[2], d);
            assert_eq!(slope(|x| pow(x, &zero), &[0.0, 2.0], d), [0.0, 0.0]);
            assert_eq!(numbers(&pow(&zero, &zero).unwrap()), [1.0, 1.0]);
        }
    }

    #[test]
    fn a_dense_layout_is_kept() {
        for d in DEVICES {
            let x = t(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], d);
            let xt = crate::ops::matrix_t(&x).unwrap();
            let y = add(&exp(&xt).unwrap(), &xt).unwrap();
            assert_eq!(y.layout().strides()[..], [1, 3]);
            let z = crate::ops::matrix_t(&add(&exp(&x).unwrap(), &x).unwrap()).unwrap();
            assert_eq!(numbers(&y), numbers(&z));
        }
    }
}
