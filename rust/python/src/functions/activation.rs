//! Activations that the core composes of other operations.

use corten_core::ops;
use corten_python_macros::pyfunction;
use pyo3::prelude::*;

use crate::convert::Arg;
use crate::seam::run;
use crate::tensor::PyTensor;

/// A function `name(x, numbers...)`; the numbers may have defaults, which the text of the signature shows (a macro's literal is
/// opaque to pyo3).
macro_rules! activations {
    ($($(#[doc = $doc:literal])* $name:ident $text:tt ($($arg:ident $(= $default:literal)?),*);)*) => {
        $(
            $(#[doc = $doc])*
            #[pyfunction]
            #[pyo3(signature = (x, $($arg $(= $default)?),*), text_signature = $text)]
            fn $name(py: Python<'_>, x: Arg<'_>, $($arg: f64),*) -> PyResult<PyTensor> {
                run(py, x.0.numel(), || ops::$name(x.0, $($arg),*)).map(PyTensor::new)
            }
        )*
    };
}
activations! {
    /// `x` where `x > 0`, else `negative_slope x`, element by element. Gradient: 1, or the slope where `x <= 0`.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.leaky_relu(ct.tensor([-2.0, 4.0]), 0.5).tolist()
    /// [-1.0, 4.0]
    leaky_relu "(x, negative_slope=0.01)" (negative_slope = 0.01);
    /// `x` where `x > 0`, else `alpha (e^x - 1)`, element by element, without overflow.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.elu(ct.tensor([0.0, 4.0])).tolist()
    /// [0.0, 4.0]
    elu "(x, alpha=1.0)" (alpha = 1.0);
    /// `x` where `x > 0`, else `alpha (e^(x / alpha) - 1)`, element by element; the slope is continuous for every `alpha >
    /// 0`.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.celu(ct.tensor([0.0, 4.0])).tolist()
    /// [0.0, 4.0]
    celu "(x, alpha=1.0)" (alpha = 1.0);
    /// `scale * elu(x, alpha)`, with the two constants (1.0507 and 1.6733) that keep mean 0 and variance 1 from layer to
    /// layer.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.selu(ct.tensor([0.0])).tolist()
    /// [0.0]
    selu "(x)" ();
    /// `x tanh(log(1 + e^x))`, element by element.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.mish(ct.tensor([0.0])).tolist()
    /// [0.0]
    mish "(x)" ();
    /// `min(max(x, min_val), max_val)`, element by element. Gradient: 1 between the bounds, 0 outside.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.hardtanh(ct.tensor([-2.0, 0.5])).tolist()
    /// [-1.0, 0.5]
    hardtanh "(x, min_val=-1.0, max_val=1.0)" (min_val = -1.0, max_val = 1.0);
    /// `min(max(x, 0), 6)`, element by element.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.relu6(ct.tensor([-1.0, 7.0])).tolist()
    /// [0.0, 6.0]
    relu6 "(x)" ();
    /// `x / (1 + |x|)`, element by element.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.softsign(ct.tensor([-1.0, 3.0])).tolist()
    /// [-0.5, 0.75]
    softsign "(x)" ();
    /// `min(max(x + 3, 0), 6) / 6`, element by element: the sigmoid in three straight pieces.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.hardsigmoid(ct.tensor([-4.0, 0.0])).tolist()
    /// [0.0, 0.5]
    hardsigmoid "(x)" ();
    /// `x min(max(x + 3, 0), 6) / 6`, element by element: `silu` with the hard sigmoid.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.hardswish(ct.tensor([0.0, 4.0])).tolist()
    /// [0.0, 4.0]
    hardswish "(x)" ();
    /// `log(1 / (1 + e^-x))`, element by element, without overflow. Gradient: `sigmoid(-x)`.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.logsigmoid(ct.tensor([-1000.0])).tolist()
    /// [-1000.0]
    logsigmoid "(x)" ();
    /// `x - tanh(x)`, element by element.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.tanhshrink(ct.tensor([0.0])).tolist()
    /// [0.0]
    tanhshrink "(x)" ();
    /// `x` moved towards 0 by `lambd`, element by element, and 0 where `|x| <= lambd`.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.softshrink(ct.tensor([-1.0, 0.25])).tolist()
    /// [-0.5, 0.0]
    softshrink "(x, lambd=0.5)" (lambd = 0.5);
    /// `x` where `|x| > lambd`, else 0, element by element.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.hardshrink(ct.tensor([-1.0, 0.25])).tolist()
    /// [-1.0, 0.0]
    hardshrink "(x, lambd=0.5)" (lambd = 0.5);
    /// `x` where `x > threshold`, else `value`, element by element.
    ///
    /// >>> import corten as ct
    /// >>> ct.nn.functional.threshold(ct.tensor([1.0, 3.0]), 2.0, -1.0).tolist()
    /// [-1.0, 3.0]
    threshold "(x, threshold, value)" (threshold, value);
}

/// `max(x, 0) + weight min(x, 0)`: a leaky ReLU whose slope is learnt.
///
/// `x (N, C, *)` with `weight (C,)`, one slope per channel, or any `x` with `weight (1,)`.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.prelu(ct.tensor([-2.0, 4.0]), ct.tensor([0.25])).tolist()
/// [-0.5, 4.0]
#[pyfunction]
fn prelu(py: Python<'_>, x: Arg<'_>, weight: Arg<'_>) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::prelu(x.0, weight.0)).map(PyTensor::new)
}

/// Gated linear unit: `a sigmoid(b)`, `a` and `b` being the halves of `x` along `axis`, whose size must be even.
///
/// >>> import corten as ct
/// >>> ct.nn.functional.glu(ct.tensor([4.0, 0.0])).tolist()
/// [2.0]
#[pyfunction]
#[pyo3(signature = (x, axis = -1), text_signature = "(x, axis=-1)")]
fn glu(py: Python<'_>, x: Arg<'_>, axis: isize) -> PyResult<PyTensor> {
    run(py, x.0.numel(), || ops::glu(x.0, axis)).map(PyTensor::new)
}

/// Python names of this family's operations.
pub(super) const NAMES: &[&str] = &[
    "celu",
    "elu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
];
functions!(
    celu,
    elu,
    glu,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    logsigmoid,
    mish,
    prelu,
    relu6,
    selu,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
);
