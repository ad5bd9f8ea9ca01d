//! Vector bodies over strips of scores: the online softmax forward, the weights and their gradients backward, and the copies,
//! dot products and scalings around the matrix products.
use super::{Dropout, Heads, LD, Mask, QUERIES, TILE};
use crate::element::{Number, Real};
use crate::gemm::kernel::MAX_MR;
use crate::rng::{GROUP, group_words};
use crate::simd::{Kernel, LANES16, Simd, math, prefetch};
use crate::sum::{fold, load, store};

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

/// Scores of some queries and the columns `from .. to` of a tile, whole multiples of sixteen.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a, T> {
    pub rows: usize,
    pub from: usize,
    pub to: usize,
    /// Keys of the tile that exist.
    pub keys: usize,
    /// Which of them each row sees; empty: all of those.
    pub seen: &'a [(usize, usize)],
    pub mask: MaskAt<T>,
    pub random: Option<RandomAt>,
    /// Rows of scores in base 2, [`LD`] apart; weights when done.
    pub s: *mut T,
}

impl<T: Real> Strip<'_, T> {
    /// Columns that a row sees.
    #[inline(always)]
    fn seen(&self, row: usize) -> (usize, usize) {
        self.seen.get(row).copied().unwrap_or((self.from, self.to))
    }
}

/// Rows ahead that are fetched: those of a head lie far apart where heads are side by side, and nothing else fetches them.
const AHEAD: usize = 8;

/// Asks for a row of `d` elements.
#[inline(always)]
pub(super) fn fetch<T>(row: *const T, d: usize) {
    for i in (0..d).step_by(64 / size_of::<T>()) {
        prefetch(row.wrapping_add(i));
    }
}

/// The scores of row `r` at columns `i ..`, in base 2, with the mask: -inf where it does not look.
/// # Safety
/// S is enabled; the pointers are those of a valid strip.
#[inline(always)]
unsafe fn masked<S: Simd>(t: &Strip<'_, S::T>, r: usize, i: usize) -> S::V {
    // SAFETY: the caller's promise; of the mask only columns of existing keys are read.
    unsafe {
        let never = S::splat(S::T::NEG_INFINITY);
        let mut x = S::load(t.s.add(r * LD + i));
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
        x
    }
}

/// Scores become -inf where a row does not look, and get what is added to them.
/// # Safety
/// S is enabled; the pointers are those of a valid strip.
#[inline(always)]
unsafe fn hide<S: Simd>(t: &Strip<'_, S::T>) {
    if t.seen.is_empty() && matches!(t.mask, MaskAt::None) {
        return;
    }
    // SAFETY: the caller's promise; vectors from `from` to `to`.
    unsafe {
        let never = S::splat(S::T::NEG_INFINITY);
        let number = |i: usize| S::splat(S::T::from_f64(i as f64));
        for r in 0..t.rows {
            let row = t.s.add(r * LD);
            if !matches!(t.mask, MaskAt::None) {
                for i in (t.from..t.to).step_by(S::LANES) {
                    S::store(row.add(i), masked::<S>(t, r, i));
                }
            }
            // Comparisons, not branches: where a row's keys end is different in each.
            let (lo, hi) = t.seen(r);
            let end = number(hi);
            for i in ((hi / S::LANES * S::LANES).max(t.from)..t.to).step_by(S::LANES) {
                let below = S::lt(S::add(S::iota(), number(i)), end);
                S::store(row.add(i), S::select(below, S::load(row.add(i)), never));
            }
            let start = number(lo);
            for i in (t.from..lo.min(t.to)).step_by(S::LANES) {
                let from = S::le(start, S::add(S::iota(), number(i)));
                S::store(row.add(i), S::select(from, S::load(row.add(i)), never));
            }
        }
    }
}

/// Row `r`'s factors of the weights: 0 or `1 / (1 - p)`, in the columns `from .. to` at least.
struct Kept<T>([T; TILE]);

impl<T: Real> Kept<T> {
    #[inline(always)]
    fn new(at: &RandomAt, r: usize, (from, to): (usize, usize)) -> Self {
        let d = &at.dropout;
        let (least, factor) = (d.keep_from(), T::from_f64(d.factor()));
        let mut kept = [T::ZERO; TILE];
        for g in from / GROUP..to.div_ceil(GROUP) {
            let group = at.group + r as u64 * at.groups + g as u64;
            let words = group_words(d.seed, d.stream, group);
            for i in 0..GROUP {
                kept[g * GROUP + i] = if u64::from(words[i]) >= least {
                    factor
                } else {
                    T::ZERO
                };
            }
        }
        Kept(kept)
    }
}

