//! Blocking and partition of one product.
use super::band::Band;
use super::buffer::Buffer;
use super::gemv::Gemv;
use super::kernel::{Kernels, one_row, select_exact, strips};
use super::pack::{PACK_SLACK, RowsOf, pack_b, pack_rows, pack_strips};
use super::{Activation, Epilogue, Mat, act};
use crate::element::Real;
use crate::layout::numel;
use crate::parallel::{Cost, Runs, SharedMut, abandoned};
use crate::simd::{self, cache, dispatch_on};
use core::ops::Range;

/// Longest block of k: a strip of A and a panel of B of this length fill a first-level cache of 32 KiB, so that the strip
/// is still there when the next panel comes.
const KC: usize = 384;
/// Packed B that a strip of A is taken along: B is read in order, which costs little from the third level too, while every strip of
/// A begins with misses. So it may be all of a second-level cache of 512 KiB, and half of a larger one.
fn packed_bytes() -> usize {
    (cache::second_level() / 2).max(512 << 10)
}
/// Fewer rows than this do not pay for packing rows of B that are contiguous already.
const PACK_ROWS: usize = 32;
/// Nor does a B of so many bytes: one that stays in a first-level cache beside a strip of A, or that takes up to half of a large
/// second-level one.
fn small_b() -> usize {
    match cache::second_level() {
        bytes if bytes >= 1 << 20 => bytes / 2,
        _ => 16 << 10,
    }
}
/// Rows of a share of a panel.
const SHARE_ROWS: usize = 256;
/// Work that a task of its own is worth, in floating-point operations.
const LEAST: f64 = 0.4e6;

/// The fewest strips that make a task, of so much work each, if all tasks read so many numbers of packed B.
fn least_strips<T>(flops: f64, b: usize) -> usize {
    let least = (LEAST / flops.max(1.0)).ceil() as usize;
    // What comes from the third level has to be worth it.
    if b.saturating_mul(size_of::<T>()) > cache::second_level() {
        least.max(8)
    } else {
        least
    }
}

/// How k is cut into blocks `(start, length)`: by k alone, since the cuts show in the bits.
pub(crate) fn k_blocks(k: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    // k = 0 is one empty block: its epilogue still has to run.
    let kc = k.div_ceil(k.div_ceil(KC).max(1));
    let count = if k == 0 { 1 } else { k.div_ceil(kc) };
    (0..count).map(move |i| (i * kc, kc.min(k - i * kc)))
}

/// Rows of B that a task packs.
pub(super) const PACK_RUN: usize = 64;

/// Strips of rows that are packed together.
pub(super) const GROUP: usize = 8;

/// Where panels of B lie in memory, for one block of k.
struct Panels<T> {
    /// Panel number p is at `at + p * step`, its rows (its columns, if B is transposed and read in place) `b_ks` apart.
    at: *mut T,
    step: usize,
    b_ks: isize,
    /// A last panel that lies elsewhere because it is not whole, packed.
    partial: Option<(usize, *mut T)>,
}

impl<T> Panels<T> {
    #[inline(always)]
    fn get(&self, panel: usize, nr: usize) -> (*mut T, isize) {
        match self.partial {
            Some((p, at)) if p == panel => (at, nr as isize),
            _ => {
                let at = self.at.wrapping_add(panel.wrapping_mul(self.step));
                (at, self.b_ks)
            }
        }
    }
}

/// Who does what.
enum Split<T> {
    /// A task is a run of panels of columns, or a share of the rows of one; it packs its own part of B. There are so many pieces, the
    /// last of which may be two panels.
    Columns(Runs, usize),
    /// A task is a run of strips of rows; what has to be packed of B is packed by everybody first.
    Rows(Runs, Buffer<T>),
}

/// One product, ready to run.
pub(crate) struct Plan<'a, T> {
    m: usize,
    n: usize,
    k: usize,
    a: Mat<'a, T>,
    b: Mat<'a, T>,
    c: SharedMut<T>,
    bias: Option<&'a [T]>,
    act: Activation,
    accumulate: bool,
    pre: Option<SharedMut<T>>,
    kernels: Kernels<T>,
    /// For a last panel that is narrower than the others.
    rest: Option<Kernels<T>>,
    /// Panels of which all columns that a tile reads exist.
    whole: usize,
    split: Split<T>,
    /// B is read where it lies.
    in_place: bool,
    /// One row times a transposed matrix.
    gemv: bool,
    pack_a: bool,
}

