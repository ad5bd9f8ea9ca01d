//! Reductions over axes. The order of additions depends on the logical shape alone.

use super::common::rounded_once;
use crate::autograd::{Saved, not_differentiable, record, twin_vjp, vjp};
use crate::backend::{Binary, Reduce, dispatch};
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::ops::{
    astype, broadcast_to, divide, equal, logical_and, multiply, permute_dims, reshape_to,
    slice_axis, sqrt, r#where,
};
use crate::shape::{Dims, Shape, normalize_axes, normalize_axis, numel};
use crate::tensor::Tensor;
use crate::value::Value;

/// The shape after a reduction: reduced axes as 1, or gone.
fn reduced_shape(shape: &[usize], axes: &[usize], keepdims: bool) -> Shape {
    let each = shape.iter().enumerate();
    each.filter_map(|(d, &n)| match (axes.contains(&d), keepdims) {
        (false, _) => Some(n),
        (true, true) => Some(1),
        (true, false) => None,
    })
    .collect()
}
/// A dense value under another shape of the same size.
fn reshaped(v: Value, shape: Shape) -> Value {
    Value {
        layout: Layout::contiguous(shape),
        storage: v.storage,
    }
}
fn reduce_value(op: Reduce, x: &Value, axes: &[usize], keepdims: bool) -> Result<Value> {
    let y = dispatch(x.device()).reduce(op, x, axes)?;
    Ok(reshaped(y, reduced_shape(x.shape(), axes, keepdims)))
}
/// A reduction's gradient `g` seen again in the shape before it.
fn expand(g: &Tensor, shape: &[usize], axes: &[usize]) -> Result<Tensor> {
    let g = reshape_to("broadcast_to", g, reduced_shape(shape, axes, true))?;
    broadcast_to(&g, shape)
}
fn count(shape: &[usize], axes: &[usize]) -> usize {
    numel(&axes.iter().map(|&d| shape[d]).collect::<Shape>())
}

/// Sum over `axis` (default all). bool and integers give int64; with `dtype` the elements are cast first and the sum is of it.
/// Gradient: `g` for every element.
pub fn sum(
    x: &Tensor,
    axis: Option<&[isize]>,
    keepdims: bool,
    dtype: Option<DType>,
) -> Result<Tensor> {
    let axes = normalize_axes("sum", axis, x.ndim())?;
    let x = match dtype {
        Some(d) => astype(x, d)?,
        None => x.clone(),
    };
    let y = sum_axes(&x, &axes, keepdims)?;
    match dtype {
        Some(d) => astype(&y, d),
        None => Ok(y),
    }
}
fn sum_axes(x: &Tensor, axes: &[usize], keepdims: bool) -> Result<Tensor> {
    let out = reduce_value(Reduce::Sum, &x.value(), axes, keepdims)?;
    Ok(record("sum", &[x], out, |_| {
        let (shape, axes) = (x.shape().clone(), Dims::from_slice(axes));
        vjp(move |_, g, _| Ok(vec![Some(expand(g, &shape, &axes)?)]))
    }))
}
/// The transpose of broadcasting: sums `x` over the axes that make it larger than `shape`.
pub fn sum_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let lead = x.ndim().checked_sub(shape.len());
    let fits = lead.is_some_and(|l| {
        x.shape()[l..]
            .iter()
            .zip(shape)
            .all(|(&a, &b)| a == b || b == 1)
    });
    let (Some(lead), true) = (lead, fits) else {
        return Err(Error::internal(
            "sum_to",
            format!(
                "shape {} is no broadcast of {}",
                x.shape(),
                crate::shape::show(shape)
            ),
        ));
    };
    let axes: Shape = (0..x.ndim())
        .filter(|&d| d < lead || (shape[d - lead] == 1 && x.shape()[d] != 1))
        .collect();
    reshape_to("sum_to", &sum_axes(x, &axes, false)?, shape.into())
}

/// Mean over `axis` (default all); integers give float32 (computed in float64); of nothing it is NaN. Gradient: `g / n`.
pub fn mean(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    let axes = normalize_axes("mean", axis, x.ndim())?;
    if !x.dtype().is_float() {
        return astype(&mean(&astype(x, DType::F64)?, axis, keepdims)?, DType::F32);
    }
    rounded_once!(x => mean(x, axis, keepdims)); // the sum may be too large for 16 bits
    let backend = dispatch(x.device());
    let n = count(x.shape(), &axes) as f64;
    let total = reduce_value(Reduce::Sum, &x.value(), &axes, keepdims)?;
    let n_value = backend.full(&[], x.dtype(), Scalar::Float(n))?;
    let out = backend.binary(Binary::Div, total.shape(), &total, &n_value)?;
    Ok(record("mean", &[x], out, |_| {
        let shape = x.shape().clone();
        vjp(move |_, g, _| Ok(vec![Some(expand(&divide(g, n)?, &shape, &axes)?)]))
    }))
}

