//! The forward pass: tiles of queries, each against its tiles of keys in order.
use super::rows::{Finish, MaskAt, Online, RandomAt, Scores, Strip};
use super::*;
use crate::gemm::Mat;
use crate::gemm::pack::pack_b;
use crate::parallel::{abandoned, for_each, num_threads};
use crate::simd::{self, LANES16};
use core::ops::Range;

/// Queries per task: keys and values of a tile are read from the second-level cache once for all of them.
const ROWS: usize = 64;
const _: () = assert!(ROWS <= QUERIES);

struct Forward<'a, T> {
    p: &'a Attention,
    tiles: Tiles<T>,
    q: Heads<'a, T>,
    k: Heads<'a, T>,
    v: Heads<'a, T>,
    mask: Mask<'a, T>,
    lengths: Option<&'a [i64]>,
    out: Rows<T>,
    lse: SharedMut<T>,
}

/// Columns of a packed row: whole panels.
pub(super) fn padded(n: usize, nr: usize) -> usize {
    n.next_multiple_of(nr)
}

impl<T: Real> Tiles<T> {
    /// Packs `n` rows of `d` from `i` on, transposed and times `factor`: panels `[d][nr]` of columns; room for `TILE * d`.
    ///
    /// # Safety
    /// The rows exist, and nobody else uses `out`.
    pub(super) unsafe fn pack(
        &self,
        rows: &Heads<'_, T>,
        (b, h, i): (usize, usize, usize),
        (n, d): (usize, usize),
        factor: T,
        out: *mut T,
    ) {
        let nr = self.scores.nr;
        let m = Mat {
            data: rows.data,
            offset: rows.index([b, h, i, 0]),
            rs: 1,
            cs: rows.strides[2],
        };
        for (panel, first) in (0..n).step_by(nr).enumerate() {
            let columns = (first, nr.min(n - first));
            // The rows of the next panel.
            for j in first + nr..(first + 2 * nr).min(n) {
                rows::fetch(m.at(0, j), d);
            }
            let out = out.wrapping_add(panel * d * nr);
            // SAFETY: the caller's promise.
            unsafe { pack_b(self.isa, m, (0, d), columns, nr, out) };
        }
        let len = n.next_multiple_of(nr) * d;
        let scale = rows::Scale {
            p: out,
            len,
            factor,
        };
        dispatch_on(self.isa, scale);
    }
}

