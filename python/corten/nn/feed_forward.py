"""The position-wise feed-forward net of Transformers."""

from __future__ import annotations

from typing import Any, Literal

from ..checks import whole
from ..functions import Tensor
from . import functional as F
from .dropout import Dropout
from .linear import Linear
from .module import Module

__all__ = ["FeedForward"]


class FeedForward(Module):
    """Two linear maps with something between, for each position alike: x (*, E) -> (*, E).

    "relu" and "gelu": `linear2(act(linear1(x)))`; "swiglu": `linear2(silu(linear1(x)) * gate(x))`, with one map more.

    Args:
        size: E.
        hidden: size between the maps; `4 E` by default, `8/3 E` for "swiglu", which then has as many parameters.
        activation: "relu", "gelu" or "swiglu".
        dropout: probability of a zero between the maps, in training.
        bias: have biases.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    N. Shazeer, "GLU Variants Improve Transformer", 2020, arXiv:2002.05202.

    >>> import corten as ct
    >>> ct.nn.FeedForward(6, activation="swiglu")(ct.zeros((2, 3, 6))).shape
    (2, 3, 6)
    """

    def __init__(
        self,
        size: int,
        hidden: int | None = None,
        activation: Literal["relu", "gelu", "swiglu"] = "relu",
        dropout: float = 0.0,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        if activation not in ("relu", "gelu", "swiglu"):
            raise ValueError(f"[FeedForward] activation must be 'relu', 'gelu' or 'swiglu', got {activation!r}")
        size = whole("[FeedForward] size", size, 1)
        if hidden is None:
            hidden = 8 * size // 3 if activation == "swiglu" else 4 * size
        hidden = whole("[FeedForward] hidden", hidden, 1)
        self.activation = activation
        self.linear1 = Linear(size, hidden, bias, dtype=dtype, device=device)
        self.gate = Linear(size, hidden, bias, dtype=dtype, device=device) if activation == "swiglu" else None
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(hidden, size, bias, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """x (*, E) -> (*, E)."""
        if self.activation == "relu":
            h = self.linear1.forward(x, activation="relu")
        elif self.activation == "gelu":
            h = F.gelu(self.linear1(x))
        else:
            h = F.silu(self.linear1(x))
        if self.gate is not None:
            h = h * self.gate(x)
        y: Tensor = self.linear2(self.dropout(h))
        return y

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"activation={self.activation!r}"
