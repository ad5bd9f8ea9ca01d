//! AVX-512 (F, BW, DQ, VL): 16 `f32` or 8 `f64`, real mask registers.
use super::{Isa, Simd};
use core::arch::x86_64::*;
use core::marker::PhantomData;

/// AVX-512 vectors.
#[derive(Clone, Copy)]
pub struct Avx512<T>(PhantomData<T>);

macro_rules! ops {
    ($($name:ident($($a:ident),*) -> $r:ty = $e:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($a: Self::V),*) -> $r {
            // SAFETY: the caller's promise that the CPU has AVX-512.
            unsafe { $e }
        }
    )*};
}
macro_rules! mask_ops {
    ($($name:ident($($a:ident),*) = $e:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($a: Self::M),*) -> Self::M {
            $e
        }
    )*};
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
const UP: i32 = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
const ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

impl Simd for Avx512<f32> {
    type T = f32;
    type V = __m512;
    type M = __mmask16;
    const LANES: usize = 16;
    const ISA: Isa = Isa::Avx512;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f32, v: __m512) {
        // SAFETY: the caller's promise: LANES elements at p, aligned.
        unsafe { _mm512_stream_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 CPU has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, m: __mmask16) -> __m512 {
        // SAFETY: a masked load touches only the lanes of the mask.
        unsafe { _mm512_maskz_loadu_ps(m, p) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> __m512 {
        // SAFETY: a masked load touches only the first n elements.
        unsafe { _mm512_maskz_loadu_ps(Self::mask_first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: __m512, n: usize) {
        // SAFETY: a masked store touches only the first n elements.
        unsafe { _mm512_mask_storeu_ps(p, Self::mask_first(n), v) }
    }
    ops! {
        zero() -> __m512 = _mm512_setzero_ps();
        iota() -> __m512 = _mm512_setr_ps(0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.);
        add(a, b) -> __m512 = _mm512_add_ps(a, b);
        sub(a, b) -> __m512 = _mm512_sub_ps(a, b);
        mul(a, b) -> __m512 = _mm512_mul_ps(a, b);
        div(a, b) -> __m512 = _mm512_div_ps(a, b);
        fma(a, b, c) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fms(a, b, c) -> __m512 = _mm512_fmsub_ps(a, b, c);
        fnma(a, b, c) -> __m512 = _mm512_fnmadd_ps(a, b, c);
        max(a, b) -> __m512 = _mm512_max_ps(a, b);
        min(a, b) -> __m512 = _mm512_min_ps(a, b);
        sqrt(a) -> __m512 = _mm512_sqrt_ps(a);
        abs(a) -> __m512 = _mm512_abs_ps(a);
        neg(a) -> __m512 = _mm512_xor_ps(a, _mm512_set1_ps(-0.0));
        copysign(a, b) -> __m512 = {
            let sign = _mm512_set1_ps(-0.0);
            _mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b))
        };
        floor(a) -> __m512 = _mm512_roundscale_ps::<DOWN>(a);
        ceil(a) -> __m512 = _mm512_roundscale_ps::<UP>(a);
        trunc(a) -> __m512 = _mm512_roundscale_ps::<ZERO>(a);
        round_even(a) -> __m512 = _mm512_roundscale_ps::<NEAREST>(a);
        eq(a, b) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b);
        ne(a, b) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(a, b);
        lt(a, b) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        le(a, b) -> __mmask16 = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b);
        scale(x, n) -> __m512 = _mm512_scalef_ps(x, n);
        pow2(n) -> __m512 = {
            let e = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(e))
        };
        pow2_of_sum(t) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(t)));
        split(x) -> (__m512, __m512) = {
            let half = _mm512_set1_epi32(0x3f35_04f3);
            let bits = _mm512_sub_epi32(_mm512_castps_si512(x), half);
            let e = _mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(bits));
            let m = _mm512_add_epi32(_mm512_and_si512(bits, _mm512_set1_epi32(0x007f_ffff)), half);
            (_mm512_castsi512_ps(m), e)
        };
        deinterleave(a, b) -> (__m512, __m512) = {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        };
        interleave(a, b) -> (__m512, __m512) = {
            let lo = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let hi = _mm512_add_epi32(lo, _mm512_set1_epi32(8));
            (_mm512_permutex2var_ps(a, lo, b), _mm512_permutex2var_ps(a, hi, b))
        };
        reduce_add(a) -> f32 = {
            let hi = _mm512_extractf32x8_ps::<1>(a);
            <super::Avx2<f32> as Simd>::reduce_add(_mm256_add_ps(_mm512_castps512_ps256(a), hi))
        };
    }
    #[inline(always)]
    unsafe fn div_beside_root(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe {
            // 14 bits, 28, and with the remainder all of them.
            let r = _mm512_rcp14_ps(b);
            let r = Self::fma(r, Self::fnma(b, r, Self::splat(1.0)), r);
            let q = Self::mul(a, r);
            let q = Self::fma(Self::fnma(b, q, a), r, q);
            // 0 and infinity come out as NaN.
            let odd = Self::is_nan(q);
            if odd != 0 {
                return Self::select(odd, Self::div(a, b), q);
            }
            q
        }
    }
    #[inline(always)]
    unsafe fn select(m: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    mask_ops! {
        mask_and(a, b) = a & b;
        mask_or(a, b) = a | b;
        mask_not(a) = !a;
    }
    #[inline(always)]
    unsafe fn mask_bits(a: __mmask16) -> u32 {
        u32::from(a)
    }
    #[inline(always)]
    unsafe fn mask_from_bits(bits: u32) -> __mmask16 {
        bits as __mmask16
    }
    #[inline(always)]
    unsafe fn store_mask_n(p: *mut u8, m: __mmask16, n: usize) {
        // SAFETY: a masked store touches only the first n bytes.
        unsafe {
            let keep = Self::mask_first(n);
            _mm_mask_storeu_epi8(p.cast(), keep, _mm_maskz_set1_epi8(m, 1));
        }
    }
    #[inline(always)]
    unsafe fn load_mask_n(p: *const u8, n: usize) -> __mmask16 {
        // SAFETY: a masked load touches only the first n bytes.
        unsafe {
            let v = _mm_maskz_loadu_epi8(Self::mask_first(n), p.cast());
            _mm_test_epi8_mask(v, v)
        }
    }
    #[inline(always)]
    unsafe fn reduce_max(a: __m512) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let (lo, hi) = (_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            <super::Avx2<f32> as Simd>::reduce_max(<super::Avx2<f32> as Simd>::max_nan(lo, hi))
        }
    }
    #[inline(always)]
    unsafe fn reduce_min(a: __m512) -> f32 {
        // SAFETY: the caller's promise.
        unsafe {
            let (lo, hi) = (_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            <super::Avx2<f32> as Simd>::reduce_min(<super::Avx2<f32> as Simd>::min_nan(lo, hi))
        }
    }
}

