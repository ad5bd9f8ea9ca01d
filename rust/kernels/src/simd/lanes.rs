//! Sixteen virtual lanes: the accumulator that gives every instruction set the same order of additions.
use super::Simd;
use crate::element::Number;

/// Virtual lanes of [`Lanes`]: element `i` of a row belongs to lane `i % 16`.
pub const LANES16: usize = 16;

/// Sixteen lanes in `16 / S::LANES` vectors.
#[derive(Clone, Copy)]
pub struct Lanes<S: Simd> {
    /// Only the first `16 / S::LANES` are used; the others cost nothing once inlined.
    v: [S::V; 4],
}

#[allow(clippy::missing_safety_doc)]
impl<S: Simd> Lanes<S> {
    /// Vectors in use.
    pub const VECTORS: usize = LANES16 / S::LANES;

    /// All lanes `x`.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn splat(x: S::T) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Lanes {
                v: [S::splat(x); 4],
            }
        }
    }
    /// Reads 16 elements.
    /// # Safety
    /// As for every method of [`Simd`]; 16 elements at `p` may be read.
    #[inline(always)]
    pub unsafe fn load(p: *const S::T) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let mut v = [S::zero(); 4];
            for k in 0..Self::VECTORS {
                v[k] = S::load(p.add(k * S::LANES));
            }
            Lanes { v }
        }
    }
    /// Reads the first `n <= 16` elements; the other lanes are `fill`.
    /// # Safety
    /// As for every method of [`Simd`]; n elements at `p` may be read.
    #[inline(always)]
    pub unsafe fn load_n(p: *const S::T, n: usize, fill: S::T) -> Self {
        // SAFETY: the caller's promise; a vector past the end reads nothing, and its address is only computed.
        unsafe {
            let mut v = [S::zero(); 4];
            for k in 0..Self::VECTORS {
                let left = n.saturating_sub(k * S::LANES).min(S::LANES);
                let x = S::load_n(p.wrapping_add(k * S::LANES), left);
                v[k] = S::select(S::mask_first(left), x, S::splat(fill));
            }
            Lanes { v }
        }
    }
    /// Writes 16 elements.
    /// # Safety
    /// As for every method of [`Simd`]; 16 elements at `p` may be written.
    #[inline(always)]
    pub unsafe fn store(self, p: *mut S::T) {
        // SAFETY: the caller's promise.
        unsafe {
            for k in 0..Self::VECTORS {
                S::store(p.add(k * S::LANES), self.v[k]);
            }
        }
    }
    /// Lane by lane `f(self, other)`; `f` must be an `#[inline(always)]` closure or function.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn zip(self, other: Self, f: impl Fn(S::V, S::V) -> S::V) -> Self {
        let mut v = self.v;
        for k in 0..Self::VECTORS {
            v[k] = f(self.v[k], other.v[k]);
        }
        Lanes { v }
    }
    /// Lane by lane `f(self)`; `f` must be an `#[inline(always)]` closure or function.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn map(self, f: impl Fn(S::V) -> S::V) -> Self {
        let mut v = self.v;
        for k in 0..Self::VECTORS {
            v[k] = f(self.v[k]);
        }
        Lanes { v }
    }
    /// Lane by lane sum.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn add(self, other: Self) -> Self {
        let mut v = self.v;
        for k in 0..Self::VECTORS {
            // SAFETY: the caller's promise.
            v[k] = unsafe { S::add(self.v[k], other.v[k]) };
        }
        Lanes { v }
    }
    /// Lane by lane `a * b + self`.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn fma(self, a: Self, b: Self) -> Self {
        let mut v = self.v;
        for k in 0..Self::VECTORS {
            // SAFETY: the caller's promise.
            v[k] = unsafe { S::fma(a.v[k], b.v[k], self.v[k]) };
        }
        Lanes { v }
    }
    /// The sum of all lanes: lane `i` plus lane `i + 8`, then 4, 2, 1.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn reduce_add(mut self) -> S::T {
        // SAFETY: the caller's promise. Folding vectors is folding lanes at a distance of LANES or more.
        unsafe {
            let mut n = Self::VECTORS;
            while n > 1 {
                n /= 2;
                for k in 0..n {
                    self.v[k] = S::add(self.v[k], self.v[k + n]);
                }
            }
            S::reduce_add(self.v[0])
        }
    }
    /// The largest lane; NaN when any is.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn reduce_max(self) -> S::T {
        // SAFETY: the caller's promise.
        unsafe {
            let mut m = self.v[0];
            for k in 1..Self::VECTORS {
                m = S::max_nan(m, self.v[k]);
            }
            S::reduce_max(m)
        }
    }
    /// The smallest lane; NaN when any is.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn reduce_min(self) -> S::T {
        // SAFETY: the caller's promise.
        unsafe {
            let mut m = self.v[0];
            for k in 1..Self::VECTORS {
                m = S::min_nan(m, self.v[k]);
            }
            S::reduce_min(m)
        }
    }
    /// The lanes.
    /// # Safety
    /// As for every method of [`Simd`].
    #[inline(always)]
    pub unsafe fn to_array(self) -> [S::T; LANES16] {
        let mut out = [<S::T as Number>::ZERO; LANES16];
        // SAFETY: 16 elements are written.
        unsafe { self.store(out.as_mut_ptr()) };
        out
    }
}
