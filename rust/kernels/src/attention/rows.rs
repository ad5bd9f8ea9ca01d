//! Vector bodies over strips of scores: the online softmax forward, the weights and their gradients backward, and the copies,
//! dot products and scalings around the matrix products.
use super::{Dropout, Heads, Mask, TILE};
use crate::element::{Number, Real};
use crate::rng::group_words;
use crate::simd::{Kernel, LANES16, Simd, math};
use crate::sum::{add_first, each_vector, fold, load, store};

/// A strip's part of the mask: the address of the strip's first query and the tile's first key.
#[derive(Clone, Copy)]
pub(super) enum MaskAt<T> {
    None,
    Keep(*const u8, [isize; 2]),
    Add(*const T, [isize; 2]),
}

impl<T: Real> MaskAt<T> {
    pub(super) fn new(mask: &Mask<'_, T>, b: usize, h: usize, i: usize, j: usize) -> Self {
        fn at<E>(m: &Heads<'_, E>, place: [usize; 4]) -> (*const E, [isize; 2]) {
            let p = m.data.as_ptr().wrapping_add(m.index(place));
            (p, [m.strides[2], m.strides[3]])
        }
        let place = [b, h, i, j];
        match mask {
            Mask::None => MaskAt::None,
            Mask::Keep(m) => {
                let (p, s) = at(m, place);
                MaskAt::Keep(p, s)
            }
            Mask::Add(m) => {
                let (p, s) = at(m, place);
                MaskAt::Add(p, s)
            }
        }
    }
}

/// Where the random words of a strip's first row and tile are.
#[derive(Clone, Copy)]
pub(super) struct RandomAt {
    pub dropout: Dropout,
    /// Group of the first row, and how many groups further the next one is.
    pub group: u64,
    pub groups: u64,
}

/// Scores of up to eight queries and the columns `from .. to` of a tile, whole multiples of sixteen.
#[derive(Clone, Copy)]
pub(super) struct Strip<T> {
    pub rows: usize,
    pub from: usize,
    pub to: usize,
    /// Keys of the tile that exist.
    pub keys: usize,
    /// Which of them each row sees.
    pub seen: [(usize, usize); 8],
    pub mask: MaskAt<T>,
    pub random: Option<RandomAt>,
    /// Rows of [`TILE`] scores in base 2; weights when done.
    pub s: *mut T,
}

impl<T: Real> Strip<T> {
    /// Whether every computed column of a row counts as it is.
    #[inline(always)]
    fn plain(&self, row: usize) -> bool {
        let (lo, hi) = self.seen[row];
        matches!(self.mask, MaskAt::None) && lo <= self.from && hi >= self.to
    }
}

/// The scores of row `r` at columns `i ..`, in base 2, with -inf where it does not look.
/// # Safety
/// S is enabled; the pointers are those of a valid strip.
#[inline(always)]
unsafe fn masked<S: Simd>(t: &Strip<S::T>, r: usize, i: usize) -> S::V {
    // SAFETY: the caller's promise; of the mask only columns of existing keys are read.
    unsafe {
        let never = S::splat(S::T::NEG_INFINITY);
        let mut x = S::load(t.s.add(r * TILE + i));
        let n = t.keys.saturating_sub(i).min(S::LANES);
        match t.mask {
            MaskAt::None => (),
            MaskAt::Keep(p, [rs, cs]) => {
                let p = p.wrapping_offset(r as isize * rs + i as isize * cs);
                let keep = if cs == 1 {
                    S::load_mask_n(p, n)
                } else {
                    let mut bits = 0;
                    for l in 0..n {
                        bits |= u32::from(*p.offset(l as isize * cs) != 0) << l;
                    }
                    S::mask_from_bits(bits)
                };
                x = S::select(keep, x, never);
            }
            MaskAt::Add(p, [rs, cs]) => {
                let p = p.wrapping_offset(r as isize * rs + i as isize * cs);
                let add = if cs == 1 {
                    load::<S>(p, n)
                } else {
                    let mut some = [S::T::ZERO; 16];
                    for l in 0..n {
                        some[l] = *p.offset(l as isize * cs);
                    }
                    S::load(some.as_ptr())
                };
                x = S::fma(add, S::c(core::f64::consts::LOG2_E), x);
            }
        }
        let (lo, hi) = t.seen[r];
        if i < lo || i + S::LANES > hi {
            let below = S::mask_first(hi.saturating_sub(i).min(S::LANES));
            let before = S::mask_first(lo.saturating_sub(i).min(S::LANES));
            x = S::select(S::mask_and(below, S::mask_not(before)), x, never);
        }
        x
    }
}

