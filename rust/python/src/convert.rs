//! Python values in: one small type for each kind of argument, whose error says what to pass instead.

use corten_core::{DType, Device, Scalar, Tensor};
use pyo3::exceptions::{PyNotImplementedError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::arrays;
use crate::dtype;
use crate::tensor::PyTensor;

/// The module `numpy`, imported when first needed.
pub(crate) fn numpy(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static NUMPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    Ok(NUMPY
        .get_or_try_init(py, || py.import("numpy").map(|m| m.into_any().unbind()))?
        .bind(py))
}

/// The name of an object's type, for error texts.
pub(crate) fn type_name(obj: &Bound<'_, PyAny>) -> String {
    obj.get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |n| n.to_string())
}

/// An argument of an operation; `corten_python_macros` makes one such type for each.
pub(crate) trait Named {
    /// The operation's Python name.
    const OPERATION: &'static str;
    /// The argument's name.
    const ARGUMENT: &'static str;
}

/// Converts an argument as pyo3 does; the error says whose argument it is: `[conv2d] stride: expected ...`.
#[inline]
pub(crate) fn named<'a, 'py, T: FromPyObject<'a, 'py>, N: Named>(
    obj: &'a Bound<'py, PyAny>,
) -> PyResult<T> {
    obj.extract::<T>()
        .map_err(|e| naming(obj, e.into(), N::OPERATION, N::ARGUMENT))
}

/// The exception `e`, which the conversion of `obj` raised, with the names of operation and argument.
#[cold]
pub(crate) fn naming(obj: &Bound<'_, PyAny>, e: PyErr, operation: &str, argument: &str) -> PyErr {
    let py = obj.py();
    let kind = e.get_type(py);
    let ours = [
        py.get_type::<PyTypeError>(),
        py.get_type::<PyValueError>(),
        py.get_type::<PyOverflowError>(),
        py.get_type::<PyNotImplementedError>(),
    ];
    let cast = kind.is_subclass_of::<PyTypeError>().unwrap_or(false);
    let kind = match ours.into_iter().find(|k| k.is(&kind)) {
        Some(kind) => kind,
        // pyo3's own subclass of TypeError becomes a plain one.
        None if cast => py.get_type::<PyTypeError>(),
        // Raised by the argument itself (its `__index__`, a signal): none of our words.
        None => return e,
    };
    let text = e.value(py).to_string();
    // A text of the core begins with a name of its own.
    let text = match text.strip_prefix('[').and_then(|t| t.split_once("] ")) {
        Some((inner, _)) if inner == operation => return e,
        Some((_, rest)) => rest.to_owned(),
        None if kind.is(py.get_type::<PyOverflowError>()) && !text.contains("does not fit") => {
            format!("the number {obj} does not fit int64")
        }
        None => in_house_words(obj, text),
    };
    let new = PyErr::from_type(kind, format!("[{operation}] {argument}: {text}"));
    new.set_cause(py, e.cause(py));
    new
}

/// pyo3's own words for a wrong type, as ours.
fn in_house_words(obj: &Bound<'_, PyAny>, text: String) -> String {
    let wanted = if text.starts_with("must be real number") {
        "a number"
    } else if text.ends_with("cannot be interpreted as an integer") {
        "an int"
    } else if text.ends_with("is not an instance of 'bool'") {
        "True or False"
    } else if text.ends_with("is not an instance of 'str'") {
        "a string"
    } else if text.ends_with("object is not iterable") {
        "a sequence"
    } else {
        return text;
    };
    format!("expected {wanted}, not {}", type_name(obj))
}

/// One of two spellings of an argument (`axis` and torch's `dim`); both at once are refused.
pub(crate) fn either<T>(
    operation: &str,
    names: [&str; 2],
    first: Option<T>,
    second: Option<T>,
) -> PyResult<Option<T>> {
    if first.is_some() && second.is_some() {
        let [a, b] = names;
        return Err(PyTypeError::new_err(format!(
            "[{operation}] {a} and {b} are two names of one argument (pass only {a})"
        )));
    }
    Ok(first.or(second))
}

