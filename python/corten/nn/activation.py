"""Activations as modules."""

from __future__ import annotations

from typing import Literal

from ..checks import positive
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["GELU", "LogSoftmax", "ReLU", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh"]


class ReLU(Module):
    """`max(x, 0)`: x (*) -> (*).

    >>> import corten as ct
    >>> ct.nn.ReLU()(ct.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.relu(x)


class GELU(Module):
    """`x Phi(x)` with the normal distribution function Phi: x (*) -> (*).

    Args:
        approximate: "none", or "tanh" for the approximation by a hyperbolic tangent.

    Raises:
        ValueError: `approximate` is neither.

    D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, arXiv:1606.08415.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"[GELU] approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate: Literal["none", "tanh"] = approximate

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"approximate={self.approximate!r}"


class Sigmoid(Module):
    """`1 / (1 + exp(-x))`: x (*) -> (*)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent: x (*) -> (*)."""

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.tanh(x)


class SiLU(Module):
    """`x sigmoid(x)`: x (*) -> (*). See `corten.nn.functional.silu`."""

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.silu(x)


class Softplus(Module):
    """`log(1 + exp(beta x)) / beta`: x (*) -> (*).

    Args:
        beta: positive; the larger, the closer to ReLU.

    Raises:
        ValueError: `beta` is not positive.
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        positive("[Softplus] beta", beta)
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.softplus(x, self.beta)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"beta={self.beta}"


class Softmax(Module):
    """`exp(x_i) / sum_j exp(x_j)` along the axis `dim`: x (*) -> (*).

    A network that is trained with `CrossEntropyLoss` needs none: that loss takes logits.

    >>> import corten as ct
    >>> ct.nn.Softmax(dim=-1)(ct.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """`x_i - log sum_j exp(x_j)` along the axis `dim`: x (*) -> (*)."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"dim={self.dim}"