/// Row `r`'s factors of the weights in columns `i ..`: 0 or `1 / (1 - p)`.
struct Kept<T>([T; TILE]);

impl<T: Real> Kept<T> {
    #[inline(always)]
    fn new(at: &RandomAt, r: usize) -> Self {
        let d = &at.dropout;
        let words = group_words(d.seed, d.stream, at.group + r as u64 * at.groups);
        let (from, factor) = (d.keep_from(), T::from_f64(d.factor()));
        let mut kept = [T::ZERO; TILE];
        for i in 0..TILE {
            kept[i] = if u64::from(words[i]) >= from {
                factor
            } else {
                T::ZERO
            };
        }
        Kept(kept)
    }
}

/// One step of the online softmax: scores become weights relative to the running maximum `m`; sums go to the sixteen lanes of
/// each row of `l`; where the maximum grew, sums and the row of the output so far are scaled down.
pub(super) struct Online<T> {
    pub strip: Strip<T>,
    pub m: *mut T,
    pub l: *mut T,
    pub o: *mut T,
    /// Length of a row of the output, whole vectors.
    pub ldo: usize,
}

impl<T: Real> Kernel<T> for Online<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let t = &self.strip;
        for r in 0..t.rows {
            // SAFETY: run by dispatch on a valid strip; m, l and o have a row for each of its rows.
            unsafe {
                let row = t.s.add(r * TILE);
                let plain = t.plain(r);
                let least = S::splat(T::NEG_INFINITY);
                let mut most = [least; 4];
                let mut i = t.from;
                while i < t.to {
                    for k in 0..LANES16 / S::LANES {
                        let x = if plain {
                            S::load(row.add(i + k * S::LANES))
                        } else {
                            let x = masked::<S>(t, r, i + k * S::LANES);
                            S::store(row.add(i + k * S::LANES), x);
                            x
                        };
                        most[k] = S::max(x, most[k]);
                    }
                    i += LANES16;
                }
                let mut best = most[0];
                for k in 1..LANES16 / S::LANES {
                    best = S::max(most[k], best);
                }
                let best = S::reduce_max(best);
                let (old, l, o) = (*self.m.add(r), self.l.add(r * LANES16), self.o);
                let o = o.add(r * self.ldo);
                let mut top = old;
                if best > old {
                    top = best;
                    *self.m.add(r) = best;
                    if old > T::NEG_INFINITY {
                        let shrink = math::exp2_flush::<S>(S::splat(old - best));
                        for k in 0..LANES16 / S::LANES {
                            let p = l.add(k * S::LANES);
                            S::store(p, S::mul(S::load(p), shrink));
                        }
                        for c in (0..self.ldo).step_by(S::LANES) {
                            S::store(o.add(c), S::mul(S::load(o.add(c)), shrink));
                        }
                    }
                } else if old == T::NEG_INFINITY {
                    // Nothing to see so far, unless it is NaN, which no maximum shows.
                    let mut nan = false;
                    for i in (t.from..t.to).step_by(S::LANES) {
                        nan |= S::any(S::is_nan(S::load(row.add(i))));
                        S::store(row.add(i), S::zero());
                    }
                    if nan {
                        *l = T::NAN;
                    }
                    continue;
                }
                let top = S::splat(top);
                let mut sum = [S::zero(); 4];
                for k in 0..LANES16 / S::LANES {
                    sum[k] = S::load(l.add(k * S::LANES));
                }
                match &t.random {
                    None => {
                        let mut i = t.from;
                        while i < t.to {
                            for k in 0..LANES16 / S::LANES {
                                let p = row.add(i + k * S::LANES);
                                let e = math::exp2_flush::<S>(S::sub(S::load(p), top));
                                sum[k] = S::add(sum[k], e);
                                S::store(p, e);
                            }
                            i += LANES16;
                        }
                    }
                    Some(at) => {
                        let kept = Kept::<T>::new(at, r);
                        let mut i = t.from;
                        while i < t.to {
                            for k in 0..LANES16 / S::LANES {
                                let p = row.add(i + k * S::LANES);
                                let e = math::exp2_flush::<S>(S::sub(S::load(p), top));
                                sum[k] = S::add(sum[k], e);
                                let keep = S::load(kept.0.as_ptr().add(i + k * S::LANES));
                                S::store(p, S::mul(e, keep));
                            }
                            i += LANES16;
                        }
                    }
                }
                for k in 0..LANES16 / S::LANES {
                    S::store(l.add(k * S::LANES), sum[k]);
                }
            }
        }
    }
}

