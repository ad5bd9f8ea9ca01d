"""The safetensors format: eight bytes with the length of a JSON header, the header, and the tensors' bytes.

The format is described at <https://github.com/huggingface/safetensors>. A file is data and nothing else: reading one
runs no code, and a file that lies about itself is rejected before anything is allocated for it. The header is read and
checked in Rust (`rust/formats/`); what corten adds to the format is in `checksum.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from .. import _core, checks
from ..functions import Tensor, asarray
from . import checksum
from .atomic import atomic_write

__all__ = ["load", "load_metadata", "save"]

# The format's own limit on the header.
_MAX_HEADER = 100_000_000
# What is written at once: large enough to be quick, small enough to stay in the processor's cache for its checksum.
_PIECE = 1 << 20

_TO_TAG = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
# NumPy has no bfloat16: its bits travel as int16.
_FROM_TAG = {
    tag: np.dtype("int16" if dtype == "bfloat16" else dtype).newbyteorder("<") for dtype, tag in _TO_TAG.items()
}


def save(tensors: Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically and with checksums.

    The bytes depend on nothing but names, values and metadata. Readers: this module, the `safetensors` package, and
    with it PyTorch, JAX and others. A CRC-32 of each tensor is stored as `corten.crc32` in the metadata, where other
    readers do not mind it.

    A process that is killed while it saves leaves the old file and a hidden temporary one beside it, which the next
    `save` to the same path removes.

    Args:
        tensors: tensors or arrays by name, such as `model.state_dict()`.
        path: where to; an existing file is replaced in one step, or not at all.
        metadata: texts by name, stored beside the tensors.

    Raises:
        TypeError: a name, a value or the metadata is of the wrong type.
        ValueError: a tensor is named `__metadata__`, a text has no UTF-8 form, or the header would be larger than the
            format allows.
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
    checks.path("[io.save] path", path)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tags: dict[str, str] = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"[io.save] names are strings, got {name!r}")
        if name == "__metadata__":
            raise ValueError("[io.save] the format reserves the name '__metadata__': pass metadata= instead")
        array, dtype = _bits(value)
        if dtype not in _TO_TAG:
            raise TypeError(f"[io.save] {name!r} has dtype {dtype}, which cannot be stored")
        tags[name] = _TO_TAG[dtype]
        arrays[name] = np.asarray(array, dtype=_FROM_TAG[tags[name]], order="C")
    texts = _texts(metadata)
    for text in (*arrays, *texts, *texts.values()):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"[io.save] {text!r} has no UTF-8 form, so it cannot be stored") from None
    crcs = {name: checksum.of_tensor(name, tags[name], array.shape) for name, array in arrays.items()}
    texts_crc = checksum.of_metadata(texts)
    # Larger elements first, so that every tensor lies aligned; then by name, so that the bytes are always the same.
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    with atomic_write(path) as file:
        # The checksums are known once the data is written. Their text has a fixed length, so the header keeps its own.
        file.write(_header(arrays, tags, order, texts, checksum.join(texts_crc, crcs)))
        for name in order:
            flat = arrays[name].reshape(-1).view(np.uint8)
            for start in range(0, flat.size, _PIECE):
                # A copy: if another thread changes the array meanwhile, the checksum is still of what is written.
                piece = flat[start : start + _PIECE].tobytes()
                crcs[name] = _core.crc32(piece, crcs[name])
                file.write(piece)
        file.seek(0)
        file.write(_header(arrays, tags, order, texts, checksum.join(texts_crc, crcs)))


def _bits(value: Any) -> tuple[np.ndarray[Any, Any], str]:
    """A tensor or array as an array, and the name of its dtype; bfloat16 as int16."""
    if isinstance(value, Tensor):
        value = value.detach()
        dtype = value.dtype.name
        return (value.view("int16") if dtype == "bfloat16" else value).numpy(), dtype
    array = np.asarray(value)
    dtype = array.dtype.name
    return (array.view(np.int16) if dtype == "bfloat16" else array), dtype  # that of the package ml_dtypes


def _texts(metadata: object) -> dict[str, str]:
    """The metadata, checked and without the checksums of the file that it may have come from."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f"[io.save] metadata maps texts to texts, got {type(metadata).__name__}")
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"[io.save] metadata maps texts to texts, got {key!r}: {text!r}")
    return {key: text for key, text in metadata.items() if key != checksum.KEY}


