//! Operations written in Python, anomaly mode, and what a graph tells about itself: the compiled half of `corten.autograd`.

use core::fmt;
use std::any::Any;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use corten_core::autograd::anomaly::{self, Place};
use corten_core::autograd::{Backward, Ctx, Saved, not_differentiable, record_many};
use corten_core::{Result, Tensor, autograd};
use corten_python_macros::pyfunction;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::convert::{Arg, Args, MaybeArgs};
use crate::seam::{foreign, run};
use crate::tensor::PyTensor;

/// A gradient written in Python: `call(saved, grads, needs)` gives one tensor or None per input.
struct PyBackward {
    call: Py<PyAny>,
    saved: Vec<Saved>,
}

impl Backward for PyBackward {
    fn vjp(
        &self,
        cx: &Ctx<'_>,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        // The engine holds no lock here, and runs with the GIL released.
        Python::attach(|py| -> PyResult<Vec<Option<Tensor>>> {
            let saved = self.saved.iter().map(|s| PyTensor::new(s.get(cx)));
            let saved = PyTuple::new(
                py,
                saved
                    .map(|t| Py::new(py, t))
                    .collect::<PyResult<Vec<_>>>()?,
            )?;
            let each = grads
                .iter()
                .map(|g| g.clone().map(|g| Py::new(py, PyTensor::new(g))).transpose());
            let grads = PyTuple::new(py, each.collect::<PyResult<Vec<_>>>()?)?;
            let needs = PyTuple::new(py, needs)?;
            let result = self.call.bind(py).call1((saved, grads, needs))?;
            Ok(result.extract::<MaybeArgs>()?.0)
        })
        .map_err(foreign)
    }
}

/// The one copy of a name that is kept for ever; there are as many as classes with names of their own.
fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    match names.get(name) {
        Some(known) => known,
        None => {
            let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
            names.insert(kept);
            kept
        }
    }
}

/// Puts `outputs`, computed in Python from `inputs`, into the graph as the results of one operation `name`.
///
/// `differentiable` says for each output whether it has a gradient. `backward(saved, grads, needs)` gives one gradient or None
/// per input; `saved` are the tensors of the same name here, in the graph if the gradient is itself to be differentiated.
/// Gives new tensors; they are leaves when nothing is recorded.
#[pyfunction]
fn _record(
    py: Python<'_>,
    name: &str,
    inputs: Args,
    outputs: Args,
    differentiable: Vec<bool>,
    saved: Args,
    backward: Py<PyAny>,
) -> PyResult<Vec<PyTensor>> {
    if differentiable.len() != outputs.0.len() {
        return Err(PyValueError::new_err(
            "[_record] differentiable must have one entry per output",
        ));
    }
    let name = intern(name);
    let (inputs, outputs, saved) = (inputs.0, outputs.0, saved.0);
    let results = run(py, 0, || {
        let refs: Vec<&Tensor> = inputs.iter().collect();
        if !differentiable.contains(&true) {
            let each = outputs.iter();
            return Ok(each
                .map(|y| not_differentiable(name, &refs, y.value()))
                .collect());
        }
        // What a parameter's cell holds may be overwritten later: the result shares its values, and keeps them.
        let view = outputs
            .iter()
            .any(|y| y.is_view() || inputs.iter().any(|x| x.is(y)));
        let values = outputs.iter().map(Tensor::value).collect();
        let made = record_many(name, &refs, values, view, |_| {
            let each = saved.iter().map(|s| {
                match outputs.iter().position(|y| y.is(s)) {
                    // An output that is an input as it came is known as that: both have the same values.
                    Some(j) if !inputs.iter().any(|x| x.is(s)) => {
                        Saved::output(&outputs[j].value(), j)
                    }
                    _ => Saved::input(s),
                }
            });
            PyBackward {
                saved: each.collect(),
                call: backward,
            }
        });
        let each = made.into_iter().zip(&differentiable);
        Ok(each
            .map(|(y, &on)| {
                if on {
                    y
                } else {
                    not_differentiable(name, &refs, y.value())
                }
            })
            .collect::<Vec<_>>())
    })?;
    Ok(results.into_iter().map(PyTensor::new).collect())
}

/// What a Python function said about where the program is.
struct PyPlace(Py<PyAny>);

impl fmt::Display for PyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Python::try_attach(|py| self.0.bind(py).str().map(|s| s.to_string()));
        f.write_str(&text.and_then(std::result::Result::ok).unwrap_or_default())
    }
}
impl Place for PyPlace {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The Python object behind a place.
pub(crate) fn place_object<'py>(py: Python<'py>, place: &dyn Place) -> Option<Bound<'py, PyAny>> {
    let place = place.as_any().downcast_ref::<PyPlace>()?;
    Some(place.0.bind(py).clone())
}

static OBSERVER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn observe() -> Option<Arc<dyn Place>> {
    // What fails while looking must not hide what is looked for.
    let place = Python::try_attach(|py| OBSERVER.get(py)?.bind(py).call0().ok().map(Bound::unbind));
    Some(Arc::new(PyPlace(place??)))
}

/// Turns anomaly mode on for all threads; `observer()` gives an object whose text says where the program is.
#[pyfunction]
fn _anomaly_enter(py: Python<'_>, infinities: bool, observer: Py<PyAny>) {
    let _ = OBSERVER.set(py, observer);
    anomaly::observe_with(observe);
    anomaly::enter(infinities);
}

/// Takes back one `_anomaly_enter`.
#[pyfunction]
fn _anomaly_leave(infinities: bool) {
    anomaly::leave(infinities);
}

/// Whether anomaly mode is on.
#[pyfunction]
fn _anomaly_is_on() -> bool {
    anomaly::is_on()
}

/// Why `x` is not in the graph though something before it was: "detached", "no_grad <operation>",
/// "not_differentiable <operation>"; or None.
#[pyfunction]
fn _cut(x: Arg<'_>) -> Option<String> {
    x.0.cut().map(|c| c.to_string())
}

/// Whether `backward` leaves a gradient in `x.grad`.
#[pyfunction]
fn _keeps_grad(x: Arg<'_>) -> bool {
    x.0.keeps_grad()
}

type Cuts = Vec<(String, &'static str)>;

/// What the graph of `output` tells: (which of `leaves` are in it, [(why it ends somewhere, the operation that used what came
/// from there)], the newest operation that an earlier backward has freed).
#[pyfunction]
fn _survey(
    py: Python<'_>,
    output: Arg<'_>,
    leaves: Args,
) -> PyResult<(Vec<bool>, Cuts, Option<&'static str>)> {
    let found = run(py, 0, || Ok(autograd::explain::survey(output.0, &leaves.0)))?;
    let cuts = found.cuts.iter().map(|(c, op)| (c.to_string(), *op));
    Ok((found.reached, cuts.collect(), found.freed))
}

functions!(
    _record,
    _anomaly_enter,
    _anomaly_leave,
    _anomaly_is_on,
    _cut,
    _keeps_grad,
    _survey
);
