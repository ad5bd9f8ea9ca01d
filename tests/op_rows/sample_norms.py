"""Rows of what normalises within each sample: layer, RMS, group, instance and local response norm."""

from __future__ import annotations

import numpy as np

from op_table import FEW, SUMS, Row, Tol, bad, s

#: A float32 gradient divides by a deviation of order 1 and adds up to 130 rows.
GRAD = Tol((3e-5, 3e-5), (2e-13, 2e-13), "sums of up to 130 products of order 5, divided by deviations above 0.3")


def sizes(shape):
    return (shape,) if isinstance(shape, int) else tuple(shape)


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    axes = tuple(range(x.ndim - len(sizes(normalized_shape)), x.ndim))
    y = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(x, normalized_shape, weight=None, eps=None):
    axes = tuple(range(x.ndim - len(sizes(normalized_shape)), x.ndim))
    eps = 1e-16 if eps is None else eps
    y = x / np.sqrt((x * x).mean(axis=axes, keepdims=True) + eps)
    return y if weight is None else y * weight


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    y = np.empty_like(x)
    size = x.shape[1] // num_groups
    for image in range(x.shape[0]):
        for k in range(num_groups):
            part = x[image, k * size : (k + 1) * size]
            y[image, k * size : (k + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    column = (slice(None), *[None] * (x.ndim - 2))
    y = y if weight is None else y * weight[column]
    return y if bias is None else y + bias[column]


def instance_norm(x, weight=None, bias=None, eps=1e-5):
    return group_norm(x, x.shape[1], weight, bias, eps)


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        first = c - size // 2
        window = x[:, max(first, 0) : max(first + size, 0)]
        y[:, c] = x[:, c] * (k + alpha / size * (window**2).sum(axis=1)) ** -beta
    return y


def layers(rng):
    n = rng.normal
    yield s(n(size=(4, 7)), 7, n(size=(7,)), n(size=(7,)), label="rows")
    yield s(n(size=(2, 3, 5)), (5,), n(size=(5,)), label="no bias")
    yield s(n(size=(2, 3, 5)), (3, 5), n(size=(3, 5)), n(size=(3, 5)), 0.1, label="two axes")
    yield s(n(size=(6,)), 6, label="vector")
    yield s(n(size=(3, 4)), (3, 4), bias=n(size=(3, 4)), label="everything, bias only")
    yield s(n(size=(0, 5)), 5, n(size=(5,)), n(size=(5,)), label="empty")
    yield s(100 + n(size=(3, 64)), 64, label="far from zero", grad=False)
    yield s(n(size=(130, 67)), 67, n(size=(67,)), n(size=(67,)), label="big", big=True)
    yield s(n(size=(3, 4500)), 4500, n(size=(4500,)), label="long rows", big=True)


def rms(rng):
    n = rng.normal
    yield s(n(size=(4, 7)), 7, n(size=(7,)), label="rows")
    yield s(n(size=(2, 3, 5)), (3, 5), n(size=(3, 5)), 0.1, label="two axes")
    yield s(n(size=(6,)), 6, label="vector")
    yield s(n(size=(0, 5)), 5, n(size=(5,)), label="empty")
    yield s(n(size=(130, 67)), 67, n(size=(67,)), label="big", big=True)


def groups(rng):
    n = rng.normal
    yield s(n(size=(2, 6, 5)), 3, n(size=(6,)), n(size=(6,)), label="(N, C, L)")
    yield s(n(size=(2, 4, 3, 2)), 2, n(size=(4,)), label="(N, C, H, W), no bias")
    yield s(n(size=(3, 8)), 2, eps=0.1, label="(N, C)")
    yield s(n(size=(2, 3, 4)), 1, n(size=(3,)), n(size=(3,)), label="one group")
    yield s(n(size=(0, 4, 3)), 2, n(size=(4,)), n(size=(4,)), label="empty")
    yield s(n(size=(5, 32, 9, 7)), 8, n(size=(32,)), n(size=(32,)), label="big", big=True)


def instances(rng):
    n = rng.normal
    yield s(n(size=(2, 3, 5)), n(size=(3,)), n(size=(3,)), label="(N, C, L)")
    yield s(n(size=(2, 2, 3, 4)), eps=0.1, label="(N, C, H, W), plain")
    yield s(n(size=(0, 4, 3)), label="empty")
    yield s(n(size=(5, 8, 17, 13)), n(size=(8,)), n(size=(8,)), label="big", big=True)


def responses(rng):
    n = rng.normal
    yield s(n(size=(2, 7, 3)), 5, label="odd window")
    yield s(n(size=(2, 7, 2, 2)), 4, 0.5, 0.75, 2.0, label="even window")
    yield s(n(size=(2, 3, 2)), 9, alpha=0.5, label="window beyond the channels")
    yield s(n(size=(2, 3, 2)), 1, alpha=0.5, beta=0.5, label="one channel")
    yield s(n(size=(0, 3, 2)), 2, label="empty")
    yield s(n(size=(3, 16, 9, 7)), 5, alpha=0.5, label="big", big=True)


X = np.ones((2, 6, 3))

ROWS = [
    Row(
        "layer_norm",
        layers,
        layer_norm,
        Tol((2e-5, 2e-5), (2e-13, 2e-13), "x - mean cancels: u |x| / deviation is 100 u for numbers around 100"),
        (
            bad(ValueError, r"\[layer_norm\].*normalized_shape=\(4,\).*\(2, 6, 3\)", X, 4),
            bad(ValueError, r"\[layer_norm\].*normalized_shape=\(\)", X, ()),
            bad(ValueError, r"\[layer_norm\].*eps.*NaN", X, (3,), eps=float("nan")),
            bad(ValueError, r"\[layer_norm\] weight must be \(3,\).*\(6,\)", X, 3, np.ones(6)),
            bad(ValueError, r"\[layer_norm\] bias must be \(3,\).*\(2,\)", X, 3, np.ones(3), np.ones(2)),
        ),
        grad_tol=GRAD,
    ),
    Row(
        "rms_norm",
        rms,
        rms_norm,
        SUMS,
        (
            bad(ValueError, r"\[rms_norm\].*normalized_shape=\(4,\).*\(2, 6, 3\)", X, 4),
            bad(ValueError, r"\[rms_norm\] weight must be \(3,\).*\(6,\)", X, 3, np.ones(6)),
        ),
        grad_tol=GRAD,
    ),
    Row(
        "group_norm",
        groups,
        group_norm,
        SUMS,
        (
            bad(ValueError, r"\[group_norm\].*groups.*6 channels.*4", X, 4),
            bad(ValueError, r"\[group_norm\].*groups", X, 0),
            bad(ValueError, r"\[group_norm\].*weight.*\(6,\).*\(3,\)", X, 2, np.ones(3)),
            bad(ValueError, r"\[group_norm\].*\(N, C, \*\)", np.ones(3), 1),
        ),
        grad_tol=GRAD,
    ),
    Row(
        "instance_norm",
        instances,
        instance_norm,
        SUMS,
        (
            bad(ValueError, r"\[instance_norm\].*one element.*\(2, 6\)", X[:, :, 0]),
            bad(ValueError, r"\[instance_norm\].*weight.*\(6,\).*\(3,\)", X, np.ones(3)),
            bad(ValueError, r"\[instance_norm\].*\(N, C, \*\)", np.ones(3)),
        ),
        grad_tol=GRAD,
    ),
    Row(
        "local_response_norm",
        responses,
        local_response_norm,
        FEW,
        (
            bad(ValueError, r"\[local_response_norm\].*size.*0", X, 0),
            bad(ValueError, r"\[local_response_norm\].*three axes.*\(2, 6\)", X[:, :, 0], 2),
        ),
    ),
]
