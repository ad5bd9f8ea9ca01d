//! The gates of a block of units for all running sequences, forward and backward: maps by element, in registers.
use super::{Cell, Forget};
use crate::element::Real;
use crate::simd::{Kernel, Simd, math, prefetch_run};
use crate::sum::{load, store};
use core::ops::Range;

/// The last row count may be 0; each table has an entry per running sequence.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    /// Where the rows of the gates begin.
    pub gates: &'a [usize],
    /// Where rows of `h` numbers begin: cells, hidden parts.
    pub units: &'a [usize],
    /// Where this direction's rows of y begin.
    pub y: &'a [usize],
}

/// Part of a step. Pointers to compact states have rows `ld` apart, one per sequence of the lane.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a, T> {
    pub cell: Cell,
    /// The first of the two passes of a GRU that resets before the product.
    pub reset_pass: bool,
    pub at: Tables<'a>,
    /// Units.
    pub h: usize,
    /// First column and number of columns.
    pub block: (usize, usize),
    /// The inputs' and the states' part on entry, activated on exit if `keep`.
    pub gates: *mut T,
    pub keep: bool,
    /// Kept c, or null.
    pub cells: *mut T,
    /// The states' part of n, of rows that begin at `hidden_at`.
    pub hidden: *const T,
    pub hidden_at: &'a [usize],
    pub peephole: *const T,
    pub b_n: *const T,
    pub y: *mut T,
    pub state: *const T,
    /// The new h, or in the reset pass r * h.
    pub next: *mut T,
    pub c: *mut T,
    pub ld: usize,
}

/// Runs `$body` for the vectors `$j` (column), `$n` (numbers) of the block: whole ones, of which the compiler knows it, and a rest.
macro_rules! columns {
    ($S:ident, $block:expr, |$j:ident, $n:ident| $body:block) => {{
        let (first, count) = $block;
        let mut $j = first;
        let end = first + count;
        while $j + $S::LANES <= end {
            let $n = $S::LANES;
            $body
            $j += $S::LANES;
        }
        if $j < end {
            let $n = end - $j;
            $body
        }
    }};
}

/// Fetches the block's part of a row, unless there is none. The rows of a step may lie a whole sequence apart, where no CPU guesses
/// that they will be asked for.
#[inline(always)]
pub(super) fn fetch<T>(row: *const T, (first, count): (usize, usize)) {
    if !row.is_null() {
        prefetch_run(row.wrapping_add(first), count);
    }
}

/// Row that begins at `at` after `p`, or null if that is.
#[inline(always)]
fn row<T>(p: *const T, at: usize) -> *const T {
    if p.is_null() { p } else { p.wrapping_add(at) }
}

impl<T: Real> Kernel<T> for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: the maker's promise: every row has the columns of the block.
        unsafe {
            match self.cell {
                Cell::Tanh => self.simple::<S, false>(),
                Cell::Relu => self.simple::<S, true>(),
                Cell::Lstm(forget) => self.lstm::<S>(forget),
                Cell::Gru { .. } if self.reset_pass => self.reset::<S>(),
                Cell::Gru { before, swapped } => self.gru::<S>(before, swapped),
            }
        }
    }
}

/// `s (1 - s)` times `g`.
#[inline(always)]
unsafe fn through_sigmoid<S: Simd>(g: S::V, s: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::mul(g, S::fnma(s, s, s)) }
}

/// `1 - y y` times `g`.
#[inline(always)]
unsafe fn through_tanh<S: Simd>(g: S::V, y: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::mul(g, S::fnma(y, y, S::c(1.0))) }
}

