//! Vector mathematics against the standard library in f64, in units in the last place.
use super::*;

use crate::reference::elementwise::erf;

/// The functions under test.
#[derive(Clone, Copy, Debug, PartialEq)]
enum F {
    Exp,
    Expm1,
    Log,
    Log1p,
    Tanh,
    Sigmoid,
    Gate,
    GateTanh,
    Softplus,
    Erf,
    Sin,
    Cos,
    Silu,
    Gelu,
    GeluTanh,
}
const ALL: [F; 15] = [
    F::Exp,
    F::Expm1,
    F::Log,
    F::Log1p,
    F::Tanh,
    F::Sigmoid,
    F::Gate,
    F::GateTanh,
    F::Softplus,
    F::Erf,
    F::Sin,
    F::Cos,
    F::Silu,
    F::Gelu,
    F::GeluTanh,
];

/// How far a result may be from the truth: ULPs of the true value plus an absolute part.
fn bound(f: F, x: f64, double: bool) -> (f64, f64) {
    // An oracle of the same precision may itself be off by one.
    let more = if double { 1.0 } else { 0.0 };
    let unit = if double {
        2f64.powi(-52)
    } else {
        2f64.powi(-23)
    };
    match f {
        F::Exp | F::Log => (2.0 + more, 0.0),
        F::Sin | F::Cos => (0.0, if double { 1e-15 } else { unit }),
        F::Erf if double => (0.0, 1e-15),
        F::Gelu | F::GeluTanh => (1.0, 4.0 * unit * x.abs().min(1e30)),
        // What is below the normal numbers stays at their end.
        F::Gate => (4.0 + more, 2f64.powi(if double { -1021 } else { -125 })),
        // x times a sigmoid that may be subnormal.
        F::Silu => (
            6.0 + more,
            x.abs().min(1e30) * if double { 5e-324 } else { 2f64.powi(-149) },
        ),
        _ => (4.0 + more, 0.0),
    }
}

fn oracle(f: F, x: f64) -> f64 {
    let sigmoid = |x: f64| {
        if x < 0.0 {
            x.exp() / (1.0 + x.exp())
        } else {
            1.0 / (1.0 + (-x).exp())
        }
    };
    match f {
        F::Exp => x.exp(),
        F::Expm1 => x.exp_m1(),
        F::Log => x.ln(),
        F::Log1p => x.ln_1p(),
        F::Tanh | F::GateTanh => x.tanh(),
        F::Sigmoid | F::Gate => sigmoid(x),
        F::Softplus if x.is_nan() => x,
        F::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        F::Erf => erf(x),
        F::Sin => x.sin(),
        F::Cos => x.cos(),
        F::Silu => x.max(-1e30) * sigmoid(x),
        F::Gelu if x == f64::NEG_INFINITY => 0.0,
        F::Gelu => x * (0.5 + 0.5 * erf(x * core::f64::consts::FRAC_1_SQRT_2)),
        F::GeluTanh if x == f64::NEG_INFINITY => -0.0,
        F::GeluTanh => {
            let a = (2.0 / core::f64::consts::PI).sqrt();
            x * sigmoid(2.0 * a * (x + 0.044715 * x * x * x))
        }
    }
}

simd_fn! {
    fn apply<S, T>(f: F, x: &[T], y: &mut [T]) {
        for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
            let v = S::load_n(x.as_ptr(), x.len());
            let r = match f {
                F::Exp => math::exp::<S>(v),
                F::Expm1 => math::exp_m1::<S>(v),
                F::Log => math::log::<S>(v),
                F::Log1p => math::log_1p::<S>(v),
                F::Tanh => math::tanh::<S>(v),
                F::Sigmoid => math::sigmoid::<S>(v),
                F::Gate => math::gate::<S>(v),
                F::GateTanh => math::gate_tanh::<S>(v),
                F::Softplus => math::softplus::<S>(v),
                F::Erf => math::erf::<S>(v),
                F::Sin => math::sin::<S>(v),
                F::Cos => math::cos::<S>(v),
                F::Silu => math::silu::<S>(v),
                F::Gelu => math::gelu::<S>(v),
                F::GeluTanh => math::gelu_tanh::<S>(v),
            };
            S::store_n(y.as_mut_ptr(), r, y.len());
        }
    }
}

