//! Twins of [`crate::rnn`].
use crate::element::Real;
use crate::rnn::{Cell, Forget, Grads, Kept, Rnn, Saved, Seeds, Weights};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Row of x and y of sequence `n` at time `t`.
fn padded(p: &Rnn, n: usize, t: usize) -> usize {
    if p.batch_first {
        n * p.t + t
    } else {
        t * p.n + n
    }
}

/// Length of a sequence, and where its rows of the gates are: `row(t)`.
fn sequence(p: &Rnn, lengths: Option<&[usize]>, n: usize) -> (usize, impl Fn(usize) -> usize) {
    let before: usize = lengths.map_or(0, |l| l[..n].iter().sum());
    let (p, packed) = (*p, lengths.is_some());
    let len = lengths.map_or(p.t, |l| l[n]);
    (
        len,
        move |t| if packed { before + t } else { padded(&p, n, t) },
    )
}

/// `a x` plus a bias, of one row of the weights.
fn dot<T: Real>(a: &[T], row: usize, x: impl Iterator<Item = f64>, bias: Option<&[T]>) -> f64 {
    let x: Vec<f64> = x.collect();
    let sum: f64 = a[row * x.len()..][..x.len()]
        .iter()
        .zip(&x)
        .map(|(a, x)| a.to_f64() * x)
        .sum();
    sum + bias.map_or(0.0, |b| b[row].to_f64())
}

/// Twin of [`crate::rnn::rnn_forward`].
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
    let (h, wide) = (p.h, p.cell.gates() * p.h);
    let mut cn = cn;
    for n in 0..p.n {
        let (len, row) = sequence(p, lengths, n);
        let start = |s: Option<&[T]>| -> Vec<f64> {
            (0..h)
                .map(|j| s.map_or(0.0, |s| s[n * h + j].to_f64()))
                .collect()
        };
        let (mut state, mut c) = (start(h0), start(c0));
        let peep = |place: usize, j: usize, c: f64| {
            w.peephole.map_or(0.0, |p| p[place * h + j].to_f64() * c)
        };
        for step in 0..len {
            let t = if p.reverse { len - 1 - step } else { step };
            let input = &x[padded(p, n, t) * p.i..][..p.i];
            let input = || input.iter().map(|v| v.to_f64());
            let from_x = |g: usize, j: usize| dot(w.w, g * h + j, input(), w.b_w);
            let old = state.clone();
            let from_h = |g: usize, j: usize| dot(w.u, g * h + j, old.iter().copied(), w.b_u);
            let sum = |g: usize, j: usize| from_x(g, j) + from_h(g, j);
            let gates = &mut kept.gates[row(t) * wide..][..wide];
            match p.cell {
                Cell::Tanh => (0..h).for_each(|j| state[j] = sum(0, j).tanh()),
                Cell::Relu => (0..h).for_each(|j| {
                    let a = sum(0, j);
                    state[j] = if a < 0.0 { 0.0 } else { a };
                }),
                Cell::Lstm(forget) => {
                    let gate = forget == Forget::Gate;
                    let (at_g, at_o) = if gate { (2, 3) } else { (1, 2) };
                    for j in 0..h {
                        let i = sigmoid(sum(0, j) + peep(0, j, c[j]));
                        let g = sum(at_g, j).tanh();
                        let f = match forget {
                            Forget::Gate => sigmoid(sum(1, j) + peep(1, j, c[j])),
                            Forget::Never => 1.0,
                            Forget::Coupled => 1.0 - i,
                        };
                        c[j] = f * c[j] + i * g;
                        let o = sigmoid(sum(at_o, j) + peep(at_o - 1, j, c[j]));
                        state[j] = o * c[j].tanh();
                        gates[j] = T::from_f64(i);
                        if gate {
                            gates[h + j] = T::from_f64(f);
                        }
                        gates[at_g * h + j] = T::from_f64(g);
                        gates[at_o * h + j] = T::from_f64(o);
                        if let Some(cells) = kept.cells.as_deref_mut() {
                            cells[row(t) * h + j] = T::from_f64(c[j]);
                        }
                    }
                }
                Cell::Gru { before, swapped } => {
                    let r: Vec<f64> = (0..h).map(|j| sigmoid(sum(0, j))).collect();
                    let reset = || old.iter().zip(&r).map(|(h, r)| h * r);
                    for j in 0..h {
                        let z = sigmoid(sum(1, j));
                        let new = if before {
                            (from_x(2, j) + dot(w.u, 2 * h + j, reset(), w.b_u)).tanh()
                        } else {
                            let part = from_h(2, j);
                            if let Some(hidden) = kept.hidden.as_deref_mut() {
                                hidden[row(t) * h + j] = T::from_f64(part);
                            }
                            (from_x(2, j) + r[j] * part).tanh()
                        };
                        state[j] = if swapped {
                            z * new + (1.0 - z) * old[j]
                        } else {
                            (1.0 - z) * new + z * old[j]
                        };
                        for (g, v) in [r[j], z, new].into_iter().enumerate() {
                            gates[g * h + j] = T::from_f64(v);
                        }
                    }
                }
            }
            // What later steps see is what is stored.
            let round = |v: &mut f64| *v = T::from_f64(*v).to_f64();
            state.iter_mut().for_each(round);
            c.iter_mut().for_each(round);
            let at = padded(p, n, t) * p.y_row + p.column;
            (0..h).for_each(|j| y[at + j] = T::from_f64(state[j]));
        }
        for t in len..p.t {
            let at = padded(p, n, t) * p.y_row + p.column;
            y[at..at + h].fill(T::ZERO);
        }
        for j in 0..h {
            hn[n * h + j] = T::from_f64(state[j]);
            if let Some(cn) = cn.as_deref_mut() {
                cn[n * h + j] = T::from_f64(c[j]);
            }
        }
    }
}

