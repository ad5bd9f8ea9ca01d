//! DLPack: tensors of other libraries in, ours out, without a copy where both sides can.
//!
//! A producer hands out a Python capsule around a C struct; the consumer renames the capsule, which makes the struct its own,
//! and calls the struct's `deleter` when done. There are two structs: the versioned one can say that the memory is read-only,
//! the legacy one cannot. What we export is read-only, so a consumer that asks for the legacy struct gets a private copy.
//! The layout of the structs is that of `dlpack.h` 1.1 (<https://dmlc.github.io/dlpack/latest/c_api.html>).

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};

use corten_core::shape::show;
use corten_core::{DType, Tensor, Value};
use corten_python_macros::pymethods;
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyInt, PyTuple};

use crate::arrays::{self, Copy, Foreign};
use crate::convert::type_name;
use crate::export;
use crate::seam;
use crate::tensor::PyTensor;

/// `kDLCPU`
const CPU: i32 = 1;
/// Kinds of device whose memory the host reads: the CPU's, and what CUDA, ROCm and CUDA's managed allocator pin for it.
const HOST: [i32; 4] = [CPU, 3, 11, 13];
/// The version of the struct that we make and ask for. Minor versions change no layout.
const VERSION: Version = Version { major: 1, minor: 0 };
/// More axes than anyone has; a larger number is a damaged struct.
const MAX_AXES: usize = 64;

const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Dtype {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct Array {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    dtype: Dtype,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Version {
    major: u32,
    minor: u32,
}

type Deleter<M> = Option<unsafe extern "C" fn(*mut M)>;

/// `DLManagedTensor`
#[repr(C)]
struct Legacy {
    array: Array,
    context: *mut c_void,
    deleter: Deleter<Self>,
}

/// `DLManagedTensorVersioned`: version, context and deleter stay where they are in every future version.
#[repr(C)]
struct Versioned {
    version: Version,
    context: *mut c_void,
    deleter: Deleter<Self>,
    flags: u64,
    array: Array,
}

/// What the two structs have in common.
trait Managed: Sized {
    /// Name of a capsule that nobody has consumed.
    const NAME: &'static CStr;
    /// Name of one that somebody has.
    const USED: &'static CStr;
    fn new(array: Array, flags: u64) -> Self;
    fn array(&self) -> &Array;
    fn context(&mut self) -> &mut *mut c_void;
    fn deleter(&self) -> Deleter<Self>;
    /// The version that the struct names; the legacy one names none.
    ///
    /// # Safety
    /// `managed` points to such a struct, of whatever version.
    unsafe fn version(managed: *const Self) -> Option<Version>;
}

impl Managed for Legacy {
    const NAME: &'static CStr = c"dltensor";
    const USED: &'static CStr = c"used_dltensor";
    fn new(array: Array, _flags: u64) -> Self {
        Self {
            array,
            context: ptr::null_mut(),
            deleter: Some(delete::<Self>),
        }
    }
    fn array(&self) -> &Array {
        &self.array
    }
    fn context(&mut self) -> &mut *mut c_void {
        &mut self.context
    }
    fn deleter(&self) -> Deleter<Self> {
        self.deleter
    }
    unsafe fn version(_managed: *const Self) -> Option<Version> {
        None
    }
}

impl Managed for Versioned {
    const NAME: &'static CStr = c"dltensor_versioned";
    const USED: &'static CStr = c"used_dltensor_versioned";
    fn new(array: Array, flags: u64) -> Self {
        Self {
            version: VERSION,
            context: ptr::null_mut(),
            deleter: Some(delete::<Self>),
            flags,
            array,
        }
    }
    fn array(&self) -> &Array {
        &self.array
    }
    fn context(&mut self) -> &mut *mut c_void {
        &mut self.context
    }
    fn deleter(&self) -> Deleter<Self> {
        self.deleter
    }
    unsafe fn version(managed: *const Self) -> Option<Version> {
        // SAFETY: the caller's promise: the version comes first in every version, and nothing else is touched.
        Some(unsafe { (&raw const (*managed).version).read() })
    }
}

/// DLPack's description of a dtype. By name, so that a new float needs no line here.
fn describe(d: DType) -> Dtype {
    let code = match d.name() {
        "bool" => 6,
        "bfloat16" => 4,
        name if name.starts_with("float") => 2,
        name if name.starts_with("uint") => 1,
        _ => 0,
    };
    Dtype {
        code,
        bits: (8 * d.size()) as u8,
        lanes: 1,
    }
}

// -- out

/// What a capsule's struct points into; lives until its deleter is called. The struct's context is the address of this.
struct Lending<M> {
    managed: M,
    /// Keeps the memory, whatever is assigned to the tensor meanwhile (copy-on-write).
    _value: Value,
    _shape: Vec<i64>,
    _strides: Vec<i64>,
}

/// The deleter of what we lend. It needs no interpreter and may run on any thread.
///
/// # Safety
/// `managed` is null or came from [`lend`] and is given here once.
unsafe extern "C" fn delete<M: Managed>(managed: *mut M) {
    // SAFETY: the caller's promise; the context is the box that `lend` leaked.
    unsafe {
        if let Some(m) = managed.as_mut() {
            drop(Box::from_raw(m.context().cast::<Lending<M>>()));
        }
    }
}

/// The destructor of our capsules: a capsule that was consumed has another name and nothing left to free.
///
/// # Safety
/// Called by Python with a capsule that [`lend`] made.
unsafe extern "C" fn unclaimed<M: Managed>(capsule: *mut ffi::PyObject) {
    // SAFETY: the capsule is alive, and under this name it holds the struct that `lend` put into it.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, M::NAME.as_ptr()) == 1 {
            delete::<M>(ffi::PyCapsule_GetPointer(capsule, M::NAME.as_ptr()).cast());
        }
    }
}

