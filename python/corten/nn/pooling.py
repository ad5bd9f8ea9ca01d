"""Pooling layers."""

from __future__ import annotations

from typing import Any

from ..checks import pair, whole
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"]


def _check(layer: str, kernel_size: Any, stride: Any, padding: Any) -> None:
    """Raise for a window that no input fits, when the layer is made and not at the first batch."""
    kernel = pair(f"[{layer}] kernel_size", kernel_size, 1)
    if stride is not None:
        pair(f"[{layer}] stride", stride, 1)
    if any(p > k // 2 for p, k in zip(pair(f"[{layer}] padding", padding), kernel, strict=True)):
        raise ValueError(f"[{layer}] padding must be at most half the kernel, got {padding} for {kernel_size}")


class MaxPool2d(Module):
    """The largest element of each window: x (N, C, H, W) -> y (N, C, OH, OW).

    See `corten.nn.functional.max_pool2d` for the arguments; `stride` is `kernel_size` by default.

    >>> import corten as ct
    >>> ct.nn.MaxPool2d(2)(ct.zeros((1, 6, 24, 24))).shape
    (1, 6, 12, 12)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        _check(type(self).__name__, kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        pair("[MaxPool2d] dilation", dilation, 1)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, OH, OW)."""
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window: x (N, C, H, W) -> y (N, C, OH, OW).

    See `corten.nn.functional.avg_pool2d` for the arguments; `stride` is `kernel_size` by default.

    >>> import corten as ct
    >>> ct.nn.AvgPool2d(3, stride=2, padding=1)(ct.zeros((1, 6, 24, 24))).shape
    (1, 6, 12, 12)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        _check(type(self).__name__, kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, OH, OW)."""
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """The means of evenly spread windows: x (N, C, H, W) -> y (N, C, OH, OW) with the size asked for.

    Args:
        output_size: OH = OW, or (OH, OW); None keeps the input's size.

    >>> import corten as ct
    >>> ct.nn.AdaptiveAvgPool2d((2, None))(ct.zeros((1, 6, 7, 5))).shape
    (1, 6, 2, 5)
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        super().__init__()
        for size in output_size if isinstance(output_size, tuple | list) else (output_size,):
            if size is not None:
                whole("[AdaptiveAvgPool2d] output_size", size, 1)
        if isinstance(output_size, tuple | list) and len(output_size) != 2:
            raise ValueError(f"[AdaptiveAvgPool2d] output_size must be an int or two, got {output_size!r}")
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, OH, OW)."""
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"output_size={self.output_size}"
