"""Where a token stands: what tells attention, which by itself sees a set, the order of its keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..checks import is_tensor, whole
from ..functions import Tensor, arange, concat, tensor, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["AlibiBias", "LearnedPositions", "RelativeBias", "RotaryPositions", "SinusoidalPositions"]


def _rows(rule: str, x: Tensor, size: int) -> None:
    is_tensor(f"{rule} x", x)
    if x.ndim < 2 or x.shape[-1] != size:
        raise ValueError(f"{rule} x must be (..., L, {size}), got {x.shape}")


class SinusoidalPositions(Module):
    """Adds sines and cosines of the position: x (..., L, E) -> the same shape.

    `p[i, 2k] = sin(i / base^(2k / E))`, `p[i, 2k + 1] = cos(i / base^(2k / E))`. Nothing is learnt, and no length is
    too long.

    Args:
        size: E.
        base: the longest wave is `2 pi base` positions long.

    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762.

    >>> import corten as ct
    >>> ct.nn.SinusoidalPositions(4)(ct.zeros((1, 2, 4)))[0, 0].tolist()
    [0.0, 1.0, 0.0, 1.0]
    """

    def __init__(self, size: int, base: float = 10000.0) -> None:
        super().__init__()
        self.size = whole("[SinusoidalPositions] size", size, 1)
        self.base = base

    def table(self, length: int, offset: int = 0) -> Tensor:
        """What is added at positions `offset` to `offset + length`: (length, E)."""
        at = np.arange(offset, offset + length)[:, None]
        angle = at / self.base ** (np.arange(0, self.size, 2)[None, :] / self.size)
        waves = np.empty((length, self.size), np.float32)
        waves[:, 0::2] = np.sin(angle)
        waves[:, 1::2] = np.cos(angle)[:, : self.size // 2]
        return tensor(waves)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., L, E), whose first row is at position `offset` -> the same shape."""
        _rows("[SinusoidalPositions]", x, self.size)
        return x + self.table(x.shape[-2], offset).to(x.device).astype(x.dtype)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.size}, base={self.base:g}"


class LearnedPositions(Module):
    """Adds a learnt vector per position: x (..., L, E) -> the same shape, L at most `length`.

    Parameter: `weight` (length, E), normal with standard deviation 0.02 at first, as in GPT-2.

    Args:
        length: the number of positions.
        size: E.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    Raises:
        ValueError: a position is beyond the last.

    >>> import corten as ct
    >>> ct.nn.LearnedPositions(16, 4)(ct.zeros((2, 5, 4))).shape
    (2, 5, 4)
    """

    weight: Tensor

    def __init__(self, length: int, size: int, *, dtype: Any = None, device: str = "cpu") -> None:
        super().__init__()
        self.length = whole("[LearnedPositions] length", length, 1)
        self.size = whole("[LearnedPositions] size", size, 1)
        self.weight = Parameter(zeros((self.length, self.size), dtype=dtype, device=device))
        init.normal_(self.weight, 0.0, 0.02)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., L, E), whose first row is at position `offset` -> the same shape."""
        _rows("[LearnedPositions]", x, self.size)
        end = offset + x.shape[-2]
        if offset < 0 or end > self.length:
            raise ValueError(
                f"[LearnedPositions] positions {offset} to {end - 1} are not all among the {self.length} known"
            )
        return x + self.weight[offset:end]

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.length}, {self.size}"


class RotaryPositions(Module):
    """Turns queries and keys by angles that grow with the position: x (..., L, D) -> the same shape.

    Pair k of the halves, `(x[k], x[k + D/2])`, is turned by `i / base^(2k / D)` at position i. So the score of a
    query and a key depends on the distance of their positions alone. Apply it to both before
    `F.scaled_dot_product_attention`.

    Args:
        size: D, even: of one head.
        base: the slowest pair turns once in `2 pi base` positions.

    J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv:2104.09864.

    >>> import corten as ct
    >>> rotary = ct.nn.RotaryPositions(4)
    >>> x = ct.ones((1, 2, 4))
    >>> rotary(x)[0, 0].tolist(), rotary(x).shape
    ([1.0, 1.0, 1.0, 1.0], (1, 2, 4))
    """

    def __init__(self, size: int, base: float = 10000.0) -> None:
        super().__init__()
        self.size = whole("[RotaryPositions] size", size, 2)
        if self.size % 2:
            raise ValueError(f"[RotaryPositions] size must be even, got {size}")
        self.base = base

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """x (..., L, D), whose first row is at position `offset` -> the same shape."""
        _rows("[RotaryPositions]", x, self.size)
        half = self.size // 2
        at = np.arange(offset, offset + x.shape[-2])[:, None]
        angle = at / self.base ** (np.arange(half)[None, :] / half)
        name = x.dtype.name if x.dtype.name in ("float32", "float64") else "float32"
        cos, sin = (tensor(f(angle).astype(name)).to(x.device).astype(x.dtype) for f in (np.cos, np.sin))
        a, b = x[..., :half], x[..., half:]
        return concat([a * cos - b * sin, b * cos + a * sin], -1)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.size}, base={self.base:g}"


def _span(name: str, length: Any, keys: Any, offset: Any) -> tuple[int, int, int]:
    """A number of queries, of keys, and the position of the first query, checked."""
    length, keys = whole(f"[{name}] length", length), whole(f"[{name}] keys", keys)
    offset = whole(f"[{name}] offset", offset)
    for what, last in (("offset + length", offset + length), ("keys", keys)):
        if last > 2**24:  # beyond, float32 skips numbers
            raise ValueError(f"[{name}] {what} must be at most 2^24, got {last}")
    return length, keys, offset


class AlibiBias(Module):
    """What is added to the scores so that near keys count more: `-slope_h |i + offset - j|`, (heads, L, S).

    The slopes are `2^(-8 h / heads)`, h from 1 on (for a number of heads that is no power of two, as in the paper's
    code). Nothing is learnt. Give it to `F.scaled_dot_product_attention` as `attn_mask`.

    Args:
        heads: number of heads.

    O. Press et al., "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation", ICLR
    2022, arXiv:2108.12409.

    >>> import corten as ct
    >>> ct.nn.AlibiBias(8)(1, 3, offset=2)[0].tolist()
    [[-1.0, -0.5, -0.0]]
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = whole("[AlibiBias] heads", heads, 1)

    def slopes(self) -> list[float]:
        """One per head."""
        power = 2 ** math.floor(math.log2(self.heads))
        found = [2.0 ** (-8.0 * h / power) for h in range(1, power + 1)]
        return found + [2.0 ** (-4.0 * h / power) for h in range(1, 2 * (self.heads - power), 2)]

    def forward(self, length: int, keys: int, offset: int = 0) -> Tensor:
        """(heads, length, keys) for queries from position `offset` on."""
        length, keys, offset = _span("AlibiBias", length, keys, offset)
        at = arange(offset, offset + length, dtype="float32").reshape(length, 1)
        distance = (at - arange(keys, dtype="float32")).abs()
        return distance * -tensor(self.slopes()).reshape(self.heads, 1, 1)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.heads}"


