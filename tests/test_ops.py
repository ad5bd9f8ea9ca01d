"""Every operation, driven by its row of `op_table`: forward, first and second order, layouts, devices, errors."""

from __future__ import annotations

import numpy as np
import pytest

from corten import _core
from harness import (
    EXPANDED,
    VIEWS,
    bind,
    bits,
    cast,
    close,
    expand,
    expected,
    gradients,
    leaves,
    replace,
    run,
    to_numpy,
    weighted,
)
from op_table import Row, Sample, State, Tol, rows

ROWS = rows()


def cases(select=lambda row, sample: True):
    """Test parameters: every (row, sample) that `select` keeps, named `operation-sample`."""
    return [
        pytest.param(row, sample, id=f"{row.name}-{sample.label.replace(' ', '_')}")
        for row in ROWS.values()
        for sample in row.cases()
        if select(row, sample)
    ]


def has_gradient(row: Row, sample: Sample) -> bool:
    return row.grad and sample.grad and bool(leaves(sample))


def small(row: Row, sample: Sample) -> bool:
    return has_gradient(row, sample) and not sample.big


def has_arrays(row: Row, sample: Sample) -> bool:
    """Whether an array of the sample is not state: for the optimizer steps, layouts are no question."""
    markers: list[type | None] = []
    bind(sample, lambda array, marker: markers.append(marker))
    return any(marker is not State for marker in markers)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("row", "sample"), cases())
def test_forward(row: Row, sample: Sample, dtype: str, device: str) -> None:
    outputs, _ = run(row, sample, dtype, device)
    wanted = expected(row, sample, dtype)
    assert len(outputs) == len(wanted)
    for index, (output, want) in enumerate(zip(outputs, wanted, strict=True)):
        name = row.out or (dtype if want.dtype.kind == "f" else want.dtype.name)
        assert output.dtype.name == name, f"dtype {output.dtype.name}, expected {name}"
        assert output.device == device
        close(to_numpy(output), want, row.tol, dtype, f"{row.name} output {index}, {dtype} on {device}")


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(("row", "sample"), cases(small))
def test_gradcheck(row: Row, sample: Sample, device: str) -> None:
    inputs = [_core.tensor(array, device=device, requires_grad=True) for array in leaves(sample)]
    assert _core.gradcheck(weighted(row, sample, device), inputs, eps=1e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("row", "sample"), cases(small))
def test_second_order(row: Row, sample: Sample) -> None:
    """The gradient of the gradient, by central differences of the gradient."""
    fn = weighted(row, sample)
    arrays = leaves(sample)
    rng = np.random.default_rng(9)
    directions = [_core.tensor(rng.uniform(-1, 1, size=a.shape)) for a in arrays]

    def slope(*inputs):
        total = _core.tensor(0.0, dtype="float64")
        for g, d in zip(
            _core.grad([fn(*inputs)], list(inputs), create_graph=True, allow_unused=True), directions, strict=True
        ):
            if g is not None:
                total = total + (g * d).sum()
        # Keeps the result tied to every input where the gradient is constant.
        return total + sum((x * 0.0).sum() for x in inputs)

    inputs = [_core.tensor(array, requires_grad=True) for array in arrays]
    assert _core.gradcheck(slope, inputs, eps=1e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(("row", "sample"), cases(small))
def test_differentiable_gradient_is_the_fused_one(row: Row, sample: Sample, device: str) -> None:
    """`create_graph` takes another path through many operations: a formula or a composed twin. Both must agree.

    (`test_second_order` alone would not notice: a wrong formula has a consistent derivative of its own.)
    """
    inputs = [_core.tensor(array, device=device, requires_grad=True) for array in leaves(sample)]
    output = weighted(row, sample, device)(*inputs)
    fused = _core.grad([output], inputs, retain_graph=True, allow_unused=True)
    formula = _core.grad([output], inputs, create_graph=True, allow_unused=True)
    tol = Tol(
        (0, 0), (1e-10, 1e-10), "the same mathematics in float64 on values of order 1, some hundred roundings each"
    )
    for index, (a, b, x) in enumerate(zip(fused, formula, inputs, strict=True)):
        # A missing gradient is a zero one (an empty product is a constant).
        first, second = (np.zeros(x.shape) if g is None else to_numpy(g) for g in (a, b))
        close(second, first, tol, "float64", f"gradient {index} of {row.name}")


@pytest.mark.parametrize(("row", "sample"), cases(has_gradient))
def test_float32_gradient_against_float64_reference(row: Row, sample: Sample) -> None:
    fast = gradients(row, sample, "float32", "cpu")
    # The reference sees the same rounded inputs, so that only the arithmetic differs.
    args, kwargs = bind(
        sample, lambda array, marker: (marker or (lambda a: a))(cast(cast(array, "float32"), "float64"))
    )
    slow = gradients(row, Sample(args, kwargs), "float64", "reference")
    assert len(fast) == len(slow)
    for index, (a, b) in enumerate(zip(fast, slow, strict=True)):
        assert (a is None) == (b is None)
        if a is None:
            continue
        assert a.dtype == np.float32
        scale = max(1.0, float(np.abs(b).max(initial=0.0)))
        close(a.astype(np.float64) / scale, b / scale, row.grad_tol, "float32", f"gradient {index} of {row.name}")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("row", "sample"), cases(has_arrays))
