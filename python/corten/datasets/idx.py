"""The IDX format of MNIST: a magic number with type and number of axes, the sizes, and the elements, big-endian.

The header is read and checked in Rust (`rust/formats/`).
"""

from __future__ import annotations

import gzip
import os
import zlib
from typing import IO, Any

import numpy as np

from .. import _core, checks

__all__ = ["read_idx"]

_MAGIC = 4
_CHUNK = 1 << 20
# A gzipped file may claim so many times its own size (images compress 2 to 20 times), or so much as is no harm.
_MAX_RATIO = 200
_HARMLESS = 1 << 26


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Read an IDX file, gzipped or not.

    Takes no more memory than the file holds. A gzipped file may claim to hold at most 64 MiB or 200 times its own
    size, whichever is more.

    Raises:
        ValueError: the file is damaged, cut short, longer than it says, or not of this format.
        OSError: it cannot be read.
    """
    try:
        with open(checks.path("[read_idx] path", path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _parse(file, size, packed)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _parse(unpacked, size, packed)
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"[read_idx] {os.fspath(path)} is damaged or not an IDX file: {error}") from None


def _parse(file: IO[bytes] | gzip.GzipFile, size: int, packed: bool) -> np.ndarray[Any, Any]:
    """Read from an open file of `size` bytes on the disk."""
    magic = bytes(_exactly(file, _MAGIC))
    header = magic + _exactly(file, _core.idx_header_length(magic) - _MAGIC)
    name, shape, count = _core.idx_header(header)
    if packed and count > max(_HARMLESS, _MAX_RATIO * size):
        raise ValueError(
            f"its shape {shape} would take {count} bytes, more than {_MAX_RATIO} times its own {size} "
            "(if that is true, unpack it first)"
        )
    if not packed and count > size - len(header):
        raise ValueError(f"it ends after {size - len(header)} of the {count} bytes of its shape {shape}")
    data = _exactly(file, count)
    if file.read(1):
        raise ValueError(f"it goes on after the {count} bytes of its shape {shape}")
    dtype = np.dtype(name)
    return np.frombuffer(data, dtype.newbyteorder(">")).reshape(shape).astype(dtype, copy=False)


def _exactly(file: IO[bytes] | gzip.GzipFile, count: int) -> bytearray:
    """`count` bytes, read in pieces: a header that lies about the size costs no memory."""
    data = bytearray()
    while len(data) < count:
        piece = file.read(min(_CHUNK, count - len(data)))
        if not piece:
            raise EOFError(f"it ends after {len(data)} of {count} bytes")
        data += piece
    return data
