//! Fused multi-tensor optimizer steps: one call, one parallel region, 16 Ki-element chunks.
//!
//! A step is not cut short by Ctrl-C: parameters are never left half updated.
use crate::element::Real;
use crate::parallel::{Cost, SharedMut, for_each_atomic};
use crate::simd::{self, Kernel, Simd, dispatch_on};
use crate::sum::{each_vector, load, store};

/// Elements per tile.
const TILE: usize = 16_384;

/// One parameter of [`sgd`].
#[allow(missing_docs)]
pub struct SgdItem<'a, T> {
    pub p: &'a mut [T],
    pub g: &'a [T],
    pub momentum: Option<&'a mut [T]>,
}
/// Hyper-parameters of [`sgd`] (PyTorch's formulas: buf = momentum*buf + (1-dampening)*g, on the first step buf = g).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub dampening: f64,
    pub weight_decay: f64,
    pub nesterov: bool,
    pub maximize: bool,
    pub first: bool,
}

/// One tensor of a step, its parts reached by tiles.
struct View<'a, T> {
    p: SharedMut<T>,
    g: &'a [T],
    /// What the optimizer keeps of it; null if there is none.
    state: [SharedMut<T>; 3],
}

impl<T> View<'_, T> {
    /// A part of a state, if there is one.
    ///
    /// # Safety
    /// As [`SharedMut::slice`].
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, which: usize, start: usize, len: usize) -> Option<&mut [T]> {
        let state = &self.state[which];
        // SAFETY: the caller's promise.
        (!state.0.is_null()).then(|| unsafe { state.slice(start, len) })
    }
}

/// State that tiles reach, null if there is none.
fn shared<T>(state: Option<&mut &mut [T]>) -> SharedMut<T> {
    SharedMut(state.map_or(core::ptr::null_mut(), |s| s.as_mut_ptr()))
}

/// Runs `f(tensor, start, length)` over all chunks of all tensors, in one region.
fn over_chunks<T: Real>(
    views: &[View<'_, T>],
    arrays: usize,
    f: impl Fn(&View<'_, T>, usize, usize) + Sync,
) {
    // Number of the tile after the last one of each tensor.
    let mut ends = Vec::with_capacity(views.len());
    let (mut tiles, mut total) = (0, 0);
    for v in views {
        tiles += v.g.len().div_ceil(TILE);
        total += v.g.len();
        ends.push(tiles);
    }
    let cost = Cost {
        flops: total as f64,
        bytes: (total * arrays * size_of::<T>()) as f64,
    };
    for_each_atomic(tiles, cost, &|t| {
        let which = ends.partition_point(|end| *end <= t);
        let v = &views[which];
        let before = if which == 0 { 0 } else { ends[which - 1] };
        let start = (t - before) * TILE;
        f(v, start, (v.g.len() - start).min(TILE));
    });
}

struct SgdTile<'a, T> {
    h: &'a Sgd,
    p: &'a mut [T],
    g: &'a [T],
    momentum: Option<&'a mut [T]>,
}
impl<T: Real> Kernel<T> for SgdTile<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let SgdTile {
            h,
            p,
            g,
            mut momentum,
        } = self;
        let buffer = momentum
            .as_mut()
            .map_or(core::ptr::null_mut(), |m| m.as_mut_ptr());
        // SAFETY: run by dispatch; the three slices have the same length.
        unsafe {
            let (lr, decay) = (S::c(h.lr), S::c(h.weight_decay));
            let (mu, damp) = (S::c(h.momentum), S::c(1.0 - h.dampening));
            each_vector!(S, p.len(), |i, n, _k| {
                let at = p.as_mut_ptr().add(i);
                let old = load::<S>(at, n);
                let mut d = load::<S>(g.as_ptr().add(i), n);
                if h.maximize {
                    d = S::neg(d);
                }
                // Skipped at 0, where an infinite parameter would make NaN.
                if h.weight_decay != 0.0 {
                    d = S::fma(decay, old, d);
                }
                if !buffer.is_null() {
                    let b = buffer.add(i);
                    let new = if h.first {
                        d
                    } else {
                        S::fma(mu, load::<S>(b, n), S::mul(damp, d))
                    };
                    store::<S>(b, new, n);
                    d = if h.nesterov { S::fma(mu, new, d) } else { new };
                }
                store::<S>(at, S::fnma(lr, d, old), n);
            });
        }
    }
}

