//! 16-bit floats: how they are stored, and their conversion from and to what kernels calculate in.
//!
//! No kernel calculates in 16 bits: whoever wants to widens to `f32`, calculates, and rounds the result once.
//! Kernels that only move elements move the 16 bits.
use crate::element::{Number, Strided};
use crate::elementwise::drive::map1;
use crate::simd::{Isa, isa};

/// IEEE half precision: 1 sign, 5 exponent and 10 fraction bits; from 6e-8 to 65504.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct F16(
    /// The bits.
    pub u16,
);
/// The upper half of an `f32`: 1 sign, 8 exponent and 7 fraction bits; the range of `f32`, with two to three digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct BF16(
    /// The bits.
    pub u16,
);

/// A 16-bit float. (Comparison is by bits: as numbers they are compared in `f32`.)
pub trait Half: Copy + Send + Sync + Default + PartialEq + core::fmt::Debug + 'static {
    /// Fraction bits, the implicit one included.
    const DIGITS: u32;
    /// From its bits.
    fn from_bits(bits: u16) -> Self;
    /// Its bits.
    fn to_bits(self) -> u16;
    /// The same number; a NaN keeps its sign and its payload.
    fn to_f32(self) -> f32;
    /// The nearest number, ties to even, infinity from half an ulp above the largest finite one. A NaN stays one, quiet, with its
    /// sign and the upper bits of its payload.
    fn from_f32(x: f32) -> Self;
    /// `out[i] = x[i]`
    /// # Safety
    /// n elements at each pointer; `out` does not overlap `x`.
    unsafe fn widen_block(isa: Isa, x: *const Self, out: *mut f32, n: usize);
    /// `out[i]` = nearest to `x[i]`
    /// # Safety
    /// As for [`Half::widen_block`].
    unsafe fn narrow_block(isa: Isa, x: *const f32, out: *mut Self, n: usize);
    /// The nearest number, rounded once.
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        Self::from_f32(odd_f32(x))
    }
    /// The nearest number, rounded once.
    #[inline(always)]
    fn from_i64(x: i64) -> Self {
        Self::from_f64(odd_f64(x))
    }
}

/// Rounded to odd: toward zero, then the last bit set if anything was lost. A second rounding to at least two bits less gives
/// what one rounding of the original would have given.
#[inline(always)]
fn odd_f32(x: f64) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    if back == x || x.is_nan() {
        return near;
    }
    // Magnitudes are ordered as their bits are.
    let bits = near.to_bits() - u32::from(back.abs() > x.abs());
    f32::from_bits(bits | 1)
}
/// As [`odd_f32`].
#[inline(always)]
fn odd_f64(x: i64) -> f64 {
    let size = x.unsigned_abs();
    let extra = 11u32.saturating_sub(size.leading_zeros());
    let kept = size >> extra;
    let odd = kept | u64::from(kept << extra != size);
    ((odd << extra) as f64).copysign(if x < 0 { -1.0 } else { 1.0 })
}

