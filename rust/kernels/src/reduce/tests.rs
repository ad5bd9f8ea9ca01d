//! Every kernel against its naive twin, over layouts, sizes, instruction sets and threads.
use super::*;
use crate::layout::numel;
use crate::layout::testing::{Operand, bits, shapes};
use crate::parallel::with_forced_threads;
use crate::reference::reduce as naive;
use crate::simd::{available, with_isa};
use proptest::prelude::*;

const OPS: [Reduce; 4] = [Reduce::Sum, Reduce::Prod, Reduce::Max, Reduce::Min];

/// The twin's result within the stated bound; the same bits on every instruction set and for dense operands.
fn reals<T: Real>(outer: &[usize], inner: &[usize], seed: u64) {
    let shape = [outer, inner].concat();
    let x = Operand::<T>::new(&shape, seed, true);
    let (rows, k) = (numel(outer), numel(inner));
    for op in OPS {
        let mut x = x.clone();
        if op == Reduce::Prod {
            // Near 1, so that no order overflows.
            for v in &mut x.data {
                let w = v.to_f64();
                *v = T::from_f64(1.0 + if w.is_finite() { w / 4000.0 } else { 0.0 });
            }
        }
        let dense = x.dense(&shape);
        let mut want = vec![T::ZERO; rows];
        naive::reduce(op, outer, inner, x.get(), &mut want);
        let mut size = vec![T::ZERO; rows];
        let mut abs = dense.clone();
        abs.data.iter_mut().for_each(|v| *v = v.abs());
        naive::reduce(Reduce::Sum, outer, inner, abs.get(), &mut size);
        let mut first: Option<Vec<u64>> = None;
        for isa in available() {
            with_isa(isa, || {
                for o in [&x, &dense] {
                    let mut got = vec![T::NAN; rows];
                    reduce(op, outer, inner, o.get(), &mut got);
                    for (r, (g, w)) in got.iter().zip(&want).enumerate() {
                        let (a, b) = (g.to_f64(), w.to_f64());
                        let bound = T::EPSILON.to_f64()
                            * match op {
                                Reduce::Sum => {
                                    // In f64 the twin, one element after the other, is the worse one.
                                    let twin = if size_of::<T>() == 8 { k as f64 } else { 0.0 };
                                    (260.0 + (k as f64 + 1.0).log2() + twin) * size[r].to_f64()
                                }
                                Reduce::Prod => (k as f64 + 2.0) * b.abs(),
                                Reduce::Max | Reduce::Min => 0.0,
                            };
                        let same = a == b || (a.is_nan() && b.is_nan());
                        assert!(
                            same || (a - b).abs() <= bound,
                            "{isa:?} {op:?} {outer:?} {inner:?} row {r}: {g:?}, expected {w:?}"
                        );
                    }
                    let got = bits(&got);
                    let first = first.get_or_insert_with(|| got.clone());
                    assert!(
                        *first == got,
                        "{isa:?} {op:?} {outer:?} {inner:?} {:?}: bits",
                        o.strides
                    );
                }
            });
        }
    }
    others::<T>(outer, inner, seed);
}

fn others<T: Number>(outer: &[usize], inner: &[usize], seed: u64) {
    let shape = [outer, inner].concat();
    let x = Operand::<T>::new(&shape, seed ^ 9, true);
    for max in [false, true] {
        let (mut got, mut want) = (vec![-1; numel(outer)], vec![0; numel(outer)]);
        arg_reduce(max, outer, inner, x.get(), &mut got);
        naive::arg_reduce(max, outer, inner, x.get(), &mut want);
        assert_eq!(got, want, "arg {max} {outer:?} {inner:?} {:?}", x.strides);
    }
}

fn integers<T: Number, A: Number>(outer: &[usize], inner: &[usize], seed: u64) {
    let shape = [outer, inner].concat();
    let x = Operand::<T>::new(&shape, seed, true);
    let (mut got, mut want) = (vec![A::ONE; numel(outer)], vec![A::ZERO; numel(outer)]);
    for isa in available() {
        with_isa(isa, || {
            for op in OPS {
                reduce_int(op, outer, inner, x.get(), &mut got);
                naive::reduce_int(op, outer, inner, x.get(), &mut want);
                assert_eq!(got, want, "{op:?} {outer:?} {inner:?} {:?}", x.strides);
            }
        });
    }
    others::<T>(outer, inner, seed);
}

