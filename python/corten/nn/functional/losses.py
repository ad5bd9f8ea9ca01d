"""Losses as functions."""

from __future__ import annotations

from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import is_tensor, text
from .common import Reduction

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits: `-log softmax(x)[target]`, or `-sum_c target_c log softmax(x)_c` for probabilities.

    Args:
        input: logits (N, C), (C,) or (N, C, d1, ...).
        target: class indices, any integer dtype, of the input's shape without C; or probabilities of the input's shape.
        weight: (C,), what each class counts; a constant.
        ignore_index: rows of this class do not count (class indices only).
        reduction: "mean" over the samples that count, by weight; "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes, from 0 to 1.

    Raises:
        ValueError: the shapes do not fit, or label_smoothing is out of range.
        IndexError: a class index is outside of [0, C) and not `ignore_index`.

    Label smoothing: C. Szegedy et al., "Rethinking the Inception Architecture", 2015, arXiv:1512.00567.

    >>> import corten as ct
    >>> round(ct.nn.functional.cross_entropy(ct.zeros((2, 10)), ct.tensor([3, 7])).item(), 4)
    2.3026
    """
    return _core.cross_entropy(input, target, reduction, weight, ignore_index, label_smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Tensor:
    """Negative log-likelihood `-weight[target] x[target]` of log-probabilities, such as those of `log_softmax`.

    Args:
        input: log-probabilities (N, C), (C,) or (N, C, d1, ...).
        target: class indices, any integer dtype, of the input's shape without C.
        weight: (C,), what each class counts; a constant.
        ignore_index: rows of this class do not count.
        reduction: "mean" over the samples that count, by weight; "sum" or "none".

    Raises:
        ValueError: the shapes do not fit.
        IndexError: a class index is outside of [0, C) and not `ignore_index`.

    >>> import corten as ct
    >>> ct.nn.functional.nll_loss(ct.tensor([[-1.0, -2.0]]), ct.tensor([1])).item()
    2.0
    """
    return _core.nll_loss(input, target, weight, ignore_index, reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))`, computed from the logits without overflow.

    Args:
        input: logits (*).
        target: probabilities (*), from 0 to 1.
        weight: what each element counts, broadcast, or None; a constant.
        reduction: "mean" over the elements, "sum" or "none".
        pos_weight: what the first term counts, broadcast (usually one number per class), or None; a constant.

    >>> import corten as ct
    >>> round(ct.nn.functional.binary_cross_entropy_with_logits(ct.zeros((2,)), ct.ones((2,))).item(), 4)
    0.6931
    """
    if weight is None and pos_weight is None:
        return _core.binary_cross_entropy_with_logits(input, target, reduction)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"[binary_cross_entropy_with_logits] reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        )
    loss = _core.binary_cross_entropy_with_logits(input, target, "none")
    for name, factor in (("weight", weight), ("pos_weight", pos_weight)):
        if factor is not None and _core.broadcast_arrays(factor, loss)[0].shape != loss.shape:
            raise ValueError(
                f"[binary_cross_entropy_with_logits] {name} of shape {factor.shape} does not broadcast to {loss.shape}"
            )
    if pos_weight is not None:
        # The first term is t softplus(-x): its surplus over a weight of 1 is added.
        loss = loss + (pos_weight.detach() - 1) * target * _core.softplus(-input)
    if weight is not None:
        loss = loss * weight.detach()
    if reduction == "none":
        return loss
    return _core.mean(loss) if reduction == "mean" else _core.sum(loss)


def mse_loss(input: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """The squared difference `(x - t)^2`.

    Args:
        input: (*).
        target: (*).
        reduction: "mean" over the elements, "sum" or "none".

    >>> import corten as ct
    >>> ct.nn.functional.mse_loss(ct.tensor([1.0, 2.0]), ct.tensor([1.0, 4.0])).item()
    2.0
    """
    return _core.mse_loss(input, target, reduction)


def l1_loss(input: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """The absolute difference `|x - t|`.

    Args:
        input: (*).
        target: (*).
        reduction: "mean" over the elements, "sum" or "none".

    >>> import corten as ct
    >>> ct.nn.functional.l1_loss(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
    2.0
    """
    return _core.l1_loss(input, target, reduction)


def huber_loss(input: Tensor, target: Tensor, *, reduction: Reduction = "mean", delta: float = 1.0) -> Tensor:
    """`d^2 / 2` where `|d| <= delta`, else `delta (|d| - delta / 2)`, with `d = x - t`.

    Args:
        input: (*).
        target: (*).
        reduction: "mean" over the elements, "sum" or "none".
        delta: where the square turns into a straight line; positive.

    P. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    >>> import corten as ct
    >>> ct.nn.functional.huber_loss(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
    1.5
    """
    return _core.huber_loss(input, target, reduction, delta)


def smooth_l1_loss(input: Tensor, target: Tensor, *, reduction: Reduction = "mean", beta: float = 1.0) -> Tensor:
    """`d^2 / (2 beta)` where `|d| < beta`, else `|d| - beta / 2`, with `d = x - t`: `huber_loss` divided by beta.

    Args:
        input: (*).
        target: (*).
        reduction: "mean" over the elements, "sum" or "none".
        beta: where the square turns into a straight line; 0 gives `l1_loss`.

    R. Girshick, "Fast R-CNN", 2015, arXiv:1504.08083.

    >>> import corten as ct
    >>> ct.nn.functional.smooth_l1_loss(ct.tensor([1.0, -3.0]), ct.zeros(2)).item()
    1.5
    """
    return _core.smooth_l1_loss(input, target, reduction, beta)


def kl_div(
    input: Tensor,
    target: Tensor,
    *,
    reduction: Literal["batchmean", "mean", "sum", "none"] = "mean",
    log_target: bool = False,
) -> Tensor:
    """Pointwise Kullback-Leibler divergence `t (log t - x)` of log-probabilities x from probabilities t.

    Args:
        input: log-probabilities (*).
        target: probabilities (*), or log-probabilities if `log_target`.
        reduction: "batchmean", the sum divided by the size of the first axis, is the divergence; "mean" divides by the
            number of elements; "sum" or "none".
        log_target: whether the target holds log-probabilities.

    >>> import corten as ct
    >>> x, t = ct.tensor([[-1.0, -3.0]]), ct.tensor([[0.0, 1.0]])
    >>> ct.nn.functional.kl_div(x, t, reduction="batchmean").item()
    3.0
    """
    text("[kl_div] reduction", reduction)
    if reduction != "batchmean":
        return _core.kl_div(input, target, reduction, log_target)
    is_tensor("[kl_div] input", input)
    if input.ndim == 0:
        raise ValueError("[kl_div] reduction 'batchmean' needs a batch axis, got an input of shape ()")
    return _core.kl_div(input, target, "sum", log_target) / input.shape[0]


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: Reduction = "mean"
) -> Tensor:
    """`-t log(x) - (1 - t) log(1 - x)` of probabilities, logarithms being at least -100.

    Prefer `binary_cross_entropy_with_logits`, which loses no digits near 0 and 1.

    Args:
        input: probabilities (*).
        target: probabilities (*).
        weight: what each element counts, broadcast to (*), or None; a constant.
        reduction: "mean" over the elements, "sum" or "none".

    Raises:
        ValueError: an element of the input is outside of [0, 1].

    >>> import corten as ct
    >>> round(ct.nn.functional.binary_cross_entropy(ct.full((2,), 0.5), ct.ones(2)).item(), 4)
    0.6931
    """
    return _core.binary_cross_entropy(input, target, weight, reduction)
