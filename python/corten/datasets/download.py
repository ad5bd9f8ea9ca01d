"""Download files into a cache folder: from several mirrors, checked, atomically."""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

__all__ = ["DownloadError", "cache_folder", "fetch_file", "md5_of"]

_CHUNK = 1 << 16


class DownloadError(OSError):
    """No mirror gave the file. The message names every mirror with what went wrong, and what to do by hand."""


def cache_folder() -> Path:
    """Where downloads are kept: `CORTEN_CACHE`, or `corten` in the user's cache folder."""
    if chosen := os.environ.get("CORTEN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "corten"


def _store(source: IO[bytes], target: Path, check: Callable[[Path], None], limit: int) -> None:
    """Write what `source` gives to a temporary file beside `target`, check it, and only then give it its name."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        total = 0
        with os.fdopen(handle, "wb") as file:
            while piece := source.read(_CHUNK):
                total += len(piece)
                if total > limit:
                    raise ValueError(f"more than {limit} bytes came")
                file.write(piece)
        check(Path(name))
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def fetch_file(
    name: str,
    mirrors: Sequence[str],
    folder: Path,
    check: Callable[[Path], None],
    *,
    limit: int,
    timeout: float = 20.0,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Get `folder / name`, downloading it if it is not there.

    Args:
        name: of the file, also at the mirrors.
        mirrors: addresses that `name` is appended to, tried in order.
        folder: where the file goes; made if needed.
        check: raises ValueError if the file at a path is not the right one; called before the file gets its name.
        limit: most bytes that are accepted.
        timeout: seconds that a mirror may be silent.
        log: is told what is going on, line by line.

    Raises:
        DownloadError: no mirror gave the right file.
    """
    target = folder / name
    if target.exists():
        return target
    # Here, because urllib and what it pulls in would double the time that importing takes.
    import urllib.error
    import urllib.request

    folder.mkdir(parents=True, exist_ok=True)
    problems = []
    for mirror in mirrors:
        address = mirror.rstrip("/") + "/" + name
        if log is not None:
            log(f"downloading {address}")
        try:
            request = urllib.request.Request(address, headers={"User-Agent": "corten"})
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                _store(answer, target, check, limit)
            return target
        except (OSError, ValueError) as error:  # URLError, a time-out and a broken connection are OSErrors
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            problems.append(f"  {address}: {reason}")
    tried = "\n".join(problems)
    raise DownloadError(
        f"could not download {name}. Tried:\n{tried}\n"
        f"Without a network: get the file elsewhere and put it at {target}, or use the data that ships with corten."
    )


def md5_of(file: IO[bytes] | gzip.GzipFile, limit: int) -> str:
    """MD5 of an open file, read in pieces, at most `limit` bytes. MD5 finds accidents, which is what it is for here."""
    digest = hashlib.md5(usedforsecurity=False)
    total = 0
    while piece := file.read(_CHUNK):
        total += len(piece)
        if total > limit:
            raise ValueError(f"it unpacks to more than {limit} bytes")
        digest.update(piece)
    return digest.hexdigest()
