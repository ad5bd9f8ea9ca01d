//! [`Network`] over the kernels in `k`.

use corten_kernels::attention::{Attention, Heads, Mask, Order};
use corten_kernels::conv::Conv2d;
use corten_kernels::gemm::{Activation, Epilogue, Mat};
use corten_kernels::loss::Target;
use corten_kernels::optim::{Adam, AdamItem, RmsProp, RmsPropItem, Sgd, SgdItem};
use corten_kernels::pool::Pool2d;

use super::elements::{check_interrupt, dense, done, fresh, roomy};
use super::{Me, k};
use crate::backend::{AdamParam, Elements, Network, Part, RmsPropParam, SgdParam};
use crate::dtype::{DType, Element};
use crate::error::Result;
use crate::list::try_vec;
use crate::shape::{Shape, broadcast_shapes, numel};
use crate::storage::Storage;
use crate::value::Value;
use crate::with_real;

/// [`with_real!`] for a kernel that may need memory to work in.
macro_rules! kernel {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        with_real!($op, $dtype, $T => roomy($op, || $body)?)
    };
}

/// The last two axes of `x` as a matrix.
fn mat<T: Element>(x: &Value, transposed: bool) -> Mat<'_, T> {
    let (s, n) = (x.layout.strides(), x.layout.ndim());
    let (rs, cs) = (s[n - 2], s[n - 1]);
    Mat {
        data: x.storage.slice(),
        offset: x.layout.offset(),
        rs: if transposed { cs } else { rs },
        cs: if transposed { rs } else { cs },
    }
}
/// Storage offset of each matrix of `x`, its batch axes broadcast to `batch`, relative to the first.
fn batch_offsets(x: &Value, batch: &[usize]) -> Result<Vec<isize>> {
    let n = x.layout.ndim() - 2;
    let mut out = vec![0isize];
    for (d, &size) in batch.iter().enumerate() {
        let own = (d + n).checked_sub(batch.len());
        let stride = match own {
            Some(a) if x.shape()[a] != 1 => x.layout.strides()[a],
            _ => 0,
        };
        let mut next = try_vec(out.len().saturating_mul(size))?;
        for &o in &out {
            next.extend((0..size as isize).map(|i| o + i * stride));
        }
        out = next;
    }
    Ok(out)
}
/// An output that is computed only when `needed`.
fn maybe(needed: bool, dtype: DType, shape: &[usize]) -> Result<Option<Storage>> {
    needed.then(|| fresh(dtype, shape)).transpose()
}
fn part<T: Element>(s: &mut Option<Storage>) -> Option<&mut [T]> {
    s.as_mut().map(Storage::slice_mut)
}
/// `x`'s shape with the last two axes replaced.
fn plane_shape(x: &Value, h: usize, w: usize) -> Shape {
    let mut s = x.shape().clone();
    let n = s.len();
    s[n - 2] = h;
    s[n - 1] = w;
    s
}
fn planes(x: &Value) -> usize {
    numel(&x.shape()[..x.layout.ndim() - 2])
}
/// Batch, channels and the product of the spatial axes of `x (n, c, *)`.
fn ncs(x: &Value) -> (usize, usize, usize) {
    (x.shape()[0], x.shape()[1], numel(&x.shape()[2..]))
}
/// Class indices or probabilities, by dtype.
fn target<T: Element>(t: &Value) -> Target<'_, T> {
    if t.dtype() == DType::I64 {
        Target::Index(dense(t))
    } else {
        Target::Probs(dense(t))
    }
}
/// A byte names the winning tap where the window is small enough.
fn tap_dtype(p: &Pool2d) -> DType {
    if p.kernel[0] * p.kernel[1] <= 256 {
        DType::U8
    } else {
        DType::I32
    }
}
/// Runs `$body` with `$I` as the Rust type of the taps.
macro_rules! with_tap {
    ($dtype:expr, $I:ident => $body:expr) => {
        if $dtype == DType::U8 {
            type $I = u8;
            $body
        } else {
            type $I = i32;
            $body
        }
    };
}

