"""Random shapes, indices and equations against NumPy: what the rows of `op_rows/` cannot list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import corten as ct

SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
#: Few different values, so that there are ties.
VALUES = st.sampled_from([0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan])


def tensors(shape) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, shape, elements=VALUES)


@st.composite
def array_and_axis(draw):
    x = draw(SHAPES.flatmap(tensors))
    return x, draw(st.integers(-x.ndim, x.ndim - 1))


@settings(deadline=None, max_examples=200)
@given(array_and_axis(), st.booleans())
def test_sorting_is_numpys_stable_sort(case, descending) -> None:
    x, axis = case
    order = np.argsort(-x if descending else x, axis, kind="stable")
    t = ct.tensor(x)
    np.testing.assert_array_equal(ct.argsort(t, axis, descending).numpy(), order)
    np.testing.assert_array_equal(ct.sort(t, axis, descending).numpy(), np.take_along_axis(x, order, axis))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_taking_is_numpys(data) -> None:
    x, axis = data.draw(array_and_axis())
    n = x.shape[axis]
    indices = data.draw(hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2), elements=st.integers(-n, n - 1)))
    t, i = ct.tensor(x), ct.tensor(indices)
    np.testing.assert_array_equal(ct.take(t, i, axis).numpy(), np.take(x, indices, axis))
    along = list(x.shape)
    along[axis] = data.draw(st.integers(1, 5))
    indices = data.draw(hnp.arrays(np.int64, tuple(along), elements=st.integers(-n, n - 1)))
    want = np.take_along_axis(x, indices, axis)
    np.testing.assert_array_equal(ct.take_along_axis(t, ct.tensor(indices), axis).numpy(), want)
    np.testing.assert_array_equal(ct.gather(t, axis, ct.tensor(indices)).numpy(), want)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_scattering_undoes_gathering(data) -> None:
    """With distinct places, what was gathered is written back where it came from."""
    x, axis = data.draw(array_and_axis())
    order = np.argsort(data.draw(tensors(x.shape)), axis, kind="stable")
    t, i = ct.tensor(x), ct.tensor(order)
    np.testing.assert_array_equal(ct.scatter(ct.zeros_like(t), axis, i, ct.gather(t, axis, i)).numpy(), x)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_einsum_is_numpys(data) -> None:
    sizes = {label: data.draw(st.integers(1, 3)) for label in "abcd"}
    terms = data.draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    free = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(free)))[: data.draw(st.integers(0, len(free)))]
    equation = ",".join(terms) + data.draw(st.sampled_from(["", "->" + output]))
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, size=[sizes[label] for label in term]).astype(float) for term in terms]
    got = ct.einsum(equation, *map(ct.tensor, arrays))
    np.testing.assert_array_equal(got.numpy(), np.einsum(equation, *arrays))  # small integers: exact in any order


@settings(deadline=None, max_examples=100)
@given(SHAPES.flatmap(tensors))
def test_unique_values_rebuild_the_tensor(x) -> None:
    values, first, inverse, counts = ct.unique_all(ct.tensor(x))
    np.testing.assert_array_equal(values.numpy()[inverse.numpy()], x)
    np.testing.assert_array_equal(x.ravel()[first.numpy()], values.numpy())
    assert counts.numpy().sum() == x.size
    np.testing.assert_array_equal(np.bincount(inverse.numpy().ravel(), minlength=values.size), counts.numpy())


def test_topk_has_a_gradient() -> None:
    x = ct.tensor([1.0, 5.0, 3.0, 5.0], requires_grad=True)
    values, indices = ct.topk(x, 3)
    assert indices.tolist() == [1, 3, 2]
    (g,) = ct.grad([values], [x], [ct.tensor([1.0, 2.0, 3.0])])
    assert g.tolist() == [0.0, 1.0, 3.0, 2.0]


def test_running_sums_of_integers_are_wide() -> None:
    x = np.full(1000, 100, dtype=np.uint8)
    y = ct.cumulative_sum(ct.tensor(x))
    assert y.dtype == ct.int64
    np.testing.assert_array_equal(y.numpy(), np.cumsum(x, dtype=np.int64))
    assert ct.tensor([True, True]).cumsum(0).tolist() == [1, 2]
    assert ct.cumulative_prod(ct.tensor([2, 3]), dtype="float32").dtype == ct.float32


def test_either_name_of_the_axis() -> None:
    x = ct.ones((2, 3))
    assert x.cumsum(dim=1).tolist() == x.cumsum(axis=1).tolist() == [[1.0, 2.0, 3.0]] * 2
    with pytest.raises(TypeError, match="axis and dim"):
        x.cumsum(axis=0, dim=0)
    with pytest.raises(TypeError, match="axis is needed"):
        x.cumprod()