/// A capsule around the memory of `value`.
fn lend<M: Managed>(py: Python<'_>, value: Value, flags: u64) -> PyResult<Bound<'_, PyAny>> {
    let layout = &value.layout;
    let as_i64 = |n: isize| n as i64;
    let mut shape: Vec<i64> = layout.shape().iter().map(|&n| n as i64).collect();
    let mut strides: Vec<i64> = export::strides(layout).into_iter().map(as_i64).collect();
    let array = Array {
        data: export::first(&value).cast_mut().cast::<c_void>(),
        device_type: CPU,
        device_id: 0,
        ndim: layout.ndim() as i32,
        dtype: describe(value.dtype()),
        // Vectors may move, what they hold stays in place.
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    let lending = Box::into_raw(Box::new(Lending {
        managed: M::new(array, flags),
        _value: value,
        _shape: shape,
        _strides: strides,
    }));
    // SAFETY: `lending` was just leaked and is ours alone. The capsule owns it from here on, and frees it in `unclaimed` unless
    // a consumer renames the capsule and so becomes the owner.
    unsafe {
        let managed = &raw mut (*lending).managed;
        *(*managed).context() = lending.cast::<c_void>();
        let capsule = ffi::PyCapsule_New(
            managed.cast::<c_void>(),
            M::NAME.as_ptr(),
            Some(unclaimed::<M>),
        );
        if capsule.is_null() {
            delete::<M>(managed);
        }
        Bound::from_owned_ptr_or_err(py, capsule)
    }
}

#[pymethods]
impl PyTensor {
    /// A capsule for the `from_dlpack` of another library, over the tensor's own memory where that can be said to be read-only.
    ///
    /// A consumer that knows DLPack 1.0 (`max_version >= (1, 0)`) shares the memory and is told that it is read-only; any other
    /// gets a copy, because the old protocol has no way to say so. Negative strides are copied too, as few libraries take them.
    /// `copy=True` always copies, and the copy may be written; `copy=False` raises where a copy would be needed.
    ///
    /// Raises BufferError: the tensor requires grad (`x.detach()` does not), a copy is needed but forbidden, or `dl_device`
    /// is not the CPU.
    #[pyo3(signature = (*, stream = None, max_version = None, dl_device = None, copy = None))]
    fn __dlpack__<'py>(
        slf: &Bound<'py, Self>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let t = &slf.get().tensor;
        // -1: the consumer wants no synchronisation.
        if let Some(s) = stream
            && s.extract::<i64>().ok() != Some(-1)
        {
            return Err(PyBufferError::new_err(format!(
                "[dlpack] the CPU has no streams, got stream={s} (leave it None)"
            )));
        }
        if let Some((kind, _)) = dl_device
            && kind != CPU
        {
            return Err(PyBufferError::new_err(format!(
                "[dlpack] tensors are exported to the CPU, ({CPU}, 0), not to device type {kind} (let the other library move them)"
            )));
        }
        if t.requires_grad() {
            return Err(PyBufferError::new_err(
                "[dlpack] this tensor requires grad, and what another library computes is not recorded; use x.detach()",
            ));
        }
        let versioned = max_version.is_some_and(|(major, _)| major >= VERSION.major);
        let backwards = t.numel() > 0 && export::strides(t.layout()).iter().any(|&s| s < 0);
        if copy == Some(false) && !versioned {
            return Err(PyBufferError::new_err(
                "[dlpack] a tensor's memory is read-only, which only DLPack 1.0 can say: without a copy a consumer must ask for max_version=(1, 0)",
            ));
        }
        let private = copy == Some(true) || !versioned || (backwards && copy.is_none());
        let value = if private {
            seam::run(py, t.numel(), || arrays::duplicate(t, t.shape()))?.value()
        } else {
            t.value()
        };
        match (versioned, private) {
            (true, true) => lend::<Versioned>(py, value, IS_COPIED),
            (true, false) => lend::<Versioned>(py, value, READ_ONLY),
            (false, _) => lend::<Legacy>(py, value, 0),
        }
    }
    /// `(1, 0)`: the CPU, where every tensor's memory lies.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (CPU, 0)
    }
}

