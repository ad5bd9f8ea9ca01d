"""Rows of the recurrent layers: RNN, LSTM, GRU over whole sequences."""

from __future__ import annotations

import numpy as np

from op_table import Row, Tol, bad, s

#: A step's sums have up to 60 terms of order 1; squashed and damped, errors of steps do not grow.
STEPS = Tol((2e-5, 2e-5), (1e-12, 1e-12), "up to 12 steps of sums of up to 60 products of order 1, each squashed")
#: Gradients of weights add up to 60 steps' contributions of order 1, each after up to 12 steps back.
GRAD = Tol((1e-4, 1e-4), (1e-11, 1e-11), "sums over up to 60 steps, each through up to 12 steps of products")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def walk(x, weights, states, lengths, batch_first, bidirectional, step):
    """y and the last states of each sequence by itself; `step(x, states, weights)` gives the next states."""
    x = x if batch_first else x.transpose(1, 0, 2)
    n, steps, _ = x.shape
    directions = 2 if bidirectional else 1
    each = len(weights) // directions
    h = weights[1].shape[1]
    y = np.zeros((n, steps, directions * h))
    last = [np.zeros((directions, n, h)) for _ in states]
    for d in range(directions):
        w = list(weights[d * each : (d + 1) * each])
        for i in range(n):
            length = steps if lengths is None else int(lengths[i])
            now = [np.zeros(h) if s is None else s[d, i] for s in states]
            for t in range(length)[:: -1 if d else 1]:
                now = step(x[i, t], now, w)
                y[i, t, d * h : (d + 1) * h] = now[0]
            for k, state in enumerate(now):
                last[k][d, i] = state
    return [y if batch_first else y.transpose(1, 0, 2), *last]


def parts(x, h, w):
    """The inputs' and the state's part of all gates."""
    a, b = w[0] @ x, w[1] @ h
    return (a + w[2], b + w[3]) if len(w) >= 4 else (a, b)


def rnn(x, weights, h0=None, lengths=None, batch_first=False, bidirectional=False, activation="tanh"):
    def step(x, states, w):
        a = sum(parts(x, states[0], w))
        return [np.tanh(a) if activation == "tanh" else np.maximum(a, 0)]

    return walk(x, weights, [h0], lengths, batch_first, bidirectional, step)


def lstm(
    x,
    weights,
    h0=None,
    c0=None,
    lengths=None,
    batch_first=False,
    bidirectional=False,
    forget="gate",
    peephole=False,
):
    def step(x, states, w):
        h, c = states
        gates = np.split(sum(parts(x, h, w)), 4 if forget == "gate" else 3)
        p = w[-1] if peephole else np.zeros((3, h.size))
        i = sigmoid(gates[0] + p[0] * c)
        f = {"never": 1.0, "coupled": 1 - i}.get(forget)
        if f is None:
            f = sigmoid(gates[1] + p[1] * c)
        c = f * c + i * np.tanh(gates[-2])
        o = sigmoid(gates[-1] + p[-1] * c)
        return [o * np.tanh(c), c]

    return walk(x, weights, [h0, c0], lengths, batch_first, bidirectional, step)


def gru(x, weights, h0=None, lengths=None, batch_first=False, bidirectional=False, reset="after", swap_update=False):
    def step(x, states, w):
        h = states[0]
        a, b = parts(x, h, w)
        size = h.size
        r, z = sigmoid(a[:size] + b[:size]), sigmoid(a[size : 2 * size] + b[size : 2 * size])
        if reset == "after":
            n = np.tanh(a[2 * size :] + r * b[2 * size :])
        else:
            bias = w[3][2 * size :] if len(w) >= 4 else 0
            n = np.tanh(a[2 * size :] + w[1][2 * size :] @ (r * h) + bias)
        return [z * n + (1 - z) * h if swap_update else (1 - z) * n + z * h]

    return walk(x, weights, [h0], lengths, batch_first, bidirectional, step)


def weights(rng, gates, i, h, directions=1, bias=True, peepholes=0):
    found = []
    for _ in range(directions):
        shapes = [(gates * h, i), (gates * h, h)] + [(gates * h,)] * (2 * bias) + [(peepholes, h)] * bool(peepholes)
        found += [rng.normal(size=shape) * 0.6 for shape in shapes]
    return found


def shared(rng, gates):
    """What the samples of all three have in common; a little of everything that the kernel treats on its own."""
    n = rng.normal
    yield s(n(size=(3, 2, 3)), weights(rng, gates, 3, 2), label="plain")
    yield s(n(size=(2, 3, 2)), weights(rng, gates, 2, 3, bias=False), n(size=(1, 3, 3)), label="h0, no bias")
    x, w = n(size=(3, 3, 2)), weights(rng, gates, 2, 2, directions=2)
    h0 = n(size=(2, 3, 2))
    yield s(x, w, h0, lengths=[2, 3, 0], batch_first=True, bidirectional=True, label="lengths, two directions")
    yield s(x, w, lengths=np.array([1, 3, 2]), bidirectional=True, label="lengths as an array")
    yield s(n(size=(1, 1, 1)), weights(rng, gates, 1, 1), label="one of everything")
    x, w = n(size=(12, 5, 7)), weights(rng, gates, 7, 17)
    yield s(x, [v * 0.4 for v in w], label="wide", big=True)
    x, w = n(size=(5, 12, 7)), [v * 0.3 for v in weights(rng, gates, 7, 33, directions=2)]
    yield s(x, w, batch_first=True, lengths=[12, 1, 7, 0, 5], bidirectional=True, label="wide, lengths", big=True)


