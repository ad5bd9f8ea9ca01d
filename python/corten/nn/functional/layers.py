"""Layers as functions: linear maps, convolution, pooling, normalisation."""

from __future__ import annotations

from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import is_tensor
from .common import Activation, Pair, check_dtype

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv2d",
    "dropout",
    "dropout1d",
    "dropout2d",
    "flatten",
    "linear",
    "max_pool2d",
]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, activation: Activation = "none") -> Tensor:
    """The affine map `y = x W^T + b`, with the activation fused in.

    Args:
        input: (*, in).
        weight: (out, in).
        bias: (out,) or None.
        activation: "none" or "relu".

    Returns:
        (*, out).

    Raises:
        ValueError: the sizes do not fit.
        TypeError: input and weight have different dtypes.

    >>> import corten as ct
    >>> ct.nn.functional.linear(ct.tensor([[1.0, 2.0]]), ct.tensor([[3.0, 4.0]]), ct.tensor([0.5])).tolist()
    [[11.5]]
    """
    try:
        return _core.linear(input, weight, bias, activation=activation)
    except TypeError as error:  # looked for only now: a fast loop has no time for it
        failure = error
    check_dtype("linear", input, weight)
    raise failure


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | Literal["valid", "same", "full"] = 0,
    dilation: Pair = 1,
    groups: int = 1,
    *,
    activation: Activation = "none",
) -> Tensor:
    """Two-dimensional cross-correlation: what deep learning calls convolution.

    `y[n, o, i, j] = b[o] + sum_{c, u, v} w[o, c, u, v] x[n, c, i s + u d - p, j s + v d - p]` with stride s, dilation
    d, padding p and zeros outside of the input.

    Args:
        input: (N, C, H, W).
        weight: (O, C / groups, KH, KW).
        bias: (O,) or None.
        stride: step of the window, for both axes or (height, width).
        padding: zeros on each side, for both axes or (height, width); "valid" is none, "same" keeps H and W (stride 1),
            "full" is the size of the kernel less one.
        dilation: distance between the kernel's elements.
        groups: C and O are split into so many groups that do not see each other.
        activation: "none" or "relu", fused in.

    Returns:
        (N, O, OH, OW) with `OH = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1`, OW likewise.

    Raises:
        ValueError: the sizes do not fit, or the kernel is larger than the padded input.
        TypeError: input and weight have different dtypes.

    >>> import corten as ct
    >>> ct.nn.functional.conv2d(ct.ones((1, 1, 5, 5)), ct.ones((2, 1, 3, 3)), padding=1).shape
    (1, 2, 5, 5)
    """
    check_dtype("conv2d", input, weight)
    return _core.conv2d(input, weight, bias, stride, padding, dilation, groups, activation=activation)


