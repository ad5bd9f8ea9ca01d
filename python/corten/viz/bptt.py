"""A view into time: what backpropagation through time does in the recurrent layers of a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..functions import Tensor, concat, enable_grad, grad, stack, tensor
from ..nn import GRU, LSTM, RNN, Module
from ..nn.functional import cross_entropy, mse_loss
from ..nn.recurrent import Recurrent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BPTTView", "LayerView", "bptt"]

_Array = np.ndarray[Any, np.dtype[np.float64]]

#: A sigmoid gate is saturated below 0.05 and above 0.95, a tanh beyond 0.95 either way.
_SATURATED = 0.05
#: Per step: below it a gradient vanishes, above it explodes. 0.9 to the power of 50 is 0.005.
_VANISHES, _EXPLODES = 0.9, 1.1


@dataclass
class LayerView:
    """One direction of one layer. Arrays have one number per time step, in the order of time."""

    name: str
    layer: int
    reverse: bool
    #: Norm of dL/dh_t over units, averaged over sequences (root mean square).
    loss_gradient: _Array
    #: How strongly the last h depends on h_t: the norm of the matrix dh_T/dh_t over that of the identity.
    reach: _Array
    #: The same of c_t, of an LSTM: the way that its gradient takes; NaN for the step that made h_T.
    cell_reach: _Array | None = None
    #: Mean activation of each gate, and share of it that is saturated.
    gates: dict[str, _Array] = field(default_factory=dict)
    saturation: dict[str, _Array] = field(default_factory=dict)

    @property
    def factor(self) -> float:
        """By how much the gradient changes per step back, on geometric average; of h or c, whatever changes less."""
        factors = []
        for reach in (self.reach, self.cell_reach):
            if reach is None:
                continue
            # From the last step to the first that the direction saw. (h_T does not go through c_T's own place.)
            known = reach[~np.isnan(reach)]
            known = known[::-1] if self.reverse else known
            steps, first = len(known) - 1, known[0] if len(known) else 0.0
            factors.append(float((first / known[-1]) ** (1 / steps)) if steps > 0 and first > 0 else float(first > 0))
        return max(factors)

    @property
    def verdict(self) -> str:
        """In words: whether the gradient vanishes, explodes or neither."""
        f, steps = self.factor, len(self.reach) - 1
        if not np.isfinite(self.loss_gradient).all() or not np.isfinite(self.reach).all():
            return "not finite: the gradient has overflowed (clip it, or start with smaller recurrent weights)"
        if f < _VANISHES:
            half = np.log(0.5) / np.log(f) if f > 0 else 0.0
            return (
                f"vanishes: times {f:.3g} per step, a half every {half:.1f} steps, {f**steps:.1e} over all {steps} "
                "(a gated cell, an orthogonal start or a larger forget bias reach further)"
            )
        if f > _EXPLODES:
            return f"explodes: times {f:.3g} per step, {f**steps:.1e} over all {steps} (clip its norm)"
        return f"steady: times {f:.3g} per step, {f**steps:.2g} over all {steps}"


@dataclass
class BPTTView:
    """What `bptt` found: `layers`, the loss, and `draw`. As text it is the verdicts."""

    loss: float
    layers: list[LayerView]

    def __str__(self) -> str:
        rows = [f"loss {self.loss:.6g}"]
        for view in self.layers:
            arrow = "backward" if view.reverse else "forward"
            rows.append(f"{view.name} layer {view.layer} {arrow}: the gradient {view.verdict}")
            for gate, share in view.saturation.items():
                rows.append(f"    {gate}: mean {view.gates[gate].mean():.3f}, saturated {share.mean():.0%}")
        return "\n".join(rows)

    def draw(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Gradients and gates over time, one row of axes per layer and direction; saved to `path` if that is given.

        Raises:
            ImportError: matplotlib is missing.
        """
        from .plots import _FAINT, _INK, _TEST, _TRAIN, _figure

        figure = _figure(11, 2.8 * len(self.layers) + 0.4)
        for row, view in enumerate(self.layers):
            left, right = (figure.add_subplot(len(self.layers), 2, 2 * row + k) for k in (1, 2))
            t = np.arange(1, len(view.reach) + 1)
            for label, values, colour in [
                ("$|dL/dh_t|$", view.loss_gradient, _TRAIN),
                ("$|dh_T/dh_t|$", view.reach, _TEST),
                ("$|dh_T/dc_t|$", view.cell_reach, _FAINT),
            ]:
                if values is None:
                    continue
                left.semilogy(t, np.maximum(values, 1e-30), color=colour, linewidth=2, label=label)
            verdict = view.verdict.split(",")[0]
            left.set_title(
                f"{view.name}, layer {view.layer}{' (backward)' if view.reverse else ''}: {verdict}",
                fontsize=9,
                color=_INK,
                loc="left",
            )
            for gate, values in view.gates.items():
                right.plot(t, values, linewidth=1.8, label=f"{gate} ({view.saturation[gate].mean():.0%} saturated)")
            right.set_title("mean activation", fontsize=9, color=_INK, loc="left")
            for axes in (left, right):
                axes.legend(fontsize=7, frameon=False)
                axes.tick_params(labelsize=7, colors=_FAINT)
                axes.set_facecolor("none")
                axes.set_xlabel("time step", fontsize=7, color=_FAINT)
        figure.tight_layout()
        if path is not None:
            figure.savefig(path, dpi=130)
        return figure


