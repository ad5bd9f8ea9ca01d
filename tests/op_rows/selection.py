"""Rows of choosing by indices and masks, of running sums, and of order."""

from __future__ import annotations

import numpy as np

from op_table import EXACT, SUMS, Const, Row, Tol, bad, distinct, s

ONES = np.ones((2, 3))
BIG = Const(np.array([0, 3]))


def n(rng, *shape):
    return rng.normal(size=shape)


def index(*values, dtype="int64"):
    return Const(np.array(values, dtype=dtype))


def whole(i):
    """Index arrays reach the formulas as float64, like all arrays of a sample."""
    return np.asarray(i).astype(np.int64)


def take(x, indices, axis=None):
    return np.take(x, whole(indices), axis)


def take_along_axis(x, indices, axis=-1):
    return np.take_along_axis(x, whole(indices), axis)


def corner(index, axis):
    """Index arrays that address the elements that `gather` reads and `scatter` writes."""
    where = list(np.indices(index.shape))
    where[axis] = whole(index)
    return tuple(where)


def gather(x, axis, index):
    return x[corner(index, axis)]


def scatter(x, axis, index, src):
    y = x.copy()
    src = np.broadcast_to(src, index.shape) if np.ndim(src) == 0 else src
    for place in np.ndindex(index.shape):
        to = list(place)
        to[axis] = int(index[place])
        y[tuple(to)] = src[place]
    return y


def scatter_add(x, axis, index, src):
    y = x.copy()
    np.add.at(y, corner(index, axis), src[tuple(map(slice, index.shape))])
    return y


def masked_select(x, mask):
    x, mask = np.broadcast_arrays(x, mask.astype(bool))
    return x[mask]


def cumulative(fn, first):
    def run(x, axis=None, dtype=None, include_initial=False):
        axis = 0 if axis is None else axis
        y = fn(x, axis)
        return np.insert(y, 0, first, axis) if include_initial else y

    return run


def argsort(x, axis=-1, descending=False):
    """NaN last, ties in their order; descending: the same of the negated numbers."""
    return np.argsort(-x if descending else x, axis, kind="stable")


def sort(x, axis=-1, descending=False):
    return np.take_along_axis(x, argsort(x, axis, descending), axis)


def topk(x, k, axis=-1, largest=True):
    order = np.take(argsort(x, axis, largest), np.arange(k), axis)
    return [np.take_along_axis(x, order, axis), order]


def unique(x):
    return np.unique(x, return_index=True, return_inverse=True, return_counts=True, equal_nan=False)


def orders(rng):
    yield s(distinct(rng, (3, 5)), label="last axis")
    yield s(distinct(rng, (3, 5)), 0, label="first axis")
    yield s(distinct(rng, (2, 3, 4)), 1, True, label="descending")
    yield s(np.array([2.0, np.nan, 1.0, 2.0, -np.inf, np.nan]), label="NaN and ties", grad=False)
    yield s(np.array([2.0, np.nan, 1.0, 2.0, -np.inf, np.nan]), descending=True, label="NaN last, down", grad=False)
    yield s(n(rng, 2, 0), label="empty", grad=False)
    yield s(distinct(rng, (3, 700)), label="big", big=True)


def repeated():
    return np.array([[3.0, 1.0, 3.0], [2.0, 1.0, 3.0]])


def scans(rng):
    yield s(n(rng, 5), label="vector")
    yield s(n(rng, 3, 4), 0, label="first axis")
    yield s(n(rng, 2, 3, 4), -2, include_initial=True, label="with the initial value")
    yield s(np.array([2.0, 0.0, 3.0, 0.0, -1.0]), label="zeros")
    yield s(n(rng, 2, 0), 1, label="empty", grad=False)
    yield s(n(rng, 40, 300), 1, label="big", big=True)


PRODUCTS = Tol(
    (3e-6, 3e-6), (2e-14, 2e-14), "products of up to 300 factors accumulated in float64: n u64, rounded once to float32"
)