/// Product over `axis` (default all); bool and integers give int64. Gradient: `g` times the product of the other elements.
pub fn prod(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    let axes = normalize_axes("prod", axis, x.ndim())?;
    let out = reduce_value(Reduce::Prod, &x.value(), &axes, keepdims)?;
    Ok(record("prod", &[x], out, |_| {
        let (s, shape) = (Saved::input(x), x.shape().clone());
        vjp(move |cx, g, needs| {
            let x = s.get(cx);
            if cx.create_graph() {
                let g = reshape_to("prod", g, reduced_shape(&shape, &axes, false))?;
                return twin_vjp(&[x], &[Some(g)], needs, |x| {
                    Ok(vec![prod_by_halves(&x[0], &axes)?])
                });
            }
            // Without zeros the product of the others is p / x; with one zero only that element has one, with more none has.
            let zero = equal(&x, 0)?;
            let filled = r#where(&zero, 1.0, &x)?;
            let keep: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
            let p = prod(&filled, Some(&keep), true)?;
            let zeros = sum(&zero, Some(&keep), true, None)?;
            let single = logical_and(&zero, &equal(&zeros, 1)?)?;
            let others = r#where(&equal(&zeros, 0)?, &divide(&p, &filled)?, 0.0)?;
            let others = r#where(&single, &p, &others)?;
            Ok(vec![Some(multiply(&others, &expand(g, &shape, &axes)?)?)])
        })
    }))
}
/// The twin of `prod`: a tree of multiplications, whose gradients of every order are right even at zeros. No reduced axes are kept.
fn prod_by_halves(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let kept = (0..x.ndim()).filter(|d| !axes.contains(d));
    let order: Vec<isize> = kept
        .chain(axes.iter().copied())
        .map(|d| d as isize)
        .collect();
    let x = permute_dims(x, &order)?;
    let outer = Shape::from_slice(&x.shape()[..x.ndim() - axes.len()]);
    let n = numel(&x.shape()[outer.len()..]);
    let mut flat = outer.clone();
    flat.push(n);
    let mut x = reshape_to("prod", &x, flat)?;
    let last = outer.len();
    while x.shape()[last] > 1 {
        let n = x.shape()[last];
        let half = n / 2;
        let y = multiply(
            &slice_axis(&x, last, 0, half)?,
            &slice_axis(&x, last, half, half)?,
        )?;
        x = if n % 2 == 1 {
            crate::ops::concat(&[&y, &slice_axis(&x, last, n - 1, 1)?], last as isize)?
        } else {
            y
        };
    }
    if n == 0 {
        return crate::ops::ones(&outer, x.dtype(), x.device());
    }
    reshape_to("prod", &x, outer)
}

