//! Arrays, buffers and nested lists in.
//!
//! NumPy is met through Python's buffer protocol alone, so the module needs no NumPy headers and takes any exporter: arrays,
//! `array.array`, `bytes`, memory maps.

use std::any::Any;
use std::ffi::CStr;
use std::ptr::NonNull;

use corten_core::list::try_collect;
use corten_core::shape::show;
use corten_core::{
    DType, Device, Element, Layout, Scalar, Shape, Storage, Strides, Tensor, with_element,
};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyFloat, PyList, PyMemoryView, PyRange, PyString, PyTuple};

use crate::convert::{numpy, python_scalar, type_name};
use crate::dlpack;
use crate::seam::{self, to_py};
use crate::tensor::PyTensor;

/// Whether the result may share memory with what it was made from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copy {
    /// Never share.
    Always,
    /// Share when possible.
    IfNeeded,
    /// Fail when sharing is impossible.
    Never,
}

impl Copy {
    /// From the `copy=` of the array API.
    pub(crate) fn from_flag(copy: Option<bool>) -> Self {
        match copy {
            None => Self::IfNeeded,
            Some(true) => Self::Always,
            Some(false) => Self::Never,
        }
    }
}

/// A NumPy array or NumPy scalar.
pub(crate) fn is_numpy(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    static TYPES: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();
    let py = obj.py();
    let types = TYPES.get_or_try_init(py, || {
        let np = numpy(py)?;
        PyTuple::new(py, [np.getattr("ndarray")?, np.getattr("generic")?]).map(Bound::unbind)
    })?;
    obj.is_instance(types.bind(py))
}

/// A Python number that is no NumPy scalar: numpy.float64 is a `float` too, but knows its dtype.
fn plain_scalar(obj: &Bound<'_, PyAny>) -> PyResult<Option<Scalar>> {
    if obj.is_exact_instance_of::<PyFloat>() || !obj.is_instance_of::<PyFloat>() || !is_numpy(obj)?
    {
        return python_scalar(obj).map_err(|e| {
            match e.is_instance_of::<PyOverflowError>(obj.py()) {
                true => PyOverflowError::new_err(format!("[tensor] {}", e.value(obj.py()))),
                false => e,
            }
        });
    }
    Ok(None)
}

/// A tensor on the CPU from a tensor, an array, a buffer, a number or nested lists of these; without gradient.
pub(crate) fn convert(
    obj: &Bound<'_, PyAny>,
    dtype: Option<DType>,
    copy: Copy,
) -> PyResult<Tensor> {
    let py = obj.py();
    let (t, shared) = if let Ok(t) = obj.cast::<PyTensor>() {
        (t.get().tensor.detach(), true)
    } else if let Some(s) = plain_scalar(obj)? {
        (
            seam::short(|| scalars(py, &[s], &[], dtype.unwrap_or(s.dtype())))?,
            false,
        )
    } else if obj.cast::<PyList>().is_ok()
        || obj.cast::<PyTuple>().is_ok()
        || obj.cast::<PyRange>().is_ok()
    {
        (seam::short(|| nested(obj, dtype))?, false)
    } else {
        let view = match PyMemoryView::from(obj) {
            Ok(view) => Some(view),
            Err(_) if is_bfloat16(obj)? => return bfloat16(obj, dtype, copy),
            Err(_) if !is_numpy(obj)? && dlpack::speaks(obj)? => None,
            Err(_) if obj.hasattr("__array__")? => {
                let array = numpy(py)?.call_method1("asarray", (obj,))?;
                Some(PyMemoryView::from(&array).map_err(|_| unsupported(&array))?)
            }
            Err(_) if is_numpy(obj)? => return Err(unsupported(obj)),
            Err(_) => {
                return Err(PyTypeError::new_err(format!(
                    "[tensor] a tensor is made from numbers, nested lists of numbers or an array, not {}",
                    type_name(obj)
                )));
            }
        };
        match view {
            Some(view) => buffer(obj, &view, copy)?,
            None => dlpack::import(obj, copy, false)?,
        }
    };
    if copy == Copy::Never && !shared {
        return Err(PyValueError::new_err(
            "[asarray] numbers and lists have no memory to share, so a copy is needed (pass copy=None or True)",
        ));
    }
    let wanted = dtype.unwrap_or(t.dtype());
    if wanted != t.dtype() {
        return convert_tensor(py, &t, wanted, copy);
    }
    if copy == Copy::Always && shared {
        return seam::run(py, t.numel(), || duplicate(&t, t.shape()));
    }
    Ok(t)
}

