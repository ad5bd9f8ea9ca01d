//! AVX2 with FMA: 8 `f32` or 4 `f64`; a mask is a vector of all-ones or all-zeros lanes.
use super::{Isa, Simd};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// AVX2 + FMA vectors.
#[derive(Clone, Copy)]
pub struct Avx2<T>(PhantomData<T>);

macro_rules! ops {
    ($($name:ident($($a:ident),*) -> $r:ty = $e:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($a: Self::V),*) -> $r {
            // SAFETY: the caller's promise that the CPU has AVX2 and FMA.
            unsafe { $e }
        }
    )*};
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
const UP: i32 = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
const ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

/// A window that starts `8 - n` entries in has its first n lanes on.
static WINDOW32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
static WINDOW64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

#[inline(always)]
unsafe fn window32(n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: 8 - n .. 16 - n lies inside the 16 entries.
    unsafe { _mm256_loadu_si256(WINDOW32.as_ptr().add(8 - n).cast()) }
}
#[inline(always)]
unsafe fn window64(n: usize) -> __m256i {
    debug_assert!(n <= 4);
    // SAFETY: 4 - n .. 8 - n lies inside the 8 entries.
    unsafe { _mm256_loadu_si256(WINDOW64.as_ptr().add(4 - n).cast()) }
}

