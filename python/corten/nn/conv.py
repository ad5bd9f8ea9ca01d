"""Conv2d."""

from __future__ import annotations

import math
from typing import Any, Literal

from ..checks import pair, whole
from ..functions import Tensor, zeros
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter

__all__ = ["Conv2d"]


class Conv2d(Module):
    """A convolutional layer over images: x (N, C, H, W) -> y (N, O, OH, OW).

    The formula and the meaning of each argument: `corten.nn.functional.conv2d`.

    Parameters: `weight` (out_channels, in_channels / groups, KH, KW) and `bias` (out_channels,), both drawn uniformly
    from `[-1/sqrt(k), 1/sqrt(k)]` with `k = in_channels / groups * KH * KW`, as in PyTorch.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: KH = KW, or (KH, KW).
        stride, padding, dilation: one number for both axes or (height, width); padding may also be "valid", "same" or
            "full".
        groups: must divide C and O.
        bias: add a bias to each channel.
        dtype: of the parameters; float32 by default.
        device: of the parameters.

    Raises:
        ValueError: a size is out of range, or groups does not divide the channels.

    >>> import corten as ct
    >>> ct.nn.Conv2d(1, 6, 5)(ct.zeros((2, 1, 28, 28))).shape
    (2, 6, 24, 24)
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | Literal["valid", "same", "full"] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        dtype: Any = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        in_channels = whole("[Conv2d] in_channels", in_channels, 1)
        out_channels = whole("[Conv2d] out_channels", out_channels, 1)
        groups = whole("[Conv2d] groups", groups)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"[Conv2d] groups must divide both {in_channels} and {out_channels}, got {groups}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = pair("[Conv2d] kernel_size", kernel_size, 1)
        self.stride = pair("[Conv2d] stride", stride, 1)
        self.dilation = pair("[Conv2d] dilation", dilation, 1)
        self.groups = groups
        self.padding: tuple[int, int] | Literal["valid", "same", "full"]
        if isinstance(padding, str):
            if padding not in ("valid", "same", "full"):
                raise ValueError(
                    f"[Conv2d] padding must be a number, a pair, 'valid', 'same' or 'full', got {padding!r}"
                )
            if padding == "same" and self.stride != (1, 1):
                raise ValueError(f"[Conv2d] padding='same' needs stride 1, got {self.stride}")
            self.padding = padding
        else:
            self.padding = pair("[Conv2d] padding", padding, 0)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
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
        """x (N, C, H, W) -> (N, O, OH, OW), optionally with a ReLU fused in."""
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, activation=activation
        )

    def extra_repr(self) -> str:
        """What the layer was made with; defaults are left out."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding not in ((0, 0), "valid"):
            text += f", padding={self.padding!r}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text
