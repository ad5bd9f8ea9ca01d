"""The IDX format of MNIST: a magic number with type and number of axes, the sizes, and the elements, big-endian."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import IO, Any

import numpy as np

__all__ = ["parse_idx", "read_idx"]

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20
_MAX_BYTES = 1 << 32


def read_idx(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """Read an IDX file, gzipped or not.

    Raises:
        ValueError: the file is damaged, cut short, longer than it says, or not of this format.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return parse_idx(file, os.fspath(path))
        with gzip.GzipFile(fileobj=file) as unpacked:
            return parse_idx(unpacked, os.fspath(path))


def parse_idx(file: IO[bytes] | gzip.GzipFile, name: str) -> np.ndarray[Any, Any]:
    """Read IDX from an open file; `name` is for error messages. Raises as `read_idx`."""
    try:
        magic = _exactly(file, 4)
        if magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 8:
            raise ValueError(f"it starts with {magic.hex(' ')}, which no IDX file does")
        dtype = np.dtype(_TYPES[magic[2]])
        sizes = _exactly(file, 4 * magic[3])
        shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
        count = math.prod(shape) * dtype.itemsize
        if count > _MAX_BYTES:
            raise ValueError(f"its shape {shape} would take {count} bytes")
        data = _exactly(file, count)
        if file.read(1):
            raise ValueError(f"it goes on after the {count} bytes of its shape {shape}")
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"[read_idx] {name} is damaged or not an IDX file: {error}") from None
    array = np.frombuffer(data, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def _exactly(file: IO[bytes] | gzip.GzipFile, count: int) -> bytearray:
    """`count` bytes, read in pieces: a header that lies about the size costs no memory."""
    data = bytearray()
    while len(data) < count:
        piece = file.read(min(_CHUNK, count - len(data)))
        if not piece:
            raise EOFError(f"it ends after {len(data)} of {count} bytes")
        data += piece
    return data
