"""Padding, patches and one-hot vectors, in PyTorch's order of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import is_tensor, whole
from .common import Pair

__all__ = ["one_hot", "pad", "unfold"]


def pad(
    input: Tensor,
    pad: Sequence[int],
    mode: Literal["constant", "reflect", "replicate", "circular"] = "constant",
    value: float = 0.0,
) -> Tensor:
    """`input` with elements added around it, in PyTorch's order: the last axis first.

    `pad` is (left, right, top, bottom, ...). Axes that it does not reach stay as they are; a negative width crops.
    `corten.pad` takes NumPy's order.

    Args:
        input: (*).
        pad: two widths for each of the last `len(pad) / 2` axes.
        mode: "constant", "reflect" (mirrored at the edge element), "replicate" (the edge element) or "circular".
        value: what "constant" adds.

    Returns:
        the enlarged tensor.

    Raises:
        ValueError: an odd number of widths, or more pairs than axes.

    >>> import corten as ct
    >>> ct.nn.functional.pad(ct.tensor([[1, 2]]), (1, 0, 0, 1)).tolist()
    [[0, 1, 2], [0, 0, 0]]
    """
    is_tensor("[pad] input", input)
    if not isinstance(pad, tuple | list):
        raise TypeError(f"[pad] pad must be a tuple of ints, two for each of the last axes, got {pad!r}")
    pad = [whole("[pad] width", width, -(2**62)) for width in pad]
    if len(pad) % 2 or len(pad) // 2 > input.ndim:
        raise ValueError(f"[pad] {len(pad)} widths for shape {input.shape}: needs two for each of the last axes")
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2) + list(zip(pad[-2::-2], pad[::-2], strict=True))
    if any(width < 0 for width in pad):
        crop = tuple(
            slice(max(-before, 0), max(size - max(-after, 0), 0))
            for (before, after), size in zip(pairs, input.shape, strict=True)
        )
        input = input[crop]
        pairs = [(max(before, 0), max(after, 0)) for before, after in pairs]
    return _core.pad(input, pairs, mode, value if mode == "constant" and value else 0)


def unfold(input: Tensor, kernel_size: Pair, dilation: Pair = 1, padding: Pair = 0, stride: Pair = 1) -> Tensor:
    """The patches that a convolution reads, as columns: a convolution is `weight.reshape(O, -1) @ unfold(x)`.

    Args:
        input: (N, C, H, W).
        kernel_size: height and width of the window.
        dilation: distance of its elements.
        padding: zeros around the image.
        stride: distance of the windows.

    Returns:
        (N, C * kH * kW, L), L the number of places of the window, row by row.

    Raises:
        ValueError: not four axes, or a window that does not fit.

    >>> import corten as ct
    >>> ct.nn.functional.unfold(ct.ones((1, 2, 4, 4)), 3).shape
    (1, 18, 4)
    """
    return _core.im2col(input, kernel_size, dilation, padding, stride)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the place of the class, 0 elsewhere, as int64.

    Args:
        input: (*) of integers.
        num_classes: how many there are; -1: the largest + 1.

    Returns:
        (*, num_classes).

    Raises:
        IndexError: a class out of range.

    >>> import corten as ct
    >>> ct.nn.functional.one_hot(ct.tensor([1, 0])).tolist()
    [[0, 1], [1, 0]]
    """
    return _core.one_hot(input, None if num_classes == -1 else num_classes)
