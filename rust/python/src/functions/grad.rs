//! Gradients as functions, and the gradient checker.

use corten_core::autograd::check::Tolerance;
use corten_core::autograd::{self, GradOptions};
use corten_core::{Result, Tensor};
use corten_python_macros::pyfunction;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::convert::{Arg, Args, MaybeArgs};
use crate::seam::{LONG, foreign, run};
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

/// `fn`, which takes tensors and gives one or several, as the checkers of the core call it.
fn callable(f: &Py<PyAny>, required: Vec<bool>) -> impl Fn(&[Tensor]) -> Result<Vec<Tensor>> {
    move |xs: &[Tensor]| {
        // Where differences are taken, copies of the inputs come without gradient; `fn` may itself ask for gradients.
        let _recording = autograd::enable_grad();
        for (x, &on) in xs.iter().zip(&required) {
            x.set_requires_grad(on)?;
        }
        Python::attach(|py| {
            let args = xs.iter().map(|x| Py::new(py, PyTensor::new(x.clone())));
            let args = PyTuple::new(py, args.collect::<PyResult<Vec<_>>>()?)?;
            let result = f.bind(py).call1(args)?;
            match result.extract::<Arg<'_>>() {
                Ok(y) => Ok(vec![y.0.clone()]),
                Err(_) => Ok(result.extract::<Args>()?.0),
            }
        })
        .map_err(foreign)
    }
}

/// Checks the gradients of `fn(*inputs)` against central differences; True, or an exception that says where they differ.
///
/// `fn` takes tensors and returns one or several; the inputs are float64, and those that require grad are checked.
///
/// >>> import corten as ct
/// >>> from corten import _core
/// >>> _core.gradcheck(lambda x: x * x, [ct.tensor([1.0, 2.0], dtype="float64", requires_grad=True)])
/// True
#[pyfunction]
#[pyo3(signature = (r#fn, inputs, eps = 1e-6, rtol = 1e-5, atol = 1e-7))]
fn gradcheck(
    py: Python<'_>,
    r#fn: Py<PyAny>,
    inputs: Args,
    eps: f64,
    rtol: f64,
    atol: f64,
) -> PyResult<bool> {
    let call = callable(&r#fn, inputs.0.iter().map(Tensor::requires_grad).collect());
    run(py, LONG, || {
        autograd::gradcheck(&call, &inputs.0, Tolerance { eps, rtol, atol })
    })?;
    Ok(true)
}

/// Checks the second derivatives of `fn(*inputs)`, as `gradcheck` the first: with respect to the inputs, and to the gradients
/// of the outputs.
///
/// >>> import corten as ct
/// >>> from corten import _core
/// >>> _core.gradgradcheck(lambda x: x * x, [ct.tensor([1.0, 2.0], dtype="float64", requires_grad=True)])
/// True
#[pyfunction]
#[pyo3(signature = (r#fn, inputs, eps = 1e-6, rtol = 1e-5, atol = 1e-7))]
fn gradgradcheck(
    py: Python<'_>,
    r#fn: Py<PyAny>,
    inputs: Args,
    eps: f64,
    rtol: f64,
    atol: f64,
) -> PyResult<bool> {
    let call = callable(&r#fn, inputs.0.iter().map(Tensor::requires_grad).collect());
    run(py, LONG, || {
        autograd::gradgradcheck(&call, &inputs.0, Tolerance { eps, rtol, atol })
    })?;
    Ok(true)
}

functions!(grad, gradcheck, gradgradcheck);
