//! Advanced indexing: integer tensors and masks, mixed with the basic entries of [`Index`], by NumPy's rules.
//!
//! The basic part of an index is a view. What is left picks elements along some of the view's axes; the places of the picks in the
//! storage are worked out once, on the host, whatever the layout and however many axes are indexed, and one kernel reads (or writes)
//! them. The gradient adds up rows of `g` by their numbers in the flattened picked axes.

use super::index::{Index, Resolved, check_used, index as basic_index, resolve, scatter_rows};
use super::select::indices;
use super::{Operand, arrange::moveaxis, broadcast_to, full, permute_dims, reshape_to};
use crate::autograd::{record, vjp};
use crate::backend::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::{Layout, c_strides};
use crate::list::{go_on, try_collect};
use crate::shape::{Shape, broadcast_shapes, show};
use crate::tensor::Tensor;
use crate::value::Value;

/// One entry of an index.
#[derive(Clone, Debug)]
pub enum Selector {
    /// An integer, a slice, a new axis or an Ellipsis.
    Basic(Index),
    /// Integers of any shape pick along one axis; a bool mask picks along as many axes as it has, where it is true.
    Tensor(Tensor),
}

/// A whole axis.
pub(super) const WHOLE: Index = Index::Slice {
    start: None,
    stop: None,
    step: None,
};

/// Coordinates along one axis of the basic view.
struct Picked {
    axis: usize,
    coordinates: Vec<i64>,
    /// Their shape, which broadcasts with that of the others.
    shape: Shape,
}

/// An index, taken apart.
struct Plan {
    /// The basic part, in which picked axes are whole.
    basic: Vec<Index>,
    picked: Vec<Picked>,
    /// The shape that picks give the result, `None` when there are no picks: the index is basic.
    shape: Option<Shape>,
    /// How many of the unpicked axes come before it.
    outer: usize,
}

/// Of a result's place for the index axes: none seen yet, inside the first run of advanced entries, behind it, or in a second one.
#[derive(PartialEq)]
enum Run {
    Before,
    Inside,
    Behind,
    Second,
}

fn plan(op: &'static str, x: &Tensor, index: &[Selector]) -> Result<Plan> {
    let width = |s: &Selector| match s {
        Selector::Basic(Index::At(_) | Index::Slice { .. }) => 1,
        Selector::Basic(_) => 0,
        Selector::Tensor(t) if t.dtype() == DType::Bool => t.ndim(),
        Selector::Tensor(_) => 1,
    };
    let used = index.iter().map(width).sum();
    let ellipsis = |s: &&Selector| matches!(s, Selector::Basic(Index::Ellipsis));
    check_used(op, x, used, index.iter().filter(ellipsis).count())?;
    let mut p = Plan {
        basic: Vec::with_capacity(x.ndim()),
        picked: Vec::new(),
        shape: None,
        outer: 0,
    };
    let mut run = Run::Before;
    // Axes that were passed: of x, of the basic view, and those of the view that nothing picks from.
    let (mut d, mut axis, mut unpicked) = (0, 0, 0);
    for s in index {
        let picks = matches!(s, Selector::Tensor(_) | Selector::Basic(Index::At(_)));
        run = match (run, picks) {
            (Run::Before, true) => {
                p.outer = unpicked;
                Run::Inside
            }
            (Run::Inside, false) => Run::Behind,
            (Run::Behind, true) => Run::Second,
            (same, _) => same,
        };
        let t = match s {
            Selector::Basic(i) => {
                let (passed, kept) = match i {
                    Index::At(_) => (1, 0),
                    Index::Slice { .. } => (1, 1),
                    Index::NewAxis => (0, 1),
                    Index::Ellipsis => (x.ndim() - used, x.ndim() - used),
                };
                (d, axis, unpicked) = (d + passed, axis + kept, unpicked + kept);
                p.basic.push(*i);
                continue;
            }
            Selector::Tensor(t) => t,
        };
        let (coordinates, shape) = if t.dtype() == DType::Bool {
            mask(op, x, d, t)?
        } else {
            let idx = indices(op, t, d, x.shape()[d])?;
            if t.ndim() == 0 {
                // As an integer: the axis disappears.
                d += 1;
                p.basic.push(Index::At(idx[0] as isize));
                continue;
            }
            (vec![idx], t.shape().clone())
        };
        p.shape = Some(match &p.shape {
            None => shape.clone(),
            Some(other) => broadcast_shapes(op, other, &shape).map_err(|_| {
                Error::index(
                    op,
                    format!("indices of shapes {other} and {shape} do not broadcast"),
                )
            })?,
        });
        for coordinates in coordinates {
            p.basic.push(WHOLE);
            p.picked.push(Picked {
                axis,
                coordinates,
                shape: shape.clone(),
            });
            (d, axis) = (d + 1, axis + 1);
        }
    }
    if run == Run::Second {
        p.outer = 0;
    }
    Ok(p)
}