// -- in

/// A struct that we consumed, to be given back. It lives in a Python object: when the last tensor over its memory dies on a
/// thread without the interpreter lock, PyO3 puts the object aside until someone holds the lock, so that no thread waits for it
/// here, and every producer's deleter runs with the lock held, whether it needs it or not.
#[pyclass(frozen, name = "_Borrowed", module = "corten._core")]
struct Borrowed(Struct);

enum Struct {
    Legacy(NonNull<Legacy>),
    Versioned(NonNull<Versioned>),
}

// SAFETY: the struct is read once, by the thread that consumed it, and then only given back, once, with the lock held.
unsafe impl Send for Borrowed {}
// SAFETY: as above; `&Borrowed` gives access to nothing.
unsafe impl Sync for Borrowed {}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // SAFETY: the struct is ours since its capsule was renamed, and this is the only place that gives it back.
        unsafe {
            match self.0 {
                Struct::Legacy(m) => give_back(m),
                Struct::Versioned(m) => give_back(m),
            }
        }
    }
}

/// Calls the producer's deleter.
///
/// # Safety
/// The struct is alive and ours.
unsafe fn give_back<M: Managed>(m: NonNull<M>) {
    // SAFETY: the caller's promise; the producer's deleter frees the struct and what it points to.
    unsafe {
        if let Some(deleter) = m.as_ref().deleter() {
            deleter(m.as_ptr());
        }
    }
}

fn refuse(what: impl std::fmt::Display) -> PyErr {
    PyBufferError::new_err(format!("[from_dlpack] {what}"))
}

/// Shape and strides (in bytes) of a foreign array, checked: what the struct says lies inside the address space.
struct Checked {
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<isize>,
    data: *const u8,
}

