//! Tensors out: the buffer protocol, NumPy arrays, nested lists.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use corten_core::layout::c_strides;
use corten_core::{DType, Layout, Scalar, Tensor, Value, ops};
use corten_python_macros::pymethods;
use pyo3::exceptions::{PyBufferError, PyMemoryError, PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyMemoryView, PyTuple};

use crate::convert::numpy;
use crate::dtype::{NO_BFLOAT16, PyDType};
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
        DType::F16 => c"e",
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

/// Which order of the elements in memory a consumer can read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Last axis fastest.
    C,
    /// First axis fastest.
    F,
    /// One of the two.
    Either,
    /// Any strides.
    Any,
}

/// A snapshot of `t` in that order: its own memory if it fits, else a copy.
fn ordered(t: &Tensor, order: Order) -> corten_core::Result<Value> {
    let layout = t.layout();
    let back: Vec<usize> = (0..t.ndim()).rev().collect();
    let (c, f) = (
        layout.is_contiguous(),
        layout.permute(&back).is_contiguous(),
    );
    let fits = match order {
        Order::C => c,
        Order::F => f,
        Order::Either => c || f,
        Order::Any => true,
    };
    if fits {
        return Ok(t.value());
    }
    if order == Order::F {
        let axes: Vec<isize> = back.iter().map(|&d| d as isize).collect();
        let turned = ops::contiguous(&ops::permute_dims(&t.detach(), &axes)?)?.value();
        return Ok(turned.with_layout(turned.layout.permute(&back)));
    }
    Ok(ops::contiguous(&t.detach())?.value())
}

/// Address of the first element, or of the storage when there is none.
pub(crate) fn first(value: &Value) -> *const u8 {
    let at = match value.numel() {
        0 => 0,
        _ => value.layout.offset() * value.dtype().size(),
    };
    value.storage.as_ptr().wrapping_add(at)
}

/// The bytes of a value in C order.
pub(crate) fn bytes(value: &Value) -> &[u8] {
    let size = value.dtype().size();
    debug_assert!(value.layout.is_contiguous());
    let start = match value.numel() {
        0 => 0,
        _ => value.layout.offset() * size,
    };
    &value.storage.bytes()[start..start + value.numel() * size]
}

/// Strides in elements. Of an axis that is never walked along, where the layout's mean nothing, they are those of C order.
pub(crate) fn strides(layout: &Layout) -> Vec<isize> {
    let plain = c_strides(layout.shape());
    if layout.is_contiguous() {
        return plain.to_vec();
    }
    let sizes = layout.shape().iter().zip(layout.strides().iter());
    sizes
        .zip(plain.iter())
        .map(|((&n, &s), &p)| if n == 1 { p } else { s })
        .collect()
}

/// Fills `view` with a read-only view of `t`, of the strides that it has if the consumer can read them.
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
    if t.dtype() == DType::BF16 {
        return Err(PyBufferError::new_err(NO_BFLOAT16));
    }
    let wants = |flag: c_int| flags & flag == flag;
    let order = if wants(ffi::PyBUF_F_CONTIGUOUS) {
        Order::F
    } else if wants(ffi::PyBUF_ANY_CONTIGUOUS) {
        Order::Either
    } else if wants(ffi::PyBUF_STRIDES) && !wants(ffi::PyBUF_C_CONTIGUOUS) {
        Order::Any
    } else {
        Order::C
    };
    let value = seam::run(slf.py(), t.numel(), || ordered(t, order))?;
    let size = value.dtype().size();
    let count = value.numel();
    let data = first(&value).cast_mut();
    let dtype = value.dtype();
    let mut export = Box::new(Export {
        shape: value.shape().iter().map(|&n| n as isize).collect(),
        strides: strides(&value.layout)
            .iter()
            .map(|s| s.saturating_mul(size as isize))
            .collect(),
        _value: value,
    });
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

