//! Tensors: a value in a cell, plus its place in the graph.

use core::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockWriteGuard};

use corten_kernels::parallel::Uninterrupted;

use crate::autograd::cut::Cut;
use crate::autograd::node::{Edge, GradCell, HookFn};
use crate::autograd::{engine, mode};
use crate::backend::{Part, dispatch};
use crate::device::Device;
use crate::dtype::{DType, Element, Scalar};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::list::try_collect;
use crate::shape::{Shape, checked_numel, show};
use crate::storage::{Storage, make_mut};
use crate::value::Value;
use crate::with_element;

/// A multi-dimensional array with a place in the graph. Cheap to clone: clones are the same tensor.
///
/// Tensors are values: no operation changes one. The exception is a *leaf* used as a parameter, whose cell the optimizer,
/// [`Tensor::assign`] and item assignment overwrite, with copy-on-write towards whoever shares the old contents.
#[derive(Clone)]
pub struct Tensor(Arc<Inner>);

struct Inner {
    storage: RwLock<Arc<Storage>>,
    layout: Layout,
    dtype: DType,
    device: Device,
    /// Shares another tensor's elements (item assignment would be lost).
    view: bool,
    leaf: bool,
    /// Why it is not in the graph, if something before it was.
    cut: Option<Cut>,
    requires_grad: AtomicBool,
    /// Where this tensor's gradient goes: its producer, or for a leaf its accumulation node (made on first use).
    edge: OnceLock<Edge>,
    /// Kept gradient of a non-leaf ([`Tensor::retain_grad`]).
    retained: OnceLock<Arc<GradCell>>,
}

/// Exclusive access to the storage of a leaf; the same thread must not read that tensor meanwhile.
pub struct WriteGuard<'a> {
    storage: RwLockWriteGuard<'a, Arc<Storage>>,
    layout: &'a Layout,
    /// Half a write must not remain; and a signal handler needs the interpreter, whose holder may wait for this lock.
    _uninterrupted: Uninterrupted,
}

impl WriteGuard<'_> {
    /// The storage to write to: in place if unshared, else a private copy ([`make_mut`]).
    pub fn storage(&mut self) -> Result<&mut Storage> {
        make_mut(&mut self.storage)
    }
    /// The elements of a C-contiguous leaf, to hand to a backend; `None` for any other layout.
    pub fn part(&mut self) -> Result<Option<Part<'_>>> {
        if !self.layout.is_contiguous() {
            return Ok(None);
        }
        Ok(Some(Part {
            start: self.layout.offset(),
            len: self.layout.numel(),
            storage: self.storage()?,
        }))
    }
}

