//! The baseline: short arrays that the compiler turns into whatever the target always has (SSE2 on x86-64).
use super::{Isa, Simd};
use core::marker::PhantomData;

/// Arrays of 8 `f32` or 4 `f64`. `fma` rounds twice: a fused one is a library call without FMA hardware.
#[derive(Clone, Copy)]
pub struct Scalar<T>(PhantomData<T>);

macro_rules! map1 {
    ($($name:ident = |$x:ident| $e:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(a: Self::V) -> Self::V {
            a.map(#[inline(always)] |$x| $e)
        }
    )*};
}
macro_rules! map2 {
    ($($name:ident = |$x:ident, $y:ident| $e:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(a: Self::V, b: Self::V) -> Self::V {
            let mut out = a;
            for i in 0..Self::LANES {
                let ($x, $y) = (a[i], b[i]);
                out[i] = $e;
            }
            out
        }
    )*};
}
macro_rules! map3 {
    ($($name:ident = |$x:ident, $y:ident, $z:ident| $e:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            let mut out = a;
            for i in 0..Self::LANES {
                let ($x, $y, $z) = (a[i], b[i], c[i]);
                out[i] = $e;
            }
            out
        }
    )*};
}
macro_rules! cmp {
    ($($name:ident $op:tt;)*) => {$(
        #[inline(always)]
        unsafe fn $name(a: Self::V, b: Self::V) -> Self::M {
            let mut out = [false; Self::LANES];
            for i in 0..Self::LANES {
                out[i] = a[i] $op b[i];
            }
            out
        }
    )*};
}

