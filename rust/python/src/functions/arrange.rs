//! Functions that move, repeat and frame elements, and products over chosen axes.

use corten_core::ops::{DotAxes, PadMode, Repeats};
use corten_core::{DType, Scalar, ops};
use corten_python_macros::{pyfunction, pymethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::convert::{AXIS, Arg, Args, Axes, DTypeArg, KEEPDIMS, Number, Pair, either, given};
use crate::seam::run;
use crate::tensor::PyTensor;

fn natural(op: &str, what: &str, n: isize) -> PyResult<usize> {
    usize::try_from(n)
        .map_err(|_| PyValueError::new_err(format!("[{op}] {what} must not be negative, got {n}")))
}
fn naturals(op: &str, what: &str, n: &[isize]) -> PyResult<Vec<usize>> {
    n.iter().map(|&n| natural(op, what, n)).collect()
}
fn several(tensors: Vec<corten_core::Tensor>) -> Vec<PyTensor> {
    tensors.into_iter().map(PyTensor::new).collect()
}

/// `pad_width`: an int, a pair, or a pair per axis.
enum Width {
    All(isize, isize),
    Each(Vec<(isize, isize)>),
}
impl<'py> FromPyObject<'_, 'py> for Width {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let pair = |v: &[isize]| match *v {
            [n] => Some((n, n)),
            [a, b] => Some((a, b)),
            _ => None,
        };
        if let Ok(Axes(Some(v))) = obj.extract::<Axes>()
            && let Some((a, b)) = pair(&v)
        {
            return Ok(Self::All(a, b));
        }
        let wrong = || {
            PyTypeError::new_err(
                "[pad] pad_width is an int, a pair (before, after) or a sequence of one pair per axis",
            )
        };
        let mut each = Vec::new();
        for item in obj.try_iter().map_err(|_| wrong())? {
            let Ok(Axes(Some(v))) = item?.extract::<Axes>() else {
                return Err(wrong());
            };
            each.push(pair(&v).ok_or_else(wrong)?);
        }
        Ok(Self::Each(each))
    }
}

/// `x` with elements added around it, as `numpy.pad`: `pad_width` is `(before, after)` per axis, one pair for all, or an int.
///
/// `mode`: "constant" (`constant_values`), "reflect" (mirrored at the edge element), "edge" (the edge element) or "wrap" (from the
/// other end). Gradient: each element gets that of all the places where it stands. `nn.functional.pad` takes torch's order.
///
/// >>> import corten as ct
/// >>> ct.pad(ct.tensor([1, 2, 3]), (2, 1), "reflect")
/// tensor([3, 2, 1, 2, 3, 2])
#[pyfunction]
#[pyo3(signature = (x, pad_width, mode = "constant", constant_values = Number(Scalar::Int(0))), text_signature = "(x, pad_width, mode='constant', constant_values=0)")]
fn pad(
    py: Python<'_>,
    x: Arg<'_>,
    pad_width: Width,
    mode: &str,
    constant_values: Number,
) -> PyResult<PyTensor> {
    let pairs = match pad_width {
        Width::All(a, b) => vec![(a, b); x.0.ndim()],
        Width::Each(each) => each,
    };
    let mut width = Vec::with_capacity(pairs.len());
    for (a, b) in pairs {
        width.push((natural("pad", "a width", a)?, natural("pad", "a width", b)?));
    }
    run(py, x.0.numel(), || {
        ops::pad(
            x.0,
            &width,
            PadMode::from_name("pad", mode, constant_values.0)?,
        )
    })
    .map(PyTensor::new)
}

fn repeated(
    py: Python<'_>,
    x: &corten_core::Tensor,
    repeats: &Axes,
    axis: Option<isize>,
) -> PyResult<PyTensor> {
    let Some(counts) = repeats.get() else {
        return Err(PyTypeError::new_err(
            "[repeat] repeats: expected an int or a sequence of ints, not None",
        ));
    };
    let counts = naturals("repeat", "a count", counts)?;
    let repeats = match counts[..] {
        [n] => Repeats::All(n),
        _ => Repeats::Each(&counts),
    };
    run(py, x.numel(), || ops::repeat(x, repeats, axis)).map(PyTensor::new)
}

