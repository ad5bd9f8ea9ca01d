//! Activations and the layers of neural networks.

// What pyo3 generates inside our macros counts as ours.
#![allow(unsafe_op_in_unsafe_fn)]

use corten_core::ops::{self, Approximate};
use corten_core::{Tensor, error};
use corten_python_macros::{pyfunction, pymethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::convert::{AXIS, Arg, Count, Pair, either, type_name};
use crate::seam::run;
use crate::tensor::PyTensor;

/// Activations: functions and methods `name(x)`.
macro_rules! activations {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            fn $name(py: Python<'_>, x: Arg<'_>) -> PyResult<PyTensor> {
                run(py, x.0.numel(), || ops::$name(x.0)).map(PyTensor::new)
            }
        )*
        #[pymethods]
        impl PyTensor {
            $(
                $(#[doc = $doc])*
                fn $name(&self, py: Python<'_>) -> PyResult<Self> {
                    run(py, self.tensor.numel(), || ops::$name(&self.tensor)).map(Self::new)
                }
            )*
        }
    };
}
activations! {
    /// `max(x, 0)`, element by element. Gradient: 1 where `x > 0`, else 0.
    ///
    /// >>> import corten as ct
    /// >>> ct.relu(ct.tensor([-1.0, 2.0]))
    /// tensor([0., 2.])
    relu;
    /// `1 / (1 + e^-x)`, element by element. Gradient: `s (1 - s)` with `s = sigmoid(x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.sigmoid(ct.zeros(2))
    /// tensor([0.5, 0.5])
    sigmoid;
    /// The hyperbolic tangent, element by element. Gradient: `1 - tanh(x)^2`.
    ///
    /// >>> import corten as ct
    /// >>> ct.tanh(ct.zeros(2))
    /// tensor([0., 0.])
    tanh;
    /// `log(1 + e^x)`, element by element, without overflow. Gradient: `sigmoid(x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.softplus(ct.tensor([0.0, 100.0]))
    /// tensor([  0.6931472, 100.       ])
    softplus;
    /// `x sigmoid(x)`, element by element (swish). Gradient: `s + x s (1 - s)` with `s = sigmoid(x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.silu(ct.zeros(2))
    /// tensor([0., 0.])
    silu;
}

/// `x Phi(x)`, `Phi` being the normal distribution function: exact (`approximate='none'`) or by tanh.
///
/// `'tanh'`: `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, as GPT-2.
///
/// >>> import corten as ct
/// >>> ct.gelu(ct.tensor([0.0, 100.0]))
/// tensor([  0., 100.])
#[pyfunction]
#[pyo3(signature = (x, approximate = "none"))]
fn gelu(py: Python<'_>, x: Arg<'_>, approximate: &str) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::gelu(x.0, Approximate::from_name(approximate)?)
    })
    .map(PyTensor::new)
}

/// `e^x / sum(e^x)` along `axis`: positive, sums to 1. Gradient: `y (g - sum(g y))`.
///
/// >>> import corten as ct
/// >>> ct.softmax(ct.zeros((1, 4)))
/// tensor([[0.25, 0.25, 0.25, 0.25]])
#[pyfunction]
#[pyo3(signature = (x, axis = -1), text_signature = "(x, axis=-1)")]
fn softmax(py: Python<'_>, x: Arg<'_>, axis: isize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::softmax(x.0, axis)).map(PyTensor::new)
}

/// `x - log(sum(e^x))` along `axis`: the logarithm of `softmax`, without loss. Gradient: `g - softmax(x) sum(g)`.
///
/// >>> import corten as ct
/// >>> ct.log_softmax(ct.tensor([0.0, 1000.0]))
/// tensor([-1000.,     0.])
#[pyfunction]
#[pyo3(signature = (x, axis = -1), text_signature = "(x, axis=-1)")]
fn log_softmax(py: Python<'_>, x: Arg<'_>, axis: isize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::log_softmax(x.0, axis)).map(PyTensor::new)
}

