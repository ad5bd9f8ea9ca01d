//! Every method of [`Simd`] on every path that the CPU has, lane by lane against plain arithmetic.
use super::*;

/// Interesting values of both signs, twice 16 of them.
fn samples<T: Real>(shift: usize) -> [T; 32] {
    let base = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -2.5,
        1.5,
        2.5,
        3.7,
        -3.7,
        1e-30,
        -1e30,
        12345.678,
        -0.3,
        8_388_609.0,
        1e-3,
        0.49999997,
        -0.7,
        33_554_431.0,
        7.0,
        -1e-40,
        64.0,
        -100.25,
        2.0,
        0.1,
        9.99,
        -9.99,
        3.0,
    ];
    core::array::from_fn(|i| match (i * 5 + shift) % 32 {
        28 => T::INFINITY,
        29 => T::NEG_INFINITY,
        30 => T::NAN,
        31 => T::MAX,
        k => T::from_f64(base[k]),
    })
}

fn same<T: Real>(a: T, b: T) -> bool {
    (a.is_nan() && b.is_nan()) || (a == b && T::ONE.copysign(a) == T::ONE.copysign(b))
}

struct Methods<T>([T; 32], [T; 32], [T; 32]);

impl<T: Real> Kernel<T> for Methods<T> {
    type Out = Vec<(&'static str, Vec<T>, Vec<T>)>;
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> Self::Out {
        let Methods(a, b, c) = self;
        let n = S::LANES;
        let mut out: Self::Out = Vec::new();
        let bool_t = |x: bool| if x { T::ONE } else { T::ZERO };
        // SAFETY: run by dispatch; every load and store is inside the arrays.
        unsafe {
            let (va, vb, vc) = (
                S::load(a.as_ptr()),
                S::load(b.as_ptr()),
                S::load(c.as_ptr()),
            );
            let arr = |v: S::V| S::to_array(v)[..n].to_vec();
            let mask = |m: S::M| {
                (0..n)
                    .map(|i| bool_t(S::mask_bits(m) >> i & 1 != 0))
                    .collect::<Vec<_>>()
            };
            macro_rules! check {
                ($name:literal, $v:expr, |$i:ident| $e:expr) => {
                    out.push(($name, $v, (0..n).map(|$i| $e).collect()))
                };
            }
            check!("add", arr(S::add(va, vb)), |i| a[i] + b[i]);
            check!("sub", arr(S::sub(va, vb)), |i| a[i] - b[i]);
            check!("mul", arr(S::mul(va, vb)), |i| a[i] * b[i]);
            check!("div", arr(S::div(va, vb)), |i| a[i] / b[i]);
            if S::FUSED {
                check!("fma", arr(S::fma(va, vb, vc)), |i| a[i].mul_add(b[i], c[i]));
                check!("fms", arr(S::fms(va, vb, vc)), |i| a[i]
                    .mul_add(b[i], -c[i]));
                check!("fnma", arr(S::fnma(va, vb, vc)), |i| (-a[i])
                    .mul_add(b[i], c[i]));
            } else {
                check!("fma", arr(S::fma(va, vb, vc)), |i| a[i] * b[i] + c[i]);
                check!("fms", arr(S::fms(va, vb, vc)), |i| a[i] * b[i] - c[i]);
                check!("fnma", arr(S::fnma(va, vb, vc)), |i| c[i] - a[i] * b[i]);
            }
            check!("max", arr(S::max(va, vb)), |i| if a[i] > b[i] {
                a[i]
            } else {
                b[i]
            });
            check!("min", arr(S::min(va, vb)), |i| if a[i] < b[i] {
                a[i]
            } else {
                b[i]
            });
            check!("max_nan", arr(S::max_nan(va, vb)), |i| a[i].max_nan(b[i]));
            check!("min_nan", arr(S::min_nan(va, vb)), |i| a[i].min_nan(b[i]));
            check!("sqrt", arr(S::sqrt(va)), |i| a[i].sqrt());
            check!("abs", arr(S::abs(va)), |i| a[i].abs());
            check!("neg", arr(S::neg(va)), |i| -a[i]);
            check!("copysign", arr(S::copysign(va, vb)), |i| a[i]
                .copysign(b[i]));
            check!("floor", arr(S::floor(va)), |i| a[i].floor());
            check!("ceil", arr(S::ceil(va)), |i| a[i].ceil());
            check!("trunc", arr(S::trunc(va)), |i| a[i].trunc());
            check!("round_even", arr(S::round_even(va)), |i| a[i]
                .round_ties_even());
            check!("eq", mask(S::eq(va, vb)), |i| bool_t(a[i] == b[i]));
            check!("ne", mask(S::ne(va, vb)), |i| bool_t(a[i] != b[i]));
            check!("lt", mask(S::lt(va, vb)), |i| bool_t(a[i] < b[i]));
            check!("le", mask(S::le(va, vb)), |i| bool_t(a[i] <= b[i]));
            check!("gt", mask(S::gt(va, vb)), |i| bool_t(a[i] > b[i]));
            check!("ge", mask(S::ge(va, vb)), |i| bool_t(a[i] >= b[i]));
            check!("is_nan", mask(S::is_nan(va)), |i| bool_t(a[i].is_nan()));
            let (lt, le) = (S::lt(va, vb), S::le(va, vc));
            check!("and", mask(S::mask_and(lt, le)), |i| bool_t(
                a[i] < b[i] && a[i] <= c[i]
            ));
            check!("or", mask(S::mask_or(lt, le)), |i| bool_t(
                a[i] < b[i] || a[i] <= c[i]
            ));
            // `!(<)` is not `>=`: NaN.
            #[allow(clippy::neg_cmp_op_on_partial_ord)]
            let not = |i: usize| bool_t(!(a[i] < b[i]));
            check!("not", mask(S::mask_not(lt)), |i| not(i));
            check!("select", arr(S::select(lt, vb, vc)), |i| if a[i] < b[i] {
                b[i]
            } else {
                c[i]
            });
            check!("splat", arr(S::splat(a[3])), |_i| a[3]);
            check!("zero", arr(S::zero()), |_i| T::ZERO);
            check!("iota", arr(S::iota()), |i| T::from_f64(i as f64));
            let (e, o) = S::deinterleave(va, S::load(a.as_ptr().add(n)));
            check!("even", arr(e), |i| a[2 * i]);
            check!("odd", arr(o), |i| a[2 * i + 1]);
            let (x, y) = S::interleave(e, o);
            check!("interleave", arr(x), |i| a[i]);
            check!("interleave", arr(y), |i| a[n + i]);
            for k in 0..=n {
                check!("mask_first", mask(S::mask_first(k)), |i| bool_t(i < k));
                check!("load_n", arr(S::load_n(a.as_ptr(), k)), |i| if i < k {
                    a[i]
                } else {
                    T::ZERO
                });
                let all_but = S::mask_not(S::mask_first(k));
                check!(
                    "load_masked",
                    arr(S::load_masked(a.as_ptr(), all_but)),
                    |i| if i < k { T::ZERO } else { a[i] }
                );
                let mut d = b;
                S::store_n(d.as_mut_ptr(), va, k);
                check!("store_n", d[..n].to_vec(), |i| if i < k {
                    a[i]
                } else {
                    b[i]
                });
                let mut bytes = [7u8; 16];
                S::store_mask_n(bytes.as_mut_ptr(), lt, k);
                check!(
                    "store_mask_n",
                    bytes[..n].iter().map(|&x| T::from_f64(x.into())).collect(),
                    |i| {
                        if i < k {
                            bool_t(a[i] < b[i])
                        } else {
                            T::from_f64(7.0)
                        }
                    }
                );
                let bytes: [u8; 16] = core::array::from_fn(|i| (i % 3) as u8 * 2);
                check!(
                    "load_mask_n",
                    mask(S::load_mask_n(bytes.as_ptr(), k)),
                    |i| bool_t(i < k && i % 3 != 0)
                );
            }
            for bits in [0, 1, 0b1010, 0b0111, 0b1000_1101_0110_1001] {
                check!("bits", mask(S::mask_from_bits(bits)), |i| bool_t(
                    bits >> i & 1 != 0
                ));
            }
            assert!(!S::any(S::mask_first(0)) && S::any(S::mask_first(1)));
            assert!(S::all(S::mask_first(n)) && !S::all(S::mask_first(n - 1)));
            // Reductions: 0.1 * (i + 1) does not add up exactly, so the order shows.
            let tenths: [T; 16] =
                core::array::from_fn(|i| T::from_f64(0.1) * T::from_f64(i as f64 + 1.0));
            let mut tree = tenths;
            let mut half = n / 2;
            while half > 0 {
                for i in 0..half {
                    tree[i] += tree[i + half];
                }
                half /= 2;
            }
            out.push((
                "reduce_add",
                vec![S::reduce_add(S::load(tenths.as_ptr()))],
                vec![tree[0]],
            ));
            let fold = |f: fn(T, T) -> T| a[1..n].iter().fold(a[0], |x, &y| f(x, y));
            out.push((
                "reduce_max",
                vec![S::reduce_max(va)],
                vec![fold(T::max_nan)],
            ));
            out.push((
                "reduce_min",
                vec![S::reduce_min(va)],
                vec![fold(T::min_nan)],
            ));
            // Powers of two down to the last subnormal and up to overflow.
            let two = T::from_f64(2.0);
            let (lo, hi): (i32, i32) = if size_of::<T>() == 4 {
                (-160, 140)
            } else {
                (-1085, 1040)
            };
            for k in lo..hi {
                let m = T::from_f64(1.0 + 0.37 * (f64::from(k) * 0.1).sin().abs());
                let mut want = m;
                for _ in 0..k.abs() / 2 {
                    want = if k < 0 { want / two } else { want * two };
                }
                // Halfway (still normal) exactly; then one rounding with the rest.
                let rest = k - k.signum() * (k.abs() / 2);
                let rest = T::from_f64(2f64.powi(rest));
                want = want * rest;
                check!(
                    "scale",
                    arr(S::scale(S::splat(m), S::splat(T::from_f64(k.into())))),
                    |_i| want
                );
            }
            let bias: i32 = if size_of::<T>() == 4 { 127 } else { 1023 };
            for k in -bias..=bias {
                let want = if k == -bias { 0.0 } else { 2f64.powi(k) };
                check!(
                    "pow2",
                    arr(S::pow2(S::splat(T::from_f64(k.into())))),
                    |_i| { T::from_f64(want) }
                );
            }
            check!("pow2 of NaN", arr(S::pow2(S::splat(T::NAN))), |_i| T::ONE);
            for k in 0..400 {
                let span = if size_of::<T>() == 4 { 120.0 } else { 1000.0 };
                let x = T::from_f64((f64::from(k) / 200.0 - 1.0) * span).exp();
                let x = if x.is_finite() && x >= T::MIN_POSITIVE {
                    x
                } else {
                    T::MAX
                };
                let (m, e) = S::split(S::splat(x));
                let (m, e) = (S::to_array(m)[0].to_f64(), S::to_array(e)[0].to_f64());
                assert!(
                    (0.707..1.4143).contains(&m) && e.fract() == 0.0,
                    "{x:?} = {m} * 2^{e}"
                );
                let half = 2f64.powi(e as i32 / 2);
                assert_eq!(m * half * 2f64.powi(e as i32 - e as i32 / 2), x.to_f64());
            }
            // Sixteen virtual lanes.
            for k in [0, 1, 3, 4, 5, 8, 9, 15, 16] {
                let l = Lanes::<S>::load_n(a.as_ptr(), k, T::ONE);
                out.push((
                    "lanes",
                    l.to_array().to_vec(),
                    (0..16).map(|i| if i < k { a[i] } else { T::ONE }).collect(),
                ));
                let want = (0..16)
                    .map(|i| if i < k { a[i] } else { T::ONE })
                    .reduce(T::max_nan);
                out.push((
                    "lanes max",
                    vec![l.reduce_max()],
                    want.into_iter().collect(),
                ));
                let want = (0..16)
                    .map(|i| if i < k { a[i] } else { T::ONE })
                    .reduce(T::min_nan);
                out.push((
                    "lanes min",
                    vec![l.reduce_min()],
                    want.into_iter().collect(),
                ));
            }
            let mut tree = tenths;
            for half in [8, 4, 2, 1] {
                for i in 0..half {
                    tree[i] += tree[i + half];
                }
            }
            out.push((
                "lanes sum",
                vec![Lanes::<S>::load(tenths.as_ptr()).reduce_add()],
                vec![tree[0]],
            ));
        }
        out
    }
}

fn methods<T: Real>() {
    for isa in available() {
        for s in 0..32 {
            let k = Methods::<T>(samples(s), samples(3 * s + 7), samples(7 * s + 1));
            for (name, got, want) in dispatch_on(isa, k) {
                assert_eq!(got.len(), want.len(), "{name}");
                for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                    assert!(
                        same(*g, *w),
                        "{isa:?} {name} lane {i}: {g:?}, expected {w:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn methods_f32() {
    methods::<f32>();
}
#[test]
fn methods_f64() {
    methods::<f64>();
}

struct Quotients<'a, T>(&'a [T; 16], &'a [T; 16]);

impl<T: Real> Kernel<T> for Quotients<'_, T> {
    type Out = Vec<T>;
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) -> Vec<T> {
        // SAFETY: run by dispatch; the arrays hold a vector.
        unsafe {
            let q = S::div_beside_root(S::load(self.0.as_ptr()), S::load(self.1.as_ptr()));
            S::to_array(q)[..S::LANES].to_vec()
        }
    }
}

fn quotients<T: Real>(isa: Isa, a: &[T; 16], b: &[T; 16]) -> Vec<T> {
    dispatch_on(isa, Quotients(a, b))
}

#[test]
fn quotients_beside_roots() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 33) as u32
    };
    for isa in available() {
        for _ in 0..20_000 {
            let mut number = || {
                let mantissa = 1.0 + f64::from(random() >> 8) / f64::from(1u32 << 23);
                let sign = if random() & 1 == 0 { 1.0 } else { -1.0 };
                sign * mantissa as f32 * ((random() % 121) as f32 - 60.0).exp2()
            };
            let a: [f32; 16] = core::array::from_fn(|_| number());
            let b: [f32; 16] = core::array::from_fn(|_| number());
            for (i, q) in quotients(isa, &a, &b).into_iter().enumerate() {
                let want = f64::from(a[i]) / f64::from(b[i]);
                let ulp = f64::from(want.abs() as f32).log2().floor().exp2() / 2f64.powi(23);
                let off = (f64::from(q) - want).abs() / ulp;
                assert!(off <= 0.51, "{isa:?}: {} / {} = {q}, {off} ULP", a[i], b[i]);
            }
        }
        let odd = [
            (1.0, 0.0),
            (-1.0, 0.0),
            (0.0, 0.0),
            (1.0, f32::INFINITY),
            (f32::INFINITY, 2.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::NAN, 1.0),
            (1.0, f32::NAN),
            (0.0, 3.0),
            (3e38, 1e-20),
            (1e-45, 1e-8),
            (6.0, 3.0),
        ];
        for chunk in odd.chunks(2) {
            let of = |f: fn(&(f32, f32)) -> f32| core::array::from_fn(|i| f(&chunk[i % 2]));
            let got = quotients(isa, &of(|x| x.0), &of(|x| x.1));
            for (q, (a, b)) in got.into_iter().zip(chunk.iter().cycle()) {
                let same = q == a / b || (q.is_nan() && (a / b).is_nan());
                assert!(same, "{isa:?}: {a} / {b} = {q}");
            }
        }
        let (a, b) = ([1.0f64; 16], [3.0; 16]);
        assert!(quotients(isa, &a, &b).iter().all(|&q| q == 1.0 / 3.0));
    }
}

