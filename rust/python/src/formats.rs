//! The headers of files: `corten_formats` for `corten.io` and `corten.datasets`, which add the file's name to what it says.

use corten_formats::{Damaged, idx, safetensors};
use corten_python_macros::pyfunction;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::seam::short;

fn damaged(e: Damaged) -> PyErr {
    PyValueError::new_err(e.to_string())
}

/// The length of the header, from the first eight bytes of a safetensors file of `size` bytes.
#[pyfunction]
fn safetensors_header_length(prefix: &[u8], size: u64) -> PyResult<u64> {
    short(|| safetensors::header_length(prefix, size).map_err(damaged))
}

/// The header of a safetensors file of `size` bytes: (name, the format's name of the dtype, shape, begin, end) of each
/// tensor in the order of their bytes, the metadata, and where the bytes start.
#[pyfunction]
fn safetensors_header<'py>(
    py: Python<'py>,
    header: &[u8],
    size: u64,
) -> PyResult<(Vec<Bound<'py, PyTuple>>, Bound<'py, PyDict>, u64)> {
    short(|| {
        let parsed = py.detach(|| safetensors::parse_header(header, size));
        let parsed = parsed.map_err(damaged)?;
        let entries = parsed.entries.into_iter().map(|e| {
            let shape = PyTuple::new(py, e.shape)?;
            (e.name, e.dtype.tag(), shape, e.begin, e.end).into_pyobject(py)
        });
        let entries = entries.collect::<PyResult<_>>()?;
        let metadata = PyDict::new(py);
        for (name, text) in parsed.metadata {
            metadata.set_item(name, text)?;
        }
        Ok((entries, metadata, parsed.data_start))
    })
}

/// The length of an IDX file's header, from its first four bytes.
#[pyfunction]
fn idx_header_length(magic: &[u8]) -> PyResult<usize> {
    short(|| idx::header_length(magic).map_err(damaged))
}

/// The header of an IDX file: NumPy's name of the dtype, shape, and the bytes that the elements take.
#[pyfunction]
fn idx_header<'py>(
    py: Python<'py>,
    header: &[u8],
) -> PyResult<(&'static str, Bound<'py, PyTuple>, u64)> {
    short(|| {
        let parsed = idx::parse_header(header).map_err(damaged)?;
        let shape = PyTuple::new(py, parsed.shape)?;
        Ok((parsed.element.name(), shape, parsed.bytes))
    })
}

/// The CRC-32 of zlib, several times as fast. `start` is the checksum of what came before `data`.
#[pyfunction]
#[pyo3(signature = (data, start = 0))]
fn crc32(py: Python<'_>, data: &[u8], start: u32) -> u32 {
    py.detach(|| corten_formats::crc32(data, start))
}

/// Adds these functions to the module.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(safetensors_header_length, m)?)?;
    m.add_function(wrap_pyfunction!(safetensors_header, m)?)?;
    m.add_function(wrap_pyfunction!(idx_header_length, m)?)?;
    m.add_function(wrap_pyfunction!(idx_header, m)?)?;
    m.add_function(wrap_pyfunction!(crc32, m)?)
}
