"""Pooling by the largest element of evenly spread windows, by power means, and over whole images."""

from __future__ import annotations

from ..checks import at_least, is_tensor, pair, whole
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "GlobalAvgPool1d",
    "GlobalAvgPool2d",
    "GlobalMaxPool1d",
    "GlobalMaxPool2d",
    "LPPool1d",
    "LPPool2d",
]


class AdaptiveMaxPool2d(Module):
    """The largest elements of evenly spread windows: x (N, C, H, W) -> y (N, C, OH, OW) with the size asked for.

    Args:
        output_size: OH = OW, or (OH, OW); None keeps the input's size.

    >>> import corten as ct
    >>> ct.nn.AdaptiveMaxPool2d((2, None))(ct.zeros((1, 6, 7, 5))).shape
    (1, 6, 2, 5)
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        super().__init__()
        sizes = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
        if len(sizes) != 2:
            raise ValueError(f"[AdaptiveMaxPool2d] output_size must be an int or two, got {output_size!r}")
        for size in sizes:
            if size is not None:
                whole("[AdaptiveMaxPool2d] output_size", size, 1)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, OH, OW)."""
        return F.adaptive_max_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(Module):
    """The largest elements of evenly spread windows: x (N, C, L) or (C, L) -> y (N, C, output_size), (C, output_size).

    >>> import corten as ct
    >>> ct.nn.AdaptiveMaxPool1d(2)(ct.zeros((1, 6, 7))).shape
    (1, 6, 2)
    """

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = whole("[AdaptiveMaxPool1d] output_size", output_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C, OL)."""
        return F.adaptive_max_pool1d(x, self.output_size)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"output_size={self.output_size}"


class LPPool2d(Module):
    """`(sum x^p)^(1/p)` of each window: x (N, C, H, W) -> y (N, C, OH, OW). See `corten.nn.functional.lp_pool2d`.

    Args:
        norm_type: p.
        kernel_size, stride: one number for both axes or (height, width); `stride` is `kernel_size` by default.
        ceil_mode: round the output size up instead of down.

    >>> import corten as ct
    >>> ct.nn.LPPool2d(2, (1, 2))(ct.tensor([[[[3.0, 4.0]]]])).tolist()
    [[[[5.0]]]]
    """

    def __init__(
        self,
        norm_type: float,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        at_least("[LPPool2d] norm_type", norm_type)
        pair("[LPPool2d] kernel_size", kernel_size, 1)
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        pair("[LPPool2d] stride", self.stride, 1)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, OH, OW)."""
        return F.lp_pool2d(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}"


class LPPool1d(Module):
    """`(sum x^p)^(1/p)` of each window: x (N, C, L) or (C, L) -> y (N, C, OL) or (C, OL). See `LPPool2d`.

    >>> import corten as ct
    >>> ct.nn.LPPool1d(2, 2)(ct.tensor([[3.0, 4.0]])).tolist()
    [[5.0]]
    """

    def __init__(self, norm_type: float, kernel_size: int, stride: int | None = None, ceil_mode: bool = False) -> None:
        super().__init__()
        at_least("[LPPool1d] norm_type", norm_type)
        self.norm_type = norm_type
        self.kernel_size = whole("[LPPool1d] kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else whole("[LPPool1d] stride", stride, 1)
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C, OL)."""
        return F.lp_pool1d(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}"


class _Global(Module):
    """What pooling over everything behind the channels shares."""

    _axes: tuple[int, ...]
    _shape: str

    def __init__(self, keepdims: bool = False) -> None:
        super().__init__()
        self.keepdims = keepdims

    def _check(self, x: Tensor) -> Tensor:
        is_tensor(f"[{type(self).__name__}] x", x)
        if x.ndim != 2 + len(self._axes):
            raise ValueError(f"[{type(self).__name__}] expects {self._shape}, got shape {x.shape}")
        return x

    def extra_repr(self) -> str:
        """What the layer was made with; the default is left out."""
        return f"keepdims={self.keepdims}" if self.keepdims else ""


class GlobalAvgPool2d(_Global):
    """The mean of each channel: x (N, C, H, W) -> y (N, C), or (N, C, 1, 1) with `keepdims` (as Keras has it).

    >>> import corten as ct
    >>> ct.nn.GlobalAvgPool2d()(ct.zeros((2, 6, 7, 5))).shape
    (2, 6)
    """

    _axes = (-2, -1)
    _shape = "(N, C, H, W)"

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C)."""
        return self._check(x).mean(self._axes, self.keepdims)


class GlobalMaxPool2d(_Global):
    """The maximum of each channel: x (N, C, H, W) -> y (N, C), or (N, C, 1, 1) with `keepdims` (as Keras has it).

    >>> import corten as ct
    >>> ct.nn.GlobalMaxPool2d()(ct.zeros((2, 6, 7, 5))).shape
    (2, 6)
    """

    _axes = (-2, -1)
    _shape = "(N, C, H, W)"

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C)."""
        return self._check(x).max(self._axes, self.keepdims)


class GlobalAvgPool1d(_Global):
    """The mean of each channel: x (N, C, L) -> y (N, C), or (N, C, 1) with `keepdims` (as Keras has it).

    >>> import corten as ct
    >>> ct.nn.GlobalAvgPool1d()(ct.zeros((2, 6, 7))).shape
    (2, 6)
    """

    _axes = (-1,)
    _shape = "(N, C, L)"

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C)."""
        return self._check(x).mean(self._axes, self.keepdims)


class GlobalMaxPool1d(_Global):
    """The largest element of each channel: x (N, C, L) -> y (N, C), or (N, C, 1) with `keepdims` (as Keras has it).

    >>> import corten as ct
    >>> ct.nn.GlobalMaxPool1d()(ct.zeros((2, 6, 7))).shape
    (2, 6)
    """

    _axes = (-1,)
    _shape = "(N, C, L)"

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C)."""
        return self._check(x).max(self._axes, self.keepdims)
