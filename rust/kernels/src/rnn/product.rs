//! A step's product: a few rows times packed weights, added to what is there.
use crate::element::Real;
use crate::gemm::Mat;
use crate::gemm::band::Band;
use crate::gemm::buffer::Buffer;
use crate::gemm::k_blocks;
use crate::gemm::kernel::{Kernels, Tile, select, strips};
use crate::gemm::pack::pack_b;
use crate::parallel::{Cost, for_each};
use crate::simd::{self, Kernel, Simd, dispatch_on};
use crate::sum::{load, store};
use core::ops::Range;

/// Weights in panels of `nr` columns, `[block][part][k][nr]`: the parts of a block of units (its gates) lie side by side.
pub(super) struct Packed<T> {
    pub kernels: Kernels<T>,
    data: Buffer<T>,
    k: usize,
    parts: usize,
    columns: usize,
}

impl<T: Real> Packed<T> {
    /// `part(g)` is a matrix of `k` rows and `columns` columns, for each of the `parts`.
    pub fn new<'a>(
        k: usize,
        columns: usize,
        parts: usize,
        part: &(dyn Fn(usize) -> Mat<'a, T> + Sync),
    ) -> Self
    where
        T: 'a,
    {
        let kernels = select::<T>(simd::isa(), columns);
        let nr = kernels.nr;
        let blocks = columns.div_ceil(nr);
        let data = Buffer::<T>::new(blocks * parts * k * nr);
        let cost = Cost {
            flops: 0.0,
            bytes: (2 * k * columns * parts * size_of::<T>()) as f64,
        };
        let to = &data;
        for_each(blocks * parts, cost, &|panel| {
            let (block, g) = (panel / parts, panel % parts);
            let b = part(g);
            b.check(k, columns, "weights");
            let cols = (block * nr, nr.min(columns - block * nr));
            // SAFETY: the range lies inside the matrix, which was checked; panels are disjoint parts of the buffer.
            unsafe {
                let out = to.ptr().add(panel * k * nr);
                pack_b(kernels.isa, b, (0, k), cols, nr, out);
            }
        });
        Packed {
            kernels,
            data,
            k,
            parts,
            columns,
        }
    }

    pub fn blocks(&self) -> usize {
        self.columns.div_ceil(self.kernels.nr)
    }

    /// First column and number of columns of a block.
    pub fn block(&self, block: usize) -> (usize, usize) {
        let first = block * self.kernels.nr;
        (first, self.kernels.nr.min(self.columns - first))
    }

    /// First column and number of columns of a run of blocks.
    pub fn span(&self, blocks: &Range<usize>) -> (usize, usize) {
        let first = self.block(blocks.start).0;
        let (last, cols) = self.block(blocks.end - 1);
        (first, last + cols - first)
    }

    /// Cuts blocks into runs whose products and gates follow one another, so that the gates find the products in the
    /// first-level cache. One row goes through all blocks at once, for the sake of its chains.
    pub fn pieces(
        &self,
        blocks: Range<usize>,
        rows: usize,
    ) -> impl Iterator<Item = Range<usize>> + Clone + use<T> {
        let each = match rows {
            1 => blocks.len().max(1),
            _ => {
                let longest = k_blocks(self.k).next().map_or(1, |(_, kc)| kc.max(1));
                let panel = longest * self.kernels.nr * size_of::<T>();
                (PIECE / panel).clamp(1, (COLUMNS / self.kernels.nr).max(1))
            }
        };
        let end = blocks.end;
        blocks.step_by(each).map(move |b| b..(b + each).min(end))
    }

    /// Row `k` of a panel.
    fn panel(&self, block: usize, part: usize, k: usize) -> *const T {
        let panel = block * self.parts + part;
        self.data
            .ptr()
            .wrapping_add((panel * self.k + k) * self.kernels.nr)
    }
}

/// Bytes of the weights of a piece's product: every strip of rows reads them again, so they have to stay in a second-level cache
/// beside all the rest.
const PIECE: usize = 64 << 10;
/// Columns of a piece at most.
const COLUMNS: usize = 128;

