//! Values on a device: what tensors are made of, and the kernels behind one trait. No graph.
//!
//! A crate of its own because this is where the generic kernels are compiled for each element type: once, and not again for
//! every test of the operations above.
//!
//! The layers, each of which uses only those below it: [`backend`] (kernels behind one trait) → [`value`] → [`storage`],
//! [`layout`], [`list`], [`shape`], [`dtype`], [`device`] → [`error`].

pub mod backend;
pub mod device;
pub mod dtype;
pub mod error;
pub mod layout;
pub mod list;
pub mod shape;
pub mod storage;
pub mod value;

pub use device::Device;
pub use dtype::{DType, Element, Scalar};
pub use error::{Error, Result};
pub use layout::Layout;
pub use shape::{Shape, Strides};
pub use storage::Storage;
pub use value::Value;
