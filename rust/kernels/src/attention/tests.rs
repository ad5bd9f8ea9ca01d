use super::*;
use crate::parallel::with_forced_threads;
use crate::reference::attention as twin;
use crate::rng;
use crate::simd::{available, with_isa};
use proptest::prelude::*;

fn sample<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let mut x = vec![T::ZERO; n];
    rng::normal(seed, 0, &mut x);
    x
}

fn plain(batch: usize, heads: usize, tq: usize, tk: usize, d: usize, dv: usize) -> Attention {
    Attention {
        batch,
        heads,
        kv_heads: heads,
        tq,
        tk,
        d,
        dv,
        scale: 1.0 / (d.max(1) as f64).sqrt(),
        left: None,
        right: None,
        offset: 0,
        dropout: None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Masked {
    No,
    Keep,
    KeepKeys,
    Add,
    AddRows,
}

/// Outputs, logsumexp and the three gradients.
type All<T> = [Vec<T>; 5];

/// Both directions over a kernel module or its twin.
macro_rules! run {
    ($module:ident, $p:expr, $mask:expr, $lengths:expr, $order:expr, $T:ident) => {{
        let p: &Attention = $p;
        let lengths: Option<&[i64]> = $lengths;
        let q = sample::<$T>(p.batch * p.heads * p.tq * p.d, 1);
        let k = sample::<$T>(p.batch * p.kv_heads * p.tk * p.d, 2);
        let v = sample::<$T>(p.batch * p.kv_heads * p.tk * p.dv, 3);
        let g = sample::<$T>(p.batch * p.heads * p.tq * p.dv, 4);
        let keep: Vec<u8> = sample::<f32>(p.batch * p.tq * p.tk, 5)
            .iter()
            .map(|x| u8::from(*x < 0.5))
            .collect();
        let add = sample::<$T>(p.heads * p.tq * p.tk, 6);
        let (r, c) = (p.tk as isize, p.tq as isize * p.tk as isize);
        let mask = match $mask {
            Masked::No => Mask::None,
            // (batch, 1, tq, tk)
            Masked::Keep => Mask::Keep(Heads {
                data: &keep,
                offset: 0,
                strides: [c, 0, r, 1],
            }),
            // (batch, 1, 1, tk)
            Masked::KeepKeys => Mask::Keep(Heads {
                data: &keep,
                offset: 0,
                strides: [r, 0, 0, 1],
            }),
            // (heads, tq, tk)
            Masked::Add => Mask::Add(Heads {
                data: &add,
                offset: 0,
                strides: [0, c, r, 1],
            }),
            // (heads, tq, 1)
            Masked::AddRows => Mask::Add(Heads {
                data: &add,
                offset: 0,
                strides: [0, c, r, 0],
            }),
        };
        let hq = Heads::dense(&q, [p.heads, p.tq, p.d]);
        let hk = Heads::dense(&k, [p.kv_heads, p.tk, p.d]);
        let hv = Heads::dense(&v, [p.kv_heads, p.tk, p.dv]);
        let hg = Heads::dense(&g, [p.heads, p.tq, p.dv]);
        let mut out = vec![$T::NAN; g.len()];
        let mut lse = vec![$T::NAN; p.batch * p.heads * p.tq];
        $module::attention(p, hq, hk, hv, mask, lengths, $order, &mut out, &mut lse);
        let [sb, sh, si] = $order.strides(p.heads, p.tq, p.dv).map(|s| s as isize);
        let ho = Heads {
            data: &out[..],
            offset: 0,
            strides: [sb, sh, si, 1],
        };
        let mut grads = [
            vec![$T::NAN; q.len()],
            vec![$T::NAN; k.len()],
            vec![$T::NAN; v.len()],
        ];
        let [dq, dk, dv] = &mut grads;
        $module::attention_backward(
            p,
            hq,
            hk,
            hv,
            mask,
            lengths,
            ho,
            &lse,
            hg,
            [$order; 3],
            Some(dq),
            Some(dk),
            Some(dv),
        );
        let [dq, dk, dv] = grads;
        let all: All<$T> = [out, lse, dq, dk, dv];
        all
    }};
}

fn fast<T: Real>(p: &Attention, mask: Masked, lengths: Option<&[i64]>, order: Order) -> All<T> {
    use super::super::attention as kernel;
    run!(kernel, p, mask, lengths, order, T)
}

fn slow<T: Real>(p: &Attention, mask: Masked, lengths: Option<&[i64]>, order: Order) -> All<T> {
    run!(twin, p, mask, lengths, order, T)
}

fn check<T: Real>(p: &Attention, mask: Masked, lengths: Option<&[i64]>, order: Order) {
    let (a, b) = (
        fast::<T>(p, mask, lengths, order),
        slow::<T>(p, mask, lengths, order),
    );
    // Sums of d, tk, tq and heads terms of order 1, each with a relative error of a few roundings of scores of size sqrt(d).
    let terms = (p.d + p.dv + p.tk + p.tq * p.group()) as f64;
    let tolerance = 8.0 * terms.sqrt() * T::EPSILON.to_f64() * 4.0;
    for (name, (a, b)) in ["out", "lse", "dq", "dk", "dv"]
        .iter()
        .zip(a.iter().zip(&b))
    {
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (a.to_f64(), b.to_f64());
            assert!(
                a == b || (a - b).abs() <= tolerance * (1.0 + b.abs()),
                "{name}[{i}]: {a} for {b}; {p:?} {mask:?} {lengths:?} {order:?}"
            );
        }
    }
}

/// Lengths around the strip, the panel, the vector and the tile.
const LENGTHS: [usize; 14] = [0, 1, 2, 5, 6, 7, 15, 17, 33, 63, 64, 65, 130, 200];
/// Sizes of heads around the panels, up to the largest.
const SIZES: [usize; 9] = [1, 3, 8, 16, 20, 32, 33, 64, 100];
const MASKS: [Masked; 5] = [
    Masked::No,
    Masked::Keep,
    Masked::KeepKeys,
    Masked::Add,
    Masked::AddRows,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn agrees_with_its_twin(
        tq in 0usize..14, tk in 0usize..14, d in 0usize..9, dv in 0usize..9, mask in 0usize..5,
        (kv_heads, group) in (1usize..3, 1usize..3), left in 0usize..80, right in 0usize..40, offset in -70isize..70,
        rule in 0u8..8, causal in any::<bool>(), order in any::<bool>(),
    ) {
        let mut p = plain(2, kv_heads * group, LENGTHS[tq], LENGTHS[tk], SIZES[d], SIZES[dv]);
        p.kv_heads = kv_heads;
        if rule & 1 != 0 {
            p.left = Some(left);
        }
        if causal {
            p.right = Some(0);
        } else if rule & 2 != 0 {
            p.right = Some(right);
        }
        if rule & 4 != 0 {
            p.offset = offset;
            p.dropout = Some(Dropout { p: 0.3, seed: 5, stream: 9 });
        }
        let lengths = [p.tk as i64, (p.tk / 2) as i64];
        let lengths = (offset > 20).then_some(&lengths[..]);
        let order = if order { Order::HeadsFirst } else { Order::RowsFirst };
        for isa in available() {
            with_isa(isa, || {
                check::<f32>(&p, MASKS[mask], lengths, order);
                check::<f64>(&p, MASKS[mask], lengths, order);
            });
        }
    }
}

#[test]
fn large_heads_and_long_rows() {
    for isa in available() {
        with_isa(isa, || {
            let mut p = plain(1, 1, 70, 700, 256, 256);
            check::<f32>(&p, Masked::No, None, Order::HeadsFirst);
            p.right = Some(0);
            p.offset = 630;
            check::<f32>(&p, Masked::Add, None, Order::RowsFirst);
        });
    }
}

#[test]
fn keys_in_chunks_that_only_some_queries_see() {
    for isa in available() {
        with_isa(isa, || {
            let mut p = plain(1, 1, 800, 800, 16, 16);
            p.right = Some(0);
            check::<f32>(&p, Masked::No, None, Order::HeadsFirst);
            check::<f32>(&p, Masked::No, Some(&[500]), Order::RowsFirst);
            p.left = Some(100);
            check::<f32>(&p, Masked::No, None, Order::HeadsFirst);
            // No query sees the last keys, and the first queries see none.
            p.offset = -200;
            check::<f32>(&p, Masked::No, None, Order::RowsFirst);
        });
    }
}

#[test]
fn queries_that_see_nothing_give_zeros() {
    for isa in available() {
        with_isa(isa, || {
            // Query i sees keys up to i - 5: the first five none. The second entry has no keys at all.
            let mut p = plain(2, 2, 70, 70, 16, 16);
            (p.right, p.offset) = (Some(0), -5);
            let [out, lse, dq, dk, dv] =
                fast::<f32>(&p, Masked::No, Some(&[70, 0]), Order::HeadsFirst);
            let all = [&out, &dq, &dk, &dv];
            assert!(all.iter().all(|x| x.iter().all(|x| x.is_finite())));
            assert!(out[..5 * 16].iter().chain(&dq[..5 * 16]).all(|x| *x == 0.0));
            assert!(lse[..5].iter().all(|x| *x == f32::INFINITY) && lse[5].is_finite());
            assert!(out[5 * 16..6 * 16].iter().any(|x| *x != 0.0));
            let half = out.len() / 2;
            for x in all {
                assert!(x[half..].iter().all(|x| *x == 0.0));
            }
        });
    }
}

#[test]
fn infinite_masks_and_nan() {
    let (tq, tk) = (3, 70);
    let p = plain(1, 1, tq, tk, 8, 8);
    let (q, k, v) = (
        sample::<f32>(tq * 8, 1),
        sample::<f32>(tk * 8, 2),
        sample::<f32>(tk * 8, 3),
    );
    let run = |k: &[f32], mask: &[f32]| {
        let (mut out, mut lse) = (vec![0f32; tq * 8], vec![0f32; tq]);
        let dense = |x, rows| Heads::dense(x, [1, rows, 8]);
        let mask = Mask::Add(Heads::dense(mask, [1, tq, tk]));
        let (q, k, v) = (dense(&q, tq), dense(k, tk), dense(&v, tk));
        attention(
            &p,
            q,
            k,
            v,
            mask,
            None,
            Order::HeadsFirst,
            &mut out,
            &mut lse,
        );
        (out, lse)
    };
    for isa in available() {
        with_isa(isa, || {
            let mut mask = vec![0f32; tq * tk];
            // Row 0: nothing. Row 1: only keys of the second tile.
            mask[..tk].fill(f32::NEG_INFINITY);
            mask[tk..tk + 64].fill(f32::NEG_INFINITY);
            let (out, lse) = run(&k, &mask);
            assert!(out[..8].iter().all(|x| *x == 0.0) && lse[0] == f32::INFINITY);
            assert!(out[8..].iter().all(|x| x.is_finite() && *x != 0.0));
            // A NaN shows in every query that looks at it, also where all else is hidden.
            let mut bad = k.clone();
            bad[0] = f32::NAN;
            let (out, _) = run(&bad, &mask);
            assert!(out.iter().all(|x| x.is_nan()));
        });
    }
}

#[test]
fn strided_operands_are_read_in_place() {
    // One buffer (batch, rows, 3, heads, d), as a layer's projection makes it.
    let (b, t, h, d) = (2, 70, 3, 16);
    let qkv = sample::<f32>(b * t * 3 * h * d, 1);
    let part = |i: usize| Heads {
        data: &qkv[..],
        offset: i * h * d,
        strides: [
            (t * 3 * h * d) as isize,
            d as isize,
            (3 * h * d) as isize,
            1,
        ],
    };
    let copy = |x: Heads<'_, f32>| {
        let mut out = Vec::new();
        for at in 0..b * h * t * d {
            let (e, i) = (at % d, at / d % t);
            out.push(x.data[x.index([at / (h * t * d), at / (t * d) % h, i, e])]);
        }
        out
    };
    let dense = [copy(part(0)), copy(part(1)), copy(part(2))];
    let p = plain(b, h, t, t, d, d);
    let run = |x: [Heads<'_, f32>; 3]| {
        let (mut out, mut lse) = (vec![0f32; b * h * t * d], vec![0f32; b * h * t]);
        attention(
            &p,
            x[0],
            x[1],
            x[2],
            Mask::None,
            None,
            Order::HeadsFirst,
            &mut out,
            &mut lse,
        );
        out
    };
    let two = run([0, 1, 2].map(|i| Heads::dense(&dense[i][..], [h, t, d])));
    assert!(run([part(0), part(1), part(2)]) == two);
}

