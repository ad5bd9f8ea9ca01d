"""The libraries that `compare.py` times: one adapter each, and what they share.

An adapter is a module `with_LIBRARY.py` with

* `versions()`: the versions of the library and of whatever else its figures depend on;
* a function for each kind of workload that the library has, `kind(arrays, **sizes) -> Task`, in the way that its own
  users would write it. The arrays come from `inputs.py`, in PyTorch's layouts and under PyTorch's names.

A kind that is missing from an adapter is shown as a dash. An adapter imports nothing but its library, NumPy and this
package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class Task:
    """A workload in one library, ready to run."""

    run: Callable[[], object]
    """The work that is timed; returns when it is done."""

    results: Callable[[], Arrays]
    """What the work computes, by name and in PyTorch's layouts. Called once, first: training moves the parameters."""