#[test]
fn isa_names() {
    assert_eq!(choose(None, Isa::Avx2), Isa::Avx2);
    assert_eq!(choose(Some("scalar"), Isa::Avx512), Isa::Scalar);
    assert_eq!(choose(Some("avx2"), Isa::Avx512), Isa::Avx2);
    // Unavailable or unknown: the best there is.
    assert_eq!(choose(Some("avx512"), Isa::Avx2), Isa::Avx2);
    assert_eq!(choose(Some("mmx"), Isa::Avx512), Isa::Avx512);
}

#[test]
fn with_isa_is_scoped() {
    let before = isa();
    for i in available() {
        with_isa(i, || {
            assert_eq!(isa(), i);
            with_isa(Isa::Scalar, || assert_eq!(isa(), Isa::Scalar));
            assert_eq!(isa(), i);
            // Other threads are not affected: a kernel resolves its path before it splits the work.
            assert_eq!(std::thread::spawn(isa).join().unwrap(), before);
        });
    }
    assert_eq!(isa(), before);
}

simd_fn! {
    /// `y += a * x`
    fn axpy<S, T>(a: T, x: &[T], y: &mut [T]) -> usize {
        let a = S::splat(a);
        for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
            let v = S::fma(a, S::load_n(x.as_ptr(), x.len()), S::load_n(y.as_ptr(), y.len()));
            S::store_n(y.as_mut_ptr(), v, y.len());
        }
        S::LANES
    }
}

#[test]
fn the_macro_dispatches() {
    for i in available() {
        let x: Vec<f32> = (0..37).map(|i| i as f32).collect();
        let mut y = vec![1.0; 37];
        let lanes = axpy(i, 2.0, &x, &mut y);
        assert_eq!(lanes, if i == Isa::Avx512 { 16 } else { 8 });
        assert!(
            y.iter()
                .enumerate()
                .all(|(i, &y)| y == 2.0 * i as f32 + 1.0)
        );
    }
}