def max_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window; padding counts as minus infinity.

    Args:
        input: (N, C, H, W).
        kernel_size: size of the window, for both axes or (height, width).
        stride: step of the window; None means `kernel_size`.
        padding: at most half of the kernel.
        dilation: distance between the elements of a window.
        ceil_mode: round the output size up instead of down.

    Returns:
        (N, C, OH, OW). The gradient goes to the first of several equal maxima.

    >>> import corten as ct
    >>> ct.nn.functional.max_pool2d(ct.arange(16, dtype="float32").reshape(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    return _core.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    input: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window.

    Args:
        input: (N, C, H, W).
        kernel_size: size of the window, for both axes or (height, width).
        stride: step of the window; None means `kernel_size`.
        padding: zeros on each side, at most half of the kernel.
        ceil_mode: round the output size up instead of down.
        count_include_pad: count the padding's zeros in the mean.

    Returns:
        (N, C, OH, OW).

    >>> import corten as ct
    >>> ct.nn.functional.avg_pool2d(ct.arange(16, dtype="float32").reshape(1, 1, 4, 4), 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    return _core.avg_pool2d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def adaptive_avg_pool2d(input: Tensor, output_size: int | tuple[int | None, int | None]) -> Tensor:
    """The means of windows that are spread evenly, so that the output has the size asked for.

    Window i of an axis of size S runs from `floor(i S / O)` to `ceil((i + 1) S / O)`.

    Args:
        input: (N, C, H, W).
        output_size: OH and OW; None keeps the input's size.

    Returns:
        (N, C, OH, OW).

    >>> import corten as ct
    >>> ct.nn.functional.adaptive_avg_pool2d(ct.ones((1, 3, 7, 5)), 1).shape
    (1, 3, 1, 1)
    """
    return _core.adaptive_avg_pool2d(input, output_size)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel: `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    In training, mean and (biased) variance are the batch's, and the running statistics, if given, move towards them:
    `running = (1 - momentum) running + momentum batch`, with the unbiased variance. Otherwise the running ones count.

    Args:
        input: (N, C, *).
        running_mean, running_var: (C,) or None.
        weight, bias: (C,) or None.

    Returns:
        (N, C, *).

    S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167.

    >>> import corten as ct
    >>> y = ct.nn.functional.batch_norm(ct.tensor([[1.0], [3.0]]), None, None, training=True)
    >>> [round(v, 3) for v in y.flatten().tolist()]
    [-1.0, 1.0]
    """
    check_dtype("batch_norm", input, weight if weight is not None else running_mean)
    return _core.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, set each element to zero with probability p and divide the others by 1 - p; else return the input.

    So the expected value of the output is the input. The zeros come from corten's seeded random numbers.

    Raises:
        ValueError: p is not in [0, 1].

    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014.

    >>> import corten as ct
    >>> sorted(set(ct.nn.functional.dropout(ct.ones((1000,)), 0.5).tolist()))
    [0.0, 2.0]
    """
    return _core.dropout(input, p, training)


def _drop_channels(op: str, input: Tensor, p: float, training: bool, ndims: tuple[int, int], axes: str) -> Tensor:
    is_tensor(f"[{op}] input", input)
    if input.ndim not in ndims:
        raise ValueError(f"[{op}] input must be {axes}, got {input.shape}")
    lead = 2 if input.ndim == ndims[1] else 1
    channels = _core.ones((*input.shape[:lead], *(1,) * (input.ndim - lead)), input.dtype, device=input.device)
    mask = _core.dropout(channels, p, training)
    return input * mask if training and p > 0 else input


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, set each channel to zero with probability p and divide the others by 1 - p.

    Neighbouring pixels are alike, so that dropping single ones would take away little.

    Args:
        input: (N, C, H, W) or (C, H, W).
        p: probability of a zero, from 0 to 1.
        training: False returns the input.

    Raises:
        ValueError: p is not in [0, 1].

    J. Tompson et al., "Efficient Object Localization Using Convolutional Networks", CVPR 2015, arXiv:1411.4280.

    >>> import corten as ct
    >>> y = ct.nn.functional.dropout2d(ct.ones((1, 100, 2, 2)))
    >>> sorted(set(y.sum((2, 3)).flatten().tolist()))
    [0.0, 8.0]
    """
    return _drop_channels("dropout2d", input, p, training, (3, 4), "(N, C, H, W) or (C, H, W)")


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, set each channel of a sequence to zero with probability p and divide the others by 1 - p.

    Args:
        input: (N, C, L) or (C, L).
        p: probability of a zero, from 0 to 1.
        training: False returns the input.

    Raises:
        ValueError: p is not in [0, 1].

    >>> import corten as ct
    >>> ct.nn.functional.dropout1d(ct.ones((3, 4)), training=False).sum().item()
    12.0
    """
    return _drop_channels("dropout1d", input, p, training, (2, 3), "(N, C, L) or (C, L)")


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Make the axes from `start_dim` to `end_dim` one.

    >>> import corten as ct
    >>> ct.nn.functional.flatten(ct.ones((2, 3, 4)), 1).shape
    (2, 12)
    """
    return _core.flatten(input, start_dim, end_dim)