/// `x W^T + b`, then perhaps ReLU, in one kernel: `x (*, in)`, `weight (out, in)`, `bias (out,)`, result `(*, out)`.
///
/// >>> import corten as ct
/// >>> ct.linear(ct.ones((1, 2)), ct.tensor([[1.0, 2.0], [3.0, 4.0]]), ct.tensor([0.5, -0.5]))
/// tensor([[3.5, 6.5]])
#[pyfunction]
#[pyo3(signature = (x, weight, bias = None, activation = "none"))]
fn linear(
    py: Python<'_>,
    x: Arg<'_>,
    weight: Arg<'_>,
    bias: Option<Arg<'_>>,
    activation: &str,
) -> PyResult<PyTensor> {
    let outputs = weight.0.shape().first().copied().unwrap_or(1);
    let work = (x.0.numel() / 512).saturating_mul(outputs).max(x.0.numel());
    run(py, work, || {
        ops::linear(
            x.0,
            weight.0,
            bias.map(|b| b.0),
            ops::Activation::from_name("linear", activation)?,
        )
    })
    .map(PyTensor::new)
}

/// Padding of a convolution: numbers, or a rule's name.
struct PaddingArg(ops::Padding);

impl<'py> FromPyObject<'_, 'py> for PaddingArg {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(name) = obj.cast::<PyString>() {
            return ops::Padding::from_name("conv2d", &name.to_cow()?)
                .map(Self)
                .map_err(|e| crate::seam::to_py(obj.py(), e));
        }
        Ok(Self(ops::Padding::Explicit(obj.extract::<Pair>()?.0)))
    }
}

const ONE: Pair = Pair([1, 1]);
const ZERO: Pair = Pair([0, 0]);

/// Kiloflops of a convolution, about: every output element sums over one filter.
fn conv_work(x: &Tensor, weight: &Tensor) -> usize {
    let filters = weight.numel() / weight.shape().get(1).copied().unwrap_or(1).max(1);
    (x.numel() / 512).saturating_mul(filters).max(x.numel())
}

/// Cross-correlation of images with filters, plus bias, then perhaps ReLU, in one kernel.
///
/// `x (N, C, H, W)`, `weight (O, C / groups, KH, KW)`, `bias (O,)`, result `(N, O, OH, OW)` with
/// `OH = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1`, likewise `OW`. `stride`, `padding` and `dilation` are one int
/// or (rows, columns); `padding` may also be 'valid' (none), 'same' (`OH = ceil(H / stride)`) or 'full'.
///
/// >>> import corten as ct
/// >>> ct.conv2d(ct.ones((1, 1, 4, 4)), ct.ones((2, 1, 3, 3)), padding="same").shape
/// (1, 2, 4, 4)
#[pyfunction]
#[pyo3(
    signature = (x, weight, bias = None, stride = ONE, padding = PaddingArg(ops::Padding::Explicit([0, 0])), dilation = ONE,
                 groups = Count(1), activation = "none"),
    text_signature = "(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, activation='none')"
)]
fn conv2d(
    py: Python<'_>,
    x: Arg<'_>,
    weight: Arg<'_>,
    bias: Option<Arg<'_>>,
    stride: Pair,
    padding: PaddingArg,
    dilation: Pair,
    groups: Count,
    activation: &str,
) -> PyResult<PyTensor> {
    run(py, conv_work(x.0, weight.0), || {
        let activation = ops::Activation::from_name("conv2d", activation)?;
        ops::conv2d(
            x.0,
            weight.0,
            bias.map(|b| b.0),
            stride.0,
            padding.0,
            dilation.0,
            groups.0,
            activation,
        )
    })
    .map(PyTensor::new)
}

/// Transposed convolution: each pixel lays its multiple of the kernel into the output, at steps of `stride`; plus bias.
///
/// `x (N, C, H, W)`, `weight (C, O / groups, KH, KW)`, `bias (O,)`, result `(N, O, OH, OW)` with
/// `OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1`, likewise `OW`. It is the gradient of `conv2d` with
/// respect to its input, as an operation. All but `groups` are one int or (rows, columns).
///
/// >>> import corten as ct
/// >>> ct.conv_transpose2d(ct.ones((1, 1, 2, 2)), ct.ones((1, 1, 2, 2)), stride=2).shape
/// (1, 1, 4, 4)
#[pyfunction]
#[pyo3(
    signature = (x, weight, bias = None, stride = ONE, padding = ZERO, output_padding = ZERO, groups = Count(1), dilation = ONE),
    text_signature = "(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1)"
)]
fn conv_transpose2d(
    py: Python<'_>,
    x: Arg<'_>,
    weight: Arg<'_>,
    bias: Option<Arg<'_>>,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: Count,
    dilation: Pair,
) -> PyResult<PyTensor> {
    let filters = weight.0.numel() / weight.0.shape().first().copied().unwrap_or(1).max(1);
    let work = (x.0.numel() / 512).saturating_mul(filters).max(x.0.numel());
    run(py, work, || {
        ops::conv_transpose2d(
            x.0,
            weight.0,
            bias.map(|b| b.0),
            stride.0,
            padding.0,
            output_padding.0,
            groups.0,
            dilation.0,
        )
    })
    .map(PyTensor::new)
}

