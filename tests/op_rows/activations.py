"""Rows of the activations that the core composes of others. The formulas are the definitions, piece by piece."""

from __future__ import annotations

import numpy as np

from op_table import EXACT, FEW, Row, Tol, away_from, bad, s

TEXT = (bad(TypeError, r".+", "text"),)
SHRINK = Tol(
    (1e-6, 1e-6), (1e-14, 1e-14), "a difference of two numbers of order 1 that nearly cancel: a few u absolutely"
)


def reals(*kinks, **options):
    """Samples of an activation with those kinks; `options` are two ways to call it besides the default."""

    def samples(rng):
        def x(*shape):
            return away_from(2 * rng.normal(size=shape), kinks)

        yield s(x(3, 37), label="matrix")
        yield s(x(), label="0-d")
        yield s(x(0, 3), label="empty")
        yield s(np.array([-1e4, -80.0, 80.0]), label="far out", grad=False)
        yield s(away_from(2 * rng.normal(size=(65, 67)), kinks), label="big", big=True)
        for label, kwargs in options.items():
            yield s(x(4, 5), **kwargs, label=label)

    return samples


def soft_plus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def celu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def hard_sigmoid(x):
    return np.clip(x + 3, 0, 6) / 6


def prelu(x, weight):
    slope = weight.reshape((-1,) + (1,) * (x.ndim - 2)) if x.ndim > 1 else weight.reshape(-1)[:1].reshape((1,) * x.ndim)
    return np.where(x > 0, x, slope * x)


def slopes(rng):
    def x(*shape):
        return away_from(rng.normal(size=shape), [0.0])

    yield s(x(4, 3), rng.normal(size=(3,)), label="(N, C)")
    yield s(x(2, 3, 4, 2), rng.normal(size=(3,)), label="(N, C, H, W)")
    yield s(x(2, 3, 4), rng.normal(size=(1,)), label="one slope")
    yield s(x(2, 3), rng.normal(size=()), label="0-d slope")
    yield s(x(7), rng.normal(size=(1,)), label="vector")
    yield s(x(0, 3), rng.normal(size=(3,)), label="empty")
    yield s(x(33, 17, 5), rng.normal(size=(17,)), label="big", big=True)


def glu(x, axis=-1):
    a, b = np.split(x, 2, axis=axis)
    return a / (1 + np.exp(-b))


def halves(rng):
    n = rng.normal
    yield s(n(size=(3, 8)), label="last axis")
    yield s(n(size=(2, 4, 3)), 1, label="middle axis")
    yield s(n(size=(4, 3)), axis=-2, label="first axis")
    yield s(n(size=(0, 6)), label="empty")
    yield s(n(size=(65, 130)), label="big", big=True)


X = np.ones((2, 3))
SELU = (1.0507009873554804934193349852946, 1.6732632423543772848170429916717)
ONE = {"options": {"alpha": 0.5}}

ROWS = [
    Row(
        "leaky_relu",
        reals(0.0, steep={"negative_slope": 0.5}, falling={"negative_slope": -0.25}),
        lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
        FEW,
        TEXT,
    ),
    Row("elu", reals(0.0, **ONE), elu, FEW, TEXT),
    Row(
        "celu",
        reals(0.0, **ONE),
        celu,
        FEW,
        (*TEXT, bad(ValueError, r"\[celu\].*alpha.*0", X, 0.0), bad(ValueError, r"\[celu\]", X, -1.0)),
    ),
    Row("selu", reals(0.0), lambda x: SELU[0] * elu(x, SELU[1]), FEW, TEXT),
    Row("mish", reals(), lambda x: x * np.tanh(soft_plus(x)), FEW, TEXT),
    Row(
        "hardtanh",
        reals(-1.0, 1.0, -0.5, 2.0, wide={"min_val": -0.5, "max_val": 2.0}),
        lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
        EXACT,
        (*TEXT, bad(ValueError, r"\[hardtanh\].*min_val.*max_val.*2.*1", X, 2.0, 1.0)),
    ),
    Row("relu6", reals(0.0, 6.0), lambda x: np.clip(x, 0, 6), EXACT, TEXT),
    Row("softsign", reals(0.0), lambda x: x / (1 + np.abs(x)), FEW, TEXT),
    Row("hardsigmoid", reals(-3.0, 3.0), hard_sigmoid, FEW, TEXT),
    Row("hardswish", reals(-3.0, 3.0), lambda x: x * hard_sigmoid(x), FEW, TEXT),
    Row("logsigmoid", reals(), lambda x: -soft_plus(-x), FEW, TEXT),
    Row("tanhshrink", reals(), lambda x: x - np.tanh(x), SHRINK, TEXT),
    Row(
        "softshrink",
        reals(-0.5, 0.5, -1.25, 1.25, wide={"lambd": 1.25}),
        lambda x, lambd=0.5: np.where(np.abs(x) > lambd, x - np.sign(x) * lambd, 0 * x),
        FEW,
        (*TEXT, bad(ValueError, r"\[softshrink\].*lambd.*-1", X, -1.0)),
    ),
    Row(
        "hardshrink",
        reals(-0.5, 0.5, -1.25, 1.25, wide={"lambd": 1.25}),
        lambda x, lambd=0.5: np.where(np.abs(x) > lambd, x, 0),
        EXACT,
        TEXT,
    ),
    Row(
        "threshold",
        lambda rng: (
            s(away_from(rng.normal(size=shape), [0.25]), 0.25, -2.0, label=f"{shape}", big=len(shape) > 2)
            for shape in [(3, 5), (), (0, 3), (9, 13, 33)]
        ),
        lambda x, threshold, value: np.where(x > threshold, x, value),
        EXACT,
        TEXT,
    ),
    Row(
        "prelu",
        slopes,
        prelu,
        FEW,
        (
            bad(ValueError, r"\[prelu\].*\(1,\).*\(3,\).*\(2,\)", X, np.ones(2)),
            bad(ValueError, r"\[prelu\]", X, np.ones((1, 3))),
            bad(ValueError, r"\[prelu\]", np.ones(3), np.ones(3)),
            bad(TypeError, r".+", X, "text"),
        ),
    ),
    Row(
        "glu",
        halves,
        glu,
        FEW,
        (
            bad(ValueError, r"\[glu\] axis 1 .*even.*3.*\(2, 3\)", X),
            bad(IndexError, r"\[glu\].*axis 2", X, 2),
        ),
    ),
]
