//! Against the naive twin, on every instruction set and any number of threads.
use super::*;
use crate::element::Real;
use crate::parallel::with_forced_threads;
use crate::simd::{available, with_isa};

const CELLS: [Cell; 9] = [
    Cell::Tanh,
    Cell::Relu,
    Cell::Lstm(Forget::Gate),
    Cell::Lstm(Forget::Never),
    Cell::Lstm(Forget::Coupled),
    Cell::Gru {
        before: false,
        swapped: false,
    },
    Cell::Gru {
        before: true,
        swapped: false,
    },
    Cell::Gru {
        before: false,
        swapped: true,
    },
    Cell::Gru {
        before: true,
        swapped: true,
    },
];

fn numbers<T: Real>(len: usize, seed: u64) -> Vec<T> {
    let mut s = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            T::from_f64(((s >> 20) % 2001) as f64 / 1000.0 - 1.0)
        })
        .collect()
}

/// Everything that comes out of forward and backward, one after the other.
type All<T> = Vec<Vec<T>>;

/// What a call is given besides `p`.
#[derive(Clone, Copy)]
struct Options {
    states: bool,
    bias: bool,
    peephole: bool,
    seed: u64,
}

macro_rules! run {
    ($name:ident, $module:path) => {
        fn $name<T: Real>(p: &Rnn, lengths: Option<&[usize]>, o: Options) -> All<T> {
            use $module as k;
            let (g, n, h) = (p.cell.gates(), p.n, p.h);
            let rows = p.rows(lengths);
            let small = |len: usize, seed: u64| -> Vec<T> {
                let scale = T::from_f64(1.0 / (h as f64).sqrt());
                numbers::<T>(len, o.seed + seed)
                    .into_iter()
                    .map(|v| v * scale)
                    .collect()
            };
            let (w, u) = (small(g * h * p.i, 1), small(g * h * h, 2));
            let (b_w, b_u) = (small(g * h, 3), small(g * h, 4));
            let peep = small(p.cell.peepholes() * h, 5);
            let x = numbers::<T>(p.t * n * p.i, o.seed + 6);
            let (h0, c0) = (small(n * h, 7), small(n * h, 8));
            let weights = Weights {
                w: &w,
                u: &u,
                b_w: o.bias.then_some(&b_w[..]),
                b_u: o.bias.then_some(&b_u[..]),
                peephole: (o.peephole && p.cell.has_cells()).then_some(&peep[..]),
            };
            let (h0, c0) = (o.states.then_some(&h0[..]), o.states.then_some(&c0[..]));
            let zeros = |len: usize| vec![T::ZERO; len];
            let (mut gates, mut cells, mut hidden) =
                (zeros(rows * g * h), zeros(rows * h), zeros(rows * h));
            let mut y = zeros(p.t * n * p.y_row);
            let (mut hn, mut cn) = (zeros(n * h), zeros(n * h));
            let mut kept = Kept {
                gates: &mut gates,
                cells: p.cell.has_cells().then_some(&mut cells[..]),
                hidden: p.cell.has_hidden().then_some(&mut hidden[..]),
            };
            k::rnn_forward(
                p,
                lengths,
                &weights,
                &x,
                h0,
                c0,
                &mut kept,
                &mut y,
                &mut hn,
                Some(&mut cn),
            );
            // Without keeping anything: the same results.
            let mut again = (
                zeros(rows * g * h),
                zeros(y.len()),
                zeros(n * h),
                zeros(n * h),
            );
            let mut kept = Kept {
                gates: &mut again.0,
                cells: None,
                hidden: None,
            };
            k::rnn_forward(
                p,
                lengths,
                &weights,
                &x,
                h0,
                c0,
                &mut kept,
                &mut again.1,
                &mut again.2,
                Some(&mut again.3),
            );
            assert_eq!((&again.1, &again.2), (&y, &hn));
            assert!(!p.cell.has_cells() || again.3 == cn);
            let dy = numbers::<T>(y.len(), o.seed + 9);
            let (dhn, dcn) = (small(n * h, 10), small(n * h, 11));
            let saved = Saved {
                gates: &gates,
                cells: p.cell.has_cells().then_some(&cells[..]),
                hidden: p.cell.has_hidden().then_some(&hidden[..]),
            };
            let seeds = Seeds {
                y: Some(&dy),
                h: o.states.then_some(&dhn[..]),
                c: (o.states && p.cell.has_cells()).then_some(&dcn[..]),
            };
            let mut dx = numbers::<T>(x.len(), 12);
            let (mut dw, mut du) = (zeros(w.len()), zeros(u.len()));
            let (mut db_w, mut db_u) = (zeros(g * h), zeros(g * h));
            let mut dpeep = zeros(peep.len());
            let (mut dh0, mut dc0) = (zeros(n * h), zeros(n * h));
            let mut grads = Grads {
                x: Some(&mut dx),
                add_x: o.bias,
                w: Some(&mut dw),
                u: Some(&mut du),
                b_w: Some(&mut db_w),
                b_u: Some(&mut db_u),
                peephole: weights.peephole.is_some().then_some(&mut dpeep[..]),
                h0: Some(&mut dh0),
                c0: p.cell.has_cells().then_some(&mut dc0[..]),
            };
            k::rnn_backward(
                p, lengths, &weights, &x, h0, c0, &saved, &y, &seeds, &mut grads,
            );
            // A part of the gradients is the same part.
            let mut only = (zeros(u.len()), zeros(g * h));
            let mut grads = Grads {
                x: None,
                add_x: false,
                w: None,
                u: Some(&mut only.0),
                b_w: None,
                b_u: Some(&mut only.1),
                peephole: None,
                h0: None,
                c0: None,
            };
            k::rnn_backward(
                p, lengths, &weights, &x, h0, c0, &saved, &y, &seeds, &mut grads,
            );
            assert_eq!((&only.0, &only.1), (&du, &db_u));
            if !p.cell.has_cells() {
                cn.fill(T::ZERO);
            }
            vec![y, hn, cn, dx, dw, du, db_w, db_u, dpeep, dh0, dc0]
        }
    };
}
run!(fast, crate::rnn);
run!(slow, crate::reference::rnn);

