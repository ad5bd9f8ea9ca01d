//! Every kernel against its naive twin, over layouts, sizes, instruction sets and threads.
use super::*;
use crate::layout::testing::{Operand, bits, shapes};
use crate::parallel::with_forced_threads;
use crate::reference::elementwise as naive;
use crate::simd::{available, with_isa};
use crate::stream::testing::both_ways;
use proptest::prelude::*;

#[test]
fn fill_reaches_every_element() {
    for n in [0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
        let (mut got, mut want) = (vec![1f32; n], vec![2f32; n]);
        naive::fill(&mut want, -0.0);
        for threads in [1, 3] {
            got.fill(1.0);
            with_forced_threads(threads, || fill(&mut got, -0.0));
            assert_eq!(bits(&got), bits(&want), "{n}");
        }
    }
}

const UNARY: [Unary; 34] = [
    Unary::Neg,
    Unary::Abs,
    Unary::Sign,
    Unary::Square,
    Unary::Sqrt,
    Unary::Rsqrt,
    Unary::Recip,
    Unary::Exp,
    Unary::Expm1,
    Unary::Log,
    Unary::Log1p,
    Unary::Sin,
    Unary::Cos,
    Unary::Floor,
    Unary::Ceil,
    Unary::Round,
    Unary::Trunc,
    Unary::Relu,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Sigmoid,
    Unary::Tanh,
    Unary::Softplus,
    Unary::Silu,
    Unary::Erf,
    Unary::Clip { lo: -1.5, hi: 2.0 },
    Unary::Powf(0.0),
    Unary::Powf(1.0),
    Unary::Powf(2.0),
    Unary::Powf(3.0),
    Unary::Powf(0.5),
    Unary::Powf(-1.0),
    Unary::Powf(1.7),
    Unary::Affine {
        mul: -1.25,
        add: 0.3,
    },
];
const GRADS: [UnaryGrad; 8] = [
    UnaryGrad::Relu,
    UnaryGrad::Gelu,
    UnaryGrad::GeluTanh,
    UnaryGrad::Sigmoid,
    UnaryGrad::Tanh,
    UnaryGrad::Softplus,
    UnaryGrad::Silu,
    UnaryGrad::Clip { lo: -1.5, hi: 2.0 },
];
const BINARY: [Binary; 9] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Pow,
    Binary::Maximum,
    Binary::Minimum,
    Binary::FloorDivide,
    Binary::Remainder,
];
const COMPARE: [Compare; 6] = [
    Compare::Eq,
    Compare::Ne,
    Compare::Lt,
    Compare::Le,
    Compare::Gt,
    Compare::Ge,
];

/// Close: a few units of the result, plus `abs`. The vector functions' own bounds are tested in simd/math_tests.rs.
fn close<T: Real>(
    what: &dyn core::fmt::Debug,
    got: &[T],
    want: &[T],
    rel: f64,
    abs: impl Fn(usize) -> f64,
) {
    let eps = T::EPSILON.to_f64();
    // A subnormal factor (the sigmoid of silu) has few digits.
    let tiny = T::MIN_POSITIVE.to_f64() * eps * 512.0;
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let (a, b) = (g.to_f64(), w.to_f64());
        let same = a == b || (a.is_nan() && b.is_nan());
        let bound = rel * eps * b.abs() + eps * abs(i) + tiny;
        assert!(
            same || (a - b).abs() <= bound,
            "{what:?} [{i}]: {g:?}, expected {w:?}"
        );
    }
}

/// `f` on every instruction set, on one thread and on three: bits must not depend on threads, or on the layout
/// (`g` is the same on dense copies).
fn everywhere<R: Number>(
    n: usize,
    f: impl Fn(&mut [R]),
    g: impl Fn(&mut [R]),
    check: impl Fn(&[R]),
) {
    let mut out = vec![R::ONE; n];
    for isa in available() {
        with_isa(isa, || {
            f(&mut out);
            check(&out);
            let mut again = vec![R::ZERO; n];
            g(&mut again);
            assert_eq!(
                bits(&out),
                bits(&again),
                "{isa:?}: dense operands give other bits"
            );
        });
    }
}