impl Simd for Avx512<f64> {
    type T = f64;
    type V = __m512d;
    type M = __mmask8;
    const LANES: usize = 8;
    const ISA: Isa = Isa::Avx512;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn splat(x: f64) -> __m512d {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_pd(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f64) -> __m512d {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm512_loadu_pd(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f64, v: __m512d) {
        // SAFETY: the caller's promise: LANES elements at p.
        unsafe { _mm512_storeu_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn stream(p: *mut f64, v: __m512d) {
        // SAFETY: the caller's promise: LANES elements at p, aligned.
        unsafe { _mm512_stream_pd(p, v) }
    }
    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 CPU has it.
        unsafe { _mm_sfence() }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f64, m: __mmask8) -> __m512d {
        // SAFETY: a masked load touches only the lanes of the mask.
        unsafe { _mm512_maskz_loadu_pd(m, p) }
    }
    #[inline(always)]
    unsafe fn load_n(p: *const f64, n: usize) -> __m512d {
        // SAFETY: a masked load touches only the first n elements.
        unsafe { _mm512_maskz_loadu_pd(Self::mask_first(n), p) }
    }
    #[inline(always)]
    unsafe fn store_n(p: *mut f64, v: __m512d, n: usize) {
        // SAFETY: a masked store touches only the first n elements.
        unsafe { _mm512_mask_storeu_pd(p, Self::mask_first(n), v) }
    }
    ops! {
        zero() -> __m512d = _mm512_setzero_pd();
        iota() -> __m512d = _mm512_setr_pd(0., 1., 2., 3., 4., 5., 6., 7.);
        add(a, b) -> __m512d = _mm512_add_pd(a, b);
        sub(a, b) -> __m512d = _mm512_sub_pd(a, b);
        mul(a, b) -> __m512d = _mm512_mul_pd(a, b);
        div(a, b) -> __m512d = _mm512_div_pd(a, b);
        fma(a, b, c) -> __m512d = _mm512_fmadd_pd(a, b, c);
        fms(a, b, c) -> __m512d = _mm512_fmsub_pd(a, b, c);
        fnma(a, b, c) -> __m512d = _mm512_fnmadd_pd(a, b, c);
        max(a, b) -> __m512d = _mm512_max_pd(a, b);
        min(a, b) -> __m512d = _mm512_min_pd(a, b);
        sqrt(a) -> __m512d = _mm512_sqrt_pd(a);
        abs(a) -> __m512d = _mm512_abs_pd(a);
        neg(a) -> __m512d = _mm512_xor_pd(a, _mm512_set1_pd(-0.0));
        copysign(a, b) -> __m512d = {
            let sign = _mm512_set1_pd(-0.0);
            _mm512_or_pd(_mm512_andnot_pd(sign, a), _mm512_and_pd(sign, b))
        };
        floor(a) -> __m512d = _mm512_roundscale_pd::<DOWN>(a);
        ceil(a) -> __m512d = _mm512_roundscale_pd::<UP>(a);
        trunc(a) -> __m512d = _mm512_roundscale_pd::<ZERO>(a);
        round_even(a) -> __m512d = _mm512_roundscale_pd::<NEAREST>(a);
        eq(a, b) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a, b);
        ne(a, b) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(a, b);
        lt(a, b) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_LT_OQ>(a, b);
        le(a, b) -> __mmask8 = _mm512_cmp_pd_mask::<_CMP_LE_OQ>(a, b);
        scale(x, n) -> __m512d = _mm512_scalef_pd(x, n);
        pow2(n) -> __m512d = {
            let e = _mm512_add_epi64(_mm512_cvtpd_epi64(n), _mm512_set1_epi64(1023));
            _mm512_castsi512_pd(_mm512_slli_epi64::<52>(e))
        };
        pow2_of_sum(t) -> __m512d = _mm512_castsi512_pd(_mm512_slli_epi64::<52>(_mm512_castpd_si512(t)));
        split(x) -> (__m512d, __m512d) = {
            let half = _mm512_set1_epi64(0x3fe6_a09e_667f_3bcd);
            let bits = _mm512_sub_epi64(_mm512_castpd_si512(x), half);
            let e = _mm512_cvtepi64_pd(_mm512_srai_epi64::<52>(bits));
            let low = _mm512_set1_epi64(0x000f_ffff_ffff_ffff);
            let m = _mm512_add_epi64(_mm512_and_si512(bits, low), half);
            (_mm512_castsi512_pd(m), e)
        };
        deinterleave(a, b) -> (__m512d, __m512d) = {
            let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
            let odd = _mm512_add_epi64(even, _mm512_set1_epi64(1));
            (_mm512_permutex2var_pd(a, even, b), _mm512_permutex2var_pd(a, odd, b))
        };
        interleave(a, b) -> (__m512d, __m512d) = {
            let lo = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
            let hi = _mm512_add_epi64(lo, _mm512_set1_epi64(4));
            (_mm512_permutex2var_pd(a, lo, b), _mm512_permutex2var_pd(a, hi, b))
        };
        reduce_add(a) -> f64 = {
            let hi = _mm512_extractf64x4_pd::<1>(a);
            <super::Avx2<f64> as Simd>::reduce_add(_mm256_add_pd(_mm512_castpd512_pd256(a), hi))
        };
    }
    #[inline(always)]
    unsafe fn select(m: __mmask8, a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_blend_pd(m, b, a) }
    }
    mask_ops! {
        mask_and(a, b) = a & b;
        mask_or(a, b) = a | b;
        mask_not(a) = !a;
    }
    #[inline(always)]
    unsafe fn mask_bits(a: __mmask8) -> u32 {
        u32::from(a)
    }
    #[inline(always)]
    unsafe fn mask_from_bits(bits: u32) -> __mmask8 {
        bits as __mmask8
    }
    #[inline(always)]
    unsafe fn store_mask_n(p: *mut u8, m: __mmask8, n: usize) {
        // SAFETY: a masked store touches only the first n bytes.
        unsafe {
            let keep = __mmask16::from(Self::mask_first(n));
            _mm_mask_storeu_epi8(p.cast(), keep, _mm_maskz_set1_epi8(m.into(), 1));
        }
    }
    #[inline(always)]
    unsafe fn load_mask_n(p: *const u8, n: usize) -> __mmask8 {
        // SAFETY: a masked load touches only the first n bytes.
        unsafe {
            let v = _mm_maskz_loadu_epi8(Self::mask_first(n).into(), p.cast());
            _mm_test_epi8_mask(v, v) as __mmask8
        }
    }
}
