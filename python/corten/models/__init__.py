"""Models that are known by name."""

from __future__ import annotations

from .lenet import LeNet5

__all__ = ["LeNet5"]