/// Each element several times in a row, as `numpy.repeat`: along `axis`, or of the flattened tensor. `repeats` is one count or one
/// per element. Gradient: summed over the repetitions. (torch's `repeat` is `tile`.)
///
/// >>> import corten as ct
/// >>> ct.repeat(ct.tensor([1, 2]), 2)
/// tensor([1, 1, 2, 2])
#[pyfunction]
#[pyo3(signature = (x, repeats, axis = None))]
fn repeat(py: Python<'_>, x: Arg<'_>, repeats: Axes, axis: Option<isize>) -> PyResult<PyTensor> {
    repeated(py, x.0, &repeats, axis)
}

fn tiled(py: Python<'_>, x: &corten_core::Tensor, reps: &Axes) -> PyResult<PyTensor> {
    let reps = naturals("tile", "a count", reps.get().unwrap_or_default())?;
    run(py, x.numel(), || ops::tile(x, &reps)).map(PyTensor::new)
}

/// The whole tensor several times side by side along each axis, as `numpy.tile`. Gradient: summed over the copies.
///
/// >>> import corten as ct
/// >>> ct.tile(ct.tensor([1, 2]), (2, 2))
/// tensor([[1, 2, 1, 2],
///         [1, 2, 1, 2]])
#[pyfunction]
fn tile(py: Python<'_>, x: Arg<'_>, reps: Axes) -> PyResult<PyTensor> {
    tiled(py, x.0, &reps)
}

fn rolled(
    py: Python<'_>,
    x: &corten_core::Tensor,
    shift: &Axes,
    axis: &Axes,
) -> PyResult<PyTensor> {
    let shift = shift.get().unwrap_or_default();
    run(py, x.numel(), || ops::roll(x, shift, axis.get())).map(PyTensor::new)
}

/// The elements moved on by `shift` places along `axis`, those that fall off at the end in again at the beginning. Without
/// `axis`: of the flattened tensor.
///
/// >>> import corten as ct
/// >>> ct.roll(ct.arange(4), 1)
/// tensor([3, 0, 1, 2])
#[pyfunction]
#[pyo3(signature = (x, shift, axis = Axes(None)), text_signature = "(x, shift, axis=None)")]
fn roll(py: Python<'_>, x: Arg<'_>, shift: Axes, axis: Axes) -> PyResult<PyTensor> {
    rolled(py, x.0, &shift, &axis)
}

/// `n`-th differences of neighbours along `axis`: `y[i] = x[i + 1] - x[i]`, `n` times over; bools: whether they differ.
///
/// `prepend` and `append` (tensors) are set before and behind `x` first.
///
/// >>> import corten as ct
/// >>> ct.diff(ct.tensor([1, 4, 9, 16]))
/// tensor([3, 5, 7])
#[pyfunction]
#[pyo3(signature = (x, axis = -1, n = 1, prepend = None, append = None), text_signature = "(x, axis=-1, n=1, prepend=None, append=None)")]
fn diff(
    py: Python<'_>,
    x: Arg<'_>,
    axis: isize,
    n: isize,
    prepend: Option<Arg<'_>>,
    append: Option<Arg<'_>>,
) -> PyResult<PyTensor> {
    let n = natural("diff", "n", n)?;
    run(py, x.0.numel(), || {
        ops::diff(x.0, axis, n, prepend.map(|p| p.0), append.map(|a| a.0))
    })
    .map(PyTensor::new)
}

/// The lower triangles of the matrices in the last two axes, up to diagonal `k` (0 is the main one); 0 elsewhere.
///
/// >>> import corten as ct
/// >>> ct.tril(ct.ones((2, 3)))
/// tensor([[1., 0., 0.],
///         [1., 1., 0.]])
#[pyfunction]
#[pyo3(signature = (x, k = 0))]
fn tril(py: Python<'_>, x: Arg<'_>, k: isize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::tril(x.0, k)).map(PyTensor::new)
}

/// The upper triangles of the matrices in the last two axes, from diagonal `k` on (0 is the main one); 0 elsewhere.
///
/// >>> import corten as ct
/// >>> ct.triu(ct.ones((2, 3)), k=1)
/// tensor([[0., 1., 1.],
///         [0., 0., 1.]])
#[pyfunction]
#[pyo3(signature = (x, k = 0))]
fn triu(py: Python<'_>, x: Arg<'_>, k: isize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::triu(x.0, k)).map(PyTensor::new)
}

