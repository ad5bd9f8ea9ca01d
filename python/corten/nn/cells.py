"""Recurrent cells, one step each, and the scan that runs any cell over a sequence.

A cell is a module `cell(x, state) -> new state`, `x (N, I)`; a state is a tensor `(N, H)` or a tuple of them, the first
of which is what the cell shows. To write one of one's own takes `forward` and `initial_state`:

>>> import corten as ct
>>> from corten import nn
>>> class Leaky(nn.Module):
...     def __init__(self, size: int) -> None:
...         super().__init__()
...         self.mix = nn.Linear(2 * size, size)
...         self.size = size
...
...     def initial_state(self, x: ct.Tensor) -> ct.Tensor:
...         return ct.zeros((x.shape[0], self.size))
...
...     def forward(self, x: ct.Tensor, h: ct.Tensor) -> ct.Tensor:
...         return 0.9 * h + 0.1 * ct.tanh(self.mix(ct.concat([x, h], axis=1)))
>>> y, last = nn.Scan(Leaky(3))(ct.zeros((7, 2, 3)))  # 7 steps of 2 sequences
>>> y.shape, last.shape
((7, 2, 3), (2, 3))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from ..checks import at_least, sized, whole
from ..functions import (
    Tensor,
    expand_dims,
    ones,
    permute_dims,
    sigmoid,
    squeeze,
    stack,
    tanh,
    tensor,
    where,
    zeros,
    zeros_like,
)
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter
from .sample_norm import LayerNorm

__all__ = [
    "GRUCell",
    "LSTMCell",
    "LayerNormLSTMCell",
    "ProjectedLSTMCell",
    "RNNCell",
    "Scan",
    "VariationalDropout",
    "Zoneout",
]

State: TypeAlias = Tensor | tuple[Tensor, ...]


def _parts(state: State) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def _like(state: State, parts: Sequence[Tensor]) -> State:
    """`parts` in the form of `state`."""
    return tuple(parts) if isinstance(state, tuple) else parts[0]


class _Cell(Module):
    """What the cells with fused kernels share; parameters as PyTorch names them."""

    _gates = 1
    _tuple = False
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = None, device: str = "cpu"
    ) -> None:
        super().__init__()
        name = f"[{type(self).__name__}]"
        self.input_size = whole(f"{name} input_size", input_size, 1)
        self.hidden_size = whole(f"{name} hidden_size", hidden_size, 1)
        wide = self._gates * hidden_size
        self.weight_ih = Parameter(zeros((wide, input_size), dtype=dtype, device=device))
        self.weight_hh = Parameter(zeros((wide, hidden_size), dtype=dtype, device=device))
        self.bias_ih = Parameter(zeros((wide,), dtype=dtype, device=device)) if bias else None
        self.bias_hh = Parameter(zeros((wide,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew: uniformly from [-1/sqrt(hidden_size), 1/sqrt(hidden_size)]."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def weights(self) -> list[Tensor]:
        """The parameters as `nn.functional.rnn` and its kin take them."""
        maybe = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        return [w for w in maybe if w is not None]

    def initial_state(self, x: Tensor) -> State:
        """Zeros for a step x (N, I)."""
        h = zeros((x.shape[0], self.hidden_size), dtype=self.weight_hh.dtype, device=x.device)
        return (h, h) if self._tuple else h

    def sequence(
        self, x: Tensor, states: tuple[Tensor, ...], lengths: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """All steps of x (T, N, I) in one kernel: y (T, N, H), and the last states (N, H)."""
        y, *last = self._fused(x, [expand_dims(s, 0) for s in states], lengths)
        return (y, *[squeeze(s, 0) for s in last])

    def _fused(self, x: Tensor, states: list[Tensor], lengths: Sequence[int] | None) -> tuple[Tensor, ...]:
        raise NotImplementedError(f"[{type(self).__name__}] has no _fused")

    def _step(self, x: Tensor, state: State | None) -> State:
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"[{name}] x must be a corten.Tensor, not {type(x).__name__}")
        if state is not None and not all(isinstance(s, Tensor) for s in _parts(state)):
            what = "a pair (h, c) of tensors" if self._tuple else "a tensor h"
            raise TypeError(f"[{name}] state must be {what}, got {type(state).__name__}")
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"[{name}] expects x (N, I) or (I,) with I = {self.input_size}, got {x.shape}")
        if x.ndim == 1:
            given = None if state is None else _like(state, [expand_dims(s, 0) for s in _parts(state)])
            new = self._step(expand_dims(x, 0), given)
            return _like(new, [squeeze(s, 0) for s in _parts(new)])
        if state is None:
            state = self.initial_state(x)
        parts = _parts(state)
        shape = (x.shape[0], self.hidden_size)
        if len(parts) != (2 if self._tuple else 1) or any(s.shape != shape for s in parts):
            what = "a pair (h, c), each" if self._tuple else "h,"
            raise ValueError(f"[{name}] state must be {what} {shape} for x {x.shape}, got {[s.shape for s in parts]}")
        new = self.sequence(expand_dims(x, 0), parts)[1:]
        return _like(state, new)

    def extra_repr(self) -> str:
        """What the cell was made with."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


