"""What the Python array API standard asks of a namespace beside functions: constants, and questions about dtypes.

With these, code that is written for any array (`xp = x.__array_namespace__()`) finds its way in corten.
"""

from __future__ import annotations

import math
from typing import Any

from . import functions
from .functions import Tensor, dtype

__all__ = [
    "can_cast",
    "e",
    "empty",
    "empty_like",
    "inf",
    "isdtype",
    "nan",
    "newaxis",
    "pi",
    "result_type",
    "unstack",
]

__array_api_version__ = "2023.12"

e = math.e
inf = math.inf
nan = math.nan
newaxis = None
pi = math.pi

_SIGNED = ("int8", "int16", "int32", "int64")
_KINDS: dict[str, tuple[str, ...]] = {
    "bool": ("bool",),
    "signed integer": _SIGNED,
    "unsigned integer": ("uint8",),
    "integral": ("uint8", *_SIGNED),
    "real floating": ("float16", "bfloat16", "float32", "float64"),
    "complex floating": (),
}
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"]


def isdtype(dtype: dtype, kind: str | dtype | tuple[str | dtype, ...]) -> bool:
    """Whether a dtype is of a kind: 'bool', 'signed integer', 'unsigned integer', 'integral', 'real floating',
    'complex floating', 'numeric', another dtype, or one of several of these.

    Raises:
        ValueError: there is no such kind.

    >>> import corten as ct
    >>> ct.isdtype(ct.float32, "real floating"), ct.isdtype(ct.int8, ("bool", ct.int16))
    (True, False)
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"[isdtype] there is no kind {kind!r} (kinds: {', '.join(map(repr, _KINDS))})")
        return dtype.name in _KINDS[kind]
    return bool(dtype == kind)


def result_type(*arrays_and_dtypes: Tensor | dtype | bool | float) -> dtype:
    """The dtype that an operation on all of these has: tensors, dtypes and (weak) Python numbers.

    Raises:
        ValueError: there is neither a tensor nor a dtype among them.

    >>> import corten as ct
    >>> ct.result_type(ct.int8, ct.uint8), ct.result_type(ct.ones(2, dtype="int64"), 1.5)
    (corten.int16, corten.float32)
    """
    strong = [x for x in arrays_and_dtypes if isinstance(x, Tensor | dtype)]
    weak = [x for x in arrays_and_dtypes if not isinstance(x, Tensor | dtype)]
    if not strong:
        raise ValueError("[result_type] needs a tensor or a dtype, as Python numbers alone have no dtype")
    # Tensors without elements meet as any tensors do, so that the rule is written down once.
    result = functions.zeros(0, dtype=strong[0].dtype if isinstance(strong[0], Tensor) else strong[0])
    nothing = functions.zeros(0, dtype="bool")
    for x in strong[1:]:
        other = functions.zeros(0, dtype=x.dtype if isinstance(x, Tensor) else x)
        result = functions.where(nothing, result, other)
    for number in weak:
        result = functions.where(nothing, result, number)
    return result.dtype


def can_cast(from_: Tensor | dtype, to: dtype) -> bool:
    """Whether every operation of `from_` with a tensor of dtype `to` has dtype `to`: a cast that loses no range.

    >>> import corten as ct
    >>> ct.can_cast(ct.int16, ct.int64), ct.can_cast(ct.float64, ct.float32)
    (True, False)
    """
    return bool(result_type(from_, to) == to)


def empty(shape: int | tuple[int, ...], *, dtype: dtype | str | None = None, device: str | None = None) -> Tensor:
    """A tensor whose elements do not matter; here they are zeros, so that no program depends on chance.

    >>> import corten as ct
    >>> ct.empty((2, 3)).shape
    (2, 3)
    """
    return functions.zeros(shape, dtype=dtype, device=device or "cpu")


def empty_like(x: Tensor, /, *, dtype: dtype | str | None = None, device: str | None = None) -> Tensor:
    """`empty` with the shape, dtype and device of `x` unless others are given.

    >>> import corten as ct
    >>> ct.empty_like(ct.ones(2, dtype="int64")).dtype
    corten.int64
    """
    return empty(x.shape, dtype=x.dtype if dtype is None else dtype, device=device or x.device)


def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The parts of `x` along an axis, views without that axis; the reverse of `stack`.

    >>> import corten as ct
    >>> [part.tolist() for part in ct.unstack(ct.tensor([[1, 2], [3, 4]]), axis=1)]
    [[1, 3], [2, 4]]
    """
    return tuple(functions.moveaxis(x, axis, 0))


class _Info:
    """What this namespace can do, in the standard's words."""

    def capabilities(self) -> dict[str, Any]:
        """Boolean indexing, shapes that depend on data, and the largest number of axes (None: any)."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": None}

    def default_device(self) -> str:
        """Where new tensors lie."""
        return "cpu"

    def devices(self) -> list[str]:
        """All devices."""
        return ["cpu", "reference"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, dtype]:
        """The dtypes of new tensors when none is named."""
        return {"real floating": functions.float32, "integral": functions.int64, "indexing": functions.int64}

    def dtypes(
        self, *, device: str | None = None, kind: str | dtype | tuple[str | dtype, ...] | None = None
    ) -> dict[str, dtype]:
        """All dtypes of a kind (see `isdtype`) by name."""
        every = {"bool": functions.bool_}
        for name in _KINDS["numeric"]:
            found = getattr(functions, name, None)
            if found is not None:
                every[name] = found
        return {name: d for name, d in every.items() if kind is None or isdtype(d, kind)}


def __array_namespace_info__() -> _Info:
    """The inspection object of the array API standard.

    >>> import corten as ct
    >>> ct.__array_namespace_info__().default_dtypes()["real floating"]
    corten.float32
    """
    return _Info()