/// 1 at the place of the class, 0 elsewhere: integers `(*)` in `0..num_classes` give `(*, num_classes)`, int64 unless `dtype` says
/// otherwise. By default `num_classes` is the largest class + 1.
///
/// >>> import corten as ct
/// >>> ct.one_hot(ct.tensor([2, 0]))
/// tensor([[0, 0, 1],
///         [1, 0, 0]])
#[pyfunction]
#[pyo3(signature = (x, num_classes = None, dtype = None))]
fn one_hot(
    py: Python<'_>,
    x: Arg<'_>,
    num_classes: Option<isize>,
    dtype: Option<DTypeArg>,
) -> PyResult<PyTensor> {
    let classes = num_classes.map(|n| natural("one_hot", "num_classes", n));
    let classes = classes.transpose()?;
    run(py, x.0.numel(), || {
        ops::one_hot(x.0, classes, given(dtype).unwrap_or(DType::I64))
    })
    .map(PyTensor::new)
}

fn windows(
    py: Python<'_>,
    x: &corten_core::Tensor,
    axis: isize,
    size: isize,
    step: isize,
) -> PyResult<PyTensor> {
    let (size, step) = (
        natural("unfold", "size", size)?,
        natural("unfold", "step", step)?,
    );
    run(py, 0, || ops::unfold(x, axis, size, step)).map(PyTensor::new)
}

/// All windows of `size` neighbours along `axis`, one every `step`, as a view: `axis` then counts windows, and a new last axis the
/// elements in each. Gradient: summed over the windows. (torch's `Tensor.unfold`; its `F.unfold` is `nn.functional.unfold`.)
///
/// >>> import corten as ct
/// >>> ct.unfold(ct.arange(5), 0, 3, 1)
/// tensor([[0, 1, 2],
///         [1, 2, 3],
///         [2, 3, 4]])
#[pyfunction]
#[pyo3(signature = (x, axis, size, step = 1))]
fn unfold(py: Python<'_>, x: Arg<'_>, axis: isize, size: isize, step: isize) -> PyResult<PyTensor> {
    windows(py, x.0, axis, size, step)
}

/// The patches that a convolution reads, as columns: `(n, c, h, w)` gives `(n, c * kh * kw, l)`, `l` places of the window, row by
/// row. `padding` is of zeros. Gradient: summed over the patches.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.unfold(ct.ones((1, 2, 4, 4)), 3).shape
/// (1, 18, 4)
#[pyfunction]
#[pyo3(
    signature = (x, kernel_size, dilation = Pair([1, 1]), padding = Pair([0, 0]), stride = Pair([1, 1])),
    text_signature = "(x, kernel_size, dilation=1, padding=0, stride=1)"
)]
fn im2col(
    py: Python<'_>,
    x: Arg<'_>,
    kernel_size: Pair,
    dilation: Pair,
    padding: Pair,
    stride: Pair,
) -> PyResult<PyTensor> {
    run(py, x.0.numel().saturating_mul(9), || {
        ops::im2col(x.0, kernel_size.0, dilation.0, padding.0, stride.0)
    })
    .map(PyTensor::new)
}

/// Sums of patches, the transpose of `im2col` (torch's `F.fold`): `x (N, C * KH * KW, L)`, result `(N, C, *output_size)`.
///
/// `output_size` is the size of the image whose patches `im2col` would read with the same `kernel_size`, `dilation`, `padding` and
/// `stride`; each patch is added at its place. Gradient: `im2col` of it.
///
/// >>> import corten as ct
/// >>> from corten.nn import functional as F
/// >>> F.fold(F.unfold(ct.ones((1, 1, 3, 3)), 2), 3, 2).tolist()
/// [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
#[pyfunction]
#[pyo3(
    signature = (x, output_size, kernel_size, dilation = Pair([1, 1]), padding = Pair([0, 0]), stride = Pair([1, 1])),
    text_signature = "(x, output_size, kernel_size, dilation=1, padding=0, stride=1)"
)]
fn col2im(
    py: Python<'_>,
    x: Arg<'_>,
    output_size: Pair,
    kernel_size: Pair,
    dilation: Pair,
    padding: Pair,
    stride: Pair,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::col2im(
            x.0,
            output_size.0,
            kernel_size.0,
            dilation.0,
            padding.0,
            stride.0,
        )
    })
    .map(PyTensor::new)
}

/// A view with the axes `source` at the positions `destination`, the others in their order.
///
/// >>> import corten as ct
/// >>> ct.moveaxis(ct.zeros((2, 3, 4)), 0, -1).shape
/// (3, 4, 2)
#[pyfunction]
fn moveaxis(py: Python<'_>, x: Arg<'_>, source: Axes, destination: Axes) -> PyResult<PyTensor> {
    let (from, to) = (
        source.get().unwrap_or_default(),
        destination.get().unwrap_or_default(),
    );
    run(py, 0, || ops::moveaxis(x.0, from, to)).map(PyTensor::new)
}

