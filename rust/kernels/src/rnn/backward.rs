//! Back through time.
use super::forward::{
    Order, Starts, alloc_steps, clear, compact_ld, gather, pack_rows, run_lanes, scatter,
    unpack_rows,
};
use super::gates::Backward;
use super::lanes::{Lane, Lanes};
use super::product::{Meanwhile, Packed, Rows, Target, multiply};
use super::{Cell, Grads, Rnn, Saved, Seeds, Weights, check};
use crate::alloc;
use crate::element::Real;
use crate::gemm::buffer::Buffer;
use crate::gemm::outer::{Outer, Side};
use crate::gemm::{Mat, Product, gemm_list};
use crate::parallel::{Cost, SharedMut, Team, for_each_chunk, is_interrupted};
use crate::simd::{self, Isa, dispatch_on};
use core::ops::Range;

/// Gradients of [`rnn_forward`](super::rnn_forward), from what it was given, its result `y` and what it kept.
///
/// # Panics
/// If lengths do not fit.
pub fn rnn_backward<T: Real>(
    p: &Rnn,
    lengths: Option<&[usize]>,
    w: &Weights<'_, T>,
    x: &[T],
    h0: Option<&[T]>,
    c0: Option<&[T]>,
    saved: &Saved<'_, T>,
    y: &[T],
    seeds: &Seeds<'_, T>,
    grads: &mut Grads<'_, T>,
) {
    check(p, lengths, w, x, [h0, c0]);
    let (rows, wide, h, gates) = (p.rows(lengths), p.wide(), p.h, p.cell.gates());
    if p.cell.saves_gates() {
        assert_eq!(saved.gates.len(), rows * wide, "gates");
    }
    assert!(!p.cell.has_cells() || saved.cells.is_some_and(|c| c.len() == rows * h));
    assert!(!p.cell.has_hidden() || saved.hidden.is_some_and(|c| c.len() == rows * h));
    assert!(y.len() >= p.t * p.n * p.y_row, "y");
    assert!(seeds.y.is_none_or(|d| d.len() >= p.t * p.n * p.y_row), "dy");
    let state = |s: Option<usize>| s.is_none_or(|len| len == p.n * h);
    assert!(state(seeds.h.map(<[T]>::len)) && state(seeds.c.map(<[T]>::len)));
    assert!(state(grads.h0.as_ref().map(|g| g.len())));
    assert!(state(grads.c0.as_ref().map(|g| g.len())));

    let cost = alloc_steps::<T>(p, rows);
    let lanes = Lanes::new(p, lengths, cost, size_of_val(w.u));
    // Gates to units. Without a step before the first nobody asks what would go there.
    let u = Packed::new(gates * h, h, 1, &|_| Mat::dense(w.u, h));
    let room = |wanted: bool, cols: usize| Buffer::<T>::new(if wanted { rows * cols } else { 0 });
    let before_reset = matches!(p.cell, Cell::Gru { before: true, .. });
    let dgates = room(true, wide);
    let dhidden = room(p.cell.has_hidden(), h);
    let reset = room(before_reset, h);
    let null = core::ptr::null_mut();
    let read = |s: Option<&[T]>| SharedMut(s.map_or(null, |s| s.as_ptr().cast_mut()));
    let write = |s: &mut Option<&mut [T]>| SharedMut(s.as_mut().map_or(null, |s| s.as_mut_ptr()));
    let call = Call {
        p,
        u: &u,
        isa: simd::isa(),
        before_reset,
        gates: read(Some(saved.gates)),
        cells: read(saved.cells),
        hidden: read(saved.hidden),
        peephole: read(w.peephole),
        y: read(Some(y)),
        dy: read(seeds.y),
        dhn: seeds.h,
        dcn: seeds.c,
        h0: read(h0),
        c0: read(c0),
        dgates: &dgates,
        dhidden: &dhidden,
        reset: &reset,
        dh0: write(&mut grads.h0),
        dc0: write(&mut grads.c0),
    };
    run_lanes(
        &lanes,
        cost,
        u.blocks(),
        &|lane| call.states(lane),
        &|states, turn, team, blocks| call.step(states, turn, team, blocks),
        &|states| call.finish(states),
        Order::Descending {
            beyond: !call.dh0.0.is_null(),
        },
    );
    if is_interrupted() {
        return;
    }
    // SAFETY: the steps filled all rows.
    let filled = |b: &Buffer<T>, cols: usize| unsafe {
        core::slice::from_raw_parts(b.ptr().cast_const(), rows * cols)
    };
    let d = filled(&dgates, wide);
    let zeros = Buffer::<T>::new(h);
    // SAFETY: the buffer has h numbers; any bits are numbers.
    unsafe { core::slice::from_raw_parts_mut(zeros.ptr(), h) }.fill(T::ZERO);
    let before = match grads.u {
        Some(_) => call.rows_before(&lanes, rows, SharedMut(zeros.ptr())),
        None => Vec::new(),
    };
    if let Some(out) = grads.peephole.as_deref_mut() {
        let cells = saved.cells.unwrap_or_default();
        peephole(p, &lanes, d, cells, c0, out);
    }
    let packed = lengths
        .filter(|_| grads.w.is_some())
        .map(|l| pack_rows(p, l, x));
    // SAFETY: pack_rows filled rows * i numbers.
    let x = packed.as_ref().map_or(x, |b| filled(b, p.i));
    let dx_packed = Buffer::<T>::new(match (&grads.x, lengths) {
        (Some(_), Some(_)) => rows * p.i,
        _ => 0,
    });
    let mut list = alloc::vec(1);
    let mut outers = alloc::vec(2);
    if let Some(out) = grads.x.as_deref_mut() {
        let out = match lengths {
            // SAFETY: room for the packed rows; any bits are numbers.
            Some(_) => unsafe { core::slice::from_raw_parts_mut(dx_packed.ptr(), rows * p.i) },
            None => &mut out[..],
        };
        let (a, b) = (Mat::dense(d, wide), Mat::dense(w.w, p.i));
        list.push(Product {
            accumulate: grads.add_x && lengths.is_none(),
            ..Product::new([rows, p.i, wide], a, b, out)
        });
    }
    // The state's part of a GRU's n has a gradient (or a factor) of its own.
    let own = matches!(p.cell, Cell::Gru { .. });
    let m = if own { 2 * h } else { wide };
    let (mut of_u, mut of_n) = (None, None);
    if let Some(out) = grads.u.as_deref_mut() {
        let (first, last) = out.split_at_mut(m * h);
        // SAFETY: rows of h numbers of y, h0 and zeros.
        of_u = Some(unsafe { Side::rows(m, h, &before, first) });
        of_n = own.then_some(last);
    }
    let of_w = grads.w.as_deref_mut();
    let of_w = of_w.map(|out| Side::new(wide, p.i, x, out));
    let sides = of_w.into_iter().chain(of_u);
    // The two biases have one gradient, but for the state's part of n.
    let biases = grads.b_w.is_some() || grads.b_u.is_some();
    let room = |n: usize| {
        let mut room = alloc::vec(n);
        room.resize(n, T::ZERO);
        room
    };
    let (mut bias, mut part) = (room(wide), room(h));
    let sums = biases.then_some(&mut bias[..]);
    outers.push(Outer::new(rows, (d, wide, 0), sides, sums));
    if before_reset {
        if let Some(out) = of_n {
            let side = Side::new(h, h, filled(&reset, h), out);
            outers.push(Outer::new(rows, (d, wide, 2 * h), [side].into_iter(), None));
        }
    } else if own {
        // SAFETY: as above.
        let side = of_n.map(|out| unsafe { Side::rows(h, h, &before, out) });
        let sums = biases.then_some(&mut part[..]);
        let a = (filled(&dhidden, h), h, 0);
        outers.push(Outer::new(rows, a, side.into_iter(), sums));
    }
    gemm_list(&mut list, &outers, &mut []);
    drop((list, outers));
    if let Some(out) = grads.b_w.as_deref_mut() {
        out.copy_from_slice(&bias);
    }
    if let Some(out) = grads.b_u.as_deref_mut() {
        out.copy_from_slice(&bias);
        if p.cell.has_hidden() {
            out[2 * h..].copy_from_slice(&part);
        }
    }
    if let (Some(out), Some(l)) = (grads.x.as_deref_mut(), lengths) {
        unpack_rows(p, l, filled(&dx_packed, p.i), p.i, grads.add_x, out);
    }
}

