"""Pooling to a size, padding, folding, shuffling, resizing, channel dropout and distances, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.testing import gradcheck

F = nn.functional
rng = np.random.default_rng(0)


def both(layer: nn.Module, x: np.ndarray, want: np.ndarray) -> None:
    """The numbers, and the gradient by finite differences."""
    np.testing.assert_allclose(layer(ct.tensor(x)).numpy(), want, rtol=1e-12, atol=1e-13, err_msg=repr(layer))
    assert gradcheck(lambda v: (layer(v) ** 2).sum(), [ct.tensor(x, requires_grad=True)])


def test_pooling() -> None:
    x = rng.permutation(np.linspace(-2, 2, 42)).reshape(2, 3, 7)
    halves = np.stack([x[:, :, a:b].max(2) for a, b in [(0, 3), (2, 5), (4, 7)]], 2)
    both(nn.AdaptiveMaxPool1d(3), x, halves)
    both(nn.AdaptiveMaxPool1d(1), x, x.max(2, keepdims=True))
    both(nn.GlobalAvgPool1d(), x, x.mean(2))
    both(nn.GlobalMaxPool1d(keepdims=True), x, x.max(2, keepdims=True))
    image = rng.permutation(np.linspace(-2, 2, 60)).reshape(1, 3, 4, 5)
    both(nn.AdaptiveMaxPool2d((2, None)), image, image.reshape(1, 3, 2, 2, 5).max(3))
    both(nn.GlobalAvgPool2d(keepdims=True), image, image.mean((2, 3), keepdims=True))
    both(nn.GlobalMaxPool2d(), image, image.max((2, 3)))
    positive = np.abs(image) + 0.1
    cells = positive[..., :4].reshape(1, 3, 2, 2, 2, 2).swapaxes(3, 4).reshape(1, 3, 2, 2, 4)
    both(nn.LPPool2d(3, 2), positive, (cells**3).sum(-1) ** (1 / 3))
    both(nn.LPPool2d(1, (2, 2), 2), positive, cells.sum(-1))
    pairs = np.stack([np.abs(x[:, :, i : i + 2]) for i in range(6)], 2)
    both(nn.LPPool1d(2, 2, 1), np.abs(x), np.sqrt((pairs**2).sum(3)))
    assert repr(nn.GlobalAvgPool2d()) == "GlobalAvgPool2d()"
    for call, match in [
        (lambda: nn.AdaptiveMaxPool2d((1, 2, 3)), "an int or two"),  # type: ignore[arg-type]
        (lambda: nn.AdaptiveMaxPool2d(0), "at least 1"),
        (lambda: nn.AdaptiveMaxPool1d(0), "at least 1"),
        (lambda: nn.LPPool2d(2, 0), "at least 1"),
        (lambda: nn.LPPool1d(0, 2)(ct.ones((1, 4))), "norm_type must be positive"),
        (lambda: nn.GlobalAvgPool2d()(ct.ones((1, 2, 3))), r"\(N, C, H, W\).*\(1, 2, 3\)"),
        (lambda: F.adaptive_max_pool1d(ct.ones(3), 1), r"\(N, C, L\)"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize(
    ("name", "mode"), [("Reflection", "reflect"), ("Replication", "edge"), ("Circular", "wrap"), ("Zero", "constant")]
)
def test_padding(name: str, mode: str) -> None:
    x = rng.standard_normal((2, 2, 4, 3))
    both(getattr(nn, f"{name}Pad2d")((1, 2, 0, 3)), x, np.pad(x, ((0, 0), (0, 0), (0, 3), (1, 2)), mode))
    both(getattr(nn, f"{name}Pad2d")(1), x, np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode))
    both(getattr(nn, f"{name}Pad1d")(2), x, np.pad(x, ((0, 0), (0, 0), (0, 0), (2, 2)), mode))
    with pytest.raises(ValueError, match="an int or 4"):
        getattr(nn, f"{name}Pad2d")((1, 2))


def test_constant_padding() -> None:
    x = rng.standard_normal((2, 4, 3))
    both(nn.ConstantPad1d((0, 2), 1.5), x, np.pad(x, ((0, 0), (0, 0), (0, 2)), constant_values=1.5))
    both(nn.ConstantPad2d((-1, 0, 1, 0), 1.5), x, np.pad(x[:, :, 1:], ((0, 0), (1, 0), (0, 0)), constant_values=1.5))
    assert repr(nn.ConstantPad1d(1, 0.5)) == "ConstantPad1d((1, 1), value=0.5)"


def test_folding_is_the_transpose_of_unfolding() -> None:
    options = {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (2, 1), "stride": (2, 1)}
    unfold, fold = nn.Unfold(**options), nn.Fold((6, 5), **options)
    x = ct.tensor(rng.standard_normal((2, 3, 6, 5)))
    columns = unfold(x)
    y = ct.tensor(rng.standard_normal(columns.shape))
    np.testing.assert_allclose((columns * y).sum().item(), (x * fold(y)).sum().item(), rtol=1e-12)
    # With windows that do not overlap, it is the inverse.
    tiles = nn.Unfold(2, stride=2)(x[..., :4])
    np.testing.assert_array_equal(nn.Fold((6, 4), 2, stride=2)(tiles).numpy(), x[..., :4].numpy())


def test_shuffling() -> None:
    x = rng.standard_normal((2, 8, 2, 3))
    want = np.zeros((2, 2, 4, 6))
    for c, i, j in np.ndindex(2, 2, 2):
        want[:, c, i::2, j::2] = x[:, c * 4 + i * 2 + j]
    both(nn.PixelShuffle(2), x, want)
    both(nn.PixelUnshuffle(2), want, x)
    np.testing.assert_array_equal(F.pixel_shuffle(ct.tensor(x[0]), 2).numpy(), want[0])
    assert F.pixel_shuffle(ct.zeros((0, 4, 2, 2)), 2).shape == (0, 1, 4, 4)
    for call, match in [
        (lambda: F.pixel_shuffle(ct.tensor(x), 3), r"3\^2 must divide the 8 channels"),
        (lambda: F.pixel_unshuffle(ct.tensor(x), 2), "2 must divide height and width"),
        (lambda: F.pixel_shuffle(ct.ones((2, 2)), 1), r"\(\*, C, H, W\)"),
        (lambda: F.pixel_shuffle(ct.tensor(x), 0), "at least 1"),
    ]:
        with pytest.raises(ValueError, match=match):
            call()


def resize(x: np.ndarray, axis: int, m: int, step: float, align: bool) -> np.ndarray:
    """Linear interpolation by NumPy's own; beyond the edge counts as the edge."""
    n = x.shape[axis]
    at = np.arange(m) * (n - 1) / max(m - 1, 1) if align else (np.arange(m) + 0.5) * step - 0.5
    return np.apply_along_axis(lambda v: np.interp(at, np.arange(n), v), axis, x)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(7, 2), (1, 5), (4, 9)])
