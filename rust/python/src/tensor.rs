//! The class `corten.Tensor`: attributes, gradients and data. Its operators are in `operators.rs`, indexing in `index.rs`,
//! and the methods that are functions too in `functions/`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use corten_core::{DType, Device, Scalar, Tensor, ops};
use corten_python_macros::pymethods;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::convert::{Arg, DTypeArg, naming, numpy, type_name};
use crate::dtype::{self, PyDType};
use crate::seam::{LONG, foreign, run, to_py, write};
use crate::{export, repr};

/// A multi-dimensional array that can record how it was computed, to find gradients.
///
/// Tensors are values: no operation changes one; the exception is a leaf used as a parameter (`assign_`, `x[i] = v`, the
/// optimizers), and what was computed from it earlier keeps the old values. Made by `corten.tensor`, `corten.asarray`,
/// `corten.zeros` and others.
///
/// >>> import corten as ct
/// >>> x = ct.tensor([1.0, 2.0, 3.0], requires_grad=True)
/// >>> (x * x).sum().backward()
/// >>> x.grad
/// tensor([2., 4., 6.])
#[pyclass(frozen, weakref, name = "Tensor", module = "corten")]
pub(crate) struct PyTensor {
    /// The tensor of the core.
    pub(crate) tensor: Tensor,
    /// Marked by `corten.nn.Parameter`; a property of this object and not of its values.
    parameter: AtomicBool,
}

impl PyTensor {
    /// The Python object's contents for `tensor`.
    #[inline]
    pub(crate) fn new(tensor: Tensor) -> Self {
        Self {
            tensor,
            parameter: AtomicBool::new(false),
        }
    }
    /// The same with a parameter's mark, or without.
    pub(crate) fn marked(tensor: Tensor, parameter: bool) -> Self {
        Self {
            tensor,
            parameter: AtomicBool::new(parameter),
        }
    }
}

/// A number as NumPy, Python and users expect it: the only element of `t`.
fn item(t: &Tensor, py: Python<'_>) -> PyResult<Scalar> {
    run(py, 0, || t.item())
}

#[pymethods]
impl PyTensor {
    // -- attributes

