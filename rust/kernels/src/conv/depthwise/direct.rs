//! Kernels of 3 x 3 without stride or dilation, read where the plane lies: down the rows of a column of vectors, each row of which
//! is loaded three times, a pixel apart, and meets all nine taps. Lanes that would read padding are masked out.
//!
//! A sum has its taps in order, as everywhere: three rows of outputs are under way at a time, and each row of the source ends one.
use super::{LANES, Reads, SIDE};
use crate::element::Real;
use crate::parallel::abandoned;
use crate::simd::{Isa, Kernel, Simd, dispatch_on, prefetch_run};

/// Bytes of the rows of a plane that are gone down together: a column's lines are still there when the next column comes.
const STRIP_BYTES: usize = 24 << 10;
/// Rows of a strip, at least: it begins with two rows of the strip before.
const LEAST_ROWS: usize = 8;

const TAPS: usize = SIDE * SIDE;

/// Output rows that are gone down together.
fn strip<T>(g: &Reads) -> usize {
    let row = g.out[1].max(g.src[1]) * size_of::<T>();
    (STRIP_BYTES / row.max(1)).clamp(LEAST_ROWS, g.out[0].max(LEAST_ROWS))
}

/// The lengths of a source plane, of a plane of outputs and of their weights are those of `g`.
fn check(g: &Reads, src: usize, out: usize, weights: usize) {
    debug_assert!(g.is_square(1));
    assert!(src == g.src[0] * g.src[1] && out == g.out[0] * g.out[1] && weights == TAPS);
}

/// A column of vectors of outputs: where it reads and which lanes.
struct Column<S: Simd> {
    /// Output columns `j .. j + n`.
    j: usize,
    n: usize,
    /// Source column of the first lane for tap column 0.
    from: isize,
    masks: [S::M; SIDE],
    /// No lane is masked out.
    whole: bool,
}

impl<S: Simd> Column<S> {
    #[inline(always)]
    unsafe fn new(g: &Reads, j: usize) -> Self {
        let n = S::LANES.min(g.out[1] - j);
        let from = j as isize - g.pad[1];
        let mut whole = n == S::LANES;
        // SAFETY: the caller enabled S.
        let mut masks = unsafe { [S::mask_first(0); SIDE] };
        for q in 0..SIDE {
            let at = from + q as isize;
            let low = (-at).clamp(0, n as isize);
            let high = (g.src[1] as isize - at).clamp(low, n as isize);
            whole &= high - low == S::LANES as isize;
            // SAFETY: as above.
            masks[q] = unsafe { S::mask_from_bits((1u32 << high) - (1u32 << low)) };
        }
        Column {
            j,
            n,
            from,
            masks,
            whole,
        }
    }

    /// The three vectors of a row of the source plane, `row` of which may lie outside: zeros.
    /// # Safety
    /// S is enabled and the plane has the rows of `g`.
    #[inline(always)]
    unsafe fn load<const EDGE: bool>(
        &self,
        g: &Reads,
        plane: *const S::T,
        row: isize,
    ) -> [S::V; SIDE] {
        // SAFETY: lanes whose pixels exist.
        unsafe {
            let mut x = [S::zero(); SIDE];
            if row >= 0 && row < g.src[0] as isize {
                let at = plane.wrapping_offset(row * g.src[1] as isize + self.from);
                for q in 0..SIDE {
                    let at = at.wrapping_add(q);
                    x[q] = if EDGE {
                        S::load_masked(at, self.masks[q])
                    } else {
                        S::load(at)
                    };
                }
            }
            x
        }
    }
}

