//! Elements moved, repeated or framed: padding, tiling, rolling, triangles, windows.

use crate::autograd::{record, record_view, vjp};
use crate::backend::dispatch;
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::layout::{Layout, Span};
use crate::list::try_collect;
use crate::ops::index::{gather_rows, scatter_rows};
use crate::ops::{
    astype, broadcast_to, concat, equal, expand_dims, flatten, max, min, not_equal, permute_dims,
    reshape_to, slice_axis, slice_spans, subtract, r#where, zeros,
};
use crate::shape::{Shape, broadcast_shapes, normalize_axes, normalize_axis, show};
use crate::tensor::{Tensor, check_device};
use crate::value::Value;

/// What [`pad`] writes around the elements.
#[derive(Clone, Copy, Debug)]
pub enum PadMode {
    /// One number.
    Constant(Scalar),
    /// The elements mirrored at the first and last one, which are not repeated.
    Reflect,
    /// The first and last element.
    Edge,
    /// The elements over again from the other end.
    Wrap,
}
impl PadMode {
    /// The mode called `name`, in NumPy's words or torch's ("replicate" and "circular" for "edge" and "wrap").
    pub fn from_name(op: &'static str, name: &str, value: Scalar) -> Result<Self> {
        match name {
            "constant" => Ok(Self::Constant(value)),
            "reflect" => Ok(Self::Reflect),
            "edge" | "replicate" => Ok(Self::Edge),
            "wrap" | "circular" => Ok(Self::Wrap),
            _ => Err(Error::value(
                op,
                format!("mode must be 'constant', 'reflect', 'edge' or 'wrap', not '{name}'"),
            )),
        }
    }
}

/// Where in an axis of `n` elements position `i` (possibly outside) reads from.
fn source(mode: PadMode, i: isize, n: isize) -> i64 {
    let at = match mode {
        PadMode::Wrap => i.rem_euclid(n),
        PadMode::Reflect if n > 1 => {
            let i = i.rem_euclid(2 * (n - 1));
            i.min(2 * (n - 1) - i)
        }
        _ => i.clamp(0, n - 1),
    };
    at as i64
}

/// `x` with `width[d] = (before, after)` more elements around axis `d`.
/// Gradient: each element gets that of all the places where it stands.
///
/// Errors: `Value` unless there is a pair for each axis; `Value` when an empty axis is to be continued from its elements.
pub fn pad(x: &Tensor, width: &[(usize, usize)], mode: PadMode) -> Result<Tensor> {
    const OP: &str = "pad";
    if width.len() != x.ndim() {
        return Err(Error::value(
            OP,
            format!(
                "{} pairs (before, after) for {} axes of shape {}",
                width.len(),
                x.ndim(),
                x.shape()
            ),
        ));
    }
    if let PadMode::Constant(value) = mode {
        value.check_fits(OP, x.dtype())?;
        return pad_constant(x, width, value);
    }
    let mut y = x.clone();
    for (d, &(before, after)) in width.iter().enumerate() {
        let n = x.shape()[d];
        if (before, after) == (0, 0) {
            continue;
        }
        if n == 0 {
            return Err(Error::value(
                OP,
                format!(
                    "axis {d} of shape {} is empty: only mode='constant' can pad it",
                    x.shape()
                ),
            ));
        }
        let places = -(before as isize)..(n + after) as isize;
        let from = try_collect(places.map(|i| source(mode, i, n as isize)))?;
        y = take_axis(&y, d, &from)?;
    }
    Ok(y)
}
fn pad_constant(x: &Tensor, width: &[(usize, usize)], value: Scalar) -> Result<Tensor> {
    let mut shape = Shape::new();
    for (&n, &(before, after)) in x.shape().iter().zip(width) {
        let total = n
            .checked_add(before)
            .and_then(|s| s.checked_add(after))
            .filter(|s| isize::try_from(*s).is_ok());
        shape.push(total.ok_or_else(|| Error::value("pad", "the padded size overflows"))?);
    }
    let each = x.shape().iter().zip(width);
    let spans: crate::ops::index::Spans = each
        .map(|(&len, &(start, _))| Span {
            start,
            step: 1,
            len,
        })
        .collect();
    let backend = dispatch(x.device());
    let mut out = backend.full(&shape, x.dtype(), value)?;
    let at = out.layout.slice(&spans);
    backend.copy_into(&x.value(), crate::storage::make_mut(&mut out.storage)?, &at)?;
    Ok(record("pad", &[x], out, |_| {
        vjp(move |_, g, _| Ok(vec![Some(slice_spans(g, spans.clone())?)]))
    }))
}

