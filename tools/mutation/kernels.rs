//! Which mutant is alive (none: `usize::MAX`), and which were met.
#![allow(missing_docs, clippy::all, unused)]
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
static ALIVE: AtomicUsize = AtomicUsize::new(usize::MAX);
static MET: [AtomicBool; 4096] = [const { AtomicBool::new(false) }; 4096];
#[inline(always)]
pub fn alive(n: usize) -> bool {
    MET[n].store(true, Relaxed);
    ALIVE.load(Relaxed) == n
}
#[unsafe(no_mangle)]
pub extern "C" fn corten_mutant_set(n: usize) {
    ALIVE.store(n, Relaxed)
}
#[unsafe(no_mangle)]
pub extern "C" fn corten_mutant_met(n: usize) -> bool {
    MET[n].swap(false, Relaxed)
}
use crate::element::Real;
use crate::simd::Simd;
pub fn scalar<T: Real, const N: usize>(x: T) -> T {
    if alive(N) { -x } else { x }
}
#[inline(always)]
pub unsafe fn add<S: Simd, const N: usize>(a: S::V, b: S::V) -> S::V {
    unsafe { if alive(N) { S::sub(a, b) } else { S::add(a, b) } }
}
#[inline(always)]
pub unsafe fn sub<S: Simd, const N: usize>(a: S::V, b: S::V) -> S::V {
    unsafe { if alive(N) { S::add(a, b) } else { S::sub(a, b) } }
}
#[inline(always)]
pub unsafe fn mul<S: Simd, const N: usize>(a: S::V, b: S::V) -> S::V {
    unsafe {
        if alive(N) {
            S::sub(S::zero(), S::mul(a, b))
        } else {
            S::mul(a, b)
        }
    }
}
#[inline(always)]
pub unsafe fn fma<S: Simd, const N: usize>(a: S::V, b: S::V, c: S::V) -> S::V {
    unsafe {
        if alive(N) {
            S::fnma(a, b, c)
        } else {
            S::fma(a, b, c)
        }
    }
}
#[inline(always)]
pub unsafe fn fnma<S: Simd, const N: usize>(a: S::V, b: S::V, c: S::V) -> S::V {
    unsafe {
        if alive(N) {
            S::fma(a, b, c)
        } else {
            S::fnma(a, b, c)
        }
    }
}
