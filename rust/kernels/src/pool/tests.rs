//! Every pooling kernel against its twin, on every path, with the same bits for any thread count.
use super::*;
use crate::parallel::with_forced_threads;
use crate::reference::pool as twin;
use crate::rng;
use crate::simd::{available, with_isa};
use crate::stream::testing::both_ways;
use proptest::prelude::*;

fn sample<T: Real>(n: usize, seed: u64, special: bool) -> Vec<T> {
    let mut x = vec![T::ZERO; n];
    rng::normal(seed, 0, &mut x);
    if special {
        for (i, v) in x.iter_mut().enumerate() {
            match (i as u64).wrapping_mul(seed | 1) % 11 {
                0 => *v = T::NAN,
                1 | 2 => *v = T::NEG_INFINITY,
                3 => *v = T::INFINITY,
                4 | 5 => *v = T::ONE, // ties
                _ => {}
            }
        }
    }
    x
}

fn bits<T: Real>(v: &[T]) -> Vec<u64> {
    let norm = |x: &T| if x.is_nan() { T::NAN } else { *x };
    v.iter().map(|x| norm(x).to_f64().to_bits()).collect()
}

/// Sums of at most `terms` numbers of size 1 differ by that many roundings.
fn close<T: Real>(a: &[T], b: &[T], terms: usize) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (a.to_f64(), b.to_f64());
        let tolerance = 8.0 * terms as f64 * T::EPSILON.to_f64();
        let same = a == b || (a.is_nan() && b.is_nan());
        assert!(same || (a - b).abs() <= tolerance, "{i}: {a} {b}");
    }
}

