"""The safetensors format: eight bytes with the length of a JSON header, the header, and the tensors' bytes.

The format is described at <https://github.com/huggingface/safetensors>. A file is data and nothing else: reading one
runs no code, and a file that lies about itself is rejected before anything is allocated for it.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from ..functions import Tensor, asarray
from .atomic import atomic_write

__all__ = ["load", "load_metadata", "save"]

# The format's own limit on the header.
_MAX_HEADER = 100_000_000
_MAX_AXES = 64

_TO_NAME = {
    "float64": "F64",
    "float32": "F32",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_FROM_NAME = {name: np.dtype(dtype).newbyteorder("<") for dtype, name in _TO_NAME.items()}
# Parts of the format that corten has no dtype for.
_FOREIGN = ("F16", "BF16", "F8_E4M3", "F8_E5M2", "U16", "U32", "U64", "C64")


def save(tensors: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically.

    The bytes depend on nothing but names, values and metadata. Readers: this module, the `safetensors` package, and
    with it PyTorch, JAX and others.

    Args:
        tensors: tensors or arrays by name, such as `model.state_dict()`.
        path: where to; an existing file is replaced in one step, or not at all.
        metadata: texts by name, stored beside the tensors.

    Raises:
        TypeError: a name, a value or the metadata is of the wrong type.
        ValueError: a tensor is named `__metadata__`, or the header would be larger than the format allows.
        OSError: the file cannot be written; what was there is still there.

    >>> import corten as ct, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> model = ct.nn.Linear(3, 2)
    >>> ct.io.save(model.state_dict(), path)
    >>> model.load_state_dict(ct.io.load(path))
    LoadResult(missing_keys=[], unexpected_keys=[])
    """
    if not isinstance(tensors, Mapping):
        raise TypeError(f"[io.save] takes tensors by name, as from model.state_dict(), got {type(tensors).__name__}")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"[io.save] names are strings, got {name!r}")
        if name == "__metadata__":
            raise ValueError("[io.save] the format reserves the name '__metadata__': pass metadata= instead")
        array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.name not in _TO_NAME:
            raise TypeError(f"[io.save] {name!r} has dtype {array.dtype}, which cannot be stored")
        arrays[name] = np.asarray(array, dtype=_FROM_NAME[_TO_NAME[array.dtype.name]], order="C")
    header: dict[str, Any] = {}
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"[io.save] metadata maps texts to texts, got {type(metadata).__name__}")
    if metadata:
        for key, text in dict[Any, Any](metadata).items():
            if not isinstance(key, str) or not isinstance(text, str):
                raise TypeError(f"[io.save] metadata maps texts to texts, got {key!r}: {text!r}")
        header["__metadata__"] = dict(sorted(metadata.items()))
    # Larger elements first, so that every tensor lies aligned; then by name, so that the bytes are always the same.
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _TO_NAME[arrays[name].dtype.name],
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > _MAX_HEADER:
        raise ValueError(f"[io.save] the header would have {len(encoded)} bytes, the format allows {_MAX_HEADER}")
    with atomic_write(path) as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in order:
            file.write(arrays[name].data if arrays[name].size else b"")


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, in the order in which they lie in it.

    Raises:
        ValueError: the file is damaged or not of this format: its header is not valid JSON, holds a name twice or is
            too large; a tensor's shape does not fit its bytes; the tensors overlap, leave holes or do not end with the
            file.
        TypeError: a tensor is of a dtype that corten does not have.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        entries, _, start = _read_header(file, path)
        tensors = {}
        for name, (dtype, shape, begin, end) in entries.items():
            # The size was compared with the file's, so this allocates no more than the file holds.
            file.seek(start + begin)
            data = file.read(end - begin)
            if len(data) != end - begin:
                raise _damaged(path, f"{name!r} ends early: the file was cut while it was read")
            array = np.frombuffer(data, dtype).reshape(shape)
            if dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
                raise _damaged(path, f"{name!r} is of booleans but holds other bytes than 0 and 1")
            tensors[name] = asarray(array.astype(dtype.newbyteorder("="), copy=False))
    return tensors


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it has none. Reads only the header.

    Raises:
        ValueError, TypeError, OSError: as `load`.
    """
    with open(path, "rb") as file:
        return _read_header(file, path)[1]


_Entry = tuple["np.dtype[Any]", tuple[int, ...], int, int]


def _damaged(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(f"[io.load] {os.fspath(path)} is not a valid safetensors file: {what}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For the JSON reader, which otherwise lets the last of two equal names win."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name!r} is there twice")
            seen.add(name)
    return result


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0  # JSON's true is an int to isinstance


def _read_header(file: IO[bytes], path: str | os.PathLike[str]) -> tuple[dict[str, _Entry], dict[str, str], int]:
    """The checked entries by name in the order of their bytes, the metadata, and where the bytes start."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if len(prefix) < 8:
        raise _damaged(path, f"it has {size} bytes, the header's length alone takes 8")
    length = int.from_bytes(prefix, "little")
    if length > min(_MAX_HEADER, size - 8):
        raise _damaged(
            path, f"the header claims {length} bytes, the file has {size} (at most {_MAX_HEADER} are allowed)"
        )
    text = file.read(length)
    if not text.startswith(b"{"):
        raise _damaged(path, "the header does not start with '{'")
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"the header is not valid JSON ({error})") from None
    metadata = header.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "__metadata__ must map texts to texts")
    entries = {name: _entry(path, name, raw) for name, raw in header.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1][2], item[1][3])))
    position = 0
    for name, (_, _, begin, end) in ordered.items():
        if begin != position:
            raise _damaged(path, f"{name!r} starts at {begin}, but the tensor before it ends at {position}")
        position = end
    if position != size - 8 - length:
        raise _damaged(path, f"the tensors take {position} bytes, the file holds {size - 8 - length}")
    return ordered, metadata, 8 + length


def _entry(path: str | os.PathLike[str], name: str, raw: Any) -> _Entry:
    """One tensor's line of the header, checked by itself."""
    if not isinstance(raw, dict) or set(raw) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"{name!r} must have exactly dtype, shape and data_offsets")
    kind, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if kind in _FOREIGN:
        raise TypeError(
            f"[io.load] {name!r} in {os.fspath(path)} is {kind}, which corten does not have (yet): convert the file"
        )
    if not isinstance(kind, str) or kind not in _FROM_NAME:
        raise _damaged(path, f"{name!r} has an unknown dtype {kind!r}")
    if not isinstance(shape, list) or len(shape) > _MAX_AXES or not all(_is_size(s) for s in shape):
        raise _damaged(path, f"{name!r} has no valid shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(o) for o in offsets):
        raise _damaged(path, f"{name!r} has no valid data_offsets")
    begin, end = offsets
    dtype = _FROM_NAME[kind]
    # NumPy takes no such shape, although the zero makes it empty.
    if 0 in shape and math.prod(n or 1 for n in shape) * dtype.itemsize > sys.maxsize:
        raise _damaged(path, f"{name!r} has the shape {shape}, which is too large")
    size = math.prod(shape) * dtype.itemsize
    if end - begin != size:
        raise _damaged(path, f"{name!r} of shape {shape} and dtype {kind} takes {size} bytes, not {end - begin}")
    return dtype, tuple(shape), begin, end
