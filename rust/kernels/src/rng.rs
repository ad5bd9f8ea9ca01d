//! Counter-based random numbers: Philox 4x32-10, key = seed, counter = (stream, index / 4).
//! Any slice of a stream is independent of threads and instruction sets: there is no fused multiply-add in here, so
//! even the scalar path gives the same bits.
use crate::element::Real;
use crate::parallel::{Cost, SharedMut, for_each_chunk};
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on};

/// Words that are made at once: 16 Philox blocks, one per lane.
pub(crate) const GROUP: usize = 64;
/// Groups per tile.
const TILE: usize = 256;

/// Words `64 group .. 64 group + 64` of a stream. Sixteen blocks side by side, so that the compiler vectorises the
/// rounds for the instruction set of the shell that this is inlined into.
#[inline(always)]
pub(crate) fn group_words(seed: u64, stream: u64, group: u64) -> [u32; GROUP] {
    const L: usize = GROUP / 4;
    let (mut k0, mut k1) = (seed as u32, (seed >> 32) as u32);
    let first = group * L as u64;
    let mut c0: [u32; L] = core::array::from_fn(|i| (first + i as u64) as u32);
    let mut c1: [u32; L] = core::array::from_fn(|i| ((first + i as u64) >> 32) as u32);
    let mut c2 = [stream as u32; L];
    let mut c3 = [(stream >> 32) as u32; L];
    for _ in 0..10 {
        for i in 0..L {
            let a = u64::from(c0[i]) * 0xd251_1f53;
            let b = u64::from(c2[i]) * 0xcd9e_8d57;
            c0[i] = (b >> 32) as u32 ^ c1[i] ^ k0;
            c1[i] = b as u32;
            c2[i] = (a >> 32) as u32 ^ c3[i] ^ k1;
            c3[i] = a as u32;
        }
        k0 = k0.wrapping_add(0x9e37_79b9);
        k1 = k1.wrapping_add(0xbb67_ae85);
    }
    let mut out = [0; GROUP];
    for i in 0..L {
        out[4 * i] = c0[i];
        out[4 * i + 1] = c1[i];
        out[4 * i + 2] = c2[i];
        out[4 * i + 3] = c3[i];
    }
    out
}

/// Words `2 i` (low) and `2 i + 1` (high) as one.
#[inline(always)]
fn word64(w: &[u32; GROUP], i: usize) -> u64 {
    u64::from(w[2 * i]) | u64::from(w[2 * i + 1]) << 32
}

/// Whether `T` takes one word per number (f32) rather than two (f64).
#[inline(always)]
const fn one_word<T>() -> bool {
    size_of::<T>() == 4
}

/// Numbers of type `T` per group.
const fn per_group<T>() -> usize {
    if one_word::<T>() { GROUP } else { GROUP / 2 }
}

/// Uniform numbers in [0, 1); only the first `per_group::<T>()` are set.
#[inline(always)]
fn units<T: Real>(w: &[u32; GROUP]) -> [T; GROUP] {
    let mut u = [T::ZERO; GROUP];
    if one_word::<T>() {
        for i in 0..GROUP {
            u[i] = T::from_f64(f64::from((w[i] >> 8) as i32) * (1.0 / 16_777_216.0));
        }
    } else {
        for i in 0..GROUP / 2 {
            u[i] = T::from_f64((word64(w, i) >> 11) as f64 * (1.0 / 9_007_199_254_740_992.0));
        }
    }
    u
}

/// Cuts `out`, which starts at a group boundary, into tiles of whole groups and calls `f(first group, offset, part)`.
fn tiles<O: Send>(
    per_group: usize,
    flops: f64,
    out: &mut [O],
    f: impl Fn(u64, usize, &mut [O]) + Sync,
) {
    let len = out.len();
    let cost = Cost {
        flops: len as f64 * flops,
        bytes: size_of_val(out) as f64,
    };
    let out = SharedMut(out.as_mut_ptr());
    for_each_chunk(len, per_group * TILE, cost, &|r| {
        // SAFETY: chunks are disjoint parts of `out`, which we hold exclusively.
        let part = unsafe { out.slice(r.start, r.len()) };
        f((r.start / per_group) as u64, r.start, part);
    });
}

struct Words<'a>(u64, u64, u64, &'a mut [u32]);
impl Kernel<f32> for Words<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = f32>>(self) {
        for (g, out) in self.3.chunks_mut(GROUP).enumerate() {
            let w = group_words(self.0, self.1, self.2 + g as u64);
            out.copy_from_slice(&w[..out.len()]);
        }
    }
}

