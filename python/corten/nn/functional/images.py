"""Rearranging and resizing images and sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import at_least, is_tensor, whole
from .common import Pair

__all__ = ["fold", "interpolate", "pixel_shuffle", "pixel_unshuffle"]

Mode = Literal["nearest", "nearest-exact", "linear", "bilinear"]


def fold(
    input: Tensor, output_size: Pair, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1
) -> Tensor:
    """Sums of patches, the transpose of `unfold`: each patch is added where `unfold` would have read it.

    Args:
        input: (N, C * kH * kW, L) with L the number of places of the window.
        output_size: H and W of the image.
        kernel_size: height and width of the window.
        dilation: distance of its elements.
        padding: zeros around the image, which are cut off.
        stride: distance of the windows.

    Returns:
        (N, C, H, W).

    Raises:
        ValueError: L is not the number of places, or kH * kW does not divide the rows.

    >>> import corten as ct
    >>> F = ct.nn.functional
    >>> F.fold(F.unfold(ct.ones((1, 1, 3, 3)), 2), 3, 2).tolist()
    [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    return _core.col2im(input, output_size, kernel_size, dilation, padding, stride)


def _check_factor(op: str, input: Tensor, factor: int) -> None:
    is_tensor(f"[{op}] input", input)
    if input.ndim < 3:
        raise ValueError(f"[{op}] input must be (*, C, H, W), got {input.shape}")
    whole(f"[{op}] the factor", factor, 1)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels into pixels: `y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w]` with the factor r.

    Args:
        input: (*, C r^2, H, W).
        upscale_factor: r.

    Returns:
        (*, C, H r, W r).

    Raises:
        ValueError: r^2 does not divide the channels.

    W. Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016, arXiv:1609.05158.

    >>> import corten as ct
    >>> ct.nn.functional.pixel_shuffle(ct.tensor([[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]]), 2).tolist()
    [[[[1.0, 2.0], [3.0, 4.0]]]]
    """
    _check_factor("pixel_shuffle", input, upscale_factor)
    r = upscale_factor
    *lead, c, h, w = input.shape
    if c % r**2:
        raise ValueError(f"[pixel_shuffle] {r}^2 must divide the {c} channels of {input.shape}")
    n, out = math.prod(lead), c // r**2
    y = input.reshape(n, out, r, r, h, w).permute(0, 1, 4, 2, 5, 3)  # (n, C, H, r, W, r)
    return y.reshape(*lead, out, h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels into channels: the inverse of `pixel_shuffle`.

    Args:
        input: (*, C, H r, W r).
        downscale_factor: r.

    Returns:
        (*, C r^2, H, W).

    Raises:
        ValueError: r does not divide height and width.

    >>> import corten as ct
    >>> ct.nn.functional.pixel_unshuffle(ct.ones((1, 1, 4, 6)), 2).shape
    (1, 4, 2, 3)
    """
    _check_factor("pixel_unshuffle", input, downscale_factor)
    r = downscale_factor
    *lead, c, h, w = input.shape
    if h % r or w % r:
        raise ValueError(f"[pixel_unshuffle] {r} must divide height and width of {input.shape}")
    n = math.prod(lead)
    y = input.reshape(n, c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4)  # (n, C, r, r, H, W)
    return y.reshape(*lead, c * r**2, h // r, w // r)


def _per_axis(name: str, value: float | Sequence[float], axes: int) -> list[float]:
    values = list(value) if isinstance(value, Sequence) else [value] * axes
    if len(values) != axes:
        raise ValueError(f"[interpolate] {name} must be a number or {axes}, one per axis, got {value!r}")
    for each in values:
        at_least(f"[interpolate] {name}", each)
    return values


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: Mode = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """`input` resized along its axes behind N and C; `size` or `scale_factor` says to what.

    An output element i of an axis reads the input at `i s` ("nearest", rounded down), or at `(i + 0.5) s - 0.5`
    ("nearest-exact", rounded; "linear" and "bilinear", between the two neighbours by their distance; beyond the edge
    counts as the edge), with s = input size / output size. With `align_corners` the first and last elements of both
    sides coincide: `i (in - 1) / (out - 1)`.

    Args:
        input: (N, C, L) or (N, C, H, W).
        size: of the output, for all axes or one each.
        scale_factor: output size / input size, rounded down, for all axes or one each; s is then its inverse.
        mode: "nearest" or "nearest-exact"; "linear" for sequences, "bilinear" for images.
        align_corners: for "linear" and "bilinear" only.

    Returns:
        (N, C, OL) or (N, C, OH, OW).

    Raises:
        ValueError: a size of 0, both or neither of `size` and `scale_factor`, or a mode that does not fit the axes.

    >>> import corten as ct
    >>> ct.nn.functional.interpolate(ct.tensor([[[1.0, 3.0]]]), 4, mode="linear").tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    is_tensor("[interpolate] input", input)
    axes = input.ndim - 2
    if axes not in (1, 2):
        raise ValueError(f"[interpolate] input must be (N, C, L) or (N, C, H, W), got {input.shape}")
    if mode not in ("nearest", "nearest-exact", "linear", "bilinear"):
        raise ValueError(f"[interpolate] mode must be nearest, nearest-exact, linear or bilinear, got {mode!r}")
    smooth = {"linear": 1, "bilinear": 2}.get(mode)
    if smooth is not None and smooth != axes:
        raise ValueError(f"[interpolate] mode {mode!r} does not fit an input of shape {input.shape}")
    if align_corners is not None and smooth is None:
        raise ValueError(f"[interpolate] align_corners is for 'linear' and 'bilinear', not for {mode!r}")
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] needs either size or scale_factor")
    if 0 in input.shape[2:]:
        raise ValueError(f"[interpolate] cannot resize an empty axis: {input.shape}")
    if scale_factor is not None:
        factors = _per_axis("scale_factor", scale_factor, axes)
        if not all(0 < factor < math.inf for factor in factors):
            raise ValueError(f"[interpolate] scale_factor must be positive, got {scale_factor}")
        sizes = [math.floor(n * factor) for n, factor in zip(input.shape[2:], factors, strict=True)]
        steps = [1 / factor for factor in factors]
    else:
        sizes = [whole("[interpolate] size", m) for m in _per_axis("size", size or 0, axes)]
        steps = [n / max(m, 1) for n, m in zip(input.shape[2:], sizes, strict=True)]
    if any(m < 1 for m in sizes):
        raise ValueError(f"[interpolate] the output would be empty: {input.shape} to {tuple(sizes)}")
    if math.prod(sizes) > 2**48:
        raise MemoryError(f"[interpolate] no memory for an output of {tuple(sizes)}")
    for d in range(axes):
        input = _resize(input, 2 + d, sizes[d], steps[d], mode, bool(align_corners))
    return input


def _resize(x: Tensor, axis: int, m: int, step: float, mode: Mode, align_corners: bool) -> Tensor:
    """One axis resized to `m` elements, `step` input elements apart."""
    n = x.shape[axis]
    if mode in ("nearest", "nearest-exact"):
        shift = 0.5 if mode == "nearest-exact" else 0.0
        rows = [min(int((i + shift) * step), n - 1) for i in range(m)]
        return _core.take(x, _core.tensor(rows, dtype="int64", device=x.device), axis)
    if align_corners:
        at = [i * (n - 1) / (m - 1) if m > 1 else 0.0 for i in range(m)]
    else:
        at = [max((i + 0.5) * step - 0.5, 0.0) for i in range(m)]
    low = [min(int(a), n - 1) for a in at]
    high = [min(i + 1, n - 1) for i in low]
    part = _core.tensor([a - i for a, i in zip(at, low, strict=True)], dtype=x.dtype, device=x.device)
    part = part.reshape((m,) + (1,) * (x.ndim - 1 - axis))
    first, second = (_core.take(x, _core.tensor(i, dtype="int64", device=x.device), axis) for i in (low, high))
    return first + (second - first) * part