ROWS = [
    Row(
        "take",
        lambda rng: [
            s(n(rng, 3, 4), index([0, -1], [1, 1]), 1, label="2-d indices"),
            s(n(rng, 3, 4), index(2, 2, 0), 0, label="rows"),
            s(n(rng, 3, 4), index(11, 0, -12), label="flat"),
            s(n(rng, 3, 4), Const(np.array(2)), 0, label="0-d index"),
            s(n(rng, 3, 4), Const(np.zeros(0, dtype=np.int64)), 1, label="none"),
        ],
        take,
        EXACT,
        (
            bad(IndexError, r"\[take\] index 3.*axis 1 of size 3", ONES, BIG, 1),
            bad(IndexError, r"\[take\].*axis 2", ONES, index(0), 2),
            bad(TypeError, r"\[take\].*integers.*float", ONES, np.array([0.0]), 0),
            bad(TypeError, r"\[take\].*integers.*bool.*mask", ONES, np.array([True, False, True]), 1),
        ),
    ),
    Row(
        "take_along_axis",
        lambda rng: [
            s(n(rng, 2, 3), index([0, 2, 2, -1], [1, 1, 0, 0]), label="rows"),
            s(n(rng, 3, 4), index([0, 2, 1, -1]), 0, label="one row"),
            s(n(rng, 1, 3), index([0], [2]), 1, label="x broadcasts"),
        ],
        take_along_axis,
        EXACT,
        (
            bad(IndexError, r"\[take_along_axis\] index 3.*axis 1 of size 3", ONES, index([3], [0])),
            bad(ValueError, r"\[take_along_axis\].*\(2,\).*\(2, 3\)", ONES, index(0, 1)),
            bad(TypeError, r"\[take_along_axis\].*integers", ONES, ONES),
        ),
    ),
    Row(
        "index_select",
        lambda rng: [s(n(rng, 3, 4), 1, index(3, 3, 0), label="columns"), s(n(rng, 3), 0, index(-1), label="vector")],
        lambda x, axis, index: np.take(x, whole(index), axis),
        EXACT,
        (
            bad(IndexError, r"index 3.*axis 1 of size 3", ONES, 1, BIG),
            bad(ValueError, r"\[index_select\].*vector.*\(1, 1\)", ONES, 1, index([0])),
        ),
    ),
    Row(
        "gather",
        lambda rng: [
            s(n(rng, 3, 4), 1, index([0, 3, 3, 1, 0], [1, 1, -1, 0, 0]), label="fewer rows, more columns"),
            s(n(rng, 3, 4), 0, index([2, 0]), label="corner"),
            s(n(rng, 2, 3, 2), -1, index([[1], [0]], dtype="int32"), label="3-d, int32"),
        ],
        gather,
        EXACT,
        (
            bad(IndexError, r"\[gather\] index 3.*axis 1 of size 3", ONES, 1, index([3])),
            bad(ValueError, r"\[gather\].*\(3, 1\).*\(2, 3\)", ONES, 1, index([0], [0], [0])),
            bad(ValueError, r"\[gather\].*\(1,\)", ONES, 1, index(0)),
            bad(IndexError, r"\[gather\].*axis 2", ONES, 2, index([0])),
        ),
    ),
    Row(
        "scatter",
        lambda rng: [
            s(n(rng, 3, 4), 1, index([0, 3, 3], [1, 1, -1]), n(rng, 3, 3), label="larger src, repeated places"),
            s(n(rng, 3, 4), 0, index([2, 0]), 1.5, label="a number"),
            s(n(rng, 3), 0, Const(np.zeros(0, dtype=np.int64)), n(rng, 2), label="nothing"),
        ],
        scatter,
        EXACT,
        (
            bad(IndexError, r"\[scatter\] index 3.*axis 1 of size 3", ONES, 1, index([3]), ONES),
            bad(ValueError, r"\[scatter\].*src.*\(1, 1\)", ONES, 1, index([0, 1]), np.ones((1, 1))),
        ),
    ),
    Row(
        "scatter_add",
        lambda rng: [
            s(n(rng, 3, 4), 1, index([0, 3, 3], [1, 1, -1]), n(rng, 3, 3), label="larger src, repeated places"),
            s(n(rng, 3), 0, index(1, 1, 1, 0), n(rng, 4), label="vector"),
            s(n(rng, 300), 0, Const(rng.integers(0, 300, 5000)), n(rng, 5000), label="big", big=True),
        ],
        scatter_add,
        SUMS,
        (
            bad(IndexError, r"\[scatter_add\] index 3.*axis 1 of size 3", ONES, 1, index([3]), ONES),
            bad(TypeError, r"\[scatter_add\].*src", ONES, 1, index([0]), index([1])),
        ),
    ),
    Row(
        "masked_select",
        lambda rng: [
            s(n(rng, 3, 4), Const(rng.uniform(size=(3, 4)) < 0.5), label="same shape"),
            s(n(rng, 1, 4), Const(np.array([[True], [False], [True]])), label="broadcast"),
            s(n(rng, 3), Const(np.zeros(3, dtype=bool)), label="none"),
        ],
        masked_select,
        EXACT,
        (
            bad(TypeError, r"\[masked_select\].*bool.*int64", ONES, index(1)),
            bad(ValueError, r"\[masked_select\].*\(2, 3\).*\(2,\)", ONES, Const(np.ones(2, dtype=bool))),
        ),
    ),
    Row(
        "masked_fill",
        lambda rng: [
            s(n(rng, 3, 4), Const(rng.uniform(size=(3, 4)) < 0.5), -1.0, label="number"),
            s(n(rng, 3, 4), Const(rng.uniform(size=(3, 1)) < 0.5), rng.normal(size=()), label="tensor, broadcast mask"),
        ],
        lambda x, mask, value: np.where(mask.astype(bool), value, x),
        EXACT,
        (
            bad(TypeError, r"\[masked_fill\].*bool", ONES, ONES, 1.0),
            bad(
                ValueError, r"\[masked_fill\].*\(3, 2, 3\).*\(2, 3\)", ONES, Const(np.ones((3, 2, 3), dtype=bool)), 1.0
            ),
            bad(ValueError, r"\[masked_fill\].*one number.*\(2, 3\)", ONES, Const(np.ones((2, 3), dtype=bool)), ONES),
        ),
    ),
    Row(
        "cumulative_sum",
        scans,
        cumulative(np.cumsum, 0),
        SUMS,
        (
            bad(ValueError, r"\[cumulative_sum\] axis is needed.*\(2, 3\)", ONES),
            bad(IndexError, r"\[cumulative_sum\].*axis 2", ONES, 2),
        ),
    ),
    Row(
        "cumulative_prod",
        scans,
        cumulative(np.cumprod, 1),
        PRODUCTS,
        (
            bad(ValueError, r"\[cumulative_prod\] axis is needed.*\(2, 3\)", ONES),
            bad(IndexError, r"\[cumulative_prod\].*axis 2", ONES, 2),
        ),
    ),
    Row("sort", orders, sort, EXACT, (bad(IndexError, r"\[sort\].*axis 2", ONES, 2),), ints="same"),
    Row("argsort", orders, argsort, EXACT, (bad(IndexError, r"\[argsort\].*axis 2", ONES, 2),), grad=False),
    Row(
        "topk",
        lambda rng: [
            s(distinct(rng, (3, 5)), 2, label="largest"),
            s(distinct(rng, (3, 5)), 3, 0, False, label="smallest"),
            s(np.array([1.0, 2.0, 2.0, np.nan]), 3, label="ties and NaN", grad=False),
            s(n(rng, 3), 0, label="none", grad=False),
        ],
        topk,
        EXACT,
        (
            bad(ValueError, r"\[topk\] k is 4.*axis 1.*3", ONES, 4),
            bad(ValueError, r"\[topk\] k.*-1", ONES, -1),
            bad(IndexError, r"\[topk\].*axis 2", ONES, 1, 2),
        ),
    ),
    Row(
        "unique_values",
        lambda rng: [
            s(n(rng, 3, 3), label="all different"),
            s(repeated(), label="repeated", grad=False),
            s(np.array([np.nan, 1.0, np.nan]), label="NaN", grad=False),
            s(np.zeros(0), label="empty", grad=False),
        ],
        lambda x: unique(x)[0],
        EXACT,
        (bad(TypeError, r"Tensor", [1, 2]),),
    ),
    *(
        Row(
            name,
            lambda rng: [
                s(distinct(rng, (3, 3)), label="all different"),
                s(repeated(), label="repeated", grad=False),
                s(np.zeros(0), label="empty", grad=False),
                s(np.array(2.0), label="0-d"),
            ],
            fn,
            EXACT,
            (bad(TypeError, r"Tensor", [1, 2]),),
        )
        for name, fn in (
            ("unique_counts", lambda x: [unique(x)[0], unique(x)[3]]),
            ("unique_inverse", lambda x: [unique(x)[0], unique(x)[2].reshape(x.shape)]),
            ("unique_all", lambda x: [unique(x)[0], unique(x)[1], unique(x)[2].reshape(x.shape), unique(x)[3]]),
        )
    ),
    Row(
        "nonzero",
        lambda rng: [
            s(np.array([[0.0, 1.0, np.nan], [-0.0, 0.0, -2.0]]), label="matrix"),
            s(rng.integers(0, 2, (2, 3, 4)).astype(float), label="3-d"),
            s(np.zeros((0, 2)), label="empty"),
        ],
        lambda x: list(np.nonzero(x)),
        EXACT,
        (bad(ValueError, r"\[nonzero\].*without axes", np.array(1.0)),),
        grad=False,
    ),
    Row(
        "searchsorted",
        lambda rng: [
            s(np.array([1.0, 2.0, 2.0, 3.0]), np.array([[0.0, 2.0], [2.5, 9.0]]), label="left"),
            s(np.array([1.0, 2.0, 2.0, np.nan]), np.array([2.0, np.nan, 9.0]), "right", label="right, NaN"),
            s(np.zeros(0), np.array([1.0]), label="empty"),
        ],
        lambda x1, x2, side="left": np.searchsorted(x1, x2, side),
        EXACT,
        (
            bad(ValueError, r"\[searchsorted\].*vector.*\(2, 3\)", ONES, ONES),
            bad(ValueError, r"\[searchsorted\] side.*'middle'", np.ones(2), np.ones(2), "middle"),
        ),
        grad=False,
    ),
]
