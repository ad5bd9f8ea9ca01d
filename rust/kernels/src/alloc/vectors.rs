//! Vectors whose length a caller's sizes decide: they leave the kernel when memory runs out, where `Vec` ends the process.
use super::refuse;

/// An empty vector with room for `n` elements. A vector that grows by itself ends the process when memory runs out; where a
/// caller's sizes decide its length, this leaves the kernel instead, as workspaces do.
pub(crate) fn vec<T>(n: usize) -> Vec<T> {
    let mut v = Vec::new();
    if v.try_reserve_exact(n).is_err() {
        refuse(n.saturating_mul(size_of::<T>()));
    }
    v
}

/// [`Vec::push`] as [`vec()`] does it.
pub(crate) fn push<T>(v: &mut Vec<T>, item: T) {
    if v.try_reserve(1).is_err() {
        refuse((2 * v.len()).saturating_mul(size_of::<T>()));
    }
    v.push(item);
}

/// [`Iterator::collect`] into a [`vec()`].
pub(crate) fn collect<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let (least, most) = items.size_hint();
    let mut v = vec(most.unwrap_or(least));
    v.extend(items);
    v
}
