//! Scaled dot-product attention, `softmax(scale Q K^T + mask) V`, forward and backward, in memory linear in the lengths.
//!
//! Scores exist for a tile of queries and [`TILE`] keys at a time. `forward` keeps a running maximum and sum per query
//! (online softmax); `backward` makes the weights again from the stored logsumexp. Tiles that no query of a strip sees
//! (causal, window, lengths) are skipped, and those at the edge are cut to what is seen. `rows` has the vector bodies. All
//! products are bands of tiles, `gemm::band`.
//!
//! A query's result is a chain over tiles of keys in order, and a key's gradient one over heads and tiles of queries in
//! order; the gradient of queries is summed over chunks of keys that follow from the shape. So the bits do not depend on
//! threads or strides. Dropout stores no mask: the weight of query row `r` (of all batch entries and heads) and key `j` is kept by
//! word `r * pitch + j` of the stream, [`Attention::pitch`] being the number of keys rounded up to whole groups of words.
mod backward;
mod forward;
mod rows;
#[cfg(test)]
mod tests;

use crate::element::{Number, Real};
use crate::gemm::band::Band;
use crate::gemm::buffer::Buffer;
use crate::gemm::kernel::{Kernels, select, strips};
use crate::layout::{check_bounds, numel};
use crate::parallel::{Cost, SharedMut};
use crate::rng::GROUP;
use crate::simd::{Isa, dispatch_on};

/// Keys that are looked at together, whole groups of random words: the more there are, the longer the chains of weights times
/// values and of slopes times keys, and the fewer tiles have to be begun and ended.
const TILE: usize = 2 * GROUP;
/// Queries that are, at most.
const QUERIES: usize = 128;
/// Distance of rows of scores: not a power of two, so that a column of them has places in all of the first-level cache.
const LD: usize = TILE + 16;

/// Sizes and rules of one call.
///
/// Query `i` stands at position `i + offset` among the keys. It sees keys from `left` positions before that to `right`
/// positions after it (`None`: all), and no key from its batch entry's length on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Entries of the batch.
    pub batch: usize,
    /// Heads of queries and outputs.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`. Head `h` uses keys of head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Queries.
    pub tq: usize,
    /// Keys and values.
    pub tk: usize,
    /// Size of a query and of a key.
    pub d: usize,
    /// Size of a value.
    pub dv: usize,
    /// Factor of the scores.
    pub scale: f64,
    /// Keys before a query's position that it sees.
    pub left: Option<usize>,
    /// Keys after a query's position that it sees; 0 is causal.
    pub right: Option<usize>,
    /// Position of the first query among the keys.
    pub offset: isize,
    /// Weights set to zero at random.
    pub dropout: Option<Dropout>,
}

/// Inverted dropout of the weights: each is 0 with probability `p`, the others are divided by `1 - p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of a zero.
    pub p: f64,
    /// Seed of the random words.
    pub seed: u64,
    /// Their stream.
    pub stream: u64,
}

impl Dropout {
    /// Words from this on keep a weight.
    pub(crate) fn keep_from(&self) -> u64 {
        (self.p * 4_294_967_296.0).ceil() as u64
    }
    /// What a weight that is kept is multiplied with.
    pub(crate) fn factor(&self) -> f64 {
        if self.p < 1.0 {
            1.0 / (1.0 - self.p)
        } else {
            0.0
        }
    }
}

impl Attention {
    /// Keys `lo .. hi` of `0 .. len` that query `i` sees.
    pub fn visible(&self, i: usize, len: usize) -> (usize, usize) {
        let at = i as isize + self.offset;
        let least = |n: isize| (n.max(0) as usize).min(len);
        let lo = self
            .left
            .map_or(0, |l| least(at.saturating_sub_unsigned(l)));
        let hi = self.right.map_or(len, |r| {
            least(at.saturating_add_unsigned(r).saturating_add(1))
        });
        (lo, hi.max(lo))
    }
    /// Queries `lo .. hi` of `from .. to` that see some key of the `count` from `key` on, all of them existing.
    fn viewers(&self, (key, count): (usize, usize), (from, to): (usize, usize)) -> (usize, usize) {
        let key = key as isize - self.offset;
        let inside = |n: isize| (n.max(0) as usize).clamp(from, to);
        let lo = self
            .right
            .map_or(from, |r| inside(key.saturating_sub_unsigned(r)));
        let hi = self.left.map_or(to, |l| {
            inside(
                key.saturating_add_unsigned(count)
                    .saturating_add_unsigned(l),
            )
        });
        (lo, hi.max(lo))
    }
    /// Random words per row of weights.
    pub fn pitch(&self) -> usize {
        self.tk.next_multiple_of(GROUP)
    }
    /// Query heads per head of keys.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }
    /// Number of keys of a batch entry.
    pub(crate) fn keys(&self, lengths: Option<&[i64]>, b: usize) -> usize {
        lengths.map_or(self.tk, |l| (l[b].max(0) as usize).min(self.tk))
    }
    /// Estimated work of `products` matrix products per pair of query and key.
    fn cost<T>(&self, products: f64) -> Cost {
        let seen = |i: usize| {
            let (lo, hi) = self.visible(i, self.tk);
            (hi - lo) as f64
        };
        let pairs: f64 = if self.left.is_none() && self.right.is_none() {
            self.tq as f64 * self.tk as f64
        } else {
            // One query in a tile stands for all of it.
            let tiles = (0..self.tq).step_by(QUERIES);
            tiles
                .map(|i| seen((i + QUERIES / 2).min(self.tq - 1)) * QUERIES.min(self.tq - i) as f64)
                .sum()
        };
        let heads = (self.batch * self.heads) as f64;
        let rows = heads * (self.tq + self.tk) as f64;
        Cost {
            flops: heads * pairs * (products * (self.d + self.dv) as f64 + 30.0),
            bytes: rows * ((self.d + self.dv) * size_of::<T>()) as f64 * products,
        }
    }
}

