//! `corten.dtype` and its eight instances.

use corten_core::DType;
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyType};

use crate::convert::numpy;

/// Element type of a tensor: float32 (the default), float64, int64, int32, int16, int8, uint8 or bool.
///
/// Compares equal with its name and with NumPy's dtype of that name.
///
/// >>> import corten as ct
/// >>> ct.float32.itemsize, ct.float32 == "float32", ct.int8.is_floating_point
/// (4, True, False)
#[pyclass(frozen, name = "dtype", module = "corten")]
pub(crate) struct PyDType(DType);

static ALL: [PyOnceLock<Py<PyDType>>; 8] = [const { PyOnceLock::new() }; 8];

/// The one Python object for `d`, so that `is` works too.
pub(crate) fn object(py: Python<'_>, d: DType) -> PyResult<Py<PyDType>> {
    let cell = &ALL[DType::ALL.iter().position(|&a| a == d).unwrap_or(0)];
    Ok(cell
        .get_or_try_init(py, || Py::new(py, PyDType(d)))?
        .clone_ref(py))
}

impl PyDType {
    /// NumPy's dtype of that name.
    pub(crate) fn numpy_dtype(py: Python<'_>, d: DType) -> PyResult<Bound<'_, PyAny>> {
        numpy(py)?.getattr("dtype")?.call1((d.name(),))
    }
}

#[pymethods]
impl PyDType {
    /// NumPy's name of it, e.g. `'float32'`.
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }
    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.size()
    }
    /// Whether it is float32 or float64, the types that have gradients.
    #[getter]
    fn is_floating_point(&self) -> bool {
        self.0.is_float()
    }
    /// NumPy's dtype; this attribute lets `numpy.dtype(...)` and every `dtype=` of NumPy take a corten dtype.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.numpy(py)
    }
    /// NumPy's dtype of the same name.
    fn numpy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Self::numpy_dtype(py, self.0)
    }
    fn __repr__(&self) -> String {
        format!(
            "corten.{}",
            if self.0 == DType::Bool {
                "bool_"
            } else {
                self.0.name()
            }
        )
    }
    fn __str__(&self) -> &'static str {
        self.0.name()
    }
    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        PyString::intern(py, self.0.name()).hash()
    }
    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = other.py();
        let same = match op {
            // Equality never raises: whatever is no dtype is simply different.
            CompareOp::Eq | CompareOp::Ne => parse(other).ok() == Some(self.0),
            _ => return Ok(py.NotImplemented()),
        };
        Ok(PyBool::new(py, same == matches!(op, CompareOp::Eq))
            .to_owned()
            .into_any()
            .unbind())
    }
    /// Pickles as the name of a module attribute, so that the copy is the same object.
    fn __reduce__(&self) -> &'static str {
        if self.0 == DType::Bool {
            "bool_"
        } else {
            self.0.name()
        }
    }
}

/// A dtype from a corten dtype, a name, a Python type (float: float32, int: int64, bool) or anything that NumPy knows.
pub(crate) fn parse(obj: &Bound<'_, PyAny>) -> PyResult<DType> {
    if let Ok(d) = obj.cast::<PyDType>() {
        return Ok(d.get().0);
    }
    let py = obj.py();
    let named = |name: &str| DType::ALL.into_iter().find(|d| d.name() == name);
    if let Ok(s) = obj.cast::<PyString>() {
        if let Some(d) = named(&s.to_cow()?) {
            return Ok(d);
        }
    } else if let Ok(t) = obj.cast::<PyType>() {
        if t.is(py.get_type::<PyFloat>()) {
            return Ok(DType::F32);
        }
        if t.is(py.get_type::<PyInt>()) {
            return Ok(DType::I64);
        }
        if t.is(py.get_type::<PyBool>()) {
            return Ok(DType::Bool);
        }
    }
    let known = "float32, float64, int64, int32, int16, int8, uint8, bool";
    if obj.is_none() {
        return Err(PyTypeError::new_err(format!(
            "a dtype is needed, not None (known: {known})"
        )));
    }
    if let Ok(d) = numpy(py)?.getattr("dtype")?.call1((obj,)) {
        let name: String = d.getattr("name")?.extract()?;
        return named(&name).ok_or_else(|| {
            PyTypeError::new_err(format!("dtype '{name}' is not supported (known: {known})"))
        });
    }
    Err(PyTypeError::new_err(format!(
        "{} is no dtype (known: {known})",
        obj.repr()?
    )))
}

/// Adds the class and its instances to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyDType>()?;
    for d in DType::ALL {
        let name = if d == DType::Bool { "bool_" } else { d.name() };
        m.add(name, object(m.py(), d)?)?;
    }
    Ok(())
}
