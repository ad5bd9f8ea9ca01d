//! The backward pass: tiles of keys, each against the tiles of queries that see it. The weights are made again from the
//! logsumexp; `dV += P^T dO`, `dP = dO V^T`, `dS = P (dP - delta)`, `dK += dS^T Q`, `dQ += dS K`.
use super::forward::padded;
use super::rows::{AddRows, Deltas, MaskAt, RandomAt, Strip, Unroll};
use super::*;
use crate::alloc;
use crate::parallel::{abandoned, for_each};
use crate::simd;
use core::ops::Range;

/// Tasks that a call is cut into where it has fewer heads: by shape, since the cuts show in the bits of dQ.
const TASKS: usize = 16;
/// Tiles of keys that a task has at least.
const LEAST_TILES: usize = 2;
/// What keys, values and their gradients of tiles that are treated together may take: queries are read once for all of them.
const TOGETHER_BYTES: usize = 192 << 10;
/// Most such tiles.
const TOGETHER: usize = 4;

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
    /// Where the chunks of tiles of keys begin, and the end of the last.
    cuts: &'a [usize],
    copy: Copies,
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
    /// Tiles of keys that are treated together.
    together: usize,
}

impl<T: Real> Work<T> {
    fn new(p: &Attention, t: &Tiles<T>, copy: &Copies) -> Self {
        let (dp, dvp) = (padded(p.d, t.keys.nr), padded(p.dv, t.values.nr));
        let tile = TILE * (p.d + p.dv + 2 * dp + dvp) * size_of::<T>();
        let mut w = Work {
            buffer: Buffer::new(0),
            dp,
            dvp,
            d: p.d,
            dv: p.dv,
            tq: p.tq.next_multiple_of(16),
            together: (TOGETHER_BYTES / tile.max(1)).clamp(1, TOGETHER),
        };
        let end = w.queries() as usize - w.weights() as usize;
        let copies =
            if copy.queries { w.tq * dp } else { 0 } + if copy.douts { w.tq * dvp } else { 0 };
        w.buffer = Buffer::new(end / size_of::<T>() + copies);
        w
    }
    /// Scores, then weights, (QUERIES, LD).
    fn weights(&self) -> *mut T {
        self.buffer.ptr()
    }
    /// Gradients of the weights, then of the scores, (QUERIES, LD).
    fn slopes(&self) -> *mut T {
        self.weights().wrapping_add(QUERIES * LD)
    }
    /// Keys of the `i`-th tile of those together, transposed.
    fn keys_t(&self, i: usize) -> *mut T {
        self.slopes().wrapping_add(QUERIES * LD + i * TILE * self.d)
    }
    /// Values of a tile, transposed.
    fn values_t(&self, i: usize) -> *mut T {
        self.keys_t(self.together).wrapping_add(i * TILE * self.dv)
    }
    /// Keys of a tile as padded rows.
    fn keys(&self, i: usize) -> *mut T {
        self.values_t(self.together)
            .wrapping_add(i * TILE * self.dp)
    }
    /// Gradient of the keys of a tile, (TILE, dp).
    fn dk(&self, i: usize) -> *mut T {
        self.keys(self.together).wrapping_add(i * TILE * self.dp)
    }
    /// Gradient of the values of a tile, (TILE, dvp).
    fn dv(&self, i: usize) -> *mut T {
        self.dk(self.together).wrapping_add(i * TILE * self.dvp)
    }
    /// Logsumexp in base 2, (tq,).
    fn lse2(&self) -> *mut T {
        self.dv(self.together)
    }
    /// `scale sum(dout * out)`, (tq,).
    fn delta(&self) -> *mut T {
        self.lse2().wrapping_add(self.tq)
    }
    /// Queries of a head as padded rows, (tq, dp), where they are copied.
    fn queries(&self) -> *mut T {
        self.delta().wrapping_add(self.tq)
    }
}

/// Which rows a call copies: those that are read as the right factor of a product, and that end within a panel or are far
/// apart, so that they share few places of the first-level cache.
struct Copies {
    queries: bool,
    keys: bool,
    douts: bool,
}