/// `x` as the attention kernels read it: their rows must be dense.
fn heads<T: Element>(x: &Value) -> Heads<'_, T> {
    let s = x.layout.strides();
    Heads {
        data: x.storage.slice(),
        offset: x.layout.offset(),
        strides: [s[0], s[1], s[2], s[3]],
    }
}
/// The order in which an output like `x (batch, heads, rows, columns)` is made: the one that `x` has, so that heads that
/// were cut out of rows are put side by side again without a copy.
fn order(x: &Value) -> Order {
    let s = x.layout.strides();
    if !x.layout.is_contiguous() && s[1].abs() < s[2].abs() {
        Order::RowsFirst
    } else {
        Order::HeadsFirst
    }
}
/// A kernel's output `(batch, heads, rows, columns)`, which lies in memory as `order` says.
fn ordered(s: Storage, order: Order, [b, h, t, d]: [usize; 4]) -> Result<Value> {
    if order == Order::HeadsFirst {
        return done(s, [b, h, t, d]);
    }
    let v = done(s, [b, t, h, d])?;
    let layout = v.layout.permute(&[0, 2, 1, 3]);
    Ok(v.with_layout(layout))
}
/// The mask, seen as `(batch, heads, tq, tk)`.
fn score_mask<'a, T: Element>(p: &Attention, mask: Option<&'a Value>) -> Mask<'a, T> {
    fn view<'a, E: Element>(p: &Attention, m: &'a Value) -> Heads<'a, E> {
        let s = m.layout.broadcast_strides(&[p.batch, p.heads, p.tq, p.tk]);
        Heads {
            data: m.storage.slice(),
            offset: m.layout.offset(),
            strides: [s[0], s[1], s[2], s[3]],
        }
    }
    match mask {
        None => Mask::None,
        Some(m) if m.dtype() == DType::Bool => Mask::Keep(view(p, m)),
        Some(m) => Mask::Add(view(p, m)),
    }
}

impl Me {
    /// `x` with dense rows.
    fn dense_rows(&self, x: &Value) -> Result<Value> {
        let n = x.layout.ndim();
        if x.shape()[n - 1] <= 1 || x.layout.strides()[n - 1] == 1 {
            return Ok(x.clone());
        }
        self.contiguous(x)
    }
}

impl Network for Me {
    fn matmul(&self, a: &Value, b: &Value) -> Result<Value> {
        let (na, nb) = (a.layout.ndim(), b.layout.ndim());
        let (m, kk, n) = (a.shape()[na - 2], a.shape()[na - 1], b.shape()[nb - 1]);
        if nb == 2 && na > 2 {
            // One matrix for the whole batch: rows of all products are rows of one product.
            let rows = numel(&a.shape()[..na - 1]);
            let flat = self.contiguous(a)?;
            let layout = crate::layout::Layout::new(
                [rows, kk].into(),
                [kk as isize, 1].into(),
                flat.layout.offset(),
            );
            let y = self.matmul(&flat.with_layout(layout), b)?;
            let shape: Shape = a.shape()[..na - 1].iter().copied().chain([n]).collect();
            return Ok(y.with_layout(crate::layout::Layout::contiguous(shape)));
        }
        let batch = broadcast_shapes("matmul", &a.shape()[..na - 2], &b.shape()[..nb - 2])?;
        let shape: Shape = batch.iter().copied().chain([m, n]).collect();
        let mut out = fresh(a.dtype(), &shape)?;
        if out.is_empty() {
            return done(out, shape); // however many empty products there are
        }
        let (oa, ob) = (batch_offsets(a, &batch)?, batch_offsets(b, &batch)?);
        kernel!("matmul", a.dtype(), T => {
            let (ma, mb) = (mat::<T>(a, false), mat::<T>(b, false));
            if batch.is_empty() {
                k::gemm::gemm(m, n, kk, ma, mb, out.slice_mut(), Epilogue::default());
            } else {
                k::gemm::gemm_batched(m, n, kk, ma, &oa, mb, &ob, out.slice_mut());
            }
        });
        done(out, shape)
    }

