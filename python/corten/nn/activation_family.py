"""Activations with two sides, hard and shrinking ones, as modules; `activation.py` has the common smooth ones."""

from __future__ import annotations

from typing import Any

from ..checks import whole
from ..functions import Tensor, full
from . import functional as F
from .module import Module
from .parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "GLU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "Mish",
    "PReLU",
    "ReLU6",
    "SELU",
    "Softmin",
    "Softshrink",
    "Softsign",
    "Tanhshrink",
    "Threshold",
]


class LeakyReLU(Module):
    """`x` where `x > 0`, else `negative_slope x`: x (*) -> (*).

    Args:
        negative_slope: slope where `x <= 0`.

    See `corten.nn.functional.leaky_relu`.

    >>> import corten as ct
    >>> ct.nn.LeakyReLU(0.5)(ct.tensor([-2.0, 4.0])).tolist()
    [-1.0, 4.0]
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """`x` where `x > 0`, else `alpha (e^x - 1)`: x (*) -> (*).

    Args:
        alpha: scale of the negative side.

    See `corten.nn.functional.elu`.

    >>> import corten as ct
    >>> ct.nn.ELU()(ct.tensor([0.0, 4.0])).tolist()
    [0.0, 4.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"alpha={self.alpha}"


class CELU(Module):
    """`x` where `x > 0`, else `alpha (e^(x / alpha) - 1)`: x (*) -> (*).

    Args:
        alpha: scale of the negative side.

    See `corten.nn.functional.celu`.

    >>> import corten as ct
    >>> ct.nn.CELU()(ct.tensor([0.0, 4.0])).tolist()
    [0.0, 4.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.celu(x, self.alpha)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"alpha={self.alpha}"


class SELU(Module):
    """`scale * elu(x, alpha)`: x (*) -> (*).

    See `corten.nn.functional.selu`.

    >>> import corten as ct
    >>> ct.nn.SELU()(ct.tensor([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.selu(x)


class Mish(Module):
    """`x tanh(log(1 + e^x))`: x (*) -> (*).

    See `corten.nn.functional.mish`.

    >>> import corten as ct
    >>> ct.nn.Mish()(ct.tensor([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.mish(x)


class Hardtanh(Module):
    """`min(max(x, min_val), max_val)`: x (*) -> (*).

    Args:
        min_val: lower bound.
        max_val: upper bound.

    See `corten.nn.functional.hardtanh`.

    >>> import corten as ct
    >>> ct.nn.Hardtanh()(ct.tensor([-2.0, 0.5])).tolist()
    [-1.0, 0.5]
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.hardtanh(x, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"min_val={self.min_val}, max_val={self.max_val}"


class ReLU6(Module):
    """`min(max(x, 0), 6)`: x (*) -> (*).

    See `corten.nn.functional.relu6`.

    >>> import corten as ct
    >>> ct.nn.ReLU6()(ct.tensor([-1.0, 7.0])).tolist()
    [0.0, 6.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.relu6(x)


class Softsign(Module):
    """`x / (1 + |x|)`: x (*) -> (*).

    See `corten.nn.functional.softsign`.

    >>> import corten as ct
    >>> ct.nn.Softsign()(ct.tensor([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.softsign(x)


class Hardsigmoid(Module):
    """`min(max(x + 3, 0), 6) / 6`: x (*) -> (*).

    See `corten.nn.functional.hardsigmoid`.

    >>> import corten as ct
    >>> ct.nn.Hardsigmoid()(ct.tensor([-4.0, 0.0])).tolist()
    [0.0, 0.5]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.hardsigmoid(x)


class Hardswish(Module):
    """`x min(max(x + 3, 0), 6) / 6`: x (*) -> (*).

    See `corten.nn.functional.hardswish`.

    >>> import corten as ct
    >>> ct.nn.Hardswish()(ct.tensor([0.0, 4.0])).tolist()
    [0.0, 4.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.hardswish(x)


class LogSigmoid(Module):
    """`log(1 / (1 + e^-x))`: x (*) -> (*).

    See `corten.nn.functional.logsigmoid`.

    >>> import corten as ct
    >>> ct.nn.LogSigmoid()(ct.tensor([-1000.0])).tolist()
    [-1000.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.logsigmoid(x)


class Tanhshrink(Module):
    """`x - tanh(x)`: x (*) -> (*).

    See `corten.nn.functional.tanhshrink`.

    >>> import corten as ct
    >>> ct.nn.Tanhshrink()(ct.tensor([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.tanhshrink(x)


class Softshrink(Module):
    """`x` moved towards 0 by `lambd`: x (*) -> (*).

    Args:
        lambd: half of the width that becomes 0.

    See `corten.nn.functional.softshrink`.

    >>> import corten as ct
    >>> ct.nn.Softshrink()(ct.tensor([-1.0, 0.25])).tolist()
    [-0.5, 0.0]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.softshrink(x, self.lambd)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"lambd={self.lambd}"


class Hardshrink(Module):
    """`x` where `|x| > lambd`, else 0: x (*) -> (*).

    Args:
        lambd: half of the width that becomes 0.

    See `corten.nn.functional.hardshrink`.

    >>> import corten as ct
    >>> ct.nn.Hardshrink()(ct.tensor([-1.0, 0.25])).tolist()
    [-1.0, 0.0]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.hardshrink(x, self.lambd)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"lambd={self.lambd}"


class Threshold(Module):
    """`x` where `x > threshold`, else `value`: x (*) -> (*).

    Args:
        threshold: what `x` must exceed.
        value: what takes the place of the others.

    See `corten.nn.functional.threshold`.

    >>> import corten as ct
    >>> ct.nn.Threshold(2.0, -1.0)(ct.tensor([1.0, 3.0])).tolist()
    [-1.0, 3.0]
    """

    def __init__(self, threshold: float, value: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.threshold(x, self.threshold, self.value)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"threshold={self.threshold}, value={self.value}"


class PReLU(Module):
    """A leaky ReLU whose slope is learnt: x (N, C, *) -> the same shape.

    `max(x, 0) + weight min(x, 0)`. Parameter: `weight` (num_parameters,).

    Args:
        num_parameters: C for one slope per channel, or 1.
        init: the slope at first.
        dtype: of the parameter; float32 by default.
        device: of the parameter.

    Raises:
        ValueError: `num_parameters` is not positive.

    K. He et al., "Delving Deep into Rectifiers", 2015, arXiv:1502.01852.

    >>> import corten as ct
    >>> ct.nn.PReLU()(ct.tensor([-2.0, 4.0])).tolist()
    [-0.5, 4.0]
    """

    weight: Tensor

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = None, device: str = "cpu") -> None:
        super().__init__()
        self.num_parameters = num_parameters = whole("[PReLU] num_parameters", num_parameters, 1)
        self.weight = Parameter(full((num_parameters,), float(init), dtype=dtype, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, *) -> the same shape."""
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"num_parameters={self.num_parameters}"


class GLU(Module):
    """`a sigmoid(b)`, a and b being the halves of x along the axis `dim`: x (.., 2 n) -> (.., n).

    >>> import corten as ct
    >>> ct.nn.GLU()(ct.tensor([4.0, 0.0])).tolist()
    [2.0]
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """x (.., 2 n) -> (.., n)."""
        return F.glu(x, self.dim)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"dim={self.dim}"


class Softmin(Module):
    """`softmax(-x)` along the axis `dim`: x (*) -> (*)."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """x (*) -> (*)."""
        return F.softmin(x, self.dim)

    def extra_repr(self) -> str:
        """What the layer was made with."""
        return f"dim={self.dim}"
