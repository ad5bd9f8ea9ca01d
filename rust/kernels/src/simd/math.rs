//! Vector mathematics.
//!
//! Error bounds in units in the last place of the true result, held on every path by a dense sample of all exponents in
//! the normal tests; `cargo test --release -p corten-kernels -- --ignored all_inputs` goes through all 2^32 inputs:
//!
//! | f32 | bound |   | f32 | bound |
//! |---|---|---|---|---|
//! | `exp`, `log` | 2 | | `tanh`, `sigmoid`, `erf` | 4 |
//! | `expm1`, `log1p` | 4 | | `softplus` | 4 |
//! | `sin`, `cos` | 2^-23 absolute | | `exp2_flush` | 2 |
//!
//! `gate_tanh` 4; `gate` 4, or 2^-125 absolute where it is subnormal; `silu` 6 where its sigmoid is normal; `gelu` and `gelu_tanh`
//! `2^-21 |x|` absolute (their tails cancel).
//!
//! f64 keeps the same bounds except `erf` and `sin`/`cos` (1e-15 absolute). NaN propagates, infinities give the
//! limits, subnormal inputs and results are honoured (no flush to zero).
//!
//! Every function is an unsafe, always inlined body like those of [`Simd`], with the same requirements.
#![allow(clippy::missing_safety_doc, clippy::excessive_precision)]
use super::Simd;

mod gelu;
pub use gelu::{gelu, gelu_grad, gelu_tanh, gelu_tanh_grad, gelu_with_slope};

#[inline(always)]
const fn single<S: Simd>() -> bool {
    size_of::<S::T>() == 4
}

/// Horner's rule, highest coefficient first.
#[inline(always)]
unsafe fn poly<S: Simd, const N: usize>(x: S::V, c: [f64; N]) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = S::c(c[0]);
        for k in 1..N {
            y = S::fma(y, x, S::c(c[k]));
        }
        y
    }
}

/// High and low part of ln 2; the high part has so few bits that `n * hi` is exact for every exponent n.
#[inline(always)]
const fn ln2<S: Simd>() -> (f64, f64) {
    if single::<S>() {
        (0.693_359_375, -2.121_944_400_546_905_8e-4)
    } else {
        (
            6.931_471_803_691_238_164_90e-1,
            1.908_214_929_270_587_700_02e-10,
        )
    }
}

/// `(e^r - 1 - r) / r^2`, Chebyshev on `|r| <= ln2 / 2`.
#[inline(always)]
unsafe fn exp_tail<S: Simd>(r: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if single::<S>() {
            poly::<S, 5>(
                r,
                [
                    0.001_392_625_083_149_761_171_8,
                    0.008_363_232_883_682_618_204_1,
                    0.041_666_554_212_984_150_314,
                    0.166_665_765_661_199_283_05,
                    0.5,
                ],
            )
        } else {
            poly::<S, 11>(
                r,
                [
                    2.091_475_532_589_320_22e-9,
                    2.510_531_272_962_210_178_7e-8,
                    2.755_727_347_871_858_047_4e-7,
                    2.755_725_517_000_088_743_8e-6,
                    0.000_024_801_587_325_677_461_9,
                    0.000_198_412_698_750_022_787_93,
                    0.001_388_888_888_888_371_116_7,
                    0.008_333_333_333_326_083_120_2,
                    0.041_666_666_666_666_669_783,
                    0.166_666_666_666_666_710_3,
                    0.5,
                ],
            )
        }
    }
}

/// `x = n ln2 + r`: `(n, r, e^r - 1)`, for x that was clamped to where `2^n` makes sense.
#[inline(always)]
unsafe fn exp_parts<S: Simd>(x: S::V) -> (S::V, S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let (hi, lo) = ln2::<S>();
        let n = S::round_even(S::mul(x, S::c(core::f64::consts::LOG2_E)));
        let r = S::fnma(n, S::c(hi), x);
        let r = S::fnma(n, S::c(lo), r);
        let q = exp_tail::<S>(r);
        (n, S::fma(S::mul(r, r), q, r))
    }
}

