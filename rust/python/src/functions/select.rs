//! Functions that choose elements by index tensors, masks or order.

use corten_core::{Tensor, ops};
use corten_python_macros::{pyfunction, pymethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::convert::{AXIS, Arg, DTypeArg, Operand, either, given};
use crate::seam::run;
use crate::tensor::PyTensor;

/// The elements `indices` along `axis`, whose place the axes of `indices` take, as `numpy.take`; without `axis`: of the flattened
/// tensor. Negative indices count from the end. Gradient: elements taken repeatedly add up.
///
/// >>> import corten as ct
/// >>> ct.take(ct.tensor([[1, 2], [3, 4]]), ct.tensor([1, 1, 0]), axis=1)
/// tensor([[2, 2, 1],
///         [4, 4, 3]])
#[pyfunction]
#[pyo3(signature = (x, indices, axis = None))]
fn take(py: Python<'_>, x: Arg<'_>, indices: Arg<'_>, axis: Option<isize>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::take(x.0, indices.0, axis)).map(PyTensor::new)
}

/// One element per index along `axis`: `y[.., i, ..] = x[.., indices[.., i, ..], ..]`, as `numpy.take_along_axis`; the other axes
/// broadcast. What `argsort` gives fits. Gradient: elements taken repeatedly add up.
///
/// >>> import corten as ct
/// >>> x = ct.tensor([[3, 1, 2]])
/// >>> ct.take_along_axis(x, ct.argsort(x))
/// tensor([[1, 2, 3]])
#[pyfunction]
#[pyo3(signature = (x, indices, axis = -1), text_signature = "(x, indices, axis=-1)")]
fn take_along_axis(
    py: Python<'_>,
    x: Arg<'_>,
    indices: Arg<'_>,
    axis: isize,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::take_along_axis(x.0, indices.0, axis)
    })
    .map(PyTensor::new)
}

/// The rows, columns, ... of `axis` that a vector of indices names: `take` in torch's order of arguments.
///
/// >>> import corten as ct
/// >>> ct.index_select(ct.tensor([[1, 2], [3, 4]]), 1, ct.tensor([1]))
/// tensor([[2],
///         [4]])
#[pyfunction]
fn index_select(py: Python<'_>, x: Arg<'_>, axis: isize, index: Arg<'_>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::index_select(x.0, axis, index.0)).map(PyTensor::new)
}

/// `y[.., i, ..] = x[.., index[.., i, ..], ..]` along `axis`, torch's `gather`: the index may be smaller than `x` in the other
/// axes, but does not broadcast. Gradient: elements taken repeatedly add up.
///
/// >>> import corten as ct
/// >>> ct.gather(ct.tensor([[1, 2], [3, 4]]), 1, ct.tensor([[1], [0]]))
/// tensor([[2],
///         [3]])
#[pyfunction]
fn gather(py: Python<'_>, x: Arg<'_>, axis: isize, index: Arg<'_>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::gather(x.0, axis, index.0)).map(PyTensor::new)
}

/// A copy of `x` with `y[.., index[.., i, ..], ..] = src[.., i, ..]` along `axis`, torch's `scatter`; `src` may be a number. Where
/// several elements meet, the last one remains. Gradients: to `x` where it was not overwritten, and to what remained of `src`.
///
/// >>> import corten as ct
/// >>> ct.scatter(ct.zeros(4), 0, ct.tensor([1, 3]), ct.tensor([5.0, 6.0]))
/// tensor([0., 5., 0., 6.])
#[pyfunction]
fn scatter(
    py: Python<'_>,
    x: Arg<'_>,
    axis: isize,
    index: Arg<'_>,
    src: Operand<'_>,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::scatter(x.0, axis, index.0, &src)).map(PyTensor::new)
}

