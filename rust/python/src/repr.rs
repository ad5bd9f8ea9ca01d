//! `repr(tensor)`: NumPy's rendering of the elements, then what is not the default.

use corten_core::{DType, Device, ops};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::numpy;
use crate::export;
use crate::seam;
use crate::tensor::PyTensor;

/// `tensor([[1., 2.], [3., 4.]], requires_grad=True)`, long tensors summarised as by NumPy (and its print options).
pub(crate) fn render(slf: &Bound<'_, PyTensor>) -> PyResult<String> {
    let py = slf.py();
    let t = &slf.get().tensor;
    let options = PyDict::new(py);
    let mut shown = t.detach();
    if t.dtype() == DType::BF16 {
        // NumPy has no such numbers, and would show more digits than they have.
        shown = seam::run(py, t.numel(), || ops::astype(&shown, DType::F32))?;
        let print = numpy(py)?.call_method0("get_printoptions")?;
        let digits: usize = print.get_item("precision")?.extract()?;
        options.set_item("precision", digits.min(4))?;
    }
    let array = export::to_numpy(&Bound::new(py, PyTensor::new(shown))?)?;
    options.set_item("separator", ", ")?;
    options.set_item("prefix", "tensor(")?;
    let body: String = if t.numel() == 0 {
        "[]".to_owned()
    } else {
        numpy(py)?
            .getattr("array2string")?
            .call((array,), Some(&options))?
            .extract()?
    };
    let mut out = format!("tensor({body}");
    if t.numel() == 0 && t.ndim() != 1 {
        out.push_str(&format!(", shape={}", t.shape()));
    }
    // float32, int64 and bool are what such literals would make again.
    if !matches!(t.dtype(), DType::F32 | DType::I64 | DType::Bool)
        || (t.numel() == 0 && t.dtype() != DType::F32)
    {
        out.push_str(&format!(", dtype={}", t.dtype()));
    }
    if t.device() != Device::Cpu {
        out.push_str(&format!(", device='{}'", t.device()));
    }
    if let Some(name) = t.grad_fn() {
        out.push_str(&format!(", grad_fn={name}"));
    } else if t.requires_grad() {
        out.push_str(", requires_grad=True");
    }
    out.push(')');
    Ok(out)
}
