"""The functions behind the modules, under PyTorch's names and in its order of arguments.

Axes are named in the docstrings: N batch, C channels, H height, W width; `*` is any number of axes. `axis` is accepted
wherever `dim` is.
"""

from __future__ import annotations

from typing import Literal

from .. import _core
from .._core import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "flatten",
    "gelu",
    "linear",
    "log_softmax",
    "max_pool2d",
    "mse_loss",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]

Reduction = Literal["mean", "sum", "none"]
Activation = Literal["none", "relu"]
Pair = int | tuple[int, int]


def _check_dtype(op: str, input: Tensor, weight: Tensor | None) -> None:
    """Layers do not promote: a float64 input would silently make everything after it twice as slow."""
    for value in (input, weight):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"[{op}] expected a corten.Tensor, not {type(value).__name__} (convert it with corten.tensor(...))"
            )
    if input is None:
        raise TypeError(f"[{op}] expected a corten.Tensor, not NoneType: does the layer before it return its result?")
    if weight is not None and input.dtype != weight.dtype:
        name = weight.dtype.name
        raise TypeError(
            f"[{op}] input is {input.dtype.name} but the weight is {name}: convert the input with .astype({name!r}), "
            f"or the module with .to({input.dtype.name!r})"
        )


def _axis(op: str, dim: int | None, axis: int | None, default: int) -> int:
    if dim is not None and axis is not None:
        raise TypeError(f"[{op}] takes dim or axis, not both")
    return dim if dim is not None else axis if axis is not None else default


# -- layers


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
    _check_dtype("linear", input, weight)
    return _core.linear(input, weight, bias, activation=activation)


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
    _check_dtype("conv2d", input, weight)
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
    _check_dtype("batch_norm", input, weight if weight is not None else running_mean)
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


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Make the axes from `start_dim` to `end_dim` one.

    >>> import corten as ct
    >>> ct.nn.functional.flatten(ct.ones((2, 3, 4)), 1).shape
    (2, 12)
    """
    return _core.flatten(input, start_dim, end_dim)


# -- activations


def relu(input: Tensor) -> Tensor:
    """`max(x, 0)`, element by element; the gradient at 0 is 0.

    >>> import corten as ct
    >>> ct.nn.functional.relu(ct.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return _core.relu(input)


def gelu(input: Tensor, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    """`x Phi(x)` with the normal distribution function Phi; "tanh" is the approximation by a hyperbolic tangent.

    D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, arXiv:1606.08415.

    >>> import corten as ct
    >>> round(ct.nn.functional.gelu(ct.tensor(1.0)).item(), 4)
    0.8413
    """
    return _core.gelu(input, approximate)


def sigmoid(input: Tensor) -> Tensor:
    """`1 / (1 + exp(-x))`, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.sigmoid(ct.tensor(0.0)).item()
    0.5
    """
    return _core.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.tanh(ct.tensor(0.0)).item()
    0.0
    """
    return _core.tanh(input)


def softplus(input: Tensor, beta: float = 1.0) -> Tensor:
    """`log(1 + exp(beta x)) / beta`, element by element, without overflow.

    Raises:
        ValueError: beta is not positive.

    >>> import corten as ct
    >>> round(ct.nn.functional.softplus(ct.tensor(0.0)).item(), 4)
    0.6931
    """
    if beta == 1:
        return _core.softplus(input)
    if not beta > 0:
        raise ValueError(f"[softplus] beta must be positive, got {beta}")
    return _core.softplus(input * beta) / beta


def silu(input: Tensor) -> Tensor:
    """`x sigmoid(x)`, element by element; also called swish.

    S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-Weighted Linear Units", 2017, arXiv:1702.03118.

    >>> import corten as ct
    >>> ct.nn.functional.silu(ct.tensor(0.0)).item()
    0.0
    """
    return _core.silu(input)


def softmax(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """`exp(x_i) / sum_j exp(x_j)` along an axis (the last by default), without overflow.

    >>> import corten as ct
    >>> ct.nn.functional.softmax(ct.zeros((1, 4)), dim=1).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return _core.softmax(input, _axis("softmax", dim, axis, -1))


def log_softmax(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """`x_i - log sum_j exp(x_j)` along an axis (the last by default), without overflow.

    >>> import corten as ct
    >>> ct.nn.functional.log_softmax(ct.tensor([[0.0]])).tolist()
    [[0.0]]
    """
    return _core.log_softmax(input, _axis("log_softmax", dim, axis, -1))


# -- losses


def cross_entropy(input: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of logits: `-log softmax(x)[target]`, or `-sum_c target_c log softmax(x)_c` for probabilities.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...).
        target: class indices, any integer dtype, of the input's shape without C; or probabilities of the input's shape.
        reduction: "mean" over the samples, "sum" or "none".

    Raises:
        ValueError: the shapes do not fit.
        IndexError: a class index is outside of [0, C).

    >>> import corten as ct
    >>> round(ct.nn.functional.cross_entropy(ct.zeros((2, 10)), ct.tensor([3, 7])).item(), 4)
    2.3026
    """
    return _core.cross_entropy(input, target, reduction)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """`-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))`, computed from the logits without overflow.

    Args:
        input: logits (*).
        target: probabilities (*), from 0 to 1.
        reduction: "mean" over the elements, "sum" or "none".

    >>> import corten as ct
    >>> round(ct.nn.functional.binary_cross_entropy_with_logits(ct.zeros((2,)), ct.ones((2,))).item(), 4)
    0.6931
    """
    return _core.binary_cross_entropy_with_logits(input, target, reduction)


def mse_loss(input: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """The squared difference `(x - t)^2`.

    Args:
        input: (*).
        target: (*).
        reduction: "mean" over the elements, "sum" or "none".

    >>> import corten as ct
    >>> ct.nn.functional.mse_loss(ct.tensor([1.0, 2.0]), ct.tensor([1.0, 4.0])).item()
    2.0
    """
    return _core.mse_loss(input, target, reduction)