def test_layout_changes_no_bit(row: Row, sample: Sample, dtype: str) -> None:
    """Transposed, stepped, flipped, offset and expanded inputs give the bits of contiguous ones, both ways."""
    with_grad = has_gradient(row, sample)
    plain = [bits(o) for o in run(row, sample, dtype)[0]]
    plain_grad = [bits(g) for g in gradients(row, sample, dtype)] if with_grad else []
    for name, view in VIEWS.items():
        assert [bits(o) for o in run(row, sample, dtype, view=view)[0]] == plain, f"forward differs on {name} inputs"
        if with_grad:
            assert [bits(g) for g in gradients(row, sample, dtype, view=view)] == plain_grad, (
                f"gradient differs on {name} inputs"
            )
    args, kwargs = bind(sample, repeat_first)
    repeated = Sample(args, kwargs)
    plain = [bits(o) for o in run(row, repeated, dtype)[0]]
    assert [bits(o) for o in run(row, repeated, dtype, view=EXPANDED)[0]] == plain, "forward differs on expanded inputs"
    if with_grad:
        plain_grad = [bits(g) for g in gradients(row, repeated, dtype)]
        assert [bits(g) for g in gradients(row, repeated, dtype, view=EXPANDED)] == plain_grad, (
            "gradient differs on expanded inputs"
        )


def repeat_first(array: np.ndarray, marker: type | None) -> object:
    """Every array with its first slice repeated; marked as before, state untouched."""
    if marker is None:
        return expand(array)
    return State(array) if marker is State else marker(expand(array))


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("row", "sample"), cases(lambda row, sample: sample.big))
def test_thread_count_changes_no_bit(row: Row, sample: Sample, threads: int) -> None:
    with_grad = has_gradient(row, sample)

    def everything():
        return [bits(o) for o in run(row, sample, "float32")[0]], [
            bits(g) for g in gradients(row, sample, "float32")
        ] if with_grad else []

    _core.set_num_threads(1)
    alone = everything()
    # However small the work: otherwise most samples would run on one thread all the same.
    _core._force_threads(True)
    _core.set_num_threads(threads)
    assert everything() == alone


BAD = [pytest.param(row, bad, id=f"{row.name}-{index}") for row in ROWS.values() for index, bad in enumerate(row.bad)]


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize(("row", "bad"), BAD)
def test_bad_input(row: Row, bad, device: str) -> None:
    def convert(array, marker):
        return _core.tensor(array, device=device)

    args = replace(bad.args, convert)
    kwargs = {name: replace(value, convert) for name, value in bad.kwargs.items()}
    with pytest.raises(bad.error, match=bad.match):
        row(*args, **kwargs)


