"""Advanced indexing against NumPy: reading, writing and gradients of random index tuples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import corten as ct
from harness import VIEWS

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
#: Shapes that broadcast with one another, so that any mixture of them is a valid index.
SHAPES = ((3,), (1,), (2, 3), (2, 1), ())


@st.composite
def cases(draw):
    """A shape and an index for it: ints, slices, None, Ellipsis, index arrays and lists, masks, bools."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    rest = list(shape)
    # Masks have as many true elements as other indices of one axis have elements, and only one stands in an index.
    index: list = []
    masked = ellipsis = False
    while rest and draw(st.integers(0, 9)):
        kind = draw(st.sampled_from(["int", "slice", "none", "ellipsis", "array", "array", "list", "mask", "bool"]))
        if kind == "none":
            index.append(None)
            continue
        if kind == "bool":
            index.append(draw(st.sampled_from([True, np.True_])))
            continue
        if kind == "ellipsis":
            if ellipsis:
                continue
            ellipsis = True
            skip = draw(st.integers(0, len(rest) - 1))
            index.append(...)
            # What the Ellipsis takes must be what is left over: fill up to the end behind it.
            rest = rest[skip:]
            tail = [draw(st.integers(-n, n - 1)) if draw(st.booleans()) else slice(None) for n in rest]
            return shape, (*index, *tail)
        n = rest[0]
        if kind == "mask":
            axes = draw(st.integers(1, len(rest)))
            if masked:
                continue
            masked = True
            size = int(np.prod(rest[:axes]))
            if size < 3:
                continue
            mask = np.zeros(size, bool)
            mask[draw(st.permutations(range(size)))[:3]] = True
            index.append(mask.reshape(rest[:axes]))
            del rest[:axes]
            continue
        del rest[0]
        if kind == "int":
            index.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            index.append(draw(st.slices(n)))
        else:
            where = draw(hnp.arrays(np.int64, draw(st.sampled_from(SHAPES)), elements=st.integers(-n, n - 1)))
            index.append(where.tolist() if kind == "list" and where.ndim else where)
    return shape, tuple(index)


def as_tensors(index: tuple, kind: str) -> tuple:
    """Index arrays as tensors, strided ones and ones of a small dtype included."""

    def one(i):
        if not isinstance(i, np.ndarray):
            return i
        if kind == "small" and i.dtype != bool:
            return ct.tensor(i.astype(np.int8))
        if kind == "strided" and i.ndim:
            return ct.tensor(np.repeat(i, 2, axis=-1))[..., ::2]
        return ct.tensor(i)

    return tuple(one(i) for i in index) if kind != "arrays" else index


KINDS = st.sampled_from(["arrays", "tensors", "small", "strided"])
FORMS = settings(deadline=None, max_examples=300)


@FORMS
@given(cases(), KINDS, st.sampled_from(DTYPES), st.sampled_from(["cpu", "reference"]))
def test_reading_is_numpys(case, kind, dtype, device) -> None:
    shape, index = case
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    got = ct.tensor(x, device=device)[as_tensors(index, kind)]
    want = x[index]
    assert got.shape == want.shape
    assert got.dtype.name == dtype
    assert got.device == device
    np.testing.assert_array_equal(got.numpy(), want)


@FORMS
@given(cases(), st.sampled_from(sorted(VIEWS)), st.sampled_from(["cpu", "reference"]))
def test_any_layout_is_read_as_it_is(case, layout, device) -> None:
    shape, index = case
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(VIEWS[layout](x, device, False)[index].numpy(), x[index])


@FORMS
@given(cases(), KINDS, st.sampled_from(DTYPES), st.sampled_from(["cpu", "reference"]), st.data())
def test_writing_is_numpys(case, kind, dtype, device, data) -> None:
    shape, index = case
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    t = ct.tensor(x, device=device)
    kept = t.detach()
    part = x[index].shape
    # Full values, or ones that broadcast; of another dtype than x.
    small = tuple(1 if data.draw(st.booleans()) else n for n in part[data.draw(st.integers(0, len(part))) :])
    values = np.arange(np.prod(small, dtype=int)).reshape(small).astype(np.int16) + 1
    old, x = x, x.copy()
    x[index] = values
    t[as_tensors(index, kind)] = ct.tensor(values, device=device) if kind == "tensors" else values
    np.testing.assert_array_equal(t.numpy(), x)  # NumPy, too, leaves the last of several values
    np.testing.assert_array_equal(kept.numpy(), old)