impl Half for F16 {
    const DIGITS: u32 = 11;
    #[inline(always)]
    fn from_bits(bits: u16) -> Self {
        F16(bits)
    }
    #[inline(always)]
    fn to_bits(self) -> u16 {
        self.0
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        let sign = u32::from(self.0 & 0x8000) << 16;
        let rest = u32::from(self.0 & 0x7fff);
        let size = match rest {
            // Zero and subnormal: a multiple of 2^-24.
            0..0x0400 => (rest as f32 * f32::from_bits(0x3380_0000)).to_bits(),
            0x0400..0x7c00 => (rest << 13) + (112 << 23),
            0x7c00 => f32::INFINITY.to_bits(),
            // Quiet, as the processor's own instruction makes it.
            _ => (rest << 13) | 0x7fc0_0000,
        };
        f32::from_bits(sign | size)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        let sign = (x.to_bits() >> 16) as u16 & 0x8000;
        let size = x.to_bits() & 0x7fff_ffff;
        let rest = match size {
            // Below 2^-14: in a sum with 1/2 the last bit is worth 2^-24, the smallest subnormal, and the sum rounds to it.
            0..0x3880_0000 => (f32::from_bits(size) + 0.5).to_bits() - 0.5f32.to_bits(),
            // Half of the last bit, a little less where that bit is 0 (ties to even); a carry moves on into the exponent, and
            // from the largest one to infinity.
            0x3880_0000..0x4780_0000 => {
                let size = size - (112 << 23);
                (size + 0xfff + (size >> 13 & 1)) >> 13
            }
            0x4780_0000..=0x7f80_0000 => 0x7c00,
            _ => 0x7e00 | (size >> 13 & 0x3ff),
        };
        F16(sign | rest as u16)
    }
    #[inline]
    unsafe fn widen_block(isa: Isa, x: *const Self, out: *mut f32, n: usize) {
        // SAFETY: the caller's promise; Isa::Avx2 implies F16C and Isa::Avx512 implies Isa::Avx2 (see Isa::available).
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::Avx512 => avx2::widen_f16(x, out, n),
                _ => (0..n).for_each(|i| out.add(i).write((*x.add(i)).to_f32())),
            }
        }
    }
    #[inline]
    unsafe fn narrow_block(isa: Isa, x: *const f32, out: *mut Self, n: usize) {
        // SAFETY: as above.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::Avx512 => avx2::narrow_f16(x, out, n),
                _ => (0..n).for_each(|i| out.add(i).write(Self::from_f32(*x.add(i)))),
            }
        }
    }
}

impl Half for BF16 {
    const DIGITS: u32 = 8;
    #[inline(always)]
    fn from_bits(bits: u16) -> Self {
        BF16(bits)
    }
    #[inline(always)]
    fn to_bits(self) -> u16 {
        self.0
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        // Half of the last bit, a little less where that bit is 0 (ties to even); a carry moves on into the exponent.
        let near = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let nan = bits | 0x0040_0000;
        let bits = if x.is_nan() { nan } else { near };
        BF16((bits >> 16) as u16)
    }
    #[inline]
    unsafe fn widen_block(isa: Isa, x: *const Self, out: *mut f32, n: usize) {
        // SAFETY: as for F16.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::Avx512 => avx2::widen_bf16(x, out, n),
                _ => (0..n).for_each(|i| out.add(i).write((*x.add(i)).to_f32())),
            }
        }
    }
    #[inline]
    unsafe fn narrow_block(isa: Isa, x: *const f32, out: *mut Self, n: usize) {
        // SAFETY: as for F16.
        unsafe {
            match isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 | Isa::Avx512 => avx2::narrow_bf16(x, out, n),
                _ => (0..n).for_each(|i| out.add(i).write(Self::from_f32(*x.add(i)))),
            }
        }
    }
}

