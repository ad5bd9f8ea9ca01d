"""*Alice's Adventures in Wonderland*: a book small enough to learn by heart."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from pathlib import Path
from typing import Literal

from .. import checks

__all__ = ["alice"]

_BUILTIN = Path(__file__).parent / "alice_text" / "alice.txt.gz"
# MD5 of the file of the Canterbury corpus, and of the text that is kept of it.
_MD5_FILE = "74c3b556c76ea0cfae111cdb64d08255"
_MD5_TEXT = "c98be20a6fd208e5a90edc0973d398ce"
_EDITION = re.compile(r"^ *THE MILLENNIUM FULCRUM EDITION.*\n+", re.MULTILINE)


def alice(
    source: Literal["builtin", "file"] = "builtin",
    root: str | os.PathLike[str] | None = None,
    *,
    lower: bool = False,
    collapse: bool = False,
) -> str:
    """The text of Lewis Carroll's *Alice's Adventures in Wonderland* (1865), which is in the public domain.

    Args:
        source: "builtin" is the copy that ships with corten; "file" is `alice29.txt` of the Canterbury corpus. Both
            give the same text: without the edition's header, lines end in "\\n".
        root: folder with the file. By default it is looked for in `$CORTEN_DATA` and `$CORTEN_DATA/text`.
        lower: in lower case.
        collapse: each run of spaces and line ends becomes one space.

    Raises:
        ValueError: `source` is none of the above, or the file is damaged.
        FileNotFoundError: the file is not there.

    >>> import corten as ct
    >>> text = ct.datasets.alice(lower=True, collapse=True)
    >>> text[:66]
    "alice's adventures in wonderland lewis carroll chapter i down the "
    >>> len(text), len(set(text))
    (142393, 43)
    """
    if source not in ("builtin", "file"):
        raise ValueError(f"[alice] source must be 'builtin' or 'file', got {source!r}")
    if source == "builtin":
        try:
            text = gzip.decompress(_BUILTIN.read_bytes()).decode("ascii")
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
            raise ValueError(f"[alice] {_BUILTIN} is damaged: {error}") from None
        origin = _BUILTIN
    else:
        origin = _find(None if root is None else Path(os.fsdecode(checks.path("[alice] root", root))))
        raw = origin.read_bytes()
        if (got := hashlib.md5(raw, usedforsecurity=False).hexdigest()) != _MD5_FILE:
            raise ValueError(f"[alice] {origin} is not the file of the Canterbury corpus: MD5 {got}, not {_MD5_FILE}")
        text = strip_edition(raw)
    if (got := hashlib.md5(text.encode("ascii"), usedforsecurity=False).hexdigest()) != _MD5_TEXT:
        raise ValueError(f"[alice] {origin} is damaged: the text's MD5 is {got}, expected {_MD5_TEXT}")
    if lower:
        text = text.lower()
    return " ".join(text.split()) if collapse else text


def strip_edition(raw: bytes) -> str:
    """What is kept of the original file: the book, without the line that names the edition and the end-of-file mark."""
    text = raw.rstrip(b"\x1a").decode("ascii").replace("\r\n", "\n")
    return _EDITION.sub("", text, count=1).strip("\n") + "\n"


def _find(root: Path | None) -> Path:
    if root is not None:
        folders = [root]
    else:
        data = os.environ.get("CORTEN_DATA")
        if not data:
            raise FileNotFoundError("[alice] give root=, or set CORTEN_DATA to the folder with alice29.txt")
        folders = [Path(data), Path(data) / "text"]
    for folder in folders:
        if (file := folder / "alice29.txt").is_file():
            return file
    raise FileNotFoundError(f"[alice] there is no alice29.txt in {' or '.join(map(str, folders))}")
