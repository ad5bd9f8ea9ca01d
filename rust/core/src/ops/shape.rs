//! Shape changes: views wherever the layout allows one.

use crate::autograd::{record, record_many, record_view, vjp};
use crate::backend::dispatch;
use crate::error::{Error, Result};
use crate::layout::{Layout, Span};
use crate::list::try_collect;
use crate::ops::{slice_spans, zeros};
use crate::shape::{Shape, normalize_axes, normalize_axis, numel, show};
use crate::tensor::{Tensor, check_device};

/// The same elements in C order as `shape`, in which one size may be -1 (whatever is left). A view if the layout allows it.
pub fn reshape(x: &Tensor, shape: &[isize]) -> Result<Tensor> {
    const OP: &str = "reshape";
    let free: Vec<usize> = (0..shape.len()).filter(|&d| shape[d] == -1).collect();
    let bad = |why: &str| {
        Err(Error::shape(
            OP,
            format!(
                "{} elements of shape {} do not fill {}: {why}",
                x.numel(),
                x.shape(),
                show(shape)
            ),
        ))
    };
    if shape.iter().any(|&d| d < -1) {
        return bad("sizes must not be negative, except one -1 for whatever is left");
    }
    if free.len() > 1 {
        return bad("only one size can be -1");
    }
    let mut full: Shape = shape.iter().map(|&d| d.max(0) as usize).collect();
    if let [d] = free[..] {
        full[d] = 1;
        let rest = full.numel();
        if rest == 0 || !x.numel().is_multiple_of(rest) {
            return bad("the known sizes do not divide the number of elements");
        }
        full[d] = x.numel() / rest;
    } else if full.numel() != x.numel() {
        return bad("the sizes multiply to another number");
    }
    reshape_to(OP, x, full)
}
/// [`reshape`] to a shape known to have as many elements.
pub(crate) fn reshape_to(op: &'static str, x: &Tensor, shape: Shape) -> Result<Tensor> {
    if numel(&shape) != x.numel() {
        return Err(Error::internal(
            op,
            format!("reshape of {} to {shape}", x.shape()),
        ));
    }
    if *x.shape() == shape {
        return Ok(x.clone());
    }
    let old = x.shape().clone();
    let back = move || vjp(move |_, g, _| Ok(vec![Some(reshape_to("reshape", g, old.clone())?)]));
    match x.layout().reshape(&shape) {
        Some(layout) => {
            let out = crate::Value {
                storage: x.storage(),
                layout,
            };
            Ok(record_view("reshape", x, out, back))
        }
        None => {
            let copy = dispatch(x.device()).copy(&x.value())?;
            let out = crate::Value {
                storage: copy.storage,
                layout: Layout::contiguous(shape),
            };
            Ok(record("reshape", &[x], out, |_| back()))
        }
    }
}
/// Axes `start_axis ..= end_axis` merged into one.
pub fn flatten(x: &Tensor, start_axis: isize, end_axis: isize) -> Result<Tensor> {
    const OP: &str = "flatten";
    if x.ndim() == 0 {
        for a in [start_axis, end_axis] {
            normalize_axis(OP, a, 1)?;
        }
        return reshape_to(OP, x, [1].into());
    }
    let (a, b) = (
        normalize_axis(OP, start_axis, x.ndim())?,
        normalize_axis(OP, end_axis, x.ndim())?,
    );
    if a > b {
        return Err(Error::value(
            OP,
            format!("start_axis {start_axis} comes after end_axis {end_axis}"),
        ));
    }
    let s = x.shape();
    let middle = numel(&s[a..=b]);
    let shape = s[..a].iter().chain([&middle]).chain(&s[b + 1..]);
    reshape_to(OP, x, shape.copied().collect())
}

