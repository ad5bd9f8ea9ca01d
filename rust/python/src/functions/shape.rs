//! Shape functions: most give views that share memory.

use corten_core::ops::Sections;
use corten_core::{Tensor, ops};
use corten_python_macros::{pyfunction, pymethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::matmul_work;
use crate::convert::{AXIS, Arg, Args, Axes, ShapeArg, SizesArg, either};
use crate::seam::run;
use crate::tensor::PyTensor;

fn reshaped(py: Python<'_>, x: &Tensor, shape: &ShapeArg) -> PyResult<PyTensor> {
    run(py, x.numel(), || ops::reshape(x, &shape.0)).map(PyTensor::new)
}

/// The same elements in C order as another shape; one size may be -1. A view when the strides allow it.
///
/// >>> import corten as ct
/// >>> ct.reshape(ct.arange(6), (2, -1))
/// tensor([[0, 1, 2],
///         [3, 4, 5]])
#[pyfunction]
fn reshape(py: Python<'_>, x: Arg<'_>, shape: ShapeArg) -> PyResult<PyTensor> {
    reshaped(py, x.0, &shape)
}

fn permuted(py: Python<'_>, x: &Tensor, axes: &Axes) -> PyResult<PyTensor> {
    let Some(axes) = axes.get() else {
        return Err(PyTypeError::new_err(
            "[permute_dims] the order of the axes is needed, e.g. (1, 0)",
        ));
    };
    run(py, 0, || ops::permute_dims(x, axes)).map(PyTensor::new)
}

/// The axes in another order, a view: axis `i` of the result is axis `axes[i]` of `x`.
///
/// >>> import corten as ct
/// >>> ct.permute_dims(ct.zeros((2, 3, 4)), (2, 0, 1)).shape
/// (4, 2, 3)
#[pyfunction]
fn permute_dims(py: Python<'_>, x: Arg<'_>, axes: Axes) -> PyResult<PyTensor> {
    permuted(py, x.0, &axes)
}

/// Two axes swapped, a view.
///
/// >>> import corten as ct
/// >>> ct.transpose(ct.zeros((2, 3, 4)), 0, 2).shape
/// (4, 3, 2)
#[pyfunction]
fn transpose(py: Python<'_>, x: Arg<'_>, axis1: isize, axis2: isize) -> PyResult<PyTensor> {
    run(py, 0, || ops::transpose(x.0, axis1, axis2)).map(PyTensor::new)
}

/// Without the axes of size 1 (all of them, or those that `axis` names), a view.
///
/// >>> import corten as ct
/// >>> ct.squeeze(ct.zeros((1, 3, 1)), axis=0).shape
/// (3, 1)
#[pyfunction]
#[pyo3(signature = (x, axis = Axes(None)), text_signature = "(x, axis=None)")]
fn squeeze(py: Python<'_>, x: Arg<'_>, axis: Axes) -> PyResult<PyTensor> {
    run(py, 0, || ops::squeeze(x.0, axis.get())).map(PyTensor::new)
}

/// A new axis of size 1 at position `axis` of the result, a view.
///
/// >>> import corten as ct
/// >>> ct.expand_dims(ct.zeros(3), -1).shape
/// (3, 1)
#[pyfunction]
#[pyo3(signature = (x, axis = 0))]
fn expand_dims(py: Python<'_>, x: Arg<'_>, axis: isize) -> PyResult<PyTensor> {
    run(py, 0, || ops::expand_dims(x.0, axis)).map(PyTensor::new)
}

/// The elements repeated along axes of size 1 to fill a larger shape: a view, nothing is copied.
///
/// >>> import corten as ct
/// >>> ct.broadcast_to(ct.tensor([1, 2]), (2, 2))
/// tensor([[1, 2],
///         [1, 2]])
#[pyfunction]
fn broadcast_to(py: Python<'_>, x: Arg<'_>, shape: SizesArg) -> PyResult<PyTensor> {
    let shape = shape.0;
    run(py, 0, || ops::broadcast_to(x.0, &shape)).map(PyTensor::new)
}

/// The axes from `start_axis` to `end_axis` (included) as one.
///
/// >>> import corten as ct
/// >>> ct.flatten(ct.zeros((2, 3, 4)), start_axis=1).shape
/// (2, 12)
#[pyfunction]
#[pyo3(signature = (x, start_axis = 0, end_axis = -1), text_signature = "(x, start_axis=0, end_axis=-1)")]
fn flatten(py: Python<'_>, x: Arg<'_>, start_axis: isize, end_axis: isize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::flatten(x.0, start_axis, end_axis)).map(PyTensor::new)
}