    fn linear(
        &self,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        act: Activation,
        keep_pre: bool,
    ) -> Result<(Value, Option<Value>)> {
        let (m, kk, n) = (x.shape()[0], x.shape()[1], w.shape()[0]);
        let bias = bias.map(|b| self.contiguous(b)).transpose()?;
        let mut out = fresh(x.dtype(), &[m, n])?;
        let mut pre = maybe(keep_pre, x.dtype(), &[m, n])?;
        kernel!("linear", x.dtype(), T => {
            let epilogue = Epilogue {
                bias: bias.as_ref().map(dense::<T>),
                act,
                accumulate: false,
                pre: part(&mut pre),
            };
            k::gemm::gemm(m, n, kk, mat(x, false), mat(w, true), out.slice_mut(), epilogue);
        });
        let pre = pre.map(|p| done(p, [m, n])).transpose()?;
        Ok((done(out, [m, n])?, pre))
    }

    fn linear_backward(
        &self,
        x: &Value,
        w: &Value,
        dz: &Value,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]> {
        let (m, kk, n) = (x.shape()[0], x.shape()[1], w.shape()[0]);
        let (x, w, dz) = (
            self.contiguous(x)?,
            self.contiguous(w)?,
            self.contiguous(dz)?,
        );
        let mut dx = maybe(needs[0], x.dtype(), &[m, kk])?;
        let mut dw = maybe(needs[1], x.dtype(), &[n, kk])?;
        let mut db = maybe(needs[2], x.dtype(), &[n])?;
        kernel!("linear", x.dtype(), T => k::gemm::linear_backward::<T>(
            m, n, kk, dense(&x), dense(&w), dense(&dz), part(&mut dx), part(&mut dw), part(&mut db)));
        Ok([
            dx.map(|s| done(s, [m, kk])).transpose()?,
            dw.map(|s| done(s, [n, kk])).transpose()?,
            db.map(|s| done(s, [n])).transpose()?,
        ])
    }

    fn conv2d(
        &self,
        p: &Conv2d,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        act: Activation,
    ) -> Result<Value> {
        let (x, w) = (self.contiguous(x)?, self.contiguous(w)?);
        let bias = bias.map(|b| self.contiguous(b)).transpose()?;
        let shape = [p.n, p.o, p.oh, p.ow];
        let mut out = fresh(x.dtype(), &shape)?;
        kernel!("conv2d", x.dtype(), T => k::conv::conv2d::<T>(
            p, dense(&x), dense(&w), bias.as_ref().map(dense), act, out.slice_mut()));
        done(out, shape)
    }

    fn conv2d_dx(&self, p: &Conv2d, dy: &Value, w: &Value) -> Result<Value> {
        let (dy, w) = (self.contiguous(dy)?, self.contiguous(w)?);
        let shape = [p.n, p.c, p.h, p.w];
        let mut out = fresh(dy.dtype(), &shape)?;
        kernel!("conv2d", dy.dtype(), T =>
            k::conv::conv2d_dx::<T>(p, dense(&dy), dense(&w), out.slice_mut()));
        done(out, shape)
    }

    fn conv2d_dw(
        &self,
        p: &Conv2d,
        x: &Value,
        dy: &Value,
        need_dw: bool,
        need_db: bool,
    ) -> Result<(Option<Value>, Option<Value>)> {
        let (x, dy) = (self.contiguous(x)?, self.contiguous(dy)?);
        let shape = [p.o, p.c / p.groups, p.kernel[0], p.kernel[1]];
        let mut dw = maybe(need_dw, x.dtype(), &shape)?;
        let mut db = maybe(need_db, x.dtype(), &[p.o])?;
        kernel!("conv2d", x.dtype(), T => k::conv::conv2d_dw::<T>(
            p, dense(&x), dense(&dy), part(&mut dw), part(&mut db)));
        Ok((
            dw.map(|s| done(s, shape)).transpose()?,
            db.map(|s| done(s, [p.o])).transpose()?,
        ))
    }