/// Keeps `e^x` within what [`Simd::scale`] takes; beyond the ends it is 0 or infinite anyway. NaN passes.
#[inline(always)]
unsafe fn exp_clamp<S: Simd>(x: S::V) -> S::V {
    let (lo, hi) = if single::<S>() {
        (-104.5, 89.5)
    } else {
        (-746.0, 710.5)
    };
    // SAFETY: the caller's promise. max and min return their second operand when it is NaN.
    unsafe { S::min(S::c(hi), S::max(S::c(lo), x)) }
}

/// `e^x`
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let (n, p) = exp_parts::<S>(exp_clamp::<S>(x));
        S::scale(S::add(p, S::c(1.0)), n)
    }
}

/// `2^f` for `|f| <= 1/2`, f32: minimax.
const EXP2: [f64; 6] = [
    0.001_326_472_706_540_640_6,
    0.009_671_512_648_914_78,
    0.055_507_337_436_908_11,
    0.240_222_420_851_731_37,
    0.693_146_977_598_857_9,
    1.0,
];

/// `2^f` for `|f| <= 1/2`; 1 at 0, relative error 1e-7 (f32) or 1e-16 beside the rounding.
#[inline(always)]
unsafe fn exp2_fraction<S: Simd>(f: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if single::<S>() {
            return poly::<S, 6>(f, EXP2);
        }
        // (2^f - 1) / f, Chebyshev.
        let c = [
            4.650_970_587_627_955_3e-10,
            7.077_809_997_123_648_6e-9,
            1.017_700_791_463_278_9e-7,
            1.321_541_490_691_358e-6,
            1.525_273_569_047_290_8e-5,
            0.000_154_035_304_931_062_35,
            0.001_333_355_814_529_582_5,
            0.009_618_129_107_566_873,
            0.055_504_108_664_822_28,
            0.240_226_506_959_102_03,
            0.693_147_180_559_945_7,
        ];
        S::fma(poly::<S, 11>(f, c), f, S::c(1.0))
    }
}

/// What [`Simd::pow2_of_sum`] wants to be added.
#[inline(always)]
const fn no_fraction<S: Simd>() -> f64 {
    if single::<S>() {
        12_582_912.0 + 127.0
    } else {
        6_755_399_441_055_744.0 + 1023.0
    }
}

/// `2^x` for `x <= 100`, to 2 ULP; 0 from half a step below the normal numbers on (in f32, `x < -126.5`). For weights, at less
/// than half the price of [`exp`]. NaN propagates.
#[inline(always)]
pub unsafe fn exp2_flush<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // max returns its second operand when that is NaN; the lowest n gives 2^n = 0.
        let x = S::max(S::c(if single::<S>() { -127.0 } else { -1023.0 }), x);
        // The sum has no room for a fraction: x is rounded, and the bits of the exponent stand ready.
        let big = S::c(no_fraction::<S>());
        let t = S::add(x, big);
        let f = S::sub(x, S::sub(t, big));
        S::mul(exp2_fraction::<S>(f), S::pow2_of_sum(t))
    }
}

/// [`exp2_flush`] of several vectors, step by step: chains side by side, since a processor does not look far enough ahead to
/// find the next one.
#[inline(always)]
pub unsafe fn exp2_flush_each<S: Simd, const N: usize>(x: [S::V; N]) -> [S::V; N] {
    // SAFETY: the caller's promise.
    unsafe {
        if !single::<S>() {
            let mut y = x;
            for y in &mut y {
                *y = exp2_flush::<S>(*y);
            }
            return y;
        }
        let (big, least) = (S::c(no_fraction::<S>()), S::c(-127.0));
        let (mut f, mut t, mut y) = (x, x, x);
        for i in 0..N {
            f[i] = S::max(least, f[i]);
        }
        for i in 0..N {
            t[i] = S::add(f[i], big);
        }
        for i in 0..N {
            f[i] = S::sub(f[i], S::sub(t[i], big));
        }
        for i in 0..N {
            y[i] = S::fma(S::c(EXP2[0]), f[i], S::c(EXP2[1]));
        }
        for c in &EXP2[2..] {
            let c = S::c(*c);
            for i in 0..N {
                y[i] = S::fma(y[i], f[i], c);
            }
        }
        for i in 0..N {
            y[i] = S::mul(y[i], S::pow2_of_sum(t[i]));
        }
        y
    }
}

