//! New tensors.

use corten_core::{DType, Scalar, Tensor, ops};
use corten_python_macros::pyfunction;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{self, Copy};
use crate::convert::{Arg, Count, DTypeArg, DeviceArg, Number, SizesArg, given};
use crate::dlpack;
use crate::seam::run;
use crate::tensor::PyTensor;

const CPU: DeviceArg = DeviceArg(corten_core::Device::Cpu);

/// `t` on a device, as a leaf that does or does not require grad.
fn leaf(py: Python<'_>, t: Tensor, requires_grad: bool, device: DeviceArg) -> PyResult<PyTensor> {
    let t = run(py, t.numel(), || ops::to_device(&t, device.0))?;
    if requires_grad {
        run(py, 0, || t.set_requires_grad(true))?;
    }
    Ok(PyTensor::new(t))
}

/// A tensor with a copy of `data`: a number, nested lists of numbers, a NumPy array or other buffer, or a tensor.
///
/// Python floats make float32, ints int64, bools bool; arrays keep their dtype. `dtype` converts. The result is a leaf.
///
/// >>> import corten as ct
/// >>> ct.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
/// tensor([[1., 2.],
///         [3., 4.]], requires_grad=True)
#[pyfunction]
#[pyo3(
    signature = (data, dtype = None, requires_grad = false, device = CPU),
    text_signature = "(data, dtype=None, requires_grad=False, device='cpu')"
)]
fn tensor(
    py: Python<'_>,
    data: &Bound<'_, PyAny>,
    dtype: Option<DTypeArg>,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let t = arrays::convert(data, given(dtype), Copy::Always)?;
    leaf(py, t, requires_grad, device)
}

/// `data` as a tensor, sharing memory where possible; a tensor that fits already is returned itself.
///
/// `copy=None` copies only if needed, True always, False raises when a copy would be needed. Do not write to shared memory
/// while tensors use it; corten never writes to it.
///
/// >>> import corten as ct, numpy as np
/// >>> ct.asarray(np.ones(2), dtype="float32")
/// tensor([1., 1.])
#[pyfunction]
#[pyo3(
    signature = (data, dtype = None, copy = None, device = CPU),
    text_signature = "(data, dtype=None, copy=None, device='cpu')"
)]
fn asarray<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyAny>,
    dtype: Option<DTypeArg>,
    copy: Option<bool>,
    device: DeviceArg,
) -> PyResult<Bound<'py, PyTensor>> {
    if let Ok(t) = data.cast::<PyTensor>() {
        // A tensor stays in its graph.
        let x = &t.get().tensor;
        let wanted = given(dtype).unwrap_or(x.dtype());
        if copy != Some(true) && wanted == x.dtype() && device.0 == x.device() {
            return Ok(t.clone());
        }
        if copy != Some(false) {
            let y = run(py, x.numel(), || {
                let y = ops::to_device(&ops::astype(x, wanted)?, device.0)?;
                if y.is(x) { ops::copy(x) } else { Ok(y) }
            })?;
            return Bound::new(py, PyTensor::new(y));
        }
    }
    let t = arrays::convert(data, given(dtype), Copy::from_flag(copy))?;
    Bound::new(py, leaf(py, t, false, device)?)
}

/// A tensor that shares the memory of a NumPy array (or another buffer); any strides.
///
/// corten never writes to it. Do not write to the array while tensors use it: they would change under their graphs.
/// What cannot be shared (bool, unaligned memory) is copied.
///
/// >>> import corten as ct, numpy as np
/// >>> ct.from_numpy(np.arange(3))
/// tensor([0, 1, 2])
#[pyfunction]
fn from_numpy(array: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    if !arrays::is_numpy(array)? {
        return Err(PyTypeError::new_err(format!(
            "[from_numpy] expected a NumPy array, not {} (use corten.tensor or corten.asarray)",
            crate::convert::type_name(array)
        )));
    }
    arrays::convert(array, None, Copy::IfNeeded).map(PyTensor::new)
}

