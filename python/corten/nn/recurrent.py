"""Recurrent layers: RNN, LSTM and GRU over whole sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ..checks import at_least, layers, whole
from ..functions import Tensor, broadcast_to, concat, expand_dims, squeeze, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["GRU", "LSTM", "RNN"]

#: What lengths of sequences may be given as.
Lengths = Tensor | Sequence[int]
Init = Literal["uniform", "orthogonal"]


class Recurrent(Module):
    """What the three layers share: parameters, stacking, directions, states.

    Parameters bear PyTorch's names: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, and so on for each
    layer; those of the direction from the end to the beginning end in `_reverse`.
    """

    _gates = 1
    #: Names of the states, of which `_layer` takes and gives one each.
    _states: tuple[str, ...] = ("h0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        learn_initial: bool = False,
        deep_output: bool = False,
        recurrent_init: Init = "uniform",
        peepholes: int = 0,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        name = f"[{type(self).__name__}]"
        self.input_size = whole(f"{name} input_size", input_size, 1)
        self.hidden_size = whole(f"{name} hidden_size", hidden_size, 1)
        self.num_layers = layers(f"{name} num_layers", num_layers, 1)
        at_least(f"{name} dropout", dropout)
        if dropout > 1:
            raise ValueError(f"{name} dropout must be a probability from 0 to 1, got {dropout}")
        if recurrent_init not in ("uniform", "orthogonal"):
            raise ValueError(f"{name} recurrent_init must be 'uniform' or 'orthogonal', got {recurrent_init!r}")
        self.bias = bool(bias)
        self.batch_first = bool(batch_first)
        self.dropout = float(dropout)
        self.bidirectional = bool(bidirectional)
        self.recurrent_init = recurrent_init
        self.deep_output = bool(deep_output)
        directions = 2 if bidirectional else 1
        self._names: list[list[str]] = []
        # Stands in for `_layer` while somebody looks at single steps (corten.viz.bptt).
        self._watch: Callable[..., tuple[Tensor, ...]] | None = None
        h, wide = hidden_size, self._gates * hidden_size
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else directions * h
            names = []
            for suffix in ("", "_reverse")[:directions]:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (wide, inputs), "weight_hh": (wide, h)}
                if bias:
                    shapes |= {"bias_ih": (wide,), "bias_hh": (wide,)}
                if peepholes:
                    shapes["weight_peephole"] = (peepholes, h)
                for kind, shape in shapes.items():
                    names.append(f"{kind}_l{layer}{suffix}")
                    setattr(self, names[-1], Parameter(zeros(shape, dtype=dtype, device=device)))
            self._names.append(names)
        self.learn_initial = bool(learn_initial)
        if learn_initial:
            for state in self._states:
                shape = (num_layers * directions, 1, h)
                setattr(self, state, Parameter(zeros(shape, dtype=dtype, device=device)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew: uniformly from [-1/sqrt(hidden_size), 1/sqrt(hidden_size)], as PyTorch does.

        With `recurrent_init="orthogonal"` each gate's recurrent weights are an orthogonal matrix. Learnt initial states
        begin at zero.
        """
        bound = 1 / math.sqrt(self.hidden_size)
        for names in self._names:
            for name in names:
                parameter = getattr(self, name)
                if name.startswith("weight_hh") and self.recurrent_init == "orthogonal":
                    for gate in range(self._gates):
                        part = zeros(
                            (self.hidden_size, self.hidden_size), dtype=parameter.dtype, device=parameter.device
                        )
                        rows = slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)
                        parameter[rows] = init.orthogonal_(part)
                else:
                    init.uniform_(parameter, -bound, bound)
        if self.learn_initial:
            for state in self._states:
                init.zeros_(getattr(self, state))

    def _layer(
        self, x: Tensor, weights: list[Tensor], states: list[Tensor | None], lengths: Lengths | None
    ) -> tuple[Tensor, ...]:
        """y and the last states of one layer."""
        raise NotImplementedError(f"[{type(self).__name__}] has no _layer")

    def _initial(self, x: Tensor, given: Any, batched: bool) -> list[Tensor | None]:
        """The states to begin with, checked, (layers * directions, N, H) each."""
        name = type(self).__name__
        count = self.num_layers * (2 if self.bidirectional else 1)
        n = x.shape[0 if self.batch_first else 1]
        if given is None:
            if not self.learn_initial:
                return [None] * len(self._states)
            return [broadcast_to(getattr(self, s), (count, n, self.hidden_size)) for s in self._states]
        states = list(given) if isinstance(given, tuple | list) else [given]
        if len(states) != len(self._states):
            what = "a pair (h0, c0)" if len(self._states) == 2 else "a tensor h0"
            raise TypeError(f"[{name}] state must be {what}, got {type(given).__name__} of {len(states)}")
        for i, (label, state) in enumerate(zip(self._states, states, strict=True)):
            if not isinstance(state, Tensor):
                raise TypeError(f"[{name}] {label} must be a corten.Tensor, not {type(state).__name__}")
            shape = (count, n, self.hidden_size) if batched else (count, self.hidden_size)
            if state.shape != shape:
                axes = "(layers * directions, N, H)" if batched else "(layers * directions, H)"
                raise ValueError(f"[{name}] {label} must be {axes} = {shape}, got {state.shape}")
            if not batched:
                states[i] = expand_dims(state, 1)
        return states

    def _run(
        self, x: Tensor, state: Any, lengths: Lengths | None, parameters: list[list[Tensor]] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """y and the last states; `parameters` in place of the module's own, per layer."""
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise TypeError(f"[{name}] x must be a corten.Tensor, not {type(x).__name__}")
        batched = x.ndim == 3
        axes = "(N, T, I)" if self.batch_first else "(T, N, I)"
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(f"[{name}] expects x {axes} or (T, I) with I = {self.input_size}, got {x.shape}")
        if not batched:
            if lengths is not None:
                raise ValueError(f"[{name}] lengths are for a batch {axes}, not for one sequence {x.shape}")
            x = expand_dims(x, 0 if self.batch_first else 1)
        states = self._initial(x, state, batched)
        if isinstance(lengths, Tensor):
            lengths = lengths.tolist()
        directions = 2 if self.bidirectional else 1
        last: list[list[Tensor]] = [[] for _ in self._states]
        ys = []
        for layer, names in enumerate(self._names):
            if layer and self.dropout and self.training:
                x = F.dropout(x, self.dropout, True)
            rows = slice(layer * directions, (layer + 1) * directions)
            mine = states if self.num_layers == 1 else [None if s is None else s[rows] for s in states]
            weights = [getattr(self, n) for n in names] if parameters is None else parameters[layer]
            run = self._layer if self._watch is None else self._watch
            x, *new = run(x, weights, mine, lengths)
            for kept, one in zip(last, new, strict=True):
                kept.append(one)
            ys.append(x)
        if self.deep_output and len(ys) > 1:
            x = concat(ys, -1)
        final = [kept[0] if len(kept) == 1 else concat(kept, 0) for kept in last]
        if not batched:
            x = squeeze(x, 0 if self.batch_first else 1)
            final = [squeeze(s, 1) for s in final]
        return x, final

    def extra_repr(self) -> str:
        """What the layer was made with."""
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in [
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ]:
            if getattr(self, name) != usual:
                text += f", {name}={getattr(self, name)}"
        return text


class RNN(Recurrent):
    """A simple recurrent network: `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, whole sequences in one kernel.

    Args:
        input_size: numbers per step, I.
        hidden_size: units, H.
        num_layers: layers on top of each other.
        nonlinearity: "tanh" or "relu".
        bias: add the biases.
        batch_first: x and y are (N, T, *) instead of (T, N, *).
        dropout: probability that an element between two layers is zeroed in training.
        bidirectional: a second direction, from the end of each sequence to its beginning; y then has 2 H numbers.
        learn_initial: the initial state is a parameter, `h0`, zero at first.
        deep_output: y holds the outputs of all layers side by side, the first layer's first.
        recurrent_init: "uniform" as in PyTorch, or "orthogonal".
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: a size is below 1, or an option is unknown.

    >>> import corten as ct
    >>> y, h = ct.nn.RNN(4, 3, num_layers=2)(ct.zeros((5, 2, 4)))  # 5 steps of 2 sequences
    >>> y.shape, h.shape
    ((5, 2, 3), (2, 2, 3))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        learn_initial: bool = False,
        deep_output: bool = False,
        recurrent_init: Init = "uniform",
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"[RNN] nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            learn_initial=learn_initial,
            deep_output=deep_output,
            recurrent_init=recurrent_init,
            dtype=dtype,
            device=device,
        )

    def _layer(
        self, x: Tensor, weights: list[Tensor], states: list[Tensor | None], lengths: Lengths | None
    ) -> tuple[Tensor, ...]:
        return F.rnn(x, weights, states[0], lengths, self.batch_first, self.bidirectional, self.nonlinearity)

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """x (T, N, I), with batch_first (N, T, I), or one sequence (T, I) -> y like x with D H numbers, and the last h.

        `state` and the last h are (layers * directions, N, H); zeros by default. `lengths` are the steps of each
        sequence, from 0 to T in any order: y is zero beyond them, and the last h is that of each sequence's own end.
        """
        y, last = self._run(x, state, lengths)
        return y, last[0]


class LSTM(Recurrent):
    """A long short-term memory: `c' = f c + i g`, `h' = o tanh(c')`, whole sequences in one kernel.

    `i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh)`, `g = tanh(...)`; rows of the weights hold i, f, g, o.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as for `RNN`.
        forget: "gate"; "never": no forget gate, f = 1, the LSTM of 1997; or "coupled": f = 1 - i. Without a gate the
            weights have rows i, g, o only.
        peephole: i and f also see `p c`, o sees `p c'`; parameters `weight_peephole_l0`, ... (3, H), without a forget
            gate (2, H).
        forget_bias: what the bias of the forget gate is, in sum, at first (1 is usual: remember); None leaves it
            drawn as the others are.
        learn_initial: the initial states are parameters, `h0` and `c0`, zero at first.
        deep_output, recurrent_init, dtype, device: as for `RNN`.

    Raises:
        ValueError: a size is below 1, or an option is unknown or does not go with another.

    >>> import corten as ct
    >>> y, (h, c) = ct.nn.LSTM(4, 3, batch_first=True)(ct.zeros((2, 5, 4)), lengths=[5, 2])
    >>> y.shape, h.shape, c.shape
    ((2, 5, 3), (1, 2, 3), (1, 2, 3))

    S. Hochreiter and J. Schmidhuber, "Long short-term memory", 1997; K. Greff et al., "LSTM: a search space odyssey",
    2017, arXiv:1503.04069.
    """

    _states = ("h0", "c0")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        forget: Literal["gate", "never", "coupled"] = "gate",
        peephole: bool = False,
        forget_bias: float | None = None,
        learn_initial: bool = False,
        deep_output: bool = False,
        recurrent_init: Init = "uniform",
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        if forget not in ("gate", "never", "coupled"):
            raise ValueError(f"[LSTM] forget must be 'gate', 'never' or 'coupled', got {forget!r}")
        if forget_bias is not None:
            at_least("[LSTM] forget_bias", forget_bias, -math.inf)
            if forget != "gate" or not bias:
                raise ValueError("[LSTM] forget_bias needs a forget gate and biases: forget='gate', bias=True")
        self.forget: Literal["gate", "never", "coupled"] = forget
        self.peephole = bool(peephole)
        self.forget_bias = forget_bias
        self._gates = 4 if forget == "gate" else 3
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            learn_initial=learn_initial,
            deep_output=deep_output,
            recurrent_init=recurrent_init,
            peepholes=self._gates - 1 if peephole else 0,
            dtype=dtype,
            device=device,
        )

    def reset_parameters(self) -> None:
        """As for `RNN`; the forget gate's bias then becomes `forget_bias`."""
        super().reset_parameters()
        if self.forget_bias is not None:
            rows = slice(self.hidden_size, 2 * self.hidden_size)
            for names in self._names:
                for name in names:
                    if name.startswith("bias"):
                        getattr(self, name)[rows] = self.forget_bias if name.startswith("bias_ih") else 0.0

    def _layer(
        self, x: Tensor, weights: list[Tensor], states: list[Tensor | None], lengths: Lengths | None
    ) -> tuple[Tensor, ...]:
        h0, c0 = states
        return F.lstm(x, weights, h0, c0, lengths, self.batch_first, self.bidirectional, self.forget, self.peephole)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None, lengths: Lengths | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `RNN.forward`, with a pair (h, c) as state: x -> y, (h, c)."""
        y, last = self._run(x, state, lengths)
        return y, (last[0], last[1])


class GRU(Recurrent):
    """A gated recurrent unit: `h' = (1 - z) n + z h`, whole sequences in one kernel.

    `r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh)`, `n = tanh(W_ih x + b_ih + r (W_hh h + b_hh))`; rows of the weights
    hold r, z, n.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as for `RNN`.
        reset: "after" the product, as above and in PyTorch, cuDNN and Keras; or "before" it, as in the paper:
            `n = tanh(W_ih x + b_ih + W_hh (r h) + b_hh)`.
        swap_update: `h' = z n + (1 - z) h`, as some textbooks write it.
        learn_initial, deep_output, recurrent_init, dtype, device: as for `RNN`.

    Raises:
        ValueError: a size is below 1, or an option is unknown.

    >>> import corten as ct
    >>> y, h = ct.nn.GRU(4, 3, bidirectional=True)(ct.zeros((5, 2, 4)))
    >>> y.shape, h.shape
    ((5, 2, 6), (2, 2, 3))

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014, arXiv:1406.1078.
    """

    _gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset: Literal["after", "before"] = "after",
        swap_update: bool = False,
        learn_initial: bool = False,
        deep_output: bool = False,
        recurrent_init: Init = "uniform",
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        if reset not in ("after", "before"):
            raise ValueError(f"[GRU] reset must be 'after' or 'before', got {reset!r}")
        self.reset: Literal["after", "before"] = reset
        self.swap_update = bool(swap_update)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            learn_initial=learn_initial,
            deep_output=deep_output,
            recurrent_init=recurrent_init,
            dtype=dtype,
            device=device,
        )

    def _layer(
        self, x: Tensor, weights: list[Tensor], states: list[Tensor | None], lengths: Lengths | None
    ) -> tuple[Tensor, ...]:
        return F.gru(x, weights, states[0], lengths, self.batch_first, self.bidirectional, self.reset, self.swap_update)

    def forward(self, x: Tensor, state: Tensor | None = None, lengths: Lengths | None = None) -> tuple[Tensor, Tensor]:
        """As `RNN.forward`."""
        y, last = self._run(x, state, lengths)
        return y, last[0]
