"""Rows of the element-wise operations: arithmetic, comparison, logic, functions, clip, where, astype."""

from __future__ import annotations

import math

import numpy as np

from op_table import EXACT, FEW, ULPS, Const, Row, Tol, away_from, bad, s

INF, NAN = math.inf, math.nan
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, INF, -INF, NAN])


def pairs(rng, second=lambda x: x):
    """Samples of a binary operation: same shape, broadcast, scalars on either side, nothing, special values."""
    n = rng.normal
    yield s(n(size=(3, 37)), second(n(size=(3, 37))), label="same shape")
    yield s(n(size=(2, 1, 5)), second(n(size=(4, 1))), label="broadcast both")
    yield s(n(size=(4, 3)), second(n(size=(3,))), label="row")
    yield s(n(size=(4, 3)), second(n(size=(4, 1))), label="column")
    yield s(n(size=()), second(n(size=(2, 3))), label="0-d and 2-d")
    yield s(n(size=(3, 5)), 1.5, label="scalar right")
    yield s(2.5, second(n(size=(3, 5))), label="scalar left")
    yield s(n(size=(0, 3)), second(n(size=(3,))), label="empty")
    yield s(n(size=(5,)), second(n(size=(1,))), label="one element")
    yield s(n(size=(129, 67)), second(n(size=(129, 67))), label="big", big=True)


def arithmetic(rng):
    yield from pairs(rng)
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    yield s(a.copy(), b.copy(), label="special values", grad=False)


def with_gap(rng):
    """Pairs whose members differ by at least 0.05: maximum and minimum have a kink where they meet."""
    for case in pairs(rng):
        a, b = case.args
        yield s(a if isinstance(a, float) else np.array(a), away_apart(a, b), label=case.label, big=case.big)
    yield s(np.array([1.0, 1.0, NAN, 2.0]), np.array([1.0, 2.0, 0.0, NAN]), label="ties and nan", grad=False)


def away_apart(a, b):
    """`b` moved away from every value of `a` that it is compared with."""
    if isinstance(b, float) or isinstance(a, float):
        return b
    b = np.array(b)
    for _ in range(50):
        close = np.abs(np.asarray(a) - b) < 0.02
        while close.ndim > b.ndim:
            close = close.any(axis=0)
        for axis, length in enumerate(b.shape):
            if length == 1:
                close = close.any(axis=axis, keepdims=True)
        if not close.any():
            break
        b = b + 0.037 * close
    return b


def positive_right(x):
    return np.abs(x) + 0.5


def not_integer_quotient(rng):
    """Quotients at least 0.05 away from an integer, where floor_divide and remainder jump."""
    q = away_from(rng.uniform(-3, 3, size=(4, 5)), range(-4, 5))
    b = rng.uniform(0.5, 2, size=(4, 5)) * rng.choice([-1.0, 1.0], size=(4, 5))
    yield s(q * b, b, label="same shape")
    yield s(q[0] * 2.0, 2.0, label="scalar right")
    yield s(q * b[0], b[0], label="row")


def powers(rng):
    yield s(rng.uniform(0.5, 2, size=(3, 7)), rng.normal(size=(3, 7)), label="same shape")
    yield s(rng.uniform(0.5, 2, size=(3, 7)), rng.normal(size=(7,)), label="row")
    for exponent in (2, 3, 0.5, -1, 1, 0, 2.5):
        yield s(rng.uniform(0.5, 2, size=(9,)), exponent, label=f"x ** {exponent}")
    yield s(rng.normal(size=(9,)), 2, label="square of negatives")
    yield s(away_from(rng.normal(size=(9,)), [0.0]), 3, label="cube of negatives")
    yield s(2.0, rng.normal(size=(9,)), label="2 ** x")
    yield s(SPECIAL, 2.0, label="special values", grad=False)


SHAPE = bad(ValueError, r"\[{0}\].*\(2, 3\).*\(2, 4\)", np.ones((2, 3)), np.ones((2, 4)))
STRING = bad(TypeError, r".+", np.ones(3), "x")


def refuses(name):
    return (bad(SHAPE.error, SHAPE.match.replace("{0}", name), *SHAPE.args), STRING)


def compare_pairs(rng):
    values = rng.integers(-2, 3, size=(4, 9)).astype(float)
    yield s(values, values[::-1].copy(), label="same shape")
    yield s(values, values[0], label="row")
    yield s(values, 1.0, label="scalar right")
    yield s(1, values, label="int scalar left")
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    yield s(a.copy(), b.copy(), label="special values")
    yield s(np.ones((0, 2)), np.ones((1, 2)), label="empty")


def bools(rng):
    a, b = rng.random((3, 9)) < 0.5, rng.random((3, 9)) < 0.5
    yield s(Const(a), Const(b), label="bool")
    yield s(Const(a), Const(b[0]), label="bool row")


POW = Tol(
    (2e-6, 1e-37), (2e-14, 1e-300), "exp(y log x): |y log x| <= 6 here, and its error is multiplied by that: 16 ULP"
)

