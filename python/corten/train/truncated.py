"""Truncated backpropagation through time: training on streams longer than memory and patience allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..checks import is_tensor, positive, whole
from ..functions import Tensor, concat, no_grad
from ..nn.utils import clip_grad_norm_, clip_grad_value_
from ..optim import Optimizer

__all__ = ["TruncatedBPTT", "detach_state"]


def detach_state(state: Any) -> Any:
    """A state (a tensor, or tuples, lists and dictionaries of them) cut off from how it came about."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple | list):
        return type(state)(detach_state(part) for part in state)
    if isinstance(state, dict):
        return {name: detach_state(part) for name, part in state.items()}
    return state


class TruncatedBPTT:
    """Trains a model with a state on long sequences: a step after every `k1` time steps, gradients through `k2`.

    Sequences x (N, T, *) are gone through from left to right, the state being carried on. After every `k1` time steps
    the loss on these is differentiated, back through the last `k2` time steps, and the optimizer makes a step. With
    `k2 = k1`, the usual choice, each time step is computed once; with `k2 > k1` the last `k2` are computed anew from
    the state that was there before them, so gradients go further back than the loss reaches.

    Args:
        model: `model(x, state) -> (y, state)`, a state of None being the beginning; y (N, T, *).
        loss: `loss(y, target) -> scalar`.
        optimizer: has the model's parameters.
        k1: time steps between two updates.
        k2: time steps that gradients go back, at least `k1`, which it is by default.
        clip_norm: gradients are scaled down to this norm, all together.
        clip_value: each element of the gradients is clipped to plus or minus this, after `clip_norm`.

    Raises:
        ValueError: `k1` is below 1, `k2` below `k1`, or a limit not positive.

    R. J. Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", 1990.

    >>> import corten as ct
    >>> from corten import nn
    >>> class Net(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rnn, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)
    ...     def forward(self, x, state=None):
    ...         y, state = self.rnn(x, state)
    ...         return self.out(y), state
    >>> net = Net()
    >>> tbptt = ct.train.TruncatedBPTT(net, nn.MSELoss(), ct.optim.SGD(net.parameters(), lr=0.1), k1=5)
    >>> losses = tbptt.fit_batch(ct.zeros((2, 20, 3)), ct.ones((2, 20, 2)))
    >>> len(losses), losses[-1] < losses[0]
    (4, True)
    """

    def __init__(
        self,
        model: Callable[[Tensor, Any], tuple[Tensor, Any]],
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Optimizer,
        k1: int,
        k2: int | None = None,
        *,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.k1 = whole("[TruncatedBPTT] k1", k1, 1)
        self.k2 = self.k1 if k2 is None else whole("[TruncatedBPTT] k2", k2, 1)
        if self.k2 < self.k1:
            raise ValueError(f"[TruncatedBPTT] k2 must be at least k1 = {self.k1}, got {self.k2}")
        for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if limit is not None:
                positive(f"[TruncatedBPTT] {name}", limit)
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.clip_norm = clip_norm
        self.clip_value = clip_value
        #: The state after the last batch, which the next one starts from; None: from the beginning.
        self.state: Any = None
        # Inputs that later windows need again, and the states before them.
        self._past: list[tuple[Tensor, Any]] = []

    def reset(self) -> None:
        """Forget the state: the next batch is the beginning of other sequences."""
        self.state = None
        self._past = []

    def fit_batch(self, x: Tensor, target: Tensor) -> list[float]:
        """Go through x (N, T, *) with targets (N, T, *), from the state that the last batch left behind.

        Returns:
            the loss of each piece of `k1` time steps (the last may be shorter).
        """
        is_tensor("[TruncatedBPTT] x", x)
        is_tensor("[TruncatedBPTT] target", target)
        if x.ndim < 2 or target.ndim < 2 or x.shape[:2] != target.shape[:2] or 0 in x.shape[:2]:
            raise ValueError(
                f"[TruncatedBPTT] x and target must begin with the same (N, T), not empty, got {x.shape} and "
                f"{target.shape}"
            )
        losses = []
        for start in range(0, x.shape[1], self.k1):
            piece, wanted = x[:, start : start + self.k1], target[:, start : start + self.k1]
            losses.append(self._update(piece, wanted))
        return losses

    def _update(self, x: Tensor, target: Tensor) -> float:
        self._past.append((x, self.state))
        # As many whole pieces as k2 reaches back over.
        while sum(p.shape[1] for p, _ in self._past[1:]) >= self.k2:
            self._past.pop(0)
        pieces = [p for p, _ in self._past]
        window = concat(pieces, axis=1) if len(pieces) > 1 else x
        extra = max(window.shape[1] - max(self.k2, x.shape[1]), 0)
        state = self._past[0][1]
        if extra:
            # The window begins inside a piece: up to there without gradients.
            with no_grad():
                _, state = self.model(window[:, :extra], state)
            window = window[:, extra:]
        self.optimizer.zero_grad()
        y, last = self.model(window, detach_state(state))
        loss = self.loss(y[:, window.shape[1] - x.shape[1] :], target)
        loss.backward()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.clip_norm is not None:
            clip_grad_norm_(parameters, self.clip_norm)
        if self.clip_value is not None:
            clip_grad_value_(parameters, self.clip_value)
        self.optimizer.step()
        self.state = detach_state(last)
        return float(loss.item())
