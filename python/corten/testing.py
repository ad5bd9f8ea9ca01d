"""Helpers for tests: compare tensors, check gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._core import Tensor
from .autograd import gradcheck, gradgradcheck
from .functions import to_array

__all__ = ["assert_close", "gradcheck", "gradgradcheck"]

# Relative and absolute tolerance by dtype: about a hundred roundings of a number near 1; in 16 bits, where a result is
# rounded once, about two.
_TOLERANCES = {
    "float64": (1e-12, 1e-13),
    "float32": (1.3e-5, 1e-6),
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
}


def assert_close(
    actual: Any, expected: Any, *, rtol: float | None = None, atol: float | None = None, check_dtype: bool = True
) -> None:
    """Raise AssertionError unless `|actual - expected| <= atol + rtol |expected|`, with equal shapes and dtypes.

    Args:
        actual: a tensor or an array.
        expected: a tensor, an array or numbers; Python numbers have no dtype to compare.
        rtol, atol: tolerances; by default those of the actual dtype: (1.3e-5, 1e-6) for float32, (1e-12, 1e-13) for
            float64, (1e-3, 1e-5) for float16, (1.6e-2, 1e-5) for bfloat16, equality for all others. NaN equals NaN.
        check_dtype: compare dtypes too.

    >>> import corten as ct
    >>> ct.testing.assert_close(ct.exp(ct.tensor([0.0, 1.0])), [1.0, 2.7182818])
    """
    got, want = to_array(actual), to_array(expected)
    got_dtype, want_dtype = (getattr(x, "dtype", y.dtype).name for x, y in ((actual, got), (expected, want)))
    if got.shape != want.shape:
        raise AssertionError(f"shapes differ: {got.shape} is not {want.shape}")
    typed = isinstance(expected, Tensor | np.ndarray | np.generic)
    if check_dtype and typed and got_dtype != want_dtype:
        raise AssertionError(f"dtypes differ: {got_dtype} is not {want_dtype}")
    default_rtol, default_atol = _TOLERANCES.get(got_dtype, (0.0, 0.0))
    np.testing.assert_allclose(
        got, want, rtol=default_rtol if rtol is None else rtol, atol=default_atol if atol is None else atol
    )
