//! Elements chosen by index tensors or masks, and written back by them. Every choice is a list of positions in the flattened tensor,
//! read by `gather_rows` and added up by its transpose: gradients of any order follow, and additions have a fixed order.

use crate::autograd::no_grad;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::list::try_collect;
use crate::ops::advanced_index::{Selector, WHOLE, get};
use crate::ops::common::rounded_once;
use crate::ops::index::{gather_rows, scatter_rows};
use crate::ops::{
    Operand, add, astype, broadcast_to, flatten, reshape_to, slice_axis, squeeze, r#where,
};
use crate::shape::{Shape, broadcast_shapes, normalize_axis};
use crate::tensor::{Tensor, check_device};

/// An int64 vector on the device of `like`, as a value.
fn list(from: &[i64], like: &Tensor) -> Result<crate::Value> {
    Ok(Tensor::from_slice_on(from, &[from.len()], DType::I64, like.device())?.value())
}
/// The elements of `x` at positions of its flattened form.
fn take_flat(x: &Tensor, at: &[i64]) -> Result<Tensor> {
    gather_rows(&reshape_to("take", x, [x.numel()].into())?, &list(at, x)?)
}
/// The elements of an index tensor, in range for an axis of `n` elements; negative ones count from the end.
pub(super) fn indices(op: &'static str, index: &Tensor, axis: usize, n: usize) -> Result<Vec<i64>> {
    if !index.dtype().is_int() {
        return Err(Error::dtype(
            op,
            format!("indices must be integers, not {}", index.dtype()),
        ));
    }
    let _mode = no_grad();
    let mut idx = astype(index, DType::I64)?.to_vec::<i64>()?;
    let n = n as i64;
    for i in &mut idx {
        if *i < -n || *i >= n {
            return Err(Error::index(
                op,
                format!("index {i} is out of range for axis {axis} of size {n}"),
            ));
        }
        if *i < 0 {
            *i += n;
        }
    }
    Ok(idx)
}
/// Positions in a C-ordered tensor of `shape`: of element `c` that with `idx[c]` in place of coordinate `axis`.
fn positions(shape: &[usize], axis: usize, idx: &[i64], idx_shape: &[usize]) -> Result<Vec<i64>> {
    let strides = crate::layout::c_strides(shape);
    try_collect(idx.iter().enumerate().map(|(mut c, &i)| {
        let mut at = i * strides[axis] as i64;
        for d in (0..idx_shape.len()).rev() {
            if d != axis {
                at += ((c % idx_shape[d]) as i64) * strides[d] as i64;
            }
            c /= idx_shape[d];
        }
        at
    }))
}

