//! Fused multi-tensor optimizer steps: one call, one parallel region, 16 Ki-element chunks.
use crate::element::Real;

/// One parameter of [`sgd`].
#[allow(missing_docs)]
pub struct SgdItem<'a, T> {
    pub p: &'a mut [T],
    pub g: &'a [T],
    pub momentum: Option<&'a mut [T]>,
}
/// Hyper-parameters of [`sgd`] (PyTorch's formulas: buf = momentum*buf + (1-dampening)*g, on the first step buf = g).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
    pub maximize: bool,
    pub first: bool,
}
/// One SGD step.
pub fn sgd<T: Real>(items: &mut [SgdItem<'_, T>], h: &Sgd) {
    unimplemented!()
}

/// One parameter of [`adam`].
#[allow(missing_docs)]
pub struct AdamItem<'a, T> {
    pub p: &'a mut [T],
    pub g: &'a [T],
    pub m: &'a mut [T],
    pub v: &'a mut [T],
}
/// Hyper-parameters of [`adam`]. `step` counts from 1. `decoupled`: AdamW. PyTorch's formulas, eps outside the root:
/// p -= lr/bc1 * m / (sqrt(v)/sqrt(bc2) + eps).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Adam {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub decoupled: bool,
    pub maximize: bool,
    pub step: u64,
}
/// One Adam or AdamW step.
pub fn adam<T: Real>(items: &mut [AdamItem<'_, T>], h: &Adam) {
    unimplemented!()
}