/// A row's maximum moves on only when it has grown by more than this, in base 2: weights stay below 2^8, and most rows are
/// scaled once.
const SLACK: f64 = 8.0;

/// One step of the online softmax: scores become weights relative to the running maximum `m`; sums go to the sixteen lanes of
/// each row of `l`; where the maximum grew by much, sums and the row of the output so far are scaled down.
pub(super) struct Online<'a, T> {
    pub strip: Strip<'a, T>,
    pub m: *mut T,
    pub l: *mut T,
    pub o: *mut T,
    /// Length of a row of the output, whole vectors.
    pub ldo: usize,
}

impl<T: Real> Kernel<T> for Online<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let t = &self.strip;
        // All maxima first: the steps of finding one take longer than its row, but do not wait for those of another.
        let mut best = [T::NEG_INFINITY; QUERIES];
        // SAFETY: run by dispatch on a valid strip.
        unsafe { hide::<S>(t) };
        for r in 0..t.rows {
            // SAFETY: run by dispatch on a valid strip of at most QUERIES rows.
            unsafe {
                let row = t.s.add(r * LD);
                let mut most = [S::splat(T::NEG_INFINITY); 4];
                let mut i = t.from;
                while i < t.to {
                    for k in 0..LANES16 / S::LANES {
                        most[k] = S::max(S::load(row.add(i + k * S::LANES)), most[k]);
                    }
                    i += LANES16;
                }
                let mut all = most[0];
                for k in 1..LANES16 / S::LANES {
                    all = S::max(most[k], all);
                }
                best[r] = S::reduce_max(all);
            }
        }
        for r in 0..t.rows {
            // SAFETY: as above; m, l and o have a row for each of its rows.
            unsafe {
                let row = t.s.add(r * LD);
                let best = best[r];
                let (old, l, o) = (*self.m.add(r), self.l.add(r * LANES16), self.o);
                let o = o.add(r * self.ldo);
                let mut top = old;
                if best > old + T::from_f64(SLACK) {
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
                        while i + 4 * S::LANES <= t.to {
                            let mut x = [S::zero(); 4];
                            for v in 0..4 {
                                x[v] = S::sub(S::load(row.add(i + v * S::LANES)), top);
                            }
                            let e = math::exp2_flush_each::<S, 4>(x);
                            for v in 0..4 {
                                let k = v % (LANES16 / S::LANES);
                                sum[k] = S::add(sum[k], e[v]);
                                S::store(row.add(i + v * S::LANES), e[v]);
                            }
                            i += 4 * S::LANES;
                        }
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
                        let kept = Kept::<T>::new(at, r, (t.from, t.to));
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

/// `out[j] = factor sum(q * k[j])` for one query and `n` keys where they lie.
pub(super) struct Scores<T> {
    pub q: *const T,
    pub keys: *const T,
    pub rs: isize,
    pub n: usize,
    pub d: usize,
    pub factor: T,
    pub out: *mut T,
}

impl<T: Real> Kernel<T> for Scores<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        for j in 0..self.n {
            // SAFETY: run by dispatch; the keys exist.
            unsafe {
                let key = self.keys.wrapping_offset(j as isize * self.rs);
                *self.out.add(j) = self.factor * inner::<S>(self.q, key, self.d);
            }
        }
    }
}

/// `sum(x * y)` over `n` elements, in sixteen lanes.
/// # Safety
/// S is enabled and the elements exist.
#[inline(always)]
unsafe fn inner<S: Simd>(x: *const S::T, y: *const S::T, n: usize) -> S::T {
    // SAFETY: the caller's promise.
    unsafe {
        let mut acc = [S::zero(); 4];
        let mut i = 0;
        while i + LANES16 <= n {
            for k in 0..LANES16 / S::LANES {
                let at = i + k * S::LANES;
                acc[k] = S::fma(S::load(x.add(at)), S::load(y.add(at)), acc[k]);
            }
            i += LANES16;
        }
        for k in 0..LANES16 / S::LANES {
            // Lanes beyond the row are 0 in both.
            let at = i + k * S::LANES;
            let n = n.saturating_sub(at).min(S::LANES);
            if n > 0 {
                acc[k] = S::fma(load::<S>(x.add(at), n), load::<S>(y.add(at), n), acc[k]);
            }
        }
        fold::<S>(acc)
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
        // Step by step for all rows: logarithms of whole vectors.
        let (mut totals, mut inverses) = ([T::ONE; QUERIES], [T::ZERO; QUERIES]);
        for r in 0..self.rows {
            // SAFETY: run by dispatch; every array has the rows, and they are at most QUERIES.
            unsafe {
                let mut sum = [S::zero(); 4];
                for k in 0..LANES16 / S::LANES {
                    sum[k] = S::load(self.l.add(r * LANES16 + k * S::LANES));
                }
                totals[r] = fold::<S>(sum);
            }
        }
        for r in (0..self.rows).step_by(S::LANES) {
            let n = S::LANES.min(self.rows - r);
            // SAFETY: as above; QUERIES is a multiple of the lanes.
            unsafe {
                let (total, m) = (S::load(totals.as_ptr().add(r)), load::<S>(self.m.add(r), n));
                let none =
                    S::mask_and(S::eq(total, S::zero()), S::eq(m, S::splat(T::NEG_INFINITY)));
                let inverse = S::select(none, S::zero(), S::div(S::c(1.0), total));
                S::store(inverses.as_mut_ptr().add(r), inverse);
                let lse = S::fma(m, S::c(core::f64::consts::LN_2), math::log::<S>(total));
                let lse = S::select(none, S::splat(T::INFINITY), lse);
                store::<S>(self.lse.add(r), lse, n);
            }
        }
        for r in 0..self.rows {
            // SAFETY: as above.
            unsafe {
                fetch(self.out.wrapping_add((r + AHEAD) * self.rs), self.dv);
                let inverse = S::splat(inverses[r]);
                let (o, out) = (self.o.add(r * self.ldo), self.out.add(r * self.rs));
                for c in (0..self.dv).step_by(S::LANES) {
                    let n = S::LANES.min(self.dv - c);
                    store::<S>(out.add(c), S::mul(S::load(o.add(c)), inverse), n);
                }
            }
        }
    }
}

/// Columns beside those of a strip that products with strips of keys may read: whoever sees one key of such a strip reads all of it.
const EDGE: usize = 16;
const _: () = assert!(EDGE >= MAX_MR);

/// Scores and gradients of weights of a strip become weights (with dropout applied) and gradients of scores, in place:
/// `p = 2^(s - lse2)`, `ds = p (keep dp - delta)`. The next [`EDGE`] columns on either side become zeros.
pub(super) struct Unroll<'a, T> {
    pub strip: Strip<'a, T>,
    /// Gradients of the weights, rows [`LD`] apart.
    pub dp: *mut T,
    /// Logsumexp in base 2, and `sum(dout * out)`, per row.
    pub lse2: *const T,
    pub delta: *const T,
}

