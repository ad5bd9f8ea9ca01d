//! The backward pass: tiles of keys, each against the tiles of queries that see it. The weights are made again from the
//! logsumexp; `dV += P^T dO`, `dP = dO V^T`, `dS = P (dP - delta)`, `dK += dS^T Q`, `dQ += dS K`.
use super::forward::padded;
use super::rows::{AddRows, Deltas, MaskAt, RandomAt, Strip, Unroll};
use super::*;
use crate::gemm::kernel::strips;
use crate::parallel::{abandoned, for_each};
use crate::simd;

/// Queries of a tile.
const QUERIES: usize = 64;
/// Tasks that a call is cut into where it has fewer heads: by shape, since the cuts show in the bits of dQ.
const TASKS: usize = 16;
/// Tiles of keys that a task has at least.
const LEAST_TILES: usize = 4;

struct Backward<'a, T> {
    p: &'a Attention,
    tiles: Tiles<T>,
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    mask: Mask<'a, T>,
    lengths: Option<&'a [i64]>,
    out: Heads<'a, T>,
    lse: &'a [T],
    dout: Heads<'a, T>,
    dq: Option<Rows<T>>,
    dk: Option<Rows<T>>,
    dv: Option<Rows<T>>,
    /// Tiles of keys per task.
    chunk: usize,
    /// dQ of all chunks but the first, `(chunks - 1, batch, heads, tq, d)`.
    partial: Buffer<T>,
}

/// A task's arrays, one after the other in one buffer.
struct Work<T> {
    buffer: Buffer<T>,
    /// Padded sizes of a key and a value.
    dp: usize,
    dvp: usize,
    d: usize,
    dv: usize,
    tq: usize,
}

impl<T: Real> Work<T> {
    fn new(p: &Attention, t: &Tiles<T>) -> Self {
        let (dp, dvp) = (padded(p.d, t.keys.nr), padded(p.dv, t.values.nr));
        let mut w = Work {
            buffer: Buffer::new(0),
            dp,
            dvp,
            d: p.d,
            dv: p.dv,
            tq: p.tq.next_multiple_of(16),
        };
        let end = w.douts() as usize - w.weights() as usize;
        let copy = if dvp == p.dv { 0 } else { w.tq * dvp };
        w.buffer = Buffer::new(end / size_of::<T>() + copy);
        w
    }
    /// Scores, then weights, (QUERIES, TILE).
    fn weights(&self) -> *mut T {
        self.buffer.ptr()
    }
    /// Gradients of the weights, then of the scores, (QUERIES, TILE).
    fn slopes(&self) -> *mut T {
        self.weights().wrapping_add(QUERIES * TILE)
    }
    /// Keys of a tile, transposed.
    fn keys_t(&self) -> *mut T {
        self.slopes().wrapping_add(QUERIES * TILE)
    }
    /// Values of a tile, transposed.
    fn values_t(&self) -> *mut T {
        self.keys_t().wrapping_add(TILE * self.d)
    }
    /// Keys of a tile as padded rows.
    fn keys(&self) -> *mut T {
        self.values_t().wrapping_add(TILE * self.dv)
    }
    /// Gradient of the keys of a tile, (TILE, dp).
    fn dk(&self) -> *mut T {
        self.keys().wrapping_add(TILE * self.dp)
    }
    /// Gradient of the values of a tile, (TILE, dvp).
    fn dv(&self) -> *mut T {
        self.dk().wrapping_add(TILE * self.dp)
    }
    /// Scaled queries of a head, (tq, dp).
    fn q(&self) -> *mut T {
        self.dv().wrapping_add(TILE * self.dvp)
    }
    /// Logsumexp in base 2, (tq,).
    fn lse2(&self) -> *mut T {
        self.q().wrapping_add(self.tq * self.dp)
    }
    /// `sum(dout * out)`, (tq,).
    fn delta(&self) -> *mut T {
        self.lse2().wrapping_add(self.tq)
    }
    /// Gradient of the outputs of a head as padded rows, (tq, dvp), where they are not such rows themselves.
    fn douts(&self) -> *mut T {
        self.delta().wrapping_add(self.tq)
    }
}