/// The last two axes swapped, a view: `x.mT`.
///
/// >>> import corten as ct
/// >>> ct.matrix_transpose(ct.zeros((2, 3, 4))).shape
/// (2, 4, 3)
#[pyfunction]
fn matrix_transpose(py: Python<'_>, x: Arg<'_>) -> PyResult<PyTensor> {
    run(py, 0, || ops::matrix_mt(x.0)).map(PyTensor::new)
}

/// The diagonal of the matrices in axes `axis1` and `axis2`, `offset` places above the main one, as a new last axis.
///
/// >>> import corten as ct
/// >>> ct.diagonal(ct.tensor([[1, 2], [3, 4]]))
/// tensor([1, 4])
#[pyfunction]
#[pyo3(signature = (x, offset = 0, axis1 = -2, axis2 = -1), text_signature = "(x, offset=0, axis1=-2, axis2=-1)")]
fn diagonal(
    py: Python<'_>,
    x: Arg<'_>,
    offset: isize,
    axis1: isize,
    axis2: isize,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::diagonal(x.0, offset, axis1, axis2)).map(PyTensor::new)
}

/// All tensors as views of their common shape.
///
/// >>> import corten as ct
/// >>> [x.shape for x in ct.broadcast_arrays(ct.zeros((2, 1)), ct.zeros(3))]
/// [(2, 3), (2, 3)]
#[pyfunction]
#[pyo3(signature = (*arrays))]
fn broadcast_arrays(py: Python<'_>, arrays: &Bound<'_, PyTuple>) -> PyResult<Vec<PyTensor>> {
    let arrays = Args::from_tuple(arrays, "broadcast_arrays", "arrays")?;
    let parts: Vec<&corten_core::Tensor> = arrays.0.iter().collect();
    run(py, 0, || ops::broadcast_arrays(&parts)).map(several)
}

/// Coordinates of a grid, as views: from vectors, tensors of which number `i` varies along axis `i` alone (`indexing="ij"`); with
/// "xy", NumPy's default, the first two axes are swapped.
///
/// >>> import corten as ct
/// >>> x, y = ct.meshgrid(ct.arange(3), ct.arange(2))
/// >>> x + 10 * y
/// tensor([[ 0,  1,  2],
///         [10, 11, 12]])
#[pyfunction]
#[pyo3(signature = (*arrays, indexing = "xy"))]
fn meshgrid(
    py: Python<'_>,
    arrays: &Bound<'_, PyTuple>,
    indexing: &str,
) -> PyResult<Vec<PyTensor>> {
    let arrays = Args::from_tuple(arrays, "meshgrid", "arrays")?;
    let xy = match indexing {
        "xy" => true,
        "ij" => false,
        _ => {
            return Err(PyValueError::new_err(format!(
                "[meshgrid] indexing must be 'xy' or 'ij', not '{indexing}'"
            )));
        }
    };
    let parts: Vec<&corten_core::Tensor> = arrays.0.iter().collect();
    run(py, 0, || ops::meshgrid(&parts, xy)).map(several)
}

/// `out[i, j] = x1[i] x2[j]` of two vectors.
///
/// >>> import corten as ct
/// >>> ct.outer(ct.tensor([1, 2]), ct.tensor([3, 4]))
/// tensor([[3, 4],
///         [6, 8]])
#[pyfunction]
fn outer(py: Python<'_>, x1: Arg<'_>, x2: Arg<'_>) -> PyResult<PyTensor> {
    let work = x1.0.numel().saturating_mul(x2.0.numel());
    run(py, work, || ops::outer(x1.0, x2.0)).map(PyTensor::new)
}

/// `sum(x1 * x2)` over `axis`, which has one size in both; the other axes broadcast.
///
/// >>> import corten as ct
/// >>> ct.vecdot(ct.tensor([[1.0, 2.0], [3.0, 4.0]]), ct.tensor([1.0, 10.0]))
/// tensor([21., 43.])
#[pyfunction]
#[pyo3(signature = (x1, x2, axis = -1), text_signature = "(x1, x2, axis=-1)")]
fn vecdot(py: Python<'_>, x1: Arg<'_>, x2: Arg<'_>, axis: isize) -> PyResult<PyTensor> {
    let work = x1.0.numel().max(x2.0.numel());
    run(py, work, || ops::vecdot(x1.0, x2.0, axis)).map(PyTensor::new)
}