/// The largest error in units of the bound over `xs` on one path; panics beyond it.
fn worst<T: Real>(isa: Isa, f: F, xs: &[T], truth: &[f64]) -> (f64, T) {
    let double = size_of::<T>() == 8;
    let (digits, emin, max) = if double {
        (52, -1022, f64::MAX)
    } else {
        (23, -126, f64::from(f32::MAX))
    };
    let mut ys = vec![T::ZERO; xs.len()];
    apply(isa, f, xs, &mut ys);
    let mut worst = (0.0, T::ZERO);
    for ((&x, &y), &t) in xs.iter().zip(&ys).zip(truth) {
        let y = y.to_f64();
        if t.is_nan() || y.is_nan() {
            assert!(
                t.is_nan() && y.is_nan(),
                "{isa:?} {f:?}({x:?}) = {y:e}, expected {t:e}"
            );
            continue;
        }
        let e = if t == 0.0 {
            emin
        } else {
            (t.abs().log2().floor() as i32).clamp(emin, 1023)
        };
        let ulp = 2f64.powi(e / 2 - digits / 2) * 2f64.powi(e - e / 2 - (digits - digits / 2));
        let (ulps, abs) = bound(f, x.to_f64(), double);
        // Overflow: infinite where the truth is within the bound of the end of the range.
        let clip = |v: f64| v.clamp(-2.0 * max, 2.0 * max);
        let err = if y.is_infinite() {
            assert!(
                t.abs() >= max * (1.0 - ulps * 2f64.powi(-digits)) && y.signum() == t.signum(),
                "{isa:?} {f:?}({x:?}) = {y:e}, expected {t:e}"
            );
            0.0
        } else if t.is_infinite() || t.abs() > max {
            assert!(
                y.abs() >= max * (1.0 - ulps * 2f64.powi(-digits)),
                "{isa:?} {f:?}({x:?}) = {y:e}, expected {t:e}"
            );
            0.0
        } else {
            (y - clip(t)).abs()
        };
        // Log is exact at 1; a bound of zero still allows the exact value.
        assert!(
            err <= ulps * ulp + abs,
            "{isa:?} {f:?}({x:?}) = {y:e}, expected {t:e}: {:.2} ULP",
            err / ulp
        );
        let units = err
            / if ulps > 0.0 {
                ulp
            } else {
                abs.max(f64::MIN_POSITIVE)
            };
        if units > worst.0 {
            worst = (units, x);
        }
    }
    worst
}

/// All paths over `xs`; the ones that fuse must agree bit for bit.
fn check<T: Real>(f: F, xs: &[T]) -> Vec<(Isa, f64, T)> {
    let truth: Vec<f64> = xs.iter().map(|x| oracle(f, x.to_f64())).collect();
    let found = available().map(|isa| {
        let (e, x) = worst(isa, f, xs, &truth);
        (isa, e, x)
    });
    let found = found.collect();
    if Isa::Avx512.available() {
        let (mut a, mut b) = (xs.to_vec(), xs.to_vec());
        apply(Isa::Avx512, f, xs, &mut a);
        apply(Isa::Avx2, f, xs, &mut b);
        for ((x, a), b) in xs.iter().zip(a).zip(b) {
            assert!(
                a == b || (a.is_nan() && b.is_nan()),
                "{f:?}({x:?}): AVX-512 {a:?}, AVX2 {b:?}"
            );
        }
    }
    found
}

const SPECIAL: [f64; 12] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    1e-320,
    -1e-320,
    1e-42,
    -1e-42,
    0.5,
];

