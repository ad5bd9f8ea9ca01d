//! Losses. `reduction` is 'mean', 'sum' or 'none' (one loss per element or row).

use corten_core::ops::{self, Reduction};
use pyo3::prelude::*;

use crate::convert::Arg;
use crate::seam::run;
use crate::tensor::PyTensor;

/// `-log softmax(x)[target]`, averaged: softmax and loss in one kernel, for raw scores (logits) `x`.
///
/// `x (N, C)`, `(C,)` or `(N, C, d1, ...)`; `target` holds class indices (integers, the shape of `x` without `C`) or
/// probabilities (the shape of `x`). Gradient for the mean: `(softmax(x) - onehot(target)) / N`.
///
/// >>> import corten as ct
/// >>> round(ct.cross_entropy(ct.zeros((2, 4)), ct.tensor([0, 3])).item(), 4)
/// 1.3863
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean"))]
fn cross_entropy(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    reduction: &str,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::cross_entropy(
            x.0,
            target.0,
            Reduction::from_name("cross_entropy", reduction)?,
        )
    })
    .map(PyTensor::new)
}

/// `max(x, 0) - x t + log(1 + e^-|x|)`: the cross-entropy of `sigmoid(x)` and probabilities `t`, both of one shape.
///
/// Gradient: `sigmoid(x) - t`.
///
/// >>> import corten as ct
/// >>> round(ct.binary_cross_entropy_with_logits(ct.zeros(2), ct.ones(2)).item(), 4)
/// 0.6931
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean"))]
fn binary_cross_entropy_with_logits(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    reduction: &str,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let reduction = Reduction::from_name("binary_cross_entropy_with_logits", reduction)?;
        ops::binary_cross_entropy_with_logits(x.0, target.0, reduction)
    })
    .map(PyTensor::new)
}

/// `(x - target)^2`, averaged; both of one shape. Gradient for the mean: `2 (x - target) / n`.
///
/// >>> import corten as ct
/// >>> ct.mse_loss(ct.tensor([1.0, 3.0]), ct.zeros(2)).item()
/// 5.0
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean"))]
fn mse_loss(py: Python<'_>, x: Arg<'_>, target: Arg<'_>, reduction: &str) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::mse_loss(x.0, target.0, Reduction::from_name("mse_loss", reduction)?)
    })
    .map(PyTensor::new)
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "mse_loss",
];
functions!(binary_cross_entropy_with_logits, cross_entropy, mse_loss);