struct Call<'a, T> {
    p: &'a Rnn,
    u: &'a Packed<T>,
    isa: Isa,
    before_reset: bool,
    gates: SharedMut<T>,
    cells: SharedMut<T>,
    hidden: SharedMut<T>,
    peephole: SharedMut<T>,
    y: SharedMut<T>,
    dy: SharedMut<T>,
    dhn: Option<&'a [T]>,
    dcn: Option<&'a [T]>,
    h0: SharedMut<T>,
    c0: SharedMut<T>,
    dgates: &'a Buffer<T>,
    dhidden: &'a Buffer<T>,
    reset: &'a Buffer<T>,
    dh0: SharedMut<T>,
    dc0: SharedMut<T>,
}

/// Compact gradients of one lane.
struct States<'l, T> {
    lane: &'l Lane,
    ld: usize,
    wide_ld: usize,
    dh: Buffer<T>,
    dc: Buffer<T>,
    /// Of the gates, of this turn and the one before in turns.
    dstep: [Buffer<T>; 2],
    dreset: Buffer<T>,
    compact: Vec<usize>,
}

impl<T: Real> Call<'_, T> {
    fn states<'l>(&self, lane: &'l Lane) -> States<'l, T> {
        let (p, rows) = (self.p, lane.seq.len());
        let (ld, wide_ld) = (compact_ld(p.h), compact_ld(p.wide()));
        let room = |wanted: bool, ld: usize| Buffer::<T>::new(if wanted { rows * ld } else { 0 });
        let states = States {
            lane,
            ld,
            wide_ld,
            dh: room(true, ld),
            dc: room(p.cell.has_cells(), ld),
            dstep: [room(true, wide_ld), room(true, wide_ld)],
            dreset: room(self.before_reset, ld),
            compact: alloc::collect((0..rows).map(|i| i * ld)),
        };
        gather(lane, self.dhn, p.h, &states.dh);
        if p.cell.has_cells() {
            gather(lane, self.dcn, p.h, &states.dc);
        }
        states
    }

    /// The turn of step `steps - 1 - turn`: the gradient of the state after it comes out of the gates of the step after it, and
    /// goes into its own gates; piece by piece, while it lies in the first-level cache. A turn beyond the first step leaves
    /// behind the gradient of the initial state.
    fn step(&self, st: &States<'_, T>, turn: usize, team: Option<&Team<'_>>, blocks: Range<usize>) {
        let (p, u, h) = (self.p, self.u, self.p.h);
        let steps = st.lane.steps();
        let s = (turn < steps).then(|| steps - 1 - turn);
        // Sequences that have a step after this one.
        let later = if turn == 0 {
            0
        } else {
            st.lane.active(steps - turn)
        };
        let (from, to) = (&st.dstep[(turn + 1) % 2], &st.dstep[turn % 2]);
        // SAFETY (of the products): rows of the compact gradients, which nobody writes between two meetings; this thread
        // alone uses these columns of dh and dreset.
        let product = |k: (usize, usize),
                       from: &Buffer<T>,
                       count: usize,
                       blocks: Range<usize>,
                       to: &Buffer<T>,
                       add: bool,
                       meanwhile: Option<Meanwhile<'_>>| {
            let a = Rows {
                at: from.ptr().wrapping_add(k.0).cast_const(),
                ld: st.wide_ld,
                count,
            };
            let to = Target {
                at: to.ptr(),
                rows: &st.compact[..count],
                add,
            };
            // SAFETY: as above.
            unsafe { multiply(u, 0, k, blocks, a, to, meanwhile) };
        };
        let through_gates = |blocks: Range<usize>, meanwhile: Option<Meanwhile<'_>>| {
            if later == 0 {
                return;
            }
            match p.cell {
                Cell::Gru { before: true, .. } => {
                    product((0, 2 * h), from, later, blocks, &st.dh, true, meanwhile);
                }
                cell => {
                    let add = matches!(cell, Cell::Gru { .. });
                    product((0, p.wide()), from, later, blocks, &st.dh, add, meanwhile);
                }
            }
        };
        let Some(s) = s else {
            for piece in u.pieces(blocks, later) {
                through_gates(piece, None);
            }
            return;
        };
        let starts = Starts::new(p, st.lane, s);
        let at = starts.tables();
        let active = at.gates.len();
        let [h_before, c_before] = self.states_before(st, s, active);
        let body = Backward {
            cell: p.cell,
            reset_pass: false,
            at,
            h,
            block: (0, 0),
            gates: self.gates.0.cast_const(),
            cells: self.cells.0.cast_const(),
            hidden: self.hidden.0.cast_const(),
            peephole: self.peephole.0.cast_const(),
            h_before: &h_before,
            c_before: &c_before,
            y: self.y.0.cast_const(),
            dy: self.dy.0.cast_const(),
            dh: st.dh.ptr(),
            dc: st.dc.ptr(),
            ld: st.ld,
            dgates: self.dgates.ptr(),
            dstep: to.ptr(),
            wide_ld: st.wide_ld,
            dhidden: self.dhidden.ptr(),
            dreset: st.dreset.ptr().cast_const(),
            reset: self.reset.ptr(),
        };
        let rows = if later == 1 { 1 } else { active };
        for piece in u.pieces(blocks.clone(), rows) {
            let body = Backward {
                block: u.span(&piece),
                ..body
            };
            let meanwhile = Meanwhile {
                rows: body.rows(),
                fetch: &|some| body.fetch_rows(some),
            };
            through_gates(piece, Some(meanwhile));
            dispatch_on(self.isa, body);
        }
        if self.before_reset {
            if let Some(team) = team {
                team.barrier();
            }
            for piece in u.pieces(blocks, active) {
                product(
                    (2 * h, h),
                    to,
                    active,
                    piece.clone(),
                    &st.dreset,
                    false,
                    None,
                );
                let body = Backward {
                    reset_pass: true,
                    block: u.span(&piece),
                    ..body
                };
                dispatch_on(self.isa, body);
            }
        }
    }

    /// Where the h before each step lies, in the order of the rows of gates: in y, in h0, or zeros.
    fn rows_before(&self, lanes: &Lanes, rows: usize, zeros: SharedMut<T>) -> Vec<SharedMut<T>> {
        let p = self.p;
        let mut before = alloc::vec(rows);
        before.resize(rows, zeros);
        for lane in &lanes.lanes {
            for (i, (&n, &len)) in lane.seq.iter().zip(&lane.len).enumerate() {
                if len > 0 && !self.h0.0.is_null() {
                    before[lane.row(i, 0)] = SharedMut(self.h0.0.wrapping_add(n * p.h));
                }
                for s in 1..len {
                    let y = lane.y_row(i, s - 1) * p.y_row + p.column;
                    before[lane.row(i, s)] = SharedMut(self.y.0.wrapping_add(y));
                }
            }
        }
        before
    }

    /// Where the h (of a GRU) and c before a step lie: rows of the results of the step before, or initial states, or null.
    fn states_before(&self, st: &States<'_, T>, s: usize, active: usize) -> [Vec<*const T>; 2] {
        let (p, h) = (self.p, self.p.h);
        let rows = |wanted: bool| 0..if wanted { active } else { 0 };
        let of_h = rows(matches!(p.cell, Cell::Gru { .. }));
        let of_c = rows(p.cell.has_cells());
        if s == 0 {
            let initial = |from: *const T, i: usize| {
                if from.is_null() {
                    from
                } else {
                    from.wrapping_add(st.lane.seq[i] * h)
                }
            };
            let (h0, c0) = (self.h0.0.cast_const(), self.c0.0.cast_const());
            return [
                alloc::collect(of_h.map(|i| initial(h0, i))),
                alloc::collect(of_c.map(|i| initial(c0, i))),
            ];
        }
        let (y, c) = (self.y.0.cast_const(), self.cells.0.cast_const());
        let at_y = |i| y.wrapping_add(st.lane.y_row(i, s - 1) * p.y_row + p.column);
        let at_c = |i| c.wrapping_add(st.lane.row(i, s - 1) * h);
        [
            alloc::collect(of_h.map(at_y)),
            alloc::collect(of_c.map(at_c)),
        ]
    }

    /// Gradients of the first states.
    fn finish(&self, st: &States<'_, T>) {
        for (from, to) in [(&st.dh, self.dh0), (&st.dc, self.dc0)] {
            if !to.0.is_null() {
                // SAFETY: h numbers per sequence; lanes have different sequences.
                unsafe { scatter(st.lane, from, self.p.h, to) };
            }
        }
    }
}