    fn max_pool2d(&self, p: &Pool2d, x: &Value) -> Result<(Value, Value)> {
        let x = self.contiguous(x)?;
        let shape = plane_shape(&x, p.oh, p.ow);
        let mut y = fresh(x.dtype(), &shape)?;
        let mut tap = fresh(tap_dtype(p), &shape)?;
        kernel!("max_pool2d", x.dtype(), T => with_tap!(tap.dtype(), I =>
            k::pool::max_pool2d::<T, I>(p, dense(&x), y.slice_mut(), tap.slice_mut())));
        Ok((done(y, shape.clone())?, done(tap, shape)?))
    }

    fn max_pool2d_backward(&self, p: &Pool2d, tap: &Value, dy: &Value) -> Result<Value> {
        let dy = self.contiguous(dy)?;
        let shape = plane_shape(&dy, p.h, p.w);
        let mut dx = fresh(dy.dtype(), &shape)?;
        kernel!("max_pool2d", dy.dtype(), T => with_tap!(tap.dtype(), I =>
            k::pool::max_pool2d_backward::<T, I>(p, dense(tap), dense(&dy), dx.slice_mut())));
        done(dx, shape)
    }

    fn max_pool2d_gather(&self, p: &Pool2d, tap: &Value, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let shape = plane_shape(&x, p.oh, p.ow);
        let mut y = fresh(x.dtype(), &shape)?;
        kernel!("max_pool2d", x.dtype(), T => with_tap!(tap.dtype(), I =>
            k::pool::max_pool2d_gather::<T, I>(p, dense(tap), dense(&x), y.slice_mut())));
        done(y, shape)
    }

    fn avg_pool2d(&self, p: &Pool2d, count_include_pad: bool, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let shape = plane_shape(&x, p.oh, p.ow);
        let mut y = fresh(x.dtype(), &shape)?;
        kernel!("avg_pool2d", x.dtype(), T =>
            k::pool::avg_pool2d::<T>(p, count_include_pad, dense(&x), y.slice_mut()));
        done(y, shape)
    }

    fn avg_pool2d_backward(
        &self,
        p: &Pool2d,
        count_include_pad: bool,
        dy: &Value,
    ) -> Result<Value> {
        let dy = self.contiguous(dy)?;
        let shape = plane_shape(&dy, p.h, p.w);
        let mut dx = fresh(dy.dtype(), &shape)?;
        kernel!("avg_pool2d", dy.dtype(), T =>
            k::pool::avg_pool2d_backward::<T>(p, count_include_pad, dense(&dy), dx.slice_mut()));
        done(dx, shape)
    }

    fn adaptive_avg_pool2d(&self, oh: usize, ow: usize, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let n = x.layout.ndim();
        let (h, w) = (x.shape()[n - 2], x.shape()[n - 1]);
        let shape = plane_shape(&x, oh, ow);
        let mut y = fresh(x.dtype(), &shape)?;
        kernel!("adaptive_avg_pool2d", x.dtype(), T =>
            k::pool::adaptive_avg_pool2d::<T>(planes(&x), h, w, oh, ow, dense(&x), y.slice_mut()));
        done(y, shape)
    }

    fn adaptive_avg_pool2d_backward(&self, h: usize, w: usize, dy: &Value) -> Result<Value> {
        let dy = self.contiguous(dy)?;
        let n = dy.layout.ndim();
        let (oh, ow) = (dy.shape()[n - 2], dy.shape()[n - 1]);
        let shape = plane_shape(&dy, h, w);
        let mut dx = fresh(dy.dtype(), &shape)?;
        kernel!("adaptive_avg_pool2d", dy.dtype(), T => k::pool::adaptive_avg_pool2d_backward::<T>(
            planes(&dy), h, w, oh, ow, dense(&dy), dx.slice_mut()));
        done(dx, shape)
    }