/// `t` in another dtype, if it may be copied.
fn convert_tensor(py: Python<'_>, t: &Tensor, wanted: DType, copy: Copy) -> PyResult<Tensor> {
    if copy == Copy::Never {
        return Err(PyValueError::new_err(format!(
            "[asarray] {} cannot become {wanted} without a copy (pass copy=None or True)",
            t.dtype()
        )));
    }
    seam::run(py, t.numel(), || corten_core::ops::astype(t, wanted))
}

/// An array of ml_dtypes' bfloat16, the only kind that NumPy meets; known by name, so that nothing has to be imported.
fn is_bfloat16(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(is_numpy(obj)? && obj.getattr("dtype")?.getattr("name")?.eq("bfloat16")?)
}
/// A tensor from such an array, which has no buffer of its own: through its bits.
fn bfloat16(obj: &Bound<'_, PyAny>, dtype: Option<DType>, copy: Copy) -> PyResult<Tensor> {
    let py = obj.py();
    let bits = convert(&obj.call_method1("view", ("int16",))?, None, copy)?;
    // Not `ops::reinterpret`, whose result is a view and takes no `t[i] = v`.
    let storage = bits.storage().reinterpret(DType::BF16);
    let t = Tensor::from_storage(storage, bits.layout().clone()).map_err(|e| to_py(py, e))?;
    match dtype {
        Some(d) if d != DType::BF16 => convert_tensor(py, &t, d, copy),
        _ => Ok(t),
    }
}

/// A private copy of the same elements: shares nothing with `t`, not even until the next write (foreign memory may change
/// under us).
pub(crate) fn duplicate(t: &Tensor, shape: &[usize]) -> corten_core::Result<Tensor> {
    let value = t.value();
    with_element!(t.dtype(), T => match value.dense::<T>() {
        Some(s) => Tensor::from_slice_on(s, shape, t.dtype(), t.device()),
        None => Tensor::from_slice_on(&value.to_vec::<T>()?, shape, t.dtype(), t.device()),
    })
}

/// The error for an array whose dtype corten does not have.
#[cold]
fn unsupported(obj: &Bound<'_, PyAny>) -> PyErr {
    let name = obj
        .getattr("dtype")
        .and_then(|d| d.str())
        .map_or_else(|_| type_name(obj), |s| s.to_string());
    let fix = match name.as_str() {
        "uint16" => "int32",
        "uint32" | "uint64" => "int64",
        _ => "float32",
    };
    PyTypeError::new_err(format!(
        "[tensor] {name} is not a corten dtype; cast first: x.astype('{fix}')"
    ))
}

/// The dtype that a buffer's format names, and whether its bytes are in the other order; `None` for what corten does not have.
fn dtype_of(format: &CStr, itemsize: usize) -> Option<(DType, bool)> {
    let (code, swapped) = match format.to_bytes() {
        [c] | [b'@' | b'=', c] => (*c, false),
        [b'<', c] => (*c, cfg!(target_endian = "big")),
        [b'>' | b'!', c] => (*c, cfg!(target_endian = "little")),
        _ => return None,
    };
    let dtype = match (code, itemsize) {
        (b'f', 4) => DType::F32,
        (b'd', 8) => DType::F64,
        (b'e', 2) => DType::F16,
        (b'q' | b'l', 8) => DType::I64,
        (b'i' | b'l', 4) => DType::I32,
        (b'h', 2) => DType::I16,
        (b'b', 1) => DType::I8,
        (b'B', 1) => DType::U8,
        (b'?', 1) => DType::Bool,
        _ => return None,
    };
    Some((dtype, swapped && itemsize > 1))
}

