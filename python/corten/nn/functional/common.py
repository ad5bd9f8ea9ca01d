"""What the functions share: names of options, checks of arguments."""

from __future__ import annotations

from typing import Literal

from ... import _core
from ..._core import Tensor
from ...checks import is_tensor

Reduction = Literal["mean", "sum", "none"]
Activation = Literal["none", "relu"]
Pair = int | tuple[int, int]


def check_dtype(op: str, input: Tensor, weight: Tensor | None) -> None:
    """Layers do not promote: a float64 input would silently make everything after it twice as slow."""
    for value in (input, weight):
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(
                f"[{op}] expected a corten.Tensor, not {type(value).__name__} (convert it with corten.tensor(...))"
            )
    if input is None:
        raise TypeError(f"[{op}] expected a corten.Tensor, not NoneType: does the layer before it return its result?")
    if weight is not None and input.dtype != weight.dtype:
        name = weight.dtype.name
        raise TypeError(
            f"[{op}] input is {input.dtype.name} but the weight is {name}: convert the input with .astype({name!r}), "
            f"or the module with .to({input.dtype.name!r})"
        )


def pick_axis(op: str, dim: int | None, axis: int | None, default: int) -> int:
    """torch's `dim` or our `axis`, whichever was given."""
    if dim is not None and axis is not None:
        raise TypeError(f"[{op}] takes dim or axis, not both")
    return dim if dim is not None else axis if axis is not None else default


def as_image(op: str, input: Tensor) -> Tensor:
    """(N, C, L) as (N, C, 1, L), (C, L) as (C, 1, L)."""
    is_tensor(f"[{op}] input", input)
    if input.ndim not in (2, 3):
        raise ValueError(f"[{op}] input must be (N, C, L) or (C, L), got {input.shape}")
    return _core.expand_dims(input, -2)
