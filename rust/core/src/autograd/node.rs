//! Nodes of the graph, what they save, and recording.

use core::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::anomaly::{self, Origin};
use super::cut::{self, Cut};
use super::mode;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::value::Value;

/// The vector-Jacobian product of one operation.
///
/// Most are closures (made with [`vjp`]): `Fn(cx, grads, needs) -> Result<Vec<Option<Tensor>>>`.
pub trait Backward: Send + Sync {
    /// `grads[j]` is the gradient of output `j` (`None`: zero; never all of them); `needs[i]` says whether the gradient of input
    /// `i` is wanted. Gives one entry per input, `None` for zero or unwanted. A gradient may have the broadcast shape or the
    /// promoted dtype: the engine reduces it to its input's. Written in tensor operations it serves every order: recording is on
    /// exactly when [`Ctx::create_graph`].
    fn vjp(
        &self,
        cx: &Ctx<'_>,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>>;

    /// Adds the gradient of the only input to `sum`, what has been gathered of it so far, in place; says whether it did (if not,
    /// `sum` is as before). For operations that took a part of their input, whose whole gradient is mostly zeros. Never
    /// called when [`Ctx::create_graph`].
    fn add_to(&self, _grads: &[Option<Tensor>], _sum: &mut Option<Tensor>) -> Result<bool> {
        Ok(false)
    }
}

impl<F> Backward for F
where
    F: Fn(&Ctx<'_>, &[Option<Tensor>], &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync,
{
    fn vjp(
        &self,
        cx: &Ctx<'_>,
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        self(cx, grads, needs)
    }
}

/// The gradient of an operation with one output as a closure `|cx, g, needs| Ok(vec![..])`, `g` being that output's gradient.
pub fn vjp<F>(f: F) -> impl Backward
where
    F: Fn(&Ctx<'_>, &Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync,
{
    move |cx: &Ctx<'_>, grads: &[Option<Tensor>], needs: &[bool]| match &grads[0] {
        Some(g) => f(cx, g, needs),
        None => Ok(vec![None; needs.len()]),
    }
}

/// What a vjp may ask about the walk that calls it.
pub struct Ctx<'a> {
    pub(super) node: &'a Arc<Node>,
    pub(super) create_graph: bool,
}
impl Ctx<'_> {
    /// The gradient will itself be differentiated: use tensor operations (or [`super::twin_vjp`]), not a fused kernel.
    pub fn create_graph(&self) -> bool {
        self.create_graph
    }
}

/// A tensor kept for the backward pass: a snapshot of its value (never a parameter's cell) and its place in the graph.
pub struct Saved {
    value: Value,
    from: From,
}
enum From {
    Constant,
    Input(Edge),
    /// Output of the node that saves it; no reference to that node, which would be a cycle.
    Output(usize),
}
impl Saved {
    /// An input of the operation.
    pub fn input(x: &Tensor) -> Self {
        Self {
            value: x.value(),
            from: x.edge().map_or(From::Constant, From::Input),
        }
    }
    /// Output number `index` of the operation itself.
    pub fn output(y: &Value, index: usize) -> Self {
        Self {
            value: y.clone(),
            from: From::Output(index),
        }
    }
    /// Anything that carries no gradient (a mask, statistics, winning taps).
    pub fn constant(v: &Value) -> Self {
        Self {
            value: v.clone(),
            from: From::Constant,
        }
    }
    /// The saved value.
    pub fn value(&self) -> &Value {
        &self.value
    }
    /// The saved tensor; in the graph exactly when the walk creates one.
    pub fn get(&self, cx: &Ctx<'_>) -> Tensor {
        let edge = match &self.from {
            _ if !cx.create_graph => None,
            From::Constant => None,
            From::Input(e) => Some(e.clone()),
            From::Output(index) => Some(Edge {
                node: cx.node.clone(),
                index: *index,
            }),
        };
        Tensor::from_op(self.value.clone(), edge.ok_or(None), true)
    }
}

