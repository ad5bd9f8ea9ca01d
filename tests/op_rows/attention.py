"""Rows of attention."""

from __future__ import annotations

import numpy as np

from op_table import Const, Row, Tol, bad, s

#: Scores are sums of up to 64 products, weights their exponentials, results sums of up to 200 of them.
TOL = Tol(
    (2e-5, 2e-5), (2e-13, 2e-13), "dot products of k <= 200 terms of order 1, and a few roundings of scores below 10"
)
GRAD = Tol((5e-5, 5e-5), (2e-13, 2e-13), "three products in a row, of up to 200 terms of order 1 each")


def seen(heads, queries, keys, is_causal, lengths, window, offset):
    """Which scores count, (heads or (N, 1), L, S)."""
    at = np.arange(queries)[:, None] + offset
    key = np.arange(keys)[None, :]
    keep = np.ones((queries, keys), bool)
    before, after = (window, window) if isinstance(window, int) else (window or (None, None))
    if is_causal:
        after = 0
    if before is not None:
        keep &= key >= at - before
    if after is not None:
        keep &= key <= at + after
    if lengths is None:
        return keep
    return keep & (key < np.asarray(lengths)[:, None, None, None])


def attention_weights(
    query,
    key,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
    lengths=None,
    window=None,
    offset=0,
):
    if query.ndim < 4:
        some = (None,) * (2 if query.ndim == 2 else 1)
        lead = (slice(None), *some) if query.ndim == 3 else (*some, slice(None))
        if attn_mask is not None and np.ndim(attn_mask) == 3:
            attn_mask = attn_mask[:, None]
        w = attention_weights(
            query[lead], key[lead], attn_mask, dropout_p, is_causal, scale, enable_gqa, lengths, window, offset
        )
        return w.reshape(*query.shape[:-1], key.shape[-2])
    key = np.repeat(key, query.shape[-3] // max(key.shape[-3], 1), axis=-3)
    scale = 1 / np.sqrt(query.shape[-1]) if scale is None else scale
    scores = scale * query @ key.swapaxes(-1, -2)
    if attn_mask is not None:
        scores = np.where(attn_mask, scores, -np.inf) if attn_mask.dtype.kind == "b" else scores + attn_mask
    keep = seen(query.shape[-3], query.shape[-2], key.shape[-2], is_causal, lengths, window, offset)
    scores = np.where(keep, scores, -np.inf)
    w = np.zeros_like(scores)
    for index in np.ndindex(scores.shape[:-1]):
        row = scores[index]
        if (row > -np.inf).any():
            e = np.exp(row - row.max())
            w[index] = e / e.sum()
    return w


def attention(query, key, value, *args, **kwargs):
    w = attention_weights(query, key, *args, **kwargs)
    if value.ndim > 3:
        value = np.repeat(value, query.shape[-3] // max(value.shape[-3], 1), axis=-3)
    return w @ value


def calls(rng, with_value):
    """Queries (N, H, L, E), keys (N, Hk, S, E) and values (N, Hk, S, Ev) with every rule."""

    def qkv(n, h, length, keys, size, value=None, hk=None):
        arrays = [rng.normal(size=(n, h, length, size)), rng.normal(size=(n, hk or h, keys, size))]
        return [*arrays, rng.normal(size=(n, hk or h, keys, value or size))] if with_value else arrays

    yield s(*qkv(2, 2, 3, 4, 3, 2), label="plain")
    yield s(*qkv(1, 2, 4, 4, 3), is_causal=True, label="causal")
    yield s(*qkv(1, 2, 3, 5, 2), is_causal=True, offset=2, label="causal, queries at the end")
    yield s(*qkv(1, 2, 4, 3, 2), is_causal=True, offset=-2, label="causal, first queries see nothing")
    yield s(*qkv(1, 1, 5, 6, 2), window=1, label="window")
    yield s(*qkv(1, 1, 5, 6, 2), window=(2, None), offset=1, label="window to one side")
    yield s(*qkv(1, 2, 5, 5, 2), window=(1, 3), is_causal=True, label="causal window")
    yield s(*qkv(3, 1, 3, 4, 2), lengths=np.array([4, 2, 0]), label="lengths")
    yield s(*qkv(2, 4, 3, 4, 2, hk=2), enable_gqa=True, label="shared heads")
    yield s(*qkv(1, 1, 3, 4, 2), scale=-0.7, label="scale")
    keep = rng.random((3, 4)) < 0.6
    keep[1] = False
    yield s(*qkv(2, 2, 3, 4, 2), Const(keep), label="bool mask (L, S) with an empty row")
    yield s(*qkv(2, 2, 3, 4, 2), Const(rng.random((2, 1, 1, 4)) < 0.7), label="bool mask of keys")
    yield s(*qkv(2, 2, 3, 4, 2), rng.normal(size=(2, 3, 4)), label="added mask (H, L, S) with gradient")
    yield s(*qkv(2, 2, 3, 4, 2), Const(rng.normal(size=(2, 1, 3, 1))), label="added mask (N, 1, L, 1)")
    yield s(*qkv(1, 2, 3, 4, 2), rng.normal(size=(1, 4)), is_causal=True, label="causal and added mask")
    yield s(*[a[:, 0] for a in qkv(3, 1, 4, 5, 2)], Const(rng.random((3, 4, 5)) < 0.8), label="(N, L, E)")
    yield s(*[a[0, 0] for a in qkv(1, 1, 4, 5, 2)], is_causal=True, label="(L, E)")
    yield s(*[a[None] for a in qkv(2, 2, 3, 3, 2)], label="five axes")
    yield s(*qkv(0, 2, 3, 4, 2), label="empty batch")
    yield s(*qkv(1, 1, 0, 4, 2), label="no queries")
    yield s(*qkv(1, 2, 3, 0, 2), label="no keys")
    hidden = np.where(rng.random((3, 4)) < 0.5, -np.inf, 0.0)
    hidden[2] = -np.inf
    yield s(*qkv(1, 2, 3, 4, 2), Const(hidden), label="minus infinity")
    yield s(*qkv(2, 3, 130, 70, 33, 20), is_causal=True, offset=-20, label="big, odd sizes", big=True)
    yield s(*qkv(1, 1, 200, 200, 64), is_causal=True, label="big, one head", big=True)
    yield s(*qkv(2, 4, 65, 129, 16, hk=2), enable_gqa=True, window=(40, 20), label="big, shared heads", big=True)
    yield s(*qkv(2, 2, 70, 90, 32), Const(rng.random((2, 1, 70, 90)) < 0.5), label="big, mask", big=True)
    yield s(*qkv(3, 2, 66, 100, 16), lengths=np.array([100, 64, 3]), label="big, lengths", big=True)


def with_values(rng):
    return calls(rng, True)


def without_values(rng):
    return calls(rng, False)


def ones(*shape):
    return np.ones(shape)


X, Y = ones(2, 6, 3, 4), ones(2, 3, 5, 4)

ROWS = [
    Row(
        "scaled_dot_product_attention",
        with_values,
        attention,
        TOL,
        (
            bad(ValueError, r"query has 6 heads but key has 3 \(pass enable_gqa=True", X, Y, Y),
            bad(ValueError, r"those of key must divide", ones(2, 5, 3, 4), Y, Y, enable_gqa=True),
            bad(ValueError, r"size 4 but key of size 2.*\(2, 6, 3, 4\)", X, ones(2, 6, 3, 2), X),
            bad(ValueError, r"key \(2, 6, 3, 4\) and value \(2, 6, 4, 4\)", X, X, ones(2, 6, 4, 4)),
            bad(ValueError, r"same batch", X, ones(1, 6, 3, 4), ones(1, 6, 3, 4)),
            bad(ValueError, r"same number of axes", X, ones(6, 3, 4), ones(6, 3, 4)),
            bad(ValueError, r"attn_mask \(4, 3\) does not broadcast to the scores \(2, 6, 3, 3\)", X, X, X, ones(4, 3)),
            bad(TypeError, r"attn_mask must be bool .* or float64", X, X, X, np.ones((3, 3), np.int64)),
            bad(ValueError, r"lengths must be \(2,\)", X, X, X, lengths=np.ones(3, np.int64)),
            bad(ValueError, r"between 0 and the 3 keys, got 4", X, X, X, lengths=np.array([1, 4])),
            bad(TypeError, r"lengths must be integers", X, X, X, lengths=np.ones(2)),
            bad(ValueError, r"dropout_p must be a probability", X, X, X, dropout_p=1.5),
            bad(ValueError, r"scale must be a finite number", X, X, X, scale=float("inf")),
            bad(TypeError, r"window is an int", X, X, X, window="all"),
            bad(ValueError, r"\(.., heads, length, size\)", ones(3), ones(3), ones(3)),
        ),
        grad_tol=GRAD,
    ),
    Row(
        "attention_weights",
        without_values,
        attention_weights,
        TOL,
        (
            bad(ValueError, r"\[attention_weights\] query has 6 heads but key has 3", X, Y),
            bad(ValueError, r"\[attention_weights\] attn_mask \(4, 3\)", X, X, ones(4, 3)),
        ),
        grad_tol=GRAD,
    ),
]
