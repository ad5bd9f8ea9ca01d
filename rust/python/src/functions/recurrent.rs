//! Recurrent layers.

use corten_core::Tensor;
use corten_core::backend::recurrent::Direction;
use corten_core::backend::rnn::{Cell, Forget};
use corten_core::ops::{self, RecurrentOptions};
use corten_python_macros::pyfunction;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::convert::{Arg, Args, type_name};
use crate::seam::run;
use crate::tensor::PyTensor;

/// Lengths of sequences: ints, or a tensor or array of them.
struct Lengths(Vec<usize>);

impl<'py> FromPyObject<'_, 'py> for Lengths {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let list = match obj.hasattr("tolist")? {
            true => obj.call_method0("tolist")?,
            false => obj.to_owned(),
        };
        let wrong = || {
            PyTypeError::new_err(format!(
                "expected ints, one for each sequence, not {}",
                type_name(&obj)
            ))
        };
        let mut out = Vec::new();
        for item in list.try_iter().map_err(|_| wrong())? {
            let length: i64 = item?.extract().map_err(|_| wrong())?;
            out.push(usize::try_from(length).map_err(|_| {
                PyValueError::new_err(format!("a length cannot be negative, got {length}"))
            })?);
        }
        Ok(Self(out))
    }
}

/// The directions of a flat list of weights: `w_ih, w_hh` and perhaps `b_ih, b_hh` and peephole weights, for each.
fn directions(
    op: &str,
    weights: &[Tensor],
    bidirectional: bool,
    peephole: bool,
) -> PyResult<Vec<Direction<Tensor>>> {
    let count = if bidirectional { 2 } else { 1 };
    let extra = usize::from(peephole);
    let each = weights.len() / count;
    let bias = each == 4 + extra;
    if !weights.len().is_multiple_of(count) || !(bias || each == 2 + extra) {
        return Err(PyValueError::new_err(format!(
            "[{op}] weights must be w_ih, w_hh or w_ih, w_hh, b_ih, b_hh{} for each direction, got {} tensors for {count}",
            if peephole {
                ", then peephole weights,"
            } else {
                ""
            },
            weights.len()
        )));
    }
    let one = |w: &[Tensor]| Direction {
        w: w[0].clone(),
        u: w[1].clone(),
        b_w: bias.then(|| w[2].clone()),
        b_u: bias.then(|| w[3].clone()),
        peephole: peephole.then(|| w[each - 1].clone()),
    };
    Ok(weights.chunks(each).map(one).collect())
}

fn layer(
    py: Python<'_>,
    options: &RecurrentOptions,
    x: &Tensor,
    h0: Option<&Tensor>,
    c0: Option<&Tensor>,
    directions: &[Direction<Tensor>],
) -> PyResult<Vec<PyTensor>> {
    // Kiloflops, which count for the decision about the GIL.
    let wide = directions.first().map_or(0, |d| d.w.numel() + d.u.numel());
    let work = (x.numel() / 512).saturating_mul(wide).max(x.numel());
    let all = run(py, work, || ops::recurrent(options, x, h0, c0, directions))?;
    Ok(all.into_iter().map(PyTensor::new).collect())
}

/// A simple recurrent layer over whole sequences: `h' = tanh(w_ih x + b_ih + w_hh h + b_hh)`, in one kernel, backward too.
///
/// `x (T, N, I)`, with `batch_first` `(N, T, I)`; `weights` is `[w_ih (H, I), w_hh (H, H)]` or these and `b_ih (H,)`, `b_hh (H,)`,
/// for `bidirectional` followed by those of the direction from the end to the beginning; `h0 (directions, N, H)` is 0 unless given.
/// `lengths` are the steps of each sequence, from 0 to T in any order. `activation` is "tanh" or "relu".
///
/// Gives `y`, h after each step, `(T, N, directions H)` or `(N, T, directions H)`, 0 beyond the end of a sequence; and the last h.
///
/// >>> import corten as ct
/// >>> w = [ct.ones((1, 1)), ct.ones((1, 1))]
/// >>> y, h = ct.nn.functional.rnn(ct.ones((3, 1, 1)), w, activation="relu")
/// >>> y.tolist(), h.tolist()
/// ([[[1.0]], [[2.0]], [[3.0]]], [[[3.0]]])
#[pyfunction]
#[pyo3(signature = (x, weights, h0 = None, lengths = None, batch_first = false, bidirectional = false, activation = "tanh"))]
fn rnn(
    py: Python<'_>,
    x: Arg<'_>,
    weights: Args,
    h0: Option<Arg<'_>>,
    lengths: Option<Lengths>,
    batch_first: bool,
    bidirectional: bool,
    activation: &str,
) -> PyResult<(PyTensor, PyTensor)> {
    let cell = match activation {
        "tanh" => Cell::Tanh,
        "relu" => Cell::Relu,
        _ => {
            return Err(PyValueError::new_err(format!(
                "[rnn] activation must be 'tanh' or 'relu', got '{activation}'"
            )));
        }
    };
    let directions = directions("rnn", &weights.0, bidirectional, false)?;
    let options = RecurrentOptions {
        cell,
        batch_first,
        lengths: lengths.map(|l| l.0),
    };
    let mut out = layer(py, &options, x.0, h0.map(|h| h.0), None, &directions)?.into_iter();
    Ok((next(&mut out)?, next(&mut out)?))
}

