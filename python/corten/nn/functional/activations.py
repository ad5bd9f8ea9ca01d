"""Activations, element by element or along an axis."""

from __future__ import annotations

from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import positive
from .common import check_dtype, pick_axis

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


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
    positive("[softplus] beta", beta)
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
    return _core.softmax(input, pick_axis("softmax", dim, axis, -1))


def log_softmax(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """`x_i - log sum_j exp(x_j)` along an axis (the last by default), without overflow.

    >>> import corten as ct
    >>> ct.nn.functional.log_softmax(ct.tensor([[0.0]])).tolist()
    [[0.0]]
    """
    return _core.log_softmax(input, pick_axis("log_softmax", dim, axis, -1))


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """`x` where `x > 0`, else `negative_slope x`, element by element. Gradient: 1, or the slope where `x <= 0`.

    A. Maas, A. Hannun, A. Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.

    >>> import corten as ct
    >>> ct.nn.functional.leaky_relu(ct.tensor([-2.0, 4.0]), 0.5).tolist()
    [-1.0, 4.0]
    """
    return _core.leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`x` where `x > 0`, else `alpha (e^x - 1)`, element by element, without overflow.

    D. Clevert, T. Unterthiner, S. Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units",
    2015, arXiv:1511.07289.

    >>> import corten as ct
    >>> ct.nn.functional.elu(ct.tensor([0.0, 4.0])).tolist()
    [0.0, 4.0]
    """
    return _core.elu(input, alpha)


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """`x` where `x > 0`, else `alpha (e^(x / alpha) - 1)`.

    Element by element; the slope is continuous for every `alpha > 0`.

    Raises:
        ValueError: alpha is not positive.

    J. Barron, "Continuously Differentiable Exponential Linear Units", 2017, arXiv:1704.07483.

    >>> import corten as ct
    >>> ct.nn.functional.celu(ct.tensor([0.0, 4.0])).tolist()
    [0.0, 4.0]
    """
    return _core.celu(input, alpha)


def selu(input: Tensor) -> Tensor:
    """`scale * elu(x, alpha)`.

    With the two constants (1.0507 and 1.6733) that keep mean 0 and variance 1 from layer to layer.

    G. Klambauer et al., "Self-Normalizing Neural Networks", 2017, arXiv:1706.02515.

    >>> import corten as ct
    >>> ct.nn.functional.selu(ct.tensor([0.0])).tolist()
    [0.0]
    """
    return _core.selu(input)


def mish(input: Tensor) -> Tensor:
    """`x tanh(log(1 + e^x))`, element by element.

    D. Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2019, arXiv:1908.08681.

    >>> import corten as ct
    >>> ct.nn.functional.mish(ct.tensor([0.0])).tolist()
    [0.0]
    """
    return _core.mish(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """`min(max(x, min_val), max_val)`, element by element. Gradient: 1 between the bounds, 0 outside.

    Raises:
        ValueError: min_val exceeds max_val.

    >>> import corten as ct
    >>> ct.nn.functional.hardtanh(ct.tensor([-2.0, 0.5])).tolist()
    [-1.0, 0.5]
    """
    return _core.hardtanh(input, min_val, max_val)


def relu6(input: Tensor) -> Tensor:
    """`min(max(x, 0), 6)`, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.relu6(ct.tensor([-1.0, 7.0])).tolist()
    [0.0, 6.0]
    """
    return _core.relu6(input)


def softsign(input: Tensor) -> Tensor:
    """`x / (1 + |x|)`, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.softsign(ct.tensor([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """
    return _core.softsign(input)


def hardsigmoid(input: Tensor) -> Tensor:
    """`min(max(x + 3, 0), 6) / 6`, element by element: the sigmoid in three straight pieces.

    A. Howard et al., "Searching for MobileNetV3", 2019, arXiv:1905.02244.

    >>> import corten as ct
    >>> ct.nn.functional.hardsigmoid(ct.tensor([-4.0, 0.0])).tolist()
    [0.0, 0.5]
    """
    return _core.hardsigmoid(input)


def hardswish(input: Tensor) -> Tensor:
    """`x min(max(x + 3, 0), 6) / 6`, element by element: `silu` with the hard sigmoid.

    A. Howard et al., "Searching for MobileNetV3", 2019, arXiv:1905.02244.

    >>> import corten as ct
    >>> ct.nn.functional.hardswish(ct.tensor([0.0, 4.0])).tolist()
    [0.0, 4.0]
    """
    return _core.hardswish(input)


def logsigmoid(input: Tensor) -> Tensor:
    """`log(1 / (1 + e^-x))`, element by element, without overflow. Gradient: `sigmoid(-x)`.

    >>> import corten as ct
    >>> ct.nn.functional.logsigmoid(ct.tensor([-1000.0])).tolist()
    [-1000.0]
    """
    return _core.logsigmoid(input)


def tanhshrink(input: Tensor) -> Tensor:
    """`x - tanh(x)`, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.tanhshrink(ct.tensor([0.0])).tolist()
    [0.0]
    """
    return _core.tanhshrink(input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`x` moved towards 0 by `lambd`, element by element, and 0 where `|x| <= lambd`.

    Raises:
        ValueError: lambd is negative.

    >>> import corten as ct
    >>> ct.nn.functional.softshrink(ct.tensor([-1.0, 0.25])).tolist()
    [-0.5, 0.0]
    """
    return _core.softshrink(input, lambd)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`x` where `|x| > lambd`, else 0, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.hardshrink(ct.tensor([-1.0, 0.25])).tolist()
    [-1.0, 0.0]
    """
    return _core.hardshrink(input, lambd)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """`x` where `x > threshold`, else `value`, element by element.

    >>> import corten as ct
    >>> ct.nn.functional.threshold(ct.tensor([1.0, 3.0]), 2.0, -1.0).tolist()
    [-1.0, 3.0]
    """
    return _core.threshold(input, threshold, value)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """`max(x, 0) + weight min(x, 0)`: a leaky ReLU whose slope is learnt.

    Args:
        input: (N, C, *), or any shape when there is one slope.
        weight: (C,), one slope per channel, or (1,).

    Raises:
        ValueError: the weight fits neither.
        TypeError: input and weight have different dtypes.

    K. He et al., "Delving Deep into Rectifiers", 2015, arXiv:1502.01852.

    >>> import corten as ct
    >>> ct.nn.functional.prelu(ct.tensor([-2.0, 4.0]), ct.tensor([0.25])).tolist()
    [-0.5, 4.0]
    """
    check_dtype("prelu", input, weight)
    return _core.prelu(input, weight)


def glu(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """`a sigmoid(b)`, a and b being the halves of the input along an axis (the last by default): (.., 2 n) -> (.., n).

    Raises:
        ValueError: the size of the axis is odd.

    Y. Dauphin et al., "Language Modeling with Gated Convolutional Networks", 2017, arXiv:1612.08083.

    >>> import corten as ct
    >>> ct.nn.functional.glu(ct.tensor([4.0, 0.0])).tolist()
    [2.0]
    """
    return _core.glu(input, pick_axis("glu", dim, axis, -1))


def softmin(input: Tensor, dim: int | None = None, *, axis: int | None = None) -> Tensor:
    """`softmax(-x)` along an axis (the last by default).

    >>> import corten as ct
    >>> ct.nn.functional.softmin(ct.zeros((1, 4)), dim=1).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    return _core.softmax(_core.negative(input), pick_axis("softmin", dim, axis, -1))
