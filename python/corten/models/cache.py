"""Keys and values that were computed before, kept for the tokens to come."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..functions import Tensor, zeros

__all__ = ["KVCache"]


class KVCache:
    """Room for the keys and values of a batch in every layer: (batch, heads, length, size) each, allocated once.

    `append` writes those of new tokens behind the others and gives back all so far, as views that copy nothing;
    `advance` says that all layers have done so. A cache belongs to one batch; `reset` empties it for the next.

    Args:
        layers: number of layers.
        batch: N.
        heads: number of heads of keys.
        length: how many tokens there is room for.
        size: of a head.
        dtype: of keys and values; float32 by default.
        device: where they are.

    Raises:
        ValueError: there is no room left, or keys of another shape come.

    >>> import corten as ct
    >>> cache = ct.models.KVCache(layers=1, batch=1, heads=2, length=8, size=4)
    >>> k, v = cache.append(0, ct.ones((1, 2, 3, 4)), ct.ones((1, 2, 3, 4)))
    >>> cache.advance(3)
    >>> k.shape, cache.used
    ((1, 2, 3, 4), 3)
    """

    def __init__(
        self, layers: int, batch: int, heads: int, length: int, size: int, *, dtype: Any = None, device: str = "cpu"
    ) -> None:
        checks.layers("[KVCache] layers", layers)
        names = ("batch", "heads", "length", "size")
        for name, value in zip(names, (batch, heads, length, size), strict=True):
            checks.whole(f"[KVCache] {name}", value)
        self.shape = (batch, heads, length, size)
        self.length = length
        #: Tokens that are in all layers.
        self.used = 0
        # Per layer (batch, 2 heads, length, size): keys, then values, so that one write can do for both.
        room = (batch, 2 * heads, length, size)
        self._both = [zeros(room, dtype=dtype, device=device) for _ in range(layers)]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write key and value (batch, heads, T, size) of new tokens; gives all so far, these included."""
        n, h, _, d = self.shape
        new = key.shape[2] if key.ndim == 4 else -1
        if key.shape != (n, h, new, d) or value.shape != key.shape:
            raise ValueError(f"[KVCache] key and value must be ({n}, {h}, T, {d}), got {key.shape} and {value.shape}")
        end = self.used + new
        if end > self.length:
            raise ValueError(
                f"[KVCache] there is room for {self.length} tokens, {self.used} are there, and {new} more have come"
            )
        both = self._both[layer]
        both[:, :h, self.used : end] = key.detach()
        both[:, h:, self.used : end] = value.detach()
        return both[:, :h, :end], both[:, h:, :end]

    def append_token(self, layer: int, both: Tensor) -> tuple[Tensor, Tensor]:
        """`append` of one token, keys and values in one tensor (batch, 2 heads, 1, size), unchecked: for fast loops."""
        room, at, h = self._both[layer], self.used, self.shape[1]
        room[:, :, at : at + 1] = both
        return room[:, :h, : at + 1], room[:, h:, : at + 1]

    def advance(self, count: int) -> None:
        """All layers have `count` tokens more."""
        self.used += count

    def reset(self) -> None:
        """Forget everything; the room stays."""
        self.used = 0
