"""The examples in the docstrings run and give what they say; so do those of the compiled core."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import corten
from corten import _core

MODULES = [
    "corten",
    *(m.name for m in pkgutil.walk_packages(corten.__path__, "corten.") if not m.name.endswith("_core")),
]


@pytest.mark.parametrize("name", [n for n in MODULES if n != "corten.__main__"])
def test_examples_of_module(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def core_docstrings() -> list[tuple[str, str]]:
    """Names and docstrings of the functions and classes of the core, which doctest does not find by itself."""
    found = []
    for name in dir(_core):
        value = getattr(_core, name)
        found.append((name, getattr(value, "__doc__", None) or ""))
        if isinstance(value, type):
            found += [(f"{name}.{m}", getattr(getattr(value, m), "__doc__", None) or "") for m in vars(value)]
    return [(name, text) for name, text in found if ">>>" in text]


@pytest.mark.parametrize(("name", "text"), core_docstrings(), ids=lambda value: value if " " not in value else "")
def test_examples_of_core(name: str, text: str) -> None:
    test = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_examples_are_found() -> None:
    counts = {
        n: sum(len(t.examples) for t in doctest.DocTestFinder().find(importlib.import_module(n))) for n in MODULES
    }
    for name in ("corten", "corten.nn.module", "corten.nn.functional", "corten.optim.adam", "corten.train.trainer"):
        assert counts[name] > 0
