"""Gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import _core
from ..checks import tensors
from ..functions import Tensor

__all__ = ["gradcheck", "gradgradcheck"]


def gradcheck(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> bool:
    """Compare the gradients of `fn` with central differences `(f(x + eps) - f(x - eps)) / (2 eps)`.

    Of outputs with many elements a sum with fixed irregular weights is checked, so that errors do not cancel.

    Args:
        fn: takes the inputs and returns one float64 tensor of any shape or several; deterministic.
        inputs: float64 tensors of any strides; those that require a gradient are checked, one element after another.
        eps: step of the differences.
        rtol, atol: a gradient g passes if `|g - n| <= atol + rtol |n|`, n being the difference.

    Returns:
        True.

    Raises:
        RuntimeError: a gradient is wrong. The message names the input, the index of the first wrong element, both
            values, what was allowed, the worst element, and the likely mistake (a sign, a factor, no gradient at all).
        ValueError: no input requires a gradient.
        TypeError: an input is not float64: float32 has too few digits for differences.

    >>> import corten as ct
    >>> x = ct.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    >>> ct.autograd.gradcheck(lambda x: (x * x).sum(), x)
    True
    """
    return _core.gradcheck(fn, _checked("gradcheck", fn, inputs), eps, rtol, atol)


def gradgradcheck(
    fn: Callable[..., Any],
    inputs: Tensor | Sequence[Tensor],
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> bool:
    """Compare the second derivatives of `fn` with central differences of its gradient.

    The gradient `g(x, v)`, where v are gradients of the outputs, is checked with respect to x and to v. Inputs 0, 1,
    ... of the message are those of `fn`, the ones after them are the v. Arguments and exceptions as of `gradcheck`,
    which should pass first: a wrong formula has a consistent derivative of its own.

    >>> import corten as ct
    >>> x = ct.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    >>> ct.autograd.gradgradcheck(lambda x: x * x * x, x)
    True
    """
    return _core.gradgradcheck(fn, _checked("gradgradcheck", fn, inputs), eps, rtol, atol)


def _checked(op: str, fn: object, inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    if not callable(fn):
        raise TypeError(f"[{op}] fn must be callable, which {type(fn).__name__} is not")
    given = tensors(f"[{op}] inputs", inputs)
    if not any(x.requires_grad for x in given):
        raise ValueError(f"[{op}] no input requires a gradient, so nothing would be checked: call requires_grad_()")
    return given