impl Simd for Avx2<f32> {
    type T = f32;
    type V = __m256;
    type M = __m256;
    const LANES: usize = 8;
    const ISA: Isa = Isa::Avx2;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: __m256) {
        // SAFETY: the caller's promise: LANES elements at p, aligned.
        unsafe { _mm256_stream_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 CPU has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: __m256) -> __m256 {
        // SAFETY: a masked load touches only the lanes of the mask.
        unsafe { _mm256_maskload_ps(p, _mm256_castps_si256(m)) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> __m256 {
        // SAFETY: a masked load touches only the first n elements.
        unsafe { _mm256_maskload_ps(p, window32(n)) }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: __m256, n: usize) {
        // Not a masked store: that is dozens of micro-operations on AMD's first three Zens.
        // SAFETY: the stores touch the first n elements, and no other.
        unsafe {
            if n >= 8 {
                return _mm256_storeu_ps(p, v);
            }
            let (mut p, mut v4) = (p, _mm256_castps256_ps128(v));
            if n & 4 != 0 {
                _mm_storeu_ps(p, v4);
                (p, v4) = (p.add(4), _mm256_extractf128_ps::<1>(v));
            }
            if n & 2 != 0 {
                _mm_storel_pd(p.cast(), _mm_castps_pd(v4));
                (p, v4) = (p.add(2), _mm_movehl_ps(v4, v4));
            }
            if n & 1 != 0 {
                _mm_store_ss(p, v4);
            }
        }
    }
    #[inline(always)]
    unsafe fn mask_first(n: usize) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_castsi256_ps(window32(n)) }
    }
    ops! {
        zero() -> __m256 = _mm256_setzero_ps();
        iota() -> __m256 = _mm256_setr_ps(0., 1., 2., 3., 4., 5., 6., 7.);
        add(a, b) -> __m256 = _mm256_add_ps(a, b);
        sub(a, b) -> __m256 = _mm256_sub_ps(a, b);
        mul(a, b) -> __m256 = _mm256_mul_ps(a, b);
        div(a, b) -> __m256 = _mm256_div_ps(a, b);
        fma(a, b, c) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fms(a, b, c) -> __m256 = _mm256_fmsub_ps(a, b, c);
        fnma(a, b, c) -> __m256 = _mm256_fnmadd_ps(a, b, c);
        max(a, b) -> __m256 = _mm256_max_ps(a, b);
        min(a, b) -> __m256 = _mm256_min_ps(a, b);
        sqrt(a) -> __m256 = _mm256_sqrt_ps(a);
        abs(a) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        neg(a) -> __m256 = _mm256_xor_ps(a, _mm256_set1_ps(-0.0));
        copysign(a, b) -> __m256 = {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b))
        };
        floor(a) -> __m256 = _mm256_round_ps::<DOWN>(a);
        ceil(a) -> __m256 = _mm256_round_ps::<UP>(a);
        trunc(a) -> __m256 = _mm256_round_ps::<ZERO>(a);
        round_even(a) -> __m256 = _mm256_round_ps::<NEAREST>(a);
        eq(a, b) -> __m256 = _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b);
        ne(a, b) -> __m256 = _mm256_cmp_ps::<_CMP_NEQ_UQ>(a, b);
        lt(a, b) -> __m256 = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        le(a, b) -> __m256 = _mm256_cmp_ps::<_CMP_LE_OQ>(a, b);
        mask_and(a, b) -> __m256 = _mm256_and_ps(a, b);
        mask_or(a, b) -> __m256 = _mm256_or_ps(a, b);
        mask_not(a) -> __m256 = _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1)));
        mask_bits(a) -> u32 = _mm256_movemask_ps(a) as u32;
        select(m, a, b) -> __m256 = _mm256_blendv_ps(b, a, m);
        scale(x, n) -> __m256 = {
            // Half of n goes to the exponent, where the result is normal; only the product with the other half can round.
            // A NaN in n becomes -2^31: nothing is added, and the factor is 1.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_add_epi32(_mm256_sub_epi32(n, half), _mm256_set1_epi32(127));
            let x = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32::<23>(half));
            _mm256_mul_ps(_mm256_castsi256_ps(x), _mm256_castsi256_ps(_mm256_slli_epi32::<23>(rest)))
        };
        pow2(n) -> __m256 = {
            let e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(e))
        };
        pow2_of_sum(t) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(t)));
        split(x) -> (__m256, __m256) = {
            let half = _mm256_set1_epi32(0x3f35_04f3);
            let bits = _mm256_sub_epi32(_mm256_castps_si256(x), half);
            let e = _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(bits));
            let m = _mm256_add_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x007f_ffff)), half);
            (_mm256_castsi256_ps(m), e)
        };
        deinterleave(a, b) -> (__m256, __m256) = {
            // [a0 a1 a2 a3 b0 b1 b2 b3], [a4 .. a7 b4 .. b7]: one shuffle within halves leaves both sorted.
            let lo = _mm256_permute2f128_ps::<0x20>(a, b);
            let hi = _mm256_permute2f128_ps::<0x31>(a, b);
            (_mm256_shuffle_ps::<0b10_00_10_00>(lo, hi), _mm256_shuffle_ps::<0b11_01_11_01>(lo, hi))
        };
        interleave(a, b) -> (__m256, __m256) = {
            let lo = _mm256_unpacklo_ps(a, b);
            let hi = _mm256_unpackhi_ps(a, b);
            (_mm256_permute2f128_ps::<0x20>(lo, hi), _mm256_permute2f128_ps::<0x31>(lo, hi))
        };
        reduce_add(a) -> f32 = {
            let x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        };
        reduce_max(a) -> f32 = {
            if Self::any(Self::is_nan(a)) {
                return f32::NAN;
            }
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        };
        reduce_min(a) -> f32 = {
            if Self::any(Self::is_nan(a)) {
                return f32::NAN;
            }
            let a = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_min_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_min_ss(a, _mm_shuffle_ps::<1>(a, a)))
        };
    }
    #[inline(always)]
    unsafe fn load_transposed(rows: &[*const f32; 16]) -> [__m256; 16] {
        // Rows i and i + 4 share a vector from the start: moving halves afterwards is slow where they are units of their own.
        // SAFETY: the caller's promise: 8 rows of 8 elements.
        unsafe {
            let mut out = [_mm256_setzero_ps(); 16];
            for half in 0..2 {
                let load = |i: usize| {
                    let low = _mm256_castps128_ps256(_mm_loadu_ps(rows[i].add(4 * half)));
                    _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(rows[i + 4].add(4 * half)))
                };
                let (a, b, c, d) = (load(0), load(1), load(2), load(3));
                let (ab0, ab1) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd0, cd1) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                out[4 * half] = _mm256_shuffle_ps::<0b01_00_01_00>(ab0, cd0);
                out[4 * half + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab0, cd0);
                out[4 * half + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab1, cd1);
                out[4 * half + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab1, cd1);
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn mask_from_bits(bits: u32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let has = _mm256_and_si256(_mm256_set1_epi32(bits as i32), bit);
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(has, bit))
        }
    }
}

