//! Column sums of a dense matrix (the bias gradient), as tasks beside the products.
use crate::element::Real;
use crate::layout::numel;
use crate::parallel::SharedMut;
use crate::simd::{self, Isa, Kernel, Simd, dispatch_on};

/// Columns of a task: one cache line or more of every row.
const COLUMNS: usize = 64;
/// Rows summed before the sum is added to the total, so that the error grows with m / 256 and not with m.
const ROWS: usize = 256;

/// Vectors that are summed side by side.
const SIDE: usize = 4;

/// `out[j] = sum_i x[i, j]`, rows in order within chunks of 256, chunks in order.
pub(crate) struct ColumnSums<'a, T> {
    m: usize,
    n: usize,
    x: &'a [T],
    out: SharedMut<T>,
    isa: Isa,
}

impl<'a, T: Real> ColumnSums<'a, T> {
    pub fn new(m: usize, n: usize, x: &'a [T], out: &'a mut [T]) -> Self {
        assert!(
            x.len() >= numel(&[m, n]),
            "dz has {} elements, not {m} x {n}",
            x.len()
        );
        assert!(out.len() >= n, "db has {} elements, not {n}", out.len());
        ColumnSums {
            m,
            n,
            x,
            out: SharedMut(out.as_mut_ptr()),
            isa: simd::isa(),
        }
    }

    pub fn tasks(&self) -> usize {
        self.n.div_ceil(COLUMNS)
    }

    pub fn run(&self, task: usize) {
        let first = task * COLUMNS;
        let cols = COLUMNS.min(self.n - first);
        // SAFETY: tasks write different columns; new() checked the length.
        let out = unsafe { self.out.slice(first, cols) };
        let body = Body {
            m: self.m,
            n: self.n,
            // Without rows there is nothing to begin at.
            x: &self.x[first.min(self.x.len())..],
            out,
        };
        dispatch_on(self.isa, body);
    }
}

struct Body<'a, T> {
    m: usize,
    n: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> Kernel<T> for Body<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let Body { m, n, x, out } = self;
        let mut j = 0;
        // Side by side: a row's columns are neighbours in memory, and no addition waits for the one before.
        while j + SIDE * S::LANES <= out.len() {
            // SAFETY: SIDE vectors from column j on are inside every row and inside out.
            unsafe {
                let mut total = [S::zero(); SIDE];
                for i0 in (0..m).step_by(ROWS) {
                    let mut sum = [S::zero(); SIDE];
                    for i in i0..m.min(i0 + ROWS) {
                        let row = x.as_ptr().add(i * n + j);
                        for v in 0..SIDE {
                            sum[v] = S::add(sum[v], S::load(row.add(v * S::LANES)));
                        }
                    }
                    for v in 0..SIDE {
                        total[v] = S::add(total[v], sum[v]);
                    }
                }
                for v in 0..SIDE {
                    S::store(out.as_mut_ptr().add(j + v * S::LANES), total[v]);
                }
            }
            j += SIDE * S::LANES;
        }
        for j in (j..out.len()).step_by(S::LANES) {
            let lanes = S::LANES.min(out.len() - j);
            // SAFETY: `lanes` columns from j are inside the row and inside out.
            unsafe {
                let mut total = S::zero();
                for i0 in (0..m).step_by(ROWS) {
                    let mut sum = S::zero();
                    for i in i0..m.min(i0 + ROWS) {
                        sum = S::add(sum, S::load_n(x.as_ptr().add(i * n + j), lanes));
                    }
                    total = S::add(total, sum);
                }
                S::store_n(out.as_mut_ptr().add(j), total, lanes);
            }
        }
    }
}