fn flops(m: usize, n: usize, k: usize) -> f64 {
    2.0 * m as f64 * n as f64 * k as f64
}

/// Estimated work of one product.
pub(crate) fn cost<T>(m: usize, n: usize, k: usize) -> Cost {
    Cost {
        flops: flops(m, n, k),
        bytes: size_of::<T>() as f64
            * (m as f64 * k as f64 + k as f64 * n as f64 + 2.0 * m as f64 * n as f64),
    }
}

impl<'a, T: Real> Plan<'a, T> {
    /// Checks the operands (and panics where they do not fit) and decides how to run.
    pub fn new(
        m: usize,
        n: usize,
        k: usize,
        a: Mat<'a, T>,
        b: Mat<'a, T>,
        c: &'a mut [T],
        epilogue: Epilogue<'a, T>,
        threads: usize,
    ) -> Self {
        a.check(m, k, "a");
        b.check(k, n, "b");
        assert!(
            c.len() >= numel(&[m, n]),
            "c has {} elements, not {m} x {n}",
            c.len()
        );
        if let Some(bias) = epilogue.bias {
            assert!(bias.len() >= n, "bias has {} elements, not {n}", bias.len());
        }
        let pre = epilogue.pre.map(|pre| {
            assert!(
                pre.len() >= numel(&[m, n]),
                "pre has {} elements, not {m} x {n}",
                pre.len()
            );
            SharedMut(pre.as_mut_ptr())
        });
        let isa = simd::isa();
        let wide = one_row::<T>(isa);
        // A last panel that is not whole is copied, which must not be most of the work.
        let (kernels, rest) =
            if m == 1 && b.cs == 1 && (n.is_multiple_of(wide.nr) || n >= 8 * wide.nr) {
                (wide, None)
            } else {
                select_exact::<T>(isa, n)
            };
        let panels = n.div_ceil(kernels.nr);
        let whole = if rest.is_some() && n.is_multiple_of(kernels.lanes) {
            panels
        } else {
            n / kernels.nr
        };
        let strip_count = m.div_ceil(kernels.mr);
        let gemv = m == 1 && b.rs == 1 && b.cs != 1;
        let in_place = gemv
            || b.cs == 1 && (m < PACK_ROWS || k.saturating_mul(n) <= small_b() / size_of::<T>());
        // Otherwise every element of a strip would touch its own cache line, many of them in the same set.
        let pack_a = a.cs != 1 && k > 1 && n > kernels.nr;
        // Split by columns, every task packs all of A: no good if that is the long side. Nor where A is much longer than B is wide: it
        // is read once by rows, and by every task by columns. Nor where there are few panels, unless they go round: by rows threads
        // meet before they begin, and read what others have packed.
        let few = (panels < 4 * threads && !panels.is_multiple_of(threads))
            || (pack_a && strip_count > 2 * panels)
            || m / 3 > n;
        // By rows every task reads all of B, by columns all of A.
        let by_rows = threads > 1
            && !gemv
            && strip_count >= 2 * threads
            && if in_place {
                n <= m
            } else {
                few && strip_count > panels
            };
        let split = if by_rows {
            // All of B, or a last panel that is not whole.
            let packed = panels - if in_place { whole } else { 0 };
            let packed = Buffer::new(k * packed * kernels.nr);
            let least = least_strips::<T>(flops(kernels.mr, n, k), k * panels * kernels.nr);
            Split::Rows(
                Runs::factored(strip_count, threads, least, usize::MAX),
                packed,
            )
        } else {
            let kc = k_blocks(k).next().map_or(1, |(_, len)| len.max(1));
            let fits = (packed_bytes() / (kc * kernels.nr * size_of::<T>())).max(1);
            let least = (LEAST / flops(m, kernels.nr, k).max(1.0)).ceil() as usize;
            // The last panels are cut into shares of rows, large enough that packing B for each costs little.
            let shares = match m / SHARE_ROWS {
                0 | 1 => 1,
                2 | 3 => 2,
                _ => 4,
            };
            // Nothing to do: however wide it is.
            let pieces = if m == 0 { 0 } else { panels };
            // A narrow last one goes with its neighbour: alone it has little work for each element of A.
            let pieces = if rest.is_some() && pieces > 1 {
                pieces - 1
            } else {
                pieces
            };
            let runs = Runs::factored_shares(pieces, shares, threads, least.min(fits), fits);
            Split::Columns(runs, pieces)
        };
        Plan {
            m,
            n,
            k,
            a,
            b,
            c: SharedMut(c.as_mut_ptr()),
            bias: epilogue.bias,
            act: epilogue.act,
            accumulate: epilogue.accumulate,
            pre,
            kernels,
            rest,
            whole,
            split,
            in_place,
            gemv,
            pack_a,
        }
    }

