"""The workloads in PyTorch, with its fastest ways on a CPU: fused Adam, packed sequences, its own attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from . import Array, Arrays, Task
from .inputs import RESNET20


def versions() -> dict[str, str]:
    return {"version": torch.__version__}


def _tensor(array: Array, grad: bool = False) -> Any:
    return torch.from_numpy(array).requires_grad_(grad)


def _array(tensor: Any) -> Array:
    return tensor.detach().numpy().copy()  # type: ignore[no-any-return]


def _forward(f: Callable[[], Any]) -> Task:
    return Task(f, lambda: {"out": _array(f())})


def _both_ways(f: Callable[[], Any], leaves: dict[str, Any], above: Array | None = None) -> Task:
    """Forward, then backward from the gradient `above` (from 1 where the result is a number)."""
    # In the layout of the result, which has time first in memory after a recurrent layer: no copy is timed.
    g = None if above is None else torch.empty_like(f(), requires_grad=False).copy_(_tensor(above))

    def run() -> Any:
        for leaf in leaves.values():
            leaf.grad = None
        out = f()
        out.backward(g)
        return out

    def results() -> Arrays:
        return {"out": _array(run())} | {f"grad.{name}": _array(leaf.grad) for name, leaf in leaves.items()}

    return Task(run, results)


def _op(f: Callable[..., Any], arrays: Arrays, *leaves: str) -> Task:
    """`f` of the arrays named `leaves`, both ways."""
    tensors = {name: _tensor(arrays[name], grad=True) for name in leaves}
    return _both_ways(lambda: f(*tensors.values()), tensors, arrays["g"])


def matmul(arrays: Arrays, **sizes: int) -> Task:
    a, b = _tensor(arrays["a"]), _tensor(arrays["b"])
    return _forward(lambda: torch.matmul(a, b))


def bmm(arrays: Arrays, **sizes: int) -> Task:
    a, b = _tensor(arrays["a"]), _tensor(arrays["b"])
    return _forward(lambda: torch.bmm(a, b))


def linear(arrays: Arrays, **sizes: int) -> Task:
    return _op(F.linear, arrays, "x", "weight", "bias")


def conv2d(arrays: Arrays, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1, **sizes: int) -> Task:
    return _op(lambda x, w, b: F.conv2d(x, w, b, stride, padding, dilation, groups), arrays, "x", "weight", "bias")


def conv1d(arrays: Arrays, kernel: int, **sizes: int) -> Task:
    return _op(lambda x, w, b: F.conv1d(x, w, b, padding=kernel // 2), arrays, "x", "weight", "bias")


def max_pool2d(arrays: Arrays, **sizes: int) -> Task:
    return _op(lambda x: F.max_pool2d(x, 2), arrays, "x")


def batch_norm2d(arrays: Arrays, channels: int, **sizes: int) -> Task:
    return _layer(nn.BatchNorm2d(channels), arrays)


def layer_norm(arrays: Arrays, columns: int, **sizes: int) -> Task:
    return _op(lambda x, w, b: F.layer_norm(x, (columns,), w, b), arrays, "x", "param.weight", "param.bias")


def softmax(arrays: Arrays, **sizes: int) -> Task:
    return _op(lambda x: F.softmax(x, -1), arrays, "x")


def cross_entropy(arrays: Arrays, **sizes: int) -> Task:
    x, y = _tensor(arrays["x"], grad=True), _tensor(arrays["y"])
    return _both_ways(lambda: F.cross_entropy(x, y), {"x": x})


def embedding(arrays: Arrays, **sizes: int) -> Task:
    y = _tensor(arrays["y"])
    return _op(lambda weight: F.embedding(y, weight), arrays, "weight")


def add(arrays: Arrays, **sizes: int) -> Task:
    a, b = _tensor(arrays["a"]), _tensor(arrays["b"])
    return _forward(lambda: a + b)


def gelu(arrays: Arrays, **sizes: int) -> Task:
    return _op(F.gelu, arrays, "x")


def tanh(arrays: Arrays, **sizes: int) -> Task:
    return _op(torch.tanh, arrays, "x")


def sum_axis0(arrays: Arrays, **sizes: int) -> Task:
    x = _tensor(arrays["x"])
    return _forward(lambda: x.sum(0))


def _load(model: Any, arrays: Arrays) -> Any:
    """Gives `model` the parameters of the inputs."""
    values = {name.removeprefix("param."): array for name, array in arrays.items() if name.startswith("param.")}
    named = dict(model.named_parameters())
    assert named.keys() == values.keys(), sorted(named.keys() ^ values.keys())
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(_tensor(values[name]))
    return model


def _layer(model: Any, arrays: Arrays, call: Callable[[Any, Any], Any] = lambda model, x: model(x)) -> Task:
    """A layer with parameters, both ways."""
    _load(model, arrays)
    x = _tensor(arrays["x"], grad=True)
    leaves = {"x": x} | {f"param.{name}": p for name, p in model.named_parameters()}
    return _both_ways(lambda: call(model, x), leaves, arrays["g"])


def _cell(cell: str, *args: int, **kwargs: Any) -> Any:
    return {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](*args, batch_first=True, **kwargs)


def recurrent(arrays: Arrays, cell: str, inputs: int, hidden: int, **sizes: int) -> Task:
    return _layer(_cell(cell, inputs, hidden), arrays, lambda layer, x: layer(x)[0])


def recurrent_forward(arrays: Arrays, cell: str, inputs: int, hidden: int, **sizes: int) -> Task:
    layer, x = _load(_cell(cell, inputs, hidden), arrays), _tensor(arrays["x"])

    def run() -> Any:
        with torch.no_grad():
            return layer(x)[0]

    return _forward(run)


def bidirectional_gru(arrays: Arrays, inputs: int, hidden: int, layers: int, **sizes: int) -> Task:
    return _layer(_cell("gru", inputs, hidden, layers, bidirectional=True), arrays, lambda layer, x: layer(x)[0])


def lstm_lengths(arrays: Arrays, inputs: int, hidden: int, **sizes: int) -> Task:
    lengths = _tensor(arrays["lengths"])

    def call(layer: Any, x: Any) -> Any:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0]

    return _layer(_cell("lstm", inputs, hidden), arrays, call)


def attention(arrays: Arrays, causal: bool = False, **sizes: int) -> Task:
    return _op(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal), arrays, "q", "k", "v")


def adam(arrays: Arrays, matrices: int, vectors: int, **sizes: int) -> Task:
    parameters = [nn.Parameter(_tensor(arrays[f"param.{i}"])) for i in range(matrices + vectors)]
    for i, p in enumerate(parameters):
        p.grad = _tensor(arrays[f"grad.{i}"])
    optimizer = torch.optim.Adam(parameters, fused=True)

    def results() -> Arrays:
        optimizer.step()
        optimizer.step()
        return {f"param.{i}": _array(p) for i, p in enumerate(parameters)}

    return Task(optimizer.step, results)


def _train(model: Any, arrays: Arrays) -> Task:
    """A training step: forward, loss, backward, Adam."""
    _load(model, arrays)
    x, y = _tensor(arrays["x"]), _tensor(arrays["y"])
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def run() -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def results() -> Arrays:
        first = _array(run())
        out = {f"grad.{name}": _array(p.grad) for name, p in model.named_parameters()}
        return out | {"loss.0": first, "loss.1": _array(run()), "loss.2": _array(run())}

    return Task(run, results)


def mlp(arrays: Arrays, hidden: int, **sizes: int) -> Task:
    return _train(nn.Sequential(nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)), arrays)


def lenet(arrays: Arrays, **sizes: int) -> Task:
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    return _train(model, arrays)


class _CharRNN(nn.Module):
    def __init__(self, words: int, hidden: int) -> None:
        super().__init__()
        self.rnn, self.head = _cell("rnn", words, hidden), nn.Linear(hidden, words)

    def forward(self, x: Any) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


def char_rnn(arrays: Arrays, words: int, hidden: int, **sizes: int) -> Task:
    return _train(_CharRNN(words, hidden), arrays)


class _CharLSTM(nn.Module):
    def __init__(self, words: int, size: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.tokens, self.lstm = nn.Embedding(words, size), _cell("lstm", size, hidden, layers)
        self.head = nn.Linear(hidden, words)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(self.tokens(x))[0]).flatten(0, 1)


def char_lstm(arrays: Arrays, words: int, size: int, hidden: int, layers: int, **sizes: int) -> Task:
    return _train(_CharLSTM(words, size, hidden, layers), arrays)


class _Block(nn.Module):
    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, x: Any) -> Any:
        batch, time, size = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, size // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, size))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class _GPT(nn.Module):
    def __init__(self, time: int, words: int, size: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(words, size), nn.Embedding(time, size)
        self.blocks = nn.Sequential(*[_Block(size, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(size), nn.Linear(size, words, bias=False)

    def forward(self, x: Any) -> Any:
        x = self.tokens(x) + self.positions.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(x))).flatten(0, 1)


def gpt(arrays: Arrays, time: int, words: int, size: int, layers: int, heads: int, **sizes: int) -> Task:
    return _train(_GPT(time, words, size, layers, heads), arrays)


class _Residual(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)
        same = stride == 1
        down = () if same else (nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))
        self.shortcut = nn.Identity() if same else nn.Sequential(*down)

    def forward(self, x: Any) -> Any:
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h + self.shortcut(x))


class _ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*[_Residual(*block) for block in RESNET20])
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.pool(self.blocks(F.relu(self.norm(self.conv(x))))).flatten(1))


def resnet20(arrays: Arrays, **sizes: int) -> Task:
    return _train(_ResNet20(), arrays)
