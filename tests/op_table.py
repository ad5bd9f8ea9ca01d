"""One row per operation of the compiled core; `test_ops.py` drives every test of an operation from its row.

A row says how to call the operation (samples), what it must compute (a formula in plain NumPy, written independently of
the kernels), how closely (a tolerance with the reason for its size), which inputs it must refuse and with what words.
The rows live in `op_rows/`, one file per family. `test_registry.py` fails when an operation has no row.

In a sample, a float array is an input that gradients flow to; `Const` marks an array that none flows to (a target, a
mask), `State` one that the operation also writes to (running statistics). Samples dodge the kinks of the operation
(`away_from`, `distinct`): a central difference across a kink measures nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from corten import _core

Array = np.ndarray


class Const:
    """An array argument that no gradient flows to."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)


class State(Const):
    """A `Const` that the operation updates in place: always handed over as a fresh contiguous tensor."""


@dataclass(frozen=True)
class Tol:
    """|actual - expected| <= atol + rtol * |expected|, per dtype, and why the numbers are what they are."""

    f32: tuple[float, float]
    f64: tuple[float, float]
    why: str

    def of(self, dtype: str) -> tuple[float, float]:
        return self.f64 if dtype == "float64" else self.f32


# Unit roundoffs: 2^-24 = 6.0e-8 and 2^-53 = 1.1e-16. Formulas run in float64 on the rounded inputs.
EXACT = Tol(
    (0, 0), (0, 0), "moves values, compares them, or does one correctly rounded operation: every bit is determined"
)
ULPS = Tol(
    (5e-7, 1e-37),
    (4e-15, 1e-300),
    "elementary functions: at most 4 ULP by contract (kernels' tests), 4 * 2^-23 = 4.8e-7",
)
FEW = Tol((2e-6, 2e-7), (1e-14, 1e-15), "a handful of rounded operations on values of order 1: about 16 roundings")
SUMS = Tol(
    (3e-6, 3e-6),
    (2e-14, 2e-14),
    "sums of up to some hundred terms of order 1: error grows like sqrt(n) u, n u |sum| at worst",
)
CONTRACT = Tol(
    (2e-5, 2e-5),
    (2e-13, 2e-13),
    "dot products of k <= 600 terms of order 1: gamma_k |a||b| = 600 * 6e-8 / 2 at worst 2e-5",
)


@dataclass(frozen=True)
class Sample:
    """One call: `args` and `kwargs` as the operation takes them, NumPy arrays in place of tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    #: False: forward only (special values, ties, empty reductions whose gradient is undefined).
    grad: bool = True
    #: True: too many elements for finite differences; forward and the float32 gradient only.
    big: bool = False


def s(*args: Any, label: str = "", grad: bool = True, big: bool = False, **kwargs: Any) -> Sample:
    """Shorthand for a `Sample`. NumPy's arithmetic turns 0-d arrays into scalars: made arrays again here."""
    args = tuple(np.asarray(a) if isinstance(a, np.generic) else a for a in args)
    return Sample(args, kwargs, label, grad, big)


@dataclass(frozen=True)
class Bad:
    """A wrong call, the exception it must raise and a regular expression that its text must match."""

    args: tuple[Any, ...]
    error: type[BaseException]
    match: str
    kwargs: dict[str, Any] = field(default_factory=dict)


def bad(error: type[BaseException], match: str, *args: Any, **kwargs: Any) -> Bad:
    """Shorthand for a `Bad`."""
    return Bad(args, error, match, kwargs)


@dataclass(frozen=True)
class Row:
    name: str
    samples: Callable[[np.random.Generator], Iterable[Sample]]
    #: The formula, with the operation's own signature, over NumPy arrays.
    numpy: Callable[..., Any]
    tol: Tol
    bad: tuple[Bad, ...] = ()
    #: False: the result carries no gradient at all (comparisons, indices).
    grad: bool = True
    #: Tolerance of a float32 gradient against the float64 gradient of the reference device.
    grad_tol: Tol = CONTRACT
    #: dtype of the result where it is not that of the inputs (bool and integer results are taken from the formula).
    out: str | None = None
    #: What integer inputs give: "same", a dtype name, or None when the row has no opinion.
    ints: str | None = None
    #: How to call it, where it is not simply `_core.<name>`.
    call: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return (self.call or getattr(_core, self.name))(*args, **kwargs)

    def cases(self) -> list[Sample]:
        """The samples; the same numbers on every run and in every process."""
        return list(self.samples(np.random.default_rng(zlib.crc32(self.name.encode()))))


def away_from(x: Array, kinks: Iterable[float], gap: float = 0.05) -> Array:
    """`x` with every value moved at least `gap` away from every kink."""
    x = np.array(x)
    for kink in kinks:
        near = np.abs(x - kink) < gap
        x[near] = kink + np.where(x[near] >= kink, gap, -gap) * 1.5
    return x


def distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Shuffled, evenly spaced values in [-2, 2]: no ties, so that max and its kin have a gradient."""
    n = int(np.prod(shape))
    return rng.permutation(np.linspace(-2.0, 2.0, max(n, 1)))[:n].reshape(shape)


def rows() -> dict[str, Row]:
    """Every row by name."""
    from op_rows import (
        activations,
        arrange,
        attention,
        distances,
        elementwise,
        losses,
        network,
        recurrent,
        reductions,
        sample_norms,
        selection,
        shapes,
    )

    table: dict[str, Row] = {}
    families = (
        elementwise,
        reductions,
        shapes,
        arrange,
        attention,
        selection,
        activations,
        network,
        recurrent,
        losses,
        distances,
        sample_norms,
    )
    for family in families:
        for row in family.ROWS:
            if row.name in table:
                raise ValueError(f"two rows for {row.name}")
            table[row.name] = row
    return table
