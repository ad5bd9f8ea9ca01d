"""Dropout."""

from __future__ import annotations

from ..checks import at_least
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["Dropout", "Dropout1d", "Dropout2d"]


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
        at_least(f"[{type(self).__name__}] p", p)
        if p > 1:
            raise ValueError(f"[{type(self).__name__}] p must be in [0, 1], got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"p={self.p}"


class Dropout1d(Dropout):
    """In training, zero each channel of a sequence with probability p and divide the others by 1 - p.

    x (N, C, L) or (C, L) -> the same shape. Everything else is as in `Dropout`.

    >>> import corten as ct
    >>> ct.nn.Dropout1d(0.5)(ct.ones((2, 3, 4))).shape
    (2, 3, 4)
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C, L)."""
        return F.dropout1d(x, self.p, self.training)


class Dropout2d(Dropout):
    """In training, zero each channel of an image with probability p and divide the others by 1 - p.

    x (N, C, H, W) or (C, H, W) -> the same shape. Everything else is as in `Dropout`.

    >>> import corten as ct
    >>> ct.nn.Dropout2d(0.5)(ct.ones((2, 3, 4, 4))).shape
    (2, 3, 4, 4)
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, C, H, W)."""
        return F.dropout2d(x, self.p, self.training)
