//! Every call from Python into the core passes here: the GIL is released when the work is worth it, errors become the right
//! exceptions, panics become `corten.InternalError`, and Ctrl-C is heard.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use corten_core::autograd::anomaly::{self, Anomaly};
use corten_core::{Error, Result};
use corten_kernels::{alloc, parallel};
use pyo3::create_exception;
use pyo3::exceptions::{
    PyFloatingPointError, PyIndexError, PyKeyboardInterrupt, PyMemoryError, PyNotImplementedError,
    PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

create_exception!(
    corten,
    InternalError,
    PyRuntimeError,
    "A bug of corten itself, not of the code that calls it. Please report it with the text of this exception."
);
create_exception!(
    corten,
    AnomalyError,
    PyFloatingPointError,
    "Anomaly mode found the operation in which a NaN (or infinity) was born.\n\nAttributes: `op`, `phase` ('forward' or 'backward'), `layer` (the path of the module, or None), `count` and `first` (how many elements, and the index of the first), `shape`."
);

/// Elements (or thousands of floating-point operations) from which on the GIL is released: below, releasing it and taking it
/// again would cost as much as the work.
const RELEASE_FROM: usize = 1 << 14;

/// Always worth releasing the GIL.
pub(crate) const LONG: usize = usize::MAX;

thread_local! {
    /// How many guarded calls this thread is inside.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// In which process it was found out whether this thread is the one that Python delivers signals to, and what came out.
    static HEARS: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    /// The exception that a signal handler raised while a kernel ran.
    static PENDING: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Where the last panic was, for the exception's text: the hook knows it, `catch_unwind` does not.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Sets the panic hook and the interrupt hook; called once, when the module is imported.
pub(crate) fn install() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let previous: Hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Our own panics become exceptions, whose text says all this; printing them too would only alarm
            // (CORTEN_BACKTRACE=1 prints them all the same, for whoever hunts the bug).
            let ours = DEPTH.get() > 0
                || std::thread::current()
                    .name()
                    .is_some_and(|n| n.starts_with("corten-"));
            if !ours || std::env::var_os("CORTEN_BACKTRACE").is_some_and(|v| v != "0") {
                previous(info);
            }
            if ours {
                let place = info
                    .location()
                    .map(|l| format!("{}:{}", l.file(), l.line()));
                *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = place;
            }
        }));
        parallel::set_interrupt_hook(interrupted);
    });
}

/// Asked by long computations every 20 ms: has a signal handler raised an exception (Ctrl-C: KeyboardInterrupt)? Never while
/// this thread holds a tensor's lock ([`parallel::Uninterrupted`]): whoever has the GIL may wait for that lock.
fn interrupted() -> bool {
    // Only one thread hears of signals; the others need not wait for the GIL to learn that they do not.
    let process = std::process::id();
    if HEARS.get() == Some((process, false)) {
        return false;
    }
    // `try_attach`: during interpreter shutdown there is nothing to ask.
    Python::try_attach(|py| {
        // Anew in a forked child, whose main thread is the one that forked.
        if HEARS.get().is_none_or(|known| known.0 != process) {
            HEARS.set(Some((process, is_main(py).unwrap_or(false))));
        }
        if HEARS.get() != Some((process, true)) {
            return false;
        }
        match py.check_signals() {
            Ok(()) => false,
            Err(e) => {
                PENDING.with_borrow_mut(|p| *p = Some(e));
                true
            }
        }
    })
    .unwrap_or(false)
}

/// Whether Python delivers signals to this thread.
fn is_main(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}

fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    struct Inside;
    impl Drop for Inside {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _inside = Inside;
    // Unwind safety: tensors are values; what a panic leaves half done belongs to the call that failed, and the locks of the
    // core ignore poisoning.
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result,
        Err(panic) => Err(panicked(panic)),
    }
}

#[cold]
fn panicked(panic: Box<dyn Any + Send>) -> Error {
    if let Some(refused) = panic.downcast_ref::<alloc::OutOfMemory>() {
        return Error::no_memory("alloc", "a workspace", Some(refused.bytes));
    }
    let text = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "unknown panic".to_owned());
    let place = LAST_PANIC
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let place = place.map_or_else(String::new, |p| format!(" at {p}"));
    Error::internal(
        "corten",
        format!("{text}{place}. This is a bug in corten, please report it"),
    )
}

/// Runs `f`, which is about `work` elements (or kiloflops) of work, and turns what goes wrong into a Python exception.
#[inline]
pub(crate) fn run<T: Send, F: FnOnce() -> Result<T> + Send>(
    py: Python<'_>,
    work: usize,
    f: F,
) -> PyResult<T> {
    run_named(py, work, function_of::<F>, f)
}