/// `e^x` for `x <= 0`, for sums whose largest term is near 1: what is below `2^-127` counts as 0 (2^-1023 in f64), and the relative
/// error grows like that of `x`, by a quarter of an ulp of `x`. NaN passes. Half of the work of [`exp`].
#[inline(always)]
pub unsafe fn exp_weight<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise. max returns its second operand when that is NaN; the lowest n gives 2^n = 0.
    unsafe {
        let x = S::max(S::c(if single::<S>() { -88.0 } else { -709.0 }), x);
        let (log2e, big) = (S::c(core::f64::consts::LOG2_E), S::c(no_fraction::<S>()));
        let t = S::fma(x, log2e, big);
        let f = S::fms(x, log2e, S::sub(t, big));
        S::mul(exp2_fraction::<S>(f), S::pow2_of_sum(t))
    }
}

/// `e^x - 1`, accurate near 0.
#[inline(always)]
pub unsafe fn exp_m1<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let (n, p) = exp_parts::<S>(exp_clamp::<S>(x));
        let one = S::c(1.0);
        // Where e^x - 1 rounds to e^x, 2^n may not be representable.
        let large = S::gt(x, S::c(if single::<S>() { 20.0 } else { 40.0 }));
        let t = S::scale(one, n);
        let small = S::fma(t, p, S::sub(t, one));
        let y = S::select(large, S::scale(S::add(p, one), n), small);
        // -0 stays -0.
        S::select(S::eq(x, S::zero()), x, y)
    }
}

/// Natural logarithm: -inf at 0, NaN below.
#[inline(always)]
pub unsafe fn log<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let (tiny, up, shift) = if single::<S>() {
            (f64::from(f32::MIN_POSITIVE), 8_388_608.0, 23.0)
        } else {
            (f64::MIN_POSITIVE, 18_014_398_509_481_984.0, 54.0)
        };
        let sub = S::lt(x, S::c(tiny));
        let (m, e) = S::split(S::select(sub, S::mul(x, S::c(up)), x));
        let e = S::sub(e, S::select(sub, S::c(shift), S::zero()));
        let (hi, lo) = ln2::<S>();
        let f = S::sub(m, S::c(1.0));
        let f2 = S::mul(f, f);
        let y = if single::<S>() {
            // log(1 + f) = f - f^2/2 + f^3 P(f); coefficients of Cephes' logf.
            let p = poly::<S, 9>(
                f,
                [
                    7.037_683_629_2e-2,
                    -1.151_461_031_0e-1,
                    1.167_699_874_0e-1,
                    -1.242_014_084_6e-1,
                    1.424_932_278_7e-1,
                    -1.666_805_766_5e-1,
                    2.000_071_476_5e-1,
                    -2.499_999_399_3e-1,
                    3.333_333_117_4e-1,
                ],
            );
            let y = S::mul(S::mul(f, f2), p);
            let y = S::fma(e, S::c(lo), y);
            let y = S::fnma(f2, S::c(0.5), y);
            S::fma(e, S::c(hi), S::add(f, y))
        } else {
            // fdlibm: s = f / (2 + f), log(1 + f) = f - f^2/2 + s (f^2/2 + R(s^2)).
            let s = S::div(f, S::add(S::c(2.0), f));
            let z = S::mul(s, s);
            let r = S::mul(
                z,
                poly::<S, 7>(
                    z,
                    [
                        1.479_819_860_511_658_591e-1,
                        1.531_383_769_920_937_332e-1,
                        1.818_357_216_161_805_012e-1,
                        2.222_219_843_214_978_396e-1,
                        2.857_142_874_366_239_149e-1,
                        3.999_999_999_940_941_908e-1,
                        6.666_666_666_666_735_130e-1,
                    ],
                ),
            );
            let h = S::mul(f2, S::c(0.5));
            let t = S::fma(s, S::add(h, r), S::mul(e, S::c(lo)));
            let t = S::sub(S::sub(h, t), f);
            S::sub(S::mul(e, S::c(hi)), t)
        };
        // +inf and NaN as they are; 0 gives -inf; below 0 NaN.
        let y = S::select(S::lt(x, S::c(f64::INFINITY)), y, x);
        let y = S::select(S::eq(x, S::zero()), S::c(f64::NEG_INFINITY), y);
        S::select(S::lt(x, S::zero()), S::c(f64::NAN), y)
    }
}

