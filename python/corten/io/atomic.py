"""Write files so that there is never half of one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["atomic_write"]

_SUFFIX = ".tmp"
_RANDOM = 8  # characters that tempfile puts between prefix and suffix


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where folders can be opened and synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(handle)
    finally:
        os.close(handle)


def _create(target: Path) -> tuple[int, str]:
    """A temporary file beside `target`, locked for as long as its writer lives: handle and name."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_SUFFIX, dir=target.parent)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody took it for abandoned, in the moment before it was locked
            os.close(handle)
            continue
        except OSError:  # a file system without locks: nobody can lock it, so nobody removes it
            return handle, name
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files of writers of `target` that were killed: those that nobody holds locked."""
    prefix = f".{target.name}."
    length = len(prefix) + _RANDOM + len(_SUFFIX)
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            name = entry.name
            if len(name) != length or not name.startswith(prefix) or not name.endswith(_SUFFIX):
                continue
            with contextlib.suppress(OSError):  # another process was faster, or its writer lives
                handle = os.open(entry.path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry.path)
                finally:
                    os.close(handle)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and leaves no trace when it does not.

    The bytes go to a temporary file in the same folder, are forced to the disk, and the file is renamed over `path`.
    Whoever reads `path` meanwhile, or after a crash, finds the old file or the new one. A process that is killed while
    it writes leaves its temporary file (`.name.xxxxxxxx.tmp`); the next write to `path` removes it.

    Raises:
        OSError: the file cannot be written, and it names `path`; what was there is still there.
    """
    target = Path(path)
    name = None
    try:
        _remove_abandoned(target)
        handle, name = _create(target)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(handle)
            # mkstemp makes files that only the owner can read; give what open() would have given.
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~mask)
            os.replace(name, target)  # still open, and so still locked
    except BaseException as error:
        if name is not None:
            with contextlib.suppress(OSError):
                os.unlink(name)
        if isinstance(error, OSError) and error.errno is not None and error.filename2 is None:
            error.filename = os.fspath(path)  # a failed write names nothing, a failed mkstemp its own file
        raise
    _sync_folder(target.parent)