/// Elements `from` (in range) along axis `axis`; gradients add up where one is taken repeatedly.
pub(crate) fn take_axis(x: &Tensor, axis: usize, from: &[i64]) -> Result<Tensor> {
    let idx = Tensor::from_slice_on(from, &[from.len()], DType::I64, x.device())?;
    let y = gather_rows(&move_axis(x, axis, 0)?, &idx.value())?;
    move_axis(&y, 0, axis)
}
/// A view with axis `from` at position `to`, the others in their order.
pub(crate) fn move_axis(x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    moveaxis(x, &[from as isize], &[to as isize])
}
/// A view with the axes `source` at the positions `destination`, the others in their order.
///
/// Errors: `Value` when the lists differ in length or name an axis twice; `Index` for axes out of range.
pub fn moveaxis(x: &Tensor, source: &[isize], destination: &[isize]) -> Result<Tensor> {
    const OP: &str = "moveaxis";
    if source.len() != destination.len() {
        return Err(Error::value(
            OP,
            format!(
                "source {} and destination {} differ in length",
                show(source),
                show(destination)
            ),
        ));
    }
    let named = |axes: &[isize]| -> Result<Vec<usize>> {
        let each = axes.iter().map(|&a| normalize_axis(OP, a, x.ndim()));
        let found = each.collect::<Result<Vec<_>>>()?;
        match (1..found.len()).find(|&i| found[..i].contains(&found[i])) {
            Some(i) => Err(Error::value(
                OP,
                format!("{} names axis {} twice", show(axes), found[i]),
            )),
            None => Ok(found),
        }
    };
    let (from, to) = (named(source)?, named(destination)?);
    let mut rest = (0..x.ndim()).filter(|d| !from.contains(d));
    let order: Vec<isize> = (0..x.ndim())
        .map(|d| match to.iter().position(|&t| t == d) {
            Some(i) => from[i] as isize,
            None => rest.next().unwrap_or(0) as isize,
        })
        .collect();
    permute_dims(x, &order)
}

