"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import setitem
from typing import Any

from .._core import sgd_step
from ..checks import at_least
from ..functions import Tensor
from .optimizer import Optimizer, ParamsLike, Update, state_like

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's momentum.

    With gradient g of parameter p, at each step:

        g = g + weight_decay p
        b = momentum b + (1 - dampening) g        (b = g at the first step; without momentum b = g always)
        p = p - lr (g + momentum b)  if nesterov,  else  p - lr b

    Args:
        params: tensors, or groups of them with their own hyper-parameters.
        lr: learning rate, at least 0.
        momentum: at least 0.
        dampening: of the gradient that enters the momentum.
        weight_decay: L2 penalty, at least 0.
        nesterov: look ahead; needs momentum > 0 and dampening 0.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    >>> import corten as ct
    >>> p = ct.tensor([1.0], requires_grad=True)
    >>> optimizer = ct.optim.SGD([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.8
    """

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
            },
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        at_least("[SGD] lr", group["lr"])
        at_least("[SGD] momentum", group["momentum"])
        at_least("[SGD] weight_decay", group["weight_decay"])
        if group["nesterov"] and not (group["momentum"] > 0 and group["dampening"] == 0):
            raise ValueError(
                f"[SGD] nesterov needs momentum > 0 and dampening = 0, got momentum {group['momentum']} and "
                f"dampening {group['dampening']}"
            )

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Update]:
        updates: list[Update] = []
        settings = {k: group[k] for k in ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")}
        # The first step of a parameter sets its momentum, later ones add to it: two cohorts if some start late.
        tags = [(p.device, self.state.get(p, {}).get("momentum_buffer") is None) for p in params]
        for kinds, some, some_grads in self._cohorts(tags, tags, params, grads):
            first = kinds[0][1]
            buffers = None
            if group["momentum"]:
                buffers = [state_like(p) if first else self.state[p]["momentum_buffer"] for p in some]
            updates.append(partial(sgd_step, some, some_grads, buffers, first=first, **settings))
            if first and buffers:
                updates += [
                    partial(setitem, self.state, p, {"momentum_buffer": b}) for p, b in zip(some, buffers, strict=True)
                ]
        return updates