/// A copy of `x` with `y[.., index[.., i, ..], ..] += src[.., i, ..]` along `axis`, torch's `scatter_add`. Additions have a fixed
/// order on any number of threads. Gradients: `g`, and `g` gathered.
///
/// >>> import corten as ct
/// >>> ct.scatter_add(ct.zeros(3), 0, ct.tensor([1, 1, 2]), ct.tensor([5.0, 6.0, 7.0]))
/// tensor([ 0., 11.,  7.])
#[pyfunction]
fn scatter_add(
    py: Python<'_>,
    x: Arg<'_>,
    axis: isize,
    index: Arg<'_>,
    src: Arg<'_>,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::scatter_add(x.0, axis, index.0, src.0)
    })
    .map(PyTensor::new)
}

/// The elements where `mask` (bool, both broadcast) is true, in C order, as a vector. Gradient: `g` at their places, else 0.
///
/// >>> import corten as ct
/// >>> x = ct.arange(5)
/// >>> ct.masked_select(x, x > 2)
/// tensor([3, 4])
#[pyfunction]
fn masked_select(py: Python<'_>, x: Arg<'_>, mask: Arg<'_>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::masked_select(x.0, mask.0)).map(PyTensor::new)
}

/// `x` with `value` where `mask` (bool, broadcast) is true. Gradient: `g` where it is false.
///
/// >>> import corten as ct
/// >>> ct.masked_fill(ct.tensor([1.0, 2.0]), ct.tensor([True, False]), -1)
/// tensor([-1.,  2.])
#[pyfunction]
fn masked_fill(
    py: Python<'_>,
    x: Arg<'_>,
    mask: Arg<'_>,
    value: Operand<'_>,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::masked_fill(x.0, mask.0, &value)).map(PyTensor::new)
}

/// Running sums `y[i] = x[0] + .. + x[i]` along `axis` (may be left out for a vector), accumulated in float64; bool and integers
/// give int64. With `include_initial` a 0 comes first. Gradient: the running sum of `g` from the end.
///
/// >>> import corten as ct
/// >>> ct.cumulative_sum(ct.tensor([1, 2, 3]))
/// tensor([1, 3, 6])
#[pyfunction]
#[pyo3(signature = (x, axis = None, dtype = None, include_initial = false))]
fn cumulative_sum(
    py: Python<'_>,
    x: Arg<'_>,
    axis: Option<isize>,
    dtype: Option<DTypeArg>,
    include_initial: bool,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::cumulative_sum(x.0, axis, given(dtype), include_initial)
    })
    .map(PyTensor::new)
}

/// Running products `y[i] = x[0] .. x[i]` along `axis`, as `cumulative_sum`; with `include_initial` a 1 comes first. The gradient
/// is right where elements are 0, too.
///
/// >>> import corten as ct
/// >>> ct.cumulative_prod(ct.tensor([1, 2, 3]))
/// tensor([1, 2, 6])
#[pyfunction]
#[pyo3(signature = (x, axis = None, dtype = None, include_initial = false))]
fn cumulative_prod(
    py: Python<'_>,
    x: Arg<'_>,
    axis: Option<isize>,
    dtype: Option<DTypeArg>,
    include_initial: bool,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::cumulative_prod(x.0, axis, given(dtype), include_initial)
    })
    .map(PyTensor::new)
}

/// The elements in order along `axis`. Equal ones keep their order in either direction (whatever `stable` says); NaN comes last.
/// Gradient: `g` where each element came from.
///
/// >>> import corten as ct
/// >>> ct.sort(ct.tensor([3, 1, 2]), descending=True)
/// tensor([3, 2, 1])
#[pyfunction]
#[pyo3(signature = (x, axis = -1, descending = false, stable = true), text_signature = "(x, axis=-1, descending=False, stable=True)")]
fn sort(
    py: Python<'_>,
    x: Arg<'_>,
    axis: isize,
    descending: bool,
    stable: bool,
) -> PyResult<PyTensor> {
    let _ = stable; // the array API lets one ask for less than what is given
    run(py, x.0.numel(), || ops::sort(x.0, axis, descending)).map(PyTensor::new)
}