/// The names of an axis.
pub(crate) const AXIS: [&str; 2] = ["axis", "dim"];
/// The names of what keeps reduced axes.
pub(crate) const KEEPDIMS: [&str; 2] = ["keepdims", "keepdim"];

/// A tensor and nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Arg<'a>(pub(crate) &'a Tensor);

impl<'a, 'py> FromPyObject<'a, 'py> for Arg<'a> {
    type Error = PyErr;
    #[inline]
    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match obj.cast::<PyTensor>() {
            Ok(t) => Ok(Self(&t.get().tensor)),
            Err(_) => Err(no_tensor(&obj)),
        }
    }
}

#[cold]
fn no_tensor(obj: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "expected a corten.Tensor, not {} (convert it with corten.tensor(...))",
        type_name(obj)
    ))
}

/// Tensors of a list or tuple.
pub(crate) struct Args(pub(crate) Vec<Tensor>);

impl<'py> FromPyObject<'_, 'py> for Args {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if obj.cast::<PyTensor>().is_ok() {
            return Err(PyTypeError::new_err(
                "expected a sequence of tensors, not one tensor (put it in a list: [x])",
            ));
        }
        let mut out = Vec::new();
        for item in obj.try_iter()? {
            out.push(item?.extract::<Arg<'_>>()?.0.clone());
        }
        Ok(Self(out))
    }
}

impl Args {
    /// The tensors of `*args`.
    pub(crate) fn from_tuple(
        args: &Bound<'_, PyTuple>,
        operation: &str,
        argument: &str,
    ) -> PyResult<Self> {
        args.extract()
            .map_err(|e| naming(args, e, operation, argument))
    }
}

/// Tensors and Nones of a list or tuple.
pub(crate) struct MaybeArgs(pub(crate) Vec<Option<Tensor>>);

impl<'py> FromPyObject<'_, 'py> for MaybeArgs {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let mut out = Vec::new();
        for item in obj.try_iter()? {
            out.push(item?.extract::<Option<Arg<'_>>>()?.map(|a| a.0.clone()));
        }
        Ok(Self(out))
    }
}

/// A Python bool, int or float; or what converts itself to one (a NumPy scalar, a tensor of one element).
#[derive(Clone, Copy)]
pub(crate) struct Number(pub(crate) Scalar);

/// The scalar that a Python `float`, `int` or `bool` is; `None` for any other type.
#[inline]
pub(crate) fn python_scalar(obj: &Bound<'_, PyAny>) -> PyResult<Option<Scalar>> {
    if let Ok(x) = obj.cast::<PyFloat>() {
        return Ok(Some(Scalar::Float(x.value())));
    }
    if let Ok(b) = obj.cast::<PyBool>() {
        return Ok(Some(Scalar::Bool(b.is_true())));
    }
    if obj.cast::<PyInt>().is_ok() {
        return match obj.extract::<i64>() {
            Ok(i) => Ok(Some(Scalar::Int(i))),
            Err(_) => Err(PyOverflowError::new_err(format!(
                "the number {obj} does not fit int64"
            ))),
        };
    }
    Ok(None)
}

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Some(s) = python_scalar(&obj)? {
            return Ok(Self(s));
        }
        // NumPy scalars and 0-d arrays have `item()`; so do tensors.
        if obj.hasattr("item")?
            && (obj.hasattr("__float__")? || obj.hasattr("__bool__")?)
            && let Some(s) = python_scalar(&obj.call_method0("item")?)?
        {
            return Ok(Self(s));
        }
        Err(PyTypeError::new_err(format!(
            "expected a number, not {}",
            type_name(&obj)
        )))
    }
}

/// A tensor, a weak Python scalar, or an array that becomes a tensor.
pub(crate) enum Operand<'a> {
    /// A tensor.
    Tensor(&'a Tensor),
    /// A Python scalar: takes the dtype of the tensor that it meets.
    Scalar(Scalar),
    /// A NumPy array or scalar, converted (it keeps its dtype).
    Array(Tensor),
}

