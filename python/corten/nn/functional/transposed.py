"""Transposed convolution: the gradient of a convolution with respect to its input, as a layer of its own."""

from __future__ import annotations

from ... import _core
from ..._core import Tensor
from .common import Pair, as_image, check_dtype

__all__ = ["conv_transpose1d", "conv_transpose2d"]


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor:
    """Transposed convolution: each pixel lays its multiple of the kernel into the output.

    `y[n, o, i s + u d - p, j s + v d - p] += x[n, c, i, j] w[c, o, u, v]` over all c, i, j, u, v, plus `b[o]`, with
    stride s, dilation d and padding p. It goes back from the size of a convolution's output to that of its input.

    Args:
        input: (N, C, H, W) or (C, H, W).
        weight: (C, O / groups, KH, KW).
        bias: (O,) or None.
        stride: distance at which neighbouring pixels lay their kernels, for both axes or (height, width).
        padding: rows and columns that are cut off on each side.
        output_padding: rows at the bottom and columns at the right that are added; less than stride or dilation. A
            convolution with a stride maps several sizes to one, and this says which of them comes back.
        groups: C and O are split into so many groups that do not see each other.
        dilation: distance between the kernel's elements.

    Returns:
        (N, O, OH, OW) with `OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1`, OW likewise.

    Raises:
        ValueError: the sizes do not fit, or nothing is left of the output.
        TypeError: input and weight have different dtypes.

    V. Dumoulin, F. Visin, "A guide to convolution arithmetic for deep learning", 2016, arXiv:1603.07285.

    >>> import corten as ct
    >>> ct.nn.functional.conv_transpose2d(ct.ones((1, 1, 4, 4)), ct.ones((1, 2, 3, 3)), stride=2, padding=1).shape
    (1, 2, 7, 7)
    """
    check_dtype("conv_transpose2d", input, weight)
    return _core.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Transposed convolution over sequences: `conv_transpose2d` along one axis.

    Args:
        input: (N, C, L) or (C, L).
        weight: (C, O / groups, K).
        bias: (O,) or None.
        stride, padding, output_padding, groups, dilation: as for `conv_transpose2d`.

    Returns:
        (N, O, OL) or (O, OL) with `OL = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1`.

    Raises:
        ValueError: the sizes do not fit, or nothing is left of the output.
        TypeError: input and weight have different dtypes.

    >>> import corten as ct
    >>> x, w = ct.tensor([[[1.0, 2.0]]]), ct.tensor([[[1.0, 1.0, 1.0]]])
    >>> ct.nn.functional.conv_transpose1d(x, w, stride=2).tolist()
    [[[1.0, 1.0, 3.0, 2.0, 2.0]]]
    """
    check_dtype("conv_transpose1d", input, weight)
    if weight.ndim != 3:
        raise ValueError(f"[conv_transpose1d] weight must be (C, O / groups, K), got {weight.shape}")
    numbers = (("stride", stride), ("padding", padding), ("output_padding", output_padding), ("dilation", dilation))
    for name, value in numbers:
        if not isinstance(value, int):
            raise TypeError(f"[conv_transpose1d] {name} must be an int, got {type(value).__name__}")
    y = _core.conv_transpose2d(
        as_image("conv_transpose1d", input),
        _core.expand_dims(weight, -2),
        bias,
        (1, stride),
        (0, padding),
        (0, output_padding),
        groups,
        (1, dilation),
    )
    return _core.squeeze(y, -2)
