//! Second order for fused operations: differentiate their composed twin instead.

use super::engine::{GradOptions, grad};
use super::mode;
use super::node::{record_view, vjp};
use crate::error::Result;
use crate::ops;
use crate::tensor::Tensor;

/// The vjp of a fused operation as a differentiable function of its inputs and of `grads`: runs `twin`, the same function
/// composed of simpler operations, on aliases of the saved `inputs` (so that the walk stops there) and differentiates it while
/// recording. To be called when [`super::Ctx::create_graph`]; any order of gradient follows. 16-bit inputs are widened for the twin,
/// so that its intermediate results are float32 as the fused operation's are.
///
/// `inputs` are [`super::Saved::get`] results; `twin` gives the operation's outputs. One result per input.
pub fn twin_vjp(
    inputs: &[Tensor],
    grads: &[Option<Tensor>],
    needs: &[bool],
    twin: impl FnOnce(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Option<Tensor>>> {
    let _mode = mode::enable_grad();
    let alias = |x: &Tensor| {
        record_view("alias", x, x.value(), || {
            vjp(|_, g, _| Ok(vec![Some(g.clone())]))
        })
    };
    let aliases: Vec<Tensor> = inputs.iter().map(alias).collect();
    let wide = aliases
        .iter()
        .map(|x| ops::astype(x, x.dtype().arithmetic()));
    let outputs = twin(&wide.collect::<Result<Vec<_>>>()?)?;
    let mut result = vec![None; inputs.len()];
    let (mut ys, mut gs) = (Vec::new(), Vec::new());
    for (y, g) in outputs.into_iter().zip(grads) {
        if let Some(g) = g
            && y.requires_grad()
        {
            gs.push(Some(ops::astype(g, y.dtype())?));
            ys.push(y);
        }
    }
    let wanted: Vec<usize> = (0..inputs.len())
        .filter(|&i| needs[i] && aliases[i].requires_grad())
        .collect();
    if ys.is_empty() || wanted.is_empty() {
        return Ok(result);
    }
    let targets: Vec<Tensor> = wanted.iter().map(|&i| aliases[i].clone()).collect();
    let options = GradOptions {
        retain_graph: Some(true),
        create_graph: true,
        allow_unused: true,
    };
    for (i, g) in wanted.into_iter().zip(grad(&ys, &targets, &gs, options)?) {
        result[i] = g;
    }
    Ok(result)
}
