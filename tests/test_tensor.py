"""The Tensor class: creation, attributes, number protocol, indexing, methods, random numbers."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

import corten as ct
from corten import _core

Tensor = _core.Tensor

# -- creation


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (3, "int64"),
        (True, "bool"),
        ([1.0, 2.0], "float32"),
        ([1, 2], "int64"),
        ([True, False], "bool"),
        ([1, 2.5], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ((1.0, (2.0,)[0]), "float32"),
        ([], "float32"),
        ([[], []], "float32"),
        (np.float64(2.0), "float64"),
        (np.float32(2.0), "float32"),
        (np.int16(2), "int16"),
        (np.array(2.0), "float64"),
        (np.arange(3, dtype=np.int16), "int16"),
        (np.ones((2, 2)), "float64"),
    ],
)
def test_tensor_infers_dtype_and_shape(data, dtype: str) -> None:
    t = ct.tensor(data)
    assert t.dtype.name == dtype
    assert t.shape == np.shape(data)
    assert t.tolist() == np.asarray(data).tolist()


def test_tensor_of_tensors_and_arrays() -> None:
    assert ct.tensor([ct.tensor(1.0), ct.tensor(2.0)]).tolist() == [1, 2]
    assert ct.tensor(ct.tensor([1, 2])).tolist() == [1, 2]
    assert ct.tensor([np.arange(2), np.arange(2)]).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("data", [[[1, 2], [3]], [1, [2]], [[1], 2]])
def test_ragged_data_is_refused(data) -> None:
    with pytest.raises(ValueError, match=r"(?i)\[tensor\].*(ragged|length|shape|depth|nest)"):
        ct.tensor(data)


@pytest.mark.parametrize("data", ["text", object(), {"a": 1}, [None], [1j], np.array(["a"]), np.array([1j])])
def test_data_that_is_no_number_is_refused(data) -> None:
    with pytest.raises(TypeError, match=r".+"):
        ct.tensor(data)


def test_tensor_copies() -> None:
    a = np.zeros(3)
    t = ct.tensor(a)
    a[0] = 5
    assert t.tolist() == [0, 0, 0]


def test_integers_keep_every_bit() -> None:
    big = 2**62 + 1
    assert ct.tensor(big).item() == big
    assert ct.tensor([big]).tolist() == [big]
    with pytest.raises((OverflowError, ValueError), match=r".+"):
        ct.tensor(2**63)


def test_filled() -> None:
    assert ct.zeros((2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert ct.ones(3).dtype == ct.float32
    assert ct.ones([2], dtype=ct.int8).dtype == ct.int8
    assert ct.full((2,), 7).dtype == ct.int64
    assert ct.full((2,), 7.0).dtype == ct.float32
    assert ct.full((2,), True).dtype == ct.bool_
    assert ct.full((), 2.5).item() == 2.5
    like = ct.ones((2, 3), dtype="float64")
    assert ct.zeros_like(like).dtype == ct.float64
    assert ct.ones_like(like, dtype="int32").dtype == ct.int32
    assert ct.full_like(like, 3).tolist() == [[3.0] * 3] * 2


@pytest.mark.parametrize("shape", [-1, (2, -3), "x", (1.5,), None])
def test_wrong_shapes_are_refused(shape) -> None:
    with pytest.raises((TypeError, ValueError), match=r".+"):
        ct.zeros(shape)


def test_gigantic_shapes_are_refused() -> None:
    with pytest.raises((MemoryError, ValueError), match=r".+"):
        ct.zeros((2**40, 2**40))
    with pytest.raises(MemoryError, match=r".+"):
        ct.zeros(2**46)


@pytest.mark.parametrize("args", [(5,), (2, 7), (0, 10, 3), (10, 0, -4), (3, 3), (5, 2), (0.0, 1.0, 0.25), (1, 2, 0.5)])
def test_arange(args) -> None:
    t, a = ct.arange(*args), np.arange(*args)
    assert t.shape == a.shape
    assert t.dtype.name == ("float32" if a.dtype.kind == "f" else "int64")
    np.testing.assert_allclose(t.numpy(), a, rtol=1e-7)


def test_arange_refuses_step_zero() -> None:
    with pytest.raises(ValueError, match=r"\[arange\].*step"):
        ct.arange(0, 5, 0)


@pytest.mark.parametrize(("start", "stop", "num"), [(0, 1, 5), (1, -1, 3), (2, 3, 1), (0, 1, 0), (-3, 7, 101)])
@pytest.mark.parametrize("endpoint", [True, False])
def test_linspace(start, stop, num, endpoint) -> None:
    t = ct.linspace(start, stop, num, dtype="float64", endpoint=endpoint)
    np.testing.assert_allclose(t.numpy(), np.linspace(start, stop, num, endpoint=endpoint), rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize("args", [(3,), (2, 4), (4, 2, 1), (3, 3, -1), (2, 2, 5), (0,)])
def test_eye(args) -> None:
    np.testing.assert_array_equal(ct.eye(*args).numpy(), np.eye(*args))


# -- random numbers


def test_random_shapes_and_dtypes() -> None:
    assert ct.rand(2, 3).shape == ct.rand((2, 3)).shape == (2, 3)
    assert ct.randn(4).dtype == ct.float32
    assert ct.randn(4, dtype="float64").dtype == ct.float64
    assert ct.randint(0, 10, (3,)).dtype == ct.int64
    assert ct.rand().shape == ()


def test_random_statistics() -> None:
    """Mean and variance of 200,000 draws within 5 standard errors."""
    n = 200_000
    u = ct.rand(n, dtype="float64").numpy()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(u.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
    z = ct.randn(n, dtype="float64").numpy()
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((np.abs(z) < 1).mean() - 0.6826894921) < 5 * math.sqrt(0.2166 / n)
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 5 / math.sqrt(n)
    k = ct.randint(-2, 5, (n,)).numpy()
    counts = np.bincount(k + 2, minlength=7)
    assert counts.size == 7
    assert np.abs(counts - n / 7).max() < 5 * math.sqrt(n / 7)
    assert abs(ct.uniform((n,), -3.0, 5.0).numpy().mean() - 1) < 5 * 8 / math.sqrt(12 * n)
    assert abs(ct.normal((n,), 2.0, 3.0).numpy().std() - 3) < 5 * 3 / math.sqrt(2 * n)


def test_seed_repeats_and_state_restores() -> None:
    ct.manual_seed(5)
    first, state, second = ct.randn(7).tolist(), _core.get_rng_state(), ct.randn(7).tolist()
    assert first != second
    ct.manual_seed(5)
    assert ct.randn(7).tolist() == first
    _core.set_rng_state(state)
    assert ct.randn(7).tolist() == second
    ct.manual_seed(6)
    assert ct.randn(7).tolist() != first


def test_random_numbers_do_not_depend_on_threads_or_device() -> None:
    results = []
    for threads in (1, 3):
        ct.set_num_threads(threads)
        ct.manual_seed(5)
        results.append(ct.randn(100_003).numpy().tobytes())
    assert results[0] == results[1]
    ct.manual_seed(5)
    assert ct.rand(1003, device="reference").shape == (1003,)


# -- attributes


def test_attributes() -> None:
    t = ct.zeros((2, 3, 4), dtype="float64")
    assert (t.shape, t.ndim, t.size, t.device, len(t)) == ((2, 3, 4), 3, 24, "cpu", 2)
    assert t.dtype == ct.float64
    assert t.dtype == "float64"
    assert t.dtype == np.float64
    assert t.dtype != ct.float32
    assert t.dtype.itemsize == 8
    assert t.dtype.is_floating_point
    assert not ct.int8.is_floating_point
    assert hash(ct.float64) == hash(t.dtype)
    assert np.dtype(t.dtype.name) == np.float64
    assert t.mT.shape == (2, 4, 3)
    assert ct.zeros((2, 3)).T.shape == (3, 2)
    with pytest.raises(ValueError, match=r"(?i)2-d|two|mT|permute"):
        _ = t.T


def test_attributes_are_read_only() -> None:
    t = ct.zeros(3)
    for name in ("shape", "dtype", "size", "device", "is_leaf", "T"):
        with pytest.raises(AttributeError):
            setattr(t, name, None)
    with pytest.raises(AttributeError):
        t.colour = "red"


def test_len_iteration_and_truth() -> None:
    t = ct.tensor([[1, 2], [3, 4]])
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert bool(ct.tensor(1.0))
    assert not bool(ct.tensor([0]))
    with pytest.raises((ValueError, RuntimeError), match=r"(?i)one element|ambiguous"):
        bool(t)
    with pytest.raises(TypeError, match=r".+"):
        len(ct.tensor(1.0))
    with pytest.raises(TypeError, match=r".+"):
        iter(ct.tensor(1.0))


def test_conversions_to_numbers() -> None:
    assert float(ct.tensor([2.5])) == 2.5
    assert int(ct.tensor(7)) == 7
    assert operator.index(ct.tensor(7)) == 7
    assert [10, 20, 30][ct.tensor(1)] == 20
    assert isinstance(ct.tensor(1).item(), int)
    assert isinstance(ct.tensor(1.0).item(), float)
    assert isinstance(ct.tensor(True).item(), bool)
    with pytest.raises(TypeError, match=r".+"):
        operator.index(ct.tensor(1.0))
    with pytest.raises(ValueError, match=r"\(2,\)"):
        ct.tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError, match=r".+"):
        float(ct.tensor([1.0, 2.0]))


# -- number protocol

A = np.array([[1.0, -2.0, 3.5], [0.5, 4.0, -1.5]])
B = np.array([[2.0, 3.0, -0.5], [1.5, -4.0, 2.5]])
BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "lt", "le", "gt", "ge", "eq", "ne"]


@pytest.mark.parametrize("name", BINARY)
def test_binary_operators(name: str) -> None:
    op = getattr(operator, name)
    x, y = ct.tensor(A), ct.tensor(B)
    np.testing.assert_allclose(op(x, y).numpy(), op(A, B), rtol=1e-15)
    np.testing.assert_allclose(op(x, 2).numpy(), op(A, 2), rtol=1e-15)
    np.testing.assert_allclose(op(2.5, x).numpy(), op(2.5, A), rtol=1e-15)


def test_pow_and_unary_operators() -> None:
    x, y = ct.tensor(np.abs(A)), ct.tensor(B)
    np.testing.assert_allclose((x**y).numpy(), np.abs(A) ** B, rtol=1e-13)
    np.testing.assert_allclose((2**y).numpy(), 2**B, rtol=1e-13)
    np.testing.assert_array_equal((-y).numpy(), -B)
    np.testing.assert_array_equal((+y).numpy(), B)
    np.testing.assert_array_equal(abs(y).numpy(), np.abs(B))


def test_matmul_operator() -> None:
    np.testing.assert_allclose((ct.tensor(A) @ ct.tensor(B.T)).numpy(), A @ B.T, rtol=1e-14)


def test_boolean_operators() -> None:
    p, q = ct.tensor([True, True, False, False]), ct.tensor([True, False, True, False])
    assert (p & q).tolist() == [True, False, False, False]
    assert (p | q).tolist() == [True, True, True, False]
    assert (p ^ q).tolist() == [False, True, True, False]
    assert (~p).tolist() == [False, False, True, True]


@pytest.mark.parametrize("name", ["add", "mul", "lt", "eq", "matmul"])
def test_operators_with_numpy_on_either_side(name: str) -> None:
    """An array is taken as a tensor, on the left too: no object array of tensors may come out."""
    op = getattr(operator, name)
    b = B.T if name == "matmul" else B
    for result in (op(ct.tensor(A), b), op(A, ct.tensor(b))):
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(result.numpy(), op(A, b), rtol=1e-14)


@pytest.mark.parametrize("other", ["text", None, object(), [1.0]])
def test_operators_with_strangers(other) -> None:
    with pytest.raises(TypeError, match=r".+"):
        _ = ct.tensor(A) + other
    with pytest.raises(TypeError, match=r".+"):
        _ = other * ct.tensor(A)


def test_augmented_assignment_makes_a_new_tensor() -> None:
    x = ct.tensor([1.0])
    y = x
    x += 1.0
    assert (x.tolist(), y.tolist()) == ([2], [1])


def test_hash_is_identity() -> None:
    x, y = ct.tensor([1.0]), ct.tensor([1.0])
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1


def test_integer_scalar_that_does_not_fit_is_refused() -> None:
    with pytest.raises((ValueError, OverflowError), match=r"300"):
        _ = ct.tensor(np.ones(2, np.int8)) + 300


# -- indexing


def test_indexing_gives_views_of_the_values() -> None:
    a = np.arange(24.0).reshape(2, 3, 4)
    t = ct.tensor(a)
    for index in [0, -1, slice(1), (1, 2), (slice(None), slice(None, None, -2)), (..., 0), None, (1, ..., None)]:
        got = t[index]
        assert got.shape == a[index].shape
        np.testing.assert_array_equal(got.numpy(), a[index])
    assert t[np.int64(1)].shape == (3, 4)
    assert t[ct.tensor(1)].shape == (3, 4)


def test_setitem_broadcasts_and_casts() -> None:
    t = ct.zeros((2, 3))
    t[...] = ct.tensor([1, 2, 3])
    t[1, 1:] = 7.5
    assert t.tolist() == [[1, 2, 3], [1, 7.5, 7.5]]
    with pytest.raises(ValueError, match=r"\(4,\)"):
        t[0] = ct.ones(4)
    with pytest.raises(IndexError, match=r"5"):
        t[5] = 1.0


# -- methods


def test_methods_mirror_the_functions() -> None:
    x = ct.tensor(np.arange(1.0, 7.0).reshape(2, 3))
    assert x.sum(axis=0).tolist() == [5, 7, 9]
    assert x.sum(dim=0, keepdim=True).tolist() == [[5, 7, 9]]
    assert x.mean(1).tolist() == [2, 5]
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == x.reshape([3, -1]).shape == (3, 2)
    assert x.permute_dims((1, 0)).shape == (3, 2)
    assert x.transpose(0, 1).shape == (3, 2)
    assert x.flatten().shape == (6,)
    assert x.max(axis=1).tolist() == [3, 6]
    assert x.argmax(dim=1).tolist() == [2, 2]
    np.testing.assert_allclose(x.exp().log().numpy(), x.numpy(), rtol=1e-14)
    assert x.relu().tolist() == x.tolist()
    assert x.clip(2, 4).tolist() == [[2, 2, 3], [4, 4, 4]]
    assert x.softmax(dim=-1).sum().item() == pytest.approx(2.0)


def test_clone_is_independent_and_differentiable() -> None:
    x = ct.tensor([1.0, 2.0], requires_grad=True)
    y = x.clone()
    (y * 3.0).sum().backward()
    assert x.grad.tolist() == [3, 3]
    z = ct.tensor([1.0])
    w = z.clone()
    z[0] = 9.0
    assert w.tolist() == [1]


def test_contiguous_and_strides() -> None:
    x = ct.tensor(np.arange(6.0).reshape(2, 3))
    assert x.strides == (3, 1)
    assert x.T.strides == (1, 3)
    assert x.T.contiguous().strides == (2, 1)
    assert x.T.contiguous().tolist() == [[0, 3], [1, 4], [2, 5]]


def test_to_and_astype() -> None:
    x = ct.tensor([1.5, -2.5])
    assert x.to("reference").device == "reference"
    assert x.to("reference").to("cpu").tolist() == [1.5, -2.5]
    assert x.to("float64").dtype == x.to(ct.float64).dtype == x.astype(np.float64).dtype == ct.float64
    assert x.astype("int64").tolist() == [1, -2]
    with pytest.raises((ValueError, TypeError), match=r"(?i)cpu|device|dtype"):
        x.to("toaster")


def test_gradient_flows_through_to_and_astype() -> None:
    x = ct.tensor([1.0, 2.0], requires_grad=True)
    (x.to("reference").astype("float64") * 3.0).sum().backward()
    assert x.grad.tolist() == [3, 3]
    assert (x.grad.dtype, x.grad.device) == (ct.float32, "cpu")


# -- repr


def test_repr_shows_values_and_what_is_not_default() -> None:
    assert "1.5" in repr(ct.tensor([1.5, 2.0]))
    assert "float64" in repr(ct.tensor([1.5], dtype="float64"))
    assert "float32" not in repr(ct.tensor([1.5]))
    assert "requires_grad=True" in repr(ct.tensor([1.5], requires_grad=True))
    assert "grad_fn" in repr(ct.tensor([1.5], requires_grad=True) * 2.0)
    assert "reference" in repr(ct.ones(2, device="reference"))
    assert repr(ct.tensor([1])).startswith("tensor(")


def test_repr_of_large_and_odd_tensors_is_short() -> None:
    text = repr(ct.zeros((1000, 1000)))
    assert "..." in text
    assert len(text) < 2000
    for t in (ct.tensor(3.0), ct.zeros((0, 3)), ct.tensor([math.nan, math.inf]), ct.tensor([True]), ct.zeros((1,) * 6)):
        assert repr(t).startswith("tensor(")
        assert str(t)
