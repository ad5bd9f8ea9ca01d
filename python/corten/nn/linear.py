"""Linear."""

from __future__ import annotations

import math
from typing import Any

from ..checks import whole
from ..functions import Tensor, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["Linear"]


class Linear(Module):
    """A fully connected layer: `y = x W^T + b`, x (*, in_features) -> y (*, out_features).

    Parameters: `weight` (out_features, in_features) and `bias` (out_features,), both drawn uniformly from
    `[-1/sqrt(in_features), 1/sqrt(in_features)]`, as in PyTorch (He's initialisation with a = sqrt(5)).

    Args:
        in_features: size of the input's last axis.
        out_features: size of the output's last axis.
        bias: add `b`.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: a size is negative.

    >>> import corten as ct
    >>> ct.nn.Linear(4, 2)(ct.zeros((3, 4))).shape
    (3, 2)
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = None, device: str = "cpu"
    ) -> None:
        super().__init__()
        self.in_features = in_features = whole("[Linear] in_features", in_features)
        self.out_features = out_features = whole("[Linear] out_features", out_features)
        self.weight = Parameter(zeros((out_features, in_features), dtype=dtype, device=device))
        self.bias = Parameter(zeros((out_features,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, *, activation: F.Activation = "none") -> Tensor:
        """x (*, in_features) -> (*, out_features), optionally with a ReLU fused in."""
        return F.linear(x, self.weight, self.bias, activation=activation)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