fn total(tensors: &[Tensor]) -> usize {
    tensors.iter().map(Tensor::numel).sum()
}

/// Tensors one after another along an existing axis; their other sizes must agree.
///
/// >>> import corten as ct
/// >>> ct.concat([ct.zeros(2), ct.ones(1)])
/// tensor([0., 0., 1.])
#[pyfunction]
#[pyo3(signature = (tensors, axis = 0))]
fn concat(py: Python<'_>, tensors: Args, axis: isize) -> PyResult<PyTensor> {
    let parts: Vec<&Tensor> = tensors.0.iter().collect();
    run(py, total(&tensors.0), || ops::concat(&parts, axis)).map(PyTensor::new)
}

/// Tensors of one shape side by side along a new axis.
///
/// >>> import corten as ct
/// >>> ct.stack([ct.zeros(2), ct.ones(2)])
/// tensor([[0., 0.],
///         [1., 1.]])
#[pyfunction]
#[pyo3(signature = (tensors, axis = 0))]
fn stack(py: Python<'_>, tensors: Args, axis: isize) -> PyResult<PyTensor> {
    let parts: Vec<&Tensor> = tensors.0.iter().collect();
    run(py, total(&tensors.0), || ops::stack(&parts, axis)).map(PyTensor::new)
}

/// How `split` cuts: into equal parts, or before the given positions.
enum Cuts {
    Sections(usize),
    Indices(Vec<isize>),
}

impl<'py> FromPyObject<'_, 'py> for Cuts {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(n) = obj.extract::<isize>() {
            return usize::try_from(n).map(Self::Sections).map_err(|_| {
                PyValueError::new_err(format!(
                    "[split] the number of parts must be positive, not {n}"
                ))
            });
        }
        match obj.extract::<Axes>() {
            Ok(Axes(Some(at))) => Ok(Self::Indices(at)),
            _ => Err(PyTypeError::new_err(
                "[split] indices_or_sections is an int or a sequence of ints",
            )),
        }
    }
}

fn parts(py: Python<'_>, x: &Tensor, cuts: &Cuts, axis: isize) -> PyResult<Vec<PyTensor>> {
    let sections = match cuts {
        Cuts::Sections(n) => Sections::Parts(*n),
        Cuts::Indices(at) => Sections::At(at),
    };
    let parts = run(py, 0, || ops::split(x, sections, axis))?;
    Ok(parts.into_iter().map(PyTensor::new).collect())
}

/// Parts along `axis`, as NumPy: an int is the number of equal parts, a sequence the positions before which it is cut. Views.
///
/// >>> import corten as ct
/// >>> ct.split(ct.arange(6), [1, 3])
/// [tensor([0]), tensor([1, 2]), tensor([3, 4, 5])]
#[pyfunction]
#[pyo3(signature = (x, indices_or_sections, axis = 0))]
fn split(
    py: Python<'_>,
    x: Arg<'_>,
    indices_or_sections: Cuts,
    axis: isize,
) -> PyResult<Vec<PyTensor>> {
    parts(py, x.0, &indices_or_sections, axis)
}

/// The elements in reverse order along `axis` (all axes when None), a view.
///
/// >>> import corten as ct
/// >>> ct.flip(ct.arange(3))
/// tensor([2, 1, 0])
#[pyfunction]
#[pyo3(signature = (x, axis = Axes(None)), text_signature = "(x, axis=None)")]
fn flip(py: Python<'_>, x: Arg<'_>, axis: Axes) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::flip(x.0, axis.get())).map(PyTensor::new)
}

