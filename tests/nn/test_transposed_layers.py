"""Transposed convolution: layers, options and gradients. The numbers themselves are checked by its row of op_rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.testing import gradcheck

F = nn.functional
rng = np.random.default_rng(0)


def laid(x, w, b, stride, padding, rest, groups, dilation):  # type: ignore[no-untyped-def]
    """Along one axis: each element lays its multiple of the kernel."""
    n, c, length = x.shape
    per_group, k = w.shape[1:]
    y = np.zeros((n, per_group * groups, (length - 1) * stride + dilation * (k - 1) + 1 + rest))
    for i, j, u in np.ndindex(c, length, k):
        first = i // (c // groups) * per_group
        y[:, first : first + per_group, j * stride + u * dilation] += x[:, i, j, None] * w[i, :, u]
    return y[:, :, padding : y.shape[2] - padding] + b[:, None]


@pytest.mark.parametrize(
    ("stride", "padding", "rest", "groups", "dilation"),
    [(1, 0, 0, 1, 1), (2, 1, 1, 2, 1), (3, 0, 0, 1, 2), (1, 2, 1, 4, 3)],
)
def test_conv_transpose1d(stride, padding, rest, groups, dilation) -> None:
    layer = nn.ConvTranspose1d(4, 8, 3, stride, padding, rest, groups, True, dilation, dtype="float64")
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.weight.shape == (4, 8 // groups, 3)
    assert layer.bias is not None
    x = rng.standard_normal((2, 4, 7))
    w, b = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    want = laid(x, w, b, stride, padding, rest, groups, dilation)
    np.testing.assert_allclose(layer(ct.tensor(x)).detach().numpy(), want, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(layer(ct.tensor(x[0])).detach().numpy(), want[0], rtol=1e-12, atol=1e-13)


def test_gradients() -> None:
    x, w, b = (ct.tensor(rng.standard_normal(s), requires_grad=True) for s in [(1, 2, 4), (2, 2, 3), (2,)])

    def loss(x: ct.Tensor, w: ct.Tensor, b: ct.Tensor) -> ct.Tensor:
        return (F.conv_transpose1d(x, w, b, 2, 1, 1) ** 3).sum()

    assert gradcheck(loss, [x, w, b])

    def slope(x: ct.Tensor, w: ct.Tensor, b: ct.Tensor) -> ct.Tensor:
        total = ct.tensor(0.0, dtype="float64")
        for g in ct.grad([loss(x, w, b)], [x, w, b], create_graph=True):
            total = total + (g**2).sum()
        return total

    assert gradcheck(slope, [x, w, b])


def test_it_undoes_the_shape_of_a_convolution() -> None:
    x = ct.ones((2, 4, 15, 12))
    down = nn.Conv2d(4, 6, (3, 4), (2, 3), (1, 2), 1, 2)
    up = nn.ConvTranspose2d(6, 4, (3, 4), (2, 3), (1, 2), (0, 0), 2)
    assert up(down(x)).shape == (2, 4, 15, 12)
    bigger = nn.ConvTranspose2d(6, 4, (3, 4), (2, 3), (1, 2), (1, 2), 2)
    assert bigger(down(x)).shape == (2, 4, 16, 14)


def test_drawn_as_in_torch() -> None:
    """Uniform with the fan-in of weight (in, out / groups, ...): the axes behind the first, as for a convolution."""
    ct.manual_seed(0)
    layer = nn.ConvTranspose2d(64, 32, 3, groups=2)
    assert layer.bias is not None
    bound = 1 / math.sqrt(32 / 2 * 9)
    for values in (layer.weight.detach().numpy(), layer.bias.detach().numpy()):
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.9 * bound
        assert abs(values.mean()) < 0.2 * bound


def test_options_and_errors() -> None:
    layer = nn.ConvTranspose2d(2, 4, 3, (2, 1), 1, (1, 0), 2, False)
    assert layer.bias is None
    assert repr(layer) == (
        "ConvTranspose2d(2, 4, kernel_size=(3, 3), stride=(2, 1), padding=(1, 1), output_padding=(1, 0), groups=2, "
        "bias=False)"
    )
    assert repr(nn.ConvTranspose1d(2, 4, 3)) == "ConvTranspose1d(2, 4, kernel_size=3, stride=1)"
    for match, args in {
        "output_padding": (1, 1, 3, 2, 0, 2),
        "stride must": (1, 1, 3, 0),
        "padding must": (1, 1, 3, 1, -1),
        "kernel_size": (1, 1, 0),
        "groups must divide both 2 and 3": (2, 3, 1, 1, 0, 0, 2),
        "in_channels": (0, 1, 1),
    }.items():
        for cls in (nn.ConvTranspose1d, nn.ConvTranspose2d):
            with pytest.raises(ValueError, match=rf"\[{cls.__name__}\].*{match}|{match}"):
                cls(*args)  # type: ignore[arg-type]
    x = ct.ones((1, 1, 6))
    with pytest.raises(ValueError, match=r"\[conv_transpose1d\] input must be .*\(6,\)"):
        F.conv_transpose1d(ct.ones(6), ct.ones((1, 1, 3)))
    with pytest.raises(ValueError, match=r"\[conv_transpose1d\] weight.*\(1, 3\)"):
        F.conv_transpose1d(x, ct.ones((1, 3)))
    with pytest.raises(TypeError, match=r"\[conv_transpose1d\] stride must be an int"):
        F.conv_transpose1d(x, ct.ones((1, 1, 3)), stride=(1, 2))  # type: ignore[arg-type]
    for name in ("conv_transpose1d", "conv_transpose2d"):
        w = ct.ones((1, 1, 3) if name.endswith("1d") else (1, 1, 1, 3))
        with pytest.raises(TypeError, match=rf"\[{name}\].*float64.*float32"):
            getattr(F, name)(x.astype("float64"), w)
