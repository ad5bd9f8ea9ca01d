"""Rows of padding, repetition, windows, products over chosen axes, norms."""

from __future__ import annotations

import numpy as np

from op_table import CONTRACT, EXACT, FEW, SUMS, Const, Row, Tol, away_from, bad, distinct, s

ONES = np.ones((2, 3))
INDEX = Const(np.array([0, 2, 1]))


def n(rng, *shape):
    return rng.normal(size=shape)


def repeat(x, repeats, axis=None):
    return np.repeat(x, repeats, axis)


def norm(x, ord=2.0, axis=None, keepdims=False):
    size = np.abs(x)
    axis = tuple(axis) if isinstance(axis, list) else axis
    if ord == np.inf:
        return size.max(axis, keepdims=keepdims)
    if ord == -np.inf:
        return size.min(axis, keepdims=keepdims)
    if ord == 0:
        return (x != 0).sum(axis, keepdims=keepdims).astype(x.dtype)
    return (size**ord).sum(axis, keepdims=keepdims) ** (1 / ord)


def logsumexp(x, axis=None, keepdims=False):
    return np.logaddexp.reduce(x, axis=axis, keepdims=keepdims) if axis is not None else flat_logsumexp(x, keepdims)


def flat_logsumexp(x, keepdims):
    y = np.logaddexp.reduce(x.ravel())
    return np.asarray(y).reshape((1,) * x.ndim if keepdims else ())


def im2col(x, kernel_size, dilation=1, padding=0, stride=1):
    def pair(v):
        return (v, v) if isinstance(v, int) else v

    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = map(pair, (kernel_size, dilation, padding, stride))
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    batch, c, h, w = x.shape
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    out = np.zeros((batch, c, kh, kw, oh, ow))
    for i in range(kh):
        for j in range(kw):
            out[:, :, i, j] = x[:, :, i * dh : i * dh + sh * oh : sh, j * dw : j * dw + sw * ow : sw]
    return out.reshape(batch, c * kh * kw, oh * ow)


