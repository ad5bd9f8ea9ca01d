//! Reductions over one, several or all axes. The functions take `axis` and `keepdims`; the methods also torch's `dim` and
//! `keepdim`.

// What pyo3 generates inside our macros counts as ours.
#![allow(unsafe_op_in_unsafe_fn)]

use corten_core::ops;
use corten_python_macros::{pyfunction, pymethods};
use pyo3::prelude::*;

use crate::convert::{AXIS, Arg, Axes, DTypeArg, KEEPDIMS, either, given};
use crate::seam::run;
use crate::tensor::PyTensor;

/// `axis` or `dim`, `keepdims` or `keepdim`.
fn spelled(
    op: &str,
    axis: Option<Axes>,
    dim: Option<Axes>,
    keepdims: Option<bool>,
    keepdim: Option<bool>,
) -> PyResult<(Axes, bool)> {
    let axes = either(op, AXIS, axis, dim)?.unwrap_or_default();
    Ok((
        axes,
        either(op, KEEPDIMS, keepdims, keepdim)?.unwrap_or(false),
    ))
}

/// The same for one axis.
fn spelled_one(
    op: &str,
    axis: Option<isize>,
    dim: Option<isize>,
    keepdims: Option<bool>,
    keepdim: Option<bool>,
) -> PyResult<(Option<isize>, bool)> {
    let axis = either(op, AXIS, axis, dim)?;
    Ok((
        axis,
        either(op, KEEPDIMS, keepdims, keepdim)?.unwrap_or(false),
    ))
}

/// Functions and methods `name(x, axis, keepdims)`.
macro_rules! reductions {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            #[pyo3(signature = (x, axis = Axes(None), keepdims = false), text_signature = "(x, axis=None, keepdims=False)")]
            fn $name(py: Python<'_>, x: Arg<'_>, axis: Axes, keepdims: bool) -> PyResult<PyTensor> {
                run(py, x.0.numel(), || ops::$name(x.0, axis.get(), keepdims)).map(PyTensor::new)
            }
        )*
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                #[pyo3(
                    signature = (axis = None, keepdims = None, *, dim = None, keepdim = None),
                    text_signature = "($self, axis=None, keepdims=None, *, dim=None, keepdim=None)"
                )]
                fn $name(
                    &self,
                    py: Python<'_>,
                    axis: Option<Axes>,
                    keepdims: Option<bool>,
                    dim: Option<Axes>,
                    keepdim: Option<bool>,
                ) -> PyResult<Self> {
                    let (axes, keep) = spelled(stringify!($name), axis, dim, keepdims, keepdim)?;
                    run(py, self.tensor.numel(), || ops::$name(&self.tensor, axes.get(), keep)).map(Self::new)
                }
            )*
        }
    };
}
reductions! {
    /// The mean over `axis` (all axes when None); integers give float32. Gradient: `1/n` each.
    ///
    /// `axis` is an int, a sequence of ints or None; with `keepdims` the reduced axes stay, with size 1.
    ///
    /// >>> import corten as ct
    /// >>> ct.mean(ct.tensor([[1.0, 2.0], [3.0, 6.0]]), axis=1)
    /// tensor([1.5, 4.5])
    mean;
    /// The product over `axis` (all axes when None); integers give int64. Gradient: the product of the others.
    ///
    /// >>> import corten as ct
    /// >>> ct.prod(ct.tensor([2.0, 3.0, 4.0]))
    /// tensor(24.)
    prod;
    /// The largest element over `axis` (all axes when None); values only, `argmax` gives indices. NaN wins.
    ///
    /// Gradient: to the largest element, shared equally when several are.
    ///
    /// >>> import corten as ct
    /// >>> ct.max(ct.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    /// tensor([5., 3.])
    max;
    /// The smallest element over `axis` (all axes when None); values only, `argmin` gives indices. NaN wins.
    ///
    /// Gradient: to the smallest element, shared equally when several are.
    ///
    /// >>> import corten as ct
    /// >>> ct.min(ct.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    /// tensor([1., 2.])
    min;
    /// Whether any element over `axis` (all axes when None) is not zero; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.any(ct.tensor([[True, False], [False, False]]), axis=1)
    /// tensor([ True, False])
    any;
    /// Whether all elements over `axis` (all axes when None) are not zero; a bool tensor.
    ///
    /// >>> import corten as ct
    /// >>> ct.all(ct.tensor([[True, False], [True, True]]), axis=1)
    /// tensor([False,  True])
    all;
}

/// The sum over `axis` (all axes when None); bools and small integers add up in int64. Gradient: 1 each.
///
/// `axis` is an int, a sequence of ints or None; with `keepdims` the reduced axes stay, with size 1; `dtype` converts first.
///
/// >>> import corten as ct
/// >>> ct.sum(ct.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
/// tensor([4., 6.])
#[pyfunction]
#[pyo3(
    signature = (x, axis = Axes(None), keepdims = false, dtype = None),
    text_signature = "(x, axis=None, keepdims=False, dtype=None)"
)]
fn sum(
    py: Python<'_>,
    x: Arg<'_>,
    axis: Axes,
    keepdims: bool,
    dtype: Option<DTypeArg>,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::sum(x.0, axis.get(), keepdims, given(dtype))
    })
    .map(PyTensor::new)
}

