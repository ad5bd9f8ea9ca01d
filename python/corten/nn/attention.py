"""Multi-head attention."""

from __future__ import annotations

from typing import Any

from ..checks import at_least, is_tensor, whole
from ..functions import Tensor, concat, where, zeros
from . import functional as F
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention in several heads: `concat(head_1, ..., head_h) W_o`, `head_i = attention(q W_i^Q, k W_i^K, v W_i^V)`.

    Without weights (`need_weights=False`, faster) nothing of size L S is ever made.

    Parameters, under PyTorch's names: `in_proj_weight` (3 E, E) and `in_proj_bias` (3 E,), the projections of queries,
    keys and values on top of each other; `out_proj.weight` (E, E) and `out_proj.bias` (E,). If keys or values have a
    size of their own, `q_proj_weight` (E, E), `k_proj_weight` (E, kdim) and `v_proj_weight` (E, vdim) take the place of
    the first.

    Args:
        embed_dim: E, divided among the heads.
        num_heads: number of heads; divides E.
        dropout: probability with which a weight becomes zero in training.
        bias: have the biases.
        add_bias_kv: add a learnt key and a learnt value (`bias_k`, `bias_v`) behind all others.
        add_zero_attn: add a key and a value of zeros behind all others.
        kdim: size of the keys; E by default.
        vdim: size of the values; E by default.
        batch_first: axes are (N, L, E), not (L, N, E).
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: sizes, heads or masks do not fit.

    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762.

    >>> import corten as ct
    >>> attention = ct.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> x = ct.zeros((3, 5, 8))
    >>> y, weights = attention(x, x, x)
    >>> y.shape, weights.shape
    ((3, 5, 8), (3, 5, 5))
    """

    in_proj_weight: Tensor | None
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None
    in_proj_bias: Tensor | None
    bias_k: Tensor | None
    bias_v: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.embed_dim = e = whole("[MultiheadAttention] embed_dim", embed_dim, 1)
        self.num_heads = whole("[MultiheadAttention] num_heads", num_heads, 1)
        if e % self.num_heads:
            raise ValueError(f"[MultiheadAttention] num_heads={num_heads} must divide embed_dim={embed_dim}")
        at_least("[MultiheadAttention] dropout", dropout)
        if dropout > 1:
            raise ValueError(f"[MultiheadAttention] dropout must be in [0, 1], got {dropout}")
        self.dropout = dropout
        self.kdim = e if kdim is None else whole("[MultiheadAttention] kdim", kdim, 1)
        self.vdim = e if vdim is None else whole("[MultiheadAttention] vdim", vdim, 1)
        self.batch_first = batch_first
        self.head_dim = e // self.num_heads
        self.add_zero_attn = add_zero_attn

        def parameter(*shape: int) -> Tensor:
            return Parameter(zeros(shape, dtype=dtype, device=device))

        together = self.kdim == e and self.vdim == e
        self.in_proj_weight = parameter(3 * e, e) if together else None
        self.q_proj_weight = None if together else parameter(e, e)
        self.k_proj_weight = None if together else parameter(e, self.kdim)
        self.v_proj_weight = None if together else parameter(e, self.vdim)
        self.in_proj_bias = parameter(3 * e) if bias else None
        self.out_proj = Linear(e, e, bias, dtype=dtype, device=device)
        self.bias_k = parameter(1, 1, e) if add_bias_kv else None
        self.bias_v = parameter(1, 1, e) if add_bias_kv else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as PyTorch does: Glorot's weights, biases of zeros."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for row in (self.bias_k, self.bias_v):
            if row is not None:
                init.xavier_normal_(row)

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of all heads, (N, L or S, E) each; what is the same is projected at once."""
        e, w, b = self.embed_dim, self.in_proj_weight, self.in_proj_bias
        if w is None:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            biases = (None, None, None) if b is None else (b[:e], b[e : 2 * e], b[2 * e :])
            q, k, v = (
                F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True) if w is not None
            )
            return q, k, v
        if key is value:
            if query is key:
                qkv = F.linear(query, w, b)
                return qkv[..., :e], qkv[..., e : 2 * e], qkv[..., 2 * e :]
            kv = F.linear(key, w[e:], None if b is None else b[e:])
            return F.linear(query, w[:e], None if b is None else b[:e]), kv[..., :e], kv[..., e:]
        parts = [(w[i * e : (i + 1) * e], None if b is None else b[i * e : (i + 1) * e]) for i in range(3)]
        q, k, v = (F.linear(x, w, b) for x, (w, b) in zip((query, key, value), parts, strict=True))
        return q, k, v

    def _mask(self, mask: Tensor | None, padding: Tensor | None, shape: tuple[int, int, int, int]) -> Tensor | None:
        """What `attn_mask` and `key_padding_mask` say together, as `F.scaled_dot_product_attention` takes it."""
        n, h, length, keys = shape
        parts: list[Tensor] = []
        if mask is not None:
            is_tensor("[MultiheadAttention] attn_mask", mask)
            if mask.shape not in ((length, keys), (n * h, length, keys)):
                raise ValueError(
                    f"[MultiheadAttention] attn_mask must be (L, S) = {(length, keys)} or "
                    f"(N heads, L, S) = {(n * h, length, keys)}, got {mask.shape}"
                )
            parts.append(mask if mask.ndim == 2 else mask.reshape(n, h, length, keys))
        if padding is not None:
            is_tensor("[MultiheadAttention] key_padding_mask", padding)
            if padding.shape != (n, keys):
                raise ValueError(
                    f"[MultiheadAttention] key_padding_mask must be (N, S) = {(n, keys)}, got {padding.shape}"
                )
            parts.append(padding.reshape(n, 1, 1, keys))
        if not parts:
            return None
        if all(part.dtype == "bool" for part in parts):
            hidden = parts[0] if len(parts) == 1 else parts[0] | parts[1]
            return ~hidden
        numbers = [where(part, float("-inf"), 0.0) if part.dtype == "bool" else part for part in parts]
        return numbers[0] if len(numbers) == 1 else numbers[0] + numbers[1]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Each query's result, and the weights if wanted.

        Args:
            query: (N, L, E) with `batch_first`, else (L, N, E); or (L, E).
            key: (N, S, kdim), (S, N, kdim) or (S, kdim).
            value: (N, S, vdim), (S, N, vdim) or (S, vdim).
            key_padding_mask: (N, S), or (S,) without a batch; True where a key is padding and must not be looked at, or
                numbers to add.
            need_weights: return the weights; without them it is faster, and takes less memory.
            attn_mask: (L, S) or (N heads, L, S); True where a query must not look, or numbers to add.
            average_attn_weights: the mean of the heads' weights, not those of each.
            is_causal: query i sees no key behind i; no mask is needed for it (and any given counts as well).
            lengths: integers (N,): so many keys of each batch entry exist; the quick way of saying `key_padding_mask`.

        Returns:
            results like `query`, and weights (N, L, S), or (N, heads, L, S) if not averaged (without N where there is
            none), or None.
        """
        for name, x in (("query", query), ("key", key), ("value", value)):
            is_tensor(f"[MultiheadAttention] {name}", x)
            if x.ndim != query.ndim or x.ndim not in (2, 3):
                raise ValueError(
                    f"[MultiheadAttention] query, key and value must all have 3 axes (or 2, without a batch), "
                    f"got {name} {x.shape} and query {query.shape}"
                )
        sizes = (self.embed_dim, self.kdim, self.vdim)
        for (name, x), size in zip((("query", query), ("key", key), ("value", value)), sizes, strict=True):
            if x.shape[-1] != size:
                raise ValueError(f"[MultiheadAttention] {name} must have size {size}, got {x.shape}")
        alone = query.ndim == 2
        # The same objects stay the same, so that they are projected at once.
        made: dict[int, Tensor] = {}

        def rows(x: Tensor) -> Tensor:
            if id(x) not in made:
                made[id(x)] = x.unsqueeze(0) if alone else x if self.batch_first else x.transpose(0, 1)
            return made[id(x)]

        q, k, v = rows(query), rows(key), rows(value)
        if alone and key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
        if not (q.shape[0] == k.shape[0] == v.shape[0]) or k.shape[1] != v.shape[1]:
            raise ValueError(
                f"[MultiheadAttention] batches of query, key and value and lengths of key and value must be equal, got "
                f"{query.shape}, {key.shape} and {value.shape}"
            )
        n, length, keys = q.shape[0], q.shape[1], k.shape[1]
        h, d = self.num_heads, self.head_dim
        mask = self._mask(attn_mask, key_padding_mask, (n, h, length, keys))
        q, k, v = self._project(q, k, v)
        extra: list[tuple[Tensor, Tensor]] = []
        if self.bias_k is not None and self.bias_v is not None:
            extra.append((self.bias_k, self.bias_v))
        if self.add_zero_attn:
            zero = zeros((1, 1, self.embed_dim), dtype=q.dtype, device=q.device)
            extra.append((zero, zero))
        if extra:
            if is_causal or lengths is not None:
                raise ValueError("[MultiheadAttention] with add_bias_kv or add_zero_attn, say what is hidden by masks")
            k = concat([k, *(a.expand(n, 1, self.embed_dim) for a, _ in extra)], 1)
            v = concat([v, *(b.expand(n, 1, self.embed_dim) for _, b in extra)], 1)
            if mask is not None:
                seen = zeros((*mask.shape[:-1], len(extra)), dtype=mask.dtype, device=mask.device)
                mask = concat([mask, ~seen if mask.dtype == "bool" else seen], -1)
        q, k, v = (x.reshape(n, x.shape[1], h, d).transpose(1, 2) for x in (q, k, v))
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            weights = F.attention_weights(q, k, mask, p, is_causal, lengths=lengths)
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights[0] if alone else weights
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal, lengths=lengths)
        y = self.out_proj(y.transpose(1, 2).reshape(n, length, self.embed_dim))
        return (y[0] if alone else y if self.batch_first else y.transpose(0, 1)), weights

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"
