//! Why a tensor stands outside the graph although something that it was computed from requires grad.

use core::fmt;

use super::mode;
use crate::tensor::Tensor;
use crate::value::Value;

/// Where the graph ended; carried on to everything that is computed from there without entering a graph again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// This operation ran while recording was off.
    NoGrad(&'static str),
    /// This operation has no gradient (a comparison, an index, a cast to integers).
    NotDifferentiable(&'static str),
    /// [`Tensor::detach`].
    Detached,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGrad(op) => write!(f, "no_grad {op}"),
            Self::NotDifferentiable(op) => write!(f, "not_differentiable {op}"),
            Self::Detached => f.write_str("detached"),
        }
    }
}

/// Why the result of `op` on `inputs` is not recorded; `None` when nothing before it requires grad.
pub(super) fn of(op: &'static str, inputs: &[&Tensor]) -> Option<Cut> {
    if !inputs.iter().any(|x| x.requires_grad()) {
        return earlier(inputs);
    }
    Some(if mode::is_enabled() {
        Cut::NotDifferentiable(op)
    } else {
        Cut::NoGrad(op)
    })
}

/// The first cut before `inputs`.
pub(super) fn earlier(inputs: &[&Tensor]) -> Option<Cut> {
    inputs.iter().find_map(|x| x.cut())
}

/// The result of operation `op`, which has no gradient, on `inputs`.
pub fn not_differentiable(op: &'static str, inputs: &[&Tensor], out: Value) -> Tensor {
    let cut = if inputs.iter().any(|x| x.requires_grad()) {
        Some(Cut::NotDifferentiable(op)) // whether recording is on or not
    } else {
        earlier(inputs)
    };
    Tensor::from_op(out, Err(cut), false)
}
