"""Rows of the loss functions."""

from __future__ import annotations

import numpy as np

from op_rows.network import log_softmax
from op_table import SUMS, Const, Row, Tol, bad, s


def reduce(values, reduction):
    return {"mean": np.mean, "sum": np.sum, "none": lambda v: v}[reduction](values)


def cross_entropy(x, target, reduction="mean", weight=None, ignore_index=-100, label_smoothing=0.0):
    """Row by row: -sum_c w[c] ((1 - e) t[c] + e / C) log p[c]."""
    axis = 0 if x.ndim == 1 else 1
    count = x.shape[axis]
    log_p = np.moveaxis(log_softmax(x, axis), axis, -1)
    weight = np.ones(count) if weight is None else weight
    shape = log_p.shape[:-1]
    losses, total = np.zeros(shape), 0.0
    soft = target.shape == x.shape and target.dtype.kind == "f"
    targets = np.moveaxis(target, axis, -1) if soft else target
    for row in np.ndindex(*shape):
        if soft:
            t = targets[row]
            total += 1
        elif targets[row] == ignore_index:
            continue
        else:
            t = np.eye(count)[int(targets[row])]
            total += weight[int(targets[row])]
        losses[row] = -(weight * ((1 - label_smoothing) * t + label_smoothing / count) * log_p[row]).sum()
    return losses.sum() / total if reduction == "mean" else reduce(losses, reduction)


def classes(rng, c, *shape, dtype=np.int64):
    return Const(rng.integers(0, c, size=shape).astype(dtype))


def mixture(rng, *shape, axis=1):
    p = rng.uniform(0.1, 1, size=shape)
    return Const(p / p.sum(axis=axis, keepdims=True))


def entropies(rng):
    n = rng.normal
    for reduction in ("mean", "sum", "none"):
        yield s(n(size=(5, 7)), classes(rng, 7, 5), reduction=reduction, label=f"classes, {reduction}")
        yield s(n(size=(5, 7)), mixture(rng, 5, 7), reduction=reduction, label=f"probabilities, {reduction}")
    yield s(n(size=(3, 4, 2, 3)), classes(rng, 4, 3, 2, 3), label="(N, C, H, W)")
    yield s(n(size=(3, 4, 5)), mixture(rng, 3, 4, 5), label="(N, C, L) probabilities")
    yield s(n(size=(7,)), classes(rng, 7), label="one sample")
    yield s(n(size=(7,)), mixture(rng, 7, axis=0), label="one sample, probabilities")
    yield s(n(size=(5, 7)), classes(rng, 7, 5, dtype=np.uint8), label="uint8 classes")
    yield s(n(size=(5, 7)), classes(rng, 7, 5, dtype=np.int32), label="int32 classes")
    yield s(500 * n(size=(5, 7)), classes(rng, 7, 5), label="huge logits", grad=False)
    yield s(n(size=(5, 1)), classes(rng, 1, 5), label="one class")
    yield s(n(size=(65, 130)), classes(rng, 130, 65), label="big", big=True)
    w = rng.uniform(0.5, 2, size=7)
    some = Const(np.array([3, -100, 0, 6, -100]))
    for reduction in ("mean", "sum", "none"):
        yield s(n(size=(5, 7)), some, reduction, label=f"ignored rows, {reduction}")
        yield s(n(size=(5, 7)), some, reduction, Const(w), label=f"weight, {reduction}")
        yield s(n(size=(5, 7)), some, reduction, label_smoothing=0.25, label=f"smoothing, {reduction}")
    options = {"weight": Const(w), "label_smoothing": 0.25}
    yield s(n(size=(5, 7)), classes(rng, 7, 5), **options, ignore_index=3, label="weight and smoothing, class ignored")
    yield s(n(size=(2, 7, 3)), classes(rng, 7, 2, 3), **options, label="(N, C, L), weight and smoothing")
    yield s(n(size=(5, 7)), mixture(rng, 5, 7), **options, label="probabilities, weight and smoothing")
    yield s(n(size=(7,)), classes(rng, 7), **options, label="one sample, weight and smoothing")


def bce(x, target, reduction="mean"):
    return reduce(np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x))), reduction)


def binaries(rng):
    n = rng.normal
    for reduction in ("mean", "sum", "none"):
        yield s(n(size=(4, 9)), Const(rng.uniform(size=(4, 9))), reduction=reduction, label=reduction)
    yield s(n(size=(9,)), Const((rng.random(9) < 0.5).astype(float)), label="hard targets")
    yield s(200 * n(size=(9,)), Const((rng.random(9) < 0.5).astype(float)), label="huge logits", grad=False)
    yield s(n(size=(65, 67)), Const(rng.uniform(size=(65, 67))), label="big", big=True)


def squares(rng):
    n = rng.normal
    for reduction in ("mean", "sum", "none"):
        yield s(n(size=(4, 9)), n(size=(4, 9)), reduction=reduction, label=reduction)
    yield s(n(size=(9,)), Const(n(size=(9,))), label="constant target")
    yield s(n(size=(65, 67)), n(size=(65, 67)), label="big", big=True)


LOSS = Tol(
    (5e-6, 5e-6),
    (2e-14, 2e-14),
    "sums of up to 4400 terms of order 1, added in chunks: 64 u; huge logits: u |x| relative to |x|",
)
X = np.ones((4, 3))

ROWS = [
    Row(
        "cross_entropy",
        entropies,
        cross_entropy,
        LOSS,
        (
            bad(ValueError, r"\[cross_entropy\].*\(4, 3\).*\(5,\)", X, Const(np.zeros(5, int))),
            bad(IndexError, r"\[cross_entropy\].*class.*3", X, Const(np.array([0, 1, 2, 3]))),
            bad(IndexError, r"\[cross_entropy\].*-1.*class", X, Const(np.array([0, 1, 2, -1]))),
            bad(
                ValueError,
                r"\[cross_entropy\].*reduction.*mean.*sum.*none",
                X,
                Const(np.zeros(4, int)),
                reduction="avg",
            ),
            bad((TypeError, ValueError), r"\[cross_entropy\]", X, Const(np.zeros(4))),
            bad((TypeError, ValueError), r"\[cross_entropy\]", X, Const(np.zeros(4, bool))),
            bad(ValueError, r"\[cross_entropy\]", np.array(1.0), Const(np.array(0))),
            bad(ValueError, r"\[cross_entropy\].*label_smoothing.*2", X, Const(np.zeros(4, int)), label_smoothing=2.0),
            bad(ValueError, r"\[cross_entropy\].*weight.*\(3,\)", X, Const(np.zeros(4, int)), weight=Const(np.ones(4))),
        ),
    ),
    Row(
        "binary_cross_entropy_with_logits",
        binaries,
        bce,
        LOSS,
        (
            bad(ValueError, r"\[binary_cross_entropy_with_logits\].*\(4, 3\).*\(3, 4\)", X, Const(np.ones((3, 4)))),
            bad(ValueError, r"\[binary_cross_entropy_with_logits\].*reduction", X, Const(X), reduction="avg"),
        ),
    ),
    Row(
        "mse_loss",
        squares,
        lambda x, target, reduction="mean": reduce((x - target) ** 2, reduction),
        SUMS,
        (
            bad(ValueError, r"\[mse_loss\].*\(4, 3\).*\(3, 4\)", X, np.ones((3, 4))),
            bad(ValueError, r"\[mse_loss\].*reduction", X, X, reduction="avg"),
        ),
    ),
]