/// `f` for every column of every strip of rows `(first, rows)`, until the call is abandoned. What lies a strip further in the two planes,
/// or in the next ones, is fetched meanwhile. `f` must be an `#[inline(always)]` closure.
/// # Safety
/// S is enabled.
#[inline(always)]
unsafe fn each_column<S: Simd>(
    g: &Reads,
    (src, out): (*const S::T, *const S::T),
    mut f: impl FnMut(&Column<S>, (usize, usize)),
) {
    let strip = strip::<S::T>(g);
    for i0 in (0..g.out[0]).step_by(strip) {
        let rows = strip.min(g.out[0] - i0);
        if abandoned((2 * rows * g.out[1] * TAPS) as f64) {
            return;
        }
        let mut src = src.wrapping_add((i0 + strip) * g.src[1]);
        let mut out = out.wrapping_add((i0 + strip) * g.out[1]);
        for j in (0..g.out[1]).step_by(S::LANES) {
            // SAFETY: the caller's promise.
            let column = unsafe { Column::<S>::new(g, j) };
            let len = rows * column.n;
            prefetch_run(src, len);
            prefetch_run(out, len);
            (src, out) = (src.wrapping_add(len), out.wrapping_add(len));
            f(&column, (i0, rows));
        }
    }
}

/// `out = act(start + sum over taps of weight * source)` for one plane.
pub(super) struct Direct<'a, T> {
    pub reads: &'a Reads,
    pub src: &'a [T],
    pub weights: &'a [T],
    /// What a sum starts from, unless it is added to what `out` holds.
    pub bias: T,
    pub accumulate: bool,
    pub relu: bool,
    pub out: &'a mut [T],
}

impl<'a, T: Real> Direct<'a, T> {
    pub fn new(reads: &'a Reads, src: &'a [T], weights: &'a [T], out: &'a mut [T]) -> Self {
        check(reads, src.len(), out.len(), weights.len());
        Direct {
            reads,
            src,
            weights,
            bias: T::ZERO,
            accumulate: false,
            relu: false,
            out,
        }
    }

    pub fn run(self, isa: Isa) {
        dispatch_on(isa, self);
    }

    /// Output rows `i0 .. i0 + rows` of a column.
    #[inline(always)]
    unsafe fn column<S: Simd<T = T>, const EDGE: bool>(
        &mut self,
        w: &[S::V; TAPS],
        column: &Column<S>,
        (i0, rows): (usize, usize),
    ) {
        let g = self.reads;
        let (src, width) = (self.src.as_ptr(), g.out[1]);
        // SAFETY: rows and lanes of the planes, whose lengths were checked.
        unsafe {
            let out = self.out.as_mut_ptr().add(i0 * width + column.j);
            let top = i0 as isize - g.pad[0];
            let bias = S::splat(self.bias);
            let start = |i: usize| {
                if self.accumulate && i < rows {
                    S::load_n(out.add(i * width), column.n)
                } else {
                    bias
                }
            };
            let finish = |i: usize, x: S::V| {
                let x = if self.relu { S::max(S::zero(), x) } else { x };
                if EDGE {
                    S::store_n(out.add(i * width), x, column.n);
                } else {
                    S::store(out.add(i * width), x);
                }
            };
            // Sums of the two rows of outputs above the row of the source.
            let mut sums = [S::zero(); 2];
            for r in 0..2 {
                let x = column.load::<EDGE>(g, src, top + r as isize);
                let mut next = start(r);
                for q in 0..SIDE {
                    next = S::fma(w[q], x[q], next);
                    sums[1] = S::fma(w[SIDE + q], x[q], sums[1]);
                }
                sums = [sums[1], next];
            }
            for i in 0..rows {
                let x = column.load::<EDGE>(g, src, top + i as isize + 2);
                let mut next = start(i + 2);
                for q in 0..SIDE {
                    sums[0] = S::fma(w[2 * SIDE + q], x[q], sums[0]);
                    sums[1] = S::fma(w[SIDE + q], x[q], sums[1]);
                    next = S::fma(w[q], x[q], next);
                }
                finish(i, sums[0]);
                sums = [sums[1], next];
            }
        }
    }
}