/// Raw words `index .. index + out.len()` of `stream`.
pub fn words(seed: u64, stream: u64, index: u64, out: &mut [u32]) {
    let isa = simd::isa();
    // Up to the next group boundary.
    let skip = (index % GROUP as u64) as usize;
    let head = if skip == 0 {
        0
    } else {
        (GROUP - skip).min(out.len())
    };
    let (first, rest) = out.split_at_mut(head);
    if head > 0 {
        let w = group_words(seed, stream, index / GROUP as u64);
        first.copy_from_slice(&w[skip..skip + head]);
    }
    let start = index.div_ceil(GROUP as u64);
    tiles(GROUP, 20.0, rest, |g, _, part| {
        dispatch_on(isa, Words(seed, stream, start + g, part));
    });
}

struct Uniform<'a, T>(u64, u64, u64, &'a mut [T]);
impl<T: Real> Kernel<T> for Uniform<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        for (g, out) in self.3.chunks_mut(per_group::<T>()).enumerate() {
            let u = units::<T>(&group_words(self.0, self.1, self.2 + g as u64));
            out.copy_from_slice(&u[..out.len()]);
        }
    }
}

/// Uniform in [0, 1): f32 uses one word (24 bits) per element, f64 two (53 bits).
pub fn uniform<T: Real>(seed: u64, stream: u64, out: &mut [T]) {
    let isa = simd::isa();
    tiles(per_group::<T>(), 20.0, out, |g, _, part| {
        dispatch_on(isa, Uniform(seed, stream, g, part));
    });
}

/// `ln(x)` for positive normal `x`, a few ULP: with `x = m 2^e` and `s = (m - 1) / (m + 1)`,
/// `ln x = e ln 2 + 2 (s + s^3/3 + s^5/5 + ...)`.
#[inline(always)]
unsafe fn ln<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise that S is enabled.
    unsafe {
        let (m, e) = S::split(x);
        let s = S::div(S::sub(m, S::c(1.0)), S::add(m, S::c(1.0)));
        let z = S::mul(s, s);
        // s^2 < 0.0295: the first term left out is below 2e-9 (f32) and 2e-18 (f64).
        let terms = if one_word::<S::T>() { 4 } else { 11 };
        let mut p = S::c(1.0 / f64::from(2 * terms + 1));
        for k in (1..terms).rev() {
            p = S::add(S::mul(p, z), S::c(1.0 / f64::from(2 * k + 1)));
        }
        let two_s = S::add(s, s);
        let series = S::add(two_s, S::mul(S::mul(p, z), two_s));
        // ln 2 in two parts, the first with few bits: e times it is exact.
        let (hi, lo) = if one_word::<S::T>() {
            (0.693_359_375, -2.121_944_400_546_905_8e-4)
        } else {
            (
                f64::from_bits(0x3fe6_2e42_fee0_0000),
                1.908_214_929_270_587_7e-10,
            )
        };
        let small = S::add(series, S::mul(e, S::c(lo)));
        S::add(S::mul(e, S::c(hi)), small)
    }
}

/// `(cos, sin)` of `2 pi u` for `u` in [0, 1]: the quadrant is cut off exactly, the rest is a Taylor polynomial.
#[inline(always)]
unsafe fn cos_sin<S: Simd>(u: S::V) -> (S::V, S::V) {
    // SAFETY: the caller's promise that S is enabled.
    unsafe {
        let quarters = S::mul(u, S::c(4.0));
        let q = S::round_even(quarters);
        let t = S::mul(S::sub(quarters, q), S::c(core::f64::consts::FRAC_PI_2));
        let z = S::mul(t, t);
        // |t| <= pi/4: the first terms left out are below 2e-9 (f32) and 1e-18 (f64).
        let n = if one_word::<S::T>() { 5 } else { 9 };
        let (mut c, mut s) = (S::c(1.0), S::c(1.0));
        for k in (1..=n).rev() {
            let k = f64::from(k);
            c = S::sub(
                S::c(1.0),
                S::mul(S::mul(c, z), S::c(1.0 / ((2.0 * k - 1.0) * (2.0 * k)))),
            );
            s = S::sub(
                S::c(1.0),
                S::mul(S::mul(s, z), S::c(1.0 / ((2.0 * k) * (2.0 * k + 1.0)))),
            );
        }
        let s = S::mul(s, t);
        // q is 0, 1, 2, 3 or 4 quarter turns.
        let (one, two, three) = (
            S::eq(q, S::c(1.0)),
            S::eq(q, S::c(2.0)),
            S::eq(q, S::c(3.0)),
        );
        let swap = S::mask_or(one, three);
        let (a, b) = (S::select(swap, s, c), S::select(swap, c, s));
        (
            S::select(S::mask_or(one, two), S::neg(a), a),
            S::select(S::mask_or(two, three), S::neg(b), b),
        )
    }
}