impl<T: Real> Forward<'_, T> {
    /// What scores are multiplied with, so that they come out in base 2.
    fn factor(&self) -> T {
        T::from_f64(self.p.scale * core::f64::consts::LOG2_E)
    }

    fn key_tiles(&self, b: usize) -> Range<usize> {
        0..self.p.keys(self.lengths, b).div_ceil(TILE)
    }

    /// Keys of some tiles, transposed, and scaled so that scores come out in base 2; tile `j` at `j * TILE * d`.
    fn pack(&self, b: usize, hk: usize, tiles: Range<usize>, out: *mut T) {
        let factor = self.factor();
        let (d, len) = (self.p.d, self.p.keys(self.lengths, b));
        for j in tiles {
            let n = TILE.min(len - j * TILE);
            if abandoned((4 * n * d) as f64) {
                return;
            }
            let out = out.wrapping_add(j * TILE * d);
            // SAFETY: rows up to the length exist; a tile of the buffer belongs to one caller.
            unsafe {
                self.tiles
                    .pack(&self.k, (b, hk, j * TILE), (n, d), factor, out)
            };
        }
    }

    /// The values as rows that whole panels can be read of: in place, or copied to the buffer. Rows far apart are copied
    /// too: they share few places of the first-level cache.
    fn values(&self, b: usize, hk: usize, room: &Buffer<T>) -> Source<T> {
        let (p, nr) = (self.p, self.tiles.values.nr);
        let source = Source {
            p: self.v.at(b, hk, 0),
            rs: self.v.strides[2],
        };
        if room.is_empty() {
            return source;
        }
        let ld = padded(p.dv, nr);
        let len = p.keys(self.lengths, b);
        // SAFETY: rows up to the length exist, and the buffer has tk rows of ld.
        unsafe { copy_rows(self.tiles.isa, source, len, p.dv, (room.ptr(), ld)) };
        Source {
            p: room.ptr(),
            rs: ld as isize,
        }
    }

    /// Room for [`Forward::values`].
    fn value_room(&self) -> usize {
        let (p, nr) = (self.p, self.tiles.values.nr);
        if p.dv.is_multiple_of(nr) && (self.v.strides[2] == p.dv as isize || p.tq < ROWS) {
            0
        } else {
            p.tk * padded(p.dv, nr)
        }
    }

    /// One tile of queries of one head.
    fn queries(
        &self,
        (b, h, tile): (usize, usize, usize),
        keys: *const T,
        values: Source<T>,
        work: &Work<T>,
    ) {
        let (p, t) = (self.p, &self.tiles);
        let i0 = tile * ROWS;
        let rows = ROWS.min(p.tq - i0);
        let ldo = padded(p.dv, t.values.nr);
        let source = Source {
            p: self.q.at(b, h, i0),
            rs: self.q.strides[2],
        };
        // SAFETY: the rows exist; the workspace has room for ROWS of each and is this task's own.
        unsafe {
            core::slice::from_raw_parts_mut(work.l(), rows * LANES16).fill(T::ZERO);
            core::slice::from_raw_parts_mut(work.m(), rows).fill(T::NEG_INFINITY);
        }
        let len = p.keys(self.lengths, b);
        let (lo, hi) = (p.visible(i0, len).0, p.visible(i0 + rows - 1, len).1);
        let row = (b * p.heads + h) * p.tq + i0;
        let groups = (p.pitch() / GROUP) as u64;
        let mut begun = false;
        for j in lo / TILE..hi.div_ceil(TILE).max(lo / TILE) {
            let (j0, n) = (j * TILE, TILE.min(len - j * TILE));
            if abandoned((2 * rows * n * (p.d + p.dv)) as f64) {
                return;
            }
            let sight = Sight::new(p, t, (i0, rows), (j0, n), len);
            let strips = sight.strips().iter().filter(|s| s.from < s.to);
            let nr = t.scores.nr;
            let product = Product {
                a_rs: source.rs,
                a_ks: 1,
                b: keys.wrapping_add(j * TILE * p.d),
                b_ks: nr as isize,
                step: p.d * nr,
                ldc: LD,
                cols: n.next_multiple_of(nr),
                add: false,
            };
            let parts = strips.clone().map(|s| Part {
                rows: s.rows,
                k: p.d,
                a: source.row(s.row),
                b: 0,
                c: work.s().wrapping_add(s.row * LD),
                panels: (s.columns.0 / nr, s.columns.1.div_ceil(nr)),
            });
            if p.tq == 1 {
                let k = Source {
                    p: self.k.at(b, h / p.group(), 0),
                    rs: self.k.strides[2],
                };
                let scores = Scores {
                    q: source.p,
                    keys: k.row(j0),
                    rs: k.rs,
                    n,
                    d: p.d,
                    factor: self.factor(),
                    out: work.s(),
                };
                dispatch_on(t.isa, scores);
            } else {
                // SAFETY: the packed tile has whole panels up to the last key's, whose columns beyond the keys are never
                // looked at; the rows of scores are LD apart.
                unsafe { product.run(&t.scores, parts) };
            }
            for (run, seen) in sight.runs() {
                if run.from >= run.to {
                    continue;
                }
                let random = p.dropout.map(|dropout| RandomAt {
                    dropout,
                    group: (row + run.row) as u64 * groups + (j0 / GROUP) as u64,
                    groups,
                });
                let online = Online {
                    strip: Strip {
                        rows: run.rows,
                        from: run.columns.0,
                        to: run.columns.1,
                        keys: n,
                        seen,
                        mask: MaskAt::new(&self.mask, b, h, i0 + run.row, j0),
                        random,
                        s: work.s().wrapping_add(run.row * LD),
                    },
                    m: work.m().wrapping_add(run.row),
                    l: work.l().wrapping_add(run.row * LANES16),
                    o: work.o().wrapping_add(run.row * ldo),
                    ldo,
                };
                dispatch_on(t.isa, online);
            }
            if !begun && sight.empty() {
                // Not every row of the output gets a first product here.
                // SAFETY: the workspace is this task's own.
                unsafe { core::slice::from_raw_parts_mut(work.o(), rows * ldo).fill(T::ZERO) };
                begun = true;
            }
            let product = Product {
                a_rs: LD as isize,
                a_ks: 1,
                b: values.row(j0),
                b_ks: values.rs,
                step: t.values.nr,
                ldc: ldo,
                cols: ldo,
                add: begun,
            };
            let parts = strips.map(|s| Part {
                rows: s.rows,
                k: s.to - s.from,
                a: work.s().wrapping_add(s.row * LD + s.from),
                b: s.from as isize * values.rs,
                c: work.o().wrapping_add(s.row * ldo),
                panels: (0, usize::MAX),
            });
            // SAFETY: value rows up to the length exist and are whole panels; o has rows of whole panels.
            unsafe { product.run(&t.values, parts) };
            begun = true;
        }
        if !begun {
            // SAFETY: as above.
            unsafe { core::slice::from_raw_parts_mut(work.o(), rows * ldo).fill(T::ZERO) };
        }
        let finish = Finish {
            rows,
            m: work.m(),
            l: work.l(),
            o: work.o(),
            ldo,
            dv: p.dv,
            out: self.out.at(b, h, i0),
            rs: self.out.strides[2],
            lse: self.lse.0.wrapping_add(row),
        };
        dispatch_on(t.isa, finish);
    }
}

