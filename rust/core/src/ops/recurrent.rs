//! Recurrent layers over whole sequences: RNN, LSTM, GRU and their variants, one node each.
use super::common::check_same_kind;
use super::composed;
use crate::autograd::{Ctx, Saved, record_many, twin_vjp};
use crate::backend::dispatch;
use crate::backend::recurrent::{Direction, Layer, Wanted};
use crate::backend::rnn::Cell;
use crate::error::{Error, Result};
use crate::shape::{Shape, show};
use crate::tensor::Tensor;

/// What [`recurrent`] is given besides tensors.
#[derive(Clone, Debug)]
pub struct RecurrentOptions {
    /// Which recurrence; see [`Cell`] for the formulas.
    pub cell: Cell,
    /// x and y are `(N, T, *)` instead of `(T, N, *)`.
    pub batch_first: bool,
    /// Steps of each sequence, 0 to T in any order; all T if absent.
    pub lengths: Option<Vec<usize>>,
}

/// Names of an operation's tensors, for its errors.
fn name_of(cell: Cell) -> &'static str {
    match cell {
        Cell::Tanh | Cell::Relu => "rnn",
        Cell::Lstm(_) => "lstm",
        Cell::Gru { .. } => "gru",
    }
}

/// One recurrent layer in one direction or both, over whole sequences: `[y, hn]`, of an LSTM `[y, hn, cn]`.
///
/// * `x (T, N, I)` or `(N, T, I)`; `h0`, `c0` `(D, N, H)`, zeros if absent, D being the number of directions; the second direction
///   goes from the end of each sequence to its beginning.
/// * `y (T, N, D H)` or `(N, T, D H)`: h after each step, zeros beyond the end of a sequence; `hn`, `cn` `(D, N, H)`: the states
///   after the last step of each sequence, those of a sequence of length 0 being `h0` and `c0`.
/// * Gradients: backpropagation through time, in one kernel; of any order by the composed twin.
///
/// Errors: `Shape` for sizes that do not fit, an empty batch or sequences without steps; `Value` for lengths beyond T; `Dtype` unless
/// all tensors are the same floating-point type.
///
/// Hochreiter and Schmidhuber 1997; Gers, Schraudolph and Schmidhuber 2002 (peepholes); Cho et al. 2014; Greff et al. 2017.
pub fn recurrent(
    options: &RecurrentOptions,
    x: &Tensor,
    h0: Option<&Tensor>,
    c0: Option<&Tensor>,
    directions: &[Direction<Tensor>],
) -> Result<Vec<Tensor>> {
    let op = name_of(options.cell);
    check(op, options, x, h0, c0, directions)?;
    // Positions of what is there, in the order of the node's inputs.
    let mut inputs: Vec<&Tensor> = vec![x];
    inputs.extend(h0);
    inputs.extend(c0);
    for d in directions {
        inputs.extend(d.all());
    }
    let layer = Layer {
        cell: options.cell,
        batch_first: options.batch_first,
        lengths: options.lengths.as_deref(),
        x: x.value(),
        h0: h0.map(Tensor::value),
        c0: c0.map(Tensor::value),
        directions: directions
            .iter()
            .map(|d| d.map(|t| Ok(t.value())))
            .collect::<Result<_>>()?,
    };
    let keep = crate::autograd::is_enabled() && inputs.iter().any(|t| t.requires_grad());
    let backend = dispatch(x.device());
    let run = backend.recurrent(&layer, keep)?;
    let outputs = [Some(run.y), Some(run.hn), run.cn];
    let outputs = outputs.into_iter().flatten().collect();
    let kept = run.kept;
    Ok(record_many(op, &inputs, outputs, false, |outputs| {
        let saved: Vec<Saved> = inputs.iter().map(|t| Saved::input(t)).collect();
        let y = Saved::output(&outputs[0], 0);
        let places = Places::new(h0.is_some(), c0.is_some(), directions);
        let options = options.clone();
        move |cx: &Ctx<'_>, grads: &[Option<Tensor>], needs: &[bool]| {
            if cx.create_graph() {
                let inputs: Vec<Tensor> = saved.iter().map(|s| s.get(cx)).collect();
                return twin_vjp(&inputs, grads, needs, |inputs| {
                    let tensor = |i: usize| Ok(inputs[i].clone());
                    let directions = places.directions.iter().map(|d| d.map(|&i| tensor(i)));
                    composed::recurrent(
                        &options,
                        &inputs[0],
                        places.h0.map(|i| &inputs[i]),
                        places.c0.map(|i| &inputs[i]),
                        &directions.collect::<Result<Vec<_>>>()?,
                    )
                });
            }
            let value = |i: usize| saved[i].value().clone();
            let layer = Layer {
                cell: options.cell,
                batch_first: options.batch_first,
                lengths: options.lengths.as_deref(),
                x: value(0),
                h0: places.h0.map(value),
                c0: places.c0.map(value),
                directions: places
                    .directions
                    .iter()
                    .map(|d| d.map(|&i| Ok(value(i))))
                    .collect::<Result<_>>()?,
            };
            let need = |i: Option<usize>| i.is_some_and(|i| needs[i]);
            let wanted = Wanted {
                x: needs[0],
                h0: need(places.h0),
                c0: need(places.c0),
                directions: places
                    .directions
                    .iter()
                    .map(|d| d.map(|&i| Ok(needs[i])))
                    .collect::<Result<_>>()?,
            };
            let seeds: Vec<_> = grads
                .iter()
                .map(|g| g.as_ref().map(Tensor::value))
                .collect();
            let seed = |i: usize| seeds.get(i).and_then(Option::as_ref);
            let found = backend.recurrent_backward(
                &layer,
                &kept,
                y.value(),
                [seed(0), seed(1), seed(2)],
                &wanted,
            )?;
            let mut out = vec![None; needs.len()];
            out[0] = found.x.map(Tensor::from_value);
            for (place, value) in [(places.h0, found.h0), (places.c0, found.c0)] {
                if let (Some(i), Some(value)) = (place, value) {
                    out[i] = Some(Tensor::from_value(value));
                }
            }
            for (d, values) in places.directions.iter().zip(found.directions) {
                let places = [Some(d.w), Some(d.u), d.b_w, d.b_u, d.peephole];
                for (place, value) in places.into_iter().zip(values) {
                    if let (Some(i), Some(value)) = (place, value) {
                        out[i] = Some(Tensor::from_value(value));
                    }
                }
            }
            Ok(out)
        }
    }))
}

