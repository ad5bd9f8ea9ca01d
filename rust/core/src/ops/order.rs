//! Running sums and products, sorting, and what sorting makes easy: top k, unique values, search.

use crate::autograd::{Saved, not_differentiable, record, twin_vjp, vjp};
use crate::backend::{Scan, dispatch};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::list::{try_collect, try_vec};
use crate::ops::arrange::move_axis;
use crate::ops::index::gather_rows;
use crate::ops::{
    astype, concat, contiguous, flip, multiply, not_equal, reshape_to, slice_axis, take_along_axis,
    zeros,
};
use crate::shape::normalize_axis;
use crate::tensor::{Tensor, check_device};

/// The axis named, or the only one.
fn chosen(op: &'static str, x: &Tensor, axis: Option<isize>) -> Result<usize> {
    match axis {
        Some(a) => normalize_axis(op, a, x.ndim()),
        None if x.ndim() == 1 => Ok(0),
        None => Err(Error::value(
            op,
            format!("axis is needed for a tensor of shape {}", x.shape()),
        )),
    }
}

fn scan(name: &'static str, op: Scan, x: &Tensor, axis: usize) -> Result<Tensor> {
    // Scanned along the last axis, and seen in the old order again.
    let last = x.ndim() - 1;
    let rows = move_axis(&x.detach(), axis, last)?;
    let y = Tensor::from_value(dispatch(x.device()).scan(op, &rows.value())?);
    let y = move_axis(&y, last, axis)?;
    Ok(record(name, &[x], y.value(), |_| {
        let s = (op == Scan::Prod).then(|| Saved::input(x));
        vjp(move |cx, g, needs| match &s {
            // The transpose of a running sum runs from the other end.
            None => {
                let back = [axis as isize];
                let g = scan(name, op, &flip(g, Some(&back))?, axis)?;
                Ok(vec![Some(flip(&g, Some(&back))?)])
            }
            // Dividing by x would be shorter, and wrong where it is 0: the composed twin serves every order. When no graph is
            // wanted, it is differentiated at a leaf of its own.
            Some(s) => {
                let (x, keep) = (s.get(cx), cx.create_graph());
                let x = if keep { x } else { x.to_leaf(true)? };
                let grads = twin_vjp(&[x], &[Some(g.clone())], needs, |x| {
                    Ok(vec![products(&x[0], axis)?])
                })?;
                let each = grads.into_iter();
                Ok(each
                    .map(|g| g.map(|g| if keep { g } else { g.detach() }))
                    .collect())
            }
        })
    }))
}
/// Running products in log2(n) steps of whole-tensor operations.
fn products(x: &Tensor, axis: usize) -> Result<Tensor> {
    let n = x.shape()[axis];
    let (mut y, mut step) = (x.clone(), 1);
    while step < n {
        let head = slice_axis(&y, axis, 0, step)?;
        let (tail, before) = (
            slice_axis(&y, axis, step, n - step)?,
            slice_axis(&y, axis, 0, n - step)?,
        );
        y = concat(&[&head, &multiply(&tail, &before)?], axis as isize)?;
        step *= 2;
    }
    Ok(y)
}
fn cumulative(
    name: &'static str,
    op: Scan,
    x: &Tensor,
    axis: Option<isize>,
    dtype: Option<DType>,
    include_initial: bool,
) -> Result<Tensor> {
    let axis = chosen(name, x, axis)?;
    let x = dtype.map_or(Ok(x.clone()), |d| astype(x, d))?;
    let mut y = scan(name, op, &x, axis)?;
    if include_initial {
        let mut shape = y.shape().clone();
        shape[axis] = 1;
        let first = match op {
            Scan::Sum => zeros(&shape, y.dtype(), y.device())?,
            Scan::Prod => crate::ops::ones(&shape, y.dtype(), y.device())?,
        };
        y = concat(&[&first, &y], axis as isize)?;
    }
    dtype.map_or(Ok(y.clone()), |d| astype(&y, d))
}
/// Running sums `y[i] = x[0] + .. + x[i]` along `axis` (may be left out for a vector), accumulated in float64; bool and integers
/// give int64. With `include_initial` a 0 comes first. Gradient: the running sum of `g` from the end.
///
/// Errors: `Value` without an axis where there are several, `Index` for one out of range.
pub fn cumulative_sum(
    x: &Tensor,
    axis: Option<isize>,
    dtype: Option<DType>,
    include_initial: bool,
) -> Result<Tensor> {
    cumulative("cumulative_sum", Scan::Sum, x, axis, dtype, include_initial)
}
/// Running products `y[i] = x[0] .. x[i]` along `axis`, as [`cumulative_sum`]; with `include_initial` a 1 comes first.
/// Gradient: right where elements are 0, too.
pub fn cumulative_prod(
    x: &Tensor,
    axis: Option<isize>,
    dtype: Option<DType>,
    include_initial: bool,
) -> Result<Tensor> {
    cumulative(
        "cumulative_prod",
        Scan::Prod,
        x,
        axis,
        dtype,
        include_initial,
    )
}

