"""Shared by every test: the tests' own modules are importable, and no test leaves global state behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# Times vary on a shared machine; a slow example is no bug. The examples are the same on every run.
settings.register_profile("corten", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("corten")


@pytest.fixture(autouse=True)
def clean_state() -> Iterator[None]:
    """Every test starts from the same seed and leaves grad mode and thread count as it found them."""
    from corten import _core

    threads = _core.get_num_threads()
    _core.manual_seed(0)
    yield
    _core.set_grad_enabled(True)
    if _core.get_num_threads() != threads:
        _core.set_num_threads(threads)
    _core._force_threads(False)
