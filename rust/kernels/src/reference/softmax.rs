//! Naive twins of [`crate::softmax`].