impl Tensor {
    fn build(value: Value, edge: core::result::Result<Edge, Option<Cut>>, view: bool) -> Self {
        let (dtype, device) = (value.dtype(), value.device());
        let (edge, cut) = match edge {
            Ok(edge) => (Some(edge), None),
            Err(cut) => (None, cut),
        };
        let leaf = edge.is_none();
        Self(Arc::new(Inner {
            layout: value.layout,
            storage: RwLock::new(value.storage),
            dtype,
            device,
            view,
            leaf,
            cut,
            requires_grad: AtomicBool::new(!leaf),
            edge: edge.map_or_else(OnceLock::new, OnceLock::from),
            retained: OnceLock::new(),
        }))
    }
    /// A leaf without gradient.
    pub fn from_value(value: Value) -> Self {
        Self::build(value, Err(None), false)
    }
    /// An operation's output: `edge` names its node (or says why it is not recorded), `view` that it shares its input's elements.
    pub(crate) fn from_op(
        value: Value,
        edge: core::result::Result<Edge, Option<Cut>>,
        view: bool,
    ) -> Self {
        Self::build(value, edge, view)
    }
    /// A leaf that holds `data` in C order; fails when the numbers of elements differ.
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize]) -> Result<Self> {
        Self::from_slice_on(data, shape, T::DTYPE, Device::Cpu)
    }
    /// [`Tensor::from_slice`] on a device; `dtype` may be bool for `u8` data (every nonzero byte becomes 1).
    pub fn from_slice_on<T: Element>(
        data: &[T],
        shape: &[usize],
        dtype: DType,
        device: Device,
    ) -> Result<Self> {
        if crate::shape::numel(shape) != data.len() {
            return Err(Error::shape(
                "tensor",
                format!("{} elements do not fill shape {}", data.len(), show(shape)),
            ));
        }
        if !T::reads(dtype) {
            return Err(Error::dtype(
                "tensor",
                format!("{} data given as {dtype}", T::DTYPE),
            ));
        }
        let mut s = Storage::from_slice(dtype, data, device)?;
        if dtype == DType::Bool {
            for b in s.slice_mut::<u8>() {
                *b = u8::from(*b != 0);
            }
        }
        Ok(Self::from_value(Value::new(s, shape)))
    }
    /// A leaf over a storage, foreign ones ([`Storage::foreign`]) included, seen through `layout`.
    ///
    /// # Errors
    /// When `layout` leaves the storage.
    pub fn from_storage(storage: Storage, layout: Layout) -> Result<Self> {
        checked_numel("asarray", layout.shape())?;
        if let Some((lo, hi)) = layout.extent()
            && (lo < 0 || hi >= storage.len() as isize)
        {
            return Err(Error::value(
                "asarray",
                format!(
                    "strides reach elements {lo}..={hi} of a block of {}",
                    storage.len()
                ),
            ));
        }
        Ok(Self::from_value(Value {
            storage: Arc::new(storage),
            layout,
        }))
    }

    // -- description

    /// Sizes.
    pub fn shape(&self) -> &Shape {
        self.0.layout.shape()
    }
    /// Sizes, strides and offset.
    pub fn layout(&self) -> &Layout {
        &self.0.layout
    }
    /// Number of axes.
    pub fn ndim(&self) -> usize {
        self.0.layout.ndim()
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.0.layout.numel()
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }
    /// Where it lives.
    pub fn device(&self) -> Device {
        self.0.device
    }
    /// Whether the elements lie in C order.
    pub fn is_contiguous(&self) -> bool {
        self.0.layout.is_contiguous()
    }
    /// Whether it shares another tensor's elements.
    pub fn is_view(&self) -> bool {
        self.0.view
    }
    /// The same tensor, not merely an equal one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
    /// A number that identifies this tensor while it lives.
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    // -- data

    /// A snapshot of the current contents.
    pub fn value(&self) -> Value {
        Value {
            storage: self.storage(),
            layout: self.0.layout.clone(),
        }
    }
    /// The storage as it is now.
    pub fn storage(&self) -> Arc<Storage> {
        self.0
            .storage
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
    /// All elements in C order; fails when `T` is another dtype (`u8` reads bool).
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if !T::reads(self.dtype()) {
            return Err(Error::dtype(
                "to_vec",
                format!("a {} tensor is not {}", self.dtype(), T::DTYPE),
            ));
        }
        self.value().to_vec()
    }
    /// All elements in C order as scalars.
    pub fn to_scalars(&self) -> Result<Vec<Scalar>> {
        let v = self.value();
        let bool = self.dtype() == DType::Bool;
        with_element!(self.dtype(), T => try_collect(v.to_vec::<T>()?.into_iter().map(|x| {
            if bool { Scalar::Bool(x.to_scalar().to_bool()) } else { x.to_scalar() }
        })))
    }
    /// The only element; fails unless there is exactly one.
    pub fn item(&self) -> Result<Scalar> {
        if self.numel() != 1 {
            return Err(Error::value(
                "item",
                format!(
                    "only a tensor of one element is a number; this one has shape {}",
                    self.shape()
                ),
            ));
        }
        let s = self.storage();
        let at = self.0.layout.offset();
        Ok(with_element!(self.dtype(), T => {
            let x = s.slice::<T>()[at].to_scalar();
            if self.dtype() == DType::Bool { Scalar::Bool(x.to_bool()) } else { x }
        }))
    }
    /// Locks a leaf for writing; fails for an operation's output.
    pub fn write(&self, op: &'static str) -> Result<WriteGuard<'_>> {
        if !self.0.leaf {
            return Err(Error::graph(
                op,
                "only a leaf can be written; this tensor is the result of an operation (detach() it first)",
            ));
        }
        let guard = self.0.storage.write();
        Ok(WriteGuard {
            storage: guard.unwrap_or_else(PoisonError::into_inner),
            layout: &self.0.layout,
            _uninterrupted: Uninterrupted::enter(),
        })
    }
    /// Overwrites this leaf with `src` (same shape; cast to this dtype). Graphs and views that share the old contents keep them.
    pub fn assign(&self, src: &Self) -> Result<()> {
        if src.shape() != self.shape() {
            return Err(Error::shape(
                "assign_",
                format!(
                    "a tensor of shape {} cannot take a value of shape {}",
                    self.shape(),
                    src.shape()
                ),
            ));
        }
        self.assign_at("assign_", &self.0.layout, src)
    }
    /// Overwrites the elements that `part` names (a layout inside this leaf's storage, of `src`'s shape).
    pub(crate) fn assign_at(&self, op: &'static str, part: &Layout, src: &Self) -> Result<()> {
        let value = self.writable(op, part, src)?;
        let mut guard = self.write(op)?;
        dispatch(self.device()).copy_into(&value, guard.storage()?, part)
    }
    /// [`Tensor::assign_at`] for the picks `at` of `part`, see [`Elements::put`](crate::backend::Elements::put).
    pub(crate) fn put_at(
        &self,
        op: &'static str,
        part: &Layout,
        outer: usize,
        at: &Value,
        src: &Self,
    ) -> Result<()> {
        // The whole tensor is looked at, since `part` does not show the axes that are picked from.
        let value = self.writable(op, self.layout(), src)?;
        let mut guard = self.write(op)?;
        dispatch(self.device()).put(&value, guard.storage()?, part, outer, at)
    }
    /// `src` in this dtype; fails on another device, and when elements of `part` coincide.
    fn writable(&self, op: &'static str, part: &Layout, src: &Self) -> Result<Value> {
        check_device(op, self, src)?;
        let mut axes = part.shape().iter().zip(part.strides().iter());
        if part.numel() > 1 && axes.any(|(&d, &s)| d > 1 && s == 0) {
            return Err(Error::value(
                op,
                "a broadcast tensor cannot be written: several of its elements are one number (use contiguous() first)",
            ));
        }
        dispatch(self.device()).cast(&src.value(), self.dtype())
    }

    // -- graph

    /// Not the result of a recorded operation.
    pub fn is_leaf(&self) -> bool {
        self.0.leaf
    }
    /// Whether gradients flow to it.
    pub fn requires_grad(&self) -> bool {
        self.0.requires_grad.load(Ordering::Relaxed)
    }
    /// Makes a leaf (not) take part in gradients; fails for integers and for turning it off on an operation's output.
    pub fn set_requires_grad(&self, on: bool) -> Result<()> {
        if on && !self.dtype().is_float() {
            return Err(Error::dtype(
                "requires_grad_",
                format!(
                    "only float tensors have gradients, not {} (cast with .astype('float32'))",
                    self.dtype()
                ),
            ));
        }
        if !self.0.leaf {
            if on {
                return Ok(());
            }
            return Err(Error::graph(
                "requires_grad_",
                "the result of an operation always requires grad; use detach() to cut it off",
            ));
        }
        self.0.requires_grad.store(on, Ordering::Relaxed);
        if let Some(leaf) = self.0.edge.get().and_then(|e| e.node.leaf()) {
            leaf.enable(on);
        }
        Ok(())
    }
    /// Why this tensor is not in the graph although something that it was computed from requires grad.
    pub fn cut(&self) -> Option<Cut> {
        self.0.cut.filter(|_| !self.requires_grad()) // a leaf that takes part starts a graph of its own
    }
    /// Whether [`Tensor::grad`] holds what a walk leaves: a leaf that requires grad, or after [`Tensor::retain_grad`].
    pub fn keeps_grad(&self) -> bool {
        self.requires_grad() && (self.0.leaf || self.0.retained.get().is_some())
    }
    /// Name of the node that made it.
    pub fn grad_fn(&self) -> Option<&'static str> {
        if self.0.leaf {
            return None;
        }
        self.0.edge.get().map(|e| e.node.name())
    }
    /// Where its gradient goes; `None` when it does not require grad.
    pub(crate) fn edge(&self) -> Option<Edge> {
        if !self.requires_grad() {
            return None;
        }
        Some(self.edge_or_leaf().clone())
    }
    fn edge_or_leaf(&self) -> &Edge {
        self.0
            .edge
            .get_or_init(|| Edge::leaf(self.shape(), self.dtype(), self.device()))
    }
    /// The same contents without graph or gradient; shares storage (and so is a view).
    pub fn detach(&self) -> Self {
        let cut = if self.requires_grad() {
            Some(Cut::Detached)
        } else {
            self.0.cut
        };
        Self::build(self.value(), Err(cut), true)
    }
    /// A new leaf with the same contents: C-contiguous, shares storage until one of both is written. What a parameter is made of.
    pub fn to_leaf(&self, requires_grad: bool) -> Result<Self> {
        let t = Self::from_value(dispatch(self.device()).contiguous(&self.value())?);
        t.set_requires_grad(requires_grad)?;
        Ok(t)
    }
    /// The value, to be written to, if nobody else holds this tensor or its storage.
    pub(crate) fn into_owned(self) -> core::result::Result<Value, Self> {
        let inner = Arc::try_unwrap(self.0).map_err(Self)?;
        let storage = inner.storage.into_inner();
        let mut value = Value {
            storage: storage.unwrap_or_else(PoisonError::into_inner),
            layout: inner.layout,
        };
        if Arc::get_mut(&mut value.storage).is_some_and(|s| !s.is_foreign()) && inner.leaf {
            return Ok(value);
        }
        let edge = inner.edge.into_inner().ok_or(inner.cut);
        Err(Self::build(value, edge, inner.view))
    }
    /// A tensor of its own (no view) for the same value in the same place of the graph; a leaf when recording is off.
    pub(crate) fn alias(&self) -> Self {
        let edge = if mode::is_enabled() {
            self.edge()
        } else {
            None
        };
        Self::build(self.value(), edge.ok_or(None), false)
    }
    /// The gradient gathered so far: of a leaf, or of a non-leaf after [`Tensor::retain_grad`].
    pub fn grad(&self) -> Option<Self> {
        let cell = self.grad_cell()?;
        cell.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    fn grad_cell(&self) -> Option<&GradCell> {
        if self.0.leaf {
            Some(self.0.edge.get()?.node.leaf()?.grad())
        } else {
            self.0.retained.get().map(|c| &**c)
        }
    }
    /// Replaces the gradient of a leaf (`None` clears it); it must have this tensor's shape, dtype and device.
    pub fn set_grad(&self, grad: Option<Self>) -> Result<()> {
        if let Some(g) = &grad {
            if g.shape() != self.shape() || g.dtype() != self.dtype() {
                return Err(Error::shape(
                    "grad",
                    format!(
                        "the gradient of a {} tensor of shape {} cannot be {} of shape {}",
                        self.dtype(),
                        self.shape(),
                        g.dtype(),
                        g.shape()
                    ),
                ));
            }
            check_device("grad", self, g)?;
        }
        if self.0.leaf && grad.is_some() {
            self.edge_or_leaf();
        }
        let Some(cell) = self.grad_cell() else {
            if grad.is_none() {
                return Ok(());
            }
            return Err(Error::graph(
                "grad",
                "the result of an operation keeps no gradient; call retain_grad() on it first",
            ));
        };
        let old = {
            let mut cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
            core::mem::replace(&mut *cell, grad)
        };
        drop(old); // after the lock: dropping may run foreign code
        Ok(())
    }
    /// Makes an operation's output keep its gradient in [`Tensor::grad`]; a leaf does anyway.
    pub fn retain_grad(&self) -> Result<()> {
        if !self.requires_grad() {
            return Err(Error::graph(
                "retain_grad",
                "this tensor does not require grad",
            ));
        }
        if self.0.leaf || self.0.retained.get().is_some() {
            return Ok(());
        }
        let cell = self.0.retained.get_or_init(|| Arc::new(Mutex::new(None)));
        let e = self.edge_or_leaf();
        e.node.retain(e.index, cell.clone());
        Ok(())
    }
    /// Calls `hook` with this tensor's gradient when it is final; what it returns replaces the gradient.
    /// Gives a handle for [`Tensor::remove_hook`].
    pub fn register_hook(&self, hook: Arc<HookFn>) -> Result<u64> {
        if !self.requires_grad() {
            return Err(Error::graph(
                "register_hook",
                "this tensor does not require grad",
            ));
        }
        let e = self.edge_or_leaf();
        Ok(e.node.add_hook(e.index, hook))
    }
    /// Removes a hook; unknown handles are ignored.
    pub fn remove_hook(&self, handle: u64) {
        if let Some(e) = self.0.edge.get() {
            e.node.remove_hook(handle);
        }
    }
    /// Adds the gradient of this tensor to `.grad` of every leaf that it was computed from.
    /// `gradient` (default 1 for a single element) is the gradient of whatever comes after.
    pub fn backward(
        &self,
        gradient: Option<&Self>,
        retain_graph: bool,
        create_graph: bool,
    ) -> Result<()> {
        engine::backward(
            core::slice::from_ref(self),
            &[gradient.cloned()],
            retain_graph,
            create_graph,
        )
    }
}

/// Fails when two tensors live on different devices.
pub(crate) fn check_device(op: &'static str, a: &Tensor, b: &Tensor) -> Result<()> {
    if a.device() == b.device() {
        return Ok(());
    }
    Err(Error::value(
        op,
        format!(
            "tensors are on different devices, {} and {}; move one with .to('{}')",
            a.device(),
            b.device(),
            a.device()
        ),
    ))
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor(shape={}, dtype={}, device={}",
            self.shape(),
            self.dtype(),
            self.device()
        )?;
        if let Some(name) = self.grad_fn() {
            write!(f, ", grad_fn={name}")?;
        } else if self.requires_grad() {
            write!(f, ", requires_grad")?;
        }
        f.write_str(")")
    }
}
