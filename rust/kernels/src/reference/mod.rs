//! The naive twin of every kernel, same names and signatures: plain loops that anyone can read; oracle of the tests.
//!
//! Real sums are accumulated in f64, so that a fast kernel is compared with something better than itself.

pub mod attention;
pub mod conv;
pub mod elementwise;
pub mod gemm;
pub mod half;
pub mod index;
pub mod loss;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod reduce;
pub mod rng;
pub mod rnn;
pub mod scan;
pub mod softmax;
pub mod sort;
