//! Element-wise maps over strided operands; the output is dense and C-contiguous in `shape`.
//! (A caller that wants another dense layout permutes the axes of all operands first.)
use crate::element::{Number, Real, Strided};
use crate::layout::{CHUNK, Dims, check_bounds, numel};
use crate::parallel::{Cost, SharedMut, for_each_chunk};
use crate::simd::{autovec, dispatch_on, isa};
use crate::stream;

pub(crate) mod blocks;
mod copy;
pub(crate) mod drive;
mod float;
#[cfg(test)]
mod tests;

/// `out[i] = x`
pub fn fill<T: Copy + Send + Sync>(out: &mut [T], x: T) {
    if out.len() <= CHUNK {
        return out.fill(x);
    }
    let cost = Cost {
        flops: 0.0,
        bytes: size_of_val(out) as f64,
    };
    let to = SharedMut(out.as_mut_ptr());
    let to = &to;
    for_each_chunk(out.len(), CHUNK, cost, &|range| {
        // SAFETY: ranges are disjoint parts of `out`.
        unsafe { to.slice(range.start, range.len()) }.fill(x);
    });
}

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

/// Whether to write `out` past the caches, beside which as much is read for each of `operands`.
fn past_cache<T>(out: &[T], operands: usize) -> bool {
    stream::pays(size_of_val(out).saturating_mul(1 + operands), out.as_ptr())
}

/// A rough number of floating-point operations per element: what decides whether threads are worth waking.
fn flops(op: Unary) -> usize {
    match op {
        Unary::Neg | Unary::Abs | Unary::Relu | Unary::Square | Unary::Affine { .. } => 1,
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc | Unary::Sign => 2,
        Unary::Clip { .. } => 2,
        Unary::Sqrt | Unary::Rsqrt | Unary::Recip => 8,
        Unary::Powf(_) => 400,
        _ => 50,
    }
}

/// `out[i] = op(x[i])`.
///
/// # Panics
/// As all functions here, when `out` has another length than `shape` or an operand leaves its storage.
pub fn unary<T: Real>(op: Unary, shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    let (isa, past) = (isa(), past_cache(out, 1));
    drive::map1(flops(op), shape, x, out, |x, out, n| {
        dispatch_on(
            isa,
            float::Map {
                op,
                x,
                out,
                n,
                past,
            },
        );
    });
}
/// `out[i] = gelu(x[i])` and `slope[i]` its derivative, which share most of their work: for the step that will want both.
///
/// # Panics
/// As all functions here, when `out` or `slope` has another length than `shape` or `x` leaves its storage.
pub fn gelu_with_slope<T: Real>(
    shape: &[usize],
    x: Strided<'_, T>,
    out: &mut [T],
    slope: &mut [T],
) {
    assert_eq!(slope.len(), out.len(), "length of the slopes");
    let past = past_cache(out, 2) && past_cache(slope, 2);
    let isa = isa();
    let (start, slope) = (out.as_ptr().addr(), SharedMut(slope.as_mut_ptr()));
    let slope = &slope;
    drive::map1(flops(Unary::Gelu), shape, x, out, |x, out, n| {
        let at = (out.addr() - start) / size_of::<T>();
        dispatch_on(
            isa,
            float::GeluWithSlope {
                x,
                out,
                slope: slope.0.wrapping_add(at),
                n,
                past,
            },
        );
    });
}
/// `Neg`, `Abs`, `Sign`, `Square` (wrapping) for integers.
///
/// # Panics
/// For any other op.
pub fn unary_int<T: Number>(op: Unary, shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    let isa = isa();
    drive::map1(1, shape, x, out, |x, out, n| {
        // SAFETY: the driver hands out n elements of each.
        unsafe { T::unary_block(isa, op, x, out, n) }
    });
}
/// `out[i] = op'(saved[i]) * g[i]`.
pub fn unary_backward<T: Real>(
    op: UnaryGrad,
    shape: &[usize],
    saved: Strided<'_, T>,
    g: Strided<'_, T>,
    out: &mut [T],
) {
    let flops = match op {
        UnaryGrad::Relu | UnaryGrad::Sigmoid | UnaryGrad::Tanh | UnaryGrad::Clip { .. } => 3,
        _ => 60,
    };
    let (isa, past) = (isa(), past_cache(out, 2));
    drive::map2(flops, shape, saved, g, out, |saved, g, out, n| {
        dispatch_on(
            isa,
            float::Grad {
                op,
                saved,
                g,
                out,
                n,
                past,
            },
        );
    });
}
/// `out[i] = op(a[i], b[i])`. Integers wrap; integer `Div` truncates; integer `FloorDivide` and `Remainder` follow
/// Python's sign; all three give 0 for a zero divisor (the caller rejects it first). An integer to a negative power is
/// its truncated value: 0, or a power of 1 or -1. Float `FloorDivide` and `Remainder` follow Python too;
/// `Maximum` and `Minimum` propagate NaN.
pub fn binary<T: Number>(
    op: Binary,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    let flops = match op {
        Binary::Pow => 400,
        Binary::FloorDivide | Binary::Remainder => 100,
        Binary::Div => 8,
        _ => 1,
    };
    let (isa, past) = (isa(), past_cache(out, 2));
    drive::map2(flops, shape, a, b, out, |a, b, out, n| {
        // SAFETY: the driver hands out n elements of each, and cuts `out` at multiples of 64 elements.
        unsafe { T::binary_block(isa, op, a, b, out, n, past) }
    });
}