def rnns(rng):
    yield from shared(rng, 1)
    yield s(rng.normal(size=(3, 2, 3)) + 2, [abs(w) for w in weights(rng, 1, 3, 2)], activation="relu", label="relu")


def lstms(rng):
    yield from shared(rng, 4)
    n = rng.normal
    h0, c0 = n(size=(1, 2, 2)), n(size=(1, 2, 2))
    yield s(n(size=(3, 2, 2)), weights(rng, 4, 2, 2), h0, c0, label="both states")
    yield s(n(size=(3, 2, 2)), weights(rng, 4, 2, 2), c0=c0, label="c0 alone")
    for forget, gates in (("gate", 4), ("never", 3), ("coupled", 3)):
        w = weights(rng, gates, 2, 2, peepholes=gates - 1)
        yield s(n(size=(3, 2, 2)), w, h0, c0, forget=forget, peephole=True, label=f"peepholes, {forget}")
        w = weights(rng, gates, 2, 2, bias=False)
        yield s(n(size=(3, 2, 2)), w, h0, c0, [3, 1], forget=forget, label=f"forget {forget}")


def grus(rng):
    yield from shared(rng, 3)
    n = rng.normal
    for reset in ("after", "before"):
        for swap in (False, True):
            w = weights(rng, 3, 2, 3)
            h0 = n(size=(1, 2, 3))
            label = f"reset {reset}, swap {swap}"
            yield s(n(size=(3, 2, 2)), w, h0, [3, 2], reset=reset, swap_update=swap, label=label)
    w = weights(rng, 3, 2, 3, bias=False)
    yield s(n(size=(3, 2, 2)), w, reset="before", label="reset before, no bias")


X = np.ones((3, 2, 4))
W = [np.ones((3, 4)), np.ones((3, 3))]


def wrong(name, gates):
    w = [np.ones((gates * 3, 4)), np.ones((gates * 3, 3))]
    tag = rf"\[{name}\]"
    return (
        bad(ValueError, rf"{tag} x must be \(T, N, I\), got \(2, 4\)", X[0], w),
        bad(ValueError, rf"{tag} x must be \(N, T, I\), got \(2, 4\)", X[0], w, batch_first=True),
        bad(ValueError, rf"{tag} x .* at least one sequence and one step, got \(3, 0, 4\)", X[:, :0], w),
        bad(ValueError, rf"{tag} w_ih of direction 0 must be \({gates * 3}, 5\)", np.ones((3, 2, 5)), w),
        bad(ValueError, rf"{tag} w_hh of direction 0 must be \(\d+, 3\)", X, [w[0], np.ones((gates * 3 + 1, 3))]),
        bad(
            ValueError, rf"{tag} b_hh of direction 0 must be \({gates * 3},\)", X, [*w, np.ones(gates * 3), np.ones(2)]
        ),
        bad(ValueError, rf"{tag} weights must be w_ih, w_hh or", X, w[:1]),
        bad(ValueError, rf"{tag} weights must be w_ih, w_hh or", X, [*w, w[0]], bidirectional=True),
        bad(ValueError, rf"{tag} h0 must be .* = \(1, 2, 3\).* got \(2, 3\)", X, w, np.ones((2, 3))),
        bad(ValueError, rf"{tag} lengths must have one number for each of the 2", X, w, lengths=[1, 2, 3]),
        bad(ValueError, rf"{tag} lengths must be from 0 to the 3 steps.*lengths\[1\] is 4", X, w, lengths=[1, 4]),
        bad(ValueError, rf"{tag} lengths: a length cannot be negative, got -1", X, w, lengths=[1, -1]),
        bad(TypeError, rf"{tag} lengths: expected ints", X, w, lengths=[1.5, 1.0]),
        bad(TypeError, rf"{tag} x is float64 but w_ih is float32", X, [v.astype("float32") for v in w]),
        bad(TypeError, rf"{tag} x must be floating-point, got int64", np.ones((3, 2, 4), dtype="int64"), w),
    )


ROWS = [
    Row(
        "rnn",
        rnns,
        rnn,
        STEPS,
        (*wrong("rnn", 1), bad(ValueError, r"\[rnn\] activation must be 'tanh' or 'relu'", X, W, activation="gelu")),
        grad_tol=GRAD,
    ),
    Row(
        "lstm",
        lstms,
        lstm,
        STEPS,
        (*wrong("lstm", 4), bad(ValueError, r"\[lstm\] forget must be 'gate', 'never' or", X, W, forget="maybe")),
        grad_tol=GRAD,
    ),
    Row(
        "gru",
        grus,
        gru,
        STEPS,
        (*wrong("gru", 3), bad(ValueError, r"\[gru\] reset must be 'after' or 'before'", X, W, reset="never")),
        grad_tol=GRAD,
    ),
]