    fn batch_norm_stats(&self, x: &Value) -> Result<(Value, Value)> {
        let x = self.contiguous(x)?;
        let (n, c, s) = ncs(&x);
        let (mut mean, mut var) = (fresh(x.dtype(), &[c])?, fresh(x.dtype(), &[c])?);
        kernel!("batch_norm", x.dtype(), T => k::norm::batch_norm_stats::<T>(
            n, c, s, dense(&x), mean.slice_mut(), var.slice_mut()));
        Ok((done(mean, [c])?, done(var, [c])?))
    }

    fn batch_norm_apply(
        &self,
        x: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        beta: Option<&Value>,
    ) -> Result<Value> {
        let (x, mean, rstd) = (
            self.contiguous(x)?,
            self.contiguous(mean)?,
            self.contiguous(rstd)?,
        );
        let gamma = gamma.map(|v| self.contiguous(v)).transpose()?;
        let beta = beta.map(|v| self.contiguous(v)).transpose()?;
        let (n, c, s) = ncs(&x);
        let mut y = fresh(x.dtype(), x.shape())?;
        kernel!("batch_norm", x.dtype(), T => k::norm::batch_norm_apply::<T>(
            n, c, s, dense(&x), dense(&mean), dense(&rstd),
            gamma.as_ref().map(dense), beta.as_ref().map(dense), y.slice_mut()));
        done(y, x.shape().clone())
    }

    fn batch_norm_backward(
        &self,
        x: &Value,
        dy: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        batch_stats: bool,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]> {
        let (x, dy) = (self.contiguous(x)?, self.contiguous(dy)?);
        let (mean, rstd) = (self.contiguous(mean)?, self.contiguous(rstd)?);
        let gamma = gamma.map(|v| self.contiguous(v)).transpose()?;
        let (n, c, s) = ncs(&x);
        let mut dx = maybe(needs[0], x.dtype(), x.shape())?;
        let mut dgamma = maybe(needs[1], x.dtype(), &[c])?;
        let mut dbeta = maybe(needs[2], x.dtype(), &[c])?;
        kernel!("batch_norm", x.dtype(), T => k::norm::batch_norm_backward::<T>(
            n, c, s, dense(&x), dense(&dy), dense(&mean), dense(&rstd), gamma.as_ref().map(dense),
            batch_stats, part(&mut dx), part(&mut dgamma), part(&mut dbeta)));
        Ok([
            dx.map(|v| done(v, x.shape().clone())).transpose()?,
            dgamma.map(|v| done(v, [c])).transpose()?,
            dbeta.map(|v| done(v, [c])).transpose()?,
        ])
    }

    fn layer_norm(
        &self,
        centred: bool,
        eps: f64,
        x: &Value,
        gamma: Option<&Value>,
        beta: Option<&Value>,
    ) -> Result<[Value; 3]> {
        let x = self.contiguous(x)?;
        let gamma = gamma.map(|v| self.contiguous(v)).transpose()?;
        let beta = beta.map(|v| self.contiguous(v)).transpose()?;
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        let mut y = fresh(x.dtype(), x.shape())?;
        let (mut mean, mut rstd) = (fresh(x.dtype(), &[rows])?, fresh(x.dtype(), &[rows])?);
        kernel!("layer_norm", x.dtype(), T => k::norm::layer_norm::<T>(
            rows, cols, centred, eps, dense(&x), gamma.as_ref().map(dense), beta.as_ref().map(dense),
            y.slice_mut(), mean.slice_mut(), rstd.slice_mut()));
        Ok([
            done(y, [rows, cols])?,
            done(mean, [rows])?,
            done(rstd, [rows])?,
        ])
    }