/// Where tensors are among the inputs of the node.
struct Places {
    h0: Option<usize>,
    c0: Option<usize>,
    directions: Vec<Direction<usize>>,
}

impl Places {
    fn new(h0: bool, c0: bool, directions: &[Direction<Tensor>]) -> Self {
        let mut next = 0;
        let mut place = || {
            next += 1;
            next
        };
        let h0 = h0.then(&mut place);
        let c0 = c0.then(&mut place);
        let directions = directions.iter().map(|d| Direction {
            w: place(),
            u: place(),
            b_w: d.b_w.as_ref().map(|_| place()),
            b_u: d.b_u.as_ref().map(|_| place()),
            peephole: d.peephole.as_ref().map(|_| place()),
        });
        let directions = directions.collect();
        Self { h0, c0, directions }
    }
}

/// Raises unless everything fits.
fn check(
    op: &'static str,
    options: &RecurrentOptions,
    x: &Tensor,
    h0: Option<&Tensor>,
    c0: Option<&Tensor>,
    directions: &[Direction<Tensor>],
) -> Result<()> {
    let cell = options.cell;
    check_same_kind(op, ("x", x), &[("h0", h0), ("c0", c0)])?;
    for d in directions {
        check_same_kind(
            op,
            ("x", x),
            &[
                ("w_ih", Some(&d.w)),
                ("w_hh", Some(&d.u)),
                ("b_ih", d.b_w.as_ref()),
                ("b_hh", d.b_u.as_ref()),
                ("peephole", d.peephole.as_ref()),
            ],
        )?;
    }
    let layout = if options.batch_first {
        "(N, T, I)"
    } else {
        "(T, N, I)"
    };
    let &[a, b, inputs] = &x.shape()[..] else {
        let text = format!("x must be {layout}, got {}", x.shape());
        return Err(Error::shape(op, text));
    };
    let (t, n) = if options.batch_first { (b, a) } else { (a, b) };
    if t == 0 || n == 0 {
        let text = format!(
            "x {layout} must have at least one sequence and one step, got {}",
            x.shape()
        );
        return Err(Error::shape(op, text));
    }
    if directions.is_empty() || directions.len() > 2 {
        let text = format!(
            "there must be weights of one or two directions, not {}",
            directions.len()
        );
        return Err(Error::value(op, text));
    }
    let gates = cell.gates();
    let h = directions[0].u.shape().last().copied().unwrap_or(0);
    if h == 0 {
        let text = format!(
            "w_hh must be ({gates} * H, H) with H >= 1, got {}",
            directions[0].u.shape()
        );
        return Err(Error::shape(op, text));
    }
    let wide = gates.saturating_mul(h);
    for (which, d) in directions.iter().enumerate() {
        let expected = [
            ("w_ih", Some(&d.w), vec![wide, inputs]),
            ("w_hh", Some(&d.u), vec![wide, h]),
            ("b_ih", d.b_w.as_ref(), vec![wide]),
            ("b_hh", d.b_u.as_ref(), vec![wide]),
            ("peephole", d.peephole.as_ref(), vec![cell.peepholes(), h]),
        ];
        for (name, tensor, shape) in expected {
            if let Some(tensor) = tensor
                && tensor.shape()[..] != shape[..]
            {
                let text = format!(
                    "{name} of direction {which} must be {} for x {} and H = {h}, got {}",
                    show(&shape),
                    x.shape(),
                    tensor.shape()
                );
                return Err(Error::shape(op, text));
            }
        }
        if d.peephole.is_some() && cell.peepholes() == 0 {
            return Err(Error::value(op, "only an LSTM has peephole weights"));
        }
    }
    if c0.is_some() && !cell.has_cells() {
        return Err(Error::value(op, "only an LSTM has a state c0"));
    }
    let state = Shape::from_slice(&[directions.len(), n, h]);
    for (name, tensor) in [("h0", h0), ("c0", c0)] {
        if let Some(tensor) = tensor
            && *tensor.shape() != state
        {
            let text = format!(
                "{name} must be (directions, N, H) = {state} for x {layout} {}, got {}",
                x.shape(),
                tensor.shape()
            );
            return Err(Error::shape(op, text));
        }
    }
    if let Some(lengths) = &options.lengths {
        if lengths.len() != n {
            let text = format!(
                "lengths must have one number for each of the {n} sequences of x {}, got {}",
                x.shape(),
                lengths.len()
            );
            return Err(Error::shape(op, text));
        }
        if let Some(i) = lengths.iter().position(|&l| l > t) {
            let text = format!(
                "lengths must be from 0 to the {t} steps of x {}, but lengths[{i}] is {}",
                x.shape(),
                lengths[i]
            );
            return Err(Error::value(op, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DEVICES, assert_close, check_twin, constant, leaf, message};
    use super::*;
    use crate::Device;
    use crate::autograd::{Tolerance, gradcheck, gradgradcheck};
    use crate::backend::rnn::Forget;

    fn cells() -> Vec<Cell> {
        let gru = |before, swapped| Cell::Gru { before, swapped };
        vec![
            Cell::Tanh,
            Cell::Lstm(Forget::Gate),
            Cell::Lstm(Forget::Never),
            Cell::Lstm(Forget::Coupled),
            gru(false, false),
            gru(true, false),
            gru(false, true),
            gru(true, true),
        ]
    }

    const N: usize = 3;
    const T: usize = 3;
    const I: usize = 2;
    const H: usize = 2;

    /// x, h0, c0 (of an LSTM), then all weights of the directions.
    fn tensors(d: Device, cell: Cell, directions: usize, peephole: bool) -> Vec<Tensor> {
        let wide = cell.gates() * H;
        let mut shapes = vec![vec![N, T, I], vec![directions, N, H]];
        if cell.has_cells() {
            shapes.push(vec![directions, N, H]);
        }
        for _ in 0..directions {
            shapes.extend([vec![wide, I], vec![wide, H], vec![wide], vec![wide]]);
            if peephole {
                shapes.push(vec![cell.peepholes(), H]);
            }
        }
        let each = shapes.iter().zip(1..);
        each.map(|(shape, seed)| leaf(d, shape, seed)).collect()
    }

    type Given = (Option<Tensor>, Option<Tensor>, Vec<Direction<Tensor>>);

    fn given(t: &[Tensor], cell: Cell, directions: usize, peephole: bool) -> Given {
        let mut rest = t[1..].iter().cloned();
        let h0 = rest.next();
        let c0 = cell.has_cells().then(|| rest.next()).flatten();
        let directions = (0..directions).map(|_| Direction {
            w: rest.next().unwrap(),
            u: rest.next().unwrap(),
            b_w: rest.next(),
            b_u: rest.next(),
            peephole: peephole.then(|| rest.next()).flatten(),
        });
        let directions = directions.collect();
        (h0, c0, directions)
    }

    fn options(cell: Cell, lengths: Option<&[usize]>) -> RecurrentOptions {
        RecurrentOptions {
            cell,
            batch_first: true,
            lengths: lengths.map(<[usize]>::to_vec),
        }
    }

    #[test]
    fn fused_equals_composed() {
        for d in DEVICES {
            for cell in cells() {
                for (directions, lengths) in [(1, None), (2, Some(&[2, 0, 3][..]))] {
                    let peephole = cell.has_cells() && directions == 2;
                    let o = options(cell, lengths);
                    let t = tensors(d, cell, directions, peephole);
                    for output in 0..if cell.has_cells() { 3 } else { 2 } {
                        check_twin(
                            |t| {
                                let (h0, c0, w) = given(t, cell, directions, peephole);
                                let all = recurrent(&o, &t[0], h0.as_ref(), c0.as_ref(), &w)?;
                                Ok(all[output].clone())
                            },
                            |t| {
                                let (h0, c0, w) = given(t, cell, directions, peephole);
                                let (h0, c0) = (h0.as_ref(), c0.as_ref());
                                let all = composed::recurrent(&o, &t[0], h0, c0, &w)?;
                                Ok(all[output].clone())
                            },
                            &t,
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn gradients_of_first_and_second_order() {
        let d = DEVICES[0];
        for cell in cells() {
            let peephole = cell.has_cells();
            let o = options(cell, Some(&[1, 3, 2]));
            let t = tensors(d, cell, 1, peephole);
            let f = |t: &[Tensor]| {
                let (h0, c0, w) = given(t, cell, 1, peephole);
                recurrent(&o, &t[0], h0.as_ref(), c0.as_ref(), &w)
            };
            gradcheck(&f, &t, Tolerance::default()).unwrap();
            gradgradcheck(&f, &t, Tolerance::default()).unwrap();
        }
    }

    #[test]
    fn a_sequence_of_its_own_is_what_it_is_among_others() {
        for d in DEVICES {
            for cell in cells() {
                let t = tensors(d, cell, 2, false);
                let (_, _, w) = given(&t, cell, 2, false);
                let all =
                    recurrent(&options(cell, Some(&[2, 0, 3])), &t[0], None, None, &w).unwrap();
                let alone = super::super::shape::slice_axis(&t[0], 1, 0, 2).unwrap();
                let alone = recurrent(&options(cell, None), &alone, None, None, &w).unwrap();
                for (some, one) in all.iter().zip(&alone).skip(1) {
                    let first = |x: &Tensor| super::super::shape::slice_axis(x, 1, 0, 1).unwrap();
                    assert_close(&first(some), &first(one), 1e-15);
                }
            }
        }
    }

    #[test]
    fn errors_teach() {
        let d = DEVICES[0];
        let cell = Cell::Lstm(Forget::Gate);
        let t = tensors(d, cell, 1, false);
        let (h0, c0, w) = given(&t, cell, 1, false);
        let call = |o: &RecurrentOptions, x: &Tensor, h0: Option<&Tensor>| {
            message(recurrent(o, x, h0, c0.as_ref(), &w))
        };
        let o = options(cell, None);
        assert_eq!(
            call(&o, &constant(d, &[3, 2], 1), None),
            "[lstm] x must be (N, T, I), got (3, 2)"
        );
        assert_eq!(
            call(&o, &constant(d, &[0, 3, 2], 1), None),
            "[lstm] x (N, T, I) must have at least one sequence and one step, got (0, 3, 2)"
        );
        assert_eq!(
            call(&o, &constant(d, &[3, 3, 5], 1), None),
            "[lstm] w_ih of direction 0 must be (8, 5) for x (3, 3, 5) and H = 2, got (8, 2)"
        );
        assert_eq!(
            call(&o, &t[0], Some(&constant(d, &[1, 2, 2], 1))),
            "[lstm] h0 must be (directions, N, H) = (1, 3, 2) for x (N, T, I) (3, 3, 2), got (1, 2, 2)"
        );
        assert_eq!(
            call(&options(cell, Some(&[1, 2])), &t[0], h0.as_ref()),
            "[lstm] lengths must have one number for each of the 3 sequences of x (3, 3, 2), got 2"
        );
        assert_eq!(
            call(&options(cell, Some(&[1, 4, 2])), &t[0], h0.as_ref()),
            "[lstm] lengths must be from 0 to the 3 steps of x (3, 3, 2), but lengths[1] is 4"
        );
    }
}
