//! Sums of outer products, `C_j = A^T B_j` over a long k: gradients of weights, summed over the rows of a batch. Products that share
//! A are made together, so that its strips, which have to be packed, are packed once; so are the B, if several tasks use them. The sums
//! of A's columns, gradients of biases, come from the packed strips.
//!
//! A small C has too few rows to go round among threads. There the blocks of k are tasks, each with a C of its own; they are added
//! in order afterwards, as a single thread would have done, so that nothing shows in the bits.
use super::Mat;
use super::band::Band;
use super::buffer::Buffer;
use super::kernel::{Kernels, MAX_MR, select, strips};
use super::pack::{PACK_SLACK, RowsOf, pack_rows, pack_strips};
use super::plan::{GROUP, PACK_RUN, cost, k_blocks};
use crate::alloc;
use crate::element::Real;
use crate::layout::numel;
use crate::parallel::{Cost, Runs, SharedMut, abandoned, for_each_chunk, threads_for};
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
    /// Where the sums of A's m columns go.
    sums: Option<SharedMut<T>>,
    kernels: Kernels<T>,
    /// Runs of strips that are tasks of their own.
    runs: Runs,
    /// All B, packed by everybody first, if there are several runs.
    packed: Option<Buffer<T>>,
    /// The C of each block of k but the first, if blocks are tasks.
    blocks: Option<Buffer<T>>,
    /// Numbers of all C and sums.
    size: usize,
    work: Cost,
}

/// Bytes of the C of all blocks of k up to which blocks are tasks: what the caches hold.
const BLOCKS_BYTES: usize = 1 << 20;

/// Tasks for each thread. Fewer and larger ones than those of other products: each packs strips and reads all of B.
const TASKS: usize = 2;

/// Strips of a task at most: they are packed together.
const STRIPS: usize = 64;

/// Packed B that is taken along: half of a second-level cache of 512 KiB.
const PANELS_BYTES: usize = 256 << 10;