/// An LSTM layer over whole sequences, in one kernel, backward too: `c' = f c + i g`, `h' = o tanh(c')`.
///
/// `i, f, o = sigmoid(w_ih x + b_ih + w_hh h + b_hh)`, `g = tanh(...)`; the rows of the weights hold i, f, g, o. Arguments are those of
/// `rnn`, with `4 H` rows of weights, and `c0` like `h0`. `forget` is "gate"; or "never" (f = 1) or "coupled" (f = 1 - i), with rows i,
/// g, o only. With `peephole`, each direction's weights end with `(3, H)` numbers, without a gate f `(2, H)`: i and f also see `p c`,
/// o sees `p c'`.
///
/// Gives `y`, the last h and the last c.
///
/// >>> import corten as ct
/// >>> w = [ct.zeros((4, 1)), ct.zeros((4, 1))]
/// >>> y, h, c = ct.nn.functional.lstm(ct.ones((2, 1, 1)), w, c0=ct.ones((1, 1, 1)))
/// >>> c.tolist()  # half of it is kept in each step
/// [[[0.25]]]
#[pyfunction]
#[pyo3(signature = (x, weights, h0 = None, c0 = None, lengths = None, batch_first = false, bidirectional = false, forget = "gate", peephole = false))]
fn lstm(
    py: Python<'_>,
    x: Arg<'_>,
    weights: Args,
    h0: Option<Arg<'_>>,
    c0: Option<Arg<'_>>,
    lengths: Option<Lengths>,
    batch_first: bool,
    bidirectional: bool,
    forget: &str,
    peephole: bool,
) -> PyResult<(PyTensor, PyTensor, PyTensor)> {
    let forget = match forget {
        "gate" => Forget::Gate,
        "never" => Forget::Never,
        "coupled" => Forget::Coupled,
        _ => {
            return Err(PyValueError::new_err(format!(
                "[lstm] forget must be 'gate', 'never' or 'coupled', got '{forget}'"
            )));
        }
    };
    let directions = directions("lstm", &weights.0, bidirectional, peephole)?;
    let options = RecurrentOptions {
        cell: Cell::Lstm(forget),
        batch_first,
        lengths: lengths.map(|l| l.0),
    };
    let (h0, c0) = (h0.map(|h| h.0), c0.map(|c| c.0));
    let mut out = layer(py, &options, x.0, h0, c0, &directions)?.into_iter();
    Ok((next(&mut out)?, next(&mut out)?, next(&mut out)?))
}

/// A GRU layer over whole sequences, in one kernel, backward too: `h' = (1 - z) n + z h`.
///
/// `r, z = sigmoid(w_ih x + b_ih + w_hh h + b_hh)`, `n = tanh(w_ih x + b_ih + r (w_hh h + b_hh))`; the rows of the weights hold r, z, n.
/// Arguments are those of `rnn`, with `3 H` rows of weights. `reset` is "after" the product, as here and in PyTorch and cuDNN, or
/// "before" it: `n = tanh(w_ih x + b_ih + w_hh (r h) + b_hh)`, as in the paper. With `swap_update`, `h' = z n + (1 - z) h`.
///
/// Gives `y` and the last h.
///
/// >>> import corten as ct
/// >>> w = [ct.zeros((3, 1)), ct.zeros((3, 1))]
/// >>> y, h = ct.nn.functional.gru(ct.ones((2, 1, 1)), w, h0=ct.ones((1, 1, 1)))
/// >>> y.tolist()  # half of it is kept in each step
/// [[[0.5]], [[0.25]]]
#[pyfunction]
#[pyo3(signature = (x, weights, h0 = None, lengths = None, batch_first = false, bidirectional = false, reset = "after", swap_update = false))]
fn gru(
    py: Python<'_>,
    x: Arg<'_>,
    weights: Args,
    h0: Option<Arg<'_>>,
    lengths: Option<Lengths>,
    batch_first: bool,
    bidirectional: bool,
    reset: &str,
    swap_update: bool,
) -> PyResult<(PyTensor, PyTensor)> {
    let before = match reset {
        "after" => false,
        "before" => true,
        _ => {
            return Err(PyValueError::new_err(format!(
                "[gru] reset must be 'after' or 'before', got '{reset}'"
            )));
        }
    };
    let directions = directions("gru", &weights.0, bidirectional, false)?;
    let options = RecurrentOptions {
        cell: Cell::Gru {
            before,
            swapped: swap_update,
        },
        batch_first,
        lengths: lengths.map(|l| l.0),
    };
    let mut out = layer(py, &options, x.0, h0.map(|h| h.0), None, &directions)?.into_iter();
    Ok((next(&mut out)?, next(&mut out)?))
}

/// The next result of a layer.
fn next(out: &mut impl Iterator<Item = PyTensor>) -> PyResult<PyTensor> {
    out.next()
        .ok_or_else(|| PyValueError::new_err("a recurrent layer gave too few results"))
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &["gru", "lstm", "rnn"];
functions!(gru, lstm, rnn);
