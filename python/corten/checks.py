"""Checks of plain arguments that several rooms share. `rule` is how a message begins: `[DataLoader] batch_size`."""

from __future__ import annotations

import operator
import os
from typing import Any

from ._core import Tensor

__all__ = ["at_least", "is_tensor", "layers", "pair", "path", "positive", "sized", "tensors", "text", "whole"]


def is_tensor(rule: str, value: Any) -> None:
    """Raise TypeError unless `value` is a tensor."""
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise TypeError(f"{rule} must be a corten.Tensor, not {kind} (convert it with corten.tensor(...))")


def path(rule: str, value: Any) -> str | bytes:
    """`value` as `open` takes it; raises TypeError unless it is a path. (`open` would take 3 for an open file.)"""
    try:
        place: str | bytes = os.fspath(value)
    except TypeError:
        raise TypeError(f"{rule} must be a path, a string or a pathlib.Path, got {value!r}") from None
    return place


def positive(rule: str, value: Any) -> None:
    """Raise TypeError unless `value` is a number, and ValueError unless `value > 0`."""
    at_least(rule, value)
    if not value > 0:
        raise ValueError(f"{rule} must be positive, got {value}")


def text(rule: str, value: Any) -> None:
    """Raise TypeError unless `value` is a string. (An array compares element by element.)"""
    if not isinstance(value, str):
        raise TypeError(f"{rule} must be a string, got {value!r}")


def tensors(rule: str, value: Any) -> list[Tensor]:
    """`value`, a tensor or a sequence of them, as a list; raises TypeError if it is neither."""
    if isinstance(value, Tensor):
        return [value]
    if not isinstance(value, list | tuple):
        raise TypeError(f"{rule} must be a tensor or a sequence of tensors, not {type(value).__name__}")
    for i, item in enumerate(value):
        is_tensor(f"{rule}[{i}]", item)
    return list(value)


def sized(rule: str, value: Any) -> int:
    """The length of `value`; raises TypeError unless it has one."""
    try:
        return len(value)
    except TypeError:
        raise TypeError(f"{rule} must have a length, which {type(value).__name__} has not: {value!r}") from None


def at_least(rule: str, value: Any, least: float = 0.0) -> None:
    """Raise TypeError unless `value` is a number, and ValueError unless `value >= least` (which NaN never is)."""
    try:
        fits = bool(value >= least)
    except (TypeError, ValueError):  # no number, or an array of several
        raise TypeError(f"{rule} must be a number, got {value!r}") from None
    if not fits:
        raise ValueError(f"{rule} must be at least {least:g}, got {value}")


def whole(rule: str, value: Any, least: int = 0) -> int:
    """`value` as an int; raises TypeError unless it is one (NumPy's are), and ValueError if it is below `least` or
    has more than 64 bits, which no size, count or seed needs."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{rule} must be an int, got {value!r}") from None
    if number < least:
        raise ValueError(f"{rule} must be at least {least}, got {number}")
    if number >= 2**64 if least >= 0 else number >= 2**63:
        raise ValueError(f"{rule} must fit into 64 bits, got {number}")
    return number


def layers(rule: str, value: Any, least: int = 0) -> int:
    """`value` as a number of layers, as `whole` does; more than 65,536 would fill the memory before anything failed."""
    number = whole(rule, value, least)
    if number > 2**16:
        raise ValueError(f"{rule} must be at most {2**16}, got {number}")
    return number


def pair(rule: str, value: Any, least: int = 0) -> tuple[int, int]:
    """`value` as (height, width): one int for both, or two; raises as `whole` does."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{rule} must be an int or two, each at least {least}, got {value!r}")
        return whole(rule, value[0], least), whole(rule, value[1], least)
    number = whole(rule, value, least)
    return number, number