/// A tensor from an array of another library (PyTorch, JAX, NumPy, ...) through DLPack, sharing its memory where possible.
///
/// `x` has `__dlpack__` and `__dlpack_device__`, or is a capsule that `__dlpack__` gave. corten never writes to shared memory; do
/// not write to it either while tensors use it. bool and memory that is not aligned are copied. `copy=True` always copies,
/// `copy=False` raises where a copy is needed. With `device`, what lies on another device is brought here.
///
/// Raises BufferError: the array is on another device and `device` is None, a copy is needed but forbidden, or the producer
/// refuses (PyTorch's tensors that require grad). TypeError: `x` speaks no DLPack, or its dtype has no counterpart.
///
/// >>> import corten as ct, numpy as np
/// >>> ct.from_dlpack(np.arange(6.0).reshape(2, 3).T).shape
/// (3, 2)
#[pyfunction]
#[pyo3(signature = (x, /, *, device = None, copy = None))]
fn from_dlpack(
    py: Python<'_>,
    x: &Bound<'_, PyAny>,
    device: Option<DeviceArg>,
    copy: Option<bool>,
) -> PyResult<PyTensor> {
    let (t, _) = dlpack::import(x, Copy::from_flag(copy), device.is_some())?;
    let device = device.unwrap_or(CPU);
    if copy == Some(false) && device.0 != t.device() {
        return Err(PyBufferError::new_err(format!(
            "[from_dlpack] device '{}' needs a copy, but copy=False forbids it",
            device.0.name()
        )));
    }
    leaf(py, t, false, device)
}

/// A tensor of zeros; float32 unless `dtype` says otherwise.
///
/// >>> import corten as ct
/// >>> ct.zeros((2, 2))
/// tensor([[0., 0.],
///         [0., 0.]])
#[pyfunction]
#[pyo3(
    signature = (shape, dtype = None, requires_grad = false, device = CPU),
    text_signature = "(shape, dtype=None, requires_grad=False, device='cpu')"
)]
fn zeros(
    py: Python<'_>,
    shape: SizesArg,
    dtype: Option<DTypeArg>,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    filled(
        py,
        shape,
        Scalar::Int(0),
        given(dtype).unwrap_or(DType::F32),
        requires_grad,
        device,
    )
}

/// A tensor of ones; float32 unless `dtype` says otherwise.
///
/// >>> import corten as ct
/// >>> ct.ones(3, dtype="int64")
/// tensor([1, 1, 1])
#[pyfunction]
#[pyo3(
    signature = (shape, dtype = None, requires_grad = false, device = CPU),
    text_signature = "(shape, dtype=None, requires_grad=False, device='cpu')"
)]
fn ones(
    py: Python<'_>,
    shape: SizesArg,
    dtype: Option<DTypeArg>,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    filled(
        py,
        shape,
        Scalar::Int(1),
        given(dtype).unwrap_or(DType::F32),
        requires_grad,
        device,
    )
}

/// A tensor filled with one number, whose kind gives the dtype: float32, int64 or bool.
///
/// >>> import corten as ct
/// >>> ct.full((2,), 7)
/// tensor([7, 7])
#[pyfunction]
#[pyo3(
    signature = (shape, fill_value, dtype = None, requires_grad = false, device = CPU),
    text_signature = "(shape, fill_value, dtype=None, requires_grad=False, device='cpu')"
)]
fn full(
    py: Python<'_>,
    shape: SizesArg,
    fill_value: Number,
    dtype: Option<DTypeArg>,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let dtype = given(dtype).unwrap_or(fill_value.0.dtype());
    filled(py, shape, fill_value.0, dtype, requires_grad, device)
}

fn filled(
    py: Python<'_>,
    shape: SizesArg,
    value: Scalar,
    dtype: DType,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let shape = shape.0;
    let t = run(py, corten_core::shape::numel(&shape), || {
        ops::full(&shape, value, dtype, device.0)
    })?;
    leaf(py, t, requires_grad, device)
}

/// Zeros with the shape, device and (unless given) dtype of `x`.
///
/// >>> import corten as ct
/// >>> ct.zeros_like(ct.tensor([1.0, 2.0]))
/// tensor([0., 0.])
#[pyfunction]
#[pyo3(signature = (x, dtype = None))]
fn zeros_like(py: Python<'_>, x: Arg<'_>, dtype: Option<DTypeArg>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::zeros_like(x.0, given(dtype))).map(PyTensor::new)
}

