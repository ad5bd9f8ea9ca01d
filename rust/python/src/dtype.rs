//! `corten.dtype` and its instances; `finfo` and `iinfo`.

use corten_core::DType;
use corten_python_macros::{pyfunction, pymethods};
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyType};

use crate::convert::{naming, numpy};

/// Element type of a tensor: float32 (the default), float64, float16, bfloat16, int64, int32, int16, int8, uint8 or bool.
///
/// float16 and bfloat16 are ways to store: operations calculate in float32 and round the result once.
///
/// Compares equal with its name and with NumPy's dtype of that name.
///
/// >>> import corten as ct
/// >>> ct.float32.itemsize, ct.float32 == "float32", ct.int8.is_floating_point
/// (4, True, False)
#[pyclass(frozen, name = "dtype", module = "corten")]
pub(crate) struct PyDType(DType);

static ALL: [PyOnceLock<Py<PyDType>>; DType::ALL.len()] =
    [const { PyOnceLock::new() }; DType::ALL.len()];

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
        if d == DType::BF16 {
            return Err(PyTypeError::new_err(NO_BFLOAT16));
        }
        numpy(py)?.getattr("dtype")?.call1((d.name(),))
    }
}

#[pymethods]
impl PyDType {
    /// NumPy's name of it, e.g. `'float32'` (`'bfloat16'` as ml_dtypes has it).
    #[getter]
    fn name(&self) -> &'static str {
        self.0.name()
    }
    /// Bytes of one element.
    #[getter]
    fn itemsize(&self) -> usize {
        self.0.size()
    }
    /// Whether it is a float: the types that have gradients.
    #[getter]
    fn is_floating_point(&self) -> bool {
        self.0.is_float()
    }
    /// NumPy's dtype; this attribute lets `numpy.dtype(...)` and every `dtype=` of NumPy take a corten dtype.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.numpy(py)
    }
    /// NumPy's dtype of the same name; TypeError for bfloat16, which NumPy lacks.
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

/// What to do about bfloat16 where only NumPy's types are.
pub(crate) const NO_BFLOAT16: &str = "[numpy] NumPy has no bfloat16: cast first, x.astype('float32').numpy(), or take the bits, x.view('int16').numpy()";

/// The names of all dtypes, for error texts.
pub(crate) fn known() -> String {
    DType::ALL.map(DType::name).join(", ")
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
    let known = known();
    if obj.is_none() {
        return Err(PyTypeError::new_err(format!(
            "expected a dtype, not None (known: {known})"
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

/// The limits of a floating dtype, see `finfo`.
#[pyclass(frozen, get_all, name = "finfo_object", module = "corten")]
pub(crate) struct FInfo {
    /// Number of bits of an element.
    bits: usize,
    /// Distance from 1 to the next larger number.
    eps: f64,
    /// Largest finite number.
    max: f64,
    /// Its negative.
    min: f64,
    /// Smallest positive number that has all its digits.
    smallest_normal: f64,
    /// The dtype.
    dtype: Py<PyDType>,
}
#[pymethods]
impl FInfo {
    fn __repr__(&self) -> String {
        format!(
            "finfo(bits={}, eps={:e}, max={:e}, min={:e}, smallest_normal={:e}, dtype={})",
            self.bits,
            self.eps,
            self.max,
            self.min,
            self.smallest_normal,
            self.dtype.get().0
        )
    }
}
/// The limits of an integer dtype, see `iinfo`.
#[pyclass(frozen, get_all, name = "iinfo_object", module = "corten")]
pub(crate) struct IInfo {
    /// Number of bits of an element.
    bits: usize,
    /// Largest number.
    max: i64,
    /// Smallest number.
    min: i64,
    /// The dtype.
    dtype: Py<PyDType>,
}
#[pymethods]
impl IInfo {
    fn __repr__(&self) -> String {
        format!(
            "iinfo(bits={}, max={}, min={}, dtype={})",
            self.bits,
            self.max,
            self.min,
            self.dtype.get().0
        )
    }
}

/// The dtype that `finfo` and `iinfo` are asked about: that of a tensor or an array, or any spelling.
fn asked(obj: &Bound<'_, PyAny>, operation: &str) -> PyResult<DType> {
    let found = match obj.getattr("dtype") {
        Ok(d) if obj.cast::<PyDType>().is_err() && obj.cast::<PyType>().is_err() => parse(&d),
        _ => parse(obj),
    };
    found.map_err(|e| naming(obj, e, operation, "type"))
}

/// The limits of a floating dtype, given as one or by a tensor of it: `bits`, `eps`, `max`, `min`, `smallest_normal`, `dtype`.
///
/// Raises TypeError for other dtypes.
///
/// >>> import corten as ct
/// >>> ct.finfo("float16").max, ct.finfo(ct.bfloat16).eps
/// (65504.0, 0.0078125)
#[pyfunction]
pub(crate) fn finfo(py: Python<'_>, r#type: &Bound<'_, PyAny>) -> PyResult<FInfo> {
    let d = asked(r#type, "finfo")?;
    // Digits and largest exponent.
    let (digits, top) = match d {
        DType::F64 => (53, 1023),
        DType::F32 => (24, 127),
        DType::F16 => (11, 15),
        DType::BF16 => (8, 127),
        _ => {
            return Err(PyTypeError::new_err(format!(
                "[finfo] describes floating dtypes, not {d} (see iinfo)"
            )));
        }
    };
    let eps = 2f64.powi(1 - digits);
    let max = (2.0 - eps) * 2f64.powi(top);
    Ok(FInfo {
        bits: 8 * d.size(),
        eps,
        max,
        min: -max,
        smallest_normal: 2f64.powi(1 - top),
        dtype: object(py, d)?,
    })
}

/// The limits of an integer dtype, given as one or by a tensor of it: `bits`, `max`, `min`, `dtype`.
///
/// Raises TypeError for other dtypes.
///
/// >>> import corten as ct
/// >>> ct.iinfo("int8").min, ct.iinfo(ct.tensor([1, 2])).max
/// (-128, 9223372036854775807)
#[pyfunction]
pub(crate) fn iinfo(py: Python<'_>, r#type: &Bound<'_, PyAny>) -> PyResult<IInfo> {
    let d = asked(r#type, "iinfo")?;
    if !d.is_int() {
        return Err(PyTypeError::new_err(format!(
            "[iinfo] describes integer dtypes, not {d} (see finfo)"
        )));
    }
    let bits = 8 * d.size();
    let (max, min) = if d == DType::U8 {
        (255, 0)
    } else {
        (i64::MAX >> (64 - bits), i64::MIN >> (64 - bits))
    };
    Ok(IInfo {
        bits,
        max,
        min,
        dtype: object(py, d)?,
    })
}

/// Adds the class and its instances to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyDType>()?;
    m.add_class::<FInfo>()?;
    m.add_class::<IInfo>()?;
    m.add_function(wrap_pyfunction!(finfo, m)?)?;
    m.add_function(wrap_pyfunction!(iinfo, m)?)?;
    for d in DType::ALL {
        let name = if d == DType::Bool { "bool_" } else { d.name() };
        m.add(name, object(m.py(), d)?)?;
    }
    Ok(())
}