class RelativeBias(Module):
    """A learnt number per head and distance that is added to the scores: (heads, L, S).

    Distances fall into buckets: each small one has its own, larger ones share buckets that grow like the logarithm,
    and all from `max_distance` on share the last. Give it to `F.scaled_dot_product_attention` as `attn_mask`: it gets
    a gradient.

    Parameter: `weight` (buckets, heads), zeros at first.

    Args:
        heads: number of heads.
        buckets: number of buckets.
        max_distance: from here on all distances are alike.
        bidirectional: keys before and after a query have buckets of their own; otherwise keys after it are all alike.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    C. Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", JMLR 21,
    2020.

    >>> import corten as ct
    >>> ct.nn.RelativeBias(2)(3, 5).shape
    (2, 3, 5)
    """

    weight: Tensor

    def __init__(
        self,
        heads: int,
        buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.heads = whole("[RelativeBias] heads", heads, 1)
        self.buckets = whole("[RelativeBias] buckets", buckets, 4)
        self.max_distance = whole("[RelativeBias] max_distance", max_distance, self.buckets)
        self.bidirectional = bidirectional
        self.weight = Parameter(zeros((self.buckets, self.heads), dtype=dtype, device=device))

    def bucket(self, distance: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The buckets of distances `key - query`."""
        buckets, first = self.buckets, np.zeros_like(distance)
        if self.bidirectional:
            buckets //= 2
            first = np.where(distance > 0, buckets, 0)
            distance = np.abs(distance)
        else:
            distance = np.maximum(-distance, 0)
        exact = buckets // 2
        ratio = np.log(np.maximum(distance, 1) / exact) / math.log(self.max_distance / exact)
        large = np.minimum(exact + (ratio * (buckets - exact)).astype(np.int64), buckets - 1)
        found: np.ndarray[Any, Any] = first + np.where(distance < exact, distance, large)
        return found

    def forward(self, length: int, keys: int, offset: int = 0) -> Tensor:
        """(heads, length, keys) for queries from position `offset` on."""
        length, keys, offset = _span("RelativeBias", length, keys, offset)
        try:
            distance = np.arange(keys)[None, :] - np.arange(offset, offset + length)[:, None]
            buckets = tensor(self.bucket(distance))
        except (MemoryError, ValueError) as error:  # NumPy has words of its own for a size beyond all memory
            shape = (self.heads, length, keys)
            raise MemoryError(f"[RelativeBias] no memory for a bias of shape {shape}: {error}") from error
        rows = F.embedding(buckets.to(self.weight.device), self.weight)
        return rows.permute(2, 0, 1)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.heads}, buckets={self.buckets}, max_distance={self.max_distance}"