impl Simd for Avx2<f64> {
    type T = f64;
    type V = __m256d;
    type M = __m256d;
    const LANES: usize = 4;
    const ISA: Isa = Isa::Avx2;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f64) -> __m256d {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_pd(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> __m256d {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm256_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f64, v: __m256d) {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm256_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f64, v: __m256d) {
        // SAFETY: the caller's promise: LANES elements at p, aligned.
        unsafe { _mm256_stream_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 CPU has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f64, m: __m256d) -> __m256d {
        // SAFETY: a masked load touches only the lanes of the mask.
        unsafe { _mm256_maskload_pd(p, _mm256_castpd_si256(m)) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f64, n: usize) -> __m256d {
        // SAFETY: a masked load touches only the first n elements.
        unsafe { _mm256_maskload_pd(p, window64(n)) }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f64, v: __m256d, n: usize) {
        // As for f32.
        // SAFETY: the stores touch the first n elements, and no other.
        unsafe {
            if n >= 4 {
                return _mm256_storeu_pd(p, v);
            }
            let (mut p, mut v2) = (p, _mm256_castpd256_pd128(v));
            if n & 2 != 0 {
                _mm_storeu_pd(p, v2);
                (p, v2) = (p.add(2), _mm256_extractf128_pd::<1>(v));
            }
            if n & 1 != 0 {
                _mm_store_sd(p, v2);
            }
        }
    }
    #[inline(always)]
    unsafe fn mask_first(n: usize) -> __m256d {
        // SAFETY: the caller's promise.
        unsafe { _mm256_castsi256_pd(window64(n)) }
    }
    ops! {
        zero() -> __m256d = _mm256_setzero_pd();
        iota() -> __m256d = _mm256_setr_pd(0., 1., 2., 3.);
        add(a, b) -> __m256d = _mm256_add_pd(a, b);
        sub(a, b) -> __m256d = _mm256_sub_pd(a, b);
        mul(a, b) -> __m256d = _mm256_mul_pd(a, b);
        div(a, b) -> __m256d = _mm256_div_pd(a, b);
        fma(a, b, c) -> __m256d = _mm256_fmadd_pd(a, b, c);
        fms(a, b, c) -> __m256d = _mm256_fmsub_pd(a, b, c);
        fnma(a, b, c) -> __m256d = _mm256_fnmadd_pd(a, b, c);
        max(a, b) -> __m256d = _mm256_max_pd(a, b);
        min(a, b) -> __m256d = _mm256_min_pd(a, b);
        sqrt(a) -> __m256d = _mm256_sqrt_pd(a);
        abs(a) -> __m256d = _mm256_andnot_pd(_mm256_set1_pd(-0.0), a);
        neg(a) -> __m256d = _mm256_xor_pd(a, _mm256_set1_pd(-0.0));
        copysign(a, b) -> __m256d = {
            let sign = _mm256_set1_pd(-0.0);
            _mm256_or_pd(_mm256_andnot_pd(sign, a), _mm256_and_pd(sign, b))
        };
        floor(a) -> __m256d = _mm256_round_pd::<DOWN>(a);
        ceil(a) -> __m256d = _mm256_round_pd::<UP>(a);
        trunc(a) -> __m256d = _mm256_round_pd::<ZERO>(a);
        round_even(a) -> __m256d = _mm256_round_pd::<NEAREST>(a);
        eq(a, b) -> __m256d = _mm256_cmp_pd::<_CMP_EQ_OQ>(a, b);
        ne(a, b) -> __m256d = _mm256_cmp_pd::<_CMP_NEQ_UQ>(a, b);
        lt(a, b) -> __m256d = _mm256_cmp_pd::<_CMP_LT_OQ>(a, b);
        le(a, b) -> __m256d = _mm256_cmp_pd::<_CMP_LE_OQ>(a, b);
        mask_and(a, b) -> __m256d = _mm256_and_pd(a, b);
        mask_or(a, b) -> __m256d = _mm256_or_pd(a, b);
        mask_not(a) -> __m256d = _mm256_xor_pd(a, _mm256_castsi256_pd(_mm256_set1_epi32(-1)));
        mask_bits(a) -> u32 = _mm256_movemask_pd(a) as u32;
        select(m, a, b) -> __m256d = _mm256_blendv_pd(b, a, m);
        scale(x, n) -> __m256d = {
            // As for f32. Shifted by 52 bits, a NaN's halves are 0 here too.
            let n = _mm256_cvtpd_epi32(n);
            let half = _mm_srai_epi32::<1>(n);
            let rest = _mm256_cvtepi32_epi64(_mm_add_epi32(_mm_sub_epi32(n, half), _mm_set1_epi32(1023)));
            let half = _mm256_slli_epi64::<52>(_mm256_cvtepi32_epi64(half));
            let x = _mm256_add_epi64(_mm256_castpd_si256(x), half);
            _mm256_mul_pd(_mm256_castsi256_pd(x), _mm256_castsi256_pd(_mm256_slli_epi64::<52>(rest)))
        };
        pow2(n) -> __m256d = {
            let e = _mm_add_epi32(_mm256_cvtpd_epi32(n), _mm_set1_epi32(1023));
            _mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_cvtepi32_epi64(e)))
        };
        pow2_of_sum(t) -> __m256d = _mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_castpd_si256(t)));
        split(x) -> (__m256d, __m256d) = {
            // No arithmetic 64-bit shift and no i64 -> f64 here: bias the exponent so that a logical shift does, and
            // read it as the low bits of 2^52.
            let half = _mm256_set1_epi64x(0x3fe6_a09e_667f_3bcd);
            let bits = _mm256_sub_epi64(_mm256_castpd_si256(x), half);
            let biased = _mm256_add_epi64(bits, _mm256_set1_epi64x(0x3ff0_0000_0000_0000));
            let e = _mm256_or_si256(_mm256_srli_epi64::<52>(biased), _mm256_set1_epi64x(0x4330_0000_0000_0000));
            let e = _mm256_sub_pd(_mm256_castsi256_pd(e), _mm256_set1_pd(4_503_599_627_370_496.0 + 1023.0));
            let low = _mm256_set1_epi64x(0x000f_ffff_ffff_ffff);
            let m = _mm256_add_epi64(_mm256_and_si256(bits, low), half);
            (_mm256_castsi256_pd(m), e)
        };
        deinterleave(a, b) -> (__m256d, __m256d) = {
            let lo = _mm256_permute2f128_pd::<0x20>(a, b);
            let hi = _mm256_permute2f128_pd::<0x31>(a, b);
            (_mm256_unpacklo_pd(lo, hi), _mm256_unpackhi_pd(lo, hi))
        };
        interleave(a, b) -> (__m256d, __m256d) = {
            let lo = _mm256_unpacklo_pd(a, b);
            let hi = _mm256_unpackhi_pd(a, b);
            (_mm256_permute2f128_pd::<0x20>(lo, hi), _mm256_permute2f128_pd::<0x31>(lo, hi))
        };
        reduce_add(a) -> f64 = {
            let x = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd::<1>(a));
            _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
        };
    }
    #[inline(always)]
    unsafe fn mask_from_bits(bits: u32) -> __m256d {
        // SAFETY: the caller's promise.
        unsafe {
            let bit = _mm256_setr_epi64x(1, 2, 4, 8);
            let has = _mm256_and_si256(_mm256_set1_epi64x(i64::from(bits)), bit);
            _mm256_castsi256_pd(_mm256_cmpeq_epi64(has, bit))
        }
    }
}