/// How often [`repeat`] repeats.
#[derive(Clone, Copy, Debug)]
pub enum Repeats<'a> {
    /// Each element equally often.
    All(usize),
    /// Element `i` of the axis `counts[i]` times.
    Each(&'a [usize]),
}
/// Each element of `axis` (default: of the flattened tensor) several times in a row, as `numpy.repeat`.
/// Gradient: summed over the repetitions.
pub fn repeat(x: &Tensor, repeats: Repeats<'_>, axis: Option<isize>) -> Result<Tensor> {
    const OP: &str = "repeat";
    let Some(axis) = axis else {
        return repeat(&flatten(x, 0, -1)?, repeats, Some(0));
    };
    let axis = normalize_axis(OP, axis, x.ndim())?;
    let n = x.shape()[axis];
    match repeats {
        Repeats::All(k) => {
            let mut wide = x.shape().clone();
            wide.insert(axis + 1, k);
            let mut shape = x.shape().clone();
            shape[axis] = n.checked_mul(k).ok_or_else(|| too_large(OP, x, &[k]))?;
            let y = broadcast_to(&expand_dims(x, axis as isize + 1)?, &wide)?;
            reshape_to(OP, &y, shape)
        }
        Repeats::Each(counts) => {
            if counts.len() != n {
                return Err(Error::shape(
                    OP,
                    format!(
                        "{} counts for the {n} elements of axis {axis} of shape {}",
                        counts.len(),
                        x.shape()
                    ),
                ));
            }
            let total = counts.iter().try_fold(0usize, |s, &c| s.checked_add(c));
            if total.is_none_or(|t| t > isize::MAX as usize / 8) {
                return Err(too_large(OP, x, counts));
            }
            let each = counts.iter().enumerate();
            let from = try_collect(each.flat_map(|(i, &c)| std::iter::repeat_n(i as i64, c)))?;
            take_axis(x, axis, &from)
        }
    }
}
fn too_large(op: &'static str, x: &Tensor, times: &[usize]) -> Error {
    let times = show(times);
    Error::value(
        op,
        format!(
            "shape {} {times} times would be too many elements",
            x.shape()
        ),
    )
}
/// The whole tensor `reps[d]` times along axis `d`, as `numpy.tile`: the shorter of shape and `reps` gets ones in front.
/// Gradient: summed over the copies.
pub fn tile(x: &Tensor, reps: &[usize]) -> Result<Tensor> {
    const OP: &str = "tile";
    let ndim = x.ndim().max(reps.len());
    let (lead_x, lead_r) = (ndim - x.ndim(), ndim - reps.len());
    let (mut narrow, mut wide, mut shape) = (Shape::new(), Shape::new(), Shape::new());
    for d in 0..ndim {
        let n = if d < lead_x { 1 } else { x.shape()[d - lead_x] };
        let r = if d < lead_r { 1 } else { reps[d - lead_r] };
        for (a, b) in [(1, r), (n, n)] {
            narrow.push(a);
            wide.push(b);
        }
        shape.push(n.checked_mul(r).ok_or_else(|| too_large(OP, x, reps))?);
    }
    if shape
        .iter()
        .try_fold(1usize, |s, &n| s.checked_mul(n))
        .is_none()
    {
        return Err(too_large(OP, x, reps));
    }
    reshape_to(
        OP,
        &broadcast_to(&reshape_to(OP, x, narrow)?, &wide)?,
        shape,
    )
}
/// The elements moved on by `shift` places along `axis` and in again at the other end. Without `axis`: of the flattened tensor.
///
/// One shift serves all axes. Errors: `Value` when the numbers of shifts and axes differ.
pub fn roll(x: &Tensor, shift: &[isize], axis: Option<&[isize]>) -> Result<Tensor> {
    const OP: &str = "roll";
    let Some(axes) = axis else {
        let y = roll(&flatten(x, 0, -1)?, shift, Some(&vec![0; shift.len()]))?;
        return reshape_to(OP, &y, x.shape().clone());
    };
    if shift.len() != axes.len() && shift.len() != 1 {
        return Err(Error::value(
            OP,
            format!("{} shifts for {} axes", shift.len(), axes.len()),
        ));
    }
    let mut y = x.clone();
    for (i, &a) in axes.iter().enumerate() {
        let axis = normalize_axis(OP, a, x.ndim())?;
        let n = x.shape()[axis];
        let s = shift[if shift.len() == 1 { 0 } else { i }];
        let s = if n == 0 {
            0
        } else {
            s.rem_euclid(n as isize) as usize
        };
        if s > 0 {
            let (end, begin) = (
                slice_axis(&y, axis, n - s, s)?,
                slice_axis(&y, axis, 0, n - s)?,
            );
            y = concat(&[&end, &begin], axis as isize)?;
        }
    }
    Ok(y)
}
/// `n`-th differences of neighbours along `axis`: `y[i] = x[i + 1] - x[i]`, `n` times over (bools: whether they differ).
/// `prepend` and `append` are set before and behind `x` first.
pub fn diff(
    x: &Tensor,
    axis: isize,
    n: usize,
    prepend: Option<&Tensor>,
    append: Option<&Tensor>,
) -> Result<Tensor> {
    let axis = normalize_axis("diff", axis, x.ndim())?;
    let parts: Vec<&Tensor> = prepend.into_iter().chain([x]).chain(append).collect();
    let mut y = match parts[..] {
        [x] => x.clone(),
        _ => concat(&parts, axis as isize)?,
    };
    let dtype = y.dtype();
    y = astype(&y, dtype.arithmetic())?; // so that 16-bit floats are rounded once
    for _ in 0..n {
        let m = y.shape()[axis];
        if m == 0 {
            break;
        }
        let (b, a) = (
            slice_axis(&y, axis, 1, m - 1)?,
            slice_axis(&y, axis, 0, m - 1)?,
        );
        y = if y.dtype() == DType::Bool {
            not_equal(&b, &a)?
        } else {
            subtract(&b, &a)?
        };
    }
    astype(&y, dtype)
}