/// Reads and checks a struct.
///
/// # Safety
/// `a` is what a producer made: `shape` and `strides` are null or point to `ndim` numbers.
unsafe fn check(a: &Array) -> PyResult<Checked> {
    if !HOST.contains(&a.device_type) {
        return Err(elsewhere(a.device_type));
    }
    let known = |d: &DType| describe(*d) == a.dtype;
    let Some(dtype) = DType::ALL.into_iter().find(known) else {
        return Err(unknown(a.dtype));
    };
    let ndim = usize::try_from(a.ndim).unwrap_or(usize::MAX);
    if ndim > MAX_AXES || (ndim > 0 && a.shape.is_null()) {
        return Err(refuse(format!("damaged: an array of {} axes", a.ndim)));
    }
    // SAFETY: the caller's promise, and neither is null where it is read.
    let (sizes, steps) = unsafe {
        let sizes = match ndim {
            0 => &[][..],
            _ => std::slice::from_raw_parts(a.shape, ndim),
        };
        let steps = match a.strides.is_null() || ndim == 0 {
            true => None,
            false => Some(std::slice::from_raw_parts(a.strides, ndim)),
        };
        (sizes, steps)
    };
    let too_far = || refuse(format!("damaged: shape {sizes:?} with strides {steps:?}"));
    let mut shape = Vec::with_capacity(ndim);
    for &n in sizes {
        shape.push(usize::try_from(n).map_err(|_| too_far())?);
    }
    let size = dtype.size() as isize;
    if shape.contains(&0) {
        // Nothing will be read: strides and address mean nothing.
        return Ok(Checked {
            strides: vec![size; ndim],
            data: ptr::dangling::<u64>().cast(),
            dtype,
            shape,
        });
    }
    // Every size and every sum on the way must fit a number, the whole extent too. The strides of single elements do not count.
    let mut strides = vec![size; ndim];
    let mut next = 1isize;
    let mut count = 1usize;
    let (mut low, mut high) = (0isize, 0isize);
    for d in (0..ndim).rev() {
        let n = shape[d] as isize;
        let step = steps.map_or(next, |s| s[d] as isize);
        count = count.checked_mul(shape[d]).ok_or_else(too_far)?;
        if steps.is_none() {
            next = next.checked_mul(n).ok_or_else(too_far)?;
        }
        if n == 1 {
            continue;
        }
        strides[d] = step.checked_mul(size).ok_or_else(too_far)?;
        let reach = strides[d].checked_mul(n - 1).ok_or_else(too_far)?;
        low = low.checked_add(reach.min(0)).ok_or_else(too_far)?;
        high = high.checked_add(reach.max(0)).ok_or_else(too_far)?;
    }
    let offset = isize::try_from(a.byte_offset).map_err(|_| too_far())?;
    let fits = || {
        let first = (a.data as isize).checked_add(offset)?;
        first.checked_add(low)?;
        first.checked_add(high)?.checked_add(size)?;
        high.checked_sub(low)?.checked_add(size)?;
        isize::try_from(count).ok()
    };
    fits().ok_or_else(too_far)?;
    if a.data.is_null() {
        return Err(refuse(format!(
            "damaged: no memory for shape {}",
            show(&shape)
        )));
    }
    Ok(Checked {
        data: a.data.cast::<u8>().cast_const().wrapping_offset(offset),
        dtype,
        shape,
        strides,
    })
}

#[cold]
fn elsewhere(kind: i32) -> PyErr {
    refuse(format!(
        "the array is on another device (DLPack type {kind}); copy it to the CPU: from_dlpack(x, device='cpu')"
    ))
}

/// The error for a dtype that corten does not have.
#[cold]
fn unknown(d: Dtype) -> PyErr {
    let kind = match d.code {
        0 => "int",
        1 => "uint",
        2 => "float",
        4 => "bfloat",
        5 => "complex",
        6 => "bool",
        _ => "opaque",
    };
    let lanes = match d.lanes {
        1 => String::new(),
        n => format!(" in vectors of {n}"),
    };
    let fix = match (d.code, d.bits) {
        (1, 16) => "int32",
        (0 | 1, _) => "int64",
        _ => "float32",
    };
    PyTypeError::new_err(format!(
        "[from_dlpack] {kind}{}{lanes} is not a corten dtype; cast first, to {fix} for example",
        d.bits
    ))
}

