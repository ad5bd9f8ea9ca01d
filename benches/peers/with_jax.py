"""The workloads in JAX: functions compiled by `jit`, channels last, Adam from optax.

Arrays and results change from and to PyTorch's layouts outside of what is timed. JAX has no layers of both directions
and none for sequences of different lengths.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, nn

from . import Array, Arrays, Task
from .inputs import RESNET20


def versions() -> dict[str, str]:
    return {"version": jax.__version__}


Layout = Callable[[Array], Array]
Ways = tuple[Layout, Layout]
"""To JAX's layout and back."""
SAME: Layout = lambda a: a  # noqa: E731
TRANSPOSE: Layout = lambda a: a.T  # noqa: E731
"""(out, in) and (in, out)."""
LAST: Layout = lambda a: np.moveaxis(a, 1, -1)  # noqa: E731
FIRST: Layout = lambda a: np.moveaxis(a, -1, 1)  # noqa: E731
"""The axis of channels."""
KERNEL: Layout = lambda a: np.moveaxis(a, (0, 1), (-1, -2))  # noqa: E731
KERNEL_BACK: Layout = lambda a: np.moveaxis(a, (-1, -2), (0, 1))  # noqa: E731
"""Filters, channels, places; places, channels, filters."""
TIME: Layout = lambda a: np.swapaxes(a, 1, 2)  # noqa: E731
"""(batch, heads, time, size) and (batch, time, heads, size)."""


def _device(array: Array) -> Any:
    return jnp.asarray(np.ascontiguousarray(array))


def _run(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    compiled = jax.jit(f)
    return lambda: jax.block_until_ready(compiled(*args))


def _forward(f: Callable[..., Any], *args: Array) -> Task:
    run = _run(f, *map(_device, args))
    return Task(run, lambda: {"out": np.asarray(run())})


def _op(
    f: Callable[..., Any],
    arrays: Arrays,
    leaves: dict[str, Ways],
    out: Ways = (SAME, SAME),
) -> Task:
    """`f` of the arrays named by `leaves`, both ways; each name comes with the layouts of JAX and back."""
    args = [_device(to(arrays[name])) for name, (to, _) in leaves.items()]

    def both_ways(g: Any, *args: Any) -> Any:
        y, vjp = jax.vjp(f, *args)
        return y, vjp(g)

    run = _run(both_ways, _device(out[0](arrays["g"])), *args)

    def results() -> Arrays:
        y, grads = run()
        named = zip(leaves.items(), grads, strict=True)
        return {"out": out[1](np.asarray(y))} | {f"grad.{n}": back(np.asarray(g)) for (n, (_, back)), g in named}

    return Task(run, results)


def matmul(arrays: Arrays, **sizes: int) -> Task:
    return _forward(jnp.matmul, arrays["a"], arrays["b"])


bmm = matmul


def linear(arrays: Arrays, **sizes: int) -> Task:
    layouts = {"x": (SAME, SAME), "weight": (TRANSPOSE, TRANSPOSE), "bias": (SAME, SAME)}
    return _op(lambda x, w, b: x @ w + b, arrays, layouts)


def _conv(
    x: Any, w: Any, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1,
    layouts: tuple[str, str, str] = ("NHWC", "HWIO", "NHWC"),
) -> Any:  # fmt: skip
    n = x.ndim - 2
    return lax.conv_general_dilated(
        x, w, (stride,) * n, ((padding, padding),) * n, rhs_dilation=(dilation,) * n,
        feature_group_count=groups, dimension_numbers=layouts,
    )  # fmt: skip


CONVOLVED = {"x": (LAST, FIRST), "weight": (KERNEL, KERNEL_BACK), "bias": (SAME, SAME)}


def conv2d(arrays: Arrays, stride: int = 1, padding: int = 0, dilation: int = 1, groups: int = 1, **sizes: int) -> Task:
    def f(x: Any, w: Any, b: Any) -> Any:
        return _conv(x, w, stride, padding, dilation, groups) + b

    return _op(f, arrays, CONVOLVED, (LAST, FIRST))


def conv1d(arrays: Arrays, kernel: int, **sizes: int) -> Task:
    def f(x: Any, w: Any, b: Any) -> Any:
        return _conv(x, w, padding=kernel // 2, layouts=("NWC", "WIO", "NWC")) + b

    return _op(f, arrays, CONVOLVED, (LAST, FIRST))


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def max_pool2d(arrays: Arrays, **sizes: int) -> Task:
    return _op(_pool, arrays, {"x": (LAST, FIRST)}, (LAST, FIRST))


def _batch_norm(x: Any, w: Any, b: Any) -> Any:
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) * lax.rsqrt(var + 1e-5) * w + b


def _layer_norm(x: Any, w: Any, b: Any) -> Any:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5) * w + b


