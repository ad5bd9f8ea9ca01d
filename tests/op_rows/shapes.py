"""Rows of the operations that move elements, of indexing and of matmul."""

from __future__ import annotations

import math

import numpy as np

from op_table import CONTRACT, EXACT, Const, Row, bad, s


def cube(rng, *shape):
    return rng.normal(size=shape or (2, 3, 4))


def reshapes(rng):
    yield s(cube(rng), (6, 4), label="merge")
    yield s(cube(rng), (2, -1), label="infer")
    yield s(cube(rng), -1, label="flat, int")
    yield s(cube(rng), [4, 3, 2], label="list")
    yield s(cube(rng, 1), (), label="to 0-d")
    yield s(cube(rng, 0, 3), (3, 0), label="empty")
    yield s(rng.normal(size=()), (1, 1), label="from 0-d")


def squeeze(x, axis=None):
    return np.squeeze(x, axis=tuple(axis) if isinstance(axis, list) else axis)


def flatten(x, start_axis=0, end_axis=-1):
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start_axis % x.ndim, end_axis % x.ndim
    return x.reshape((*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def split(x, indices_or_sections, axis=0):
    return np.split(x, indices_or_sections, axis=axis)


INDICES = [
    1,
    -1,
    (0, 2),
    slice(None),
    slice(1, None),
    slice(None, None, 2),
    slice(None, None, -1),
    slice(5, 0, -2),
    slice(10, 20),
    (slice(None), 1),
    (Ellipsis, 2),
    (Ellipsis, None, slice(1, 3)),
    (None, slice(None), 0),
    (1, slice(None, None, -1), slice(0, 4, 3)),
    (),
    (0, 1, 2),
]


#: Index tensors and masks; `Const` since no gradient flows to them.
PICKS = [
    ("rows", Const(np.array([2, 0, 2]))),
    ("last axis, negative", (slice(None), slice(None), Const(np.array([[-1, 0], [3, 3]])))),
    ("adjacent, broadcast", (slice(None), Const(np.array([[0], [3]])), Const(np.array([4, 4, 1], dtype=np.int32)))),
    ("separated", (Const(np.array([2, 2])), slice(None), Const(np.array([0, 0])))),
    ("separated by an int", (0, slice(1, 3), Const(np.array([1, 1, 0])))),
    ("new axes and steps", (slice(None, None, -2), None, Const(np.array([1, 1, 0], dtype=np.uint8)), ..., None)),
    ("mask of one axis", (Ellipsis, Const(np.array([True, False, False, True, True])))),
    ("mask of two axes", Const(np.arange(12).reshape(3, 4) % 3 == 1)),
    ("mask of all axes", Const(np.arange(60).reshape(3, 4, 5) % 7 == 1)),
    ("mask and indices", (Const(np.array([True, False, True])), slice(None), Const(np.array([4])))),
    ("bool", (True, Const(np.array([1, 1])))),
    ("nothing", Const(np.zeros(0, dtype=np.int64))),
    ("empty mask", Const(np.zeros((3, 4), dtype=bool))),
]


def products(rng):
    n = rng.normal
    yield s(n(size=(3, 5)), n(size=(5, 4)), label="matrix @ matrix")
    yield s(n(size=(5,)), n(size=(5,)), label="vector @ vector")
    yield s(n(size=(3, 5)), n(size=(5,)), label="matrix @ vector")
    yield s(n(size=(5,)), n(size=(5, 3)), label="vector @ matrix")
    yield s(n(size=(2, 3, 5)), n(size=(2, 5, 4)), label="batch")
    yield s(n(size=(2, 1, 3, 5)), n(size=(4, 5, 2)), label="batch broadcast")
    yield s(n(size=(2, 3, 5)), n(size=(5, 4)), label="batch @ matrix")
    yield s(n(size=(3, 5)), n(size=(2, 5, 4)), label="matrix @ batch")
    yield s(n(size=(5,)), n(size=(2, 5, 4)), label="vector @ batch")
    yield s(n(size=(2, 3, 5)), n(size=(5,)), label="batch @ vector")
    yield s(n(size=(1, 1)), n(size=(1, 1)), label="one element")
    yield s(n(size=(0, 5)), n(size=(5, 4)), label="no rows")
    yield s(n(size=(3, 0)), n(size=(0, 4)), label="empty sum")
    yield s(n(size=(0, 3, 5)), n(size=(0, 5, 2)), label="no batch")
    for m, k, p in ((65, 127, 33), (7, 600, 129), (128, 64, 17), (1, 300, 65), (129, 1, 31)):
        yield s(n(size=(m, k)), n(size=(k, p)), label=f"big {m}x{k}x{p}", big=True)


ONES = np.ones((2, 3))

ROWS = [
    Row(
        "reshape",
        reshapes,
        lambda x, shape: np.reshape(x, shape),
        EXACT,
        (
            bad(ValueError, r"\[reshape\].*\(2, 3\).*4", ONES, (4,)),
            bad(ValueError, r"\[reshape\].*-1", ONES, (-1, -1)),
            bad(ValueError, r"\[reshape\].*-1|\[reshape\].*4", ONES, (4, -1)),
        ),
        ints="same",
    ),
    Row(
        "permute_dims",
        lambda rng: [
            s(cube(rng), (2, 0, 1), label="rotate"),
            s(cube(rng), (0, 2, 1), label="swap"),
            s(cube(rng), (-1, 0, -2), label="negative"),
            s(rng.normal(size=()), (), label="0-d"),
            s(cube(rng, 3, 0), (1, 0), label="empty"),
        ],
        lambda x, axes: np.transpose(x, axes),
        EXACT,
        (
            bad(ValueError, r"\[permute_dims\]", ONES, (0,)),
            bad(ValueError, r"\[permute_dims\].*(twice|repeated|duplicate|more than once|permutation)", ONES, (0, 0)),
            bad(IndexError, r"\[permute_dims\].*axis 2", ONES, (0, 2)),
        ),
    ),
    Row(
        "transpose",
        lambda rng: [
            s(cube(rng), 0, 2, label="outer"),
            s(cube(rng), -1, -2, label="last"),
            s(cube(rng), 1, 1, label="none"),
        ],
        lambda x, axis1, axis2: np.swapaxes(x, axis1, axis2),
        EXACT,
        (bad(IndexError, r"\[transpose\].*axis 2", ONES, 0, 2),),
    ),
    Row(
        "squeeze",
        lambda rng: [
            s(cube(rng, 1, 3, 1, 2), label="all"),
            s(cube(rng, 1, 3, 1, 2), 0, label="one"),
            s(cube(rng, 1, 3, 1, 2), (0, -2), label="two"),
            s(cube(rng, 2, 3), label="nothing to do"),
        ],
        squeeze,
        EXACT,
        (bad(ValueError, r"\[squeeze\].*axis 1.*3", ONES, 1), bad(IndexError, r"\[squeeze\].*axis 2", ONES, 2)),
    ),
    Row(
        "expand_dims",
        lambda rng: [
            s(cube(rng), 0, label="front"),
            s(cube(rng), -1, label="back"),
            s(cube(rng), 2, label="inside"),
            s(cube(rng, 2), label="default"),
        ],
        lambda x, axis=0: np.expand_dims(x, axis),
        EXACT,
        (bad(IndexError, r"\[expand_dims\].*axis 4", ONES, 4),),
    ),
    Row(
        "broadcast_to",
        lambda rng: [
            s(cube(rng, 3), (2, 3), label="new axis"),
            s(cube(rng, 2, 1, 3), (2, 4, 3), label="stretch"),
            s(rng.normal(size=()), (2, 2), label="0-d"),
            s(cube(rng, 2, 3), (2, 3), label="same"),
            s(cube(rng, 1, 3), (0, 3), label="to empty"),
        ],
        lambda x, shape: np.broadcast_to(x, shape),
        EXACT,
        (
            bad(ValueError, r"\[broadcast_to\].*\(2, 3\).*\(2, 4\)", ONES, (2, 4)),
            bad(ValueError, r"\[broadcast_to\]", ONES, (3,)),
        ),
    ),
    Row(
        "flatten",
        lambda rng: [
            s(cube(rng), label="all"),
            s(cube(rng), 1, label="from 1"),
            s(cube(rng, 2, 3, 4, 2), 1, 2, label="middle"),
            s(cube(rng), start_axis=-2, label="negative"),
            s(rng.normal(size=()), label="0-d"),
        ],
        flatten,
        EXACT,
        (bad(IndexError, r"\[flatten\].*axis 3", ONES, 3), bad(ValueError, r"\[flatten\]", np.ones((2, 3, 4)), 2, 1)),
    ),
    Row(
        "concat",
        lambda rng: [
            s([cube(rng, 2, 3), cube(rng, 1, 3)], label="rows"),
            s([cube(rng, 2, 3), cube(rng, 2, 1), cube(rng, 2, 2)], axis=1, label="columns"),
            s((cube(rng, 2, 3), cube(rng, 2, 0)), axis=-1, label="an empty part"),
            s([cube(rng, 4)], label="one tensor"),
        ],
        lambda tensors, axis=0: np.concatenate(tensors, axis=axis),
        EXACT,
        (
            bad(ValueError, r"\[concat\].*\(2, 4\).*\(2, 3\)", [ONES, np.ones((2, 4))]),
            bad(ValueError, r"\[concat\]", []),
            bad(IndexError, r"\[concat\].*axis 2", [ONES, ONES], axis=2),
            bad(ValueError, r"\[concat\]", [ONES, np.ones(3)]),
        ),
    ),
    Row(
        "stack",
        lambda rng: [
            s([cube(rng, 2, 3), cube(rng, 2, 3)], label="front"),
            s([cube(rng, 2, 3), cube(rng, 2, 3), cube(rng, 2, 3)], axis=-1, label="back"),
            s([rng.normal(size=()), rng.normal(size=())], label="0-d"),
        ],
        lambda tensors, axis=0: np.stack(tensors, axis=axis),
        EXACT,
        (
            bad(ValueError, r"\[stack\].*\(2, 3\).*\(2, 4\)", [ONES, np.ones((2, 4))]),
            bad(ValueError, r"\[stack\]", []),
            bad(IndexError, r"\[stack\].*axis 3", [ONES, ONES], axis=3),
        ),
    ),
    Row(
        "split",
        lambda rng: [
            s(cube(rng, 6, 2), 3, label="equal parts"),
            s(cube(rng, 2, 7), [2, 5], axis=1, label="at indices"),
            s(cube(rng, 4), [1, 1, 9], label="empty and beyond the end"),
        ],
        split,
        EXACT,
        (
            bad(ValueError, r"\[split\].*3.*(equal|parts)|\[split\].*(equal|parts).*3", np.ones((4, 2)), 3),
            bad(IndexError, r"\[split\].*axis 2", ONES, 1, axis=2),
        ),
    ),
    Row(
        "flip",
        lambda rng: [
            s(cube(rng), label="all"),
            s(cube(rng), 1, label="one"),
            s(cube(rng), (0, -1), label="two"),
            s(cube(rng, 0, 2), label="empty"),
        ],
        lambda x, axis=None: np.flip(x, axis),
        EXACT,
        (bad(IndexError, r"\[flip\].*axis 2", ONES, 2),),
    ),
    Row(
        "getitem",
        lambda rng: [
            *(s(cube(rng, 3, 4, 5), index, label=str(index)) for index in INDICES),
            *(s(cube(rng, 3, 4, 5), index, label=label) for label, index in PICKS),
            s(cube(rng, 50, 60), (slice(None), Const(rng.integers(-60, 60, 900))), label="big columns", big=True),
            s(cube(rng, 50, 60), Const(rng.integers(0, 50, 900)), label="big rows", big=True),
            s(cube(rng, 200, 90), Const(rng.uniform(size=(200, 90)) < 0.5), label="big mask", big=True),
        ],
        lambda x, index: x[index],
        EXACT,
        (
            bad(IndexError, r"index 2.*(axis 0|size 2)", ONES, 2),
            bad(IndexError, r"index -4.*(axis 1|size 3)", ONES, (0, -4)),
            bad(IndexError, r"\[getitem\] 3 indices.*2 axes.*\(2, 3\)", ONES, (0, 0, 0)),
            bad(IndexError, r"(?i)ellipsis|\.\.\.", ONES, (Ellipsis, Ellipsis)),
            bad(ValueError, r"(?i)step", ONES, slice(None, None, 0)),
            bad(TypeError, r".+", ONES, "x"),
            bad(TypeError, r".+", ONES, 1.5),
            bad(IndexError, r"\[getitem\] index 3.*axis 1 of size 3", ONES, (slice(None), Const(np.array([0, 3])))),
            bad(IndexError, r"\[getitem\] a mask of shape \(3,\).*\(2, 3\)", ONES, Const(np.ones(3, dtype=bool))),
            bad(TypeError, r"\[getitem\].*float64", ONES, np.array([0.0])),
        ),
        call=lambda x, index: x[index],
    ),
    Row(
        "take_rows",
        lambda rng: [
            s(cube(rng, 5, 3), Const(np.array([0, 4, 4, 2])), label="repeated rows"),
            s(cube(rng, 5, 3), Const(np.array([[1, -1], [0, -5]])), label="2-d, negative"),
            s(cube(rng, 5), Const(np.array([3, 3, 3])), label="from a vector"),
            s(cube(rng, 5, 3), Const(np.array([], dtype=np.int64)), label="no rows"),
            s(cube(rng, 5, 2, 2), Const(np.array(3)), label="0-d index"),
            s(cube(rng, 5, 3), Const(np.array([1, 0], dtype=np.uint8)), label="uint8 index"),
        ],
        lambda x, indices: x[indices.astype(np.int64)],
        EXACT,
        (
            bad(IndexError, r"\[take_rows\].*5", np.ones((5, 2)), Const(np.array([0, 5]))),
            bad(IndexError, r"\[take_rows\].*-6", np.ones((5, 2)), Const(np.array([-6]))),
            bad(TypeError, r"\[take_rows\].*float", np.ones((5, 2)), Const(np.array([0.0]))),
        ),
    ),
    Row(
        "matmul",
        products,
        lambda a, b: np.matmul(a, b),
        CONTRACT,
        (
            bad(ValueError, r"\[matmul\].*\(2, 3\).*\(2, 4\)", ONES, np.ones((2, 4))),
            bad(ValueError, r"\[matmul\].*(0-d|scalar|dimension|ndim|axis|axes)", np.array(1.0), ONES),
            bad(ValueError, r"\[matmul\].*\(2,\).*\(3,\)", np.ones((2, 1, 3)), np.ones((3, 3, 1))),
        ),
    ),
]
