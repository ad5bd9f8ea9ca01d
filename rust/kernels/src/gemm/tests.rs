use super::outer::Side;
use super::plan::k_blocks;
use super::*;
use crate::parallel::{SharedMut, with_forced_threads};
use crate::reference::gemm as naive;
use crate::simd::{available, with_isa};
use proptest::prelude::*;

/// Small whole multiples of 1/64 in [-2, 2]: exact in both types, with signs that cancel.
fn numbers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            T::from_f64(((s >> 20) % 257) as f64 / 64.0 - 2.0 + (s >> 40) as f64 * 1e-9)
        })
        .collect()
}

/// Unit roundoff.
fn u<T>() -> f64 {
    if size_of::<T>() == 4 {
        2f64.powi(-24)
    } else {
        2f64.powi(-53)
    }
}

/// One matrix in the storage order that `kind` says; returns the data and the view of (rows, cols).
fn layout<T: Real>(
    dense: &[T],
    rows: usize,
    cols: usize,
    kind: u8,
) -> (Vec<T>, usize, isize, isize) {
    let (r, c) = (rows as isize, cols as isize);
    let (offset, rs, cs, len) = match kind {
        0 => (0, c, 1, rows * cols),
        1 => (0, 1, r, rows * cols),
        2 => (0, c + 5, 1, rows * (cols + 5)), // part of wider rows
        3 => ((rows * cols).saturating_sub(1), -c, -1, rows * cols), // both axes flipped
        4 => (3, 2 * c * 3, 3, rows * cols * 6 + 4), // gaps in both axes
        6 => (cols.saturating_sub(1) * rows, 1, -r, rows * cols), // transposed, columns flipped
        _ => (0, 1, r + 600, cols * (rows + 600) + 1), // transposed, far apart
    };
    let mut data = vec![T::from_f64(f64::NAN); len + 1];
    for i in 0..rows {
        for j in 0..cols {
            let at = offset as isize + i as isize * rs + j as isize * cs;
            data[at as usize] = dense[i * cols + j];
        }
    }
    (data, offset, rs, cs)
}

fn mat<T>(l: &(Vec<T>, usize, isize, isize)) -> Mat<'_, T> {
    Mat {
        data: &l.0,
        offset: l.1,
        rs: l.2,
        cs: l.3,
    }
}

