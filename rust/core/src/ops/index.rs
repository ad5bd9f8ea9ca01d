//! Indexing: basic (integers, slices, None, Ellipsis: views), and rows by index tensor.

use crate::autograd::{Backward, Ctx, record, record_view, vjp};
use crate::backend::{Binary, dispatch};
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::layout::{Layout, Span};
use crate::ops::{astype, less, max, min, reshape_to, r#where};
use crate::shape::Shape;
use crate::tensor::{Tensor, check_device};
use crate::value::Value;

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
pub(super) struct Resolved {
    /// What of each axis of `x` is taken.
    spans: Spans,
    /// Layout of the result in `x`'s storage.
    pub(super) layout: Layout,
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

/// Raises when an index addresses more axes than `x` has, or holds more than one Ellipsis.
pub(super) fn check_used(op: &'static str, x: &Tensor, used: usize, ellipses: usize) -> Result<()> {
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
    if ellipses > 1 {
        return Err(Error::index(
            op,
            "an index can hold only one Ellipsis (...)",
        ));
    }
    Ok(())
}

pub(super) fn resolve(op: &'static str, x: &Tensor, index: &[Index]) -> Result<Resolved> {
    let axes = |i: &&Index| matches!(i, Index::At(_) | Index::Slice { .. });
    let used = index.iter().filter(axes).count();
    let ellipses = index.iter().filter(|i| **i == Index::Ellipsis).count();
    check_used(op, x, used, ellipses)?;
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
    let layout = Layout::new(shape, strides.collect(), part.offset());
    Ok(Resolved { spans, layout })
}

/// `x[index]`: a view. Gradient: `g` at the chosen elements, 0 elsewhere.
pub fn index(x: &Tensor, index: &[Index]) -> Result<Tensor> {
    let r = resolve("getitem", x, index)?;
    let out = Value {
        storage: x.storage(),
        layout: r.layout,
    };
    Ok(record_view("getitem", x, out, || Unslice::new(x, r.spans)))
}
/// The part of `x` that `spans` (one per axis) names, as a view.
pub(crate) fn slice_spans(x: &Tensor, spans: Spans) -> Result<Tensor> {
    let out = Value {
        storage: x.storage(),
        layout: x.layout().slice(&spans),
    };
    Ok(record_view("slice", x, out, || Unslice::new(x, spans)))
}
/// The gradient of a part of a tensor: that of the whole is zeros but for the part.
struct Unslice {
    shape: Shape,
    spans: Spans,
    /// Axes from slowest to fastest where the whole is a permuted C order: the gradient gets the same.
    order: Option<Shape>,
}
impl Unslice {
    fn new(x: &Tensor, spans: Spans) -> Self {
        let layout = x.layout();
        let permuted = !layout.is_contiguous();
        Self {
            shape: x.shape().clone(),
            spans,
            order: permuted.then(|| layout.dense_order()).flatten(),
        }
    }
    /// `g` with the axes that an index made disappear.
    fn part(&self, g: &Tensor) -> Result<Tensor> {
        reshape_to("getitem", g, self.spans.iter().map(|s| s.len).collect())
    }
}
impl Backward for Unslice {
    fn vjp(
        &self,
        _: &Ctx<'_>,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        let Some(g) = &grads[0] else {
            return Ok(vec![None; needs.len()]);
        };
        let order = self.order.as_deref();
        let whole = unslice(&self.part(g)?, &self.shape, &self.spans, order)?;
        Ok(vec![Some(whole)])
    }
    fn add_to(&self, grads: &[Option<Tensor>], sum: &mut Option<Tensor>) -> Result<bool> {
        let (Some(g), Some(whole)) = (&grads[0], sum.take()) else {
            return Ok(false);
        };
        let mut whole = match whole.into_owned() {
            Ok(v) if v.layout.is_dense() && v.dtype() == g.dtype() => v,
            Ok(v) => {
                *sum = Some(Tensor::from_value(v));
                return Ok(false);
            }
            Err(shared) => {
                *sum = Some(shared);
                return Ok(false);
            }
        };
        let (backend, g) = (dispatch(g.device()), self.part(g)?.value());
        let at = whole.layout.slice(&self.spans);
        if g.dtype().is_half() {
            let old = whole.with_layout(at.clone());
            let sum = backend.binary(Binary::Add, g.shape(), &old, &g)?;
            drop(old);
            backend.copy_into(&sum, crate::storage::make_mut(&mut whole.storage)?, &at)?;
        } else {
            backend.add_into(&g, crate::storage::make_mut(&mut whole.storage)?, &at)?;
        }
        *sum = Some(Tensor::from_value(whole));
        Ok(true)
    }
}
/// The transpose of [`slice_spans`]: zeros of `shape` with `g` at the place of the spans; in memory the axes lie in `order`.
fn unslice(g: &Tensor, shape: &Shape, spans: &Spans, order: Option<&[usize]>) -> Result<Tensor> {
    let backend = dispatch(g.device());
    let sizes: Shape = match order {
        Some(order) => order.iter().map(|&d| shape[d]).collect(),
        None => shape.clone(),
    };
    let mut out = backend.full(&sizes, g.dtype(), Scalar::Int(0))?;
    if let Some(order) = order {
        let mut place = Shape::filled(0, order.len());
        for (i, &d) in order.iter().enumerate() {
            place[d] = i;
        }
        out.layout = out.layout.permute(&place);
    }
    let at = out.layout.slice(spans);
    backend.copy_into(&g.value(), crate::storage::make_mut(&mut out.storage)?, &at)?;
    Ok(record("unslice", &[g], out, |_| {
        let spans = spans.clone();
        vjp(move |_, g, _| Ok(vec![Some(slice_spans(g, spans.clone())?)]))
    }))
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
    gather_rows(x, &idx.value())
}
/// [`take_rows`] with int64 indices known to be in range.
pub(crate) fn gather_rows(x: &Tensor, idx: &Value) -> Result<Tensor> {
    let out = dispatch(x.device()).gather_rows(&x.value(), idx)?;
    Ok(record("take_rows", &[x], out, |_| {
        let (rows, idx) = (x.shape()[0], idx.clone());
        vjp(move |_, g, _| Ok(vec![Some(scatter_rows(g, rows, &idx)?)]))
    }))
}
/// The transpose of [`gather_rows`]: `rows` rows of zeros, to which the rows of `g` are added in ascending order.
pub(crate) fn scatter_rows(g: &Tensor, rows: usize, idx: &Value) -> Result<Tensor> {
    let out = dispatch(g.device()).scatter_add_rows(rows, &g.value(), idx)?;
    Ok(record("scatter_add_rows", &[g], out, |_| {
        let idx = idx.clone();
        vjp(move |_, g, _| Ok(vec![Some(gather_rows(g, &idx)?)]))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::testing::{DEVICES, check, numbers};

    const ALL: Index = Index::Slice {
        start: None,
        stop: None,
        step: None,
    };

    fn slice(
        start: impl Into<Option<isize>>,
        stop: impl Into<Option<isize>>,
        step: isize,
    ) -> Index {
        Index::Slice {
            start: start.into(),
            stop: stop.into(),
            step: Some(step),
        }
    }
    fn count(shape: &[usize], d: Device) -> Tensor {
        let data: Vec<i64> = (0..crate::shape::numel(shape) as i64).collect();
        Tensor::from_slice_on(&data, shape, DType::I64, d).unwrap()
    }

    #[test]
    fn slices_follow_python() {
        // Expected lists are Python's list(range(5))[a:b:c].
        let x = count(&[5], Device::Cpu);
        let at = |i| numbers(&index(&x, &[i]).unwrap());
        assert_eq!(at(slice(1, 4, 2)), [1., 3.]);
        assert_eq!(at(slice(None, None, -1)), [4., 3., 2., 1., 0.]);
        assert_eq!(at(slice(-2, None, 1)), [3., 4.]);
        assert_eq!(at(slice(None, -10, -2)), [4., 2., 0.]);
        assert_eq!(at(slice(3, 0, -2)), [3., 1.]);
        assert_eq!(at(slice(10, -10, -3)), [4., 1.]);
        assert_eq!(at(slice(3, 1, 1)), [0.0f64; 0]);
        assert_eq!(at(slice(-100, 100, 7)), [0.]);
        assert_eq!(at(slice(None, isize::MIN, isize::MIN)), [4.]);
        assert!(index(&x, &[slice(None, None, 0)]).is_err());
    }

    #[test]
    fn integers_new_axes_and_ellipsis() {
        let x = count(&[2, 3, 4], Device::Cpu);
        let y = index(
            &x,
            &[Index::At(-1), Index::NewAxis, Index::Ellipsis, Index::At(1)],
        )
        .unwrap();
        assert_eq!(y.shape()[..], [1, 3]);
        assert_eq!(numbers(&y), [13., 17., 21.]);
        assert!(y.is_view());
        assert_eq!(index(&x, &[]).unwrap().shape(), x.shape());
        assert!(matches!(index(&x, &[Index::At(2)]), Err(Error::Index(_))));
        assert!(matches!(
            index(&x, &[ALL, ALL, ALL, ALL]),
            Err(Error::Index(_))
        ));
        assert!(matches!(
            index(&x, &[Index::Ellipsis, Index::Ellipsis]),
            Err(Error::Index(_))
        ));
    }

    #[test]
    fn rows_by_index() {
        for d in DEVICES {
            let x = count(&[3, 2], d);
            let i = Tensor::from_slice_on(&[2i32, -3, 0, 2], &[2, 2], DType::I32, d).unwrap();
            let y = take_rows(&x, &i).unwrap();
            assert_eq!(y.shape()[..], [2, 2, 2]);
            assert_eq!(numbers(&y), [4., 5., 0., 1., 0., 1., 4., 5.]);
            let far = Tensor::from_slice_on(&[3i64], &[1], DType::I64, d).unwrap();
            assert!(matches!(take_rows(&x, &far), Err(Error::Index(_))));
            let real = Tensor::from_slice_on(&[0.0f32], &[1], DType::F32, d).unwrap();
            assert!(matches!(take_rows(&x, &real), Err(Error::Dtype(_))));
        }
    }

    #[test]
    fn gradients() {
        let s: &[&[usize]] = &[&[3, 4]];
        let square = crate::ops::square;
        check(s, false, |x| {
            square(&index(&x[0], &[Index::At(1), Index::NewAxis])?)
        });
        check(s, false, |x| {
            square(&index(&x[0], &[slice(None, None, -1), slice(1, 4, 2)])?)
        });
        check(s, false, |x| {
            let i = Tensor::from_slice_on(&[2i64, 0, 2], &[3], DType::I64, x[0].device())?;
            square(&take_rows(&x[0], &i)?)
        });
    }
}
