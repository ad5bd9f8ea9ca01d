//! Naive twins of [`crate::norm`].
