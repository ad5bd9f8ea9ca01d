"""Layers against plain NumPy formulas; arguments; dtypes; repr."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corten as ct
from corten import nn

F = nn.functional
rng = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def out(x: ct.Tensor) -> np.ndarray:
    return x.detach().numpy()


def naive_conv(x, w, b, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    (sh, sw), (ph, pw), (dh, dw) = stride, padding, dilation
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw))).astype(np.float64)
    n, _, h, wd = x.shape
    o, cg, kh, kw = w.shape
    oh, ow = (h - dh * (kh - 1) - 1) // sh + 1, (wd - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, o, oh, ow))
    for oc in range(o):
        g = oc // (o // groups)
        for i in range(oh):
            for j in range(ow):
                rows = slice(i * sh, i * sh + dh * (kh - 1) + 1, dh)
                cols = slice(j * sw, j * sw + dw * (kw - 1) + 1, dw)
                y[:, oc, i, j] = (x[:, g * cg : (g + 1) * cg, rows, cols] * w[oc]).sum((1, 2, 3)) + b[oc]
    return y


def test_linear() -> None:
    layer = nn.Linear(4, 3)
    x = array(2, 5, 4)
    assert layer.bias is not None
    np.testing.assert_allclose(
        out(layer(ct.tensor(x))), x @ out(layer.weight).T + out(layer.bias), rtol=1e-5, atol=1e-6
    )
    assert nn.Linear(4, 3, bias=False).bias is None
    assert list(nn.Linear(4, 3, bias=False).state_dict()) == ["weight"]
    with pytest.raises(ValueError, match="linear"):
        layer(ct.ones((2, 5)))
    with pytest.raises(ValueError, match="in_features must be at least 0"):
        nn.Linear(-1, 2)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 1), ((2, 1), (0, 2), (1, 2), 2), (1, 1, 2, 2)],
)
def test_conv2d(stride: object, padding: object, dilation: object, groups: int) -> None:
    layer = nn.Conv2d(4, 6, (3, 2), stride, padding, dilation, groups)  # type: ignore[arg-type]
    x = array(2, 4, 9, 8)
    want = naive_conv(x, out(layer.weight), out(layer.bias), layer.stride, layer.padding, layer.dilation, groups)  # type: ignore[arg-type]
    np.testing.assert_allclose(out(layer(ct.tensor(x))), want, rtol=1e-4, atol=1e-5)


def test_conv2d_named_padding() -> None:
    x = ct.ones((1, 1, 6, 6))
    assert nn.Conv2d(1, 1, 3, padding="valid")(x).shape == (1, 1, 4, 4)
    assert nn.Conv2d(1, 1, 3, padding="same")(x).shape == (1, 1, 6, 6)
    assert nn.Conv2d(1, 1, 3, padding="full")(x).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match="stride 1"):
        nn.Conv2d(1, 1, 3, stride=2, padding="same")
    with pytest.raises(ValueError, match="padding"):
        nn.Conv2d(1, 1, 3, padding="some")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "match"),
    [((0, 1, 3), "channel"), ((3, 4, 3, 1, 0, 1, 2), "groups"), ((1, 1, 0), "kernel_size"), ((1, 1, 3, 0), "stride")],
)
def test_conv2d_bad_arguments(args: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        nn.Conv2d(*args)  # type: ignore[arg-type]


def test_default_initialisation_is_pytorchs() -> None:
    ct.manual_seed(0)
    linear, conv = nn.Linear(100, 400), nn.Conv2d(8, 64, 5, groups=2)
    for layer, fan_in in ((linear, 100), (conv, 4 * 25)):
        bound = 1 / math.sqrt(fan_in)
        for p in layer.parameters():
            assert np.abs(out(p)).max() <= bound
            assert np.abs(out(p)).max() > 0.9 * bound
        # The variance of the uniform distribution.
        np.testing.assert_allclose(out(layer.weight).std(), bound / math.sqrt(3), rtol=0.05)


def test_initial_weights_repeat_with_the_seed() -> None:
    ct.manual_seed(5)
    a = out(nn.Linear(4, 4).weight).copy()
    ct.manual_seed(5)
    np.testing.assert_array_equal(out(nn.Linear(4, 4).weight), a)
    assert (out(nn.Linear(4, 4).weight) != a).any()


@pytest.mark.parametrize(
    "layer", [nn.Linear(4, 2), nn.Conv2d(4, 2, 1), nn.BatchNorm1d(4)], ids=lambda m: type(m).__name__
)
def test_float64_input_names_the_cast(layer: nn.Module) -> None:
    x = ct.zeros((3, 4, 1, 1) if isinstance(layer, nn.Conv2d) else (3, 4), dtype="float64")
    with pytest.raises(TypeError, match=r"\.astype\('float32'\)"):
        layer(x)
    assert layer.to("float64")(x).dtype == ct.float64


def test_pooling_shapes_and_values() -> None:
    x = array(2, 3, 7, 6)
    blocks = x[:, :, :6, :6].reshape(2, 3, 3, 2, 3, 2)
    np.testing.assert_array_equal(out(nn.MaxPool2d(2)(ct.tensor(x))), blocks.max((3, 5)))
    np.testing.assert_allclose(out(nn.AvgPool2d(2)(ct.tensor(x))), blocks.mean((3, 5)), rtol=1e-5, atol=1e-6)
    assert nn.MaxPool2d(3, stride=2, padding=1)(ct.tensor(x)).shape == (2, 3, 4, 3)
    assert nn.MaxPool2d(2, ceil_mode=True)(ct.tensor(x)).shape == (2, 3, 4, 3)
    np.testing.assert_allclose(
        out(nn.AdaptiveAvgPool2d(1)(ct.tensor(x)))[..., 0, 0], x.mean((2, 3)), rtol=1e-5, atol=1e-6
    )
    assert nn.AdaptiveAvgPool2d((None, 2))(ct.tensor(x)).shape == (2, 3, 7, 2)


@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_batch_norm(ndim: int) -> None:
    layer: nn.Module = nn.BatchNorm2d(3) if ndim == 4 else nn.BatchNorm1d(3)
    x = array(*(6, 3, 4, 2)[:ndim]) * 2 + 1
    axes = tuple(i for i in range(ndim) if i != 1)
    shape = (1, 3, *[1] * (ndim - 2))
    mean, var = x.mean(axes, dtype=np.float64), x.var(axes, dtype=np.float64)
    want = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5)
    np.testing.assert_allclose(out(layer(ct.tensor(x))), want, rtol=1e-4, atol=1e-5)
    unbiased = x.var(axes, dtype=np.float64, ddof=1)
    np.testing.assert_allclose(out(layer.running_mean), 0.1 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out(layer.running_var), 0.9 + 0.1 * unbiased, rtol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    layer.eval()
    before = out(layer.running_mean).copy()
    y = out(layer(ct.tensor(x)))
    want = (x - out(layer.running_mean).reshape(shape)) / np.sqrt(out(layer.running_var).reshape(shape) + 1e-5)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out(layer.running_mean), before)
    assert layer.num_batches_tracked.item() == 1
    layer.running_mean.assign_(ct.full((3,), float("nan")))
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0.0] * 3
    assert layer.running_var.tolist() == [1.0] * 3
    assert layer.num_batches_tracked.item() == 0


def test_batch_norm_plain_average() -> None:
    layer = nn.BatchNorm1d(2, momentum=None)
    xs = [array(8, 2) + i for i in range(3)]
    for x in xs:
        layer(ct.tensor(x))
    np.testing.assert_allclose(out(layer.running_mean), np.mean([x.mean(0) for x in xs], 0), rtol=1e-4, atol=1e-5)


def test_batch_norm_without_statistics_or_parameters() -> None:
    layer = nn.BatchNorm1d(2, affine=False, track_running_stats=False).eval()
    assert list(layer.state_dict()) == []
    x = array(8, 2)
    np.testing.assert_allclose(out(layer(ct.tensor(x))).mean(0), [0, 0], atol=1e-6)
    with pytest.raises(ValueError, match=r"BatchNorm1d.*C = 2"):
        layer(ct.zeros((8, 3)))
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        nn.BatchNorm2d(2)(ct.zeros((8, 2)))


def test_dropout() -> None:
    ct.manual_seed(0)
    layer = nn.Dropout(0.25)
    x = ct.ones((10000,))
    y = out(layer(x))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((y == 0).mean() - 0.25) < 0.02
    assert (out(layer(x)) != y).any()  # drawn anew
    np.testing.assert_array_equal(out(layer.eval()(x)), out(x))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        nn.Dropout(1.5)


def test_activations() -> None:
    x = array(4, 5) * 3
    wide = x.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-wide))
    soft = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    erf = np.vectorize(math.erf)(wide / math.sqrt(2))
    for layer, want in [
        (nn.ReLU(), np.maximum(wide, 0)),
        (nn.GELU(), wide * 0.5 * (1 + erf)),
        (nn.GELU("tanh"), 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))),
        (nn.Sigmoid(), sigmoid),
        (nn.Tanh(), np.tanh(wide)),
        (nn.SiLU(), wide * sigmoid),
        (nn.Softplus(), np.log1p(np.exp(wide))),
        (nn.Softplus(2.0), np.log1p(np.exp(2 * wide)) / 2),
        (nn.Softmax(dim=1), soft),
        (nn.LogSoftmax(dim=-1), np.log(soft)),
    ]:
        np.testing.assert_allclose(out(layer(ct.tensor(x))), want, rtol=2e-5, atol=2e-6, err_msg=repr(layer))
    with pytest.raises(ValueError, match="approximate"):
        nn.GELU("no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta"):
        nn.Softplus(0)
    with pytest.raises(ValueError, match="beta"):
        F.softplus(ct.ones((1,)), -1)


def test_functional_takes_dim_and_axis() -> None:
    x = ct.tensor(array(2, 3))
    want = out(F.softmax(x, 0))
    np.testing.assert_array_equal(out(F.softmax(x, dim=0)), want)
    np.testing.assert_array_equal(out(F.softmax(x, axis=0)), want)
    np.testing.assert_array_equal(out(F.log_softmax(x, axis=1)), out(F.log_softmax(x)))
    with pytest.raises(TypeError, match="not both"):
        F.softmax(x, 0, axis=0)


def test_losses() -> None:
    logits, targets = array(6, 4), rng.integers(0, 4, 6)
    wide = logits.astype(np.float64)
    logp = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    each = -logp[np.arange(6), targets]
    x, t = ct.tensor(logits), ct.tensor(targets)
    np.testing.assert_allclose(nn.CrossEntropyLoss()(x, t).item(), each.mean(), rtol=1e-5)
    np.testing.assert_allclose(nn.CrossEntropyLoss(reduction="sum")(x, t).item(), each.sum(), rtol=1e-5)
    np.testing.assert_allclose(out(nn.CrossEntropyLoss(reduction="none")(x, t)), each, rtol=1e-5)
    soft = rng.dirichlet(np.ones(4), 6).astype(np.float32)
    np.testing.assert_allclose(
        nn.CrossEntropyLoss()(x, ct.tensor(soft)).item(), -(soft * logp).sum(1).mean(), rtol=1e-5
    )
    a, b = array(3, 2), array(3, 2)
    np.testing.assert_allclose(nn.MSELoss()(ct.tensor(a), ct.tensor(b)).item(), ((a - b) ** 2).mean(), rtol=1e-5)
    y = (b > 0).astype(np.float32)
    p = 1 / (1 + np.exp(-a.astype(np.float64)))
    want = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(nn.BCEWithLogitsLoss()(ct.tensor(a), ct.tensor(y)).item(), want.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="reduction"):
        nn.MSELoss("all")  # type: ignore[arg-type]


def test_flatten() -> None:
    assert nn.Flatten()(ct.zeros((2, 3, 4))).shape == (2, 12)
    assert nn.Flatten(0, 1)(ct.zeros((2, 3, 4))).shape == (6, 4)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(1, 2, 3, padding=1), "Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"),
        (
            nn.Conv2d(2, 2, 3, dilation=2, groups=2, bias=False, padding="same"),
            "Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding='same', dilation=(2, 2), groups=2, bias=False)",
        ),
        (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        (nn.AvgPool2d(3, 1), "AvgPool2d(kernel_size=3, stride=1, padding=0)"),
        (nn.AdaptiveAvgPool2d((1, None)), "AdaptiveAvgPool2d(output_size=(1, None))"),
        (nn.Dropout(0.1), "Dropout(p=0.1)"),
        (nn.Softmax(1), "Softmax(dim=1)"),
        (nn.GELU(), "GELU(approximate='none')"),
        (nn.CrossEntropyLoss(), "CrossEntropyLoss()"),
        (nn.MSELoss("sum"), "MSELoss(reduction='sum')"),
    ],
)
def test_repr(layer: nn.Module, text: str) -> None:
    assert repr(layer) == text


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: nn.MaxPool2d(0), ValueError, r"\[MaxPool2d\] kernel_size must be at least 1"),
        (lambda: nn.MaxPool2d("2"), TypeError, r"\[MaxPool2d\] kernel_size must be an int"),
        (lambda: nn.MaxPool2d(2, 0), ValueError, "stride"),
        (lambda: nn.MaxPool2d(2, padding=2), ValueError, "half the kernel"),
        (lambda: nn.MaxPool2d(2, dilation=0), ValueError, "dilation"),
        (lambda: nn.AvgPool2d((2, 2, 2)), ValueError, "an int or two"),
        (lambda: nn.AdaptiveAvgPool2d(0), ValueError, "output_size"),
        (lambda: nn.AdaptiveAvgPool2d((1, 2, 3)), ValueError, "output_size"),
        (lambda: nn.BatchNorm1d(0), ValueError, r"\[BatchNorm1d\] num_features"),
        (lambda: nn.BatchNorm2d(3, eps=-1), ValueError, r"\[BatchNorm2d\] eps"),
        (lambda: nn.BatchNorm2d(3, momentum="a"), TypeError, "momentum must be a number"),
        (lambda: nn.Linear(2.5, 2), TypeError, "in_features must be an int"),
        (lambda: nn.Linear(2, None), TypeError, "out_features must be an int"),
        (lambda: nn.Conv2d(1.0, 6, 5), TypeError, "in_channels must be an int"),
        (lambda: nn.Conv2d(1, 6, None), TypeError, "kernel_size must be an int"),
        (lambda: nn.Dropout("a"), TypeError, "p must be a number"),
        (lambda: nn.Linear(2, 2)(None), TypeError, r"\[linear\].*NoneType"),
        (lambda: nn.Linear(2, 2)([1.0, 2.0]), TypeError, r"\[linear\].*list.*corten\.tensor"),
        (lambda: nn.BatchNorm1d(2)(None), TypeError, r"\[BatchNorm1d\].*NoneType"),
    ],
)
def test_wrong_arguments_are_found_early(make, error: type[Exception], match: str) -> None:  # type: ignore[no-untyped-def]
    """When the layer is made where that is possible, with the name of the argument."""
    with pytest.raises(error, match=match):
        make()
