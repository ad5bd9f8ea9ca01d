//! float16 and bfloat16 for every device: their values are widened to float32, the method runs, and what it computed is rounded
//! once. So neither kernels nor operations calculate in 16 bits. What only moves elements moves them as they are; statistics that
//! a backward pass will need (mean, rstd, logsumexp) stay float32.
//!
//! For all other dtypes this is one comparison per call.

use std::borrow::Cow;
use std::sync::Arc;

use corten_kernels::attention::Attention;
use corten_kernels::conv::Conv2d;
use corten_kernels::gemm::Activation;
use corten_kernels::half::Half as _;
use corten_kernels::optim::{Adam, RmsProp, Sgd};
use corten_kernels::pool::Pool2d;

use super::recurrent::{Found, Layer, Recurrent, Run, Wanted};
use super::{
    AdamParam, Backend, Binary, Compare, Elements, Logical, Network, Part, Reduce, RmsPropParam,
    Scan, SgdParam, Unary, UnaryGrad,
};
use crate::device::Device;
use crate::dtype::{BF16, DType, F16, Scalar};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::storage::Storage;
use crate::value::Value;

/// The backend inside, and 16-bit floats.
pub(super) struct Halves<B>(pub(super) B);

impl<B: Backend> Halves<B> {
    /// `x` as what the backend inside calculates in.
    #[inline]
    fn wide<'a>(&self, x: &'a Value) -> Result<Cow<'a, Value>> {
        if x.dtype().is_half() {
            return Ok(Cow::Owned(self.0.cast(x, DType::F32)?));
        }
        Ok(Cow::Borrowed(x))
    }
    fn wide_maybe<'a>(&self, x: Option<&'a Value>) -> Result<Option<Cow<'a, Value>>> {
        x.map(|x| self.wide(x)).transpose()
    }
    /// A result in the dtype of the operands. (Integers stay: indices and taps.)
    #[inline]
    fn narrow(&self, y: Value, dtype: DType) -> Result<Value> {
        if dtype.is_half() && y.dtype() == DType::F32 {
            return self.0.cast(&y, dtype);
        }
        Ok(y)
    }
    fn narrow_maybe(&self, y: Option<Value>, dtype: DType) -> Result<Option<Value>> {
        y.map(|y| self.narrow(y, dtype)).transpose()
    }
    fn narrow_all<const N: usize>(
        &self,
        ys: [Option<Value>; N],
        dtype: DType,
    ) -> Result<[Option<Value>; N]> {
        let mut out = [const { None }; N];
        for (to, y) in out.iter_mut().zip(ys) {
            *to = self.narrow_maybe(y, dtype)?;
        }
        Ok(out)
    }
    fn wide_layer<'a>(&self, layer: &Layer<'a>) -> Result<Layer<'a>> {
        let wide = |v: &Value| self.wide(v).map(Cow::into_owned);
        Ok(Layer {
            x: wide(&layer.x)?,
            h0: layer.h0.as_ref().map(wide).transpose()?,
            c0: layer.c0.as_ref().map(wide).transpose()?,
            directions: layer
                .directions
                .iter()
                .map(|d| d.map(wide))
                .collect::<Result<_>>()?,
            ..layer.clone()
        })
    }
    /// A 16-bit parameter's elements as a float32 storage of their own.
    fn wide_part(&self, p: &mut Part<'_>) -> Result<Storage> {
        let len = p.len;
        let device = self.device();
        let narrow = match p.storage.dtype() {
            DType::F16 => Value::from_slice(p.elements::<F16>(), [len], device)?,
            _ => Value::from_slice(p.elements::<BF16>(), [len], device)?,
        };
        let wide = self.0.cast(&narrow, DType::F32)?;
        Arc::into_inner(wide.storage)
            .ok_or_else(|| Error::internal("step", "a fresh copy is shared"))
    }
    /// The stepped elements back where they came from.
    fn write_back(&self, wide: Storage, p: &mut Part<'_>) -> Result<()> {
        let dtype = p.storage.dtype();
        let narrow = self.0.cast(&Value::new(wide, [p.len]), dtype)?;
        let at = Layout::new([p.len].into(), [1].into(), p.start);
        self.0.copy_into(&narrow, p.storage, &at)
    }
}

