//! Recurrent layers: what a device does with one layer, in one direction or two.

use corten_kernels::rnn::Cell;

use crate::error::Result;
use crate::value::Value;

/// Weights of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Direction<V> {
    /// Of the input, `(gates h, i)`.
    pub w: V,
    /// Of the state, `(gates h, h)`.
    pub u: V,
    /// Added to the input's part, `(gates h,)`.
    pub b_w: Option<V>,
    /// Added to the state's part, `(gates h,)`.
    pub b_u: Option<V>,
    /// From c to the gates of an LSTM, `(2 or 3, h)`.
    pub peephole: Option<V>,
}

impl<V> Direction<V> {
    /// All that are there, in the order of the fields.
    pub fn all(&self) -> impl Iterator<Item = &V> {
        let maybe = [&self.b_w, &self.b_u, &self.peephole];
        [&self.w, &self.u]
            .into_iter()
            .chain(maybe.into_iter().flatten())
    }
    /// Each through `f`.
    pub fn map<'a, U>(&'a self, mut f: impl FnMut(&'a V) -> Result<U>) -> Result<Direction<U>> {
        Ok(Direction {
            w: f(&self.w)?,
            u: f(&self.u)?,
            b_w: self.b_w.as_ref().map(&mut f).transpose()?,
            b_u: self.b_u.as_ref().map(&mut f).transpose()?,
            peephole: self.peephole.as_ref().map(&mut f).transpose()?,
        })
    }
}

/// One layer and what goes in. The second direction is from the end to the beginning.
#[derive(Clone, Debug)]
pub struct Layer<'a> {
    /// Which recurrence.
    pub cell: Cell,
    /// x and y are `(n, t, *)` instead of `(t, n, *)`.
    pub batch_first: bool,
    /// Steps of each sequence, at most t.
    pub lengths: Option<&'a [usize]>,
    /// `(t, n, i)`.
    pub x: Value,
    /// `(directions, n, h)`, zeros where absent.
    pub h0: Option<Value>,
    /// As `h0`.
    pub c0: Option<Value>,
    /// One or two.
    pub directions: Vec<Direction<Value>>,
}

/// What [`Recurrent::recurrent`] gives.
#[derive(Debug)]
pub struct Run {
    /// `(t, n, directions h)`, laid out as x.
    pub y: Value,
    /// `(directions, n, h)`.
    pub hn: Value,
    /// As `hn`, of an LSTM.
    pub cn: Option<Value>,
    /// For [`Recurrent::recurrent_backward`], for each direction; empty unless it was asked for.
    pub kept: Vec<[Option<Value>; 3]>,
}

/// Which gradients are wanted.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Wanted {
    pub x: bool,
    pub h0: bool,
    pub c0: bool,
    pub directions: Vec<Direction<bool>>,
}

/// Gradients; those that were wanted.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Found {
    pub x: Option<Value>,
    pub h0: Option<Value>,
    pub c0: Option<Value>,
    /// w, u, b_w, b_u, peephole of each direction.
    pub directions: Vec<[Option<Value>; 5]>,
}

/// Recurrent layers over whole sequences. Float values only; what is kept is float32 for 16-bit floats.
pub trait Recurrent {
    /// All steps of one layer.
    fn recurrent(&self, layer: &Layer<'_>, keep: bool) -> Result<Run>;
    /// Its gradients, from those of y, hn and cn (`None`: zero).
    fn recurrent_backward(
        &self,
        layer: &Layer<'_>,
        kept: &[[Option<Value>; 3]],
        y: &Value,
        seeds: [Option<&Value>; 3],
        wanted: &Wanted,
    ) -> Result<Found>;
}