impl<T: Real> Forward<'_, T> {
    #[inline(always)]
    unsafe fn simple<S: Simd<T = T>, const RELU: bool>(&self) {
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let (y, next) = (self.y.add(self.at.y[i]), self.next.add(i * self.ld));
                columns!(S, self.block, |j, n| {
                    let a = load::<S>(a.add(j), n);
                    let h = if RELU {
                        // Written so that NaN stays NaN.
                        S::max(S::zero(), a)
                    } else {
                        math::gate_tanh::<S>(a)
                    };
                    store::<S>(y.add(j), h, n);
                    store::<S>(next.add(j), h, n);
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn lstm<S: Simd<T = T>>(&self, forget: Forget) {
        let gate = forget == Forget::Gate;
        // Places of g and o.
        let (at_g, at_o) = if gate { (2, 3) } else { (1, 2) };
        let h = self.h;
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let (y, next) = (self.y.add(self.at.y[i]), self.next.add(i * self.ld));
                let c = self.c.add(i * self.ld);
                columns!(S, self.block, |j, n| {
                    let old = load::<S>(c.add(j), n);
                    let mut zi = load::<S>(a.add(j), n);
                    let mut zo = load::<S>(a.add(at_o * h + j), n);
                    let peephole = !self.peephole.is_null();
                    if peephole {
                        zi = S::fma(load::<S>(self.peephole.add(j), n), old, zi);
                    }
                    let one = S::c(1.0);
                    let gi = math::gate::<S>(zi);
                    let gg = math::gate_tanh::<S>(load::<S>(a.add(at_g * h + j), n));
                    let kept = match forget {
                        Forget::Gate => {
                            let mut zf = load::<S>(a.add(h + j), n);
                            if peephole {
                                zf = S::fma(load::<S>(self.peephole.add(h + j), n), old, zf);
                            }
                            let gf = math::gate::<S>(zf);
                            if self.keep {
                                store::<S>(a.add(h + j), gf, n);
                            }
                            S::mul(gf, old)
                        }
                        Forget::Never => old,
                        Forget::Coupled => S::mul(S::sub(one, gi), old),
                    };
                    let new = S::fma(gi, gg, kept);
                    if peephole {
                        zo = S::fma(load::<S>(self.peephole.add((at_o - 1) * h + j), n), new, zo);
                    }
                    let go = math::gate::<S>(zo);
                    let out = S::mul(go, math::gate_tanh::<S>(new));
                    if self.keep {
                        store::<S>(a.add(j), gi, n);
                        store::<S>(a.add(at_g * h + j), gg, n);
                        store::<S>(a.add(at_o * h + j), go, n);
                        store::<S>(self.cells.add(self.at.units[i] + j), new, n);
                    }
                    store::<S>(c.add(j), new, n);
                    store::<S>(y.add(j), out, n);
                    store::<S>(next.add(j), out, n);
                });
            }
        }
    }

    /// r and z, and r * h.
    #[inline(always)]
    unsafe fn reset<S: Simd<T = T>>(&self) {
        let h = self.h;
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let (state, next) = (self.state.add(i * self.ld), self.next.add(i * self.ld));
                columns!(S, self.block, |j, n| {
                    let r = math::gate::<S>(load::<S>(a.add(j), n));
                    let z = math::gate::<S>(load::<S>(a.add(h + j), n));
                    store::<S>(a.add(j), r, n);
                    store::<S>(a.add(h + j), z, n);
                    store::<S>(next.add(j), S::mul(r, load::<S>(state.add(j), n)), n);
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn gru<S: Simd<T = T>>(&self, before: bool, swapped: bool) {
        let h = self.h;
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let (y, next) = (self.y.add(self.at.y[i]), self.next.add(i * self.ld));
                let state = self.state.add(i * self.ld);
                columns!(S, self.block, |j, n| {
                    let zn = load::<S>(a.add(2 * h + j), n);
                    let mut z = load::<S>(a.add(h + j), n);
                    let new = if before {
                        math::gate_tanh::<S>(zn)
                    } else {
                        let r = math::gate::<S>(load::<S>(a.add(j), n));
                        z = math::gate::<S>(z);
                        let to = self.hidden.add(self.hidden_at[i] + j).cast_mut();
                        let mut part = load::<S>(to, n);
                        if !self.b_n.is_null() {
                            part = S::add(part, load::<S>(self.b_n.add(j), n));
                            if self.keep {
                                store::<S>(to, part, n);
                            }
                        }
                        if self.keep {
                            store::<S>(a.add(j), r, n);
                            store::<S>(a.add(h + j), z, n);
                        }
                        math::gate_tanh::<S>(S::fma(r, part, zn))
                    };
                    if self.keep {
                        store::<S>(a.add(2 * h + j), new, n);
                    }
                    let old = load::<S>(state.add(j), n);
                    let out = if swapped {
                        S::fma(z, S::sub(new, old), old)
                    } else {
                        S::fma(z, S::sub(old, new), new)
                    };
                    store::<S>(y.add(j), out, n);
                    store::<S>(next.add(j), out, n);
                });
            }
        }
    }
}

/// Part of a step back. Compact gradients have rows `ld` (states) and `wide_ld` (gates) apart.
#[derive(Clone, Copy)]
pub(super) struct Backward<'a, T> {
    pub cell: Cell,
    /// The second pass of a GRU that resets before the product: r.
    pub reset_pass: bool,
    pub at: Tables<'a>,
    pub h: usize,
    pub block: (usize, usize),
    /// Activated gates.
    pub gates: *const T,
    pub cells: *const T,
    pub hidden: *const T,
    pub peephole: *const T,
    /// Where the h (rows of y or of h0; only of a GRU) and c before this step lie.
    pub h_before: &'a [*const T],
    pub c_before: &'a [*const T],
    pub y: *const T,
    /// Gradient of y, or null.
    pub dy: *const T,
    /// Gradients of the state after this step on entry; of what does not go through a product on exit.
    pub dh: *mut T,
    pub dc: *mut T,
    pub ld: usize,
    /// Gradients of the gates before their activations, in the order of the rows of gates, and again compact for the step's
    /// product; there with the state's part where they differ.
    pub dgates: *mut T,
    pub dstep: *mut T,
    pub wide_ld: usize,
    /// Gradient of the state's part of n, rows of `h`; or null.
    pub dhidden: *mut T,
    /// Gradient of r * h, compact.
    pub dreset: *const T,
    /// r * h before the step, in the order of the rows of gates.
    pub reset: *mut T,
}

