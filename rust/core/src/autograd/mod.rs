//! Reverse-mode differentiation: every recorded operation leaves a [`node::Node`] that knows its inputs' nodes and how to turn
//! the gradient of its outputs into gradients of its inputs; [`engine`] walks them. Nothing here knows an operation by name.

pub mod anomaly;
pub mod check;
pub mod cut;
pub mod engine;
pub mod explain;
pub mod mode;
pub mod node;
mod seed;
#[cfg(test)]
mod tests;
pub mod twin;

pub use check::{Tolerance, gradcheck, gradgradcheck};
pub use cut::{Cut, not_differentiable};
pub use engine::{GradOptions, backward, grad};
pub use mode::{enable_grad, is_enabled, no_grad, set_enabled};
pub use node::{Backward, Ctx, HookFn, Saved, record, record_many, record_view, vjp};
pub use twin::twin_vjp;