/// Divides the rows of the output by their sums and writes them; the logsumexp of every row.
pub(super) struct Finish<T> {
    pub rows: usize,
    pub m: *const T,
    pub l: *const T,
    pub o: *const T,
    pub ldo: usize,
    pub dv: usize,
    pub out: *mut T,
    pub rs: usize,
    pub lse: *mut T,
}

impl<T: Real> Kernel<T> for Finish<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        for r in 0..self.rows {
            // SAFETY: run by dispatch; every array has the rows.
            unsafe {
                let mut sum = [S::zero(); 4];
                for k in 0..LANES16 / S::LANES {
                    sum[k] = S::load(self.l.add(r * LANES16 + k * S::LANES));
                }
                let (total, m) = (fold::<S>(sum), *self.m.add(r));
                let (inverse, lse) = if total == T::ZERO && m == T::NEG_INFINITY {
                    (T::ZERO, T::INFINITY)
                } else {
                    let log = S::to_array(math::log::<S>(S::splat(total)))[0];
                    let ln2 = T::from_f64(core::f64::consts::LN_2);
                    (T::ONE / total, m * ln2 + log)
                };
                *self.lse.add(r) = lse;
                let inverse = S::splat(inverse);
                let (o, out) = (self.o.add(r * self.ldo), self.out.add(r * self.rs));
                for c in (0..self.dv).step_by(S::LANES) {
                    let n = S::LANES.min(self.dv - c);
                    store::<S>(out.add(c), S::mul(S::load(o.add(c)), inverse), n);
                }
            }
        }
    }
}

/// Scores and gradients of weights of a strip become weights (with dropout applied) and gradients of scores, in place:
/// `p = 2^(s - lse2)`, `ds = p (keep dp - delta)`. Columns outside the strip's become zeros.
pub(super) struct Unroll<T> {
    pub strip: Strip<T>,
    /// Gradients of the weights, rows of [`TILE`].
    pub dp: *mut T,
    /// Logsumexp in base 2, and `sum(dout * out)`, per row.
    pub lse2: *const T,
    pub delta: *const T,
}