/// `ln(1 + x)`, accurate near 0: -inf at -1, NaN below.
#[inline(always)]
pub unsafe fn log_1p<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // log(u) x / (u - 1) with u = 1 + x rounded: the rounding error cancels (Kahan).
        let one = S::c(1.0);
        let u = S::add(one, x);
        let d = S::sub(u, one);
        let y = S::mul(log::<S>(u), S::div(x, d));
        let y = S::select(S::eq(d, S::zero()), x, y);
        S::select(S::eq(x, S::c(f64::INFINITY)), x, y)
    }
}

/// Hyperbolic tangent.
#[inline(always)]
pub unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::c(1.0);
        let a = S::abs(x);
        let y = if single::<S>() {
            // 1 - 2 / (e^2a + 1) loses nothing from 0.55 up; below, Cephes' polynomial.
            // It is 1 from 9.1 up; min keeps NaN.
            let m = S::min(S::c(10.0), a);
            let (n, p) = exp_parts::<S>(S::add(m, m));
            let e = S::mul(S::add(p, one), S::pow2(n));
            let large = S::sub(one, S::div(S::c(2.0), S::add(e, one)));
            let z = S::mul(a, a);
            let p = poly::<S, 5>(
                z,
                [
                    -5.704_988_727_45e-3,
                    2.063_908_879_54e-2,
                    -5.373_971_555_31e-2,
                    1.333_144_220_36e-1,
                    -3.333_328_194_22e-1,
                ],
            );
            let small = S::fma(S::mul(p, z), a, a);
            S::select(S::lt(a, S::c(0.55)), small, large)
        } else {
            // tanh a = m / (m + 2) with m = e^2a - 1; 1 from 20 up (min keeps NaN).
            let a = S::min(S::c(20.0), a);
            let m = exp_m1::<S>(S::add(a, a));
            S::div(m, S::add(m, S::c(2.0)))
        };
        S::copysign(y, x)
    }
}

/// `x = n ln2 + r`: `(n as pow2_of_sum takes it, e^r - 1)`, for n that are exponents of normal numbers. As [`exp_parts`], for less.
#[inline(always)]
unsafe fn exp_steps<S: Simd>(x: S::V) -> (S::V, S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let (hi, lo) = ln2::<S>();
        let big = S::c(no_fraction::<S>());
        let t = S::fma(x, S::c(core::f64::consts::LOG2_E), big);
        let n = S::sub(t, big);
        let r = S::fnma(n, S::c(hi), x);
        let r = S::fnma(n, S::c(lo), r);
        (t, S::fma(S::mul(r, r), exp_tail::<S>(r), r))
    }
}

/// `1 / (1 + e^-x)` for gates: about `2^-126` (`2^-1022` in f64) and no less where it would be subnormal. Two thirds of the work
/// of [`sigmoid`].
#[inline(always)]
pub unsafe fn gate<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::c(1.0);
        // neg(abs) keeps a NaN a NaN, and so does max in its second operand.
        let least = S::c(if single::<S>() { -87.3 } else { -708.3 });
        let (t, p) = exp_steps::<S>(S::max(least, S::neg(S::abs(x))));
        let s = S::pow2_of_sum(t);
        let e = S::fma(s, p, s);
        let num = S::select(S::lt(x, S::zero()), e, one);
        S::div(num, S::add(one, e))
    }
}