/// The whole of a storage.
fn whole(storage: &mut Storage) -> Part<'_> {
    let len = storage.len();
    Part {
        storage,
        start: 0,
        len,
    }
}

/// A part again, for a shorter time.
fn again<'a>(p: &'a mut Part<'_>) -> Part<'a> {
    Part {
        storage: &mut *p.storage,
        start: p.start,
        len: p.len,
    }
}

impl<B: Backend> Backend for Halves<B> {
    fn device(&self) -> Device {
        self.0.device()
    }
}

impl<B: Backend> Recurrent for Halves<B> {
    fn recurrent(&self, layer: &Layer<'_>, keep: bool) -> Result<Run> {
        let dtype = layer.x.dtype();
        if !dtype.is_half() {
            return self.0.recurrent(layer, keep);
        }
        let run = self.0.recurrent(&self.wide_layer(layer)?, keep)?;
        Ok(Run {
            y: self.narrow(run.y, dtype)?,
            hn: self.narrow(run.hn, dtype)?,
            cn: self.narrow_maybe(run.cn, dtype)?,
            kept: run.kept,
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
        let dtype = layer.x.dtype();
        if !dtype.is_half() {
            return self.0.recurrent_backward(layer, kept, y, seeds, wanted);
        }
        let [dy, dhn, dcn] = seeds;
        let (dy, dhn) = (self.wide_maybe(dy)?, self.wide_maybe(dhn)?);
        let dcn = self.wide_maybe(dcn)?;
        let seeds = [dy.as_deref(), dhn.as_deref(), dcn.as_deref()];
        let layer = self.wide_layer(layer)?;
        let found = self
            .0
            .recurrent_backward(&layer, kept, &*self.wide(y)?, seeds, wanted)?;
        let directions = found.directions.into_iter();
        Ok(Found {
            x: self.narrow_maybe(found.x, dtype)?,
            h0: self.narrow_maybe(found.h0, dtype)?,
            c0: self.narrow_maybe(found.c0, dtype)?,
            directions: directions
                .map(|d| self.narrow_all(d, dtype))
                .collect::<Result<_>>()?,
        })
    }
}

impl<B: Backend> Elements for Halves<B> {
    fn full(&self, shape: &[usize], dtype: DType, x: Scalar) -> Result<Value> {
        self.0.full(shape, dtype, x)
    }
    fn unary(&self, op: Unary, x: &Value) -> Result<Value> {
        self.narrow(self.0.unary(op, &*self.wide(x)?)?, x.dtype())
    }
    fn gelu_with_slope(&self, x: &Value) -> Result<(Value, Value)> {
        self.0.gelu_with_slope(x)
    }
    fn unary_backward(&self, op: UnaryGrad, saved: &Value, g: &Value) -> Result<Value> {
        let dx = self
            .0
            .unary_backward(op, &*self.wide(saved)?, &*self.wide(g)?)?;
        self.narrow(dx, saved.dtype())
    }
    fn binary(&self, op: Binary, shape: &[usize], a: &Value, b: &Value) -> Result<Value> {
        let y = self.0.binary(op, shape, &*self.wide(a)?, &*self.wide(b)?)?;
        self.narrow(y, a.dtype())
    }
    fn compare(&self, op: Compare, shape: &[usize], a: &Value, b: &Value) -> Result<Value> {
        self.0.compare(op, shape, &*self.wide(a)?, &*self.wide(b)?)
    }
    fn logical(&self, op: Logical, shape: &[usize], a: &Value, b: &Value) -> Result<Value> {
        self.0.logical(op, shape, a, b)
    }
    fn select(&self, shape: &[usize], c: &Value, a: &Value, b: &Value) -> Result<Value> {
        self.0.select(shape, c, a, b)
    }
    fn cast(&self, x: &Value, dtype: DType) -> Result<Value> {
        self.0.cast(x, dtype)
    }
    fn contiguous(&self, x: &Value) -> Result<Value> {
        self.0.contiguous(x)
    }
    fn copy(&self, x: &Value) -> Result<Value> {
        self.0.copy(x)
    }
    fn copy_into(&self, src: &Value, dst: &mut Storage, at: &Layout) -> Result<()> {
        self.0.copy_into(src, dst, at)
    }
    fn add_into(&self, src: &Value, dst: &mut Storage, at: &Layout) -> Result<()> {
        self.0.add_into(src, dst, at)
    }
    fn reduce(&self, op: Reduce, x: &Value, axes: &[usize]) -> Result<Value> {
        self.narrow(self.0.reduce(op, &*self.wide(x)?, axes)?, x.dtype())
    }
    fn arg_reduce(&self, max: bool, x: &Value, axes: &[usize]) -> Result<Value> {
        self.0.arg_reduce(max, &*self.wide(x)?, axes)
    }
    fn any_all(&self, all: bool, x: &Value, axes: &[usize]) -> Result<Value> {
        self.0.any_all(all, x, axes)
    }
    fn gather_rows(&self, x: &Value, idx: &Value) -> Result<Value> {
        self.0.gather_rows(x, idx)
    }
    fn scatter_add_rows(&self, rows: usize, g: &Value, idx: &Value) -> Result<Value> {
        let y = self.0.scatter_add_rows(rows, &*self.wide(g)?, idx)?;
        self.narrow(y, g.dtype())
    }
    fn gather(&self, x: &Value, outer: usize, at: &Value) -> Result<Value> {
        self.0.gather(x, outer, at)
    }
    fn put(
        &self,
        values: &Value,
        dst: &mut Storage,
        to: &Layout,
        outer: usize,
        at: &Value,
    ) -> Result<()> {
        self.0.put(values, dst, to, outer, at)
    }
    fn scan(&self, op: Scan, x: &Value) -> Result<Value> {
        self.narrow(self.0.scan(op, &*self.wide(x)?)?, x.dtype())
    }
    fn argsort(&self, descending: bool, x: &Value) -> Result<Value> {
        self.0.argsort(descending, &*self.wide(x)?)
    }
    /// In 16 bits a multiple of the type's epsilon / 2: rounded to nearest, numbers close to 1 would become 1.
    fn uniform(&self, seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Value> {
        if !dtype.is_half() {
            return self.0.uniform(seed, stream, shape, dtype);
        }
        let digits = if dtype == DType::F16 {
            F16::DIGITS
        } else {
            BF16::DIGITS
        };
        let scale = 2f64.powi(digits as i32);
        let times = |mul| Unary::Affine { mul, add: 0.0 };
        let x = self.0.uniform(seed, stream, shape, DType::F32)?;
        let x = self
            .0
            .unary(Unary::Floor, &self.0.unary(times(scale), &x)?)?;
        self.0.cast(&self.0.unary(times(1.0 / scale), &x)?, dtype)
    }
    fn normal(&self, seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Value> {
        let x = self.0.normal(seed, stream, shape, dtype.arithmetic())?;
        self.narrow(x, dtype)
    }
    fn integers(&self, seed: u64, stream: u64, lo: i64, hi: i64, shape: &[usize]) -> Result<Value> {
        self.0.integers(seed, stream, lo, hi, shape)
    }
    fn dropout(&self, p: f64, seed: u64, stream: u64, x: &Value) -> Result<Value> {
        let y = self.0.dropout(p, seed, stream, &*self.wide(x)?)?;
        self.narrow(y, x.dtype())
    }
}

impl<B: Backend> Network for Halves<B> {
    fn matmul(&self, a: &Value, b: &Value) -> Result<Value> {
        let y = self.0.matmul(&*self.wide(a)?, &*self.wide(b)?)?;
        self.narrow(y, a.dtype())
    }
    fn linear(
        &self,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        act: Activation,
        keep_pre: bool,
    ) -> Result<(Value, Option<Value>)> {
        let bias = self.wide_maybe(bias)?;
        let (wx, ww) = (self.wide(x)?, self.wide(w)?);
        let (y, pre) = self.0.linear(&wx, &ww, bias.as_deref(), act, keep_pre)?;
        let dtype = x.dtype();
        Ok((self.narrow(y, dtype)?, self.narrow_maybe(pre, dtype)?))
    }
    fn linear_backward(
        &self,
        x: &Value,
        w: &Value,
        dz: &Value,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]> {
        let (wx, ww, dz) = (self.wide(x)?, self.wide(w)?, self.wide(dz)?);
        self.narrow_all(self.0.linear_backward(&wx, &ww, &dz, needs)?, x.dtype())
    }
    fn conv2d(
        &self,
        p: &Conv2d,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        act: Activation,
    ) -> Result<Value> {
        let bias = self.wide_maybe(bias)?;
        let y = self
            .0
            .conv2d(p, &*self.wide(x)?, &*self.wide(w)?, bias.as_deref(), act)?;
        self.narrow(y, x.dtype())
    }
    fn conv2d_dx(&self, p: &Conv2d, dy: &Value, w: &Value) -> Result<Value> {
        let dx = self.0.conv2d_dx(p, &*self.wide(dy)?, &*self.wide(w)?)?;
        self.narrow(dx, dy.dtype())
    }
    fn conv2d_dw(
        &self,
        p: &Conv2d,
        x: &Value,
        dy: &Value,
        need_dw: bool,
        need_db: bool,
    ) -> Result<(Option<Value>, Option<Value>)> {
        let (wx, wdy) = (self.wide(x)?, self.wide(dy)?);
        let (dw, db) = self.0.conv2d_dw(p, &wx, &wdy, need_dw, need_db)?;
        let dtype = x.dtype();
        Ok((self.narrow_maybe(dw, dtype)?, self.narrow_maybe(db, dtype)?))
    }
    fn max_pool2d(&self, p: &Pool2d, x: &Value) -> Result<(Value, Value)> {
        let (y, tap) = self.0.max_pool2d(p, &*self.wide(x)?)?;
        Ok((self.narrow(y, x.dtype())?, tap))
    }
    fn max_pool2d_backward(&self, p: &Pool2d, tap: &Value, dy: &Value) -> Result<Value> {
        let dx = self.0.max_pool2d_backward(p, tap, &*self.wide(dy)?)?;
        self.narrow(dx, dy.dtype())
    }
    fn max_pool2d_gather(&self, p: &Pool2d, tap: &Value, x: &Value) -> Result<Value> {
        let y = self.0.max_pool2d_gather(p, tap, &*self.wide(x)?)?;
        self.narrow(y, x.dtype())
    }
    fn avg_pool2d(&self, p: &Pool2d, count_include_pad: bool, x: &Value) -> Result<Value> {
        let y = self.0.avg_pool2d(p, count_include_pad, &*self.wide(x)?)?;
        self.narrow(y, x.dtype())
    }
    fn avg_pool2d_backward(
        &self,
        p: &Pool2d,
        count_include_pad: bool,
        dy: &Value,
    ) -> Result<Value> {
        let wide = self.wide(dy)?;
        let dx = self.0.avg_pool2d_backward(p, count_include_pad, &wide)?;
        self.narrow(dx, dy.dtype())
    }
    fn adaptive_avg_pool2d(&self, oh: usize, ow: usize, x: &Value) -> Result<Value> {
        let y = self.0.adaptive_avg_pool2d(oh, ow, &*self.wide(x)?)?;
        self.narrow(y, x.dtype())
    }
    fn adaptive_avg_pool2d_backward(&self, h: usize, w: usize, dy: &Value) -> Result<Value> {
        let wide = self.wide(dy)?;
        let dx = self.0.adaptive_avg_pool2d_backward(h, w, &wide)?;
        self.narrow(dx, dy.dtype())
    }
    /// float32 statistics.
    fn batch_norm_stats(&self, x: &Value) -> Result<(Value, Value)> {
        self.0.batch_norm_stats(&*self.wide(x)?)
    }
    fn batch_norm_apply(
        &self,
        x: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        beta: Option<&Value>,
    ) -> Result<Value> {
        let (wx, mean, rstd) = (self.wide(x)?, self.wide(mean)?, self.wide(rstd)?);
        let (gamma, beta) = (self.wide_maybe(gamma)?, self.wide_maybe(beta)?);
        let (gamma, beta) = (gamma.as_deref(), beta.as_deref());
        let y = self.0.batch_norm_apply(&wx, &mean, &rstd, gamma, beta)?;
        self.narrow(y, x.dtype())
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
        let (wx, dy) = (self.wide(x)?, self.wide(dy)?);
        let (mean, rstd) = (self.wide(mean)?, self.wide(rstd)?);
        let gamma = self.wide_maybe(gamma)?;
        let gamma = gamma.as_deref();
        let found =
            self.0
                .batch_norm_backward(&wx, &dy, &mean, &rstd, gamma, batch_stats, needs)?;
        self.narrow_all(found, x.dtype())
    }
    /// `y` like `x`; mean and rstd in float32.
    fn layer_norm(
        &self,
        centred: bool,
        eps: f64,
        x: &Value,
        gamma: Option<&Value>,
        beta: Option<&Value>,
    ) -> Result<[Value; 3]> {
        let (gamma, beta) = (self.wide_maybe(gamma)?, self.wide_maybe(beta)?);
        let (gamma, beta) = (gamma.as_deref(), beta.as_deref());
        let [y, mean, rstd] = self
            .0
            .layer_norm(centred, eps, &*self.wide(x)?, gamma, beta)?;
        Ok([self.narrow(y, x.dtype())?, mean, rstd])
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
        let (wx, dy) = (self.wide(x)?, self.wide(dy)?);
        let (mean, rstd) = (self.wide(mean)?, self.wide(rstd)?);
        let gamma = self.wide_maybe(gamma)?;
        let gamma = gamma.as_deref();
        let found = self
            .0
            .layer_norm_backward(centred, &wx, &dy, &mean, &rstd, gamma, needs)?;
        self.narrow_all(found, x.dtype())
    }
    fn softmax(&self, log: bool, x: &Value) -> Result<Value> {
        self.narrow(self.0.softmax(log, &*self.wide(x)?)?, x.dtype())
    }
    fn softmax_backward(&self, log: bool, y: &Value, dy: &Value) -> Result<Value> {
        let (wy, dy) = (self.wide(y)?, self.wide(dy)?);
        self.narrow(self.0.softmax_backward(log, &wy, &dy)?, y.dtype())
    }
    /// Outputs like `q`, logsumexp in float32.
    fn attention(
        &self,
        p: &Attention,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&Value>,
        lengths: Option<&Value>,
    ) -> Result<(Value, Value)> {
        let (wq, wk, wv) = (self.wide(q)?, self.wide(k)?, self.wide(v)?);
        let mask = self.wide_maybe(mask)?;
        let (y, lse) = self
            .0
            .attention(p, &wq, &wk, &wv, mask.as_deref(), lengths)?;
        Ok((self.narrow(y, q.dtype())?, lse))
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
        let (wq, wk, wv) = (self.wide(q)?, self.wide(k)?, self.wide(v)?);
        let (out, dout) = (self.wide(out)?, self.wide(dout)?);
        let mask = self.wide_maybe(mask)?;
        let mask = mask.as_deref();
        let found = self
            .0
            .attention_backward(p, &wq, &wk, &wv, mask, lengths, &out, lse, &dout, needs)?;
        self.narrow_all(found, q.dtype())
    }
    /// logsumexp in float32, losses like `x`.
    fn cross_entropy(&self, x: &Value, target: &Value) -> Result<(Value, Value)> {
        let (wx, target) = (self.wide(x)?, self.wide(target)?);
        let (stats, loss) = self.0.cross_entropy(&wx, &target)?;
        Ok((stats, self.narrow(loss, x.dtype())?))
    }
    fn cross_entropy_backward(
        &self,
        x: &Value,
        target: &Value,
        stats: &Value,
        g: &Value,
    ) -> Result<Value> {
        let (wx, target) = (self.wide(x)?, self.wide(target)?);
        let (stats, g) = (self.wide(stats)?, self.wide(g)?);
        let dx = self.0.cross_entropy_backward(&wx, &target, &stats, &g)?;
        self.narrow(dx, x.dtype())
    }
    /// The step of float32 copies, with momentum in float32; then the parameters are rounded.
    fn sgd(&self, items: &mut [SgdParam<'_>], h: &Sgd) -> Result<()> {
        if !items.first().is_some_and(|i| i.g.dtype().is_half()) {
            return self.0.sgd(items, h);
        }
        let mut wide = Vec::with_capacity(items.len());
        for i in items.iter_mut() {
            wide.push((self.wide_part(&mut i.p)?, self.wide(i.g)?));
        }
        let pairs = items.iter_mut().zip(&mut wide);
        let mut steps: Vec<_> = pairs
            .map(|(i, (p, g))| SgdParam {
                p: whole(p),
                g,
                momentum: i.momentum.as_mut().map(again),
            })
            .collect();
        self.0.sgd(&mut steps, h)?;
        drop(steps);
        for (i, (p, _)) in items.iter_mut().zip(wide) {
            self.write_back(p, &mut i.p)?;
        }
        Ok(())
    }
    /// As [`Network::sgd`]: both moments are float32.
    fn adam(&self, items: &mut [AdamParam<'_>], h: &Adam) -> Result<()> {
        if !items.first().is_some_and(|i| i.g.dtype().is_half()) {
            return self.0.adam(items, h);
        }
        let mut wide = Vec::with_capacity(items.len());
        for i in items.iter_mut() {
            wide.push((self.wide_part(&mut i.p)?, self.wide(i.g)?));
        }
        let pairs = items.iter_mut().zip(&mut wide);
        let mut steps: Vec<_> = pairs
            .map(|(i, (p, g))| AdamParam {
                p: whole(p),
                g,
                m: again(&mut i.m),
                v: again(&mut i.v),
            })
            .collect();
        self.0.adam(&mut steps, h)?;
        drop(steps);
        for (i, (p, _)) in items.iter_mut().zip(wide) {
            self.write_back(p, &mut i.p)?;
        }
        Ok(())
    }
    /// As [`Network::sgd`]: all state is float32.
    fn rmsprop(&self, items: &mut [RmsPropParam<'_>], h: &RmsProp) -> Result<()> {
        if !items.first().is_some_and(|i| i.g.dtype().is_half()) {
            return self.0.rmsprop(items, h);
        }
        let mut wide = Vec::with_capacity(items.len());
        for i in items.iter_mut() {
            wide.push((self.wide_part(&mut i.p)?, self.wide(i.g)?));
        }
        let pairs = items.iter_mut().zip(&mut wide);
        let mut steps: Vec<_> = pairs
            .map(|(i, (p, g))| RmsPropParam {
                p: whole(p),
                g,
                square: again(&mut i.square),
                mean: i.mean.as_mut().map(again),
                momentum: i.momentum.as_mut().map(again),
            })
            .collect();
        self.0.rmsprop(&mut steps, h)?;
        drop(steps);
        for (i, (p, _)) in items.iter_mut().zip(wide) {
            self.write_back(p, &mut i.p)?;
        }
        Ok(())
    }
}