/// Where a product goes: row i begins at `at + rows[i]`, and column j is j further.
#[derive(Clone, Copy)]
pub(super) struct Target<'a, T> {
    pub at: *mut T,
    pub rows: &'a [usize],
    /// Add to what is there.
    pub add: bool,
}

/// The rows that are multiplied: `count` rows of `k` numbers, `ld` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<T> {
    pub at: *const T,
    pub ld: usize,
    pub count: usize,
}

/// What a product fetches for what comes after it, while it leaves the memory alone.
pub(super) struct Meanwhile<'a> {
    /// How many rows.
    pub rows: usize,
    pub fetch: &'a dyn Fn(Range<usize>),
}

/// `to[i, j] (+)= sum_l a[i, l] b[k0 + l, j]` over `k` rows of a part of the packed weights, for the columns of `blocks`.
///
/// # Safety
/// `a` holds `count` rows of `k` numbers, `to` has a row for each of them with room for the blocks' columns; nobody writes
/// to `a` or uses `to` meanwhile.
pub(super) unsafe fn multiply<T: Real>(
    b: &Packed<T>,
    part: usize,
    (k0, k): (usize, usize),
    blocks: Range<usize>,
    a: Rows<T>,
    to: Target<'_, T>,
    meanwhile: Option<Meanwhile<'_>>,
) {
    if a.count == 1 {
        // SAFETY: the caller's promise.
        return unsafe { multiply_row(b, part, (k0, k), blocks, a, to) };
    }
    if let Some(ldc) = spacing(to.rows) {
        // SAFETY: the caller's promise.
        return unsafe { multiply_bands(b, part, (k0, k), blocks, a, (to, ldc), meanwhile) };
    }
    let nr = b.kernels.nr;
    for block in blocks {
        let (column, cols) = b.block(block);
        for (l, kc) in k_blocks(k) {
            for (i, height) in strips(a.count, b.kernels.mr) {
                let tile = Tile {
                    k: kc,
                    // SAFETY: inside the rows.
                    a: unsafe { a.at.add(i * a.ld + l) },
                    a_rs: a.ld as isize,
                    a_ks: 1,
                    b: b.panel(block, part, k0 + l),
                    b_ks: nr as isize,
                    // SAFETY: the columns are inside the rows of the target.
                    c: unsafe { to.at.add(column) },
                    c_rows: to.rows[i..].as_ptr(),
                    cols,
                    load_c: to.add || l > 0,
                    ..Tile::none()
                };
                // SAFETY: panels have nr columns in each of their k rows; the rest is the caller's promise.
                unsafe { b.kernels.run(height, &tile) };
            }
        }
    }
}

/// Distance of rows that are equally far apart, as those of a batch whose sequences have one length are.
fn spacing(rows: &[usize]) -> Option<usize> {
    let distance = rows[1].wrapping_sub(rows[0]);
    rows.windows(2)
        .all(|pair| pair[1].wrapping_sub(pair[0]) == distance)
        .then_some(distance)
}

