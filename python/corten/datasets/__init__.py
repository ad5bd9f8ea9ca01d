"""Data sets that are known by name."""

from __future__ import annotations

from .alice import alice
from .idx import read_idx
from .mnist import mnist

__all__ = ["alice", "mnist", "read_idx"]