/// [`tanh`] for gates, to 2.5 ULP where that is true to 1.5. Two thirds of its work.
#[inline(always)]
pub unsafe fn gate_tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // tanh a = m / (m + 2) with m = e^2a - 1; 1 from 9.1 (f32) or 20 (f64) up. min keeps NaN.
        let a = S::min(S::c(if single::<S>() { 10.0 } else { 20.0 }), S::abs(x));
        let (t, p) = exp_steps::<S>(S::add(a, a));
        let s = S::pow2_of_sum(t);
        let m = S::fma(s, p, S::sub(s, S::c(1.0)));
        S::copysign(S::div(m, S::add(m, S::c(2.0))), x)
    }
}

/// `1 / (1 + e^-x)`, also where it is subnormal.
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::c(1.0);
        // neg(abs) keeps a NaN a NaN.
        let e = exp::<S>(S::neg(S::abs(x)));
        let num = S::select(S::lt(x, S::zero()), e, one);
        S::div(num, S::add(one, e))
    }
}

/// `ln(1 + e^x)`
#[inline(always)]
pub unsafe fn softplus<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise; max(0, x) is NaN for NaN.
    unsafe {
        let tail = log_1p::<S>(exp::<S>(S::neg(S::abs(x))));
        S::add(S::max(S::zero(), x), tail)
    }
}

/// `x sigmoid(x)`; -0 at -inf.
#[inline(always)]
pub unsafe fn silu<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise. The clamp avoids inf * 0; max keeps a NaN in its second operand.
    unsafe { S::mul(S::max(S::c(-1e30), x), sigmoid::<S>(x)) }
}
/// `silu'(x) = s (1 + x (1 - s))`
#[inline(always)]
pub unsafe fn silu_grad<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let s = sigmoid::<S>(x);
        let x = S::min(S::c(1e30), S::max(S::c(-1e30), x));
        let one = S::c(1.0);
        // sigmoid(-x) instead of 1 - s would cost a division; x (1 - s) is small where 1 - s cancels.
        S::mul(s, S::fma(x, S::sub(one, s), one))
    }
}

/// Error function.
#[inline(always)]
pub unsafe fn erf<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if single::<S>() {
            erf32::<S>(x)
        } else {
            erf64::<S>(x)
        }
    }
}

/// Two polynomials, split at 475/512: `x + x P(x^2)`, and `1 - exp(-Q(|x|))` (coefficients: N. Juffa).
#[inline(always)]
unsafe fn erf32<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::c(1.0);
        // erf is 1 in f32 from 3.92 up, and Q is only good to about 4; min keeps NaN.
        let t = S::min(S::c(4.2), S::abs(x));
        let s = S::mul(t, t);
        let r = S::fma(S::c(-1.728_534_70e-5), t, S::c(3.831_971_26e-4));
        let u = S::fma(S::c(-3.883_964_38e-3), t, S::c(2.425_462_19e-2));
        let r = S::fma(r, s, u);
        let r = S::fma(r, t, S::c(-1.067_778_77e-1));
        let r = S::fma(r, t, S::c(-6.348_466_87e-1));
        let r = S::fma(r, t, S::c(-1.287_175_12e-1));
        let r = S::fms(r, t, t);
        let large = S::sub(one, exp::<S>(r));
        let p = poly::<S, 6>(
            s,
            [
                -5.967_617_03e-4,
                4.991_194_23e-3,
                -2.676_813_49e-2,
                1.128_199_25e-1,
                -3.761_253_36e-1,
                1.283_791_66e-1,
            ],
        );
        let small = S::fma(p, t, t);
        S::copysign(S::select(S::gt(t, S::c(0.927_734_375)), large, small), x)
    }
}