/// The int64 indices that sort along `axis`. Equal elements keep their order in either direction (whatever `stable` says); NaN
/// comes last.
///
/// >>> import corten as ct
/// >>> ct.argsort(ct.tensor([3, 1, 2]))
/// tensor([1, 2, 0])
#[pyfunction]
#[pyo3(signature = (x, axis = -1, descending = false, stable = true), text_signature = "(x, axis=-1, descending=False, stable=True)")]
fn argsort(
    py: Python<'_>,
    x: Arg<'_>,
    axis: isize,
    descending: bool,
    stable: bool,
) -> PyResult<PyTensor> {
    let _ = stable; // the array API lets one ask for less than what is given
    run(py, x.0.numel(), || ops::argsort(x.0, axis, descending)).map(PyTensor::new)
}

/// The `k` largest (or smallest) elements along `axis`, in order, and their indices. Of equal ones the first; NaN comes last.
///
/// >>> import corten as ct
/// >>> ct.topk(ct.tensor([1, 5, 3]), 2)
/// (tensor([5, 3]), tensor([1, 2]))
#[pyfunction]
#[pyo3(signature = (x, k, axis = -1, largest = true), text_signature = "(x, k, axis=-1, largest=True)")]
fn topk(
    py: Python<'_>,
    x: Arg<'_>,
    k: isize,
    axis: isize,
    largest: bool,
) -> PyResult<(PyTensor, PyTensor)> {
    let k = usize::try_from(k)
        .map_err(|_| PyValueError::new_err(format!("[topk] k must not be negative, got {k}")))?;
    let (values, indices) = run(py, x.0.numel(), || ops::topk(x.0, k, axis, largest))?;
    Ok((PyTensor::new(values), PyTensor::new(indices)))
}

/// The different values, ascending; each NaN differs from all others. Gradient: to their first occurrence.
///
/// >>> import corten as ct
/// >>> ct.unique_values(ct.tensor([2, 1, 2]))
/// tensor([1, 2])
#[pyfunction]
fn unique_values(py: Python<'_>, x: Arg<'_>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::unique(x.0)).map(|u| PyTensor::new(u.values))
}

/// The different values, ascending, and how often each occurs.
///
/// >>> import corten as ct
/// >>> ct.unique_counts(ct.tensor([2, 1, 2]))
/// (tensor([1, 2]), tensor([1, 2]))
#[pyfunction]
fn unique_counts(py: Python<'_>, x: Arg<'_>) -> PyResult<(PyTensor, PyTensor)> {
    let u = run(py, x.0.numel(), || ops::unique(x.0))?;
    Ok((PyTensor::new(u.values), PyTensor::new(u.counts)))
}

/// The different values, ascending, and for each element the number of its value.
///
/// >>> import corten as ct
/// >>> ct.unique_inverse(ct.tensor([2, 1, 2]))
/// (tensor([1, 2]), tensor([1, 0, 1]))
#[pyfunction]
fn unique_inverse(py: Python<'_>, x: Arg<'_>) -> PyResult<(PyTensor, PyTensor)> {
    let u = run(py, x.0.numel(), || ops::unique(x.0))?;
    Ok((PyTensor::new(u.values), PyTensor::new(u.inverse)))
}

/// The different values, ascending; where each first occurs in the flattened tensor; for each element the number of its value; how
/// often each value occurs.
///
/// >>> import corten as ct
/// >>> ct.unique_all(ct.tensor([2, 1, 2]))
/// (tensor([1, 2]), tensor([1, 0]), tensor([1, 0, 1]), tensor([1, 2]))
#[pyfunction]
fn unique_all(py: Python<'_>, x: Arg<'_>) -> PyResult<(PyTensor, PyTensor, PyTensor, PyTensor)> {
    let u = run(py, x.0.numel(), || ops::unique(x.0))?;
    let [a, b, c, d] = [u.values, u.indices, u.inverse, u.counts].map(PyTensor::new);
    Ok((a, b, c, d))
}

