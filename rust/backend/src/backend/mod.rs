//! What a device can do. Methods are coarse (one per kernel family), take values and plain attributes, and know no graph.
//! Shapes and dtypes were checked by `ops`; physical layout is the backend's own business, and never changes a result's bits.

mod cpu;
mod half;
pub mod recurrent;
mod reference;

use corten_kernels::attention::Attention;
use corten_kernels::conv::Conv2d;
use corten_kernels::gemm::Activation;
use corten_kernels::optim::{Adam, RmsProp, Sgd};
use corten_kernels::pool::Pool2d;

pub use corten_kernels::elementwise::{Binary, Compare, Logical, Unary, UnaryGrad};
pub use corten_kernels::reduce::Reduce;
pub use corten_kernels::scan::Scan;
pub use corten_kernels::{attention, conv, gemm, optim, pool, rnn};
pub use recurrent::Recurrent;

use crate::device::Device;
use crate::dtype::{DType, Element, Scalar};
use crate::error::Result;
use crate::layout::Layout;
use crate::storage::Storage;
use crate::value::Value;

/// A run of a storage that is written in place.
pub struct Part<'a> {
    /// The storage.
    pub storage: &'a mut Storage,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
}
impl Part<'_> {
    /// Its elements, to write.
    pub fn elements<T: Element>(&mut self) -> &mut [T] {
        &mut self.storage.slice_mut()[self.start..self.start + self.len]
    }
}
/// One parameter of [`Network::sgd`]; all of one float dtype (state: of [`DType::arithmetic`]), gradients of any layout in the
/// parameter's order.
pub struct SgdParam<'a> {
    /// Parameter.
    pub p: Part<'a>,
    /// Its gradient.
    pub g: &'a Value,
    /// Momentum buffer.
    pub momentum: Option<Part<'a>>,
}
/// One parameter of [`Network::adam`].
pub struct AdamParam<'a> {
    /// Parameter.
    pub p: Part<'a>,
    /// Its gradient.
    pub g: &'a Value,
    /// First moment.
    pub m: Part<'a>,
    /// Second moment.
    pub v: Part<'a>,
}
/// One parameter of [`Network::rmsprop`].
pub struct RmsPropParam<'a> {
    /// Parameter.
    pub p: Part<'a>,
    /// Its gradient.
    pub g: &'a Value,
    /// Running mean of the gradient's square.
    pub square: Part<'a>,
    /// Running mean of the gradient; with it the step is centred.
    pub mean: Option<Part<'a>>,
    /// Momentum buffer.
    pub momentum: Option<Part<'a>>,
}

