//! Naive twins of [`crate::index`].
use crate::element::{Number, Real, Strided};
use crate::layout::offset_of;

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

/// See [`crate::index::gather`].
pub fn gather<T: Number>(
    outer: &[usize],
    inner: &[usize],
    x: Strided<'_, T>,
    at: &[i64],
    out: &mut [T],
) {
    let (so, si) = x.strides.split_at(outer.len());
    let n: usize = inner.iter().product();
    for (k, y) in out.iter_mut().enumerate() {
        let (block, j, i) = (k / n / at.len(), k / n % at.len(), k % n);
        let from = offset_of(outer, so, block) + at[j] as isize + offset_of(inner, si, i);
        *y = x.data[(x.offset as isize + from) as usize];
    }
}

/// See [`crate::index::put`].
pub fn put<T: Number>(
    outer: &[usize],
    inner: &[usize],
    values: &[T],
    at: &[i64],
    out: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    let (so, si) = strides.split_at(outer.len());
    let n: usize = inner.iter().product();
    for (k, v) in values.iter().enumerate() {
        let (block, j, i) = (k / n / at.len(), k / n % at.len(), k % n);
        let to = offset_of(outer, so, block) + at[j] as isize + offset_of(inner, si, i);
        out[(offset as isize + to) as usize] = *v;
    }
}
