//! Indexing: basic (integers, slices, None, Ellipsis: views), item assignment, and rows by index tensor.

use crate::autograd::{record, record_view, vjp};
use crate::backend::dispatch;
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::layout::{Layout, Span};
use crate::ops::{Operand, astype, broadcast_to, full, less, max, min, reshape_to, r#where};
use crate::shape::Shape;
use crate::tensor::{Tensor, Value, check_device};

/// One entry of a basic index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// One element of an axis, which disappears; negative counts from the end.
    At(isize),
    /// `start:stop:step` with Python's rules.
    Slice {
        /// First (default: the beginning in the direction of `step`).
        start: Option<isize>,
        /// Before which to stop (default: the end).
        stop: Option<isize>,
        /// Distance (default 1), not 0.
        step: Option<isize>,
    },
    /// A new axis of size 1.
    NewAxis,
    /// As many whole axes as are left; at most once.
    Ellipsis,
}

/// One [`Span`] per axis.
pub(crate) type Spans = smallvec::SmallVec<[Span; 4]>;

/// A resolved basic index.
struct Resolved {
    /// What of each axis of `x` is taken.
    spans: Spans,
    /// Shape of the result.
    shape: Shape,
    /// Layout of the result in `x`'s storage.
    layout: Layout,
}

/// Python's `slice.indices(n)`: start, step and number of elements.
fn span(
    op: &'static str,
    n: usize,
    start: Option<isize>,
    stop: Option<isize>,
    step: Option<isize>,
) -> Result<Span> {
    let n = n as isize;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Error::value(op, "the step of a slice must not be 0"));
    }
    let (low, high) = if step > 0 { (0, n) } else { (-1, n - 1) };
    let place = |i: Option<isize>, default: isize| match i {
        None => default,
        Some(i) if i < 0 => i.saturating_add(n).max(low),
        Some(i) => i.min(high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (start, stop) = (place(start, first), place(stop, last));
    let len = if step > 0 {
        (stop - start).max(0) as usize
    } else {
        (start - stop).max(0) as usize
    };
    let len = len.div_ceil(step.unsigned_abs());
    Ok(Span {
        start: if len == 0 { 0 } else { start as usize },
        step: if len <= 1 { 1 } else { step },
        len,
    })
}

fn resolve(op: &'static str, x: &Tensor, index: &[Index]) -> Result<Resolved> {
    let used = index
        .iter()
        .filter(|i| matches!(i, Index::At(_) | Index::Slice { .. }))
        .count();
    if used > x.ndim() {
        return Err(Error::index(
            op,
            format!(
                "{used} indices for a tensor with {} axes, shape {}",
                x.ndim(),
                x.shape()
            ),
        ));
    }
    if index
        .iter()
        .filter(|i| matches!(i, Index::Ellipsis))
        .count()
        > 1
    {
        return Err(Error::index(
            op,
            "an index can hold only one Ellipsis (...)",
        ));
    }
    let mut spans = Spans::new();
    let mut shape = Shape::new();
    // Per axis of the result: the axis of `x` that it comes from.
    let mut from: Vec<Option<usize>> = Vec::new();
    let whole = |spans: &mut Spans, shape: &mut Shape, from: &mut Vec<Option<usize>>| {
        let d = spans.len();
        spans.push(Span {
            start: 0,
            step: 1,
            len: x.shape()[d],
        });
        shape.push(x.shape()[d]);
        from.push(Some(d));
    };
    for i in index {
        let d = spans.len();
        match *i {
            Index::At(i) => {
                let n = x.shape()[d] as isize;
                if i < -n || i >= n {
                    return Err(Error::index(
                        op,
                        format!("index {i} is out of range for axis {d} of size {n}"),
                    ));
                }
                let start = if i < 0 { i + n } else { i } as usize;
                spans.push(Span {
                    start,
                    step: 1,
                    len: 1,
                });
            }
            Index::Slice { start, stop, step } => {
                let s = span(op, x.shape()[d], start, stop, step)?;
                spans.push(s);
                shape.push(s.len);
                from.push(Some(d));
            }
            Index::NewAxis => {
                shape.push(1);
                from.push(None);
            }
            Index::Ellipsis => {
                for _ in used..x.ndim() {
                    whole(&mut spans, &mut shape, &mut from);
                }
            }
        }
    }
    while spans.len() < x.ndim() {
        whole(&mut spans, &mut shape, &mut from);
    }
    let part = x.layout().slice(&spans);
    let strides = from.iter().map(|d| d.map_or(0, |d| part.strides()[d]));
    let layout = Layout::new(shape.clone(), strides.collect(), part.offset());
    Ok(Resolved {
        spans,
        shape,
        layout,
    })
}

/// `x[index]`: a view. Gradient: `g` at the chosen elements, 0 elsewhere.
pub fn index(x: &Tensor, index: &[Index]) -> Result<Tensor> {
    let r = resolve("getitem", x, index)?;
    let out = Value {
        storage: x.storage(),
        layout: r.layout,
    };
    Ok(record_view("getitem", x, out, || {
        let (shape, spans) = (x.shape().clone(), r.spans);
        let part: Shape = spans.iter().map(|s| s.len).collect();
        vjp(move |_, g, _| {
            let g = reshape_to("getitem", g, part.clone())?;
            Ok(vec![Some(unslice(&g, &shape, &spans)?)])
        })
    }))
}
/// The part of `x` that `spans` (one per axis) names, as a view.
pub(crate) fn slice_spans(x: &Tensor, spans: Spans) -> Result<Tensor> {
    let out = Value {
        storage: x.storage(),
        layout: x.layout().slice(&spans),
    };
    Ok(record_view("slice", x, out, || {
        let shape = x.shape().clone();
        vjp(move |_, g, _| Ok(vec![Some(unslice(g, &shape, &spans)?)]))
    }))
}
/// The transpose of [`slice_spans`]: zeros of `shape` with `g` at the place of the spans.
fn unslice(g: &Tensor, shape: &Shape, spans: &Spans) -> Result<Tensor> {
    let backend = dispatch(g.device());
    let mut out = backend.full(shape, g.dtype(), Scalar::Int(0))?;
    let at = out.layout.slice(spans);
    backend.copy_into(&g.value(), crate::storage::make_mut(&mut out.storage)?, &at)?;
    Ok(record("unslice", &[g], out, |_| {
        let spans = spans.clone();
        vjp(move |_, g, _| Ok(vec![Some(slice_spans(g, spans.clone())?)]))
    }))
}

/// `x[index] = value`, broadcast and cast. `x` must be a leaf that is no view (a view's write would be lost); whatever shares
/// the old contents keeps them.
pub fn set_item<'a>(x: &Tensor, index: &[Index], value: impl Into<Operand<'a>>) -> Result<()> {
    const OP: &str = "setitem";
    if x.is_view() {
        return Err(Error::value(
            OP,
            "this tensor is a view: its elements are shared with another tensor, which would not see the write \
             (use clone() first, or assign to the original)",
        ));
    }
    let r = resolve(OP, x, index)?;
    let scalar;
    let value = match value.into() {
        Operand::Tensor(t) => t,
        Operand::Scalar(s) => {
            s.check_fits(OP, x.dtype())?;
            scalar = full(&[], s, x.dtype(), x.device())?;
            &scalar
        }
    };
    let fits = value.ndim() <= r.shape.len();
    let value = match broadcast_to(&value.detach(), &r.shape) {
        Ok(v) if fits => v,
        _ => {
            return Err(Error::shape(
                OP,
                format!(
                    "a value of shape {} does not broadcast to the part of shape {}",
                    value.shape(),
                    r.shape
                ),
            ));
        }
    };
    x.assign_at(OP, &r.layout, &value)
}