@dataclass
class _Steps:
    """What one direction of one layer did, in the order in which it did it."""

    name: str
    module: Recurrent
    layer: int
    reverse: bool
    weights: list[Tensor]
    x: Tensor
    h: list[Tensor]
    c: list[Tensor]
    start: list[Tensor | None]


def bptt(
    model: Module,
    x: Tensor,
    target: Tensor | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    *,
    probes: int = 16,
    seed: int = 0,
) -> BPTTView:
    """Look at backpropagation through time in all `RNN`, `LSTM` and `GRU` layers of a model.

    Args:
        model: called as `model(x)`; if that gives a tuple, its first member counts.
        x: what it is called with.
        target: what `loss` compares with.
        loss: `loss(output, target) -> scalar`; by default cross-entropy for targets of integers, else the mean square.
        probes: random directions from which the norm of dh_T/dh_t is estimated; its relative error is about
            `1 / sqrt(2 probes)`, less where few directions matter.
        seed: of these directions.

    Returns:
        per layer and direction the norms of dL/dh_t and dh_T/dh_t at each time step, mean and saturation of the gates,
        and a verdict in words. The layers run step by step for this, so it takes longer than training.

    Raises:
        ValueError: the model has no recurrent layer, or runs one with lengths.

    S. Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991; R. Pascanu, T. Mikolov, Y. Bengio, "On the
    difficulty of training recurrent neural networks", 2013, arXiv:1211.5063.

    >>> import corten as ct
    >>> ct.manual_seed(0)
    >>> view = ct.viz.bptt(ct.nn.RNN(2, 8), ct.randn((30, 4, 2)), ct.zeros((30, 4, 8)))
    >>> len(view.layers), view.layers[0].loss_gradient.shape
    (1, (30,))
    >>> view.layers[0].verdict[:9]
    'vanishes:'
    """
    if not isinstance(model, Module):
        raise TypeError(f"[bptt] model must be a module, got {type(model).__name__}")
    watched: dict[str, Recurrent] = {name: m for name, m in model.named_modules() if isinstance(m, RNN | LSTM | GRU)}
    if not watched:
        raise ValueError(f"[bptt] {type(model).__name__} has no RNN, LSTM or GRU layer")
    runs: list[_Steps] = []
    with enable_grad(), _watching(watched, runs):
        output = model(x)
        output = output[0] if isinstance(output, tuple) else output
        if loss is None:
            if target is None:
                raise ValueError("[bptt] give a target, or a loss that needs none: loss=lambda y, _: y.sum()")
            loss = _usual_loss
        value = loss(output, target)
    every = [h for run in runs for h in run.h]
    found: list[Any] = list(grad([value], every, allow_unused=True, retain_graph=True))
    views, at = [], 0
    rng = np.random.default_rng(seed)
    for run in runs:
        of_loss = found[at : at + len(run.h)]
        at += len(run.h)
        view = LayerView(
            run.name,
            run.layer,
            run.reverse,
            np.array([0.0 if g is None else _norm(g[0]) for g in of_loss]),
            *_reach(run, probes, rng),
        )
        view.gates, view.saturation = _gates(run)
        if run.reverse:
            # From the order of the walk to that of time.
            view.loss_gradient, view.reach = view.loss_gradient[::-1], view.reach[::-1]
            view.cell_reach = None if view.cell_reach is None else view.cell_reach[::-1]
            view.gates = {k: v[::-1] for k, v in view.gates.items()}
            view.saturation = {k: v[::-1] for k, v in view.saturation.items()}
        views.append(view)
    return BPTTView(float(value.item()), views)


