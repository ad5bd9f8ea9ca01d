"""A producer and a consumer of DLPack in plain ctypes: both protocols are tested without another library."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Legacy(ctypes.Structure):
    name, used = b"dltensor", b"used_dltensor"
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class Versioned(ctypes.Structure):
    name, used = b"dltensor_versioned", b"used_dltensor_versioned"
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, Destructor]
# By address: a destructor gets a capsule whose last reference is gone.
_valid = ctypes.pythonapi.PyCapsule_IsValid
_valid.restype, _valid.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]

CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


def is_named(capsule: Any, name: bytes) -> bool:
    return bool(_valid(id(capsule), name))


class Producer:
    """Lends a NumPy array; keyword arguments replace what the struct says. Counts how often it was given back."""

    def __init__(self, array: np.ndarray, *, legacy: bool = False, strides: Any = True, **fields: Any) -> None:
        self.array = array
        self.kind = Legacy if legacy else Versioned
        self.given_back = 0
        self.requests: list[dict[str, Any]] = []
        self._strides, self._fields = strides, fields
        self._lent: list[Any] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._fields.get("device_type", 1), 0

    def __dlpack__(self, **options: Any) -> Any:
        self.requests.append(options)
        if self.kind is Legacy and options:
            raise TypeError("__dlpack__() takes no arguments")
        a = self.array
        managed = self.kind()
        if self.kind is Versioned:
            managed.major, managed.minor = self._fields.get("version", (1, 0))
            managed.flags = self._fields.get("flags", 0)
        t = managed.tensor
        t.data, t.device_type, t.lanes = a.ctypes.data, 1, 1
        t.code, t.bits = CODES[a.dtype.kind], 8 * a.itemsize
        shape = tuple(self._fields.get("shape", a.shape))
        t.ndim = len(shape)
        t.shape = (ctypes.c_int64 * len(shape))(*shape)
        if self._strides is True:
            t.strides = (ctypes.c_int64 * a.ndim)(*(s // a.itemsize for s in a.strides))
        elif self._strides is not None:
            t.strides = (ctypes.c_int64 * len(self._strides))(*self._strides)
        for name, value in self._fields.items():
            if name not in ("shape", "version", "flags"):
                setattr(t, name, value)

        def give_back(address: int) -> None:
            assert address == ctypes.addressof(managed)
            self.given_back += 1

        def destroy(capsule: int) -> None:
            if _valid(capsule, self.kind.name):
                managed.deleter(_pointer(capsule, self.kind.name))

        managed.deleter = Deleter(give_back)
        destructor = Destructor(destroy)
        self._lent.append((managed, destructor))
        return _new(ctypes.addressof(managed), self.kind.name, destructor)


class Consumer:
    """Takes the array out of a capsule, as a C library would; `give_back()` returns it."""

    def __init__(self, capsule: Any) -> None:
        self.kind = next(k for k in (Legacy, Versioned) if is_named(capsule, k.name))
        self._address = _pointer(id(capsule), self.kind.name)
        self.managed = self.kind.from_address(self._address)
        assert _rename(id(capsule), self.kind.used) == 0

    @property
    def shape(self) -> tuple[int, ...]:
        t = self.managed.tensor
        return tuple(t.shape[: t.ndim])

    @property
    def strides(self) -> tuple[int, ...]:
        t = self.managed.tensor
        return tuple(t.strides[: t.ndim])

    @property
    def address(self) -> int:
        return self.managed.tensor.data + self.managed.tensor.byte_offset

    def array(self) -> np.ndarray:
        """A view of the memory, which lives until `give_back`."""
        t = self.managed.tensor
        kind = next(k for k, code in CODES.items() if code == t.code)
        assert t.lanes == 1
        dtype = np.dtype(f"{kind}{t.bits // 8}")
        lows = sum(min(0, (n - 1) * s) for n, s in zip(self.shape, self.strides, strict=True))
        highs = sum(max(0, (n - 1) * s) for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, dtype)
        size = (highs - lows + 1) * dtype.itemsize
        memory = (ctypes.c_char * size).from_address(self.address + lows * dtype.itemsize)
        steps = tuple(s * dtype.itemsize for s in self.strides)
        return np.ndarray(self.shape, dtype, memory, -lows * dtype.itemsize, steps)

    def give_back(self) -> None:
        self.managed.deleter(self._address)
