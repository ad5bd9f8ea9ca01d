//! Gradients against central differences, in float64.

use super::anomaly::position;
use super::engine::{GradOptions, grad};
use super::mode;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::list::{go_on, try_collect};
use crate::shape::show;
use crate::tensor::Tensor;
use crate::value::Value;

/// Step of the difference and how far apart the two gradients may be: `|a - n| <= atol + rtol * |n|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Half the distance of the two evaluations.
    pub eps: f64,
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}
impl Default for Tolerance {
    /// `eps = 1e-6`, `rtol = 1e-5`, `atol = 1e-7`
    fn default() -> Self {
        Self {
            eps: 1e-6,
            rtol: 1e-5,
            atol: 1e-7,
        }
    }
}

type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// Compares the gradients of `f` (tensors to tensors, deterministic) at float64 `inputs` with central differences. Outputs are
/// weighted by fixed irregular numbers, so that errors that cancel in a plain sum are seen. Fails with an [`Error::Graph`] that
/// names the first element that is off, the worst, and the likely mistake; inputs that do not require grad are constants, and an output that does not is taken to
/// claim a zero gradient.
pub fn gradcheck(f: Function<'_>, inputs: &[Tensor], tolerance: Tolerance) -> Result<()> {
    const OP: &str = "gradcheck";
    let inputs = fresh_leaves(OP, inputs)?;
    let outputs: Vec<Tensor> = float_outputs(f(&inputs)?);
    let weights = outputs.iter().enumerate().map(|(i, y)| weights_like(y, i));
    let weights: Vec<Option<Tensor>> = weights.map(|w| w.map(Some)).collect::<Result<_>>()?;
    let checked: Vec<usize> = (0..inputs.len())
        .filter(|&i| inputs[i].requires_grad())
        .collect();
    let targets: Vec<Tensor> = checked.iter().map(|&i| inputs[i].clone()).collect();
    let (ys, ws): (Vec<_>, Vec<_>) = outputs
        .iter()
        .cloned()
        .zip(weights.iter().cloned())
        .filter(|(y, _)| y.requires_grad())
        .unzip();
    let options = GradOptions {
        allow_unused: true,
        ..GradOptions::default()
    };
    let analytic = if ys.is_empty() {
        vec![None; targets.len()]
    } else {
        grad(&ys, &targets, &ws, options)?
    };
    let _mode = mode::no_grad();
    let value = |inputs: &[Tensor]| -> Result<f64> {
        let mut total = 0.0;
        for (y, w) in float_outputs(f(inputs)?).iter().zip(&weights) {
            let w = w.as_ref().expect("each output has weights");
            let (y, w) = (y.to_vec::<f64>()?, w.to_vec::<f64>()?);
            total += y.iter().zip(&w).map(|(a, b)| a * b).sum::<f64>();
        }
        Ok(total)
    };
    for (&i, g) in checked.iter().zip(&analytic) {
        let x = inputs[i].to_vec::<f64>()?;
        let g = match g {
            Some(g) => g.to_vec::<f64>()?,
            None => vec![0.0; x.len()],
        };
        let mut numeric = Vec::with_capacity(x.len());
        for k in 0..x.len() {
            go_on(1.0)?;
            let at = |delta: f64| {
                let mut moved = x.clone();
                moved[k] += delta;
                let mut all = inputs.clone();
                let v = Value::from_slice(&moved, inputs[i].shape().clone(), inputs[i].device())?;
                all[i] = Tensor::from_value(v);
                value(&all)
            };
            numeric.push((at(tolerance.eps)? - at(-tolerance.eps)?) / (2.0 * tolerance.eps));
        }
        if let Some(text) = disagreement(inputs[i].shape(), &g, &numeric, tolerance) {
            return Err(Error::graph(
                OP,
                format!("input {i} of shape {}{text}", inputs[i].shape()),
            ));
        }
    }
    Ok(())
}