/// `x` where `keep(row, column)` of the last two axes, else 0.
fn triangle(op: &'static str, x: &Tensor, keep: impl Fn(isize, isize) -> bool) -> Result<Tensor> {
    let &[.., rows, cols] = &x.shape()[..] else {
        return Err(Error::value(
            op,
            format!("takes at least two axes, not shape {}", x.shape()),
        ));
    };
    let cells = 0..rows * cols;
    let mask =
        try_collect(cells.map(|i| u8::from(keep((i / cols) as isize, (i % cols) as isize))))?;
    let mask = Tensor::from_slice_on(&mask, &[rows, cols], DType::Bool, x.device())?;
    let zero = zeros(&[], x.dtype(), x.device())?;
    r#where(&mask, x, &zero)
}
/// The lower triangles of the matrices in the last two axes, up to diagonal `k` (0 the main one, 1 the one above); 0 elsewhere.
pub fn tril(x: &Tensor, k: isize) -> Result<Tensor> {
    triangle("tril", x, |r, c| c - r <= k)
}
/// The upper triangles of the matrices in the last two axes, from diagonal `k` on; 0 elsewhere.
pub fn triu(x: &Tensor, k: isize) -> Result<Tensor> {
    triangle("triu", x, |r, c| c - r >= k)
}
/// 1 at the place of the class, 0 elsewhere: integers `(*)` in `0..num_classes` give `(*, num_classes)`; by default
/// `num_classes` is the largest class + 1.
///
/// Errors: `Dtype` unless `x` is of integers, `Index` for a class out of range.
pub fn one_hot(x: &Tensor, num_classes: Option<usize>, dtype: DType) -> Result<Tensor> {
    const OP: &str = "one_hot";
    if !x.dtype().is_int() {
        return Err(Error::dtype(
            OP,
            format!("classes must be integers, not {}", x.dtype()),
        ));
    }
    let classes = match (num_classes, x.numel()) {
        (Some(n), 0) => n,
        (None, 0) => {
            return Err(Error::value(
                OP,
                "num_classes is needed when there are no elements to take it from",
            ));
        }
        (n, _) => {
            let low = min(x, None, false)?.item()?.to_i64();
            let high = max(x, None, false)?.item()?.to_i64();
            let n = n.unwrap_or(high.max(0) as usize + 1);
            let bad = if low < 0 { low } else { high };
            if bad < 0 || bad as u64 >= n as u64 {
                return Err(Error::index(
                    OP,
                    format!("class {bad} is out of range for {n} classes"),
                ));
            }
            n
        }
    };
    let all = try_collect(0..classes as i64)?;
    let all = Tensor::from_slice_on(&all, &[classes], DType::I64, x.device())?;
    let x = astype(&x.detach(), DType::I64)?;
    astype(&equal(&expand_dims(&x, -1)?, &all)?, dtype)
}
/// All windows of `size` neighbours along `axis`, one every `step`: a view in which `axis` counts windows and a new last axis the
/// elements in each (torch's `Tensor.unfold`). Gradient: summed over the windows.
///
/// Errors: `Value` for step 0 or a window longer than the axis.
pub fn unfold(x: &Tensor, axis: isize, size: usize, step: usize) -> Result<Tensor> {
    const OP: &str = "unfold";
    let axis = normalize_axis(OP, axis, x.ndim())?;
    let n = x.shape()[axis];
    if step == 0 || size > n {
        return Err(Error::value(
            OP,
            format!(
                "windows of {size} every {step} do not fit axis {axis} of size {n} (step must be positive, size at most the axis)"
            ),
        ));
    }
    let windows = (n - size) / step + 1;
    let (mut shape, mut strides) = (x.shape().clone(), x.layout().strides().clone());
    shape[axis] = windows;
    shape.push(size);
    let s = strides[axis];
    // The stride of a single window is never walked, and must not overflow.
    strides[axis] = if windows > 1 { s * step as isize } else { s };
    strides.push(s);
    let out = Value {
        storage: x.storage(),
        layout: Layout::new(shape, strides, x.layout().offset()),
    };
    Ok(record_view(OP, x, out, || {
        vjp(move |_, g, _| {
            let from =
                try_collect((0..windows * size).map(|i| (i / size * step + i % size) as i64))?;
            let idx = Tensor::from_slice_on(&from, &[windows, size], DType::I64, g.device())?;
            let last = g.ndim() as isize - 1;
            let g = moveaxis(g, &[axis as isize, last], &[0, 1])?;
            Ok(vec![Some(move_axis(
                &scatter_rows(&g, n, &idx.value())?,
                0,
                axis,
            )?)])
        })
    }))
}
/// The patches that a convolution reads, as columns: `x (n, c, h, w)` gives `(n, c * kh * kw, l)`, `l` the number of places of the
/// window, row by row (torch's `F.unfold`). `padding` is of zeros. Gradient: summed over the patches (`fold`).
///
/// Errors: `Shape` unless there are four axes and the window fits; `Value` for a kernel, stride or dilation of 0.
pub fn im2col(
    x: &Tensor,
    kernel_size: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
) -> Result<Tensor> {
    const OP: &str = "im2col";
    let &[n, c, h, w] = &x.shape()[..] else {
        return Err(Error::shape(
            OP,
            format!("takes images (n, c, h, w), not shape {}", x.shape()),
        ));
    };
    if [kernel_size, dilation, stride].as_flattened().contains(&0) {
        return Err(Error::value(
            OP,
            format!(
                "kernel_size, dilation and stride must be positive, got {kernel_size:?}, {dilation:?} and {stride:?}"
            ),
        ));
    }
    let mut y = match padding {
        [0, 0] => x.clone(),
        [ph, pw] => pad_constant(x, &[(0, 0), (0, 0), (ph, ph), (pw, pw)], Scalar::Int(0))?,
    };
    for d in 0..2 {
        let reach = (kernel_size[d] - 1)
            .checked_mul(dilation[d])
            .and_then(|r| r.checked_add(1));
        let Some(reach) = reach.filter(|&r| r <= y.shape()[2 + d]) else {
            return Err(Error::shape(
                OP,
                format!(
                    "a window of {kernel_size:?} with dilation {dilation:?} does not fit an image of ({h}, {w}) with padding {padding:?}"
                ),
            ));
        };
        y = unfold(&y, 2 + d as isize, reach, stride[d])?;
        if dilation[d] > 1 {
            let mut spans: crate::ops::index::Spans = y
                .shape()
                .iter()
                .map(|&len| Span {
                    start: 0,
                    step: 1,
                    len,
                })
                .collect();
            if let Some(last) = spans.last_mut() {
                last.step = dilation[d] as isize;
                last.len = kernel_size[d];
            }
            y = slice_spans(&y, spans)?;
        }
    }
    let places = y.shape()[2] * y.shape()[3];
    // (n, c, oh, ow, kh, kw) -> (n, c, kh, kw, oh, ow)
    let y = permute_dims(&y, &[0, 1, 4, 5, 2, 3])?;
    reshape_to(
        OP,
        &y,
        [n, c * kernel_size[0] * kernel_size[1], places].into(),
    )
}

