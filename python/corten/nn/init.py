"""Initial values of parameters. Each function writes its values into the tensor and returns the tensor.

All random values come from corten's seeded random numbers: `corten.manual_seed` makes them repeatable.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from .. import _core
from .._core import Tensor
from ..checks import at_least, is_tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Nonlinearity = Literal["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]


def calculate_gain(nonlinearity: Nonlinearity, param: float | None = None) -> float:
    """By how much weights must be larger so that the variance survives the nonlinearity.

    linear, conv2d, sigmoid: 1; tanh: 5/3; relu: sqrt(2); leaky_relu: sqrt(2 / (1 + param^2)), param 0.01; selu: 3/4.

    Raises:
        ValueError: the nonlinearity is not known.
    """
    name = str(nonlinearity)
    if name in ("linear", "conv2d", "sigmoid"):
        return 1.0
    if name == "tanh":
        return 5.0 / 3.0
    if name == "relu":
        return math.sqrt(2.0)
    if name == "leaky_relu":
        slope = 0.01 if param is None else param
        at_least("[calculate_gain] param", slope, -math.inf)
        return math.sqrt(2.0 / (1 + slope**2))
    if name == "selu":
        return 0.75
    raise ValueError(f"[calculate_gain] unknown nonlinearity {nonlinearity!r}")


def _fans(op: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel)."""
    if tensor.ndim < 2:
        raise ValueError(f"[{op}] needs a weight of at least two axes (out, in, ...), got shape {tensor.shape}")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Draw each element uniformly from [a, b).

    >>> import corten as ct
    >>> w = ct.nn.init.uniform_(ct.zeros((100,)), -2, 3)
    >>> -2 <= w.min().item() < w.max().item() < 3
    True
    """
    is_tensor("[uniform_] tensor", tensor)
    tensor.assign_(_core.uniform(tensor.shape, a, b, dtype=tensor.dtype).to(tensor.device))
    return tensor


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Draw each element from the normal distribution with this mean and standard deviation."""
    is_tensor("[normal_] tensor", tensor)
    tensor.assign_(_core.normal(tensor.shape, mean, std, dtype=tensor.dtype).to(tensor.device))
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Set each element to `val`."""
    is_tensor("[constant_] tensor", tensor)
    tensor.assign_(_core.full(tensor.shape, val, dtype=tensor.dtype, device=tensor.device))
    return tensor


def zeros_(tensor: Tensor) -> Tensor:
    """Set each element to 0."""
    is_tensor("[zeros_] tensor", tensor)
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Set each element to 1."""
    is_tensor("[ones_] tensor", tensor)
    return constant_(tensor, 1)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Draw from U(-a, a) with `a = gain sqrt(6 / (fan_in + fan_out))`; the weight is (out, in, *kernel).

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    is_tensor("[xavier_uniform_] tensor", tensor)
    at_least("[xavier_uniform_] gain", gain, -math.inf)
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6.0 / max(1, fan_in + fan_out))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Draw from N(0, s^2) with `s = gain sqrt(2 / (fan_in + fan_out))`; the weight is (out, in, *kernel).

    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    is_tensor("[xavier_normal_] tensor", tensor)
    at_least("[xavier_normal_] gain", gain, -math.inf)
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(1, fan_in + fan_out)))


def _kaiming_std(op: str, tensor: Tensor, a: float, mode: str, nonlinearity: Nonlinearity) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"[{op}] mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan_in, fan_out = _fans(op, tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fan_in if mode == "fan_in" else fan_out))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
) -> Tensor:
    """He's initialisation: draw from U(-b, b) with `b = gain sqrt(3 / fan)`; the weight is (out, in, *kernel).

    Args:
        a: slope of the leaky ReLU that follows; 0 for a ReLU.
        mode: keep the variance of the forward pass ("fan_in") or of the backward pass ("fan_out").
        nonlinearity: what follows; see `calculate_gain`.

    K. He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852.
    """
    is_tensor("[kaiming_uniform_] tensor", tensor)
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: Nonlinearity = "leaky_relu",
) -> Tensor:
    """He's initialisation: draw from N(0, s^2) with `s = gain / sqrt(fan)`; the weight is (out, in, *kernel).

    The arguments are those of `kaiming_uniform_`.

    K. He et al., "Delving Deep into Rectifiers", ICCV 2015, arXiv:1502.01852.
    """
    is_tensor("[kaiming_normal_] tensor", tensor)
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """A random matrix with orthonormal rows (or columns, if there are fewer of them), times `gain`.

    A weight of more than two axes counts as a matrix (out, everything else).

    A. M. Saxe, J. L. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", 2013, arXiv:1312.6120.
    """
    is_tensor("[orthogonal_] tensor", tensor)
    at_least("[orthogonal_] gain", gain, -math.inf)
    _fans("orthogonal_", tensor)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    drawn = _core.normal((max(rows, columns), min(rows, columns)), dtype="float64").numpy()
    q, r = np.linalg.qr(drawn)
    q = q * np.sign(np.diag(r))  # makes the distribution uniform over the orthogonal matrices
    matrix = q if rows >= columns else q.T
    tensor.assign_(_core.tensor(gain * matrix.reshape(tensor.shape), dtype=tensor.dtype, device=tensor.device))
    return tensor