/// A view with the axes in another order: axis `i` of the result is axis `axes[i]` of `x`.
pub fn permute_dims(x: &Tensor, axes: &[isize]) -> Result<Tensor> {
    const OP: &str = "permute_dims";
    if axes.len() != x.ndim() {
        return Err(Error::value(
            OP,
            format!(
                "{} does not name each of the {} axes once",
                show(axes),
                x.ndim()
            ),
        ));
    }
    let mut order = Shape::new();
    for &a in axes {
        let a = normalize_axis(OP, a, x.ndim())?;
        if order.contains(&a) {
            return Err(Error::value(
                OP,
                format!("{} names axis {a} twice", show(axes)),
            ));
        }
        order.push(a);
    }
    Ok(permute(x, &order))
}
fn permute(x: &Tensor, order: &[usize]) -> Tensor {
    let out = crate::Value {
        storage: x.storage(),
        layout: x.layout().permute(order),
    };
    record_view("permute_dims", x, out, || {
        let mut inverse = Shape::filled(0, order.len());
        for (i, &a) in order.iter().enumerate() {
            inverse[a] = i;
        }
        vjp(move |_, g, _| Ok(vec![Some(permute(g, &inverse))]))
    })
}
/// A view with two axes swapped.
pub fn transpose(x: &Tensor, axis1: isize, axis2: isize) -> Result<Tensor> {
    let (a, b) = (
        normalize_axis("transpose", axis1, x.ndim())?,
        normalize_axis("transpose", axis2, x.ndim())?,
    );
    let mut order: Shape = (0..x.ndim()).collect();
    order.swap(a, b);
    Ok(permute(x, &order))
}
/// The transpose of a matrix; any other number of axes is an error (`mT`: the last two).
pub fn matrix_t(x: &Tensor) -> Result<Tensor> {
    if x.ndim() != 2 {
        return Err(Error::value(
            "T",
            format!(
                "takes a matrix, not shape {} (use mT for the last two axes, or permute_dims)",
                x.shape()
            ),
        ));
    }
    transpose(x, 0, 1)
}
/// The last two axes swapped.
pub fn matrix_mt(x: &Tensor) -> Result<Tensor> {
    if x.ndim() < 2 {
        return Err(Error::value(
            "mT",
            format!("takes at least two axes, not shape {}", x.shape()),
        ));
    }
    transpose(x, -2, -1)
}
/// A view without axes of size 1: those named, or all of them.
pub fn squeeze(x: &Tensor, axis: Option<&[isize]>) -> Result<Tensor> {
    let axes = match axis {
        None => (0..x.ndim()).filter(|&d| x.shape()[d] == 1).collect(),
        Some(_) => normalize_axes("squeeze", axis, x.ndim())?,
    };
    if let Some(&d) = axes.iter().find(|&&d| x.shape()[d] != 1) {
        return Err(Error::value(
            "squeeze",
            format!(
                "axis {d} has size {}, not 1, in shape {}",
                x.shape()[d],
                x.shape()
            ),
        ));
    }
    let kept = (0..x.ndim()).filter(|d| !axes.contains(d));
    reshape_to("squeeze", x, kept.map(|d| x.shape()[d]).collect())
}
/// A view with a new axis of size 1 at position `axis` of the result.
pub fn expand_dims(x: &Tensor, axis: isize) -> Result<Tensor> {
    let a = normalize_axis("expand_dims", axis, x.ndim() + 1)?;
    let mut shape = x.shape().clone();
    shape.insert(a, 1);
    reshape_to("expand_dims", x, shape)
}
/// A repeating view of a larger shape. Gradient: summed over the repeated axes.
pub fn broadcast_to(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    if x.shape()[..] == *shape {
        return Ok(x.clone());
    }
    let out = crate::Value {
        layout: x.layout().broadcast_to("broadcast_to", shape)?,
        storage: x.storage(),
    };
    Ok(record_view("broadcast_to", x, out, || {
        vjp(|_, g, _| Ok(vec![Some(g.clone())])) // the engine sums a gradient down to its receiver's shape
    }))
}
/// A view with the elements along `axis` (default all axes) in reverse.
pub fn flip(x: &Tensor, axis: Option<&[isize]>) -> Result<Tensor> {
    let axes = normalize_axes("flip", axis, x.ndim())?;
    Ok(flip_axes(x, &axes))
}
fn flip_axes(x: &Tensor, axes: &[usize]) -> Tensor {
    let spans: Vec<Span> = (0..x.ndim())
        .map(|d| {
            let len = x.shape()[d];
            if axes.contains(&d) {
                Span {
                    start: len.saturating_sub(1),
                    step: -1,
                    len,
                }
            } else {
                Span {
                    start: 0,
                    step: 1,
                    len,
                }
            }
        })
        .collect();
    let out = crate::Value {
        storage: x.storage(),
        layout: x.layout().slice(&spans),
    };
    record_view("flip", x, out, || {
        let axes = Shape::from_slice(axes);
        vjp(move |_, g, _| Ok(vec![Some(flip_axes(g, &axes))]))
    })
}

