"""Embedding, convolution and pooling over sequences, against plain NumPy; gradients of first and second order."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.testing import gradcheck

F = nn.functional
rng = np.random.default_rng(0)


def naive_conv(x, w, b, stride, padding, dilation, groups):  # type: ignore[no-untyped-def]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
    o, per, k = w.shape
    length = (x.shape[2] - dilation * (k - 1) - 1) // stride + 1
    y = np.zeros((x.shape[0], o, length))
    for n, c, i in np.ndindex(*y.shape):
        first = c // (o // groups) * per
        window = x[n, first : first + per, i * stride : i * stride + dilation * (k - 1) + 1 : dilation]
        y[n, c, i] = (window * w[c]).sum() + b[c]
    return y


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1)])
def test_conv1d(stride: int, padding: int, dilation: int, groups: int) -> None:
    layer = nn.Conv1d(4, 6, 3, stride, padding, dilation, groups, dtype="float64")
    assert layer.bias is not None
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.weight.shape == (6, 4 // groups, 3)
    x = rng.standard_normal((2, 4, 9))
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    want = naive_conv(x, w, b, stride, padding, dilation, groups)
    np.testing.assert_allclose(layer(ct.tensor(x)).detach().numpy(), want, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(layer(ct.tensor(x[0])).detach().numpy(), want[0], rtol=1e-11, atol=1e-12)
    clipped = layer(ct.tensor(x), activation="relu").detach().numpy()
    np.testing.assert_allclose(clipped, np.maximum(want, 0), rtol=1e-11, atol=1e-12)


def test_conv1d_gradients() -> None:
    x, w, b = (ct.tensor(rng.standard_normal(s), requires_grad=True) for s in [(2, 2, 5), (3, 2, 2), (3,)])

    def loss(x: ct.Tensor, w: ct.Tensor, b: ct.Tensor) -> ct.Tensor:
        return (F.conv1d(x, w, b, 2, 1) ** 3).sum()

    assert gradcheck(loss, [x, w, b])

    def slope(x: ct.Tensor, w: ct.Tensor, b: ct.Tensor) -> ct.Tensor:
        total = ct.tensor(0.0, dtype="float64")
        for g in ct.grad([loss(x, w, b)], [x, w, b], create_graph=True):
            total = total + (g**2).sum()
        return total

    assert gradcheck(slope, [x, w, b])


def test_conv1d_named_padding_and_errors() -> None:
    x = ct.ones((1, 1, 6))
    assert nn.Conv1d(1, 1, 3, padding="same")(x).shape == (1, 1, 6)
    assert nn.Conv1d(1, 1, 4, padding="same")(x).shape == (1, 1, 6)
    assert nn.Conv1d(1, 1, 3, padding="full")(x).shape == (1, 1, 8)
    assert nn.Conv1d(1, 1, 3, padding="valid")(x).shape == (1, 1, 4)
    assert repr(nn.Conv1d(1, 2, 3, padding=1)) == "Conv1d(1, 2, kernel_size=3, stride=1, padding=1)"
    for match, args in {
        "stride 1": (1, 1, 3, 2, "same"),
        "padding must be": (1, 1, 3, 1, "some"),
        "padding must be at least 0": (1, 1, 3, 1, -1),
        "kernel_size": (1, 1, 0),
        "groups": (2, 3, 1, 1, 0, 1, 2),
        "in_channels must be at least 1": (0, 1, 1),
    }.items():
        with pytest.raises(ValueError, match=match):
            nn.Conv1d(*args)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[conv1d\] input must be .*\(1, 1, 1, 6\)"):
        F.conv1d(ct.ones((1, 1, 1, 6)), ct.ones((1, 1, 3)))
    with pytest.raises(ValueError, match=r"\[conv1d\] weight.*\(1, 3\)"):
        F.conv1d(x, ct.ones((1, 3)))
    with pytest.raises(TypeError, match=r"\[conv1d\] stride must be an int"):
        F.conv1d(x, ct.ones((1, 1, 3)), stride=(1, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"\[conv1d\].*float64.*float32"):
        F.conv1d(x.astype("float64"), ct.ones((1, 1, 3)))


def test_pooling() -> None:
    x = rng.permutation(2.0 * np.arange(42)).reshape(2, 3, 7)
    t = ct.tensor(x)
    pairs = x[:, :, :6].reshape(2, 3, 3, 2)
    threes = np.stack([x[:, :, i : i + 3] for i in (0, 2, 4)], axis=2)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    for layer, want in [
        (nn.MaxPool1d(2), pairs.max(3)),
        (nn.MaxPool1d(3, 2), threes.max(3)),
        (nn.MaxPool1d(2, ceil_mode=True), np.concatenate([pairs.max(3), x[:, :, 6:]], 2)),
        (nn.AvgPool1d(2), pairs.mean(3)),
        (nn.AvgPool1d(3, 2), threes.mean(3)),
        (nn.AvgPool1d(3, 3, 1), np.stack([padded[:, :, i : i + 3].mean(2) for i in (0, 3, 6)], 2)),
        (nn.AdaptiveAvgPool1d(1), x.mean(2, keepdims=True)),
        (nn.AdaptiveAvgPool1d(3), np.stack([x[:, :, a:b].mean(2) for a, b in [(0, 3), (2, 5), (4, 7)]], 2)),
    ]:
        np.testing.assert_allclose(layer(t).numpy(), want, rtol=1e-12, err_msg=repr(layer))
        np.testing.assert_allclose(layer(t[0]).numpy(), want[0], rtol=1e-12, err_msg=repr(layer))
        leaf = ct.tensor(x, requires_grad=True)
        assert gradcheck(lambda v, layer=layer: (layer(v) ** 2).sum() / 1000, [leaf])
    with pytest.raises(ValueError, match=r"\[max_pool1d\].*\(N, C, L\)"):
        nn.MaxPool1d(2)(ct.ones((2, 3, 4, 5)))


def test_embedding() -> None:
    layer = nn.Embedding(5, 3, dtype="float64")
    assert list(layer.state_dict()) == ["weight"]
    index = np.array([[1, 4, 1], [0, 1, 3]])
    y = layer(ct.tensor(index))
    np.testing.assert_array_equal(y.detach().numpy(), layer.weight.detach().numpy()[index])
    g = rng.standard_normal((2, 3, 3))
    (y * ct.tensor(g)).sum().backward()
    want = np.zeros((5, 3))
    np.add.at(want, index, g)
    assert layer.weight.grad is not None
    np.testing.assert_allclose(layer.weight.grad.numpy(), want, rtol=1e-12)
    assert layer(ct.tensor(index.astype(np.uint8))).shape == (2, 3, 3)
    assert repr(nn.Embedding(5, 3, -1)) == "Embedding(5, 3, padding_idx=4)"


def test_embedding_is_drawn_from_the_standard_normal_distribution() -> None:
    ct.manual_seed(0)
    weight = nn.Embedding(200, 100).weight.detach().numpy()
    assert abs(weight.mean()) < 0.03  # four standard deviations of the mean
    assert abs(weight.std() - 1) < 0.03


def test_padding_gets_no_gradient() -> None:
    index = ct.tensor([1, 2, -3, 0, 1])
    layer = nn.Embedding(5, 2, padding_idx=-3)
    table = layer.weight.detach().numpy()
    np.testing.assert_array_equal(table[2], 0)
    assert np.all(table[[0, 1, 3, 4]] != 0)
    y = layer(index)
    np.testing.assert_array_equal(y.detach().numpy(), table[[1, 2, 2, 0, 1]])
    y.sum().backward()
    assert layer.weight.grad is not None
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [1, 2, 0, 0, 0])


def test_embedding_errors() -> None:
    table = ct.ones((5, 2))
    with pytest.raises(IndexError, match="5"):
        F.embedding(ct.tensor([5]), table)
    with pytest.raises(IndexError, match=r"\[embedding\] padding_idx 7.*5 rows"):
        F.embedding(ct.tensor([0]), table, 7)
    with pytest.raises(IndexError, match=r"\[Embedding\] padding_idx"):
        nn.Embedding(5, 2, padding_idx=5)
    with pytest.raises(ValueError, match=r"\[embedding\] weight"):
        F.embedding(ct.tensor([0]), ct.ones((5,)))
    with pytest.raises(TypeError, match="integers"):
        F.embedding(ct.tensor([0.0]), table)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        nn.Embedding(-1, 2)