INTS = [
    pytest.param(row, dtype, id=f"{row.name}-{dtype}")
    for row in ROWS.values()
    if row.ints
    for dtype in ("int64", "int32", "int16", "int8", "uint8")
]


@pytest.mark.parametrize(("row", "dtype"), INTS)
def test_integers(row: Row, dtype: str) -> None:
    """Integer inputs: the formula in NumPy's own integers, or in float64 where the result is a float."""
    array = np.random.default_rng(3).integers(1, 6, size=(3, 37)).astype(dtype)
    count = max(len(leaves(sample)) for sample in row.cases())
    arrays = [array, array[::-1].copy()][:count]
    extra = ((-1,),) if row.name == "reshape" else ()
    name = dtype if row.ints == "same" else row.ints
    wide = [a.astype(np.float64 if name == "float32" else np.int64) for a in arrays]
    want = np.asarray(row.numpy(*wide, *extra)).astype(name)
    tol = Tol((1e-6, 1e-6), (0, 0), "values up to 150, a few roundings to float32")
    for device in ("cpu", "reference"):
        result = row(*[_core.tensor(a, device=device) for a in arrays], *extra)
        assert result.dtype.name == name
        close(to_numpy(result), want, tol, "float32", f"{row.name} of {dtype} on {device}")


# -- what does not fit a row


def test_batch_norm_updates_running_statistics() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3, 4))
    mean, var = rng.normal(size=3), rng.uniform(0.5, 2, size=3)
    running_mean, running_var = _core.tensor(mean), _core.tensor(var)
    _core.batch_norm(_core.tensor(x), running_mean, running_var, training=True, momentum=0.25)
    np.testing.assert_allclose(running_mean.numpy(), 0.75 * mean + 0.25 * x.mean(axis=(0, 2)), rtol=1e-12)
    np.testing.assert_allclose(running_var.numpy(), 0.75 * var + 0.25 * x.var(axis=(0, 2), ddof=1), rtol=1e-12)


def test_batch_norm_second_order_leaves_running_statistics_alone() -> None:
    """The composed twin that create_graph runs must not update the statistics a second time."""
    x = _core.tensor(np.random.default_rng(0).normal(size=(6, 3)), requires_grad=True)
    mean, var = _core.zeros(3, dtype="float64"), _core.ones(3, dtype="float64")
    y = _core.batch_norm(x, mean, var, training=True)
    after_forward = bits(mean), bits(var)
    (g,) = _core.grad([(y * y * y).sum()], [x], create_graph=True)
    (g * g).sum().backward()
    assert (bits(mean), bits(var)) == after_forward


def test_batch_norm_inference_writes_nothing() -> None:
    mean, var = _core.zeros(3), _core.ones(3)
    before = bits(mean), bits(var)
    _core.batch_norm(_core.ones((4, 3)), mean, var, training=False)
    assert (bits(mean), bits(var)) == before


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_statistics(p: float) -> None:
    """The share of zeros of n draws lies within 5 standard deviations of p; survivors are scaled by 1/(1-p)."""
    n = 200_000
    y = _core.dropout(_core.ones(n), p).numpy()
    assert abs((y == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - p), rtol=2e-7)


def test_dropout_gradient_uses_the_same_mask() -> None:
    x = _core.ones(1000, requires_grad=True)
    y = _core.dropout(x, 0.5)
    y.sum().backward()
    np.testing.assert_array_equal(to_numpy(x.grad), to_numpy(y))


def test_dropout_draws_anew_each_call_and_repeats_after_seeding() -> None:
    x = _core.ones(1000)
    _core.manual_seed(1)
    first, second = bits(_core.dropout(x)), bits(_core.dropout(x))
    assert first != second
    _core.manual_seed(1)
    assert bits(_core.dropout(x)) == first


