//! Tensor, autograd and operations of corten.
//!
//! The layers, each of which uses only those below it:
//! [`ops`] (check, forward, gradient of every operation) → [`autograd`] (graph, engine) → [`tensor`] → what `corten-backend`
//! gives: [`backend`] (kernels behind one trait), [`value`], [`storage`], [`layout`], [`list`], [`shape`], [`dtype`], [`device`], [`error`].

pub mod autograd;
pub mod ops;
pub mod optim;
pub mod tensor;
#[cfg(test)]
mod testing;

pub use corten_backend::{
    backend, device, dtype, error, layout, list, shape, storage, value, with_element, with_real,
};

pub use autograd::{Backward, Ctx, Saved};
pub use device::Device;
pub use dtype::{DType, Element, Scalar};
pub use error::{Error, Result};
pub use layout::Layout;
pub use shape::{Shape, Strides};
pub use storage::Storage;
pub use tensor::Tensor;
pub use value::Value;
