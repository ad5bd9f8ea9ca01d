"""Pooling by the largest element of evenly spread windows, and by power means."""

from __future__ import annotations

from ... import _core
from ..._core import Tensor
from .common import Pair, as_image

__all__ = ["adaptive_max_pool1d", "adaptive_max_pool2d", "lp_pool1d", "lp_pool2d"]


def adaptive_max_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """The largest elements of windows that are spread evenly, so that the output has the size asked for.

    Window i of an axis of size S runs from `floor(i S / O)` to `ceil((i + 1) S / O)`.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: OH and OW; None keeps the input's size.

    Returns:
        (N, C, OH, OW) or (C, OH, OW). The gradient goes to the first of several equal maxima.

    >>> import corten as ct
    >>> ct.nn.functional.adaptive_max_pool2d(ct.arange(6, dtype="float32").reshape(1, 2, 3), (1, 2)).tolist()
    [[[4.0, 5.0]]]
    """
    return _core.adaptive_max_pool2d(input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: int) -> Tensor:
    """The largest elements of windows that are spread evenly, as `adaptive_max_pool2d` along one axis.

    Args:
        input: (N, C, L) or (C, L).
        output_size: OL.

    Returns:
        (N, C, OL) or (C, OL).

    >>> import corten as ct
    >>> ct.nn.functional.adaptive_max_pool1d(ct.tensor([[1.0, 3.0, 2.0]]), 2).tolist()
    [[3.0, 3.0]]
    """
    image = as_image("adaptive_max_pool1d", input)
    return _core.squeeze(_core.adaptive_max_pool2d(image, (1, output_size)), -2)


def _power_mean(op: str, norm_type: float, y: Tensor, taps: int) -> Tensor:
    if not norm_type > 0:
        raise ValueError(f"[{op}] norm_type must be positive, got {norm_type}")
    return _core.pow(y * taps, 1.0 / norm_type)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Pair, stride: Pair | None = None, ceil_mode: bool = False
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window: the sum for p = 1, near the maximum for large p.

    Args:
        input: (N, C, H, W) or (C, H, W).
        norm_type: p.
        kernel_size: size of the window, for both axes or (height, width).
        stride: step of the window; None means `kernel_size`.
        ceil_mode: round the output size up instead of down.

    Returns:
        (N, C, OH, OW) or (C, OH, OW).

    Raises:
        ValueError: p is not positive, or the window does not fit.

    >>> import corten as ct
    >>> ct.nn.functional.lp_pool2d(ct.tensor([[[3.0, 4.0]]]), 2, (1, 2)).tolist()
    [[[5.0]]]
    """
    y = _core.avg_pool2d(_core.pow(input, norm_type), kernel_size, stride, 0, ceil_mode)
    taps = kernel_size**2 if isinstance(kernel_size, int) else kernel_size[0] * kernel_size[1]
    return _power_mean("lp_pool2d", norm_type, y, taps)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: int, stride: int | None = None, ceil_mode: bool = False
) -> Tensor:
    """`(sum x^p)^(1/p)` of each window, as `lp_pool2d` along one axis.

    Args:
        input: (N, C, L) or (C, L).
        norm_type: p.
        kernel_size: size of the window.
        stride: step of the window; None means `kernel_size`.
        ceil_mode: round the output size up instead of down.

    Returns:
        (N, C, OL) or (C, OL).

    >>> import corten as ct
    >>> ct.nn.functional.lp_pool1d(ct.tensor([[3.0, 4.0]]), 2, 2).tolist()
    [[5.0]]
    """
    image = _core.pow(as_image("lp_pool1d", input), norm_type)
    step = None if stride is None else (1, stride)
    y = _core.avg_pool2d(image, (1, kernel_size), step, 0, ceil_mode)
    return _core.squeeze(_power_mean("lp_pool1d", norm_type, y, kernel_size), -2)