impl<T: Real> Kernel<T> for Direct<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(mut self) {
        let g = self.reads;
        // SAFETY: S is enabled; columns and rows of the plane.
        unsafe {
            let mut w = [S::zero(); TAPS];
            for t in 0..TAPS {
                w[t] = S::splat(self.weights[t]);
            }
            let planes = (self.src.as_ptr(), self.out.as_ptr());
            each_column::<S>(
                g,
                planes,
                #[inline(always)]
                |column, rows| {
                    if column.whole {
                        self.column::<S, false>(&w, column, rows);
                    } else {
                        self.column::<S, true>(&w, column, rows);
                    }
                },
            );
        }
    }
}

/// Sums of `dy * source` for the nine taps of one plane, added to `sums`: a vector per tap, spread over LANES.
pub(super) struct DirectDw<'a, T> {
    reads: &'a Reads,
    src: &'a [T],
    dy: &'a [T],
    sums: &'a mut [T],
}

impl<'a, T: Real> DirectDw<'a, T> {
    pub fn new(reads: &'a Reads, src: &'a [T], dy: &'a [T], sums: &'a mut [T]) -> Self {
        check(reads, src.len(), dy.len(), sums.len() / LANES);
        DirectDw {
            reads,
            src,
            dy,
            sums,
        }
    }

    pub fn run(self, isa: Isa) {
        dispatch_on(isa, self);
    }

    /// Rows `i0 .. i0 + rows` of dy in a column.
    #[inline(always)]
    unsafe fn column<S: Simd<T = T>, const EDGE: bool>(
        &self,
        acc: &mut [S::V; TAPS],
        column: &Column<S>,
        (i0, rows): (usize, usize),
    ) {
        let g = self.reads;
        let (src, width) = (self.src.as_ptr(), g.out[1]);
        // SAFETY: rows and lanes of the planes, whose lengths were checked.
        unsafe {
            let dy = self.dy.as_ptr().add(i0 * width + column.j);
            let top = i0 as isize - g.pad[0];
            let row = |i: usize| {
                if EDGE {
                    S::load_n(dy.add(i * width), column.n)
                } else {
                    S::load(dy.add(i * width))
                }
            };
            // A row of the source with the rows of dy above, p of them, for p from `low` to `high`. No zeros stand in for rows that
            // are missing: the source may be infinite, and 0 * inf is not 0.
            macro_rules! meet {
                ($r:expr, $d:expr, $low:expr, $high:expr) => {
                    let x = column.load::<EDGE>(g, src, top + $r as isize);
                    for q in 0..SIDE {
                        for p in $low..$high {
                            acc[p * SIDE + q] = S::fma($d[p], x[q], acc[p * SIDE + q]);
                        }
                    }
                };
            }
            let zero = S::zero();
            let mut d = [row(0), zero, zero];
            meet!(0, d, 0, 1);
            if rows == 1 {
                d = [zero, d[0], zero];
                meet!(1, d, 1, 2);
                d = [zero, zero, d[1]];
                meet!(2, d, 2, 3);
                return;
            }
            d = [row(1), d[0], zero];
            meet!(1, d, 0, 2);
            for r in 2..rows {
                d = [row(r), d[0], d[1]];
                meet!(r, d, 0, 3);
            }
            d = [zero, d[0], d[1]];
            meet!(rows, d, 1, 3);
            d = [zero, zero, d[1]];
            meet!(rows + 1, d, 2, 3);
        }
    }
}

impl<T: Real> Kernel<T> for DirectDw<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let g = self.reads;
        // SAFETY: S is enabled; columns and rows of the planes.
        unsafe {
            let mut acc = [S::zero(); TAPS];
            for t in 0..TAPS {
                acc[t] = S::load(self.sums.as_ptr().add(t * LANES));
            }
            let planes = (self.src.as_ptr(), self.dy.as_ptr());
            each_column::<S>(
                g,
                planes,
                #[inline(always)]
                |column, rows| {
                    if column.whole {
                        self.column::<S, false>(&mut acc, column, rows);
                    } else {
                        self.column::<S, true>(&mut acc, column, rows);
                    }
                },
            );
            for t in 0..TAPS {
                S::store(self.sums.as_mut_ptr().add(t * LANES), acc[t]);
            }
        }
    }
}
