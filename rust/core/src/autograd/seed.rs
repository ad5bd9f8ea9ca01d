//! Where a walk starts and what it is asked for: checks and error texts.

use super::node::Edge;
use crate::error::{Error, Result};
use crate::ops;
use crate::tensor::Tensor;

/// Every output's edge with its first gradient: the one given, or 1 for a single element.
pub(super) fn seeds(
    op: &'static str,
    outputs: &[Tensor],
    grad_outputs: &[Option<Tensor>],
) -> Result<Vec<(Edge, Tensor)>> {
    if !grad_outputs.is_empty() && grad_outputs.len() != outputs.len() {
        return Err(Error::value(
            op,
            format!(
                "{} gradients for {} outputs",
                grad_outputs.len(),
                outputs.len()
            ),
        ));
    }
    let each = outputs.iter().enumerate();
    each.map(|(i, y)| {
        let e = y.edge().ok_or_else(|| {
            Error::graph(
                op,
                format!("output {i} does not require grad: none of its inputs did, or it was made under no_grad or detached"),
            )
        })?;
        let g = first_gradient(op, i, y, grad_outputs.get(i).and_then(Option::as_ref))?;
        Ok((e, g))
    })
    .collect()
}

fn first_gradient(
    op: &'static str,
    i: usize,
    y: &Tensor,
    given: Option<&Tensor>,
) -> Result<Tensor> {
    let Some(g) = given else {
        if y.numel() == 1 {
            return ops::ones_like(y, None);
        }
        return Err(Error::shape(
            op,
            format!(
                "output {i} of shape {} needs a gradient; only a single element has the default 1 (did you mean .sum() or .mean()?)",
                y.shape()
            ),
        ));
    };
    let text = if g.shape() != y.shape() {
        format!("shape {}, not {}", y.shape(), g.shape())
    } else if g.device() != y.device() {
        format!("device {}, not {}", y.device(), g.device())
    } else if g.dtype() != y.dtype() {
        return Err(Error::dtype(
            op,
            format!(
                "the gradient of output {i} must have its dtype {}, not {}",
                y.dtype(),
                g.dtype()
            ),
        ));
    } else {
        return Ok(g.clone());
    };
    Err(Error::shape(
        op,
        format!("the gradient of output {i} must have its {text}"),
    ))
}

/// The node output that each input is.
pub(super) fn targets(inputs: &[Tensor]) -> Result<Vec<(u64, usize)>> {
    let each = inputs.iter().enumerate();
    each.map(|(i, x)| {
        let e = x.edge().ok_or_else(|| {
            Error::graph(
                "grad",
                format!("input {i} does not require grad (call requires_grad_() before computing the outputs)"),
            )
        })?;
        Ok((e.node.sequence, e.index))
    })
    .collect()
}

pub(super) fn unused(i: usize) -> Error {
    Error::graph(
        "grad",
        format!(
            "the outputs do not depend on input {i} (pass allow_unused=True to get None for it)"
        ),
    )
}

pub(super) fn freed(name: &str) -> Error {
    Error::graph(
        "backward",
        format!(
            "what '{name}' saved was freed by an earlier backward through the same graph; pass retain_graph=True to that one"
        ),
    )
}
