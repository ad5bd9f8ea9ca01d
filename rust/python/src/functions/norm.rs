//! Normalisation within each sample.

use corten_core::ops;
use corten_python_macros::pyfunction;
use pyo3::prelude::*;

use crate::convert::{Arg, SizesArg};
use crate::seam::run;
use crate::tensor::PyTensor;

/// `(x - mean) / sqrt(var + eps) * weight + bias`, mean and variance being those of the last axes: `x (*, S)`.
///
/// `normalized_shape` is `S`, as are the shapes of `weight` and `bias`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.layer_norm(ct.tensor([[1.0, 3.0]]), (2,), eps=0.0).tolist()
/// [[-1.0, 1.0]]
#[pyfunction]
#[pyo3(signature = (x, normalized_shape, weight = None, bias = None, eps = 1e-5))]
fn layer_norm(
    py: Python<'_>,
    x: Arg<'_>,
    normalized_shape: SizesArg,
    weight: Option<Arg<'_>>,
    bias: Option<Arg<'_>>,
    eps: f64,
) -> PyResult<PyTensor> {
    let shape = normalized_shape.0;
    run(py, x.0.numel(), || {
        ops::layer_norm(x.0, &shape, weight.map(|w| w.0), bias.map(|b| b.0), eps)
    })
    .map(PyTensor::new)
}

/// `x / sqrt(mean(x^2) + eps) * weight`, the mean being over the last axes: `x (*, S)`, `weight S`.
///
/// `eps` is the dtype's machine epsilon unless given.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.rms_norm(ct.tensor([[2.0, -2.0]]), (2,), eps=0.0).tolist()
/// [[1.0, -1.0]]
#[pyfunction]
#[pyo3(signature = (x, normalized_shape, weight = None, eps = None))]
fn rms_norm(
    py: Python<'_>,
    x: Arg<'_>,
    normalized_shape: SizesArg,
    weight: Option<Arg<'_>>,
    eps: Option<f64>,
) -> PyResult<PyTensor> {
    let shape = normalized_shape.0;
    run(py, x.0.numel(), || {
        ops::rms_norm(x.0, &shape, weight.map(|w| w.0), eps)
    })
    .map(PyTensor::new)
}

/// `(x - mean) / sqrt(var + eps) * weight + bias`, mean and variance being those of a group of channels of one sample.
///
/// `x (N, C, *)`, `weight` and `bias` `(C,)`; `num_groups` must divide `C`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.group_norm(ct.tensor([[1.0, 3.0]]), 1, eps=0.0).tolist()
/// [[-1.0, 1.0]]
#[pyfunction]
#[pyo3(signature = (x, num_groups, weight = None, bias = None, eps = 1e-5))]
fn group_norm(
    py: Python<'_>,
    x: Arg<'_>,
    num_groups: usize,
    weight: Option<Arg<'_>>,
    bias: Option<Arg<'_>>,
    eps: f64,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::group_norm(x.0, num_groups, weight.map(|w| w.0), bias.map(|b| b.0), eps)
    })
    .map(PyTensor::new)
}

/// `(x - mean) / sqrt(var + eps) * weight + bias`, mean and variance being those of one channel of one sample.
///
/// `x (N, C, *)`, `weight` and `bias` `(C,)`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.instance_norm(ct.tensor([[[1.0, 3.0]]]), eps=0.0).tolist()
/// [[[-1.0, 1.0]]]
#[pyfunction]
#[pyo3(signature = (x, weight = None, bias = None, eps = 1e-5))]
fn instance_norm(
    py: Python<'_>,
    x: Arg<'_>,
    weight: Option<Arg<'_>>,
    bias: Option<Arg<'_>>,
    eps: f64,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::instance_norm(x.0, weight.map(|w| w.0), bias.map(|b| b.0), eps)
    })
    .map(PyTensor::new)
}

/// `x (k + alpha / size * sum of squares)^-beta`, the sum being over `size` neighbouring channels of `x (N, C, *)`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.local_response_norm(ct.ones((1, 1, 1)), 1, alpha=3.0, beta=0.5).item()
/// 0.5
#[pyfunction]
#[pyo3(signature = (x, size, alpha = 1e-4, beta = 0.75, k = 1.0))]
fn local_response_norm(
    py: Python<'_>,
    x: Arg<'_>,
    size: usize,
    alpha: f64,
    beta: f64,
    k: f64,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::local_response_norm(x.0, size, alpha, beta, k)
    })
    .map(PyTensor::new)
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
];
functions!(
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
);