def batch_norm2d(arrays: Arrays, **sizes: int) -> Task:
    layouts = {"x": (LAST, FIRST), "param.weight": (SAME, SAME), "param.bias": (SAME, SAME)}
    return _op(_batch_norm, arrays, layouts, (LAST, FIRST))


def layer_norm(arrays: Arrays, **sizes: int) -> Task:
    return _op(_layer_norm, arrays, dict.fromkeys(("x", "param.weight", "param.bias"), (SAME, SAME)))


def softmax(arrays: Arrays, **sizes: int) -> Task:
    return _op(lambda x: nn.softmax(x, -1), arrays, {"x": (SAME, SAME)})


def _cross_entropy(x: Any, y: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(x, y).mean()


def cross_entropy(arrays: Arrays, **sizes: int) -> Task:
    y = _device(arrays["y"])
    run = _run(lambda x: jax.value_and_grad(_cross_entropy)(x, y), _device(arrays["x"]))
    return Task(run, lambda: dict(zip(("out", "grad.x"), map(np.asarray, run()), strict=True)))


def embedding(arrays: Arrays, **sizes: int) -> Task:
    y = _device(arrays["y"])
    return _op(lambda weight: weight[y], arrays, {"weight": (SAME, SAME)})


def add(arrays: Arrays, **sizes: int) -> Task:
    return _forward(jnp.add, arrays["a"], arrays["b"])


def gelu(arrays: Arrays, **sizes: int) -> Task:
    return _op(lambda x: nn.gelu(x, approximate=False), arrays, {"x": (SAME, SAME)})


def tanh(arrays: Arrays, **sizes: int) -> Task:
    return _op(jnp.tanh, arrays, {"x": (SAME, SAME)})


def sum_axis0(arrays: Arrays, **sizes: int) -> Task:
    return _forward(lambda x: x.sum(0), arrays["x"])


# A step of each cell: state, input times its matrix plus the biases, hidden matrix, hidden bias (GRU's candidate only).


def _rnn_step(h: Any, xw: Any, u: Any, b: Any) -> tuple[Any, Any]:
    h = jnp.tanh(xw + h @ u)
    return h, h


def _lstm_step(state: Any, xw: Any, u: Any, b: Any) -> tuple[Any, Any]:
    h, c = state
    i, f, g, o = jnp.split(xw + h @ u, 4, -1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    h = nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def _gru_step(h: Any, xw: Any, u: Any, b: Any) -> tuple[Any, Any]:
    hu, gates = h @ u, 2 * h.shape[-1]
    r, z = jnp.split(nn.sigmoid(xw[:, :gates] + hu[:, :gates]), 2, -1)
    n = jnp.tanh(xw[:, gates:] + r * (hu[:, gates:] + b))
    h = (1 - z) * n + z * h
    return h, h


STEPS = {"rnn": _rnn_step, "lstm": _lstm_step, "gru": _gru_step}


def _through_time(cell: str, x: Any, w: Any, u: Any, b_ih: Any, b_hh: Any) -> Any:
    """All outputs, time first: one product for the inputs of all steps, then a scan."""
    batch, time, _ = x.shape
    hidden, rest = u.shape[0], None
    if cell == "gru":  # the candidate's hidden bias stands inside the product with the reset gate
        rest, b_hh = b_hh[2 * hidden :], b_hh.at[2 * hidden :].set(0)
    xw = (x.reshape(batch * time, -1) @ w + (b_ih + b_hh)).reshape(batch, time, -1).swapaxes(0, 1)
    zero = jnp.zeros((batch, hidden), x.dtype)
    start = (zero, zero) if cell == "lstm" else zero
    return lax.scan(lambda state, xt: STEPS[cell](state, xt, u, rest), start, xw)[1]


def _layer_names(layer: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def recurrent(arrays: Arrays, cell: str, **sizes: int) -> Task:
    ways = [(SAME, SAME), (TRANSPOSE, TRANSPOSE), (TRANSPOSE, TRANSPOSE), (SAME, SAME), (SAME, SAME)]
    layouts = dict(zip(["x", *_layer_names(0, "param.")], ways, strict=True))
    time_first: Layout = lambda a: np.swapaxes(a, 0, 1)  # noqa: E731
    return _op(lambda *args: _through_time(cell, *args), arrays, layouts, (time_first, time_first))


def recurrent_forward(arrays: Arrays, cell: str, **sizes: int) -> Task:
    w, u, b_ih, b_hh = (arrays[name] for name in _layer_names(0, "param."))
    task = _forward(lambda *args: _through_time(cell, *args), arrays["x"], w.T, u.T, b_ih, b_hh)
    return Task(task.run, lambda: {"out": np.swapaxes(task.results()["out"], 0, 1)})


def _attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
    return nn.dot_product_attention(q, k, v, is_causal=causal)


def attention(arrays: Arrays, causal: bool = False, **sizes: int) -> Task:
    layouts = dict.fromkeys(("q", "k", "v"), (TIME, TIME))
    return _op(lambda q, k, v: _attention(q, k, v, causal), arrays, layouts, (TIME, TIME))


def adam(arrays: Arrays, matrices: int, vectors: int, **sizes: int) -> Task:
    count = matrices + vectors
    params, grads = ([_device(arrays[f"{what}.{i}"]) for i in range(count)] for what in ("param", "grad"))
    optimizer = optax.adam(1e-3)
    state: list[Any] = [params, optimizer.init(params)]

    @jax.jit
    def step(params: Any, moments: Any, grads: Any) -> Any:
        updates, moments = optimizer.update(grads, moments)
        return optax.apply_updates(params, updates), moments

    def run() -> None:
        state[:] = jax.block_until_ready(step(*state, grads))

    def results() -> Arrays:
        run()
        run()
        return {f"param.{i}": np.asarray(p) for i, p in enumerate(state[0])}

    return Task(run, results)


def _layouts(name: str, array: Array) -> Ways:
    """The layouts of the parameter `name` of a model: here and back."""
    if array.ndim == 4:
        return KERNEL, KERNEL_BACK
    if array.ndim == 2 and not re.match(r"tokens|positions", name):
        return TRANSPOSE, TRANSPOSE
    return SAME, SAME


def _train(model: Callable[[Any, Any], Any], arrays: Arrays, x: Array, special: dict[str, Ways] | None = None) -> Task:
    """A training step: forward, loss, backward, Adam. `special`: parameters with a layout of their own."""
    values = {name.removeprefix("param."): array for name, array in arrays.items() if name.startswith("param.")}
    layouts = {name: _layouts(name, array) for name, array in values.items()} | (special or {})
    params = {name: _device(layouts[name][0](array)) for name, array in values.items()}
    optimizer = optax.adam(1e-3)
    data = (_device(x), _device(arrays["y"]))
    state: list[Any] = [params, optimizer.init(params)]

    @jax.jit
    def step(params: Any, moments: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(lambda p: _cross_entropy(model(p, x), y))(params)
        updates, moments = optimizer.update(grads, moments)
        return optax.apply_updates(params, updates), moments, loss

    def run() -> Any:
        state[0], state[1], loss = jax.block_until_ready(step(*state, *data))
        return loss

    def results() -> Arrays:
        first = np.asarray(run())
        # Adam's first mean after one step is a tenth of the gradient: the gradients of the very function that is timed.
        grads = {name: layouts[name][1](np.asarray(m) / np.float32(0.1)) for name, m in state[1][0].mu.items()}
        out = {f"grad.{name}": array for name, array in grads.items()}
        return out | {"loss.0": first, "loss.1": np.asarray(run()), "loss.2": np.asarray(run())}

    return Task(run, results)


def _linear(p: Any, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def mlp(arrays: Arrays, **sizes: int) -> Task:
    return _train(lambda p, x: _linear(p, "2", nn.relu(_linear(p, "0", x))), arrays, arrays["x"])


def lenet(arrays: Arrays, **sizes: int) -> Task:
    def model(p: Any, x: Any) -> Any:
        for name in ("0", "3"):
            x = _pool(nn.relu(_conv(x, p[f"{name}.weight"]) + p[f"{name}.bias"]))
        x = x.reshape(x.shape[0], -1)
        return _linear(p, "11", nn.relu(_linear(p, "9", nn.relu(_linear(p, "7", x)))))

    # The first linear layer reads the picture with its channels last.
    to: Layout = lambda a: a.reshape(120, 16, 4, 4).transpose(2, 3, 1, 0).reshape(256, 120)  # noqa: E731
    back: Layout = lambda a: a.reshape(4, 4, 16, 120).transpose(3, 2, 0, 1).reshape(120, 256)  # noqa: E731
    return _train(model, arrays, LAST(arrays["x"]), {"7.weight": (to, back)})


def char_rnn(arrays: Arrays, **sizes: int) -> Task:
    def model(p: Any, x: Any) -> Any:
        return _linear(p, "head", _through_time("rnn", x, *(p[name] for name in _layer_names(0, "rnn.")))[-1])

    return _train(model, arrays, arrays["x"])


def char_lstm(arrays: Arrays, layers: int, hidden: int, **sizes: int) -> Task:
    def model(p: Any, x: Any) -> Any:
        h = p["tokens.weight"][x]
        for layer in range(layers):
            h = _through_time("lstm", h, *(p[name] for name in _layer_names(layer, "lstm."))).swapaxes(0, 1)
        return _linear(p, "head", h.reshape(-1, hidden))

    return _train(model, arrays, arrays["x"])


def gpt(arrays: Arrays, batch: int, time: int, size: int, layers: int, heads: int, **sizes: int) -> Task:
    def norm(p: Any, name: str, x: Any) -> Any:
        return _layer_norm(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def model(p: Any, x: Any) -> Any:
        h = p["tokens.weight"][x] + p["positions.weight"]
        for i in range(layers):
            block = f"blocks.{i}"
            qkv = _linear(p, f"{block}.qkv", norm(p, f"{block}.norm1", h)).reshape(batch, time, 3, heads, size // heads)
            mixed = _attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], True).reshape(batch, time, size)
            h = h + _linear(p, f"{block}.out", mixed)
            wide = nn.gelu(_linear(p, f"{block}.up", norm(p, f"{block}.norm2", h)), approximate=False)
            h = h + _linear(p, f"{block}.down", wide)
        return (norm(p, "norm", h) @ p["head.weight"]).reshape(batch * time, -1)

    return _train(model, arrays, arrays["x"])


def resnet20(arrays: Arrays, **sizes: int) -> Task:
    def norm(p: Any, name: str, x: Any) -> Any:
        return _batch_norm(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def model(p: Any, x: Any) -> Any:
        x = nn.relu(norm(p, "norm", _conv(x, p["conv.weight"], 1, 1)))
        for i, (_, _, stride) in enumerate(RESNET20):
            block = f"blocks.{i}"
            h = nn.relu(norm(p, f"{block}.norm1", _conv(x, p[f"{block}.conv1.weight"], stride, 1)))
            h = norm(p, f"{block}.norm2", _conv(h, p[f"{block}.conv2.weight"], 1, 1))
            if stride != 1:
                x = norm(p, f"{block}.shortcut.1", _conv(x, p[f"{block}.shortcut.0.weight"], stride))
            x = nn.relu(h + x)
        return _linear(p, "head", x.mean((1, 2)))

    return _train(model, arrays, LAST(arrays["x"]))
