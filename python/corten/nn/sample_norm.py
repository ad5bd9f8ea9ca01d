"""Normalisation within each sample: it does the same in training and in evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks import is_tensor, whole
from ..functions import Tensor, ones, zeros
from . import functional as F
from .module import Module
from .norm import _BatchNorm
from .parameter import Parameter

__all__ = ["GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LayerNorm", "LocalResponseNorm", "RMSNorm"]


def _shape(rule: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
    return tuple(whole(rule, size) for size in sizes)


class LayerNorm(Module):
    """`y = (x - mean) / sqrt(var + eps) * weight + bias` over the last axes: x (*, S) -> the same shape.

    Parameters: `weight` and `bias` S, ones and zeros at first.

    Args:
        normalized_shape: S, the sizes of the last axes.
        eps: added to the variance.
        elementwise_affine: have the parameters.
        bias: have `bias`.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: the input does not end in S.
        TypeError: the input's dtype is not the parameters'.

    J. Ba, J. Kiros, G. Hinton, "Layer Normalization", 2016, arXiv:1607.06450.

    >>> import corten as ct
    >>> ct.nn.LayerNorm(4)(ct.zeros((3, 4))).shape
    (3, 4)
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.normalized_shape = shape = _shape("[LayerNorm] normalized_shape", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype=dtype, device=device)) if elementwise_affine else None
        self.bias = Parameter(zeros(shape, dtype=dtype, device=device)) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x (*, S) -> the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """`y = x / sqrt(mean(x^2) + eps) * weight` over the last axes: x (*, S) -> the same shape.

    Parameter: `weight` S, ones at first.

    Args:
        normalized_shape: S, the sizes of the last axes.
        eps: added to the mean square; None is the dtype's machine epsilon.
        elementwise_affine: have the parameter.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, arXiv:1910.07467.

    >>> import corten as ct
    >>> ct.nn.RMSNorm(2, eps=0.0)(ct.tensor([[2.0, -2.0]])).tolist()
    [[1.0, -1.0]]
    """

    weight: Tensor | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.normalized_shape = shape = _shape("[RMSNorm] normalized_shape", normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype=dtype, device=device)) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """x (*, S) -> the same shape."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalise each group of channels of each sample: x (N, C, *) -> the same shape.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    Parameters: `weight` and `bias` (C,), ones and zeros at first.

    Args:
        num_groups: into how many groups the channels are split.
        num_channels: C.
        eps: added to the variance.
        affine: have the parameters.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: num_groups does not divide num_channels, or the input's shape does not fit.

    Y. Wu, K. He, "Group Normalization", 2018, arXiv:1803.08494.

    >>> import corten as ct
    >>> ct.nn.GroupNorm(2, 4)(ct.zeros((3, 4, 5))).shape
    (3, 4, 5)
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        num_groups = whole("[GroupNorm] num_groups", num_groups)
        num_channels = whole("[GroupNorm] num_channels", num_channels, 1)
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"[GroupNorm] num_groups must divide the {num_channels} channels, got {num_groups}")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.weight = Parameter(ones((num_channels,), dtype=dtype, device=device)) if affine else None
        self.bias = Parameter(zeros((num_channels,), dtype=dtype, device=device)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *) -> the same shape."""
        is_tensor("[GroupNorm] x", x)
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ValueError(f"[GroupNorm] expects (N, C, *) with C = {self.num_channels}, got shape {x.shape}")
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _InstanceNorm(_BatchNorm):
    """What InstanceNorm1d and InstanceNorm2d share: a batch norm of one sample at a time, plain by default."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *) or one sample (C, *) -> the same shape."""
        is_tensor(f"[{type(self).__name__}] x", x)
        if x.ndim not in self._ndims or x.shape[x.ndim - self._ndims[-1] + 1] != self.num_features:
            raise ValueError(
                f"[{type(self).__name__}] expects {self._axes} with C = {self.num_features}, got shape {x.shape}"
            )
        batch = x if x.ndim == self._ndims[-1] else x.expand_dims(0)
        use_input = self.training or self.running_mean is None
        momentum = 0.0 if self.momentum is None else self.momentum
        y = F.instance_norm(
            batch, self.running_mean, self.running_var, self.weight, self.bias, use_input, momentum, self.eps
        )
        return y if x.ndim == self._ndims[-1] else y.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Normalise each channel of each sample over L: x (N, C, L) or (C, L) -> the same shape.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`.

    Parameters, if `affine`: `weight` and `bias` (C,), ones and zeros at first. Buffers, if `track_running_stats`: as in
    `BatchNorm1d`; they count in evaluation.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: share of the newest batch in the running statistics.
        affine: have `weight` and `bias`.
        track_running_stats: have the buffers.

    Raises:
        ValueError: the input's shape does not fit, or L is 1.

    D. Ulyanov, A. Vedaldi, V. Lempitsky, "Instance Normalization", 2016, arXiv:1607.08022.

    >>> import corten as ct
    >>> ct.nn.InstanceNorm1d(4)(ct.zeros((3, 4, 5))).shape
    (3, 4, 5)
    """

    _ndims = (2, 3)
    _axes = "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    """Normalise each channel of each image over H and W: x (N, C, H, W) or (C, H, W) -> the same shape.

    Everything else is as in `InstanceNorm1d`.

    >>> import corten as ct
    >>> ct.nn.InstanceNorm2d(4)(ct.zeros((3, 4, 5, 5))).shape
    (3, 4, 5, 5)
    """

    _ndims = (3, 4)
    _axes = "(N, C, H, W) or (C, H, W)"


class LocalResponseNorm(Module):
    """`y_c = x_c (k + alpha / size sum_j x_j^2)^-beta`, j being neighbours of c: x (N, C, *) -> the same shape.

    See `corten.nn.functional.local_response_norm`.

    >>> import corten as ct
    >>> ct.nn.LocalResponseNorm(1, alpha=3.0, beta=0.5)(ct.ones((1, 1, 1))).item()
    0.5
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *) -> the same shape."""
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
