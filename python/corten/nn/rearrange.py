"""Layers that frame, rearrange and resize, and distances of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..checks import pair, whole
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "ConstantPad1d",
    "ConstantPad2d",
    "CosineSimilarity",
    "Fold",
    "PairwiseDistance",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "Unfold",
    "Upsample",
    "ZeroPad1d",
    "ZeroPad2d",
]


class _Pad(Module):
    """Elements around the last axes; the subclass says around how many, and which."""

    _axes: int
    _mode: Literal["constant", "reflect", "replicate", "circular"] = "constant"
    value: float = 0.0

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        name = f"[{type(self).__name__}] padding"
        if isinstance(padding, tuple | list):
            if len(padding) != 2 * self._axes:
                raise ValueError(f"{name} must be an int or {2 * self._axes}, got {padding!r}")
            self.padding = tuple(whole(name, width, -(2**62)) for width in padding)
        else:
            self.padding = (whole(name, padding, -(2**62)),) * (2 * self._axes)

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> x with its last axes enlarged."""
        return F.pad(x, self.padding, self._mode, self.value)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """A constant around the last axis: padding is one width for both sides or (left, right); negative crops.

    >>> import corten as ct
    >>> ct.nn.ConstantPad1d((1, 2), 9.0)(ct.zeros((1, 1))).tolist()
    [[9.0, 0.0, 9.0, 9.0]]
    """

    _axes = 1

    def __init__(self, padding: int | tuple[int, int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.padding}, value={self.value}"


class ConstantPad2d(_Pad):
    """A constant around the last two axes: one width, or (left, right, top, bottom); negative crops.

    >>> import corten as ct
    >>> ct.nn.ConstantPad2d((1, 0, 0, 1), 9.0)(ct.zeros((1, 1, 1))).tolist()
    [[[9.0, 0.0], [9.0, 9.0]]]
    """

    _axes = 2

    def __init__(self, padding: int | tuple[int, int, int, int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.padding}, value={self.value}"


class ZeroPad1d(_Pad):
    """Zeros around the last axis: padding is one width for both sides or (left, right).

    >>> import corten as ct
    >>> ct.nn.ZeroPad1d(1)(ct.ones((1, 1))).tolist()
    [[0.0, 1.0, 0.0]]
    """

    _axes = 1


class ZeroPad2d(_Pad):
    """Zeros around the last two axes: one width, or (left, right, top, bottom).

    >>> import corten as ct
    >>> ct.nn.ZeroPad2d(2)(ct.ones((1, 3, 8, 8))).shape
    (1, 3, 12, 12)
    """

    _axes = 2


class ReflectionPad1d(_Pad):
    """The last axis mirrored at its first and last element: one width for both sides or (left, right).

    >>> import corten as ct
    >>> ct.nn.ReflectionPad1d(2)(ct.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]]
    """

    _axes = 1
    _mode = "reflect"


class ReflectionPad2d(_Pad):
    """The last two axes mirrored at their first and last elements: one width, or (left, right, top, bottom).

    >>> import corten as ct
    >>> ct.nn.ReflectionPad2d(2)(ct.ones((1, 3, 8, 8))).shape
    (1, 3, 12, 12)
    """

    _axes = 2
    _mode = "reflect"


class ReplicationPad1d(_Pad):
    """The first and last elements of the last axis repeated: one width for both sides or (left, right).

    >>> import corten as ct
    >>> ct.nn.ReplicationPad1d((0, 2))(ct.tensor([[1.0, 2.0]])).tolist()
    [[1.0, 2.0, 2.0, 2.0]]
    """

    _axes = 1
    _mode = "replicate"


class ReplicationPad2d(_Pad):
    """The edges of the last two axes repeated: one width, or (left, right, top, bottom).

    >>> import corten as ct
    >>> ct.nn.ReplicationPad2d(2)(ct.ones((1, 3, 8, 8))).shape
    (1, 3, 12, 12)
    """

    _axes = 2
    _mode = "replicate"


class CircularPad1d(_Pad):
    """The last axis continued from its other end: one width for both sides or (left, right).

    >>> import corten as ct
    >>> ct.nn.CircularPad1d(1)(ct.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[3.0, 1.0, 2.0, 3.0, 1.0]]
    """

    _axes = 1
    _mode = "circular"


class CircularPad2d(_Pad):
    """The last two axes continued from their other ends: one width, or (left, right, top, bottom).

    >>> import corten as ct
    >>> ct.nn.CircularPad2d(2)(ct.ones((1, 3, 8, 8))).shape
    (1, 3, 12, 12)
    """

    _axes = 2
    _mode = "circular"


class PixelShuffle(Module):
    """Channels into pixels: x (*, C r^2, H, W) -> y (*, C, H r, W r). See `corten.nn.functional.pixel_shuffle`.

    >>> import corten as ct
    >>> ct.nn.PixelShuffle(2)(ct.zeros((1, 8, 3, 3))).shape
    (1, 2, 6, 6)
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = whole("[PixelShuffle] upscale_factor", upscale_factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (*, C r^2, H, W) -> (*, C, H r, W r)."""
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Pixels into channels: x (*, C, H r, W r) -> y (*, C r^2, H, W), the inverse of `PixelShuffle`.

    >>> import corten as ct
    >>> ct.nn.PixelUnshuffle(2)(ct.zeros((1, 2, 6, 6))).shape
    (1, 8, 3, 3)
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = whole("[PixelUnshuffle] downscale_factor", downscale_factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (*, C, H r, W r) -> (*, C r^2, H, W)."""
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"downscale_factor={self.downscale_factor}"


class Upsample(Module):
    """Images or sequences resized: x (N, C, *) -> y (N, C, *). See `corten.nn.functional.interpolate`.

    Args:
        size: of the output, for all axes or one each.
        scale_factor: output size / input size; one of both is given.
        mode: "nearest", "nearest-exact", "linear" (sequences) or "bilinear" (images).
        align_corners: whether the first and last elements of both sides coincide ("linear" and "bilinear").

    >>> import corten as ct
    >>> ct.nn.Upsample(scale_factor=2)(ct.zeros((1, 3, 4, 5))).shape
    (1, 3, 8, 10)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: Literal["nearest", "nearest-exact", "linear", "bilinear"] = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError("[Upsample] needs either size or scale_factor")
        self.size = size
        self.scale_factor = scale_factor
        self.mode: Literal["nearest", "nearest-exact", "linear", "bilinear"] = mode
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *) -> (N, C, *)."""
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        size = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{size}, mode={self.mode!r}"


class Unfold(Module):
    """The patches of a window as columns: x (N, C, H, W) -> y (N, C kH kW, L). See `corten.nn.functional.unfold`.

    >>> import corten as ct
    >>> ct.nn.Unfold(3)(ct.zeros((1, 2, 4, 4))).shape
    (1, 18, 4)
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        stride: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        self.kernel_size = pair("[Unfold] kernel_size", kernel_size, 1)
        self.dilation = pair("[Unfold] dilation", dilation, 1)
        self.padding = pair("[Unfold] padding", padding)
        self.stride = pair("[Unfold] stride", stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C kH kW, L)."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Sums of patches: x (N, C kH kW, L) -> y (N, C, H, W), the transpose of `Unfold`.

    >>> import corten as ct
    >>> ct.nn.Fold(4, 3)(ct.zeros((1, 18, 4))).shape
    (1, 2, 4, 4)
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        kernel_size: int | tuple[int, int],
        dilation: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        stride: int | tuple[int, int] = 1,
    ) -> None:
        super().__init__()
        self.output_size = pair("[Fold] output_size", output_size, 1)
        self.kernel_size = pair("[Fold] kernel_size", kernel_size, 1)
        self.dilation = pair("[Fold] dilation", dilation, 1)
        self.padding = pair("[Fold] padding", padding)
        self.stride = pair("[Fold] stride", stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C kH kW, L) -> (N, C, H, W)."""
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )


class CosineSimilarity(Module):
    """The cosine of the angle between vectors: x1, x2 (*) -> (*) without `dim`.

    >>> import corten as ct
    >>> ct.nn.CosineSimilarity()(ct.tensor([[1.0, 0.0]]), ct.tensor([[0.0, 2.0]])).tolist()
    [0.0]
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """x1, x2 (*) -> (*) without `dim`."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"dim={self.dim}, eps={self.eps}"


class PairwiseDistance(Module):
    """`|x1 - x2 + eps|_p` along the last axis: x1, x2 (*, D) -> (*).

    >>> import corten as ct
    >>> round(ct.nn.PairwiseDistance()(ct.zeros((1, 2)), ct.tensor([[3.0, 4.0]])).item(), 4)
    5.0
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.p = p
        self.eps = eps
        self.keepdim = keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """x1, x2 (*, D) -> (*) or (*, 1)."""
        return F.pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"p={self.p}, eps={self.eps}"
