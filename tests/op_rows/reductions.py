"""Rows of the reductions."""

from __future__ import annotations

import numpy as np

from op_table import EXACT, SUMS, Const, Row, Tol, bad, distinct, s

NAN = float("nan")


def axes(axis):
    """NumPy wants a tuple where corten also takes a list."""
    return tuple(axis) if isinstance(axis, list) else axis


def grid(draw, empty=True):
    """Samples over every way to say which axes to reduce."""

    def samples(rng):
        yield s(draw(rng, (3, 4, 5)), label="all")
        yield s(draw(rng, (3, 4, 5)), axis=0, label="first axis")
        yield s(draw(rng, (3, 4, 5)), axis=1, label="middle axis")
        yield s(draw(rng, (3, 4, 37)), axis=-1, label="last axis")
        yield s(draw(rng, (3, 4, 5)), axis=(0, 2), label="outer axes")
        yield s(draw(rng, (3, 4, 5)), axis=[1, -1], keepdims=True, label="list, keepdims")
        yield s(draw(rng, (3, 4)), keepdims=True, label="all, keepdims")
        yield s(draw(rng, (6,)), axis=(), label="no axis")
        yield s(draw(rng, ()), label="0-d")
        yield s(draw(rng, (1, 1)), axis=1, label="one element")
        yield s(draw(rng, (67, 131)), axis=0, label="big columns", big=True)
        yield s(draw(rng, (67, 131)), axis=1, label="big rows", big=True)
        yield s(draw(rng, (3, 5000)), axis=None, label="big all", big=True)
        yield s(draw(rng, (0, 3)), axis=1, label="empty result")
        if empty:
            yield s(draw(rng, (0, 3)), axis=0, label="empty sum")
            yield s(draw(rng, (2, 0)), label="empty all")

    return samples


def normal(rng, shape):
    return rng.normal(size=shape)


def near_one(rng, shape):
    """Factors around 1, so that a product of 15,000 of them neither overflows nor vanishes."""
    return 1 + 0.02 * rng.normal(size=shape)


def refuses(name, several=True):
    out = [
        bad(IndexError, rf"\[{name}\].*axis 2.*2", np.ones((2, 3)), axis=2),
        bad(IndexError, rf"\[{name}\].*axis -3", np.ones((2, 3)), axis=-3),
        bad(TypeError, r".+", np.ones((2, 3)), axis="x"),
    ]
    if several:
        out.append(
            bad(ValueError, rf"\[{name}\].*(twice|repeated|duplicate|more than once)", np.ones((2, 3)), axis=(0, 0))
        )
    return tuple(out)


def extremes(rng):
    yield from grid(distinct, empty=False)(rng)
    yield s(np.array([[1.0, NAN, 3.0], [0.0, 2.0, 1.0]]), axis=1, label="nan wins", grad=False)
    yield s(np.array([[1.0, 3.0, 3.0], [-np.inf, -np.inf, -np.inf]]), axis=1, label="ties and -inf", grad=False)


def positions(rng):
    """argmax takes one axis or none."""
    for case in grid(distinct, empty=False)(rng):
        if isinstance(case.kwargs.get("axis"), (int, type(None))):
            yield case
    yield s(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), axis=1, label="first of ties")
    yield s(np.array([1.0, NAN, 3.0, NAN]), label="first nan")


def variances(rng):
    yield from (case for case in grid(normal, empty=False)(rng) if case.label not in ("0-d", "one element", "no axis"))
    yield s(rng.normal(size=(3, 5)), axis=1, correction=1.0, label="correction 1")
    yield s(rng.normal(size=(3, 5)), correction=0.5, keepdims=True, label="correction 0.5")
    yield s(1000 + rng.normal(size=(4, 33)), axis=1, label="far from zero", grad=False)


def flags(rng):
    for label, p in (("half", 0.5), ("few", 0.05), ("most", 0.95)):
        x = rng.random((3, 4, 37)) < p
        yield s(Const(x), label=label)
        yield s(Const(x), axis=-1, label=f"{label}, last axis")
        yield s(Const(x), axis=(0, 2), keepdims=True, label=f"{label}, outer axes")
    yield s(Const(np.ones((0, 3), bool)), axis=0, label="empty")
    yield s(np.array([0.0, NAN, 1.0]), label="floats")


VAR = Tol(
    (2e-5, 2e-5),
    (2e-12, 2e-12),
    "centred sums; with mean 1000 and spread 1 the mean's error 1000 u enters squared differences",
)
PROD = Tol(
    (2e-5, 0),
    (1e-12, 0),
    "a product of n factors has n roundings: 67 + 131 or, chunk by chunk, 15000 random ones: sqrt(n) u",
)

ROWS = [
    Row(
        "sum",
        grid(normal),
        lambda x, axis=None, keepdims=False: np.sum(x, axis=axes(axis), keepdims=keepdims),
        SUMS,
        refuses("sum"),
        ints="int64",
    ),
    Row(
        "mean",
        grid(normal, empty=False),
        lambda x, axis=None, keepdims=False: np.mean(x, axis=axes(axis), keepdims=keepdims),
        SUMS,
        refuses("mean"),
        ints="float32",
    ),
    Row(
        "prod",
        grid(near_one),
        lambda x, axis=None, keepdims=False: np.prod(x, axis=axes(axis), keepdims=keepdims),
        PROD,
        refuses("prod"),
    ),
    Row(
        "max",
        extremes,
        lambda x, axis=None, keepdims=False: np.max(x, axis=axes(axis), keepdims=keepdims),
        EXACT,
        (*refuses("max"), bad(ValueError, r"\[max\].*(empty|no elements|zero|nothing)", np.ones((0, 2)), axis=0)),
        ints="same",
    ),
    Row(
        "min",
        extremes,
        lambda x, axis=None, keepdims=False: np.min(x, axis=axes(axis), keepdims=keepdims),
        EXACT,
        (*refuses("min"), bad(ValueError, r"\[min\].*(empty|no elements|zero|nothing)", np.ones((0, 2)), axis=0)),
        ints="same",
    ),
    Row(
        "var",
        variances,
        lambda x, axis=None, correction=0.0, keepdims=False: np.var(
            x, axis=axes(axis), ddof=correction, keepdims=keepdims
        ),
        VAR,
        refuses("var"),
    ),
    Row(
        "std",
        variances,
        lambda x, axis=None, correction=0.0, keepdims=False: np.std(
            x, axis=axes(axis), ddof=correction, keepdims=keepdims
        ),
        VAR,
        refuses("std"),
    ),
    Row(
        "argmax",
        positions,
        lambda x, axis=None, keepdims=False: np.argmax(x, axis=axis, keepdims=keepdims),
        EXACT,
        (*refuses("argmax", several=False), bad(ValueError, r"\[argmax\]", np.ones((0, 2)), axis=0)),
        grad=False,
        ints="int64",
    ),
    Row(
        "argmin",
        positions,
        lambda x, axis=None, keepdims=False: np.argmin(x, axis=axis, keepdims=keepdims),
        EXACT,
        (*refuses("argmin", several=False), bad(ValueError, r"\[argmin\]", np.ones((0, 2)), axis=0)),
        grad=False,
        ints="int64",
    ),
    Row(
        "any",
        flags,
        lambda x, axis=None, keepdims=False: np.any(x, axis=axes(axis), keepdims=keepdims),
        EXACT,
        refuses("any"),
        grad=False,
    ),
    Row(
        "all",
        flags,
        lambda x, axis=None, keepdims=False: np.all(x, axis=axes(axis), keepdims=keepdims),
        EXACT,
        refuses("all"),
        grad=False,
    ),
]
