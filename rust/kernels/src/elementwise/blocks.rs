//! What each element type does to a dense block: integers in plain loops, floats in vectors.
use super::{Binary, Unary, float, zip};
use crate::simd::{Isa, autovec, dispatch_on};

/// Operations on dense blocks; part of [`crate::Number`], not for use outside of this crate.
pub trait Blocks: Copy {
    /// `out[i] = op(a[i], b[i])`; `past`: write past the caches.
    /// # Safety
    /// n elements at each pointer; `out` overlaps neither input, and if `past` is aligned to 64 bytes.
    unsafe fn binary_block(
        isa: Isa,
        op: Binary,
        a: *const Self,
        b: *const Self,
        out: *mut Self,
        n: usize,
        past: bool,
    );
    /// `out[i] = op(x[i])` for the ops that integers have.
    /// # Safety
    /// As for [`Blocks::binary_block`].
    unsafe fn unary_block(isa: Isa, op: Unary, x: *const Self, out: *mut Self, n: usize);
}

macro_rules! integer {
    ($($t:ident)*) => {$(
        #[allow(unused_comparisons)]
        impl Blocks for $t {
            unsafe fn binary_block(isa: Isa, op: Binary, a: *const $t, b: *const $t, out: *mut $t, n: usize, _past: bool) {
                // SAFETY: the caller's promise.
                autovec(isa, || unsafe {
                    match op {
                        Binary::Add => zip(a, b, out, n, |a, b| a.wrapping_add(b)),
                        Binary::Sub => zip(a, b, out, n, |a, b| a.wrapping_sub(b)),
                        Binary::Mul => zip(a, b, out, n, |a, b| a.wrapping_mul(b)),
                        Binary::Maximum => zip(a, b, out, n, |a, b| a.max(b)),
                        Binary::Minimum => zip(a, b, out, n, |a, b| a.min(b)),
                        Binary::Div => zip(a, b, out, n, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
                        Binary::Pow => zip(a, b, out, n, |a, b| {
                            if b >= 0 {
                                power(a, b as u64, $t::wrapping_mul)
                            } else if a == 1 {
                                1
                            } else if a.wrapping_add(1) == 0 {
                                if b % 2 == 0 { 1 } else { a }
                            } else {
                                0
                            }
                        }),
                        Binary::FloorDivide => zip(a, b, out, n, |a, b| {
                            if b == 0 {
                                return 0;
                            }
                            let r = a.wrapping_rem(b);
                            a.wrapping_div(b) - $t::from(r != 0 && (r < 0) != (b < 0))
                        }),
                        Binary::Remainder => zip(a, b, out, n, |a, b| {
                            if b == 0 {
                                return 0;
                            }
                            let r = a.wrapping_rem(b);
                            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
                        }),
                    }
                });
            }
            unsafe fn unary_block(isa: Isa, op: Unary, x: *const $t, out: *mut $t, n: usize) {
                // SAFETY: the caller's promise.
                autovec(isa, || unsafe {
                    match op {
                        Unary::Neg => zip(x, x, out, n, |x, _| x.wrapping_neg()),
                        Unary::Abs => zip(x, x, out, n, |x, _| if x < 0 { x.wrapping_neg() } else { x }),
                        Unary::Sign => zip(x, x, out, n, |x, _| {
                            if x < 0 { (0 as $t).wrapping_sub(1) } else { $t::from(x > 0) }
                        }),
                        Unary::Square => zip(x, x, out, n, |x, _| x.wrapping_mul(x)),
                        _ => panic!("{op:?} is not defined for integers"),
                    }
                });
            }
        }
    )*};
}
integer!(i64 i32 i16 i8 u8);

/// `x^k` by repeated squaring; k of any size, so no overflow of the exponent.
fn power<T: Copy + From<bool>>(x: T, mut k: u64, mul: impl Fn(T, T) -> T) -> T {
    let (mut y, mut x) = (T::from(true), x);
    while k > 0 {
        if k & 1 == 1 {
            y = mul(y, x);
        }
        x = mul(x, x);
        k >>= 1;
    }
    y
}

macro_rules! real {
    ($($t:ident)*) => {$(
        impl Blocks for $t {
            unsafe fn binary_block(isa: Isa, op: Binary, a: *const $t, b: *const $t, out: *mut $t, n: usize, past: bool) {
                // SAFETY: the caller's promise.
                unsafe {
                    match op {
                        Binary::Pow => zip(a, b, out, n, |a, b| a.powf(b)),
                        Binary::FloorDivide => zip(a, b, out, n, |a, b| {
                            let m = a % b;
                            if b == 0.0 {
                                return a / b;
                            }
                            let q = (a - m) / b - $t::from(u8::from(m != 0.0 && (b < 0.0) != (m < 0.0)));
                            if q == 0.0 {
                                return (0.0 as $t).copysign(a / b);
                            }
                            let f = q.floor();
                            if q - f > 0.5 { f + 1.0 } else { f }
                        }),
                        Binary::Remainder => zip(a, b, out, n, |a, b| {
                            let m = a % b;
                            if m == 0.0 {
                                (0.0 as $t).copysign(b)
                            } else if (b < 0.0) != (m < 0.0) {
                                m + b
                            } else {
                                m
                            }
                        }),
                        _ => dispatch_on(isa, float::Zip { op, a, b, out, n, past }),
                    }
                }
            }
            unsafe fn unary_block(isa: Isa, op: Unary, x: *const $t, out: *mut $t, n: usize) {
                dispatch_on(isa, float::Map { op, x, out, n, past: false });
            }
        }
    )*};
}
real!(f32 f64);