/// The matrix product `x1 @ x2`: `(..., m, k) @ (..., k, n) -> (..., m, n)`, leading axes broadcast.
///
/// A vector is a row on the left and a column on the right, and its axis disappears. Gradients: `g @ x2^T` and `x1^T @ g`.
///
/// >>> import corten as ct
/// >>> ct.matmul(ct.tensor([[1.0, 2.0], [3.0, 4.0]]), ct.tensor([1.0, 1.0]))
/// tensor([3., 7.])
#[pyfunction]
fn matmul(py: Python<'_>, x1: Arg<'_>, x2: Arg<'_>) -> PyResult<PyTensor> {
    run(py, matmul_work(x1.0, x2.0), || ops::matmul(x1.0, x2.0)).map(PyTensor::new)
}

/// `x[indices]` along axis 0: `x (rows, *rest)`, `indices (*i)` integers, result `(*i, *rest)`. Negative indices count from
/// the end. Gradient: rows add up where an index repeats.
///
/// >>> import corten as ct
/// >>> ct.take_rows(ct.tensor([[1.0], [2.0], [3.0]]), ct.tensor([2, 0]))
/// tensor([[3.],
///         [1.]])
#[pyfunction]
fn take_rows(py: Python<'_>, x: Arg<'_>, indices: Arg<'_>) -> PyResult<PyTensor> {
    let row = x.0.numel() / x.0.shape().first().copied().unwrap_or(1).max(1);
    run(py, row * indices.0.numel(), || {
        ops::take_rows(x.0, indices.0)
    })
    .map(PyTensor::new)
}

