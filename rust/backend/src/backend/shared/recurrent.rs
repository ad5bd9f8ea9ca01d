//! [`Recurrent`] over the kernels in `k`.

use corten_kernels::rnn::{Cell, Grads, Kept, Rnn, Saved, Seeds, Weights};

use super::elements::{dense, done, fresh, roomy};
use super::{Me, k};
use crate::backend::Elements;
use crate::backend::recurrent::{Direction, Found, Layer, Recurrent, Run, Wanted};
use crate::dtype::Element;
use crate::error::Result;
use crate::storage::Storage;
use crate::value::Value;
use crate::with_real;

/// The name that errors of memory bear.
fn name(cell: Cell) -> &'static str {
    match cell {
        Cell::Tanh | Cell::Relu => "rnn",
        Cell::Lstm(_) => "lstm",
        Cell::Gru { .. } => "gru",
    }
}

fn sizes(layer: &Layer<'_>, direction: usize) -> Rnn {
    let s = layer.x.shape();
    let (t, n) = if layer.batch_first {
        (s[1], s[0])
    } else {
        (s[0], s[1])
    };
    let h = layer.directions[0].u.shape()[1];
    Rnn {
        cell: layer.cell,
        t,
        n,
        i: s[2],
        h,
        batch_first: layer.batch_first,
        reverse: direction == 1,
        y_row: layer.directions.len() * h,
        column: direction * h,
    }
}

fn weights<T: Element>(d: &Direction<Value>) -> Weights<'_, T> {
    Weights {
        w: dense(&d.w),
        u: dense(&d.u),
        b_w: d.b_w.as_ref().map(dense),
        b_u: d.b_u.as_ref().map(dense),
        peephole: d.peephole.as_ref().map(dense),
    }
}

/// The part of a direction.
fn part<T>(all: &[T], direction: usize, len: usize) -> &[T] {
    &all[direction * len..][..len]
}
fn part_mut<T: Element>(
    all: &mut Option<Storage>,
    direction: usize,
    len: usize,
) -> Option<&mut [T]> {
    all.as_mut()
        .map(|s| &mut s.slice_mut()[direction * len..][..len])
}
fn whole<T: Element>(s: &mut Option<Storage>) -> Option<&mut [T]> {
    s.as_mut().map(Storage::slice_mut)
}

impl Me {
    /// Everything in C order.
    fn ordered<'a>(&self, layer: &Layer<'a>) -> Result<Layer<'a>> {
        let maybe = |v: &Option<Value>| v.as_ref().map(|v| self.contiguous(v)).transpose();
        let directions = layer.directions.iter();
        Ok(Layer {
            x: self.contiguous(&layer.x)?,
            h0: maybe(&layer.h0)?,
            c0: maybe(&layer.c0)?,
            directions: directions
                .map(|d| d.map(|v| self.contiguous(v)))
                .collect::<Result<_>>()?,
            ..layer.clone()
        })
    }
}

impl Recurrent for Me {
    fn recurrent(&self, layer: &Layer<'_>, keep: bool) -> Result<Run> {
        let op = name(layer.cell);
        let layer = &self.ordered(layer)?;
        let (dtype, count) = (layer.x.dtype(), layer.directions.len());
        let p = sizes(layer, 0);
        let (rows, wide, state) = (p.rows(layer.lengths), p.cell.gates() * p.h, p.n * p.h);
        let mut shape = layer.x.shape().clone();
        shape[2] = p.y_row;
        let mut y = fresh(dtype, &shape)?;
        let states = [count, p.n, p.h];
        let mut hn = fresh(dtype, &states)?;
        let mut cn = p
            .cell
            .has_cells()
            .then(|| fresh(dtype, &states))
            .transpose()?;
        let mut kept = Vec::new();
        for (which, d) in layer.directions.iter().enumerate() {
            let p = sizes(layer, which);
            let mut gates = fresh(dtype, &[rows, wide])?;
            let room = |wanted: bool| {
                (keep && wanted)
                    .then(|| fresh(dtype, &[rows, p.h]))
                    .transpose()
            };
            let (mut cells, mut hidden) = (room(p.cell.has_cells())?, room(p.cell.has_hidden())?);
            with_real!(op, dtype, T => roomy(op, || {
                let mut room = Kept {
                    gates: gates.slice_mut::<T>(),
                    cells: whole(&mut cells),
                    hidden: whole(&mut hidden),
                };
                k::rnn::rnn_forward::<T>(
                    &p,
                    layer.lengths,
                    &weights(d),
                    dense(&layer.x),
                    layer.h0.as_ref().map(|v| part(dense(v), which, state)),
                    layer.c0.as_ref().map(|v| part(dense(v), which, state)),
                    &mut room,
                    y.slice_mut(),
                    &mut hn.slice_mut()[which * state..][..state],
                    part_mut(&mut cn, which, state),
                );
            })?);
            if keep {
                let value = |s: Storage, cols: usize| done(s, [rows, cols]);
                kept.push([
                    p.cell
                        .saves_gates()
                        .then(|| value(gates, wide))
                        .transpose()?,
                    cells.map(|s| value(s, p.h)).transpose()?,
                    hidden.map(|s| value(s, p.h)).transpose()?,
                ]);
            }
        }
        Ok(Run {
            y: done(y, shape)?,
            hn: done(hn, states)?,
            cn: cn.map(|s| done(s, states)).transpose()?,
            kept,
        })
    }