/// Sums of patches, the transpose of [`im2col`] (torch's `F.fold`): `x (n, c * kh * kw, l)` gives `(n, c, h, w)` for
/// `output_size = [h, w]`; every patch is added where `im2col` would have read it.
///
/// Errors: `Shape` unless `l` is the number of places of the window and `kh * kw` divides the rows; `Value` for a kernel, stride or
/// dilation of 0; `Dtype` unless `x` is floating-point.
pub fn col2im(
    x: &Tensor,
    output_size: [usize; 2],
    kernel_size: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
) -> Result<Tensor> {
    const OP: &str = "col2im";
    crate::ops::common::check_float(OP, "x", x)?;
    crate::ops::common::rounded_once!(x => col2im(x, output_size, kernel_size, dilation, padding, stride));
    if [kernel_size, dilation, stride].as_flattened().contains(&0) {
        return Err(Error::value(
            OP,
            "kernel_size, dilation and stride must be positive",
        ));
    }
    let numbers = [output_size, kernel_size, dilation, padding, stride];
    if numbers
        .as_flattened()
        .iter()
        .any(|&n| n > i32::MAX as usize)
    {
        return Err(Error::value(OP, "sizes must be at most 2147483647"));
    }
    let taps = kernel_size[0] * kernel_size[1];
    let padded = [0, 1].map(|d| output_size[d] + 2 * padding[d]);
    let places = [0, 1].map(|d| {
        let reach = (kernel_size[d] - 1) * dilation[d] + 1;
        padded[d]
            .checked_sub(reach)
            .map_or(0, |rest| rest / stride[d] + 1)
    });
    let fits = match x.shape()[..] {
        [_, rows, l] => rows % taps == 0 && l > 0 && places[0].checked_mul(places[1]) == Some(l),
        _ => false,
    };
    if !fits {
        return Err(Error::shape(
            OP,
            format!(
                "takes patches (n, c * {taps}, {}): the window {kernel_size:?} has {places:?} places in an image of {output_size:?} \
                 with padding {padding:?}, stride {stride:?} and dilation {dilation:?}; got {}",
                places[0] * places[1],
                x.shape()
            ),
        ));
    }
    let (n, c) = (x.shape()[0], x.shape()[1] / taps);
    let ([kh, kw], [oh, ow]) = (kernel_size, places);
    let mut y = reshape_to(OP, x, [n, c, kh, kw, oh, ow].into())?;
    // One axis after the other: (kernel, places) first, whose rows are added up by the pixel that they belong to.
    // (n, c, kh, kw, oh, ow) -> (h, n, c, kw, ow) -> (w, h, n, c)
    for (d, axes) in [(0, [2, 4]), (1, [3, 4])] {
        let pixels = (0..kernel_size[d]).flat_map(|tap| {
            (0..places[d]).map(move |i| (tap * dilation[d] + i * stride[d]) as i64)
        });
        let pixels: Vec<i64> = pixels.collect();
        let shape = [kernel_size[d], places[d]];
        let pixels = Tensor::from_slice_on(&pixels, &shape, DType::I64, x.device())?;
        y = scatter_rows(&moveaxis(&y, &axes, &[0, 1])?, padded[d], &pixels.value())?;
    }
    let y = permute_dims(&y, &[2, 3, 1, 0])?;
    let y = slice_axis(&y, 2, padding[0], output_size[0])?;
    slice_axis(&y, 3, padding[1], output_size[1])
}

