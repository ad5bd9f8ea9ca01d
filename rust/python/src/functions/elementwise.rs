//! Element-wise functions. Operands broadcast; Python scalars are weak.

// What pyo3 generates inside our macros counts as ours.
#![allow(unsafe_op_in_unsafe_fn)]

use corten_core::ops;
use corten_python_macros::{pyfunction, pymethods};
use pyo3::prelude::*;

use crate::convert::{Arg, DTypeArg, Number, Operand};
use crate::seam::run;
use crate::tensor::PyTensor;

/// A function and a method `name(x)`.
macro_rules! unary {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            fn $name(py: Python<'_>, x: Arg<'_>) -> PyResult<PyTensor> {
                run(py, x.0.numel(), || ops::$name(x.0)).map(PyTensor::new)
            }
        )*
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                fn $name(&self, py: Python<'_>) -> PyResult<Self> {
                    run(py, self.tensor.numel(), || ops::$name(&self.tensor)).map(Self::new)
                }
            )*
        }
    };
}
unary! {
    /// `-x`, element by element. Gradient: -1.
    ///
    /// >>> import corten as ct
    /// >>> ct.negative(ct.tensor([1.0, -2.0]))
    /// tensor([-1.,  2.])
    negative;
    /// `|x|`, element by element. Gradient: `sign(x)` (0 at 0).
    ///
    /// >>> import corten as ct
    /// >>> ct.abs(ct.tensor([1.0, -2.0]))
    /// tensor([1., 2.])
    abs;
    /// -1, 0 or 1, element by element; NaN stays NaN. Gradient: 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.sign(ct.tensor([3.0, 0.0, -2.0]))
    /// tensor([ 1.,  0., -1.])
    sign;
    /// `x * x`, element by element. Gradient: `2 x`.
    ///
    /// >>> import corten as ct
    /// >>> ct.square(ct.tensor([3.0, -2.0]))
    /// tensor([9., 4.])
    square;
    /// The square root, element by element; integers become float32. Gradient: `1 / (2 sqrt(x))`.
    ///
    /// >>> import corten as ct
    /// >>> ct.sqrt(ct.tensor([4.0, 9.0]))
    /// tensor([2., 3.])
    sqrt;
    /// `1 / sqrt(x)`, element by element. Gradient: `-x^(-3/2) / 2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.rsqrt(ct.tensor([4.0, 16.0]))
    /// tensor([0.5 , 0.25])
    rsqrt;
    /// `1 / x`, element by element. Gradient: `-1 / x^2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.reciprocal(ct.tensor([4.0, -2.0]))
    /// tensor([ 0.25, -0.5 ])
    reciprocal;
    /// `e^x`, element by element. Gradient: `e^x`.
    ///
    /// >>> import corten as ct
    /// >>> ct.exp(ct.zeros(2))
    /// tensor([1., 1.])
    exp;
    /// `e^x - 1`, exact for small `x`. Gradient: `e^x`.
    ///
    /// >>> import corten as ct
    /// >>> ct.expm1(ct.zeros(2))
    /// tensor([0., 0.])
    expm1;
    /// The natural logarithm, element by element; -inf at 0, NaN below. Gradient: `1 / x`.
    ///
    /// >>> import corten as ct
    /// >>> ct.log(ct.ones(2))
    /// tensor([0., 0.])
    log;
    /// `log(1 + x)`, exact for small `x`. Gradient: `1 / (1 + x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.log1p(ct.zeros(2))
    /// tensor([0., 0.])
    log1p;
    /// The sine, `x` in radians. Gradient: `cos(x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.sin(ct.zeros(2))
    /// tensor([0., 0.])
    sin;
    /// The cosine, `x` in radians. Gradient: `-sin(x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.cos(ct.zeros(2))
    /// tensor([1., 1.])
    cos;
    /// The largest integer not above `x`, in the dtype of `x`. Gradient: 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.floor(ct.tensor([1.7, -1.2]))
    /// tensor([ 1., -2.])
    floor;
    /// The smallest integer not below `x`, in the dtype of `x`. Gradient: 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.ceil(ct.tensor([1.7, -1.2]))
    /// tensor([ 2., -1.])
    ceil;
    /// The nearest integer, halves to the even one, in the dtype of `x`. Gradient: 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.round(ct.tensor([1.7, 2.5]))
    /// tensor([2., 2.])
    round;
    /// `x` without its fraction, in the dtype of `x`. Gradient: 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.trunc(ct.tensor([1.7, -1.7]))
    /// tensor([ 1., -1.])
    trunc;
    /// The error function `2/sqrt(pi) * integral of e^(-t^2) from 0 to x`. Gradient: `2/sqrt(pi) e^(-x^2)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.erf(ct.zeros(2))
    /// tensor([0., 0.])
    erf;
    /// Whether each element is NaN.
    ///
    /// >>> import corten as ct
    /// >>> ct.isnan(ct.tensor([1.0, float("nan")]))
    /// tensor([False,  True])
    isnan;
    /// Whether each element is plus or minus infinity.
    ///
    /// >>> import corten as ct
    /// >>> ct.isinf(ct.tensor([1.0, float("-inf")]))
    /// tensor([False,  True])
    isinf;
    /// Whether each element is neither infinite nor NaN.
    ///
    /// >>> import corten as ct
    /// >>> ct.isfinite(ct.tensor([1.0, float("inf")]))
    /// tensor([ True, False])
    isfinite;
    /// `not x`, element by element; bool tensors only.
    ///
    /// >>> import corten as ct
    /// >>> ct.logical_not(ct.tensor([True, False]))
    /// tensor([False,  True])
    logical_not;
}