def test_max_of_ties_shares_or_picks_but_sums_to_one() -> None:
    x = _core.tensor([[1.0, 3.0, 3.0, 2.0]], requires_grad=True)
    x.max(axis=1).sum().backward()
    g = to_numpy(x.grad)
    assert g.sum() == 1.0
    assert g[0, 0] == 0
    assert g[0, 3] == 0


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_a_tie_of_two_shares_the_gradient(name: str) -> None:
    a, b = (_core.tensor([2.0, 3.0], requires_grad=True) for _ in range(2))
    getattr(_core, name)(a, b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [0.5, 0.5]


def test_split_parts_join_to_the_whole_gradient() -> None:
    x = _core.tensor(np.arange(6.0), requires_grad=True)
    parts = _core.split(x, 3)
    (parts[0] * 2.0 + parts[2] * 3.0).sum().backward()
    np.testing.assert_array_equal(to_numpy(x.grad), [2, 2, 0, 0, 3, 3])


def test_results_do_not_alias_after_a_write() -> None:
    """A view taken before a write keeps the old values: tensors are values."""
    x = _core.zeros((2, 3))
    row, flat = x[0], x.reshape(6)
    x[0, 0] = 5.0
    assert row.tolist() == [0, 0, 0]
    assert flat.tolist() == [0] * 6
    assert x.tolist() == [[5, 0, 0], [0, 0, 0]]


# -- dtypes

NAMES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
KIND = {n: n.rstrip("0123456789") for n in NAMES}


def promoted(a: str, b: str) -> str:
    """The documented rule: a float wins, then the larger integer; uint8 with int8 is int16; bool is lowest."""
    if a == b:
        return a
    if "bool" in (a, b):
        return a if b == "bool" else b
    floats = [n for n in (a, b) if KIND[n] == "float"]
    if floats:
        return max(floats)  # "float64" > "float32" > "float16"
    if {a, b} == {"uint8", "int8"}:
        return "int16"
    return max((a, b), key=lambda n: np.dtype(n).itemsize)


@pytest.mark.parametrize("b", NAMES)
@pytest.mark.parametrize("a", NAMES)
def test_promotion(a: str, b: str) -> None:
    x, y = np.array([1, 0, 1]).astype(a), np.array([1, 1, 0]).astype(b)
    left, right = _core.tensor(x), _core.tensor(y)
    assert left.dtype.name == a
    assert right.dtype.name == b
    wanted = promoted(a, b)
    for name in ("maximum", "minimum"):
        result = getattr(_core, name)(left, right)
        assert result.dtype.name == wanted, name
        np.testing.assert_array_equal(result.numpy(), getattr(np, name)(x.astype(wanted), y.astype(wanted)))
    # Arithmetic counts truth values.
    number = "int64" if wanted == "bool" else wanted
    for name in ("add", "subtract", "multiply"):
        result = getattr(_core, name)(left, right)
        assert result.dtype.name == number, name
        np.testing.assert_array_equal(result.numpy(), getattr(np, name)(x.astype(number), y.astype(number)))
    quotient = _core.divide(left, right)
    assert quotient.dtype.name == (wanted if KIND[wanted] == "float" else "float32")
    assert _core.less(left, right).dtype.name == "bool"
    assert _core.less(left, right).tolist() == [False, True, False]
    where = _core.where(_core.tensor([True, False, True]), left, right)
    assert where.dtype.name == wanted


@pytest.mark.parametrize("name", NAMES)
def test_python_scalars_are_weak(name: str) -> None:
    x = _core.tensor(np.array([1, 0, 1]).astype(name))
    floats = name if KIND[name] == "float" else "float32"
    ints = "int64" if name == "bool" else name
    assert (x + 1).dtype.name == (1 + x).dtype.name == ints
    assert (x + 1.5).dtype.name == (1.5 - x).dtype.name == floats
    assert (x * 1.5).tolist() == [1.5, 0, 1.5]
    assert (2 - x).tolist() == [1, 2, 1]
    assert (x / 2).dtype.name == floats
    assert (x / 2).tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize("to", NAMES)
@pytest.mark.parametrize("name", NAMES)
def test_astype_every_pair(name: str, to: str) -> None:
    source = np.array([0, 1, 2, 3, 100]).astype(name)
    if KIND[name] == "float":
        source = source + np.array([0, 0.5, 0.75, 0, 0], dtype=name)
    result = _core.tensor(source).astype(to)
    assert result.dtype.name == to
    np.testing.assert_array_equal(result.numpy(), source.astype(to))


@pytest.mark.parametrize("name", NAMES[3:])
def test_integer_reductions(name: str) -> None:
    x = np.array([[1, 0, 1], [1, 1, 1]]).astype(name)
    t = _core.tensor(x)
    assert t.sum().dtype.name == "int64"
    assert t.sum().item() == 5
    assert t.sum(axis=0).tolist() == [2, 1, 2]
    assert t.mean().dtype.name == "float32"
    assert abs(t.mean().item() - 5 / 6) < 1e-6
    assert t.argmax(axis=1).dtype.name == "int64"
    assert t.argmax(axis=1).tolist() == [0, 0]
    assert t.any(axis=0).tolist() == [True, True, True]
    assert t.all(axis=0).tolist() == [True, False, True]


def test_small_integers_do_not_overflow_in_sum() -> None:
    assert _core.tensor(np.full(1000, 100, np.int8)).sum().item() == 100_000
    assert _core.tensor(np.ones(1000, bool)).sum().item() == 1000


def test_integer_arithmetic_wraps_as_numpy() -> None:
    x = np.array([127, -128, 100], np.int8)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal((_core.tensor(x) + _core.tensor(x)).numpy(), x + x)
        np.testing.assert_array_equal((_core.tensor(x) * _core.tensor(x)).numpy(), x * x)


@pytest.mark.parametrize("name", ["int64", "int32", "int16", "int8", "float32", "float64"])
def test_floor_divide_and_remainder_have_pythons_signs(name: str) -> None:
    a, b = np.array([7, -7, 7, -7, 6]).astype(name), np.array([2, 2, -2, -2, 3]).astype(name)
    x, y = _core.tensor(a), _core.tensor(b)
    assert (x // y).dtype.name == (x % y).dtype.name == name
    np.testing.assert_array_equal((x // y).numpy(), a // b)
    np.testing.assert_array_equal((x % y).numpy(), a % b)


def test_matmul_of_one_row_equals_the_row_of_the_whole() -> None:
    """Which row of a product is computed must not change it beyond rounding, whatever tile it falls in."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(130, 300)).astype(np.float32), rng.normal(size=(300, 70)).astype(np.float32)
    whole = (_core.tensor(a) @ _core.tensor(b)).numpy()
    for row in (0, 64, 129):
        one = (_core.tensor(a[row : row + 1]) @ _core.tensor(b)).numpy()
        np.testing.assert_allclose(one[0], whole[row], rtol=0, atol=300 * 6e-8 * 300 / 20)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_matmul_and_conv_propagate(value: float) -> None:
    """0 * nan is nan: no kernel may skip zeros."""
    a = np.zeros((20, 30))
    a[3, 4] = value
    y = (_core.tensor(a) @ _core.tensor(np.zeros((30, 40)))).numpy()
    assert np.isnan(y[3]).all()
    assert not np.isnan(np.delete(y, 3, axis=0)).any()
    x = np.zeros((1, 1, 8, 8))
    x[0, 0, 4, 4] = value
    y = _core.conv2d(_core.tensor(x), _core.tensor(np.zeros((2, 1, 3, 3)))).numpy()
    assert np.isnan(y[:, :, 2:5, 2:5]).all()
    assert np.isnan(y).sum() == 2 * 9


def test_devices_do_not_mix() -> None:
    with pytest.raises(ValueError, match=r"\[add\].*(cpu.*reference|reference.*cpu)"):
        _core.ones(3) + _core.ones(3, device="reference")
