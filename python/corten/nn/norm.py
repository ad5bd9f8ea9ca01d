"""Normalisation layers."""

from __future__ import annotations

from typing import Any

from ..checks import at_least, whole
from ..functions import Tensor, ones, ones_like, zeros, zeros_like
from . import functional as F
from .module import Module
from .parameter import Parameter

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share: everything but the shapes that they take."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ndims: tuple[int, ...]
    _axes: str

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.num_features = num_features = whole(f"[{name}] num_features", num_features, 1)
        at_least(f"[{name}] eps", eps)
        if momentum is not None:
            at_least(f"[{name}] momentum", momentum)
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        shape = (num_features,)
        self.weight = Parameter(ones(shape, dtype=dtype, device=device)) if affine else None
        self.bias = Parameter(zeros(shape, dtype=dtype, device=device)) if affine else None
        track = track_running_stats
        self.register_buffer("running_mean", zeros(shape, dtype=dtype, device=device) if track else None)
        self.register_buffer("running_var", ones(shape, dtype=dtype, device=device) if track else None)
        self.register_buffer("num_batches_tracked", zeros((), dtype="int64", device=device) if track else None)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *) -> the same shape; in training the running statistics move."""
        if not isinstance(x, Tensor):
            raise TypeError(f"[{type(self).__name__}] expected a corten.Tensor, not {type(x).__name__}")
        if x.ndim not in self._ndims or x.shape[1] != self.num_features:
            raise ValueError(
                f"[{type(self).__name__}] expects {self._axes} with C = {self.num_features}, got shape {x.shape}"
            )
        use_batch = self.training or self.running_mean is None
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.assign_(self.num_batches_tracked + 1)
            if self.momentum is None:  # a plain average over all batches so far
                factor = 1.0 / float(self.num_batches_tracked.item())
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, use_batch, factor, self.eps)

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.assign_(zeros_like(self.running_mean))
            self.running_var.assign_(ones_like(self.running_var))
            self.num_batches_tracked.assign_(zeros_like(self.num_batches_tracked))

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features: x (N, C) or (N, C, L) -> the same shape.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`, mean and variance per channel over the batch in training and
    the running ones in evaluation.

    Parameters: `weight` and `bias` (C,), ones and zeros at first. Buffers: `running_mean`, `running_var` (C,) and
    `num_batches_tracked` ().

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of the newest batch in the running statistics; None takes the plain average over all batches.
        affine: have `weight` and `bias`.
        track_running_stats: have the buffers; without them evaluation uses the batch's statistics too.

    Raises:
        ValueError: the input's shape does not fit.
        TypeError: the input's dtype is not the parameters'.

    S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015, arXiv:1502.03167.

    >>> import corten as ct
    >>> ct.nn.BatchNorm1d(4)(ct.zeros((3, 4))).shape
    (3, 4)
    """

    _ndims = (2, 3)
    _axes = "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images: x (N, C, H, W) -> the same shape.

    Statistics are per channel, over N, H and W. Everything else is as in `BatchNorm1d`.

    >>> import corten as ct
    >>> ct.nn.BatchNorm2d(4)(ct.zeros((3, 4, 5, 5))).shape
    (3, 4, 5, 5)
    """

    _ndims = (4,)
    _axes = "(N, C, H, W)"
