//! `x[...]`: ints, slices, None and Ellipsis give views; `x[...] = value` writes to a leaf.

use corten_core::Tensor;
use corten_core::ops::{self, Index};
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PySlice, PyTuple};

use crate::convert::{Operand, type_name};
use crate::seam::{run, write};
use crate::tensor::PyTensor;

/// One bound of a slice.
fn bound(obj: &Bound<'_, PyAny>) -> PyResult<Option<isize>> {
    if obj.is_none() {
        return Ok(None);
    }
    match obj.extract::<isize>() {
        Ok(i) => Ok(Some(i)),
        // Python cuts off bounds that are out of range, however large.
        Err(_) if obj.cast::<PyInt>().is_ok() => Ok(Some(if obj.lt(0)? {
            isize::MIN / 2
        } else {
            isize::MAX / 2
        })),
        Err(_) => Err(PyTypeError::new_err(format!(
            "[getitem] a slice is made of ints or None, not {}",
            type_name(obj)
        ))),
    }
}

fn entry(obj: &Bound<'_, PyAny>) -> PyResult<Index> {
    let py = obj.py();
    if let Ok(slice) = obj.cast::<PySlice>() {
        let part = |name| bound(&slice.getattr(name)?);
        return Ok(Index::Slice {
            start: part(pyo3::intern!(py, "start"))?,
            stop: part(pyo3::intern!(py, "stop"))?,
            step: part(pyo3::intern!(py, "step"))?,
        });
    }
    if obj.is_none() {
        return Ok(Index::NewAxis);
    }
    if obj.cast::<PyEllipsis>().is_ok() {
        return Ok(Index::Ellipsis);
    }
    if obj.cast::<PyBool>().is_err() {
        if let Ok(i) = obj.extract::<isize>() {
            return Ok(Index::At(i));
        }
        if obj.cast::<PyInt>().is_ok() {
            return Err(PyIndexError::new_err(format!(
                "[getitem] index {obj} is out of range"
            )));
        }
    }
    let fix = if obj.cast::<PyTensor>().is_ok() {
        " (rows by index: corten.take_rows(x, indices); by condition: corten.where)"
    } else {
        ""
    };
    Err(PyTypeError::new_err(format!(
        "[getitem] an index is made of ints, slices, None and Ellipsis, not {}{fix}",
        type_name(obj)
    )))
}

/// All entries of an index.
fn entries(index: &Bound<'_, PyAny>) -> PyResult<Vec<Index>> {
    match index.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter_borrowed().map(|i| entry(&i)).collect(),
        Err(_) => Ok(vec![entry(index)?]),
    }
}

/// Row `i` of `x`, a view.
pub(crate) fn row(py: Python<'_>, x: &Tensor, i: usize) -> PyResult<PyTensor> {
    run(py, 0, || ops::index(x, &[Index::At(i as isize)])).map(PyTensor::new)
}

/// Iterates over the first axis.
#[pyclass(name = "TensorIterator", module = "corten")]
pub(crate) struct Rows {
    tensor: Tensor,
    next: usize,
}

#[pymethods]
impl Rows {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<PyTensor>> {
        if self.next >= self.tensor.shape()[0] {
            return Ok(None);
        }
        self.next += 1;
        row(py, &self.tensor, self.next - 1).map(Some)
    }
    fn __length_hint__(&self) -> usize {
        self.tensor.shape()[0] - self.next
    }
}

#[pymethods]
impl PyTensor {
    fn __getitem__(&self, py: Python<'_>, index: &Bound<'_, PyAny>) -> PyResult<Self> {
        let index = entries(index)?;
        run(py, 0, || ops::index(&self.tensor, &index)).map(Self::new)
    }
    fn __setitem__(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        value: Operand<'_>,
    ) -> PyResult<()> {
        let index = entries(index)?;
        write(py, self.tensor.numel(), || {
            ops::set_item(&self.tensor, &index, &value)
        })
    }
    fn __iter__(&self) -> PyResult<Rows> {
        if self.tensor.ndim() == 0 {
            return Err(PyTypeError::new_err(
                "[iter] a tensor without axes cannot be iterated over; use x.item()",
            ));
        }
        Ok(Rows {
            tensor: self.tensor.clone(),
            next: 0,
        })
    }
    fn __contains__(&self, py: Python<'_>, value: Operand<'_>) -> PyResult<bool> {
        let found = run(py, self.tensor.numel(), || {
            ops::any(&ops::equal(&self.tensor, &value)?, None, false)?.item()
        })?;
        Ok(found.to_bool())
    }
}
