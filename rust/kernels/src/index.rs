//! Gather and scatter along one axis.
use crate::element::{Number, Real};

/// `out[r, :] = x[idx[r], :]`, `x (rows, cols)` dense; indices are in range (checked by the caller).
pub fn gather_rows<T: Number>(cols: usize, x: &[T], idx: &[i64], out: &mut [T]) {
    unimplemented!()
}
/// `out[idx[r], :] += g[r, :]` in ascending r for each destination; `out (rows, cols)` is overwritten (zeroed first).
pub fn scatter_add_rows<T: Real>(cols: usize, g: &[T], idx: &[i64], out: &mut [T]) {
    unimplemented!()
}
