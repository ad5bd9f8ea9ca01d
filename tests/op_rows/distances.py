"""Rows of the losses of log-probabilities, of probabilities, and of differences."""

from __future__ import annotations

import numpy as np

from op_rows.losses import LOSS, classes, reduce
from op_rows.network import log_softmax, softmax
from op_table import SUMS, Const, Row, Tol, away_from, bad, s

REDUCTIONS = ("mean", "sum", "none")
X = np.ones((4, 3))


def nll_loss(x, target, weight=None, ignore_index=-100, reduction="mean"):
    axis = 0 if x.ndim == 1 else 1
    x = np.moveaxis(x, axis, -1)
    weight = np.ones(x.shape[-1]) if weight is None else weight
    losses, total = np.zeros(target.shape), 0.0
    for row in np.ndindex(*target.shape):
        k = int(target[row])
        if k != ignore_index:
            losses[row] = -weight[k] * x[row][k]
            total += weight[k]
    return losses.sum() / total if reduction == "mean" else reduce(losses, reduction)


def likelihoods(rng):
    def logs(*shape):
        return log_softmax(rng.normal(size=shape), 0 if len(shape) == 1 else 1)

    w, some = rng.uniform(0.5, 2, size=7), Const(np.array([3, -100, 0, 6, -100]))
    for reduction in REDUCTIONS:
        yield s(logs(5, 7), classes(rng, 7, 5), reduction=reduction, label=reduction)
        yield s(logs(5, 7), some, Const(w), reduction=reduction, label=f"weight, ignored rows, {reduction}")
    yield s(logs(2, 7, 3), classes(rng, 7, 2, 3), label="(N, C, L)")
    yield s(logs(7), classes(rng, 7), label="one sample")
    yield s(logs(5, 7), classes(rng, 7, 5, dtype=np.uint8), ignore_index=3, label="a class ignored")
    yield s(np.array([[0.0, -np.inf], [-1.0, -2.0]]), Const(np.array([0, 1])), label="impossible class", grad=False)
    yield s(logs(65, 130), classes(rng, 130, 65), label="big", big=True)


def differences(*kinks, **options):
    """Pairs whose difference keeps away from the kinks; `options` is a second way to call the loss."""

    def samples(rng):
        def pair(*shape):
            t = rng.normal(size=shape)
            return t + away_from(2 * rng.normal(size=shape), kinks), t

        for reduction in REDUCTIONS:
            yield s(*pair(4, 9), reduction=reduction, label=reduction)
            if options:
                yield s(*pair(4, 9), reduction=reduction, **options, label=f"options, {reduction}")
        x, t = pair(9)
        yield s(x, Const(t), label="constant target")
        yield s(*pair(65, 67), label="big", big=True)

    return samples


def l1(x, target, reduction="mean"):
    return reduce(abs(x - target), reduction)


def huber(x, target, reduction="mean", delta=1.0):
    d = abs(x - target)
    return reduce(np.where(d <= delta, d * d / 2, delta * (d - delta / 2)), reduction)


def smooth_l1(x, target, reduction="mean", beta=1.0):
    d = abs(x - target)
    return reduce(np.where(d < beta, d * d / (2 * beta), d - beta / 2), reduction)


def kl_div(x, target, reduction="mean", log_target=False):
    if log_target:
        return reduce(np.exp(target) * (target - x), reduction)
    return reduce(np.where(target == 0, 0, target * np.log(np.where(target == 0, 1, target))) - target * x, reduction)


def divergences(rng):
    n = rng.normal
    for reduction in REDUCTIONS:
        yield s(log_softmax(n(size=(4, 7))), softmax(n(size=(4, 7))), reduction=reduction, label=reduction)
        yield s(log_softmax(n(size=(4, 7))), log_softmax(n(size=(4, 7))), reduction, True, label=f"logs, {reduction}")
    hot = Const(np.eye(3))
    yield s(log_softmax(n(size=(3, 3))), hot, label="certain targets")
    yield s(log_softmax(n(size=(65, 67))), softmax(n(size=(65, 67))), label="big", big=True)