/// Where and how the gradient `g` and the differences `n` disagree, in words; `None` when they agree.
fn disagreement(shape: &[usize], g: &[f64], n: &[f64], t: Tolerance) -> Option<String> {
    let allowed = |n: f64| t.atol + t.rtol * n.abs();
    let off = |k: usize| {
        let off = (g[k] - n[k]).abs();
        if off.is_nan() { f64::INFINITY } else { off }
    };
    let wrong: Vec<usize> = (0..g.len()).filter(|&k| off(k) > allowed(n[k])).collect();
    let &first = wrong.first()?;
    let line = |k: usize| {
        format!(
            "element {k} {}: gradient {}, central difference {}, off by {:.3e}; allowed is {:.3e} = {:e} + {:e} * |difference|",
            show(&position(k, shape)),
            g[k],
            n[k],
            off(k),
            allowed(n[k]),
            t.atol,
            t.rtol
        )
    };
    let mut text = format!(", {}", line(first));
    if wrong.len() > 1 {
        let worst = wrong
            .iter()
            .copied()
            .max_by(|&a, &b| off(a).total_cmp(&off(b)));
        text += &format!("; {} of {} elements are wrong", wrong.len(), g.len());
        if let Some(worst) = worst.filter(|&w| w != first) {
            text += &format!(", the worst is {}", line(worst));
        }
    }
    // The usual mistakes have a face of their own.
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs() + 1e-6;
    let ratio = g[first] / n[first];
    let hint = if g.iter().chain(n).any(|x| !x.is_finite()) {
        " (something is not finite: is the input at the edge of the function's domain?)".to_owned()
    } else if g.iter().all(|&x| x == 0.0) {
        " (the gradient is 0 everywhere: does the function detach its input, or its backward give None?)".to_owned()
    } else if n.iter().all(|&x| x == 0.0) {
        " (the function does not depend on this input: should its gradient be None?)".to_owned()
    } else if (0..g.len()).all(|k| close(g[k], -n[k])) {
        " (the sign is wrong everywhere)".to_owned()
    } else if ratio.is_finite()
        && wrong.len() > 1
        && (0..g.len()).all(|k| close(g[k], ratio * n[k]))
    {
        format!(" (the gradient is {ratio:.4} times the difference everywhere: a factor is wrong)")
    } else {
        String::new()
    };
    Some(text + &hint)
}

/// [`gradcheck`] of the gradient: second-order derivatives with respect to the inputs and to the output gradients.
pub fn gradgradcheck(f: Function<'_>, inputs: &[Tensor], tolerance: Tolerance) -> Result<()> {
    let inputs = fresh_leaves("gradgradcheck", inputs)?;
    let n = inputs.len();
    let required: Vec<bool> = inputs.iter().map(Tensor::requires_grad).collect();
    let probe = float_outputs(f(&inputs)?);
    let mut all = inputs;
    let mut differentiable = Vec::new();
    for (i, y) in probe.iter().enumerate().filter(|(_, y)| y.requires_grad()) {
        let g = weights_like(y, i + 7)?;
        g.set_requires_grad(true)?;
        all.push(g);
        differentiable.push(i);
    }
    let gradient = |all: &[Tensor]| -> Result<Vec<Tensor>> {
        let _mode = mode::enable_grad(); // differences are taken without recording, but this function needs a graph
        let leaves: Vec<Tensor> = all[..n].to_vec();
        for (leaf, &on) in leaves.iter().zip(&required) {
            leaf.set_requires_grad(on)?; // a moved copy comes without
        }
        let ys = float_outputs(f(&leaves)?);
        let ys: Vec<Tensor> = differentiable.iter().map(|&i| ys[i].clone()).collect();
        let targets: Vec<Tensor> = leaves
            .iter()
            .filter(|x| x.requires_grad())
            .cloned()
            .collect();
        let gs: Vec<Option<Tensor>> = all[n..].iter().cloned().map(Some).collect();
        let options = GradOptions {
            create_graph: true,
            allow_unused: true,
            ..GradOptions::default()
        };
        Ok(grad(&ys, &targets, &gs, options)?
            .into_iter()
            .flatten()
            .collect())
    };
    gradcheck(&gradient, &all, tolerance)
}

/// Copies as float64 leaves that require grad as the originals do.
fn fresh_leaves(op: &'static str, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let each = inputs.iter().enumerate();
    each.map(|(i, x)| {
        if x.requires_grad() && x.dtype() != DType::F64 {
            return Err(Error::dtype(
                op,
                format!(
                    "input {i} must be float64, not {}: differences of {} are too coarse",
                    x.dtype(),
                    x.dtype()
                ),
            ));
        }
        let y = Tensor::from_value(x.value());
        y.set_requires_grad(x.requires_grad())?;
        Ok(y)
    })
    .collect()
}
fn float_outputs(ys: Vec<Tensor>) -> Vec<Tensor> {
    ys.into_iter().filter(|y| y.dtype() == DType::F64).collect()
}
/// Fixed numbers between 0.5 and 1.5 without a pattern (multiples of the golden ratio, modulo 1).
fn weights_like(y: &Tensor, salt: usize) -> Result<Tensor> {
    let start = 0.37 * (salt as f64 + 1.0);
    let w = (0..y.numel()).map(|k| 0.5 + (start + k as f64 * 0.618_033_988_749_895).fract());
    let w = try_collect(w)?;
    Ok(Tensor::from_value(Value::from_slice(
        &w,
        y.shape().clone(),
        y.device(),
    )?))
}