/// [`multiply`] into rows `ldc` apart: the tiles of a strip of rows in one call.
unsafe fn multiply_bands<T: Real>(
    b: &Packed<T>,
    part: usize,
    (k0, k): (usize, usize),
    blocks: Range<usize>,
    a: Rows<T>,
    (to, ldc): (Target<'_, T>, usize),
    meanwhile: Option<Meanwhile<'_>>,
) {
    let nr = b.kernels.nr;
    let (column, cols) = b.span(&blocks);
    let calls = k_blocks(k).count() * strips(a.count, b.kernels.mr).count();
    let (mut call, mut fetched) = (0, 0);
    for (l, kc) in k_blocks(k) {
        for (i, height) in strips(a.count, b.kernels.mr) {
            if let Some(m) = &meanwhile {
                call += 1;
                let end = call * m.rows / calls;
                (m.fetch)(fetched..end);
                fetched = end;
            }
            let band = Band {
                k: kc,
                // SAFETY: inside the rows.
                a: unsafe { a.at.add(i * a.ld + l) },
                a_rs: a.ld as isize,
                a_ks: 1,
                b: b.panel(blocks.start, part, k0 + l),
                b_ks: nr as isize,
                step: b.parts * b.k * nr,
                // SAFETY: the columns are inside the rows of the target.
                c: unsafe { to.at.add(to.rows[i] + column) },
                ldc,
                cols,
                load_c: to.add || l > 0,
                ..Band::none()
            };
            // SAFETY: panels have nr columns in each of their k rows; the rest is the caller's promise.
            unsafe { b.kernels.run_band(height, &band) };
        }
    }
}

/// [`multiply`] of one row: several blocks at once, because one alone has too few independent chains.
unsafe fn multiply_row<T: Real>(
    b: &Packed<T>,
    part: usize,
    (k0, k): (usize, usize),
    blocks: Range<usize>,
    a: Rows<T>,
    to: Target<'_, T>,
) {
    let mut block = blocks.start;
    while block < blocks.end {
        let count = (blocks.end - block).min(4);
        for (l, kc) in k_blocks(k) {
            let mut panels = [core::ptr::null(); 4];
            for (i, panel) in panels[..count].iter_mut().enumerate() {
                *panel = b.panel(block + i, part, k0 + l);
            }
            let body = OneRow {
                k: kc,
                // SAFETY: inside the row.
                a: unsafe { a.at.add(l) },
                panels,
                nr: b.kernels.nr,
                count,
                // SAFETY: the columns are inside the row of the target.
                c: unsafe { to.at.add(to.rows[0] + block * b.kernels.nr) },
                cols: b.columns - block * b.kernels.nr,
                add: to.add || l > 0,
            };
            dispatch_on(b.kernels.isa, body);
        }
        block += count;
    }
}

/// One row times up to four panels.
struct OneRow<T> {
    k: usize,
    a: *const T,
    panels: [*const T; 4],
    nr: usize,
    count: usize,
    c: *mut T,
    cols: usize,
    add: bool,
}

impl<T: Real> Kernel<T> for OneRow<T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: multiply_row's promise.
        unsafe {
            match self.count {
                1 => self.panels::<S, 1>(),
                2 => self.panels::<S, 2>(),
                3 => self.panels::<S, 3>(),
                _ => self.panels::<S, 4>(),
            }
        }
    }
}

impl<T: Real> OneRow<T> {
    /// All columns of P panels, as many vectors of each at a time as make eight chains or have registers.
    #[inline(always)]
    unsafe fn panels<S: Simd<T = T>, const P: usize>(&self) {
        let vectors = self.nr / S::LANES;
        // SAFETY: panels have nr columns, a multiple of the lanes.
        unsafe {
            let mut v = 0;
            while v < vectors {
                if P <= 2 && v + 4 <= vectors {
                    self.vectors::<S, P, 4>(v * S::LANES);
                    v += 4;
                } else if P <= 2 && v + 3 <= vectors {
                    self.vectors::<S, P, 3>(v * S::LANES);
                    v += 3;
                } else if v + 2 <= vectors {
                    self.vectors::<S, P, 2>(v * S::LANES);
                    v += 2;
                } else {
                    self.vectors::<S, P, 1>(v * S::LANES);
                    v += 1;
                }
            }
        }
    }

    /// Columns `v ..` of each panel, `NV` vectors: P NV chains.
    #[inline(always)]
    unsafe fn vectors<S: Simd<T = T>, const P: usize, const NV: usize>(&self, v: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [[S::zero(); NV]; P];
            let panels = self.panels;
            let (a, k, nr) = (self.a, self.k, self.nr);
            let mut at = v;
            for l in 0..k {
                let x = S::splat(*a.add(l));
                for j in 0..NV {
                    for p in 0..P {
                        let y = S::load(panels[p].add(at + j * S::LANES));
                        acc[p][j] = S::fma(x, y, acc[p][j]);
                    }
                }
                at += nr;
            }
            for p in 0..P {
                for j in 0..NV {
                    let first = p * nr + v + j * S::LANES;
                    let n = self.cols.saturating_sub(first).min(S::LANES);
                    if n == 0 {
                        continue;
                    }
                    let c = self.c.add(first);
                    let mut y = acc[p][j];
                    if self.add {
                        y = S::add(load::<S>(c, n), y);
                    }
                    store::<S>(c, y, n);
                }
            }
        }
    }
}