def _usual_loss(output: Any, target: Any) -> Tensor:
    if target.dtype.is_floating_point:
        return mse_loss(output, target)
    return cross_entropy(output.reshape((-1, output.shape[-1])), target.reshape((-1,)))


def _norm(g: Tensor) -> float:
    """Root mean square over sequences of the norm over units, of (N, H)."""
    values = g.detach().astype("float64").numpy()
    return float(np.sqrt((values**2).sum(axis=1).mean()))


@contextmanager
def _watching(modules: dict[str, Recurrent], runs: list[_Steps]) -> Iterator[None]:
    """While it lasts, the modules run step by step and leave their steps in `runs`."""
    for name, module in modules.items():
        module._watch = _walker(name or type(module).__name__, module, runs)
    try:
        yield
    finally:
        for module in modules.values():
            module._watch = None


def _walker(name: str, module: Recurrent, runs: list[_Steps]) -> Callable[..., tuple[Tensor, ...]]:
    """A stand-in for `module._layer`."""
    count = 0

    def walk(x: Tensor, weights: list[Tensor], states: list[Tensor | None], lengths: Any) -> tuple[Tensor, ...]:
        nonlocal count
        if lengths is not None:
            raise ValueError("[bptt] looks at sequences of one length: call the model without lengths")
        layer, count = count % module.num_layers, count + 1
        time = 1 if module.batch_first else 0
        directions = 2 if module.bidirectional else 1
        each = len(weights) // directions
        ys, last = [], []
        bidirectional = module.bidirectional
        for d in range(directions):
            w = weights[d * each : (d + 1) * each]
            now = [None if s is None else s[d : d + 1] for s in states]
            start = [None if s is None else s[0] for s in now]
            steps = range(x.shape[time])
            run = _Steps(name, module, layer, d == 1, w, x, [], [], start)
            shown: list[Tensor | None] = [None] * len(steps)
            module.bidirectional = False
            try:
                for t in reversed(steps) if d else steps:
                    piece = x[:, t : t + 1] if time else x[t : t + 1]
                    _, *new = module._layer(piece, w, now, None)
                    # A node of its own, through which everything that depends on this h goes.
                    new = [s * 1.0 for s in new]
                    run.h.append(new[0])
                    if len(new) > 1:
                        run.c.append(new[1])
                    now = list(new)
                    shown[t] = new[0][0]
            finally:
                module.bidirectional = bidirectional
            runs.append(run)
            ys.append(stack([y for y in shown if y is not None], time))
            last.append([s for s in now if s is not None])
        final = [concat([part[k] for part in last], 0) for k in range(len(last[0]))]
        return (concat(ys, 2) if directions == 2 else ys[0], *final)

    return walk