struct Normal<'a, T>(u64, u64, u64, &'a mut [T]);
impl<T: Real> Kernel<T> for Normal<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let ulp = if one_word::<T>() {
            1.0 / 16_777_216.0
        } else {
            1.0 / 9_007_199_254_740_992.0
        };
        for (g, out) in self.3.chunks_mut(per_group::<T>()).enumerate() {
            let mut u = units::<T>(&group_words(self.0, self.1, self.2 + g as u64));
            // SAFETY: run by dispatch; LANES divides 16, so each step stays inside `u`.
            unsafe {
                for i in (0..per_group::<T>()).step_by(2 * S::LANES) {
                    let p = u.as_mut_ptr().add(i);
                    let (u1, u2) = S::deinterleave(S::load(p), S::load(p.add(S::LANES)));
                    // [0, 1) -> (0, 1]
                    let log = ln::<S>(S::add(u1, S::c(ulp)));
                    let r = S::sqrt(S::mul(S::c(-2.0), log));
                    let (cos, sin) = cos_sin::<S>(u2);
                    let (a, b) = S::interleave(S::mul(r, cos), S::mul(r, sin));
                    S::store(p, a);
                    S::store(p.add(S::LANES), b);
                }
            }
            out.copy_from_slice(&u[..out.len()]);
        }
    }
}

/// Standard normal by Box-Muller: elements `2 k` and `2 k + 1` are `r cos(2 pi v)` and `r sin(2 pi v)` with
/// `r = sqrt(-2 ln u)`, from uniform numbers `u = 1 - ` a multiple of the step and `v`.
pub fn normal<T: Real>(seed: u64, stream: u64, out: &mut [T]) {
    let isa = simd::isa();
    tiles(per_group::<T>(), 60.0, out, |g, _, part| {
        dispatch_on(isa, Normal(seed, stream, g, part));
    });
}

/// Integers uniform in `[lo, hi)` without modulo bias worth naming (64-bit multiply-shift).
pub fn integers(seed: u64, stream: u64, lo: i64, hi: i64, out: &mut [i64]) {
    let range = hi.wrapping_sub(lo) as u64;
    tiles(GROUP / 2, 40.0, out, |g, _, part| {
        for (k, out) in part.chunks_mut(GROUP / 2).enumerate() {
            let w = group_words(seed, stream, g + k as u64);
            for (i, v) in out.iter_mut().enumerate() {
                let scaled = (u128::from(word64(&w, i)) * u128::from(range)) >> 64;
                *v = lo.wrapping_add(scaled as i64);
            }
        }
    });
}

struct Dropout<'a, T> {
    key: (u64, u64, u64),
    keep_from: u64,
    scale: T,
    x: &'a [T],
    y: &'a mut [T],
}
impl<T: Real> Kernel<T> for Dropout<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let (seed, stream, first) = self.key;
        let Ok(keep_from) = u32::try_from(self.keep_from) else {
            self.y.fill(T::ZERO); // p = 1
            return;
        };
        for (g, (x, y)) in self
            .x
            .chunks(GROUP)
            .zip(self.y.chunks_mut(GROUP))
            .enumerate()
        {
            let w = group_words(seed, stream, first + g as u64);
            for ((x, y), w) in x.iter().zip(y).zip(&w) {
                // A choice, not a product: what is dropped may be infinite.
                let scaled = *x * self.scale;
                *y = if *w >= keep_from { scaled } else { T::ZERO };
            }
        }
    }
}