/// One SGD step: `p -= lr * d`, where `d` is the gradient (plus `weight_decay * p`), with momentum and Nesterov's
/// look-ahead as asked for.
///
/// # Panics
/// If the slices of an item differ in length.
pub fn sgd<T: Real>(items: &mut [SgdItem<'_, T>], h: &Sgd) {
    let isa = simd::isa();
    let views: Vec<_> = items
        .iter_mut()
        .map(|item| {
            let m = item.momentum.as_mut();
            assert_eq!(item.p.len(), item.g.len());
            assert!(m.as_ref().is_none_or(|m| m.len() == item.g.len()));
            View {
                p: SharedMut(item.p.as_mut_ptr()),
                g: item.g,
                state: [shared(m), shared(None), shared(None)],
            }
        })
        .collect();
    over_chunks(&views, 5, |v, start, len| {
        // SAFETY: chunks are disjoint parts of the items' slices, which we hold exclusively.
        let (p, momentum) = unsafe { (v.p.slice(start, len), v.part(0, start, len)) };
        let g = &v.g[start..start + len];
        dispatch_on(isa, SgdTile { h, p, g, momentum });
    });
}

/// One parameter of [`adam`].
#[allow(missing_docs)]
pub struct AdamItem<'a, T> {
    pub p: &'a mut [T],
    pub g: &'a [T],
    pub m: &'a mut [T],
    pub v: &'a mut [T],
}
/// Hyper-parameters of [`adam`]. `step` counts from 1. `decoupled`: AdamW. PyTorch's formulas, eps outside the root:
/// p -= lr/bc1 * m / (sqrt(v)/sqrt(bc2) + eps).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Adam {
    pub lr: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub decoupled: bool,
    pub maximize: bool,
    pub step: u64,
}

impl Adam {
    /// What is left of the running means' start at 0 after this step: 1 - beta^t, of both.
    fn corrections(&self) -> [f64; 2] {
        [self.beta1, self.beta2].map(|beta| 1.0 - beta.powf(self.step as f64))
    }
}

struct AdamTile<'a, T> {
    h: &'a Adam,
    corrections: [f64; 2],
    p: &'a mut [T],
    g: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
}
impl<T: Real> Kernel<T> for AdamTile<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let AdamTile {
            h,
            corrections: [first, second],
            p,
            g,
            m,
            v,
        } = self;
        // SAFETY: run by dispatch; the four slices have the same length.
        unsafe {
            let rate = S::c(h.lr / first);
            let root = S::c(1.0 / second.sqrt());
            let (b1, c1) = (S::c(h.beta1), S::c(1.0 - h.beta1));
            let (b2, c2) = (S::c(h.beta2), S::c(1.0 - h.beta2));
            let (eps, decay) = (S::c(h.eps), S::c(h.weight_decay));
            let shrink = S::c(1.0 - h.lr * h.weight_decay);
            each_vector!(S, p.len(), |i, n, _k| {
                let (p, m, v) = (
                    p.as_mut_ptr().add(i),
                    m.as_mut_ptr().add(i),
                    v.as_mut_ptr().add(i),
                );
                let mut old = load::<S>(p, n);
                let mut d = load::<S>(g.as_ptr().add(i), n);
                if h.maximize {
                    d = S::neg(d);
                }
                if h.weight_decay != 0.0 {
                    if h.decoupled {
                        old = S::mul(old, shrink);
                    } else {
                        d = S::fma(decay, old, d);
                    }
                }
                let m1 = S::fma(b1, load::<S>(m, n), S::mul(c1, d));
                let v1 = S::fma(b2, load::<S>(v, n), S::mul(c2, S::mul(d, d)));
                store::<S>(m, m1, n);
                store::<S>(v, v1, n);
                let denominator = S::fma(S::sqrt(v1), root, eps);
                store::<S>(
                    p,
                    S::fnma(rate, S::div_beside_root(m1, denominator), old),
                    n,
                );
            });
        }
    }
}