fn reals<T: Real>(shape: &[usize], seed: u64) {
    let n = numel(shape);
    let x = Operand::<T>::new(shape, seed, true);
    let y = Operand::<T>::new(shape, seed ^ 77, true);
    let (dx, dy) = (x.dense(shape), y.dense(shape));
    let mut want = vec![T::ZERO; n];
    for op in UNARY {
        naive::unary(op, shape, x.get(), &mut want);
        everywhere(
            n,
            |o| unary(op, shape, x.get(), o),
            |o| unary(op, shape, dx.get(), o),
            |got| {
                close(&(op, shape), got, &want, 16.0, |i| match op {
                    Unary::Sin | Unary::Cos => 8.0,
                    Unary::Gelu | Unary::GeluTanh => 8.0 * dx.data[i].to_f64().abs().min(1e30),
                    // Not fused: the product is rounded.
                    Unary::Affine { .. } => 4.0 * dx.data[i].to_f64().abs().min(1e30),
                    _ => 0.0,
                });
            },
        );
    }
    for op in BINARY {
        naive::binary(op, shape, x.get(), y.get(), &mut want);
        everywhere(
            n,
            |o| binary(op, shape, x.get(), y.get(), o),
            |o| binary(op, shape, dx.get(), dy.get(), o),
            |got| {
                close(&(op, shape), got, &want, 4.0, |i| match op {
                    Binary::Remainder => dy.data[i].to_f64().abs().min(1e30),
                    _ => 0.0,
                });
            },
        );
    }
    // A slope that underflows in f32 only makes NaN of an infinite gradient: a true difference, but not of interest.
    let mut y = y;
    y.data
        .iter_mut()
        .filter(|g| !g.is_finite() && !g.is_nan())
        .for_each(|g| *g = T::ONE);
    let dy = y.dense(shape);
    for op in GRADS {
        naive::unary_backward(op, shape, x.get(), y.get(), &mut want);
        everywhere(
            n,
            |o| unary_backward(op, shape, x.get(), y.get(), o),
            |o| unary_backward(op, shape, dx.get(), dy.get(), o),
            |got| {
                close(&(op, shape), got, &want, 32.0, |i| {
                    let (s, g) = (dx.data[i].to_f64().abs(), dy.data[i].to_f64().abs());
                    if g.is_finite() {
                        16.0 * g * (1.0 + s.min(1e4)).powi(2)
                    } else {
                        0.0
                    }
                });
            },
        );
    }
    any_number::<T>(shape, seed);
    // Into a strided destination, added to what is there.
    let x = Operand::<T>::new(shape, seed ^ 5, true);
    let dst = Operand::<T>::new(shape, seed ^ 1234, false);
    let (mut a, mut b) = (dst.data.clone(), dst.data.clone());
    add_into(shape, x.get(), &mut a, dst.offset, &dst.strides);
    naive::add_into(shape, x.get(), &mut b, dst.offset, &dst.strides);
    assert_eq!(
        bits(&a),
        bits(&b),
        "add_into {shape:?} {:?} {:?}",
        x.strides,
        dst.strides
    );
}

/// What all types have: compared exactly.
fn any_number<T: Number>(shape: &[usize], seed: u64) {
    let n = numel(shape);
    let x = Operand::<T>::new(shape, seed ^ 5, true);
    let y = Operand::<T>::new(shape, seed ^ 99, true);
    let c = Operand::<u8>::new(shape, seed ^ 3, true);
    let (dx, dy, dc) = (x.dense(shape), y.dense(shape), c.dense(shape));
    let mut want = vec![0; n];
    for op in COMPARE {
        naive::compare(op, shape, x.get(), y.get(), &mut want);
        everywhere(
            n,
            |o| compare(op, shape, x.get(), y.get(), o),
            |o| compare(op, shape, dx.get(), dy.get(), o),
            |got| assert_eq!(got, want, "{op:?} {shape:?}"),
        );
    }
    naive::cast_bool(shape, x.get(), &mut want);
    everywhere(
        n,
        |o| cast_bool(shape, x.get(), o),
        |o| cast_bool(shape, dx.get(), o),
        |got| assert_eq!(got, want, "cast_bool"),
    );
    let mut want = vec![T::ZERO; n];
    naive::select(shape, c.get(), x.get(), y.get(), &mut want);
    everywhere(
        n,
        |o| select(shape, c.get(), x.get(), y.get(), o),
        |o| select(shape, dc.get(), dx.get(), dy.get(), o),
        |got| assert_eq!(bits(got), bits(&want), "select"),
    );
    naive::copy(shape, x.get(), &mut want);
    everywhere(
        n,
        |o| copy(shape, x.get(), o),
        |o| copy(shape, dx.get(), o),
        |got| assert_eq!(bits(got), bits(&want), "copy"),
    );
    // Into a strided destination: untouched elements keep their values.
    let dst = Operand::<T>::new(shape, seed ^ 1234, false);
    let (mut a, mut b) = (dst.data.clone(), dst.data.clone());
    copy_into(shape, x.get(), &mut a, dst.offset, &dst.strides);
    naive::copy_into(shape, x.get(), &mut b, dst.offset, &dst.strides);
    assert_eq!(
        bits(&a),
        bits(&b),
        "copy_into {shape:?} {:?} {:?}",
        x.strides,
        dst.strides
    );
}

