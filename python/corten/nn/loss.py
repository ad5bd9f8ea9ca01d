"""Losses as modules."""

from __future__ import annotations

from typing import Literal

from ..checks import at_least, positive
from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    def __init__(self, reduction: F.Reduction = "mean") -> None:
        super().__init__()
        if str(reduction) not in ("mean", "sum", "none"):
            raise ValueError(f"[{type(self).__name__}] reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.reduction: F.Reduction = reduction

    def extra_repr(self) -> str:
        """What the loss was made with; the default is left out."""
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class _ClassLoss(_Loss):
    """What the losses over classes share: a weight per class, and a class that does not count."""

    weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: F.Reduction = "mean"
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index


class CrossEntropyLoss(_ClassLoss):
    """`-log softmax(x)[target]`: logits (N, C) and class indices (N,) or probabilities (N, C) -> ().

    Takes logits: put no softmax in front of it. See `corten.nn.functional.cross_entropy`.

    Buffer: `weight` (C,), if given.

    Args:
        weight: (C,), what each class counts.
        ignore_index: rows of this class do not count.
        reduction: "mean" over the samples, "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes, from 0 to 1.

    >>> import corten as ct
    >>> round(ct.nn.CrossEntropyLoss()(ct.zeros((2, 10)), ct.tensor([3, 7])).item(), 4)
    2.3026
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: F.Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, ignore_index=ignore_index, reduction=reduction)
        at_least("[CrossEntropyLoss] label_smoothing", label_smoothing)
        if not label_smoothing <= 1:
            raise ValueError(f"[CrossEntropyLoss] label_smoothing must be between 0 and 1, got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (N, C, *) and target (N, *) or (N, C, *) -> () or, with reduction "none", (N, *)."""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_ClassLoss):
    """`-weight[target] x[target]`: log-probabilities (N, C) and class indices (N,) -> ().

    Takes the output of `LogSoftmax`. See `corten.nn.functional.nll_loss`.

    Buffer: `weight` (C,), if given.

    Args:
        weight: (C,), what each class counts.
        ignore_index: rows of this class do not count.
        reduction: "mean" over the samples, "sum" or "none".

    >>> import corten as ct
    >>> ct.nn.NLLLoss()(ct.tensor([[-1.0, -2.0]]), ct.tensor([1])).item()
    2.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Log-probabilities (N, C, *) and classes (N, *) -> () or, with reduction "none", (N, *)."""
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class MSELoss(_Loss):
    """`(x - t)^2`, averaged over all elements: (*) and (*) -> ().

    >>> import corten as ct
    >>> ct.nn.MSELoss()(ct.tensor([1.0, 2.0]), ct.tensor([1.0, 4.0])).item()
    2.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(*) and (*) -> () or, with reduction "none", (*)."""
        return F.mse_loss(input, target, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))` of logits, averaged over all elements: (*) and (*) -> ().

    Buffers: `weight` and `pos_weight`, if given.

    Args:
        weight: what each element counts, broadcast.
        reduction: "mean" over the elements, "sum" or "none".
        pos_weight: what the first term counts, broadcast: usually one number per class.

    >>> import corten as ct
    >>> round(ct.nn.BCEWithLogitsLoss()(ct.zeros((2,)), ct.ones((2,))).item(), 4)
    0.6931
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: Tensor | None = None, reduction: F.Reduction = "mean", *, pos_weight: Tensor | None = None
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (*) and probabilities (*) -> () or, with reduction "none", (*)."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class BCELoss(_Loss):
    """`-t log(x) - (1 - t) log(1 - x)` of probabilities, averaged over all elements: (*) and (*) -> ().

    `BCEWithLogitsLoss`, which takes logits, loses no digits near 0 and 1.

    Buffer: `weight`, if given: what each element counts.

    >>> import corten as ct
    >>> round(ct.nn.BCELoss()(ct.full((2,), 0.5), ct.ones(2)).item(), 4)
    0.6931
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: F.Reduction = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Probabilities (*) and (*) -> () or, with reduction "none", (*)."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class L1Loss(_Loss):
    """`|x - t|`, averaged over all elements: (*) and (*) -> ().

    >>> import corten as ct
    >>> ct.nn.L1Loss()(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
    2.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(*) and (*) -> () or, with reduction "none", (*)."""
        return F.l1_loss(input, target, reduction=self.reduction)


class HuberLoss(_Loss):
    """`d^2 / 2` where `|d| <= delta`, else `delta (|d| - delta / 2)`, with `d = x - t`: (*) and (*) -> ().

    See `corten.nn.functional.huber_loss`.

    >>> import corten as ct
    >>> ct.nn.HuberLoss()(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
    1.5
    """

    def __init__(self, reduction: F.Reduction = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        positive("[HuberLoss] delta", delta)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(*) and (*) -> () or, with reduction "none", (*)."""
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class SmoothL1Loss(_Loss):
    """`d^2 / (2 beta)` where `|d| < beta`, else `|d| - beta / 2`, with `d = x - t`: (*) and (*) -> ().

    See `corten.nn.functional.smooth_l1_loss`.

    >>> import corten as ct
    >>> ct.nn.SmoothL1Loss()(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
    1.5
    """

    def __init__(self, reduction: F.Reduction = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        at_least("[SmoothL1Loss] beta", beta)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(*) and (*) -> () or, with reduction "none", (*)."""
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class KLDivLoss(Module):
    """`t (log t - x)` of log-probabilities x and probabilities t: (N, *) and (N, *) -> ().

    See `corten.nn.functional.kl_div`.

    Args:
        reduction: "batchmean" is the divergence of a batch; "mean" divides by the number of elements; "sum" or "none".
        log_target: whether the target holds log-probabilities.

    >>> import corten as ct
    >>> ct.nn.KLDivLoss("batchmean")(ct.tensor([[-1.0, -3.0]]), ct.tensor([[0.0, 1.0]])).item()
    3.0
    """

    def __init__(
        self, reduction: Literal["batchmean", "mean", "sum", "none"] = "mean", log_target: bool = False
    ) -> None:
        super().__init__()
        if str(reduction) not in ("batchmean", "mean", "sum", "none"):
            raise ValueError(f"[KLDivLoss] reduction must be 'batchmean', 'mean', 'sum' or 'none', got {reduction!r}")
        self.reduction = reduction
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(N, *) and (N, *) -> () or, with reduction "none", (N, *)."""
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)