/// Called with a final gradient; may replace it.
pub type HookFn = dyn Fn(&Tensor) -> Result<Option<Tensor>> + Send + Sync;
/// Holds a gradient.
pub type GradCell = Mutex<Option<Tensor>>;

/// One output of one node.
#[derive(Clone)]
pub struct Edge {
    pub(crate) node: Arc<Node>,
    pub(crate) index: usize,
}
impl Edge {
    /// The edge to a fresh accumulation node.
    pub(crate) fn leaf(shape: &Shape, dtype: DType, device: Device) -> Self {
        let meta = Meta {
            shape: shape.clone(),
            dtype,
            device,
        };
        let leaf = Leaf {
            grad: Mutex::new(None),
            enabled: AtomicBool::new(true),
        };
        let outputs = [meta].into_iter().collect();
        Self {
            node: Node::new(
                "leaf",
                SmallVec::new(),
                outputs,
                None,
                Some(leaf),
                None,
                None,
            ),
            index: 0,
        }
    }
}

/// What a gradient must look like.
pub(super) struct Meta {
    pub shape: Shape,
    pub dtype: DType,
    pub device: Device,
}

/// The end of the road: gathers a leaf's gradient.
pub(crate) struct Leaf {
    grad: GradCell,
    enabled: AtomicBool,
}
impl Leaf {
    pub(crate) fn grad(&self) -> &GradCell {
        &self.grad
    }
    pub(crate) fn enable(&self, on: bool) {
        self.enabled.store(on, Ordering::Relaxed);
    }
    /// Adds to the gradient; what is kept is C-contiguous and a tensor of its own. No lock is held while numbers are added:
    /// when another thread was faster, the sum is made again.
    pub(super) fn accumulate(&self, g: Tensor) -> Result<()> {
        if !self.enabled.load(Ordering::Relaxed) {
            return Ok(());
        }
        loop {
            let before = lock(&self.grad).clone();
            let sum = match &before {
                // Foreign memory may still be written by its owner.
                None if g.is_contiguous() && !g.storage().is_foreign() => g.alias(),
                None => ops::copy(&g)?,
                Some(old) => ops::add(old, &g)?,
            };
            let mut cell = lock(&self.grad);
            let unchanged = match (&*cell, &before) {
                (None, None) => true,
                (Some(now), Some(then)) => now.is(then),
                _ => false,
            };
            if unchanged {
                let old = cell.replace(sum);
                drop(cell);
                drop(old); // after the lock: dropping may run foreign code
                return Ok(());
            }
        }
    }
}

struct Hook {
    id: u64,
    output: usize,
    action: Action,
}
#[derive(Clone)]
enum Action {
    Call(Arc<HookFn>),
    Retain(Arc<GradCell>),
}

static NEXT_HOOK: AtomicU64 = AtomicU64::new(1);
static NEXT_SEQUENCE: AtomicU64 = AtomicU64::new(1);