/// A shape cut in two.
fn halves() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    (shapes(), 0usize..5).prop_map(|(mut outer, cut)| {
        let inner = outer.split_off(cut.min(outer.len()));
        (outer, inner)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn floats_match_their_twins((outer, inner) in halves(), seed: u64) {
        reals::<f32>(&outer, &inner, seed);
        reals::<f64>(&outer, &inner, seed);
    }
    #[test]
    fn integers_match_their_twins((outer, inner) in halves(), seed: u64) {
        integers::<i64, i64>(&outer, &inner, seed);
        integers::<i32, i64>(&outer, &inner, seed);
        integers::<i16, i16>(&outer, &inner, seed);
        integers::<i8, i64>(&outer, &inner, seed);
        integers::<u8, u8>(&outer, &inner, seed);
    }
    #[test]
    fn any_and_all_match_their_twins((outer, inner) in halves(), seed: u64, ones in 0usize..3) {
        let shape = [&outer[..], &inner].concat();
        let mut x = Operand::<u8>::new(&shape, seed, true);
        x.data.iter_mut().for_each(|b| *b = match ones { 0 => 0, 1 => 1, _ => *b & 1 });
        for all in [false, true] {
            let (mut got, mut want) = (vec![7; numel(&outer)], vec![0; numel(&outer)]);
            any_all(all, &outer, &inner, x.get(), &mut got);
            naive::any_all(all, &outer, &inner, x.get(), &mut want);
            assert_eq!(got, want);
        }
    }
}

/// More than one chunk, complete and not, in all three ways of walking.
#[test]
fn long_rows() {
    for k in [4095, 4096, 4097, 8192, 3 * 4096, 5 * 4096 + 17] {
        for seed in 0..6 {
            reals::<f32>(&[3], &[k], seed);
            reals::<f64>(&[2], &[k], seed);
        }
        // Columns side by side: the inner axis is the slow one in memory.
        for (c, offset) in [(1usize, 0), (5, 2), (300, 0)] {
            let x = Operand::<f32>::new(&[offset + c * k], 3, false);
            let column = Operand {
                offset,
                strides: vec![1, c as isize],
                ..x
            };
            let dense = column.dense(&[c, k]);
            let (mut a, mut b) = (vec![0.0; c], vec![0.0; c]);
            for isa in available() {
                with_isa(isa, || {
                    for op in OPS {
                        reduce(op, &[c], &[k], column.get(), &mut a);
                        reduce(op, &[c], &[k], dense.get(), &mut b);
                        assert_eq!(bits(&a), bits(&b), "{isa:?} {op:?} {c} columns of {k}");
                    }
                });
            }
        }
    }
}

/// Many rows of columns side by side: with and without gaps, more columns than a strip, last chunks of few rows.
#[test]
fn tall_columns_equal_rows() {
    let rows = [64, 65, 79, 100, 4096 + 3, 4096 + 70];
    let cases = rows.into_iter().flat_map(|k| {
        let many = if k < 4096 { 1100 } else { 300 };
        [
            (1, 3, 0),
            (1, many, 0),
            (1, many, 7),
            (2, 67, 1),
            (20, 5, 0),
        ]
        .map(|(images, c, gap)| (k, images, c, gap))
    });
    for (k, images, c, gap) in cases {
        let step = c + gap;
        let x = Operand::<f32>::new(&[images * k * step], 3, false);
        let columns = Operand {
            offset: 0,
            strides: vec![(k * step) as isize, 1, step as isize],
            ..x
        };
        let (outer, inner) = ([images, c], [k]);
        let dense = columns.dense(&[images, c, k]);
        let mut want = vec![0.0; images * c];
        for isa in available() {
            with_isa(isa, || {
                for op in OPS {
                    reduce(op, &outer, &inner, dense.get(), &mut want);
                    for threads in [1, 3] {
                        let mut got = vec![9.0; images * c];
                        with_forced_threads(threads, || {
                            reduce(op, &outer, &inner, columns.get(), &mut got);
                        });
                        assert_eq!(
                            bits(&got),
                            bits(&want),
                            "{isa:?} {op:?} {k} rows of {images} x {c} + {gap}"
                        );
                    }
                }
            });
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    let x = Operand::<f32>::new(&[1_300_021], 8, false).data;
    let cases: [(&[usize], &[usize], &[isize]); 4] = [
        (&[], &[1_300_000], &[1]),
        (&[100], &[13_000], &[13_000, 1]),
        (&[100], &[13_000], &[1, 100]),
        (&[10, 13], &[100, 100], &[1, 100_000, 10, 1000]),
    ];
    let run = || {
        let mut all = Vec::new();
        for (outer, inner, strides) in cases {
            let mut out = vec![0.0; numel(outer)];
            let view = Strided {
                data: &x,
                offset: 0,
                strides,
            };
            for op in [Reduce::Sum, Reduce::Max] {
                reduce(op, outer, inner, view, &mut out);
                all.push(bits(&out));
            }
            let mut index = vec![0; numel(outer)];
            arg_reduce(true, outer, inner, view, &mut index);
            all.push(bits(&index));
        }
        all
    };
    let one = with_forced_threads(1, run);
    for t in [2, 3, 8] {
        assert!(with_forced_threads(t, run) == one, "{t} threads");
    }
}

#[test]
fn empty_and_special() {
    let x = Strided {
        data: &[][..],
        offset: 0,
        strides: &[1, 1],
    };
    let mut out = [9.0f32; 3];
    for (op, want) in OPS
        .into_iter()
        .zip([0.0, 1.0, f32::NEG_INFINITY, f32::INFINITY])
    {
        reduce(op, &[3], &[0], x, &mut out);
        assert_eq!(out, [want; 3]);
    }
    let mut out = [9; 3];
    let x = Strided {
        data: &[][..],
        offset: 0,
        strides: &[1, 1],
    };
    any_all(true, &[3], &[0], x, &mut out);
    assert_eq!(out, [1; 3]);
    any_all(false, &[3], &[0], x, &mut out);
    assert_eq!(out, [0; 3]);
    // The first NaN wins, from either side.
    let data = [1.0f32, f32::NAN, 5.0, f32::NAN];
    let x = Strided {
        data: &data,
        offset: 0,
        strides: &[1],
    };
    let mut out = [0];
    for max in [false, true] {
        arg_reduce(max, &[], &[4], x, &mut out);
        assert_eq!(out, [1]);
    }
    let mut out = [0.0f32];
    for op in [Reduce::Sum, Reduce::Max, Reduce::Min] {
        reduce(op, &[], &[4], x, &mut out);
        assert!(out[0].is_nan(), "{op:?}");
    }
}

#[test]
#[should_panic(expected = "leaves its storage")]
fn an_operand_outside_its_storage_panics() {
    let x = [1.0f32; 11];
    reduce(
        Reduce::Sum,
        &[3],
        &[4],
        Strided {
            data: &x,
            offset: 0,
            strides: &[4, 1],
        },
        &mut [0.0; 3],
    );
}