/// One head against the keys of a chunk.
struct Head<T> {
    b: usize,
    h: usize,
    q: Source<T>,
    dout: Source<T>,
    /// Rows of dQ.
    dq: Option<(*mut T, usize)>,
    /// The tile of keys whose products begin all rows of dQ; none if they are zeros from the start.
    begins: usize,
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

    /// The rows of dQ that a chunk has a share in: all of the first, which is the output itself.
    fn rows(&self, chunk: usize) -> (usize, usize) {
        if chunk == 0 {
            return (0, self.p.tq);
        }
        let (from, to) = (self.cuts[chunk] * TILE, self.cuts[chunk + 1] * TILE);
        let keys = (from, to.min(self.p.tk).saturating_sub(from));
        self.p.viewers(keys, (0, self.p.tq))
    }

    /// One head of queries against the keys of one chunk. `first`: of all heads that share the keys.
    fn head(&self, (b, h): (usize, usize), chunk: usize, first: bool, w: &Work<T>) {
        let (p, t) = (self.p, &self.tiles);
        let row = (b * p.heads + h) * p.tq;
        let rows_of = |x: &Heads<'_, T>, h: usize| Source {
            p: x.at(b, h, 0),
            rs: x.strides[2],
        };
        let (mut q, mut dout, out) = (
            rows_of(&self.q, h),
            rows_of(&self.dout, h),
            rows_of(&self.out, h),
        );
        let mut room = w.queries();
        let mut copy = |rows: &mut Source<T>, d: usize, ld: usize| {
            // SAFETY: all rows exist, and the workspace has room for tq of each that is copied.
            unsafe { copy_rows(t.isa, *rows, p.tq, d, (room, ld)) };
            *rows = Source {
                p: room,
                rs: ld as isize,
            };
            room = room.wrapping_add(w.tq * ld);
        };
        if self.copy.queries {
            copy(&mut q, p.d, w.dp);
        }
        if self.copy.douts {
            copy(&mut dout, p.dv, w.dvp);
        }
        let deltas = Deltas {
            rows: p.tq,
            dv: p.dv,
            out: out.p,
            out_rs: out.rs,
            dout: dout.p,
            dout_rs: dout.rs,
            lse: self.lse[row..].as_ptr(),
            scale: T::from_f64(p.scale),
            delta: w.delta(),
            lse2: w.lse2(),
        };
        dispatch_on(t.isa, deltas);
        let dq = self.dq(b, h, chunk);
        let (from, last) = (self.cuts[chunk], self.cuts[chunk + 1]);
        // Where every query sees the first key of the chunk, its first tile begins all rows of dQ.
        let len = p.keys(self.lengths, b);
        let all = from * TILE < len && p.viewers((from * TILE, 1), (0, p.tq)) == (0, p.tq);
        if let (Some((dq, rs)), false) = (dq, all) {
            let (lo, hi) = self.rows(chunk);
            for i in lo..hi {
                // SAFETY: a row of dQ is d elements, and belongs to this task.
                unsafe { core::slice::from_raw_parts_mut(dq.wrapping_add(i * rs), p.d) }
                    .fill(T::ZERO);
            }
        }
        let begins = if all { from } else { usize::MAX };
        let head = Head {
            b,
            h,
            q,
            dout,
            dq,
            begins,
        };
        for j in (from..last).step_by(w.together) {
            let tiles = j..last.min(j + w.together);
            if !self.keys(&head, tiles, first, w) {
                return;
            }
        }
    }

    /// One head of queries against some tiles of keys. False when the call is being abandoned.
    fn keys(&self, head: &Head<T>, tiles: Range<usize>, first: bool, w: &Work<T>) -> bool {
        let (p, t) = (self.p, &self.tiles);
        let (b, hk) = (head.b, head.h / p.group());
        let len = p.keys(self.lengths, b);
        let log2 = T::from_f64(p.scale * core::f64::consts::LOG2_E);
        let (mut keys, mut viewers) = (
            [Source {
                p: core::ptr::null(),
                rs: 0,
            }; TOGETHER],
            [(0, 0); TOGETHER],
        );
        for (i, j) in tiles.clone().enumerate() {
            let j0 = j * TILE;
            let n = TILE.min(len.saturating_sub(j0));
            if n == 0 {
                continue;
            }
            viewers[i] = p.viewers((j0, n), (0, p.tq));
            if viewers[i].0 >= viewers[i].1 {
                continue;
            }
            // SAFETY: n keys and values from j0 on exist.
            unsafe {
                // Scores come out in base 2, and gradients of scores with the factor that both dQ and dK have.
                t.pack(&self.k, (b, hk, j0), (n, p.d), log2, w.keys_t(i));
                t.pack(
                    &self.v,
                    (b, hk, j0),
                    (n, p.dv),
                    T::from_f64(p.scale),
                    w.values_t(i),
                );
            }
            keys[i] = Source {
                p: self.k.at(b, hk, j0),
                rs: self.k.strides[2],
            };
            if self.copy.keys {
                // SAFETY: as above.
                unsafe { copy_rows(t.isa, keys[i], n, p.d, (w.keys(i), w.dp)) };
                keys[i] = Source {
                    p: w.keys(i),
                    rs: w.dp as isize,
                };
            }
        }
        let seen = viewers.iter().filter(|v| v.0 < v.1);
        let from = seen.clone().map(|v| v.0).min().unwrap_or(0);
        let to = seen.map(|v| v.1).max().unwrap_or(0);
        // Whether the tile's gradients hold a sum already.
        let mut begun = [false; TOGETHER];
        for i0 in (from / QUERIES * QUERIES..to).step_by(QUERIES) {
            let rows = QUERIES.min(p.tq - i0);
            for (i, j) in tiles.clone().enumerate() {
                if viewers[i].0 >= i0 + rows || viewers[i].1 <= i0 {
                    continue;
                }
                let n = TILE.min(len - j * TILE);
                if abandoned((2 * rows * n * (3 * p.d + 2 * p.dv)) as f64) {
                    return false;
                }
                self.tile(
                    head,
                    (i0, rows),
                    (j * TILE, n),
                    (i, keys[i]),
                    w,
                    &mut begun[i],
                );
            }
        }
        for (i, j) in tiles.enumerate() {
            let rows = TILE.min(p.tk - j * TILE);
            // Keys beyond the length have no part in any product.
            let known = if begun[i] {
                TILE.min(len.saturating_sub(j * TILE))
            } else {
                0
            };
            // SAFETY: the workspace's own rows.
            unsafe {
                core::slice::from_raw_parts_mut(w.dk(i), TILE * w.dp)[known * w.dp..].fill(T::ZERO);
                core::slice::from_raw_parts_mut(w.dv(i), TILE * w.dvp)[known * w.dvp..]
                    .fill(T::ZERO);
            }
            let write = |to: Option<Rows<T>>, x: *mut T, (ldx, d): (usize, usize)| {
                let Some(to) = to else { return };
                let add = AddRows {
                    x,
                    ldx,
                    rows,
                    d,
                    out: to.at(b, hk, j * TILE),
                    rs: to.strides[2],
                    add: !first,
                };
                dispatch_on(t.isa, add);
            };
            write(self.dk, w.dk(i), (w.dp, p.d));
            write(self.dv, w.dv(i), (w.dvp, p.dv));
        }
        true
    }

    /// One tile of queries against one tile of keys, the `slot`-th of those together.
    fn tile(
        &self,
        &Head {
            b,
            h,
            q,
            dout,
            dq,
            begins,
        }: &Head<T>,
        (i0, rows): (usize, usize),
        (j0, n): (usize, usize),
        (slot, keys): (usize, Source<T>),
        w: &Work<T>,
        begun: &mut bool,
    ) {
        let (p, t) = (self.p, &self.tiles);
        let row = (b * p.heads + h) * p.tq + i0;
        let groups = (p.pitch() / GROUP) as u64;
        let nr = t.scores.nr;
        let sight = Sight::new(p, t, (i0, rows), (j0, n), p.keys(self.lengths, b));
        let seen = sight.strips().iter().filter(|s| s.from < s.to);
        let scores = Product {
            a_rs: q.rs,
            a_ks: 1,
            b: w.keys_t(slot).cast_const(),
            b_ks: nr as isize,
            step: p.d * nr,
            ldc: LD,
            cols: n.next_multiple_of(nr),
            add: false,
        };
        let products = Product {
            a_rs: dout.rs,
            b: w.values_t(slot),
            step: p.dv * nr,
            ..scores
        };
        let part = |s: &Seen, k: usize, a: Source<T>, c: *mut T| Part {
            rows: s.rows,
            k,
            a: a.row(i0 + s.row),
            b: 0,
            c: c.wrapping_add(s.row * LD),
            panels: (s.columns.0 / nr, s.columns.1.div_ceil(nr)),
        };
        // SAFETY: queries and gradients of outputs have these rows; keys and values were packed up to n, and columns
        // beyond the keys are never looked at; the rows of tiles are LD apart.
        unsafe {
            let parts = seen.clone().map(|s| part(s, p.d, q, w.weights()));
            scores.run(&t.scores, parts);
            let parts = seen.clone().map(|s| part(s, p.dv, dout, w.slopes()));
            products.run(&t.scores, parts);
        }
        for (run, keys) in sight.runs() {
            let (weights, slopes) = (
                w.weights().wrapping_add(run.row * LD),
                w.slopes().wrapping_add(run.row * LD),
            );
            if run.from >= run.to {
                // SAFETY: the rows of this strip.
                unsafe {
                    core::slice::from_raw_parts_mut(weights, run.rows * LD).fill(T::ZERO);
                    core::slice::from_raw_parts_mut(slopes, run.rows * LD).fill(T::ZERO);
                }
                continue;
            }
            let random = p.dropout.map(|dropout| RandomAt {
                dropout,
                group: (row + run.row) as u64 * groups + (j0 / GROUP) as u64,
                groups,
            });
            let unroll = Unroll {
                strip: Strip {
                    rows: run.rows,
                    from: run.columns.0,
                    to: run.columns.1,
                    keys: n,
                    seen: keys,
                    mask: MaskAt::new(&self.mask, b, h, i0 + run.row, j0),
                    random,
                    s: weights,
                },
                dp: slopes,
                lse2: w.lse2().wrapping_add(i0 + run.row),
                delta: w.delta().wrapping_add(i0 + run.row),
            };
            dispatch_on(t.isa, unroll);
        }
        if let Some((dq, rs)) = dq {
            let product = Product {
                a_rs: LD as isize,
                a_ks: 1,
                b: keys.p,
                b_ks: keys.rs,
                step: t.keys.nr,
                ldc: rs,
                cols: p.d,
                add: j0 != begins.saturating_mul(TILE),
            };
            let parts = seen.map(|s| Part {
                rows: s.rows,
                k: s.to - s.from,
                a: w.slopes().wrapping_add(s.row * LD + s.from).cast_const(),
                b: s.from as isize * keys.rs,
                c: dq.wrapping_add((i0 + s.row) * rs),
                panels: (0, usize::MAX),
            });
            // SAFETY: keys up to n exist as whole panels; these rows of dQ are this task's.
            unsafe { product.run(&t.keys, parts) };
        }
        // Now the keys are the rows: strips of them, and the queries that see them.
        let mut viewers = [(0, 0, 0, 0); STRIPS];
        let mut count = 0;
        for (c0, rows_of) in strips(n, t.mr) {
            let (lo, hi) = p.viewers((j0 + c0, rows_of), (i0, i0 + rows));
            viewers[count] = (c0, rows_of, lo - i0, hi - i0);
            count += usize::from(lo < hi);
        }
        let viewers = &viewers[..count];
        if !*begun && count < strips(n, t.mr).count() {
            // Not every key gets a first product here.
            // SAFETY: the workspace's own rows.
            unsafe {
                core::slice::from_raw_parts_mut(w.dk(slot), TILE * w.dp).fill(T::ZERO);
                core::slice::from_raw_parts_mut(w.dv(slot), TILE * w.dvp).fill(T::ZERO);
            }
            *begun = true;
        }
        let sums = |b: Source<T>, to: (*mut T, usize), from: *const T, kernels: &Kernels<T>| {
            let (c, ldc) = to;
            let product = Product {
                a_rs: 1,
                a_ks: LD as isize,
                b: b.row(i0),
                b_ks: b.rs,
                step: kernels.nr,
                ldc,
                cols: ldc,
                add: *begun,
            };
            let parts = viewers.iter().map(|&(c0, rows, lo, hi)| Part {
                rows,
                k: hi - lo,
                a: from.wrapping_add(lo * LD + c0),
                b: lo as isize * b.rs,
                c: c.wrapping_add(c0 * ldc),
                panels: (0, usize::MAX),
            });
            // SAFETY: weights and slopes have a row for each query of the tile and columns up to TILE; queries and
            // gradients of outputs are rows of whole panels, as are the sums.
            unsafe { product.run(kernels, parts) };
        };
        if self.dv.is_some() {
            sums(dout, (w.dv(slot), w.dvp), w.weights(), &t.values);
        }
        if self.dk.is_some() {
            sums(q, (w.dk(slot), w.dp), w.slopes(), &t.keys);
        }
        *begun = true;
    }
}

