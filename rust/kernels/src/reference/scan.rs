//! Naive twins of [`crate::scan`].
use crate::element::{Number, Real};
use crate::scan::Scan;

/// See [`crate::scan::scan`].
pub fn scan<T: Real>(op: Scan, n: usize, x: &[T], out: &mut [T]) {
    let mut total = 0.0;
    for i in 0..x.len() {
        let x = x[i].to_f64();
        total = match op {
            _ if i % n == 0 => x,
            Scan::Sum => total + x,
            Scan::Prod => total * x,
        };
        out[i] = T::from_f64(total);
    }
}

/// See [`crate::scan::scan_int`].
pub fn scan_int<T: Number>(op: Scan, n: usize, x: &[T], out: &mut [i64]) {
    for i in 0..x.len() {
        let x = x[i].to_i64();
        out[i] = match op {
            _ if i % n == 0 => x,
            Scan::Sum => out[i - 1].wrapping_add(x),
            Scan::Prod => out[i - 1].wrapping_mul(x),
        };
    }
}