/// The largest element of each window: `x (N, C, H, W)`, result `(N, C, OH, OW)`; padding counts as minus infinity.
///
/// `OH = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1`, rounded up with `ceil_mode`; `stride` is
/// `kernel_size` unless given. Gradient: to the first largest element of each window.
///
/// >>> import corten as ct
/// >>> ct.max_pool2d(ct.arange(4, dtype="float32").reshape(1, 1, 2, 2), 2).item()
/// 3.0
#[pyfunction]
#[pyo3(
    signature = (x, kernel_size, stride = None, padding = ZERO, dilation = ONE, ceil_mode = false),
    text_signature = "(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False)"
)]
fn max_pool2d(
    py: Python<'_>,
    x: Arg<'_>,
    kernel_size: Pair,
    stride: Option<Pair>,
    padding: Pair,
    dilation: Pair,
    ceil_mode: bool,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::max_pool2d(
            x.0,
            kernel_size.0,
            stride.map(|s| s.0),
            padding.0,
            dilation.0,
            ceil_mode,
        )
    })
    .map(PyTensor::new)
}

/// The mean of each window: `x (N, C, H, W)`, result `(N, C, OH, OW)`, sizes as in `max_pool2d`.
///
/// With `count_include_pad` padding counts as zeros, else it is left out of the mean.
///
/// >>> import corten as ct
/// >>> ct.avg_pool2d(ct.arange(4, dtype="float32").reshape(1, 1, 2, 2), 2).item()
/// 1.5
#[pyfunction]
#[pyo3(
    signature = (x, kernel_size, stride = None, padding = ZERO, ceil_mode = false, count_include_pad = true),
    text_signature = "(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True)"
)]
fn avg_pool2d(
    py: Python<'_>,
    x: Arg<'_>,
    kernel_size: Pair,
    stride: Option<Pair>,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::avg_pool2d(
            x.0,
            kernel_size.0,
            stride.map(|s| s.0),
            padding.0,
            ceil_mode,
            count_include_pad,
        )
    })
    .map(PyTensor::new)
}

/// Sizes of an adaptive pooling's output; None keeps the input's.
struct OutputSize([Option<usize>; 2]);

impl<'py> FromPyObject<'_, 'py> for OutputSize {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(both) = obj.extract::<(Option<usize>, Option<usize>)>() {
            return Ok(Self([both.0, both.1]));
        }
        if obj.is_none() {
            return Ok(Self([None, None]));
        }
        match obj.extract::<Pair>() {
            Ok(p) => Ok(Self(p.0.map(Some))),
            Err(_) => Err(PyTypeError::new_err(format!(
                "output_size is an int >= 0 or a pair of ints or None, not {}",
                type_name(&obj)
            ))),
        }
    }
}

/// Means over windows chosen so that the output has `output_size` (one int or (rows, columns); None keeps an axis).
///
/// Row `i` of the output is the mean of rows `floor(i H / OH)` to `ceil((i + 1) H / OH)` (excluded), likewise for columns.
///
/// >>> import corten as ct
/// >>> ct.adaptive_avg_pool2d(ct.ones((1, 3, 7, 5)), 1).shape
/// (1, 3, 1, 1)
#[pyfunction]
fn adaptive_avg_pool2d(py: Python<'_>, x: Arg<'_>, output_size: OutputSize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::adaptive_avg_pool2d(x.0, output_size.0)
    })
    .map(PyTensor::new)
}

