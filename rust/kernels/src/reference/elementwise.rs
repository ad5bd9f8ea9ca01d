//! Naive twins of [`crate::elementwise`].
use crate::element::{Number, Real, Strided};
pub use crate::elementwise::{Binary, Compare, Logical, Unary, UnaryGrad};

/// Every multi-index of `shape`, in C order.
pub(crate) fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let shape = shape.to_vec();
    let total: usize = shape.iter().product();
    (0..total).map(move |mut i| {
        let mut index = vec![0; shape.len()];
        for d in (0..shape.len()).rev() {
            index[d] = i % shape[d];
            i /= shape[d];
        }
        index
    })
}

/// Where a multi-index lies.
pub(crate) fn place(offset: usize, strides: &[isize], index: &[usize]) -> usize {
    let mut at = offset as isize;
    for (&i, &s) in index.iter().zip(strides) {
        at += i as isize * s;
    }
    at as usize
}

impl<T: Copy> Strided<'_, T> {
    /// The element at a multi-index.
    pub(crate) fn at(&self, index: &[usize]) -> T {
        self.data[place(self.offset, self.strides, index)]
    }
}

/// Error function, `2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!!`: all terms of one sign, so nothing cancels; from 2.5 up one minus
/// the continued fraction of erfc.
pub(crate) fn erf(x: f64) -> f64 {
    if x.is_nan() || x.abs() >= 6.5 {
        return if x.is_nan() { x } else { x.signum() };
    }
    if x.abs() > 2.5 {
        let a = x.abs();
        let tail = (1..=120).rev().fold(a, |t, k| a + f64::from(k) / 2.0 / t);
        return (1.0 - (-a * a).exp() / (core::f64::consts::PI.sqrt() * tail)).copysign(x);
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * 1e-18 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * core::f64::consts::FRAC_2_SQRT_PI
}

fn sigmoid(x: f64) -> f64 {
    if x < 0.0 {
        x.exp() / (1.0 + x.exp())
    } else {
        1.0 / (1.0 + (-x).exp())
    }
}

/// sqrt(2 / pi)
fn root() -> f64 {
    (2.0 / core::f64::consts::PI).sqrt()
}

fn unary_f64(op: Unary, x: f64) -> f64 {
    match op {
        _ if x.is_nan() && op != Unary::Powf(0.0) => x,
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => {
            if x == 0.0 {
                x
            } else {
                x.signum()
            }
        }
        Unary::Square => x * x,
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Recip => 1.0 / x,
        Unary::Exp => x.exp(),
        Unary::Expm1 => x.exp_m1(),
        Unary::Log => x.ln(),
        Unary::Log1p => x.ln_1p(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Trunc => x.trunc(),
        Unary::Relu => x.max(0.0),
        Unary::Gelu if x == f64::NEG_INFINITY => 0.0,
        Unary::Gelu => x * 0.5 * (1.0 + erf(x / 2f64.sqrt())),
        Unary::GeluTanh if x == f64::NEG_INFINITY => 0.0,
        Unary::GeluTanh => x * sigmoid(2.0 * root() * (x + 0.044715 * x * x * x)),
        Unary::Sigmoid => sigmoid(x),
        Unary::Tanh => x.tanh(),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Silu if x == f64::NEG_INFINITY => 0.0,
        Unary::Silu => x * sigmoid(x),
        Unary::Erf => erf(x),
        Unary::Clip { lo, hi } => x.max(lo).min(hi),
        Unary::Powf(p) => x.powf(p),
        Unary::Affine { mul, add } => mul * x + add,
    }
}

fn grad_f64(op: UnaryGrad, s: f64, g: f64) -> f64 {
    let infinite = s.is_infinite();
    let slope = match op {
        // The gradient is chosen, not multiplied: 0 also for an infinite g.
        UnaryGrad::Relu => return if s <= 0.0 { 0.0 } else { g },
        UnaryGrad::Clip { lo, hi } => return if lo <= s && s <= hi { g } else { 0.0 },
        UnaryGrad::Sigmoid => s * (1.0 - s),
        UnaryGrad::Tanh => 1.0 - s * s,
        UnaryGrad::Softplus => sigmoid(s),
        // The limits at infinity: 0 and 1.
        UnaryGrad::Silu | UnaryGrad::Gelu | UnaryGrad::GeluTanh if infinite => {
            f64::from(u8::from(s > 0.0))
        }
        UnaryGrad::Silu => sigmoid(s) * (1.0 + s * sigmoid(-s)),
        UnaryGrad::Gelu => {
            let cdf = 0.5 * (1.0 + erf(s / 2f64.sqrt()));
            cdf + s * (-0.5 * s * s).exp() / (2.0 * core::f64::consts::PI).sqrt()
        }
        UnaryGrad::GeluTanh => {
            let u = 2.0 * root() * (s + 0.044715 * s * s * s);
            let du = 2.0 * root() * (1.0 + 3.0 * 0.044715 * s * s);
            // An infinite du meets a sigmoid that is 0 at one of its ends.
            let tail = sigmoid(u) * sigmoid(-u);
            sigmoid(u) + if tail == 0.0 { 0.0 } else { s * tail * du }
        }
    };
    slope * g
}

/// See [`crate::elementwise::unary`].
pub fn unary<T: Real>(op: Unary, shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = T::from_f64(unary_f64(op, x.at(&i).to_f64()));
    }
}

/// See [`crate::elementwise::gelu_with_slope`].
pub fn gelu_with_slope<T: Real>(
    shape: &[usize],
    x: Strided<'_, T>,
    out: &mut [T],
    slope: &mut [T],
) {
    for ((y, slope), i) in out.iter_mut().zip(slope).zip(indices(shape)) {
        let x = x.at(&i).to_f64();
        *y = T::from_f64(unary_f64(Unary::Gelu, x));
        *slope = T::from_f64(grad_f64(UnaryGrad::Gelu, x, 1.0));
    }
}

/// See [`crate::elementwise::unary_int`].
///
/// # Panics
/// For an op that integers do not have.
pub fn unary_int<T: Number>(op: Unary, shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        let v = x.at(&i);
        let wide = v.to_i64();
        *y = match op {
            Unary::Neg => T::from_i64(wide.wrapping_neg()),
            Unary::Abs => T::from_i64(wide.wrapping_abs()),
            Unary::Sign => T::from_i64(wide.signum()),
            Unary::Square => T::from_i64(wide.wrapping_mul(wide)),
            _ => panic!("{op:?} is not defined for integers"),
        };
    }
}

