"""`__array_namespace__`: code written for any array of the Python array API standard runs on tensors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import corten as ct

NAMES = [*ct.__array_namespace_info__().dtypes()]
EXTRAS = {"bfloat16"}  # NumPy has none


def test_the_namespace_of_a_tensor_is_corten() -> None:
    for version in (None, "2021.12", "2022.12", "2023.12"):
        assert ct.ones(2).__array_namespace__(api_version=version) is ct
    for version in ("2030.12", "1999.1"):
        with pytest.raises(ValueError, match="2023"):
            ct.ones(2).__array_namespace__(api_version=version)
    assert ct.bool is ct.bool_
    assert "bool" not in ct.__all__


def softmax(x, axis: int = -1):
    """As a library writes it that takes any array."""
    xp = x.__array_namespace__()
    shifted = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return shifted / xp.sum(shifted, axis=axis, keepdims=True)


def distances(a, b):
    """Pairwise Euclidean distances, (m, d) and (n, d) -> (m, n)."""
    xp = a.__array_namespace__()
    difference = a[:, xp.newaxis, :] - xp.expand_dims(b, axis=0)
    return xp.sqrt(xp.sum(difference * difference, axis=-1))


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="arrays of NumPy 1 have no namespace")
def test_programs_for_any_array() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    ta, tb = ct.tensor(a, requires_grad=True), ct.tensor(b)
    # A handful of float64 roundings each.
    np.testing.assert_allclose(softmax(ta).detach().numpy(), softmax(a), rtol=1e-14)
    np.testing.assert_allclose(distances(ta, tb).detach().numpy(), distances(a, b), rtol=1e-14)
    softmax(ta)[:, 0].sum().backward()
    assert ta.grad is not None


def test_einops_through_the_standard() -> None:
    array_api = pytest.importorskip("einops.array_api")
    x = ct.tensor(np.arange(24.0).reshape(2, 3, 4))
    assert array_api.rearrange(x, "a b c -> c (a b)").shape == (4, 6)
    assert array_api.reduce(x, "a b c -> b", "sum").tolist() == x.sum((0, 2)).tolist()
    assert array_api.repeat(x, "a b c -> a 2 b c").shape == (2, 2, 3, 4)


@pytest.mark.parametrize("name", NAMES)
def test_kinds(name: str) -> None:
    kinds = ["bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric"]
    d = getattr(ct, "bool_" if name == "bool" else name)
    assert ct.isdtype(d, name if name == "bool" else d)
    if name not in EXTRAS and hasattr(np, "isdtype"):
        assert [ct.isdtype(d, k) for k in kinds] == [np.isdtype(np.dtype(name), k) for k in kinds]
    with pytest.raises(ValueError, match="no kind 'float'"):
        ct.isdtype(d, "float")


@pytest.mark.parametrize(("a", "b"), list(itertools.product(NAMES, NAMES)))
def test_result_type_is_that_of_operations(a: str, b: str) -> None:
    x, y = ct.ones(2, dtype=a), ct.ones(2, dtype=b)
    want = ct.where(ct.tensor([True, False]), x, y).dtype
    if a != "bool" or b != "bool":
        assert (x + y).dtype == want
    assert ct.result_type(x, y) == ct.result_type(x.dtype, y) == ct.result_type(x.dtype, y.dtype) == want
    assert ct.can_cast(x, y.dtype) is bool(want == y.dtype)


def test_result_type_of_numbers() -> None:
    assert ct.result_type(ct.int8, 1) == ct.int8
    assert ct.result_type(1.5, ct.int8) == ct.float32
    assert ct.result_type(ct.float64, 1.5, True) == ct.float64
    with pytest.raises(ValueError, match="tensor or a dtype"):
        ct.result_type(1, 2.0)


def test_constants_and_creation() -> None:
    assert (ct.pi, ct.e, ct.inf, ct.newaxis) == (math.pi, math.e, math.inf, None)
    assert math.isnan(ct.nan)
    assert ct.empty((2, 3), dtype=ct.int8).dtype == ct.int8
    like = ct.empty_like(ct.ones((2, 3), dtype="float64").to("reference"))
    assert (like.shape, like.dtype, like.device) == ((2, 3), ct.float64, "reference")
    parts = ct.unstack(ct.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True), axis=-1)
    assert [p.tolist() for p in parts] == [[0, 3], [1, 4], [2, 5]]
    assert all(p.requires_grad for p in parts)


def test_devices() -> None:
    info = ct.__array_namespace_info__()
    assert info.default_device() == ct.ones(1).device
    for device in info.devices():
        assert ct.ones(1).to_device(device).device == device
    for device, error in (("float32", ValueError), ("moon", ValueError), (3, TypeError)):
        with pytest.raises(error):
            ct.ones(1).to_device(device)
    with pytest.raises(ValueError, match="stream"):
        ct.ones(1).to_device("cpu", stream=1)
    assert info.default_dtypes() == {
        "real floating": ct.zeros(1).dtype,
        "integral": ct.arange(3).dtype,
        "indexing": ct.argmax(ct.ones(2)).dtype,
    }
    assert set(info.dtypes(kind="integral")) == {"uint8", "int8", "int16", "int32", "int64"}
    assert info.capabilities()["boolean indexing"]