/// All tensors as views of their common shape.
pub fn broadcast_arrays(tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
    let mut shape = Shape::new();
    for t in tensors {
        shape = broadcast_shapes("broadcast_arrays", &shape, t.shape())?;
    }
    tensors.iter().map(|t| broadcast_to(t, &shape)).collect()
}
/// Coordinates of a grid, as views: vectors of sizes `n0, n1, ..` give tensors of shape `(n0, n1, ..)`, of which number `i` varies
/// along axis `i` alone. With `xy` (NumPy's default) the first two axes are swapped.
///
/// Errors: `Value` for a tensor of two or more axes.
pub fn meshgrid(tensors: &[&Tensor], xy: bool) -> Result<Vec<Tensor>> {
    const OP: &str = "meshgrid";
    let mut shape = Shape::new();
    for (i, t) in tensors.iter().enumerate() {
        check_device(OP, tensors[0], t)?;
        if t.ndim() > 1 {
            return Err(Error::value(
                OP,
                format!("takes vectors, but tensor {i} has shape {}", t.shape()),
            ));
        }
        shape.push(t.numel());
    }
    let swap = xy && tensors.len() > 1;
    if swap {
        shape.swap(0, 1);
    }
    let each = tensors.iter().enumerate();
    each.map(|(i, t)| {
        let axis = if swap && i < 2 { 1 - i } else { i };
        let mut one = Shape::filled(1, tensors.len());
        one[axis] = t.numel();
        broadcast_to(&reshape_to(OP, t, one)?, &shape)
    })
    .collect()
}
/// Axes `a` and `b` (of one size) as one, the diagonal, which comes first; the others follow in their order.
pub(crate) fn diagonal_first(x: &Tensor, a: usize, b: usize) -> Result<Tensor> {
    let n = x.shape()[a];
    let y = moveaxis(x, &[a as isize, b as isize], &[0, 1])?;
    let shape: Shape = [n * n].iter().chain(&y.shape()[2..]).copied().collect();
    let from = try_collect((0..n).map(|i| (i * (n + 1)) as i64))?;
    take_axis(&reshape_to("diagonal", &y, shape)?, 0, &from)
}
/// The diagonal of the matrices in axes `axis1` and `axis2`, `offset` places above the main one, as a new last axis.
///
/// Errors: `Value` when both axes are the same.
pub fn diagonal(x: &Tensor, offset: isize, axis1: isize, axis2: isize) -> Result<Tensor> {
    const OP: &str = "diagonal";
    let axes = normalize_axes(OP, Some(&[axis1, axis2]), x.ndim())?;
    let (a, b) = (
        normalize_axis(OP, axis1, x.ndim())?,
        normalize_axis(OP, axis2, x.ndim())?,
    );
    if axes.len() != 2 {
        return Err(Error::value(OP, "needs two different axes"));
    }
    let (rows, cols) = (x.shape()[a], x.shape()[b]);
    let skip = offset.unsigned_abs();
    let (r0, c0) = if offset < 0 { (skip, 0) } else { (0, skip) };
    let len = rows.saturating_sub(r0).min(cols.saturating_sub(c0));
    let from = try_collect((0..len).map(|i| ((i + r0) * cols + i + c0) as i64))?;
    let y = moveaxis(x, &[a as isize, b as isize], &[0, 1])?;
    let shape: Shape = [rows * cols]
        .iter()
        .chain(&y.shape()[2..])
        .copied()
        .collect();
    let y = take_axis(&reshape_to(OP, &y, shape)?, 0, &from)?;
    let last = y.ndim() - 1;
    move_axis(&y, 0, last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DEVICES, check, numbers};

    #[test]
    fn reflection_follows_numpy() {
        // np.pad([0, 1, 2], (5, 4), "reflect")
        let x = Tensor::from_slice(&[0i64, 1, 2], &[3]).unwrap();
        let y = pad(&x, &[(5, 4)], PadMode::Reflect).unwrap();
        assert_eq!(
            numbers(&y),
            [1., 0., 1., 2., 1., 0., 1., 2., 1., 0., 1., 2.]
        );
        let one = Tensor::from_slice(&[7i64], &[1]).unwrap();
        assert_eq!(
            numbers(&pad(&one, &[(1, 2)], PadMode::Reflect).unwrap()),
            [7.; 4]
        );
    }

    #[test]
    fn windows_are_views() {
        for d in DEVICES {
            let x: Vec<i64> = (0..7).collect();
            let x = Tensor::from_slice_on(&x, &[7], DType::I64, d).unwrap();
            let y = unfold(&x, 0, 3, 2).unwrap();
            assert!(y.is_view());
            assert_eq!(numbers(&y), [0., 1., 2., 2., 3., 4., 4., 5., 6.]);
            assert!(unfold(&x, 0, 8, 1).is_err());
            assert!(unfold(&x, 0, 3, 0).is_err());
            assert_eq!(unfold(&x, 0, 0, 3).unwrap().shape()[..], [3, 0]);
        }
    }

    #[test]
    fn gradients() {
        let square = crate::ops::square;
        let s: &[&[usize]] = &[&[3, 4]];
        for mode in [
            PadMode::Constant(Scalar::Float(2.0)),
            PadMode::Reflect,
            PadMode::Edge,
            PadMode::Wrap,
        ] {
            check(s, false, |x| square(&pad(&x[0], &[(1, 2), (3, 1)], mode)?));
        }
        check(s, false, |x| square(&unfold(&x[0], 1, 3, 1)?));
        check(s, false, |x| {
            square(&repeat(&x[0], Repeats::Each(&[2, 0, 1]), Some(0))?)
        });
        check(s, false, |x| square(&tile(&x[0], &[2, 1, 3])?));
        check(s, false, |x| square(&diagonal(&x[0], 1, 0, 1)?));
    }
}
