//! Recurrent layers over whole sequences, forward and back through time: RNN, LSTM, GRU and their variants.
//!
//! One product gives the inputs' part of all gates of all steps. Then the loop over time, whose step is a product with the
//! recurrent weights (packed once per call) added to it, and the gates, unit block by unit block while they lie in the
//! first-level cache. Backward, the loop leaves the gradients of all gates behind; those of weights and inputs are single
//! products of them after it.
//!
//! Threads take sequences of their own through all of time, without meeting, or, where there are too few sequences, share
//! the units and meet once per step. Neither shows in the bits: an element of a step's product is one chain in the order
//! of the units, whoever computes it.
//!
//! Sequences of different lengths are packed one after the other; padding is neither read nor computed.

mod backward;
mod forward;
mod gates;
mod lanes;
mod product;
#[cfg(test)]
mod tests;

pub use backward::rnn_backward;
pub use forward::rnn_forward;

/// Which recurrence. `a` names `W x + b`, `U` the recurrent weights, `s` the logistic function, `*` products by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// `h' = tanh(a + U h)`
    Tanh,
    /// `h' = max(a + U h, 0)`
    Relu,
    /// `c' = f * c + i * g`, `h' = o * tanh(c')` with `i, f, o = s(a + U h + p * c)` (`o` sees `c'`) and `g = tanh(a + U h)`; the
    /// gates' order is i, f, g, o, without f where it is not computed. Peephole weights `p` come in the order i, f, o.
    Lstm(Forget),
    /// `h' = (1 - z) * n + z * h` with `r, z = s(a + U h)` and `n = tanh(a + r * (U h + b))`; the gates' order is r, z, n.
    Gru {
        /// The reset gate acts before the product: `n = tanh(a + U (r * h) + b)`.
        before: bool,
        /// `z` weighs the new and `1 - z` the old: `h' = z * n + (1 - z) * h`.
        swapped: bool,
    },
}

/// What an LSTM forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// `f` is a gate of its own.
    Gate,
    /// Nothing: `f = 1`.
    Never,
    /// What is overwritten: `f = 1 - i`.
    Coupled,
}

impl Cell {
    /// Gates that are computed.
    pub fn gates(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Lstm(Forget::Gate) => 4,
            Cell::Lstm(_) | Cell::Gru { .. } => 3,
        }
    }
    /// Rows of peephole weights, if there are any.
    pub fn peepholes(self) -> usize {
        match self {
            Cell::Lstm(Forget::Gate) => 3,
            Cell::Lstm(_) => 2,
            _ => 0,
        }
    }
    /// Whether there is a second state, c.
    pub fn has_cells(self) -> bool {
        matches!(self, Cell::Lstm(_))
    }
    /// Whether the hidden part of n is saved.
    pub fn has_hidden(self) -> bool {
        matches!(self, Cell::Gru { before: false, .. })
    }
    /// Whether backward needs the gates.
    pub fn saves_gates(self) -> bool {
        !matches!(self, Cell::Tanh | Cell::Relu)
    }
}

/// One direction of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Rnn {
    /// Which recurrence.
    pub cell: Cell,
    /// Steps of the longest sequence.
    pub t: usize,
    /// Sequences.
    pub n: usize,
    /// Numbers per input.
    pub i: usize,
    /// Units.
    pub h: usize,
    /// x and y are `(n, t, *)` instead of `(t, n, *)`.
    pub batch_first: bool,
    /// From the end of each sequence to its beginning.
    pub reverse: bool,
    /// Numbers per row of y, of which this direction has `h` from `column` on.
    pub y_row: usize,
    /// See `y_row`.
    pub column: usize,
}

impl Rnn {
    /// Rows of all gates: one per step of each sequence, padding left out.
    pub fn rows(&self, lengths: Option<&[usize]>) -> usize {
        match lengths {
            Some(l) => l.iter().sum(),
            None => self.t * self.n,
        }
    }
    /// Columns of all gates.
    pub(crate) fn wide(&self) -> usize {
        self.cell.gates() * self.h
    }
}

/// Weights of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a, T> {
    /// Of the input, `(gates h, i)`.
    pub w: &'a [T],
    /// Of the state, `(gates h, h)`.
    pub u: &'a [T],
    /// Added to the input's part, `(gates h,)`.
    pub b_w: Option<&'a [T]>,
    /// Added to the state's part, `(gates h,)`.
    pub b_u: Option<&'a [T]>,
    /// From c to the gates of an LSTM, `(2 or 3, h)`.
    pub peephole: Option<&'a [T]>,
}

/// What forward keeps for backward; all of `(rows, *)`, in an order that is the kernels' own.
#[derive(Debug)]
pub struct Kept<'a, T> {
    /// `(rows, gates h)`. For RNN room to work in, not needed afterwards.
    pub gates: &'a mut [T],
    /// `(rows, h)`: c of an LSTM. With `None` there will be no backward, and `gates` are not valid afterwards.
    pub cells: Option<&'a mut [T]>,
    /// `(rows, h)`: the state's part of n of a GRU that resets after the product. With `None`, as above.
    pub hidden: Option<&'a mut [T]>,
}

/// What forward kept.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Saved<'a, T> {
    pub gates: &'a [T],
    pub cells: Option<&'a [T]>,
    pub hidden: Option<&'a [T]>,
}

/// Gradients of what comes out; `None` is zero.
#[derive(Clone, Copy, Debug)]
pub struct Seeds<'a, T> {
    /// Of y, in its layout.
    pub y: Option<&'a [T]>,
    /// Of the last h, `(n, h)`.
    pub h: Option<&'a [T]>,
    /// Of the last c, `(n, h)`.
    pub c: Option<&'a [T]>,
}

/// Gradients of what goes in; those that are there are computed.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Grads<'a, T> {
    pub x: Option<&'a mut [T]>,
    /// The gradient of x is added to what is there (of another direction).
    pub add_x: bool,
    pub w: Option<&'a mut [T]>,
    pub u: Option<&'a mut [T]>,
    pub b_w: Option<&'a mut [T]>,
    pub b_u: Option<&'a mut [T]>,
    pub peephole: Option<&'a mut [T]>,
    pub h0: Option<&'a mut [T]>,
    pub c0: Option<&'a mut [T]>,
}

/// Panics unless what goes in has the sizes that `p` says.
fn check<T>(
    p: &Rnn,
    lengths: Option<&[usize]>,
    w: &Weights<'_, T>,
    x: &[T],
    states: [Option<&[T]>; 2],
) {
    let (wide, state) = (p.wide(), p.n * p.h);
    assert_eq!((w.w.len(), w.u.len()), (wide * p.i, wide * p.h), "weights");
    for b in [w.b_w, w.b_u].into_iter().flatten() {
        assert_eq!(b.len(), wide, "bias");
    }
    if let Some(peephole) = w.peephole {
        assert_eq!(peephole.len(), p.cell.peepholes() * p.h, "peephole");
    }
    assert_eq!(x.len(), p.t * p.n * p.i, "x");
    assert!(
        states.into_iter().flatten().all(|s| s.len() == state),
        "state"
    );
    assert!(p.column + p.h <= p.y_row, "column");
    if let Some(l) = lengths {
        assert_eq!(l.len(), p.n, "lengths");
        assert!(l.iter().all(|&l| l <= p.t), "lengths beyond t");
    }
}
