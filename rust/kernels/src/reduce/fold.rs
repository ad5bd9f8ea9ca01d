//! The folded operations, and the order in which chunks are combined.
use crate::element::Real;
use crate::simd::{Lanes, Simd};

/// An associative-in-spirit operation with an identity that changes no accumulator: accumulators start from it, so none
/// is ever -0 in a sum.
pub(super) trait Fold: Sync + 'static {
    fn identity<T: Real>() -> T;
    fn scalar<T: Real>(a: T, b: T) -> T;
    /// # Safety
    /// As for every method of [`Simd`].
    unsafe fn vector<S: Simd>(a: S::V, b: S::V) -> S::V;
    /// The virtual lanes folded at distance 8, 4, 2, 1.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    unsafe fn lanes<S: Simd>(v: Lanes<S>) -> S::T {
        // SAFETY: the caller's promise.
        let mut a = unsafe { v.to_array() };
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                a[i] = Self::scalar(a[i], a[i + half]);
            }
        }
        a[0]
    }
}

macro_rules! fold {
    ($($name:ident: $id:ident, |$a:ident, $b:ident| $scalar:expr, $vector:ident $(, $lanes:ident)?;)*) => {$(
        pub(super) struct $name;
        impl Fold for $name {
            #[inline(always)]
            fn identity<T: Real>() -> T {
                T::$id
            }
            #[inline(always)]
            fn scalar<T: Real>($a: T, $b: T) -> T {
                $scalar
            }
            #[inline(always)]
            unsafe fn vector<S: Simd>(a: S::V, b: S::V) -> S::V {
                // SAFETY: the caller's promise.
                unsafe { S::$vector(a, b) }
            }
            $(#[inline(always)]
            unsafe fn lanes<S: Simd>(v: Lanes<S>) -> S::T {
                // SAFETY: the caller's promise.
                unsafe { v.$lanes() }
            })?
        }
    )*};
}
fold! {
    Sum: ZERO, |a, b| a + b, add, reduce_add;
    Prod: ONE, |a, b| a * b, mul;
    Max: NEG_INFINITY, |a, b| a.max_nan(b), max_nan;
    Min: INFINITY, |a, b| a.min_nan(b), min_nan;
}

/// Elements of a chunk.
pub(super) const FOLD_CHUNK: usize = 4096;

/// Combines the values of consecutive chunks pairwise, like the carries of a binary counter: equal-sized neighbours as
/// soon as they exist, and what is left at the end from the latest to the earliest. A run of `2^k` chunks that starts at
/// a multiple of `2^k` is a subtree, so runs can be folded anywhere and pushed as one.
pub(super) struct Tree<T> {
    parts: [T; 64],
    /// Values pushed so far; its one bits are the entries in use.
    count: u64,
}
impl<T: Real> Tree<T> {
    #[inline]
    pub(super) fn new() -> Self {
        Tree {
            parts: [T::ZERO; 64],
            count: 0,
        }
    }
    #[inline]
    pub(super) fn push<O: Fold>(&mut self, mut x: T) {
        let mut level = 0;
        while self.count >> level & 1 == 1 {
            x = O::scalar(self.parts[level], x);
            level += 1;
        }
        self.parts[level] = x;
        self.count += 1;
    }
    /// The result; `last` is an incomplete run after everything that was pushed.
    #[inline]
    pub(super) fn finish<O: Fold>(&self, last: Option<T>) -> T {
        let mut acc = last;
        for level in 0..64 - self.count.leading_zeros() as usize {
            if self.count >> level & 1 == 1 {
                acc = Some(match acc {
                    Some(later) => O::scalar(self.parts[level], later),
                    None => self.parts[level],
                });
            }
        }
        acc.unwrap_or(O::identity())
    }
}

/// A [`Tree`] per column, side by side.
pub(super) struct Trees<T> {
    columns: usize,
    /// `parts[level * columns + column]`
    parts: Vec<T>,
    count: u64,
}
impl<T: Real> Trees<T> {
    /// Allocates nothing before the first push.
    #[inline]
    pub(super) fn new(columns: usize) -> Self {
        Trees {
            columns,
            parts: Vec::new(),
            count: 0,
        }
    }
    /// `xs` is used as room to add in.
    #[inline]
    pub(super) fn push<O: Fold>(&mut self, xs: &mut [T]) {
        let mut level = 0;
        while self.count >> level & 1 == 1 {
            let part = &self.parts[level * self.columns..];
            for (x, p) in xs.iter_mut().zip(part) {
                *x = O::scalar(*p, *x);
            }
            level += 1;
        }
        let at = level * self.columns;
        if self.parts.len() == at {
            self.parts.extend_from_slice(xs);
        } else {
            self.parts[at..at + self.columns].copy_from_slice(xs);
        }
        self.count += 1;
    }
    #[inline]
    pub(super) fn finish<O: Fold>(&self, out: &mut [T]) {
        let mut first = true;
        for (level, part) in self.parts.chunks_exact(self.columns).enumerate() {
            if self.count >> level & 1 == 0 {
                continue;
            }
            if first {
                out.copy_from_slice(part);
                first = false;
            } else {
                for (y, p) in out.iter_mut().zip(part) {
                    *y = O::scalar(*p, *y);
                }
            }
        }
    }
}
