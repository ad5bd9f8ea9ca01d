//! Random state, threads, gradient mode, facts about the build; and what only tests call.

use corten_core::autograd;
use corten_core::ops;
use corten_core::storage;
use corten_kernels::{alloc, parallel, simd};
use corten_python_macros::pyfunction;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::Count;

/// Starts the random numbers anew: the same seed gives the same numbers, on any number of threads.
///
/// >>> import corten as ct
/// >>> ct.manual_seed(0)
/// >>> a = ct.rand(3)
/// >>> ct.manual_seed(0)
/// >>> bool((a == ct.rand(3)).all())
/// True
#[pyfunction]
fn manual_seed(seed: &Bound<'_, PyAny>) -> PyResult<()> {
    let seed = match seed.extract::<u64>() {
        Ok(seed) => seed,
        Err(_) => match seed.extract::<i64>() {
            Ok(seed) => seed as u64, // negative seeds are as good as others
            Err(_) => {
                return Err(PyTypeError::new_err(
                    "[manual_seed] the seed is an int of at most 64 bits",
                ));
            }
        },
    };
    ops::manual_seed(seed);
    Ok(())
}

/// The state of the random numbers: (seed, next stream).
#[pyfunction]
fn get_rng_state() -> (u64, u64) {
    ops::get_rng_state()
}

/// Restores what `get_rng_state` gave.
#[pyfunction]
fn set_rng_state(state: (u64, u64)) {
    ops::set_rng_state(state);
}

/// Sets the number of threads that operations use, the caller's included. Results do not depend on it.
#[pyfunction]
fn set_num_threads(n: Count) -> PyResult<()> {
    // The number is never clamped, so one that no machine could start is a mistake.
    if !(1..=1024).contains(&n.0) {
        return Err(PyValueError::new_err(format!(
            "[set_num_threads] takes at least one thread and at most 1024, got {}",
            n.0
        )));
    }
    parallel::set_num_threads(n.0);
    Ok(())
}

/// The number of threads that operations use, the caller's included.
#[pyfunction]
fn get_num_threads() -> usize {
    parallel::num_threads()
}

/// Whether operations are recorded on this thread.
#[pyfunction]
fn is_grad_enabled() -> bool {
    autograd::is_enabled()
}

/// Turns recording on or off on this thread; returns the previous mode.
#[pyfunction]
fn set_grad_enabled(mode: bool) -> bool {
    autograd::set_enabled(mode)
}

/// Facts about this build and machine: version, instruction set, threads, cores, features, allocator statistics.
///
/// >>> from corten import _core
/// >>> sorted(_core.info())
/// ['allocator', 'cores', 'devices', 'features', 'isa', 'isas', 'profile', 'threads', 'version']
#[pyfunction]
fn info(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let d = PyDict::new(py);
    d.set_item("version", env!("CARGO_PKG_VERSION"))?;
    d.set_item("isa", simd::isa().name())?;
    d.set_item(
        "isas",
        simd::available().map(|i| i.name()).collect::<Vec<_>>(),
    )?;
    d.set_item("threads", parallel::num_threads())?;
    d.set_item(
        "cores",
        std::thread::available_parallelism().map_or(1, usize::from),
    )?;
    d.set_item("devices", ["cpu", "reference"])?;
    d.set_item("features", Vec::<&str>::new())?;
    d.set_item(
        "profile",
        if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
    )?;
    let (used, cached, taken) = alloc::stats();
    let allocator = PyDict::new(py);
    allocator.set_item("bytes_in_use", used)?;
    allocator.set_item("bytes_cached", cached)?;
    allocator.set_item("taken_from_system", taken)?;
    allocator.set_item("heap_blocks", alloc::heap_blocks())?;
    d.set_item("allocator", allocator)?;
    Ok(d)
}

/// Names of all operations of this module that compute on tensors; each has a row in the tests' table.
#[pyfunction]
fn op_names() -> Vec<&'static str> {
    let mut names = super::op_names();
    names.sort_unstable();
    names
}

/// How many different threads have worked on operations since `reset_threads_worked`.
#[pyfunction]
fn threads_worked() -> usize {
    parallel::worked()
}

/// Starts the count of `threads_worked` anew.
#[pyfunction]
fn reset_threads_worked() {
    parallel::reset_worked();
}

/// How many copies writing to shared parameters has made so far; a normal training step makes none.
#[pyfunction]
fn parameter_copies() -> u64 {
    storage::copies()
}

/// Shares all work among all threads (True) or only what is large enough (False): for tests of determinism.
#[pyfunction]
fn _force_threads(on: bool) {
    parallel::set_serial_below(on.then_some(0.0));
}

functions!(
    _force_threads,
    get_num_threads,
    get_rng_state,
    info,
    is_grad_enabled,
    manual_seed,
    op_names,
    parameter_copies,
    reset_threads_worked,
    set_grad_enabled,
    set_num_threads,
    set_rng_state,
    threads_worked,
);
