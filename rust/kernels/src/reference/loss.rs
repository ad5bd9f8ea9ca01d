//! Naive twins of [`crate::loss`].
use crate::element::Real;
pub use crate::loss::Target;

/// `t[r, c]`.
fn target_at<T: Real>(target: &Target<'_, T>, cols: usize, r: usize, c: usize) -> f64 {
    match target {
        Target::Index(t) => f64::from(u8::from(t[r] == c as i64)),
        Target::Probs(t) => t[r * cols + c].to_f64(),
    }
}

/// The row's maximum and `sum(exp(x - max))`.
fn max_and_sum<T: Real>(x: &[T]) -> (f64, f64) {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, v| m.max(v.to_f64()));
    (max, x.iter().map(|v| (v.to_f64() - max).exp()).sum())
}

/// Twin of [`crate::loss::cross_entropy`].
pub fn cross_entropy<T: Real>(
    rows: usize,
    cols: usize,
    x: &[T],
    target: Target<'_, T>,
    stats: &mut [[T; 2]],
    loss: &mut [T],
) {
    for r in 0..rows {
        let x = &x[r * cols..(r + 1) * cols];
        let (max, sum) = max_and_sum(x);
        stats[r] = [T::from_f64(max), T::from_f64(sum)];
        let mut l = 0.0;
        for c in 0..cols {
            // A class that is not asked for may be impossible (-inf).
            let skip = matches!(target, Target::Index(t) if t[r] != c as i64);
            if !skip {
                l += target_at(&target, cols, r, c) * (sum.ln() - (x[c].to_f64() - max));
            }
        }
        // NaN anywhere in the row is in `sum`, hence in `l`.
        loss[r] = T::from_f64(l);
    }
}

/// Twin of [`crate::loss::cross_entropy_backward`]. Computes the row's softmax anew, in f64.
pub fn cross_entropy_backward<T: Real>(
    rows: usize,
    cols: usize,
    x: &[T],
    target: Target<'_, T>,
    _stats: &[[T; 2]],
    g: &[T],
    dx: &mut [T],
) {
    for r in 0..rows {
        let x = &x[r * cols..(r + 1) * cols];
        let (max, sum) = max_and_sum(x);
        let g = if g.len() == 1 { g[0] } else { g[r] }.to_f64();
        let total: f64 = (0..cols).map(|c| target_at(&target, cols, r, c)).sum();
        for c in 0..cols {
            let p = (x[c].to_f64() - max).exp() / sum;
            dx[r * cols + c] = T::from_f64(g * (total * p - target_at(&target, cols, r, c)));
        }
    }
}
