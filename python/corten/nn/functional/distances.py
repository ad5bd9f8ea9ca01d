"""Lengths of vectors and distances between them."""

from __future__ import annotations

from ... import _core
from ..._core import Tensor
from ...checks import at_least, is_tensor

__all__ = ["cosine_similarity", "normalize", "pairwise_distance"]


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Vectors of length 1: `x / max(|x|_p, eps)` along `dim`.

    Args:
        input: (*).
        p: which norm, see `corten.norm`.
        dim: the axis of the vectors.
        eps: the least length that counts.

    Returns:
        (*).

    >>> import corten as ct
    >>> ct.nn.functional.normalize(ct.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    return input / _core.maximum(_core.norm(input, p, dim, True), eps)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors: `x1 . x2 / (max(|x1|, eps) max(|x2|, eps))` along `dim`.

    Args:
        x1, x2: (*), broadcast.
        dim: the axis of the vectors, which disappears.
        eps: the least length that counts.

    Returns:
        (*) without `dim`.

    >>> import corten as ct
    >>> ct.nn.functional.cosine_similarity(ct.tensor([[1.0, 0.0]]), ct.tensor([[2.0, 0.0]])).tolist()
    [1.0]
    """
    x1, x2 = _core.broadcast_arrays(x1, x2)
    return _core.sum(normalize(x1, 2.0, dim, eps) * normalize(x2, 2.0, dim, eps), dim)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """`|x1 - x2 + eps|_p` along the last axis.

    Args:
        x1, x2: (*, D), broadcast.
        p: which norm, see `corten.norm`.
        eps: keeps the gradient of equal vectors finite.
        keepdim: keep the last axis, with size 1.

    Returns:
        (*) or (*, 1).

    >>> import corten as ct
    >>> round(ct.nn.functional.pairwise_distance(ct.tensor([[0.0, 0.0]]), ct.tensor([[3.0, 4.0]])).item(), 4)
    5.0
    """
    is_tensor("[pairwise_distance] x1", x1)
    is_tensor("[pairwise_distance] x2", x2)
    at_least("[pairwise_distance] eps", eps)
    return _core.norm(x1 - x2 + float(eps), p, -1, keepdim)
