//! Every operation: check, forward through the backend, gradient, documentation and tests side by side, one file per family.
//!
//! Functions mirror `python/corten/_core.pyi` (keyword → argument, `axis` → `Option<&[isize]>`). They take tensors of any layout
//! on one device and give [`Error`](crate::Error)s, never panics, for whatever a user may pass.

pub mod activation;
pub mod activation_family;
pub mod advanced_index;
pub mod arrange;
pub mod attention;
pub mod class_loss;
mod common;
pub mod composed;
mod composed_rnn;
pub mod contract;
pub mod conv;
pub mod conv_transpose;
pub mod creation;
pub mod distance_loss;
pub mod dropout;
pub mod elementwise;
pub mod index;
pub mod linear;
pub mod loss;
pub mod magnitude;
pub mod matmul;
pub mod norm;
pub mod order;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod row_norm;
pub mod select;
pub mod shape;
pub mod softmax;
#[cfg(test)]
mod testing;
mod window;

pub use activation::*;
pub use activation_family::*;
pub use advanced_index::{Selector, get_item, set_item};
pub use arrange::*;
pub use attention::*;
pub use class_loss::*;
pub use common::{Activation, Reduction};
pub use contract::*;
pub use conv::conv2d;
pub use conv_transpose::conv_transpose2d;
pub use creation::*;
pub use distance_loss::*;
pub use dropout::dropout;
pub use elementwise::*;
pub use index::*;
pub use linear::linear;
pub use loss::*;
pub use magnitude::*;
pub use matmul::matmul;
pub use norm::batch_norm;
pub use order::*;
pub use pool::*;
pub use recurrent::{RecurrentOptions, recurrent};
pub use reduce::*;
pub use row_norm::*;
pub use select::*;
pub use shape::*;
pub use softmax::*;
pub use window::Padding;

use crate::dtype::Scalar;
use crate::tensor::Tensor;

/// What an element-wise operation takes on either side: a tensor, or a weak scalar.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// A tensor.
    Tensor(&'a Tensor),
    /// A scalar, which takes the other side's dtype where it can.
    Scalar(Scalar),
}
impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(x: &'a Tensor) -> Self {
        Self::Tensor(x)
    }
}
impl From<Scalar> for Operand<'_> {
    fn from(x: Scalar) -> Self {
        Self::Scalar(x)
    }
}
impl From<f64> for Operand<'_> {
    fn from(x: f64) -> Self {
        Self::Scalar(Scalar::Float(x))
    }
}
impl From<i64> for Operand<'_> {
    fn from(x: i64) -> Self {
        Self::Scalar(Scalar::Int(x))
    }
}
impl From<bool> for Operand<'_> {
    fn from(x: bool) -> Self {
        Self::Scalar(Scalar::Bool(x))
    }
}