def test_linear_resizing(size: tuple[int, int], align: bool) -> None:
    x = rng.standard_normal((2, 3, 4, 5))
    want = resize(resize(x, 2, size[0], 4 / size[0], align), 3, size[1], 5 / size[1], align)
    both(nn.Upsample(size, mode="bilinear", align_corners=align), x, want)
    both(nn.Upsample(size[1], mode="linear", align_corners=align), x[0], resize(x[0], 2, size[1], 5 / size[1], align))


def test_scale_factors_and_nearest() -> None:
    x = rng.standard_normal((1, 2, 4, 5))
    both(nn.Upsample(scale_factor=2), x, x.repeat(2, 2).repeat(2, 3))
    both(nn.Upsample((2, 5)), x, x[:, :, ::2])
    both(nn.Upsample(scale_factor=(0.5, 1.0)), x, x[:, :, ::2])
    both(nn.Upsample((4, 2), mode="nearest-exact"), x, x[..., [1, 3]])  # (i + 0.5) * 2.5
    smooth = resize(resize(x, 2, 6, 1 / 1.6, False), 3, 8, 1 / 1.6, False)
    both(nn.Upsample(scale_factor=1.6, mode="bilinear"), x, smooth)
    assert repr(nn.Upsample(scale_factor=2)) == "Upsample(scale_factor=2, mode='nearest')"


def test_resizing_errors() -> None:
    x = ct.ones((1, 2, 4, 5))
    for match, args in {
        "either size or scale_factor": {},
        "does not fit": {"size": 2, "mode": "linear"},
        "mode must be": {"size": 2, "mode": "cubic"},
        "align_corners is for": {"size": 2, "align_corners": True},
        "a number or 2": {"size": (1, 2, 3)},
        "would be empty": {"size": 0},
        "must be positive": {"scale_factor": 0.0},
    }.items():
        with pytest.raises(ValueError, match=rf"\[interpolate\].*{match}"):
            F.interpolate(x, **args)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[interpolate\] input"):
        F.interpolate(ct.ones((1, 2)), 3)
    with pytest.raises(ValueError, match="empty axis"):
        F.interpolate(ct.ones((1, 2, 0)), 3)
    with pytest.raises(ValueError, match="either"):
        nn.Upsample()


@pytest.mark.parametrize(("layer", "shape"), [(nn.Dropout1d, (50, 40, 6)), (nn.Dropout2d, (50, 40, 3, 2))])
def test_channels_are_dropped_whole(layer, shape) -> None:
    drop = layer(0.25)
    x = ct.ones(shape, requires_grad=True)
    y = drop(x)
    channels = y.detach().numpy().reshape(50 * 40, 6)
    assert (channels == channels[:, :1]).all()
    assert set(np.unique(channels)) == {0.0, np.float32(1 / 0.75)}
    share = (channels[:, 0] == 0).mean()
    assert abs(share - 0.25) < 0.04  # four standard deviations of 2000 draws
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert drop(ct.ones(shape[1:])).shape == shape[1:]
    np.testing.assert_array_equal(drop.eval()(ct.ones(shape)).numpy(), 1.0)
    with pytest.raises(ValueError, match=r"\[dropout.d\] input must be"):
        drop(ct.ones((2,)))
    with pytest.raises(ValueError, match="p must"):
        layer(1.5)


