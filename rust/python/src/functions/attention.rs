//! Attention.

use corten_core::Tensor;
use corten_core::ops::{self, Attend};
use corten_python_macros::pyfunction;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::convert::{Arg, type_name};
use crate::seam::run;
use crate::tensor::PyTensor;

/// Keys before and after a query that it sees: one number for both, or a pair of which None is all.
#[derive(Clone, Copy, Default)]
struct Window(Option<usize>, Option<usize>);

impl<'py> FromPyObject<'_, 'py> for Window {
    type Error = PyErr;
    fn extract(obj: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(n) = obj.extract::<usize>() {
            return Ok(Self(Some(n), Some(n)));
        }
        match obj.extract::<(Option<usize>, Option<usize>)>() {
            Ok((left, right)) => Ok(Self(left, right)),
            Err(_) => Err(PyTypeError::new_err(format!(
                "window is an int >= 0 or a pair (before, after) of ints or None, not {}",
                type_name(&obj)
            ))),
        }
    }
}

/// Kiloflops of a call, about: every query meets every key.
fn work(query: &Tensor, key: &Tensor) -> usize {
    let keys = key.shape().iter().rev().nth(1).copied().unwrap_or(1);
    (query.numel() / 256)
        .saturating_mul(keys)
        .max(query.numel())
}

/// `softmax(scale query key^T + mask) value` for every head, in memory linear in the lengths.
///
/// `query (.., H, L, E)`, `key (.., H, S, E)`, `value (.., H, S, Ev)`, result `(.., H, L, Ev)`; see
/// `corten.nn.functional.scaled_dot_product_attention` for the rest.
///
/// >>> import corten as ct
/// >>> x = ct.eye(2).reshape(1, 1, 2, 2)
/// >>> ct.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0, 0, 0].tolist()
/// [1.0, 0.0]
#[pyfunction]
#[pyo3(
    signature = (query, key, value, attn_mask = None, dropout_p = 0.0, is_causal = false, scale = None, enable_gqa = false,
                 lengths = None, window = None, offset = 0)
)]
fn scaled_dot_product_attention(
    py: Python<'_>,
    query: Arg<'_>,
    key: Arg<'_>,
    value: Arg<'_>,
    attn_mask: Option<Arg<'_>>,
    dropout_p: f64,
    is_causal: bool,
    scale: Option<f64>,
    enable_gqa: bool,
    lengths: Option<Arg<'_>>,
    window: Option<Window>,
    offset: isize,
) -> PyResult<PyTensor> {
    let window = window.unwrap_or_default();
    let attend = Attend {
        mask: attn_mask.map(|m| m.0),
        lengths: lengths.map(|l| l.0),
        dropout: dropout_p,
        causal: is_causal,
        scale,
        grouped: enable_gqa,
        window: (window.0, window.1),
        offset,
    };
    run(py, work(query.0, key.0), || {
        ops::scaled_dot_product_attention(query.0, key.0, value.0, &attend)
    })
    .map(PyTensor::new)
}

/// The weights of `scaled_dot_product_attention`, `(.., H, L, S)`; zeros for a query that sees no key.
///
/// >>> import corten as ct
/// >>> x = ct.ones((2, 3))
/// >>> ct.nn.functional.attention_weights(x, x).tolist()
/// [[0.5, 0.5], [0.5, 0.5]]
#[pyfunction]
#[pyo3(
    signature = (query, key, attn_mask = None, dropout_p = 0.0, is_causal = false, scale = None, enable_gqa = false,
                 lengths = None, window = None, offset = 0)
)]
fn attention_weights(
    py: Python<'_>,
    query: Arg<'_>,
    key: Arg<'_>,
    attn_mask: Option<Arg<'_>>,
    dropout_p: f64,
    is_causal: bool,
    scale: Option<f64>,
    enable_gqa: bool,
    lengths: Option<Arg<'_>>,
    window: Option<Window>,
    offset: isize,
) -> PyResult<PyTensor> {
    let window = window.unwrap_or_default();
    let attend = Attend {
        mask: attn_mask.map(|m| m.0),
        lengths: lengths.map(|l| l.0),
        dropout: dropout_p,
        causal: is_causal,
        scale,
        grouped: enable_gqa,
        window: (window.0, window.1),
        offset,
    };
    run(py, work(query.0, key.0), || {
        ops::attention_weights(query.0, key.0, &attend)
    })
    .map(PyTensor::new)
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &["attention_weights", "scaled_dot_product_attention"];
functions!(attention_weights, scaled_dot_product_attention);
