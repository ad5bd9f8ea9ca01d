//! Fused softmax-cross-entropy on dense `(rows, cols)` logits.
use crate::element::Real;

/// What a row should be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a, T> {
    /// One class index per row, in range (checked by the caller).
    Index(&'a [i64]),
    /// One distribution per row, dense `(rows, cols)`.
    Probs(&'a [T]),
}

/// `lse[r] = logsumexp(x[r])`, `loss[r] = -sum_c t[r,c] * (x[r,c] - lse[r])`.
pub fn cross_entropy<T: Real>(
    rows: usize,
    cols: usize,
    x: &[T],
    target: Target<'_, T>,
    lse: &mut [T],
    loss: &mut [T],
) {
    unimplemented!()
}
/// `dx[r,c] = g[r] * (sum_c(t[r]) * exp(x[r,c] - lse[r]) - t[r,c])`; `g` has one entry per row, or a single one for all.
pub fn cross_entropy_backward<T: Real>(
    rows: usize,
    cols: usize,
    x: &[T],
    target: Target<'_, T>,
    lse: &[T],
    g: &[T],
    dx: &mut [T],
) {
    unimplemented!()
}