/// Elements `indices` (of any shape) along `axis`, whose place their axes take; without `axis`, of the flattened tensor.
/// Gradient: elements taken repeatedly add up.
///
/// Errors: `Index` for an index or axis out of range, `Dtype` for indices that are no integers.
pub fn take(x: &Tensor, index: &Tensor, axis: Option<isize>) -> Result<Tensor> {
    const OP: &str = "take";
    check_device(OP, x, index)?;
    if index.dtype() == DType::Bool {
        return Err(Error::dtype(
            OP,
            "takes integers as indices, got bool: x[mask] or masked_select take a mask",
        ));
    }
    let Some(axis) = axis else {
        return take(&flatten(x, 0, -1)?, index, Some(0));
    };
    let axis = normalize_axis(OP, axis, x.ndim())?;
    let mut at = vec![Selector::Basic(WHOLE); axis];
    if index.ndim() > 0 {
        at.push(Selector::Tensor(index.clone()));
        return get(OP, x, &at);
    }
    // One element, but a copy like any other: as a vector of one index, whose axis then goes.
    at.push(Selector::Tensor(reshape_to(OP, index, [1].into())?));
    squeeze(&get(OP, x, &at)?, Some(&[axis as isize]))
}
/// The elements (rows, columns, ..) of `axis` that a vector of indices names: `take` under torch's name and order of arguments.
///
/// Errors: as [`take`], and `Value` unless the indices are a vector.
pub fn index_select(x: &Tensor, axis: isize, index: &Tensor) -> Result<Tensor> {
    if index.ndim() > 1 {
        return Err(Error::value(
            "index_select",
            format!("takes a vector of indices, not shape {}", index.shape()),
        ));
    }
    take(
        x,
        &reshape_to("index_select", index, [index.numel()].into())?,
        Some(axis),
    )
}
/// `y[.., i, ..] = x[.., indices[.., i, ..], ..]`: one index per element along `axis`; all other axes broadcast (what `argsort` gives
/// fits).
///
/// Errors: `Shape` for another number of axes or sizes that do not broadcast; `Index` for one out of range.
pub fn take_along_axis(x: &Tensor, index: &Tensor, axis: isize) -> Result<Tensor> {
    const OP: &str = "take_along_axis";
    check_device(OP, x, index)?;
    let axis = normalize_axis(OP, axis, x.ndim())?;
    if index.ndim() != x.ndim() {
        return Err(Error::shape(
            OP,
            format!(
                "indices of shape {} for a tensor of shape {}: both need the same number of axes",
                index.shape(),
                x.shape()
            ),
        ));
    }
    let mut one = x.shape().clone();
    one[axis] = 1;
    let mut other = index.shape().clone();
    other[axis] = 1;
    let mut shape = broadcast_shapes(OP, &one, &other)?;
    shape[axis] = x.shape()[axis];
    let x = broadcast_to(x, &shape)?;
    shape[axis] = index.shape()[axis];
    along(OP, &x, axis, &broadcast_to(index, &shape)?)
}
/// The elements of `x` that an index tensor, not larger than `x` but along `axis`, names along `axis`.
fn along(op: &'static str, x: &Tensor, axis: usize, index: &Tensor) -> Result<Tensor> {
    let idx = indices(op, index, axis, x.shape()[axis])?;
    let at = positions(x.shape(), axis, &idx, index.shape())?;
    reshape_to(op, &take_flat(x, &at)?, index.shape().clone())
}
/// Raises unless `index` has the axes of `x` and is nowhere larger but along `axis`.
fn check_inside(
    op: &'static str,
    x: &Tensor,
    name: &str,
    axis: Option<usize>,
    index: &Tensor,
) -> Result<()> {
    let fits = x.ndim() == index.ndim()
        && (0..x.ndim()).all(|d| Some(d) == axis || index.shape()[d] <= x.shape()[d]);
    if fits {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!(
            "the index of shape {} does not fit into {name} of shape {}: as many axes, and none larger{}",
            index.shape(),
            x.shape(),
            axis.map_or(String::new(), |a| format!(" but axis {a}"))
        ),
    ))
}
/// `y[.., i, ..] = x[.., index[.., i, ..], ..]` along `axis`, torch's `gather`: the index may be smaller than `x` in the other axes,
/// but does not broadcast.
///
/// Errors: `Shape` for an index that is larger; `Index` for one out of range.
pub fn gather(x: &Tensor, axis: isize, index: &Tensor) -> Result<Tensor> {
    const OP: &str = "gather";
    check_device(OP, x, index)?;
    let axis = normalize_axis(OP, axis, x.ndim())?;
    check_inside(OP, x, "the tensor", Some(axis), index)?;
    along(OP, x, axis, index)
}
/// Where [`scatter`] writes: positions in `x`, and the matching part of `src`, flat.
fn aims(
    op: &'static str,
    x: &Tensor,
    axis: isize,
    index: &Tensor,
    src: &Tensor,
) -> Result<(Vec<i64>, Tensor)> {
    check_device(op, x, index)?;
    check_device(op, x, src)?;
    let axis = normalize_axis(op, axis, x.ndim())?;
    check_inside(op, x, "the tensor", Some(axis), index)?;
    check_inside(op, src, "src", None, index)?;
    let idx = indices(op, index, axis, x.shape()[axis])?;
    let at = positions(x.shape(), axis, &idx, index.shape())?;
    let mut part = src.clone();
    for d in 0..src.ndim() {
        part = slice_axis(&part, d, 0, index.shape()[d])?;
    }
    Ok((at, reshape_to(op, &part, [index.numel()].into())?))
}
/// `x` with `y[.., index[.., i, ..], ..] = src[.., i, ..]` along `axis`, torch's `scatter`; `src` is a tensor at least as large as the
/// index, or a scalar. Where several elements meet, the last one in C order remains. Gradients: to `x` where it was not overwritten,
/// to the elements of `src` that remained.
///
/// Errors: as [`gather`], and `Shape` for a `src` that is smaller than the index.
pub fn scatter<'a>(
    x: &Tensor,
    axis: isize,
    index: &Tensor,
    src: impl Into<Operand<'a>>,
) -> Result<Tensor> {
    const OP: &str = "scatter";
    let filled;
    let src = match src.into() {
        Operand::Tensor(t) => t,
        Operand::Scalar(s) => {
            s.check_fits(OP, x.dtype())?;
            filled = crate::ops::full(index.shape(), s, x.dtype(), x.device())?;
            &filled
        }
    };
    let (at, src) = aims(OP, x, axis, index, src)?;
    put(x, &at, &astype(&src, x.dtype())?)
}
/// `x` with `values[i]` at position `at[i]` of its flattened form; of several the last.
fn put(x: &Tensor, at: &[i64], values: &Tensor) -> Result<Tensor> {
    if at.is_empty() {
        return Ok(x.clone());
    }
    let cells = 0..x.numel();
    let mut from = try_collect(cells.clone().map(|_| 0i64))?;
    let mut hit = try_collect(cells.map(|_| 0u8))?;
    for (i, &p) in at.iter().enumerate() {
        from[p as usize] = i as i64;
        hit[p as usize] = 1;
    }
    let hit = Tensor::from_slice_on(&hit, x.shape(), DType::Bool, x.device())?;
    let values = gather_rows(values, &list(&from, x)?)?;
    r#where(&hit, &reshape_to("scatter", &values, x.shape().clone())?, x)
}
/// `x` with `y[.., index[.., i, ..], ..] += src[.., i, ..]` along `axis`, torch's `scatter_add`; additions in C order of `src`, on any
/// number of threads. Gradients: `g`, and `g` gathered.
///
/// Errors: as [`scatter`], and `Dtype` unless both are of one floating-point dtype.
pub fn scatter_add(x: &Tensor, axis: isize, index: &Tensor, src: &Tensor) -> Result<Tensor> {
    const OP: &str = "scatter_add";
    crate::ops::common::check_same_kind(OP, ("x", x), &[("src", Some(src))])?;
    rounded_once!(x, src => scatter_add(x, axis, index, src));
    let (at, src) = aims(OP, x, axis, index, src)?;
    let sums = scatter_rows(&src, x.numel(), &list(&at, x)?)?;
    add(x, &reshape_to(OP, &sums, x.shape().clone())?)
}

