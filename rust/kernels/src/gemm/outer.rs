//! Sums of outer products, `C_j = A^T B_j` over a long k: gradients of weights, summed over the rows of a batch. Products that share
//! A are made together, so that its strips, which have to be packed, are packed once.
//!
//! A small C has too few rows to go round among threads. There the blocks of k are tasks, each with a C of its own; they are added
//! in order afterwards, as a single thread would have done, so that nothing shows in the bits.
use super::Mat;
use super::band::Band;
use super::buffer::Buffer;
use super::kernel::{Kernels, select, strips};
use super::pack::{PACK_SLACK, RowsOf, pack_rows, pack_strips};
use super::plan::{GROUP, cost, k_blocks, threads_for};
use crate::alloc;
use crate::element::Real;
use crate::layout::numel;
use crate::parallel::{Cost, SharedMut, abandoned, for_each_chunk};
use crate::simd::{self, Kernel, Simd, dispatch_on};
use crate::sum::{load, store};
use core::ops::Range;

/// One of the products: `C (m, n) = A^T B` with the first `m` columns of A.
pub(crate) struct Side<'a, T> {
    m: usize,
    n: usize,
    b: RowsOf<'a, T>,
    /// Dense `(m, n)`.
    c: &'a mut [T],
}

impl<'a, T> Side<'a, T> {
    /// `b` is dense `(k, n)`.
    pub fn new(m: usize, n: usize, b: &'a [T], c: &'a mut [T]) -> Self {
        let b = RowsOf::Mat(Mat::dense(b, n));
        Side { m, n, b, c }
    }

    /// The k rows of B lie where a table says.
    ///
    /// # Safety
    /// Each is the address of n numbers, to which nobody writes.
    pub unsafe fn rows(m: usize, n: usize, b: &'a [SharedMut<T>], c: &'a mut [T]) -> Self {
        let b = RowsOf::Table(b);
        Side { m, n, b, c }
    }
}

struct Part<'a, T> {
    m: usize,
    n: usize,
    b: RowsOf<'a, T>,
    c: SharedMut<T>,
    /// First of its panels among those of all parts.
    panel: usize,
    /// Where its C begins in the workspace of a block.
    at: usize,
}

/// Products with one A, ready to run.
pub(crate) struct Outer<'a, T> {
    a: Mat<'a, T>,
    m: usize,
    k: usize,
    parts: Vec<Part<'a, T>>,
    kernels: Kernels<T>,
    /// Runs of strips that are tasks of their own.
    runs: usize,
    /// The C of each block of k but the first, if blocks are tasks.
    blocks: Option<Buffer<T>>,
    /// Numbers of all C.
    size: usize,
    work: Cost,
}

/// Bytes of the C of all blocks of k up to which blocks are tasks: what the caches hold.
const BLOCKS_BYTES: usize = 1 << 20;

/// Tasks for each thread.
const TASKS: usize = 2;

/// Strips of a task at most: they are packed together.
const STRIPS: usize = 64;

/// Packed B that is taken along: half of a second-level cache of 512 KiB.
const PANELS_BYTES: usize = 256 << 10;