    fn layer_norm_backward(
        &self,
        centred: bool,
        x: &Value,
        dy: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]> {
        let (x, dy) = (self.contiguous(x)?, self.contiguous(dy)?);
        let gamma = gamma.map(|v| self.contiguous(v)).transpose()?;
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        let mut dx = maybe(needs[0], x.dtype(), x.shape())?;
        let mut dgamma = maybe(needs[1], x.dtype(), &[cols])?;
        let mut dbeta = maybe(needs[2], x.dtype(), &[cols])?;
        kernel!("layer_norm", x.dtype(), T => k::norm::layer_norm_backward::<T>(
            rows, cols, centred, dense(&x), dense(&dy), dense(mean), dense(rstd), gamma.as_ref().map(dense),
            part(&mut dx), part(&mut dgamma), part(&mut dbeta)));
        Ok([
            dx.map(|v| done(v, [rows, cols])).transpose()?,
            dgamma.map(|v| done(v, [cols])).transpose()?,
            dbeta.map(|v| done(v, [cols])).transpose()?,
        ])
    }

    fn softmax(&self, log: bool, x: &Value) -> Result<Value> {
        let x = self.contiguous(x)?;
        let n = x.layout.ndim();
        let (rows, cols) = (numel(&x.shape()[..n - 1]), x.shape()[n - 1]);
        let mut y = fresh(x.dtype(), x.shape())?;
        kernel!("softmax", x.dtype(), T =>
            k::softmax::softmax::<T>(log, rows, cols, dense(&x), y.slice_mut()));
        done(y, x.shape().clone())
    }

    fn softmax_backward(&self, log: bool, y: &Value, dy: &Value) -> Result<Value> {
        let (y, dy) = (self.contiguous(y)?, self.contiguous(dy)?);
        let n = y.layout.ndim();
        let (rows, cols) = (numel(&y.shape()[..n - 1]), y.shape()[n - 1]);
        let mut dx = fresh(y.dtype(), y.shape())?;
        kernel!("softmax", y.dtype(), T => k::softmax::softmax_backward::<T>(
            log, rows, cols, dense(&y), dense(&dy), dx.slice_mut()));
        done(dx, y.shape().clone())
    }

    fn attention(
        &self,
        p: &Attention,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&Value>,
        lengths: Option<&Value>,
    ) -> Result<(Value, Value)> {
        let order = order(q);
        let (q, k, v) = (
            self.dense_rows(q)?,
            self.dense_rows(k)?,
            self.dense_rows(v)?,
        );
        let lengths = lengths.map(|l| self.contiguous(l)).transpose()?;
        let shape = [p.batch, p.heads, p.tq, p.dv];
        let mut out = fresh(q.dtype(), &shape)?;
        let mut lse = fresh(q.dtype(), &shape[..3])?;
        kernel!("attention", q.dtype(), T => k::attention::attention::<T>(
            p, heads(&q), heads(&k), heads(&v), score_mask(p, mask), lengths.as_ref().map(dense), order,
            out.slice_mut(), lse.slice_mut()));
        Ok((
            ordered(out, order, shape)?,
            done(lse, [p.batch, p.heads, p.tq])?,
        ))
    }

    fn attention_backward(
        &self,
        p: &Attention,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&Value>,
        lengths: Option<&Value>,
        out: &Value,
        lse: &Value,
        dout: &Value,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]> {
        let orders = [order(q), order(k), order(v)];
        let (q, k, v) = (
            self.dense_rows(q)?,
            self.dense_rows(k)?,
            self.dense_rows(v)?,
        );
        let (out, dout) = (self.dense_rows(out)?, self.dense_rows(dout)?);
        let lengths = lengths.map(|l| self.contiguous(l)).transpose()?;
        let shapes = [
            [p.batch, p.heads, p.tq, p.d],
            [p.batch, p.kv_heads, p.tk, p.d],
            [p.batch, p.kv_heads, p.tk, p.dv],
        ];
        let mut dq = maybe(needs[0], q.dtype(), &shapes[0])?;
        let mut dk = maybe(needs[1], q.dtype(), &shapes[1])?;
        let mut dv = maybe(needs[2], q.dtype(), &shapes[2])?;
        kernel!("attention", q.dtype(), T => k::attention::attention_backward::<T>(
            p, heads(&q), heads(&k), heads(&v), score_mask(p, mask), lengths.as_ref().map(dense),
            heads(&out), dense(lse), heads(&dout), orders, part(&mut dq), part(&mut dk), part(&mut dv)));
        let mut grads = [None, None, None];
        for (i, g) in [dq, dk, dv].into_iter().enumerate() {
            grads[i] = g.map(|g| ordered(g, orders[i], shapes[i])).transpose()?;
        }
        Ok(grads)
    }

