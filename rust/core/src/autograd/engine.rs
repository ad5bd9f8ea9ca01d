//! The walk. Nodes are visited from the newest to the oldest (descending sequence number): every path goes from newer to older
//! nodes, so when a node's turn comes all contributions to its gradient are there. Contributions are added in the order of the
//! visits, which the graph alone decides. Iterative: the length of a chain does not matter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use smallvec::{SmallVec, smallvec};

use super::mode;
use super::node::{Ctx, Edge, Leaf, Meta, Node};
use crate::error::{Error, Result};
use crate::ops;
use crate::tensor::Tensor;

/// Options of [`grad`].
#[derive(Clone, Copy, Debug, Default)]
pub struct GradOptions {
    /// Keep what nodes saved, for another walk (default: as `create_graph`).
    pub retain_graph: Option<bool>,
    /// Record the walk itself, so that its results can be differentiated.
    pub create_graph: bool,
    /// Give `None` for an input that the outputs do not depend on, instead of failing.
    pub allow_unused: bool,
}

/// A visited node and the gradients gathered for its outputs.
struct Pending {
    node: Arc<Node>,
    grads: SmallVec<[Option<Tensor>; 1]>,
}

struct Walk {
    queue: BTreeMap<u64, Pending>,
    keep: bool,
    create_graph: bool,
    /// [`grad`]: the nodes on a path to a target; `None`: all of them, and leaves accumulate.
    wanted: Option<HashSet<u64>>,
    /// [`grad`]: the final gradients of the targets.
    found: HashMap<(u64, usize), Option<Tensor>>,
}

/// Adds the gradients of `outputs` to `.grad` of the leaves; see [`Tensor::backward`].
pub fn backward(
    outputs: &[Tensor],
    grad_outputs: &[Option<Tensor>],
    retain_graph: bool,
    create_graph: bool,
) -> Result<()> {
    let mut walk = Walk::new("backward", outputs, grad_outputs, create_graph)?;
    walk.keep = retain_graph || create_graph;
    walk.run()
}

/// The gradients of `outputs` (weighted by `grad_outputs`, default 1 for single elements) with respect to `inputs`.
/// Touches no `.grad`, and visits only nodes that lie between the two.
pub fn grad(
    outputs: &[Tensor],
    inputs: &[Tensor],
    grad_outputs: &[Option<Tensor>],
    options: GradOptions,
) -> Result<Vec<Option<Tensor>>> {
    let mut walk = Walk::new("grad", outputs, grad_outputs, options.create_graph)?;
    walk.keep = options.retain_graph.unwrap_or(options.create_graph);
    let mut targets = Vec::with_capacity(inputs.len());
    for (i, x) in inputs.iter().enumerate() {
        let e = x.edge().ok_or_else(|| {
            Error::graph("grad", format!("input {i} does not require grad (call requires_grad_() before computing the outputs)"))
        })?;
        walk.found.insert((e.node.sequence, e.index), None);
        targets.push((e.node.sequence, e.index));
    }
    walk.wanted = Some(walk.between(&targets));
    walk.run()?;
    let results: Vec<_> = targets.iter().map(|t| walk.found[t].clone()).collect();
    if let Some(i) = results.iter().position(Option::is_none)
        && !options.allow_unused
    {
        return Err(Error::graph(
            "grad",
            format!(
                "the outputs do not depend on input {i} (pass allow_unused=True to get None for it)"
            ),
        ));
    }
    Ok(results)
}

impl Walk {
    fn new(
        op: &'static str,
        outputs: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        create_graph: bool,
    ) -> Result<Self> {
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
        let mut walk = Self {
            queue: BTreeMap::new(),
            keep: false,
            create_graph,
            wanted: None,
            found: HashMap::new(),
        };
        let _mode = mode::scope(create_graph);
        for (i, y) in outputs.iter().enumerate() {
            let e = y.edge().ok_or_else(|| {
                Error::graph(op, format!("output {i} does not require grad: no input of it did, or it was made under no_grad or detached"))
            })?;
            let g = match grad_outputs.get(i).and_then(Option::as_ref) {
                Some(g)
                    if g.shape() == y.shape()
                        && g.dtype() == y.dtype()
                        && g.device() == y.device() =>
                {
                    g.clone()
                }
                Some(g) => {
                    return Err(Error::shape(
                        op,
                        format!(
                            "the gradient of output {i} must be {} of shape {} on {} like the output, not {} of shape {} on {}",
                            y.dtype(),
                            y.shape(),
                            y.device(),
                            g.dtype(),
                            g.shape(),
                            g.device()
                        ),
                    ));
                }
                None if y.numel() == 1 => ops::ones_like(y, None)?,
                None => {
                    return Err(Error::shape(
                        op,
                        format!(
                            "an output of shape {} needs a gradient; only a single element has the default 1 (did you mean .sum() or .mean()?)",
                            y.shape()
                        ),
                    ));
                }
            };
            walk.add(&e, g)?;
        }
        Ok(walk)
    }