def _reach(run: _Steps, probes: int, rng: np.random.Generator) -> tuple[_Array, _Array | None]:
    """Frobenius norms of dh_T/dh_t and dh_T/dc_t over that of the identity, by Hutchinson: E |v J|^2 = |J|^2."""
    end = run.h[-1]
    total = np.zeros(len(run.h) + len(run.c))
    for _ in range(probes):
        v = tensor(rng.choice([-1.0, 1.0], size=end.shape), dtype=end.dtype, device=end.device)
        found: list[Any] = list(grad([end], [*run.h, *run.c], [v], retain_graph=True, allow_unused=True))
        total += [0.0 if g is None else _norm(g[0]) ** 2 for g in found]
    reach = np.sqrt(total / (probes * end.shape[-1]))
    steps = len(run.h)
    if not run.c:
        return reach, None
    reach[-1] = np.nan
    return reach[:steps], reach[steps:]


def _sigmoid(a: _Array) -> _Array:
    with np.errstate(over="ignore"):
        result: _Array = 1 / (1 + np.exp(-a))
    return result


def _gates(run: _Steps) -> tuple[dict[str, _Array], dict[str, _Array]]:
    """Mean and saturated share of each gate per step, computed anew from inputs, states and weights."""

    def value(t: Tensor) -> _Array:
        array: _Array = t.detach().astype("float64").numpy()
        return array

    module, w = run.module, [value(p) for p in run.weights]
    x = value(run.x)
    x = x.transpose(1, 0, 2) if module.batch_first else x
    if run.reverse:
        x = x[::-1]
    size = module.hidden_size
    h = [value(s)[0] for s in run.h]
    zero = np.zeros_like(h[0])
    starts = [zero if s is None else value(s) for s in run.start]
    bias = len(w) >= 4
    means: dict[str, list[float]] = {}
    shares: dict[str, list[float]] = {}

    def note(gate: str, values: _Array, squashed_by_tanh: bool) -> None:
        if squashed_by_tanh:
            beyond = np.abs(values) > 1 - _SATURATED
        else:
            beyond = (values < _SATURATED) | (values > 1 - _SATURATED)
        means.setdefault(gate, []).append(float(values.mean()))
        shares.setdefault(gate, []).append(float(beyond.mean()))

    for t, now in enumerate(h):
        before = h[t - 1] if t else starts[0]
        a = x[t] @ w[0].T + (w[2] if bias else 0)
        b = before @ w[1].T + (w[3] if bias else 0)
        part = [(a + b)[:, k * size : (k + 1) * size] for k in range(a.shape[1] // size)]
        if isinstance(module, RNN):
            note("h", now, module.nonlinearity == "tanh")
        elif isinstance(module, GRU):
            r, z = _sigmoid(part[0]), _sigmoid(part[1])
            inner = b[:, 2 * size :] * r
            if module.reset == "before":
                inner = (r * before) @ w[1][2 * size :].T + (w[3][2 * size :] if bias else 0)
            note("reset", r, False)
            note("update", z, False)
            note("candidate", np.tanh(a[:, 2 * size :] + inner), True)
        elif isinstance(module, LSTM):
            old = value(run.c[t - 1])[0] if t else starts[1]
            new = value(run.c[t])[0]
            peephole = w[-1] if module.peephole else np.zeros((3, size))
            own = module.forget == "gate"
            i = _sigmoid(part[0] + peephole[0] * old)
            note("input", i, False)
            if own:
                note("forget", _sigmoid(part[1] + peephole[1] * old), False)
            elif module.forget == "coupled":
                note("forget", 1 - i, False)
            note("candidate", np.tanh(part[-2]), True)
            note("output", _sigmoid(part[-1] + peephole[-1] * new), False)
    return {k: np.array(v) for k, v in means.items()}, {k: np.array(v) for k, v in shares.items()}