/// A function `name(x1, x2)` of tensors or numbers, and a method `x1.name(x2)`.
macro_rules! binary {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            fn $name(py: Python<'_>, x1: Operand<'_>, x2: Operand<'_>) -> PyResult<PyTensor> {
                run(py, x1.numel().max(x2.numel()), || ops::$name(&x1, &x2)).map(PyTensor::new)
            }
        )*
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                fn $name(&self, py: Python<'_>, x2: Operand<'_>) -> PyResult<Self> {
                    run(py, self.tensor.numel().max(x2.numel()), || ops::$name(&self.tensor, &x2)).map(Self::new)
                }
            )*
        }
    };
}
binary! {
    /// `x1 + x2`, broadcast. Gradients: 1 and 1.
    ///
    /// >>> import corten as ct
    /// >>> ct.add(ct.tensor([1.0, 2.0]), 10)
    /// tensor([11., 12.])
    add;
    /// `x1 - x2`, broadcast. Gradients: 1 and -1.
    ///
    /// >>> import corten as ct
    /// >>> ct.subtract(ct.tensor([1.0, 2.0]), 1)
    /// tensor([0., 1.])
    subtract;
    /// `x1 * x2`, broadcast. Gradients: `x2` and `x1`.
    ///
    /// >>> import corten as ct
    /// >>> ct.multiply(ct.tensor([1.0, 2.0]), ct.tensor([3.0, 4.0]))
    /// tensor([3., 8.])
    multiply;
    /// `x1 / x2`, broadcast; integers divide to float32. Gradients: `1 / x2` and `-x1 / x2^2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.divide(ct.tensor([1, 2]), 2)
    /// tensor([0.5, 1. ])
    divide;
    /// `floor(x1 / x2)`, broadcast, rounded toward minus infinity as in Python. Gradient: 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.floor_divide(ct.tensor([7, -7]), 2)
    /// tensor([ 3, -4])
    floor_divide;
    /// `x1 - floor(x1 / x2) * x2`, broadcast: the sign of `x2`, as Python's `%`. Gradients: 1 and `-floor(x1 / x2)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.remainder(ct.tensor([7, -7]), 3)
    /// tensor([1, 2])
    remainder;
    /// `x1` to the power `x2`, broadcast. Gradients: `x2 x1^(x2 - 1)` and `x1^x2 log(x1)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.pow(ct.tensor([1.0, 2.0, 3.0]), 2)
    /// tensor([1., 4., 9.])
    pow;
    /// The larger of the two, broadcast; NaN wins. Gradient: to the larger one, half to each when equal.
    ///
    /// >>> import corten as ct
    /// >>> ct.maximum(ct.tensor([1.0, -2.0]), 0)
    /// tensor([1., 0.])
    maximum;
    /// The smaller of the two, broadcast; NaN wins. Gradient: to the smaller one, half to each when equal.
    ///
    /// >>> import corten as ct
    /// >>> ct.minimum(ct.tensor([1.0, -2.0]), 0)
    /// tensor([ 0., -2.])
    minimum;
    /// `x1 == x2`, element by element, broadcast; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.equal(ct.tensor([1, 2]), 2)
    /// tensor([False,  True])
    equal;
    /// `x1 != x2`, element by element, broadcast; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.not_equal(ct.tensor([1, 2]), 2)
    /// tensor([ True, False])
    not_equal;
    /// `x1 < x2`, element by element, broadcast; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.less(ct.tensor([1, 2]), 2)
    /// tensor([ True, False])
    less;
    /// `x1 <= x2`, element by element, broadcast; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.less_equal(ct.tensor([1, 3]), 2)
    /// tensor([ True, False])
    less_equal;
    /// `x1 > x2`, element by element, broadcast; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.greater(ct.tensor([1, 3]), 2)
    /// tensor([False,  True])
    greater;
    /// `x1 >= x2`, element by element, broadcast; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.greater_equal(ct.tensor([1, 2]), 2)
    /// tensor([False,  True])
    greater_equal;
    /// `x1 and x2`, element by element, broadcast; bools only. The same as `x1 & x2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.logical_and(ct.tensor([True, False]), True)
    /// tensor([ True, False])
    logical_and;
    /// `x1 or x2`, element by element, broadcast; bools only. The same as `x1 | x2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.logical_or(ct.tensor([True, False]), False)
    /// tensor([ True, False])
    logical_or;
    /// Whether exactly one of the two is true, broadcast; bools only. The same as `x1 ^ x2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.logical_xor(ct.tensor([True, False]), True)
    /// tensor([False,  True])
    logical_xor;
}

