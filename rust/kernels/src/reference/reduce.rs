//! Naive twins of [`crate::reduce`].