/// One recorded operation, or the accumulation of a leaf.
pub struct Node {
    name: &'static str,
    /// Grows along every path: a node is newer than all nodes of its inputs.
    pub(super) sequence: u64,
    pub(super) inputs: Inputs,
    pub(super) outputs: SmallVec<[Meta; 1]>,
    backward: Mutex<Option<Arc<dyn Backward>>>,
    hooks: Mutex<Vec<Hook>>,
    leaf: Option<Leaf>,
    /// A place before its inputs where the graph ends.
    cut: Option<Cut>,
    /// Where and of what it was made; known in anomaly mode only.
    pub(super) origin: Option<Box<Origin>>,
}
type Inputs = SmallVec<[Option<Edge>; 2]>;

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    fn new(
        name: &'static str,
        inputs: Inputs,
        outputs: SmallVec<[Meta; 1]>,
        backward: Option<Arc<dyn Backward>>,
        leaf: Option<Leaf>,
        cut: Option<Cut>,
        origin: Option<Box<Origin>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            sequence: NEXT_SEQUENCE.fetch_add(1, Ordering::Relaxed),
            inputs,
            outputs,
            backward: Mutex::new(backward),
            hooks: Mutex::new(Vec::new()),
            leaf,
            cut,
            origin,
        })
    }
    /// The operation's name.
    pub fn name(&self) -> &'static str {
        self.name
    }
    pub(crate) fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }
    /// A place before its inputs where the graph ends: (why, the operation that used what came from there).
    pub(super) fn cut(&self) -> Option<(Cut, &'static str)> {
        self.cut.map(|c| (c, self.name))
    }
    /// Whether an earlier walk has taken what it saved.
    pub(super) fn is_freed(&self) -> bool {
        self.leaf.is_none() && lock(&self.backward).is_none()
    }
    /// The vjp; taken out (freed afterwards) unless the graph is kept. `None`: freed already.
    pub(super) fn backward(&self, keep: bool) -> Option<Arc<dyn Backward>> {
        let mut b = lock(&self.backward);
        if keep { b.clone() } else { b.take() }
    }
    pub(crate) fn add_hook(&self, output: usize, f: Arc<HookFn>) -> u64 {
        self.push_hook(output, Action::Call(f))
    }
    pub(crate) fn retain(&self, output: usize, cell: Arc<GradCell>) {
        self.push_hook(output, Action::Retain(cell));
    }
    fn push_hook(&self, output: usize, action: Action) -> u64 {
        let id = NEXT_HOOK.fetch_add(1, Ordering::Relaxed);
        lock(&self.hooks).push(Hook { id, output, action });
        id
    }
    pub(crate) fn remove_hook(&self, id: u64) {
        let removed = {
            let mut hooks = lock(&self.hooks);
            hooks
                .iter()
                .position(|h| h.id == id)
                .map(|i| hooks.remove(i))
        };
        drop(removed); // after the lock: dropping may run foreign code
    }
    /// Runs the hooks of output `output` on its final gradient: callbacks in order of registration, then kept gradients (only
    /// those of a walk that may write to `.grad`).
    pub(super) fn run_hooks(&self, output: usize, mut g: Tensor, keep: bool) -> Result<Tensor> {
        let actions: SmallVec<[Action; 2]> = {
            let hooks = lock(&self.hooks);
            if hooks.is_empty() {
                return Ok(g);
            }
            let mine = hooks.iter().filter(|h| h.output == output);
            mine.map(|h| h.action.clone()).collect()
        };
        for a in &actions {
            if let Action::Call(f) = a
                && let Some(new) = f(&g)?
            {
                if new.shape() != g.shape() || new.device() != g.device() {
                    let text = format!(
                        "a hook on the gradient of '{}' must return None or a gradient of shape {} on {}, not one of shape {} on {}",
                        self.name,
                        g.shape(),
                        g.device(),
                        new.shape(),
                        new.device()
                    );
                    return Err(Error::shape("backward", text));
                }
                g = self.fit(output, new)?;
                if !mode::is_enabled() {
                    g = g.alias(); // what a hook computed may have a graph; this walk makes none
                }
            }
        }
        for a in &actions {
            if let (Action::Retain(cell), true) = (a, keep) {
                let old = lock(cell).replace(g.alias());
                drop(old); // after the lock: dropping may run foreign code
            }
        }
        Ok(g)
    }
    /// A gradient as output `output` wants it: broadcast axes summed away (once, here), and in the output's dtype.
    pub(super) fn fit(&self, output: usize, g: Tensor) -> Result<Tensor> {
        let to = &self.outputs[output];
        if g.device() != to.device {
            let text = format!("a gradient on {} for a tensor on {}", g.device(), to.device);
            return Err(Error::internal(self.name, text));
        }
        let g = if *g.shape() == to.shape {
            g
        } else {
            ops::sum_to(&g, &to.shape)?
        };
        ops::astype(&g, to.dtype)
    }
}

/// What a dying node leaves behind.
type Remains = (Inputs, Option<Arc<dyn Backward>>);

thread_local! {
    /// Remains of nodes that wait for their drop; a chain of any length is taken down in a loop, not in a recursion.
    static GRAVEYARD: (Cell<bool>, RefCell<Vec<Remains>>) = const { (Cell::new(false), RefCell::new(Vec::new())) };
}