/// Creation, element-wise maps, reductions, indexing, random numbers.
pub trait Elements {
    /// Every element `x`.
    fn full(&self, shape: &[usize], dtype: DType, x: Scalar) -> Result<Value>;
    /// `op(x)`; integers: `Neg`, `Abs`, `Sign`, `Square` only. Keeps any dense layout.
    fn unary(&self, op: Unary, x: &Value) -> Result<Value>;
    /// GELU and its derivative at every element, of a float that is no 16-bit one. Keeps any dense layout.
    fn gelu_with_slope(&self, x: &Value) -> Result<(Value, Value)>;
    /// `op'(saved) * g`, both of one shape.
    fn unary_backward(&self, op: UnaryGrad, saved: &Value, g: &Value) -> Result<Value>;
    /// `op(a, b)`, both of one dtype, broadcast to `shape`. Keeps a dense layout that the operands share.
    fn binary(&self, op: Binary, shape: &[usize], a: &Value, b: &Value) -> Result<Value>;
    /// `a <op> b` as bool, both of one dtype, broadcast to `shape`.
    fn compare(&self, op: Compare, shape: &[usize], a: &Value, b: &Value) -> Result<Value>;
    /// Logic on bools, broadcast to `shape`.
    fn logical(&self, op: Logical, shape: &[usize], a: &Value, b: &Value) -> Result<Value>;
    /// `c ? a : b`, broadcast to `shape`; `c` bool, `a` and `b` of one dtype.
    fn select(&self, shape: &[usize], c: &Value, a: &Value, b: &Value) -> Result<Value>;
    /// `x` in another dtype; shares when it has that dtype already. Keeps any dense layout.
    fn cast(&self, x: &Value, dtype: DType) -> Result<Value>;
    /// `x` in C order; shares when it is so already.
    fn contiguous(&self, x: &Value) -> Result<Value>;
    /// A C-ordered copy in fresh memory.
    fn copy(&self, x: &Value) -> Result<Value>;
    /// Writes `src` to the elements of `dst` that `at` names (same shape and dtype; each addressed once).
    fn copy_into(&self, src: &Value, dst: &mut Storage, at: &Layout) -> Result<()>;
    /// As `copy_into`, but adds to what is there; floats.
    fn add_into(&self, src: &Value, dst: &mut Storage, at: &Layout) -> Result<()>;
    /// Reduces the (ascending, distinct) `axes`, which disappear. Floats keep their dtype, integer `Sum` and `Prod` give int64,
    /// `Max` and `Min` keep the dtype.
    fn reduce(&self, op: Reduce, x: &Value, axes: &[usize]) -> Result<Value>;
    /// int64 index (C order of the reduced axes) of the first maximum or minimum.
    fn arg_reduce(&self, max: bool, x: &Value, axes: &[usize]) -> Result<Value>;
    /// `all` or `any` of bools over `axes`.
    fn any_all(&self, all: bool, x: &Value, axes: &[usize]) -> Result<Value>;
    /// `out[i.., :] = x[idx[i..], :]`: `x (rows, *rest)`, `idx` int64 in range; out `idx.shape ++ rest`.
    fn gather_rows(&self, x: &Value, idx: &Value) -> Result<Value>;
    /// The transpose: `out (rows, *rest)`, `out[idx[i], :] += g[i, :]` in ascending order of `i`; `g` is `idx.shape ++ rest`.
    fn scatter_add_rows(&self, rows: usize, g: &Value, idx: &Value) -> Result<Value>;
    /// `out[o, j, i] = x[o, at[j], i]`: the first `outer` axes of `x` are those before the picks, the others come after; `at` (int64, a
    /// vector) holds distances in `x`'s storage, within its bounds. Out: `outer ++ (at.len(),) ++ inner`.
    fn gather(&self, x: &Value, outer: usize, at: &Value) -> Result<Value>;
    /// Writes `values (outer ++ (at.len(),) ++ inner)` to the picks of `to` (`outer ++ inner`) in `dst`; of several to one place the
    /// last in C order remains.
    fn put(
        &self,
        values: &Value,
        dst: &mut Storage,
        to: &Layout,
        outer: usize,
        at: &Value,
    ) -> Result<()>;
    /// Running sums or products along the last axis, in C order; integers and bools give int64.
    fn scan(&self, op: Scan, x: &Value) -> Result<Value>;
    /// int64 indices that sort along the last axis, in C order; stable, NaN last.
    fn argsort(&self, descending: bool, x: &Value) -> Result<Value>;
    /// Uniform in `[0, 1)`.
    fn uniform(&self, seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Value>;
    /// Standard normal.
    fn normal(&self, seed: u64, stream: u64, shape: &[usize], dtype: DType) -> Result<Value>;
    /// int64, uniform in `[lo, hi)`.
    fn integers(&self, seed: u64, stream: u64, lo: i64, hi: i64, shape: &[usize]) -> Result<Value>;
    /// Inverted dropout; with the same `(seed, stream)` it is its own backward.
    fn dropout(&self, p: f64, seed: u64, stream: u64, x: &Value) -> Result<Value>;
}

/// Matrix products, convolution, pooling, normalisation, softmax, loss, optimizers. Float values only; with 16-bit floats, statistics
/// (mean, rstd, a row's maximum and sum) and the state of optimizers are float32.
pub trait Network {
    /// `a (.., m, k) b (.., k, n)`, batch axes broadcast; both at least 2-D.
    fn matmul(&self, a: &Value, b: &Value) -> Result<Value>;
    /// `act(x w^T + bias)` of `x (m, k)`, `w (n, k)`, `bias (n,)`; second, with `keep_pre`, the value before the activation.
    fn linear(
        &self,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        act: Activation,
        keep_pre: bool,
    ) -> Result<(Value, Option<Value>)>;
    /// `dx (m, k)`, `dw (n, k)`, `db (n,)` of [`Network::linear`] from `dz (m, n)`, the gradient before the activation.
    fn linear_backward(
        &self,
        x: &Value,
        w: &Value,
        dz: &Value,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]>;
    /// `act(conv(x, w) + bias)`: `(n, o, oh, ow)`.
    fn conv2d(
        &self,
        p: &Conv2d,
        x: &Value,
        w: &Value,
        bias: Option<&Value>,
        act: Activation,
    ) -> Result<Value>;
    /// Gradient of the input: `(n, c, h, w)`.
    fn conv2d_dx(&self, p: &Conv2d, dy: &Value, w: &Value) -> Result<Value>;
    /// Gradients of weight `(o, c / groups, kh, kw)` and bias `(o,)`, those that are needed.
    fn conv2d_dw(
        &self,
        p: &Conv2d,
        x: &Value,
        dy: &Value,
        need_dw: bool,
        need_db: bool,
    ) -> Result<(Option<Value>, Option<Value>)>;
    /// Maximum of `x (.., h, w)` per window, and the winning taps (opaque; for the two methods below).
    fn max_pool2d(&self, p: &Pool2d, x: &Value) -> Result<(Value, Value)>;
    /// `dx (.., h, w)` of [`Network::max_pool2d`].
    fn max_pool2d_backward(&self, p: &Pool2d, tap: &Value, dy: &Value) -> Result<Value>;
    /// `x (.., h, w)` at the winning taps: the transpose of [`Network::max_pool2d_backward`].
    fn max_pool2d_gather(&self, p: &Pool2d, tap: &Value, x: &Value) -> Result<Value>;
    /// Mean of `x (.., h, w)` per window.
    fn avg_pool2d(&self, p: &Pool2d, count_include_pad: bool, x: &Value) -> Result<Value>;
    /// Its transpose.
    fn avg_pool2d_backward(&self, p: &Pool2d, count_include_pad: bool, dy: &Value)
    -> Result<Value>;
    /// Adaptive mean of `x (.., h, w)`: `(.., oh, ow)`.
    fn adaptive_avg_pool2d(&self, oh: usize, ow: usize, x: &Value) -> Result<Value>;
    /// Its transpose: `(.., h, w)`.
    fn adaptive_avg_pool2d_backward(&self, h: usize, w: usize, dy: &Value) -> Result<Value>;
    /// Mean and biased variance per channel of `x (n, c, *)`: `(c,)` each.
    fn batch_norm_stats(&self, x: &Value) -> Result<(Value, Value)>;
    /// `(x - mean) * rstd * gamma + beta` per channel of `x (n, c, *)`.
    fn batch_norm_apply(
        &self,
        x: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        beta: Option<&Value>,
    ) -> Result<Value>;
    /// `dx`, `dgamma`, `dbeta`, those that are needed; `batch_stats`: mean and rstd were computed from `x`.
    fn batch_norm_backward(
        &self,
        x: &Value,
        dy: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        batch_stats: bool,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]>;
    /// Normalises the rows of `x (rows, cols)`: `[y, mean, rstd]`, the latter two `(rows,)`; not `centred`, the mean counts as 0.
    fn layer_norm(
        &self,
        centred: bool,
        eps: f64,
        x: &Value,
        gamma: Option<&Value>,
        beta: Option<&Value>,
    ) -> Result<[Value; 3]>;
    /// `dx`, `dgamma`, `dbeta` of [`Network::layer_norm`], those that are needed.
    fn layer_norm_backward(
        &self,
        centred: bool,
        x: &Value,
        dy: &Value,
        mean: &Value,
        rstd: &Value,
        gamma: Option<&Value>,
        needs: [bool; 3],
    ) -> Result<[Option<Value>; 3]>;
    /// Softmax (or its logarithm) over the last axis.
    fn softmax(&self, log: bool, x: &Value) -> Result<Value>;
    /// Its gradient from the output `y`.
    fn softmax_backward(&self, log: bool, y: &Value, dy: &Value) -> Result<Value>;
    /// Scaled dot-product attention of `q (batch, heads, tq, d)`, `k` and `v (batch, kv_heads, tk, ..)`: the outputs
    /// `(batch, heads, tq, dv)`, and the logsumexp of every query's scores (for the method below). `mask` broadcasts to
    /// `(batch, heads, tq, tk)`: bool keeps scores where it is true, numbers are added. `lengths` int64 `(batch,)`.
    fn attention(
        &self,
        p: &Attention,
        q: &Value,
        k: &Value,
        v: &Value,
        mask: Option<&Value>,
        lengths: Option<&Value>,
    ) -> Result<(Value, Value)>;
    /// `dq`, `dk`, `dv` of [`Network::attention`], those that are needed.
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
    ) -> Result<[Option<Value>; 3]>;
    /// `x (rows, cols)`; `target` int64 `(rows,)` in range or probabilities `(rows, cols)`: maximum and
    /// `sum(exp(x - maximum))` of each row `(rows, 2)`, and the loss `(rows,)`.
    fn cross_entropy(&self, x: &Value, target: &Value) -> Result<(Value, Value)>;
    /// Gradient of the logits; `g` has one element per row, or one for all.
    fn cross_entropy_backward(
        &self,
        x: &Value,
        target: &Value,
        stats: &Value,
        g: &Value,
    ) -> Result<Value>;
    /// One SGD step over all parameters.
    fn sgd(&self, items: &mut [SgdParam<'_>], h: &Sgd) -> Result<()>;
    /// One Adam step over all parameters.
    fn adam(&self, items: &mut [AdamParam<'_>], h: &Adam) -> Result<()>;
    /// One RMSprop step over all parameters.
    fn rmsprop(&self, items: &mut [RmsPropParam<'_>], h: &RmsProp) -> Result<()>;
}

/// A device's kernels.
pub trait Backend: Elements + Network + Recurrent + Send + Sync {
    /// Which device.
    fn device(&self) -> Device;
}

/// The backend of a device: the one place through which all work goes.
pub fn dispatch(device: Device) -> &'static dyn Backend {
    match device {
        Device::Cpu => &half::Halves(cpu::Cpu),
        Device::Reference => &half::Halves(reference::Reference),
    }
}