fn extremum(
    name: &'static str,
    op: Reduce,
    x: &Tensor,
    axis: Option<&[isize]>,
    keepdims: bool,
) -> Result<Tensor> {
    let axes = normalize_axes(name, axis, x.ndim())?;
    check_not_empty(name, x, &axes)?;
    let out = reduce_value(op, &x.value(), &axes, keepdims)?;
    Ok(record(name, &[x], out, |y| {
        let (sx, sy) = (Saved::constant(&x.value()), Saved::constant(y));
        let shape = x.shape().clone();
        vjp(move |cx, g, _| {
            let x = sx.get(cx);
            let hit = equal(&x, &expand(&sy.get(cx), &shape, &axes)?)?;
            let ties = astype(&sum_axes(&hit, &axes, true)?, g.dtype())?;
            let g = reshape_to(name, g, ties.shape().clone())?;
            let share = broadcast_to(&divide(&g, &ties)?, &shape)?;
            Ok(vec![Some(r#where(&hit, &share, 0.0)?)])
        })
    }))
}
fn check_not_empty(op: &'static str, x: &Tensor, axes: &[usize]) -> Result<()> {
    if count(x.shape(), axes) > 0 {
        return Ok(());
    }
    Err(Error::value(
        op,
        format!(
            "nothing to choose from: a tensor of shape {} has no elements along the reduced axes",
            x.shape()
        ),
    ))
}
/// Largest element over `axis` (default all), values only; NaN if any is. Gradient: `g`, shared evenly among ties.
pub fn max(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    extremum("max", Reduce::Max, x, axis, keepdims)
}
/// Smallest element over `axis` (default all), values only; NaN if any is. Gradient: `g`, shared evenly among ties.
pub fn min(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    extremum("min", Reduce::Min, x, axis, keepdims)
}

/// `sum((x - mean)^2) / (n - correction)` over `axis` (default all), in two passes; integers give float32.
/// `correction = 1` is the unbiased estimate. Gradient: `2 g (x - mean) / (n - correction)`.
pub fn var(x: &Tensor, axis: Option<&[isize]>, correction: f64, keepdims: bool) -> Result<Tensor> {
    let axes = normalize_axes("var", axis, x.ndim())?;
    variance(x, axes, correction, keepdims)
}
fn variance(x: &Tensor, axes: Shape, correction: f64, keepdims: bool) -> Result<Tensor> {
    rounded_once!(x => variance(x, axes, correction, keepdims));
    let x = astype(x, x.dtype().to_float())?;
    let n = (count(x.shape(), &axes) as f64 - correction).max(0.0);
    let out = {
        let _mode = crate::autograd::no_grad();
        let squares = crate::ops::square(&centred(&x, &axes)?)?;
        divide(&sum_axes(&squares, &axes, keepdims)?, n)?.value()
    };
    Ok(record("var", &[&x], out, |_| {
        let (s, shape) = (Saved::input(&x), x.shape().clone());
        vjp(move |cx, g, _| {
            let d = centred(&s.get(cx), &axes)?;
            let g = expand(&divide(&multiply(g, 2.0)?, n)?, &shape, &axes)?;
            Ok(vec![Some(multiply(&g, &d)?)])
        })
    }))
}
fn centred(x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let axes: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
    crate::ops::subtract(x, &mean(x, Some(&axes), true)?)
}
/// `sqrt(var(x))`
pub fn std(x: &Tensor, axis: Option<&[isize]>, correction: f64, keepdims: bool) -> Result<Tensor> {
    rounded_once!(x => std(x, axis, correction, keepdims));
    let axes = normalize_axes("std", axis, x.ndim())?;
    sqrt(&variance(x, axes, correction, keepdims)?)
}

fn any_all(
    op: &'static str,
    all: bool,
    x: &Tensor,
    axis: Option<&[isize]>,
    keepdims: bool,
) -> Result<Tensor> {
    let axes = normalize_axes(op, axis, x.ndim())?;
    let backend = dispatch(x.device());
    let y = backend.any_all(all, &backend.cast(&x.value(), DType::Bool)?, &axes)?;
    let y = reshaped(y, reduced_shape(x.shape(), &axes, keepdims));
    Ok(not_differentiable(op, &[x], y))
}
/// Whether any element over `axis` (default all) is true, i.e. not 0. Of nothing: false.
pub fn any(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    any_all("any", false, x, axis, keepdims)
}
/// Whether all elements over `axis` (default all) are true, i.e. not 0. Of nothing: true.
pub fn all(x: &Tensor, axis: Option<&[isize]>, keepdims: bool) -> Result<Tensor> {
    any_all("all", true, x, axis, keepdims)
}

fn arg_reduce(
    op: &'static str,
    max: bool,
    x: &Tensor,
    axis: Option<isize>,
    keepdims: bool,
) -> Result<Tensor> {
    let axes: Shape = match axis {
        None => (0..x.ndim()).collect(),
        Some(a) => Shape::from([normalize_axis(op, a, x.ndim())?]),
    };
    check_not_empty(op, x, &axes)?;
    let y = dispatch(x.device()).arg_reduce(max, &x.value(), &axes)?;
    let y = reshaped(y, reduced_shape(x.shape(), &axes, keepdims));
    Ok(not_differentiable(op, &[x], y))
}
/// int64 index of the first largest element along `axis` (default: in the flattened tensor); a NaN counts as largest.
pub fn argmax(x: &Tensor, axis: Option<isize>, keepdims: bool) -> Result<Tensor> {
    arg_reduce("argmax", true, x, axis, keepdims)
}
/// int64 index of the first smallest element along `axis` (default: in the flattened tensor); a NaN counts as smallest.
pub fn argmin(x: &Tensor, axis: Option<isize>, keepdims: bool) -> Result<Tensor> {
    arg_reduce("argmin", false, x, axis, keepdims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::testing::{DEVICES, check, leaf, numbers};

    fn ints(data: &[i64], shape: &[usize], d: Device) -> Tensor {
        Tensor::from_slice_on(data, shape, DType::I64, d).unwrap()
    }

    #[test]
    fn values_shapes_and_dtypes() {
        for d in DEVICES {
            let x = ints(&[1, 2, 3, 4, 5, 6], &[2, 3], d);
            let small = astype(&x, DType::U8).unwrap();
            let s = sum(&small, Some(&[1]), false, None).unwrap();
            assert_eq!((s.dtype(), numbers(&s)), (DType::I64, vec![6.0, 15.0]));
            let s = sum(&x, Some(&[0]), true, Some(DType::F32)).unwrap();
            assert_eq!((s.dtype(), s.shape()[..] == [1, 3]), (DType::F32, true));
            let m = mean(&x, None, false).unwrap();
            assert_eq!((m.dtype(), numbers(&m)), (DType::F32, vec![3.5]));
            assert_eq!(
                numbers(&prod(&x, Some(&[-1]), false).unwrap()),
                [6.0, 120.0]
            );
            let m = max(&small, None, true).unwrap();
            assert_eq!((m.dtype(), m.shape()[..] == [1, 1]), (DType::U8, true));
            assert_eq!(
                numbers(&min(&x, Some(&[0]), false).unwrap()),
                [1.0, 2.0, 3.0]
            );
            assert_eq!(numbers(&argmax(&x, None, false).unwrap()), [5.0]);
            assert_eq!(numbers(&argmin(&x, Some(1), true).unwrap()), [0.0, 0.0]);
            assert_eq!(numbers(&var(&x, None, 1.0, false).unwrap()), [3.5]);
            let odd = equal(&crate::ops::remainder(&x, 2).unwrap(), 1).unwrap();
            assert_eq!(numbers(&any(&odd, Some(&[1]), false).unwrap()), [1.0, 1.0]);
            assert_eq!(numbers(&all(&odd, None, false).unwrap()), [0.0]);
            assert_eq!(numbers(&sum(&odd, None, false, None).unwrap()), [3.0]);
        }
    }

    #[test]
    fn nothing_reduces_to_the_neutral_element_or_is_refused() {
        for d in DEVICES {
            let x = crate::ops::zeros(&[2, 0], DType::F32, d).unwrap();
            assert_eq!(
                numbers(&sum(&x, Some(&[1]), false, None).unwrap()),
                [0.0, 0.0]
            );
            assert_eq!(numbers(&prod(&x, None, false).unwrap()), [1.0]);
            assert!(numbers(&mean(&x, None, false).unwrap())[0].is_nan());
            assert!(matches!(max(&x, None, false), Err(Error::Value(_))));
            assert!(matches!(argmin(&x, Some(1), false), Err(Error::Value(_))));
            assert_eq!(max(&x, Some(&[0]), false).unwrap().numel(), 0);
            assert!(matches!(
                sum(&x, Some(&[2]), false, None),
                Err(Error::Index(_))
            ));
        }
    }

    #[test]
    fn gradients() {
        let s: &[&[usize]] = &[&[2, 3, 2]];
        for axis in [None, Some(&[1][..]), Some(&[-1, 0][..])] {
            for keep in [false, true] {
                check(s, false, |x| sum(&x[0], axis, keep, None));
                check(s, false, |x| mean(&x[0], axis, keep));
                check(s, false, |x| max(&x[0], axis, keep));
                check(s, false, |x| min(&x[0], axis, keep));
                check(s, false, |x| var(&x[0], axis, 1.0, keep));
                check(s, false, |x| std(&x[0], axis, 0.0, keep));
                check(s, false, |x| prod(&x[0], axis, keep));
            }
        }
    }

    #[test]
    fn ties_share_and_zeros_of_a_product_are_right() {
        for d in DEVICES {
            let slope = |f: &dyn Fn(&Tensor) -> Result<Tensor>, x: &[f64]| {
                let x = leaf(x, &[x.len()], d);
                f(&x).unwrap().backward(None, false, false).unwrap();
                numbers(&x.grad().unwrap())
            };
            assert_eq!(
                slope(&|x| max(x, None, false), &[2.0, 1.0, 2.0]),
                [0.5, 0.0, 0.5]
            );
            assert_eq!(
                slope(
                    &|x| min(x, None, true).and_then(|y| sum(&y, None, false, None)),
                    &[1.0, 1.0]
                ),
                [0.5, 0.5]
            );
            assert_eq!(
                slope(&|x| prod(x, None, false), &[2.0, 0.0, 3.0]),
                [0.0, 6.0, 0.0]
            );
            assert_eq!(
                slope(&|x| prod(x, None, false), &[0.0, 0.0, 3.0]),
                [0.0, 0.0, 0.0]
            );
            let x = [leaf(&[2.0, 0.0, 3.0, 0.5, -1.0], &[5], d)];
            let f = |x: &[Tensor]| Ok(vec![prod(&x[0], None, false)?]);
            crate::autograd::gradgradcheck(&f, &x, Default::default()).unwrap();
        }
    }

    #[test]
    fn variance_of_numbers_far_from_zero_keeps_its_digits() {
        for d in DEVICES {
            let x = Tensor::from_slice_on(&[10000.0f32, 10001.0, 10002.0], &[3], DType::F32, d)
                .unwrap();
            assert!((numbers(&var(&x, None, 0.0, false).unwrap())[0] - 2.0 / 3.0).abs() < 1e-6);
        }
    }
}