    fn recurrent_backward(
        &self,
        layer: &Layer<'_>,
        kept: &[[Option<Value>; 3]],
        y: &Value,
        seeds: [Option<&Value>; 3],
        wanted: &Wanted,
    ) -> Result<Found> {
        let op = name(layer.cell);
        let layer = &self.ordered(layer)?;
        let (dtype, count) = (layer.x.dtype(), layer.directions.len());
        let p = sizes(layer, 0);
        let state = p.n * p.h;
        let y = self.contiguous(y)?;
        let [dy, dhn, dcn] = seeds.map(|s| s.map(|s| self.contiguous(s)).transpose());
        let (dy, dhn, dcn) = (dy?, dhn?, dcn?);
        let states = [count, p.n, p.h];
        let maybe = |wanted: bool, shape: &[usize]| wanted.then(|| fresh(dtype, shape)).transpose();
        let mut dx = maybe(wanted.x, layer.x.shape())?;
        let mut dh0 = maybe(wanted.h0, &states)?;
        let mut dc0 = maybe(wanted.c0, &states)?;
        let mut directions = Vec::with_capacity(count);
        for (which, d) in layer.directions.iter().enumerate() {
            let p = sizes(layer, which);
            let need = &wanted.directions[which];
            let like = |wanted: bool, v: Option<&Value>| match v {
                Some(v) => maybe(wanted, v.shape()),
                None => Ok(None),
            };
            let mut found = [
                like(need.w, Some(&d.w))?,
                like(need.u, Some(&d.u))?,
                like(need.b_w == Some(true), d.b_w.as_ref())?,
                like(need.b_u == Some(true), d.b_u.as_ref())?,
                like(need.peephole == Some(true), d.peephole.as_ref())?,
            ];
            let [gates, cells, hidden] = &kept[which];
            with_real!(op, dtype, T => roomy(op, || {
                let saved = Saved::<T> {
                    gates: gates.as_ref().map_or(&[], dense),
                    cells: cells.as_ref().map(dense),
                    hidden: hidden.as_ref().map(dense),
                };
                let seeds = Seeds {
                    y: dy.as_ref().map(dense),
                    h: dhn.as_ref().map(|v| part(dense(v), which, state)),
                    c: dcn.as_ref().map(|v| part(dense(v), which, state)),
                };
                let [w, u, b_w, b_u, peephole] = &mut found;
                let mut grads = Grads {
                    x: whole(&mut dx),
                    add_x: which > 0,
                    w: whole(w),
                    u: whole(u),
                    b_w: whole(b_w),
                    b_u: whole(b_u),
                    peephole: whole(peephole),
                    h0: part_mut(&mut dh0, which, state),
                    c0: part_mut(&mut dc0, which, state),
                };
                k::rnn::rnn_backward::<T>(
                    &p,
                    layer.lengths,
                    &weights(d),
                    dense(&layer.x),
                    layer.h0.as_ref().map(|v| part(dense(v), which, state)),
                    layer.c0.as_ref().map(|v| part(dense(v), which, state)),
                    &saved,
                    dense(&y),
                    &seeds,
                    &mut grads,
                );
            })?);
            let shapes = [
                Some(&d.w),
                Some(&d.u),
                d.b_w.as_ref(),
                d.b_u.as_ref(),
                d.peephole.as_ref(),
            ];
            let mut values = [const { None }; 5];
            for ((value, storage), of) in values.iter_mut().zip(found).zip(shapes) {
                if let (Some(storage), Some(of)) = (storage, of) {
                    *value = Some(done(storage, of.shape().clone())?);
                }
            }
            directions.push(values);
        }
        Ok(Found {
            x: dx.map(|s| done(s, layer.x.shape().clone())).transpose()?,
            h0: dh0.map(|s| done(s, states)).transpose()?,
            c0: dc0.map(|s| done(s, states)).transpose()?,
            directions,
        })
    }
}