/// Twin of [`crate::rnn::rnn_backward`].
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
    let (h, wide, inputs) = (p.h, p.cell.gates() * p.h, p.i);
    let mut dx = vec![0.0; p.t * p.n * inputs];
    let (mut dw, mut du) = (vec![0.0; wide * inputs], vec![0.0; wide * h]);
    let (mut db_w, mut db_u) = (vec![0.0; wide], vec![0.0; wide]);
    let mut dpeep = vec![0.0; p.cell.peepholes() * h];
    let (mut dh0, mut dc0) = (vec![0.0; p.n * h], vec![0.0; p.n * h]);
    let peep = |place: usize, j: usize| w.peephole.map_or(0.0, |p| p[place * h + j].to_f64());
    for n in 0..p.n {
        let (len, row) = sequence(p, lengths, n);
        let get = |s: Option<&[T]>, j: usize| s.map_or(0.0, |s| s[n * h + j].to_f64());
        let mut dh: Vec<f64> = (0..h).map(|j| get(seeds.h, j)).collect();
        let mut dc: Vec<f64> = (0..h).map(|j| get(seeds.c, j)).collect();
        let time = |step: usize| if p.reverse { len - 1 - step } else { step };
        let y_at = |t: usize, j: usize| padded(p, n, t) * p.y_row + p.column + j;
        for step in (0..len).rev() {
            let t = time(step);
            let gate = |g: usize, j: usize| saved.gates[row(t) * wide + g * h + j].to_f64();
            let old_h = |j: usize| match step {
                0 => get(h0, j),
                _ => y[y_at(time(step - 1), j)].to_f64(),
            };
            let cells =
                |t: usize, j: usize| saved.cells.map_or(0.0, |c| c[row(t) * h + j].to_f64());
            let old_c = |j: usize| match step {
                0 => get(c0, j),
                _ => cells(time(step - 1), j),
            };
            // Gradients of the gates before their activations: of the inputs' part and of the states'.
            let (mut d, mut back) = (vec![0.0; wide], vec![0.0; h]);
            let mut part = vec![0.0; h];
            for j in 0..h {
                dh[j] += seeds.y.map_or(0.0, |d| d[y_at(t, j)].to_f64());
                match p.cell {
                    Cell::Tanh | Cell::Relu => {
                        let out = y[y_at(t, j)].to_f64();
                        let slope = match p.cell {
                            Cell::Tanh => 1.0 - out * out,
                            _ if out <= 0.0 => 0.0,
                            _ => 1.0,
                        };
                        d[j] = dh[j] * slope;
                    }
                    Cell::Lstm(forget) => {
                        let own = forget == Forget::Gate;
                        let (at_g, at_o) = if own { (2, 3) } else { (1, 2) };
                        let (i, g, o) = (gate(0, j), gate(at_g, j), gate(at_o, j));
                        let f = match forget {
                            Forget::Gate => gate(1, j),
                            Forget::Never => 1.0,
                            Forget::Coupled => 1.0 - i,
                        };
                        let squashed = cells(t, j).tanh();
                        let through = |s: f64| s * (1.0 - s);
                        let dzo = dh[j] * squashed * through(o);
                        let of_c = dc[j]
                            + dh[j] * o * (1.0 - squashed * squashed)
                            + peep(at_o - 1, j) * dzo;
                        let di = match forget {
                            Forget::Coupled => of_c * (g - old_c(j)),
                            _ => of_c * g,
                        };
                        let dzi = di * through(i);
                        d[j] = dzi;
                        d[at_g * h + j] = of_c * i * (1.0 - g * g);
                        d[at_o * h + j] = dzo;
                        dc[j] = of_c * f + peep(0, j) * dzi;
                        if own {
                            let dzf = of_c * old_c(j) * through(f);
                            d[h + j] = dzf;
                            dc[j] += peep(1, j) * dzf;
                        }
                        if w.peephole.is_some() {
                            for place in 0..at_o - 1 {
                                dpeep[place * h + j] += d[place * h + j] * old_c(j);
                            }
                            dpeep[(at_o - 1) * h + j] += dzo * cells(t, j);
                        }
                    }
                    Cell::Gru { before, swapped } => {
                        let (r, z, new) = (gate(0, j), gate(1, j), gate(2, j));
                        let (of_new, of_old) = if swapped { (z, 1.0 - z) } else { (1.0 - z, z) };
                        let dz = if swapped {
                            new - old_h(j)
                        } else {
                            old_h(j) - new
                        };
                        d[h + j] = dh[j] * dz * z * (1.0 - z);
                        d[2 * h + j] = dh[j] * of_new * (1.0 - new * new);
                        back[j] += dh[j] * of_old;
                        if !before {
                            let hidden = saved.hidden.map_or(0.0, |s| s[row(t) * h + j].to_f64());
                            part[j] = d[2 * h + j] * r;
                            d[j] = d[2 * h + j] * hidden * r * (1.0 - r);
                        }
                    }
                }
            }
            let weight = |g: usize, k: usize| w.u[g * h + k].to_f64();
            if let Cell::Gru { before, .. } = p.cell {
                if before {
                    for k in 0..h {
                        let through: f64 =
                            (0..h).map(|j| d[2 * h + j] * weight(2 * h + j, k)).sum();
                        let r = gate(0, k);
                        d[k] = through * old_h(k) * r * (1.0 - r);
                        back[k] += through * r;
                    }
                }
                for k in 0..h {
                    back[k] += (0..2 * h).map(|g| d[g] * weight(g, k)).sum::<f64>();
                    back[k] += (0..h).map(|j| part[j] * weight(2 * h + j, k)).sum::<f64>();
                }
            } else {
                for k in 0..h {
                    back[k] = (0..wide).map(|g| d[g] * weight(g, k)).sum();
                }
            }
            for g in 0..wide {
                let of_n = g >= 2 * h && matches!(p.cell, Cell::Gru { .. });
                let reset_before = matches!(p.cell, Cell::Gru { before: true, .. });
                let of_state = if of_n && !reset_before {
                    part[g - 2 * h]
                } else {
                    d[g]
                };
                db_w[g] += d[g];
                db_u[g] += of_state;
                for k in 0..inputs {
                    let at = padded(p, n, t) * inputs + k;
                    dw[g * inputs + k] += d[g] * x[at].to_f64();
                    dx[at] += d[g] * w.w[g * inputs + k].to_f64();
                }
                for k in 0..h {
                    let factor = if of_n && reset_before {
                        gate(0, k)
                    } else {
                        1.0
                    };
                    du[g * h + k] += of_state * old_h(k) * factor;
                }
            }
            dh = back;
        }
        dh0[n * h..][..h].copy_from_slice(&dh);
        dc0[n * h..][..h].copy_from_slice(&dc);
    }
    let add_x = grads.add_x;
    if let Some(out) = grads.x.as_deref_mut() {
        for (o, v) in out.iter_mut().zip(dx) {
            let old = if add_x { o.to_f64() } else { 0.0 };
            *o = T::from_f64(old + v);
        }
    }
    let rest = [
        (&mut grads.w, dw),
        (&mut grads.u, du),
        (&mut grads.b_w, db_w),
        (&mut grads.b_u, db_u),
        (&mut grads.peephole, dpeep),
        (&mut grads.h0, dh0),
        (&mut grads.c0, dc0),
    ];
    for (out, sums) in rest {
        if let Some(out) = out {
            for (o, v) in out.iter_mut().zip(sums) {
                *o = T::from_f64(v);
            }
        }
    }
}