#[test]
fn gradients_past_the_caches_have_the_same_bits() {
    fn check<T: Real>() {
        // Widths that vectors fill, half of them left over, and an odd one; rows and planes that begin anywhere.
        for (h, w) in [(6, 32), (7, 56), (4, 24), (5, 48), (6, 35)] {
            let p = Pool2d {
                planes: 5,
                h,
                w,
                oh: h / 2,
                ow: w / 2,
                kernel: [2, 2],
                stride: [2, 2],
                pad: [0, 0],
                dilation: [1, 1],
            };
            let outs = p.planes * p.oh * p.ow;
            let (x, dy) = (
                sample::<T>(p.planes * h * w, 1, true),
                sample::<T>(outs, 2, false),
            );
            for isa in available() {
                with_isa(isa, || {
                    let (mut y, mut tap) = (vec![T::ZERO; outs], vec![0u8; outs]);
                    max_pool2d(&p, &x, &mut y, &mut tap);
                    let [plain, past] = both_ways(x.len(), |dx: &mut [T]| {
                        max_pool2d_backward(&p, &tap, &dy, dx);
                    });
                    assert_eq!(bits(&plain), bits(&past), "{isa:?} {h} x {w}");
                });
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

fn check<T: Real, I: Tap + PartialEq + core::fmt::Debug>(p: &Pool2d, seed: u64) {
    let (ins, outs) = (p.planes * p.h * p.w, p.planes * p.oh * p.ow);
    let taps = p.kernel[0] * p.kernel[1];
    for special in [false, true] {
        let x = sample::<T>(ins, seed, special);
        let (mut y, mut z) = (vec![T::ZERO; outs], vec![T::ZERO; outs]);
        let (mut t, mut u) = (vec![I::from_usize(9); outs], vec![I::from_usize(9); outs]);
        max_pool2d(p, &x, &mut y, &mut t);
        twin::max_pool2d(p, &x, &mut z, &mut u);
        assert_eq!(bits(&y), bits(&z));
        assert_eq!(t, u);
        let dy = sample::<T>(outs, seed + 1, false);
        let (mut dx, mut dz) = (vec![T::NAN; ins], vec![T::NAN; ins]);
        max_pool2d_backward(p, &t, &dy, &mut dx);
        twin::max_pool2d_backward(p, &t, &dy, &mut dz);
        close(&dx, &dz, taps);
        max_pool2d_gather(p, &t, &x, &mut y);
        twin::max_pool2d_gather(p, &t, &x, &mut z);
        assert_eq!(bits(&y), bits(&z));
        for include in [false, true] {
            avg_pool2d(p, include, &x, &mut y);
            twin::avg_pool2d(p, include, &x, &mut z);
            close(&y, &z, taps);
            avg_pool2d_backward(p, include, &dy, &mut dx);
            twin::avg_pool2d_backward(p, include, &dy, &mut dz);
            close(&dx, &dz, taps);
        }
    }
}

/// Largest output for which every window begins inside the padded input.
fn geometry(
    planes: usize,
    size: [usize; 2],
    k: [usize; 2],
    s: [usize; 2],
    pad: [usize; 2],
    d: [usize; 2],
) -> Pool2d {
    let out = |a: usize| {
        let (len, need) = (size[a] + 2 * pad[a], (k[a] - 1) * d[a] + 1);
        if len < need {
            0
        } else {
            (len - need) / s[a] + 1
        }
    };
    Pool2d {
        planes,
        h: size[0],
        w: size[1],
        oh: out(0),
        ow: out(1),
        kernel: k,
        stride: s,
        pad,
        dilation: d,
    }
}

/// The same window with the number of outputs rounded up (`ceil_mode`), as long as the last one begins in the input.
fn rounded_up(p: Pool2d) -> Pool2d {
    let out = |len: usize, o: usize, a: usize| {
        let start = o * p.stride[a];
        let reach = start + (p.kernel[a] - 1) * p.dilation[a];
        let more = o > 0 && start < len + p.pad[a] && reach >= len + 2 * p.pad[a];
        let left = (o.max(1) - 1) * p.stride[a] + (p.kernel[a] - 1) * p.dilation[a] + 1;
        o + usize::from(more && left < len + 2 * p.pad[a])
    };
    Pool2d {
        oh: out(p.h, p.oh, 0),
        ow: out(p.w, p.ow, 1),
        ..p
    }
}

const SIZES: [usize; 19] = [
    0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn windows_of_any_geometry(
        planes in 0usize..4, h in 0usize..20, w in 0..19usize, k in [1usize..4, 1usize..4], s in [1usize..4, 1usize..4],
        pad in [0usize..3, 0usize..3], d in [1usize..3, 1usize..3], ceil in any::<bool>(), seed in 0u64..1000,
    ) {
        let pad = [pad[0].min(k[0] / 2), pad[1].min(k[1] / 2)];
        let p = geometry(planes, [h, SIZES[w]], k, s, pad, d);
        let p = if ceil { rounded_up(p) } else { p };
        for isa in available() {
            with_isa(isa, || {
                check::<f32, u8>(&p, seed);
                check::<f64, i32>(&p, seed);
            });
        }
    }

    #[test]
    fn two_by_two(planes in 0usize..4, h in 2usize..9, w in 0..19usize, seed in 0u64..1000) {
        let p = geometry(planes, [h, SIZES[w]], [2, 2], [2, 2], [0, 0], [1, 1]);
        for isa in available() {
            with_isa(isa, || {
                check::<f32, u8>(&p, seed);
                check::<f32, i32>(&p, seed);
                check::<f64, u8>(&p, seed);
            });
        }
    }

    #[test]
    fn adaptive_averages(
        planes in 0usize..4, h in 1usize..12, w in 1..19usize, oh in 1usize..8, ow in 1usize..8, seed in 0u64..1000,
    ) {
        fn check<T: Real>(planes: usize, h: usize, w: usize, oh: usize, ow: usize, seed: u64) {
            let (x, dy) = (sample::<T>(planes * h * w, seed, false), sample::<T>(planes * oh * ow, seed, false));
            let (mut y, mut z) = (dy.clone(), dy.clone());
            adaptive_avg_pool2d(planes, h, w, oh, ow, &x, &mut y);
            twin::adaptive_avg_pool2d(planes, h, w, oh, ow, &x, &mut z);
            close(&y, &z, 16);
            let (mut dx, mut dz) = (x.clone(), x.clone());
            adaptive_avg_pool2d_backward(planes, h, w, oh, ow, &dy, &mut dx);
            twin::adaptive_avg_pool2d_backward(planes, h, w, oh, ow, &dy, &mut dz);
            close(&dx, &dz, oh * ow);
        }
        for isa in available() {
            with_isa(isa, || {
                check::<f32>(planes, h, SIZES[w], oh, ow, seed);
                check::<f64>(planes, h, SIZES[w], oh, 1, seed);
            });
        }
    }
}

/// A window may lie wholly in the padding when the padding is as wide as the kernel (ops forbid it; kernels survive).
#[test]
fn windows_in_the_padding() {
    let p = geometry(2, [3, 4], [2, 2], [1, 1], [2, 2], [1, 1]);
    check::<f32, u8>(&p, 3);
    check::<f64, i32>(&p, 4);
}

#[test]
fn nan_wins_and_the_first_of_equals_is_remembered() {
    let p = geometry(1, [2, 4], [2, 2], [2, 2], [0, 0], [1, 1]);
    let (mut y, mut t) = ([0f32; 2], [9u8; 2]);
    max_pool2d(
        &p,
        &[1.0, 5.0, f32::NAN, 2.0, 5.0, 5.0, 3.0, f32::NAN],
        &mut y,
        &mut t,
    );
    assert!(y[0] == 5.0 && y[1].is_nan());
    assert_eq!(t, [1, 0]);
}

#[test]
fn same_bits_for_any_thread_count() {
    for p in [
        geometry(150, [24, 24], [2, 2], [2, 2], [0, 0], [1, 1]),
        geometry(40, [31, 33], [3, 3], [2, 2], [1, 1], [1, 1]),
        rounded_up(geometry(40, [32, 34], [3, 3], [2, 2], [0, 0], [1, 1])),
    ] {
        let (ins, outs) = (p.planes * p.h * p.w, p.planes * p.oh * p.ow);
        let (x, dy) = (sample::<f32>(ins, 1, false), sample::<f32>(outs, 2, false));
        let run = || {
            let (mut y, mut t) = (vec![0.0; outs], vec![0u8; outs]);
            let (mut a, mut b, mut c, mut d) = (
                vec![0.0; ins],
                vec![0.0; outs],
                vec![0.0; ins],
                vec![0.0; p.planes * 9],
            );
            max_pool2d(&p, &x, &mut y, &mut t);
            max_pool2d_backward(&p, &t, &dy, &mut a);
            avg_pool2d(&p, false, &x, &mut b);
            avg_pool2d_backward(&p, false, &dy, &mut c);
            adaptive_avg_pool2d(p.planes, p.h, p.w, 3, 3, &x, &mut d);
            [y, a, b, c, d].map(|v| bits(&v))
        };
        let one = with_forced_threads(1, run);
        for n in [2, 3, 8] {
            assert!(with_forced_threads(n, run) == one, "{n} threads");
        }
    }
}

/// A window that rounding up (ceil mode) makes reach beyond the padding averages only what lies inside the padded input.
#[test]
fn what_lies_beyond_the_padding_never_counts() {
    let p = Pool2d {
        planes: 1,
        h: 1,
        w: 5,
        oh: 1,
        ow: 3,
        kernel: [1, 2],
        stride: [1, 2],
        pad: [0, 0],
        dilation: [1, 1],
    };
    let x = [1.0f32, 3.0, 5.0, 7.0, 9.0];
    for include in [true, false] {
        let (mut y, mut slow) = ([0.0; 3], [0.0; 3]);
        avg_pool2d(&p, include, &x, &mut y);
        twin::avg_pool2d(&p, include, &x, &mut slow);
        assert_eq!((y, slow), ([2.0, 6.0, 9.0], [2.0, 6.0, 9.0]));
        let (mut dx, mut slow) = ([0.0; 5], [0.0; 5]);
        avg_pool2d_backward(&p, include, &[2.0, 4.0, 6.0], &mut dx);
        twin::avg_pool2d_backward(&p, include, &[2.0, 4.0, 6.0], &mut slow);
        assert_eq!(
            (dx, slow),
            ([1.0, 1.0, 2.0, 2.0, 6.0], [1.0, 1.0, 2.0, 2.0, 6.0])
        );
    }
}