/// Ones with the shape, device and (unless given) dtype of `x`.
///
/// >>> import corten as ct
/// >>> ct.ones_like(ct.tensor([1.0, 2.0]))
/// tensor([1., 1.])
#[pyfunction]
#[pyo3(signature = (x, dtype = None))]
fn ones_like(py: Python<'_>, x: Arg<'_>, dtype: Option<DTypeArg>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::ones_like(x.0, given(dtype))).map(PyTensor::new)
}

/// One number, with the shape, device and (unless given) dtype of `x`.
///
/// >>> import corten as ct
/// >>> ct.full_like(ct.tensor([1.0, 2.0]), 5)
/// tensor([5., 5.])
#[pyfunction]
#[pyo3(signature = (x, fill_value, dtype = None))]
fn full_like(
    py: Python<'_>,
    x: Arg<'_>,
    fill_value: Number,
    dtype: Option<DTypeArg>,
) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || {
        ops::full_like(x.0, fill_value.0, given(dtype))
    })
    .map(PyTensor::new)
}

/// Numbers from `start` (0 when only one is given) up to but not including `stop`, `step` apart.
///
/// Ints give int64; any float gives float32.
///
/// >>> import corten as ct
/// >>> ct.arange(1, 7, 2)
/// tensor([1, 3, 5])
#[pyfunction]
#[pyo3(
    signature = (start, stop = None, step = Number(Scalar::Int(1)), dtype = None, device = CPU),
    text_signature = "(start, stop=None, step=1, dtype=None, device='cpu')"
)]
fn arange(
    py: Python<'_>,
    start: Number,
    stop: Option<Number>,
    step: Number,
    dtype: Option<DTypeArg>,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let (start, stop) = match stop {
        Some(stop) => (start.0, stop.0),
        None => (Scalar::Int(0), start.0),
    };
    let count = (stop.to_f64() - start.to_f64()) / step.0.to_f64();
    run(py, count.abs() as usize, || {
        ops::arange(start, stop, step.0, given(dtype), device.0)
    })
    .map(PyTensor::new)
}

/// `num` evenly spaced numbers from `start` to `stop`, the latter included unless `endpoint` is False.
///
/// >>> import corten as ct
/// >>> ct.linspace(0, 1, 5)
/// tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
#[pyfunction]
#[pyo3(
    signature = (start, stop, num, dtype = None, endpoint = true, device = CPU),
    text_signature = "(start, stop, num, dtype=None, endpoint=True, device='cpu')"
)]
fn linspace(
    py: Python<'_>,
    start: f64,
    stop: f64,
    num: Count,
    dtype: Option<DTypeArg>,
    endpoint: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    run(py, num.0, || {
        ops::linspace(start, stop, num.0, given(dtype), endpoint, device.0)
    })
    .map(PyTensor::new)
}

/// The matrix with ones on its `k`-th diagonal (0: the main one; above it when positive) and zeros elsewhere.
///
/// >>> import corten as ct
/// >>> ct.eye(2)
/// tensor([[1., 0.],
///         [0., 1.]])
#[pyfunction]
#[pyo3(
    signature = (n_rows, n_cols = None, k = 0, dtype = None, device = CPU),
    text_signature = "(n_rows, n_cols=None, k=0, dtype=None, device='cpu')"
)]
fn eye(
    py: Python<'_>,
    n_rows: Count,
    n_cols: Option<Count>,
    k: isize,
    dtype: Option<DTypeArg>,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let (n_rows, n_cols) = (n_rows.0, n_cols.map(|n| n.0));
    let work = n_rows.saturating_mul(n_cols.unwrap_or(n_rows));
    run(py, work, || {
        ops::eye(n_rows, n_cols, k, given(dtype), device.0)
    })
    .map(PyTensor::new)
}

