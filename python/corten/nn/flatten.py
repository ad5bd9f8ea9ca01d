"""Flatten and its inverse."""

from __future__ import annotations

from collections.abc import Sequence

from ..checks import is_tensor, whole
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["Flatten", "Unflatten"]


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


class Unflatten(Module):
    """Split one axis into several: x (N, prod of S, *) -> (N, S, *) for `dim = 1`.

    Args:
        dim: the axis.
        unflattened_size: S; one of its sizes may be -1.

    >>> import corten as ct
    >>> ct.nn.Unflatten(1, (16, 4, 4))(ct.zeros((2, 256))).shape
    (2, 16, 4, 4)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        if not isinstance(unflattened_size, tuple | list):
            raise TypeError(f"[Unflatten] unflattened_size must be a tuple of ints, got {unflattened_size!r}")
        self.unflattened_size = tuple(whole("[Unflatten] unflattened_size", n, -1) for n in unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, prod of S, *) -> (N, S, *)."""
        is_tensor("[Unflatten] x", x)
        if not -x.ndim <= self.dim < x.ndim:
            raise IndexError(f"[Unflatten] axis {self.dim} is out of range for shape {x.shape}")
        axis = self.dim % x.ndim
        known = 1
        for n in self.unflattened_size:
            known *= abs(n)
        if x.shape[axis] % known if -1 in self.unflattened_size and known else x.shape[axis] != known:
            raise ValueError(f"[Unflatten] axis {axis} of shape {x.shape} does not split into {self.unflattened_size}")
        sizes = [x.shape[axis] // known if n == -1 else n for n in self.unflattened_size]
        return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
