//! Checks and small building blocks that the neural-network operations share.
use super::shape::reshape_to;
use crate::autograd::{record, vjp};
use crate::backend::{Unary, dispatch};
use crate::error::{Error, Result};
use crate::shape::Shape;
use crate::tensor::{Tensor, check_device};

/// `mul * x + add` of a floating-point tensor, in one pass.
pub(super) fn affine(x: &Tensor, mul: f64, add: f64) -> Result<Tensor> {
    let y = dispatch(x.device()).unary(Unary::Affine { mul, add }, &x.value())?;
    Ok(record("affine", &[x], y, |_| {
        vjp(move |_, g, _| Ok(vec![Some(affine(g, mul, 0.0)?)]))
    }))
}

/// The same elements in C order as `shape`, whose number of elements is known to be right.
pub(super) fn shaped(x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    reshape_to("reshape", x, Shape::from_slice(shape))
}

/// Raises unless the number that normalisation adds to a variance is one that keeps its root real.
pub(super) fn check_eps(op: &'static str, eps: f64) -> Result<()> {
    if eps >= 0.0 && eps.is_finite() {
        return Ok(());
    }
    let text = format!("eps must be a finite number >= 0, not {eps}");
    Err(Error::value(op, text))
}

/// At the head of an operation composed of others, `rounded_once!(x, y => op(x, y, ..))`: when the tensors named are all of one 16-bit
/// type, returns the operation's result in float32, rounded once. Otherwise every step would round, and a sum could leave the
/// range of float16 before it is divided.
macro_rules! rounded_once {
    ($x:ident $(, $y:ident)* => $call:expr) => {
        let dtype = $x.dtype();
        if dtype.is_half() $(&& $y.dtype() == dtype)* {
            let $x = &$crate::ops::astype($x, dtype.arithmetic())?;
            $(let $y = &$crate::ops::astype($y, dtype.arithmetic())?;)*
            return $crate::ops::astype(&$call?, dtype);
        }
    };
}
pub(super) use rounded_once;

/// Raises unless `x` (called `name` in the text) is floating-point.
pub(super) fn check_float(op: &'static str, name: &str, x: &Tensor) -> Result<()> {
    if x.dtype().is_float() {
        return Ok(());
    }
    Err(Error::dtype(
        op,
        format!(
            "{name} must be floating-point, got {} (cast with .astype('float32'))",
            x.dtype()
        ),
    ))
}

/// Raises unless `x` is floating-point and the others have its dtype and its device.
pub(super) fn check_same_kind(
    op: &'static str,
    (x_name, x): (&str, &Tensor),
    others: &[(&str, Option<&Tensor>)],
) -> Result<()> {
    check_float(op, x_name, x)?;
    for &(name, other) in others {
        let Some(other) = other else { continue };
        if other.dtype() != x.dtype() {
            return Err(Error::dtype(
                op,
                format!(
                    "{x_name} is {} but {name} is {} (cast one of them: .astype('{}'))",
                    x.dtype(),
                    other.dtype(),
                    other.dtype().promote(x.dtype())
                ),
            ));
        }
        check_device(op, x, other)?;
    }
    Ok(())
}

/// How a loss per element or row becomes the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// The mean over all rows.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// All of them.
    None,
}

impl Reduction {
    /// The reduction called `name`: "mean", "sum" or "none".
    pub fn from_name(op: &'static str, name: &str) -> Result<Self> {
        match name {
            "mean" => Ok(Self::Mean),
            "sum" => Ok(Self::Sum),
            "none" => Ok(Self::None),
            _ => Err(Error::value(
                op,
                format!("reduction must be 'mean', 'sum' or 'none', got '{name}'"),
            )),
        }
    }
}

/// What a fused layer applies last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// `max(y, 0)`.
    Relu,
}

impl Activation {
    /// The activation called `name`: "none" or "relu".
    pub fn from_name(op: &'static str, name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "relu" => Ok(Self::Relu),
            _ => Err(Error::value(
                op,
                format!("activation must be 'none' or 'relu', got '{name}'"),
            )),
        }
    }
    /// The kernels' name of it.
    pub(super) fn kernel(self) -> corten_kernels::gemm::Activation {
        match self {
            Self::None => corten_kernels::gemm::Activation::None,
            Self::Relu => corten_kernels::gemm::Activation::Relu,
        }
    }
}
