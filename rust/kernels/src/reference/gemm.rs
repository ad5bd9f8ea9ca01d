//! Naive twins of [`crate::gemm`].