    fn panels(&self) -> usize {
        self.n.div_ceil(self.kernels.nr)
    }

    /// The panels that everybody packs first.
    fn shared_panels(&self) -> Range<usize> {
        match self.split {
            Split::Columns(..) => 0..0,
            Split::Rows(..) if self.in_place => self.whole..self.panels(),
            Split::Rows(..) => 0..self.panels(),
        }
    }

    /// Tasks that have to be done before any of [`Plan::tasks`].
    pub fn pack_tasks(&self) -> usize {
        match self.shared_panels() {
            none if none.is_empty() => 0,
            _ if self.b.cs == 1 => self.k.div_ceil(PACK_RUN),
            some => some.len(),
        }
    }

    /// Packs a run of rows, or all of one panel.
    pub fn run_pack(&self, task: usize) {
        let Split::Rows(_, packed) = &self.split else {
            return;
        };
        let (some, nr) = (self.shared_panels(), self.kernels.nr);
        for (k0, kc) in k_blocks(self.k) {
            let at = |panel: usize, row: usize| {
                let before = k0 * some.len() + (panel - some.start) * kc + row;
                packed.ptr().wrapping_add(before * nr)
            };
            if self.b.cs == 1 {
                let from = (task * PACK_RUN).max(k0);
                let to = ((task + 1) * PACK_RUN).min(k0 + kc);
                if from < to {
                    let out = at(some.start, from - k0);
                    self.pack_rows((from, to - from), (some.start, some.end), (out, kc * nr));
                }
            } else {
                self.pack_panel(k0, kc, task, at(task, 0));
            }
        }
    }

    fn pack_rows(
        &self,
        (k0, rows): (usize, usize),
        panels: (usize, usize),
        (out, room): (*mut T, usize),
    ) {
        let (isa, nr) = (self.kernels.isa, self.kernels.nr);
        // SAFETY: the range is inside B; out has room for these rows of every panel, that this task alone writes.
        unsafe {
            pack_rows(
                isa,
                RowsOf::Mat(self.b),
                (k0, rows),
                self.n,
                panels,
                nr,
                (out, room),
            )
        }
    }

    /// Where a block of B lies for tasks that share it.
    fn shared(&self, packed: &Buffer<T>, k0: usize, kc: usize) -> Panels<T> {
        let (some, nr) = (self.shared_panels(), self.kernels.nr);
        let at = packed.ptr().wrapping_add(k0 * some.len() * nr);
        if self.in_place {
            self.where_it_lies(k0, some.clone().next().map(|panel| (panel, at)))
        } else {
            Panels {
                at,
                step: kc * nr,
                b_ks: nr as isize,
                partial: None,
            }
        }
    }

    /// B itself; its last panel elsewhere if it is not whole.
    fn where_it_lies(&self, k0: usize, partial: Option<(usize, *mut T)>) -> Panels<T> {
        let nr = self.kernels.nr;
        Panels {
            at: self.b.at(k0, 0).cast_mut(),
            step: if self.gemv {
                nr.wrapping_mul(self.b.cs as usize)
            } else {
                nr
            },
            b_ks: if self.gemv { self.b.cs } else { self.b.rs },
            partial,
        }
    }