fn shape(cell: Cell, t: usize, n: usize, i: usize, h: usize, kind: usize) -> Rnn {
    let both = kind & 4 != 0;
    Rnn {
        cell,
        t,
        n,
        i,
        h,
        batch_first: kind & 1 != 0,
        reverse: kind & 2 != 0,
        y_row: if both { 2 * h + 3 } else { h },
        column: if both { h + 1 } else { 0 },
    }
}

fn lengths(p: &Rnn, kind: usize) -> Option<Vec<usize>> {
    (kind & 8 != 0).then(|| (0..p.n).map(|n| (n * 7 + 3 * kind) % (p.t + 1)).collect())
}

fn compare<T: Real>(p: &Rnn, kind: usize, eps: f64) {
    let o = Options {
        states: kind & 16 != 0,
        bias: kind & 32 != 0,
        peephole: kind & 64 != 0,
        seed: kind as u64,
    };
    let l = lengths(p, kind);
    let (a, b) = (fast::<T>(p, l.as_deref(), o), slow::<T>(p, l.as_deref(), o));
    for (which, (a, b)) in a.iter().zip(&b).enumerate() {
        // Rounding errors of a step are damped, not amplified, by these small weights; sums have t n terms.
        let scale = b.iter().fold(1.0f64, |m, v| m.max(v.to_f64().abs()));
        for (at, (x, y)) in a.iter().zip(b).enumerate() {
            let err = (x.to_f64() - y.to_f64()).abs();
            assert!(
                err <= eps * scale,
                "{p:?} lengths {l:?} result {which} at {at}: {x:?} is not {y:?}"
            );
        }
    }
}