/// Where chunks of tiles of keys begin, so that each has about the same number of pairs of queries and keys; and the end of the
/// last. By shape alone: lengths have no part in it.
fn cuts(p: &Attention, tiles: usize, chunks: usize) -> Vec<usize> {
    let work = |j: usize| {
        let n = TILE.min(p.tk - j * TILE);
        let (lo, hi) = p.viewers((j * TILE, n), (0, p.tq));
        // A tile costs something even if nobody sees it.
        hi - lo + 1
    };
    let total: usize = (0..tiles).map(work).sum();
    let (mut cuts, mut done) = (alloc::vec(chunks + 1), 0);
    for j in 0..tiles {
        // A chunk begins where those before have had their share.
        while cuts.len() < chunks && done * chunks >= cuts.len() * total {
            cuts.push(j);
        }
        done += work(j);
    }
    while cuts.len() <= chunks {
        cuts.push(tiles);
    }
    cuts
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
    let chunks = TASKS.div_ceil(pairs).min(most);
    let cuts = cuts(p, key_tiles, chunks);
    let parts = if dq.is_some() { chunks - 1 } else { 0 };
    let query_rows = p.batch * p.heads * p.tq;
    let tiles = Tiles::new(simd::isa(), p.d, p.dv);
    let copied =
        |x: &Heads<'_, T>, d: usize, nr: usize| !d.is_multiple_of(nr) || x.strides[2] != d as isize;
    let copy = Copies {
        queries: dk.is_some() && copied(&q, p.d, tiles.keys.nr),
        keys: dq.is_some() && copied(&k, p.d, tiles.keys.nr),
        douts: dv.is_some() && copied(&dout, p.dv, tiles.values.nr),
    };
    let f = Backward {
        p,
        tiles,
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
        cuts: &cuts,
        copy,
        partial: Buffer::new(parts * query_rows * p.d),
    };
    let group = p.group();
    for_each(pairs * chunks, p.cost::<T>(5.0), &|task| {
        let (pair, chunk) = (task / chunks, task % chunks);
        let (b, hk) = (pair / p.kv_heads, pair % p.kv_heads);
        let work = Work::new(p, &f.tiles, &f.copy);
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
        for chunk in 1..chunks {
            let (lo, hi) = f.rows(chunk);
            let (i0, end) = (i0.max(lo), (i0 + QUERIES).min(hi));
            if i0 >= end {
                continue;
            }
            let (Some((x, ldx)), Some(dq)) = (f.dq(b, h, chunk), f.dq) else {
                return;
            };
            let add = AddRows {
                x: x.wrapping_add(i0 * ldx),
                ldx,
                rows: end - i0,
                d: p.d,
                out: dq.at(b, h, i0),
                rs: dq.strides[2],
                add: true,
            };
            dispatch_on(f.tiles.isa, add);
        }
    });
}