/// Eight at a time: float16 by the processor's own conversion, bfloat16 by shifts.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BF16, F16, Half};
    use core::arch::x86_64::*;

    /// # Safety
    /// The CPU has AVX2 and F16C; n elements at each pointer.
    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn widen_f16(x: *const F16, out: *mut f32, n: usize) {
        let whole = n / 8 * 8;
        // SAFETY: the caller's promise: every index is below n.
        unsafe {
            for i in (0..whole).step_by(8) {
                let v = _mm_loadu_si128(x.add(i).cast());
                _mm256_storeu_ps(out.add(i), _mm256_cvtph_ps(v));
            }
            for i in whole..n {
                out.add(i).write((*x.add(i)).to_f32());
            }
        }
    }
    /// # Safety
    /// As for [`widen_f16`].
    #[target_feature(enable = "avx2,f16c")]
    pub(super) unsafe fn narrow_f16(x: *const f32, out: *mut F16, n: usize) {
        let whole = n / 8 * 8;
        // SAFETY: as above.
        unsafe {
            for i in (0..whole).step_by(8) {
                let v = _mm256_loadu_ps(x.add(i));
                let v = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
                _mm_storeu_si128(out.add(i).cast(), v);
            }
            for i in whole..n {
                out.add(i).write(F16::from_f32(*x.add(i)));
            }
        }
    }
    /// # Safety
    /// The CPU has AVX2; n elements at each pointer.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn widen_bf16(x: *const BF16, out: *mut f32, n: usize) {
        let whole = n / 8 * 8;
        // SAFETY: as above.
        unsafe {
            for i in (0..whole).step_by(8) {
                let v = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.add(i).cast()));
                _mm256_storeu_si256(out.add(i).cast(), _mm256_slli_epi32::<16>(v));
            }
            for i in whole..n {
                out.add(i).write((*x.add(i)).to_f32());
            }
        }
    }
    /// # Safety
    /// As for [`widen_bf16`].
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn narrow_bf16(x: *const f32, out: *mut BF16, n: usize) {
        let whole = n / 8 * 8;
        // SAFETY: as above.
        unsafe {
            for i in (0..whole).step_by(8) {
                let v = _mm256_loadu_ps(x.add(i));
                let bits = _mm256_castps_si256(v);
                // As `BF16::from_f32`: half of the last bit, a little less where that is 0; a NaN becomes quiet instead.
                let last = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let near =
                    _mm256_add_epi32(bits, _mm256_add_epi32(last, _mm256_set1_epi32(0x7fff)));
                let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
                let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
                let high = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(near, quiet, nan));
                let (a, b) = (
                    _mm256_castsi256_si128(high),
                    _mm256_extracti128_si256::<1>(high),
                );
                _mm_storeu_si128(out.add(i).cast(), _mm_packus_epi32(a, b));
            }
            for i in whole..n {
                out.add(i).write(BF16::from_f32(*x.add(i)));
            }
        }
    }
}