impl<T: Real> Kernel<T> for Unroll<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let t = &self.strip;
        // SAFETY: run by dispatch on a valid strip.
        unsafe { hide::<S>(t) };
        for r in 0..t.rows {
            // SAFETY: run by dispatch on a valid strip; dp has the same rows, lse2 and delta an entry for each.
            unsafe {
                let (p, dp) = (t.s.add(r * LD), self.dp.add(r * LD));
                let lse2 = S::splat(*self.lse2.add(r));
                let delta = S::splat(*self.delta.add(r));
                let kept = t
                    .random
                    .as_ref()
                    .map(|at| Kept::<T>::new(at, r, (t.from, t.to)));
                for i in (t.from.saturating_sub(EDGE)..t.from).step_by(S::LANES) {
                    S::store(p.add(i), S::zero());
                    S::store(dp.add(i), S::zero());
                }
                match &kept {
                    None => {
                        let mut i = t.from;
                        while i + 4 * S::LANES <= t.to {
                            let mut x = [S::zero(); 4];
                            for v in 0..4 {
                                x[v] = S::sub(S::load(p.add(i + v * S::LANES)), lse2);
                            }
                            let e = math::exp2_flush_each::<S, 4>(x);
                            for v in 0..4 {
                                let at = i + v * S::LANES;
                                let g = S::sub(S::load(dp.add(at)), delta);
                                S::store(p.add(at), e[v]);
                                S::store(dp.add(at), S::mul(e[v], g));
                            }
                            i += 4 * S::LANES;
                        }
                        for i in (i..t.to).step_by(S::LANES) {
                            let s = S::load(p.add(i));
                            let e = math::exp2_flush::<S>(S::sub(s, lse2));
                            let g = S::sub(S::load(dp.add(i)), delta);
                            S::store(p.add(i), e);
                            S::store(dp.add(i), S::mul(e, g));
                        }
                    }
                    Some(kept) => {
                        for i in (t.from..t.to).step_by(S::LANES) {
                            let s = S::load(p.add(i));
                            let e = math::exp2_flush::<S>(S::sub(s, lse2));
                            let keep = S::load(kept.0.as_ptr().add(i));
                            let g = S::fms(keep, S::load(dp.add(i)), delta);
                            S::store(p.add(i), S::mul(e, keep));
                            S::store(dp.add(i), S::mul(e, g));
                        }
                    }
                }
                for i in (t.to..TILE.min(t.to + EDGE)).step_by(S::LANES) {
                    S::store(p.add(i), S::zero());
                    S::store(dp.add(i), S::zero());
                }
            }
        }
    }
}