    fn pack_panel(&self, k0: usize, kc: usize, panel: usize, out: *mut T) {
        let nr = self.kernels.nr;
        let columns = (panel * nr, nr.min(self.n - panel * nr));
        // SAFETY: the range is inside B; out is kc * nr elements of a buffer that this task alone writes.
        unsafe { pack_b(self.kernels.isa, self.b, (k0, kc), columns, nr, out) }
    }

    /// Tasks; they may run in any order and on any thread.
    pub fn tasks(&self) -> usize {
        if self.m == 0 || self.n == 0 {
            return 0;
        }
        match &self.split {
            Split::Columns(runs, _) | Split::Rows(runs, _) => runs.count(),
        }
    }

    /// Work of a task.
    pub fn flops(&self, task: usize) -> f64 {
        match &self.split {
            Split::Columns(runs, pieces) => {
                let part = runs.part(task);
                let rows = part.of(self.m).len();
                let panels = self.panels_of(part.pieces, *pieces);
                flops(rows, panels.len() * self.kernels.nr, self.k)
            }
            Split::Rows(runs, _) => flops(runs.get(task).len() * self.kernels.mr, self.n, self.k),
        }
    }

    /// The panels of some of all `pieces`, the last of which may have two.
    fn panels_of(&self, some: Range<usize>, pieces: usize) -> Range<usize> {
        match some.end == pieces {
            true => some.start..self.panels(),
            false => some,
        }
    }

