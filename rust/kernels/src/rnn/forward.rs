//! Forward through time.
use super::gates::{Forward, Tables, fetch};
use super::lanes::{Lane, Lanes, padded_row};
use super::product::{Packed, Rows, Target, multiply};
use super::{Cell, Kept, Rnn, Weights, check};
use crate::alloc;
use crate::element::Real;
use crate::elementwise::fill;
use crate::gemm::buffer::Buffer;
use crate::gemm::{Epilogue, Mat, gemm};
use crate::parallel::{
    Cost, SharedMut, Team, abandoned, for_each, for_each_chunk, is_interrupted, region,
};
use crate::simd::{self, Isa, dispatch_on};
use core::ops::Range;

/// Microseconds of steps between two looks for Ctrl-C, which a region of threads that meet cannot hear.
const LOOK: f64 = 10_000.0;

/// All of one layer in one direction.
///
/// * `x (n, t, i)` or `(t, n, i)`, as `p.batch_first` says; `h0`, `c0` `(n, h)`, zeros where absent.
/// * `lengths`: steps of each sequence, 0 to t, in any order; all t where absent. Beyond its end y is 0 and the state stays.
/// * `y`: h after each step, in x's layout with rows of `p.y_row` numbers, of which `p.column .. p.column + h` are written;
///   `hn`, `cn` `(n, h)`: the last states.
///
/// # Panics
/// If lengths do not fit.
pub fn rnn_forward<T: Real>(
    p: &Rnn,
    lengths: Option<&[usize]>,
    w: &Weights<'_, T>,
    x: &[T],
    h0: Option<&[T]>,
    c0: Option<&[T]>,
    kept: &mut Kept<'_, T>,
    y: &mut [T],
    hn: &mut [T],
    cn: Option<&mut [T]>,
) {
    check(p, lengths, w, x, [h0, c0]);
    let (rows, wide, h) = (p.rows(lengths), p.wide(), p.h);
    assert_eq!(kept.gates.len(), rows * wide, "gates");
    for k in [&kept.cells, &kept.hidden].into_iter().flatten() {
        assert_eq!(k.len(), rows * h, "kept");
    }
    assert!(y.len() >= p.t * p.n * p.y_row, "y");
    assert_eq!(hn.len(), p.n * h, "hn");
    assert!(cn.as_ref().is_none_or(|c| c.len() == p.n * h), "cn");
    if let Some(l) = lengths {
        clear_padding(p, l, y);
    }
    let packed = lengths.map(|l| pack_rows(p, l, x));
    // SAFETY: pack_rows filled rows * i numbers.
    let x = packed.as_ref().map_or(x, |b| unsafe {
        core::slice::from_raw_parts(b.ptr(), rows * p.i)
    });
    inputs(p, rows, w, x, kept.gates);
    let steps = alloc_steps::<T>(p, rows);
    let lanes = Lanes::new(p, lengths, steps, size_of_val(w.u));
    let gates = p.cell.gates();
    let u = Packed::new(h, h, gates, &|g| Mat {
        data: w.u,
        offset: g * h * h,
        rs: 1,
        cs: h as isize,
    });
    let hidden_bias = match (p.cell.has_hidden(), w.b_u) {
        (true, Some(b)) => b[2 * h..].as_ptr(),
        _ => core::ptr::null(),
    };
    let keep = match p.cell {
        Cell::Lstm(_) => kept.cells.is_some(),
        Cell::Gru { before: false, .. } => kept.hidden.is_some(),
        _ => true,
    };
    let null = core::ptr::null_mut();
    let call = Call {
        p,
        u: &u,
        isa: simd::isa(),
        keep,
        gates: SharedMut(kept.gates.as_mut_ptr()),
        cells: SharedMut(kept.cells.as_mut().map_or(null, |c| c.as_mut_ptr())),
        hidden: SharedMut(kept.hidden.as_mut().map_or(null, |c| c.as_mut_ptr())),
        y: SharedMut(y.as_mut_ptr()),
        hn: SharedMut(hn.as_mut_ptr()),
        cn: SharedMut(match cn {
            Some(cn) if p.cell.has_cells() => cn.as_mut_ptr(),
            _ => null,
        }),
        h0,
        c0,
        peephole: SharedMut(w.peephole.map_or(null, |p| p.as_ptr().cast_mut())),
        b_n: SharedMut(hidden_bias.cast_mut()),
    };
    if is_interrupted() {
        return;
    }
    run_lanes(
        &lanes,
        steps,
        u.blocks(),
        &|lane| call.states(lane),
        &|states, s, team, blocks| {
            call.step(states, s, team, blocks);
        },
        &|states| call.finish(states),
        Order::Ascending,
    );
}