/// The int64 indices that sort `x` along `axis`. Stable in either direction; NaN comes last.
pub fn argsort(x: &Tensor, axis: isize, descending: bool) -> Result<Tensor> {
    let axis = normalize_axis("argsort", axis, x.ndim())?;
    let last = x.ndim() - 1;
    let rows = move_axis(&x.detach(), axis, last)?;
    let y = dispatch(x.device()).argsort(descending, &rows.value())?;
    move_axis(&not_differentiable("argsort", &[x], y), last, axis)
}
/// The elements in order along `axis`. Stable in either direction; NaN comes last. Gradient: `g` where each element came from.
pub fn sort(x: &Tensor, axis: isize, descending: bool) -> Result<Tensor> {
    normalize_axis("sort", axis, x.ndim())?;
    take_along_axis(x, &argsort(x, axis, descending)?, axis)
}
/// The `k` largest (or smallest) elements along `axis`, in order, and their indices; of equal ones the first. NaN counts as
/// neither large nor small: it comes last.
///
/// Errors: `Value` when the axis has fewer than `k` elements.
pub fn topk(x: &Tensor, k: usize, axis: isize, largest: bool) -> Result<(Tensor, Tensor)> {
    const OP: &str = "topk";
    let a = normalize_axis(OP, axis, x.ndim())?;
    if k > x.shape()[a] {
        return Err(Error::value(
            OP,
            format!("k is {k}, but axis {a} has size {}", x.shape()[a]),
        ));
    }
    let indices = slice_axis(&argsort(x, axis, largest)?, a, 0, k)?;
    let indices = contiguous(&indices)?;
    Ok((take_along_axis(x, &indices, axis)?, indices))
}