/// Functions and methods `name(x, axis, correction, keepdims)`.
macro_rules! spreads {
    ($($(#[doc = $doc:literal])* $name:ident $rust:ident $py:literal;)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            #[pyo3(
                name = $py,
                signature = (x, axis = Axes(None), correction = 0.0, keepdims = false),
                text_signature = "(x, axis=None, correction=0.0, keepdims=False)"
            )]
            fn $rust(py: Python<'_>, x: Arg<'_>, axis: Axes, correction: f64, keepdims: bool) -> PyResult<PyTensor> {
                run(py, x.0.numel(), || ops::$name(x.0, axis.get(), correction, keepdims)).map(PyTensor::new)
            }
        )*
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                #[pyo3(
                    signature = (axis = None, correction = 0.0, keepdims = None, *, dim = None, keepdim = None),
                    text_signature = "($self, axis=None, correction=0.0, keepdims=None, *, dim=None, keepdim=None)"
                )]
                fn $name(
                    &self,
                    py: Python<'_>,
                    axis: Option<Axes>,
                    correction: f64,
                    keepdims: Option<bool>,
                    dim: Option<Axes>,
                    keepdim: Option<bool>,
                ) -> PyResult<Self> {
                    let (axes, keep) = spelled(stringify!($name), axis, dim, keepdims, keepdim)?;
                    run(py, self.tensor.numel(), || ops::$name(&self.tensor, axes.get(), correction, keep)).map(Self::new)
                }
            )*
        }
    };
}
spreads! {
    /// The variance over `axis`: the mean squared distance from the mean, divided by `n - correction`.
    ///
    /// `correction=0` is the variance of the numbers themselves (NumPy's default), 1 the unbiased estimate (torch's).
    ///
    /// >>> import corten as ct
    /// >>> ct.var(ct.tensor([1.0, 3.0]))
    /// tensor(1.)
    var variance "var";
    /// The standard deviation over `axis`: the square root of `var` with the same `correction`.
    ///
    /// >>> import corten as ct
    /// >>> ct.std(ct.tensor([1.0, 3.0]))
    /// tensor(1.)
    std deviation "std";
}

/// Functions and methods `name(x, axis, keepdims)` that give one index.
macro_rules! searches {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            #[pyo3(signature = (x, axis = None, keepdims = false))]
            fn $name(py: Python<'_>, x: Arg<'_>, axis: Option<isize>, keepdims: bool) -> PyResult<PyTensor> {
                run(py, x.0.numel(), || ops::$name(x.0, axis, keepdims)).map(PyTensor::new)
            }
        )*
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                #[pyo3(signature = (axis = None, keepdims = None, *, dim = None, keepdim = None))]
                fn $name(
                    &self,
                    py: Python<'_>,
                    axis: Option<isize>,
                    keepdims: Option<bool>,
                    dim: Option<isize>,
                    keepdim: Option<bool>,
                ) -> PyResult<Self> {
                    let (axis, keep) = spelled_one(stringify!($name), axis, dim, keepdims, keepdim)?;
                    run(py, self.tensor.numel(), || ops::$name(&self.tensor, axis, keep)).map(Self::new)
                }
            )*
        }
    };
}
searches! {
    /// Index of the first largest element along `axis` (of the flattened tensor when None), int64; NaN counts as largest.
    ///
    /// >>> import corten as ct
    /// >>> ct.argmax(ct.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    /// tensor([1, 0])
    argmax;
    /// Index of the first smallest element along `axis` (of the flattened tensor when None), int64; NaN counts as smallest.
    ///
    /// >>> import corten as ct
    /// >>> ct.argmin(ct.tensor([[1.0, 5.0], [3.0, 2.0]]), axis=1)
    /// tensor([0, 1])
    argmin;
}

#[pymethods]
impl PyTensor {
    /// The sum over `axis` (all axes when None). See `corten.sum`.
    #[pyo3(signature = (axis = None, keepdims = None, dtype = None, *, dim = None, keepdim = None))]
    fn sum(
        &self,
        py: Python<'_>,
        axis: Option<Axes>,
        keepdims: Option<bool>,
        dtype: Option<DTypeArg>,
        dim: Option<Axes>,
        keepdim: Option<bool>,
    ) -> PyResult<Self> {
        let (axes, keep) = spelled("sum", axis, dim, keepdims, keepdim)?;
        run(py, self.tensor.numel(), || {
            ops::sum(&self.tensor, axes.get(), keep, given(dtype))
        })
        .map(Self::new)
    }
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "all", "any", "argmax", "argmin", "max", "mean", "min", "prod", "std", "sum", "var",
];
functions!(
    all, any, argmax, argmin, max, mean, min, prod, deviation, sum, variance
);
