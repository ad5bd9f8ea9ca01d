//! The Python extension module `corten._core`: the only place that names pyo3.
//!
//! Layers: [`functions`] (what Python calls, one file per family) and [`tensor`] (the class) → [`convert`] (Python values
//! in), [`export`] (tensors out) → [`seam`] (errors, panics, GIL, Ctrl-C). No mathematics here: every function checks and
//! converts its arguments and calls the operation of the same name in `corten_core::ops`.

mod arrays;
mod convert;
mod copy;
mod dlpack;
mod dtype;
mod export;
mod formats;
mod functions;
mod index;
mod operators;
mod repr;
mod seam;
mod tensor;

use pyo3::prelude::*;

#[global_allocator]
static HEAP: corten_kernels::alloc::Heap = corten_kernels::alloc::Heap;

/// The compiled core of corten: tensors, automatic differentiation and operations.
#[pymodule(gil_used = true)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    seam::install();
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("InternalError", m.py().get_type::<seam::InternalError>())?;
    m.add("AnomalyError", m.py().get_type::<seam::AnomalyError>())?;
    m.add_class::<tensor::PyTensor>()?;
    m.add_class::<index::Rows>()?;
    m.add_function(wrap_pyfunction!(copy::_rebuild_tensor, m)?)?;
    dtype::register(m)?;
    functions::register(m)?;
    formats::register(m)?;
    // pyo3 keeps a list of all names there; the public ones are chosen in python/corten/__init__.py.
    m.dict().del_item("__all__")
}