/// The tensors one after another along `axis`; all other sizes must agree, dtypes are promoted. Gradient: the matching parts.
pub fn concat(tensors: &[&Tensor], axis: isize) -> Result<Tensor> {
    const OP: &str = "concat";
    let Some(first) = tensors.first() else {
        return Err(Error::value(
            OP,
            "needs at least one tensor, got an empty sequence",
        ));
    };
    let axis = normalize_axis(OP, axis, first.ndim())?;
    let mut shape = first.shape().clone();
    let mut dtype = first.dtype();
    for (i, t) in tensors.iter().enumerate().skip(1) {
        check_device(OP, first, t)?;
        dtype = dtype.promote(t.dtype());
        let fits = t.ndim() == shape.len()
            && (0..shape.len()).all(|d| d == axis || t.shape()[d] == shape[d]);
        if !fits {
            return Err(Error::shape(
                OP,
                format!(
                    "tensor {i} of shape {} does not continue one of shape {} along axis {axis}: all other sizes must agree",
                    t.shape(),
                    first.shape()
                ),
            ));
        }
        shape[axis] = shape[axis].saturating_add(t.shape()[axis]); // an absurd sum fails at allocation
    }
    let backend = dispatch(first.device());
    let mut out = backend_uninit(first, &shape, dtype)?;
    let whole = Layout::contiguous(shape);
    let mut at = 0;
    let mut sizes = Shape::new();
    for t in tensors {
        let n = t.shape()[axis];
        if t.numel() > 0 {
            let v = backend.cast(&t.value(), dtype)?;
            backend.copy_into(&v, &mut out, &whole.narrow(axis, at, n))?;
        }
        at += n;
        sizes.push(n);
    }
    let out = crate::Value {
        storage: out.into(),
        layout: whole,
    };
    Ok(record(OP, tensors, out, |_| {
        vjp(move |_, g, needs| {
            let mut at = 0;
            let each = sizes.iter().zip(needs);
            each.map(|(&n, &need)| {
                let part = need.then(|| slice_axis(g, axis, at, n)).transpose();
                at += n;
                part
            })
            .collect()
        })
    }))
}
fn backend_uninit(like: &Tensor, shape: &[usize], dtype: crate::DType) -> Result<crate::Storage> {
    crate::Storage::shaped(dtype, shape, like.device())
}
/// Tensors of one shape along a new axis at position `axis` of the result.
pub fn stack(tensors: &[&Tensor], axis: isize) -> Result<Tensor> {
    const OP: &str = "stack";
    let Some(first) = tensors.first() else {
        return Err(Error::value(
            OP,
            "needs at least one tensor, got an empty sequence",
        ));
    };
    let a = normalize_axis(OP, axis, first.ndim() + 1)? as isize;
    if let Some((i, t)) = tensors
        .iter()
        .enumerate()
        .find(|(_, t)| t.shape() != first.shape())
    {
        return Err(Error::shape(
            OP,
            format!(
                "all tensors must have one shape, but tensor 0 has {} and tensor {i} {}",
                first.shape(),
                t.shape()
            ),
        ));
    }
    let each: Vec<Tensor> = tensors
        .iter()
        .map(|t| expand_dims(t, a))
        .collect::<Result<_>>()?;
    concat(&each.iter().collect::<Vec<_>>(), a)
}