    /// Runs one task.
    pub fn run(&self, task: usize) {
        match &self.split {
            Split::Columns(runs, pieces) => {
                let part = runs.part(task);
                let panels = self.panels_of(part.pieces.clone(), *pieces);
                self.columns(panels, part.of(self.m.div_ceil(self.kernels.mr)));
            }
            Split::Rows(runs, packed) => {
                let strips = runs.get(task);
                for (k0, kc) in k_blocks(self.k) {
                    let b = self.shared(packed, k0, kc);
                    // Panels that stay in the second-level cache, one run of them after another.
                    let run =
                        (packed_bytes() / (kc.max(1) * self.kernels.nr * size_of::<T>())).max(1);
                    for first in (0..self.panels()).step_by(run) {
                        let panels = (first, (first + run).min(self.panels()));
                        if !self.block((k0, kc), strips.clone(), panels, &b) {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// All tasks of a product that one thread makes.
    pub fn run_alone(&self) {
        debug_assert_eq!(self.pack_tasks(), 0);
        (0..self.tasks()).for_each(|task| self.run(task));
    }

    /// Some strips of some panels.
    fn columns(&self, panels: Range<usize>, some: Range<usize>) {
        let (first, last) = (panels.start, panels.end);
        let nr = self.kernels.nr;
        // A partial panel may not be read in place: nr elements of each row are read.
        let packed = if self.gemv {
            first..first
        } else if self.in_place {
            self.whole.max(first)..last
        } else {
            first..last
        };
        let longest = k_blocks(self.k).next().map_or(0, |(_, len)| len);
        let buffer = Buffer::<T>::new(packed.len() * longest * nr);
        for (k0, kc) in k_blocks(self.k) {
            let slot = |panel: usize| {
                let before = (panel - packed.start) * kc * nr;
                buffer.ptr().wrapping_add(before)
            };
            let b = if self.in_place {
                self.where_it_lies(k0, packed.clone().next().map(|p| (p, slot(p))))
            } else {
                Panels {
                    at: buffer.ptr().wrapping_sub(first * kc * nr),
                    step: kc * nr,
                    b_ks: nr as isize,
                    partial: None,
                }
            };
            if self.b.cs == 1 && !self.in_place {
                self.pack_rows((k0, kc), (first, last), (buffer.ptr(), kc * nr));
            } else {
                for panel in packed.clone() {
                    self.pack_panel(k0, kc, panel, slot(panel));
                }
            }
            if !self.block((k0, kc), some.clone(), (first, last), &b) {
                return;
            }
        }
    }

    /// All tiles of some strips and some panels, for one block of k. False when the call is being abandoned.
    fn block(
        &self,
        (k0, kc): (usize, usize),
        some: Range<usize>,
        panels: (usize, usize),
        b: &Panels<T>,
    ) -> bool {
        let mut rest = strips(self.m, self.kernels.mr)
            .skip(some.start)
            .take(some.len());
        let room = if self.pack_a {
            GROUP * (kc * self.kernels.mr + PACK_SLACK)
        } else {
            0
        };
        let pack = Buffer::<T>::new(room);
        let mut group = [(0, 0); GROUP];
        loop {
            // Strips that are packed together: a line of a transposed A holds rows of several.
            let mut size = 0;
            for (slot, strip) in group.iter_mut().zip(rest.by_ref()) {
                *slot = strip;
                size += 1;
            }
            if size == 0 {
                return true;
            }
            let group = &group[..size];
            let room = kc * self.kernels.mr + PACK_SLACK;
            if self.pack_a {
                // SAFETY: the strips are inside A; the buffer holds `room` for each.
                unsafe { pack_strips(self.a, group, (k0, kc), room, pack.ptr()) };
            }
            for (slot, &(i0, rows)) in group.iter().enumerate() {
                if abandoned(flops(rows, kc, (panels.1 - panels.0) * self.kernels.nr)) {
                    return false;
                }
                let a = if self.pack_a {
                    (
                        pack.ptr().wrapping_add(slot * room).cast_const(),
                        1,
                        rows as isize,
                    )
                } else {
                    (self.a.at(i0, k0), self.a.rs, self.a.cs)
                };
                self.strip((i0, rows), (k0, kc), panels, a, b);
            }
        }
    }

    /// The tiles of one strip. Along the rows of C: neighbours lie in the same pages, and are fetched ahead.
    fn strip(
        &self,
        (i0, rows): (usize, usize),
        (k0, kc): (usize, usize),
        panels: (usize, usize),
        (a, a_rs, a_ks): (*const T, isize, isize),
        b: &Panels<T>,
    ) {
        let nr = self.kernels.nr;
        let last = k0 + kc == self.k;
        // What the last block of k does besides.
        let bias = self.bias.filter(|_| last);
        let pre = self.pre.as_ref().filter(|_| last);
        let relu = last && self.act == Activation::Relu;
        let mut at = Band {
            k: kc,
            a,
            a_rs,
            a_ks,
            step: b.step,
            ldc: self.n,
            load_c: k0 > 0 || self.accumulate,
            relu,
            ..Band::none()
        };
        // The last panel may lie elsewhere, and have kernels of its own.
        let apart = b.partial.map_or(self.panels(), |(p, _)| p);
        let apart = match self.rest {
            Some(_) => self.n / nr,
            None => apart,
        };
        let lone = apart.clamp(panels.0, panels.1);
        for (first, end) in [(panels.0, lone), (lone, panels.1)] {
            if first == end {
                continue;
            }
            let j0 = first * nr;
            let kernels = match &self.rest {
                Some(rest) if first >= apart => rest,
                _ => &self.kernels,
            };
            (at.b, at.b_ks) = {
                let (p, ks) = b.get(first, nr);
                (p.cast_const(), ks)
            };
            at.cols = (end * nr).min(self.n) - j0;
            // Wrapping: a pointer is only formed here; the kernel goes no further than `cols`.
            at.c = self.c.0.wrapping_add(i0 * self.n + j0);
            if let Some(bias) = bias {
                at.bias = bias[j0..].as_ptr();
            }
            if let Some(pre) = pre {
                at.pre = pre.0.wrapping_add(i0 * self.n + j0);
            }
            // SAFETY: new() checked the operands; b holds nr columns of kc rows; strips of C do not overlap, and the same
            // task visits a strip's k blocks one after the other.
            unsafe {
                if self.gemv {
                    dispatch_on(self.kernels.isa, Gemv(&at));
                } else {
                    kernels.run_band(rows, &at);
                }
                if last {
                    act::apply(self.kernels.isa, self.act, at.c, rows, at.cols, self.n);
                }
            }
        }
    }
}
