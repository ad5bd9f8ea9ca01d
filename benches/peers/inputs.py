"""The numbers that a workload starts from: the same for every library, in PyTorch's layouts and under PyTorch's names.

`g` is the gradient that comes from above, `y` holds labels or indices, and `lengths` the lengths of sequences. Whatever
is called `param.NAME` is the parameter NAME of the model.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np

from . import Array, Arrays

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
RESNET20 = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
"""Channels in, channels out and stride of each block."""


class _Draw:
    """Random numbers of one workload."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> Array:
        return (self.rng.standard_normal(shape) * scale + mean).astype(np.float32)

    def below(self, high: int, *shape: int) -> Array:
        return self.rng.integers(0, high, shape)

    def linear(self, name: str, inputs: int, outputs: int, bias: bool = True) -> Arrays:
        """A layer whose outputs are about as large as its inputs."""
        weight = self.normal(outputs, inputs, scale=inputs**-0.5)
        return {f"{name}.weight": weight} | ({f"{name}.bias": self.normal(outputs, scale=0.1)} if bias else {})

    def conv(self, name: str, channels: int, filters: int, kernel: int, bias: bool = False) -> Arrays:
        fan_in = channels * kernel**2
        weight = self.normal(filters, channels, kernel, kernel, scale=(2 / fan_in) ** 0.5)
        return {f"{name}.weight": weight} | ({f"{name}.bias": self.normal(filters, scale=0.1)} if bias else {})

    def norm(self, name: str, size: int) -> Arrays:
        return {f"{name}.weight": self.normal(size, scale=0.1, mean=1.0), f"{name}.bias": self.normal(size, scale=0.1)}

    def recurrent(self, cell: str, inputs: int, hidden: int, layers: int = 1, both_ways: bool = False) -> Arrays:
        rows, scale, out = GATES[cell] * hidden, 0.5 * hidden**-0.5, {}
        for layer in range(layers):
            width = inputs if layer == 0 else hidden * (2 if both_ways else 1)
            for suffix in [f"l{layer}", f"l{layer}_reverse"] if both_ways else [f"l{layer}"]:
                out[f"weight_ih_{suffix}"] = self.normal(rows, width, scale=scale)
                out[f"weight_hh_{suffix}"] = self.normal(rows, hidden, scale=scale)
                out[f"bias_ih_{suffix}"] = self.normal(rows, scale=scale)
                out[f"bias_hh_{suffix}"] = self.normal(rows, scale=scale)
        return out


def _params(parts: Arrays, prefix: str = "") -> Arrays:
    return {f"param.{prefix}{name}": array for name, array in parts.items()}


def _matmul(d: _Draw, m: int, k: int, n: int) -> Arrays:
    return {"a": d.normal(m, k), "b": d.normal(k, n)}


def _bmm(d: _Draw, batch: int, m: int, k: int, n: int) -> Arrays:
    return {"a": d.normal(batch, m, k), "b": d.normal(batch, k, n)}


def _linear(d: _Draw, batch: int, inputs: int, outputs: int) -> Arrays:
    return {
        "x": d.normal(batch, inputs),
        "weight": d.normal(outputs, inputs),
        "bias": d.normal(outputs),
        "g": d.normal(batch, outputs),
    }


