//! Batch normalisation of dense `(n, c, s)` (s: product of the spatial axes).
use crate::element::Real;

/// Mean and biased variance per channel (Welford chunks / centred, combined in fixed order).
pub fn batch_norm_stats<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    mean: &mut [T],
    var: &mut [T],
) {
    unimplemented!()
}
/// `y = (x - mean) * rstd * gamma + beta` per channel.
pub fn batch_norm_apply<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    beta: Option<&[T]>,
    y: &mut [T],
) {
    unimplemented!()
}
/// Gradients. `batch_stats`: mean and rstd were computed from `x` (training); otherwise they are constants.
pub fn batch_norm_backward<T: Real>(
    n: usize,
    c: usize,
    s: usize,
    x: &[T],
    dy: &[T],
    mean: &[T],
    rstd: &[T],
    gamma: Option<&[T]>,
    batch_stats: bool,
    dx: Option<&mut [T]>,
    dgamma: Option<&mut [T]>,
    dbeta: Option<&mut [T]>,
) {
    unimplemented!()
}
