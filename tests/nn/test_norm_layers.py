"""Modules that normalise within each sample: formulas, defaults, state, running statistics and errors."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn

rng = np.random.default_rng(0)


def normal(x: np.ndarray, axes: tuple[int, ...], eps: float = 1e-5) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def test_layer_norm() -> None:
    x = rng.standard_normal((4, 3, 5))
    layer = nn.LayerNorm((3, 5), dtype="float64")
    np.testing.assert_allclose(layer(ct.tensor(x)).detach().numpy(), normal(x, (1, 2)), rtol=1e-10, atol=1e-12)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert list(nn.LayerNorm(5, bias=False).state_dict()) == ["weight"]
    assert list(nn.LayerNorm(5, elementwise_affine=False).state_dict()) == []
    assert repr(nn.LayerNorm(5)) == "LayerNorm((5,), eps=1e-05, elementwise_affine=True)"
    with pytest.raises(TypeError, match=r"\[layer_norm\].*float32"):
        layer(ct.ones((4, 3, 5)))
    with pytest.raises(ValueError, match=r"\[layer_norm\].*\(3, 5\)"):
        layer(ct.tensor(x.swapaxes(1, 2)))


def test_rms_norm() -> None:
    x = rng.standard_normal((4, 5))
    layer = nn.RMSNorm(5, eps=0.1, dtype="float64")
    want = x / np.sqrt((x * x).mean(1, keepdims=True) + 0.1)
    np.testing.assert_allclose(layer(ct.tensor(x)).detach().numpy(), want, rtol=1e-12)
    assert list(layer.state_dict()) == ["weight"]
    tiny = nn.RMSNorm(2)(ct.full((1, 2), 1e-4)).tolist()[0][0]
    assert tiny == pytest.approx(1e-4 / np.sqrt(1e-8 + np.finfo(np.float32).eps), rel=1e-5)


def test_group_norm() -> None:
    x = rng.standard_normal((3, 6, 4, 2))
    want = normal(x.reshape(3, 2, 24), (2,)).reshape(x.shape)
    layer = nn.GroupNorm(2, 6, dtype="float64")
    np.testing.assert_allclose(layer(ct.tensor(x)).detach().numpy(), want, rtol=1e-10, atol=1e-12)
    assert list(layer.state_dict()) == ["weight", "bias"]
    with pytest.raises(ValueError, match=r"\[GroupNorm\].*6.*4"):
        nn.GroupNorm(4, 6)
    with pytest.raises(ValueError, match=r"\[GroupNorm\].*C = 6.*\(2, 4\)"):
        layer(ct.ones((2, 4), dtype="float64"))


def test_instance_norm() -> None:
    x = rng.standard_normal((3, 2, 5))
    layer = nn.InstanceNorm1d(2)
    assert list(layer.state_dict()) == []
    np.testing.assert_allclose(layer(ct.tensor(x)).numpy(), normal(x, (2,)), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(layer.eval()(ct.tensor(x[0])).numpy(), normal(x, (2,))[0], rtol=1e-10, atol=1e-12)
    images = nn.InstanceNorm2d(3, affine=True)
    assert list(images.state_dict()) == ["weight", "bias"]
    assert images(ct.ones((3, 4, 4))).shape == (3, 4, 4)
    with pytest.raises(ValueError, match=r"\[InstanceNorm2d\].*C = 3.*\(2, 4, 4\)"):
        images(ct.ones((2, 4, 4)))


def test_instance_norm_tracks_means_over_the_batch() -> None:
    x = rng.standard_normal((3, 2, 5)) + 4
    layer = nn.InstanceNorm1d(2, momentum=0.25, track_running_stats=True, dtype="float64")
    layer(ct.tensor(x))
    mean, var = x.mean(2).mean(0), x.var(2, ddof=1).mean(0)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.25 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.75 + 0.25 * var, rtol=1e-12)
    got = layer.eval()(ct.tensor(x)).numpy()
    want = (x - 0.25 * mean[:, None]) / np.sqrt((0.75 + 0.25 * var)[:, None] + 1e-5)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    # As in PyTorch, whose instance norms have the buffer and never count.
    assert layer.num_batches_tracked is not None
    assert layer.num_batches_tracked.item() == 0


def test_local_response_norm() -> None:
    x = rng.standard_normal((2, 4, 3))
    layer = nn.LocalResponseNorm(2, alpha=0.5, beta=0.75, k=2.0)
    before = np.concatenate([np.zeros((2, 1, 3)), x[:, :-1]], axis=1)
    want = x / (2 + 0.25 * (x**2 + before**2)) ** 0.75
    np.testing.assert_allclose(layer(ct.tensor(x)).numpy(), want, rtol=1e-12)
    assert repr(layer) == "LocalResponseNorm(2, alpha=0.5, beta=0.75, k=2.0)"
