"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .._core import rmsprop_step
from ..checks import at_least
from ..functions import Tensor
from .optimizer import Optimizer, ParamsLike, Update, set_all, state_like

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """RMSprop: steps scaled by a running mean of the gradient's square.

    With gradient g of parameter p, at each step:

        g = g + weight_decay p
        v = alpha v + (1 - alpha) g^2
        m = alpha m + (1 - alpha) g,  s = sqrt(v - m^2)  if centered,  else  s = sqrt(v)
        b = momentum b + g / (s + eps)        (without momentum b = g / (s + eps))
        p = p - lr b

    Args:
        params: tensors, or groups of them with their own hyper-parameters.
        lr: learning rate, at least 0.
        alpha: how much of the running means is kept in a step, in [0, 1].
        eps: keeps the division finite, at least 0.
        weight_decay: L2 penalty, at least 0.
        momentum: at least 0.
        centered: divide by the gradient's standard deviation instead of its root mean square.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    Keras' RMSprop has `lr=0.001, alpha=0.9, eps=1e-7` by default.

    G. Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012; centered: A. Graves, "Generating Sequences With
    Recurrent Neural Networks", 2013, arXiv:1308.0850.

    >>> import corten as ct
    >>> p = ct.tensor([1.0], requires_grad=True)
    >>> optimizer = ct.optim.RMSprop([p], lr=0.01)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.9
    """

    _state_keys = frozenset({"step", "square_avg"})

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "alpha": alpha,
                "eps": eps,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "centered": centered,
                "maximize": maximize,
            },
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        at_least("[RMSprop] lr", group["lr"])
        at_least("[RMSprop] alpha", group["alpha"])
        at_least("[RMSprop] eps", group["eps"])
        at_least("[RMSprop] weight_decay", group["weight_decay"])
        at_least("[RMSprop] momentum", group["momentum"])
        if group["alpha"] > 1:
            raise ValueError(f"[RMSprop] alpha must be in [0, 1], got {group['alpha']}")

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Update]:
        updates: list[Update] = []
        settings = {k: group[k] for k in ("lr", "alpha", "eps", "weight_decay", "momentum", "maximize")}
        wanted = ["square_avg"]
        wanted += ["grad_avg"] if group["centered"] else []
        wanted += ["momentum_buffer"] if group["momentum"] else []
        states = []
        for p in params:
            state = self.state.setdefault(p, {"step": 0})
            # Also where momentum or centering was switched on later.
            for key in wanted:
                if key not in state:
                    state[key] = state_like(p)
            states.append(state)
        tags = [(p.device, s["step"]) for p, s in zip(params, states, strict=True)]
        for some, some_grads, some_states in self._cohorts(tags, params, grads, states):
            square = [s["square_avg"] for s in some_states]
            mean, momentum = (
                [s[key] for s in some_states] if key in wanted else None for key in ("grad_avg", "momentum_buffer")
            )
            step = some_states[0]["step"] + 1
            update = partial(rmsprop_step, some, some_grads, square, mean, momentum, **settings)
            updates += (update, set_all(some_states, "step", step))
        return updates
