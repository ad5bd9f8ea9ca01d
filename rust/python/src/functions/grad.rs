//! Gradients as functions, and the gradient checker.

use corten_core::autograd::{self, GradOptions};
use pyo3::prelude::*;

use crate::convert::{Args, MaybeArgs};
use crate::seam::{LONG, run};
use crate::tensor::PyTensor;

/// The gradients of `outputs` with respect to `inputs`, as a list; touches no `.grad`.
///
/// `grad_outputs` weighs the outputs (None: 1, for single elements). `create_graph` records the computation of the gradients,
/// so that they can be differentiated again; `retain_graph` (default: as `create_graph`) keeps what the operations saved;
/// `allow_unused` gives None for an input that the outputs do not depend on, instead of raising.
///
/// >>> import corten as ct
/// >>> from corten import _core
/// >>> x = ct.tensor(3.0, requires_grad=True)
/// >>> (dx,) = _core.grad([x ** 3], [x], create_graph=True)
/// >>> (ddx,) = _core.grad([dx], [x])
/// >>> dx.item(), ddx.item()
/// (27.0, 18.0)
#[pyfunction]
#[pyo3(signature = (outputs, inputs, grad_outputs = None, retain_graph = None, create_graph = false, allow_unused = false))]
fn grad(
    py: Python<'_>,
    outputs: Args,
    inputs: Args,
    grad_outputs: Option<MaybeArgs>,
    retain_graph: Option<bool>,
    create_graph: bool,
    allow_unused: bool,
) -> PyResult<Vec<Option<PyTensor>>> {
    let weights = grad_outputs.map(|g| g.0).unwrap_or_default();
    let options = GradOptions {
        retain_graph,
        create_graph,
        allow_unused,
    };
    let grads = run(py, LONG, || {
        autograd::grad(&outputs.0, &inputs.0, &weights, options)
    })?;
    Ok(grads.into_iter().map(|g| g.map(PyTensor::new)).collect())
}

functions!(grad);