/// A tensor over (or from) the memory behind `view`, and whether it shares that memory.
fn buffer(
    obj: &Bound<'_, PyAny>,
    view: &Bound<'_, PyMemoryView>,
    copy: Copy,
) -> PyResult<(Tensor, bool)> {
    let py = obj.py();
    // A buffer of no axes has no shape to point at, which PyO3 takes for an error: look at it as a vector of one.
    if view.getattr("ndim")?.extract::<usize>()? == 0 {
        let one = numpy(py)?.call_method1("reshape", (obj, (1,)))?;
        let (t, shared) = buffer(&one, &PyMemoryView::from(&one)?, copy)?;
        // A reshaped tensor is a view, which takes no `t[()] = v`: only where sharing was insisted on.
        let view = shared && copy == Copy::Never;
        let t = seam::run(py, 0, || {
            if view {
                corten_core::ops::reshape(&t, &[])
            } else {
                duplicate(&t, &[])
            }
        })?;
        return Ok((t, view));
    }
    let buf = PyUntypedBuffer::get(view.as_any())?;
    let size = buf.item_size();
    let Some((dtype, swapped)) = dtype_of(buf.format(), size) else {
        return Err(unsupported(obj));
    };
    if buf.suboffsets().is_some_and(|s| s.iter().any(|&o| o >= 0)) {
        return Err(PyTypeError::new_err(
            "[tensor] indirect buffers are not supported; make a NumPy array of it first",
        ));
    }
    let memory = Foreign {
        data: buf.buf_ptr().cast::<u8>(),
        dtype,
        shape: buf.shape(),
        strides: buf.strides(),
        swapped,
    };
    // The owner is the memoryview and not the buffer: when the last tensor dies on a thread without the GIL, pyo3 puts a `Py` aside
    // for later, while a buffer would wait for the GIL, perhaps with a lock held.
    let owner = || -> Owner { Box::new(view.clone().unbind()) };
    // SAFETY: the memory, with the shape and strides that the exporter gives for it, is held by `buf` and then by the memoryview.
    let adopted = unsafe { adopt(py, &memory, copy, owner)? };
    adopted.ok_or_else(|| {
        PyValueError::new_err(
            "[asarray] this memory cannot be shared (bool, unaligned, oddly strided or of foreign byte order); pass copy=None or True",
        )
    })
}

/// What keeps foreign memory in place until it is dropped, on any thread.
pub(crate) type Owner = Box<dyn Any + Send + Sync>;

/// An array in memory of someone else.
pub(crate) struct Foreign<'a> {
    /// Where the first element is.
    pub(crate) data: *const u8,
    /// Its dtype; bool bytes may be anything.
    pub(crate) dtype: DType,
    /// Sizes.
    pub(crate) shape: &'a [usize],
    /// Distances in bytes, of either sign.
    pub(crate) strides: &'a [isize],
    /// The bytes of each element are in the other order.
    pub(crate) swapped: bool,
}