/// `out[i] = f(a[i], b[i])` in a plain loop that the compiler vectorises.
/// # Safety
/// n elements at each pointer; `out` overlaps neither input.
#[inline(always)]
unsafe fn zip<A: Copy, B: Copy, R>(
    a: *const A,
    b: *const B,
    out: *mut R,
    n: usize,
    f: impl Fn(A, B) -> R,
) {
    for i in 0..n {
        // SAFETY: the caller's promise.
        unsafe { out.add(i).write(f(*a.add(i), *b.add(i))) };
    }
}

/// `out[i] = a[i] <op> b[i]`.
pub fn compare<T: Number>(
    op: Compare,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [u8],
) {
    let isa = isa();
    drive::map2(1, shape, a, b, out, |a, b, out, n| {
        // SAFETY: the driver hands out n elements of each.
        autovec(isa, || unsafe {
            match op {
                Compare::Eq => zip(a, b, out, n, |a, b| u8::from(a == b)),
                Compare::Ne => zip(a, b, out, n, |a, b| u8::from(a != b)),
                Compare::Lt => zip(a, b, out, n, |a, b| u8::from(a < b)),
                Compare::Le => zip(a, b, out, n, |a, b| u8::from(a <= b)),
                Compare::Gt => zip(b, a, out, n, |a, b| u8::from(a < b)),
                Compare::Ge => zip(b, a, out, n, |a, b| u8::from(a <= b)),
            }
        });
    });
}
/// Logic on 0/1 bytes.
pub fn logical(
    op: Logical,
    shape: &[usize],
    a: Strided<'_, u8>,
    b: Strided<'_, u8>,
    out: &mut [u8],
) {
    let isa = isa();
    drive::map2(1, shape, a, b, out, |a, b, out, n| {
        // SAFETY: the driver hands out n elements of each.
        autovec(isa, || unsafe {
            match op {
                Logical::And => zip(a, b, out, n, |a, b| a & b),
                Logical::Or => zip(a, b, out, n, |a, b| a | b),
                Logical::Xor => zip(a, b, out, n, |a, b| a ^ b),
            }
        });
    });
}
/// `out[i] = if c[i] != 0 { a[i] } else { b[i] }`.
pub fn select<T: Number>(
    shape: &[usize],
    c: Strided<'_, u8>,
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    let isa = isa();
    drive::map3(shape, c, a, b, out, |c, a, b, out, n| {
        autovec(isa, || {
            for i in 0..n {
                // SAFETY: the driver hands out n elements of each. Both sides are read, so that no branch is left.
                unsafe {
                    let (x, y) = (*a.add(i), *b.add(i));
                    out.add(i).write(if *c.add(i) != 0 { x } else { y });
                }
            }
        });
    });
}
/// Conversion with Rust's `as` semantics.
pub fn cast<A: Number, B: Number>(shape: &[usize], x: Strided<'_, A>, out: &mut [B]) {
    let isa = isa();
    drive::map1(1, shape, x, out, |x, out, n| {
        // SAFETY: the driver hands out n elements of each.
        autovec(isa, || unsafe { zip(x, x, out, n, |x, _| x.convert()) });
    });
}
/// Conversion to bool: `x != 0` (NaN is true).
pub fn cast_bool<A: Number>(shape: &[usize], x: Strided<'_, A>, out: &mut [u8]) {
    let isa = isa();
    drive::map1(1, shape, x, out, |x, out, n| {
        // SAFETY: the driver hands out n elements of each.
        autovec(isa, || unsafe {
            zip(x, x, out, n, |x, _| u8::from(x != A::ZERO))
        });
    });
}
/// Strided to dense copy (transposes in cache-sized tiles).
pub fn copy<T: Number>(shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    assert_eq!(out.len(), numel(shape), "output length");
    check_bounds(x.data.len(), x.offset, shape, x.strides);
    copy::copy_dense(shape, x, out);
}
/// Dense to strided copy: `dst` element `i` of `shape` is `dst[offset + sum(i*strides)]`; strides address each element once.
pub fn copy_into<T: Number>(
    shape: &[usize],
    x: Strided<'_, T>,
    dst: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    into(shape, x, dst, offset, strides, None);
}
/// As [`copy_into`], but adds to what is there.
pub fn add_into<T: Real>(
    shape: &[usize],
    x: Strided<'_, T>,
    dst: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    let add = |to: &mut [T], x: &[T]| {
        for (to, x) in to.iter_mut().zip(x) {
            *to += *x;
        }
    };
    into(shape, x, dst, offset, strides, Some(add));
}
fn into<T: Number>(
    shape: &[usize],
    x: Strided<'_, T>,
    dst: &mut [T],
    offset: usize,
    strides: &[isize],
    add: Option<copy::AddTo<T>>,
) {
    check_bounds(x.data.len(), x.offset, shape, x.strides);
    check_bounds(dst.len(), offset, shape, strides);
    if numel(shape) == 0 {
        return;
    }
    let dims = Dims::new(shape, [x.strides, strides]);
    // SAFETY: both walks were checked; a stride of 0 or a negative one only repeats or reverses checked elements.
    unsafe {
        copy::copy_strided(
            &dims,
            x.data.as_ptr().add(x.offset),
            dst.as_mut_ptr().add(offset),
            add,
        );
    }
}