impl<'a, T: Real> Outer<'a, T> {
    /// `a` is dense `(k, width)`, of which columns from `first` on are used: m of them, as many as the widest side has or as there
    /// are sums of columns to make.
    ///
    /// # Panics
    /// Where operands are too short.
    pub fn new(
        k: usize,
        (a, width, first): (&'a [T], usize, usize),
        sides: impl Iterator<Item = Side<'a, T>>,
        sums: Option<&'a mut [T]>,
    ) -> Self {
        let (mut m, mut size) = (sums.as_ref().map_or(0, |s| s.len()), 0);
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
        let sums = sums.map(|s| {
            assert_eq!(s.len(), m, "sums");
            size += m;
            work.bytes += (m * k * size_of::<T>()) as f64;
            SharedMut(s.as_mut_ptr())
        });
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
        let strip_count = m.div_ceil(kernels.mr);
        let wanted = if threads > 1 { TASKS * threads } else { 1 };
        let most = if split {
            strip_count.div_ceil(wanted.div_ceil(count))
        } else {
            strip_count.div_ceil(wanted).min(STRIPS)
        };
        let runs = Runs::even(strip_count, most);
        let packed = (runs.count() > 1).then(|| Buffer::new(k * panels * kernels.nr));
        Outer {
            a,
            m,
            k,
            parts,
            sums,
            kernels,
            runs,
            packed,
            blocks,
            size,
            work,
        }
    }

    pub fn cost(&self) -> Cost {
        self.work
    }

    fn panels(&self) -> usize {
        let last = self.parts.last();
        last.map_or(0, |p| p.panel + p.n.div_ceil(self.kernels.nr))
    }

    /// Tasks that have to be done before any of [`Outer::tasks`].
    pub fn pack_tasks(&self) -> usize {
        match self.packed {
            Some(_) if self.panels() > 0 => self.k.div_ceil(PACK_RUN),
            _ => 0,
        }
    }

    /// Packs a run of rows.
    pub fn run_pack(&self, task: usize) {
        let Some(packed) = &self.packed else {
            return;
        };
        let (isa, nr) = (self.kernels.isa, self.kernels.nr);
        for (k0, kc) in k_blocks(self.k) {
            let (from, to) = (
                (task * PACK_RUN).max(k0),
                ((task + 1) * PACK_RUN).min(k0 + kc),
            );
            if from >= to {
                continue;
            }
            for p in &self.parts {
                let at = (k0 * self.panels() + p.panel * kc + from - k0) * nr;
                let (rows, panels) = ((from, to - from), (0, p.n.div_ceil(nr)));
                let out = (packed.ptr().wrapping_add(at), kc * nr);
                // SAFETY: new() checked B; the buffer has room for all rows of all panels, of which this task alone writes these.
                unsafe { pack_rows(isa, p.b, rows, p.n, panels, nr, out) };
            }
        }
    }

    /// Tasks; they may run in any order and on any thread. [`Outer::finish`] comes after all of them.
    pub fn tasks(&self) -> usize {
        match self.blocks {
            _ if self.size == 0 => 0,
            Some(_) => self.runs.count() * k_blocks(self.k).count(),
            None => self.runs.count(),
        }
    }

    /// Work of a task.
    pub fn flops(&self, task: usize) -> f64 {
        let (strips, blocks) = match self.blocks {
            Some(_) => (
                self.runs.get(task % self.runs.count()).len(),
                k_blocks(self.k).count(),
            ),
            None => (self.runs.get(task).len(), 1),
        };
        let all = self.m.div_ceil(self.kernels.mr) * blocks;
        self.work.flops * strips as f64 / all as f64
    }

    pub fn run(&self, task: usize) {
        let (block, run) = (task / self.runs.count(), task % self.runs.count());
        let some = self.runs.get(run);
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

    /// Where the results of a block begin that are `c` and come `at` numbers after the first.
    fn target(&self, block: usize, c: *mut T, at: usize) -> *mut T {
        match &self.blocks {
            Some(blocks) if block > 0 => blocks.ptr().wrapping_add((block - 1) * self.size + at),
            _ => c,
        }
    }

    /// The results and their first places in the workspace of a block.
    fn results(&self) -> impl Iterator<Item = (*mut T, usize, usize)> {
        let parts = self.parts.iter().map(|p| (p.c.0, p.at, p.m * p.n));
        let sums = self.sums.iter();
        parts.chain(sums.map(|s| (s.0, self.size - self.m, self.m)))
    }

    /// Some strips of one block of k. False when the call is being abandoned.
    fn block(&self, block: usize, (k0, kc): (usize, usize), some: Range<usize>) -> bool {
        let (isa, nr) = (self.kernels.isa, self.kernels.nr);
        let (panels, height) = (self.panels(), self.kernels.mr);
        // Added to what the blocks before gave.
        let add = block > 0 && self.blocks.is_none();
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
            let Some(sums) = &self.sums else {
                continue;
            };
            let out = self.target(block, sums.0, self.size - self.m);
            for (i, &(i0, rows)) in group[..size].iter().enumerate() {
                let sum = StripSums {
                    k: kc,
                    rows,
                    strip: to.wrapping_add(i * room).cast_const(),
                    // SAFETY: sums of these rows, which belong to this task (or block) alone.
                    out: unsafe { core::slice::from_raw_parts_mut(out.wrapping_add(i0), rows) },
                    add,
                };
                dispatch_on(isa, sum);
            }
        }
        let fits = (PANELS_BYTES / (kc.max(1) * nr * size_of::<T>())).max(1);
        let turns = panels.div_ceil(fits).max(1);
        let own = match self.packed {
            Some(_) => 0,
            None => panels.div_ceil(turns) * kc * nr,
        };
        let own = Buffer::<T>::new(own);
        for turn in 0..turns {
            let (first, end) = (turn * panels / turns, (turn + 1) * panels / turns);
            // The panels of a part among these, counted within the part, and where they are packed.
            let slice = |p: &Part<'_, T>| {
                let last = p.panel + p.n.div_ceil(nr);
                let (from, to) = (p.panel.clamp(first, end), last.clamp(first, end));
                let at = match &self.packed {
                    Some(packed) => packed.ptr().wrapping_add((k0 * panels + from * kc) * nr),
                    None => own.ptr().wrapping_add((from - first) * kc * nr),
                };
                (from - p.panel.min(from), to - p.panel.min(to), at)
            };
            for p in self.parts.iter().filter(|_| self.packed.is_none()) {
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
                        c: self.target(block, p.c.0, p.at).wrapping_add(i0 * p.n + j0),
                        ldc: p.n,
                        cols: (to * nr).min(p.n) - j0,
                        load_c: add,
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
        for (c, at, len) in self.results() {
            let c = SharedMut(c);
            let cost = Cost {
                flops: (len * count) as f64,
                bytes: ((count + 2) * len * size_of::<T>()) as f64,
            };
            for_each_chunk(len, 4096, cost, &|some| {
                let sum = Sum {
                    // SAFETY: chunks are disjoint parts of this result.
                    c: unsafe { c.slice(some.start, some.len()) },
                    from: blocks.ptr().wrapping_add(at + some.start),
                    step: self.size,
                    count,
                };
                dispatch_on(self.kernels.isa, sum);
            });
        }
    }
}

/// `out[i] (+)= sum_l strip[l, i]` of a packed strip `[k][rows]`: every lane sums numbers that are `rows` vectors apart.
struct StripSums<'a, T> {
    k: usize,
    rows: usize,
    strip: *const T,
    out: &'a mut [T],
    add: bool,
}

impl<T: Real> Kernel<T> for StripSums<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        let StripSums { k, rows, strip, .. } = self;
        let mut sums = [T::ZERO; MAX_MR];
        let whole = k / S::LANES * S::LANES;
        // SAFETY: `whole * rows` numbers of the strip are whole vectors; rows is at most MAX_MR.
        unsafe {
            let mut lanes = [S::zero(); MAX_MR];
            for l in (0..whole).step_by(S::LANES) {
                for v in 0..MAX_MR {
                    if v < rows {
                        let x = S::load(strip.add(l * rows + v * S::LANES));
                        lanes[v] = S::add(lanes[v], x);
                    }
                }
            }
            let mut each = [T::ZERO; MAX_MR * 16];
            for v in 0..MAX_MR {
                S::store(each.as_mut_ptr().add(v * S::LANES), lanes[v]);
            }
            for some in each[..rows * S::LANES].chunks_exact(rows) {
                for (sum, &x) in sums.iter_mut().zip(some) {
                    *sum += x;
                }
            }
            for l in whole..k {
                for i in 0..rows {
                    sums[i] += *strip.add(l * rows + i);
                }
            }
        }
        for (out, sum) in self.out.iter_mut().zip(sums) {
            *out = if self.add { *out + sum } else { sum };
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