/// A tensor over `memory`, or a copy of it where that is asked for or cannot be avoided, and whether memory is shared; `None`
/// if it could be neither shared nor, by `Copy::Never`, copied.
///
/// # Safety
/// Every element that shape and strides reach is readable now and, if `owner` is asked for, until what it gives is dropped.
/// The extent of the array fits the address space.
pub(crate) unsafe fn adopt(
    py: Python<'_>,
    memory: &Foreign<'_>,
    copy: Copy,
    owner: impl FnOnce() -> Owner,
) -> PyResult<Option<(Tensor, bool)>> {
    let &Foreign {
        data,
        dtype,
        shape,
        strides,
        swapped,
    } = memory;
    let size = dtype.size();
    let empty = shape.contains(&0);
    let aligned = data.align_offset(size) == 0;
    let even = aligned && (empty || strides.iter().all(|s| s % size as isize == 0));
    // A bool byte other than 0 and 1 (numpy's .view(bool) can make one) must not get into the kernels.
    let share = copy != Copy::Always && even && !swapped && !data.is_null() && dtype != DType::Bool;
    if !share {
        if copy == Copy::Never {
            return Ok(None);
        }
        // SAFETY: the caller's promise. The GIL is kept: whoever writes to the memory, in Python, holds it.
        let t = unsafe { copied(py, memory, empty)? };
        return Ok(Some((t, false)));
    }
    // The block runs from the lowest to the highest address that is read; the first element lies inside when strides are negative.
    let steps: Strides = strides.iter().map(|s| s / size as isize).collect();
    let (mut low, mut high) = (0isize, 0isize);
    if !empty {
        for (&n, &s) in shape.iter().zip(steps.iter()) {
            let reach = (n as isize - 1) * s;
            low += reach.min(0);
            high += reach.max(0);
        }
    }
    let len = if empty { 0 } else { (high - low + 1) as usize };
    // SAFETY: `low` is the offset of an element of the array.
    let block = unsafe { data.offset(low * size as isize) };
    let Some(block) = NonNull::new(block.cast_mut()) else {
        return Err(PyValueError::new_err("[tensor] the buffer has no memory"));
    };
    let layout = Layout::new(Shape::from_slice(shape), steps, low.unsigned_abs());
    // SAFETY: the owner keeps the memory in place until it is dropped; the memory is aligned (checked above) and the
    // documentation tells users that a shared array must not be written while tensors use it.
    let storage = unsafe { Storage::foreign(block, len, dtype, Device::Cpu, owner()) };
    let t = Tensor::from_storage(storage, layout).map_err(|e| to_py(py, e))?;
    Ok(Some((t, true)))
}

/// A tensor with a copy of foreign memory.
///
/// # Safety
/// Every element that shape and strides reach is readable.
unsafe fn copied(py: Python<'_>, memory: &Foreign<'_>, empty: bool) -> PyResult<Tensor> {
    let &Foreign {
        data,
        dtype,
        shape,
        strides,
        swapped,
    } = memory;
    let size = dtype.size();
    let count = corten_core::shape::checked_numel("tensor", shape).map_err(|e| to_py(py, e))?;
    let dense = strides
        .iter()
        .zip(corten_core::layout::c_strides(shape).iter())
        .zip(shape)
        .all(|((&s, &c), &n)| n == 1 || s == c.saturating_mul(size as isize));
    with_element!(dtype, T => {
        let gathered: Vec<T>;
        let elements: &[T] = if empty {
            &[]
        } else if dense && !swapped && data.align_offset(align_of::<T>()) == 0 {
            // SAFETY: one aligned run of `count` readable elements, and any bytes are a number.
            unsafe { std::slice::from_raw_parts(data.cast::<T>(), count) }
        } else {
            // SAFETY: the caller's promise.
            gathered = unsafe { gather(data, shape, strides, swapped)? };
            &gathered
        };
        Tensor::from_slice_on(elements, shape, dtype, Device::Cpu)
    })
    .map_err(|e| to_py(py, e))
}