/// What [`unique`] finds.
pub struct Unique {
    /// The different values, ascending; each NaN is different from all others.
    pub values: Tensor,
    /// Where each of them first occurs in the flattened tensor, int64.
    pub indices: Tensor,
    /// For each element of the tensor the number of its value, int64.
    pub inverse: Tensor,
    /// How often each value occurs, int64.
    pub counts: Tensor,
}
/// The different values of a tensor. Gradient of the values: that of their first occurrence.
pub fn unique(x: &Tensor) -> Result<Unique> {
    let n = x.numel();
    let flat = reshape_to("unique", x, [n].into())?;
    let order = argsort(&flat, 0, false)?;
    let sorted = gather_rows(&flat.detach(), &order.value())?;
    let mut starts: Vec<usize> = Vec::new();
    if n > 0 {
        let (b, a) = (
            slice_axis(&sorted, 0, 1, n - 1)?,
            slice_axis(&sorted, 0, 0, n - 1)?,
        );
        let new = not_equal(&b, &a)?.to_vec::<u8>()?;
        starts = try_collect([0].into_iter().chain((1..n).filter(|&i| new[i - 1] != 0)))?;
    }
    let order = order.to_vec::<i64>()?;
    let (mut inverse, mut counts) = (try_collect((0..n).map(|_| 0i64))?, try_vec(starts.len())?);
    for (number, &start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(n);
        counts.push((end - start) as i64);
        for &place in &order[start..end] {
            inverse[place as usize] = number as i64;
        }
    }
    // The order is stable: the first of each run is the first occurrence.
    let first = try_collect(starts.iter().map(|&s| order[s]))?;
    let int = |v: &[i64], shape: &[usize]| Tensor::from_slice_on(v, shape, DType::I64, x.device());
    let indices = int(&first, &[first.len()])?;
    Ok(Unique {
        values: gather_rows(&flat, &indices.value())?,
        indices,
        inverse: int(&inverse, x.shape())?,
        counts: int(&counts, &[counts.len()])?,
    })
}
/// The indices of the elements that are not 0, in C order: one int64 vector per axis.
///
/// Errors: `Value` for a tensor without axes.
pub fn nonzero(x: &Tensor) -> Result<Vec<Tensor>> {
    const OP: &str = "nonzero";
    if x.ndim() == 0 {
        return Err(Error::value(
            OP,
            "a tensor without axes has no indices (reshape it to (1,))",
        ));
    }
    let set = astype(&x.detach(), DType::Bool)?.to_vec::<u8>()?;
    let found = try_collect((0..set.len()).filter(|&i| set[i] != 0))?;
    let mut inner = x.numel();
    x.shape()
        .iter()
        .map(|&n| {
            inner /= n.max(1);
            let at = try_collect(found.iter().map(|&i| (i / inner.max(1) % n) as i64))?;
            Tensor::from_slice_on(&at, &[at.len()], DType::I64, x.device())
        })
        .collect()
}
/// Where each of `values` would be inserted into the ascending vector `sorted` to keep it in order, int64: before equal elements,
/// or with `right` behind them. NaN belongs at the end.
///
/// Errors: `Value` unless `sorted` is a vector.
pub fn searchsorted(sorted: &Tensor, values: &Tensor, right: bool) -> Result<Tensor> {
    const OP: &str = "searchsorted";
    check_device(OP, sorted, values)?;
    if sorted.ndim() != 1 {
        return Err(Error::value(
            OP,
            format!("takes a sorted vector, not shape {}", sorted.shape()),
        ));
    }
    let dtype = sorted.dtype().promote(values.dtype());
    let found: Vec<i64> = if dtype.is_float() {
        let read = |x: &Tensor| astype(&x.detach(), DType::F64)?.to_vec::<f64>();
        let less = |a: f64, b: f64| a < b || (b.is_nan() && !a.is_nan());
        places(&read(sorted)?, &read(values)?, right, less)
    } else {
        let read = |x: &Tensor| astype(&x.detach(), DType::I64)?.to_vec::<i64>();
        places(&read(sorted)?, &read(values)?, right, |a, b| a < b)
    };
    Tensor::from_slice_on(&found, values.shape(), DType::I64, values.device())
}
fn places<T: Copy>(
    sorted: &[T],
    values: &[T],
    right: bool,
    less: impl Fn(T, T) -> bool,
) -> Vec<i64> {
    let place = |&v: &T| match right {
        false => sorted.partition_point(|&s| less(s, v)),
        true => sorted.partition_point(|&s| !less(v, s)),
    };
    values.iter().map(|v| place(v) as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::square;
    use crate::testing::{DEVICES, check, leaf, numbers};

    #[test]
    fn running_products_with_zeros_have_gradients() {
        for d in DEVICES {
            let x = leaf(&[2.0, 0.0, 3.0, 0.0], &[4], d);
            let y = cumulative_prod(&x, None, None, false).unwrap();
            let y = crate::ops::sum(&y, None, false, None).unwrap();
            y.backward(None, false, false).unwrap();
            // d/dx of x0 + x0 x1 + x0 x1 x2 + x0 x1 x2 x3
            assert_eq!(numbers(&x.grad().unwrap()), [1.0, 8.0, 0.0, 0.0]);
        }
    }

    #[test]
    fn each_nan_is_unique() {
        let x = Tensor::from_slice(&[1.0, f64::NAN, 1.0, f64::NAN], &[4]).unwrap();
        let u = unique(&x).unwrap();
        assert_eq!(u.values.numel(), 3);
        assert_eq!(numbers(&u.counts), [2.0, 1.0, 1.0]);
        assert_eq!(numbers(&u.inverse), [0.0, 1.0, 0.0, 2.0]);
        assert_eq!(numbers(&u.indices), [0.0, 1.0, 3.0]);
    }

    #[test]
    fn gradients() {
        let s: &[&[usize]] = &[&[3, 4]];
        check(s, false, |x| {
            square(&cumulative_sum(&x[0], Some(0), None, true)?)
        });
        check(s, false, |x| cumulative_prod(&x[0], Some(1), None, false));
        check(s, false, |x| square(&sort(&x[0], 0, true)?));
        check(s, false, |x| square(&topk(&x[0], 2, 1, false)?.0));
    }
}
