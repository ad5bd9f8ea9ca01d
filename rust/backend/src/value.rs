//! Values: a storage and which of its elements are seen.

use std::sync::Arc;

use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::list::try_vec;
use crate::shape::Shape;
use crate::storage::{Storage, no_tensor};

/// Raw data without a graph: what backends take and return. A snapshot: nothing ever changes what it shows.
#[derive(Clone, Debug)]
pub struct Value {
    /// The memory, shared.
    pub storage: Arc<Storage>,
    /// Which of its elements, in which order.
    pub layout: Layout,
}

impl Value {
    /// A C-contiguous value over a fresh storage.
    pub fn new(storage: Storage, shape: impl Into<Shape>) -> Self {
        let layout = Layout::contiguous(shape);
        debug_assert_eq!(layout.numel(), storage.len());
        Self {
            storage: Arc::new(storage),
            layout,
        }
    }
    /// Copies `data` into a value of dtype `T::DTYPE`.
    pub fn from_slice<T: Element>(
        data: &[T],
        shape: impl Into<Shape>,
        device: Device,
    ) -> Result<Self> {
        Ok(Self::new(
            Storage::from_slice(T::DTYPE, data, device)?,
            shape,
        ))
    }
    /// The same storage seen differently.
    pub fn with_layout(&self, layout: Layout) -> Self {
        Self {
            storage: self.storage.clone(),
            layout,
        }
    }
    /// Element type.
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }
    /// Where it lives.
    pub fn device(&self) -> Device {
        self.storage.device()
    }
    /// Sizes.
    pub fn shape(&self) -> &Shape {
        self.layout.shape()
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.layout.numel()
    }
    /// The elements as a slice if they lie in C order (`None` otherwise).
    ///
    /// # Panics
    /// When `T` is not the dtype: a bug of the caller.
    pub fn dense<T: Element>(&self) -> Option<&[T]> {
        if !self.layout.is_contiguous() {
            return None;
        }
        let n = self.layout.numel();
        let start = if n == 0 { 0 } else { self.layout.offset() };
        Some(&self.storage.slice::<T>()[start..start + n])
    }
    /// All elements in C order.
    ///
    /// # Panics
    /// When `T` is not the dtype: a bug of the caller.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let refused = |e: Error| match e {
            Error::Memory(_) => no_tensor(self.dtype(), self.shape()),
            e => e,
        };
        let mut out = try_vec(self.numel()).map_err(refused)?;
        if let Some(s) = self.dense() {
            out.extend_from_slice(s);
            return Ok(out);
        }
        let data = self.storage.slice::<T>();
        let (shape, strides) = (self.layout.shape(), self.layout.strides());
        let mut index = Shape::filled(0, shape.len());
        let mut at = self.layout.offset() as isize;
        for _ in 0..self.numel() {
            out.push(data[at as usize]);
            for d in (0..shape.len()).rev() {
                index[d] += 1;
                at += strides[d];
                if index[d] < shape[d] {
                    break;
                }
                at -= strides[d] * shape[d] as isize;
                index[d] = 0;
            }
        }
        Ok(out)
    }
}
