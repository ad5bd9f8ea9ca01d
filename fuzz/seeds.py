"""Write the first inputs of the fuzzers into corpus/: small files of each format, right and wrong in one way each."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
LARGEST = 2**64 - 2


def entry(begin: int, end: int, dtype: str = "U8", shape: Any = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def safetensors() -> dict[str, bytes]:
    def file(header: Any, data: int = 0) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
        return len(text).to_bytes(8, "little") + text + bytes(data)

    dtypes = {"BOOL": 8, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "F64": 64, "C64": 64, "F8_E5M2": 8, "F4": 4}
    return {
        "nothing": b"",
        "short": b"1234567",
        "huge_length": b"\xff" * 8,
        "empty": file({}),
        "padded": file(b"{}      "),
        "metadata": file({"__metadata__": {"format": "pt", "é": "\n"}, "w": entry(0, 4)}, 4),
        "metadata_null": file({"__metadata__": None}),
        "metadata_wrong": file({"__metadata__": {"a": 1}}),
        "two": file({"a": entry(0, 8, "F32", [2, 1]), "b": entry(8, 9)}, 9),
        "scalar": file({"a": entry(0, 8, "I64", [])}, 8),
        "no_elements": file({"a": entry(0, 0, "F32", [3, 0]), "b": entry(0, 0)}),
        "overlap": file({"a": entry(0, 4), "b": entry(2, 6)}, 6),
        "hole": file({"a": entry(0, 2), "b": entry(4, 6)}, 6),
        "beyond": file({"a": entry(0, 9)}, 8),
        "backwards": file({"a": entry(4, 0, "U8", [4])}, 4),
        "largest": file({"a": entry(0, LARGEST, "U8", [LARGEST])}),
        "largest_empty": file({"a": entry(0, 0, "U8", [0, LARGEST, 2])}),
        "twice": file(b'{"a":%s,"\\u0061":%s}' % ((json.dumps(entry(0, 0)).encode(),) * 2)),
        "field_twice": file(b'{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
        "more_fields": file({"a": {**entry(0, 0), "more": {}}}),
        "no_dtype": file({"a": {"shape": [0], "data_offsets": [0, 0]}}),
        "axes": file({"a": entry(0, 1, "U8", [1] * 65)}, 1),
        "deep": file(b'{"a":' * 40),
        "lists": file(b'{"a":' + b"[" * 200),
        "float_size": file({"a": entry(0, 1, "U8", [1.0])}, 1),
        "unknown": file({"a": entry(0, 1, "F31", [1])}, 1),
        "not_utf8": file(b'{"\xff":1}'),
        **{name: file({"a": entry(0, bits, name, [8])}, bits) for name, bits in dtypes.items()},
    }


def idx() -> dict[str, bytes]:
    def file(code: int, *sizes: int, data: bytes = b"") -> bytes:
        return struct.pack(">HBB", 0, code, len(sizes)) + struct.pack(f">{len(sizes)}I", *sizes) + data

    return {
        "nothing": b"",
        "gzip": b"\x1f\x8b\x08\0",
        "no_axes": file(8),
        "nine_axes": file(8, *[1] * 9),
        "mnist": file(8, 60000, 28, 28),
        "largest": file(14, *[2**32 - 1] * 8),
        "zero": file(8, 0, 2**32 - 1, 2**32 - 1),
        "cut": file(8, 3, 4)[:-1],
        **{f"type_{code}": file(code, 2, 1, data=bytes(16)) for code in range(7, 16)},
    }


for folder, files in (("safetensors", safetensors()), ("idx", idx())):
    (CORPUS / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (CORPUS / folder / name).write_bytes(content)
