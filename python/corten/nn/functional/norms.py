"""Normalisation within each sample, as functions; `batch_norm` is among the layers."""

from __future__ import annotations

from collections.abc import Sequence

from ... import _core
from ..._core import Tensor
from ...functions import no_grad
from .common import check_dtype

__all__ = ["group_norm", "instance_norm", "layer_norm", "local_response_norm", "rms_norm"]


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last axes: `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    Args:
        input: (*, S).
        normalized_shape: S, the sizes of the axes that mean and (biased) variance are taken over.
        weight, bias: S or None.
        eps: added to the variance.

    Returns:
        (*, S).

    Raises:
        ValueError: the input does not end in S, or weight or bias has another shape.
        TypeError: input and weight have different dtypes.

    J. Ba, J. Kiros, G. Hinton, "Layer Normalization", 2016, arXiv:1607.06450.

    >>> import corten as ct
    >>> ct.nn.functional.layer_norm(ct.tensor([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    try:
        return _core.layer_norm(input, normalized_shape, weight, bias, eps)
    except TypeError as error:  # looked for only now: a fast loop has no time for it
        failure = error
    check_dtype("layer_norm", input, weight)
    raise failure


def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Divide by the root mean square of the last axes: `y = x / sqrt(mean(x^2) + eps) * weight`.

    Args:
        input: (*, S).
        normalized_shape: S, the sizes of the axes that the mean is taken over.
        weight: S or None.
        eps: added to the mean square; None is the dtype's machine epsilon.

    Returns:
        (*, S).

    Raises:
        ValueError: the input does not end in S, or weight has another shape.
        TypeError: input and weight have different dtypes.

    B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, arXiv:1910.07467.

    >>> import corten as ct
    >>> ct.nn.functional.rms_norm(ct.tensor([[2.0, -2.0]]), (2,), eps=0.0).tolist()
    [[1.0, -1.0]]
    """
    check_dtype("rms_norm", input, weight)
    return _core.rms_norm(input, normalized_shape, weight, eps)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each group of channels of each sample: `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    Args:
        input: (N, C, *).
        num_groups: into how many groups the channels are split; divides C.
        weight, bias: (C,) or None.
        eps: added to the variance.

    Returns:
        (N, C, *).

    Raises:
        ValueError: num_groups does not divide C, or weight or bias is not (C,).
        TypeError: input and weight have different dtypes.

    Y. Wu, K. He, "Group Normalization", 2018, arXiv:1803.08494.

    >>> import corten as ct
    >>> ct.nn.functional.group_norm(ct.tensor([[1.0, 3.0]]), 1, eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    check_dtype("group_norm", input, weight)
    return _core.group_norm(input, num_groups, weight, bias, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each sample: `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    With the input's statistics, the running ones, if given, move towards their means over the batch:
    `running = (1 - momentum) running + momentum mean_n`, with the unbiased variance. Otherwise the running ones count.

    Args:
        input: (N, C, *).
        running_mean, running_var: (C,) or None.
        weight, bias: (C,) or None.
        use_input_stats: False takes the running statistics.
        momentum: share of this input in the running statistics.
        eps: added to the variance.

    Returns:
        (N, C, *).

    Raises:
        ValueError: the sizes do not fit, or a channel has one element only.
        TypeError: input and weight have different dtypes.

    D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization", 2016, arXiv:1607.08022.

    >>> import corten as ct
    >>> ct.nn.functional.instance_norm(ct.tensor([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]
    """
    check_dtype("instance_norm", input, weight)
    if not use_input_stats:
        return _core.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    y = _core.instance_norm(input, weight, bias, eps)
    with no_grad():
        axes = tuple(range(2, input.ndim))
        if running_mean is not None:
            running_mean.assign_(running_mean * (1 - momentum) + input.mean(axes).mean(0) * momentum)
        if running_var is not None:
            running_var.assign_(running_var * (1 - momentum) + input.var(axes, correction=1).mean(0) * momentum)
    return y


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide by the squares of neighbouring channels: `y_c = x_c (k + alpha / size sum_j x_j^2)^-beta`.

    The sum is over the `size` channels from `c - size // 2` on, zeros beyond the ends.

    Args:
        input: (N, C, *), with at least three axes.
        size: how many channels each window has.
        alpha, beta, k: the constants of the formula.

    Returns:
        (N, C, *).

    Raises:
        ValueError: size is 0, or the input has fewer than three axes.

    A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.

    >>> import corten as ct
    >>> ct.nn.functional.local_response_norm(ct.ones((1, 1, 1)), 1, alpha=3.0, beta=0.5).item()
    0.5
    """
    return _core.local_response_norm(input, size, alpha, beta, k)