/// Estimated work of all steps.
pub(super) fn alloc_steps<T>(p: &Rnn, rows: usize) -> Cost {
    let flops = 2.0 * rows as f64 * p.wide() as f64 * p.h as f64;
    Cost {
        // An activation costs as much as some ten multiplications.
        flops: flops + 20.0 * rows as f64 * p.wide() as f64,
        // Every step reads all weights, from a second-level cache at best.
        bytes: (rows.div_ceil(p.n.max(1)) * p.wide() * p.h * size_of::<T>()) as f64,
    }
}

/// The order of steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    /// From the last step to the first, and one more turn after it if `beyond`.
    Descending {
        beyond: bool,
    },
}

impl Order {
    /// Turns of a loop over `steps` steps.
    fn turns(self, steps: usize) -> usize {
        steps + usize::from(steps > 0 && self == Order::Descending { beyond: true })
    }
    /// Number of the step of a turn; of the turn beyond, 0.
    fn step(self, steps: usize, turn: usize) -> usize {
        match self {
            Order::Ascending => turn,
            Order::Descending { .. } => (steps - 1).saturating_sub(turn),
        }
    }
}

/// One turn of a lane, for some blocks of units.
type Step<'a, S> = dyn Fn(&S, usize, Option<&Team<'_>>, Range<usize>) + Sync + 'a;

/// Runs all steps of all lanes: lanes side by side, or one lane whose units the threads of a region share.
pub(super) fn run_lanes<'l, S: Sync>(
    lanes: &'l Lanes,
    cost: Cost,
    blocks: usize,
    begin: &(dyn Fn(&'l Lane) -> S + Sync),
    step: &Step<'_, S>,
    end: &(dyn Fn(&S) + Sync),
    order: Order,
) {
    let all: f64 = lanes
        .lanes
        .iter()
        .map(|l| l.len.iter().sum::<usize>() as f64)
        .sum();
    let each = cost.micros() * 100e3 / all.max(1.0);
    if !lanes.shared {
        for_each(lanes.lanes.len(), cost, &|l| {
            let lane = &lanes.lanes[l];
            let state = begin(lane);
            let steps = lane.steps();
            for turn in 0..order.turns(steps) {
                step(&state, turn, None, 0..blocks);
                if abandoned(each * lane.active(order.step(steps, turn)) as f64) {
                    return;
                }
            }
            end(&state);
        });
        return;
    }
    let lane = &lanes.lanes[0];
    let state = begin(lane);
    let steps = lane.steps();
    let turns = order.turns(steps);
    let mut done = 0;
    while done < turns {
        // As many turns as take about LOOK.
        let (first, mut flops) = (done, 0.0);
        while done < turns && flops < LOOK * 100e3 {
            flops += each * lane.active(order.step(steps, done)) as f64;
            done += 1;
        }
        let part = Cost { flops, bytes: 0.0 };
        region(part, &|team| {
            let mine = team.share(blocks);
            for turn in first..done {
                step(&state, turn, Some(team), mine.clone());
                team.barrier();
            }
        });
        if abandoned(flops) {
            return;
        }
    }
    end(&state);
}

/// Zeros where sequences have ended.
fn clear_padding<T: Real>(p: &Rnn, lengths: &[usize], y: &mut [T]) {
    for (n, &len) in lengths.iter().enumerate() {
        for t in len..p.t {
            let at = padded_row(p, n, t) * p.y_row + p.column;
            y[at..at + p.h].fill(T::ZERO);
        }
    }
}

/// The rows of x that sequences have, one sequence after the other.
pub(super) fn pack_rows<T: Real>(p: &Rnn, lengths: &[usize], x: &[T]) -> Buffer<T> {
    let rows: usize = lengths.iter().sum();
    let buffer = Buffer::<T>::new(rows * p.i);
    let mut row = 0;
    for (n, &len) in lengths.iter().enumerate() {
        for t in 0..len {
            let from = padded_row(p, n, t) * p.i;
            let from = &x[from..from + p.i];
            // SAFETY: the buffer has room for all rows.
            unsafe {
                let to = buffer.ptr().add(row * p.i);
                core::ptr::copy_nonoverlapping(from.as_ptr(), to, p.i);
            }
            row += 1;
        }
        if abandoned((len * p.i) as f64) {
            break;
        }
    }
    buffer
}

/// `gates = x w^T` and the biases.
fn inputs<T: Real>(p: &Rnn, rows: usize, w: &Weights<'_, T>, x: &[T], gates: &mut [T]) {
    let wide = p.wide();
    let mut bias = alloc::vec(wide);
    bias.resize(wide, T::ZERO);
    for b in [w.b_w, w.b_u].into_iter().flatten() {
        bias.iter_mut().zip(b).for_each(|(sum, &b)| *sum += b);
    }
    if p.cell.has_hidden() {
        // The state's bias of n belongs to the part that r multiplies.
        match w.b_w {
            Some(b) => bias[2 * p.h..].copy_from_slice(&b[2 * p.h..]),
            None => bias[2 * p.h..].fill(T::ZERO),
        }
    }
    let some = w.b_w.is_some() || w.b_u.is_some();
    let (a, b) = (Mat::dense(x, p.i), Mat::dense(w.w, p.i).t());
    let epilogue = Epilogue {
        bias: some.then_some(&bias[..]),
        ..Epilogue::default()
    };
    gemm(rows, wide, p.i, a, b, gates, epilogue);
}

struct Call<'a, T> {
    p: &'a Rnn,
    u: &'a Packed<T>,
    isa: Isa,
    keep: bool,
    gates: SharedMut<T>,
    cells: SharedMut<T>,
    hidden: SharedMut<T>,
    y: SharedMut<T>,
    hn: SharedMut<T>,
    cn: SharedMut<T>,
    h0: Option<&'a [T]>,
    c0: Option<&'a [T]>,
    peephole: SharedMut<T>,
    b_n: SharedMut<T>,
}