@FORMS
@given(cases(), st.sampled_from(["cpu", "reference"]))
def test_the_gradient_adds_at_each_place(case, device) -> None:
    shape, index = case
    rng = np.random.default_rng(0)
    x = ct.tensor(rng.normal(size=shape), requires_grad=True, device=device)
    y = x[index]
    g = rng.normal(size=y.shape)
    (dx,) = ct.grad([y], [x], [ct.tensor(g, device=device)])
    want = np.zeros(shape)
    np.add.at(want, index, g)
    np.testing.assert_allclose(dx.numpy(), want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_empty_indices(device) -> None:
    x = ct.tensor(np.arange(12.0).reshape(3, 4), device=device, requires_grad=True)
    for index in ([], [[]], np.zeros((0, 2), np.int64), np.zeros(3, bool), np.zeros((3, 4), bool), False):
        want = np.zeros((3, 4))[index]
        y = x[index]
        assert y.shape == want.shape
        (dx,) = ct.grad([y], [x], [ct.tensor(want, device=device)])
        np.testing.assert_array_equal(dx.numpy(), 0)
    t = x.detach().clone()
    t[[]] = 5.0
    t[np.zeros(3, bool)] = 5.0
    t[False] = 5.0
    np.testing.assert_array_equal(t.numpy(), np.arange(12.0).reshape(3, 4))
    assert ct.zeros((0, 3))[:, [1, 1]].shape == (0, 2)
    assert ct.zeros((2, 0))[[0, 1, 1]].shape == (3, 0)


def test_scalars_of_bool() -> None:
    x = np.arange(6.0).reshape(2, 3)
    t = ct.tensor(x)
    for b in (True, False, np.True_, np.False_, np.array(True), ct.tensor(False)):
        plain = bool(b)
        np.testing.assert_array_equal(t[b].numpy(), x[plain])
        np.testing.assert_array_equal(t[:, b].numpy(), x[:, plain])
        np.testing.assert_array_equal(t[b, [1]].numpy(), x[plain, [1]])
    number = ct.tensor(3.0)
    number[True] = 4.0
    assert number.item() == 4.0
    number[number > 9] = 0.0
    assert number.item() == 4.0


def test_views_and_copies() -> None:
    """Integers of any kind give views, as Python's do; index tensors give copies."""
    x = ct.arange(6).reshape(2, 3)
    assert x[ct.tensor(1)].shape == (3,)
    assert x[np.int64(1), np.array(2)].item() == 5
    base = ct.zeros(3)
    rows = base[[0, 1]]
    rows[0] = 7.0
    assert base.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="view"):
        base[0:2][[0]] = 1.0


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_the_last_value_remains(device) -> None:
    rng = np.random.default_rng(1)
    at = rng.integers(0, 50, 20_000)
    values = rng.normal(size=(20_000, 3))
    want = np.zeros((50, 3))
    for i, v in zip(at, values, strict=True):
        want[i] = v
    t = ct.zeros((50, 3), dtype="float64", device=device)
    t[at] = values
    np.testing.assert_array_equal(t.numpy(), want)


def test_writing_changes_neither_graph_nor_export() -> None:
    x = ct.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * x).sum()
    array, snapshot = x.detach().numpy(), x.detach()
    x[[0, 2]] = 0.0
    assert x.requires_grad
    assert x.tolist() == [0, 2, 0]
    assert array.tolist() == snapshot.tolist() == [1, 2, 3]
    y.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2, 4, 6]
    x[x > 1] = x.detach()[1:2] * 2
    assert x.tolist() == [0, 4, 0]


def test_writing_in_place_copies_no_unshared_tensor() -> None:
    from corten import _core

    x = ct.zeros(1000)
    before = _core.parameter_copies()
    x[np.arange(0, 1000, 7)] = 1.0
    x[x.detach().numpy() > 0.5] = 2.0
    # The second index was read from an export, which is gone by now.
    assert _core.parameter_copies() - before <= 1
    assert x.sum().item() == 2.0 * 143


def test_parameters_take_items() -> None:
    source = ct.zeros((3, 2))
    p = ct.nn.Parameter(source)
    layer = ct.nn.Linear(2, 3)
    for parameter in (p, layer.weight):
        y = parameter * 1
        parameter[0] = 5.0
        parameter[[1, 2], [0, 1]] = [6.0, 7.0]
        parameter[parameter.detach() == 7] = 8.0
        assert parameter.requires_grad
        assert parameter.is_leaf
        assert (parameter[0, 0].item(), parameter[1, 0].item(), parameter[2, 1].item()) == (5.0, 6.0, 8.0)
        assert y[0, 0].item() != 5.0
    assert source.sum().item() == 0.0


def test_lists_are_values() -> None:
    x = ct.zeros((2, 3))
    x[0] = [1, 2, 3]
    x[:, [0, 2]] = ((5.0, 6.0),)
    assert x.tolist() == [[5, 2, 6], [5, 0, 6]]
    x[0, 0] = [[9.0]]  # axes of size 1 in front may be too many, as in NumPy
    assert x[0, 0].item() == 9.0


X = np.ones((2, 3))