/// See [`crate::elementwise::unary_backward`].
pub fn unary_backward<T: Real>(
    op: UnaryGrad,
    shape: &[usize],
    saved: Strided<'_, T>,
    g: Strided<'_, T>,
    out: &mut [T],
) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = T::from_f64(grad_f64(op, saved.at(&i).to_f64(), g.at(&i).to_f64()));
    }
}

fn binary_f64(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Maximum if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Maximum => a.max(b),
        Binary::Minimum if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Minimum => a.min(b),
        Binary::FloorDivide if b == 0.0 => a / b,
        Binary::FloorDivide if b.is_infinite() && a.is_finite() => {
            f64::from(-i32::from(a != 0.0 && (a < 0.0) != (b < 0.0)))
        }
        Binary::FloorDivide => {
            // Exact: the remainder is, and what is left divides evenly up to rounding.
            let r = binary_f64(Binary::Remainder, a, b);
            ((a - r) / b).round()
        }
        Binary::Remainder => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) {
                r + b
            } else {
                r
            }
        }
    }
}

/// `a^b` for `b >= 0`, wrapped.
fn power(a: i64, b: i64) -> i64 {
    match b {
        0 => 1,
        _ if b % 2 == 0 => power(a.wrapping_mul(a), b / 2),
        _ => a.wrapping_mul(power(a, b - 1)),
    }
}