/// The coordinates of the true elements of a mask over the axes of `x` from `first` on, a vector for each axis, and their shape.
/// A mask without axes picks once or not at all, from no axis.
fn mask(
    op: &'static str,
    x: &Tensor,
    first: usize,
    mask: &Tensor,
) -> Result<(Vec<Vec<i64>>, Shape)> {
    for (i, &n) in mask.shape().iter().enumerate() {
        let size = x.shape()[first + i];
        if n != size {
            return Err(Error::index(
                op,
                format!(
                    "a mask of shape {} does not fit: its axis {i} has size {n}, axis {} of the tensor of shape {} has size {size}",
                    mask.shape(),
                    first + i,
                    x.shape()
                ),
            ));
        }
    }
    let set = mask.to_vec::<u8>()?;
    let count = set.iter().filter(|&&b| b != 0).count();
    let zeros = |_| try_collect((0..count).map(|_| 0i64));
    let mut out = (0..mask.ndim()).map(zeros).collect::<Result<Vec<_>>>()?;
    let Some((last, lead)) = out.split_last_mut() else {
        return Ok((out, Shape::from([count])));
    };
    // Row by row: only the last coordinate differs within one.
    let (sizes, n) = (&mask.shape()[..lead.len()], mask.shape()[lead.len()]);
    let mut done = 0;
    for (row, set) in set.chunks_exact(n.max(1)).enumerate() {
        let first = done;
        for (i, &b) in set.iter().enumerate() {
            // Without a branch, which a random mask would make the processor guess: what is no pick is written over.
            if let Some(place) = last.get_mut(done) {
                *place = i as i64;
            }
            done += usize::from(b != 0);
        }
        let mut rest = row;
        for (coordinates, &n) in lead.iter_mut().zip(sizes).rev() {
            coordinates[first..done].fill((rest % n) as i64);
            rest /= n;
        }
    }
    Ok((out, Shape::from([count])))
}

impl Plan {
    /// For each pick, in C order, the sum of its coordinates times the `strides` of their axes (one stride per picked axis).
    fn places(&self, shape: &Shape, strides: &[i64]) -> Result<Vec<i64>> {
        let mut out = try_collect((0..shape.numel()).map(|_| 0i64))?;
        for (p, &stride) in self.picked.iter().zip(strides) {
            if p.shape == *shape {
                for (o, i) in out.iter_mut().zip(&p.coordinates) {
                    *o += i * stride;
                }
                continue;
            }
            let steps = Layout::contiguous(p.shape.clone()).broadcast_strides(shape);
            let mut counter = Shape::filled(0, shape.len());
            let mut from = 0;
            for o in &mut out {
                *o += p.coordinates[from as usize] * stride;
                for d in (0..shape.len()).rev() {
                    counter[d] += 1;
                    from += steps[d];
                    if counter[d] < shape[d] {
                        break;
                    }
                    from -= steps[d] * shape[d] as isize;
                    counter[d] = 0;
                }
            }
            go_on(1e-3 * out.len() as f64)?;
        }
        Ok(out)
    }
    /// The same as distances in a storage that is laid out so.
    fn distances(&self, shape: &Shape, view: &Layout) -> Result<Vec<i64>> {
        let strides = self.picked.iter().map(|p| view.strides()[p.axis] as i64);
        self.places(shape, &strides.collect::<Vec<_>>())
    }
    /// `view` without the picked axes: the place of coordinate 0 on each of them.
    fn without_picked(&self, view: &Layout) -> Layout {
        let picked = |d: &usize| self.picked.iter().any(|p| p.axis == *d);
        let rest: Shape = (0..view.ndim()).filter(|d| !picked(d)).collect();
        view.permute(&rest)
    }
    /// `rest`, the sizes of the unpicked axes, with `middle` where the picks come.
    fn around(&self, rest: &[usize], middle: &[usize]) -> Shape {
        let (outer, inner) = rest.split_at(self.outer);
        Shape::from_slice(&[outer, middle, inner].concat())
    }
}