#[test]
fn equal_the_naive_twin() {
    // Units around the widths of vectors and tiles.
    for (round, h) in [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 65]
        .into_iter()
        .enumerate()
    {
        for (c, cell) in CELLS.into_iter().enumerate() {
            for (j, &(t, n, i)) in [(3, 5, 4), (6, 1, 3), (1, 9, 1), (4, 2, 17)]
                .iter()
                .enumerate()
            {
                let kind = (round * 37 + c * 11 + j * 53) % 128;
                compare::<f64>(&shape(cell, t, n, i, h, kind), kind, 1e-12);
                compare::<f32>(&shape(cell, t, n, i, h, kind), kind, 2e-5);
            }
        }
    }
}

#[test]
fn every_kind_of_call() {
    for cell in CELLS {
        for kind in 0..128 {
            compare::<f64>(&shape(cell, 4, 5, 3, 6, kind), kind, 1e-12);
        }
    }
}

#[test]
fn nothing_to_do() {
    for cell in CELLS {
        for kind in [0, 9, 63] {
            for (t, n) in [(0, 3), (2, 0), (0, 0)] {
                compare::<f64>(&shape(cell, t, n, 2, 3, kind), kind, 0.0);
            }
        }
    }
}

#[test]
fn every_instruction_set() {
    for isa in available() {
        with_isa(isa, || {
            for cell in CELLS {
                for kind in [21, 106] {
                    compare::<f32>(&shape(cell, 5, 7, 6, 19, kind), kind, 2e-5);
                    // One row and one to four panels of every width.
                    for h in [9, 19, 40, 64, 100, 130] {
                        compare::<f32>(&shape(cell, 5, 1, 6, h, kind), kind, 2e-5);
                    }
                }
            }
        });
    }
}

#[test]
fn long_products_are_cut_as_elsewhere() {
    for cell in [CELLS[0], CELLS[2], CELLS[5], CELLS[6]] {
        for n in [1, 3] {
            compare::<f32>(&shape(cell, 2, n, 3, 400, 16), 16, 1e-4);
        }
    }
}

#[test]
fn threads_do_not_show() {
    for cell in CELLS {
        for kind in [16 + 32, 8 + 16 + 1, 64 + 2 + 16] {
            for n in [1, 3, 11, 40] {
                let p = shape(cell, 6, n, 5, 37, kind);
                let o = Options {
                    states: true,
                    bias: true,
                    peephole: kind & 64 != 0,
                    seed: 3,
                };
                let l = lengths(&p, kind);
                let one = with_forced_threads(1, || fast::<f32>(&p, l.as_deref(), o));
                for threads in [2, 3, 8] {
                    let some = with_forced_threads(threads, || fast::<f32>(&p, l.as_deref(), o));
                    assert!(one == some, "{p:?} with {threads} threads");
                }
            }
        }
    }
}

#[test]
fn nan_goes_where_it_belongs() {
    for cell in CELLS {
        let p = shape(cell, 4, 2, 1, 3, 1);
        let (g, h) = (cell.gates(), 3);
        let w = numbers::<f32>(g * h, 1);
        let u = numbers::<f32>(g * h * h, 2);
        let mut x = numbers::<f32>(8, 3);
        x[2] = f32::NAN; // sequence 0, step 2
        let weights = Weights {
            w: &w,
            u: &u,
            b_w: None,
            b_u: None,
            peephole: None,
        };
        let (mut gates, mut y, mut hn) = (vec![0.0; 8 * g * h], vec![0.0; 24], vec![0.0; 6]);
        let mut kept = Kept {
            gates: &mut gates,
            cells: None,
            hidden: None,
        };
        rnn_forward(
            &p, None, &weights, &x, None, None, &mut kept, &mut y, &mut hn, None,
        );
        for (row, y) in y.chunks(h).enumerate() {
            assert_eq!(
                y.iter().all(|v| v.is_nan()),
                row == 2 || row == 3,
                "{cell:?} {row}"
            );
        }
    }
}
