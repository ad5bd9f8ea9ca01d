"""Layers over sequences: embeddings, and convolution and pooling along one axis (by their two-dimensional kernels)."""

from __future__ import annotations

from typing import Literal

from ... import _core
from ..._core import Tensor
from .common import Activation, check_dtype

__all__ = ["adaptive_avg_pool1d", "avg_pool1d", "conv1d", "embedding", "max_pool1d"]


def _as_image(op: str, input: Tensor) -> Tensor:
    """(N, C, L) as (N, C, 1, L), (C, L) as (C, 1, L)."""
    if input.ndim not in (2, 3):
        raise ValueError(f"[{op}] input must be (N, C, L) or (C, L), got {input.shape}")
    return _core.expand_dims(input, -2)


def _check_number(op: str, name: str, value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"[{op}] {name} must be an int, got {type(value).__name__}")


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """Rows of a table: `y[..., :] = weight[input[...]]`. A row's gradient is the sum over all places that chose it.

    Args:
        input: row numbers (*), any integer dtype; negative ones count from the end.
        weight: the table (rows, features).
        padding_idx: a row that gets no gradient, or None.

    Returns:
        (*, features).

    Raises:
        IndexError: a row number, or padding_idx, is out of range.
        ValueError: the table is not a matrix.
        TypeError: the input does not hold integers.

    >>> import corten as ct
    >>> ct.nn.functional.embedding(ct.tensor([1, 0]), ct.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[3.0, 4.0], [1.0, 2.0]]
    """
    if weight.ndim != 2:
        raise ValueError(f"[embedding] weight must be (rows, features), got {weight.shape}")
    y = _core.take_rows(weight, input)
    if padding_idx is None:
        return y
    rows = weight.shape[0]
    if not -rows <= padding_idx < rows:
        raise IndexError(f"[embedding] padding_idx {padding_idx} is out of range for {rows} rows")
    padding = padding_idx % rows
    padded = _core.logical_or(_core.equal(input, padding), _core.equal(input, padding - rows))
    return _core.where(_core.expand_dims(padded, -1), y.detach(), y)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int | Literal["valid", "same", "full"] = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
) -> Tensor:
    """One-dimensional cross-correlation: what deep learning calls convolution.

    `y[n, o, i] = b[o] + sum_{c, u} w[o, c, u] x[n, c, i s + u d - p]` with stride s, dilation d, padding p and zeros
    outside of the input.

    Args:
        input: (N, C, L) or (C, L).
        weight: (O, C / groups, K).
        bias: (O,) or None.
        stride: step of the window.
        padding: zeros on each side; "valid" is none, "same" keeps L (stride 1), "full" is the kernel's size less one.
        dilation: distance between the kernel's elements.
        groups: C and O are split into so many groups that do not see each other.
        activation: "none" or "relu", fused in.

    Returns:
        (N, O, OL) or (O, OL) with `OL = floor((L + 2 padding - dilation (K - 1) - 1) / stride) + 1`.

    Raises:
        ValueError: the sizes do not fit, or the kernel is larger than the padded input.
        TypeError: input and weight have different dtypes.

    >>> import corten as ct
    >>> ct.nn.functional.conv1d(ct.ones((1, 1, 4)), ct.ones((1, 1, 3))).tolist()
    [[[3.0, 3.0]]]
    """
    check_dtype("conv1d", input, weight)
    if weight.ndim != 3:
        raise ValueError(f"[conv1d] weight must be (O, C / groups, K), got {weight.shape}")
    for name, value in (("stride", stride), ("dilation", dilation)):
        _check_number("conv1d", name, value)
    if not isinstance(padding, str):
        _check_number("conv1d", "padding", padding)
    y = _core.conv2d(
        _as_image("conv1d", input),
        _core.expand_dims(weight, -2),
        bias,
        (1, stride),
        padding if isinstance(padding, str) else (0, padding),
        (1, dilation),
        groups,
        activation=activation,
    )
    return _core.squeeze(y, -2)


def max_pool1d(
    input: Tensor,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window; padding counts as minus infinity.

    Args:
        input: (N, C, L) or (C, L).
        kernel_size: size of the window.
        stride: step of the window; None means `kernel_size`.
        padding: at most half of the kernel.
        dilation: distance between the elements of a window.
        ceil_mode: round the output size up instead of down.

    Returns:
        (N, C, OL) or (C, OL). The gradient goes to the first of several equal maxima.

    >>> import corten as ct
    >>> ct.nn.functional.max_pool1d(ct.tensor([[1.0, 3.0, 2.0, 0.0]]), 2).tolist()
    [[3.0, 2.0]]
    """
    step = None if stride is None else (1, stride)
    image = _as_image("max_pool1d", input)
    return _core.squeeze(_core.max_pool2d(image, (1, kernel_size), step, (0, padding), (1, dilation), ceil_mode), -2)


def avg_pool1d(
    input: Tensor,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window.

    Args:
        input: (N, C, L) or (C, L).
        kernel_size: size of the window.
        stride: step of the window; None means `kernel_size`.
        padding: zeros on each side, at most half of the kernel.
        ceil_mode: round the output size up instead of down.
        count_include_pad: count the padding's zeros in the mean.

    Returns:
        (N, C, OL) or (C, OL).

    >>> import corten as ct
    >>> ct.nn.functional.avg_pool1d(ct.tensor([[1.0, 3.0, 2.0, 0.0]]), 2).tolist()
    [[2.0, 1.0]]
    """
    step = None if stride is None else (1, stride)
    image = _as_image("avg_pool1d", input)
    return _core.squeeze(
        _core.avg_pool2d(image, (1, kernel_size), step, (0, padding), ceil_mode, count_include_pad), -2
    )


def adaptive_avg_pool1d(input: Tensor, output_size: int) -> Tensor:
    """The means of windows that are spread evenly, so that the output has the size asked for.

    Window i runs from `floor(i L / OL)` to `ceil((i + 1) L / OL)`.

    Args:
        input: (N, C, L) or (C, L).
        output_size: OL.

    Returns:
        (N, C, OL) or (C, OL).

    >>> import corten as ct
    >>> ct.nn.functional.adaptive_avg_pool1d(ct.tensor([[1.0, 3.0, 2.0]]), 1).tolist()
    [[2.0]]
    """
    return _core.squeeze(_core.adaptive_avg_pool2d(_as_image("adaptive_avg_pool1d", input), (1, output_size)), -2)
