//! The walk. Nodes are visited from the newest to the oldest (descending sequence number): every path goes from newer to older
//! nodes, so when a node's turn comes all contributions to its gradient are there. Contributions are added in the order of the
//! visits, which the graph alone decides. Iterative: the length of a chain does not matter.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::node::{Ctx, Edge, Node};
use super::{anomaly, mode, seed};
use crate::error::{Error, Result};
use crate::list::go_on;
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

/// A node to visit and the gradients gathered for its outputs.
struct Pending {
    node: Arc<Node>,
    grads: SmallVec<[Option<Tensor>; 1]>,
}

/// Output `.1` of the node with sequence number `.0`.
type Target = (u64, usize);

struct Walk {
    queue: BTreeMap<u64, Pending>,
    keep: bool,
    create_graph: bool,
    /// [`grad`]: the nodes on a path to a target; `None`: all of them, and leaves accumulate.
    wanted: Option<HashSet<u64>>,
    /// [`grad`]: the final gradients of the targets.
    found: HashMap<Target, Option<Tensor>>,
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
    let targets = seed::targets(inputs)?;
    let mut walk = Walk::new("grad", outputs, grad_outputs, options.create_graph)?;
    walk.keep = options.retain_graph.unwrap_or(options.create_graph);
    walk.found.extend(targets.iter().map(|&t| (t, None)));
    walk.wanted = Some(walk.between(&targets)?);
    walk.run()?;
    let results: Vec<_> = targets.iter().map(|t| walk.found[t].clone()).collect();
    match results.iter().position(Option::is_none) {
        Some(i) if !options.allow_unused => Err(seed::unused(i)),
        _ => Ok(results),
    }
}

impl Walk {
    fn new(
        op: &'static str,
        outputs: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        create_graph: bool,
    ) -> Result<Self> {
        let _mode = mode::scope(create_graph);
        let mut walk = Self {
            queue: BTreeMap::new(),
            keep: false,
            create_graph,
            wanted: None,
            found: HashMap::new(),
        };
        for (edge, g) in seed::seeds(op, outputs, grad_outputs)? {
            // A given gradient may have a graph of its own; results of a walk that is not recorded have none.
            let g = if create_graph { g } else { g.alias() };
            walk.add(&edge, g)?;
        }
        Ok(walk)
    }

    /// Sequence numbers of the nodes from which a target can be reached, targets included.
    fn between(&self, targets: &[Target]) -> Result<HashSet<u64>> {
        let oldest = targets.iter().map(|t| t.0).min().unwrap_or(u64::MAX);
        let mut seen: BTreeMap<u64, Arc<Node>> = BTreeMap::new();
        let mut todo: Vec<_> = self.queue.values().map(|p| p.node.clone()).collect();
        while let Some(node) = todo.pop() {
            go_on(0.5)?;
            if node.sequence >= oldest && !seen.contains_key(&node.sequence) {
                todo.extend(node.inputs.iter().flatten().map(|e| e.node.clone()));
                seen.insert(node.sequence, node);
            }
        }
        let mut wanted: HashSet<u64> = targets.iter().map(|t| t.0).collect();
        for (sequence, node) in &seen {
            go_on(0.5)?;
            let mut inputs = node.inputs.iter().flatten();
            if inputs.any(|e| wanted.contains(&e.node.sequence)) {
                wanted.insert(*sequence);
            }
        }
        Ok(wanted)
    }

    /// Adds a contribution to the gradient of one output of a node.
    fn add(&mut self, e: &Edge, g: Tensor) -> Result<()> {
        let g = e.node.fit(e.index, g)?;
        let pending = self.queue.entry(e.node.sequence);
        let pending = pending.or_insert_with(|| Pending {
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
                if let Some(g) = slot.take() {
                    let g = node.run_hooks(index, g, self.wanted.is_none())?;
                    if let Some(found) = self.found.get_mut(&(sequence, index)) {
                        *found = Some(g.clone());
                    }
                    *slot = Some(g);
                }
            }
            go_on(1.0)?;
            if let Some(leaf) = node.leaf() {
                if let (None, Some(g)) = (&self.wanted, grads[0].take()) {
                    leaf.accumulate(g)?;
                }
            } else {
                self.visit(&node, grads)?;
            }
        }
        Ok(())
    }

    /// Turns the gradients of a node's outputs into contributions to its inputs.
    fn visit(&mut self, node: &Arc<Node>, grads: SmallVec<[Option<Tensor>; 1]>) -> Result<()> {
        let needs: SmallVec<[bool; 4]> = {
            let wanted = self.wanted.as_ref();
            let wanted = |e: &Edge| wanted.is_none_or(|w| w.contains(&e.node.sequence));
            let each = node.inputs.iter();
            each.map(|e| e.as_ref().is_some_and(wanted)).collect()
        };
        if !needs.contains(&true) {
            return Ok(());
        }
        let vjp = node
            .backward(self.keep)
            .ok_or_else(|| seed::freed(node.name()))?;
        let create_graph = self.create_graph;
        if let ([Some(e)], false) = (&node.inputs[..], create_graph || anomaly::is_on())
            && let Some(pending) = self.queue.get_mut(&e.node.sequence)
            && vjp.add_to(&grads, &mut pending.grads[e.index])?
        {
            return Ok(());
        }
        let cx = Ctx { node, create_graph };
        let results = anomaly::watch(node, &grads, || vjp.vjp(&cx, &grads, &needs));
        let results = results.map_err(|e| e.within(node.name()))?;
        drop((vjp, grads)); // what the node saved goes before its inputs' turns come
        if results.len() != needs.len() {
            let text = format!("'{}' gave {} gradients", node.name(), results.len());
            return Err(Error::internal("backward", text));
        }
        for ((e, g), need) in node.inputs.iter().zip(results).zip(needs) {
            if let (Some(e), Some(g), true) = (e, g, need) {
                self.add(e, g)?;
            }
        }
        Ok(())
    }
}