/// Inverted dropout: `y[i] = x[i] / (1 - p)` where word i of the stream keeps it, else 0. Called again with the same
/// (seed, stream) on the gradient it is its own backward: no mask is stored.
pub fn dropout<T: Real>(p: f64, seed: u64, stream: u64, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len());
    let isa: Isa = simd::isa();
    let keep_from = (p * 4_294_967_296.0).ceil() as u64;
    let scale = T::from_f64(1.0 / (1.0 - p));
    tiles(GROUP, 25.0, y, |g, start, y| {
        let x = &x[start..start + y.len()];
        dispatch_on(
            isa,
            Dropout {
                key: (seed, stream, g),
                keep_from,
                scale,
                x,
                y,
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::with_forced_threads;
    use crate::reference;
    use crate::simd::{available, with_isa};
    use proptest::prelude::*;

    const SIZES: [usize; 20] = [
        0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 20_000,
    ];

    #[test]
    fn known_answers() {
        // Random123's kat_vectors (the twin, which is compared below, is checked against more of them).
        let mut w = [0; 4];
        words(0, 0, 0, &mut w);
        assert_eq!(w, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    }

    fn check<T: Real>(seed: u64, stream: u64, n: usize) {
        let draw = |f: fn(u64, u64, &mut [T])| {
            let mut v = vec![T::ZERO; n];
            f(seed, stream, &mut v);
            v
        };
        assert_eq!(draw(uniform), draw(reference::rng::uniform));
        // Relative to the radius, where a sine or cosine near 0 has lost digits of the argument: absolute.
        let tolerance = 16.0 * T::EPSILON.to_f64();
        for (a, b) in draw(normal).iter().zip(draw(reference::rng::normal)) {
            let (a, b) = (a.to_f64(), b.to_f64());
            assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} {b}");
        }
        let x: Vec<T> = (0..n).map(|i| T::from_f64(i as f64 - 7.5)).collect();
        for p in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let (mut y, mut z) = (vec![T::ONE; n], vec![T::ONE; n]);
            dropout(p, seed, stream, &x, &mut y);
            reference::rng::dropout(p, seed, stream, &x, &mut z);
            for (a, b) in y.iter().zip(z) {
                let (a, b) = (a.to_f64(), b.to_f64());
                assert!(
                    (a - b).abs() <= 2.0 * T::EPSILON.to_f64() * b.abs(),
                    "{a} {b}"
                );
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn agrees_with_its_twin(seed: u64, stream: u64, index in 0u64..1 << 40, size in 0..19usize, lo: i64, hi: i64) {
            let n = SIZES[size];
            for isa in available() {
                with_isa(isa, || {
                    check::<f32>(seed, stream, n);
                    check::<f64>(seed, stream, n);
                    let (mut a, mut b) = (vec![0; n], vec![0; n]);
                    words(seed, stream, index, &mut a);
                    reference::rng::words(seed, stream, index, &mut b);
                    assert_eq!(a, b);
                    let (lo, hi) = (lo.min(hi), lo.max(hi));
                    let (mut a, mut b) = (vec![0; n], vec![0; n]);
                    integers(seed, stream, lo, hi, &mut a);
                    reference::rng::integers(seed, stream, lo, hi, &mut b);
                    assert!(a == b && a.iter().all(|v| lo <= *v && (*v < hi || lo == hi)));
                });
            }
        }
    }

    #[test]
    fn same_bits_on_every_path_and_for_any_split() {
        fn all<T: Real>(n: usize) -> Vec<T> {
            let mut v = vec![T::ZERO; 3 * n];
            let (a, b) = v.split_at_mut(n);
            let (b, c) = b.split_at_mut(n);
            normal(1, 2, a);
            uniform(3, 4, b);
            dropout(0.3, 5, 6, a, c);
            v
        }
        let n = 70_001;
        let (one, two) = with_isa(Isa::Scalar, || (all::<f32>(n), all::<f64>(n)));
        for isa in available() {
            for threads in [1, 2, 3, 8] {
                with_forced_threads(threads, || {
                    with_isa(isa, || {
                        assert!(all::<f32>(n) == one);
                        assert!(all::<f64>(n) == two);
                    });
                });
            }
        }
        // A shorter call draws the same beginning.
        assert!(all::<f32>(1000)[..1000] == one[..1000]);
        let mut whole = vec![0; 1000];
        words(9, 9, 5, &mut whole);
        let mut parts = vec![0; 1000];
        words(9, 9, 5, &mut parts[..77]);
        words(9, 9, 82, &mut parts[77..]);
        assert_eq!(whole, parts);
    }

    #[test]
    fn moments_are_right() {
        let n = 1 << 20;
        let mut z = vec![0f32; n];
        normal(7, 0, &mut z);
        let moment = |k: i32| z.iter().map(|v| f64::from(*v).powi(k)).sum::<f64>() / n as f64;
        // Five standard errors: sqrt(1/n), sqrt(2/n), sqrt(15/n), sqrt(96/n).
        let s = 5.0 / (n as f64).sqrt();
        assert!(moment(1).abs() < s);
        assert!((moment(2) - 1.0).abs() < s * 2f64.sqrt());
        assert!(moment(3).abs() < s * 15f64.sqrt());
        assert!((moment(4) - 3.0).abs() < s * 96f64.sqrt());
        let mut u = vec![0f64; n];
        uniform(7, 1, &mut u);
        assert!(u.iter().all(|v| (0.0..1.0).contains(v)));
        assert!((u.iter().sum::<f64>() / n as f64 - 0.5).abs() < s / 12f64.sqrt());
        let mut y = vec![0f32; n];
        dropout(0.25, 7, 2, &vec![1.0; n], &mut y);
        let kept = y.iter().filter(|v| **v != 0.0).count() as f64 / n as f64;
        assert!((kept - 0.75).abs() < s);
    }

    #[test]
    fn dropping_drops_infinities_too() {
        let x = [f32::INFINITY, f32::NAN, 1.0, -2.0];
        let mut y = [5.0; 4];
        dropout(1.0, 1, 1, &x, &mut y);
        assert_eq!(y, [0.0; 4]);
        dropout(0.0, 1, 1, &x, &mut y);
        assert!(y[0] == f32::INFINITY && y[1].is_nan() && y[2] == 1.0 && y[3] == -2.0);
    }
}
