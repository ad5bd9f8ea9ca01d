//! CPU kernels of corten: slices in, slices out; no tensor, no graph, no Python.
//!
//! Every public kernel has a naive twin of the same name and signature in [`reference`]: plain loops that
//! anyone can read, and the oracle of the tests.

pub mod alloc;
pub mod attention;
pub mod conv;
pub mod element;
pub mod elementwise;
pub mod gemm;
pub mod half;
pub mod index;
mod layout;
pub mod loss;
pub mod norm;
pub mod optim;
pub mod parallel;
pub mod pool;
pub mod reduce;
pub mod reference;
pub mod rng;
pub mod rnn;
pub mod scan;
pub mod simd;
pub mod softmax;
pub mod sort;
mod stream;
mod sum;

pub use element::{Number, Real, Strided};
