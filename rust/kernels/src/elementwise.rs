//! Element-wise maps over strided operands; the output is dense and C-contiguous in `shape`.
//! (A caller that wants another dense layout permutes the axes of all operands first.)
use crate::element::{Number, Real, Strided};

/// `y = f(x)` for real `x`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Unary {
    Neg,
    Abs,
    Sign,
    Square,
    Sqrt,
    Rsqrt,
    Recip,
    Exp,
    Expm1,
    Log,
    Log1p,
    Sin,
    Cos,
    Floor,
    Ceil,
    Round,
    Trunc,
    Relu,
    Gelu,
    GeluTanh,
    Sigmoid,
    Tanh,
    Softplus,
    Silu,
    Erf,
    /// `min(max(x, lo), hi)`; NaN stays NaN.
    Clip {
        lo: f64,
        hi: f64,
    },
    /// `x^p` for a constant exponent.
    Powf(f64),
    /// `a * x + b`
    Affine {
        mul: f64,
        add: f64,
    },
}

/// `dx = f'(saved) * g`, where `saved` is the input or the output of the forward pass, as named.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum UnaryGrad {
    /// saved: output
    Relu,
    /// saved: input
    Gelu,
    /// saved: input
    GeluTanh,
    /// saved: output
    Sigmoid,
    /// saved: output
    Tanh,
    /// saved: input
    Softplus,
    /// saved: input
    Silu,
    /// saved: input; 1 inside `[lo, hi]`, 0 outside
    Clip { lo: f64, hi: f64 },
}

/// `y = f(a, b)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Maximum,
    Minimum,
    FloorDivide,
    Remainder,
}

/// `y = a <op> b`, 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Logic on 0/1 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Logical {
    And,
    Or,
    Xor,
}

/// `out[i] = op(x[i])`.
pub fn unary<T: Real>(op: Unary, shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    unimplemented!()
}
/// `Neg`, `Abs`, `Sign`, `Square` (wrapping) for integers; other ops panic.
pub fn unary_int<T: Number>(op: Unary, shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    unimplemented!()
}
/// `out[i] = op'(saved[i]) * g[i]`.
pub fn unary_backward<T: Real>(
    op: UnaryGrad,
    shape: &[usize],
    saved: Strided<'_, T>,
    g: Strided<'_, T>,
    out: &mut [T],
) {
    unimplemented!()
}
/// `out[i] = op(a[i], b[i])`. Integers wrap; integer `Div` is not called; integer `FloorDivide` and `Remainder` follow
/// Python's sign and give 0 for a zero divisor (the caller rejects it first).
pub fn binary<T: Number>(
    op: Binary,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    unimplemented!()
}
/// `out[i] = a[i] <op> b[i]`.
pub fn compare<T: Number>(
    op: Compare,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [u8],
) {
    unimplemented!()
}
/// Logic on 0/1 bytes.
pub fn logical(
    op: Logical,
    shape: &[usize],
    a: Strided<'_, u8>,
    b: Strided<'_, u8>,
    out: &mut [u8],
) {
    unimplemented!()
}
/// `out[i] = if c[i] != 0 { a[i] } else { b[i] }`.
pub fn select<T: Number>(
    shape: &[usize],
    c: Strided<'_, u8>,
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    unimplemented!()
}
/// Conversion with Rust's `as` semantics.
pub fn cast<A: Number, B: Number>(shape: &[usize], x: Strided<'_, A>, out: &mut [B]) {
    unimplemented!()
}
/// Conversion to bool: `x != 0` (NaN is true).
pub fn cast_bool<A: Number>(shape: &[usize], x: Strided<'_, A>, out: &mut [u8]) {
    unimplemented!()
}
/// Strided to dense copy (transposes in cache-sized tiles).
pub fn copy<T: Number>(shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    unimplemented!()
}
/// Dense to strided copy: `dst` element `i` of `shape` is `dst[offset + sum(i*strides)]`; strides address each element once.
pub fn copy_into<T: Number>(
    shape: &[usize],
    x: Strided<'_, T>,
    dst: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    unimplemented!()
}