def test_unflatten() -> None:
    x = ct.arange(24).reshape(2, 12)
    assert nn.Unflatten(1, (3, 4))(x).shape == (2, 3, 4)
    assert nn.Unflatten(-1, (2, -1))(x).shape == (2, 2, 6)
    with pytest.raises(ValueError, match="does not split"):
        nn.Unflatten(1, (5, 2))(x)
    with pytest.raises(ValueError, match="does not split"):
        nn.Unflatten(1, (5, -1))(x)
    with pytest.raises(IndexError, match="axis 2"):
        nn.Unflatten(2, (5, -1))(x)


def test_distances() -> None:
    a, b = rng.standard_normal((2, 4, 3))
    dots = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(nn.CosineSimilarity()(ct.tensor(a), ct.tensor(b)).numpy(), dots, rtol=1e-12)
    far = (np.abs(a - b + 1e-6) ** 3).sum(1) ** (1 / 3)
    np.testing.assert_allclose(nn.PairwiseDistance(3.0)(ct.tensor(a), ct.tensor(b)).numpy(), far, rtol=1e-12)
    unit = F.normalize(ct.tensor(a), p=1.0, dim=0).numpy()
    np.testing.assert_allclose(np.abs(unit).sum(0), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(F.normalize(ct.zeros((1, 3))).numpy(), 0.0)
    x, y = ct.tensor(a, requires_grad=True), ct.tensor(b, requires_grad=True)
    assert gradcheck(lambda p, q: (F.cosine_similarity(p, q) ** 2).sum(), [x, y])
    assert gradcheck(lambda p, q: (F.pairwise_distance(p, q, keepdim=True) ** 2).sum(), [x, y])


def test_embedding_from_a_table() -> None:
    table = ct.tensor([[1.0, 2.0], [3.0, 4.0], [6.0, 8.0]], dtype="float64")
    layer = nn.Embedding.from_pretrained(table, padding_idx=0)
    assert not layer.weight.requires_grad
    assert layer.weight.dtype == ct.float64
    np.testing.assert_array_equal(layer(ct.tensor([0, 2])).numpy(), [[1, 2], [6, 8]])
    trained = nn.Embedding.from_pretrained(table, freeze=False)
    trained(ct.tensor([1])).sum().backward()
    assert trained.weight.grad is not None
    trained.weight[0] = 0.0
    assert table[0].tolist() == [1.0, 2.0]  # a copy
    with pytest.raises(ValueError, match=r"\(rows, features\)"):
        nn.Embedding.from_pretrained(ct.ones(3))


def test_embedding_shortens_the_rows_that_are_chosen() -> None:
    layer = nn.Embedding.from_pretrained(ct.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]]), False, max_norm=1.0)
    kept = layer.weight.detach()
    y = layer(ct.tensor([-3, 1, 0]))
    np.testing.assert_allclose(y.detach().numpy(), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(layer.weight.detach().numpy(), [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]], rtol=1e-6)
    assert kept[0].tolist() == [3.0, 4.0]
    y.sum().backward()
    assert layer.weight.grad is not None
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[2, 2], [1, 1], [0, 0]])
    most = nn.Embedding.from_pretrained(ct.tensor([[3.0, 4.0]]), max_norm=2.0, norm_type=np.inf)
    np.testing.assert_allclose(most(ct.tensor(0)).numpy(), [1.5, 2.0], rtol=1e-6)
    assert repr(nn.Embedding(5, 3, -1, 2.0)) == "Embedding(5, 3, padding_idx=4, max_norm=2.0)"
    with pytest.raises(ValueError, match="max_norm must be positive"):
        nn.Embedding(5, 3, max_norm=0.0)
    with pytest.raises(IndexError, match="out of range"):
        most(ct.tensor([5]))


def test_weights_of_binary_cross_entropy() -> None:
    x, t = rng.standard_normal((4, 3)), rng.uniform(size=(4, 3))
    weight, positive = rng.uniform(size=(4, 1)), rng.uniform(0.5, 3, size=3)
    p = 1 / (1 + np.exp(-x))
    want = -weight * (positive * t * np.log(p) + (1 - t) * np.log(1 - p))
    for reduction, reduced in (("none", want), ("sum", want.sum()), ("mean", want.mean())):
        loss = nn.BCEWithLogitsLoss(ct.tensor(weight), reduction, pos_weight=ct.tensor(positive))  # type: ignore[arg-type]
        np.testing.assert_allclose(loss(ct.tensor(x), ct.tensor(t)).numpy(), reduced, rtol=1e-12)
    assert list(loss.state_dict()) == ["weight", "pos_weight"]
    both(lambda v: loss(v, ct.tensor(t)), x, np.asarray(want.mean()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"pos_weight of shape \(5, 4, 3\)"):
        F.binary_cross_entropy_with_logits(ct.tensor(x), ct.tensor(t), pos_weight=ct.ones((5, 4, 3)))
    with pytest.raises(ValueError, match="reduction"):
        F.binary_cross_entropy_with_logits(ct.tensor(x), ct.tensor(t), ct.tensor(weight), reduction="all")  # type: ignore[arg-type]