/// One Adam or AdamW step.
///
/// # Panics
/// If the slices of an item differ in length.
pub fn adam<T: Real>(items: &mut [AdamItem<'_, T>], h: &Adam) {
    let isa = simd::isa();
    let views: Vec<_> = items
        .iter_mut()
        .map(|item| {
            let n = item.g.len();
            assert_eq!((item.p.len(), item.m.len(), item.v.len()), (n, n, n));
            View {
                p: SharedMut(item.p.as_mut_ptr()),
                g: item.g,
                state: [
                    shared(Some(&mut item.m)),
                    shared(Some(&mut item.v)),
                    shared(None),
                ],
            }
        })
        .collect();
    // Not in every tile: powers of double precision.
    let corrections = h.corrections();
    over_chunks(&views, 7, |view, start, len| {
        // SAFETY: chunks are disjoint parts of the items' slices, which we hold exclusively.
        let (p, m, v) = unsafe {
            let [m, v, _] = &view.state;
            (
                view.p.slice(start, len),
                m.slice(start, len),
                v.slice(start, len),
            )
        };
        let g = &view.g[start..start + len];
        let tile = AdamTile {
            h,
            corrections,
            p,
            g,
            m,
            v,
        };
        dispatch_on(isa, tile);
    });
}

/// One parameter of [`rmsprop`].
#[allow(missing_docs)]
pub struct RmsPropItem<'a, T> {
    pub p: &'a mut [T],
    pub g: &'a [T],
    pub square: &'a mut [T],
    /// Running mean of the gradient: with it the step is centred.
    pub mean: Option<&'a mut [T]>,
    pub momentum: Option<&'a mut [T]>,
}
/// Hyper-parameters of [`rmsprop`]. PyTorch's formulas, eps outside the root.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct RmsProp {
    pub lr: f64,
    pub alpha: f64,
    pub eps: f64,
    pub weight_decay: f64,
    pub momentum: f64,
    pub maximize: bool,
}

struct RmsPropTile<'a, T> {
    h: &'a RmsProp,
    p: &'a mut [T],
    g: &'a [T],
    square: &'a mut [T],
    mean: Option<&'a mut [T]>,
    momentum: Option<&'a mut [T]>,
}
impl<T: Real> Kernel<T> for RmsPropTile<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let RmsPropTile {
            h,
            p,
            g,
            square,
            mut mean,
            mut momentum,
        } = self;
        let (mean, buffer) = (shared(mean.as_mut()).0, shared(momentum.as_mut()).0);
        // SAFETY: run by dispatch; the slices have the same length.
        unsafe {
            let (lr, decay, eps) = (S::c(h.lr), S::c(h.weight_decay), S::c(h.eps));
            let (old_part, new_part) = (S::c(h.alpha), S::c(1.0 - h.alpha));
            let mu = S::c(h.momentum);
            each_vector!(S, p.len(), |i, n, _k| {
                let (p, v) = (p.as_mut_ptr().add(i), square.as_mut_ptr().add(i));
                let old = load::<S>(p, n);
                let mut d = load::<S>(g.as_ptr().add(i), n);
                if h.maximize {
                    d = S::neg(d);
                }
                // Skipped at 0, where an infinite parameter would make NaN.
                if h.weight_decay != 0.0 {
                    d = S::fma(decay, old, d);
                }
                let v1 = S::fma(old_part, load::<S>(v, n), S::mul(new_part, S::mul(d, d)));
                store::<S>(v, v1, n);
                let mut spread = v1;
                if !mean.is_null() {
                    let m = mean.add(i);
                    let m1 = S::fma(old_part, load::<S>(m, n), S::mul(new_part, d));
                    store::<S>(m, m1, n);
                    // A gradient that stays the same has no variance; rounding must not make it negative. max keeps NaN.
                    spread = S::max(S::zero(), S::fnma(m1, m1, v1));
                }
                let mut step = S::div_beside_root(d, S::add(S::sqrt(spread), eps));
                if !buffer.is_null() {
                    let b = buffer.add(i);
                    step = S::fma(mu, load::<S>(b, n), step);
                    store::<S>(b, step, n);
                }
                store::<S>(p, S::fnma(lr, step, old), n);
            });
        }
    }
}