/// Fast against twin: elementwise bound gamma_{k+2} |A||B| (plus the epilogue's two roundings and the activation's own).
fn check<T: Real>(m: usize, n: usize, k: usize, ka: u8, kb: u8, act: Activation, flags: u8) {
    let (a, b) = (
        numbers::<T>(m * k, 1 + m as u64),
        numbers::<T>(k * n, 77 + n as u64),
    );
    let (c0, bias) = (numbers::<T>(m * n, 5), numbers::<T>(n, 6));
    let (la, lb) = (layout(&a, m, k, ka), layout(&b, k, n, kb));
    let (accumulate, has_bias, has_pre) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    let run = |fast: bool| {
        let (mut c, mut pre) = (c0.clone(), vec![T::ZERO; m * n]);
        let e = Epilogue {
            bias: has_bias.then_some(&bias[..]),
            act,
            accumulate,
            pre: has_pre.then_some(&mut pre[..]),
        };
        if fast {
            gemm(m, n, k, mat(&la), mat(&lb), &mut c, e);
        } else {
            naive::gemm(m, n, k, mat(&la), mat(&lb), &mut c, e);
        }
        (c, pre)
    };
    let want = run(false);
    for isa in available() {
        let got = with_isa(isa, || run(true));
        for i in 0..m {
            for j in 0..n {
                let mut size = 0.0;
                for l in 0..k {
                    size += (a[i * k + l].to_f64() * b[l * n + j].to_f64()).abs();
                }
                size += if accumulate {
                    c0[i * n + j].to_f64().abs()
                } else {
                    0.0
                };
                size += if has_bias {
                    bias[j].to_f64().abs()
                } else {
                    0.0
                };
                // The scalar path rounds product and sum separately: twice the count.
                let gamma = (2 * k + 4) as f64 * u::<T>();
                let at = i * n + j;
                let pairs = [(got.0[at], want.0[at]), (got.1[at], want.1[at])];
                for (x, y) in pairs {
                    let (x, y) = (x.to_f64(), y.to_f64());
                    // Every activation has slope below 1.13; its own error is below 4 ULP.
                    let bound = 1.2 * gamma * size + 8.0 * u::<T>() * y.abs() + 1e-30;
                    assert!(
                        (x - y).abs() <= bound,
                        "{isa:?} ({m},{n},{k}) {ka} {kb} [{i},{j}]: {x} {y}"
                    );
                }
            }
        }
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![
        0usize, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_size_and_stride(m in size(), n in size(), k in size(), ka in 0u8..6, kb in 0u8..7, flags in 0u8..8) {
        check::<f32>(m, n, k, ka, kb, Activation::None, flags);
        check::<f64>(m, n, k, ka, kb, Activation::Relu, flags);
    }
}

#[test]
fn activations() {
    for act in [
        Activation::Relu,
        Activation::Gelu,
        Activation::Silu,
        Activation::Sigmoid,
        Activation::Tanh,
    ] {
        check::<f32>(9, 33, 5, 0, 1, act, 7);
        check::<f64>(7, 19, 6, 1, 0, act, 6);
    }
}

#[test]
fn a_narrow_last_panel_has_the_epilogue_too() {
    for kb in [0, 1] {
        check::<f32>(9, 530, 5, 0, kb, Activation::Gelu, 7);
        check::<f32>(33, 400, 6, 1, kb, Activation::Relu, 7);
    }
}

#[test]
fn long_k_runs_in_blocks() {
    check::<f32>(5, 20, 385, 0, 0, Activation::Relu, 7);
    check::<f32>(33, 50, 1000, 1, 1, Activation::None, 3);
    check::<f64>(3, 3, 769, 5, 5, Activation::None, 0);
    check::<f32>(1, 37, 900, 0, 1, Activation::Relu, 7);
    check::<f64>(1, 9, 13, 1, 1, Activation::Tanh, 7);
    check::<f32>(1, 8, 7, 2, 1, Activation::None, 7);
    assert_eq!(k_blocks(0).collect::<Vec<_>>(), [(0, 0)]);
    assert_eq!(k_blocks(384).collect::<Vec<_>>(), [(0, 384)]);
    assert_eq!(k_blocks(513).collect::<Vec<_>>(), [(0, 257), (257, 256)]);
}

/// Bits of a product with every layout of a and b, on 1, 2, 3 and 8 threads.
fn same_bits<T: Real>(m: usize, n: usize, k: usize) {
    let (a, b) = (numbers::<T>(m * k, 3), numbers::<T>(k * n, 4));
    for isa in available() {
        let mut first: Option<Vec<T>> = None;
        for (ka, kb) in [
            (0, 0),
            (1, 1),
            (2, 5),
            (3, 3),
            (4, 1),
            (5, 2),
            (0, 4),
            (0, 6),
        ] {
            let (la, lb) = (layout(&a, m, k, ka), layout(&b, k, n, kb));
            for threads in [1, 2, 3, 8] {
                let mut c = vec![T::ZERO; m * n];
                with_forced_threads(threads, || {
                    with_isa(isa, || {
                        gemm(m, n, k, mat(&la), mat(&lb), &mut c, Epilogue::default())
                    });
                });
                let want = first.get_or_insert_with(|| c.clone());
                assert!(
                    *want == c,
                    "{isa:?} ({m},{n},{k}) layouts {ka} {kb}, {threads} threads"
                );
            }
        }
    }
}

#[test]
fn threads_and_strides_do_not_show() {
    same_bits::<f32>(129, 65, 400);
    same_bits::<f32>(65, 300, 33);
    same_bits::<f32>(1, 129, 64);
    same_bits::<f32>(1, 37, 805);
    same_bits::<f64>(1, 13, 390);
    same_bits::<f32>(1, 70, 20);
    same_bits::<f32>(2, 65, 1000);
    same_bits::<f32>(129, 3, 100);
    same_bits::<f32>(31, 10, 84);
    same_bits::<f64>(33, 40, 50);
    same_bits::<f64>(40, 1, 77);
    // Shares of a panel's rows, a narrower last panel that is whole or not, and B read in place by tasks of rows.
    same_bits::<f32>(1030, 530, 9);
    same_bits::<f32>(520, 528, 40);
    same_bits::<f64>(520, 70, 30);
}

/// Two products with one A in one go, the second with fewer columns of A and rows of B from a table, on 1, 2, 3 and 8 threads: the bits
/// of separate products; and the sums of A's columns, with products and alone.
fn outer_bits<T: Real>(k: usize, (width, first): (usize, usize), m: [usize; 2], n: [usize; 2]) {
    let a = numbers::<T>(k * width, 5);
    let b = n.map(|n| numbers::<T>(k * n, 6));
    let want = [0, 1].map(|i| {
        let mut c = vec![T::ONE; m[i] * n[i]];
        let a = Mat {
            offset: first,
            ..Mat::dense(&a, width)
        };
        let b = Mat::dense(&b[i], n[i]);
        gemm(m[i], n[i], k, a.t(), b, &mut c, Epilogue::default());
        c
    });
    // Rows in another place and order.
    let mut moved = b[1].clone();
    moved.reverse();
    moved.chunks_exact_mut(n[1].max(1)).for_each(<[T]>::reverse);
    let at = |row: usize| SharedMut(moved[(k - 1 - row) * n[1]..].as_ptr().cast_mut());
    let table: Vec<_> = (0..k).map(at).collect();
    let mut all_sums = Vec::new();
    for threads in [1, 2, 3, 8] {
        let mut c = want.clone().map(|c| vec![T::ONE; c.len()]);
        let mut sums = [vec![T::ONE; m[0]], vec![T::ONE; m[1]]];
        with_forced_threads(threads, || {
            let [c0, c1] = &mut c;
            let sides = [
                Side::new(m[0], n[0], &b[0], c0),
                // SAFETY: each row of the table has n numbers.
                unsafe { Side::rows(m[1], n[1], &table, c1) },
            ];
            let [s0, s1] = &mut sums;
            let a = (&a[..], width, first);
            let outers = [
                Outer::new(k, a, sides.into_iter(), Some(s0)),
                Outer::new(k, a, [].into_iter(), Some(s1)),
            ];
            gemm_list(&mut [], &outers, &mut []);
        });
        assert!(c == want, "{k} {width} {m:?} {n:?}, {threads} threads");
        assert!(sums[1][..] == sums[0][..m[1]]);
        all_sums.push(sums);
    }
    assert!(all_sums.iter().all(|s| *s == all_sums[0]));
    for (i, sum) in all_sums[0][0].iter().enumerate() {
        let column = (0..k).map(|l| a[l * width + first + i].to_f64());
        let size: f64 = column.clone().map(f64::abs).sum();
        // Chains of at most 384 / 4 lanes, the lanes, and the blocks of k.
        let bound = 128.0 * T::EPSILON.to_f64() * size;
        assert!((sum.to_f64() - column.sum::<f64>()).abs() <= bound);
    }
}

#[test]
fn outer_products_are_products() {
    // Blocks of k as tasks, and runs of rows.
    outer_bits::<f32>(1300, (40, 0), [40, 40], [20, 33]);
    outer_bits::<f32>(800, (90, 7), [83, 41], [48, 5]);
    outer_bits::<f32>(400, (700, 0), [700, 500], [130, 300]);
    outer_bits::<f32>(5, (30, 3), [24, 13], [1, 17]);
    outer_bits::<f32>(0, (8, 0), [8, 8], [3, 2]);
    outer_bits::<f64>(900, (31, 1), [30, 7], [9, 64]);
    outer_bits::<f64>(500, (400, 0), [400, 400], [100, 0]);
}

#[test]
fn broadcast_operands() {
    let (x, y) = ([2.0f32], numbers::<f32>(9, 9));
    let a = Mat {
        data: &x,
        offset: 0,
        rs: 0,
        cs: 0,
    };
    let b = Mat {
        data: &y,
        offset: 0,
        rs: 1,
        cs: 0,
    };
    let (mut c, mut want) = (vec![0.0; 20 * 40], vec![0.0; 20 * 40]);
    gemm(20, 40, 9, a, b, &mut c, Epilogue::default());
    naive::gemm(20, 40, 9, a, b, &mut want, Epilogue::default());
    for (c, want) in c.iter().zip(&want) {
        assert!((c - want).abs() < 1e-4);
    }
}

#[test]
fn special_values_stay_in_their_row_and_column() {
    for isa in available() {
        for (m, n, k) in [(9, 19, 5), (33, 65, 40), (2, 20, 33)] {
            let (mut a, mut b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
            a[(m - 1) * k + 1] = f32::NAN;
            b[2 * n + n - 1] = f32::INFINITY;
            let (la, lb) = (layout(&a, m, k, 0), layout(&b, k, n, 0));
            let mut c = vec![0.0; m * n];
            with_isa(isa, || {
                gemm(m, n, k, mat(&la), mat(&lb), &mut c, Epilogue::default())
            });
            for i in 0..m {
                for j in 0..n {
                    let x = c[i * n + j];
                    assert_eq!(
                        x.is_finite(),
                        i != m - 1 && j != n - 1,
                        "{isa:?} [{i},{j}] = {x}"
                    );
                }
            }
        }
    }
}

#[test]
fn batches() {
    let (m, n, k) = (9, 17, 8);
    let (a, b) = (numbers::<f32>(5 * m * k, 1), numbers::<f32>(5 * k * n, 2));
    let va = Mat {
        data: &a,
        offset: m * k,
        rs: k as isize,
        cs: 1,
    };
    let vb = Mat {
        data: &b,
        offset: 0,
        rs: 1,
        cs: k as isize,
    };
    // Backwards, and b the same for two of them.
    let (oa, ob) = (
        [3, 2, 1, 0, -1].map(|i| i * (m * k) as isize),
        [0, 1, 2, 2, 4].map(|i| i * (k * n) as isize),
    );
    let mut want = vec![0.0; 5 * m * n];
    naive::gemm_batched(m, n, k, va, &oa, vb, &ob, &mut want);
    for threads in [1, 3] {
        let mut c = vec![9.0; 5 * m * n];
        with_forced_threads(threads, || gemm_batched(m, n, k, va, &oa, vb, &ob, &mut c));
        for (c, want) in c.iter().zip(&want) {
            assert!((c - want).abs() < 1e-5);
        }
    }
    gemm_batched::<f32>(m, n, k, va, &[], vb, &[], &mut []);
}

#[test]
fn linear_gradients() {
    for (m, n, k) in [
        (1, 1, 1),
        (7, 10, 33),
        (64, 120, 256),
        (300, 17, 9),
        (0, 4, 5),
    ] {
        let (x, w, dz) = (
            numbers::<f32>(m * k, 1),
            numbers::<f32>(n * k, 2),
            numbers::<f32>(m * n, 3),
        );
        let mut want = (vec![1.0; m * k], vec![1.0; n * k], vec![1.0; n]);
        naive::linear_backward(
            m,
            n,
            k,
            &x,
            &w,
            &dz,
            Some(&mut want.0),
            Some(&mut want.1),
            Some(&mut want.2),
        );
        let mut first: Option<(Vec<f32>, Vec<f32>, Vec<f32>)> = None;
        for threads in [1, 2, 3, 8] {
            let mut got = (vec![2.0; m * k], vec![2.0; n * k], vec![2.0; n]);
            with_forced_threads(threads, || {
                linear_backward(
                    m,
                    n,
                    k,
                    &x,
                    &w,
                    &dz,
                    Some(&mut got.0),
                    Some(&mut got.1),
                    Some(&mut got.2),
                );
            });
            let close = |a: &[f32], b: &[f32], terms: usize| {
                a.iter()
                    .zip(b)
                    .all(|(a, b)| (a - b).abs() <= 4.0 * (terms * (terms + 2)) as f32 * 6e-8)
            };
            assert!(
                close(&got.0, &want.0, n) && close(&got.1, &want.1, m) && close(&got.2, &want.2, m)
            );
            assert!(
                *first.get_or_insert_with(|| got.clone()) == got,
                "{threads} threads"
            );
        }
        let mut db = vec![0.0; n];
        linear_backward(m, n, k, &x, &w, &dz, None, None, Some(&mut db));
        assert_eq!(db, first.unwrap_or_default().2);
    }
}

#[test]
#[should_panic(expected = "reaches outside")]
fn a_short_operand_panics() {
    let x = [1.0f32; 5];
    let a = Mat {
        data: &x,
        offset: 0,
        rs: 2,
        cs: 1,
    };
    gemm(
        2,
        2,
        2,
        a,
        Mat { rs: 4, ..a },
        &mut [0.0; 4],
        Epilogue::default(),
    );
}

#[test]
fn strips_are_equal_and_cover_the_rows() {
    assert_eq!(
        kernel::strips(20, 8).collect::<Vec<_>>(),
        [(0, 7), (7, 7), (14, 6)]
    );
    assert_eq!(kernel::strips(0, 8).count(), 0);
    assert_eq!(kernel::strips(8, 8).collect::<Vec<_>>(), [(0, 8)]);
}

#[test]
fn one_long_task_hears_an_interrupt() {
    use crate::parallel::{set_interrupt_hook, take_interrupted};
    thread_local!(static STOP: core::cell::Cell<bool> = const { core::cell::Cell::new(false) });
    let (m, n, k) = (200_000, 16, 2048);
    // One number seen as both operands: the work without the memory.
    let one = [1f32];
    let x = Mat {
        data: &one,
        offset: 0,
        rs: 0,
        cs: 0,
    };
    let run = |threads| {
        let mut c = vec![-1f32; m * n];
        with_forced_threads(threads, || {
            set_interrupt_hook(|| STOP.get());
            gemm(m, n, k, x, x, &mut c, Epilogue::default());
        });
        c
    };
    for threads in [1, 3] {
        STOP.set(true);
        let c = run(threads);
        STOP.set(false);
        assert!(take_interrupted());
        // 13 GFLOP take longer than the 20 ms between two looks, and the end of the matrix was never reached.
        assert_eq!(c[m * n - 1], -1.0, "{threads} threads");
    }
    // Until the interrupt is taken, further calls do nothing; afterwards all is as before.
    STOP.set(true);
    while !crate::parallel::tick(100.0) {}
    STOP.set(false);
    let mut c = [7f32];
    gemm(1, 1, 1, x, x, &mut c, Epilogue::default());
    assert_eq!(c, [7.0]);
    assert!(take_interrupted());
    gemm(1, 1, 1, x, x, &mut c, Epilogue::default());
    assert_eq!(c, [1.0]);
}

#[test]
#[should_panic(expected = "c has 0 elements")]
fn a_product_of_sizes_that_overflows_is_no_small_matrix() {
    let none = Mat {
        data: &[] as &[f32],
        offset: 0,
        rs: 0,
        cs: 0,
    };
    // 2^33 * 2^31 wraps to 0.
    gemm(
        1 << 33,
        1 << 31,
        0,
        none,
        none,
        &mut [],
        Epilogue::default(),
    );
}

#[test]
fn nothing_times_a_wide_matrix_is_nothing() {
    // One element that is broadcast to more columns than there could be tasks for.
    let wide = Mat {
        data: &[1.0f32],
        offset: 0,
        rs: 0,
        cs: 0,
    };
    let none = Mat::dense(&[], 2);
    with_forced_threads(2, || {
        gemm(0, 1 << 50, 2, none, wide, &mut [], Epilogue::default());
        gemm(1 << 50, 0, 2, wide, none, &mut [], Epilogue::default());
    });
}
