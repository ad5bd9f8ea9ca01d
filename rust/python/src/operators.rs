//! Python's operators on tensors. Scalars are weak; NumPy arrays become tensors; other types get `NotImplemented`.

// What pyo3 generates inside our macros counts as ours.
#![allow(unsafe_op_in_unsafe_fn)]

use corten_core::{DType, Scalar, Tensor, ops};
use corten_python_macros::pymethods;
use pyo3::basic::CompareOp;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::convert::{Operand, type_name};
use crate::seam::run;
use crate::tensor::PyTensor;

type Object = Py<PyAny>;

/// One binary operation of the core as a Python object, or `NotImplemented` when `other` is nothing that it takes.
#[inline(always)]
fn binary<'a, 'py>(
    x: &'a Tensor,
    other: Borrowed<'a, 'py, PyAny>,
    f: impl FnOnce(&Operand<'a>) -> corten_core::Result<Tensor> + Send,
) -> PyResult<Object> {
    let py = other.py();
    let Some(other) = Operand::parse(other)? else {
        return Ok(py.NotImplemented());
    };
    let out = run(py, x.numel().max(other.numel()), || f(&other))?;
    Ok(Py::new(py, PyTensor::new(out))?.into_any())
}

macro_rules! operators {
    ($($op:ident: $normal:ident $reflected:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                fn $normal(&self, other: &Bound<'_, PyAny>) -> PyResult<Object> {
                    binary(&self.tensor, other.as_borrowed(), |other| ops::$op(&self.tensor, other))
                }
                fn $reflected(&self, other: &Bound<'_, PyAny>) -> PyResult<Object> {
                    binary(&self.tensor, other.as_borrowed(), |other| ops::$op(other, &self.tensor))
                }
            )*
        }
    };
}
operators! {
    add: __add__ __radd__;
    subtract: __sub__ __rsub__;
    multiply: __mul__ __rmul__;
    divide: __truediv__ __rtruediv__;
    floor_divide: __floordiv__ __rfloordiv__;
    remainder: __mod__ __rmod__;
}

/// `&`, `|` and `^` are for booleans only: on numbers NumPy and PyTorch work on the bits, which a logical result would
/// silently not do.
macro_rules! boolean_operators {
    ($($op:ident $sign:literal: $slot:ident $reflected:ident;)*) => {
        #[pymethods]
        impl PyTensor {
            $(
                fn $slot(&self, other: &Bound<'_, PyAny>) -> PyResult<Object> {
                    all_boolean($sign, &self.tensor, other)?;
                    binary(&self.tensor, other.as_borrowed(), |other| ops::$op(&self.tensor, other))
                }
                fn $reflected(&self, other: &Bound<'_, PyAny>) -> PyResult<Object> {
                    all_boolean($sign, &self.tensor, other)?;
                    binary(&self.tensor, other.as_borrowed(), |other| ops::$op(other, &self.tensor))
                }
            )*
        }
    };
}
boolean_operators! {
    logical_and "&": __and__ __rand__;
    logical_or "|": __or__ __ror__;
    logical_xor "^": __xor__ __rxor__;
}

/// Raises TypeError if one of the operands is a tensor or a number that is not boolean.
fn all_boolean(sign: &str, x: &Tensor, other: &Bound<'_, PyAny>) -> PyResult<()> {
    let dtype = match Operand::parse(other.as_borrowed())? {
        Some(Operand::Tensor(t)) => t.dtype(),
        Some(Operand::Array(t)) => t.dtype(),
        Some(Operand::Scalar(s)) => match s {
            Scalar::Bool(_) => DType::Bool,
            Scalar::Int(_) => DType::I64,
            Scalar::Float(_) => DType::F32,
        },
        None => DType::Bool, // not ours to judge
    };
    for dtype in [x.dtype(), dtype] {
        if dtype != DType::Bool {
            return Err(PyTypeError::new_err(format!(
                "[operator {sign}] takes booleans, got {}: compare first, as in (x > 0) {sign} (y > 0), or use logical_*",
                dtype.name()
            )));
        }
    }
    Ok(())
}

/// Both operands of `@`; `None` when `other` is no array.
fn product(x: &Tensor, other: &Bound<'_, PyAny>, reflected: bool) -> PyResult<Object> {
    let py = other.py();
    let other = match Operand::parse(other.as_borrowed())? {
        Some(Operand::Tensor(t)) => t.clone(),
        Some(Operand::Array(t)) => t,
        Some(Operand::Scalar(_)) => {
            return Err(PyTypeError::new_err(
                "[matmul] a number is no matrix; multiply by it with *",
            ));
        }
        None => return Ok(py.NotImplemented()),
    };
    let (a, b) = if reflected { (&other, x) } else { (x, &other) };
    let work = crate::functions::matmul_work(a, b);
    let out = run(py, work, || ops::matmul(a, b))?;
    Ok(Py::new(py, PyTensor::new(out))?.into_any())
}

/// `pow(x, y, z)` exists for integers only.
fn no_modulo(modulo: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    match modulo {
        Some(m) if !m.is_none() => Err(PyTypeError::new_err(format!(
            "[pow] tensors have no third argument of pow(), got {}",
            type_name(m)
        ))),
        _ => Ok(()),
    }
}

#[pymethods]
impl PyTensor {
    fn __pow__(
        &self,
        other: &Bound<'_, PyAny>,
        modulo: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Object> {
        no_modulo(modulo)?;
        binary(&self.tensor, other.as_borrowed(), |other| {
            ops::pow(&self.tensor, other)
        })
    }
    fn __rpow__(
        &self,
        other: &Bound<'_, PyAny>,
        modulo: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Object> {
        no_modulo(modulo)?;
        binary(&self.tensor, other.as_borrowed(), |other| {
            ops::pow(other, &self.tensor)
        })
    }
    fn __matmul__(&self, other: &Bound<'_, PyAny>) -> PyResult<Object> {
        product(&self.tensor, other, false)
    }
    fn __rmatmul__(&self, other: &Bound<'_, PyAny>) -> PyResult<Object> {
        product(&self.tensor, other, true)
    }
    fn __neg__(&self, py: Python<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || ops::negative(&self.tensor)).map(Self::new)
    }
    fn __pos__<'py>(slf: Bound<'py, Self>) -> Bound<'py, Self> {
        slf
    }
    fn __abs__(&self, py: Python<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || ops::abs(&self.tensor)).map(Self::new)
    }
    fn __invert__(&self, py: Python<'_>) -> PyResult<Self> {
        if self.tensor.dtype() != DType::Bool {
            return Err(PyTypeError::new_err(format!(
                "[operator ~] takes booleans, got {}: compare first, as in ~(x > 0), or use logical_not",
                self.tensor.dtype().name()
            )));
        }
        run(py, self.tensor.numel(), || ops::logical_not(&self.tensor)).map(Self::new)
    }
    /// Compares element by element; the result is a bool tensor.
    fn __richcmp__(&self, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Object> {
        binary(&self.tensor, other.as_borrowed(), |other| {
            let x = &self.tensor;
            match op {
                CompareOp::Eq => ops::equal(x, other),
                CompareOp::Ne => ops::not_equal(x, other),
                CompareOp::Lt => ops::less(x, other),
                CompareOp::Le => ops::less_equal(x, other),
                CompareOp::Gt => ops::greater(x, other),
                CompareOp::Ge => ops::greater_equal(x, other),
            }
        })
    }
}
