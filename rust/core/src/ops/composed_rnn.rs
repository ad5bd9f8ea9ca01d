//! The composed twin of recurrent layers: step by step, out of basic operations.
use super::composed::{linear, relu, sigmoid, tanh};
use super::recurrent::RecurrentOptions;
use super::shape::slice_axis;
use super::{add, concat, multiply, permute_dims, squeeze, stack, subtract, r#where, zeros};
use crate::backend::recurrent::Direction;
use crate::backend::rnn::{Cell, Forget};
use crate::dtype::DType;
use crate::error::Result;
use crate::tensor::Tensor;

/// h and c after one step from `x (N, I)`, `h` and `c (N, H)`.
fn step(
    cell: Cell,
    d: &Direction<Tensor>,
    x: &Tensor,
    h: &Tensor,
    c: Option<&Tensor>,
) -> Result<(Tensor, Option<Tensor>)> {
    let units = h.shape()[1];
    let of_x = linear(x, &d.w, d.b_w.as_ref())?;
    let of_h = linear(h, &d.u, d.b_u.as_ref())?;
    let gate = |all: &Tensor, g: usize| slice_axis(all, 1, g * units, units);
    let sum = |g: usize| add(&gate(&of_x, g)?, &gate(&of_h, g)?);
    Ok(match cell {
        Cell::Tanh => (tanh(&sum(0)?)?, None),
        Cell::Relu => (relu(&sum(0)?)?, None),
        Cell::Lstm(forget) => {
            let (at_g, at_o) = if forget == Forget::Gate {
                (2, 3)
            } else {
                (1, 2)
            };
            let zero;
            let c = match c {
                Some(c) => c,
                None => {
                    zero = zeros(h.shape(), h.dtype(), h.device())?;
                    &zero
                }
            };
            let seen = |a: Tensor, place: usize, c: &Tensor| match &d.peephole {
                Some(p) => add(&a, &multiply(&slice_axis(p, 0, place, 1)?, c)?),
                None => Ok(a),
            };
            let i = sigmoid(&seen(sum(0)?, 0, c)?)?;
            let g = tanh(&sum(at_g)?)?;
            let kept = match forget {
                Forget::Gate => multiply(&sigmoid(&seen(sum(1)?, 1, c)?)?, c)?,
                Forget::Never => c.clone(),
                Forget::Coupled => multiply(&subtract(1.0, &i)?, c)?,
            };
            let new = add(&kept, &multiply(&i, &g)?)?;
            let o = sigmoid(&seen(sum(at_o)?, at_o - 1, &new)?)?;
            (multiply(&o, &tanh(&new)?)?, Some(new))
        }
        Cell::Gru { before, swapped } => {
            let (r, z) = (sigmoid(&sum(0)?)?, sigmoid(&sum(1)?)?);
            let n = if before {
                let w = slice_axis(&d.u, 0, 2 * units, units)?;
                let bias = d.b_u.as_ref().map(|b| slice_axis(b, 0, 2 * units, units));
                let part = linear(&multiply(&r, h)?, &w, bias.transpose()?.as_ref())?;
                tanh(&add(&gate(&of_x, 2)?, &part)?)?
            } else {
                tanh(&add(&gate(&of_x, 2)?, &multiply(&r, &gate(&of_h, 2)?)?)?)?
            };
            let (from, to) = if swapped { (h, &n) } else { (&n, h) };
            (add(from, &multiply(&z, &subtract(to, from)?)?)?, None)
        }
    })
}

/// Twin of [`recurrent`](super::recurrent()).
pub fn recurrent(
    options: &RecurrentOptions,
    x: &Tensor,
    h0: Option<&Tensor>,
    c0: Option<&Tensor>,
    directions: &[Direction<Tensor>],
) -> Result<Vec<Tensor>> {
    let cell = options.cell;
    let swap = |x: &Tensor| {
        if options.batch_first {
            permute_dims(x, &[1, 0, 2])
        } else {
            Ok(x.clone())
        }
    };
    let x = swap(x)?;
    let (t, n) = (x.shape()[0], x.shape()[1]);
    let (mut ys, mut hs, mut cs) = (vec![], vec![], vec![]);
    for (which, d) in directions.iter().enumerate() {
        let shape = [n, d.u.shape()[1]];
        let start = |s: Option<&Tensor>| match s {
            Some(s) => squeeze(&slice_axis(s, 0, which, 1)?, Some(&[0])),
            None => zeros(&shape, x.dtype(), x.device()),
        };
        let mut h = start(h0)?;
        let mut c = cell.has_cells().then(|| start(c0)).transpose()?;
        let zero = zeros(&shape, x.dtype(), x.device())?;
        let mut y = vec![zero.clone(); t];
        for step_number in 0..t {
            let at = if which == 1 {
                t - 1 - step_number
            } else {
                step_number
            };
            let input = squeeze(&slice_axis(&x, 0, at, 1)?, Some(&[0]))?;
            let (new_h, new_c) = step(cell, d, &input, &h, c.as_ref())?;
            let Some(lengths) = &options.lengths else {
                (h, c) = (new_h, new_c);
                y[at] = h.clone();
                continue;
            };
            // Sequences that have ended, or in reverse not yet begun, stay as they are.
            let runs: Vec<u8> = lengths.iter().map(|&l| u8::from(at < l)).collect();
            let runs = Tensor::from_slice_on(&runs, &[n, 1], DType::Bool, x.device())?;
            y[at] = r#where(&runs, &new_h, &zero)?;
            h = r#where(&runs, &new_h, &h)?;
            c = match (new_c, c) {
                (Some(new), Some(old)) => Some(r#where(&runs, &new, &old)?),
                _ => None,
            };
        }
        let y: Vec<&Tensor> = y.iter().collect();
        ys.push(stack(&y, 0)?);
        hs.push(h);
        cs.extend(c);
    }
    let all = |parts: &[Tensor]| stack(&parts.iter().collect::<Vec<_>>(), 0);
    let y = swap(&concat(&ys.iter().collect::<Vec<_>>(), 2)?)?;
    let mut out = vec![y, all(&hs)?];
    if cell.has_cells() {
        out.push(all(&cs)?);
    }
    Ok(out)
}