impl<T: Real> Kernel<T> for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<S: Simd<T = T>>(self) {
        // SAFETY: the maker's promise: every row has the columns of the block.
        unsafe {
            match self.cell {
                Cell::Tanh => self.simple::<S, false>(),
                Cell::Relu => self.simple::<S, true>(),
                Cell::Lstm(forget) => self.lstm::<S>(forget),
                Cell::Gru { .. } if self.reset_pass => self.through_reset::<S>(),
                Cell::Gru { before, swapped } => self.gru::<S>(before, swapped),
            }
        }
    }
}

/// n numbers from p, zeros if it is null.
#[inline(always)]
unsafe fn load_maybe<S: Simd>(p: *const S::T, j: usize, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        if p.is_null() {
            S::zero()
        } else {
            load::<S>(p.add(j), n)
        }
    }
}

impl<T: Real> Backward<'_, T> {
    /// Rows of arrays that the gates of one sequence read and write, but for what is compact.
    fn arrays(&self) -> usize {
        2 * self.cell.gates() + 5
    }

    /// One of them, or null.
    #[inline(always)]
    fn array(&self, i: usize, which: usize) -> *const T {
        let gates = self.cell.gates();
        if which < 2 * gates {
            let at = self.at.gates[i] + which / 2 * self.h;
            return match (which % 2, self.cell.saves_gates()) {
                (0, _) => self.dgates.wrapping_add(at).cast_const(),
                (_, true) => self.gates.wrapping_add(at),
                _ => core::ptr::null(),
            };
        }
        let of_units = |p| row(p, self.at.units[i]);
        let before = |p: &[*const T]| p.get(i).map_or(core::ptr::null(), |&p| p);
        match (which - 2 * gates, self.cell) {
            (0, _) => row(self.dy, self.at.y[i]),
            (1, Cell::Tanh | Cell::Relu) => row(self.y, self.at.y[i]),
            (1, _) => before(self.h_before),
            (2, _) => before(self.c_before),
            (3, Cell::Lstm(_)) => of_units(self.cells),
            (3, Cell::Gru { before: false, .. }) => of_units(self.hidden),
            (4, Cell::Gru { before: false, .. }) => of_units(self.dhidden),
            (4, Cell::Gru { .. }) => of_units(self.reset),
            _ => core::ptr::null(),
        }
    }

    /// Rows that [`Backward::fetch_rows`] counts.
    pub fn rows(&self) -> usize {
        self.at.gates.len() * self.arrays()
    }

    /// Fetches some of them.
    pub fn fetch_rows(&self, some: Range<usize>) {
        let arrays = self.arrays();
        let (mut i, mut which) = (some.start / arrays, some.start % arrays);
        for _ in some {
            fetch(self.array(i, which), self.block);
            which += 1;
            if which == arrays {
                (i, which) = (i + 1, 0);
            }
        }
    }

    /// Gradient of h: from the later steps and from outside.
    #[inline(always)]
    unsafe fn incoming<S: Simd<T = T>>(&self, i: usize, j: usize, n: usize) -> S::V {
        // SAFETY: the maker's promise.
        unsafe {
            let dh = load::<S>(self.dh.add(i * self.ld + j), n);
            if self.dy.is_null() {
                dh
            } else {
                S::add(dh, load::<S>(self.dy.add(self.at.y[i] + j), n))
            }
        }
    }

    /// Stores the gradient of gate number `gate`, also for the step's product.
    #[inline(always)]
    unsafe fn put<S: Simd<T = T>>(&self, i: usize, gate: usize, j: usize, g: S::V, n: usize) {
        // SAFETY: the maker's promise.
        unsafe {
            let column = gate * self.h + j;
            store::<S>(self.dgates.add(self.at.gates[i] + column), g, n);
            store::<S>(self.dstep.add(i * self.wide_ld + column), g, n);
        }
    }

    #[inline(always)]
    unsafe fn simple<S: Simd<T = T>, const RELU: bool>(&self) {
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let y = self.y.add(self.at.y[i]);
                columns!(S, self.block, |j, n| {
                    let dh = self.incoming::<S>(i, j, n);
                    let y = load::<S>(y.add(j), n);
                    let da = if RELU {
                        // NaN > 0 is false: what NaN began, its own gradient goes on with.
                        S::select(S::le(y, S::zero()), S::zero(), dh)
                    } else {
                        through_tanh::<S>(dh, y)
                    };
                    self.put::<S>(i, 0, j, da, n);
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn lstm<S: Simd<T = T>>(&self, forget: Forget) {
        let gate = forget == Forget::Gate;
        let (at_g, at_o) = if gate { (2, 3) } else { (1, 2) };
        let h = self.h;
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let c = self.cells.add(self.at.units[i]);
                columns!(S, self.block, |j, n| {
                    let one = S::c(1.0);
                    let dh = self.incoming::<S>(i, j, n);
                    let (gi, gg) = (load::<S>(a.add(j), n), load::<S>(a.add(at_g * h + j), n));
                    let go = load::<S>(a.add(at_o * h + j), n);
                    let new = math::gate_tanh::<S>(load::<S>(c.add(j), n));
                    let old = load_maybe::<S>(self.c_before[i], j, n);
                    let peephole = !self.peephole.is_null();
                    let dzo = through_sigmoid::<S>(S::mul(dh, new), go);
                    let dc = load::<S>(self.dc.add(i * self.ld + j), n);
                    let mut dc = S::add(dc, through_tanh::<S>(S::mul(dh, go), new));
                    if peephole {
                        let p = load::<S>(self.peephole.add((at_o - 1) * h + j), n);
                        dc = S::fma(p, dzo, dc);
                    }
                    let dzg = through_tanh::<S>(S::mul(dc, gi), gg);
                    let (di, mut back) = match forget {
                        Forget::Gate => {
                            let gf = load::<S>(a.add(h + j), n);
                            let dzf = through_sigmoid::<S>(S::mul(dc, old), gf);
                            self.put::<S>(i, 1, j, dzf, n);
                            let mut back = S::mul(dc, gf);
                            if peephole {
                                let p = load::<S>(self.peephole.add(h + j), n);
                                back = S::fma(p, dzf, back);
                            }
                            (S::mul(dc, gg), back)
                        }
                        Forget::Never => (S::mul(dc, gg), dc),
                        Forget::Coupled => {
                            (S::mul(dc, S::sub(gg, old)), S::mul(dc, S::sub(one, gi)))
                        }
                    };
                    let dzi = through_sigmoid::<S>(di, gi);
                    if peephole {
                        back = S::fma(load::<S>(self.peephole.add(j), n), dzi, back);
                    }
                    self.put::<S>(i, 0, j, dzi, n);
                    self.put::<S>(i, at_g, j, dzg, n);
                    self.put::<S>(i, at_o, j, dzo, n);
                    store::<S>(self.dc.add(i * self.ld + j), back, n);
                });
            }
        }
    }

    #[inline(always)]
    unsafe fn gru<S: Simd<T = T>>(&self, reset_before: bool, swapped: bool) {
        let h = self.h;
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let dh_at = self.dh.add(i * self.ld);
                columns!(S, self.block, |j, n| {
                    let one = S::c(1.0);
                    let dh = self.incoming::<S>(i, j, n);
                    let (r, z) = (load::<S>(a.add(j), n), load::<S>(a.add(h + j), n));
                    let new = load::<S>(a.add(2 * h + j), n);
                    let old = load_maybe::<S>(self.h_before[i], j, n);
                    let (of_new, of_old) = if swapped {
                        (z, S::sub(one, z))
                    } else {
                        (S::sub(one, z), z)
                    };
                    let dz = if swapped {
                        S::sub(new, old)
                    } else {
                        S::sub(old, new)
                    };
                    let dzz = through_sigmoid::<S>(S::mul(dh, dz), z);
                    let dzn = through_tanh::<S>(S::mul(dh, of_new), new);
                    self.put::<S>(i, 1, j, dzz, n);
                    self.put::<S>(i, 2, j, dzn, n);
                    store::<S>(dh_at.add(j), S::mul(dh, of_old), n);
                    if reset_before {
                        store::<S>(self.reset.add(self.at.units[i] + j), S::mul(r, old), n);
                    } else {
                        let part = load::<S>(self.hidden.add(self.at.units[i] + j), n);
                        let dpart = S::mul(dzn, r);
                        self.put::<S>(i, 0, j, through_sigmoid::<S>(S::mul(dzn, part), r), n);
                        // The product goes through the state's part.
                        store::<S>(self.dstep.add(i * self.wide_ld + 2 * h + j), dpart, n);
                        store::<S>(self.dhidden.add(self.at.units[i] + j), dpart, n);
                    }
                });
            }
        }
    }

    /// From the gradient of r * h to those of r and h.
    #[inline(always)]
    unsafe fn through_reset<S: Simd<T = T>>(&self) {
        for i in 0..self.at.gates.len() {
            // SAFETY: the maker's promise.
            unsafe {
                let a = self.gates.add(self.at.gates[i]);
                let dh_at = self.dh.add(i * self.ld);
                columns!(S, self.block, |j, n| {
                    let d = load::<S>(self.dreset.add(i * self.ld + j), n);
                    let r = load::<S>(a.add(j), n);
                    let old = load_maybe::<S>(self.h_before[i], j, n);
                    self.put::<S>(i, 0, j, through_sigmoid::<S>(S::mul(d, old), r), n);
                    let dh = load::<S>(dh_at.add(j), n);
                    store::<S>(dh_at.add(j), S::fma(d, r, dh), n);
                });
            }
        }
    }
}