/// The indices of the elements that are not 0, in C order: one int64 vector per axis.
///
/// >>> import corten as ct
/// >>> ct.nonzero(ct.tensor([[0, 1], [2, 0]]))
/// [tensor([0, 1]), tensor([1, 0])]
#[pyfunction]
fn nonzero(py: Python<'_>, x: Arg<'_>) -> PyResult<Vec<PyTensor>> {
    let found: Vec<Tensor> = run(py, x.0.numel(), || ops::nonzero(x.0))?;
    Ok(found.into_iter().map(PyTensor::new).collect())
}

/// Where each of `x2` would be inserted into the ascending vector `x1` to keep it in order: before equal elements
/// (`side="left"`) or behind them ("right").
///
/// >>> import corten as ct
/// >>> ct.searchsorted(ct.tensor([1, 3, 5]), ct.tensor([3, 4]))
/// tensor([1, 2])
#[pyfunction]
#[pyo3(signature = (x1, x2, side = "left"))]
fn searchsorted(py: Python<'_>, x1: Arg<'_>, x2: Arg<'_>, side: &str) -> PyResult<PyTensor> {
    let right = match side {
        "left" => false,
        "right" => true,
        _ => {
            return Err(PyValueError::new_err(format!(
                "[searchsorted] side must be 'left' or 'right', not '{side}'"
            )));
        }
    };
    run(py, x2.0.numel(), || ops::searchsorted(x1.0, x2.0, right)).map(PyTensor::new)
}

/// `axis` or `dim`, one of which is needed.
fn needed(op: &str, axis: Option<isize>, dim: Option<isize>) -> PyResult<isize> {
    either(op, AXIS, axis, dim)?
        .ok_or_else(|| PyTypeError::new_err(format!("[{op}] axis is needed")))
}

