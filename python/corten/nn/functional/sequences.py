"""Layers over sequences: embeddings, and convolution and pooling along one axis (by their two-dimensional kernels)."""

from __future__ import annotations

from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import is_tensor
from .common import Activation, as_image, check_dtype

__all__ = ["adaptive_avg_pool1d", "avg_pool1d", "conv1d", "embedding", "max_pool1d"]


def _check_number(op: str, name: str, value: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"[{op}] {name} must be an int, got {type(value).__name__}")


def _renormalize(input: Tensor, weight: Tensor, max_norm: float, norm_type: float) -> None:
    """Shorten the rows that `input` names to a norm of at most `max_norm`, in place."""
    if not max_norm > 0:
        raise ValueError(f"[embedding] max_norm must be positive, got {max_norm}")
    if not weight.is_leaf:
        raise ValueError("[embedding] max_norm writes to the table, which must be a leaf")
    numbers = _core.flatten(input.detach()).astype("int64")
    rows = _core.unique_values(_core.where(_core.less(numbers, 0), numbers + weight.shape[0], numbers))
    table = weight.detach()
    part = _core.take(table, rows, 0)
    del table  # so that the write below finds the memory unshared
    norms = _core.norm(part, norm_type, 1, True)
    if _core.any(_core.greater(norms, max_norm)).item():
        shorter = _core.where(_core.greater(norms, max_norm), max_norm / (norms + 1e-7), 1.0)
        weight[rows] = part * shorter


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
) -> Tensor:
    """Rows of a table: `y[..., :] = weight[input[...]]`. A row's gradient is the sum over all places that chose it.

    Args:
        input: row numbers (*), any integer dtype; negative ones count from the end.
        weight: the table (rows, features).
        padding_idx: a row that gets no gradient, or None.
        max_norm: rows that are chosen and longer than this are first shortened to it, in the table itself; or None.
        norm_type: which norm `max_norm` is about, see `corten.norm`.

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
    is_tensor("[embedding] weight", weight)
    if weight.ndim != 2:
        raise ValueError(f"[embedding] weight must be (rows, features), got {weight.shape}")
    is_tensor("[embedding] input", input)
    if input.dtype.is_floating_point:
        raise TypeError(f"[embedding] input must be of integers, got {input.dtype.name} (use .astype('int64'))")
    if max_norm is not None:
        _renormalize(input, weight, max_norm, norm_type)
    try:
        y = _core.take_rows(weight, input)
    except IndexError as error:
        raise IndexError(str(error).replace("[take_rows]", "[embedding]")) from None
    if padding_idx is None:
        return y
    rows = weight.shape[0]
    if not isinstance(padding_idx, int):
        raise TypeError(f"[embedding] padding_idx must be an int or None, got {padding_idx!r}")
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
        as_image("conv1d", input),
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
    image = as_image("max_pool1d", input)
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
    image = as_image("avg_pool1d", input)
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
    return _core.squeeze(_core.adaptive_avg_pool2d(as_image("adaptive_avg_pool1d", input), (1, output_size)), -2)
