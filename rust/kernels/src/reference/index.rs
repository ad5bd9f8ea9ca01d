//! Naive twins of [`crate::index`].
