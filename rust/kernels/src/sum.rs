//! The fixed order of additions: element `i` of a row belongs to lane `i % 16` of an accumulator, whatever the vector
//! width; chunks of 4096 elements are folded lane by lane and combined pairwise. So a sum is a function of its
//! length and its terms, not of the instruction set or the threads, and its error grows with log n.
use crate::element::Real;
use crate::simd::{LANES16, Simd};

/// Elements per accumulator run.
pub(crate) const CHUNK: usize = 4096;

/// Elements of a row between two looks for Ctrl-C; a multiple of 16.
pub(crate) const LONG: usize = 64 << 10;

/// Runs `$body` for every vector of a row of `$len`: `$i` is its first element, `$n` how many it has, `$k` which of
/// the accumulator's vectors it belongs to. The body is a loop body, not a closure: closures that are not inlined
/// lose the instruction set. An abandoned call (Ctrl-C) leaves out the rest.
macro_rules! each_vector {
    ($S:ident, $len:expr, |$i:ident, $n:ident, $k:ident| $body:block) => {{
        let len: usize = $len;
        let vectors = $crate::simd::LANES16 / $S::LANES;
        let mut at = 0;
        loop {
            let stop = if len - at <= $crate::sum::LONG {
                len
            } else {
                at + $crate::sum::LONG
            };
            while at + $crate::simd::LANES16 <= stop {
                for $k in 0..vectors {
                    let ($i, $n) = (at + $k * $S::LANES, $S::LANES);
                    $body
                }
                at += $crate::simd::LANES16;
            }
            if stop == len {
                break;
            }
            if $crate::parallel::abandoned($crate::sum::LONG as f64) {
                at = len;
                break;
            }
        }
        for $k in 0..vectors {
            let $i = at + $k * $S::LANES;
            if $i < len {
                let $n = (len - $i).min($S::LANES);
                $body
            }
        }
    }};
}
pub(crate) use each_vector;

/// Reads `n` elements; lanes beyond are 0.
/// # Safety
/// S is enabled and n elements at p may be read.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(p: *const S::T, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if n == S::LANES {
            S::load(p)
        } else {
            S::load_n(p, n)
        }
    }
}

/// Writes `n` elements.
/// # Safety
/// S is enabled and n elements at p may be written.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(p: *mut S::T, v: S::V, n: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if n == S::LANES {
            S::store(p, v);
        } else {
            S::store_n(p, v, n);
        }
    }
}

/// [`store`], `past` the caches where the vector is a full one; then its address is a multiple of its size.
/// # Safety
/// As for [`store`].
#[inline(always)]
pub(crate) unsafe fn put<S: Simd>(past: bool, p: *mut S::T, v: S::V, n: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if n == S::LANES {
            S::put(past, p, v);
        } else {
            S::store_n(p, v, n);
        }
    }
}

/// Adds `v` to `acc`; lanes from `n` up stay as they are.
/// # Safety
/// S is enabled.
#[inline(always)]
pub(crate) unsafe fn add_first<S: Simd>(acc: S::V, v: S::V, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = S::add(acc, v);
        if n == S::LANES {
            sum
        } else {
            S::select(S::mask_first(n), sum, acc)
        }
    }
}

/// Lane `i` plus lane `i + 8`, then 4, 2, 1.
/// # Safety
/// S is enabled.
#[inline(always)]
pub(crate) unsafe fn fold<S: Simd>(mut acc: [S::V; 4]) -> S::T {
    // SAFETY: the caller's promise.
    unsafe {
        let mut vectors = LANES16 / S::LANES;
        while vectors > 1 {
            vectors /= 2;
            for k in 0..vectors {
                acc[k] = S::add(acc[k], acc[k + vectors]);
            }
        }
        S::reduce_add(acc[0])
    }
}

/// Pairwise sum of any number of terms, in a fixed tree.
pub(crate) struct Pairwise<T> {
    /// Sums of `2^k` terms for each bit `k` of `count`, largest first.
    stack: [T; 64],
    depth: usize,
    count: usize,
}

impl<T: Real> Pairwise<T> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Pairwise {
            stack: [T::ZERO; 64],
            depth: 0,
            count: 0,
        }
    }
    #[inline(always)]
    pub(crate) fn push(&mut self, mut x: T) {
        for _ in 0..self.count.trailing_ones() {
            self.depth -= 1;
            x = self.stack[self.depth] + x;
        }
        self.stack[self.depth] = x;
        self.depth += 1;
        self.count += 1;
    }
    #[inline(always)]
    pub(crate) fn total(&self) -> T {
        let terms = &self.stack[..self.depth];
        match terms.split_last() {
            None => T::ZERO,
            Some((last, rest)) => rest.iter().rfold(*last, |sum, x| *x + sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairwise_adds_all_in_a_tree() {
        for n in 0..70u32 {
            let mut p = Pairwise::<f64>::new();
            (1..=n).for_each(|i| p.push(f64::from(i)));
            assert_eq!(p.total(), f64::from(n * (n + 1) / 2));
        }
        // Term by term, a million tenths in f32 are off by 1 %; pairwise they are right to six digits.
        let mut p = Pairwise::<f32>::new();
        (0..1_000_000).for_each(|_| p.push(0.1));
        assert!((p.total() - 100_000.0).abs() < 0.05);
    }
}
