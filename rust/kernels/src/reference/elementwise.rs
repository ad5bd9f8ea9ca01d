//! Naive twins of [`crate::elementwise`].