/// A strided operand `(batch, heads, rows, columns)`: element `(b, h, i, j)` is `data[offset + (b, h, i, j) . strides]`.
/// Strides are in elements; 0 broadcasts an axis.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a, T> {
    /// The whole storage.
    pub data: &'a [T],
    /// Index of the first element.
    pub offset: usize,
    /// One stride per axis.
    pub strides: [isize; 4],
}

impl<'a, T> Heads<'a, T> {
    /// A C-ordered operand of `(.., heads, rows, columns)`.
    pub fn dense(data: &'a [T], [heads, rows, columns]: [usize; 3]) -> Self {
        let (r, h) = (columns as isize, (rows * columns) as isize);
        Heads {
            data,
            offset: 0,
            strides: [h * heads as isize, h, r, 1],
        }
    }
    /// Where element `at` is.
    pub(crate) fn index(&self, at: [usize; 4]) -> usize {
        let steps = at.iter().zip(self.strides).map(|(&i, s)| i as isize * s);
        self.offset.wrapping_add_signed(steps.sum())
    }
    fn at(&self, b: usize, h: usize, i: usize) -> *const T {
        self.data.as_ptr().wrapping_add(self.index([b, h, i, 0]))
    }
    fn check(&self, shape: [usize; 4], unit: bool) {
        check_bounds(self.data.len(), self.offset, &shape, &self.strides);
        assert!(
            !unit || numel(&shape) == 0 || shape[3] == 1 || self.strides[3] == 1,
            "rows of queries, keys and values must be dense"
        );
    }
}

/// What is added to the scores or taken away from them, besides what [`Attention`] says; `(batch, heads, tq, tk)`.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a, T> {
    /// Nothing.
    None,
    /// Scores are kept where this is not 0.
    Keep(Heads<'a, u8>),
    /// Added to the scores.
    Add(Heads<'a, T>),
}

/// In which order an output `(batch, heads, rows, columns)` lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `(batch, heads, rows, columns)`.
    HeadsFirst,
    /// `(batch, rows, heads, columns)`: heads side by side are one row, as layers want them.
    RowsFirst,
}

impl Order {
    /// Strides of batch, heads and rows.
    pub fn strides(self, heads: usize, rows: usize, columns: usize) -> [usize; 3] {
        match self {
            Order::HeadsFirst => [heads * rows * columns, rows * columns, columns],
            Order::RowsFirst => [rows * heads * columns, columns, heads * columns],
        }
    }
}

/// An output that tiles write rows of.
#[derive(Clone, Copy)]
struct Rows<T> {
    p: SharedMut<T>,
    strides: [usize; 3],
}

impl<T> Rows<T> {
    fn new(out: &mut [T], order: Order, (heads, rows, columns): (usize, usize, usize)) -> Self {
        Rows {
            p: SharedMut(out.as_mut_ptr()),
            strides: order.strides(heads, rows, columns),
        }
    }
    fn at(&self, b: usize, h: usize, i: usize) -> *mut T {
        let [sb, sh, si] = self.strides;
        self.p.0.wrapping_add(b * sb + h * sh + i * si)
    }
}

/// Rows that are read as the right factor of a product.
#[derive(Clone, Copy)]
struct Source<T> {
    p: *const T,
    /// Distance of rows.
    rs: isize,
}

impl<T> Source<T> {
    fn row(&self, i: usize) -> *const T {
        self.p.wrapping_offset(i as isize * self.rs)
    }
}