impl<T: Real> Backward<'_, T> {
    /// The rows of dQ that a task adds to: the output itself, or a part of its own.
    fn dq(&self, b: usize, h: usize, chunk: usize) -> Option<(*mut T, usize)> {
        let (p, dq) = (self.p, self.dq?);
        if chunk == 0 {
            return Some((dq.at(b, h, 0), dq.strides[2]));
        }
        let head = ((chunk - 1) * p.batch + b) * p.heads + h;
        Some((self.partial.ptr().wrapping_add(head * p.tq * p.d), p.d))
    }

    /// One head of queries against the keys of one chunk. `first`: of all heads that share the keys.
    fn head(&self, (b, h): (usize, usize), chunk: usize, first: bool, w: &Work<T>) {
        let (p, t) = (self.p, &self.tiles);
        let hk = h / p.group();
        let row = (b * p.heads + h) * p.tq;
        let rows_of = |x: &Heads<'_, T>| Source {
            p: x.at(b, h, 0),
            rs: x.strides[2],
        };
        // Scores come out in base 2; dS^T Q is corrected for it below.
        let factor = T::from_f64(p.scale * core::f64::consts::LOG2_E);
        let mut dout = rows_of(&self.dout);
        let out = rows_of(&self.out);
        // SAFETY: all rows exist, and the workspace has room for tq of each.
        unsafe { copy_rows(t.isa, rows_of(&self.q), p.tq, p.d, factor, (w.q(), w.dp)) };
        if w.dvp != p.dv {
            // SAFETY: as above.
            unsafe { copy_rows(t.isa, dout, p.tq, p.dv, T::ONE, (w.douts(), w.dvp)) };
            dout = Source {
                p: w.douts(),
                rs: w.dvp as isize,
            };
        }
        let deltas = Deltas {
            rows: p.tq,
            dv: p.dv,
            out: out.p,
            out_rs: out.rs,
            dout: dout.p,
            dout_rs: dout.rs,
            lse: self.lse[row..].as_ptr(),
            delta: w.delta(),
            lse2: w.lse2(),
        };
        dispatch_on(t.isa, deltas);
        let dq = self.dq(b, h, chunk);
        if let Some((dq, rs)) = dq {
            for i in 0..p.tq {
                // SAFETY: a row of dQ is d elements, and belongs to this task.
                unsafe { core::slice::from_raw_parts_mut(dq.wrapping_add(i * rs), p.d) }
                    .fill(T::ZERO);
            }
        }
        let len = p.keys(self.lengths, b);
        let last = ((chunk + 1) * self.chunk).min(p.tk.div_ceil(TILE));
        for j in chunk * self.chunk..last {
            let j0 = j * TILE;
            let (all, n) = (TILE.min(p.tk - j0), TILE.min(len.saturating_sub(j0)));
            // SAFETY: the workspace's own rows.
            unsafe {
                core::slice::from_raw_parts_mut(w.dk(), TILE * w.dp).fill(T::ZERO);
                core::slice::from_raw_parts_mut(w.dv(), TILE * w.dvp).fill(T::ZERO);
            }
            let (i_lo, i_hi) = p.viewers((j0, n.max(1)), (0, p.tq));
            if n > 0 && i_lo < i_hi {
                // SAFETY: n keys and values from j0 on exist.
                unsafe {
                    t.pack(&self.k, (b, hk, j0), (n, p.d), w.keys_t());
                    t.pack(&self.v, (b, hk, j0), (n, p.dv), w.values_t());
                }
                let mut keys = Source {
                    p: self.k.at(b, hk, j0),
                    rs: self.k.strides[2],
                };
                if w.dp != p.d && dq.is_some() {
                    // SAFETY: as above.
                    unsafe { copy_rows(t.isa, keys, n, p.d, T::ONE, (w.keys(), w.dp)) };
                    keys = Source {
                        p: w.keys(),
                        rs: w.dp as isize,
                    };
                }
                for i0 in (i_lo / QUERIES * QUERIES..i_hi).step_by(QUERIES) {
                    let rows = QUERIES.min(p.tq - i0);
                    if abandoned((2 * rows * n * (3 * p.d + 2 * p.dv)) as f64) {
                        return;
                    }
                    self.tile((b, h), (i0, rows), (j0, n), dout, keys, dq, w);
                }
            }
            let write = |to: Option<Rows<T>>, x: *mut T, (ldx, d): (usize, usize), factor: f64| {
                let Some(to) = to else { return };
                let add = AddRows {
                    x,
                    ldx,
                    rows: all,
                    d,
                    factor: T::from_f64(factor),
                    out: to.at(b, hk, j0),
                    rs: to.strides[2],
                    add: !first,
                };
                dispatch_on(t.isa, add);
            };
            write(self.dk, w.dk(), (w.dp, p.d), core::f64::consts::LN_2);
            write(self.dv, w.dv(), (w.dvp, p.dv), 1.0);
        }
        if let (Some((dq, rs)), true) = (dq, self.p.tk <= self.chunk * TILE) {
            self.scale_dq((b, h), (0, p.tq), dq, rs, false);
        }
    }

    /// Writes rows of dQ, `scale` times a sum of products.
    fn scale_dq(
        &self,
        (b, h): (usize, usize),
        (i0, rows): (usize, usize),
        x: *const T,
        ldx: usize,
        add: bool,
    ) {
        let Some(dq) = self.dq else { return };
        let add = AddRows {
            x,
            ldx,
            rows,
            d: self.p.d,
            factor: T::from_f64(self.p.scale),
            out: dq.at(b, h, i0),
            rs: dq.strides[2],
            add,
        };
        dispatch_on(self.tiles.isa, add);
    }

    /// One tile of queries against one tile of keys.
    fn tile(
        &self,
        (b, h): (usize, usize),
        (i0, rows): (usize, usize),
        (j0, n): (usize, usize),
        dout: Source<T>,
        keys: Source<T>,
        dq: Option<(*mut T, usize)>,
        w: &Work<T>,
    ) {
        let (p, t) = (self.p, &self.tiles);
        let len = p.keys(self.lengths, b);
        let row = (b * p.heads + h) * p.tq + i0;
        let groups = (p.pitch() / TILE) as u64;
        let nr = t.scores.nr;
        let q = w.q().wrapping_add(i0 * w.dp);
        for (r0, count) in strips(rows, t.mr) {
            let (weights, slopes) = (
                w.weights().wrapping_add(r0 * TILE),
                w.slopes().wrapping_add(r0 * TILE),
            );
            let mut seen = [(0, 0); 8];
            for (r, seen) in seen.iter_mut().enumerate().take(count) {
                let (lo, hi) = p.visible(i0 + r0 + r, len);
                *seen = (lo.clamp(j0, j0 + n) - j0, hi.clamp(j0, j0 + n) - j0);
            }
            let (from, to) = (seen[0].0, seen[count - 1].1);
            if from >= to {
                // SAFETY: the rows of this strip.
                unsafe {
                    core::slice::from_raw_parts_mut(weights, count * TILE).fill(T::ZERO);
                    core::slice::from_raw_parts_mut(slopes, count * TILE).fill(T::ZERO);
                }
                continue;
            }
            let (c0, c1) = t.columns(from, to);
            let scores = Product {
                rows: count,
                k: p.d,
                a: q.wrapping_add(r0 * w.dp),
                a_rs: w.dp as isize,
                a_ks: 1,
                b: w.keys_t().wrapping_add(c0 * p.d),
                b_ks: nr as isize,
                step: p.d * nr,
                c: weights.wrapping_add(c0),
                ldc: TILE,
                cols: c1 - c0,
                add: false,
            };
            let products = Product {
                k: p.dv,
                a: dout.row(i0 + r0),
                a_rs: dout.rs,
                b: w.values_t().wrapping_add(c0 * p.dv),
                step: p.dv * nr,
                c: slopes.wrapping_add(c0),
                ..scores
            };
            // SAFETY: queries and gradients of outputs have these rows; keys and values were packed up to n, and columns
            // beyond the keys are never looked at; the tiles have rows of TILE.
            unsafe {
                scores.run(&t.scores);
                products.run(&t.scores);
            }
            let random = p.dropout.map(|dropout| RandomAt {
                dropout,
                group: (row + r0) as u64 * groups + (j0 / TILE) as u64,
                groups,
            });
            let unroll = Unroll {
                strip: Strip {
                    rows: count,
                    from: c0,
                    to: c1,
                    keys: n,
                    seen,
                    mask: MaskAt::new(&self.mask, b, h, i0 + r0, j0),
                    random,
                    s: weights,
                },
                dp: slopes,
                lse2: w.lse2().wrapping_add(i0 + r0),
                delta: w.delta().wrapping_add(i0 + r0),
            };
            dispatch_on(t.isa, unroll);
            if let Some((dq, rs)) = dq {
                let product = Product {
                    rows: count,
                    k: to - from,
                    a: slopes.wrapping_add(from),
                    a_rs: TILE as isize,
                    a_ks: 1,
                    b: keys.row(from),
                    b_ks: keys.rs,
                    step: t.keys.nr,
                    c: dq.wrapping_add((i0 + r0) * rs),
                    ldc: rs,
                    cols: p.d,
                    add: true,
                };
                // SAFETY: keys up to n exist as whole panels; these rows of dQ are this task's.
                unsafe { product.run(&t.keys) };
            }
        }
        if self.dk.is_none() && self.dv.is_none() {
            return;
        }
        for (c0, count) in strips(n, t.mr) {
            let (lo, hi) = p.viewers((j0 + c0, count), (i0, i0 + rows));
            if lo >= hi {
                continue;
            }
            let at = (lo - i0) * TILE + c0;
            let values = Product {
                rows: count,
                k: hi - lo,
                a: w.weights().wrapping_add(at),
                a_rs: 1,
                a_ks: TILE as isize,
                b: dout.row(lo),
                b_ks: dout.rs,
                step: t.values.nr,
                c: w.dv().wrapping_add(c0 * w.dvp),
                ldc: w.dvp,
                cols: w.dvp,
                add: true,
            };
            let queries = Product {
                a: w.slopes().wrapping_add(at),
                b: w.q().wrapping_add(lo * w.dp),
                b_ks: w.dp as isize,
                step: t.keys.nr,
                c: w.dk().wrapping_add(c0 * w.dp),
                ldc: w.dp,
                cols: w.dp,
                ..values
            };
            // SAFETY: weights and slopes have a row for each query of the tile and columns up to TILE; queries and gradients
            // of outputs are rows of whole panels, as are the sums.
            unsafe {
                if self.dv.is_some() {
                    values.run(&t.values);
                }
                if self.dk.is_some() {
                    queries.run(&t.keys);
                }
            }
        }
    }
}