/// fdlibm's rational functions on [0, 0.84375], [.., 1.25], [.., 1/0.35], [.., 6], all computed, one selected.
#[inline(always)]
unsafe fn erf64<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let one = S::c(1.0);
        let a = S::min(S::c(6.0), S::abs(x));
        let z = S::mul(a, a);
        let p = poly::<S, 5>(
            z,
            [
                -2.376_301_665_665_016_260_84e-5,
                -5.770_270_296_489_441_591_57e-3,
                -2.848_174_957_559_851_047_66e-2,
                -3.250_421_072_470_014_993_70e-1,
                1.283_791_670_955_125_585_61e-1,
            ],
        );
        let q = poly::<S, 6>(
            z,
            [
                -3.960_228_278_775_368_123_20e-6,
                1.324_947_380_043_216_445_26e-4,
                5.081_306_281_875_765_627_76e-3,
                6.502_224_998_876_729_444_85e-2,
                3.979_172_239_591_553_528_19e-1,
                1.0,
            ],
        );
        let first = S::fma(a, S::div(p, q), a);

        let s = S::sub(a, one);
        let p = poly::<S, 7>(
            s,
            [
                -2.166_375_594_868_790_843_00e-3,
                3.547_830_432_561_823_593_71e-2,
                -1.108_946_942_823_966_774_76e-1,
                3.183_466_199_011_617_536_74e-1,
                -3.722_078_760_357_013_238_47e-1,
                4.148_561_186_837_483_316_66e-1,
                -2.362_118_560_752_659_440_77e-3,
            ],
        );
        let q = poly::<S, 7>(
            s,
            [
                1.198_449_984_679_910_741_70e-2,
                1.363_708_391_202_905_073_62e-2,
                1.261_712_198_087_616_421_12e-1,
                7.182_865_441_419_626_628_68e-2,
                5.403_979_177_021_710_489_37e-1,
                1.064_208_804_008_442_282_86e-1,
                1.0,
            ],
        );
        let second = S::add(S::c(8.450_629_115_104_675_292_97e-1), S::div(p, q));

        // 1 - exp(-a^2 - 0.5625 + R/S) / a in 1/a^2.
        let a1 = S::max(a, S::c(1.0));
        let w = S::div(one, S::mul(a1, a1));
        let p = poly::<S, 8>(
            w,
            [
                -9.814_329_344_169_145_485_92,
                -8.128_743_550_630_659_342_46e1,
                -1.846_050_929_067_110_359_94e2,
                -1.623_966_694_625_734_703_55e2,
                -6.237_533_245_032_600_603_96e1,
                -1.055_862_622_532_329_098_14e1,
                -6.938_585_727_071_817_643_72e-1,
                -9.864_944_034_847_148_227_05e-3,
            ],
        );
        let q = poly::<S, 9>(
            w,
            [
                -6.042_441_521_485_809_874_38e-2,
                6.570_249_770_319_281_701_35,
                1.086_350_055_417_794_351_34e2,
                4.290_081_400_275_678_333_86e2,
                6.453_872_717_332_678_803_36e2,
                4.345_658_774_752_292_288_21e2,
                1.376_577_541_435_190_426_00e2,
                1.965_127_166_743_925_712_92e1,
                1.0,
            ],
        );
        let near = S::div(p, q);
        let p = poly::<S, 7>(
            w,
            [
                -4.835_191_916_086_513_970_19e2,
                -1.025_095_131_611_077_249_54e3,
                -6.375_664_433_683_896_277_22e2,
                -1.606_363_848_558_219_160_62e2,
                -1.775_795_491_775_475_198_89e1,
                -7.992_832_376_805_230_065_74e-1,
                -9.864_942_924_700_099_285_97e-3,
            ],
        );
        let q = poly::<S, 8>(
            w,
            [
                -2.244_095_244_658_581_833_62e1,
                4.745_285_412_069_553_672_15e2,
                2.553_050_406_433_164_425_83e3,
                3.199_858_219_508_595_539_08e3,
                1.536_729_586_084_436_959_94e3,
                3.257_925_129_965_739_188_26e2,
                3.033_806_074_348_245_829_24e1,
                1.0,
            ],
        );
        let far = S::div(p, q);
        let r = S::select(S::lt(a1, S::c(1.0 / 0.35)), near, far);
        let e = S::sub(r, S::fma(a1, a1, S::c(0.5625)));
        // The rounding of the exponent moves erf by less than 1 ULP only because e^-a^2 is small here.
        let third = S::sub(one, S::div(exp::<S>(e), a1));

        let y = S::select(S::lt(a, S::c(1.25)), second, third);
        let y = S::select(S::lt(a, S::c(0.84375)), first, y);
        let y = S::select(S::is_nan(x), x, y);
        S::copysign(y, x)
    }
}