fn check_mask(op: &'static str, mask: &Tensor) -> Result<()> {
    if mask.dtype() == DType::Bool {
        return Ok(());
    }
    Err(Error::dtype(
        op,
        format!(
            "the mask must be bool, not {} (compare it: m != 0)",
            mask.dtype()
        ),
    ))
}
/// The elements where `mask` (bool, both broadcast) is true, in C order, as a vector. Gradient: `g` at their places, else 0.
pub fn masked_select(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    const OP: &str = "masked_select";
    check_mask(OP, mask)?;
    check_device(OP, x, mask)?;
    let shape: Shape = broadcast_shapes(OP, x.shape(), mask.shape())?;
    let set = broadcast_to(mask, &shape)?.to_vec::<u8>()?;
    let set = (0..set.len()).filter(|&i| set[i] != 0);
    let at = try_collect(set.map(|i| i as i64))?;
    take_flat(&broadcast_to(x, &shape)?, &at)
}
/// `x` with `value` where `mask` (bool, broadcast) is true. Gradient: `g` where it is false, and to a tensor `value` where true.
///
/// Errors: `Shape` when the mask does not broadcast to `x`, `Value` or `Dtype` for a value that `x` cannot hold.
pub fn masked_fill<'a>(x: &Tensor, mask: &Tensor, value: impl Into<Operand<'a>>) -> Result<Tensor> {
    const OP: &str = "masked_fill";
    check_mask(OP, mask)?;
    check_device(OP, x, mask)?;
    let filled;
    let value = match value.into() {
        Operand::Tensor(t) if t.ndim() == 0 => astype(t, x.dtype())?,
        Operand::Tensor(t) => {
            return Err(Error::shape(
                OP,
                format!("the value must be one number, not of shape {}", t.shape()),
            ));
        }
        Operand::Scalar(s) => {
            s.check_fits(OP, x.dtype())?;
            filled = crate::ops::full(&[], s, x.dtype(), x.device())?;
            filled
        }
    };
    let shape = broadcast_shapes(OP, x.shape(), mask.shape())?;
    if shape != *x.shape() {
        return Err(Error::shape(
            OP,
            format!(
                "a mask of shape {} does not broadcast to shape {}",
                mask.shape(),
                x.shape()
            ),
        ));
    }
    r#where(mask, &value, x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::square;
    use crate::testing::{DEVICES, check, irregular, numbers};

    fn ints(data: &[i64], shape: &[usize], d: crate::Device) -> Tensor {
        Tensor::from_slice_on(data, shape, DType::I64, d).unwrap()
    }

    #[test]
    fn the_last_of_several_writes_remains() {
        for d in DEVICES {
            let x = Tensor::from_slice_on(&[0i64; 3], &[3], DType::I64, d).unwrap();
            let src = ints(&[1, 2, 3], &[3], d);
            let y = scatter(&x, 0, &ints(&[1, 1, -1], &[3], d), &src).unwrap();
            assert_eq!(numbers(&y), [0.0, 2.0, 3.0]);
        }
    }

    #[test]
    fn an_index_out_of_range_is_named() {
        let x = irregular(&[2, 3], 0, crate::Device::Cpu);
        let e = take(&x, &ints(&[0, -4], &[2], crate::Device::Cpu), Some(1)).unwrap_err();
        assert_eq!(
            e.to_string(),
            "[take] index -4 is out of range for axis 1 of size 3"
        );
    }

    #[test]
    fn gradients() {
        check(&[&[3, 4]], false, |x| {
            let i = ints(&[1, 1, -1, 0], &[2, 2], x[0].device());
            square(&take(&x[0], &i, Some(1))?)
        });
        check(&[&[3, 4], &[2, 2]], false, |x| {
            let i = ints(&[1, 1, 2, 1], &[2, 2], x[0].device());
            square(&scatter_add(&x[0], 0, &i, &x[1])?)
        });
        check(&[&[3, 4], &[2, 2]], false, |x| {
            let i = ints(&[1, 1, 2, 1], &[2, 2], x[0].device());
            square(&scatter(&x[0], 0, &i, &x[1])?)
        });
        check(&[&[3, 4]], false, |x| {
            let i = ints(&[0, 2], &[1, 2], x[0].device());
            square(&gather(&x[0], 1, &i)?)
        });
    }
}
