//! Vector bodies for real numbers. An element gets the same bits in a full vector and in a masked tail.
use super::{Binary, Unary, UnaryGrad};
use crate::element::{Number, Real};
use crate::simd::{Kernel, Simd, math};

/// A loop with full vectors and one masked tail, the expression compiled twice: for short expressions.
macro_rules! light {
    ($S:ident, $past:expr, $n:expr, $out:expr, |$($v:ident = $p:ident),*| $e:expr) => {{
        let mut i = 0;
        while i + $S::LANES <= $n {
            $(let $v = $S::load($p.add(i));)*
            $S::put($past, $out.add(i), $e);
            i += $S::LANES;
        }
        if i < $n {
            $(let $v = $S::load_n($p.add(i), $n - i);)*
            $S::store_n($out.add(i), $e, $n - i);
        }
    }};
}
/// The same with the expression compiled once: for long expressions, beside which two well-predicted branches vanish.
macro_rules! heavy {
    ($S:ident, $past:expr, $n:expr, $out:expr, |$($v:ident = $p:ident),*| $e:expr) => {{
        let mut i = 0;
        while i < $n {
            let full = i + $S::LANES <= $n;
            $(let $v = if full { $S::load($p.add(i)) } else { $S::load_n($p.add(i), $n - i) };)*
            let y = $e;
            if full {
                $S::put($past, $out.add(i), y);
            } else {
                $S::store_n($out.add(i), y, $n - i);
            }
            i += $S::LANES;
        }
    }};
}

/// `out[..n] = op(x[..n])`
pub(super) struct Map<T> {
    pub op: Unary,
    pub x: *const T,
    pub out: *mut T,
    pub n: usize,
    /// Write past the caches; then `out` is aligned to 64 bytes.
    pub past: bool,
}

impl<T: Real> Kernel<T> for Map<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Map {
            op,
            x,
            out,
            n,
            past,
        } = self;
        // SAFETY: run by dispatch; the driver hands out n elements of each; loads and stores stay below n.
        unsafe {
            let one = S::c(1.0);
            match op {
                Unary::Neg => light!(S, past, n, out, |v = x| S::neg(v)),
                Unary::Abs => light!(S, past, n, out, |v = x| S::abs(v)),
                Unary::Sign => light!(S, past, n, out, |v = x| {
                    let zero_or_nan = S::mask_not(S::lt(S::zero(), S::abs(v)));
                    S::select(zero_or_nan, v, S::copysign(one, v))
                }),
                Unary::Square => light!(S, past, n, out, |v = x| S::mul(v, v)),
                Unary::Sqrt => light!(S, past, n, out, |v = x| S::sqrt(v)),
                Unary::Rsqrt => light!(S, past, n, out, |v = x| S::div(one, S::sqrt(v))),
                Unary::Recip => light!(S, past, n, out, |v = x| S::div(one, v)),
                Unary::Exp => heavy!(S, past, n, out, |v = x| math::exp::<S>(v)),
                Unary::Expm1 => heavy!(S, past, n, out, |v = x| math::exp_m1::<S>(v)),
                Unary::Log => heavy!(S, past, n, out, |v = x| math::log::<S>(v)),
                Unary::Log1p => heavy!(S, past, n, out, |v = x| math::log_1p::<S>(v)),
                Unary::Sin => heavy!(S, past, n, out, |v = x| math::sin::<S>(v)),
                Unary::Cos => heavy!(S, past, n, out, |v = x| math::cos::<S>(v)),
                Unary::Floor => light!(S, past, n, out, |v = x| S::floor(v)),
                Unary::Ceil => light!(S, past, n, out, |v = x| S::ceil(v)),
                Unary::Round => light!(S, past, n, out, |v = x| S::round_even(v)),
                Unary::Trunc => light!(S, past, n, out, |v = x| S::trunc(v)),
                // max returns its second operand when it is NaN.
                Unary::Relu => light!(S, past, n, out, |v = x| S::max(S::zero(), v)),
                Unary::Gelu => heavy!(S, past, n, out, |v = x| math::gelu::<S>(v)),
                Unary::GeluTanh => heavy!(S, past, n, out, |v = x| math::gelu_tanh::<S>(v)),
                Unary::Sigmoid => heavy!(S, past, n, out, |v = x| math::sigmoid::<S>(v)),
                Unary::Tanh => heavy!(S, past, n, out, |v = x| math::tanh::<S>(v)),
                Unary::Softplus => heavy!(S, past, n, out, |v = x| math::softplus::<S>(v)),
                Unary::Silu => heavy!(S, past, n, out, |v = x| math::silu::<S>(v)),
                Unary::Erf => heavy!(S, past, n, out, |v = x| math::erf::<S>(v)),
                Unary::Clip { lo, hi } => {
                    let (lo, hi) = (S::c(lo), S::c(hi));
                    light!(S, past, n, out, |v = x| S::min(hi, S::max(lo, v)));
                }
                Unary::Affine { mul, add } => {
                    // Not fused, so that every instruction set agrees.
                    let (a, b) = (S::c(mul), S::c(add));
                    light!(S, past, n, out, |v = x| S::add(S::mul(v, a), b));
                }
                Unary::Powf(p) => power::<S>(past, p, x, out, n),
            }
            if past {
                S::fence();
            }
        }
    }
}