impl<'a> Operand<'a> {
    /// `None` for types that are none of them, so that an operator can give Python's `NotImplemented`.
    #[inline]
    pub(crate) fn parse<'py>(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(t) = obj.cast::<PyTensor>() {
            return Ok(Some(Self::Tensor(&t.get().tensor)));
        }
        if let Some(s) = python_scalar(&obj)? {
            return Ok(Some(Self::Scalar(s)));
        }
        if arrays::is_numpy(&obj)? {
            return Ok(Some(Self::Array(arrays::convert(
                &obj,
                None,
                arrays::Copy::IfNeeded,
            )?)));
        }
        Ok(None)
    }
    /// Elements, for the decision about the GIL.
    #[inline]
    pub(crate) fn numel(&self) -> usize {
        match self {
            Self::Tensor(t) => t.numel(),
            Self::Scalar(_) => 1,
            Self::Array(t) => t.numel(),
        }
    }
}

impl<'a> From<&'a Operand<'_>> for corten_core::ops::Operand<'a> {
    #[inline]
    fn from(x: &'a Operand<'_>) -> Self {
        match x {
            Operand::Tensor(t) => Self::Tensor(t),
            Operand::Scalar(s) => Self::Scalar(*s),
            Operand::Array(t) => Self::Tensor(t),
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Operand<'a> {
    type Error = PyErr;
    #[inline]
    fn extract(obj: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Self::parse(obj)?.ok_or_else(|| {
            PyTypeError::new_err(format!(
                "expected a tensor or a number, not {} (convert it with corten.tensor(...))",
                type_name(&obj)
            ))
        })
    }
}

/// A dtype in any spelling.
#[derive(Clone, Copy)]
pub(crate) struct DTypeArg(pub(crate) DType);

impl<'py> FromPyObject<'_, 'py> for DTypeArg {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        dtype::parse(&obj).map(Self)
    }
}

/// The dtype inside an optional argument.
pub(crate) fn given(d: Option<DTypeArg>) -> Option<DType> {
    d.map(|d| d.0)
}

/// A device's name.
#[derive(Clone, Copy)]
pub(crate) struct DeviceArg(pub(crate) Device);

impl<'py> FromPyObject<'_, 'py> for DeviceArg {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let Ok(name) = obj.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!(
                "expected a string like 'cpu', not {}",
                type_name(&obj)
            )));
        };
        Device::from_name("device", &name.to_cow()?)
            .map(Self)
            .map_err(|e| crate::seam::to_py(obj.py(), e))
    }
}

/// The type of a wrong argument; for an int, which can only be too large, its value.
fn wrong_kind(obj: &Bound<'_, PyAny>) -> String {
    match type_name(obj).as_str() {
        "int" => format!("{obj} (it does not fit int64)"),
        name => name.to_owned(),
    }
}

/// An int; bools and floats are refused.
fn int(obj: &Bound<'_, PyAny>) -> Option<isize> {
    if obj.cast::<PyBool>().is_ok() || obj.cast::<PyFloat>().is_ok() {
        return None;
    }
    obj.extract::<isize>().ok() // through __index__: NumPy integers work
}

/// Ints of a list or tuple.
fn ints(obj: &Bound<'_, PyAny>) -> Option<Vec<isize>> {
    if !(obj.cast::<PyTuple>().is_ok() || obj.cast::<PyList>().is_ok()) {
        // Other iterables (a range, an array of sizes), but no text and no mapping.
        if obj.cast::<PyString>().is_ok() || obj.hasattr("keys").unwrap_or(true) {
            return None;
        }
    }
    obj.try_iter().ok()?.map(|item| int(&item.ok()?)).collect()
}

/// A shape: one size or a sequence of sizes; -1 is passed on (reshape knows what it means).
pub(crate) struct ShapeArg(pub(crate) Vec<isize>);

impl<'py> FromPyObject<'_, 'py> for ShapeArg {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Some(n) = int(&obj) {
            return Ok(Self(vec![n]));
        }
        ints(&obj).map(Self).ok_or_else(|| {
            PyTypeError::new_err(format!(
                "expected an int or a sequence of ints, not {}",
                obj.repr()
                    .map_or_else(|_| type_name(&obj), |r| r.to_string())
            ))
        })
    }
}