/// One RMSprop step: `v = alpha v + (1 - alpha) g^2`, `d = g / (sqrt(v) + eps)`, `p -= lr d`. Centred, `m = alpha m + (1 - alpha) g`
/// and `v - m^2` is under the root; with momentum, `b = momentum b + d` takes the place of `d`.
///
/// # Panics
/// If the slices of an item differ in length.
pub fn rmsprop<T: Real>(items: &mut [RmsPropItem<'_, T>], h: &RmsProp) {
    let isa = simd::isa();
    let mut arrays = 5;
    let views: Vec<_> = items
        .iter_mut()
        .map(|item| {
            let n = item.g.len();
            assert_eq!((item.p.len(), item.square.len()), (n, n));
            let more = [&item.mean, &item.momentum];
            let more = more.into_iter().flatten();
            arrays = arrays.max(5 + 2 * more.clone().count());
            assert!(more.into_iter().all(|m| m.len() == n));
            View {
                p: SharedMut(item.p.as_mut_ptr()),
                g: item.g,
                state: [
                    shared(Some(&mut item.square)),
                    shared(item.mean.as_mut()),
                    shared(item.momentum.as_mut()),
                ],
            }
        })
        .collect();
    over_chunks(&views, arrays, |view, start, len| {
        // SAFETY: chunks are disjoint parts of the items' slices, which we hold exclusively.
        let (p, square, mean, momentum) = unsafe {
            (
                view.p.slice(start, len),
                view.state[0].slice(start, len),
                view.part(1, start, len),
                view.part(2, start, len),
            )
        };
        let g = &view.g[start..start + len];
        dispatch_on(
            isa,
            RmsPropTile {
                h,
                p,
                g,
                square,
                mean,
                momentum,
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::with_forced_threads;
    use crate::reference::optim as twin;
    use crate::rng;
    use crate::simd::{available, with_isa};
    use proptest::prelude::*;

    const SIZES: [usize; 20] = [
        0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 40_000,
    ];

    fn normal<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let mut x = vec![T::ZERO; n];
        rng::normal(seed, 0, &mut x);
        x
    }

    /// Parameters, gradients and three state arrays of tensors of these sizes.
    type State<T> = Vec<[Vec<T>; 5]>;

    fn state<T: Real>(sizes: &[usize], seed: u64) -> State<T> {
        let make = |(i, n): (usize, &usize)| {
            let mut s = [0, 1, 2, 3, 4].map(|k| normal(*n, seed + 10 * i as u64 + k));
            s[4].iter_mut().for_each(|m| *m = *m * T::from_f64(0.125));
            // A mean of squares is above the square of the mean; where the two nearly met, their difference would lose digits.
            let [.., square, mean] = &mut s;
            for (v, m) in square.iter_mut().zip(mean) {
                *v = *v * *v + *m * *m + T::from_f64(1.0 / 64.0);
            }
            s
        };
        sizes.iter().enumerate().map(make).collect()
    }

    fn sgd_items<T>(s: &mut State<T>, momentum: bool) -> Vec<SgdItem<'_, T>> {
        s.iter_mut()
            .map(|[p, g, m, ..]| SgdItem {
                p,
                g,
                momentum: momentum.then_some(m.as_mut_slice()),
            })
            .collect()
    }

    fn adam_items<T>(s: &mut State<T>) -> Vec<AdamItem<'_, T>> {
        s.iter_mut()
            .map(|[p, g, m, v, _]| AdamItem { p, g, m, v })
            .collect()
    }

    fn rmsprop_items<T>(
        s: &mut State<T>,
        centred: bool,
        momentum: bool,
    ) -> Vec<RmsPropItem<'_, T>> {
        s.iter_mut()
            .map(|[p, g, b, square, m]| RmsPropItem {
                p,
                g,
                square,
                mean: centred.then_some(m.as_mut_slice()),
                momentum: momentum.then_some(b.as_mut_slice()),
            })
            .collect()
    }

    fn close<T: Real>(a: &State<T>, b: &State<T>) {
        for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
            for (x, y) in a.iter().zip(b) {
                let (x, y) = (x.to_f64(), y.to_f64());
                // A handful of roundings of terms of size up to about 10 each.
                assert!(
                    (x - y).abs() <= 32.0 * T::EPSILON.to_f64() * y.abs().max(1.0),
                    "{x} {y}"
                );
            }
        }
    }

    fn check<T: Real>(sizes: &[usize], seed: u64, sgd_h: &Sgd, momentum: bool, adam_h: &Adam) {
        let (mut a, mut b) = (state::<T>(sizes, seed), state::<T>(sizes, seed));
        sgd(&mut sgd_items(&mut a, momentum), sgd_h);
        twin::sgd(&mut sgd_items(&mut b, momentum), sgd_h);
        close(&a, &b);
        let (mut a, mut b) = (state::<T>(sizes, seed), state::<T>(sizes, seed));
        adam(&mut adam_items(&mut a), adam_h);
        twin::adam(&mut adam_items(&mut b), adam_h);
        close(&a, &b);
        for centred in [false, true] {
            let h = RmsProp {
                lr: 0.1,
                alpha: 0.9,
                // The root of a small difference of squares loses digits.
                eps: 0.25,
                weight_decay: sgd_h.weight_decay,
                momentum: sgd_h.momentum,
                maximize: sgd_h.maximize,
            };
            let (mut a, mut b) = (state::<T>(sizes, seed), state::<T>(sizes, seed));
            rmsprop(&mut rmsprop_items(&mut a, centred, momentum), &h);
            twin::rmsprop(&mut rmsprop_items(&mut b, centred, momentum), &h);
            close(&a, &b);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn agrees_with_its_twin(
            sizes in proptest::collection::vec(0..20usize, 0..4), seed in 0u64..1000, flags: [bool; 5],
            decay in prop_oneof![Just(0.0), 0.0..0.1f64], dampening in 0.0..0.5f64, step in 1u64..100,
        ) {
            let sizes: Vec<_> = sizes.into_iter().map(|i| SIZES[i]).collect();
            let [momentum, nesterov, maximize, first, decoupled] = flags;
            let sgd = Sgd { lr: 0.1, momentum: 0.9, dampening, weight_decay: decay, nesterov, maximize, first };
            let adam = Adam {
                lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: decay, decoupled, maximize, step,
            };
            for isa in available() {
                with_isa(isa, || {
                    check::<f32>(&sizes, seed, &sgd, momentum, &adam);
                    check::<f64>(&sizes, seed, &sgd, momentum, &adam);
                });
            }
        }
    }

    #[test]
    fn same_bits_for_any_thread_count() {
        let sizes = [50_000, 7, 0, 16_384, 16_385, 120];
        let sgd_h = Sgd {
            lr: 0.1,
            momentum: 0.9,
            dampening: 0.0,
            weight_decay: 1e-4,
            nesterov: true,
            maximize: false,
            first: false,
        };
        let adam_h = Adam {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 1e-2,
            decoupled: true,
            maximize: false,
            step: 3,
        };
        let rmsprop_h = RmsProp {
            lr: 1e-3,
            alpha: 0.99,
            eps: 1e-8,
            weight_decay: 1e-2,
            momentum: 0.9,
            maximize: false,
        };
        for isa in available() {
            with_isa(isa, || {
                let run = || {
                    let mut s = state::<f32>(&sizes, 5);
                    sgd(&mut sgd_items(&mut s, true), &sgd_h);
                    adam(&mut adam_items(&mut s), &adam_h);
                    rmsprop(&mut rmsprop_items(&mut s, true, true), &rmsprop_h);
                    s
                };
                let one = with_forced_threads(1, run);
                for n in [2, 3, 8] {
                    assert!(with_forced_threads(n, run) == one, "{n} threads");
                }
            });
        }
    }

    /// A constant gradient has no variance: the step stays finite whatever the roundings are.
    #[test]
    fn a_constant_gradient_centred() {
        let h = RmsProp {
            lr: 1e-3,
            alpha: 0.5,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.0,
            maximize: false,
        };
        let g: Vec<f32> = (1..40).map(|i| 1.0 / i as f32).collect();
        let (mut p, mut square, mut mean) = (vec![0f32; 39], vec![0f32; 39], vec![0f32; 39]);
        for _ in 0..60 {
            let item = RmsPropItem {
                p: &mut p,
                g: &g,
                square: &mut square,
                mean: Some(&mut mean),
                momentum: None,
            };
            rmsprop(&mut [item], &h);
        }
        assert!(p.iter().all(|p| p.is_finite()));
    }

    /// The first Adam step moves every parameter by lr, whatever the size of its gradient.
    #[test]
    fn adam_by_hand() {
        let (mut p, mut m, mut v) = ([1.0f64, 1.0], [0.0; 2], [0.0; 2]);
        let h = Adam {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            eps: 0.0,
            weight_decay: 0.0,
            decoupled: false,
            maximize: false,
            step: 1,
        };
        let item = AdamItem {
            p: &mut p,
            g: &[1e-6, -1e6],
            m: &mut m,
            v: &mut v,
        };
        adam(&mut [item], &h);
        assert!((p[0] - 0.9).abs() < 1e-12 && (p[1] - 1.1).abs() < 1e-12);
    }
}
