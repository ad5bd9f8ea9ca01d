"""Losses as modules."""

from __future__ import annotations

from ..functions import Tensor
from . import functional as F
from .module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss"]


class _Loss(Module):
    def __init__(self, reduction: F.Reduction = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"[{type(self).__name__}] reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
        self.reduction: F.Reduction = reduction

    def extra_repr(self) -> str:
        """What the loss was made with; the default is left out."""
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class CrossEntropyLoss(_Loss):
    """`-log softmax(x)[target]`: logits (N, C) and class indices (N,) or probabilities (N, C) -> ().

    Takes logits: put no softmax in front of it. See `corten.nn.functional.cross_entropy`.

    Args:
        reduction: "mean" over the samples, "sum" or "none".

    >>> import corten as ct
    >>> round(ct.nn.CrossEntropyLoss()(ct.zeros((2, 10)), ct.tensor([3, 7])).item(), 4)
    2.3026
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (N, C, *) and target (N, *) or (N, C, *) -> () or, with reduction "none", (N, *)."""
        return F.cross_entropy(input, target, reduction=self.reduction)


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

    >>> import corten as ct
    >>> round(ct.nn.BCEWithLogitsLoss()(ct.zeros((2,)), ct.ones((2,))).item(), 4)
    0.6931
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits (*) and probabilities (*) -> () or, with reduction "none", (*)."""
        return F.binary_cross_entropy_with_logits(input, target, reduction=self.reduction)