/// The same numbers in `f32`.
///
/// # Panics
/// As all functions here, when `out` has another length than `shape` or the operand leaves its storage.
pub fn widen<H: Half>(shape: &[usize], x: Strided<'_, H>, out: &mut [f32]) {
    let isa = isa();
    map1(1, shape, x, out, |x, out, n| {
        // SAFETY: the driver hands out n elements of each.
        unsafe { H::widen_block(isa, x, out, n) }
    });
}
/// The nearest 16-bit floats of `f32` numbers, see [`Half::from_f32`].
pub fn narrow<H: Half>(shape: &[usize], x: Strided<'_, f32>, out: &mut [H]) {
    let isa = isa();
    map1(1, shape, x, out, |x, out, n| {
        // SAFETY: the driver hands out n elements of each.
        unsafe { H::narrow_block(isa, x, out, n) }
    });
}
/// The nearest 16-bit floats of any numbers, rounded once.
pub fn narrow_number<A: Number, H: Half>(shape: &[usize], x: Strided<'_, A>, out: &mut [H]) {
    map1(4, shape, x, out, |x, out, n| {
        for i in 0..n {
            // SAFETY: the driver hands out n elements of each.
            unsafe {
                let x = *x.add(i);
                out.add(i).write(if A::IS_FLOAT {
                    H::from_f64(x.to_f64())
                } else {
                    H::from_i64(x.to_i64())
                });
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::testing::{Operand, SIZES, shapes};
    use crate::parallel::with_forced_threads;
    use crate::reference::half as naive;
    use crate::simd::{available, with_isa};
    use proptest::prelude::*;

    const STEP: &[isize] = &[1];
    fn dense<T>(data: &[T]) -> Strided<'_, T> {
        Strided {
            data,
            offset: 0,
            strides: STEP,
        }
    }
    fn every<H: Half>() -> Vec<H> {
        (0..=u16::MAX).map(H::from_bits).collect()
    }
    fn bits32(xs: &[f32]) -> Vec<u32> {
        xs.iter().map(|x| x.to_bits()).collect()
    }
    fn nan<H: Half>(h: H) -> bool {
        h.to_f32().is_nan()
    }

    fn widens<H: Half>() {
        let all = every::<H>();
        let (mut got, mut want) = (vec![0f32; all.len()], vec![1f32; all.len()]);
        naive::widen(&[all.len()], dense(&all), &mut want);
        for isa in available() {
            with_isa(isa, || widen(&[all.len()], dense(&all), &mut got));
            for ((h, a), b) in all.iter().zip(&got).zip(&want) {
                let same = a.to_bits() == b.to_bits();
                assert!(same || (a.is_nan() && b.is_nan()), "{h:?} {a} {b}");
            }
            // And back: every number returns as it was, every NaN quiet.
            let mut back = vec![H::default(); all.len()];
            with_isa(isa, || narrow(&[all.len()], dense(&got), &mut back));
            let quiet = 1u16 << (H::DIGITS - 2);
            for (&h, &b) in all.iter().zip(&back) {
                let want = if nan(h) {
                    h.to_bits() | quiet
                } else {
                    h.to_bits()
                };
                assert_eq!(b.to_bits(), want, "{h:?} on {isa:?}");
            }
        }
    }
    #[test]
    fn all_patterns_widen_as_the_twin_does_and_come_back() {
        widens::<F16>();
        widens::<BF16>();
    }

    /// Every number of the type, every middle between neighbours, and the numbers right beside these.
    fn boundaries<H: Half>() -> Vec<f32> {
        let mut out = vec![f32::NAN, -f32::NAN, f32::MAX, f32::MIN, 1e-45, -1e-45];
        for bits in 0..=u16::MAX {
            let (a, b) = (H::from_bits(bits), H::from_bits(bits.wrapping_add(1)));
            if nan(a) {
                continue;
            }
            let a = a.to_f32();
            let mut here = vec![a];
            if !nan(b) && a.is_finite() && a.is_sign_positive() == b.to_f32().is_sign_positive() {
                // The neighbour of the largest number is where infinity would lie.
                let next = if b.to_f32().is_infinite() {
                    let before = H::from_bits(bits - 1).to_f32();
                    f64::from(a) + (f64::from(a) - f64::from(before))
                } else {
                    b.to_f32().into()
                };
                let middle = (f64::from(a) + next) / 2.0;
                assert_eq!(f64::from(middle as f32), middle);
                here.push(middle as f32);
            }
            for x in here {
                out.extend([x, x.next_up(), x.next_down()]);
            }
        }
        out
    }
    fn narrows<H: Half>() {
        let xs = boundaries::<H>();
        let (mut got, mut want) = (vec![H::default(); xs.len()], vec![H::default(); xs.len()]);
        naive::narrow(&[xs.len()], dense(&xs), &mut want);
        for isa in available() {
            with_isa(isa, || narrow(&[xs.len()], dense(&xs), &mut got));
            for ((x, a), b) in xs.iter().zip(&got).zip(&want) {
                assert!(
                    a == b || (nan(*a) && nan(*b)),
                    "{x:e} gives {a:?}, not {b:?}"
                );
            }
        }
        let wide: Vec<f64> = xs.iter().map(|&x| x.into()).collect();
        narrow_number(&[xs.len()], dense(&wide), &mut got);
        for (a, b) in got.iter().zip(&want) {
            assert!(a == b || (nan(*a) && nan(*b)));
        }
    }
    #[test]
    fn boundary_numbers_round_to_nearest_even() {
        narrows::<F16>();
        narrows::<BF16>();
    }

    fn once<H: Half>() {
        // A hair above a tie: in f32 the hair would be lost, and the tie would go to even, which is down.
        let ulp = 2f64.powi(1 - H::DIGITS as i32);
        let tie = 1.0 + ulp / 2.0;
        let hair = 2f64.powi(-40);
        let up = H::from_f64(1.0 + ulp);
        assert_eq!(H::from_f64(tie), H::from_f64(1.0));
        assert_eq!(H::from_f32((tie + hair) as f32), H::from_f64(1.0));
        assert_eq!(H::from_f64(tie + hair), up);
        assert_eq!(H::from_f64(-(tie + hair)), H::from_f64(-1.0 - ulp));
        assert_eq!(H::from_f64(1e300).to_f32(), f32::INFINITY);
        assert_eq!(H::from_f64(-1e-300).to_bits(), 0x8000);
        assert!(nan(H::from_f64(f64::NAN)));
    }
    #[test]
    fn doubles_are_rounded_once() {
        once::<F16>();
        once::<BF16>();
        // 2^62 + half an ulp of bfloat16 + 1: in f64 the 1 would be lost.
        let tie = (1i64 << 62) + (1 << 54);
        assert_eq!(BF16::from_i64(tie).to_f32(), 2f32.powi(62));
        let up = 2f32.powi(62) + 2f32.powi(55);
        assert_eq!(BF16::from_i64(tie + 1).to_f32(), up);
        assert_eq!(BF16::from_i64(-tie - 1).to_f32(), -up);
        assert_eq!(BF16::from_i64(i64::MIN).to_f32(), -(2f32.powi(63)));
        assert_eq!(F16::from_i64(-2049).to_f32(), -2048.0);
        assert_eq!(F16::from_i64(65520).to_f32(), f32::INFINITY);
    }

    proptest! {
        #[test]
        fn any_bits_round_as_the_twin_does(bits in proptest::collection::vec(any::<u64>(), 1..200)) {
            let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b as u32)).collect();
            let y: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
            // Doubles of the size of halves too, which random bits seldom are.
            let near: Vec<f64> = y.iter().zip(&x).map(|(y, x)| f64::from_bits(y.to_bits() & 0x800f_ffff_ffff_ffff
                | u64::from(1023 - 30 + x.to_bits() % 60) << 52)).collect();
            let z: Vec<i64> = bits.iter().map(|&b| (b as i64) >> (b % 61)).collect();
            fn check<H: Half>(x: &[f32], doubles: [&[f64]; 2], z: &[i64]) {
                let n = x.len();
                let (mut got, mut want) = (vec![H::default(); n], vec![H::default(); n]);
                let same = |got: &[H], want: &[H]| got.iter().zip(want).all(|(a, b)| a == b || nan(*a) && nan(*b));
                naive::narrow(&[n], dense(x), &mut want);
                for isa in available() {
                    with_isa(isa, || narrow(&[n], dense(x), &mut got));
                    assert!(same(&got, &want), "{x:?}");
                }
                for y in doubles {
                    narrow_number(&[n], dense(y), &mut got);
                    naive::narrow_number(&[n], dense(y), &mut want);
                    assert!(same(&got, &want), "{y:?}");
                }
                narrow_number(&[n], dense(z), &mut got);
                naive::narrow_number(&[n], dense(z), &mut want);
                assert!(same(&got, &want), "{z:?}");
            }
            check::<F16>(&x, [&y, &near], &z);
            check::<BF16>(&x, [&y, &near], &z);
        }

        #[test]
        fn any_layout_converts_alike(shape in shapes(), seed: u64) {
            let x = Operand::<f32>::new(&shape, seed, true);
            let n = shape.iter().product();
            let (mut got, mut want) = (vec![F16::default(); n], vec![F16::default(); n]);
            naive::narrow(&shape, x.get(), &mut want);
            for threads in [1, 3] {
                got.fill(F16(1));
                with_forced_threads(threads, || narrow(&shape, x.get(), &mut got));
                assert!(got.iter().zip(&want).all(|(a, b)| a == b || nan(*a) && nan(*b)));
            }
        }
    }

    #[test]
    fn lengths_around_the_vectors_write_what_they_should() {
        for n in SIZES {
            let x: Vec<f32> = (0..n).map(|i| i as f32 / 8.0).collect();
            for isa in available() {
                with_isa(isa, || {
                    let mut y = vec![F16(9); n];
                    narrow(&[n], dense(&x), &mut y);
                    let mut z = vec![-1.0; n];
                    widen(&[n], dense(&y), &mut z);
                    assert_eq!(bits32(&z), bits32(&x));
                });
            }
        }
    }
}
