"""Do two libraries compute the same? The tolerances of the benchmark, each with its reason.

Two sums of n float32 products of size s, added up in different orders, differ by `eps * sqrt(n) * s * sqrt(n) / 2`:
each of the n additions rounds a partial sum of size up to `s * sqrt(n)`, and the roundings are independent. Relative to
the result, which is of size `s * sqrt(n)` too, that is `eps * sqrt(n) / 2`. So a result may differ by

    k * eps * sqrt(n) * (|value| + rms of the whole array)

with the length n of the longest sum of the workload (`_LONGEST`) and a factor k (`_FACTOR`, else 8): the largest of a
million normal deviations is about 5 of them, and an operation has more than one rounding. The rms stands for values
that cancelled. Wrong code is wrong by a hundredth and more.

Nets with ReLU or max-pooling have kinks: where an activation is within rounding of one, libraries take different sides
of it, and single gradients differ by a whole contribution. There arrays are compared as vectors,
`|a - b| <= tolerance * |b|`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt

import numpy as np

from . import Array, Arrays

EPS = float(np.finfo(np.float32).eps)


def _convolution(places: int) -> Callable[..., int]:
    """The gradient of the weight sums over batch and places, the others over channels and taps."""

    def longest(batch: int, channels: int, filters: int, kernel: int, groups: int = 1, **s: int) -> int:
        size = s["height"] // s.get("stride", 1) if places == 2 else s["length"]
        taps = int(kernel**places)
        return max(batch * int(size**places), channels // groups * taps, filters // groups * taps)

    return longest


def _recurrent(time: int, batch: int, inputs: int, hidden: int, **_: object) -> int:
    return max(time * batch, inputs, 4 * hidden)


_LONGEST: dict[str, Callable[..., int]] = {
    "matmul": lambda m, k, n: k,
    "bmm": lambda batch, m, k, n: k,
    "linear": lambda **sizes: max(sizes.values()),
    "conv2d": _convolution(2),
    "conv1d": _convolution(1),
    "max_pool2d": lambda **_: 1,
    "batch_norm2d": lambda batch, height, **_: batch * height**2,
    "layer_norm": lambda rows, columns: max(rows, columns),
    "softmax": lambda rows, columns: columns,
    "cross_entropy": lambda rows, columns: max(rows, columns),
    "embedding": lambda rows, **_: 16,  # as often as a word may come: 4096 draws from 10,000 give at most some 6
    "add": lambda n: 1,
    "gelu": lambda n: 1,
    "tanh": lambda n: 1,
    "sum_axis0": lambda rows, columns: rows,
    "recurrent": _recurrent,
    "recurrent_forward": _recurrent,
    "bidirectional_gru": _recurrent,
    "lstm_lengths": _recurrent,
    "attention": lambda time, size, **_: max(time, size),
    "adam": lambda **_: 1,
    "mlp": lambda batch, hidden: max(batch, 784, hidden),
    "lenet": lambda batch: batch * 24 * 24,
    "char_rnn": lambda batch, time, **_: batch * time,
    "char_lstm": lambda batch, time, hidden, **_: max(batch * time, 4 * hidden),
    "gpt": lambda batch, time, size, **_: max(batch * time, 4 * size),
    "resnet20": lambda batch: batch * 32 * 32,
}

_FACTOR: dict[str, float] = {
    "tanh": 32,  # polynomials of up to 4 ULP on either side; gelu's gradient is a sum of two such
    "gelu": 32,
    "attention": 16,  # scores pass through exp, which turns their absolute errors into relative ones
    "char_lstm": 16,  # layers above layers
    "gpt": 16,
    "resnet20": 32,  # more layers yet, and Adam turns the sign of a gradient near zero into a whole step
}

_KINKS = {"mlp": 1e-3, "lenet": 1e-2, "resnet20": 5e-2}
"""What kinks may add to a gradient, relative to its norm. An activation lies within rounding (relative 1e-6) of a kink
with probability 1e-6: one of 600,000 may flip in `lenet`, and a handful of 6 million in `resnet20`, where all layers
below see it. The loss itself has no jump there."""


def tolerance(kind: str, sizes: dict[str, object], name: str = "out") -> float:
    """The relative tolerance of the result `name` of a workload."""
    kinks = _KINKS.get(kind, 0.0) if name.startswith("grad.") else 0.0
    return _FACTOR.get(kind, 8.0) * EPS * sqrt(_LONGEST[kind](**sizes)) + kinks


def _distance(kind: str, a: Array, b: Array) -> float:
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    rms = float(np.sqrt(np.mean(b64**2)))
    if kind in _KINKS:
        return float(np.sqrt(np.mean((a64 - b64) ** 2))) / (rms or 1.0)
    return float(np.max(np.abs(a64 - b64) / (np.abs(b64) + rms + np.finfo(np.float32).tiny)))


def disagreement(kind: str, sizes: dict[str, object], ours: Arrays, theirs: Arrays) -> str | None:
    """What is wrong between the results of two libraries, in words; None when they agree."""
    if ours.keys() != theirs.keys():
        return f"results of one library only: {', '.join(sorted(ours.keys() ^ theirs.keys()))}"
    for name, a in ours.items():
        b = theirs[name]
        if a.shape != b.shape:
            return f"{name} has shape {a.shape} in one and {b.shape} in the other"
        if not prod(a.shape):
            return f"{name} is empty"
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return f"{name} has infinities or NaN"
        distance, bound = _distance(kind, a, b), tolerance(kind, sizes, name)
        if distance > bound:
            return f"{name} differs by {distance:.2e} of its size, tolerance {bound:.2e}"
    return None
