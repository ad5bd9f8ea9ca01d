"""The buffer protocol and `__array_interface__`: views that others get of a tensor's memory."""

from __future__ import annotations

import ctypes
import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import corten as ct

A = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)

VIEWS = {
    "dense": lambda t: t,
    "transposed": lambda t: t[0].T,
    "stepped": lambda t: t[:, ::2, 1:],
    "backwards": lambda t: t[::-1, :, ::-3],
    "one element": lambda t: t[1:, 1:2, 3:],
    "no axes": lambda t: t[1, 2, 3, ...],
    "no elements": lambda t: t[:, :0],
}


@pytest.mark.parametrize("view", VIEWS)
def test_memoryview_shows_the_tensors_own_memory(view: str) -> None:
    t, want = VIEWS[view](ct.tensor(A)), VIEWS[view](A)
    m = memoryview(t)
    assert m.readonly
    assert (m.format, m.itemsize, m.ndim, m.shape) == ("f", 4, want.ndim, want.shape)
    assert m.nbytes == want.nbytes
    assert m.tobytes() == want.tobytes()
    if want.size > 1:
        assert m.strides == want.strides == tuple(4 * s for s in t.strides)


@pytest.mark.parametrize("view", VIEWS)
def test_numpy_shares_memory_of_every_view(view: str) -> None:
    whole = ct.tensor(A)
    t, want = VIEWS[view](whole), VIEWS[view](A)
    for a in (t.numpy(), np.asarray(t), np.asarray(memoryview(t)), t.__array__(copy=False)):
        np.testing.assert_array_equal(a, want, strict=True)
        assert not a.flags.writeable
        assert np.shares_memory(a, whole.numpy()) is (want.size > 0)
    assert np.array(t).flags.writeable


@pytest.mark.parametrize(("code", "name"), [("f", "float32"), ("d", "float64"), ("q", "int64"), ("i", "int32")])
def test_formats(code: str, name: str) -> None:
    assert memoryview(ct.ones(2, dtype=name)).format == code


class PyBuffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


SIMPLE, WRITABLE, ND, STRIDES = 0, 1, 8, 0x18
C, F, ANY = 0x38, 0x58, 0x98


def request(t: ct.Tensor, flags: int) -> tuple[bytes, tuple[int, ...] | None, int]:
    """The bytes, the strides and the address that a consumer with these flags is given."""
    view = PyBuffer()
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int]
    get(t, view, flags)
    found = ctypes.string_at(view.buf, view.len), tuple(view.strides[: view.ndim]) if view.strides else None, view.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(view))
    return found


@pytest.mark.parametrize("flags", [SIMPLE, ND, C])
def test_consumers_without_strides_get_c_order(flags: int) -> None:
    t = ct.tensor(A[0])
    data, _, address = request(t.T, flags)
    assert data == A[0].T.tobytes()
    assert address != t.numpy().ctypes.data
    assert request(t, flags)[2] == t.numpy().ctypes.data


def test_consumers_of_fortran_order() -> None:
    t = ct.tensor(A[0])
    data, strides, address = request(t.T, F)  # it is so already
    assert (data, strides, address) == (A[0].tobytes(), (4, 16), t.numpy().ctypes.data)
    data, strides, address = request(t, F)
    assert (data, strides) == (A[0].tobytes(order="F"), (4, 12))
    assert address != t.numpy().ctypes.data


def test_consumers_of_either_order() -> None:
    t = ct.tensor(A[0])
    here = t.numpy().ctypes.data
    assert request(t, ANY)[1:] == ((16, 4), here)
    assert request(t.T, ANY)[1:] == ((4, 16), here)
    data, strides, _ = request(t[:, ::2], ANY)
    assert (data, strides) == (A[0][:, ::2].tobytes(), (8, 4))


@pytest.mark.parametrize("flags", [WRITABLE, STRIDES | WRITABLE])
def test_writers_are_refused(flags: int) -> None:
    with pytest.raises(BufferError, match="read-only"):
        request(ct.ones(2), flags)


def test_an_exported_view_keeps_values_and_memory() -> None:
    t = ct.tensor(A[0])
    m, a = memoryview(t.T), t[:, ::2].numpy()
    t[0, 0] = 100.0
    del t
    gc.collect()
    churn = [ct.zeros((3, 4)) for _ in range(20)]
    assert m.tobytes() == A[0].T.tobytes()
    np.testing.assert_array_equal(a, A[0, :, ::2])
    assert len(churn) == 20


# -- __array_interface__


@pytest.mark.parametrize("view", VIEWS)
def test_array_interface(view: str) -> None:
    whole = ct.tensor(A)
    t, want = VIEWS[view](whole), VIEWS[view](A)
    a = np.asarray(SimpleNamespace(__array_interface__=t.__array_interface__))
    np.testing.assert_array_equal(a, want, strict=True)
    assert not a.flags.writeable
    assert np.shares_memory(a, whole.numpy()) is (want.size > 0)


@pytest.mark.parametrize("name", [n for n in ct.__array_namespace_info__().dtypes() if n != "bfloat16"])
def test_array_interface_of_every_dtype(name: str) -> None:
    t = ct.ones((2, 2), dtype=name)
    assert t.__array_interface__["typestr"] == np.dtype(name).str
    assert t.__array_interface__["version"] == 3
    assert np.asarray(SimpleNamespace(__array_interface__=t.__array_interface__)).dtype == name


def test_array_interface_keeps_values_and_memory() -> None:
    """Its consumers hold the object and not the memory, so the memory itself is an object."""
    owner = np.zeros(1000)
    gone = weakref.ref(owner)
    t = ct.from_numpy(owner)
    a = np.asarray(SimpleNamespace(__array_interface__=t.__array_interface__))
    del owner
    t[1] = 5.0
    del t
    assert gone() is not None
    assert not a.any()
    del a
    assert gone() is None


def test_array_interface_asks_to_detach() -> None:
    with pytest.raises(RuntimeError, match="detach"):
        _ = ct.ones(2, requires_grad=True).__array_interface__
    with pytest.raises(TypeError):  # not an address that one might take for a number
        _ = ct.ones(2).__array_interface__["data"][0]