/// `axes` of `tensordot`.
enum Dot {
    Count(isize),
    Pairs(Vec<isize>, Vec<isize>),
}
impl<'py> FromPyObject<'_, 'py> for Dot {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(n) = obj.extract::<isize>() {
            return Ok(Self::Count(n));
        }
        match obj.extract::<(Axes, Axes)>() {
            Ok((Axes(Some(a)), Axes(Some(b)))) => Ok(Self::Pairs(a, b)),
            _ => Err(PyTypeError::new_err(
                "[tensordot] axes is a number of axes or a pair (axes of x1, axes of x2)",
            )),
        }
    }
}

/// The sum of products over pairs of axes: the last `axes` of `x1` with the first of `x2`, or those of a pair of lists. The other
/// axes of `x1`, then those of `x2`, remain.
///
/// >>> import corten as ct
/// >>> ct.tensordot(ct.ones((2, 3, 4)), ct.ones((3, 4, 5))).shape
/// (2, 5)
#[pyfunction]
#[pyo3(signature = (x1, x2, axes = Dot::Count(2)), text_signature = "(x1, x2, axes=2)")]
fn tensordot(py: Python<'_>, x1: Arg<'_>, x2: Arg<'_>, axes: Dot) -> PyResult<PyTensor> {
    let axes = match &axes {
        Dot::Count(n) => DotAxes::Count(natural("tensordot", "the number of axes", *n)?),
        Dot::Pairs(a, b) => DotAxes::Pairs(a, b),
    };
    let work = x1.0.numel().max(x2.0.numel()).saturating_mul(8);
    run(py, work, || ops::tensordot(x1.0, x2.0, axes)).map(PyTensor::new)
}

/// Einstein's summation: `"ij,jk->ik"` is a matrix product. A label that is repeated within an operand takes its diagonal, labels
/// missing on the right are summed over; without `->` those that occur once remain, in alphabetical order. `...` stands for axes
/// that broadcast. Operands are multiplied from left to right.
///
/// >>> import corten as ct
/// >>> ct.einsum("bi,bj->bij", ct.ones((2, 3)), ct.ones((2, 4))).shape
/// (2, 3, 4)
#[pyfunction]
#[pyo3(signature = (equation, *operands))]
fn einsum(py: Python<'_>, equation: &str, operands: &Bound<'_, PyTuple>) -> PyResult<PyTensor> {
    let operands = Args::from_tuple(operands, "einsum", "operands")?;
    let parts: Vec<&corten_core::Tensor> = operands.0.iter().collect();
    let work = parts.iter().map(|x| x.numel()).sum::<usize>();
    run(py, work.saturating_mul(8), || ops::einsum(equation, &parts)).map(PyTensor::new)
}

fn measured(
    py: Python<'_>,
    x: &corten_core::Tensor,
    ord: f64,
    axis: &Axes,
    keepdims: bool,
) -> PyResult<PyTensor> {
    run(py, x.numel(), || ops::norm(x, ord, axis.get(), keepdims)).map(PyTensor::new)
}

/// The vector norm of order `ord` over `axis` (all of them by default): `(sum |x|^ord)^(1/ord)`; the largest `|x|` for `inf`, the
/// smallest for `-inf`, the number of elements that are not 0 for 0. Gradient: 0 where the norm is 0.
///
/// >>> import corten as ct
/// >>> ct.norm(ct.tensor([3.0, 4.0]))
/// tensor(5.)
#[pyfunction]
#[pyo3(signature = (x, ord = 2.0, axis = Axes(None), keepdims = false), text_signature = "(x, ord=2.0, axis=None, keepdims=False)")]
fn norm(py: Python<'_>, x: Arg<'_>, ord: f64, axis: Axes, keepdims: bool) -> PyResult<PyTensor> {
    measured(py, x.0, ord, &axis, keepdims)
}

/// `log(sum(exp(x)))` over `axis` (all of them by default), without overflow. Gradient: `g softmax(x)`.
///
/// >>> import corten as ct
/// >>> ct.logsumexp(ct.tensor([1000.0, 1000.0]))
/// tensor(1000.6932)
#[pyfunction]
#[pyo3(signature = (x, axis = Axes(None), keepdims = false), text_signature = "(x, axis=None, keepdims=False)")]
fn logsumexp(py: Python<'_>, x: Arg<'_>, axis: Axes, keepdims: bool) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::logsumexp(x.0, axis.get(), keepdims)
    })
    .map(PyTensor::new)
}