def _header(
    arrays: Mapping[str, np.ndarray[Any, Any]],
    tags: Mapping[str, str],
    order: list[str],
    texts: dict[str, str],
    crcs: str,
) -> bytes:
    """The file's beginning, up to the tensors' bytes, which lie in this order."""
    header: dict[str, Any] = {"__metadata__": dict(sorted({**texts, checksum.KEY: crcs}.items()))}
    end = 0
    for name in order:
        begin, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": tags[name],
            "shape": list(arrays[name].shape),
            "data_offsets": [begin, end],
        }
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > _MAX_HEADER:
        raise ValueError(f"[io.save] the header would have {len(encoded)} bytes, the format allows {_MAX_HEADER}")
    return len(encoded).to_bytes(8, "little") + encoded


def load(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, in the order in which they lie in it.

    Args:
        path: the file.
        verify: compare each tensor with its checksum, if the file has checksums (`save` writes them). Turn it off for
            a file that another program changed without removing `corten.crc32` from its metadata.

    Raises:
        ValueError: the file is damaged or not of this format: its header is not valid JSON, holds a name twice or is
            too large; a tensor's shape does not fit its bytes; the tensors overlap, leave holes or do not end with the
            file; a tensor does not match its checksum.
        TypeError: a tensor is of a dtype that corten does not have.
        MemoryError: a tensor does not fit into memory.
        OSError: the file cannot be read.
    """
    tensors = {}
    with open(checks.path("[io.load] path", path), "rb") as file:
        entries, metadata, start = _read_header(file, path)
        names = [name for name, *_ in entries]
        crcs = _checksums(path, metadata, names)[1] if verify else {}
        for name, tag, shape, begin, end in entries:
            if tag not in _FROM_TAG:
                raise TypeError(
                    f"[io.load] {name!r} in {os.fspath(path)} is {tag}, which corten does not have: convert the file"
                )
            file.seek(start + begin)
            try:
                # The size was compared with the file's, so this allocates no more than the file holds.
                data = file.read(end - begin)
            except MemoryError:
                raise MemoryError(
                    f"[io.load] {name!r} of shape {shape} in {os.fspath(path)} takes {end - begin} bytes"
                ) from None
            if len(data) != end - begin:
                raise _damaged(path, f"{name!r} ends early: the file was cut while it was read")
            if name in crcs and _core.crc32(data, checksum.of_tensor(name, tag, shape)) != crcs[name]:
                raise _changed(path, f"{name!r} does not match its checksum")
            dtype = _FROM_TAG[tag]
            array = np.frombuffer(data, dtype).reshape(shape)
            if dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
                raise _damaged(path, f"{name!r} is of booleans but holds other bytes than 0 and 1")
            tensor = asarray(array.astype(dtype.newbyteorder("="), copy=False))
            # A copy, since a view takes no writes.
            tensors[name] = tensor.view("bfloat16").clone() if tag == "BF16" else tensor
    return tensors


def load_metadata(path: str | os.PathLike[str], *, verify: bool = True) -> dict[str, str]:
    """The metadata of a safetensors file without its checksums; empty if it has none. Reads only the header.

    Args:
        path: the file.
        verify: compare the metadata with its checksum, if the file has checksums.

    Raises:
        ValueError: the file is damaged or not of this format, or the metadata does not match its checksum.
        OSError: the file cannot be read.
    """
    with open(checks.path("[io.load_metadata] path", path), "rb") as file:
        entries, metadata, _ = _read_header(file, path)
    if verify and checksum.KEY in metadata:
        expected = _checksums(path, metadata, [name for name, *_ in entries])[0]
        if checksum.of_metadata(metadata) != expected:
            raise _changed(path, "its metadata does not match its checksum")
    metadata.pop(checksum.KEY, None)
    return metadata


def _damaged(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(f"[io.load] {os.fspath(path)} is not a valid safetensors file: {what}")


def _changed(path: str | os.PathLike[str], what: str) -> ValueError:
    return ValueError(
        f"[io.load] {os.fspath(path)} was damaged or changed since it was saved: {what} (read it anyway: verify=False)"
    )


def _read_header(
    file: IO[bytes], path: str | os.PathLike[str]
) -> tuple[list[tuple[str, str, tuple[int, ...], int, int]], dict[str, str], int]:
    """The checked entries (name, tag, shape, begin, end), the metadata, and where the bytes start."""
    size = os.fstat(file.fileno()).st_size
    try:
        length = _core.safetensors_header_length(file.read(8), size)
        return _core.safetensors_header(file.read(length), size)
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def _checksums(
    path: str | os.PathLike[str], metadata: Mapping[str, str], names: list[str]
) -> tuple[int, dict[str, int]]:
    """The checksums of the metadata and of each tensor; of none if the file has none."""
    if checksum.KEY not in metadata:
        return 0, {}
    try:
        return checksum.split(metadata[checksum.KEY], names)
    except ValueError as error:
        raise _changed(path, str(error)) from None
