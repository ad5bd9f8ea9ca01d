"""Embeddings, and convolution and pooling over sequences."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from ..checks import whole
from ..functions import Tensor, arange, equal, expand_dims, where, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["AdaptiveAvgPool1d", "AvgPool1d", "Conv1d", "Embedding", "MaxPool1d"]


class Embedding(Module):
    """A table of learnt rows: row numbers (*) -> (*, embedding_dim).

    Parameter: `weight` (num_embeddings, embedding_dim), drawn from the standard normal distribution; the row of
    `padding_idx` is zero.

    Args:
        num_embeddings: rows of the table.
        embedding_dim: size of a row.
        padding_idx: a row that starts at zero and gets no gradient, or None; negative counts from the end.
        max_norm: rows that are chosen and longer than this are first shortened to it, in the table itself; or None.
        norm_type: which norm `max_norm` is about, see `corten.norm`.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    Raises:
        ValueError: a size is negative.
        IndexError: `padding_idx`, or a row number, is out of range.

    >>> import corten as ct
    >>> ct.nn.Embedding(10, 4)(ct.tensor([[1, 2, 3]])).shape
    (1, 3, 4)
    """

    weight: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        num_embeddings = whole("[Embedding] num_embeddings", num_embeddings)
        embedding_dim = whole("[Embedding] embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = whole("[Embedding] padding_idx", padding_idx, -num_embeddings)
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise IndexError(f"[Embedding] padding_idx {padding_idx} is out of range for {num_embeddings} rows")
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"[Embedding] max_norm must be positive, got {max_norm}")
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.weight = Parameter(zeros((num_embeddings, embedding_dim), dtype=dtype, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            padding = equal(arange(self.num_embeddings, device=self.weight.device), self.padding_idx)
            self.weight.assign_(where(expand_dims(padding, 1), 0.0, self.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """Row numbers (*) -> (*, embedding_dim)."""
        return F.embedding(x, self.weight, self.padding_idx, self.max_norm, self.norm_type)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
    ) -> Self:
        """A layer whose table is a copy of `embeddings` (rows, features).

        Args:
            embeddings: the table.
            freeze: whether the table stays as it is in training.
            padding_idx, max_norm, norm_type: as for the class; the row of `padding_idx` keeps its numbers.

        Raises:
            ValueError: the table is not a matrix.

        >>> import corten as ct
        >>> layer = ct.nn.Embedding.from_pretrained(ct.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> layer(ct.tensor([1])).tolist(), layer.weight.requires_grad
        ([[3.0, 4.0]], False)
        """
        if embeddings.ndim != 2:
            raise ValueError(f"[Embedding] the table must be (rows, features), got {embeddings.shape}")
        rows, features = embeddings.shape
        kind, device = embeddings.dtype, embeddings.device
        layer = cls(rows, features, padding_idx, max_norm, norm_type, dtype=kind, device=device)
        layer.weight.assign_(embeddings.detach())
        layer.weight.requires_grad = not freeze
        return layer

    def extra_repr(self) -> str:
        """What the layer was made with; defaults are left out."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        if self.padding_idx is not None:
            text += f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            text += f", max_norm={self.max_norm}"
            if self.norm_type != 2.0:
                text += f", norm_type={self.norm_type}"
        return text


class Conv1d(Module):
    """A convolutional layer over sequences: x (N, C, L) or (C, L) -> y (N, O, OL) or (O, OL).

    The formula and the meaning of each argument: `corten.nn.functional.conv1d`.

    Parameters: `weight` (out_channels, in_channels / groups, K) and `bias` (out_channels,), both drawn uniformly from
    `[-1/sqrt(k), 1/sqrt(k)]` with `k = in_channels / groups * K`, as in PyTorch.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K.
        stride, dilation: positive.
        padding: zeros on each side, or "valid", "same" or "full".
        groups: must divide C and O.
        bias: add a bias to each channel.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: a size is out of range, or groups does not divide the channels.

    >>> import corten as ct
    >>> ct.nn.Conv1d(1, 6, 5)(ct.zeros((2, 1, 28))).shape
    (2, 6, 24)
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int | Literal["valid", "same", "full"] = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        in_channels = whole("[Conv1d] in_channels", in_channels, 1)
        out_channels = whole("[Conv1d] out_channels", out_channels, 1)
        groups = whole("[Conv1d] groups", groups)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"[Conv1d] groups must divide both {in_channels} and {out_channels}, got {groups}")
        for name, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)):
            whole(f"[Conv1d] {name}", value, 1)
        if isinstance(padding, str):
            if padding not in ("valid", "same", "full"):
                raise ValueError(f"[Conv1d] padding must be a number, 'valid', 'same' or 'full', got {padding!r}")
            if padding == "same" and stride != 1:
                raise ValueError(f"[Conv1d] padding='same' needs stride 1, got {stride}")
        else:
            whole("[Conv1d] padding", padding)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        shape = (out_channels, in_channels // groups, kernel_size)
        self.weight = Parameter(zeros(shape, dtype=dtype, device=device))
        self.bias = Parameter(zeros((out_channels,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, *, activation: F.Activation = "none") -> Tensor:
        """x (N, C, L) -> (N, O, OL), optionally with a ReLU fused in."""
        return F.conv1d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, activation=activation
        )

    def extra_repr(self) -> str:
        """What the layer was made with; defaults are left out."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding not in (0, "valid"):
            text += f", padding={self.padding!r}"
        if self.dilation != 1:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text


class MaxPool1d(Module):
    """The largest element of each window: x (N, C, L) or (C, L) -> y (N, C, OL) or (C, OL).

    See `corten.nn.functional.max_pool1d` for the arguments; `stride` is `kernel_size` by default.

    >>> import corten as ct
    >>> ct.nn.MaxPool1d(2)(ct.zeros((1, 6, 24))).shape
    (1, 6, 12)
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C, OL)."""
        return F.max_pool1d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool1d(Module):
    """The mean of each window: x (N, C, L) or (C, L) -> y (N, C, OL) or (C, OL).

    See `corten.nn.functional.avg_pool1d` for the arguments; `stride` is `kernel_size` by default.

    >>> import corten as ct
    >>> ct.nn.AvgPool1d(3, stride=2, padding=1)(ct.zeros((1, 6, 24))).shape
    (1, 6, 12)
    """

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C, OL)."""
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool1d(Module):
    """The means of evenly spread windows: x (N, C, L) or (C, L) -> y (N, C, output_size) or (C, output_size).

    >>> import corten as ct
    >>> ct.nn.AdaptiveAvgPool1d(2)(ct.zeros((1, 6, 7))).shape
    (1, 6, 2)
    """

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, C, OL)."""
        return F.adaptive_avg_pool1d(x, self.output_size)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"output_size={self.output_size}"