impl ShapeArg {
    /// A shape given as several arguments, `(2, 3)`, or as one, `((2, 3),)`.
    pub(crate) fn from_args(
        args: &Bound<'_, PyTuple>,
        operation: &str,
        argument: &str,
    ) -> PyResult<Self> {
        let shape = if args.len() == 1 {
            args.get_item(0)?
        } else {
            args.as_any().clone()
        };
        shape
            .extract()
            .map_err(|e| naming(&shape, e, operation, argument))
    }
    /// The sizes; negative ones are refused.
    pub(crate) fn sizes(&self) -> Result<Vec<usize>, String> {
        let sizes = self.0.iter().map(|&n| usize::try_from(n));
        sizes
            .collect::<Result<_, _>>()
            .map_err(|_| format!("a size cannot be negative, got {}", show(&self.0)))
    }
}

/// A shape without negative sizes.
pub(crate) struct SizesArg(pub(crate) Vec<usize>);

impl<'py> FromPyObject<'_, 'py> for SizesArg {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let shape: ShapeArg = obj.extract()?;
        shape.sizes().map(Self).map_err(PyValueError::new_err)
    }
}

impl SizesArg {
    /// A shape given as several arguments, `(2, 3)`, or as one, `((2, 3),)`.
    pub(crate) fn from_args(args: &Bound<'_, PyTuple>, operation: &str) -> PyResult<Self> {
        let shape = ShapeArg::from_args(args, operation, "shape")?.sizes();
        shape
            .map(Self)
            .map_err(|e| PyValueError::new_err(format!("[{operation}] shape: {e}")))
    }
}

/// Sizes as Python writes a tuple.
fn show(sizes: &[isize]) -> String {
    match sizes {
        [one] => format!("({one},)"),
        _ => {
            let sizes: Vec<String> = sizes.iter().map(ToString::to_string).collect();
            format!("({})", sizes.join(", "))
        }
    }
}

/// One axis, several axes or None (all of them).
#[derive(Default)]
pub(crate) struct Axes(pub(crate) Option<Vec<isize>>);

impl<'py> FromPyObject<'_, 'py> for Axes {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if obj.is_none() {
            return Ok(Self(None));
        }
        if let Some(n) = int(&obj) {
            return Ok(Self(Some(vec![n])));
        }
        ints(&obj).map(|v| Self(Some(v))).ok_or_else(|| {
            PyTypeError::new_err(format!(
                "expected an int, a sequence of ints or None, not {}",
                wrong_kind(&obj)
            ))
        })
    }
}

impl Axes {
    /// The axes as the core takes them.
    pub(crate) fn get(&self) -> Option<&[isize]> {
        self.0.as_deref()
    }
}

/// One number for both spatial axes, or one for each (rows, columns).
#[derive(Clone, Copy)]
pub(crate) struct Pair(pub(crate) [usize; 2]);

/// A pair of ints for [`Pair`] and others.
fn pair(obj: &Bound<'_, PyAny>) -> PyResult<[usize; 2]> {
    let wrong = || {
        PyTypeError::new_err(format!(
            "expected an int or a pair of ints, not {}",
            wrong_kind(obj)
        ))
    };
    let both = match int(obj) {
        Some(n) => [n, n],
        None => <[isize; 2]>::try_from(ints(obj).ok_or_else(wrong)?).map_err(|v| {
            PyValueError::new_err(format!(
                "expected two numbers (rows, columns), got {}",
                v.len()
            ))
        })?,
    };
    let size = |n: isize| {
        usize::try_from(n)
            .map_err(|_| PyValueError::new_err(format!("expected a number >= 0, not {n}")))
    };
    Ok([size(both[0])?, size(both[1])?])
}

impl<'py> FromPyObject<'_, 'py> for Pair {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        pair(&obj).map(Self)
    }
}

/// A number of things: an int that is not negative.
#[derive(Clone, Copy)]
pub(crate) struct Count(pub(crate) usize);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let n = int(&obj).ok_or_else(|| {
            PyTypeError::new_err(format!("expected an int, not {}", wrong_kind(&obj)))
        })?;
        usize::try_from(n)
            .map(Self)
            .map_err(|_| PyValueError::new_err(format!("expected a number >= 0, not {n}")))
    }
}