/// Compact states of one lane.
struct States<'l, T> {
    lane: &'l Lane,
    ld: usize,
    /// h before and after a step, in turn.
    h: [Buffer<T>; 2],
    c: Buffer<T>,
    /// r * h, or the state's part of n where it is not kept.
    extra: Buffer<T>,
    /// Where the rows of `extra` begin.
    compact: Vec<usize>,
}

/// Where rows begin, of a lane's running sequences.
pub(super) struct Starts {
    /// Of up to `FEW` sequences, for which a step may be too short to ask for memory.
    few: [[usize; FEW]; 3],
    many: [Vec<usize>; 3],
    active: usize,
}
const FEW: usize = 4;

impl Starts {
    pub fn new(p: &Rnn, lane: &Lane, s: usize) -> Starts {
        let active = lane.active(s);
        let (wide, h) = (p.wide(), p.h);
        let at = |i: usize| {
            let row = lane.row(i, s);
            [row * wide, row * h, lane.y_row(i, s) * p.y_row + p.column]
        };
        let mut starts = Starts {
            few: [[0; FEW]; 3],
            many: [const { Vec::new() }; 3],
            active,
        };
        if active <= FEW {
            for i in 0..active {
                for (table, start) in starts.few.iter_mut().zip(at(i)) {
                    table[i] = start;
                }
            }
        } else {
            starts.many = [0, 1, 2].map(|_| alloc::vec(active));
            for i in 0..active {
                for (table, start) in starts.many.iter_mut().zip(at(i)) {
                    table.push(start);
                }
            }
        }
        starts
    }
    fn table(&self, which: usize) -> &[usize] {
        if self.active <= FEW {
            &self.few[which][..self.active]
        } else {
            &self.many[which]
        }
    }
    pub fn tables(&self) -> Tables<'_> {
        Tables {
            gates: self.table(0),
            units: self.table(1),
            y: self.table(2),
        }
    }
}

