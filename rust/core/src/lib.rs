//! Tensor, autograd and operations of corten.
//!
//! The layers, each of which uses only those below it:
//! [`ops`] (check, forward, gradient of every operation) → [`autograd`] (graph, engine) and [`backend`] (kernels behind one
//! trait) → [`tensor`] → [`storage`], [`layout`], [`shape`], [`dtype`], [`device`] → [`error`].

pub mod autograd;
pub mod backend;
pub mod device;
pub mod dtype;
pub mod error;
pub mod layout;
pub mod ops;
pub mod optim;
pub mod shape;
pub mod storage;
pub mod tensor;
#[cfg(test)]
mod testing;

pub use autograd::{Backward, Ctx, Saved};
pub use device::Device;
pub use dtype::{DType, Element, Scalar};
pub use error::{Error, Result};
pub use layout::Layout;
pub use shape::{Shape, Strides};
pub use storage::Storage;
pub use tensor::{Tensor, Value};