    /// Sequence numbers of the nodes from which a target can be reached, targets included.
    fn between(&self, targets: &[(u64, usize)]) -> HashSet<u64> {
        let oldest = targets.iter().map(|t| t.0).min().unwrap_or(u64::MAX);
        let mut seen: BTreeMap<u64, Arc<Node>> = BTreeMap::new();
        let mut todo: Vec<_> = self.queue.values().map(|p| p.node.clone()).collect();
        while let Some(node) = todo.pop() {
            if node.sequence >= oldest && !seen.contains_key(&node.sequence) {
                todo.extend(node.inputs.iter().flatten().map(|e| e.node.clone()));
                seen.insert(node.sequence, node);
            }
        }
        let mut wanted: HashSet<u64> = targets.iter().map(|t| t.0).collect();
        for (sequence, node) in &seen {
            if node
                .inputs
                .iter()
                .flatten()
                .any(|e| wanted.contains(&e.node.sequence))
            {
                wanted.insert(*sequence);
            }
        }
        wanted
    }

    /// Adds a contribution to the gradient of one output of a node.
    fn add(&mut self, e: &Edge, g: Tensor) -> Result<()> {
        let g = fit(g, e.meta())?;
        let pending = self
            .queue
            .entry(e.node.sequence)
            .or_insert_with(|| Pending {
                node: e.node.clone(),
                grads: smallvec![None; e.node.outputs.len()],
            });
        let slot = &mut pending.grads[e.index];
        *slot = Some(match slot.take() {
            None => g,
            Some(sum) => ops::add(&sum, &g)?,
        });
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let _mode = mode::scope(self.create_graph);
        while let Some((sequence, Pending { node, mut grads })) = self.queue.pop_last() {
            for (index, slot) in grads.iter_mut().enumerate() {
                let Some(g) = slot.take() else { continue };
                let (mut g, replaced) = node.run_hooks(index, g)?;
                if replaced {
                    g = fit(g, &node.outputs[index])?;
                }
                if let Some(found) = self.found.get_mut(&(sequence, index)) {
                    *found = Some(g.clone());
                }
                *slot = Some(g);
            }
            if let Some(leaf) = node.leaf() {
                if self.wanted.is_none()
                    && let Some(g) = grads[0].take()
                {
                    accumulate(leaf, g)?;
                }
                continue;
            }
            let wanted = |e: &Edge| {
                self.wanted
                    .as_ref()
                    .is_none_or(|w| w.contains(&e.node.sequence))
            };
            let needs: SmallVec<[bool; 4]> = node
                .inputs
                .iter()
                .map(|e| e.as_ref().is_some_and(wanted))
                .collect();
            if !needs.contains(&true) {
                continue;
            }
            let vjp = node.backward(self.keep).ok_or_else(|| {
                Error::graph("backward", format!("the graph of '{}' was freed by an earlier backward; pass retain_graph=True to that one", node.name()))
            })?;
            let cx = Ctx {
                node: &node,
                create_graph: self.create_graph,
            };
            let results = vjp.vjp(&cx, &grads, &needs)?;
            drop((vjp, grads)); // what the node saved goes before its inputs' turns come
            if results.len() != node.inputs.len() {
                return Err(Error::internal(
                    "backward",
                    format!(
                        "'{}' gave {} gradients for {} inputs",
                        node.name(),
                        results.len(),
                        node.inputs.len()
                    ),
                ));
            }
            for ((e, g), need) in node.inputs.iter().zip(results).zip(needs) {
                if let (Some(e), Some(g), true) = (e, g, need) {
                    self.add(e, g)?;
                }
            }
        }
        Ok(())
    }
}

/// A gradient as its receiver wants it: broadcast axes summed away (once, here), and in the receiver's dtype.
fn fit(g: Tensor, to: &Meta) -> Result<Tensor> {
    debug_assert_eq!(g.device(), to.device);
    let g = if *g.shape() == to.shape {
        g
    } else {
        ops::sum_to(&g, &to.shape)?
    };
    if g.dtype() == to.dtype {
        Ok(g)
    } else {
        ops::astype(&g, to.dtype)
    }
}

/// Adds to a leaf's gradient under its lock; what is kept is C-contiguous and a tensor of its own.
fn accumulate(leaf: &Leaf, g: Tensor) -> Result<()> {
    if !leaf.is_enabled() {
        return Ok(());
    }
    let mut cell = leaf.grad().lock().unwrap_or_else(PoisonError::into_inner);
    let sum = match &*cell {
        None if g.is_contiguous() => g.alias(),
        None => ops::contiguous(&g)?,
        Some(old) => ops::add(old, &g)?,
    };
    let old = cell.replace(sum);
    drop(cell);
    drop(old); // after the lock: dropping may run foreign code
    Ok(())
}
