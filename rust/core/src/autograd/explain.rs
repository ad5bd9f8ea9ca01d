//! What a graph can tell about itself, for error texts that teach.

use std::collections::HashSet;

use super::cut::Cut;
use crate::tensor::Tensor;

/// What [`survey`] finds.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Which of the leaves a walk would reach.
    pub reached: Vec<bool>,
    /// Places where the graph ends before its leaves: why, and the operation that used what came from there; each once.
    pub cuts: Vec<(Cut, &'static str)>,
    /// The newest operation whose saved values an earlier walk has freed.
    pub freed: Option<&'static str>,
}

/// Looks through the graph of `output`: which `leaves` are in it, and where it has been cut.
pub fn survey(output: &Tensor, leaves: &[Tensor]) -> Survey {
    let mut result = Survey::default();
    let mut seen = HashSet::new();
    let mut todo: Vec<_> = output.edge().into_iter().collect();
    let mut outputs = HashSet::new();
    let mut newest = 0;
    while let Some(e) = todo.pop() {
        outputs.insert((e.node.sequence, e.index));
        if !seen.insert(e.node.sequence) {
            continue;
        }
        if e.node.is_freed() && e.node.sequence > newest {
            newest = e.node.sequence;
            result.freed = Some(e.node.name());
        }
        if let Some(cut) = e.node.cut()
            && !result.cuts.contains(&cut)
        {
            result.cuts.push(cut);
        }
        todo.extend(e.node.inputs.iter().flatten().cloned());
    }
    let reached = leaves.iter().map(|x| {
        let e = x.edge();
        e.is_some_and(|e| outputs.contains(&(e.node.sequence, e.index)))
    });
    result.reached = reached.collect();
    result
}
