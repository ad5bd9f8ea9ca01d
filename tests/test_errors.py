"""A wrong call raises the exception of its kind, with operation, rule and what came; it never panics."""

from __future__ import annotations

import re

import numpy as np
import pytest

import corten as ct
from corten import _core
from harness import bind, listed
from op_table import rows

ROWS = rows()


def f(*shape: int) -> _core.Tensor:
    return _core.ones(shape)


def i(*shape: int) -> _core.Tensor:
    return _core.ones(shape, dtype="int64")


# fmt: off
WRONG = [
    # shapes -> ValueError, with both shapes
    ("add shapes", lambda: f(2, 3) + f(4), ValueError, r"\[add\].*\(2, 3\).*\(4,\).*broadcast"),
    ("matmul inner", lambda: f(2, 3) @ f(4, 5), ValueError, r"\[matmul\].*3.*4.*\(2, 3\).*\(4, 5\)"),
    ("reshape count", lambda: f(2, 3).reshape(7), ValueError, r"\[reshape\].*6.*7|\[reshape\].*\(2, 3\).*\(7,\)"),
    ("conv channels", lambda: _core.conv2d(f(64, 3, 28, 28), f(16, 1, 5, 5)), ValueError,
     r"\[conv2d\].*3 channels.*\(16, 1, 5, 5\).*groups=1.*1.*\(64, 3, 28, 28\)"),
    ("linear width", lambda: _core.linear(f(2, 4), f(5, 3)), ValueError, r"\[linear\].*\(5, 3\).*\(2, 4\)"),
    ("assign shape", lambda: f(2).assign_(f(3)), ValueError, r"\[assign_\].*\(2,\).*\(3,\)"),
    ("stack shapes", lambda: _core.stack([f(2), f(3)]), ValueError, r"\[stack\].*\(2,\).*\(3,\)"),
    # axes and indices -> IndexError, with the allowed range
    ("sum axis", lambda: f(2, 3).sum(axis=2), IndexError, r"\[sum\].*axis 2.*2"),
    ("softmax axis", lambda: _core.softmax(f(2, 3), -3), IndexError, r"\[softmax\].*axis -3.*2"),
    ("index", lambda: f(2, 3)[0, 3], IndexError, r"index 3.*(axis 1|size 3)"),
    ("class", lambda: _core.cross_entropy(f(2, 3), i(2) * 3), IndexError, r"\[cross_entropy\].*class.*3"),
    ("row", lambda: _core.take_rows(f(2, 3), i(1) * 2), IndexError, r"\[take_rows\].*2"),
    # dtypes -> TypeError, with the cast that helps
    ("linear int", lambda: _core.linear(i(2, 3), f(4, 3)), TypeError, r"\[linear\].*int64"),
    ("linear float64", lambda: _core.linear(f(2, 3).astype("float64"), f(4, 3)), TypeError, r"\[linear\].*astype"),
    ("conv float64", lambda: _core.conv2d(f(1, 1, 3, 3).astype("float64"), f(1, 1, 2, 2)), TypeError,
     r"\[conv2d\].*astype"),
    ("requires_grad int", lambda: i(2).requires_grad_(), TypeError, r"int64.*float"),
    ("float index", lambda: _core.take_rows(f(2, 3), f(1)), TypeError, r"\[take_rows\].*float32"),
    ("unknown dtype", lambda: f(2).astype("float8"), TypeError, r"float8.*float32"),
    ("string data", lambda: _core.tensor("abc"), TypeError, r".+"),
    # values -> ValueError, with the allowed ones
    ("dropout p", lambda: _core.dropout(f(2), 2.0), ValueError, r"\[dropout\].*p.*2"),
    ("reduction", lambda: _core.mse_loss(f(2), f(2), reduction="avg"), ValueError,
     r"\[mse_loss\].*mean.*sum.*none.*avg"),
    ("padding", lambda: _core.conv2d(f(1, 1, 3, 3), f(1, 1, 2, 2), padding="sane"), ValueError,
     r"\[conv2d\].*same.*sane"),
    ("arange step", lambda: _core.arange(0, 3, 0), ValueError, r"\[arange\].*step"),
    ("device", lambda: _core.ones(2, device="cuda"), (ValueError, NotImplementedError), r"(?i)cuda.*cpu"),
    ("threads", lambda: _core.set_num_threads(0), ValueError, r"(?i)thread|at least 1|positive"),
    ("empty max", lambda: f(0).max(), ValueError, r"\[max\]"),
    ("empty argmax", lambda: f(0).argmax(), ValueError, r"\[argmax\]"),
    # counts
    ("too many threads", lambda: _core.set_num_threads(10**9), ValueError, r"at most 1024, got 1000000000"),
    ("negative count", lambda: _core.linspace(0, 1, -1), ValueError, r">= 0, not -1"),
    # what no integer is
    ("nan as an int", lambda: _core.tensor([1.0, float("nan")], dtype="int64"), ValueError,
     r"\[tensor\].*NaN.*int64.*float"),
    ("inf as an int", lambda: _core.full(2, float("inf"), dtype="int32"), ValueError, r"\[full\].*inf.*int32"),
    # bits of numbers: NumPy and torch work on them, corten does not pretend to
    ("and of ints", lambda: i(2) & 3, TypeError, r"operator &.*booleans, got int64.*logical"),
    ("or with ints", lambda: (i(2) > 0) | i(2), TypeError, r"operator \|.*int64"),
    ("not of floats", lambda: ~f(2), TypeError, r"operator ~.*float32.*logical_not"),
    # the graph -> RuntimeError, with the way out
    ("numpy with grad", lambda: f(2).requires_grad_().numpy(), RuntimeError, r"detach"),
    ("no graph", lambda: f().backward(), RuntimeError, r"\[backward\].*require grad"),
    ("write a result", lambda: (f(2).requires_grad_() * 2).assign_(f(2)), RuntimeError, r"\[assign_\].*leaf.*detach"),
]
# fmt: on