/// Distance of compact rows: vectors begin on their boundaries, and rows that are read side by side do not all lie in the
/// same few sets of a first-level cache.
pub(super) fn compact_ld(h: usize) -> usize {
    let ld = h.next_multiple_of(16);
    if ld.is_multiple_of(256) { ld + 16 } else { ld }
}

/// Fills compact rows of `h` numbers from those of the sequences, or with zeros.
pub(super) fn gather<T: Real>(lane: &Lane, from: Option<&[T]>, h: usize, to: &Buffer<T>) {
    let ld = compact_ld(h);
    // SAFETY: the buffer has a row of ld numbers per sequence; any bits are numbers.
    let to = unsafe { core::slice::from_raw_parts_mut(to.ptr(), lane.seq.len() * ld) };
    for (row, &n) in to.chunks_exact_mut(ld).zip(&lane.seq) {
        row.fill(T::ZERO);
        if let Some(from) = from {
            row[..h].copy_from_slice(&from[n * h..][..h]);
        }
    }
}

/// Writes compact rows to those of the sequences.
///
/// # Safety
/// `to` has `h` numbers for each of all sequences, and nobody else uses those of this lane.
pub(super) unsafe fn scatter<T: Real>(lane: &Lane, from: &Buffer<T>, h: usize, to: SharedMut<T>) {
    let ld = compact_ld(h);
    for (i, &n) in lane.seq.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from.ptr().add(i * ld), to.0.add(n * h), h) };
    }
}

impl<T: Real> Call<'_, T> {
    fn states<'l>(&self, lane: &'l Lane) -> States<'l, T> {
        let (ld, rows) = (compact_ld(self.p.h), lane.seq.len());
        let room = |wanted: bool| Buffer::<T>::new(if wanted { rows * ld } else { 0 });
        let gru = matches!(self.p.cell, Cell::Gru { .. });
        let states = States {
            lane,
            ld,
            h: [room(true), room(true)],
            c: room(self.p.cell.has_cells()),
            extra: room(gru),
            compact: alloc::collect((0..rows).map(|i| i * ld)),
        };
        gather(lane, self.h0, self.p.h, &states.h[0]);
        if self.p.cell.has_cells() {
            gather(lane, self.c0, self.p.h, &states.c);
        }
        states
    }

    /// One step of the running sequences, for the units of `blocks`. The team, if there is one, meets after it.
    fn step(&self, st: &States<'_, T>, s: usize, team: Option<&Team<'_>>, blocks: Range<usize>) {
        let (p, u) = (self.p, self.u);
        let starts = Starts::new(p, st.lane, s);
        let at = starts.tables();
        let active = at.gates.len();
        if active <= FEW && !blocks.is_empty() {
            self.fetch_next(st.lane, s + 1, u.span(&blocks));
        }
        let (state, next) = (&st.h[s % 2], &st.h[(s + 1) % 2]);
        let a = Rows {
            at: state.ptr().cast_const(),
            ld: st.ld,
            count: active,
        };
        let kept_hidden = p.cell.has_hidden() && !self.hidden.0.is_null();
        let (hidden, hidden_at) = if kept_hidden {
            (self.hidden.0, at.units)
        } else {
            (st.extra.ptr(), &st.compact[..active])
        };
        let body = Forward {
            cell: p.cell,
            reset_pass: false,
            at,
            h: p.h,
            block: (0, 0),
            gates: self.gates.0,
            keep: self.keep,
            cells: self.cells.0,
            hidden: hidden.cast_const(),
            hidden_at,
            peephole: self.peephole.0.cast_const(),
            b_n: self.b_n.0.cast_const(),
            y: self.y.0,
            state: state.ptr().cast_const(),
            next: next.ptr(),
            c: st.c.ptr(),
            ld: st.ld,
        };
        let pieces = |blocks: Range<usize>| u.pieces(blocks, active);
        let columns = |r: &Range<usize>| u.span(r);
        let product =
            |gate: usize, r: Range<usize>, a: Rows<T>, to: *mut T, rows: &[usize], add| {
                let to = Target { at: to, rows, add };
                // SAFETY: a is compact, with a row per sequence; `to` is a row of the gates (or of the state's part of n) per
                // running sequence, of which this thread alone uses these columns; nobody writes the state in this step.
                unsafe { multiply(u, gate, (0, p.h), r, a, to, None) };
            };
        let gate_to = |gate: usize| self.gates.0.wrapping_add(gate * p.h);
        match p.cell {
            Cell::Gru { before: true, .. } => {
                for r in pieces(blocks.clone()) {
                    for gate in 0..2 {
                        product(gate, r.clone(), a, gate_to(gate), at.gates, true);
                    }
                    let body = Forward {
                        reset_pass: true,
                        block: columns(&r),
                        next: st.extra.ptr(),
                        ..body
                    };
                    dispatch_on(self.isa, body);
                }
                if let Some(team) = team {
                    team.barrier();
                }
                let reset = Rows {
                    at: st.extra.ptr().cast_const(),
                    ..a
                };
                for r in pieces(blocks) {
                    product(2, r.clone(), reset, gate_to(2), at.gates, true);
                    dispatch_on(
                        self.isa,
                        Forward {
                            block: columns(&r),
                            ..body
                        },
                    );
                }
            }
            cell => {
                for r in pieces(blocks) {
                    let body = Forward {
                        block: columns(&r),
                        ..body
                    };
                    for gate in 0..cell.gates() {
                        if gate == 2 && cell.has_hidden() {
                            product(2, r.clone(), a, hidden, hidden_at, false);
                        } else {
                            product(gate, r.clone(), a, gate_to(gate), at.gates, true);
                        }
                    }
                    dispatch_on(self.isa, body);
                }
            }
        }
    }

    /// Fetches a step's rows of gates. Another core may have made them, whose caches are far away; a step of few sequences is too short
    /// to wait for them.
    fn fetch_next(&self, lane: &Lane, s: usize, block: (usize, usize)) {
        for i in 0..lane.active(s) {
            let row = self.gates.0.wrapping_add(lane.row(i, s) * self.p.wide());
            for gate in 0..self.p.cell.gates() {
                fetch(row.wrapping_add(gate * self.p.h).cast_const(), block);
            }
        }
    }

    /// The last states.
    fn finish(&self, st: &States<'_, T>) {
        let h = self.p.h;
        for (i, (&n, &len)) in st.lane.seq.iter().zip(&st.lane.len).enumerate() {
            // h after `len` steps: a sequence that has ended leaves its rows alone.
            let from = st.h[len % 2].ptr().wrapping_add(i * st.ld);
            // SAFETY: a row of the compact state, and this sequence's row of the result.
            unsafe { core::ptr::copy_nonoverlapping(from, self.hn.0.add(n * h), h) };
        }
        if !self.cn.0.is_null() {
            // SAFETY: cn has h numbers per sequence; lanes have different sequences.
            unsafe { scatter(st.lane, &st.c, h, self.cn) };
        }
    }
}

