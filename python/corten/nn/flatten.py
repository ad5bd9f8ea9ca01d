"""Flatten."""

from __future__ import annotations

from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["Flatten"]


class Flatten(Module):
    """Make the axes from `start_dim` to `end_dim` one; by default all but the batch: x (N, *) -> (N, prod of *).

    >>> import corten as ct
    >>> ct.nn.Flatten()(ct.zeros((2, 16, 4, 4))).shape
    (2, 256)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        """x (N, *) -> (N, prod of *)."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"
