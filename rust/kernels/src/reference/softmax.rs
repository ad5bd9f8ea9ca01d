//! Naive twins of [`crate::softmax`].
use crate::element::Real;

/// Twin of [`crate::softmax::softmax`].
pub fn softmax<T: Real>(log: bool, rows: usize, cols: usize, x: &[T], y: &mut [T]) {
    for r in 0..rows {
        let row = r * cols..(r + 1) * cols;
        let max = x[row.clone()]
            .iter()
            .fold(f64::NEG_INFINITY, |m, v| m.max(v.to_f64()));
        let sum: f64 = x[row.clone()]
            .iter()
            .map(|v| (v.to_f64() - max).exp())
            .sum();
        for i in row {
            let d = x[i].to_f64() - max;
            y[i] = T::from_f64(if log { d - sum.ln() } else { d.exp() / sum });
        }
    }
}

/// Twin of [`crate::softmax::softmax_backward`].
pub fn softmax_backward<T: Real>(
    log: bool,
    rows: usize,
    cols: usize,
    y: &[T],
    dy: &[T],
    dx: &mut [T],
) {
    for r in 0..rows {
        let row = r * cols..(r + 1) * cols;
        let mut sum = 0.0;
        for i in row.clone() {
            let dy = dy[i].to_f64();
            sum += if log { dy } else { dy * y[i].to_f64() };
        }
        for i in row {
            let (y, dy) = (y[i].to_f64(), dy[i].to_f64());
            dx[i] = T::from_f64(if log {
                dy - y.exp() * sum
            } else {
                y * (dy - sum)
            });
        }
    }
}