BINARY = [
    Row("add", arithmetic, lambda a, b: np.add(a, b), EXACT, refuses("add"), ints="same"),
    Row("subtract", arithmetic, lambda a, b: np.subtract(a, b), EXACT, refuses("subtract"), ints="same"),
    Row("multiply", arithmetic, lambda a, b: np.multiply(a, b), EXACT, refuses("multiply"), ints="same"),
    Row(
        "divide",
        lambda rng: pairs(rng, positive_right),
        lambda a, b: np.divide(a, b),
        EXACT,
        refuses("divide"),
        ints="float32",
    ),
    Row(
        "floor_divide",
        not_integer_quotient,
        lambda a, b: np.floor(a / b),
        EXACT,
        refuses("floor_divide"),
    ),
    Row(
        "remainder",
        not_integer_quotient,
        lambda a, b: a - np.floor(a / b) * b,
        Tol((1e-6, 5e-7), (1e-14, 1e-15), "a - floor(a/b) b cancels: absolute error is a rounding of |a| <= 6"),
        refuses("remainder"),
    ),
    Row("pow", powers, lambda a, b: np.power(a, b), POW, refuses("pow")),
    Row("maximum", with_gap, lambda a, b: np.maximum(a, b), EXACT, refuses("maximum"), ints="same"),
    Row("minimum", with_gap, lambda a, b: np.minimum(a, b), EXACT, refuses("minimum"), ints="same"),
]

COMPARE = [
    Row(name, compare_pairs, formula, EXACT, refuses(name), grad=False, ints="bool")
    for name, formula in [
        ("equal", lambda a, b: np.equal(a, b)),
        ("not_equal", lambda a, b: np.not_equal(a, b)),
        ("less", lambda a, b: np.less(a, b)),
        ("less_equal", lambda a, b: np.less_equal(a, b)),
        ("greater", lambda a, b: np.greater(a, b)),
        ("greater_equal", lambda a, b: np.greater_equal(a, b)),
    ]
]

LOGIC = [
    Row(name, bools, formula, EXACT, refuses(name)[:1], grad=False)
    for name, formula in [
        ("logical_and", lambda a, b: np.logical_and(a, b)),
        ("logical_or", lambda a, b: np.logical_or(a, b)),
        ("logical_xor", lambda a, b: np.logical_xor(a, b)),
    ]
] + [
    Row(
        "logical_not",
        lambda rng: [s(Const(rng.random((3, 9)) < 0.5), label="bool")],
        lambda x: np.logical_not(x),
        EXACT,
        grad=False,
    ),
]


def specials(rng):
    yield s(SPECIAL, label="special values")
    yield s(rng.normal(size=(2, 0, 3)), label="empty")
    yield s(np.array(NAN), label="0-d")


def reals(kinks=(), low=-3.0, high=3.0, special=True):
    """Samples of a function of one real argument, in [low, high] and away from `kinks`."""

    def samples(rng):
        def draw(*shape):
            return away_from(rng.uniform(low, high, size=shape), kinks)

        yield s(draw(3, 37), label="matrix")
        yield s(draw(), label="0-d")
        yield s(draw(0, 4), label="empty")
        yield s(draw(2, 3, 2, 2), label="4-d")
        yield s(draw(131, 65), label="big", big=True)
        if special:
            yield s(SPECIAL, label="special values", grad=False)

    return samples


TEXT = (bad(TypeError, r".+", "text"), bad(TypeError, r".+", None))
erf = np.vectorize(math.erf, otypes=[float])
half_integers = np.arange(-4, 4) + 0.5

# sin and cos reduce their argument with an absolute error of about u, so a tiny result has a large relative one.
TRIG = Tol((5e-7, 2e-7), (4e-15, 4e-16), "4 ULP, or an absolute 2 u where the result crosses zero")
# expm1 and log1p of |x| <= 3 lose nothing near zero: checked there too (kernels state 4 ULP).
RECIPROCAL = Tol((1.3e-7, 0), (4e-16, 0), "one division, or a root and a division: two roundings, 2 * 2^-24")