/// The register tiles of a call.
struct Tiles<T> {
    isa: Isa,
    /// For products with [`TILE`] columns, the scores.
    scores: Kernels<T>,
    /// For products with `d` columns.
    keys: Kernels<T>,
    /// For products with `dv` columns.
    values: Kernels<T>,
    /// Rows per strip, which all of them can do.
    mr: usize,
    /// Scores are computed in whole multiples of this: panels, and the sixteen lanes of a sum.
    grain: usize,
}

impl<T: Real> Tiles<T> {
    fn new(isa: Isa, d: usize, dv: usize) -> Self {
        // Half a group is wide enough for the registers, and leaves more of a triangle out than a whole one.
        let of = |n: usize| select::<T>(isa, n.min(GROUP / 2));
        let (scores, keys, values) = (of(TILE), of(d), of(dv));
        Tiles {
            isa,
            mr: scores.mr.min(keys.mr).min(values.mr),
            grain: scores.nr.max(16),
            scores,
            keys,
            values,
        }
    }
    /// Columns of the scores to compute so that `from .. to` are among them.
    fn columns(&self, from: usize, to: usize) -> (usize, usize) {
        let g = self.grain;
        (from / g * g, to.next_multiple_of(g).min(TILE))
    }
}

/// Copies `rows` rows of `d` elements to rows of `ld`; zeros behind them.
///
/// # Safety
/// The rows exist, and `out` has room that nobody else uses.
unsafe fn copy_rows<T: Real>(
    isa: Isa,
    from: Source<T>,
    rows: usize,
    d: usize,
    (out, ld): (*mut T, usize),
) {
    let (from, rs) = (from.p, from.rs);
    dispatch_on(
        isa,
        rows::Copy {
            from,
            rs,
            rows,
            d,
            out,
            ld,
        },
    );
}

/// Strips of rows that a tile has at most.
const STRIPS: usize = TILE / 4;

/// What the products of a tile's strips have in common: `C (+)= A B`, panel after panel; panel `i` of B begins `i * step`
/// elements in.
#[derive(Clone, Copy)]
struct Product<T> {
    a_rs: isize,
    a_ks: isize,
    b: *const T,
    b_ks: isize,
    step: usize,
    ldc: usize,
    /// Columns of C.
    cols: usize,
    add: bool,
}

/// A strip's part of a [`Product`].
#[derive(Clone, Copy)]
struct Part<T> {
    rows: usize,
    k: usize,
    a: *const T,
    /// Where its rows of B begin, after those of the product.
    b: isize,
    c: *mut T,
    /// The panels that it wants.
    panels: (usize, usize),
}

impl<T: Real> Product<T> {
    /// Strip after strip: B, a tile's rows and columns, stays in the first-level cache for all of them.
    ///
    /// # Safety
    /// As [`Band`] says; `nr` columns of every panel of B may be read.
    #[inline]
    unsafe fn run(&self, kernels: &Kernels<T>, parts: impl Iterator<Item = Part<T>>) {
        let nr = kernels.nr;
        let panels = self.cols.div_ceil(nr);
        for part in parts {
            let (first, last) = (part.panels.0, part.panels.1.min(panels));
            if first >= last {
                continue;
            }
            let band = Band {
                k: part.k,
                a: part.a,
                a_rs: self.a_rs,
                a_ks: self.a_ks,
                b: self
                    .b
                    .wrapping_add(first * self.step)
                    .wrapping_offset(part.b),
                b_ks: self.b_ks,
                step: self.step,
                c: part.c.wrapping_add(first * nr),
                ldc: self.ldc,
                cols: (last * nr).min(self.cols) - first * nr,
                load_c: self.add,
                ..Band::none()
            };
            // SAFETY: the caller's promise.
            unsafe { kernels.run_band(part.rows, &band) };
        }
    }
}

/// A strip of queries and the keys of a tile that it sees.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// First query in its tile, and how many.
    row: usize,
    rows: usize,
    /// Keys that one of them sees: none if they are the same.
    from: usize,
    to: usize,
    /// Columns of the scores that are computed.
    columns: (usize, usize),
}

/// What a tile of queries sees of a tile of keys.
struct Sight {
    count: usize,
    strips: [Seen; STRIPS],
    /// Every query sees every column that is computed.
    open: bool,
    /// Keys that each query sees; only where it is not open.
    keys: [(usize, usize); QUERIES],
}

