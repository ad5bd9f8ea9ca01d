"""Recurrent layers in less memory: gates are computed twice instead of being kept."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Function, once_differentiable
from ..checks import is_tensor, whole
from ..functions import Tensor, concat, enable_grad, grad
from .recurrent import LSTM, Recurrent

__all__ = ["recompute"]


def recompute(layer: Recurrent, x: Tensor, state: Any = None, *, chunk: int | None = None) -> tuple[Tensor, Any]:
    """What `layer(x, state)` gives, in memory for the gates that grows with the square root of the steps.

    Forward goes through x in chunks and keeps the state before each; backward goes through the chunks from the last to
    the first, computes each anew, and then its gradients. It costs one more forward pass. The gradients are those of
    `layer(x, state)` up to roundings, as sums over chunks are added up.

    Args:
        layer: an `RNN`, `LSTM` or `GRU` in one direction, without dropout between its layers.
        x: (T, N, I), or with `batch_first` (N, T, I).
        state: as the layer takes it.
        chunk: steps of a chunk; by default the square root of T.

    Raises:
        ValueError: the layer is bidirectional or has dropout, or x has not three axes.

    T. Chen et al., "Training deep nets with sublinear memory cost", 2016, arXiv:1604.06174.

    >>> import corten as ct
    >>> layer = ct.nn.GRU(3, 4)
    >>> y, h = ct.nn.utils.recompute(layer, ct.zeros((100, 2, 3)))
    >>> y.shape, h.shape
    ((100, 2, 4), (1, 2, 4))
    """
    if not isinstance(layer, Recurrent):
        raise TypeError(f"[recompute] layer must be an RNN, LSTM or GRU, got {type(layer).__name__}")
    if layer.bidirectional or (layer.dropout and layer.num_layers > 1):
        raise ValueError("[recompute] layer must go in one direction and have no dropout between its layers")
    is_tensor("[recompute] x", x)
    if x.ndim != 3:
        raise ValueError(f"[recompute] x must have three axes, got {x.shape}")
    axis = 1 if layer.batch_first else 0
    steps = x.shape[axis]
    size = max(math.isqrt(steps), 1) if chunk is None else whole("[recompute] chunk", chunk, 1)
    states = layer._initial(x, state, True)
    if states[0] is None:
        # The layer's own zeros, as tensors that can be handed on.
        first = x[:, :1] if axis else x[:1]
        _, last = layer(first * 0)
        states = [s.detach() * 0 for s in (last if isinstance(last, tuple) else (last,))]
    parameters = [p for names in layer._names for p in (getattr(layer, n) for n in names)]
    y, *final = _Chunks.apply(layer, axis, size, x, *states, *parameters)
    return y, (tuple(final) if isinstance(layer, LSTM) else final[0])


def _cut(x: Tensor, axis: int, start: int, size: int) -> Tensor:
    return x[:, start : start + size] if axis else x[start : start + size]


class _Chunks(Function):
    """`(layer, axis, size, x, *states, *parameters) -> (y, *last states)`."""

    @staticmethod
    def forward(ctx: Any, layer: Any, axis: int, size: int, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        count = len(layer._states)
        states = list(rest[:count])
        kept, ys = [], []
        for start in range(0, x.shape[axis], size):
            kept += states
            y, states = layer._run(_cut(x, axis, start, size), tuple(states), None)
            ys.append(y)
        ctx.layer, ctx.axis, ctx.size, ctx.count = layer, axis, size, count
        ctx.save_for_backward(x, *rest, *kept)
        return (concat(ys, axis), *states)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        layer, axis, size, count = ctx.layer, ctx.axis, ctx.size, ctx.count
        x, *saved = ctx.saved_tensors
        # The values that forward saw, whatever an optimizer has done since.
        sizes = [len(names) for names in layer._names]
        flat = [p.detach().requires_grad_(True) for p in saved[count : count + sum(sizes)]]
        layers = [flat[sum(sizes[:k]) : sum(sizes[: k + 1])] for k in range(len(sizes))]
        kept = saved[count + len(flat) :]
        dy, *dstate = grads
        dx: list[Tensor] = []
        total: list[Tensor | None] = [None] * len(flat)
        starts = list(range(0, x.shape[axis], size))
        for k in reversed(range(len(starts))):
            with enable_grad():
                piece = _cut(x, axis, starts[k], size).detach().requires_grad_(True)
                states = [s.detach().requires_grad_(True) for s in kept[k * count : (k + 1) * count]]
                y, last = layer._run(piece, tuple(states), None, layers)
            seeds = [_cut(dy, axis, starts[k], size), *dstate]
            found = grad([y, *last], [piece, *states, *flat], seeds)
            dx.append(found[0])
            dstate = list(found[1 : 1 + count])
            new = found[1 + count :]
            total = [b if a is None else a + b for a, b in zip(total, new, strict=True)]
        return (None, None, None, concat(dx[::-1], axis), *dstate, *total)
