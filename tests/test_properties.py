"""Properties that hold for every shape and value, on examples that Hypothesis makes up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from corten import _core
from harness import bits

FLOATS = st.floats(-100, 100, width=32)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def arrays(shape, dtype=np.float64):
    return hnp.arrays(
        dtype, shape, elements=st.floats(-100, 100, width=32) if np.dtype(dtype).kind == "f" else st.integers(-100, 100)
    )


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0), st.data())
def test_broadcasting_is_numpys(shapes, data) -> None:
    a, b = (data.draw(arrays(shape)) for shape in shapes.input_shapes)
    x, y = _core.tensor(a, requires_grad=True), _core.tensor(b, requires_grad=True)
    out = x * y
    assert out.shape == shapes.result_shape
    np.testing.assert_array_equal(out.detach().numpy(), a * b)
    out.sum().backward()
    whole = np.broadcast_to
    assert x.grad.shape == a.shape
    np.testing.assert_allclose(x.grad.numpy(), sum_to(whole(b, out.shape), a.shape), rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(y.grad.numpy(), sum_to(whole(a, out.shape), b.shape), rtol=1e-12, atol=1e-10)


def sum_to(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    array = array.sum(axis=tuple(range(array.ndim - len(shape))))
    return array.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


@given(SHAPES, SHAPES)
def test_shapes_that_do_not_broadcast_are_refused(first, second) -> None:
    try:
        wanted = np.broadcast_shapes(first, second)
    except ValueError:
        with pytest.raises(ValueError, match=r"\[add\]"):
            _core.add(_core.zeros(first), _core.zeros(second))
    else:
        assert _core.add(_core.zeros(first), _core.zeros(second)).shape == wanted


@given(SHAPES.flatmap(arrays), st.randoms(use_true_random=False))
def test_permute_round_trip(a, random) -> None:
    order = list(range(a.ndim))
    random.shuffle(order)
    t = _core.permute_dims(_core.tensor(a), order)
    np.testing.assert_array_equal(t.numpy(), np.transpose(a, order))
    back = _core.permute_dims(t, [order.index(i) for i in range(a.ndim)])
    assert bits(back) == bits(a)


@given(SHAPES.flatmap(arrays), st.randoms(use_true_random=False))
def test_reshape_of_anything_is_numpys(a, random) -> None:
    """Through a permutation and back to a flat array: views and copies give the same values."""
    order = list(range(a.ndim))
    random.shuffle(order)
    t = _core.permute_dims(_core.tensor(a), order).reshape(-1)
    np.testing.assert_array_equal(t.numpy(), np.transpose(a, order).reshape(-1))
    assert t.reshape(np.transpose(a, order).shape).shape == np.transpose(a, order).shape


@given(SHAPES.flatmap(arrays), st.data())
def test_slicing_is_numpys(a, data) -> None:
    index = data.draw(hnp.basic_indices(a.shape, allow_newaxis=True, allow_ellipsis=True))
    x = _core.tensor(a, requires_grad=True)
    got = x[index]
    want = a[index]
    assert got.shape == np.shape(want)
    np.testing.assert_array_equal(got.detach().numpy(), want)
    got.sum().backward()
    grad = np.zeros_like(a)
    grad[index] = 1
    np.testing.assert_array_equal(x.grad.numpy(), grad)


@given(SHAPES.flatmap(arrays), st.data())
def test_slices_of_slices(a, data) -> None:
    assume(a.ndim > 0)
    t = _core.tensor(a)
    for _ in range(3):
        index = data.draw(hnp.basic_indices(a.shape))
        t, a = t[index], np.asarray(a[index])
    np.testing.assert_array_equal(t.numpy(), a)


@given(SHAPES.flatmap(arrays), st.data())
def test_setitem_is_numpys(a, data) -> None:
    index = data.draw(hnp.basic_indices(a.shape))
    t = _core.tensor(a)
    t[index] = 7.0
    a = a.copy()
    a[index] = 7.0
    np.testing.assert_array_equal(t.numpy(), a)


@given(SHAPES.flatmap(arrays), st.data())
def test_sum_is_the_sum_of_parts(a, data) -> None:
    assume(a.ndim > 0)
    axis = data.draw(st.integers(0, a.ndim - 1))
    cut = data.draw(st.integers(0, a.shape[axis]))
    first, second = _core.split(_core.tensor(a), [cut], axis=axis)
    whole = _core.tensor(a).sum(axis=axis).numpy()
    np.testing.assert_allclose((first.sum(axis=axis) + second.sum(axis=axis)).numpy(), whole, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(whole, a.sum(axis=axis), rtol=1e-12, atol=1e-11)


@given(SHAPES.flatmap(arrays), st.data())
def test_split_and_concat_round_trip(a, data) -> None:
    assume(a.ndim > 0)
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, a.shape[axis]), max_size=3)))
    parts = _core.split(_core.tensor(a), cuts, axis=axis)
    assert len(parts) == len(cuts) + 1
    assert bits(_core.concat(parts, axis=axis)) == bits(a)


@given(SHAPES.flatmap(arrays), st.data())
def test_flip_twice_is_identity(a, data) -> None:
    axes = data.draw(st.sets(st.integers(0, max(a.ndim - 1, 0)))) if a.ndim else set()
    t = _core.tensor(a)
    np.testing.assert_array_equal(_core.flip(t, tuple(axes)).numpy(), np.flip(a, tuple(axes)))
    assert bits(_core.flip(_core.flip(t, tuple(axes)), tuple(axes))) == bits(a)


@given(
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=40).flatmap(lambda s: arrays(s, np.float32)),
    st.data(),
)
def test_softmax_rows_sum_to_one(a, data) -> None:
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    p = _core.softmax(_core.tensor(a), axis=axis).numpy()
    assert p.dtype == np.float32
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=axis, dtype=np.float64), 1, rtol=40 * 6e-8)
    shifted = _core.softmax(_core.tensor(a.astype(np.float64) + 50), axis=axis).numpy()
    np.testing.assert_allclose(
        shifted, _core.softmax(_core.tensor(a.astype(np.float64)), axis=axis).numpy(), rtol=1e-12
    )


@given(st.data())
def test_convolution_is_linear_and_shifts(data) -> None:
    """conv(a x + y) = a conv(x) + conv(y), in the input and in the weight; shifting the input shifts the output."""

    def n(low, high):
        return data.draw(st.integers(low, high))

    groups, per_group = n(1, 2), n(1, 3)
    kh, kw, stride, dilation, padding = n(1, 3), n(1, 3), n(1, 2), n(1, 2), n(0, 2)
    height, width = n(dilation * (kh - 1) + 1, 9), n(dilation * (kw - 1) + 1, 9)
    rng = np.random.default_rng(n(0, 10**6))
    x, y = (rng.normal(size=(2, groups * per_group, height, width)) for _ in range(2))
    w, v = (rng.normal(size=(2 * groups, per_group, kh, kw)) for _ in range(2))

    def conv(image, weight):
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return _core.conv2d(_core.tensor(image), _core.tensor(weight), **options).numpy()

    np.testing.assert_allclose(conv(2 * x + y, w), 2 * conv(x, w) + conv(y, w), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(conv(x, 2 * w + v), 2 * conv(x, w) + conv(x, v), rtol=1e-11, atol=1e-11)
    if stride == 1 and padding == 0 and conv(x, w).shape[3] > 1:
        np.testing.assert_allclose(conv(x[..., 1:], w), conv(x, w)[..., 1:], rtol=1e-11, atol=1e-11)


@given(st.data())
def test_matmul_is_numpys_for_every_shape(data) -> None:
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=5, min_side=0)
    )
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape) for shape in shapes.input_shapes)
    got = _core.matmul(_core.tensor(a), _core.tensor(b))
    assert got.shape == shapes.result_shape
    np.testing.assert_allclose(got.numpy(), np.matmul(a, b), rtol=1e-12, atol=1e-12)


@given(st.integers(0, 300), st.integers(1, 300), st.integers(0, 300))
def test_matmul_of_any_size(m, k, n) -> None:
    rng = np.random.default_rng(m * 90001 + k * 301 + n)
    a, b = rng.normal(size=(m, k)).astype(np.float32), rng.normal(size=(k, n)).astype(np.float32)
    got = (_core.tensor(a) @ _core.tensor(b)).numpy()
    u = 2.0**-24
    bound = (k + 2) * u / (1 - (k + 2) * u) * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert (np.abs(got - a.astype(np.float64) @ b.astype(np.float64)) <= bound).all()


@given(SHAPES.flatmap(arrays))
def test_numpy_round_trip(a) -> None:
    assert bits(_core.tensor(a)) == bits(a)
    assert _core.tensor(a).tolist() == a.tolist()
    assert bits(_core.asarray(a)) == bits(a)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=50))
def test_extremes_are_numpys_with_nan_and_infinity(values) -> None:
    a = np.array(values, dtype=np.float32)
    t = _core.tensor(a)
    assert np.array_equal(t.max().numpy(), a.max(), equal_nan=True)
    assert t.argmin().item() == a.argmin()
    assert t.argmax().item() == a.argmax()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(_core.maximum(t, _core.flip(t)).numpy(), np.maximum(a, a[::-1]))
