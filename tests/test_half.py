"""float16 and bfloat16: stored in 16 bits, calculated in float32, rounded once."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import corten as ct
from corten import _core, nn, optim
from harness import VIEWS, bind, cotangents, leaves, listed
from op_table import Row, Sample, rows

HALVES = ["float16", "bfloat16"]
NUMPY = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
#: Distance between 1 and the next number.
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
#: Below this, numbers are multiples of one smallest number.
TINY = {"float16": 2.0**-14, "bfloat16": 2.0**-126}
ROWS = rows()


def half(array, dtype: str, device: str = "cpu", grad: bool = False) -> ct.Tensor:
    """A float array in `dtype`, any other as it is."""
    array = np.asarray(array)
    tensor = _core.tensor(array, dtype=dtype if array.dtype.kind == "f" else None, device=device)
    return tensor.requires_grad_() if grad and array.dtype.kind == "f" else tensor


def bits(tensor: ct.Tensor) -> np.ndarray:
    return tensor.detach().view("int16").numpy()


def numbers(tensor: ct.Tensor) -> np.ndarray:
    return tensor.detach().astype("float64").numpy()


def every_number(dtype: str) -> ct.Tensor:
    return _core.tensor(np.arange(65536).astype(np.uint16).view(np.int16)).view(dtype)


# -- conversion


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", HALVES)
def test_every_pattern_is_the_number_that_numpy_sees(dtype: str, device: str) -> None:
    x = every_number(dtype).to(device)
    pattern = np.arange(65536).astype(np.uint16)
    plain = pattern.view(NUMPY[dtype])
    nan = (pattern & 0x7FFF) > (0x7F80 if dtype == "bfloat16" else 0x7C00)
    for wide in ("float32", "float64"):
        with np.errstate(invalid="ignore"):  # signalling NaNs
            np.testing.assert_array_equal(x.astype(wide).numpy(), plain.astype(wide))
        back = x.astype(wide).astype(dtype)
        np.testing.assert_array_equal(bits(back.to("cpu"))[~nan], plain.view(np.int16)[~nan])
        assert ct.isnan(back).numpy()[nan].all()


def between(dtype: str) -> np.ndarray:
    """Every finite number of the type, the middles between neighbours, and what lies right beside these; float32."""
    plain = np.arange(0x7F80 if dtype == "bfloat16" else 0x7C00).astype(np.uint16).view(NUMPY[dtype])
    plain = plain.astype(np.float64)
    middle = plain + np.diff(plain, append=2 * plain[-1] - plain[-2]) / 2
    points = np.concatenate([plain, middle]).astype(np.float32)
    points = np.concatenate([points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(0))])
    return np.concatenate([points, -points, np.array([np.inf, -np.inf, 3e38, -1e-45], np.float32)])


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", HALVES)
def test_rounding_is_to_nearest_even(dtype: str, device: str) -> None:
    points = between(dtype)
    with np.errstate(over="ignore"):
        want = points.astype(NUMPY[dtype]).view(np.int16)
    for wide in (points, points.astype(np.float64)):
        np.testing.assert_array_equal(bits(_core.tensor(wide, device=device).astype(dtype).to("cpu")), want)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", HALVES)
def test_doubles_and_integers_are_rounded_once(dtype: str, device: str) -> None:
    """A hair above a tie rounds up; through float32 the hair would be lost and the tie go to even."""
    eps = EPS[dtype]
    x = _core.tensor(np.array([1 + eps / 2, 1 + eps / 2 + 2.0**-40, -1 - eps / 2 - 2.0**-40]), device=device)
    assert x.astype(dtype).tolist() == [1.0, 1 + eps, -1 - eps]
    assert x.astype("float32").astype(dtype).tolist() == [1.0, 1.0, -1.0]
    tie = (1 << 62) + (1 << 54)
    n = _core.tensor(np.array([tie, tie + 1, -tie - 1, 2049, 70000]), device=device).astype(dtype).tolist()
    want = [2.0**62, 2.0**62 + 2.0**55, -(2.0**62) - 2.0**55, 2048.0, 70144.0]
    assert n == (want if dtype == "bfloat16" else [np.inf, np.inf, -np.inf, 2048.0, np.inf])


@given(
    hnp.arrays(np.float64, hnp.array_shapes(max_dims=2, max_side=40), elements=st.floats(width=64)),
    st.sampled_from(["float32", "float64"]),
)
def test_any_number_rounds_as_float16_of_numpy(array: np.ndarray, wide: str) -> None:
    with np.errstate(all="ignore"):
        array = array.astype(wide)
        want = array.astype(np.float16)
    np.testing.assert_array_equal(_core.tensor(array).astype("float16").numpy(), want)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=40), elements=st.floats(width=32)))
def test_any_number_rounds_as_bfloat16_of_ml_dtypes(array: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        want = array.astype(NUMPY["bfloat16"]).astype(np.float32)
    np.testing.assert_array_equal(_core.tensor(array).astype("bfloat16").astype("float32").numpy(), want)


OTHERS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("dtype", HALVES)
def test_astype_there_and_back(dtype: str, other: str, device: str) -> None:
    values = np.array([0, 1, 2.5, -3.75, 100]) if "int" not in other and other != "bool" else np.array([0, 1, 2.9, 100])
    x = half(values, dtype, device)
    y = x.astype(other)
    assert (y.dtype.name, y.device) == (other, device)
    cut = values.astype(other) if other not in HALVES else values
    np.testing.assert_array_equal(y.astype("float64").numpy(), cut.astype(np.float64))
    z = y.astype(dtype)
    assert z.dtype.name == dtype
    np.testing.assert_array_equal(numbers(z), cut.astype(np.float64))


# -- operations


def cases(select):
    return [
        pytest.param(row, sample, id=f"{row.name}-{sample.label.replace(' ', '_')}")
        for row in ROWS.values()
        for sample in row.cases()
        if select(row, sample) and bind(sample, lambda array, _: array) is not None
    ]


def has_floats(row: Row, sample: Sample) -> bool:
    found: list[bool] = []
    bind(sample, lambda array, marker: found.append(array.dtype.kind == "f"))
    return any(found) and row.name not in OPTIMIZERS


#: Steps have state in float32: tested below.
OPTIMIZERS = ("sgd_step", "adam_step", "rmsprop_step")


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("row", "sample"), cases(has_floats))
def test_forward_is_the_float32_result_rounded_once(row: Row, sample: Sample, dtype: str, device: str) -> None:
    """Bit for bit, for composed operations too."""
    args, kwargs = bind(sample, lambda array, _: half(array, dtype, device))
    outputs = listed(row(*args, **kwargs))

    def widened(array, marker):
        tensor = half(array, dtype, device)
        return tensor.astype("float32") if tensor.dtype == dtype else tensor

    args, kwargs = bind(sample, widened)
    wanted = listed(row(*args, **kwargs))
    assert len(outputs) == len(wanted)
    for output, want in zip(outputs, wanted, strict=True):
        assert output.dtype == (dtype if want.dtype == "float32" and row.out is None else want.dtype)
        assert (output.shape, output.device) == (want.shape, device)
        np.testing.assert_array_equal(numbers(output), numbers(want.astype(output.dtype)))


def has_gradient(row: Row, sample: Sample) -> bool:
    return has_floats(row, sample) and row.grad and sample.grad and bool(leaves(sample)) and not sample.big


def half_gradients(row: Row, sample: Sample, dtype: str, wide: bool, create_graph: bool = False):
    """Gradients of the outputs, weighted with numbers of the type; `wide`: the same numbers in float32."""
    inputs: list[ct.Tensor] = []

    def convert(array, marker):
        tensor = half(array, dtype)
        if wide and tensor.dtype == dtype:
            tensor = tensor.astype("float32")
        if marker is None and array.dtype.kind == "f":
            inputs.append(tensor.requires_grad_())
        return tensor

    args, kwargs = bind(sample, convert)
    outputs = [o for o in listed(row(*args, **kwargs)) if o.dtype.is_floating_point]  # indices have no gradient
    weights = [half(w, dtype).astype(o.dtype) for w, o in zip(cotangents(outputs, dtype), outputs, strict=True)]
    return _core.grad(outputs, inputs, weights, create_graph=create_graph, allow_unused=True), inputs


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("row", "sample"), cases(has_gradient))
def test_gradients_have_the_dtype_and_nearly_the_values(row: Row, sample: Sample, dtype: str) -> None:
    """Against the float32 gradient of the same numbers. A gradient that is written in operations rounds at
    each of them: some ten roundings of eps / 2, relative to the largest number that takes part."""
    wanted, _ = half_gradients(row, sample, dtype, wide=True)
    for create_graph in (False, True):
        found, inputs = half_gradients(row, sample, dtype, wide=False, create_graph=create_graph)
        for g, w, x in zip(found, wanted, inputs, strict=True):
            assert g is None or (g.dtype, g.shape) == (dtype, x.shape)
            # A missing gradient is a zero one.
            a, b = (np.zeros(x.shape) if v is None else numbers(v) for v in (g, w))
            scale = max(float(np.abs(b).max(initial=0.0)), 1.0)
            np.testing.assert_allclose(a, b, rtol=0, atol=8 * EPS[dtype] * scale)


def laid_out(view, array, dtype: str) -> ct.Tensor:
    """The array in `dtype`, in the layout of `view`: of its bits, as the views are made by NumPy."""
    array = np.asarray(array)
    if array.dtype.kind != "f":
        return view(array, "cpu", False)
    return view(bits(half(array, dtype)), "cpu", False).view(dtype)


SOME = ["add", "exp", "sum", "mean", "matmul", "softmax", "layer_norm", "conv2d", "where", "concat", "sort", "take"]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("row", "sample"), cases(lambda row, s: row.name in SOME and has_floats(row, s)))
def test_layout_changes_no_bit(row: Row, sample: Sample, dtype: str) -> None:
    args, kwargs = bind(sample, lambda array, _: half(array, dtype))
    plain = [numbers(o).tobytes() for o in listed(row(*args, **kwargs))]
    for name, view in VIEWS.items():
        args, kwargs = bind(sample, lambda array, marker, view=view: laid_out(view, array, dtype))
        assert [numbers(o).tobytes() for o in listed(row(*args, **kwargs))] == plain, name


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["add", "sum", "matmul", "softmax", "conv2d", "take"])
def test_thread_count_changes_no_bit(name: str, dtype: str) -> None:
    samples = [s for s in ROWS[name].cases() if has_floats(ROWS[name], s)]

    def everything():
        out = []
        for sample in samples:
            args, kwargs = bind(sample, lambda array, _: half(array, dtype))
            out += [numbers(o).tobytes() for o in listed(ROWS[name](*args, **kwargs))]
        return out

    _core.set_num_threads(1)
    alone = everything()
    _core._force_threads(True)
    _core.set_num_threads(3)
    assert everything() == alone


def test_sums_are_accumulated_in_float32() -> None:
    """2048 + 1 is 2048 in float16, and the sum of a large tensor leaves its range: the mean must not."""
    ones = ct.ones(100_000, dtype="float16")
    assert ct.ones(3000, dtype="float16").sum().item() == 3000
    assert ones.sum().item() == np.inf
    assert ones.sum(dtype="float32").item() == 100_000
    assert ones.mean().item() == 1.0
    assert (ones * 60_000).std().item() == 0.0
    assert ct.norm(ct.full((4,), 300.0, dtype="float16")).item() == 600.0
    assert ct.logsumexp(ct.zeros(1000, dtype="bfloat16")).item() == 6.90625
    targets = ct.zeros(100_000, dtype="float16")
    assert nn.functional.mse_loss(ones * 3, targets).item() == 9.0


# -- dtype rules


def promoted(dtype: str, other: str) -> str:
    """A wider float wins; the two 16-bit ones give float32, which holds both; a 16-bit one wins over integers."""
    if other in ("float64", "float32"):
        return other
    return "float32" if other in HALVES and other != dtype else dtype


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("dtype", HALVES)
def test_promotion(dtype: str, other: str) -> None:
    x, y = half(np.array([1.5, 2.0]), dtype), ct.tensor([1, 0]).astype(other)
    want = promoted(dtype, other)
    for a, b in ((x, y), (y, x)):
        for name in ("add", "subtract", "multiply", "maximum", "minimum", "pow"):
            assert getattr(ct, name)(a, b).dtype == want, name
        assert ct.where(ct.tensor([True, False]), a, b).dtype == want
        assert ct.concat([a.astype(want), b.astype(want)]).dtype == want
        assert (a > b).dtype == "bool"
    assert (x / y).dtype == want
    assert (x + y).tolist() == [2.5, 2.0]


@pytest.mark.parametrize("dtype", HALVES)
def test_python_scalars_are_weak(dtype: str) -> None:
    x = half(np.array([1.5, 2.0]), dtype)
    for y in (x + 1, 1 + x, x * 0.5, 0.5 - x, x**2, x / 3, x > 1, True + x, -x, abs(x)):
        assert y.dtype == (dtype if y.dtype != "bool" else "bool")
    assert (x * 0.5).tolist() == [0.75, 1.0]
    assert ct.sum(x).dtype == ct.mean(x).dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_random_numbers(dtype: str) -> None:
    u = ct.rand(20_000, dtype=dtype)
    assert u.dtype == dtype
    assert u.min().item() >= 0
    assert u.max().item() < 1, "rounded to nearest, the largest would be 1"
    assert abs(u.astype("float32").mean().item() - 0.5) < 0.01
    z = ct.randn(20_000, dtype=dtype).astype("float32")
    assert abs(z.std().item() - 1) < 0.02
    assert ct.uniform((5,), -1, 1, dtype=dtype).dtype == ct.normal((5,), dtype=dtype).dtype == dtype
    for x in (
        ct.zeros(2, dtype=dtype),
        ct.arange(3, dtype=dtype),
        ct.linspace(0, 1, 3, dtype=dtype),
        ct.eye(2, dtype=dtype),
    ):
        assert x.dtype == dtype
    assert ct.arange(3, dtype=dtype).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", HALVES)
def test_indexing_sorting_and_assignment(dtype: str) -> None:
    x = half(np.array([[3.0, 1.0, 2.0], [0.5, -1.0, np.nan]]), dtype)
    assert x[0, 1:].tolist() == [1.0, 2.0]
    assert ct.sort(x[0]).tolist() == [1.0, 2.0, 3.0]
    assert ct.argsort(x[1]).tolist() == [1, 0, 2]
    values, places = ct.topk(x[0], 2)
    assert (values.tolist(), places.tolist(), values.dtype.name) == ([3.0, 2.0], [0, 2], dtype)
    assert ct.unique_values(half(np.array([2.0, 1.0, 2.0]), dtype)).tolist() == [1.0, 2.0]
    assert ct.cumulative_sum(x[0]).tolist() == [3.0, 4.0, 6.0]
    assert (x > 1).tolist() == [[True, False, True], [False, False, False]]
    x[0] = 7.0
    x[1, 1:] = ct.tensor([1.0, 2.0])
    assert x.tolist() == [[7.0, 7.0, 7.0], [0.5, 1.0, 2.0]]
    assert ct.take(x, ct.tensor([1]), axis=0).tolist() == [[0.5, 1.0, 2.0]]


@pytest.mark.parametrize("dtype", HALVES)
def test_limits(dtype: str) -> None:
    info, want = ct.finfo(dtype), ml_dtypes.finfo(NUMPY[dtype])
    assert (info.bits, info.eps, info.max, info.min) == (16, float(want.eps), float(want.max), float(want.min))
    assert info.smallest_normal == float(want.smallest_normal)
    assert info.dtype == dtype
    assert ct.finfo(ct.ones(1, dtype=dtype)).eps == info.eps == EPS[dtype]


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_limits_of_wider_floats(name: str) -> None:
    info, want = ct.finfo(name), np.finfo(name)
    assert (info.bits, info.eps, info.max, info.min) == (want.bits, want.eps, want.max, want.min)
    assert info.smallest_normal == want.smallest_normal
    with pytest.raises(TypeError, match=r"\[iinfo\].*float"):
        ct.iinfo(name)


@pytest.mark.parametrize("name", ["int64", "int32", "int16", "int8", "uint8"])
def test_limits_of_integers(name: str) -> None:
    info, want = ct.iinfo(np.dtype(name)), np.iinfo(name)
    assert (info.bits, info.max, info.min, info.dtype.name) == (want.bits, want.max, want.min, name)
    with pytest.raises(TypeError, match=r"\[finfo\].*int"):
        ct.finfo(name)


# -- in and out


def test_float16_and_numpy() -> None:
    a = np.array([[1.5, -2.0], [np.inf, 6e-8]], np.float16)
    x = ct.tensor(a)
    assert x.dtype == ct.float16 == np.float16
    assert x.numpy().dtype == np.float16
    np.testing.assert_array_equal(x.numpy(), a)
    shared = ct.asarray(a)
    a[0, 0] = 4
    assert shared[0, 0].item() == 4.0
    assert x[0, 0].item() == 1.5
    assert ct.tensor(a.astype(">f2")).tolist() == a.tolist()
    assert (np.float16(2) * x).dtype == "float16"
    assert memoryview(x).format == "e"


def test_bfloat16_and_numpy() -> None:
    x = ct.tensor([1.0, 0.1], dtype="bfloat16", requires_grad=True).detach()
    for out in (x.numpy, lambda: np.asarray(x), lambda: x.dtype.numpy()):
        with pytest.raises(TypeError, match=r"\[numpy\] NumPy has no bfloat16.*astype\('float32'\)"):
            out()
    with pytest.raises(BufferError, match="bfloat16"):
        memoryview(x)
    a = np.array([[1.0, 0.1, -3.0]], ml_dtypes.bfloat16)
    for y in (ct.tensor(a), ct.asarray(a), ct.tensor(a[:, ::-1])[:, ::-1], ct.asarray(a, copy=False)):
        assert y.dtype == ct.bfloat16
        np.testing.assert_array_equal(y.astype("float32").numpy(), a.astype(np.float32))
    assert ct.tensor(a, dtype="float32").dtype == "float32"
    y = ct.asarray(a)
    y[0, 0] = 5.0
    assert (y[0, 0].item(), float(a[0, 0])) == (5.0, 1.0)
    np.testing.assert_array_equal(ct.tensor(a).view("int16").numpy().view(ml_dtypes.bfloat16), a)


def test_views_of_bits() -> None:
    x = ct.tensor([1.0, -2.0], dtype="float32")
    assert x.view("int32").tolist() == [0x3F800000, 0xC0000000 - (1 << 32)]
    assert x.view("int32").view("float32").tolist() == [1.0, -2.0]
    assert ct.tensor([True]).view("uint8").tolist() == [1]
    with pytest.raises(TypeError, match=r"\[view\] float32 has 4 bytes and int16 has 2.*astype"):
        x.view("int16")
    with pytest.raises(TypeError, match=r"\[view\].*bool"):
        ct.tensor([2], dtype="uint8").view("bool")
    # What is viewed keeps its values when the original is written.
    seen = x.view("int32")
    x[0] = 0.0
    assert seen.view("float32").tolist() == [1.0, -2.0]
    with pytest.raises(ValueError, match="view"):
        seen[0] = 1


#: bfloat16 is shown with the digits that it has.
TEXTS = {
    "float16": "tensor([[1. , 0.1]], dtype=float16)",
    "bfloat16": "tensor([[1.    , 0.1001]], dtype=bfloat16)",
}


@pytest.mark.parametrize("dtype", HALVES)
def test_text_and_lists(dtype: str) -> None:
    x = ct.tensor([[1.0, 0.1]], dtype=dtype)
    assert repr(x) == TEXTS[dtype]
    assert x.tolist() == [[1.0, float(np.float32(0.1).astype(NUMPY[dtype]))]]
    assert x[0, 0].item() == 1.0
    assert float(x[0, 0]) == 1.0
    assert repr(getattr(ct, dtype)) == f"corten.{dtype}"
    assert getattr(ct, dtype).is_floating_point
    assert getattr(ct, dtype).itemsize == 2
    assert ct.tensor([1], dtype=NUMPY[dtype]).dtype == dtype
    with pytest.raises(TypeError, match="float16, bfloat16"):
        x.astype("float8")


@pytest.mark.parametrize("dtype", HALVES)
def test_copies_and_pickles(dtype: str) -> None:
    x = ct.tensor([1.0, 0.1], dtype=dtype, requires_grad=True)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        y = pickle.loads(pickle.dumps(x, protocol))
        assert (y.dtype, y.requires_grad) == (dtype, True)
        np.testing.assert_array_equal(bits(y), bits(x))
    np.testing.assert_array_equal(bits(copy.deepcopy(x)), bits(x))
    np.testing.assert_array_equal(bits(ct.from_dlpack(x.detach())), bits(x))
    assert x.to("reference").to("cpu").tolist() == x.tolist()


# -- training


@pytest.mark.parametrize("dtype", HALVES)
def test_layers_refuse_other_floats(dtype: str) -> None:
    layer = nn.Linear(3, 2).to(dtype)
    assert layer.weight.dtype == dtype
    assert layer(ct.ones((1, 3), dtype=dtype)).dtype == dtype
    with pytest.raises(TypeError, match=rf"\[linear\] input is float32 but the weight is {dtype}.*astype\('{dtype}'\)"):
        layer(ct.ones((1, 3)))
    with pytest.raises(TypeError, match=rf"\[linear\] input is {dtype} but the weight is float32"):
        nn.Linear(3, 2)(ct.ones((1, 3), dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: optim.Adam(p, lr=0.1),
        lambda p: optim.AdamW(p, lr=0.1),
        lambda p: optim.RMSprop(p, lr=0.1),
        lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "rmsprop", "centered"],
)
def test_steps_are_those_of_float32_rounded(make, dtype: str) -> None:
    """State is float32 and follows the float32 path; the parameter is rounded at the end of each step, so that one step
    of float32 from where it stands gives its next value, bit for bit."""
    rng = np.random.default_rng(0)
    p = half(rng.normal(size=(4, 5)), dtype, grad=True)
    optimizer = make([p])
    for step in range(3):
        gradient = half(rng.normal(size=(4, 5)), dtype)
        wide = p.detach().astype("float32").clone().requires_grad_()
        other = make([wide])
        saved = optimizer.state_dict()
        assert all(
            v.dtype == "float32" for s in saved["state"].values() for v in s.values() if isinstance(v, ct.Tensor)
        )
        other.load_state_dict(saved)
        p.grad, wide.grad = gradient, gradient.astype("float32")
        optimizer.step()
        other.step()
        np.testing.assert_array_equal(bits(p), bits(wide.astype(dtype)), err_msg=f"step {step}")
    again = make([p])
    again.load_state_dict(optimizer.state_dict())
    p.grad = half(np.ones((4, 5)), dtype)
    again.step()


def test_state_of_the_wrong_dtype_is_refused() -> None:
    p = ct.ones(2, dtype="bfloat16", requires_grad=True)
    g = ct.ones(2, dtype="bfloat16")
    with pytest.raises(TypeError, match=r"parameter 0 is bfloat16 but momentum_buffers\[0\] is bfloat16, not float32"):
        _core.sgd_step([p], [g], [ct.zeros(2, dtype="bfloat16")], lr=0.1, momentum=0.9)
    with pytest.raises(TypeError, match=r"parameter 0 is bfloat16 but grads\[0\] is float32"):
        _core.sgd_step([p], [g.astype("float32")], None, lr=0.1)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_network_learns(dtype: str) -> None:
    """Two moons' worth of classes, told apart by convolution, batch norm and linear layers, all in 16 bits."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, size=256)
    images = rng.normal(scale=0.5, size=(256, 1, 6, 6))
    images[labels == 1, :, 1:4, 1:4] += 1.0
    images[labels == 0, :, 2:5, 2:5] -= 1.0
    ct.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 16),
        nn.LayerNorm(16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 2),
    ).to(dtype)  # fmt: skip
    x, t = half(images, dtype), ct.tensor(labels)
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_fn(model(x), t)
        loss.backward()
        assert all(p.grad is not None and p.grad.dtype == p.dtype == dtype for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    assert losses[0] > 0.4
    assert losses[-1] < 0.15
    assert (model(x).argmax(axis=1) == t).astype("float32").mean().item() > 0.95


@pytest.mark.parametrize("dtype", HALVES)
def test_trainer_and_comparisons(dtype: str) -> None:
    """The Trainer converts inputs to the model's dtype, and metrics read outputs of it."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    ct.manual_seed(0)
    model = nn.Linear(4, 2).to(dtype)
    trainer = ct.train.Trainer(
        model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.1), metrics=["accuracy"]
    )
    trainer.fit((x, labels), epochs=8, batch_size=16, verbose=0)
    assert trainer.evaluate((x, labels))["accuracy"] > 0.9
    y = ct.tensor([1.0, 2.0], dtype=dtype)
    ct.testing.assert_close(y * (1 + EPS[dtype] / 2), y)
    with pytest.raises(AssertionError, match=f"dtypes differ: {dtype} is not float32"):
        ct.testing.assert_close(y, y.astype("float32"))
    with pytest.raises(AssertionError):
        ct.testing.assert_close(y + 0.1, y)


@pytest.mark.parametrize("dtype", HALVES)
def test_higher_orders(dtype: str) -> None:
    """Second derivatives exist and are close to those of float32."""

    def second(name: str) -> np.ndarray:
        x = half(np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]), dtype).astype(name).requires_grad_()
        y = nn.functional.layer_norm(x, (3,)) * nn.functional.softmax(x, dim=-1)
        (g,) = ct.grad(y.sum(), [x], create_graph=True)
        assert g.dtype == name
        (h,) = ct.grad((g * g).sum(), [x])
        assert h.dtype == name
        return numbers(h)

    want = second("float32")
    np.testing.assert_allclose(second(dtype), want, rtol=0, atol=16 * EPS[dtype] * np.abs(want).max())