/// The largest elements of the windows of `adaptive_avg_pool2d`; gradient: to the first largest element of each window.
///
/// >>> import corten as ct
/// >>> ct.adaptive_max_pool2d(ct.arange(6, dtype="float32").reshape(1, 1, 2, 3), (1, 2)).tolist()
/// [[[[4.0, 5.0]]]]
#[pyfunction]
fn adaptive_max_pool2d(py: Python<'_>, x: Arg<'_>, output_size: OutputSize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::adaptive_max_pool2d(x.0, output_size.0)
    })
    .map(PyTensor::new)
}

/// `(x - mean) / sqrt(var + eps) * weight + bias` for each channel: `x (N, C, *)`, all others `(C,)`.
///
/// When `training`, mean and variance are those of the batch, and `running_mean` and `running_var` (where given) move towards
/// them by `momentum` (the variance unbiased); otherwise the running statistics are used.
///
/// >>> import corten as ct
/// >>> x = ct.tensor([[1.0], [3.0]])
/// >>> ct.batch_norm(x, training=True, eps=0.0)
/// tensor([[-1.],
///         [ 1.]])
#[pyfunction]
#[pyo3(signature = (x, running_mean = None, running_var = None, weight = None, bias = None, training = false, momentum = 0.1, eps = 1e-5))]
fn batch_norm(
    py: Python<'_>,
    x: Arg<'_>,
    running_mean: Option<Arg<'_>>,
    running_var: Option<Arg<'_>>,
    weight: Option<Arg<'_>>,
    bias: Option<Arg<'_>>,
    training: bool,
    momentum: f64,
    eps: f64,
) -> PyResult<PyTensor> {
    let t = |a: Option<Arg<'_>>| a.map(|a| a.0.clone());
    let (mean, var, weight, bias) = (t(running_mean), t(running_var), t(weight), t(bias));
    run(py, x.0.numel(), || -> error::Result<Tensor> {
        ops::batch_norm(
            x.0,
            mean.as_ref(),
            var.as_ref(),
            weight.as_ref(),
            bias.as_ref(),
            training,
            momentum,
            eps,
        )
    })
    .map(PyTensor::new)
}

/// Each element 0 with probability `p`, the others divided by `1 - p`; `x` itself unless `training`.
///
/// >>> import corten as ct
/// >>> ct.dropout(ct.ones(3), p=0.0)
/// tensor([1., 1., 1.])
#[pyfunction]
#[pyo3(signature = (x, p = 0.5, training = true))]
fn dropout(py: Python<'_>, x: Arg<'_>, p: f64, training: bool) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::dropout(x.0, p, training)).map(PyTensor::new)
}

#[pymethods]
impl PyTensor {
    /// `x Phi(x)`, element by element. See `corten.gelu`.
    #[pyo3(signature = (approximate = "none"))]
    fn gelu(&self, py: Python<'_>, approximate: &str) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            ops::gelu(&self.tensor, Approximate::from_name(approximate)?)
        })
        .map(Self::new)
    }
    /// `e^x / sum(e^x)` along `axis` (the last one by default). See `corten.softmax`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn softmax(&self, py: Python<'_>, axis: Option<isize>, dim: Option<isize>) -> PyResult<Self> {
        let axis = either("softmax", AXIS, axis, dim)?.unwrap_or(-1);
        run(py, self.tensor.numel(), || ops::softmax(&self.tensor, axis)).map(Self::new)
    }
    /// `x - log(sum(e^x))` along `axis` (the last one by default). See `corten.log_softmax`.
    #[pyo3(signature = (axis = None, *, dim = None))]
    fn log_softmax(
        &self,
        py: Python<'_>,
        axis: Option<isize>,
        dim: Option<isize>,
    ) -> PyResult<Self> {
        let axis = either("log_softmax", AXIS, axis, dim)?.unwrap_or(-1);
        run(py, self.tensor.numel(), || {
            ops::log_softmax(&self.tensor, axis)
        })
        .map(Self::new)
    }
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "conv_transpose2d",
    "dropout",
    "gelu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
];
functions!(
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    batch_norm,
    conv2d,
    conv_transpose2d,
    dropout,
    gelu,
    linear,
    log_softmax,
    max_pool2d,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
);
