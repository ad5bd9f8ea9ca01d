"""The pages of the documentation: their examples run, and print what they say."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = [p for p in sorted(DOCS.glob("*.md")) if ">>>" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_of_page(page: Path) -> None:
    parser = doctest.DocTestParser()
    # A fence after an example would be taken for what it prints.
    text = page.read_text(encoding="utf-8").replace("```pycon\n", "\n").replace("```\n", "\n")
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(parser.get_doctest(text, {}, page.name, str(page), 0))
    result = runner.summarize(verbose=False)
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_pages_with_examples() -> None:
    assert [p.name for p in PAGES] != []