#[pymethods]
impl PyTensor {
    /// One element per index along `axis`, torch's order of arguments. See `corten.gather`.
    fn gather(&self, py: Python<'_>, axis: isize, index: Arg<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::gather(&self.tensor, axis, index.0)
        })
        .map(Self::new)
    }
    /// A copy with elements of `src` at the places of an index. See `corten.scatter`.
    fn scatter(
        &self,
        py: Python<'_>,
        axis: isize,
        index: Arg<'_>,
        src: Operand<'_>,
    ) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::scatter(&self.tensor, axis, index.0, &src)
        })
        .map(Self::new)
    }
    /// A copy with elements of `src` added at the places of an index. See `corten.scatter_add`.
    fn scatter_add(
        &self,
        py: Python<'_>,
        axis: isize,
        index: Arg<'_>,
        src: Arg<'_>,
    ) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::scatter_add(&self.tensor, axis, index.0, src.0)
        })
        .map(Self::new)
    }
    /// The rows, columns, ... of `axis` that a vector of indices names. See `corten.index_select`.
    fn index_select(&self, py: Python<'_>, axis: isize, index: Arg<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::index_select(&self.tensor, axis, index.0)
        })
        .map(Self::new)
    }
    /// The elements where `mask` is true, as a vector. See `corten.masked_select`.
    fn masked_select(&self, py: Python<'_>, mask: Arg<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::masked_select(&self.tensor, mask.0)
        })
        .map(Self::new)
    }
    /// `value` where `mask` is true. See `corten.masked_fill`.
    fn masked_fill(&self, py: Python<'_>, mask: Arg<'_>, value: Operand<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::masked_fill(&self.tensor, mask.0, &value)
        })
        .map(Self::new)
    }
    /// Running sums along `axis`. See `corten.cumulative_sum`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn cumsum(&self, py: Python<'_>, axis: Option<isize>, dim: Option<isize>) -> PyResult<Self> {
        let axis = Some(needed("cumsum", axis, dim)?);
        run(py, self.tensor.numel(), || {
            ops::cumulative_sum(&self.tensor, axis, None, false)
        })
        .map(Self::new)
    }
    /// Running products along `axis`. See `corten.cumulative_prod`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn cumprod(&self, py: Python<'_>, axis: Option<isize>, dim: Option<isize>) -> PyResult<Self> {
        let axis = Some(needed("cumprod", axis, dim)?);
        run(py, self.tensor.numel(), || {
            ops::cumulative_prod(&self.tensor, axis, None, false)
        })
        .map(Self::new)
    }
    /// The elements in order along `axis` (the last one by default). See `corten.sort`.
    #[pyo3(signature = (axis = None, descending = false, *, dim = None))]
    fn sort(
        &self,
        py: Python<'_>,
        axis: Option<isize>,
        descending: bool,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        let axis = either("sort", AXIS, axis, dim)?.unwrap_or(-1);
        run(py, self.tensor.numel(), || {
            ops::sort(&self.tensor, axis, descending)
        })
        .map(Self::new)
    }
    /// The indices that sort along `axis` (the last one by default). See `corten.argsort`.
    #[pyo3(signature = (axis = None, descending = false, *, dim = None))]
    fn argsort(
        &self,
        py: Python<'_>,
        axis: Option<isize>,
        descending: bool,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        let axis = either("argsort", AXIS, axis, dim)?.unwrap_or(-1);
        run(py, self.tensor.numel(), || {
            ops::argsort(&self.tensor, axis, descending)
        })
        .map(Self::new)
    }
    /// The `k` largest (or smallest) elements along `axis` (the last one by default), and their indices. See `corten.topk`.
    #[pyo3(signature = (k, axis = None, largest = true, *, dim = None))]
    fn topk(
        &self,
        py: Python<'_>,
        k: isize,
        axis: Option<isize>,
        largest: bool,
        dim: Option<isize>,
    ) -> PyResult<(Self, Self)> {
        topk(
            py,
            Arg(&self.tensor),
            k,
            either("topk", AXIS, axis, dim)?.unwrap_or(-1),
            largest,
        )
    }
    /// The elements `indices` along `axis`; without one, of the flattened tensor. See `corten.take`.
    #[pyo3(signature = (indices, axis = None, *, dim = None))]
    fn take(
        &self,
        py: Python<'_>,
        indices: Arg<'_>,
        axis: Option<isize>,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        let axis = either("take", AXIS, axis, dim)?;
        run(py, self.tensor.numel(), || {
            ops::take(&self.tensor, indices.0, axis)
        })
        .map(Self::new)
    }
    /// One element per index along `axis` (the last one by default). See `corten.take_along_axis`.
    #[pyo3(signature = (indices, axis = None, *, dim = None))]
    fn take_along_axis(
        &self,
        py: Python<'_>,
        indices: Arg<'_>,
        axis: Option<isize>,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        let axis = either("take_along_axis", AXIS, axis, dim)?.unwrap_or(-1);
        run(py, self.tensor.numel(), || {
            ops::take_along_axis(&self.tensor, indices.0, axis)
        })
        .map(Self::new)
    }
    /// The indices of the elements that are not 0, one vector per axis. See `corten.nonzero`.
    fn nonzero(&self, py: Python<'_>) -> PyResult<Vec<Self>> {
        nonzero(py, Arg(&self.tensor))
    }
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "argsort",
    "cumulative_prod",
    "cumulative_sum",
    "gather",
    "index_select",
    "masked_fill",
    "masked_select",
    "nonzero",
    "scatter",
    "scatter_add",
    "searchsorted",
    "sort",
    "take",
    "take_along_axis",
    "topk",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
];
functions!(
    argsort,
    cumulative_prod,
    cumulative_sum,
    gather,
    index_select,
    masked_fill,
    masked_select,
    nonzero,
    scatter,
    scatter_add,
    searchsorted,
    sort,
    take,
    take_along_axis,
    topk,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
);