/// A task's arrays, one after the other in one buffer.
struct Work<T> {
    buffer: Buffer<T>,
    o: usize,
}

impl<T: Real> Work<T> {
    fn new(p: &Attention, t: &Tiles<T>) -> Self {
        let o = ROWS * padded(p.dv, t.values.nr).next_multiple_of(16);
        Work {
            buffer: Buffer::new(ROWS * LD + o + ROWS * (LANES16 + 1)),
            o,
        }
    }
    /// Scores of a tile, (ROWS, LD).
    fn s(&self) -> *mut T {
        self.buffer.ptr()
    }
    /// Output before it is divided by the sums.
    fn o(&self) -> *mut T {
        self.s().wrapping_add(ROWS * LD)
    }
    /// Sums, (ROWS, 16).
    fn l(&self) -> *mut T {
        self.o().wrapping_add(self.o)
    }
    /// Maxima, (ROWS,).
    fn m(&self) -> *mut T {
        self.l().wrapping_add(ROWS * LANES16)
    }
}

pub(super) fn run<T: Real>(
    p: &Attention,
    q: Heads<'_, T>,
    k: Heads<'_, T>,
    v: Heads<'_, T>,
    mask: Mask<'_, T>,
    lengths: Option<&[i64]>,
    order: Order,
    out: &mut [T],
    lse: &mut [T],
) {
    let f = Forward {
        p,
        tiles: Tiles::new(simd::isa(), p.d, p.dv),
        q,
        k,
        v,
        mask,
        lengths,
        out: Rows::new(out, order, (p.heads, p.tq, p.dv)),
        lse: SharedMut(lse.as_mut_ptr()),
    };
    let cost = p.cost::<T>(2.0);
    let (group, pairs) = (p.group(), p.batch * p.kv_heads);
    let (query_tiles, key_tiles) = (p.tq.div_ceil(ROWS), p.tk.div_ceil(TILE));
    let room = key_tiles * TILE * p.d;
    if query_tiles == 1 || pairs >= 8 * num_threads() {
        // A task is a head of keys with all its queries, and packs for itself.
        for_each(pairs, cost, &|task| {
            let (b, hk) = (task / p.kv_heads, task % p.kv_heads);
            let work = Work::new(p, &f.tiles);
            // One query reads the keys where they lie.
            let packed = Buffer::new(if p.tq == 1 { 0 } else { room });
            if p.tq > 1 {
                f.pack(b, hk, f.key_tiles(b), packed.ptr());
            }
            let copy = Buffer::new(f.value_room());
            let values = f.values(b, hk, &copy);
            for h in hk * group..(hk + 1) * group {
                for tile in 0..query_tiles {
                    f.queries((b, h, tile), packed.ptr(), values, &work);
                }
            }
        });
        return;
    }
    // Few heads: everybody packs, and a task is a tile of queries of one head.
    let packed = Buffer::<T>::new(pairs * room);
    let copies: Vec<Buffer<T>> =
        crate::alloc::collect((0..pairs).map(|_| Buffer::new(f.value_room())));
    for_each(pairs * key_tiles, Cost { flops: 0.0, ..cost }, &|task| {
        let (pair, tile) = (task / key_tiles, task % key_tiles);
        let b = pair / p.kv_heads;
        if f.key_tiles(b).contains(&tile) {
            let out = packed.ptr().wrapping_add(pair * room);
            f.pack(b, pair % p.kv_heads, tile..tile + 1, out);
        }
    });
    let values: Vec<Source<T>> = crate::alloc::collect(
        (0..pairs).map(|pair| f.values(pair / p.kv_heads, pair % p.kv_heads, &copies[pair])),
    );
    let values = SharedSources(&values);
    for_each(p.batch * p.heads * query_tiles, cost, &|task| {
        let (head, tile) = (task / query_tiles, task % query_tiles);
        // Under a causal mask the last tiles have the most to do: they begin.
        let tile = query_tiles - 1 - tile;
        let (b, h) = (head / p.heads, head % p.heads);
        let pair = b * p.kv_heads + h / group;
        let work = Work::new(p, &f.tiles);
        let keys = packed.ptr().wrapping_add(pair * room);
        f.queries((b, h, tile), keys, values.get(pair), &work);
    });
}

/// Addresses of rows that are only read.
struct SharedSources<'a, T>(&'a [Source<T>]);
// SAFETY: what they point to is shared with all threads already, as a slice or a buffer, and only read.
unsafe impl<T: Sync> Sync for SharedSources<'_, T> {}
impl<T> SharedSources<'_, T> {
    fn get(&self, i: usize) -> Source<T>
    where
        T: Copy,
    {
        self.0[i]
    }
}