/// `len` elements, whole vectors, times a factor.
pub(super) struct Scale<T> {
    pub p: *mut T,
    pub len: usize,
    pub factor: T,
}

impl<T: Real> Kernel<T> for Scale<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: run by dispatch; the elements exist.
        unsafe {
            let factor = S::splat(self.factor);
            for i in (0..self.len).step_by(S::LANES) {
                let p = self.p.add(i);
                S::store(p, S::mul(S::load(p), factor));
            }
        }
    }
}

/// Rows of `d` elements, with zeros up to `ld`; see `copy_rows`.
pub(super) struct Copy<T> {
    pub from: *const T,
    pub rs: isize,
    pub rows: usize,
    pub d: usize,
    pub out: *mut T,
    pub ld: usize,
}

impl<T: Real> Kernel<T> for Copy<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: run by dispatch; the rows exist and have room.
        unsafe {
            for r in 0..self.rows {
                let from = self.from.wrapping_offset(r as isize * self.rs);
                fetch(from.wrapping_offset(AHEAD as isize * self.rs), self.d);
                let out = self.out.add(r * self.ld);
                for c in (0..self.ld).step_by(S::LANES) {
                    let n = self.d.saturating_sub(c).min(S::LANES);
                    let x = load::<S>(from.wrapping_add(c), n);
                    store::<S>(out.add(c), x, S::LANES.min(self.ld - c));
                }
            }
        }
    }
}

/// `out (+)= x` over rows of `d` elements.
pub(super) struct AddRows<T> {
    pub x: *const T,
    pub ldx: usize,
    pub rows: usize,
    pub d: usize,
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
            for r in 0..self.rows {
                let (x, out) = (self.x.add(r * self.ldx), self.out.add(r * self.rs));
                fetch(out.wrapping_add(AHEAD * self.rs), self.d);
                for c in (0..self.d).step_by(S::LANES) {
                    let n = S::LANES.min(self.d - c);
                    let mut y = load::<S>(x.add(c), n);
                    if self.add {
                        y = S::add(load::<S>(out.add(c), n), y);
                    }
                    store::<S>(out.add(c), y, n);
                }
            }
        }
    }
}

/// `delta = scale sum(dout * out)` of every row, and its logsumexp in base 2.
pub(super) struct Deltas<T> {
    pub rows: usize,
    pub dv: usize,
    pub out: *const T,
    pub out_rs: isize,
    pub dout: *const T,
    pub dout_rs: isize,
    pub lse: *const T,
    pub scale: T,
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
                fetch(x.wrapping_offset(AHEAD as isize * self.out_rs), self.dv);
                fetch(y.wrapping_offset(AHEAD as isize * self.dout_rs), self.dv);
                *self.delta.add(r) = self.scale * inner::<S>(x, y, self.dv);
                *self.lse2.add(r) = *self.lse.add(r) * log2e;
            }
        }
    }
}