/// How [`split`] divides.
#[derive(Clone, Copy, Debug)]
pub enum Sections<'a> {
    /// Into this many equal parts.
    Parts(usize),
    /// Before each of these indices (NumPy's rule: negative counts from the end, out of range is cut off).
    At(&'a [isize]),
}
/// Views of consecutive parts along `axis`. Gradient: the parts' gradients concatenated.
pub fn split(x: &Tensor, sections: Sections<'_>, axis: isize) -> Result<Vec<Tensor>> {
    const OP: &str = "split";
    let axis = normalize_axis(OP, axis, x.ndim())?;
    let n = x.shape()[axis];
    let bounds: Vec<(usize, usize)> = match sections {
        Sections::Parts(k) => {
            if k == 0 || !n.is_multiple_of(k) {
                return Err(Error::value(
                    OP,
                    format!(
                        "axis {axis} of size {n} does not split into {k} equal parts (pass the indices to split at)"
                    ),
                ));
            }
            // An axis of no elements splits into any number of parts, more than there is memory for included.
            try_collect((0..k).map(|i| (i * (n / k), n / k)))?
        }
        Sections::At(cuts) => {
            let mut out = Vec::with_capacity(cuts.len() + 1);
            let place =
                |c: isize| (if c < 0 { c + n as isize } else { c }).clamp(0, n as isize) as usize;
            let mut start = 0;
            for &c in cuts {
                let end = place(c);
                out.push((start, end.saturating_sub(start)));
                start = end;
            }
            out.push((start, n - start));
            out
        }
    };
    let storage = x.storage();
    let values = bounds.iter().map(|&(start, len)| crate::Value {
        storage: storage.clone(),
        layout: x.layout().narrow(axis, start, len),
    });
    let disjoint = bounds.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0);
    if !disjoint {
        // Cuts that go back make parts overlap: each is then a slice of its own.
        return bounds
            .iter()
            .map(|&(start, len)| slice_axis(x, axis, start, len))
            .collect();
    }
    let (shapes, dtype, device): (Vec<Shape>, _, _) = (
        values.clone().map(|v| v.shape().clone()).collect(),
        x.dtype(),
        x.device(),
    );
    let outs = values.collect();
    Ok(record_many(OP, &[x], outs, true, |_| {
        move |_: &crate::Ctx<'_>, grads: &[Option<Tensor>], _: &[bool]| {
            let each = grads.iter().zip(&shapes);
            let parts: Vec<Tensor> = each
                .map(|(g, shape)| match g {
                    Some(g) => Ok(g.clone()),
                    None => zeros(shape, dtype, device),
                })
                .collect::<Result<_>>()?;
            let refs: Vec<&Tensor> = parts.iter().collect();
            Ok(vec![Some(concat(&refs, axis as isize)?)])
        }
    }))
}
/// `len` elements from `start` along one axis, as a view.
pub(crate) fn slice_axis(x: &Tensor, axis: usize, start: usize, len: usize) -> Result<Tensor> {
    let spans = (0..x.ndim()).map(|d| match d == axis {
        true => Span {
            start,
            step: 1,
            len,
        },
        false => Span {
            start: 0,
            step: 1,
            len: x.shape()[d],
        },
    });
    slice_spans(x, spans.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DEVICES, check, irregular, numbers};
    use crate::{DType, Device};

    const D: Device = Device::Cpu;

    fn count(shape: &[usize]) -> Tensor {
        let n = numel(shape);
        let data: Vec<i64> = (0..n as i64).collect();
        Tensor::from_slice(&data, shape).unwrap()
    }

    #[test]
    fn views_share_and_copies_do_not() {
        let x = count(&[2, 3]);
        let same = |y: &Tensor| y.storage().as_ptr() == x.storage().as_ptr();
        for y in [
            reshape(&x, &[3, -1]).unwrap(),
            flatten(&x, 0, -1).unwrap(),
            permute_dims(&x, &[1, 0]).unwrap(),
            expand_dims(&x, -1).unwrap(),
            squeeze(&expand_dims(&x, 0).unwrap(), None).unwrap(),
            broadcast_to(&x, &[4, 2, 3]).unwrap(),
            flip(&x, None).unwrap(),
        ] {
            assert!(same(&y) && y.is_view(), "{y:?}");
        }
        let t = matrix_t(&x).unwrap();
        assert_eq!(numbers(&t), [0., 3., 1., 4., 2., 5.]);
        let flat = reshape(&t, &[6]).unwrap();
        assert!(!same(&flat) && !flat.is_view());
        assert_eq!(numbers(&flat), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(
            numbers(&flip(&x, Some(&[1])).unwrap()),
            [2., 1., 0., 5., 4., 3.]
        );
        assert_eq!(reshape(&count(&[0, 3]), &[3, 0]).unwrap().numel(), 0);
        assert_eq!(flatten(&count(&[]), 0, -1).unwrap().shape()[..], [1]);
    }

    #[test]
    fn wrong_arguments_are_named() {
        let x = count(&[2, 3]);
        let shape_error = |r: Result<Tensor>| matches!(r, Err(Error::Shape(_)));
        assert!(shape_error(reshape(&x, &[4])));
        assert!(shape_error(reshape(&x, &[-1, -1])));
        assert!(shape_error(reshape(&x, &[-1, 4])));
        assert!(shape_error(reshape(&count(&[0]), &[-1, 0])));
        assert!(shape_error(broadcast_to(&x, &[2, 4])));
        assert!(shape_error(concat(&[&x, &count(&[2])], 0)));
        assert!(shape_error(stack(&[&x, &count(&[2])], 0)));
        assert!(permute_dims(&x, &[0, 0]).is_err());
        assert!(permute_dims(&x, &[0]).is_err());
        assert!(squeeze(&x, Some(&[0])).is_err());
        assert!(split(&x, Sections::Parts(2), 1).is_err());
        assert!(matrix_t(&count(&[3])).is_err());
        assert!(concat(&[], 0).is_err());
    }

    #[test]
    fn parts_and_wholes() {
        for d in DEVICES {
            let x = crate::ops::to_device(&count(&[2, 3]), d).unwrap();
            let f = crate::ops::astype(&x, DType::F32).unwrap();
            let y = concat(&[&x, &f], -1).unwrap();
            assert_eq!(y.dtype(), DType::F32);
            assert_eq!(
                numbers(&y),
                [0., 1., 2., 0., 1., 2., 3., 4., 5., 3., 4., 5.]
            );
            let s = stack(&[&x, &x], 1).unwrap();
            assert_eq!(s.shape()[..], [2, 2, 3]);
            let parts = split(&y, Sections::At(&[1, -1]), 1).unwrap();
            let sizes: Vec<usize> = parts.iter().map(|p| p.shape()[1]).collect();
            assert_eq!(sizes, [1, 4, 1]);
            assert_eq!(numbers(&parts[2]), [2.0, 5.0]);
            let overlapping = split(&x, Sections::At(&[2, 1]), 1).unwrap();
            let sizes: Vec<usize> = overlapping.iter().map(|p| p.shape()[1]).collect();
            assert_eq!(sizes, [2, 0, 2]);
        }
    }

    #[test]
    fn gradients() {
        let s: &[&[usize]] = &[&[2, 3, 4]];
        let square = crate::ops::square;
        check(s, false, |x| square(&reshape(&x[0], &[4, -1])?));
        check(s, false, |x| square(&permute_dims(&x[0], &[2, 0, 1])?));
        check(s, false, |x| {
            square(&flatten(&transpose(&x[0], 0, -1)?, 0, 1)?)
        });
        check(s, false, |x| square(&expand_dims(&x[0], 1)?));
        check(s, false, |x| square(&flip(&x[0], Some(&[0, 2]))?));
        check(&[&[3, 1]], false, |x| {
            square(&broadcast_to(&x[0], &[2, 3, 4])?)
        });
        check(&[&[2, 3], &[2, 1]], false, |x| {
            square(&concat(&[&x[0], &x[1], &x[0]], 1)?)
        });
        check(&[&[2, 3], &[2, 3]], false, |x| {
            square(&stack(&[&x[0], &x[1]], -1)?)
        });
        check(s, false, |x| {
            let parts = split(&x[0], Sections::At(&[1, 3]), 2)?;
            crate::ops::multiply(&square(&parts[0])?, &parts[1])
        });
    }

    #[test]
    fn a_move_between_devices_has_a_gradient() {
        let x = irregular(&[3], 0, D);
        let y = crate::ops::to_device(&x, Device::Reference).unwrap();
        assert_eq!(y.device(), Device::Reference);
        let e = crate::ops::add(&x, &y).unwrap_err();
        assert!(e.to_string().contains(".to('cpu')"), "{e}");
        crate::ops::sum(&y, None, false, None)
            .unwrap()
            .backward(None, false, false)
            .unwrap();
        assert_eq!(x.grad().unwrap().device(), D);
    }
}
