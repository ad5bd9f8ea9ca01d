//! Naive twins of [`crate::rng`].