#[pymethods]
impl PyTensor {
    /// The same elements as another shape: `x.reshape(2, 3)` or `x.reshape((2, 3))`; one size may be -1. See `corten.reshape`.
    #[pyo3(signature = (*shape))]
    fn reshape(&self, py: Python<'_>, shape: &Bound<'_, PyTuple>) -> PyResult<Self> {
        reshaped(
            py,
            &self.tensor,
            &ShapeArg::from_args(shape, "reshape", "shape")?,
        )
    }
    /// The axes in another order: `x.permute(2, 0, 1)` or `x.permute((2, 0, 1))`, a view. See `corten.permute_dims`.
    #[pyo3(signature = (*axes))]
    fn permute(&self, py: Python<'_>, axes: &Bound<'_, PyTuple>) -> PyResult<Self> {
        permuted(
            py,
            &self.tensor,
            &Axes(Some(ShapeArg::from_args(axes, "permute", "axes")?.0)),
        )
    }
    /// The axes in another order, a view. See `corten.permute_dims`.
    fn permute_dims(&self, py: Python<'_>, axes: Axes) -> PyResult<Self> {
        permuted(py, &self.tensor, &axes)
    }
    /// Two axes swapped, a view. See `corten.transpose`.
    fn transpose(&self, py: Python<'_>, axis1: isize, axis2: isize) -> PyResult<Self> {
        run(py, 0, || ops::transpose(&self.tensor, axis1, axis2)).map(Self::new)
    }
    /// Without the axes of size 1 (all of them, or those that `axis` names), a view. See `corten.squeeze`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn squeeze(&self, py: Python<'_>, axis: Option<Axes>, dim: Option<Axes>) -> PyResult<Self> {
        let axes = either("squeeze", AXIS, axis, dim)?.unwrap_or_default();
        run(py, 0, || ops::squeeze(&self.tensor, axes.get())).map(Self::new)
    }
    /// A new axis of size 1 at position `axis` of the result, a view. See `corten.expand_dims`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn expand_dims(
        &self,
        py: Python<'_>,
        axis: Option<isize>,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        let axis = either("expand_dims", AXIS, axis, dim)?.unwrap_or(0);
        run(py, 0, || ops::expand_dims(&self.tensor, axis)).map(Self::new)
    }
    /// torch's name of `expand_dims`: a new axis of size 1, a view.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn unsqueeze(&self, py: Python<'_>, axis: Option<isize>, dim: Option<isize>) -> PyResult<Self> {
        self.expand_dims(py, axis, dim)
    }
    /// The elements repeated along axes of size 1 to fill a larger shape, a view. See `corten.broadcast_to`.
    fn broadcast_to(&self, py: Python<'_>, shape: SizesArg) -> PyResult<Self> {
        let shape = shape.0;
        run(py, 0, || ops::broadcast_to(&self.tensor, &shape)).map(Self::new)
    }
    /// As `broadcast_to`: `x.expand(2, 3)` or `x.expand((2, 3))`; -1 keeps an axis as it is.
    #[pyo3(signature = (*shape))]
    fn expand(&self, py: Python<'_>, shape: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let mut shape = ShapeArg::from_args(shape, "expand", "shape")?;
        let lead = shape.0.len().saturating_sub(self.tensor.ndim());
        for (i, &n) in self.tensor.shape().iter().enumerate() {
            if let Some(s) = shape.0.get_mut(lead + i).filter(|s| **s == -1) {
                *s = n as isize;
            }
        }
        let shape = shape
            .sizes()
            .map_err(|e| PyValueError::new_err(format!("[expand] shape: {e}")))?;
        run(py, 0, || ops::broadcast_to(&self.tensor, &shape)).map(Self::new)
    }
    /// The axes from `start_axis` to `end_axis` (included) as one. See `corten.flatten`.
    #[pyo3(signature = (start_axis = None, end_axis = None, *, start_dim = None, end_dim = None))]
    fn flatten(
        &self,
        py: Python<'_>,
        start_axis: Option<isize>,
        end_axis: Option<isize>,
        start_dim: Option<isize>,
        end_dim: Option<isize>,
    ) -> PyResult<Self> {
        let (start, end) = (
            either(
                "flatten",
                ["start_axis", "start_dim"],
                start_axis,
                start_dim,
            )?
            .unwrap_or(0),
            either("flatten", ["end_axis", "end_dim"], end_axis, end_dim)?.unwrap_or(-1),
        );
        run(py, self.tensor.numel(), || {
            ops::flatten(&self.tensor, start, end)
        })
        .map(Self::new)
    }
    /// Parts along `axis`: equal ones, or cut before the given positions. See `corten.split`.
    #[pyo3(signature = (indices_or_sections, axis = None, *, dim = None))]
    fn split(
        &self,
        py: Python<'_>,
        indices_or_sections: Cuts,
        axis: Option<isize>,
        dim: Option<isize>,
    ) -> PyResult<Vec<Self>> {
        parts(
            py,
            &self.tensor,
            &indices_or_sections,
            either("split", AXIS, axis, dim)?.unwrap_or(0),
        )
    }
    /// The elements in reverse order along `axis` (all axes when None), a view. See `corten.flip`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn flip(&self, py: Python<'_>, axis: Option<Axes>, dim: Option<Axes>) -> PyResult<Self> {
        let axes = either("flip", AXIS, axis, dim)?.unwrap_or_default();
        run(py, self.tensor.numel(), || {
            ops::flip(&self.tensor, axes.get())
        })
        .map(Self::new)
    }
    /// The matrix product `x @ x2`. See `corten.matmul`.
    fn matmul(&self, py: Python<'_>, x2: Arg<'_>) -> PyResult<Self> {
        run(py, matmul_work(&self.tensor, x2.0), || {
            ops::matmul(&self.tensor, x2.0)
        })
        .map(Self::new)
    }
    /// `x[indices]` along axis 0. See `corten.take_rows`.
    fn take_rows(&self, py: Python<'_>, indices: Arg<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::take_rows(&self.tensor, indices.0)
        })
        .map(Self::new)
    }
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "broadcast_to",
    "concat",
    "expand_dims",
    "flatten",
    "flip",
    "matmul",
    "permute_dims",
    "reshape",
    "split",
    "squeeze",
    "stack",
    "take_rows",
    "transpose",
];
functions!(
    broadcast_to,
    concat,
    expand_dims,
    flatten,
    flip,
    matmul,
    permute_dims,
    reshape,
    split,
    squeeze,
    stack,
    take_rows,
    transpose,
);