macro_rules! scalar {
    ($t:ident, $u:ident, $n:literal, mantissa $mant:literal, bias $bias:literal, half $half:expr, round $round:ident, floor $floor:ident, pow2 $pow:ident) => {
        /// Nearest integer by adding and taking away 2^mantissa: no library call, and it vectorises.
        #[inline(always)]
        fn $round(x: $t) -> $t {
            const BIG: $t = (1u64 << $mant) as $t;
            if x.abs() < BIG {
                ((x.abs() + BIG) - BIG).copysign(x)
            } else {
                x
            }
        }
        #[inline(always)]
        fn $floor(x: $t) -> $t {
            let r = $round(x);
            if r > x { r - 1.0 } else { r }
        }
        /// `2^n` in the normal range.
        #[inline(always)]
        fn $pow(n: i32) -> $t {
            $t::from_bits(((n + $bias) as $u) << $mant)
        }

        impl Simd for Scalar<$t> {
            type T = $t;
            type V = [$t; $n];
            type M = [bool; $n];
            const LANES: usize = $n;
            const ISA: Isa = Isa::Scalar;
            const FUSED: bool = false;

            #[inline(always)]
            unsafe fn zero() -> Self::V {
                [0.0; $n]
            }
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self::V {
                [x; $n]
            }
            #[inline(always)]
            unsafe fn iota() -> Self::V {
                core::array::from_fn(
                    #[inline(always)]
                    |i| i as $t,
                )
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self::V {
                // SAFETY: the caller's promise; elements of an array have T's alignment.
                unsafe { *p.cast::<Self::V>() }
            }
            #[inline(always)]
            unsafe fn store(p: *mut $t, v: Self::V) {
                // SAFETY: the caller's promise.
                unsafe { *p.cast::<Self::V>() = v }
            }
            #[inline(always)]
            unsafe fn load_masked(p: *const $t, m: Self::M) -> Self::V {
                let mut out = [0.0; $n];
                for i in 0..$n {
                    if m[i] {
                        // SAFETY: the caller's promise: this lane may be read.
                        out[i] = unsafe { *p.wrapping_add(i) };
                    }
                }
                out
            }
            #[inline(always)]
            unsafe fn load_n(p: *const $t, n: usize) -> Self::V {
                let mut out = [0.0; $n];
                for i in 0..n {
                    // SAFETY: the caller's promise: n elements at p may be read.
                    out[i] = unsafe { *p.add(i) };
                }
                out
            }
            #[inline(always)]
            unsafe fn store_n(p: *mut $t, v: Self::V, n: usize) {
                for i in 0..n {
                    // SAFETY: the caller's promise: n elements at p may be written.
                    unsafe { *p.add(i) = v[i] };
                }
            }
            map2! {
                add = |x, y| x + y;
                sub = |x, y| x - y;
                mul = |x, y| x * y;
                div = |x, y| x / y;
                max = |x, y| if x > y { x } else { y };
                min = |x, y| if x < y { x } else { y };
                copysign = |x, y| x.copysign(y);
            }
            map3! {
                fma = |x, y, z| x * y + z;
                fms = |x, y, z| x * y - z;
                fnma = |x, y, z| z - x * y;
            }
            map1! {
                sqrt = |x| x.sqrt();
                abs = |x| x.abs();
                neg = |x| -x;
                floor = |x| $floor(x);
                ceil = |x| -$floor(-x);
                trunc = |x| $floor(x.abs()).copysign(x);
                round_even = |x| $round(x);
            }
            cmp! { eq ==; ne !=; lt <; le <=; }
            #[inline(always)]
            unsafe fn select(m: Self::M, a: Self::V, b: Self::V) -> Self::V {
                let mut out = a;
                for i in 0..$n {
                    out[i] = if m[i] { a[i] } else { b[i] };
                }
                out
            }
            #[inline(always)]
            unsafe fn mask_and(a: Self::M, b: Self::M) -> Self::M {
                core::array::from_fn(
                    #[inline(always)]
                    |i| a[i] & b[i],
                )
            }
            #[inline(always)]
            unsafe fn mask_or(a: Self::M, b: Self::M) -> Self::M {
                core::array::from_fn(
                    #[inline(always)]
                    |i| a[i] | b[i],
                )
            }
            #[inline(always)]
            unsafe fn mask_not(a: Self::M) -> Self::M {
                a.map(
                    #[inline(always)]
                    |x| !x,
                )
            }
            #[inline(always)]
            unsafe fn mask_bits(a: Self::M) -> u32 {
                let mut bits = 0;
                for i in 0..$n {
                    bits |= u32::from(a[i]) << i;
                }
                bits
            }
            #[inline(always)]
            unsafe fn mask_from_bits(bits: u32) -> Self::M {
                core::array::from_fn(
                    #[inline(always)]
                    |i| bits >> i & 1 != 0,
                )
            }
            #[inline(always)]
            unsafe fn scale(x: Self::V, n: Self::V) -> Self::V {
                let mut out = x;
                for i in 0..$n {
                    // Three factors keep each power of two normal; only the last product can round (x is in [1/2, 2],
                    // and when the result is subnormal the first two products are still normal).
                    let k = n[i] as i32;
                    let a = k / 3;
                    let b = k - 2 * a;
                    let (pa, pb) = ($pow(a), $pow(b));
                    out[i] = x[i] * pa * pa * pb;
                }
                out
            }
            #[inline(always)]
            unsafe fn pow2(n: Self::V) -> Self::V {
                n.map(
                    #[inline(always)]
                    |n| $t::from_bits((((n as i32).clamp(-$bias, $bias) + $bias) as $u) << $mant),
                )
            }
            #[inline(always)]
            unsafe fn pow2_of_sum(t: Self::V) -> Self::V {
                t.map(
                    #[inline(always)]
                    |t| $t::from_bits(t.to_bits() << $mant),
                )
            }
            #[inline(always)]
            unsafe fn split(x: Self::V) -> (Self::V, Self::V) {
                const HALF: $u = $half;
                const LOW: $u = (1 << $mant) - 1;
                let (mut m, mut e) = (x, x);
                for i in 0..$n {
                    // From sqrt(1/2) up, one binade after the other.
                    let bits = x[i].to_bits().wrapping_sub(HALF);
                    e[i] =
                        ((bits.wrapping_add(($bias as $u) << $mant) >> $mant) as i32 - $bias) as $t;
                    m[i] = $t::from_bits((bits & LOW) + HALF);
                }
                (m, e)
            }
            #[inline(always)]
            unsafe fn deinterleave(a: Self::V, b: Self::V) -> (Self::V, Self::V) {
                let (mut x, mut y) = (a, b);
                for i in 0..$n / 2 {
                    (x[i], y[i]) = (a[2 * i], a[2 * i + 1]);
                    (x[i + $n / 2], y[i + $n / 2]) = (b[2 * i], b[2 * i + 1]);
                }
                (x, y)
            }
            #[inline(always)]
            unsafe fn interleave(a: Self::V, b: Self::V) -> (Self::V, Self::V) {
                let (mut x, mut y) = (a, b);
                for i in 0..$n / 2 {
                    (x[2 * i], x[2 * i + 1]) = (a[i], b[i]);
                    (y[2 * i], y[2 * i + 1]) = (a[i + $n / 2], b[i + $n / 2]);
                }
                (x, y)
            }
            #[inline(always)]
            unsafe fn reduce_add(mut a: Self::V) -> $t {
                let mut half = $n / 2;
                while half > 0 {
                    for i in 0..half {
                        a[i] += a[i + half];
                    }
                    half /= 2;
                }
                a[0]
            }
        }
    };
}
scalar!(f32, u32, 8, mantissa 23, bias 127, half 0x3f35_04f3, round round_f32, floor floor_f32, pow2 pow2_f32);
scalar!(f64, u64, 4, mantissa 52, bias 1023, half 0x3fe6_a09e_667f_3bcd, round round_f64, floor floor_f64, pow2 pow2_f64);
