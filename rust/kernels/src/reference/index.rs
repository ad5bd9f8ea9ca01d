//! Naive twins of [`crate::index`].
use crate::element::{Number, Real};

/// See [`crate::index::gather_rows`].
pub fn gather_rows<T: Number>(cols: usize, x: &[T], idx: &[i64], out: &mut [T]) {
    for (r, &i) in idx.iter().enumerate() {
        for c in 0..cols {
            out[r * cols + c] = x[i as usize * cols + c];
        }
    }
}

/// See [`crate::index::scatter_add_rows`]; accumulates in f64.
pub fn scatter_add_rows<T: Real>(cols: usize, g: &[T], idx: &[i64], out: &mut [T]) {
    let mut sums = vec![0.0; out.len()];
    for (r, &i) in idx.iter().enumerate() {
        for c in 0..cols {
            sums[i as usize * cols + c] += g[r * cols + c].to_f64();
        }
    }
    for (y, s) in out.iter_mut().zip(sums) {
        *y = T::from_f64(s);
    }
}