fn dense_f32() -> Vec<f32> {
    // A prime stride visits every exponent of both signs; then the range where things happen.
    let all = (0..=u32::MAX).step_by(20_011).map(f32::from_bits);
    let near = (-60_000..60_000).map(|i| i as f32 * 0.001_777);
    all.chain(near).chain(SPECIAL.map(|x| x as f32)).collect()
}
fn dense_f64() -> Vec<f64> {
    let all = (0..60_000u64).map(|i| f64::from_bits(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let near = (-40_000..40_000).map(|i| f64::from(i) * 0.001_777_3);
    let far = (-8000..8000).map(|i| f64::from(i) * 0.1);
    all.chain(near).chain(far).chain(SPECIAL).collect()
}

#[test]
fn f32_within_bounds() {
    let xs = dense_f32();
    for f in ALL {
        for (isa, e, x) in check(f, &xs) {
            println!("f32 {f:?} {isa:?}: {e:.2} at {x:?}");
        }
    }
}
#[test]
fn f64_within_bounds() {
    let xs = dense_f64();
    for f in ALL {
        for (isa, e, x) in check(f, &xs) {
            println!("f64 {f:?} {isa:?}: {e:.2} at {x:?}");
        }
    }
}
/// `cargo test --release -p corten-kernels -- --ignored --nocapture all_inputs`, on all cores.
#[test]
#[ignore = "all 2^32 inputs of every function: hours of processor time"]
fn all_inputs() {
    use core::sync::atomic::{AtomicU64, Ordering};
    const BLOCK: u64 = 1 << 20;
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    for f in ALL {
        let next = AtomicU64::new(0);
        let part = || {
            let mut worst = [(0.0, 0.0); 3];
            loop {
                let start = next.fetch_add(BLOCK, Ordering::Relaxed);
                if start >= 1 << 32 {
                    return worst;
                }
                let xs: Vec<f32> = (start..start + BLOCK)
                    .map(|b| f32::from_bits(b as u32))
                    .collect();
                for (w, (_, e, x)) in worst.iter_mut().zip(check(f, &xs)) {
                    if e > w.0 {
                        *w = (e, x);
                    }
                }
            }
        };
        let worst = std::thread::scope(|s| {
            let parts: Vec<_> = (0..threads).map(|_| s.spawn(part)).collect();
            let parts = parts
                .into_iter()
                .map(|p| p.join().expect("a bound is broken"));
            parts.reduce(|a, b| core::array::from_fn(|i| if a[i].0 > b[i].0 { a[i] } else { b[i] }))
        });
        println!("{f:?}: {worst:?}");
    }
}

#[test]
fn signed_zeros_and_limits() {
    for isa in available() {
        let at = |f, x: f32| {
            let mut y = [0.0];
            apply(isa, f, &[x], &mut y);
            y[0]
        };
        for f in [F::Expm1, F::Log1p, F::Tanh, F::GateTanh, F::Erf, F::Sin] {
            assert!(
                at(f, -0.0).to_bits() == (-0.0f32).to_bits(),
                "{isa:?} {f:?}(-0)"
            );
            assert!(at(f, 0.0).to_bits() == 0, "{isa:?} {f:?}(0)");
        }
        assert_eq!(at(F::Log, 1.0), 0.0);
        assert_eq!(at(F::Log, 0.0), f32::NEG_INFINITY);
        assert_eq!(at(F::Log1p, -1.0), f32::NEG_INFINITY);
        assert_eq!(at(F::Exp, f32::NEG_INFINITY), 0.0);
        assert_eq!(at(F::Exp, 0.0), 1.0);
        assert_eq!(at(F::Tanh, f32::INFINITY), 1.0);
        assert_eq!(at(F::GateTanh, f32::INFINITY), 1.0);
        assert_eq!(at(F::Sigmoid, f32::NEG_INFINITY), 0.0);
        assert_eq!(at(F::Gelu, f32::NEG_INFINITY), 0.0);
        assert_eq!(at(F::Silu, f32::INFINITY), f32::INFINITY);
        assert!(at(F::Sin, f32::INFINITY).is_nan() && at(F::Log, -1.0).is_nan());
        for f in ALL {
            assert!(at(f, f32::NAN).is_nan(), "{isa:?} {f:?}(NaN)");
        }
    }
}

/// Derivatives against a central difference of the function, in f64.
#[test]
fn derivatives() {
    simd_fn! {
        fn grads<S, T>(x: &[T], y: &mut [[T; 3]]) {
            for (&x, y) in x.iter().zip(y) {
                let v = S::splat(x);
                *y = [
                    S::to_array(math::silu_grad::<S>(v))[0],
                    S::to_array(math::gelu_grad::<S>(v))[0],
                    S::to_array(math::gelu_tanh_grad::<S>(v))[0],
                ];
            }
        }
    }
    let xs: Vec<f64> = (-1000..1000).map(|i| f64::from(i) * 0.0113).collect();
    let xs32: Vec<f32> = xs.iter().map(|&x| x as f32).collect();
    for isa in available() {
        let (mut g, mut g32) = (vec![[0.0; 3]; xs.len()], vec![[0.0; 3]; xs.len()]);
        grads(isa, &xs, &mut g);
        grads(isa, &xs32, &mut g32);
        for (i, &x) in xs.iter().enumerate() {
            let x32 = f64::from(xs32[i]);
            for (k, f) in [F::Silu, F::Gelu, F::GeluTanh].into_iter().enumerate() {
                let slope = |x: f64| (oracle(f, x + 1e-5) - oracle(f, x - 1e-5)) / 2e-5;
                assert!((g[i][k] - slope(x)).abs() < 1e-9, "{isa:?} {f:?}'({x})");
                assert!(
                    (f64::from(g32[i][k]) - slope(x32)).abs() < 2e-6,
                    "{isa:?} {f:?}'({x32})"
                );
            }
        }
        let mut end = [[0.0f32; 3]; 3];
        grads(isa, &[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], &mut end);
        assert_eq!(end[0], [1.0; 3]);
        assert_eq!(end[1].map(f32::abs), [0.0; 3]);
        assert!(end[2].iter().all(|x| x.is_nan()));
    }
}

/// `exp2_flush` against the standard library, over its whole domain; what is too small is 0.
#[test]
fn powers_of_two() {
    simd_fn! {
        fn powers<S, T>(x: &[T], y: &mut [T]) {
            for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
                let v = S::load_n(x.as_ptr(), x.len());
                S::store_n(y.as_mut_ptr(), math::exp2_flush::<S>(v), y.len());
            }
        }
    }
    fn check<T: Real>(isa: Isa, least: f64) {
        let n = 200_000;
        let xs: Vec<T> = (0..n)
            .map(|i| T::from_f64(9.0 - (9.6 - least) * i as f64 / n as f64))
            .collect();
        let mut ys = vec![T::ONE; n];
        powers(isa, &xs, &mut ys);
        for (x, y) in xs.iter().zip(&ys) {
            let (x, y) = (x.to_f64(), y.to_f64());
            let truth = if x < least - 0.5 { 0.0 } else { x.exp2() };
            // One more for the oracle in f64; below the normal numbers, steps of their own.
            let step = T::EPSILON.to_f64() * truth.max(least.exp2());
            assert!((y - truth).abs() <= 3.0 * step, "{isa:?} {x}: {y} {truth}");
        }
        let odd = [T::NEG_INFINITY, T::from_f64(-1e30), T::ZERO, T::NAN];
        let mut found = [T::ONE; 4];
        powers(isa, &odd, &mut found);
        assert!(found[..3] == [T::ZERO, T::ZERO, T::ONE] && found[3].is_nan());
    }
    for isa in available() {
        check::<f32>(isa, -126.0);
        check::<f64>(isa, -1022.0);
    }
}
