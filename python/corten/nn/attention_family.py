"""Other ways to score how well a query and a key match, and the kernel regression that attention grew from.

All of them look at keys (N, S, K) with values (N, S, V) through queries (N, L, Q), and give results (N, L, V) and
weights (N, L, S). `mask` is bool and broadcasts to (N, L, S): True is looked at; `lengths` (N,) says how many keys
exist. A query that sees no key gives zeros.
"""

from __future__ import annotations

import math
from typing import Any

from ..checks import is_tensor, positive, whole
from ..functions import Tensor, arange, exp, full, matmul, tanh, where, zeros
from . import functional as F
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter

__all__ = ["AdditiveAttention", "BilinearAttention", "DotProductAttention", "NadarayaWatson"]


class _Attention(Module):
    """From scores to results."""

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        name = type(self).__name__
        for what, x in (("query", query), ("key", key), ("value", value)):
            is_tensor(f"[{name}] {what}", x)
        for x in (query, key, value):
            if x.ndim != 3 or x.shape[0] != query.shape[0]:
                raise ValueError(
                    f"[{name}] query, key and value must be (N, L, Q), (N, S, K) and (N, S, V), got {query.shape}, "
                    f"{key.shape} and {value.shape}"
                )
        if key.shape[1] != value.shape[1]:
            raise ValueError(f"[{name}] there must be a value per key, got key {key.shape} and value {value.shape}")

    def _look(
        self, scores: Tensor, value: Tensor, mask: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Results and weights from scores (N, L, S)."""
        name = type(self).__name__
        n, _, keys = scores.shape
        if mask is not None:
            is_tensor(f"[{name}] mask", mask)
            if mask.dtype != "bool":
                raise TypeError(f"[{name}] mask must be bool, True where a key is looked at, got {mask.dtype.name}")
        if lengths is not None:
            is_tensor(f"[{name}] lengths", lengths)
            if lengths.shape != (n,):
                raise ValueError(f"[{name}] lengths must be ({n},), one per batch entry, got {lengths.shape}")
            exists = arange(keys, device=scores.device) < lengths.reshape(n, 1, 1)
            mask = exists if mask is None else mask & exists
        if mask is None:
            weights = F.softmax(scores, -1)
        else:
            # A large number, not infinity: a row of nothing but that has a softmax, which the mask then clears.
            weights = F.softmax(where(mask, scores, -1e30), -1)
            weights = where(mask, weights, 0.0)
        return weights @ value, weights


class DotProductAttention(_Attention):
    """Scores are dot products, `q . k`, or `q . k / sqrt(K)` if scaled: queries and keys have one size.

    Without weights and with many keys, `nn.functional.scaled_dot_product_attention` is faster.

    Args:
        scaled: divide by the root of the size, so that scores do not grow with it.

    M. Luong, H. Pham, C. Manning, "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
    arXiv:1508.04025; scaled: A. Vaswani et al., 2017, arXiv:1706.03762.

    >>> import corten as ct
    >>> y, weights = ct.nn.DotProductAttention()(ct.zeros((1, 2, 4)), ct.zeros((1, 3, 4)), ct.ones((1, 3, 5)))
    >>> y.shape, weights.shape
    ((1, 2, 5), (1, 2, 3))
    """

    def __init__(self, scaled: bool = True) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Results (N, L, V) and weights (N, L, S)."""
        self._check(query, key, value)
        if query.shape[2] != key.shape[2]:
            raise ValueError(
                f"[DotProductAttention] query and key must have one size, got {query.shape} and {key.shape} "
                f"(BilinearAttention compares different sizes)"
            )
        scores = query @ key.mT
        if self.scaled:
            scores = scores * (1 / math.sqrt(max(1, key.shape[2])))
        return self._look(scores, value, mask, lengths)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"scaled={self.scaled}"


class BilinearAttention(_Attention):
    """Scores are `q W k`: Luong's general attention.

    Parameter: `weight` (Q, K).

    Args:
        query_size: Q.
        key_size: K; Q by default.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    M. Luong, H. Pham, C. Manning, "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
    arXiv:1508.04025.

    >>> import corten as ct
    >>> y, weights = ct.nn.BilinearAttention(4, 6)(ct.zeros((1, 2, 4)), ct.zeros((1, 3, 6)), ct.ones((1, 3, 5)))
    >>> y.shape, weights.shape
    ((1, 2, 5), (1, 2, 3))
    """

    weight: Tensor

    def __init__(self, query_size: int, key_size: int | None = None, *, dtype: Any = None, device: str = "cpu") -> None:
        super().__init__()
        self.query_size = whole("[BilinearAttention] query_size", query_size, 1)
        self.key_size = self.query_size if key_size is None else whole("[BilinearAttention] key_size", key_size, 1)
        self.weight = Parameter(zeros((self.query_size, self.key_size), dtype=dtype, device=device))
        init.xavier_uniform_(self.weight)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Results (N, L, V) and weights (N, L, S)."""
        self._check(query, key, value)
        if query.shape[2] != self.query_size or key.shape[2] != self.key_size:
            raise ValueError(
                f"[BilinearAttention] expects query (N, L, {self.query_size}) and key (N, S, {self.key_size}), got "
                f"{query.shape} and {key.shape}"
            )
        return self._look(matmul(query, self.weight) @ key.mT, value, mask, lengths)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.query_size}, {self.key_size}"


class AdditiveAttention(_Attention):
    """Scores are `v . tanh(W q + U k)`: Bahdanau's attention, which learns how to compare.

    Parameters: `query.weight` (hidden, Q), `key.weight` (hidden, K), `score.weight` (1, hidden).

    Args:
        query_size: Q.
        key_size: K; Q by default.
        hidden: size of what is compared; Q by default.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    D. Bahdanau, K. Cho, Y. Bengio, "Neural Machine Translation by Jointly Learning to Align and Translate", ICLR 2015,
    arXiv:1409.0473.

    >>> import corten as ct
    >>> y, weights = ct.nn.AdditiveAttention(4, 6)(ct.zeros((1, 2, 4)), ct.zeros((1, 3, 6)), ct.ones((1, 3, 5)))
    >>> y.shape, weights.shape
    ((1, 2, 5), (1, 2, 3))
    """

    def __init__(
        self,
        query_size: int,
        key_size: int | None = None,
        hidden: int | None = None,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        key_size = query_size if key_size is None else key_size
        hidden = query_size if hidden is None else hidden
        self.query = Linear(query_size, hidden, bias=False, dtype=dtype, device=device)
        self.key = Linear(key_size, hidden, bias=False, dtype=dtype, device=device)
        self.score = Linear(hidden, 1, bias=False, dtype=dtype, device=device)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        projected: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Results (N, L, V) and weights (N, L, S). `projected` is `self.key(key)`, if the caller has it already."""
        self._check(query, key, value)
        keys = self.key(key) if projected is None else projected
        hidden = tanh(self.query(query).unsqueeze(2) + keys.unsqueeze(1))  # (N, L, S, hidden)
        scores: Tensor = self.score(hidden)
        return self._look(scores.squeeze(-1), value, mask, lengths)


class NadarayaWatson(_Attention):
    """Kernel regression: the mean of the values, weighted by how near their keys are: `softmax(-|q - k|^2 / (2 h^2))`.

    With an infinite bandwidth h every key counts alike (average pooling), with a small one only the nearest. It can be
    learnt.

    Parameter, if learnable: `log_bandwidth` (1,).

    Args:
        bandwidth: h, above 0; `math.inf` for plain means.
        learnable: make it a parameter.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    E. Nadaraya, "On Estimating Regression", 1964; G. Watson, "Smooth Regression Analysis", 1964.

    >>> import corten as ct
    >>> x = ct.tensor([[[0.0], [1.0]]])
    >>> y, weights = ct.nn.NadarayaWatson(float("inf"))(x, x, ct.tensor([[[2.0], [4.0]]]))
    >>> y.flatten().tolist()
    [3.0, 3.0]
    """

    log_bandwidth: Tensor | None

    def __init__(
        self, bandwidth: float = 1.0, learnable: bool = False, *, dtype: Any = None, device: str = "cpu"
    ) -> None:
        super().__init__()
        positive("[NadarayaWatson] bandwidth", bandwidth)
        if learnable and math.isinf(bandwidth):
            raise ValueError("[NadarayaWatson] an infinite bandwidth cannot be learnt, start with a finite one")
        self.bandwidth = float(bandwidth)
        start = full((1,), math.log(bandwidth), dtype=dtype or "float32", device=device) if learnable else None
        self.log_bandwidth = None if start is None else Parameter(start)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Results (N, L, V) and weights (N, L, S)."""
        self._check(query, key, value)
        if query.shape[2] != key.shape[2]:
            raise ValueError(f"[NadarayaWatson] query and key must have one size, got {query.shape} and {key.shape}")
        # |q - k|^2 without the difference of all pairs; the root of a rounding error is never taken.
        squares = (query * query).sum(2, keepdims=True) + (key * key).sum(2).unsqueeze(1)
        distance = squares - 2.0 * (query @ key.mT)
        if self.log_bandwidth is not None:
            scores = distance * (-0.5 * exp(-2.0 * self.log_bandwidth))
        else:
            scores = distance * (-0.5 / self.bandwidth**2)
        return self._look(scores, value, mask, lengths)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"bandwidth={self.bandwidth:g}, learnable={self.log_bandwidth is not None}"