#[pymethods]
impl PyTensor {
    /// Each element several times in a row. See `corten.repeat`.
    #[pyo3(signature = (repeats, axis = None, *, dim = None))]
    fn repeat(
        &self,
        py: Python<'_>,
        repeats: Axes,
        axis: Option<isize>,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        repeated(
            py,
            &self.tensor,
            &repeats,
            either("repeat", AXIS, axis, dim)?,
        )
    }
    /// The whole tensor several times side by side along each axis. See `corten.tile`.
    fn tile(&self, py: Python<'_>, reps: Axes) -> PyResult<Self> {
        tiled(py, &self.tensor, &reps)
    }
    /// The elements moved on by `shift` places. See `corten.roll`.
    #[pyo3(signature = (shift, axis = None, *, dim = None))]
    fn roll(
        &self,
        py: Python<'_>,
        shift: Axes,
        axis: Option<Axes>,
        dim: Option<Axes>,
    ) -> PyResult<Self> {
        rolled(
            py,
            &self.tensor,
            &shift,
            &either("roll", AXIS, axis, dim)?.unwrap_or_default(),
        )
    }
    /// All windows of `size` neighbours along `axis`, a view. See `corten.unfold`.
    #[pyo3(signature = (axis, size, step = 1))]
    fn unfold(&self, py: Python<'_>, axis: isize, size: isize, step: isize) -> PyResult<Self> {
        windows(py, &self.tensor, axis, size, step)
    }
    /// The vector norm of order `ord` over `axis`. See `corten.norm`.
    #[pyo3(signature = (ord = 2.0, axis = None, keepdims = None, *, dim = None, keepdim = None))]
    fn norm(
        &self,
        py: Python<'_>,
        ord: f64,
        axis: Option<Axes>,
        keepdims: Option<bool>,
        dim: Option<Axes>,
        keepdim: Option<bool>,
    ) -> PyResult<Self> {
        let axes = either("norm", AXIS, axis, dim)?.unwrap_or_default();
        measured(
            py,
            &self.tensor,
            ord,
            &axes,
            either("norm", KEEPDIMS, keepdims, keepdim)?.unwrap_or(false),
        )
    }
    /// `log(sum(exp(x)))` over `axis`. See `corten.logsumexp`.
    #[pyo3(signature = (axis = None, keepdims = None, *, dim = None, keepdim = None))]
    fn logsumexp(
        &self,
        py: Python<'_>,
        axis: Option<Axes>,
        keepdims: Option<bool>,
        dim: Option<Axes>,
        keepdim: Option<bool>,
    ) -> PyResult<Self> {
        let axes = either("logsumexp", AXIS, axis, dim)?.unwrap_or_default();
        let keepdims = either("logsumexp", KEEPDIMS, keepdims, keepdim)?.unwrap_or(false);
        run(py, self.tensor.numel(), || {
            ops::logsumexp(&self.tensor, axes.get(), keepdims)
        })
        .map(Self::new)
    }
    /// The lower triangles, up to diagonal `k`. See `corten.tril`.
    #[pyo3(signature = (k = 0))]
    fn tril(&self, py: Python<'_>, k: isize) -> PyResult<Self> {
        run(py, self.tensor.numel(), || ops::tril(&self.tensor, k)).map(Self::new)
    }
    /// The upper triangles, from diagonal `k` on. See `corten.triu`.
    #[pyo3(signature = (k = 0))]
    fn triu(&self, py: Python<'_>, k: isize) -> PyResult<Self> {
        run(py, self.tensor.numel(), || ops::triu(&self.tensor, k)).map(Self::new)
    }
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "broadcast_arrays",
    "col2im",
    "diagonal",
    "diff",
    "einsum",
    "im2col",
    "logsumexp",
    "matrix_transpose",
    "meshgrid",
    "moveaxis",
    "norm",
    "one_hot",
    "outer",
    "pad",
    "repeat",
    "roll",
    "tensordot",
    "tile",
    "tril",
    "triu",
    "unfold",
    "vecdot",
];
functions!(
    broadcast_arrays,
    col2im,
    diagonal,
    diff,
    einsum,
    im2col,
    logsumexp,
    matrix_transpose,
    meshgrid,
    moveaxis,
    norm,
    one_hot,
    outer,
    pad,
    repeat,
    roll,
    tensordot,
    tile,
    tril,
    triu,
    unfold,
    vecdot,
);
