"""Checksums in the metadata of safetensors files, so that damage to the data is found, and in which tensor.

The format itself has none: a flipped bit in a tensor would give another number. `save` therefore puts one text into the
metadata, which other readers ignore:

    "corten.crc32": "mmmmmmmm aaaaaaaa bbbbbbbb ..."

Each word is a CRC-32 in hexadecimal: first that of the other metadata, then one for each tensor in the order of their
names. A tensor's covers its dtype, shape and name (`F32 2,3 weight`, in UTF-8) and then its bytes, so that damage to
the header is found too. The order of the tensors in the file does not matter: a program that copies tensors and
metadata into a new file keeps the checksums valid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .. import _core

__all__ = ["KEY", "join", "of_metadata", "of_tensor", "split"]

#: The name of the text in the metadata.
KEY = "corten.crc32"


def of_metadata(metadata: Mapping[str, str]) -> int:
    """The checksum of all metadata but the checksums themselves."""
    crc = 0
    for key, text in sorted(metadata.items()):
        if key != KEY:
            crc = _core.crc32(f"{len(key)} {len(text)} {key}{text}".encode(), crc)
    return crc


def of_tensor(name: str, dtype: str, shape: Iterable[int]) -> int:
    """Of a tensor before its bytes; continue with `_core.crc32(data, crc)`. `dtype` is the format's name."""
    return _core.crc32(f"{dtype} {','.join(map(str, shape))} {name}".encode())


def join(metadata: int, tensors: Mapping[str, int]) -> str:
    """The text for the metadata. Its length depends on the number of tensors alone."""
    return " ".join(f"{crc:08x}" for crc in (metadata, *(tensors[name] for name in sorted(tensors))))


def split(text: str, names: Iterable[str]) -> tuple[int, dict[str, int]]:
    """The checksums of the metadata and of the tensors of these names.

    Raises:
        ValueError: the text is none that `join` makes for these names.
    """
    names = sorted(names)
    try:
        metadata, *tensors = (int(word, 16) for word in text.split(" "))
    except ValueError:
        raise ValueError(f"the checksums ({KEY} in its metadata) cannot be read") from None
    if len(tensors) != len(names):
        raise ValueError(f"it has checksums for {len(tensors)} tensors, but holds {len(names)}")
    return metadata, dict(zip(names, tensors, strict=True))