/// Takes the array in `capsule`, and tells whether memory is shared; `None` when the capsule is of the other kind.
fn take<M: Managed>(
    capsule: &Bound<'_, PyCapsule>,
    wrap: impl FnOnce(NonNull<M>) -> Struct,
    copy: Copy,
) -> PyResult<Option<(Tensor, bool)>> {
    let py = capsule.py();
    let raw = capsule.as_ptr();
    // SAFETY: the capsule is alive; a pointer under this name is, by the protocol, a live struct of this kind that nobody owns yet.
    let (managed, array) = unsafe {
        if ffi::PyCapsule_IsValid(raw, M::NAME.as_ptr()) != 1 {
            return Ok(None);
        }
        let managed = ffi::PyCapsule_GetPointer(raw, M::NAME.as_ptr()).cast::<M>();
        let Some(managed) = NonNull::new(managed) else {
            return Err(PyErr::fetch(py));
        };
        // Of another major version nothing but the deleter may be used; the capsule, still unconsumed, calls it.
        if let Some(v) = M::version(managed.as_ptr())
            && v.major != VERSION.major
        {
            return Err(refuse(format!(
                "the array comes in DLPack version {}.{}, and only 1.x is understood",
                v.major, v.minor
            )));
        }
        let array = check(managed.as_ref().array())?;
        if ffi::PyCapsule_SetName(raw, M::USED.as_ptr()) != 0 {
            return Err(PyErr::fetch(py));
        }
        (managed, array)
    };
    // The struct is ours from here on; whatever happens, it is given back once.
    let owner = Bound::new(py, Borrowed(wrap(managed)))?;
    let memory = Foreign {
        data: array.data,
        dtype: array.dtype,
        shape: &array.shape,
        strides: &array.strides,
        swapped: false,
    };
    let owner = || -> arrays::Owner { Box::new(owner.unbind()) };
    // SAFETY: `check` found the extent sound, and by the protocol the memory is readable until the struct is given back.
    let adopted = unsafe { arrays::adopt(py, &memory, copy, owner)? };
    if adopted.is_none() {
        return Err(refuse(
            "this memory cannot be shared (bool, or not aligned), but copy=False forbids a copy",
        ));
    }
    Ok(adopted)
}

/// Calls `obj.__dlpack__` with what it understands, and gives the capsule.
fn request<'py>(obj: &Bound<'py, PyAny>, copy: Copy, to_cpu: bool) -> PyResult<Bound<'py, PyAny>> {
    let py = obj.py();
    let options = PyDict::new(py);
    options.set_item("max_version", (VERSION.major, VERSION.minor))?;
    if copy == Copy::Never {
        options.set_item("copy", false)?; // a copy we would rather make ourselves
    }
    if to_cpu {
        options.set_item("dl_device", (CPU, 0))?;
    }
    match obj.call_method("__dlpack__", (), Some(&options)) {
        // A producer from before 1.0 knows none of these. It always shares, and never moves.
        Err(e) if e.is_instance_of::<PyTypeError>(py) && !to_cpu => obj.call_method0("__dlpack__"),
        answer => answer,
    }
}

/// Whether `obj` speaks DLPack.
pub(crate) fn speaks(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(obj.hasattr("__dlpack__")? && obj.hasattr("__dlpack_device__")?)
}

/// A tensor on the CPU from a capsule or from an object that makes one, and whether they share memory. `to_cpu` asks the
/// producer to move what lies on another device.
pub(crate) fn import(obj: &Bound<'_, PyAny>, copy: Copy, to_cpu: bool) -> PyResult<(Tensor, bool)> {
    let answer = if obj.cast::<PyCapsule>().is_ok() {
        obj.clone()
    } else if speaks(obj)? {
        let place = obj.call_method0("__dlpack_device__")?;
        let kind = place.cast::<PyTuple>()?.get_item(0)?;
        let kind: i32 = kind.call_method0("__index__")?.cast::<PyInt>()?.extract()?;
        let far = !HOST.contains(&kind);
        if far && !to_cpu {
            return Err(elsewhere(kind));
        }
        request(obj, copy, far)?
    } else {
        return Err(PyTypeError::new_err(format!(
            "[from_dlpack] expected an object with __dlpack__ and __dlpack_device__, not {} (use corten.tensor or corten.asarray)",
            type_name(obj)
        )));
    };
    let Ok(capsule) = answer.cast::<PyCapsule>() else {
        return Err(PyTypeError::new_err(format!(
            "[from_dlpack] __dlpack__ of {} gave no capsule but {}",
            type_name(obj),
            type_name(&answer)
        )));
    };
    if let Some(t) = take::<Versioned>(capsule, Struct::Versioned, copy)? {
        return Ok(t);
    }
    if let Some(t) = take::<Legacy>(capsule, Struct::Legacy, copy)? {
        return Ok(t);
    }
    Err(refuse(
        "the capsule holds no DLPack array, or one that was consumed already (each capsule can be consumed once)",
    ))
}