impl Sight {
    /// Queries `i0 .. i0 + rows` and keys `j0 .. j0 + n`, all of them below the length `len`.
    fn new<T: Real>(
        p: &Attention,
        t: &Tiles<T>,
        (i0, rows): (usize, usize),
        (j0, n): (usize, usize),
        len: usize,
    ) -> Self {
        let mut sight = Sight {
            count: 0,
            strips: [Seen::default(); STRIPS],
            open: false,
            keys: [(0, 0); QUERIES],
        };
        // Both ends move on from query to query.
        sight.open = n.is_multiple_of(t.grain)
            && p.visible(i0, len).1 >= j0 + n
            && p.visible(i0 + rows - 1, len).0 <= j0;
        for (row, rows) in strips(rows, t.mr) {
            let (mut from, mut to, mut columns) = (0, n, (0, n));
            if !sight.open {
                for (r, keys) in sight.keys[row..row + rows].iter_mut().enumerate() {
                    let (lo, hi) = p.visible(i0 + row + r, len);
                    *keys = (lo.clamp(j0, j0 + n) - j0, hi.clamp(j0, j0 + n) - j0);
                }
                (from, to) = (sight.keys[row].0, sight.keys[row + rows - 1].1);
                to = to.max(from);
                columns = t.columns(from, to);
            }
            sight.strips[sight.count] = Seen {
                row,
                rows,
                from,
                to,
                columns,
            };
            sight.count += 1;
        }
        sight
    }

    /// Whether some strip sees nothing.
    fn empty(&self) -> bool {
        self.strips().iter().any(|s| s.from >= s.to)
    }

    fn strips(&self) -> &[Seen] {
        &self.strips[..self.count]
    }

    /// Runs of queries that are treated together: all of an open tile, the strips of another.
    fn runs(&self) -> impl Iterator<Item = (Seen, &[(usize, usize)])> {
        let first = self.strips[0];
        let rows = self.strips().iter().map(|s| s.rows).sum();
        let whole = self.open.then_some((Seen { rows, ..first }, &[][..]));
        let each = if self.open { &[] } else { self.strips() };
        let each = each.iter().map(|s| (*s, &self.keys[s.row..s.row + s.rows]));
        whole.into_iter().chain(each)
    }
}

/// Checks what both directions are given.
fn check<T: Number>(
    p: &Attention,
    q: &Heads<'_, T>,
    k: &Heads<'_, T>,
    v: &Heads<'_, T>,
    mask: &Mask<'_, T>,
    lengths: Option<&[i64]>,
) {
    assert!(
        p.heads == p.group() * p.kv_heads,
        "{} heads cannot share {} heads of keys",
        p.heads,
        p.kv_heads
    );
    q.check([p.batch, p.heads, p.tq, p.d], true);
    k.check([p.batch, p.kv_heads, p.tk, p.d], true);
    v.check([p.batch, p.kv_heads, p.tk, p.dv], true);
    let all = [p.batch, p.heads, p.tq, p.tk];
    match mask {
        Mask::None => (),
        Mask::Keep(m) => m.check(all, false),
        Mask::Add(m) => m.check(all, false),
    }
    if let Some(lengths) = lengths {
        assert_eq!(lengths.len(), p.batch, "one length per batch entry");
    }
}

/// `out = softmax(scale q k^T + mask) v` for every head, and the logsumexp of every query's scores.
///
/// `q (batch, heads, tq, d)`, `k (batch, kv_heads, tk, d)`, `v (batch, kv_heads, tk, dv)`, `out (batch, heads, tq, dv)` as
/// `order` says, `lse (batch, heads, tq)`. A query that sees no key, or only keys whose scores are all -inf, gives zeros and
/// +inf for its logsumexp (so that its weights are zeros when they are made again). NaN propagates.
///
/// # Panics
/// When an operand is too short, or its rows are not dense.
pub fn attention<T: Real>(
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
    check(p, &q, &k, &v, &mask, lengths);
    assert_eq!(out.len(), numel(&[p.batch, p.heads, p.tq, p.dv]));
    assert_eq!(lse.len(), numel(&[p.batch, p.heads, p.tq]));
    if lse.is_empty() {
        return;
    }
    forward::run(p, q, k, v, mask, lengths, order, out, lse);
}

/// Gradients of [`attention`], those asked for, from its inputs, its results and the gradient `dout` of `out`; each as its
/// order says. A mask that was added gets none.
///
/// # Panics
/// As [`attention`].
pub fn attention_backward<T: Real>(
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
    dq: Option<&mut [T]>,
    dk: Option<&mut [T]>,
    dv: Option<&mut [T]>,
) {
    check(p, &q, &k, &v, &mask, lengths);
    out.check([p.batch, p.heads, p.tq, p.dv], true);
    dout.check([p.batch, p.heads, p.tq, p.dv], true);
    assert_eq!(lse.len(), numel(&[p.batch, p.heads, p.tq]));
    let room = |g: &Option<&mut [T]>, heads, rows, columns| {
        let n = numel(&[p.batch, heads, rows, columns]);
        assert!(g.as_ref().is_none_or(|g| g.len() == n));
    };
    room(&dq, p.heads, p.tq, p.d);
    room(&dk, p.kv_heads, p.tk, p.d);
    room(&dv, p.kv_heads, p.tk, p.dv);
    backward::run(
        p,
        q,
        k,
        v,
        mask,
        lengths,
        out,
        lse,
        dout,
        orders,
        [dq, dk, dv],
    );
}
