//! Optimizer steps: all parameters in one call, written in place (copy-on-write where something shares their memory).

use corten_core::Tensor;
use corten_core::optim::{self, Adam, RmsProp, Sgd};
use corten_python_macros::pyfunction;
use pyo3::prelude::*;

use crate::convert::Args;
use crate::seam::write;

fn total(params: &Args) -> usize {
    params.0.iter().map(Tensor::numel).sum()
}

/// One step of stochastic gradient descent for all `params`, with PyTorch's formulas.
///
/// `g += weight_decay p`; `buf = momentum buf + (1 - dampening) g`, on the `first` step `buf = g`; `p -= lr buf`, or with
/// `nesterov` `p -= lr (g + momentum buf)`. `maximize` turns the gradient around. The lists run in parallel;
/// `momentum_buffers` is needed when `momentum` is not 0.
///
/// >>> import corten as ct
/// >>> from corten import _core
/// >>> p = ct.tensor([1.0, 2.0])
/// >>> _core.sgd_step([p], [ct.ones(2)], None, lr=0.5)
/// >>> p
/// tensor([0.5, 1.5])
#[pyfunction]
#[pyo3(signature = (
    params, grads, momentum_buffers, *, lr, momentum = 0.0, dampening = 0.0, weight_decay = 0.0, nesterov = false,
    maximize = false, first = false
))]
fn sgd_step(
    py: Python<'_>,
    params: Args,
    grads: Args,
    momentum_buffers: Option<Args>,
    lr: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
    maximize: bool,
    first: bool,
) -> PyResult<()> {
    let h = Sgd {
        lr,
        momentum,
        dampening,
        weight_decay,
        nesterov,
        maximize,
        first,
    };
    let buffers = momentum_buffers.map(|b| b.0);
    write(py, total(&params), || {
        optim::sgd_step(&params.0, &grads.0, buffers.as_deref(), &h)
    })
}

/// One step of Adam, or AdamW when `decoupled`, for all `params`, with PyTorch's formulas; `step` counts from 1.
///
/// `m = beta1 m + (1 - beta1) g`; `v = beta2 v + (1 - beta2) g^2`;
/// `p -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps)`. Weight decay adds `weight_decay p` to `g`; decoupled
/// it shrinks `p` by `lr weight_decay` instead. `exp_avgs` holds `m`, `exp_avg_sqs` holds `v`.
///
/// >>> import corten as ct
/// >>> from corten import _core
/// >>> p, m, v = ct.tensor([1.0]), ct.zeros(1), ct.zeros(1)
/// >>> _core.adam_step([p], [ct.ones(1)], [m], [v], step=1, lr=0.5)
/// >>> p
/// tensor([0.5])
#[pyfunction]
#[pyo3(signature = (
    params, grads, exp_avgs, exp_avg_sqs, *, step, lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0,
    decoupled = false, maximize = false
))]
fn adam_step(
    py: Python<'_>,
    params: Args,
    grads: Args,
    exp_avgs: Args,
    exp_avg_sqs: Args,
    step: u64,
    lr: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
    decoupled: bool,
    maximize: bool,
) -> PyResult<()> {
    let h = Adam {
        lr,
        beta1,
        beta2,
        eps,
        weight_decay,
        decoupled,
        maximize,
        step,
    };
    write(py, total(&params), || {
        optim::adam_step(&params.0, &grads.0, &exp_avgs.0, &exp_avg_sqs.0, &h)
    })
}

/// One step of RMSprop for all `params`, with PyTorch's formulas.
///
/// `v = alpha v + (1 - alpha) g^2`; `d = g / (sqrt(v) + eps)`; `p -= lr d`. With `grad_avgs` the step is centred: `m = alpha m +
/// (1 - alpha) g`, and the root is of `v - m^2`, not below 0. With momentum, `b = momentum b + d` takes the place of `d`.
/// `square_avgs` holds `v`, `grad_avgs` `m`; `momentum_buffers` is needed when `momentum` is not 0.
///
/// >>> import corten as ct
/// >>> from corten import _core
/// >>> p, v = ct.tensor([1.0]), ct.zeros(1)
/// >>> _core.rmsprop_step([p], [ct.ones(1)], [v], None, None, lr=0.25, alpha=0.75)
/// >>> p, v
/// (tensor([0.5]), tensor([0.25]))
#[pyfunction]
#[pyo3(signature = (
    params, grads, square_avgs, grad_avgs, momentum_buffers, *, lr = 1e-2, alpha = 0.99, eps = 1e-8, weight_decay = 0.0,
    momentum = 0.0, maximize = false
))]
fn rmsprop_step(
    py: Python<'_>,
    params: Args,
    grads: Args,
    square_avgs: Args,
    grad_avgs: Option<Args>,
    momentum_buffers: Option<Args>,
    lr: f64,
    alpha: f64,
    eps: f64,
    weight_decay: f64,
    momentum: f64,
    maximize: bool,
) -> PyResult<()> {
    let h = RmsProp {
        lr,
        alpha,
        eps,
        weight_decay,
        momentum,
        maximize,
    };
    let (means, buffers) = (grad_avgs.map(|m| m.0), momentum_buffers.map(|b| b.0));
    write(py, total(&params), || {
        optim::rmsprop_step(
            &params.0,
            &grads.0,
            &square_avgs.0,
            means.as_deref(),
            buffers.as_deref(),
            &h,
        )
    })
}

functions!(adam_step, rmsprop_step, sgd_step);