/// Zeros, shared between threads if there are many.
pub(super) fn clear<T: Real>(x: &mut [T]) {
    fill(x, T::ZERO);
}

/// Copies packed rows of `cols` numbers to their places in `(n, t, cols)` or `(t, n, cols)`, zeros elsewhere, or adds them.
pub(super) fn unpack_rows<T: Real>(
    p: &Rnn,
    lengths: &[usize],
    from: &[T],
    cols: usize,
    add: bool,
    to: &mut [T],
) {
    let mut end = 0;
    let starts = alloc::collect(lengths.iter().map(|&l| {
        end += l;
        end - l
    }));
    let out = SharedMut(to.as_mut_ptr());
    let cost = Cost {
        flops: 0.0,
        bytes: (2 * size_of_val(to)) as f64,
    };
    for_each_chunk(p.n, 8, cost, &|some| {
        for n in some {
            for t in 0..p.t {
                let at = padded_row(p, n, t) * cols;
                // SAFETY: rows are disjoint parts of `to`, each of one sequence.
                let row = unsafe { out.slice(at, cols) };
                if t < lengths[n] {
                    let from = &from[(starts[n] + t) * cols..][..cols];
                    if add {
                        row.iter_mut().zip(from).for_each(|(a, &b)| *a += b);
                    } else {
                        row.copy_from_slice(from);
                    }
                } else if !add {
                    row.fill(T::ZERO);
                }
            }
        }
    });
}
