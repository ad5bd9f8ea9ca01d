//! Softmax over the last axis of dense `(rows, cols)`; finite for logits of any size.
use crate::element::Real;

/// `y = exp(x - max) / sum`, or its logarithm when `log`.
pub fn softmax<T: Real>(log: bool, rows: usize, cols: usize, x: &[T], y: &mut [T]) {
    unimplemented!()
}
/// softmax: `dx = y * (dy - sum(dy * y))`; log-softmax: `dx = dy - exp(y) * sum(dy)`.
pub fn softmax_backward<T: Real>(
    log: bool,
    rows: usize,
    cols: usize,
    y: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    unimplemented!()
}
