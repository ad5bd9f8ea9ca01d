//! Naive twins of [`crate::loss`].