#[inline]
fn run_named<T: Send>(
    py: Python<'_>,
    work: usize,
    name: fn() -> &'static str,
    f: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    let result = if work < RELEASE_FROM {
        guarded(f)
    } else {
        py.detach(|| guarded(f))
    };
    let result = anomalies(result);
    // A signal that came too late to stop the computation, or that a failure overtook, must not get lost; nor may it stop the
    // next one.
    if parallel::take_interrupted()
        && let Some(e) = PENDING.take()
    {
        return Err(e);
    }
    // Whoever allocates does not know for whom.
    result.map_err(|e| to_py(py, e.within(name())))
}

/// Name of the function that a closure is from: its type is called `corten_python::functions::network::conv2d::{{closure}}`.
#[cold]
fn function_of<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let mut parts = path.rsplit("::").filter(|p| !p.starts_with('{'));
    match parts.next().unwrap_or("corten") {
        // Shared by a function and a method.
        "filled" => "full",
        "measured" => "norm",
        "product" => "matmul",
        "repeated" => "repeat",
        "reshaped" => "reshape",
        "rolled" => "roll",
        "tiled" => "tile",
        "convert" | "buffer" | "leaf" => "tensor",
        name => name.trim_matches('_'),
    }
}

/// `result`, or in anomaly mode what was found on the way to it.
#[inline]
fn anomalies<T>(result: Result<T>) -> Result<T> {
    if !anomaly::is_on() {
        return result;
    }
    let found = anomaly::take();
    match (result, found) {
        (Ok(_), Some(e)) => Err(e),
        (result, _) => result,
    }
}

/// [`run`] for what writes to tensors: never cut short by Ctrl-C, since half a write would remain.
pub(crate) fn write<T: Send, F: FnOnce() -> Result<T> + Send>(
    py: Python<'_>,
    work: usize,
    f: F,
) -> PyResult<T> {
    run_named(py, work, function_of::<F>, || {
        let _uninterrupted = parallel::Uninterrupted::enter();
        f()
    })
}

/// Runs something short that needs the GIL; panics become InternalError, as in [`run`].
pub(crate) fn short<T>(f: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let mut out = None;
    match guarded(|| {
        out = Some(f());
        Ok(())
    }) {
        Ok(()) => out.unwrap_or_else(|| Err(InternalError::new_err("no result"))),
        Err(e) => Err(InternalError::new_err(e.to_string())),
    }
}

/// The exception for an error of the core.
#[cold]
pub(crate) fn to_py(py: Python<'_>, e: Error) -> PyErr {
    let text = e.to_string();
    match e {
        Error::Shape(_) | Error::Value(_) => PyValueError::new_err(text),
        Error::Dtype(_) => PyTypeError::new_err(text),
        Error::Index(_) => PyIndexError::new_err(text),
        Error::Unsupported(_) => PyNotImplementedError::new_err(text),
        Error::Graph(_) => PyRuntimeError::new_err(text),
        Error::Memory(_) => PyMemoryError::new_err(text),
        Error::Interrupted => PENDING
            .take()
            .unwrap_or_else(|| PyKeyboardInterrupt::new_err(())),
        Error::Foreign(cause) => {
            if let Some(e) = cause.downcast_ref::<PyErr>() {
                e.clone_ref(py)
            } else if let Some(a) = cause.downcast_ref::<Anomaly>() {
                anomaly_error(py, a, text)
            } else {
                PyRuntimeError::new_err(text)
            }
        }
        _ => InternalError::new_err(text),
    }
}

#[cold]
fn anomaly_error(py: Python<'_>, a: &Anomaly, text: String) -> PyErr {
    let e = AnomalyError::new_err(text);
    let fill = || -> PyResult<()> {
        let v = e.value(py);
        let place = a.place.as_deref();
        let layer = place.and_then(|p| crate::functions::custom::place_object(py, p));
        v.setattr("op", a.op)?;
        v.setattr("phase", if a.backward { "backward" } else { "forward" })?;
        v.setattr("layer", layer.and_then(|p| p.getattr("layer").ok()))?;
        v.setattr("count", a.count)?;
        v.setattr("first", PyTuple::new(py, &a.first)?)?;
        v.setattr("shape", PyTuple::new(py, a.shape.iter())?)
    };
    fill().err().unwrap_or(e)
}

/// An exception of a Python callback on its way through the core.
pub(crate) fn foreign(e: PyErr) -> Error {
    Error::Foreign(Arc::new(e))
}