UNARY = [
    Row("negative", reals(), lambda x: np.negative(x), EXACT, TEXT, ints="same"),
    Row("abs", reals([0.0]), lambda x: np.abs(x), EXACT, TEXT, ints="same"),
    Row("sign", reals([0.0]), lambda x: np.sign(x), EXACT, TEXT),
    Row("square", reals(), lambda x: x * x, EXACT, TEXT, ints="same"),
    Row("sqrt", reals(low=0.1), lambda x: np.sqrt(x), EXACT, TEXT, ints="float32"),
    Row("rsqrt", reals(low=0.1, special=False), lambda x: 1 / np.sqrt(x), RECIPROCAL, TEXT),
    Row("reciprocal", reals(low=0.1), lambda x: 1 / x, EXACT, TEXT),
    Row("exp", reals(), lambda x: np.exp(x), ULPS, TEXT, ints="float32"),
    Row("expm1", reals(), lambda x: np.expm1(x), ULPS, TEXT),
    Row(
        "log",
        reals(low=0.1),
        lambda x: np.log(x),
        Tol((5e-7, 3e-8), (4e-15, 1e-16), "4 ULP, or u/2 near log 1 = 0"),
        TEXT,
    ),
    Row("log1p", reals(low=-0.9), lambda x: np.log1p(x), ULPS, TEXT),
    Row("sin", reals(), lambda x: np.sin(x), TRIG, TEXT),
    Row("cos", reals(), lambda x: np.cos(x), TRIG, TEXT),
    Row("floor", reals(range(-3, 4)), lambda x: np.floor(x), EXACT, TEXT),
    Row("ceil", reals(range(-3, 4)), lambda x: np.ceil(x), EXACT, TEXT),
    Row("round", reals(half_integers), lambda x: np.round(x), EXACT, TEXT),
    Row("trunc", reals(range(-3, 4)), lambda x: np.trunc(x), EXACT, TEXT),
    Row("erf", reals(), lambda x: erf(x) if np.size(x) else x, ULPS, TEXT),
    Row("isnan", specials, lambda x: np.isnan(x), EXACT, TEXT, grad=False),
    Row("isinf", specials, lambda x: np.isinf(x), EXACT, TEXT, grad=False),
    Row("isfinite", specials, lambda x: np.isfinite(x), EXACT, TEXT, grad=False),
]


def clips(rng):
    x = away_from(rng.normal(size=(3, 37)), [-0.5, 0.75])
    yield s(x, -0.5, 0.75, label="both")
    yield s(x, -0.5, label="min only")
    yield s(x, max=0.75, label="max only")
    yield s(SPECIAL, -1.0, 2.0, label="special values", grad=False)
    yield s(np.ones((0,)), 0.0, 1.0, label="empty")


def clip(x, min=None, max=None):
    if min is not None:
        x = np.where(x < min, min, x)
    if max is not None:
        x = np.where(x > max, max, x)
    return x


def wheres(rng):
    n = rng.normal
    yield s(Const(rng.random((3, 37)) < 0.5), n(size=(3, 37)), n(size=(3, 37)), label="same shape")
    yield s(Const(rng.random((3, 1)) < 0.5), n(size=(1, 4)), n(size=(3, 4)), label="broadcast")
    yield s(Const(rng.random((3, 4)) < 0.5), n(size=(3, 4)), 0.5, label="scalar right")
    yield s(Const(rng.random((3, 4)) < 0.5), 0.5, n(size=(4,)), label="scalar left")
    yield s(Const(np.array(True)), n(size=(2, 3)), n(size=(3,)), label="0-d condition")
    yield s(
        Const(np.array([True, False])), np.array([1.0, NAN]), np.array([NAN, 2.0]), label="nan not taken", grad=False
    )


OTHER = [
    Row(
        "clip",
        clips,
        clip,
        EXACT,
        (bad(TypeError, r".+", np.ones(3), "a"),),
    ),
    Row(
        "where",
        wheres,
        lambda c, a, b: np.where(c, a, b),
        EXACT,
        (bad(ValueError, r"\[where\].*\(2,\).*", Const(np.ones(2, bool)), np.ones(3), np.ones(3)),),
    ),
    Row(
        "astype",
        lambda rng: [
            s(rng.normal(size=(3, 37)), "float64", label="to float64"),
            s(rng.normal(size=(0,)), "float64", label="empty"),
        ],
        lambda x, dtype: x.astype(dtype),
        EXACT,
        (
            bad(TypeError, r"(?i)dtype|complex", np.ones(3), "complex64"),
            bad(TypeError, r".+", np.ones(3), "no such type"),
        ),
        out="float64",
    ),
]

SMOOTH = [
    Row("sigmoid", reals(), lambda x: 1 / (1 + np.exp(-x)), ULPS, TEXT),
    Row("tanh", reals(), lambda x: np.tanh(x), ULPS, TEXT),
    Row("softplus", reals(), lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), FEW, TEXT),
    Row("silu", reals(special=False), lambda x: x / (1 + np.exp(-x)), FEW, TEXT),
    Row("relu", reals([0.0]), lambda x: np.where(x < 0, 0, x), EXACT, TEXT, ints="same"),
    Row(
        "gelu",
        lambda rng: [
            *reals(special=False)(rng),
            s(rng.uniform(-3, 3, size=(3, 37)), approximate="tanh", label="tanh approximation"),
        ],
        lambda x, approximate="none": (
            0.5 * x * (1 + (erf(x / math.sqrt(2)) if x.size else x))
            if approximate == "none"
            else 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        ),
        Tol(
            (2e-6, 4e-7),
            (1e-14, 3e-15),
            "1 + erf(x) cancels for x < 0: absolute error of erf times |x|/2 <= 1.5; the twin adds 60 terms (1e-15)",
        ),
        (bad(ValueError, r"\[gelu\].*approximate.*none.*tanh", np.ones(3), approximate="quick"), *TEXT),
    ),
]

ROWS = BINARY + COMPARE + LOGIC + UNARY + OTHER + SMOOTH