impl<'a, T: Real> Outer<'a, T> {
    /// `a` is dense `(k, width)`, of which columns from `first` on are used.
    ///
    /// # Panics
    /// Where operands are too short.
    pub fn new(
        k: usize,
        (a, width, first): (&'a [T], usize, usize),
        sides: impl Iterator<Item = Side<'a, T>>,
    ) -> Self {
        let (mut m, mut size) = (0, 0);
        let mut work = Cost::default();
        let mut parts = alloc::vec(2);
        for side in sides {
            assert!(side.c.len() >= numel(&[side.m, side.n]), "c is too short");
            match &side.b {
                RowsOf::Mat(b) => b.check(k, side.n, "b"),
                RowsOf::Table(rows) => assert_eq!(rows.len(), k, "rows of b"),
            }
            parts.push(Part {
                m: side.m,
                n: side.n,
                b: side.b,
                c: SharedMut(side.c.as_mut_ptr()),
                panel: 0,
                at: size,
            });
            m = m.max(side.m);
            size += side.m * side.n;
            let one = cost::<T>(side.m, side.n, k);
            work.flops += one.flops;
            work.bytes += one.bytes;
        }
        let threads = threads_for(work);
        let a = Mat {
            offset: first,
            ..Mat::dense(a, width)
        };
        let a = a.t();
        a.check(m, k, "a");
        let widest = parts.iter().map(|p| p.n).max().unwrap_or(0);
        let kernels = select::<T>(simd::isa(), widest);
        let mut panels = 0;
        for part in &mut parts {
            part.panel = panels;
            panels += part.n.div_ceil(kernels.nr);
        }
        let count = k_blocks(k).count();
        let split = threads > 1 && count > 1 && count * size <= BLOCKS_BYTES / size_of::<T>();
        let blocks = split.then(|| Buffer::new((count - 1) * size));
        let wanted = if threads > 1 { TASKS * threads } else { 1 };
        let strip_count = m.div_ceil(kernels.mr);
        let runs = if split {
            wanted.div_ceil(count)
        } else {
            wanted.max(strip_count.div_ceil(STRIPS))
        };
        Outer {
            a,
            m,
            k,
            parts,
            kernels,
            runs: runs.min(strip_count).max(1),
            blocks,
            size,
            work,
        }
    }

    pub fn cost(&self) -> Cost {
        self.work
    }

    /// Tasks; they may run in any order and on any thread. [`Outer::finish`] comes after all of them.
    pub fn tasks(&self) -> usize {
        match self.blocks {
            _ if self.size == 0 => 0,
            Some(_) => self.runs * k_blocks(self.k).count(),
            None => self.runs,
        }
    }

    pub fn run(&self, task: usize) {
        let (block, run) = (task / self.runs, task % self.runs);
        let count = self.m.div_ceil(self.kernels.mr);
        let some = run * count / self.runs..(run + 1) * count / self.runs;
        if self.blocks.is_some() {
            if let Some(k) = k_blocks(self.k).nth(block) {
                self.block(block, k, some);
            }
            return;
        }
        for (block, k) in k_blocks(self.k).enumerate() {
            if !self.block(block, k, some.clone()) {
                return;
            }
        }
    }

    /// Where a part's C of a block begins.
    fn target(&self, part: &Part<'_, T>, block: usize) -> *mut T {
        match &self.blocks {
            Some(blocks) if block > 0 => {
                blocks.ptr().wrapping_add((block - 1) * self.size + part.at)
            }
            _ => part.c.0,
        }
    }

    /// Some strips of one block of k. False when the call is being abandoned.
    fn block(&self, block: usize, (k0, kc): (usize, usize), some: Range<usize>) -> bool {
        let (isa, nr) = (self.kernels.isa, self.kernels.nr);
        let Some(last) = self.parts.last() else {
            return true;
        };
        let panels = last.panel + last.n.div_ceil(nr);
        let height = self.kernels.mr;
        let strips = || strips(self.m, height).skip(some.start).take(some.len());
        // All strips first, and then one run of panels after another.
        let room = kc * height + PACK_SLACK;
        let pack = Buffer::<T>::new(some.len() * room);
        let mut rest = strips();
        for slot in (0..some.len()).step_by(GROUP) {
            let mut group = [(0, 0); GROUP];
            let mut size = 0;
            for (to, strip) in group.iter_mut().zip(rest.by_ref()) {
                *to = strip;
                size += 1;
            }
            let to = pack.ptr().wrapping_add(slot * room);
            // SAFETY: the strips are inside A; the buffer holds `room` for each.
            unsafe { pack_strips(self.a, &group[..size], (k0, kc), room, to) };
        }
        let fits = (PANELS_BYTES / (kc.max(1) * nr * size_of::<T>())).max(1);
        let turns = panels.div_ceil(fits).max(1);
        let packed = Buffer::<T>::new(panels.div_ceil(turns) * kc * nr);
        for turn in 0..turns {
            let (first, end) = (turn * panels / turns, (turn + 1) * panels / turns);
            // The panels of a part among these, counted within the part, and where they are packed.
            let slice = |p: &Part<'_, T>| {
                let last = p.panel + p.n.div_ceil(nr);
                let (from, to) = (p.panel.clamp(first, end), last.clamp(first, end));
                let at = packed.ptr().wrapping_add((from - first) * kc * nr);
                (from - p.panel.min(from), to - p.panel.min(to), at)
            };
            for p in &self.parts {
                let (from, to, at) = slice(p);
                if from < to {
                    // SAFETY: new() checked B; the buffer has room for each of these panels.
                    unsafe { pack_rows(isa, p.b, (k0, kc), p.n, (from, to), nr, (at, kc * nr)) };
                }
            }
            for (slot, (i0, rows)) in strips().enumerate() {
                if abandoned(2.0 * (rows * kc * (end - first) * nr) as f64) {
                    return false;
                }
                for p in &self.parts {
                    let (from, to, at) = slice(p);
                    let (j0, here) = (from * nr, rows.min(p.m.saturating_sub(i0)));
                    if from >= to || here == 0 {
                        continue;
                    }
                    let band = Band {
                        k: kc,
                        a: pack.ptr().wrapping_add(slot * room).cast_const(),
                        a_rs: 1,
                        a_ks: rows as isize,
                        b: at.cast_const(),
                        b_ks: nr as isize,
                        step: kc * nr,
                        c: self.target(p, block).wrapping_add(i0 * p.n + j0),
                        ldc: p.n,
                        cols: (to * nr).min(p.n) - j0,
                        load_c: block > 0 && self.blocks.is_none(),
                        ..Band::none()
                    };
                    // SAFETY: new() checked the operands; the panels have nr columns of kc rows; tasks write different rows of C, or
                    // the C of different blocks.
                    unsafe { self.kernels.run_band(here, &band) };
                }
            }
        }
        true
    }

    /// Adds the blocks, in order.
    pub fn finish(&self) {
        let Some(blocks) = &self.blocks else {
            return;
        };
        let count = k_blocks(self.k).count() - 1;
        for p in &self.parts {
            let len = p.m * p.n;
            let cost = Cost {
                flops: (len * count) as f64,
                bytes: ((count + 2) * len * size_of::<T>()) as f64,
            };
            for_each_chunk(len, 4096, cost, &|some| {
                let sum = Sum {
                    // SAFETY: chunks are disjoint parts of this part's C.
                    c: unsafe { p.c.slice(some.start, some.len()) },
                    from: blocks.ptr().wrapping_add(p.at + some.start),
                    step: self.size,
                    count,
                };
                dispatch_on(self.kernels.isa, sum);
            });
        }
    }
}

/// `c += from[0 ..], from[step ..], ...`, in this order.
struct Sum<'a, T> {
    c: &'a mut [T],
    from: *const T,
    step: usize,
    count: usize,
}

impl<T: Real> Kernel<T> for Sum<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        for j in (0..self.c.len()).step_by(S::LANES) {
            let n = S::LANES.min(self.c.len() - j);
            // SAFETY: n numbers from j on are inside c and inside each block, which the tasks have filled.
            unsafe {
                let c = self.c.as_mut_ptr().add(j);
                let mut sum = load::<S>(c, n);
                for i in 0..self.count {
                    sum = S::add(sum, load::<S>(self.from.add(i * self.step + j), n));
                }
                store::<S>(c, sum, n);
            }
        }
    }
}