/// An int64 vector on the device of `like`.
fn vector(from: &[i64], like: &Tensor) -> Result<Value> {
    Value::from_slice(from, [from.len()], like.device())
}

/// `x[index]` by NumPy's rules.
///
/// * Integer tensors pick along one axis each and broadcast with one another; a mask stands for the coordinates of its true
///   elements. The axes of the broadcast indices take the place of the indexed axes, if these are adjacent (integers count), and
///   come first otherwise.
/// * A bool without axes picks once or not at all from a new axis.
/// * Without index tensors the result is a view.
///
/// Gradient: `g` added up where each element came from, in C order of the picks; any order of gradient.
///
/// Errors: `Index` for indices out of range, masks of another size, shapes that do not broadcast and too many entries; `Dtype` for
/// index tensors that are neither bool nor integers.
pub fn get_item(x: &Tensor, index: &[Selector]) -> Result<Tensor> {
    get("getitem", x, index)
}
/// [`get_item`] by the name under which errors and the graph know it.
pub(super) fn get(op: &'static str, x: &Tensor, index: &[Selector]) -> Result<Tensor> {
    let p = plan(op, x, index)?;
    let Some(shape) = p.shape.clone() else {
        return basic_index(x, &p.basic);
    };
    let whole = |i: &Index| matches!(i, Index::Ellipsis) || *i == WHOLE;
    let view = if p.basic.iter().all(whole) {
        x.clone()
    } else {
        basic_index(x, &p.basic)?
    };
    let rest = Value {
        storage: view.storage(),
        layout: p.without_picked(view.layout()),
    };
    let at = vector(&p.distances(&shape, view.layout())?, x)?;
    let picked = dispatch(x.device()).gather(&rest, p.outer, &at)?;
    let out = picked.with_layout(Layout::contiguous(p.around(rest.shape(), &shape)));
    Ok(record(op, &[&view], out, |_| {
        let sizes: Shape = p.picked.iter().map(|p| view.shape()[p.axis]).collect();
        let strides: Vec<i64> = c_strides(&sizes).iter().map(|&s| s as i64).collect();
        let (rest, full) = (rest.shape().clone(), view.shape().clone());
        vjp(move |_, g, _| {
            let rows = p.places(&shape, &strides)?;
            // The picks first: rows, which are added up by their numbers in the flattened picked axes.
            let g = reshape_to(op, g, p.around(&rest, &[rows.len()]))?;
            let g = moveaxis(&g, &[p.outer as isize], &[0])?;
            let sums = scatter_rows(&g, sizes.numel(), &vector(&rows, &g)?)?;
            let unfolded = [&sizes[..], &rest[..]].concat();
            let sums = reshape_to(op, &sums, Shape::from_slice(&unfolded))?;
            // Back to the order of the view's axes.
            let mut ahead = p.picked.len();
            let axes = (0..full.len()).map(|d| {
                let place = p.picked.iter().position(|p| p.axis == d);
                place.unwrap_or_else(|| {
                    ahead += 1;
                    ahead - 1
                }) as isize
            });
            Ok(vec![Some(permute_dims(&sums, &axes.collect::<Vec<_>>())?)])
        })
    }))
}