/// A tensor with a copy of the elements that `obj`, a buffer of any kind, holds in C order.
pub(crate) fn from_bytes(
    obj: &Bound<'_, PyAny>,
    dtype: DType,
    shape: &[usize],
) -> PyResult<Tensor> {
    let py = obj.py();
    let buf = PyUntypedBuffer::get(obj)?;
    let count = corten_core::shape::checked_numel("tensor", shape).map_err(|e| to_py(py, e))?;
    if !buf.is_c_contiguous() || Some(buf.len_bytes()) != count.checked_mul(dtype.size()) {
        return Err(PyValueError::new_err(format!(
            "[tensor] {} bytes do not fill shape {} of {dtype}",
            buf.len_bytes(),
            show(shape)
        )));
    }
    let strides: Vec<isize> = corten_core::layout::c_strides(shape)
        .iter()
        .map(|s| s.saturating_mul(dtype.size() as isize))
        .collect();
    let memory = Foreign {
        data: buf.buf_ptr().cast::<u8>(),
        dtype,
        shape,
        strides: &strides,
        swapped: false,
    };
    // SAFETY: `buf` holds as many bytes as the shape needs, one after another.
    unsafe { copied(py, &memory, count == 0) }
}

/// All elements in C order, their bytes reversed if `swapped`.
///
/// # Safety
/// Every element that `shape` and `strides` (in bytes) reach from `data` is readable as a `T`; any alignment.
unsafe fn gather<T: Element>(
    data: *const u8,
    shape: &[usize],
    strides: &[isize],
    swapped: bool,
) -> PyResult<Vec<T>> {
    let count = corten_core::shape::numel(shape);
    let mut out = Vec::new();
    if out.try_reserve_exact(count).is_err() {
        let what = format!("a {} tensor of shape {}", T::DTYPE, show(shape));
        let bytes = count.checked_mul(size_of::<T>());
        let refused = corten_core::Error::no_memory("tensor", &what, bytes);
        return Err(PyMemoryError::new_err(refused.to_string()));
    }
    let mut index = vec![0; shape.len()];
    let mut at = data;
    for _ in 0..count {
        // SAFETY: `at` is the address of element `index`.
        out.push(unsafe { at.cast::<T>().read_unaligned() });
        for d in (0..shape.len()).rev() {
            index[d] += 1;
            at = at.wrapping_offset(strides[d]);
            if index[d] < shape[d] {
                break;
            }
            at = at.wrapping_offset(-strides[d] * shape[d] as isize);
            index[d] = 0;
        }
    }
    if swapped {
        let size = size_of::<T>();
        // SAFETY: the elements are plain numbers: initialised bytes without padding, and any bytes are a number.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), out.len() * size)
        };
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    Ok(out)
}

/// A tensor from Python scalars.
fn scalars(py: Python<'_>, data: &[Scalar], shape: &[usize], dtype: DType) -> PyResult<Tensor> {
    for s in data {
        s.check_fits("tensor", dtype).map_err(|e| to_py(py, e))?;
    }
    with_element!(dtype, T => {
        let elements = if dtype == DType::Bool {
            try_collect(data.iter().map(|s| T::from_scalar(Scalar::Bool(s.to_bool()))))
        } else {
            try_collect(data.iter().map(|&s| T::from_scalar(s)))
        };
        let made = elements.and_then(|e| Tensor::from_slice_on(&e, shape, dtype, Device::Cpu));
        made.map_err(|e| to_py(py, e.within("tensor")))
    })
}

/// What a walk through nested lists has found so far.
#[derive(Default)]
struct Walk {
    shape: Vec<usize>,
    /// The number of axes is known: a number (or an empty list) has been seen.
    closed: bool,
    /// Where the walk is.
    path: Vec<usize>,
    data: Vec<Scalar>,
    /// Common dtype of the arrays and tensors inside.
    strong: Option<DType>,
    /// Highest kind of the Python scalars inside.
    weak: Option<Scalar>,
}

fn nested(obj: &Bound<'_, PyAny>, dtype: Option<DType>) -> PyResult<Tensor> {
    let mut walk = Walk::default();
    walk.enter(obj)?;
    let found = match (walk.strong, walk.weak) {
        (Some(d), Some(s)) => d.promote_scalar(s),
        (Some(d), None) => d,
        (None, Some(s)) => s.dtype(),
        (None, None) => DType::F32,
    };
    scalars(obj.py(), &walk.data, &walk.shape, dtype.unwrap_or(found))
}