@pytest.mark.parametrize(("call", "error", "text"), [pytest.param(*w[1:], id=w[0].replace(" ", "-")) for w in WRONG])
def test_wrong_call(call, error, text: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert not isinstance(caught.value, _core.InternalError)
    assert re.search(text, str(caught.value), re.DOTALL), str(caught.value)


def test_integers_compare_with_infinities() -> None:
    """No integer is one, and all lie between them."""
    assert (i(2) < float("inf")).tolist() == [True, True]
    assert (float("-inf") >= i(2)).tolist() == [False, False]
    assert (i(1) == float("nan")).tolist() == [False]


def test_internal_error_is_a_runtime_error_with_a_public_name() -> None:
    assert ct.InternalError is _core.InternalError
    assert issubclass(_core.InternalError, RuntimeError)


def test_an_error_leaves_no_trace() -> None:
    """After a failed call the same tensors work."""
    x, w = f(2, 3).requires_grad_(), f(4, 3).requires_grad_()
    with pytest.raises(ValueError, match=r"\[matmul\]"):
        _ = x @ w
    (x @ w.T).sum().backward()
    assert x.grad.tolist() == [[4] * 3] * 2


# -- every operation against arguments of the wrong shape and dtype


def spoil(array: np.ndarray):
    """(what, array) for everything that may be wrong with one argument."""
    yield "one axis more", array[None]
    yield "zero length", array[:0] if array.ndim else np.ones(0, array.dtype)
    yield "0-d", np.ones((), array.dtype)
    if array.ndim:
        yield "one axis less", array[0] if array.shape[0] else np.ones(array.shape[1:], array.dtype)
        yield "longer", np.concatenate([array, array[:1], np.ones((1, *array.shape[1:]), array.dtype)])
        yield "wider", np.concatenate([array, array], axis=-1)
    yield "int64", array.astype(np.int64) if np.isfinite(array).all() else np.ones(array.shape, np.int64)
    yield "bool", array.astype(bool)
    yield "float32 among float64", array.astype(np.float32)
    yield "nan", np.full(array.shape, np.nan)


def spoiled_calls(row):
    """Calls of `row` with exactly one array spoiled: (what, function to make args and kwargs)."""
    for sample in row.cases():
        if sample.big:
            continue
        arrays: list[np.ndarray] = []
        bind(sample, lambda array, marker, arrays=arrays: arrays.append(array))
        for place, original in enumerate(arrays):
            for what, wrong in spoil(original):
                yield f"{sample.label}, array {place}: {what}", sample, place, wrong


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_no_wrong_argument_panics(row, device: str) -> None:
    """Every operation with one argument of the wrong shape or dtype works, or raises a typed error that names it."""
    for what, sample, place, wrong in spoiled_calls(row):
        counter = iter(range(100))
        args, kwargs = bind(
            sample,
            lambda array, marker, n=counter, p=place, w=wrong: _core.tensor(
                w if next(n) == p else array, device=device
            ),
        )
        try:
            outputs = listed(row(*args, **kwargs))
            for output in outputs:
                output.detach().numpy()
        except _core.InternalError as error:
            raise AssertionError(f"{row.name} ({what}) panicked: {error}") from error
        except (ValueError, TypeError, IndexError, NotImplementedError, RuntimeError) as error:
            if not isinstance(error, TypeError) and not re.match(r"\[\w+\] \S", str(error)):
                raise AssertionError(f"{row.name} ({what}): {error!r} names no operation") from error


@pytest.mark.parametrize("row", [row for row in ROWS.values() if row.grad], ids=lambda row: row.name)
def test_no_accepted_oddity_panics_in_backward(row) -> None:
    """What the forward pass lets through (empty, 0-d, broadcast), the backward pass takes too."""
    for what, sample, place, wrong in spoiled_calls(row):
        counter = iter(range(100))

        def convert(array, marker, n=counter, p=place, w=wrong):
            tensor = _core.tensor(w if next(n) == p else array)
            return tensor.requires_grad_() if marker is None and tensor.dtype.is_floating_point else tensor

        try:
            args, kwargs = bind(sample, convert)
            outputs = listed(row(*args, **kwargs))
        except (ValueError, TypeError, IndexError, NotImplementedError):
            continue
        total = None
        for output in outputs:
            if output.requires_grad:
                total = output.sum() if total is None else total + output.sum()
        if total is None:
            continue
        try:
            total.backward()
        except _core.InternalError as error:
            raise AssertionError(f"backward of {row.name} ({what}) panicked: {error}") from error
        inputs: list[_core.Tensor] = []
        for value in [*args, *kwargs.values()]:
            inputs += [
                t for t in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(t, _core.Tensor)
            ]
        for tensor in inputs:
            if tensor.grad is not None:
                assert (tensor.grad.shape, tensor.grad.dtype) == (tensor.shape, tensor.dtype), f"{row.name} ({what})"
