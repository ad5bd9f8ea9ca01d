"""Data sets that are known by name."""

from __future__ import annotations

from .idx import read_idx
from .mnist import mnist

__all__ = ["mnist", "read_idx"]