class RNNCell(_Cell):
    """One step of `RNN`: `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, x (N, I), h (N, H) -> (N, H).

    `Scan(RNNCell(...))` runs a sequence in the kernel of `RNN`.

    >>> import corten as ct
    >>> ct.nn.RNNCell(4, 3)(ct.zeros((2, 4))).shape
    (2, 3)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"[RNNCell] nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, dtype=dtype, device=device)
        self.nonlinearity: Literal["tanh", "relu"] = nonlinearity

    def _fused(self, x: Tensor, states: list[Tensor], lengths: Sequence[int] | None) -> tuple[Tensor, ...]:
        return F.rnn(x, self.weights(), states[0], lengths, activation=self.nonlinearity)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """x (N, I) or (I,), h (N, H) or (H,) -> the next h."""
        new = self._step(x, state)
        return _parts(new)[0]


class LSTMCell(_Cell):
    """One step of `LSTM`: x (N, I), (h, c) -> (h', c'), each (N, H).

    >>> import corten as ct
    >>> h, c = ct.nn.LSTMCell(4, 3)(ct.zeros((2, 4)))
    >>> h.shape, c.shape
    ((2, 3), (2, 3))
    """

    _gates = 4
    _tuple = True

    def _fused(self, x: Tensor, states: list[Tensor], lengths: Sequence[int] | None) -> tuple[Tensor, ...]:
        return F.lstm(x, self.weights(), states[0], states[1], lengths)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """x (N, I) or (I,), (h, c) -> the next (h, c)."""
        new = _parts(self._step(x, state))
        return new[0], new[1]


class GRUCell(_Cell):
    """One step of `GRU`: x (N, I), h (N, H) -> (N, H).

    >>> import corten as ct
    >>> ct.nn.GRUCell(4, 3)(ct.zeros((2, 4))).shape
    (2, 3)
    """

    _gates = 3

    def _fused(self, x: Tensor, states: list[Tensor], lengths: Sequence[int] | None) -> tuple[Tensor, ...]:
        return F.gru(x, self.weights(), states[0], lengths)

    def forward(self, x: Tensor, state: Tensor | None = None) -> Tensor:
        """x (N, I) or (I,), h (N, H) or (H,) -> the next h."""
        return _parts(self._step(x, state))[0]


class LayerNormLSTMCell(Module):
    """A layer-normalised LSTM: the sums of inputs and of states, and c' before its tanh, are normalised over the units.

    `i, f, g, o` from `LN(W_ih x) + LN(W_hh h) + b`, `h' = o tanh(LN(c'))`; rows of the weights hold i, f, g, o.

    J. Ba, J. Kiros, G. Hinton, "Layer Normalization", 2016, arXiv:1607.06450.

    >>> import corten as ct
    >>> y, (h, c) = ct.nn.Scan(ct.nn.LayerNormLSTMCell(4, 3))(ct.zeros((5, 2, 4)))
    >>> y.shape, c.shape
    ((5, 2, 3), (2, 3))
    """

    def __init__(self, input_size: int, hidden_size: int, *, dtype: Any = None, device: str = "cpu") -> None:
        super().__init__()
        self.input_size = whole("[LayerNormLSTMCell] input_size", input_size, 1)
        self.hidden_size = whole("[LayerNormLSTMCell] hidden_size", hidden_size, 1)
        wide = 4 * hidden_size
        self.weight_ih = Parameter(zeros((wide, input_size), dtype=dtype, device=device))
        self.weight_hh = Parameter(zeros((wide, hidden_size), dtype=dtype, device=device))
        self.bias = Parameter(zeros((wide,), dtype=dtype, device=device))
        self.norm_ih = LayerNorm(wide, bias=False, dtype=dtype, device=device)
        self.norm_hh = LayerNorm(wide, bias=False, dtype=dtype, device=device)
        self.norm_c = LayerNorm(hidden_size, dtype=dtype, device=device)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew; gains 1, biases 0."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in (self.weight_ih, self.weight_hh):
            init.uniform_(weight, -bound, bound)
        init.zeros_(self.bias)
        for norm in (self.norm_ih, self.norm_hh, self.norm_c):
            for name, parameter in norm.named_parameters():
                init.constant_(parameter, 1.0 if name == "weight" else 0.0)

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros for a step x (N, I)."""
        h = zeros((x.shape[0], self.hidden_size), dtype=self.weight_hh.dtype, device=x.device)
        return h, h

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """x (N, I), (h, c) -> the next (h, c), each (N, H)."""
        h, c = state
        gates = self.norm_ih(F.linear(x, self.weight_ih)) + self.norm_hh(F.linear(h, self.weight_hh)) + self.bias
        n = self.hidden_size
        i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(self.norm_c(c)), c

    def extra_repr(self) -> str:
        """What the cell was made with."""
        return f"{self.input_size}, {self.hidden_size}"