impl<T: Real> Kernel<T> for Unroll<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let t = &self.strip;
        for r in 0..t.rows {
            // SAFETY: run by dispatch on a valid strip; dp has the same rows, lse2 and delta an entry for each.
            unsafe {
                let (p, dp) = (t.s.add(r * TILE), self.dp.add(r * TILE));
                let lse2 = S::splat(*self.lse2.add(r));
                let delta = S::splat(*self.delta.add(r));
                let plain = t.plain(r);
                let kept = t.random.as_ref().map(|at| Kept::<T>::new(at, r));
                for i in (0..t.from).step_by(S::LANES) {
                    S::store(p.add(i), S::zero());
                    S::store(dp.add(i), S::zero());
                }
                match &kept {
                    None if plain => {
                        for i in (t.from..t.to).step_by(S::LANES) {
                            let s = S::load(p.add(i));
                            let e = math::exp2_flush::<S>(S::sub(s, lse2));
                            let g = S::sub(S::load(dp.add(i)), delta);
                            S::store(p.add(i), e);
                            S::store(dp.add(i), S::mul(e, g));
                        }
                    }
                    _ => {
                        for i in (t.from..t.to).step_by(S::LANES) {
                            let s = masked::<S>(t, r, i);
                            let e = math::exp2_flush::<S>(S::sub(s, lse2));
                            let keep = match &kept {
                                Some(k) => S::load(k.0.as_ptr().add(i)),
                                None => S::c(1.0),
                            };
                            let g = S::fms(keep, S::load(dp.add(i)), delta);
                            S::store(p.add(i), S::mul(e, keep));
                            S::store(dp.add(i), S::mul(e, g));
                        }
                    }
                }
                for i in (t.to..TILE).step_by(S::LANES) {
                    S::store(p.add(i), S::zero());
                    S::store(dp.add(i), S::zero());
                }
            }
        }
    }
}

/// Rows of `d` elements times a factor, with zeros up to `ld`; see `copy_rows`.
pub(super) struct Scale<T> {
    pub from: *const T,
    pub rs: isize,
    pub rows: usize,
    pub d: usize,
    pub factor: T,
    pub out: *mut T,
    pub ld: usize,
}

impl<T: Real> Kernel<T> for Scale<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: run by dispatch; the rows exist and have room.
        unsafe {
            let factor = S::splat(self.factor);
            for r in 0..self.rows {
                let from = self.from.wrapping_offset(r as isize * self.rs);
                let out = self.out.add(r * self.ld);
                for c in (0..self.ld).step_by(S::LANES) {
                    let n = self.d.saturating_sub(c).min(S::LANES);
                    let x = load::<S>(from.wrapping_add(c), n);
                    store::<S>(out.add(c), S::mul(x, factor), S::LANES.min(self.ld - c));
                }
            }
        }
    }
}

/// `out (+)= factor * x` over rows of `d` elements.
pub(super) struct AddRows<T> {
    pub x: *const T,
    pub ldx: usize,
    pub rows: usize,
    pub d: usize,
    pub factor: T,
    pub out: *mut T,
    pub rs: usize,
    pub add: bool,
}

impl<T: Real> Kernel<T> for AddRows<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: run by dispatch; the rows exist.
        unsafe {
            let factor = S::splat(self.factor);
            for r in 0..self.rows {
                let (x, out) = (self.x.add(r * self.ldx), self.out.add(r * self.rs));
                for c in (0..self.d).step_by(S::LANES) {
                    let n = S::LANES.min(self.d - c);
                    let old = if self.add {
                        load::<S>(out.add(c), n)
                    } else {
                        S::zero()
                    };
                    let y = S::fma(load::<S>(x.add(c), n), factor, old);
                    store::<S>(out.add(c), y, n);
                }
            }
        }
    }
}

/// `delta = sum(dout * out)` of every row, and its logsumexp in base 2.
pub(super) struct Deltas<T> {
    pub rows: usize,
    pub dv: usize,
    pub out: *const T,
    pub out_rs: isize,
    pub dout: *const T,
    pub dout_rs: isize,
    pub lse: *const T,
    pub delta: *mut T,
    pub lse2: *mut T,
}

impl<T: Real> Kernel<T> for Deltas<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let log2e = T::from_f64(core::f64::consts::LOG2_E);
        for r in 0..self.rows {
            // SAFETY: run by dispatch; the rows exist.
            unsafe {
                let x = self.out.wrapping_offset(r as isize * self.out_rs);
                let y = self.dout.wrapping_offset(r as isize * self.dout_rs);
                let mut acc = [S::zero(); 4];
                each_vector!(S, self.dv, |i, n, k| {
                    let v = S::mul(load::<S>(x.add(i), n), load::<S>(y.add(i), n));
                    acc[k] = add_first::<S>(acc[k], v, n);
                });
                *self.delta.add(r) = fold::<S>(acc);
                *self.lse2.add(r) = *self.lse.add(r) * log2e;
            }
        }
    }
}