def bce(x, target, weight=None, reduction="mean"):
    with np.errstate(divide="ignore"):
        hit, miss = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
    losses = -(target * hit + (1 - target) * miss)
    return reduce(losses if weight is None else losses * weight, reduction)


def probabilities(rng):
    def p(*shape):
        return rng.uniform(0.1, 0.9, size=shape)

    for reduction in REDUCTIONS:
        yield s(p(4, 9), p(4, 9), reduction=reduction, label=reduction)
        yield s(p(4, 9), p(4, 9), Const(p(4, 9)), reduction=reduction, label=f"weight, {reduction}")
    yield s(p(4, 9), p(4, 9), Const(p(9)), label="weight of columns")
    yield s(p(9), Const((rng.random(9) < 0.5).astype(float)), label="hard targets")
    yield s(np.array([0.0, 1.0, 0.0, 1.0]), Const(np.array([0.0, 1.0, 1.0, 0.0])), label="certain", grad=False)
    yield s(p(65, 67), p(65, 67), label="big", big=True)


def shapes(name, **options):
    return (
        bad(ValueError, rf"\[{name}\].*\(4, 3\).*\(3, 4\)", X, np.ones((3, 4)), **options),
        bad(ValueError, rf"\[{name}\].*reduction.*mean.*sum.*none", X, X, reduction="avg", **options),
    )


#: 1 / (x (1 - x)) is at most 11 on these samples and doubles the relative error of x and 1 - x.
BCE_GRAD = Tol((2e-5, 2e-5), (2e-13, 2e-13), "quotients of differences of order 1 by at least 0.09: about 20 roundings")

ROWS = [
    Row(
        "nll_loss",
        likelihoods,
        nll_loss,
        LOSS,
        (
            bad(ValueError, r"\[nll_loss\].*\(4, 3\).*\(5,\)", X, Const(np.zeros(5, int))),
            bad(IndexError, r"\[nll_loss\].*target 3 in row 3.*3 classes", X, Const(np.array([0, 1, 2, 3]))),
            bad(ValueError, r"\[nll_loss\].*weight.*\(3,\).*\(2,\)", X, Const(np.zeros(4, int)), Const(np.ones(2))),
            bad(ValueError, r"\[nll_loss\].*reduction", X, Const(np.zeros(4, int)), reduction="avg"),
            bad(TypeError, r"\[nll_loss\].*integer", X, Const(np.zeros((4,)))),
        ),
    ),
    Row(
        "l1_loss",
        differences(0.0),
        lambda x, t, reduction="mean": reduce(abs(x - t), reduction),
        SUMS,
        shapes("l1_loss"),
    ),
    Row(
        "huber_loss",
        differences(-1.0, 1.0, -0.5, 0.5, delta=0.5),
        huber,
        SUMS,
        (*shapes("huber_loss"), bad(ValueError, r"\[huber_loss\].*delta.*0", X, X, delta=0.0)),
    ),
    Row(
        "smooth_l1_loss",
        differences(-1.0, 1.0, -0.5, 0.5, beta=0.5),
        smooth_l1,
        SUMS,
        (*shapes("smooth_l1_loss"), bad(ValueError, r"\[smooth_l1_loss\].*beta.*-1", X, X, beta=-1.0)),
    ),
    Row("kl_div", divergences, kl_div, LOSS, shapes("kl_div")),
    Row(
        "binary_cross_entropy",
        probabilities,
        bce,
        LOSS,
        (
            *shapes("binary_cross_entropy"),
            bad(ValueError, r"\[binary_cross_entropy\].*0 to 1, got 2.*logits", 2 * X, X),
            bad(ValueError, r"\[binary_cross_entropy\].*got -1", -X, X),
            bad(ValueError, r"\[binary_cross_entropy\] weight \(4,\).*broadcast.*\(4, 3\)", X / 9, X / 9, np.ones(4)),
        ),
        grad_tol=BCE_GRAD,
    ),
]