class ProjectedLSTMCell(Module):
    """An LSTM whose h is projected: `h' = W_hr (o tanh(c'))`, with fewer numbers than c (PyTorch's `proj_size`).

    H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network architectures for large
    vocabulary speech recognition", 2014, arXiv:1402.1128.

    >>> import corten as ct
    >>> y, (h, c) = ct.nn.Scan(ct.nn.ProjectedLSTMCell(4, 8, 3))(ct.zeros((5, 2, 4)))
    >>> y.shape, c.shape
    ((5, 2, 3), (2, 8))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        proj_size: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.input_size = whole("[ProjectedLSTMCell] input_size", input_size, 1)
        self.hidden_size = whole("[ProjectedLSTMCell] hidden_size", hidden_size, 1)
        self.proj_size = whole("[ProjectedLSTMCell] proj_size", proj_size, 1)
        wide = 4 * hidden_size
        self.weight_ih = Parameter(zeros((wide, input_size), dtype=dtype, device=device))
        self.weight_hh = Parameter(zeros((wide, proj_size), dtype=dtype, device=device))
        self.bias_ih = Parameter(zeros((wide,), dtype=dtype, device=device)) if bias else None
        self.bias_hh = Parameter(zeros((wide,), dtype=dtype, device=device)) if bias else None
        self.weight_hr = Parameter(zeros((proj_size, hidden_size), dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew: uniformly from [-1/sqrt(hidden_size), 1/sqrt(hidden_size)]."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros for a step x (N, I)."""
        dtype, device, n = self.weight_hh.dtype, x.device, x.shape[0]
        h = zeros((n, self.proj_size), dtype=dtype, device=device)
        return h, zeros((n, self.hidden_size), dtype=dtype, device=device)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """x (N, I), (h (N, P), c (N, H)) -> the next (h, c)."""
        h, c = state
        gates = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        n = self.hidden_size
        i, f, g, o = (gates[:, k * n : (k + 1) * n] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return F.linear(sigmoid(o) * tanh(c), self.weight_hr), c

    def extra_repr(self) -> str:
        """What the cell was made with."""
        return f"{self.input_size}, {self.hidden_size}, proj_size={self.proj_size}"


def _checked(name: str, cell: Any) -> Any:
    if not isinstance(cell, Module) or not hasattr(cell, "initial_state"):
        kind = type(cell).__name__
        raise TypeError(f"[{name}] cell must be a module with a method initial_state(x), got {kind} (see nn.cells)")
    return cell


class _Wrapper(Module):
    """A cell around another one."""

    def __init__(self, cell: Module) -> None:
        super().__init__()
        self.cell = _checked(type(self).__name__, cell)

    def initial_state(self, x: Tensor) -> State:
        """The inner cell's."""
        state: State = self.cell.initial_state(x)
        return state

    def begin(self, x: Tensor, state: State) -> None:
        """The inner cell's, if it has one."""
        if hasattr(self.cell, "begin"):
            self.cell.begin(x, state)


def _probabilities(rule: str, *values: float) -> None:
    for p in values:
        at_least(rule, p)
        if p > 1:
            raise ValueError(f"{rule} must be a probability from 0 to 1, got {p}")


class Zoneout(_Wrapper):
    """A cell some of whose units keep their old state, each with its probability and anew in each step.

    In evaluation the states are mixed as the probabilities say: `p s + (1 - p) s'`.

    Args:
        cell: a cell.
        p: the probability for h, or one for each part of the state: `(p_h, p_c)`.

    D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2016, arXiv:1606.01305.

    >>> import corten as ct
    >>> y, (h, c) = ct.nn.Scan(ct.nn.Zoneout(ct.nn.LSTMCell(4, 3), (0.05, 0.5)))(ct.zeros((5, 2, 4)))
    >>> y.shape
    (5, 2, 3)
    """

    def __init__(self, cell: Module, p: float | Sequence[float] = 0.1) -> None:
        super().__init__(cell)
        self.p = tuple(p) if isinstance(p, tuple | list) else (p,)
        _probabilities("[Zoneout] p", *self.p)

    def forward(self, x: Tensor, state: State) -> State:
        """As the cell's."""
        new = self.cell(x, state)
        parts = []
        for k, (old, fresh) in enumerate(zip(_parts(state), _parts(new), strict=True)):
            p = self.p[k] if k < len(self.p) else 0.0
            if p == 0:
                parts.append(fresh)
            elif self.training:
                # Dropout of ones is 0 where a unit keeps its old state.
                moved = F.dropout(ones(old.shape, dtype=old.dtype, device=old.device), p, True) != 0
                parts.append(where(moved, fresh, old))
            else:
                parts.append(p * old + (1 - p) * fresh)
        return _like(new, parts)

    def extra_repr(self) -> str:
        """What the cell was made with."""
        return f"p={self.p}"


class VariationalDropout(_Wrapper):
    """A cell whose inputs and states are dropped out with one mask for all steps of a sequence.

    Args:
        cell: a cell.
        p_input: probability that an element of x is zeroed, in training.
        p_state: the same for h, as the cell sees it (c is left alone).

    Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016,
    arXiv:1512.05287.

    >>> import corten as ct
    >>> cell = ct.nn.VariationalDropout(ct.nn.GRUCell(4, 3), p_input=0.2, p_state=0.2)
    >>> ct.nn.Scan(cell)(ct.zeros((5, 2, 4)))[0].shape
    (5, 2, 3)
    """

    def __init__(self, cell: Module, p_input: float = 0.0, p_state: float = 0.0) -> None:
        super().__init__(cell)
        _probabilities("[VariationalDropout] p_input", p_input)
        _probabilities("[VariationalDropout] p_state", p_state)
        self.p_input = p_input
        self.p_state = p_state
        self._masks: tuple[Tensor, Tensor] | None = None

    def begin(self, x: Tensor, state: State) -> None:
        """Draw the masks of new sequences, whose first step is x (N, I)."""
        super().begin(x, state)
        h = _parts(state)[0]
        self._masks = (
            F.dropout(ones(x.shape, dtype=x.dtype, device=x.device), self.p_input, True),
            F.dropout(ones(h.shape, dtype=h.dtype, device=h.device), self.p_state, True),
        )

    def forward(self, x: Tensor, state: State) -> State:
        """As the cell's; outside a scan call `begin` first, which draws the masks."""
        if not self.training:
            new: State = self.cell(x, state)
            return new
        if self._masks is None:
            raise RuntimeError(
                "[VariationalDropout] no masks were drawn: call begin(x, state) at a sequence's first step"
            )
        of_x, of_h = self._masks
        parts = _parts(state)
        masked: State = self.cell(x * of_x, _like(state, [parts[0] * of_h, *parts[1:]]))
        return masked

    def extra_repr(self) -> str:
        """What the cell was made with."""
        return f"p_input={self.p_input}, p_state={self.p_state}"


class Scan(Module):
    """Runs a cell over sequences: y, and the last state.

    `RNNCell`, `LSTMCell` and `GRUCell` run in their fused kernel, other cells step by step.

    Args:
        cell: a module `cell(x, state) -> new state` with a method `initial_state(x)`; see `corten.nn.cells`. If it has
            a method `begin(x, state)`, that is called before the first step.
        batch_first: x and y are (N, T, *) instead of (T, N, *).
        reverse: from the end of each sequence to its beginning.

    >>> import corten as ct
    >>> y, h = ct.nn.Scan(ct.nn.GRUCell(4, 3), batch_first=True)(ct.zeros((2, 5, 4)), lengths=[5, 3])
    >>> y.shape, h.shape
    ((2, 5, 3), (2, 3))
    """

    def __init__(self, cell: Module, batch_first: bool = False, reverse: bool = False) -> None:
        super().__init__()
        self.cell = _checked("Scan", cell)
        self.batch_first = bool(batch_first)
        self.reverse = bool(reverse)

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, State]:
        """x (T, N, I) or (N, T, I) -> y (T, N, H) or (N, T, H), and the state after each sequence's last step.

        Beyond `lengths` y is zero and the state stays.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"[Scan] x must be a corten.Tensor, not {type(x).__name__}")
        axes = "(N, T, I)" if self.batch_first else "(T, N, I)"
        if x.ndim != 3 or 0 in x.shape[:2]:
            raise ValueError(f"[Scan] x must be {axes} with at least one sequence and one step, got {x.shape}")
        x = permute_dims(x, (1, 0, 2)) if self.batch_first else x
        steps, n = x.shape[0], x.shape[1]
        ends = None if lengths is None else _lengths(lengths, steps, n)
        if state is None:
            state = self.cell.initial_state(x[0])
        elif not all(isinstance(s, Tensor) for s in _parts(state)):
            raise TypeError(f"[Scan] state must be a tensor or a tuple of tensors, got {type(state).__name__}")
        y, last = self._walk(x, state, ends)
        return (permute_dims(y, (1, 0, 2)) if self.batch_first else y), last

    def _walk(self, x: Tensor, state: State, ends: list[int] | None) -> tuple[Tensor, State]:
        # Exactly these: a subclass may compute something else.
        if type(self.cell) in (RNNCell, LSTMCell, GRUCell) and not self.reverse:
            y, *last = self.cell.sequence(x, _parts(state), ends)
            return y, _like(state, last)
        steps = x.shape[0]
        order = range(steps - 1, -1, -1) if self.reverse else range(steps)
        ys: list[Tensor | None] = [None] * steps
        if hasattr(self.cell, "begin"):
            self.cell.begin(x[0], state)
        step: Callable[[Tensor, State], State] = self.cell
        for t in order:
            new = step(x[t], state)
            shown = _parts(new)[0]
            if ends is not None and min(ends) <= t:
                runs = tensor([[t < end] for end in ends])
                if x.device != "cpu":
                    runs = runs.to(x.device)
                shown = where(runs, shown, zeros_like(shown))
                new = _like(new, [where(runs, b, a) for a, b in zip(_parts(state), _parts(new), strict=True)])
            ys[t] = shown
            state = new
        return stack([y for y in ys if y is not None], 0), state

    def extra_repr(self) -> str:
        """What the scan was made with."""
        return f"batch_first={self.batch_first}, reverse={self.reverse}"


def _lengths(lengths: Tensor | Sequence[int], steps: int, n: int) -> list[int]:
    sized("[Scan] lengths", lengths)
    ends = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    if len(ends) != n:
        raise ValueError(f"[Scan] lengths must have one number for each of the {n} sequences, got {len(ends)}")
    for i, end in enumerate(ends):
        if whole(f"[Scan] lengths[{i}]", end) > steps:
            raise ValueError(f"[Scan] lengths must be from 0 to {steps}, but lengths[{i}] is {end}")
    return ends