/// Uniform random numbers in `[0, 1)`: `rand(2, 3)` or `rand((2, 3))`. `manual_seed` makes them repeatable.
///
/// >>> import corten as ct
/// >>> ct.rand(2, 3).shape
/// (2, 3)
#[pyfunction]
#[pyo3(
    signature = (*shape, dtype = None, requires_grad = false, device = CPU),
    text_signature = "(*shape, dtype=None, requires_grad=False, device='cpu')"
)]
fn rand(
    py: Python<'_>,
    shape: &Bound<'_, PyTuple>,
    dtype: Option<DTypeArg>,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let shape = SizesArg::from_args(shape, "rand")?.0;
    let dtype = given(dtype).unwrap_or(DType::F32);
    let t = run(py, corten_core::shape::numel(&shape), || {
        ops::rand(&shape, dtype, device.0)
    })?;
    leaf(py, t, requires_grad, device)
}

/// Standard normal random numbers: `randn(2, 3)` or `randn((2, 3))`. `manual_seed` makes them repeatable.
///
/// >>> import corten as ct
/// >>> ct.randn(2, 3).shape
/// (2, 3)
#[pyfunction]
#[pyo3(
    signature = (*shape, dtype = None, requires_grad = false, device = CPU),
    text_signature = "(*shape, dtype=None, requires_grad=False, device='cpu')"
)]
fn randn(
    py: Python<'_>,
    shape: &Bound<'_, PyTuple>,
    dtype: Option<DTypeArg>,
    requires_grad: bool,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let shape = SizesArg::from_args(shape, "randn")?.0;
    let dtype = given(dtype).unwrap_or(DType::F32);
    let t = run(py, corten_core::shape::numel(&shape), || {
        ops::randn(&shape, dtype, device.0)
    })?;
    leaf(py, t, requires_grad, device)
}

/// Random integers in `[low, high)`, int64 unless `dtype` says otherwise.
///
/// >>> import corten as ct
/// >>> ct.randint(0, 10, (2, 3)).shape
/// (2, 3)
#[pyfunction]
#[pyo3(
    signature = (low, high, shape, dtype = None, device = CPU),
    text_signature = "(low, high, shape, dtype=None, device='cpu')"
)]
fn randint(
    py: Python<'_>,
    low: i64,
    high: i64,
    shape: SizesArg,
    dtype: Option<DTypeArg>,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let shape = shape.0;
    let dtype = given(dtype).unwrap_or(DType::I64);
    run(py, corten_core::shape::numel(&shape), || {
        ops::randint(low, high, &shape, dtype, device.0)
    })
    .map(PyTensor::new)
}

/// Uniform random numbers in `[low, high)`.
///
/// >>> import corten as ct
/// >>> ct.uniform((2, 3), -1, 1).shape
/// (2, 3)
#[pyfunction]
#[pyo3(
    signature = (shape, low = 0.0, high = 1.0, dtype = None, device = CPU),
    text_signature = "(shape, low=0.0, high=1.0, dtype=None, device='cpu')"
)]
fn uniform(
    py: Python<'_>,
    shape: SizesArg,
    low: f64,
    high: f64,
    dtype: Option<DTypeArg>,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let shape = shape.0;
    let dtype = given(dtype).unwrap_or(DType::F32);
    run(py, corten_core::shape::numel(&shape), || {
        ops::uniform(&shape, low, high, dtype, device.0)
    })
    .map(PyTensor::new)
}

/// Normal random numbers with the given mean and standard deviation.
///
/// >>> import corten as ct
/// >>> ct.normal((2, 3), mean=5, std=0.1).shape
/// (2, 3)
#[pyfunction]
#[pyo3(
    signature = (shape, mean = 0.0, std = 1.0, dtype = None, device = CPU),
    text_signature = "(shape, mean=0.0, std=1.0, dtype=None, device='cpu')"
)]
fn normal(
    py: Python<'_>,
    shape: SizesArg,
    mean: f64,
    std: f64,
    dtype: Option<DTypeArg>,
    device: DeviceArg,
) -> PyResult<PyTensor> {
    let shape = shape.0;
    let dtype = given(dtype).unwrap_or(DType::F32);
    run(py, corten_core::shape::numel(&shape), || {
        ops::normal(&shape, mean, std, dtype, device.0)
    })
    .map(PyTensor::new)
}

functions!(
    arange,
    asarray,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    normal,
    ones,
    ones_like,
    rand,
    randint,
    randn,
    tensor,
    uniform,
    zeros,
    zeros_like,
);
