//! Tensors out: the buffer protocol, NumPy arrays, nested lists.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use corten_core::{DType, Scalar, Tensor, Value};
use pyo3::exceptions::{PyBufferError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyMemoryView};

use crate::convert::numpy;
use crate::seam;
use crate::tensor::PyTensor;

/// What an exported buffer points to; lives until the consumer releases the buffer.
struct Export {
    /// Keeps the memory, whatever is assigned to the tensor meanwhile (copy-on-write).
    _value: Value,
    shape: Vec<ffi::Py_ssize_t>,
    strides: Vec<ffi::Py_ssize_t>,
}

fn format(d: DType) -> &'static CStr {
    match d {
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::I64 => c"q",
        DType::I32 => c"i",
        DType::I16 => c"h",
        DType::I8 => c"b",
        DType::Bool => c"?",
        _ => c"B",
    }
}

/// Fails for a tensor that takes part in gradients: its NumPy copy would silently leave the graph.
pub(crate) fn check_detached(t: &Tensor) -> PyResult<()> {
    if t.requires_grad() {
        return Err(PyRuntimeError::new_err(
            "[numpy] this tensor requires grad, and what NumPy computes is not recorded; use x.detach().numpy()",
        ));
    }
    Ok(())
}

/// Fills `view` with a read-only, C-contiguous view of `t`.
///
/// # Safety
/// `view` is null or points to a `Py_buffer` that the caller lets us fill.
pub(crate) unsafe fn fill(
    slf: &Bound<'_, PyTensor>,
    view: *mut ffi::Py_buffer,
    flags: c_int,
) -> PyResult<()> {
    let t = &slf.get().tensor;
    if view.is_null() {
        return Err(PyBufferError::new_err("no buffer to fill"));
    }
    // SAFETY: not null, and ours to fill. Consumers look at `obj` to see whether the request failed.
    unsafe { (*view).obj = ptr::null_mut() };
    if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
        return Err(PyBufferError::new_err(
            "a tensor's memory is read-only for others; copy it: numpy.array(x)",
        ));
    }
    check_detached(t).map_err(|e| PyBufferError::new_err(e.value(slf.py()).to_string()))?;
    let value = seam::run(slf.py(), t.numel(), || corten_core::ops::contiguous(t))?.value();
    let size = value.dtype().size();
    let shape: Vec<ffi::Py_ssize_t> = value
        .shape()
        .iter()
        .map(|&n| n as ffi::Py_ssize_t)
        .collect();
    let mut strides = vec![size as ffi::Py_ssize_t; shape.len()];
    for d in (1..shape.len()).rev() {
        strides[d - 1] = strides[d] * shape[d].max(1);
    }
    let count = value.numel();
    let start = if count == 0 {
        0
    } else {
        value.layout.offset() * size
    };
    let data = value.storage.as_ptr().cast_mut().wrapping_add(start);
    let dtype = value.dtype();
    let mut export = Box::new(Export {
        _value: value,
        shape,
        strides,
    });
    let wants = |flag: c_int| flags & flag == flag;
    // SAFETY: `view` is valid (see above); the pointers lead into `export`, which `release` frees, and into memory that it keeps.
    unsafe {
        (*view).buf = data.cast::<c_void>();
        (*view).len = (count * size) as ffi::Py_ssize_t;
        (*view).itemsize = size as ffi::Py_ssize_t;
        (*view).readonly = 1;
        (*view).ndim = export.shape.len() as c_int;
        (*view).format = if wants(ffi::PyBUF_FORMAT) {
            format(dtype).as_ptr().cast_mut()
        } else {
            ptr::null_mut()
        };
        (*view).shape = if wants(ffi::PyBUF_ND) {
            export.shape.as_mut_ptr()
        } else {
            ptr::null_mut()
        };
        (*view).strides = if wants(ffi::PyBUF_STRIDES) {
            export.strides.as_mut_ptr()
        } else {
            ptr::null_mut()
        };
        (*view).suboffsets = ptr::null_mut();
        (*view).internal = Box::into_raw(export).cast::<c_void>();
        (*view).obj = slf.clone().into_ptr();
    }
    Ok(())
}

/// Frees what [`fill`] made.
///
/// # Safety
/// `view` was filled by [`fill`] and is released once.
pub(crate) unsafe fn release(view: *mut ffi::Py_buffer) {
    // SAFETY: the caller's promise: `internal` is the box that `fill` leaked.
    unsafe {
        let export = (*view).internal.cast::<Export>();
        if !export.is_null() {
            (*view).internal = ptr::null_mut();
            drop(Box::from_raw(export));
        }
    }
}

/// A read-only NumPy array over the tensor's memory (C-contiguous: a view with other strides is copied first).
pub(crate) fn to_numpy<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyAny>> {
    check_detached(&slf.get().tensor)?;
    // Through a memoryview: given the tensor itself, NumPy would answer a failure by calling `__array__`, which calls this.
    let view = PyMemoryView::from(slf.as_any())?;
    numpy(slf.py())?.call_method1(pyo3::intern!(slf.py(), "asarray"), (view,))
}

/// A Python bool, int or float.
pub(crate) fn scalar(py: Python<'_>, s: Scalar) -> Py<PyAny> {
    match s {
        Scalar::Bool(b) => PyBool::new(py, b).to_owned().into_any().unbind(),
        Scalar::Int(i) => PyInt::new(py, i).into_any().unbind(),
        Scalar::Float(x) => PyFloat::new(py, x).into_any().unbind(),
    }
}

/// Nested lists of Python numbers; the number itself for a tensor without axes.
pub(crate) fn to_list(py: Python<'_>, t: &Tensor) -> PyResult<Py<PyAny>> {
    let data = t.to_scalars();
    if t.ndim() == 0 {
        return Ok(scalar(py, data[0]));
    }
    fn level(
        py: Python<'_>,
        shape: &[usize],
        data: &mut std::slice::Iter<'_, Scalar>,
    ) -> PyResult<Py<PyAny>> {
        let mut items = Vec::with_capacity(shape[0]);
        for _ in 0..shape[0] {
            items.push(match (shape.len(), data.as_slice()) {
                (1, [s, ..]) => {
                    data.next();
                    scalar(py, *s)
                }
                _ => level(py, &shape[1..], data)?,
            });
        }
        Ok(PyList::new(py, items)?.into_any().unbind())
    }
    level(py, t.shape(), &mut data.iter())
}

#[pymethods]
impl PyTensor {
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        // SAFETY: Python calls this with a buffer to fill.
        unsafe { fill(slf, view, flags) }
    }
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: Python calls this once for each buffer that `__getbuffer__` filled.
        unsafe { release(view) }
    }
}
