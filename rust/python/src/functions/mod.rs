//! What Python calls: one file per family of operations. Each operation is a function of the module and, where its first
//! argument is a tensor, a method of `Tensor` too; both convert their arguments and call `corten_core::ops`.

/// `register` for a file: adds the listed functions.
macro_rules! functions {
    ($($name:ident),* $(,)?) => {
        /// Adds this family to the module.
        pub(super) fn register(m: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            use pyo3::types::PyModuleMethods;
            $(m.add_function(pyo3::wrap_pyfunction!($name, m)?)?;)*
            Ok(())
        }
    };
}

mod activation;
mod arrange;
mod attention;
mod creation;
pub(crate) mod custom;
mod elementwise;
mod faults;
mod grad;
mod loss;
mod network;
mod norm;
mod optim;
mod recurrent;
mod reduce;
mod select;
mod shape;
mod state;

use corten_core::Tensor;
use pyo3::prelude::*;

/// Kiloflops of a matrix product: what the decision about the GIL counts.
pub(crate) fn matmul_work(a: &Tensor, b: &Tensor) -> usize {
    let columns = if b.ndim() < 2 {
        1
    } else {
        b.shape()[b.ndim() - 1]
    };
    (a.numel() / 512)
        .saturating_mul(columns)
        .max(a.numel())
        .max(b.numel())
}

/// Every operation that computes on tensors, by its Python name.
fn op_names() -> Vec<&'static str> {
    [
        activation::NAMES,
        elementwise::NAMES,
        reduce::NAMES,
        shape::NAMES,
        arrange::NAMES,
        attention::NAMES,
        select::NAMES,
        network::NAMES,
        loss::NAMES,
        norm::NAMES,
        recurrent::NAMES,
    ]
    .concat()
}

/// Adds all functions to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    activation::register(m)?;
    arrange::register(m)?;
    attention::register(m)?;
    creation::register(m)?;
    custom::register(m)?;
    elementwise::register(m)?;
    faults::register(m)?;
    grad::register(m)?;
    loss::register(m)?;
    network::register(m)?;
    norm::register(m)?;
    optim::register(m)?;
    recurrent::register(m)?;
    reduce::register(m)?;
    select::register(m)?;
    shape::register(m)?;
    state::register(m)
}
