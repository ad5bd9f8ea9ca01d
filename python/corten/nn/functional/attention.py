"""Attention: queries look at keys and take a mean of values."""

from __future__ import annotations

from ... import _core
from ..._core import Tensor
from .common import check_dtype

__all__ = ["attention_weights", "scaled_dot_product_attention"]

Window = int | tuple[int | None, int | None]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    lengths: Tensor | None = None,
    window: Window | None = None,
    offset: int = 0,
) -> Tensor:
    """Each query's mean of the values, weighted by how well their keys match: `softmax(scale Q K^T + mask) V`.

    The weights never exist all at once: memory grows with L + S, not with L S, forward and backward. What lengths,
    causality and window leave out is not computed, tile by tile. A query that sees no key at all gives zeros, and zero
    gradients.

    Args:
        query: (..., H, L, E), or without heads (N, L, E) or (L, E).
        key: (..., H, S, E).
        value: (..., H, S, Ev).
        attn_mask: broadcasts to (..., H, L, S). Bool: True is looked at (as in PyTorch's function of this name, not its
            modules); numbers are added to the scores, and get a gradient.
        dropout_p: probability with which a weight becomes zero; 0 outside of training.
        is_causal: query i sees keys 0 to i + offset. May be combined with a mask.
        scale: factor of the scores; None is `1 / sqrt(E)`.
        enable_gqa: several heads of queries share a head of keys: with H of the one and Hk of the other, query head h
            uses key head `h // (H // Hk)`.
        lengths: integers (N,): so many keys of each batch entry exist, the others are padding and are not read.
        window: query i sees keys `i + offset - before` to `i + offset + after`; one int for both or a pair, of which
            None is all.
        offset: position of the first query among the keys, such as the number of keys in a cache.

    Returns:
        (..., H, L, Ev).

    Raises:
        ValueError: sizes, heads, mask or lengths do not fit.
        TypeError: the dtypes differ.

    A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762. Computed as in T. Dao et al.,
    "FlashAttention", NeurIPS 2022, arXiv:2205.14135.

    >>> import corten as ct
    >>> x = ct.eye(3).reshape(1, 1, 3, 3)
    >>> y = ct.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
    >>> y.shape, y[0, 0, 0].tolist()
    ((1, 1, 3, 3), [1.0, 0.0, 0.0])
    """
    check_dtype("scaled_dot_product_attention", query, key)
    return _core.scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, lengths, window, offset
    )


def attention_weights(
    query: Tensor,
    key: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    lengths: Tensor | None = None,
    window: Window | None = None,
    offset: int = 0,
) -> Tensor:
    """The weights of `scaled_dot_product_attention`, to look at or to use: `softmax(scale Q K^T + mask)`.

    The arguments are the same. The weights of a query sum to 1, or are all 0 if it sees no key.

    Returns:
        (..., H, L, S).

    >>> import corten as ct
    >>> ct.nn.functional.attention_weights(ct.ones((3, 2)), ct.ones((3, 2)), is_causal=True)[1].tolist()
    [0.5, 0.5, 0.0]
    """
    check_dtype("attention_weights", query, key)
    return _core.attention_weights(
        query, key, attn_mask, dropout_p, is_causal, scale, enable_gqa, lengths, window, offset
    )
