//! Copies: `copy.copy`, `copy.deepcopy` and `pickle`. Of a tensor they hold values and flags, never a graph or a hook.

use corten_core::{DType, Error, Tensor};
use corten_python_macros::{pyfunction, pymethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::arrays;
use crate::convert::{DTypeArg, DeviceArg, SizesArg};
use crate::export;
use crate::seam::{run, to_py};
use crate::tensor::PyTensor;

/// A tensor like `t` (a leaf), which shares memory with `t` at most until one of the two is written.
fn twin(t: &PyTensor, py: Python<'_>) -> PyResult<PyTensor> {
    let (x, parameter) = (&t.tensor, t.is_parameter());
    let new = run(py, x.numel(), || {
        // Foreign memory may change under us, and a copy must not change with it.
        let own = match x.storage().is_foreign() {
            true => arrays::duplicate(x, x.shape())?,
            false => x.clone(),
        };
        own.to_leaf(x.requires_grad())
    })?;
    Ok(PyTensor::marked(new, parameter))
}

fn only_leaves(py: Python<'_>, op: &'static str, t: &Tensor) -> PyResult<()> {
    if t.is_leaf() {
        return Ok(());
    }
    Err(to_py(
        py,
        Error::graph(
            op,
            "the result of an operation cannot be copied without its graph; use x.detach() first",
        ),
    ))
}

#[pymethods]
impl PyTensor {
    /// Of a leaf a leaf with the same values, `requires_grad` and parameter mark; else what `clone()` gives, in the same graph.
    fn __copy__(&self, py: Python<'_>) -> PyResult<Self> {
        if self.tensor.is_leaf() {
            return twin(self, py);
        }
        run(py, self.tensor.numel(), || {
            corten_core::ops::copy(&self.tensor)
        })
        .map(Self::new)
    }
    /// A leaf with the same values, `grad`, `requires_grad` and parameter mark, without hooks; only leaves have deep copies.
    fn __deepcopy__<'py>(
        slf: &Bound<'py, Self>,
        memo: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let t = &slf.get().tensor;
        only_leaves(py, "deepcopy", t)?;
        let new = twin(slf.get(), py)?;
        if let Some(g) = t.grad() {
            run(py, g.numel(), || {
                new.tensor.set_grad(Some(g.to_leaf(false)?))
            })?;
        }
        let new = Bound::new(py, new)?;
        memo.set_item(slf.as_ptr() as usize, &new)?;
        Ok(new)
    }
    /// For pickle: values, dtype, shape, device, `requires_grad` and parameter mark, as plain data; neither `grad` nor hooks.
    ///
    /// From protocol 5 on the values travel as a `pickle.PickleBuffer`, out of band where the pickler wants that. Only leaves can be
    /// pickled: RuntimeError for the result of a recorded operation.
    fn __reduce_ex__<'py>(slf: &Bound<'py, Self>, protocol: i32) -> PyResult<Bound<'py, PyTuple>> {
        let py = slf.py();
        let x = &slf.get().tensor;
        only_leaves(py, "pickle", x)?;
        let plain = run(py, x.numel(), || corten_core::ops::contiguous(&x.detach()))?;
        let data = if protocol >= 5 {
            // As bits that have a buffer.
            let plain = match x.dtype() {
                DType::BF16 => run(py, 0, || corten_core::ops::reinterpret(&plain, DType::I16))?,
                _ => plain,
            };
            let plain = Bound::new(py, Self::new(plain))?;
            py.import("pickle")?
                .call_method1("PickleBuffer", (plain,))?
        } else {
            PyBytes::new(py, export::bytes(&plain.value())).into_any()
        };
        let state = (
            data,
            x.dtype().name(),
            PyTuple::new(py, x.shape().iter())?,
            x.device().name(),
            x.requires_grad(),
            slf.get().is_parameter(),
        );
        let rebuild = py.import("corten._core")?.getattr("_rebuild_tensor")?;
        (rebuild, state).into_pyobject(py)
    }
}

/// The tensor that was pickled: `data` holds its elements in C order. Called by `pickle.load` with what
/// `Tensor.__reduce_ex__` wrote; old pickles hold its name, so name and arguments stay.
#[pyfunction]
pub(crate) fn _rebuild_tensor(
    py: Python<'_>,
    data: &Bound<'_, PyAny>,
    dtype: DTypeArg,
    shape: SizesArg,
    device: DeviceArg,
    requires_grad: bool,
    parameter: bool,
) -> PyResult<PyTensor> {
    let t = arrays::from_bytes(data, dtype.0, &shape.0)?;
    let t = run(py, t.numel(), || {
        let t = corten_core::ops::to_device(&t, device.0)?;
        t.set_requires_grad(requires_grad)?;
        Ok(t)
    })?;
    Ok(PyTensor::marked(t, parameter))
}
