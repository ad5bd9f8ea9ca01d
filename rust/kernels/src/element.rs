//! Element types and the strided operand that kernels read.

/// Anything that a tensor can hold: `f32`, `f64`, `i64`, `i32`, `i16`, `i8`, `u8` (`bool` is stored as `u8` 0 or 1).
pub trait Number:
    Copy + Send + Sync + PartialEq + PartialOrd + Default + core::fmt::Debug + 'static
{
    /// Additive identity.
    const ZERO: Self;
    /// Multiplicative identity.
    const ONE: Self;
    /// Conversion with Rust's `as` semantics (saturating from float, wrapping between integers).
    fn from_f64(x: f64) -> Self;
    /// Conversion with Rust's `as` semantics.
    fn to_f64(self) -> f64;
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
    ($($t:ty),*) => {$(
        impl Number for $t {
            const ZERO: Self = 0 as $t;
            const ONE: Self = 1 as $t;
            fn from_f64(x: f64) -> Self { x as $t }
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}
number!(f32, f64, i64, i32, i16, i8, u8);

/// `f32` and `f64`: the types that the fast kernels are generic over.
pub trait Real:
    Number
    + core::ops::Add<Output = Self>
    + core::ops::Sub<Output = Self>
    + core::ops::Mul<Output = Self>
    + core::ops::Div<Output = Self>
    + core::ops::Neg<Output = Self>
    + core::ops::AddAssign
{
}
impl Real for f32 {}
impl Real for f64 {}