/// A read-only NumPy array over the tensor's memory.
pub(crate) fn to_numpy<'py>(slf: &Bound<'py, PyTensor>) -> PyResult<Bound<'py, PyAny>> {
    check_detached(&slf.get().tensor)?;
    if slf.get().tensor.dtype() == DType::BF16 {
        return Err(PyTypeError::new_err(NO_BFLOAT16));
    }
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
    let data = t
        .to_scalars()
        .map_err(|e| seam::to_py(py, e.within("tolist")))?;
    if t.ndim() == 0 {
        return Ok(scalar(py, data[0]));
    }
    fn level(
        py: Python<'_>,
        shape: &[usize],
        data: &mut std::slice::Iter<'_, Scalar>,
    ) -> PyResult<Py<PyAny>> {
        py.check_signals()?;
        let Ok(len) = ffi::Py_ssize_t::try_from(shape[0]) else {
            return Err(PyMemoryError::new_err(
                "[tolist] no memory for so long a list",
            ));
        };
        // Through the C API: pyo3's own way to make lists and numbers panics when there is no memory for them.
        // SAFETY: a new list, or null and an exception.
        let list = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyList_New(len))? };
        for i in 0..len {
            let item = match (shape.len(), data.as_slice()) {
                (1, [s, ..]) => {
                    data.next();
                    // SAFETY: new objects, or null and an exception.
                    let new = unsafe {
                        match *s {
                            Scalar::Bool(b) => ffi::PyBool_FromLong(b.into()),
                            Scalar::Int(x) => ffi::PyLong_FromLongLong(x),
                            Scalar::Float(x) => ffi::PyFloat_FromDouble(x),
                        }
                    };
                    // SAFETY: as above.
                    unsafe { Bound::from_owned_ptr_or_err(py, new)?.unbind() }
                }
                _ => level(py, &shape[1..], data)?,
            };
            if i & 0xffff == 0xffff {
                py.check_signals()?;
            }
            // SAFETY: nobody else has seen the list, whose entry i is empty; the reference goes to it.
            if unsafe { ffi::PyList_SetItem(list.as_ptr(), i, item.into_ptr()) } != 0 {
                return Err(PyErr::fetch(py));
            }
        }
        Ok(list.unbind())
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
    /// NumPy's older description of an array in memory: a dictionary with `shape`, `typestr`, `strides`, `data` and `offset`.
    ///
    /// `data` is a read-only buffer and not an address: it keeps the memory in place, with these values, for as long as it or an
    /// array over it lives, whatever is assigned to the tensor meanwhile.
    #[getter]
    fn __array_interface__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let t = &slf.get().tensor;
        check_detached(t)?;
        let value = t.value();
        let size = value.dtype().size();
        let (low, high) = value.layout.extent().unwrap_or((0, -1));
        let start = low as usize;
        let steps: Vec<isize> = strides(&value.layout)
            .iter()
            .map(|s| s.saturating_mul(size as isize))
            .collect();
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("shape", PyTuple::new(py, value.shape().iter())?)?;
        let dtype = PyDType::numpy_dtype(py, value.dtype())?;
        interface.set_item("typestr", dtype.getattr("str")?)?;
        interface.set_item(
            "strides",
            match value.layout.is_contiguous() {
                true => None,
                false => Some(PyTuple::new(py, steps)?),
            },
        )?;
        if value.numel() > 0 {
            interface.set_item("offset", (value.layout.offset() - start) * size)?;
        }
        let memory = Memory {
            start: start * size,
            len: (high - low + 1) as usize * size,
            value,
        };
        interface.set_item("data", Bound::new(py, memory)?)?;
        Ok(interface)
    }
}

/// The bytes of a tensor's memory as they were: what `__array_interface__` points to.
#[pyclass(frozen, name = "_Memory", module = "corten._core")]
struct Memory {
    value: Value,
    start: usize,
    len: usize,
}

#[pymethods]
impl Memory {
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let memory = slf.get();
        let data = memory.value.storage.as_ptr().wrapping_add(memory.start);
        // SAFETY: Python calls this with a buffer to fill; the bytes lie inside the storage, which this object keeps, and the
        // buffer keeps this object. Read-only: a request to write fails.
        let done = unsafe {
            ffi::PyBuffer_FillInfo(
                view,
                slf.as_ptr(),
                data.cast_mut().cast::<c_void>(),
                memory.len as ffi::Py_ssize_t,
                1,
                flags,
            )
        };
        if done != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}
