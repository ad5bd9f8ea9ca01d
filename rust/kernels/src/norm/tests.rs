//! Batch normalisation against its twin, on every path, with the same bits for any thread count.
use super::*;
use crate::parallel::with_forced_threads;
use crate::reference::norm as twin;
use crate::rng;
use crate::simd::{Isa, available, with_isa};
use crate::stream::testing::both_ways;
use proptest::prelude::*;

const SIZES: [usize; 20] = [
    0, 1, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 129, 300, 4100,
];

fn sample<T: Real>(n: usize, seed: u64, mean: f64, sd: f64) -> Vec<T> {
    let mut x = vec![T::ZERO; n];
    rng::normal(seed, 0, &mut x);
    x.iter()
        .map(|v| T::from_f64(mean + sd * v.to_f64()))
        .collect()
}

fn close<T: Real>(what: &str, a: &[T], b: &[T], ulps: f64, floor: f64) {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (a.to_f64(), b.to_f64());
        let same = a == b || (a.is_nan() && b.is_nan());
        let ok = same || (a - b).abs() <= ulps * T::EPSILON.to_f64() * b.abs().max(floor);
        assert!(ok, "{what} {i}: {a} {b}");
    }
}

#[test]
fn results_past_the_caches_have_the_same_bits() {
    fn check<T: Real>() {
        // Planes that whole lines fill, and others.
        for s in [16, 784, 49, 1] {
            let (n, c) = (3, 5);
            let len = n * c * s;
            let (x, dy) = (sample::<T>(len, 1, 0.5, 2.0), sample::<T>(len, 2, 0.1, 1.0));
            let (mean, rstd) = (vec![T::ONE; c], sample::<T>(c, 3, 1.0, 0.1));
            let bits = |v: &[T]| v.iter().map(|v| v.to_f64().to_bits()).collect::<Vec<_>>();
            for isa in available() {
                with_isa(isa, || {
                    let [plain, past] = both_ways(len, |y: &mut [T]| {
                        batch_norm_apply(n, c, s, &x, &mean, &rstd, None, None, y);
                    });
                    assert_eq!(bits(&plain), bits(&past), "{isa:?} {s}");
                    let [plain, past] = both_ways(len, |dx: &mut [T]| {
                        batch_norm_backward(
                            n,
                            c,
                            s,
                            &x,
                            &dy,
                            &mean,
                            &rstd,
                            None,
                            true,
                            Some(dx),
                            None,
                            None,
                        );
                    });
                    assert_eq!(bits(&plain), bits(&past), "{isa:?} {s}");
                });
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

fn check<T: Real>(n: usize, c: usize, s: usize, seed: u64) {
    let len = n * c * s;
    let x = sample::<T>(len, seed, 0.5, 2.0);
    let dy = sample::<T>(len, seed + 1, 0.1, 1.0);
    let (gamma, beta) = (
        sample::<T>(c, seed + 2, 1.0, 1.0),
        sample::<T>(c, seed + 3, 0.0, 1.0),
    );
    let (mut mean, mut var) = (vec![T::ONE; c], vec![T::ONE; c]);
    let (mut mean2, mut var2) = (mean.clone(), var.clone());
    batch_norm_stats(n, c, s, &x, &mut mean, &mut var);
    twin::batch_norm_stats(n, c, s, &x, &mut mean2, &mut var2);
    // The twin adds f64 one by one.
    let twins = ((n * s) as f64).sqrt();
    close("mean", &mean, &mean2, 4.0 + twins, 1.0);
    close("var", &var, &var2, 16.0 + twins, 1e-3);
    let rstd: Vec<T> = var2
        .iter()
        .map(|v| T::from_f64(1.0 / (v.to_f64() + 1e-5).sqrt()))
        .collect();
    for (gamma, beta) in [(None, None), (Some(&gamma[..]), Some(&beta[..]))] {
        let (mut y, mut z) = (vec![T::ONE; len], vec![T::ONE; len]);
        batch_norm_apply(n, c, s, &x, &mean2, &rstd, gamma, beta, &mut y);
        twin::batch_norm_apply(n, c, s, &x, &mean2, &rstd, gamma, beta, &mut z);
        // A constant channel (one element) is rounding times rstd = 300.
        close("y", &y, &z, 16.0, 10.0);
        for batch_stats in [false, true] {
            let (mut dx, mut dx2) = (vec![T::ONE; len], vec![T::ONE; len]);
            let mut d = [const { Vec::new() }; 4];
            d.fill(vec![T::ONE; c]);
            let [dg, db, dg2, db2] = &mut d;
            batch_norm_backward(
                n,
                c,
                s,
                &x,
                &dy,
                &mean2,
                &rstd,
                gamma,
                batch_stats,
                Some(&mut dx),
                Some(dg),
                Some(db),
            );
            twin::batch_norm_backward(
                n,
                c,
                s,
                &x,
                &dy,
                &mean2,
                &rstd,
                gamma,
                batch_stats,
                Some(&mut dx2),
                Some(dg2),
                Some(db2),
            );
            // dy, up to 5, times gamma, up to 5, times rstd, up to 300 for constant channels.
            let size = rstd.iter().fold(1.0f64, |m, r| m.max(r.to_f64()));
            close("dgamma", dg, dg2, 16.0 + twins, 4.0 * twins.max(1.0) * size);
            close("dbeta", db, db2, 16.0 + twins, 4.0 * twins.max(1.0));
            close("dx", &dx, &dx2, 32.0, 25.0 * size);
            // What is not asked for changes nothing else.
            let mut alone = vec![T::ZERO; c];
            batch_norm_backward(
                n,
                c,
                s,
                &x,
                &dy,
                &mean2,
                &rstd,
                gamma,
                batch_stats,
                None,
                None,
                Some(&mut alone),
            );
            assert_eq!(&alone, db);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn agrees_with_its_twin(n in 0usize..12, c in 0..18usize, s in 0..20usize, seed in 0u64..1000) {
        let c = if s > 17 { c % 4 } else { SIZES[c] };
        for isa in available() {
            with_isa(isa, || {
                check::<f32>(n, c, SIZES[s], seed);
                check::<f64>(n, c, SIZES[s], seed);
            });
        }
    }
}

#[test]
fn many_rows_and_many_images() {
    check::<f32>(1000, 70, 1, 1);
    check::<f32>(700, 3, 17, 2);
    check::<f64>(300, 2, 100, 3);
}

/// A mean of 10,000 and a variance of 1e-6: the mean's square has 14 digits more than the variance.
#[test]
fn a_large_mean_does_not_drown_the_variance() {
    for isa in available() {
        with_isa(isa, || {
            for (n, c, s) in [(2000, 2, 1), (8, 2, 1000), (1, 2, 10_000), (500, 2, 4)] {
                let x = sample::<f32>(n * c * s, 7, 1e4, 1e-3);
                let (mut mean, mut var) = (vec![0f32; c], vec![0f32; c]);
                let (mut mean2, mut var2) = (vec![0f32; c], vec![0f32; c]);
                batch_norm_stats(n, c, s, &x, &mut mean, &mut var);
                twin::batch_norm_stats(n, c, s, &x, &mut mean2, &mut var2);
                assert_eq!(mean, mean2);
                close("var", &var, &var2, 32.0, 0.0);
                assert!(var2.iter().all(|v| (5e-7..3e-6).contains(v)), "{var2:?}");
                let y64 = sample::<f64>(n * c * s, 7, 1e4, 1e-3);
                let (mut m64, mut v64) = (vec![0f64; c], vec![0f64; c]);
                batch_norm_stats(n, c, s, &y64, &mut m64, &mut v64);
                assert!(v64.iter().all(|v| (v / 1e-6 - 1.0).abs() < 0.2), "{v64:?}");
            }
        });
    }
}

#[test]
fn nan_stays_in_its_channel() {
    for s in [1, 5] {
        let mut x = sample::<f32>(20 * 2 * s, 1, 0.0, 1.0);
        x[6 * s] = f32::NAN; // image 3, channel 0
        let (mut mean, mut var) = ([0.0; 2], [0.0; 2]);
        batch_norm_stats(20, 2, s, &x, &mut mean, &mut var);
        assert!(mean[0].is_nan() && var[0].is_nan() && mean[1].is_finite() && var[1] > 0.0);
    }
}

#[test]
fn same_bits_for_any_thread_count_and_fused_path() {
    for (n, c, s) in [(600, 130, 1), (30, 9, 700), (3, 5, 9000)] {
        let len = n * c * s;
        let (x, dy) = (
            sample::<f32>(len, 1, 1.0, 2.0),
            sample::<f32>(len, 2, 0.0, 1.0),
        );
        let gamma = sample::<f32>(c, 3, 1.0, 1.0);
        let run = || {
            let (mut mean, mut var) = (vec![0.0; c], vec![0.0; c]);
            let (mut y, mut dx) = (vec![0.0; len], vec![0.0; len]);
            let (mut dg, mut db) = (vec![0.0; c], vec![0.0; c]);
            batch_norm_stats(n, c, s, &x, &mut mean, &mut var);
            batch_norm_apply(n, c, s, &x, &mean, &var, Some(&gamma), None, &mut y);
            batch_norm_backward(
                n,
                c,
                s,
                &x,
                &dy,
                &mean,
                &var,
                Some(&gamma),
                true,
                Some(&mut dx),
                Some(&mut dg),
                Some(&mut db),
            );
            let all = [mean, var, y, dx, dg, db];
            all.concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        for isa in available() {
            with_isa(isa, || {
                let one = with_forced_threads(1, run);
                for t in [2, 3, 8] {
                    assert!(with_forced_threads(t, run) == one, "{t} threads");
                }
            });
        }
        let fused: Vec<_> = available().filter(|i| *i != Isa::Scalar).collect();
        if let [a, b] = fused[..] {
            assert!(with_isa(a, run) == with_isa(b, run));
        }
    }
}