impl Walk {
    /// Makes room for so many numbers.
    fn room(&mut self, more: usize) -> PyResult<()> {
        self.data.try_reserve(more).map_err(|_| {
            let n = self.data.len().saturating_add(more);
            PyMemoryError::new_err(format!("[tensor] no memory for a list of {n} numbers"))
        })
    }
    fn place(&self) -> String {
        self.path.iter().map(|i| format!("[{i}]")).collect()
    }
    #[cold]
    fn ragged(&self, what: &str, depth: usize) -> PyErr {
        let want = if depth < self.shape.len() {
            format!("a list of length {}", self.shape[depth])
        } else {
            "a number".to_owned()
        };
        let at = if self.path.is_empty() {
            "data".to_owned()
        } else {
            format!("element {}", self.place())
        };
        PyValueError::new_err(format!(
            "[tensor] ragged nested lists: {at} is {what}, but its neighbours are each {want}"
        ))
    }
    fn enter(&mut self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let depth = self.path.len();
        if let Ok(list) = obj.cast::<PyList>() {
            self.list(list.len(), depth, list.iter())
        } else if let Ok(tuple) = obj.cast::<PyTuple>() {
            self.list(tuple.len(), depth, tuple.iter())
        } else if obj.cast::<PyRange>().is_ok() {
            // Python's own list: it fails well when there is no memory for so many.
            let list = obj.py().get_type::<PyList>().call1((obj,))?;
            let list = list.cast::<PyList>()?;
            self.list(list.len(), depth, list.iter())
        } else if let Some(s) = plain_scalar(obj)? {
            self.close(depth, &[])?;
            self.weak = Some(match (self.weak, s) {
                (Some(w @ Scalar::Float(_)), _) => w,
                (Some(w @ Scalar::Int(_)), Scalar::Bool(_)) => w,
                _ => s,
            });
            self.room(1)?;
            self.data.push(s);
            Ok(())
        } else if obj.cast::<PyTensor>().is_ok() || is_numpy(obj)? {
            let t = convert(obj, None, Copy::IfNeeded)?;
            self.close(depth, t.shape())?;
            self.strong = Some(self.strong.map_or(t.dtype(), |d| d.promote(t.dtype())));
            let numbers = t.to_scalars();
            let numbers = numbers.map_err(|e| to_py(obj.py(), e.within("tensor")))?;
            self.room(numbers.len())?;
            self.data.extend(numbers);
            Ok(())
        } else {
            let hint = if obj.cast::<PyString>().is_ok() || obj.is_none() {
                ""
            } else {
                " (make a NumPy array of it first)"
            };
            let at = if depth == 0 {
                "data".to_owned()
            } else {
                format!("element {}", self.place())
            };
            Err(PyTypeError::new_err(format!(
                "[tensor] {at} is a {}, not a number{hint}",
                type_name(obj)
            )))
        }
    }
    fn list<'py>(
        &mut self,
        len: usize,
        depth: usize,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        if depth == self.shape.len() && !self.closed {
            self.shape.push(len);
        } else if depth >= self.shape.len() || self.shape[depth] != len {
            return Err(self.ragged(&format!("a list of length {len}"), depth));
        }
        if len == 0 {
            self.closed = true;
        }
        for (i, item) in items.enumerate() {
            self.path.push(i);
            self.enter(&item)?;
            self.path.pop();
        }
        Ok(())
    }
    /// A number (`tail` empty) or an array of shape `tail` at `depth`.
    fn close(&mut self, depth: usize, tail: &[usize]) -> PyResult<()> {
        if !self.closed && depth == self.shape.len() {
            self.shape.extend_from_slice(tail);
            self.closed = true;
        } else if self.shape[depth.min(self.shape.len())..] != *tail {
            let what = if tail.is_empty() {
                "a number".to_owned()
            } else {
                format!("an array of shape {}", show(tail))
            };
            return Err(self.ragged(&what, depth));
        }
        Ok(())
    }
}