def col2im(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Adds every patch at its place in the padded image."""

    def pair(v):
        return (v, v) if isinstance(v, int) else v

    (h, w), (kh, kw), (dh, dw), (ph, pw), (sh, sw) = map(pair, (output_size, kernel_size, dilation, padding, stride))
    channels = x.shape[1] // (kh * kw)
    image = np.zeros((len(x), channels, h + 2 * ph, w + 2 * pw))
    oh, ow = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    patches = x.reshape(len(x), channels, kh, kw, oh, ow)
    for i, j, u, v in np.ndindex(oh, ow, kh, kw):
        image[:, :, i * sh + u * dh, j * sw + v * dw] += patches[:, :, u, v, i, j]
    return image[:, :, ph : ph + h, pw : pw + w]


def unfold(x, axis, size, step=1):
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)
    return windows[(slice(None),) * (axis % x.ndim) + (slice(None, None, step),)]


def one_hot(x, num_classes=None, dtype=None):
    classes = int(x.max()) + 1 if num_classes is None else num_classes
    return (x[..., None] == np.arange(classes)).astype(dtype or np.int64)


def einsums(rng):
    for equation, *shapes in (
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij,jk", (2, 3), (3, 4)),
        ("ba,cb", (2, 3), (4, 2)),
        ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
        ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)),
        ("ii", (3, 3)),
        ("ii->i", (3, 3)),
        ("iji->ji", (3, 2, 3)),
        ("ij->", (2, 3)),
        ("ij->ji", (2, 3)),
        ("i,i", (4,), (4,)),
        ("i,j->ij", (2,), (3,)),
        ("ij,ij->i", (2, 3), (2, 3)),
        ("ij,k->j", (2, 3), (4,)),
        ("i,ij,jk,k->", (2,), (2, 3), (3, 4), (4,)),
        ("ij,ik,il->jkl", (2, 3), (2, 2), (2, 4)),
        ("...ij,...jk->...ik", (2, 1, 2, 3), (4, 3, 2)),
        ("...,...->...", (2, 3), (3,)),
        ("i...,i...", (2, 3), (2, 3)),
        ("...i->i...", (2, 3, 4)),
        ("a...b,b->a...", (2, 3, 4), (4,)),
        ("ij,ij->ij", (1, 3), (2, 1)),
        ("ij,jk->ik", (2, 0), (0, 3)),
        (" i j , j -> i ", (2, 3), (3,)),
    ):
        label = f"{equation} {' '.join(map(str, shapes))}".replace("/", "")
        yield s(equation, *(n(rng, *shape) for shape in shapes), label=label)


def pads(rng):
    for mode in ("constant", "reflect", "edge", "wrap"):
        yield s(n(rng, 3, 4), ((1, 2), (0, 3)), mode, label=f"{mode}, pairs")
        yield s(n(rng, 3, 2), 5, mode, label=f"{mode}, int, wider than the tensor")
        yield s(n(rng, 4), (2, 1), mode, label=f"{mode}, one pair")
        yield s(n(rng, 1), (1, 2), mode, label=f"{mode}, one element")
    yield s(n(rng, 2, 3), ((1, 0), (0, 1)), constant_values=-1.5, label="a value")
    yield s(n(rng, 0, 3), ((1, 2), (0, 0)), label="empty")


def pad(x, pad_width, mode="constant", constant_values=0):
    return (
        np.pad(x, pad_width, mode, constant_values=constant_values)
        if mode == "constant"
        else np.pad(x, pad_width, mode)
    )


LOG = Tol(
    (2e-6, 2e-6),
    (1e-14, 1e-14),
    "exp, a short sum and log: about 16 roundings, absolute since the result may be near 0",
)

ROWS = [
    Row(
        "pad",
        pads,
        pad,
        EXACT,
        (
            bad(ValueError, r"\[pad\] 3 pairs.*2 axes.*\(2, 3\)", ONES, [(1, 1)] * 3),
            bad(ValueError, r"\[pad\].*negative.*-1", ONES, -1),
            bad(ValueError, r"\[pad\] mode.*'mirror'", ONES, 1, "mirror"),
            bad(ValueError, r"\[pad\] axis 0.*empty", np.ones((0, 2)), 1, "edge"),
            bad(TypeError, r"\[pad\] pad_width", ONES, 1.5),
        ),
    ),
    Row(
        "repeat",
        lambda rng: [
            s(n(rng, 2, 3), 2, label="flat"),
            s(n(rng, 2, 3), 3, 1, label="columns"),
            s(n(rng, 2, 3), [2, 0, 1], -1, label="counts"),
            s(n(rng, 2), 0, label="never"),
            s(rng.normal(size=()), 3, label="0-d"),
        ],
        repeat,
        EXACT,
        (
            bad(ValueError, r"\[repeat\] 2 counts.*3 elements", ONES, [1, 2], 1),
            bad(ValueError, r"\[repeat\].*negative", ONES, -1),
            bad(IndexError, r"\[repeat\].*axis 2", ONES, 2, 2),
            bad(ValueError, r"\[repeat\].*too many", ONES, 2**63 - 1, 1),
        ),
    ),
    Row(
        "tile",
        lambda rng: [
            s(n(rng, 2, 3), 2, label="int"),
            s(n(rng, 2, 3), (2, 1, 2), label="more counts than axes"),
            s(n(rng, 2, 1, 3), (3, 2), label="fewer"),
            s(n(rng, 2), (0, 2), label="never"),
        ],
        lambda x, reps: np.tile(x, reps),
        EXACT,
        (bad(ValueError, r"\[tile\].*negative", ONES, (-1, 1)), bad(ValueError, r"\[tile\].*too many", ONES, 2**62)),
    ),
    Row(
        "roll",
        lambda rng: [
            s(n(rng, 2, 3), 2, label="flat"),
            s(n(rng, 2, 3), -1, 1, label="back"),
            s(n(rng, 2, 3), (1, 5), (0, 1), label="two axes"),
            s(n(rng, 3, 3), 1, (0, 1), label="one shift, two axes"),
            s(n(rng, 3), (1, 1), (0, 0), label="one axis twice"),
            s(n(rng, 0), 1, label="empty"),
        ],
        lambda x, shift, axis=None: np.roll(x, shift, axis),
        EXACT,
        (
            bad(ValueError, r"\[roll\] 2 shifts for 1 axes", ONES, (1, 2), 0),
            bad(IndexError, r"\[roll\].*axis 2", ONES, 1, 2),
        ),
    ),
    Row(
        "diff",
        lambda rng: [
            s(n(rng, 2, 4), label="last axis"),
            s(n(rng, 4, 2), 0, 2, label="twice"),
            s(n(rng, 3), n=5, label="more often than there are elements"),
            s(n(rng, 2, 3), prepend=n(rng, 2, 1), append=n(rng, 2, 2), label="ends"),
        ],
        lambda x, axis=-1, n=1, prepend=None, append=None: np.diff(
            x, n, axis, **{k: v for k, v in (("prepend", prepend), ("append", append)) if v is not None}
        ),
        FEW,
        (
            bad(IndexError, r"\[diff\].*axis 2", ONES, 2),
            bad(ValueError, r"\[diff\] n.*-1", ONES, n=-1),
            bad(IndexError, r"\[diff\].*axis -1", np.array(1.0)),
        ),
    ),
    *(
        Row(
            name,
            lambda rng: [
                s(n(rng, 3, 4), label="main diagonal"),
                s(n(rng, 2, 3, 3), 1, label="above"),
                s(n(rng, 4, 3), k=-2, label="below"),
                s(n(rng, 2, 2), 9, label="far off"),
            ],
            fn,
            EXACT,
            (bad(ValueError, rf"\[{name}\].*two axes.*\(2,\)", np.ones(2)),),
            ints="same",
        )
        for name, fn in (("tril", lambda x, k=0: np.tril(x, k)), ("triu", lambda x, k=0: np.triu(x, k)))
    ),
    Row(
        "diagonal",
        lambda rng: [
            s(n(rng, 3, 3), label="square"),
            s(n(rng, 2, 3, 4), 1, label="batch, above"),
            s(n(rng, 4, 3), -2, label="below"),
            s(n(rng, 2, 3, 4), 0, 2, 0, label="axes"),
            s(n(rng, 2, 2), 5, label="outside"),
        ],
        lambda x, offset=0, axis1=-2, axis2=-1: np.diagonal(x, offset, axis1, axis2),
        EXACT,
        (
            bad(IndexError, r"\[diagonal\].*axis", np.ones(3)),
            bad(ValueError, r"\[diagonal\]", ONES, 0, 1, 1),
        ),
    ),
    Row(
        "one_hot",
        lambda rng: [
            s(INDEX, label="classes from the data"),
            s(Const(np.array([[0, 1], [2, 2]], dtype=np.uint8)), 4, label="2-d, uint8"),
            s(Const(np.zeros(0, dtype=np.int64)), 3, label="empty"),
        ],
        one_hot,
        EXACT,
        (
            bad(IndexError, r"\[one_hot\] class 2.*2 classes", INDEX, 2),
            bad(IndexError, r"\[one_hot\] class -1", Const(np.array([-1, 0]))),
            bad(TypeError, r"\[one_hot\].*integers.*float", ONES),
            bad(ValueError, r"\[one_hot\] num_classes", Const(np.zeros(0, dtype=np.int64))),
        ),
        grad=False,
    ),
    Row(
        "unfold",
        lambda rng: [
            s(n(rng, 7), 0, 3, 1, label="overlapping"),
            s(n(rng, 2, 7, 2), 1, 2, 3, label="with gaps"),
            s(n(rng, 2, 4), -1, 4, 1, label="one window"),
            s(n(rng, 3, 6), 0, 1, 2, label="single elements"),
        ],
        unfold,
        EXACT,
        (
            bad(ValueError, r"\[unfold\].*axis 1 of size 3", ONES, 1, 4, 1),
            bad(ValueError, r"\[unfold\].*step", ONES, 1, 2, 0),
            bad(IndexError, r"\[unfold\].*axis 2", ONES, 2, 1, 1),
        ),
    ),
    Row(
        "im2col",
        lambda rng: [
            s(n(rng, 2, 2, 4, 5), 3, label="plain"),
            s(n(rng, 1, 2, 4, 4), (2, 3), (1, 1), (1, 0), (2, 1), label="padding and stride"),
            s(n(rng, 1, 1, 6, 6), 2, dilation=(2, 3), label="dilation"),
        ],
        im2col,
        EXACT,
        (
            bad(ValueError, r"\[im2col\].*\(n, c, h, w\).*\(2, 3\)", ONES, 2),
            bad(ValueError, r"\[im2col\] a window.*\(2, 2\)", np.ones((1, 1, 2, 2)), 3),
            bad(ValueError, r"\[im2col\].*positive", np.ones((1, 1, 2, 2)), 0),
        ),
    ),
    Row(
        "col2im",
        lambda rng: [
            s(n(rng, 2, 18, 6), (4, 5), 3, label="plain"),
            s(n(rng, 1, 12, 6), 4, (2, 3), (1, 1), (1, 0), (2, 1), label="padding and stride"),
            s(n(rng, 1, 4, 9), 6, 2, dilation=(1, 3), stride=(2, 1), label="dilation"),
            s(n(rng, 1, 4, 4), 5, 2, stride=2, label="a rest that no patch covers"),
            s(n(rng, 2, 9 * 16, 900), 32, 3, label="big", big=True),
        ],
        col2im,
        SUMS,
        (
            bad(ValueError, r"\[col2im\].*\(n, c \* 4, 1\).*got \(2, 3\)", ONES, 2, 2),
            bad(ValueError, r"\[col2im\].*got \(1, 4, 2\)", np.ones((1, 4, 2)), 2, 2),
            bad(ValueError, r"\[col2im\].*got \(1, 3, 1\)", np.ones((1, 3, 1)), 2, 2),
            bad(ValueError, r"\[col2im\].*positive", np.ones((1, 4, 1)), 2, 2, stride=0),
            bad(TypeError, r"\[col2im\].*floating", Const(np.ones((1, 4, 1), dtype=np.int64)), 2, 2),
        ),
    ),
    Row(
        "moveaxis",
        lambda rng: [
            s(n(rng, 2, 3, 4), 0, -1, label="first to last"),
            s(n(rng, 2, 3, 4), (0, 2), (1, 0), label="two"),
        ],
        lambda x, source, destination: np.moveaxis(x, source, destination),
        EXACT,
        (
            bad(ValueError, r"\[moveaxis\].*length", ONES, (0, 1), 0),
            bad(ValueError, r"\[moveaxis\].*twice", ONES, (0, 0), (0, 1)),
            bad(IndexError, r"\[moveaxis\].*axis 2", ONES, 0, 2),
        ),
    ),
    Row(
        "matrix_transpose",
        lambda rng: [s(n(rng, 2, 3, 4), label="batch")],
        lambda x: np.swapaxes(x, -1, -2),
        EXACT,
        (bad(ValueError, r"two axes.*\(3,\)", np.ones(3)),),
    ),
    Row(
        "broadcast_arrays",
        lambda rng: [s(n(rng, 2, 1), n(rng, 3), rng.normal(size=()), label="three"), s(n(rng, 2), label="one")],
        lambda *arrays: list(np.broadcast_arrays(*arrays)),
        EXACT,
        (bad(ValueError, r"\[broadcast_arrays\].*\(2, 3\).*\(2,\)", ONES, np.ones(2)),),
    ),
    Row(
        "meshgrid",
        lambda rng: [
            s(n(rng, 2), n(rng, 3), n(rng, 4), label="xy"),
            s(n(rng, 2), n(rng, 3), indexing="ij", label="ij"),
            s(n(rng, 2), label="one"),
            s(n(rng, 2), rng.normal(size=()), label="0-d"),
        ],
        lambda *arrays, indexing="xy": list(np.meshgrid(*arrays, indexing=indexing)),
        EXACT,
        (
            bad(ValueError, r"\[meshgrid\].*tensor 1.*\(2, 3\)", np.ones(2), ONES),
            bad(ValueError, r"\[meshgrid\].*'yx'", np.ones(2), indexing="yx"),
        ),
    ),
    Row(
        "outer",
        lambda rng: [s(n(rng, 3), n(rng, 4), label="vectors"), s(n(rng, 0), n(rng, 4), label="empty")],
        lambda x1, x2: np.outer(x1, x2),
        EXACT,
        (bad(ValueError, r"\[outer\].*\(2, 3\)", ONES, np.ones(2)),),
    ),
    Row(
        "vecdot",
        lambda rng: [
            s(n(rng, 2, 3), n(rng, 3), label="broadcast"),
            s(n(rng, 3, 2), n(rng, 3, 2), 0, label="first axis"),
            s(n(rng, 4), n(rng, 4), label="vectors"),
        ],
        lambda x1, x2, axis=-1: (x1 * x2).sum(axis),
        CONTRACT,
        (
            bad(ValueError, r"\[vecdot\].*\(2, 3\).*\(2, 1\)", ONES, np.ones((2, 1))),
            bad(IndexError, r"\[vecdot\].*axis 2", ONES, ONES, 2),
        ),
        ints="same",
    ),
    Row(
        "tensordot",
        lambda rng: [
            s(n(rng, 2, 3, 4), n(rng, 3, 4, 2), label="two axes"),
            s(n(rng, 2, 3), n(rng, 4), 0, label="outer"),
            s(n(rng, 2, 3), n(rng, 3, 2), 1, label="matrix product"),
            s(n(rng, 2, 3, 4), n(rng, 4, 2, 3), ([0, 1], [1, 2]), label="lists"),
            s(n(rng, 2, 3), n(rng, 3, 2), (1, 0), label="pair of ints"),
        ],
        lambda x1, x2, axes=2: np.tensordot(x1, x2, axes),
        CONTRACT,
        (
            bad(ValueError, r"\[tensordot\].*axis 1.*\(2, 3\).*axis 0.*\(2, 3\)", ONES, ONES, 1),
            bad(ValueError, r"\[tensordot\] 3 axes", ONES, ONES, 3),
            bad(ValueError, r"\[tensordot\].*pair", ONES, ONES, ([0, 1], [0])),
            bad(ValueError, r"\[tensordot\].*twice", ONES, ONES, ([0, 0], [0, 0])),
            bad(TypeError, r"\[tensordot\] axes", ONES, ONES, "ab"),
        ),
    ),
    Row(
        "einsum",
        einsums,
        lambda equation, *operands: np.einsum(equation, *operands),
        CONTRACT,
        (
            bad(ValueError, r"\[einsum\] label 'j' has sizes 3 and 2", "ij,jk->ik", ONES, ONES),
            bad(ValueError, r"\[einsum\].*2 terms for 1", "ij,jk", ONES),
            bad(ValueError, r"\[einsum\].*'i' names 1 axes.*\(2, 3\)", "i", ONES),
            bad(ValueError, r"\[einsum\].*'k' of the output", "ij->k", ONES),
            bad(ValueError, r"\[einsum\].*'1'", "i1", ONES),
            bad(ValueError, r"\[einsum\].*ellipsis", "...j->j", ONES),
        ),
    ),
    Row(
        "norm",
        lambda rng: [
            s(n(rng, 3, 4), label="Euclidean"),
            s(away_from(n(rng, 3, 4), [0.0]), 1.0, 0, label="sum"),
            s(distinct(rng, (3, 4)) + 3, np.inf, -1, True, label="maximum"),
            s(distinct(rng, (3, 4)) + 3, -np.inf, 0, label="minimum"),
            s(n(rng, 3, 4), 0.0, 1, label="count", grad=False),
            s(n(rng, 2, 3, 2) + 2, 3.0, (0, 2), label="cubes"),
            s(n(rng, 4) + 3, 0.5, label="half"),
            s(n(rng, 4) + 3, -2.0, label="negative"),
            s(np.zeros((2, 3)), 2.0, 1, label="zero", grad=False),
            s(np.array([np.nan, 1.0]), label="NaN", grad=False),
        ],
        norm,
        SUMS,
        (
            bad(TypeError, r"\[norm\].*int64", Const(np.array([1, 2]))),
            bad(IndexError, r"\[?.*axis 2", ONES, 2.0, 2),
        ),
    ),
    Row(
        "logsumexp",
        lambda rng: [
            s(n(rng, 3, 4), label="all"),
            s(n(rng, 3, 4), -1, True, label="kept"),
            s(n(rng, 3, 4) * 300, 0, label="large"),
            s(np.array([[-np.inf, 1.0], [-np.inf, -np.inf]]), 1, label="minus infinity", grad=False),
            s(np.zeros((0, 2)), 0, label="of nothing", grad=False),
        ],
        logsumexp,
        LOG,
        (
            bad(TypeError, r"\[logsumexp\].*int64", Const(np.array([1, 2]))),
            bad(IndexError, r"axis 2", ONES, 2),
        ),
    ),
]