/// `x[indices]` along axis 0: `x (rows, *rest)`, integer `indices` of any shape, result `indices.shape ++ rest`.
/// Negative indices count from the end. Gradient: rows of `g` added up by index, in ascending order.
pub fn take_rows(x: &Tensor, indices: &Tensor) -> Result<Tensor> {
    const OP: &str = "take_rows";
    if x.ndim() == 0 {
        return Err(Error::value(OP, "a tensor without axes has no rows"));
    }
    if !indices.dtype().is_int() {
        return Err(Error::dtype(
            OP,
            format!("indices must be integers, not {}", indices.dtype()),
        ));
    }
    check_device(OP, x, indices)?;
    let rows = x.shape()[0] as i64;
    let mut idx = astype(&indices.detach(), DType::I64)?;
    if idx.numel() > 0 {
        let lo = min(&idx, None, false)?.item()?.to_i64();
        let hi = max(&idx, None, false)?.item()?.to_i64();
        if lo < -rows || hi >= rows {
            let bad = if lo < -rows { lo } else { hi };
            return Err(Error::index(
                OP,
                format!("index {bad} is out of range for {rows} rows"),
            ));
        }
        if lo < 0 {
            let wrapped = crate::ops::add(&idx, rows)?;
            idx = r#where(&less(&idx, 0)?, &wrapped, &idx)?;
        }
    }
    gather(x, &idx.value())
}
fn gather(x: &Tensor, idx: &Value) -> Result<Tensor> {
    let out = dispatch(x.device()).gather_rows(&x.value(), idx)?;
    Ok(record("take_rows", &[x], out, |_| {
        let (rows, idx) = (x.shape()[0], idx.clone());
        vjp(move |_, g, _| Ok(vec![Some(scatter(g, rows, &idx)?)]))
    }))
}
/// The transpose of [`gather`].
fn scatter(g: &Tensor, rows: usize, idx: &Value) -> Result<Tensor> {
    let out = dispatch(g.device()).scatter_add_rows(rows, &g.value(), idx)?;
    Ok(record("scatter_add_rows", &[g], out, |_| {
        let idx = idx.clone();
        vjp(move |_, g, _| Ok(vec![Some(gather(g, &idx)?)]))
    }))
}