pub(super) fn run<T: Real>(
    p: &Attention,
    q: Heads<'_, T>,
    k: Heads<'_, T>,
    v: Heads<'_, T>,
    mask: Mask<'_, T>,
    lengths: Option<&[i64]>,
    out: Heads<'_, T>,
    lse: &[T],
    dout: Heads<'_, T>,
    orders: [Order; 3],
    [dq, dk, dv]: [Option<&mut [T]>; 3],
) {
    if dq.is_none() && dk.is_none() && dv.is_none() {
        return;
    }
    let (pairs, key_tiles) = (p.batch * p.kv_heads, p.tk.div_ceil(TILE));
    if p.tq == 0 || p.tk == 0 || p.heads == 0 {
        for g in [dq, dk, dv].into_iter().flatten() {
            g.fill(T::ZERO);
        }
        return;
    }
    if pairs == 0 {
        return;
    }
    let most = (key_tiles / LEAST_TILES).max(1);
    let chunk = key_tiles.div_ceil(TASKS.div_ceil(pairs).min(most));
    let chunks = key_tiles.div_ceil(chunk);
    let parts = if dq.is_some() { chunks - 1 } else { 0 };
    let query_rows = p.batch * p.heads * p.tq;
    let f = Backward {
        p,
        tiles: Tiles::new(simd::isa(), p.d, p.dv),
        q,
        k,
        v,
        mask,
        lengths,
        out,
        lse,
        dout,
        dq: dq.map(|g| Rows::new(g, orders[0], (p.heads, p.tq, p.d))),
        dk: dk.map(|g| Rows::new(g, orders[1], (p.kv_heads, p.tk, p.d))),
        dv: dv.map(|g| Rows::new(g, orders[2], (p.kv_heads, p.tk, p.dv))),
        chunk,
        partial: Buffer::new(parts * query_rows * p.d),
    };
    let group = p.group();
    for_each(pairs * chunks, p.cost::<T>(5.0), &|task| {
        let (chunk, pair) = (task / pairs, task % pairs);
        let (b, hk) = (pair / p.kv_heads, pair % p.kv_heads);
        let work = Work::new(p, &f.tiles);
        for g in 0..group {
            f.head((b, hk * group + g), chunk, g == 0, &work);
        }
    });
    if f.dq.is_none() || chunks == 1 {
        return;
    }
    // The chunks' shares of dQ, in order.
    let tiles = p.tq.div_ceil(QUERIES);
    let cost = Cost {
        flops: 0.0,
        bytes: (query_rows * p.d * (chunks + 1) * size_of::<T>()) as f64,
    };
    for_each(p.batch * p.heads * tiles, cost, &|task| {
        let (head, i0) = (task / tiles, task % tiles * QUERIES);
        let (b, h) = (head / p.heads, head % p.heads);
        let rows = QUERIES.min(p.tq - i0);
        for chunk in 0..chunks {
            let Some((x, ldx)) = f.dq(b, h, chunk) else {
                return;
            };
            f.scale_dq((b, h), (i0, rows), x.wrapping_add(i0 * ldx), ldx, chunk > 0);
        }
    });
}