fn integers<T: Number>(shape: &[usize], seed: u64) {
    let n = numel(shape);
    let x = Operand::<T>::new(shape, seed, true);
    let y = Operand::<T>::new(shape, seed ^ 77, true);
    let (dx, dy) = (x.dense(shape), y.dense(shape));
    let mut want = vec![T::ZERO; n];
    for op in [Unary::Neg, Unary::Abs, Unary::Sign, Unary::Square] {
        naive::unary_int(op, shape, x.get(), &mut want);
        everywhere(
            n,
            |o| unary_int(op, shape, x.get(), o),
            |o| unary_int(op, shape, dx.get(), o),
            |got| assert_eq!(got, want, "{op:?}"),
        );
    }
    for op in BINARY {
        naive::binary(op, shape, x.get(), y.get(), &mut want);
        everywhere(
            n,
            |o| binary(op, shape, x.get(), y.get(), o),
            |o| binary(op, shape, dx.get(), dy.get(), o),
            |got| assert_eq!(got, want, "{op:?}"),
        );
    }
    any_number::<T>(shape, seed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn floats_match_their_twins(shape in shapes(), seed: u64) {
        reals::<f32>(&shape, seed);
        reals::<f64>(&shape, seed);
    }
    #[test]
    fn integers_match_their_twins(shape in shapes(), seed: u64) {
        integers::<i64>(&shape, seed);
        integers::<i32>(&shape, seed);
        integers::<i16>(&shape, seed);
        integers::<i8>(&shape, seed);
        integers::<u8>(&shape, seed);
    }
    #[test]
    fn logic_matches_its_twin(shape in shapes(), seed: u64) {
        let n = numel(&shape);
        let bool_operand = |seed| {
            let mut x = Operand::<u8>::new(&shape, seed, true);
            x.data.iter_mut().for_each(|b| *b &= 1);
            x
        };
        let (x, y) = (bool_operand(seed), bool_operand(seed ^ 1));
        let (dx, dy) = (x.dense(&shape), y.dense(&shape));
        let mut want = vec![0; n];
        for op in [Logical::And, Logical::Or, Logical::Xor] {
            naive::logical(op, &shape, x.get(), y.get(), &mut want);
            everywhere(
                n,
                |o| logical(op, &shape, x.get(), y.get(), o),
                |o| logical(op, &shape, dx.get(), dy.get(), o),
                |got| assert_eq!(got, want),
            );
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    let shape = [3, 131, 257];
    let x = Operand::<f32>::new(&shape, 11, false);
    // Transposed view of the second operand.
    let y = Operand::<f32>::new(&[257, 131, 3], 12, false).dense(&[257, 131, 3]);
    let y = Operand {
        strides: vec![1, 3, 393],
        ..y
    };
    let n = numel(&shape);
    let run = || {
        let mut a = vec![0.0; n];
        let mut b = vec![0.0; n];
        let mut c = vec![0.0; n];
        unary(Unary::Gelu, &shape, x.get(), &mut a);
        binary(Binary::Mul, &shape, x.get(), y.get(), &mut b);
        copy(&shape, y.get(), &mut c);
        [bits(&a), bits(&b), bits(&c)]
    };
    let one = with_forced_threads(1, run);
    for t in [2, 3, 8] {
        assert!(with_forced_threads(t, run) == one, "{t} threads");
    }
}

/// Value and slope in one pass have the bits of both alone, whatever the layout; what no kernel but the naive one says is tested
/// with those.
#[test]
fn gelu_with_its_slope_is_gelu_and_its_slope() {
    fn check<T: Real>() {
        for shape in [&[0][..], &[7], &[3, 131, 257]] {
            let n = numel(shape);
            let x = Operand::<T>::new(shape, 11, false);
            let one = Operand::<T> {
                data: vec![T::ONE; n.max(1)],
                ..x.dense(shape)
            };
            for isa in available() {
                let (want, got) = with_isa(isa, || {
                    let (mut y, mut slope) = (vec![T::ZERO; n], vec![T::ZERO; n]);
                    unary(Unary::Gelu, shape, x.get(), &mut y);
                    unary_backward(UnaryGrad::Gelu, shape, x.get(), one.get(), &mut slope);
                    let want = (bits(&y), bits(&slope));
                    gelu_with_slope(shape, x.get(), &mut y, &mut slope);
                    let got = (bits(&y), bits(&slope));
                    // Past the caches, with the slopes where no vector may begin and where one may.
                    for shift in [0, 1] {
                        let [plain, past] = both_ways(2 * n + 16, |out: &mut [T]| {
                            let (y, slope) = out.split_at_mut(n.next_multiple_of(16));
                            let slope = &mut slope[shift..][..n];
                            gelu_with_slope(shape, x.get(), &mut y[..n], slope);
                        });
                        assert!(bits(&plain) == bits(&past), "{isa:?} {shape:?}");
                    }
                    (want, got)
                });
                assert!(got == want, "{isa:?} {shape:?}");
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

/// An element's bits do not depend on where it stands: every prefix and every shift of an array agrees.
#[test]
fn tails_have_the_bits_of_full_vectors() {
    fn check<T: Real>() {
        let x: Vec<T> = Operand::<T>::new(&[70], 5, false).data;
        for isa in available() {
            with_isa(isa, || {
                for op in UNARY {
                    let mut whole = vec![T::ZERO; 64];
                    unary(
                        op,
                        &[64],
                        Strided {
                            data: &x,
                            offset: 0,
                            strides: &[1],
                        },
                        &mut whole,
                    );
                    for (start, n) in [(0, 1), (0, 13), (3, 5), (7, 40), (15, 17), (63, 1)] {
                        let mut part = vec![T::ZERO; n];
                        let view = Strided {
                            data: &x,
                            offset: start,
                            strides: &[1],
                        };
                        unary(op, &[n], view, &mut part);
                        assert_eq!(
                            bits(&part),
                            bits(&whole[start..start + n]),
                            "{isa:?} {op:?}"
                        );
                    }
                }
            });
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn casts_follow_as() {
    macro_rules! check {
        ($a:ident => $($b:ident)*) => {$({
            let xs: Vec<$a> = Operand::<$a>::new(&[100], 3, false).data;
            let mut got = vec![0 as $b; 100];
            cast(&[100], Strided { data: &xs, offset: 0, strides: &[1] }, &mut got);
            let want: Vec<$b> = xs[..100].iter().map(|&x| x as $b).collect();
            assert_eq!(bits(&got), bits(&want), concat!(stringify!($a), " as ", stringify!($b)));
        })*};
    }
    check!(f32 => f32 f64 i64 i32 i16 i8 u8);
    check!(f64 => f32 f64 i64 i32 i16 i8 u8);
    check!(i64 => f32 f64 i64 i32 i16 i8 u8);
    check!(i32 => f32 f64 i64 i32 i16 i8 u8);
    check!(i16 => f32 f64 i64 i32 i16 i8 u8);
    check!(i8 => f32 f64 i64 i32 i16 i8 u8);
    check!(u8 => f32 f64 i64 i32 i16 i8 u8);
}

#[test]
fn python_signs() {
    let a = [7i64, -7, 7, -7, 0, 5];
    let b = [3i64, 3, -3, -3, 5, 0];
    let view = |x| Strided {
        data: x,
        offset: 0,
        strides: &[1],
    };
    let mut out = [0; 6];
    binary(Binary::FloorDivide, &[6], view(&a), view(&b), &mut out);
    assert_eq!(out, [2, -3, -3, 2, 0, 0]);
    binary(Binary::Remainder, &[6], view(&a), view(&b), &mut out);
    assert_eq!(out, [1, 2, -2, -1, 0, 0]);
    let (a, b) = (a.map(|x| x as f32), b.map(|x| x as f32));
    let view = |x| Strided {
        data: x,
        offset: 0,
        strides: &[1],
    };
    let mut out = [0.0; 6];
    binary(Binary::FloorDivide, &[6], view(&a), view(&b), &mut out);
    assert_eq!(out, [2.0, -3.0, -3.0, 2.0, 0.0, f32::INFINITY]);
    binary(Binary::Remainder, &[6], view(&a), view(&b), &mut out);
    assert_eq!(out[..5], [1.0, 2.0, -2.0, -1.0, 0.0]);
    assert!(out[5].is_nan());
}

#[test]
#[should_panic(expected = "leaves its storage")]
fn an_operand_outside_its_storage_panics() {
    let x = [1.0f32; 10];
    unary(
        Unary::Neg,
        &[3, 4],
        Strided {
            data: &x,
            offset: 0,
            strides: &[4, 1],
        },
        &mut [0.0; 12],
    );
}

#[test]
fn copies_any_number_of_axes_of_size_one() {
    let data = [0f32, 1.0, 2.0, 3.0, 4.0, 5.0];
    let (mut shape, mut strides) = (vec![1usize; 80], vec![7isize; 80]);
    (shape[10], strides[10]) = (3, 1);
    (shape[70], strides[70]) = (2, 3);
    let mut out = [0f32; 6];
    let x = Strided {
        data: &data,
        offset: 0,
        strides: &strides,
    };
    copy(&shape, x, &mut out);
    assert_eq!(out, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
}
