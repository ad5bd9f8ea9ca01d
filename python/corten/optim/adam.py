"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from .._core import adam_step
from ..checks import at_least
from ..functions import Tensor
from .optimizer import Optimizer, ParamsLike, Update, set_all, state_like

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: steps scaled by running estimates of the gradient's mean and square.

    With gradient g of parameter p, at step t = 1, 2, ...:

        g = g + weight_decay p
        m = beta1 m + (1 - beta1) g
        v = beta2 v + (1 - beta2) g^2
        p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        params: tensors, or groups of them with their own hyper-parameters.
        lr: learning rate, at least 0.
        betas: (beta1, beta2), each in [0, 1).
        eps: keeps the division finite, at least 0.
        weight_decay: L2 penalty, at least 0. For decay that is not scaled with the gradient see `AdamW`.
        maximize: go up instead of down.

    Raises:
        ValueError: a hyper-parameter is out of range.

    D. P. Kingma, J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980.

    >>> import corten as ct
    >>> p = ct.tensor([1.0], requires_grad=True)
    >>> optimizer = ct.optim.Adam([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.9
    """

    _decoupled = False
    _state_keys = frozenset({"step", "exp_avg", "exp_avg_sq"})

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        )

    def _check(self, group: Mapping[str, Any]) -> None:
        name = type(self).__name__
        for key in ("lr", "eps", "weight_decay"):
            at_least(f"[{name}] {key}", group[key])
        betas = group["betas"]
        try:
            fits = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        except TypeError:
            raise TypeError(f"[{name}] betas must be two numbers in [0, 1), got {betas!r}") from None
        if not fits:
            raise ValueError(f"[{name}] betas must be two numbers in [0, 1), got {betas}")

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Update]:
        beta1, beta2 = group["betas"]
        states = []
        for p in params:
            state = self.state.get(p)
            if state is None:
                state = self.state[p] = {"step": 0, "exp_avg": state_like(p), "exp_avg_sq": state_like(p)}
            states.append(state)
        updates: list[Update] = []
        tags = [(p.device, s["step"]) for p, s in zip(params, states, strict=True)]
        for some, some_grads, some_states in self._cohorts(tags, params, grads, states):
            step = some_states[0]["step"] + 1
            update = partial(
                adam_step,
                some,
                some_grads,
                [s["exp_avg"] for s in some_states],
                [s["exp_avg_sq"] for s in some_states],
                step=step,
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                eps=group["eps"],
                weight_decay=group["weight_decay"],
                decoupled=self._decoupled,
                maximize=group["maximize"],
            )
            updates += (update, set_all(some_states, "step", step))
        return updates


class AdamW(Adam):
    """Adam with decoupled weight decay: `p = p - lr weight_decay p` in each step, beside Adam's step.

    The arguments are Adam's; `weight_decay` is 0.01 by default.

    I. Loshchilov, F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101.

    >>> import corten as ct
    >>> p = ct.tensor([1.0], requires_grad=True)
    >>> optimizer = ct.optim.AdamW([p], lr=0.1, weight_decay=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.89
    """

    _decoupled = True

    def __init__(
        self,
        params: ParamsLike,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize)