    /// Sizes of the axes, as a tuple.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor.shape().iter())
    }
    /// Number of axes.
    #[getter]
    fn ndim(&self) -> usize {
        self.tensor.ndim()
    }
    /// Number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.tensor.numel()
    }
    /// Element type.
    #[getter]
    fn dtype(&self, py: Python<'_>) -> PyResult<Py<PyDType>> {
        dtype::object(py, self.tensor.dtype())
    }
    /// Where the tensor lives: 'cpu', or 'reference' (the slow, plain twins of the kernels).
    #[getter]
    fn device(&self) -> &'static str {
        self.tensor.device().name()
    }
    /// Distance between neighbours along each axis, in elements.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.tensor.layout().strides().iter())
    }
    /// Whether the tensor was made by the user and not by a recorded operation.
    #[getter]
    fn is_leaf(&self) -> bool {
        self.tensor.is_leaf()
    }
    /// Whether the elements lie one after another in C order.
    #[getter]
    fn is_contiguous(&self) -> bool {
        self.tensor.is_contiguous()
    }
    /// Whether `corten.nn.Parameter` made this tensor.
    #[getter]
    pub(crate) fn is_parameter(&self) -> bool {
        self.parameter.load(Ordering::Relaxed)
    }
    fn _mark_parameter(&self) {
        self.parameter.store(true, Ordering::Relaxed);
    }
    /// Whether gradients flow to this tensor; settable on leaves.
    #[getter]
    fn requires_grad(&self) -> bool {
        self.tensor.requires_grad()
    }
    #[setter]
    fn set_requires_grad(&self, requires_grad: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = requires_grad.py();
        let requires_grad: bool = requires_grad
            .extract()
            .map_err(|e| naming(requires_grad, e, "requires_grad", "value"))?;
        run(py, 0, || self.tensor.set_requires_grad(requires_grad))
    }
    /// The gradient gathered by `backward()`, or None. Settable: None, or a tensor of the same shape and dtype.
    #[getter]
    fn grad(&self) -> Option<Self> {
        self.tensor.grad().map(Self::new)
    }
    #[setter]
    fn set_grad(&self, grad: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = grad.py();
        let grad: Option<Arg<'_>> = grad
            .extract()
            .map_err(|e| naming(grad, e, "grad", "value"))?;
        run(py, 0, || self.tensor.set_grad(grad.map(|g| g.0.clone())))
    }
    /// Name of the operation that made this tensor; None for a leaf.
    #[getter]
    fn grad_fn(&self) -> Option<&'static str> {
        self.tensor.grad_fn()
    }
    /// The transposed matrix, a view: `(m, n) -> (n, m)`. For stacks of matrices there is `mT`.
    #[getter(T)]
    fn transposed(&self, py: Python<'_>) -> PyResult<Self> {
        run(py, 0, || ops::matrix_t(&self.tensor)).map(Self::new)
    }
    /// The last two axes swapped, a view: `(..., m, n) -> (..., n, m)`.
    #[getter(mT)]
    fn matrix_transposed(&self, py: Python<'_>) -> PyResult<Self> {
        run(py, 0, || ops::matrix_mt(&self.tensor)).map(Self::new)
    }

    // -- gradients

    /// Makes a leaf (not) take part in gradients; returns the tensor itself.
    ///
    /// >>> import corten as ct
    /// >>> ct.ones(2).requires_grad_().requires_grad
    /// True
    #[pyo3(signature = (requires_grad = true))]
    fn requires_grad_<'py>(
        slf: Bound<'py, Self>,
        requires_grad: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let tensor = &slf.get().tensor;
        run(slf.py(), 0, || tensor.set_requires_grad(requires_grad))?;
        Ok(slf)
    }
    /// Adds the gradient of this tensor with respect to every leaf that requires grad to the leaf's `grad`.
    ///
    /// `gradient`, of this tensor's shape, is the gradient of whatever comes after; it may be left out for a single element.
    /// `retain_graph` keeps what the operations saved, for a second call; `create_graph` records the gradients' computation,
    /// so that they can be differentiated again. A gradient that was recorded leads back to its own leaf, and the two keep each
    /// other alive until `x.grad = None`; `corten.grad` returns it instead and has no such circle.
    ///
    /// >>> import corten as ct
    /// >>> x = ct.tensor(3.0, requires_grad=True)
    /// >>> (x ** 2).backward()
    /// >>> x.grad.item()
    /// 6.0
    #[pyo3(signature = (gradient = None, retain_graph = false, create_graph = false))]
    fn backward(
        &self,
        py: Python<'_>,
        gradient: Option<Arg<'_>>,
        retain_graph: bool,
        create_graph: bool,
    ) -> PyResult<()> {
        run(py, LONG, || {
            self.tensor
                .backward(gradient.map(|g| g.0), retain_graph, create_graph)
        })
    }
    /// The same values without a graph; shares memory until one of the two is written.
    fn detach(&self) -> Self {
        Self::new(self.tensor.detach())
    }
    /// A new leaf with the same values, in C order; shares memory until one of the two is written. What a parameter is made of.
    fn _to_leaf(&self, py: Python<'_>, requires_grad: bool) -> PyResult<Self> {
        run(py, self.tensor.numel(), || {
            self.tensor.to_leaf(requires_grad)
        })
        .map(Self::new)
    }
    /// Makes the result of an operation keep its gradient in `grad`, as leaves do.
    fn retain_grad(&self, py: Python<'_>) -> PyResult<()> {
        run(py, 0, || self.tensor.retain_grad())
    }
    /// Calls `hook(grad)` once this tensor's gradient is final; a tensor that it returns replaces the gradient.
    ///
    /// Returns a number for `remove_hook`.
    ///
    /// >>> import corten as ct
    /// >>> x = ct.ones(2, requires_grad=True)
    /// >>> handle = x.register_hook(lambda g: g * 10)
    /// >>> x.sum().backward()
    /// >>> x.grad
    /// tensor([10., 10.])
    fn register_hook(&self, py: Python<'_>, hook: Py<PyAny>) -> PyResult<u64> {
        if !hook.bind(py).is_callable() {
            return Err(PyTypeError::new_err(format!(
                "[register_hook] hook must be callable with one tensor, which {} is not",
                type_name(hook.bind(py))
            )));
        }
        let call = move |grad: &Tensor| {
            Python::attach(|py| -> PyResult<Option<Tensor>> {
                let result = hook.bind(py).call1((Self::new(grad.clone()),))?;
                Ok(result.extract::<Option<Arg<'_>>>()?.map(|a| a.0.clone()))
            })
            .map_err(foreign)
        };
        run(py, 0, || self.tensor.register_hook(Arc::new(call)))
    }
    /// Removes a hook; an unknown number is ignored.
    fn remove_hook(&self, handle: u64) {
        self.tensor.remove_hook(handle);
    }

    // -- data

    /// The values as a read-only NumPy array that shares the tensor's memory.
    ///
    /// The array keeps its values whatever happens to the tensor, and has the tensor's strides. A tensor that requires grad must
    /// be detached, one of bfloat16 cast: NumPy has no such type.
    ///
    /// >>> import corten as ct
    /// >>> ct.ones((2, 2)).numpy()
    /// array([[1., 1.],
    ///        [1., 1.]], dtype=float32)
    fn numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        export::to_numpy(slf)
    }
    /// For `numpy.asarray` and `numpy.array`: `dtype` converts; `copy=True` always copies, `copy=False` raises if it must.
    #[pyo3(signature = (dtype = None, copy = None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let shared = export::to_numpy(slf)?;
        let wanted = match dtype {
            Some(d) => numpy(py)?.getattr("dtype")?.call1((d,))?,
            None => shared.getattr("dtype")?,
        };
        let same = wanted.eq(shared.getattr("dtype")?)?;
        if copy == Some(false) && !same {
            return Err(PyValueError::new_err(
                "[__array__] another dtype needs a copy, but copy=False forbids it",
            ));
        }
        if same && copy != Some(true) {
            return Ok(shared);
        }
        shared.call_method1("astype", (wanted,))
    }
    /// NumPy leaves operators with a tensor to the tensor, so that `array + tensor` is a tensor.
    #[classattr]
    fn __array_ufunc__() -> Option<Py<PyAny>> {
        None
    }
    #[classattr]
    fn __array_priority__() -> f64 {
        1000.0
    }
    /// The module `corten`, whose functions follow the Python array API standard, for code that is written for any array.
    ///
    /// >>> import corten as ct
    /// >>> x = ct.ones((2, 3))
    /// >>> xp = x.__array_namespace__()
    /// >>> xp.permute_dims(x, (1, 0)).shape
    /// (3, 2)
    #[pyo3(signature = (*, api_version = None))]
    fn __array_namespace__<'py>(
        &self,
        py: Python<'py>,
        api_version: Option<&str>,
    ) -> PyResult<Bound<'py, PyModule>> {
        let corten = py.import("corten")?;
        if let Some(wanted) = api_version {
            let ours: String = corten.getattr("__array_api_version__")?.extract()?;
            // Versions are dates, and each contains the earlier ones.
            if wanted < "2021.12" || wanted > ours.as_str() {
                return Err(PyValueError::new_err(format!(
                    "[__array_namespace__] the functions are those of version {ours} of the array API standard, not {wanted}"
                )));
            }
        }
        Ok(corten)
    }
    /// The tensor on a device: the array API's name for `to`.
    #[pyo3(signature = (device, /, *, stream = None))]
    fn to_device<'py>(
        slf: &Bound<'py, Self>,
        device: &str,
        stream: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        if stream.is_some() {
            return Err(PyValueError::new_err(
                "[to_device] the CPU has no streams (leave stream None)",
            ));
        }
        Device::from_name("to_device", device).map_err(|e| to_py(slf.py(), e))?;
        Self::to(slf, PyString::new(slf.py(), device).as_any())
    }
    /// The only element as a Python bool, int or float.
    ///
    /// >>> import corten as ct
    /// >>> ct.tensor([2.5]).item()
    /// 2.5
    fn item(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        item(&self.tensor, py).map(|s| export::scalar(py, s))
    }
    /// The elements as nested lists of Python numbers.
    fn tolist(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        export::to_list(py, &self.tensor)
    }
    /// The tensor on a device (`'cpu'`, `'reference'`) or in a dtype; itself if it is there already.
    ///
    /// >>> import corten as ct
    /// >>> ct.ones(2).to("float64").dtype == ct.float64, ct.ones(2).to("reference").device
    /// (True, 'reference')
    fn to<'py>(slf: &Bound<'py, Self>, target: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let t = &slf.get().tensor;
        if let Ok(name) = target.cast::<PyString>()
            && let Ok(device) = Device::from_name("to", &name.to_cow()?)
        {
            if device == t.device() {
                return Ok(slf.clone());
            }
            return Bound::new(
                py,
                Self::new(run(py, t.numel(), || ops::to_device(t, device))?),
            );
        }
        let wanted = dtype::parse(target).map_err(|_| {
            let shown = target
                .repr()
                .map_or_else(|_| "this".to_owned(), |r| r.to_string());
            PyValueError::new_err(format!(
                "[to] {shown} is neither a device ('cpu', 'reference') nor a dtype ({})",
                dtype::known()
            ))
        })?;
        cast(slf, wanted)
    }
    /// The tensor in another dtype (itself if it has that dtype): floats to integers round toward zero, gradients flow between
    /// floats.
    ///
    /// >>> import corten as ct
    /// >>> ct.tensor([1.7, -1.7]).astype("int64")
    /// tensor([ 1, -1])
    fn astype<'py>(slf: &Bound<'py, Self>, dtype: DTypeArg) -> PyResult<Bound<'py, Self>> {
        cast(slf, dtype.0)
    }
    /// The same bits as numbers of another dtype of that size, a view without gradient; `astype` converts values.
    ///
    /// So bfloat16 gets out to where no such type is, and in: `x.view("int16").numpy()`,
    /// `corten.asarray(bits).view("bfloat16")`. Raises TypeError when the sizes differ, and for bool.
    ///
    /// >>> import corten as ct
    /// >>> ct.tensor([1.0, -2.0], dtype="bfloat16").view("int16")
    /// tensor([ 16256, -16384], dtype=int16)
    fn view(&self, py: Python<'_>, dtype: DTypeArg) -> PyResult<Self> {
        run(py, 0, || ops::reinterpret(&self.tensor, dtype.0)).map(Self::new)
    }
    /// The same values in memory of their own, with gradient; as `numpy.copy`.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        run(py, self.tensor.numel(), || ops::copy(&self.tensor)).map(Self::new)
    }
    /// The same values in C order, with gradient; itself if it is so already.
    fn contiguous<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let t = &slf.get().tensor;
        if t.is_contiguous() {
            return Ok(slf.clone());
        }
        Bound::new(
            slf.py(),
            Self::new(run(slf.py(), t.numel(), || ops::contiguous(t))?),
        )
    }
    /// Overwrites a leaf with `value` (same shape; converted to this dtype).
    ///
    /// In place when nothing shares the memory; whatever shares it (a graph, a view, a NumPy array) keeps the old values.
    ///
    /// >>> import corten as ct
    /// >>> w = ct.zeros(2)
    /// >>> w.assign_(ct.ones(2))
    /// >>> w
    /// tensor([1., 1.])
    fn assign_(&self, py: Python<'_>, value: Arg<'_>) -> PyResult<()> {
        write(py, self.tensor.numel(), || self.tensor.assign(value.0))
    }

    // -- Python's protocols

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        repr::render(slf)
    }
    fn __format__(slf: &Bound<'_, Self>, spec: &str) -> PyResult<String> {
        if spec.is_empty() {
            return repr::render(slf);
        }
        let py = slf.py();
        let value = slf.get().item(py)?;
        value
            .bind(py)
            .call_method1("__format__", (spec,))?
            .extract()
    }
    fn __len__(&self) -> PyResult<usize> {
        self.tensor
            .shape()
            .first()
            .copied()
            .ok_or_else(|| PyTypeError::new_err("[len] a tensor without axes has no length"))
    }
    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        if self.tensor.numel() != 1 {
            return Err(PyValueError::new_err(format!(
                "[bool] the truth of a tensor of shape {} is ambiguous; use x.any() or x.all()",
                self.tensor.shape()
            )));
        }
        item(&self.tensor, py).map(Scalar::to_bool)
    }
    fn __float__(&self, py: Python<'_>) -> PyResult<f64> {
        item(&self.tensor, py).map(Scalar::to_f64)
    }
    fn __int__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match item(&self.tensor, py)? {
            // Through Python's own conversion: infinities and NaN raise, large numbers stay exact.
            Scalar::Float(x) => py.get_type::<pyo3::types::PyInt>().call1((x,)),
            s => Ok(export::scalar(py, Scalar::Int(s.to_i64())).into_bound(py)),
        }
    }
    fn __index__(&self, py: Python<'_>) -> PyResult<i64> {
        if self.tensor.dtype().is_int() {
            return item(&self.tensor, py).map(Scalar::to_i64);
        }
        Err(PyTypeError::new_err(format!(
            "[index] only an integer tensor of one element can be an index, not {}",
            self.tensor.dtype()
        )))
    }
    /// Identity, since `==` compares elements.
    fn __hash__(slf: &Bound<'_, Self>) -> isize {
        // As CPython hashes pointers: the low bits are alignment.
        (slf.as_ptr() as usize).rotate_right(4) as isize
    }
}

/// `t` in dtype `wanted`, itself if it is so already.
fn cast<'py>(slf: &Bound<'py, PyTensor>, wanted: DType) -> PyResult<Bound<'py, PyTensor>> {
    let t = &slf.get().tensor;
    if wanted == t.dtype() {
        return Ok(slf.clone());
    }
    Bound::new(
        slf.py(),
        PyTensor::new(run(slf.py(), t.numel(), || ops::astype(t, wanted))?),
    )
}