/// Sums over all steps of the gates' gradients times the c that they saw.
fn peephole<T: Real>(
    p: &Rnn,
    lanes: &Lanes,
    d: &[T],
    cells: &[T],
    c0: Option<&[T]>,
    out: &mut [T],
) {
    clear(out);
    let (h, wide, gates) = (p.h, p.wide(), p.cell.gates());
    // In the order of the sequences, whoever took them through time.
    let mut order = alloc::vec(p.n);
    for lane in &lanes.lanes {
        order.extend((0..lane.seq.len()).map(|i| (lane.seq[i], lane, i)));
    }
    order.sort_by_key(|o| o.0);
    let to = SharedMut(out.as_mut_ptr());
    let cost = Cost {
        flops: 0.0,
        bytes: size_of_val(d) as f64,
    };
    for_each_chunk(h, 64, cost, &|columns| {
        let count = columns.len();
        for &(n, lane, i) in &order {
            for s in 0..lane.len[i] {
                let row = lane.row(i, s);
                let at = columns.start;
                let old = match (s, c0) {
                    (0, Some(c0)) => Some(&c0[n * h + at..][..count]),
                    (0, None) => None,
                    _ => Some(&cells[lane.row(i, s - 1) * h + at..][..count]),
                };
                let new = &cells[row * h + at..][..count];
                for place in 0..gates - 1 {
                    // The last is o, which sees the new c, after g, which sees none.
                    let output = place == gates - 2;
                    let gate = if output { gates - 1 } else { place };
                    let c = if output { Some(new) } else { old };
                    let Some(c) = c else { continue };
                    let d = &d[row * wide + gate * h + at..][..count];
                    // SAFETY: chunks own disjoint columns of the result.
                    let sum = unsafe { to.slice(place * h + at, count) };
                    for ((sum, &d), &c) in sum.iter_mut().zip(d).zip(c) {
                        *sum += d * c;
                    }
                }
            }
        }
    });
}