/// `x` limited to `min <= x <= max`; None is no limit. Gradient: 1 inside (limits included), 0 outside.
///
/// >>> import corten as ct
/// >>> ct.clip(ct.tensor([-2.0, 0.5, 2.0]), -1, 1)
/// tensor([-1. ,  0.5,  1. ])
#[pyfunction]
#[pyo3(signature = (x, min = None, max = None))]
fn clip(
    py: Python<'_>,
    x: Arg<'_>,
    min: Option<Number>,
    max: Option<Number>,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::clip(x.0, min.map(|n| n.0), max.map(|n| n.0))
    })
    .map(PyTensor::new)
}

/// `x1` where the bool tensor `condition` holds, else `x2`; all broadcast. Gradients: to the one that was taken.
///
/// >>> import corten as ct
/// >>> x = ct.tensor([1.0, -2.0])
/// >>> ct.where(x > 0, x, 0)
/// tensor([1., 0.])
#[pyfunction]
#[pyo3(name = "where")]
fn where_(
    py: Python<'_>,
    condition: Arg<'_>,
    x1: Operand<'_>,
    x2: Operand<'_>,
) -> PyResult<PyTensor> {
    let work = condition.0.numel().max(x1.numel()).max(x2.numel());
    run(py, work, || ops::r#where(condition.0, &x1, &x2)).map(PyTensor::new)
}

/// `x` in another dtype; floats to integers round toward zero. Gradient: flows between floats.
///
/// >>> import corten as ct
/// >>> ct.astype(ct.tensor([1.7, -1.7]), "int64")
/// tensor([ 1, -1])
#[pyfunction]
fn astype(py: Python<'_>, x: Arg<'_>, dtype: DTypeArg) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::astype(x.0, dtype.0)).map(PyTensor::new)
}

#[pymethods]
impl PyTensor {
    /// The tensor limited to `min <= x <= max`; None is no limit. See `corten.clip`.
    #[pyo3(signature = (min = None, max = None))]
    fn clip(&self, py: Python<'_>, min: Option<Number>, max: Option<Number>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::clip(&self.tensor, min.map(|n| n.0), max.map(|n| n.0))
        })
        .map(Self::new)
    }
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "abs",
    "add",
    "astype",
    "ceil",
    "clip",
    "cos",
    "divide",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "floor_divide",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sqrt",
    "square",
    "subtract",
    "trunc",
    "where",
];
functions!(
    abs,
    add,
    astype,
    ceil,
    clip,
    cos,
    divide,
    equal,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    pow,
    reciprocal,
    remainder,
    round,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    trunc,
    where_,
);
