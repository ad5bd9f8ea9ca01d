//! Naive twins of [`crate::optim`].