/// `x[index] = value`, broadcast and cast; of several values for one element the last in C order remains. `x` must be a leaf that
/// is no view (a view's write would be lost); whatever shares the old contents keeps them.
///
/// Errors: as [`get_item`]; `Value` for a view, `Graph` for the result of an operation, `Shape` for a value that does not broadcast.
pub fn set_item<'a>(x: &Tensor, index: &[Selector], value: impl Into<Operand<'a>>) -> Result<()> {
    const OP: &str = "setitem";
    if x.is_view() {
        return Err(Error::value(
            OP,
            "this tensor is a view: its elements are shared with another tensor, which would not see the write \
             (use clone() first, or assign to the original)",
        ));
    }
    let p = plan(OP, x, index)?;
    let Resolved { layout: view, .. } = resolve(OP, x, &p.basic)?;
    let scalar;
    let value = match value.into() {
        Operand::Tensor(t) => t,
        Operand::Scalar(s) => {
            s.check_fits(OP, x.dtype())?;
            scalar = full(&[], s, x.dtype(), x.device())?;
            &scalar
        }
    };
    let Some(shape) = &p.shape else {
        return x.assign_at(OP, &view, &fitted(OP, value, view.shape())?);
    };
    let rest = p.without_picked(&view);
    let values = fitted(OP, value, &p.around(rest.shape(), shape))?;
    let flat = p.around(rest.shape(), &[shape.numel()]);
    let at = vector(&p.distances(shape, &view)?, x)?;
    x.put_at(OP, &rest, p.outer, &at, &reshape_to(OP, &values, flat)?)
}
/// `value` broadcast to the part that is written; leading axes of size 1 may be too many.
fn fitted(op: &'static str, value: &Tensor, part: &Shape) -> Result<Tensor> {
    let value = value.detach();
    let extra = value.ndim().saturating_sub(part.len());
    let fits = value.shape()[..extra].iter().all(|&n| n == 1);
    let trimmed = Shape::from_slice(&value.shape()[extra..]);
    let wide = fits.then(|| broadcast_to(&reshape_to(op, &value, trimmed)?, part));
    match wide {
        Some(Ok(v)) => Ok(v),
        _ => Err(Error::shape(
            op,
            format!(
                "a value of shape {} does not broadcast to the part of shape {}",
                value.shape(),
                show(part)
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::ops::square;
    use crate::testing::{DEVICES, check, numbers};

    fn count(shape: &[usize], d: Device) -> Tensor {
        let data: Vec<i64> = (0..crate::shape::numel(shape) as i64).collect();
        ints(&data, shape, d)
    }
    fn ints(data: &[i64], shape: &[usize], d: Device) -> Tensor {
        Tensor::from_slice_on(data, shape, DType::I64, d).unwrap()
    }
    fn pick(data: &[i64], shape: &[usize], x: &Tensor) -> Selector {
        Selector::Tensor(ints(data, shape, x.device()))
    }
    fn mask(data: &[u8], shape: &[usize], x: &Tensor) -> Selector {
        Selector::Tensor(Tensor::from_slice_on(data, shape, DType::Bool, x.device()).unwrap())
    }
    fn at(i: isize) -> Selector {
        Selector::Basic(Index::At(i))
    }
    const ALL: Selector = Selector::Basic(WHOLE);

    #[test]
    fn index_axes_stay_in_place_when_adjacent_and_else_come_first() {
        for d in DEVICES {
            let x = count(&[2, 3, 4, 5], d);
            let i = || pick(&[0, 1, 1, 0, 1, 0], &[3, 2], &x);
            let shape = |index: &[Selector]| get_item(&x, index).unwrap().shape().to_vec();
            assert_eq!(shape(&[ALL, i(), i()]), [2, 3, 2, 5]);
            assert_eq!(shape(&[ALL, i(), at(0)]), [2, 3, 2, 5]);
            assert_eq!(shape(&[at(0), ALL, i()]), [3, 2, 3, 5]);
            assert_eq!(shape(&[i(), ALL, i()]), [3, 2, 3, 5]);
            let two = mask(&[1, 0, 1, 0, 0, 1], &[2, 3], &x);
            assert_eq!(shape(&[two]), [3, 4, 5]);
        }
    }

    #[test]
    fn items_are_written_by_value() {
        for d in DEVICES {
            let x = count(&[2, 3], d);
            let old = x.detach();
            let back = Selector::Basic(Index::Slice {
                start: None,
                stop: None,
                step: Some(-2),
            });
            set_item(&x, &[ALL, back], &count(&[2, 1], d)).unwrap();
            assert_eq!(numbers(&x), [0., 1., 0., 1., 4., 1.]);
            set_item(&x, &[at(0)], 7).unwrap();
            assert_eq!(numbers(&x), [7., 7., 7., 1., 4., 1.]);
            assert_eq!(numbers(&old), [0., 1., 2., 3., 4., 5.]);
            let view = get_item(&x, &[at(0)]).unwrap();
            let e = set_item(&view, &[at(0)], 1).unwrap_err();
            assert!(e.to_string().contains("is a view"), "{e}");
            assert!(set_item(&x, &[at(0)], &count(&[2], d)).is_err());
            let b = crate::ops::broadcast_to(&count(&[1], d), &[3]).unwrap();
            assert!(b.assign(&count(&[3], d)).is_err());
        }
    }

    #[test]
    fn the_last_of_several_writes_remains() {
        for d in DEVICES {
            let x = count(&[2, 3], d);
            set_item(
                &x,
                &[ALL, pick(&[0, 2, 0], &[3], &x)],
                &ints(&[7, 8, 9], &[3], d),
            )
            .unwrap();
            assert_eq!(numbers(&x), [9., 1., 8., 9., 4., 8.]);
            set_item(&x, &[mask(&[0, 1, 0, 0, 0, 1], &[2, 3], &x)], -1).unwrap();
            assert_eq!(numbers(&x), [9., -1., 8., 9., 4., -1.]);
        }
    }

    #[test]
    fn errors_name_axis_index_and_size() {
        let x = count(&[2, 3], Device::Cpu);
        let text = |index: &[Selector]| get_item(&x, index).unwrap_err().to_string();
        assert_eq!(
            text(&[ALL, pick(&[0, -4], &[2], &x)]),
            "[getitem] index -4 is out of range for axis 1 of size 3"
        );
        assert_eq!(
            text(&[mask(&[1, 0, 1], &[3], &x)]),
            "[getitem] a mask of shape (3,) does not fit: its axis 0 has size 3, axis 0 of the tensor of shape (2, 3) has size 2"
        );
        assert_eq!(
            text(&[pick(&[0, 1], &[2], &x), pick(&[0, 1, 2], &[3], &x)]),
            "[getitem] indices of shapes (2,) and (3,) do not broadcast"
        );
        let three = mask(&[1; 6], &[1, 2, 3], &x);
        assert!(text(&[three]).contains("3 indices for a tensor with 2 axes"));
    }

    #[test]
    fn gradients() {
        check(&[&[2, 3, 2]], false, |x| {
            let index = [
                pick(&[1, 0, 1], &[3], &x[0]),
                ALL,
                pick(&[1, 1, 1], &[3], &x[0]),
            ];
            square(&get_item(&x[0], &index)?)
        });
        check(&[&[3, 4]], false, |x| {
            square(&get_item(&x[0], &[ALL, pick(&[3, 3, 0], &[3], &x[0])])?)
        });
        check(&[&[2, 3]], false, |x| {
            square(&get_item(
                &x[0],
                &[mask(&[1, 0, 1, 0, 0, 1], &[2, 3], &x[0])],
            )?)
        });
    }
}
