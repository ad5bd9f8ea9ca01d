//! Naive twins of [`crate::conv`].
