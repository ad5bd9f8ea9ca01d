"""Dropout."""

from __future__ import annotations

from ..checks import at_least
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, zero each element with probability p and divide the others by 1 - p; in evaluation do nothing.

    x (*) -> (*). The zeros come from corten's seeded random numbers (`corten.manual_seed`).

    Args:
        p: probability of a zero, from 0 to 1.

    Raises:
        ValueError: p is out of range.

    N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014.

    >>> import corten as ct
    >>> ct.nn.Dropout(0.5).eval()(ct.ones((2,))).tolist()
    [1.0, 1.0]
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        at_least("[Dropout] p", p)
        if p > 1:
            raise ValueError(f"[Dropout] p must be in [0, 1], got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"p={self.p}"