def _conv2d(
    d: _Draw, batch: int, channels: int, height: int, filters: int, kernel: int,
    stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1,
) -> Arrays:  # fmt: skip
    out = (height + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return {
        "x": d.normal(batch, channels, height, height),
        "weight": d.normal(filters, channels // groups, kernel, kernel, scale=0.1),
        "bias": d.normal(filters),
        "g": d.normal(batch, filters, out, out),
    }


def _conv1d(d: _Draw, batch: int, channels: int, length: int, filters: int, kernel: int) -> Arrays:
    return {
        "x": d.normal(batch, channels, length),
        "weight": d.normal(filters, channels, kernel),
        "bias": d.normal(filters),
        "g": d.normal(batch, filters, length),
    }


def _max_pool2d(d: _Draw, batch: int, channels: int, height: int) -> Arrays:
    # Every number once: with two equal maxima in a window, libraries may give the gradient to either.
    x = d.rng.permutation(batch * channels * height * height).reshape(batch, channels, height, height)
    return {"x": x.astype(np.float32) / x.size, "g": d.normal(batch, channels, height // 2, height // 2)}


def _batch_norm2d(d: _Draw, batch: int, channels: int, height: int) -> Arrays:
    shape = (batch, channels, height, height)
    return {"x": d.normal(*shape), **d.norm("param", channels), "g": d.normal(*shape)}


def _layer_norm(d: _Draw, rows: int, columns: int) -> Arrays:
    return {"x": d.normal(rows, columns), **d.norm("param", columns), "g": d.normal(rows, columns)}


def _softmax(d: _Draw, rows: int, columns: int) -> Arrays:
    return {"x": d.normal(rows, columns), "g": d.normal(rows, columns)}


def _cross_entropy(d: _Draw, rows: int, columns: int) -> Arrays:
    return {"x": d.normal(rows, columns), "y": d.below(columns, rows)}


def _embedding(d: _Draw, words: int, size: int, rows: int) -> Arrays:
    return {"weight": d.normal(words, size), "y": d.below(words, rows), "g": d.normal(rows, size)}


def _add(d: _Draw, n: int) -> Arrays:
    return {"a": d.normal(n), "b": d.normal(n)}


def _elementwise(d: _Draw, n: int) -> Arrays:
    return {"x": d.normal(n), "g": d.normal(n)}


def _sum_axis0(d: _Draw, rows: int, columns: int) -> Arrays:
    return {"x": d.normal(rows, columns)}


def _recurrent(d: _Draw, cell: str, time: int, batch: int, inputs: int, hidden: int) -> Arrays:
    x, g = d.normal(batch, time, inputs), d.normal(batch, time, hidden)
    return {"x": x, "g": g, **_params(d.recurrent(cell, inputs, hidden))}


def _bidirectional_gru(d: _Draw, time: int, batch: int, inputs: int, hidden: int, layers: int) -> Arrays:
    x, g = d.normal(batch, time, inputs), d.normal(batch, time, 2 * hidden)
    return {"x": x, "g": g, **_params(d.recurrent("gru", inputs, hidden, layers, both_ways=True))}


def _lstm_lengths(d: _Draw, time: int, batch: int, inputs: int, hidden: int) -> Arrays:
    lengths = d.rng.integers(min(5, time), time + 1, batch)
    lengths[0] = time
    return {"lengths": lengths, **_recurrent(d, "lstm", time, batch, inputs, hidden)}


def _attention(d: _Draw, batch: int, heads: int, time: int, size: int, causal: bool = False) -> Arrays:
    return {name: d.normal(batch, heads, time, size) for name in ("q", "k", "v", "g")}


def _adam(d: _Draw, matrices: int, matrix: int, vectors: int, vector: int) -> Arrays:
    sizes = [matrix] * matrices + [vector] * vectors
    params = {f"param.{i}": d.normal(size) for i, size in enumerate(sizes)}
    return params | {f"grad.{i}": d.normal(size) for i, size in enumerate(sizes)}


def _mlp(d: _Draw, batch: int, hidden: int) -> Arrays:
    params = d.linear("0", 784, hidden) | d.linear("2", hidden, 10)
    return {"x": d.normal(batch, 784), "y": d.below(10, batch), **_params(params)}


def _lenet(d: _Draw, batch: int) -> Arrays:
    params = d.conv("0", 1, 6, 5, bias=True) | d.conv("3", 6, 16, 5, bias=True)
    params |= d.linear("7", 256, 120) | d.linear("9", 120, 84) | d.linear("11", 84, 10)
    return {"x": d.normal(batch, 1, 28, 28), "y": d.below(10, batch), **_params(params)}


def _char_rnn(d: _Draw, batch: int, time: int, words: int, hidden: int) -> Arrays:
    x = np.eye(words, dtype=np.float32)[d.below(words, batch, time)]
    params = _params(d.recurrent("rnn", words, hidden), "rnn.") | _params(d.linear("head", hidden, words))
    return {"x": x, "y": d.below(words, batch), **params}


def _char_lstm(d: _Draw, batch: int, time: int, words: int, size: int, hidden: int, layers: int) -> Arrays:
    params = {"param.tokens.weight": d.normal(words, size)}
    params |= _params(d.recurrent("lstm", size, hidden, layers), "lstm.") | _params(d.linear("head", hidden, words))
    return {"x": d.below(words, batch, time), "y": d.below(words, batch * time), **params}


def _gpt(d: _Draw, batch: int, time: int, words: int, size: int, layers: int, heads: int) -> Arrays:
    params = {"tokens.weight": d.normal(words, size, scale=0.5), "positions.weight": d.normal(time, size, scale=0.5)}
    for i in range(layers):
        block = f"blocks.{i}"
        params |= d.norm(f"{block}.norm1", size) | d.linear(f"{block}.qkv", size, 3 * size)
        params |= d.linear(f"{block}.out", size, size) | d.norm(f"{block}.norm2", size)
        params |= d.linear(f"{block}.up", size, 4 * size) | d.linear(f"{block}.down", 4 * size, size)
    params |= d.norm("norm", size) | d.linear("head", size, words, bias=False)
    return {"x": d.below(words, batch, time), "y": d.below(words, batch * time), **_params(params)}


def _resnet20(d: _Draw, batch: int) -> Arrays:
    params = d.conv("conv", 3, 16, 3) | d.norm("norm", 16)
    for i, (channels, filters, stride) in enumerate(RESNET20):
        block = f"blocks.{i}"
        params |= d.conv(f"{block}.conv1", channels, filters, 3) | d.norm(f"{block}.norm1", filters)
        params |= d.conv(f"{block}.conv2", filters, filters, 3) | d.norm(f"{block}.norm2", filters)
        if stride != 1:
            params |= d.conv(f"{block}.shortcut.0", channels, filters, 1) | d.norm(f"{block}.shortcut.1", filters)
    params |= d.linear("head", 64, 10)
    return {"x": d.normal(batch, 3, 32, 32), "y": d.below(10, batch), **_params(params)}


KINDS: dict[str, Callable[..., Arrays]] = {
    "matmul": _matmul, "bmm": _bmm, "linear": _linear, "conv2d": _conv2d, "conv1d": _conv1d, "max_pool2d": _max_pool2d,
    "batch_norm2d": _batch_norm2d, "layer_norm": _layer_norm, "softmax": _softmax, "cross_entropy": _cross_entropy,
    "embedding": _embedding, "add": _add, "gelu": _elementwise, "tanh": _elementwise, "sum_axis0": _sum_axis0,
    "recurrent": _recurrent, "recurrent_forward": _recurrent, "bidirectional_gru": _bidirectional_gru,
    "lstm_lengths": _lstm_lengths, "attention": _attention, "adam": _adam, "mlp": _mlp, "lenet": _lenet,
    "char_rnn": _char_rnn, "char_lstm": _char_lstm, "gpt": _gpt, "resnet20": _resnet20,
}  # fmt: skip


def inputs(name: str, kind: str, sizes: dict[str, object]) -> Arrays:
    """The arrays of the workload `name`; its name is the seed."""
    return KINDS[kind](_Draw(name), **sizes)
