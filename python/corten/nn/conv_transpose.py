"""Transposed convolution."""

from __future__ import annotations

import math
from typing import Any

from ..checks import pair, whole
from ..functions import Tensor, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["ConvTranspose1d", "ConvTranspose2d"]


class _ConvTranspose(Module):
    """What both layers share: parameters, their checks and their description."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, in_channels: int, out_channels: int, kernel: tuple[int, ...], groups: int, bias: bool, **options: Any
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_channels = in_channels = whole(f"[{name}] in_channels", in_channels, 1)
        self.out_channels = out_channels = whole(f"[{name}] out_channels", out_channels, 1)
        self.groups = groups = whole(f"[{name}] groups", groups)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"[{name}] groups must divide both {in_channels} and {out_channels}, got {groups}")
        self.weight = Parameter(zeros((in_channels, out_channels // groups, *kernel), **options))
        self.bias = Parameter(zeros((out_channels,), **options)) if bias else None
        self.reset_parameters()

    def _check_output_padding(self, output_padding: Any, stride: Any, dilation: Any) -> None:
        numbers = zip(*(v if isinstance(v, tuple) else (v,) for v in (output_padding, stride, dilation)), strict=True)
        if any(rest >= max(step, distance) for rest, step, distance in numbers):
            raise ValueError(
                f"[{type(self).__name__}] output_padding must be smaller than the stride or the dilation, got "
                f"{output_padding} with stride {stride} and dilation {dilation}"
            )

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound)

    def _describe(self, **options: tuple[Any, Any]) -> str:
        """The layer's arguments; those among `options` (value, default) that are the default are left out."""
        text = f"{self.in_channels}, {self.out_channels}"
        for name, (value, default) in options.items():
            if value != default:
                text += f", {name}={value}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else f"{text}, bias=False"


class ConvTranspose2d(_ConvTranspose):
    """A transposed convolution over images: x (N, C, H, W) -> y (N, O, OH, OW).

    `OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1`, OW likewise. The formula and the meaning
    of each argument: `corten.nn.functional.conv_transpose2d`.

    Parameters: `weight` (in_channels, out_channels / groups, KH, KW) and `bias` (out_channels,), both drawn uniformly
    from `[-1/sqrt(k), 1/sqrt(k)]` with `k = out_channels / groups * KH * KW`, as in PyTorch.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: KH = KW, or (KH, KW).
        stride, padding, output_padding: one number for both axes or (height, width).
        groups: must divide C and O.
        bias: add a bias to each channel.
        dilation: one number for both axes or (height, width).
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: a size is out of range, or groups does not divide the channels.

    >>> import corten as ct
    >>> ct.nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)(ct.zeros((2, 16, 7, 7))).shape
    (2, 8, 14, 14)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        kernel = pair("[ConvTranspose2d] kernel_size", kernel_size, 1)
        super().__init__(in_channels, out_channels, kernel, groups, bias, dtype=dtype, device=device)
        self.kernel_size = kernel
        self.stride = pair("[ConvTranspose2d] stride", stride, 1)
        self.padding = pair("[ConvTranspose2d] padding", padding)
        self.output_padding = pair("[ConvTranspose2d] output_padding", output_padding)
        self.dilation = pair("[ConvTranspose2d] dilation", dilation, 1)
        self._check_output_padding(self.output_padding, self.stride, self.dilation)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, O, OH, OW)."""
        return F.conv_transpose2d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def extra_repr(self) -> str:
        """What the layer was made with; defaults are left out."""
        return self._describe(
            kernel_size=(self.kernel_size, None),
            stride=(self.stride, None),
            padding=(self.padding, (0, 0)),
            output_padding=(self.output_padding, (0, 0)),
            dilation=(self.dilation, (1, 1)),
        )


class ConvTranspose1d(_ConvTranspose):
    """A transposed convolution over sequences: x (N, C, L) or (C, L) -> y (N, O, OL) or (O, OL).

    `OL = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1`; see
    `corten.nn.functional.conv_transpose1d`.

    Parameters: `weight` (in_channels, out_channels / groups, K) and `bias` (out_channels,), both drawn uniformly from
    `[-1/sqrt(k), 1/sqrt(k)]` with `k = out_channels / groups * K`, as in PyTorch.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K.
        stride, padding, output_padding: see the formula.
        groups: must divide C and O.
        bias: add a bias to each channel.
        dilation: distance between the kernel's elements.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: a size is out of range, or groups does not divide the channels.

    >>> import corten as ct
    >>> ct.nn.ConvTranspose1d(4, 2, 4, stride=2, padding=1)(ct.zeros((3, 4, 5))).shape
    (3, 2, 10)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int = 1,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        kernel = whole("[ConvTranspose1d] kernel_size", kernel_size, 1)
        super().__init__(in_channels, out_channels, (kernel,), groups, bias, dtype=dtype, device=device)
        self.kernel_size = kernel
        self.stride = whole("[ConvTranspose1d] stride", stride, 1)
        self.padding = whole("[ConvTranspose1d] padding", padding)
        self.output_padding = whole("[ConvTranspose1d] output_padding", output_padding)
        self.dilation = whole("[ConvTranspose1d] dilation", dilation, 1)
        self._check_output_padding(self.output_padding, self.stride, self.dilation)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, L) -> (N, O, OL)."""
        return F.conv_transpose1d(
            x, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )

    def extra_repr(self) -> str:
        """What the layer was made with; defaults are left out."""
        return self._describe(
            kernel_size=(self.kernel_size, None),
            stride=(self.stride, None),
            padding=(self.padding, 0),
            output_padding=(self.output_padding, 0),
            dilation=(self.dilation, 1),
        )