#[test]
fn same_bits_for_any_thread_count_and_fused_path() {
    let mut one = plain(1, 2, 300, 700, 64, 64);
    (one.right, one.offset) = (Some(0), 400);
    let mut many = plain(3, 4, 65, 65, 32, 32);
    many.dropout = Some(Dropout {
        p: 0.25,
        seed: 1,
        stream: 2,
    });
    many.kv_heads = 2;
    for p in [&one, &many] {
        let run = || {
            let all = fast::<f32>(p, Masked::Keep, None, Order::RowsFirst);
            all.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for isa in available() {
            with_isa(isa, || {
                let alone = with_forced_threads(1, run);
                for n in [2, 3, 8] {
                    assert!(with_forced_threads(n, run) == alone, "{n} threads");
                }
            });
        }
        let fused: Vec<_> = available().filter(|i| *i != Isa::Scalar).collect();
        if let [a, b] = fused[..] {
            assert!(with_isa(a, run) == with_isa(b, run));
        }
    }
}

#[test]
fn only_what_is_asked_for() {
    let p = plain(1, 2, 70, 130, 32, 16);
    let [out, lse, dq, dk, dv] = fast::<f32>(&p, Masked::No, None, Order::HeadsFirst);
    let (q, k, v, g) = (
        sample::<f32>(2 * 70 * 32, 1),
        sample::<f32>(2 * 130 * 32, 2),
        sample::<f32>(2 * 130 * 16, 3),
        sample::<f32>(2 * 70 * 16, 4),
    );
    for asked in 0..8u8 {
        let mut found = [
            vec![7f32; dq.len()],
            vec![7f32; dk.len()],
            vec![7f32; dv.len()],
        ];
        let [a, b, c] = &mut found;
        attention_backward(
            &p,
            Heads::dense(&q, [2, 70, 32]),
            Heads::dense(&k, [2, 130, 32]),
            Heads::dense(&v, [2, 130, 16]),
            Mask::None,
            None,
            Heads::dense(&out, [2, 70, 16]),
            &lse,
            Heads::dense(&g, [2, 70, 16]),
            [Order::HeadsFirst; 3],
            (asked & 1 != 0).then_some(a),
            (asked & 2 != 0).then_some(b),
            (asked & 4 != 0).then_some(c),
        );
        for (i, (found, whole)) in found.iter().zip([&dq, &dk, &dv]).enumerate() {
            assert!(asked >> i & 1 == 0 || found == whole, "{asked} {i}");
        }
    }
}