@pytest.mark.parametrize(
    ("index", "error", "match"),
    [
        ([2], IndexError, r"index 2 is out of range for axis 0 of size 2"),
        ((slice(None), [0, -4]), IndexError, r"index -4 is out of range for axis 1 of size 3"),
        ((None, ..., [3]), IndexError, r"index 3 is out of range for axis 1 of size 3"),
        (np.ones(3, bool), IndexError, r"mask of shape \(3,\).*axis 0 has size 3.*\(2, 3\) has size 2"),
        ((0, np.ones(2, bool)), IndexError, r"mask of shape \(2,\).*axis 1 of the tensor"),
        (np.ones((2, 3, 1), bool), IndexError, r"3 indices.*2 axes"),
        (([0], [0], [0]), IndexError, r"3 indices.*2 axes"),
        (([0, 1], [0, 1, 2]), IndexError, r"\(2,\) and \(3,\) do not broadcast"),
        ((..., [0], ...), IndexError, r"only one Ellipsis"),
        ([0.0], TypeError, r"integers or bools, not float"),
        (np.array([1.0]), TypeError, r"float64.*astype\('int64'\)"),
        (np.zeros(0), TypeError, r"float64"),
        ([[0], [1, 2]], ValueError, r".+"),
        (["a"], TypeError, r".+"),
        ([slice(None)], TypeError, r".+"),
        ({0}, TypeError, r"index tensors and masks, not set"),
        (2**70, IndexError, r"out of range"),
    ],
)
def test_wrong_indices(index, error, match) -> None:
    with pytest.raises(error, match=match):
        ct.tensor(X)[index]
    t = ct.tensor(X)
    with pytest.raises(error, match=match):
        t[index] = 0.0
    np.testing.assert_array_equal(t.numpy(), X)


def test_wrong_values() -> None:
    t = ct.tensor(X)
    with pytest.raises(ValueError, match=r"\[setitem\] a value of shape \(3,\).*part of shape \(2,\)"):
        t[[0, 1], [0, 1]] = np.ones(3)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 3\).*shape \(2, 3\)"):
        t[[0, 1]] = np.ones((2, 1, 3))
    with pytest.raises(ValueError, match=r"300 does not fit uint8"):
        t.astype("uint8").clone()[[0]] = 300
    y = ct.tensor(X, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="leaf"):
        y[[0]] = 1.0
    with pytest.raises(TypeError, match="expected a tensor or a number"):
        t[[0]] = "one"  # type: ignore[assignment]
    np.testing.assert_array_equal(t.numpy(), X)


def test_thread_counts_change_no_bit() -> None:
    from corten import _core

    rng = np.random.default_rng(2)
    x = ct.tensor(rng.normal(size=(200, 300)).astype(np.float32), requires_grad=True)
    rows, columns = rng.integers(0, 200, 9000), rng.integers(0, 300, 9000)

    def run() -> list[bytes]:
        y = x[rows, columns]
        z = x[:, columns]
        (g,) = ct.grad([(y * y).sum() + (z * z).sum()], [x])
        return [t.detach().numpy().tobytes() for t in (y, z, g)]

    _core.set_num_threads(1)
    alone = run()
    _core._force_threads(True)
    for threads in (2, 3, 8):
        _core.set_num_threads(threads)
        assert run() == alone


# -- gradients of several parts of one tensor, which are added in place


def parts_of(y: ct.Tensor) -> ct.Tensor:
    """Apart, overlapping, all of it, a step, and the same part twice."""
    total = (y[0] * 2.0).sum() + (y[1] * y[1]).sum() + (y[:, 1:3] * 3.0).sum() + y.sum() * 0.5
    return total + (y[::2, ..., ::-1] * y[::2]).sum() + y[0].exp().sum() + y[2, 1, 0] * 7.0


@pytest.mark.parametrize("order", [None, (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_parts_add_up_to_the_gradient(order: tuple[int, ...] | None, dtype: str) -> None:
    x = ct.tensor(np.random.default_rng(0).normal(size=(4, 4, 4)).astype(dtype), requires_grad=True)
    y = x * 1.0 if order is None else (x * 1.0).permute(*order)
    y.retain_grad()
    seen: list[ct.Tensor] = []
    y.register_hook(lambda g: seen.append(g))
    total = parts_of(y)
    plain = ct.grad(total, x, retain_graph=True)
    # While a graph is made, every part is a whole tensor of its own: the old way.
    wanted = ct.grad(total, x, create_graph=True)
    total.backward()
    tolerance = 1e-12 if dtype == "float64" else 0.02  # seven values below 20, each rounded to 11 bits
    for g in (plain, x.grad):
        np.testing.assert_allclose(g.numpy(), wanted.detach().numpy(), rtol=tolerance, atol=tolerance)
    axes = order or (0, 1, 2)
    np.testing.assert_array_equal(y.grad.numpy(), x.grad.numpy().transpose(axes))
    assert all(s.shape == y.shape for s in seen)
    assert len(seen) == 3


def test_a_gradient_that_somebody_holds_is_not_written_to() -> None:
    x = ct.ones((3, 2), requires_grad=True)
    y = x * 1.0
    g = ct.ones((3, 2))
    kept = g[1:]
    # y's own gradient comes from the caller; a part is added to it.
    (a,) = ct._core.grad([y, y[0]], [x], [g, ct.ones(2)])
    assert a.tolist() == [[2, 2], [1, 1], [1, 1]]
    assert g.tolist() == [[1, 1]] * 3
    assert kept.tolist() == [[1, 1]] * 2
