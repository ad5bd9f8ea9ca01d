//! Counter-based random numbers: Philox 4x32-10, key = seed, counter = (stream, index / 4).
//! Any slice of a stream is independent of threads and instruction sets.
use crate::element::Real;

/// Raw words `index .. index + out.len()` of `stream`.
pub fn words(seed: u64, stream: u64, index: u64, out: &mut [u32]) {
    unimplemented!()
}
/// Uniform in [0, 1): f32 uses one word (24 bits) per element, f64 two (53 bits).
pub fn uniform<T: Real>(seed: u64, stream: u64, out: &mut [T]) {
    unimplemented!()
}
/// Standard normal by Box-Muller.
pub fn normal<T: Real>(seed: u64, stream: u64, out: &mut [T]) {
    unimplemented!()
}
/// Integers uniform in `[lo, hi)` without modulo bias worth naming (64-bit multiply-shift).
pub fn integers(seed: u64, stream: u64, lo: i64, hi: i64, out: &mut [i64]) {
    unimplemented!()
}
/// Inverted dropout: `y[i] = x[i] / (1 - p)` where word i of the stream keeps it, else 0. Called again with the same
/// (seed, stream) on the gradient it is its own backward: no mask is stored.
pub fn dropout<T: Real>(p: f64, seed: u64, stream: u64, x: &[T], y: &mut [T]) {
    unimplemented!()
}
