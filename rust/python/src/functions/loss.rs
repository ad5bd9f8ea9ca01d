//! Losses. `reduction` is 'mean', 'sum' or 'none' (one loss per element or row).

use corten_core::ops::{self, ClassOptions, Reduction};
use corten_python_macros::pyfunction;
use pyo3::prelude::*;

use crate::convert::Arg;
use crate::seam::run;
use crate::tensor::PyTensor;

/// `-log softmax(x)[target]`, averaged: softmax and loss in one kernel, for raw scores (logits) `x`.
///
/// `x (N, C)`, `(C,)` or `(N, C, d1, ...)`; `target` holds class indices (integers, the shape of `x` without `C`) or
/// probabilities (the shape of `x`). Gradient for the mean: `(softmax(x) - onehot(target)) / N`.
///
/// `weight (C,)` scales each class; rows of class `ignore_index` do not count; `label_smoothing` is the share of the target that
/// is spread evenly over the classes. The mean divides by the sum of the weights of the rows that count.
///
/// >>> import corten as ct
/// >>> round(ct.cross_entropy(ct.zeros((2, 4)), ct.tensor([0, 3])).item(), 4)
/// 1.3863
#[pyfunction]
#[pyo3(
    signature = (x, target, reduction = "mean", weight = None, ignore_index = -100, label_smoothing = 0.0),
    text_signature = "(x, target, reduction='mean', weight=None, ignore_index=-100, label_smoothing=0.0)"
)]
fn cross_entropy(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    reduction: &str,
    weight: Option<Arg<'_>>,
    ignore_index: i64,
    label_smoothing: f64,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let options = ClassOptions {
            weight: weight.map(|w| w.0),
            ignore_index,
            label_smoothing,
        };
        let reduction = Reduction::from_name("cross_entropy", reduction)?;
        ops::cross_entropy_with(x.0, target.0, options, reduction)
    })
    .map(PyTensor::new)
}

/// `-weight[target] x[target]` of log-probabilities `x (N, C)`, `(C,)` or `(N, C, d1, ...)`, averaged by weight.
///
/// `target` holds class indices, the shape of `x` without `C`; rows of class `ignore_index` do not count.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.nll_loss(ct.tensor([[-1.0, -2.0]]), ct.tensor([1])).item()
/// 2.0
#[pyfunction]
#[pyo3(
    signature = (x, target, weight = None, ignore_index = -100, reduction = "mean"),
    text_signature = "(x, target, weight=None, ignore_index=-100, reduction='mean')"
)]
fn nll_loss(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    weight: Option<Arg<'_>>,
    ignore_index: i64,
    reduction: &str,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let reduction = Reduction::from_name("nll_loss", reduction)?;
        ops::nll_loss(x.0, target.0, weight.map(|w| w.0), ignore_index, reduction)
    })
    .map(PyTensor::new)
}

/// `|x - target|`, averaged; both of one shape. Gradient for the mean: `sign(x - target) / n`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.l1_loss(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
/// 2.0
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean"))]
fn l1_loss(py: Python<'_>, x: Arg<'_>, target: Arg<'_>, reduction: &str) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::l1_loss(x.0, target.0, Reduction::from_name("l1_loss", reduction)?)
    })
    .map(PyTensor::new)
}

/// `d^2 / 2` where `|d| <= delta`, else `delta (|d| - delta / 2)`, with `d = x - target`, averaged.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.huber_loss(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
/// 1.5
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean", delta = 1.0))]
fn huber_loss(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    reduction: &str,
    delta: f64,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let reduction = Reduction::from_name("huber_loss", reduction)?;
        ops::huber_loss(x.0, target.0, delta, reduction)
    })
    .map(PyTensor::new)
}

/// `d^2 / (2 beta)` where `|d| < beta`, else `|d| - beta / 2`, with `d = x - target`, averaged.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.smooth_l1_loss(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
/// 1.5
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean", beta = 1.0))]
fn smooth_l1_loss(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    reduction: &str,
    beta: f64,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let reduction = Reduction::from_name("smooth_l1_loss", reduction)?;
        ops::smooth_l1_loss(x.0, target.0, beta, reduction)
    })
    .map(PyTensor::new)
}

/// `target (log(target) - x)`, averaged over all elements; `x` holds log-probabilities.
///
/// With `log_target` so does the target: `e^target (target - x)`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.kl_div(ct.tensor([-1.0, -3.0]), ct.tensor([0.0, 1.0]), reduction="sum").item()
/// 3.0
#[pyfunction]
#[pyo3(signature = (x, target, reduction = "mean", log_target = false))]
fn kl_div(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    reduction: &str,
    log_target: bool,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let reduction = Reduction::from_name("kl_div", reduction)?;
        ops::kl_div(x.0, target.0, reduction, log_target)
    })
    .map(PyTensor::new)
}

/// `-(t log(x) + (1 - t) log(1 - x))` of probabilities `x`, averaged; logarithms are at least -100.
///
/// `weight`, of the same shape, scales each element's loss. For logits there is `binary_cross_entropy_with_logits`.
///
/// >>> import corten as ct
/// >>> round(ct.nn.functional.binary_cross_entropy(ct.full((2,), 0.5), ct.ones(2)).item(), 4)
/// 0.6931
#[pyfunction]
#[pyo3(signature = (x, target, weight = None, reduction = "mean"))]
fn binary_cross_entropy(
    py: Python<'_>,
    x: Arg<'_>,
    target: Arg<'_>,
    weight: Option<Arg<'_>>,
    reduction: &str,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        let reduction = Reduction::from_name("binary_cross_entropy", reduction)?;
        ops::binary_cross_entropy(x.0, target.0, weight.map(|w| w.0), reduction)
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
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
];
functions!(
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
);
