//! `x[...]`: ints, slices, None and Ellipsis give views, index tensors and masks pick elements; `x[...] = value` writes to a leaf.

use corten_core::ops::{self, Index, Selector};
use corten_core::{DType, Device, Tensor};
use corten_python_macros::pymethods;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyEllipsis, PyInt, PyList, PySlice, PyTuple};

use crate::arrays;
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

/// What an integer tensor, a mask, or whatever becomes one, picks. Indices are read on the host: their device does not matter.
fn picks(tensor: Tensor) -> PyResult<Selector> {
    let dtype = tensor.dtype();
    if dtype.is_float() {
        return Err(PyTypeError::new_err(format!(
            "[getitem] an index tensor holds integers or bools, not {dtype} (cast it: i.astype('int64'))"
        )));
    }
    Ok(Selector::Tensor(tensor))
}

fn entry(obj: &Bound<'_, PyAny>) -> PyResult<Selector> {
    let py = obj.py();
    if let Ok(slice) = obj.cast::<PySlice>() {
        let part = |name| bound(&slice.getattr(name)?);
        return Ok(Selector::Basic(Index::Slice {
            start: part(pyo3::intern!(py, "start"))?,
            stop: part(pyo3::intern!(py, "stop"))?,
            step: part(pyo3::intern!(py, "step"))?,
        }));
    }
    if obj.is_none() {
        return Ok(Selector::Basic(Index::NewAxis));
    }
    if obj.cast::<PyEllipsis>().is_ok() {
        return Ok(Selector::Basic(Index::Ellipsis));
    }
    if let Ok(t) = obj.cast::<PyTensor>() {
        return picks(t.get().tensor.clone());
    }
    if let Ok(set) = obj.cast::<PyBool>() {
        let set = [u8::from(set.is_true())];
        let mask = run(py, 0, || {
            Tensor::from_slice_on(&set, &[], DType::Bool, Device::Cpu)
        })?;
        return Ok(Selector::Tensor(mask));
    }
    if obj.cast::<PyInt>().is_ok() {
        return match obj.extract::<isize>() {
            Ok(i) => Ok(Selector::Basic(Index::At(i))),
            Err(_) => Err(PyIndexError::new_err(format!(
                "[getitem] index {obj} is out of range"
            ))),
        };
    }
    let list = obj.cast::<PyList>().is_ok() || obj.cast::<PyTuple>().is_ok();
    if list || arrays::is_numpy(obj)? || obj.hasattr(pyo3::intern!(py, "__array__"))? {
        let tensor = arrays::convert(obj, None, arrays::Copy::IfNeeded)?;
        if list && tensor.numel() == 0 {
            // A list without elements has no dtype of its own.
            return picks(run(py, 0, || ops::astype(&tensor, DType::I64))?);
        }
        return picks(tensor);
    }
    match obj.extract::<isize>() {
        Ok(i) => Ok(Selector::Basic(Index::At(i))), // through __index__
        Err(_) => Err(PyTypeError::new_err(format!(
            "[getitem] an index is made of ints, slices, None, Ellipsis, index tensors and masks, not {}",
            type_name(obj)
        ))),
    }
}

/// All entries of an index.
fn entries(index: &Bound<'_, PyAny>) -> PyResult<Vec<Selector>> {
    match index.cast::<PyTuple>() {
        Ok(tuple) => tuple.iter_borrowed().map(|i| entry(&i)).collect(),
        Err(_) => Ok(vec![entry(index)?]),
    }
}

/// A rough number of elements that an index reads, for the decision about the GIL: none for a view.
fn index_work(x: &Tensor, index: &[Selector]) -> usize {
    let picks = index.iter().filter_map(|s| match s {
        Selector::Tensor(t) => Some(t.numel()),
        Selector::Basic(_) => None,
    });
    let rows = x.shape().first().copied().unwrap_or(1).max(1);
    picks
        .max()
        .map_or(0, |n| n.saturating_mul(x.numel() / rows).max(n))
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
        let work = index_work(&self.tensor, &index);
        run(py, work, || ops::get_item(&self.tensor, &index)).map(Self::new)
    }
    fn __setitem__(
        &self,
        py: Python<'_>,
        index: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let index = entries(index)?;
        let listed = value.cast::<PyList>().is_ok() || value.cast::<PyTuple>().is_ok();
        let value = if listed {
            Operand::Array(arrays::convert(value, None, arrays::Copy::IfNeeded)?)
        } else {
            value.extract::<Operand<'_>>()?
        };
        // What is no tensor has no device of its own.
        let value = match value {
            Operand::Array(a) if a.device() != self.tensor.device() => {
                let device = self.tensor.device();
                Operand::Array(run(py, a.numel(), || ops::to_device(&a, device))?)
            }
            same => same,
        };
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
