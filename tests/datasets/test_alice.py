"""The book: the built-in copy and the file it was made of."""

from __future__ import annotations

import gzip
import importlib
import os
from pathlib import Path

import pytest

from corten.datasets import alice

module = importlib.import_module("corten.datasets.alice")


def test_builtin() -> None:
    text = alice()
    assert text.split()[:4] == ["ALICE'S", "ADVENTURES", "IN", "WONDERLAND"]
    assert text.rstrip().endswith("THE END")
    assert "EDITION" not in text
    assert set(text) <= {"\n", *map(chr, range(32, 127))}
    assert text.count("CHAPTER ") == 12
    assert alice(lower=True) == text.lower()
    assert alice(collapse=True) == " ".join(text.split())


def test_builtin_is_small() -> None:
    assert module._BUILTIN.stat().st_size < 60_000


@pytest.mark.skipif("CORTEN_DATA" not in os.environ, reason="needs alice29.txt in CORTEN_DATA")
def test_original_gives_the_same() -> None:
    assert alice("file") == alice()
    folder = Path(os.environ["CORTEN_DATA"]) / "text"
    assert alice("file", folder, lower=True) == alice(lower=True)


def test_wrong_arguments_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="source must be 'builtin' or 'file', got 'net'"):
        alice("net")  # type: ignore[arg-type]
    monkeypatch.delenv("CORTEN_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="set CORTEN_DATA"):
        alice("file")
    monkeypatch.setenv("CORTEN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no alice29.txt in .* or "):
        alice("file")
    (tmp_path / "alice29.txt").write_bytes(b"Alice was beginning")
    for root in (None, tmp_path):
        with pytest.raises(ValueError, match="not the file of the Canterbury corpus"):
            alice("file", root)


@pytest.mark.parametrize("content", [b"", b"text", gzip.compress(b"other"), gzip.compress(b"x" * 99)[:20]])
def test_damaged_copy(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alice.txt.gz"
    path.write_bytes(content)
    monkeypatch.setattr(module, "_BUILTIN", path)
    with pytest.raises(ValueError, match=r"\[alice\] .*alice.txt.gz is damaged"):
        alice()