impl Drop for Node {
    fn drop(&mut self) {
        let backward = self.backward.get_mut();
        let backward = backward.unwrap_or_else(PoisonError::into_inner).take();
        let remains = (core::mem::take(&mut self.inputs), backward);
        if remains.0.is_empty() && remains.1.is_none() {
            return;
        }
        let mut remains = Some(remains);
        // While the thread itself is being torn down the list is gone: then `remains` is dropped in place.
        let _ = GRAVEYARD.try_with(|(busy, waiting)| {
            waiting.borrow_mut().extend(remains.take());
            if busy.replace(true) {
                return; // a caller further up empties the list
            }
            /// Not busy any more, also when a foreign owner's drop panics: the next drop empties what is left.
            struct Done<'a>(&'a Cell<bool>);
            impl Drop for Done<'_> {
                fn drop(&mut self) {
                    self.0.set(false);
                }
            }
            let _done = Done(busy);
            loop {
                let next = waiting.borrow_mut().pop();
                match next {
                    Some(r) => drop(r),
                    None => break,
                }
            }
        });
    }
}

/// The result of operation `name` on `inputs`: recorded if recording is on, the result is a float, and an input requires grad.
/// Only then is `make` called (with the output) to build the vjp.
pub fn record<B: Backward + 'static>(
    name: &'static str,
    inputs: &[&Tensor],
    out: Value,
    make: impl FnOnce(&Value) -> B,
) -> Tensor {
    let edge = node_for(name, inputs, core::slice::from_ref(&out), |o| make(&o[0]))
        .map(|node| Edge { node, index: 0 });
    Tensor::from_op(out, edge, false)
}

/// [`record`] for a result that shares its input's elements.
pub fn record_view<B: Backward + 'static>(
    name: &'static str,
    input: &Tensor,
    out: Value,
    make: impl FnOnce() -> B,
) -> Tensor {
    let edge = node_for(name, &[input], core::slice::from_ref(&out), |_| make())
        .map(|node| Edge { node, index: 0 });
    Tensor::from_op(out, edge, true)
}

/// [`record`] for several outputs; `view`: they share their input's elements.
pub fn record_many<B: Backward + 'static>(
    name: &'static str,
    inputs: &[&Tensor],
    outs: Vec<Value>,
    view: bool,
    make: impl FnOnce(&[Value]) -> B,
) -> Vec<Tensor> {
    let node = node_for(name, inputs, &outs, make);
    let each = outs.into_iter().enumerate();
    each.map(|(index, out)| {
        let edge = match &node {
            Ok(node) if out.dtype().is_float() => Ok(Edge {
                node: node.clone(),
                index,
            }),
            Ok(_) => Err(Some(Cut::NotDifferentiable(name))),
            Err(cut) => Err(*cut),
        };
        Tensor::from_op(out, edge, view)
    })
    .collect()
}

fn node_for<B: Backward + 'static>(
    name: &'static str,
    inputs: &[&Tensor],
    outs: &[Value],
    make: impl FnOnce(&[Value]) -> B,
) -> core::result::Result<Arc<Node>, Option<Cut>> {
    let nan = anomaly::is_on().then(|| anomaly::inspect(name, inputs, outs));
    let recorded = mode::is_enabled()
        && inputs.iter().any(|x| x.requires_grad())
        && outs.iter().any(|o| o.dtype().is_float());
    if !recorded {
        return Err(cut::of(name, inputs));
    }
    let edges = inputs.iter().map(|x| x.edge()).collect();
    let metas = outs.iter().map(|o| Meta {
        shape: o.shape().clone(),
        dtype: o.dtype(),
        device: o.device(),
    });
    let metas = metas.collect();
    // The vjp may ask inputs for their edges; those are made above, so this node is newer than they are.
    let backward: Arc<dyn Backward> = Arc::new(make(outs));
    let cut = cut::earlier(inputs);
    let origin = nan.map(anomaly::origin);
    let backward = Some(backward);
    Ok(Node::new(name, edges, metas, backward, None, cut, origin))
}
