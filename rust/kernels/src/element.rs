//! Element types and the strided operand that kernels read.
use crate::simd::{Avx2, Avx512, Scalar, Simd};

/// Anything that a tensor can hold: `f32`, `f64`, `i64`, `i32`, `i16`, `i8`, `u8` (`bool` is stored as `u8` 0 or 1).
pub trait Number:
    Copy
    + Send
    + Sync
    + PartialEq
    + PartialOrd
    + Default
    + core::fmt::Debug
    + crate::elementwise::blocks::Blocks
    + 'static
{
    /// Additive identity.
    const ZERO: Self;
    /// Multiplicative identity.
    const ONE: Self;
    /// `f32` or `f64`.
    const IS_FLOAT: bool;
    /// Smallest value (-inf for floats).
    const LOWEST: Self;
    /// Largest value (inf for floats).
    const HIGHEST: Self;
    /// Conversion with Rust's `as` semantics (saturating from float, wrapping between integers).
    fn from_f64(x: f64) -> Self;
    /// Conversion with Rust's `as` semantics.
    fn to_f64(self) -> f64;
    /// Conversion with Rust's `as` semantics.
    fn from_i64(x: i64) -> Self;
    /// Conversion with Rust's `as` semantics; exact for integers.
    fn to_i64(self) -> i64;
    /// Sum; integers wrap.
    fn plus(self, other: Self) -> Self;
    /// Product; integers wrap.
    fn times(self, other: Self) -> Self;
    /// Conversion with Rust's `as` semantics, without a detour that loses digits.
    #[inline(always)]
    fn convert<B: Number>(self) -> B {
        if Self::IS_FLOAT {
            B::from_f64(self.to_f64())
        } else {
            B::from_i64(self.to_i64())
        }
    }
}

/// A strided operand: element `i` of the logical shape is `data[offset + sum(i[d] * strides[d])]`.
/// Strides are in elements, 0 for a broadcast axis, negative for a flipped one.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a, T> {
    /// The whole storage.
    pub data: &'a [T],
    /// Index of the logical first element.
    pub offset: usize,
    /// One stride per axis of the logical shape.
    pub strides: &'a [isize],
}

macro_rules! number {
    ($float:literal, |$a:ident, $b:ident| $plus:expr, $times:expr; $($t:ident: $lowest:ident, $highest:ident);*) => {$(
        impl Number for $t {
            const ZERO: Self = 0 as $t;
            const ONE: Self = 1 as $t;
            const IS_FLOAT: bool = $float;
            const LOWEST: Self = $t::$lowest;
            const HIGHEST: Self = $t::$highest;
            #[inline(always)]
            fn from_f64(x: f64) -> Self { x as $t }
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
            #[inline(always)]
            fn from_i64(x: i64) -> Self { x as $t }
            #[inline(always)]
            fn to_i64(self) -> i64 { self as i64 }
            #[inline(always)]
            fn plus(self, other: Self) -> Self { let ($a, $b) = (self, other); $plus }
            #[inline(always)]
            fn times(self, other: Self) -> Self { let ($a, $b) = (self, other); $times }
        }
    )*};
}
number!(true, |a, b| a + b, a * b; f32: NEG_INFINITY, INFINITY; f64: NEG_INFINITY, INFINITY);
number!(false, |a, b| a.wrapping_add(b), a.wrapping_mul(b);
    i64: MIN, MAX; i32: MIN, MAX; i16: MIN, MAX; i8: MIN, MAX; u8: MIN, MAX);

/// `f32` and `f64`: the types that the fast kernels are generic over.
///
/// The scalar functions are the standard library's: they are the naive twins' mathematics, not the kernels'.
pub trait Real:
    Number
    + core::ops::Add<Output = Self>
    + core::ops::Sub<Output = Self>
    + core::ops::Mul<Output = Self>
    + core::ops::Div<Output = Self>
    + core::ops::Neg<Output = Self>
    + core::ops::AddAssign
{
    /// Vectors on AVX-512.
    type Avx512: Simd<T = Self>;
    /// Vectors on AVX2 with FMA.
    type Avx2: Simd<T = Self>;
    /// Vectors without any particular instruction set.
    type Scalar: Simd<T = Self>;
    /// Distance from 1 to the next larger number.
    const EPSILON: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Negative infinity.
    const NEG_INFINITY: Self;
    /// A quiet NaN.
    const NAN: Self;
    /// Largest finite number.
    const MAX: Self;
    /// Smallest positive normal number.
    const MIN_POSITIVE: Self;

    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// Whether it is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// `|x|`
    fn abs(self) -> Self;
    /// Magnitude of `self`, sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// `x^(1/2)`
    fn sqrt(self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `e^x`
    fn exp(self) -> Self;
    /// `e^x - 1`
    fn exp_m1(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// `ln(1 + x)`
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Sine.
    fn sin(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// `x^p`
    fn powf(self, p: Self) -> Self;
    /// Largest integer not above.
    fn floor(self) -> Self;
    /// Smallest integer not below.
    fn ceil(self) -> Self;
    /// The integer part.
    fn trunc(self) -> Self;
    /// Nearest integer, ties to even.
    fn round_ties_even(self) -> Self;
    /// The larger; NaN when either is.
    #[inline(always)]
    fn max_nan(self, other: Self) -> Self {
        if self > other || self.is_nan() {
            self
        } else {
            other
        }
    }
    /// The smaller; NaN when either is.
    #[inline(always)]
    fn min_nan(self, other: Self) -> Self {
        if self < other || self.is_nan() {
            self
        } else {
            other
        }
    }
}

macro_rules! real {
    ($t:ident) => {
        impl Real for $t {
            type Avx512 = Avx512<$t>;
            type Avx2 = Avx2<$t>;
            type Scalar = Scalar<$t>;
            const EPSILON: $t = $t::EPSILON;
            const INFINITY: $t = $t::INFINITY;
            const NEG_INFINITY: $t = $t::NEG_INFINITY;
            const NAN: $t = $t::NAN;
            const MAX: $t = $t::MAX;
            const MIN_POSITIVE: $t = $t::MIN_POSITIVE;
            real!(@ $t is_nan() -> bool, is_finite() -> bool, abs() -> $t, copysign(sign) -> $t, sqrt() -> $t,
                mul_add(a, b) -> $t, exp() -> $t, exp_m1() -> $t, ln() -> $t, ln_1p() -> $t, tanh() -> $t,
                sin() -> $t, cos() -> $t, powf(p) -> $t, floor() -> $t, ceil() -> $t, trunc() -> $t,
                round_ties_even() -> $t);
        }
    };
    (@ $t:ident $($name:ident($($a:ident),*) -> $r:ty),*) => {$(
        #[inline(always)]
        fn $name(self $(, $a: $t)*) -> $r { <$t>::$name(self $(, $a)*) }
    )*};
}
real!(f32);
real!(f64);