    fn cross_entropy(&self, x: &Value, t: &Value) -> Result<(Value, Value)> {
        let (x, t) = (self.contiguous(x)?, self.contiguous(t)?);
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        let (mut stats, mut loss) = (fresh(x.dtype(), &[rows, 2])?, fresh(x.dtype(), &[rows])?);
        kernel!("cross_entropy", x.dtype(), T => k::loss::cross_entropy::<T>(
            rows, cols, dense(&x), target(&t), stats.slice_mut().as_chunks_mut().0, loss.slice_mut()));
        Ok((done(stats, [rows, 2])?, done(loss, [rows])?))
    }

    fn cross_entropy_backward(
        &self,
        x: &Value,
        t: &Value,
        stats: &Value,
        g: &Value,
    ) -> Result<Value> {
        let (x, t, g) = (
            self.contiguous(x)?,
            self.contiguous(t)?,
            self.contiguous(g)?,
        );
        let (rows, cols) = (x.shape()[0], x.shape()[1]);
        let mut dx = fresh(x.dtype(), x.shape())?;
        kernel!("cross_entropy", x.dtype(), T => k::loss::cross_entropy_backward::<T>(
            rows, cols, dense(&x), target(&t), dense(stats).as_chunks().0, dense(&g), dx.slice_mut()));
        done(dx, [rows, cols])
    }

    fn sgd(&self, items: &mut [SgdParam<'_>], h: &Sgd) -> Result<()> {
        let Some(first) = items.first() else {
            return Ok(());
        };
        let dtype = first.g.dtype();
        let grads = items.iter().map(|i| self.contiguous(i.g));
        let grads: Vec<Value> = grads.collect::<Result<_>>()?;
        kernel!("sgd_step", dtype, T => {
            let each = items.iter_mut().zip(&grads);
            let mut list: Vec<_> = each.map(|(i, g)| SgdItem {
                p: i.p.elements::<T>(),
                g: dense(g),
                momentum: i.momentum.as_mut().map(Part::elements),
            }).collect();
            k::optim::sgd(&mut list, h);
        });
        check_interrupt()
    }

    fn adam(&self, items: &mut [AdamParam<'_>], h: &Adam) -> Result<()> {
        let Some(first) = items.first() else {
            return Ok(());
        };
        let dtype = first.g.dtype();
        let grads = items.iter().map(|i| self.contiguous(i.g));
        let grads: Vec<Value> = grads.collect::<Result<_>>()?;
        kernel!("adam_step", dtype, T => {
            let each = items.iter_mut().zip(&grads);
            let mut list: Vec<_> = each.map(|(i, g)| AdamItem {
                p: i.p.elements::<T>(),
                g: dense(g),
                m: i.m.elements(),
                v: i.v.elements(),
            }).collect();
            k::optim::adam(&mut list, h);
        });
        check_interrupt()
    }

    fn rmsprop(&self, items: &mut [RmsPropParam<'_>], h: &RmsProp) -> Result<()> {
        let Some(first) = items.first() else {
            return Ok(());
        };
        let dtype = first.g.dtype();
        let grads = items.iter().map(|i| self.contiguous(i.g));
        let grads: Vec<Value> = grads.collect::<Result<_>>()?;
        kernel!("rmsprop_step", dtype, T => {
            let each = items.iter_mut().zip(&grads);
            let mut list: Vec<_> = each.map(|(i, g)| RmsPropItem {
                p: i.p.elements::<T>(),
                g: dense(g),
                square: i.square.elements(),
                mean: i.mean.as_mut().map(Part::elements),
                momentum: i.momentum.as_mut().map(Part::elements),
            }).collect();
            k::optim::rmsprop(&mut list, h);
        });
        check_interrupt()
    }
}
