//! Naive twins of [`crate::pool`].
