//! The Python extension module `corten._core`: the only place that names pyo3.