/// Sine, absolute error as stated above.
#[inline(always)]
pub unsafe fn sin<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { sin_cos_quadrant::<S, false>(x) }
}
/// Cosine, absolute error as stated above.
#[inline(always)]
pub unsafe fn cos<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { sin_cos_quadrant::<S, true>(x) }
}

/// sin(x), or cos(x) = sin of the next quadrant.
#[inline(always)]
unsafe fn sin_cos_quadrant<S: Simd, const COS: bool>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        // pi/2 in three parts, the first two short enough for exact products below `limit`.
        let (p1, p2, p3, limit) = if single::<S>() {
            (
                1.570_312_5,
                4.837_512_969_970_703_125e-4,
                7.549_789_948_768_65e-8,
                8192.0,
            )
        } else {
            (
                1.570_796_326_734_125_614_17,
                6.077_100_506_303_965_976_60e-11,
                2.022_266_248_795_950_631_54e-21,
                1e5,
            )
        };
        let huge = S::gt(S::abs(x), S::c(limit));
        let q = S::round_even(S::mul(x, S::c(core::f64::consts::FRAC_2_PI)));
        let r = S::fnma(q, S::c(p1), x);
        let r = S::fnma(q, S::c(p2), r);
        let r = S::fnma(q, S::c(p3), r);
        let z = S::mul(r, r);
        let (s, c) = if single::<S>() {
            (
                poly::<S, 3>(
                    z,
                    [-1.951_529_589_1e-4, 8.332_160_873_6e-3, -1.666_665_461_1e-1],
                ),
                poly::<S, 3>(
                    z,
                    [
                        2.443_315_711_809_948e-5,
                        -1.388_731_625_493_765e-3,
                        4.166_664_568_298_827e-2,
                    ],
                ),
            )
        } else {
            (
                poly::<S, 6>(
                    z,
                    [
                        1.589_690_995_211_550_102_21e-10,
                        -2.505_076_025_340_686_341_95e-8,
                        2.755_731_370_707_006_767_89e-6,
                        -1.984_126_982_985_794_931_34e-4,
                        8.333_333_333_322_489_461_24e-3,
                        -1.666_666_666_666_663_243_48e-1,
                    ],
                ),
                poly::<S, 6>(
                    z,
                    [
                        -1.135_964_755_778_819_482_65e-11,
                        2.087_572_321_298_174_827_90e-9,
                        -2.755_731_435_139_066_330_35e-7,
                        2.480_158_728_947_672_941_78e-5,
                        -1.388_888_888_887_410_957_49e-3,
                        4.166_666_666_666_660_190_37e-2,
                    ],
                ),
            )
        };
        let s = S::fma(S::mul(s, z), r, r);
        let c = S::fma(S::mul(c, z), z, S::fnma(z, S::c(0.5), S::c(1.0)));
        let j = if COS { S::add(q, S::c(1.0)) } else { q };
        let j = S::fnma(S::floor(S::mul(j, S::c(0.25))), S::c(4.0), j);
        let odd = S::mask_or(S::eq(j, S::c(1.0)), S::eq(j, S::c(3.0)));
        let y = S::select(odd, c, s);
        let y = S::select(S::ge(j, S::c(2.0)), S::neg(y), y);
        // -0 stays -0.
        let y = if COS {
            y
        } else {
            S::select(S::eq(x, S::zero()), x, y)
        };
        if S::any(huge) {
            return S::select(huge, lanewise::<S, COS>(x), y);
        }
        y
    }
}

/// Huge arguments need a long reduction: one lane at a time, by the standard library. NaN for infinities.
#[inline(never)]
unsafe fn lanewise<S: Simd, const COS: bool>(x: S::V) -> S::V {
    use crate::element::Real;
    // SAFETY: the caller's promise; LANES <= 16.
    unsafe {
        let a = S::to_array(x).map(|x| if COS { x.cos() } else { x.sin() });
        S::load(a.as_ptr())
    }
}