/// In 128 bits, wrapped at the end.
fn binary_int(op: Binary, a: i64, b: i64) -> i64 {
    let (x, y) = (i128::from(a), i128::from(b));
    let wide = match op {
        Binary::Add => x + y,
        Binary::Sub => x - y,
        Binary::Mul => x * y,
        Binary::Maximum => x.max(y),
        Binary::Minimum => x.min(y),
        Binary::Div if y == 0 => 0,
        Binary::Div => x / y,
        Binary::FloorDivide | Binary::Remainder if y == 0 => 0,
        Binary::FloorDivide => x.div_euclid(y) - i128::from(y < 0 && x.rem_euclid(y) != 0),
        Binary::Remainder => {
            let r = x % y;
            if r != 0 && (r < 0) != (y < 0) {
                r + y
            } else {
                r
            }
        }
        Binary::Pow if b < 0 => match a {
            1 => 1,
            -1 => 1 - 2 * i128::from(b % 2 != 0),
            _ => 0,
        },
        Binary::Pow => i128::from(power(a, b)),
    };
    wide as i64
}

/// See [`crate::elementwise::binary`].
pub fn binary<T: Number>(
    op: Binary,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        let (a, b) = (a.at(&i), b.at(&i));
        *y = if T::IS_FLOAT {
            T::from_f64(binary_f64(op, a.to_f64(), b.to_f64()))
        } else {
            T::from_i64(binary_int(op, a.to_i64(), b.to_i64()))
        };
    }
}

/// See [`crate::elementwise::compare`].
pub fn compare<T: Number>(
    op: Compare,
    shape: &[usize],
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [u8],
) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        let (a, b) = (a.at(&i), b.at(&i));
        let truth = match op {
            Compare::Eq => a == b,
            Compare::Ne => a != b,
            Compare::Lt => a < b,
            Compare::Le => a <= b,
            Compare::Gt => a > b,
            Compare::Ge => a >= b,
        };
        *y = u8::from(truth);
    }
}

/// See [`crate::elementwise::logical`].
pub fn logical(
    op: Logical,
    shape: &[usize],
    a: Strided<'_, u8>,
    b: Strided<'_, u8>,
    out: &mut [u8],
) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        let (a, b) = (a.at(&i) != 0, b.at(&i) != 0);
        let truth = match op {
            Logical::And => a && b,
            Logical::Or => a || b,
            Logical::Xor => a != b,
        };
        *y = u8::from(truth);
    }
}

/// See [`crate::elementwise::select`].
pub fn select<T: Number>(
    shape: &[usize],
    c: Strided<'_, u8>,
    a: Strided<'_, T>,
    b: Strided<'_, T>,
    out: &mut [T],
) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = if c.at(&i) != 0 { a.at(&i) } else { b.at(&i) };
    }
}

/// See [`crate::elementwise::cast`].
pub fn cast<A: Number, B: Number>(shape: &[usize], x: Strided<'_, A>, out: &mut [B]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = x.at(&i).convert();
    }
}

/// See [`crate::elementwise::cast_bool`].
pub fn cast_bool<A: Number>(shape: &[usize], x: Strided<'_, A>, out: &mut [u8]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = u8::from(x.at(&i) != A::ZERO);
    }
}

/// See [`crate::elementwise::copy`].
pub fn copy<T: Number>(shape: &[usize], x: Strided<'_, T>, out: &mut [T]) {
    for (y, i) in out.iter_mut().zip(indices(shape)) {
        *y = x.at(&i);
    }
}

/// See [`crate::elementwise::fill`].
pub fn fill<T: Copy + Send + Sync>(out: &mut [T], x: T) {
    for y in out {
        *y = x;
    }
}

/// See [`crate::elementwise::copy_into`].
pub fn copy_into<T: Number>(
    shape: &[usize],
    x: Strided<'_, T>,
    dst: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    for i in indices(shape) {
        dst[place(offset, strides, &i)] = x.at(&i);
    }
}

/// See [`crate::elementwise::add_into`].
pub fn add_into<T: Real>(
    shape: &[usize],
    x: Strided<'_, T>,
    dst: &mut [T],
    offset: usize,
    strides: &[isize],
) {
    for i in indices(shape) {
        let at = place(offset, strides, &i);
        dst[at] += x.at(&i);
    }
}