/// `x^p`: the common exponents by arithmetic, the others by the standard library, lane by lane.
#[inline(always)]
unsafe fn power<S: Simd>(past: bool, p: f64, x: *const S::T, out: *mut S::T, n: usize) {
    // SAFETY: as in `Map::run`.
    unsafe {
        let one = S::c(1.0);
        if p == 1.0 {
            light!(S, past, n, out, |v = x| v);
        } else if p == 2.0 {
            light!(S, past, n, out, |v = x| S::mul(v, v));
        } else if p == 3.0 {
            light!(S, past, n, out, |v = x| S::mul(S::mul(v, v), v));
        } else if p == 0.5 {
            // Unlike the root, the power of -0 is +0 and that of -inf is +inf.
            light!(S, past, n, out, |v = x| {
                let inf = S::c(f64::INFINITY);
                S::select(S::eq(S::abs(v), inf), inf, S::sqrt(S::add(v, S::zero())))
            });
        } else if p == -1.0 {
            light!(S, past, n, out, |v = x| S::div(one, v));
        } else {
            let p = S::T::from_f64(p);
            for i in 0..n {
                out.add(i).write((*x.add(i)).powf(p));
            }
        }
    }
}

/// `out[..n] = op'(saved[..n]) * g[..n]`
pub(super) struct Grad<T> {
    pub op: UnaryGrad,
    pub saved: *const T,
    pub g: *const T,
    pub out: *mut T,
    pub n: usize,
    /// Write past the caches; then `out` is aligned to 64 bytes.
    pub past: bool,
}

impl<T: Real> Kernel<T> for Grad<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Grad {
            op,
            saved,
            g,
            out,
            n,
            past,
        } = self;
        // SAFETY: run by dispatch; the driver hands out n elements of each; loads and stores stay below n.
        unsafe {
            let one = S::c(1.0);
            match op {
                UnaryGrad::Relu => light!(S, past, n, out, |y = saved, d = g| {
                    S::select(S::le(y, S::zero()), S::zero(), d)
                }),
                UnaryGrad::Sigmoid => light!(S, past, n, out, |y = saved, d = g| {
                    S::mul(d, S::mul(y, S::sub(one, y)))
                }),
                UnaryGrad::Tanh => light!(S, past, n, out, |y = saved, d = g| {
                    S::mul(d, S::fnma(y, y, one))
                }),
                UnaryGrad::Softplus => heavy!(S, past, n, out, |v = saved, d = g| {
                    S::mul(d, math::sigmoid::<S>(v))
                }),
                UnaryGrad::Silu => heavy!(S, past, n, out, |v = saved, d = g| {
                    S::mul(d, math::silu_grad::<S>(v))
                }),
                UnaryGrad::Gelu => heavy!(S, past, n, out, |v = saved, d = g| {
                    S::mul(d, math::gelu_grad::<S>(v))
                }),
                UnaryGrad::GeluTanh => heavy!(S, past, n, out, |v = saved, d = g| {
                    S::mul(d, math::gelu_tanh_grad::<S>(v))
                }),
                UnaryGrad::Clip { lo, hi } => {
                    let (lo, hi) = (S::c(lo), S::c(hi));
                    light!(S, past, n, out, |v = saved, d = g| {
                        let inside = S::mask_and(S::le(lo, v), S::le(v, hi));
                        S::select(inside, d, S::zero())
                    });
                }
            }
            if past {
                S::fence();
            }
        }
    }
}

/// `out[..n] = gelu(x[..n])`, `slope[..n]` its derivative.
pub(super) struct GeluWithSlope<T> {
    pub x: *const T,
    pub out: *mut T,
    pub slope: *mut T,
    pub n: usize,
    /// Write past the caches; then `out` and `slope` are aligned to 64 bytes.
    pub past: bool,
}

impl<T: Real> Kernel<T> for GeluWithSlope<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let n = self.n;
        let mut i = 0;
        // SAFETY: run by dispatch; the driver hands out n elements of each; loads and stores stay below n.
        unsafe {
            while i + S::LANES <= n {
                let (y, slope) = math::gelu_with_slope::<S>(S::load(self.x.add(i)));
                S::put(self.past, self.out.add(i), y);
                S::put(self.past, self.slope.add(i), slope);
                i += S::LANES;
            }
            if i < n {
                let (y, slope) = math::gelu_with_slope::<S>(S::load_n(self.x.add(i), n - i));
                S::store_n(self.out.add(i), y, n - i);
                S::store_n(self.slope.add(i), slope, n - i);
            }
            if self.past {
                S::fence();
            }
        }
    }
}

/// `out[..n] = op(a[..n], b[..n])` for the ops that vectors have.
pub(super) struct Zip<T> {
    pub op: Binary,
    pub a: *const T,
    pub b: *const T,
    pub out: *mut T,
    pub n: usize,
    /// Write past the caches; then `out` is aligned to 64 bytes.
    pub past: bool,
}

impl<T: Real> Kernel<T> for Zip<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Zip {
            op,
            a,
            b,
            out,
            n,
            past,
        } = self;
        // SAFETY: run by dispatch; the driver hands out n elements of each; loads and stores stay below n.
        unsafe {
            match op {
                Binary::Add => light!(S, past, n, out, |x = a, y = b| S::add(x, y)),
                Binary::Sub => light!(S, past, n, out, |x = a, y = b| S::sub(x, y)),
                Binary::Mul => light!(S, past, n, out, |x = a, y = b| S::mul(x, y)),
                Binary::Div => light!(S, past, n, out, |x = a, y = b| S::div(x, y)),
                Binary::Maximum => light!(S, past, n, out, |x = a, y = b| S::max_nan(x, y)),
                Binary::Minimum => light!(S, past, n, out, |x = a, y = b| S::min_nan(x, y)),
                Binary::Pow | Binary::FloorDivide | Binary::Remainder => {
                    unreachable!("scalar loops in blocks.rs")
                }
            }
            if past {
                S::fence();
            }
        }
    }
}
