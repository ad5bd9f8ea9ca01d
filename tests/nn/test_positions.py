"""Positions, feed-forward nets and the family of attentions."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.nn import functional as F


def normal(*shape: int, seed: int = 0, grad: bool = False) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(seed).normal(size=shape).astype("float32"), requires_grad=grad)


def test_sinusoids_are_the_formula_and_continue() -> None:
    layer = nn.SinusoidalPositions(6)
    table = layer.table(5).numpy()
    for i, k in np.ndindex(5, 3):
        angle = i / 10000 ** (2 * k / 6)
        np.testing.assert_allclose(table[i, 2 * k : 2 * k + 2], [np.sin(angle), np.cos(angle)], atol=1e-7)
    np.testing.assert_array_equal(layer.table(3, 2).numpy(), table[2:])
    assert nn.SinusoidalPositions(5).table(2).shape == (2, 5)
    x = normal(2, 3, 6)
    np.testing.assert_array_equal(layer(x, 2).numpy(), x.numpy() + table[2:])


def test_learnt_positions_have_an_end() -> None:
    layer = nn.LearnedPositions(6, 4)
    x = ct.zeros((2, 3, 4))
    np.testing.assert_array_equal(layer(x, 3)[1].detach().numpy(), layer.weight.detach().numpy()[3:])
    with pytest.raises(ValueError, match="positions 4 to 6 are not all among the 6"):
        layer(x, 4)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    rotary = nn.RotaryPositions(8)
    q, k = normal(1, 8, seed=1), normal(1, 8, seed=2)
    score = lambda i, j: (rotary(q, i) * rotary(k, j)).sum().item()  # noqa: E731
    assert score(3, 1) == pytest.approx(score(40, 38), rel=1e-4)
    assert abs(score(3, 1) - score(3, 2)) > 1e-3
    # Turning keeps lengths; a piece is turned as the whole is.
    x = normal(2, 5, 8)
    np.testing.assert_allclose((rotary(x) ** 2).sum(-1).numpy(), (x**2).sum(-1).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(rotary(x[:, 2:], 2).numpy(), rotary(x)[:, 2:].numpy())
    # One pair, by hand.
    y = nn.RotaryPositions(2)(ct.tensor([[1.0, 0.0]] * 2))[1].tolist()
    np.testing.assert_allclose(y, [np.cos(1), np.sin(1)], rtol=1e-6)
    with pytest.raises(ValueError, match="must be even"):
        nn.RotaryPositions(3)


def test_alibi_slopes_are_the_papers() -> None:
    assert nn.AlibiBias(8).slopes() == [2.0**-i for i in range(1, 9)]
    assert nn.AlibiBias(3).slopes() == [2.0**-4, 2.0**-8, 2.0**-2]
    bias = nn.AlibiBias(2)(3, 4, offset=1).numpy()
    at, key = np.arange(1, 4)[:, None], np.arange(4)
    for slope, part in zip(nn.AlibiBias(2).slopes(), bias, strict=True):
        np.testing.assert_array_equal(part, -slope * np.abs(at - key))


def test_relative_bias_has_buckets_and_learns() -> None:
    layer = nn.RelativeBias(2, buckets=8, max_distance=20)
    at = np.array([-100, -20, -3, -2, -1, 0, 1, 2, 3, 20, 100])
    np.testing.assert_array_equal(layer.bucket(at), [3, 3, 2, 2, 1, 0, 5, 6, 6, 7, 7])
    one_way = nn.RelativeBias(2, buckets=8, max_distance=20, bidirectional=False)
    np.testing.assert_array_equal(one_way.bucket(np.array([5, 0, -1, -3, -4, -19, -50])), [0, 0, 1, 3, 4, 7, 7])
    x = normal(1, 2, 5, 4)
    F.scaled_dot_product_attention(x, x, x, layer(5, 5)).sum().backward()
    assert layer.weight.grad is not None
    nn.init.normal_(layer.weight)
    whole = layer(6, 6).detach().numpy()
    np.testing.assert_array_equal(layer(2, 6, 3).detach().numpy(), whole[:, 3:5])


@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
def test_feed_forward_is_the_formula(activation: str) -> None:
    net = nn.FeedForward(6, activation=activation, dropout=0.0)
    x = normal(2, 3, 6)
    h = net.linear1(x)
    h = {"relu": F.relu, "gelu": F.gelu, "swiglu": F.silu}[activation](h)
    if activation == "swiglu":
        h = h * net.gate(x)
    np.testing.assert_allclose(net(x).detach().numpy(), net.linear2(h).detach().numpy(), rtol=1e-6, atol=1e-7)
    assert net.linear1.out_features == (16 if activation == "swiglu" else 24)
    with pytest.raises(ValueError, match="activation must be"):
        nn.FeedForward(6, activation="tanh")


# -- the family


def layers() -> list[nn.Module]:
    return [
        nn.DotProductAttention(),
        nn.DotProductAttention(scaled=False),
        nn.BilinearAttention(4),
        nn.AdditiveAttention(4),
        nn.NadarayaWatson(0.7),
        nn.NadarayaWatson(0.7, learnable=True),
    ]


def scores(layer: nn.Module, q: np.ndarray, k: np.ndarray) -> float:
    """Of one pair, by its formula."""
    if isinstance(layer, nn.DotProductAttention):
        return float(q @ k) / (2.0 if layer.scaled else 1.0)
    if isinstance(layer, nn.BilinearAttention):
        return float(q @ layer.weight.detach().numpy() @ k)
    if isinstance(layer, nn.AdditiveAttention):
        w, u, v = (m.weight.detach().numpy() for m in (layer.query, layer.key, layer.score))
        return float(v[0] @ np.tanh(w @ q + u @ k))
    return float(-((q - k) ** 2).sum() / (2 * 0.7**2))


@pytest.mark.parametrize("layer", layers(), ids=lambda m: repr(m).split("\n")[0])
def test_family_is_the_formula(layer: nn.Module) -> None:
    q, k, v = normal(2, 3, 4, seed=1), normal(2, 5, 4, seed=2), normal(2, 5, 6, seed=3)
    y, weights = layer(q, k, v, lengths=ct.tensor([5, 2]))
    for n in range(2):
        for i in range(3):
            s = np.array([scores(layer, q.numpy()[n, i], key) for key in k.numpy()[n]])
            e = np.exp(s - s.max()) * (np.arange(5) < (5, 2)[n])
            np.testing.assert_allclose(weights.detach().numpy()[n, i], e / e.sum(), rtol=2e-5, atol=1e-6)
            np.testing.assert_allclose(y.detach().numpy()[n, i], e / e.sum() @ v.numpy()[n], rtol=1e-4, atol=1e-5)
    # Nothing to look at: zeros. A mask and lengths may come together.
    keep = ct.tensor([[True, False, True, True, True]] * 2 + [[False] * 5])
    y, weights = layer(q, k, v, keep, lengths=ct.tensor([5, 2]))
    assert not y[:, 2].detach().numpy().any()
    assert (weights.detach().numpy()[1, 0] > 0).tolist() == [True, False, False, False, False]
    grads = ct.grad(y.sum(), list(layer.parameters()), allow_unused=True) if list(layer.parameters()) else []
    for g in grads if isinstance(grads, (list, tuple)) else [grads]:
        assert np.isfinite(g.numpy()).all()


def test_kernel_regression_smooths_and_learns_its_bandwidth() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 5, 60).astype("float32")
    y = np.sin(2 * x) + rng.normal(size=60).astype("float32") * 0.1
    keys, values = ct.tensor(x).reshape(1, 60, 1), ct.tensor(y).reshape(1, 60, 1)
    at = ct.tensor(np.linspace(0.3, 4.7, 40, dtype="float32")).reshape(1, 40, 1)
    truth = np.sin(2 * at.numpy())
    flat, _ = nn.NadarayaWatson(float("inf"))(at, keys, values)
    np.testing.assert_allclose(flat.numpy(), y.mean(), rtol=1e-4)
    layer = nn.NadarayaWatson(2.0, learnable=True)
    error = lambda: float(((layer(at, keys, values)[0].detach().numpy() - truth) ** 2).mean())  # noqa: E731
    first = error()
    optimizer = ct.optim.Adam(layer.parameters(), lr=0.05)
    others = ~ct.eye(60).astype("bool")  # each point is predicted from the others
    for _ in range(100):
        optimizer.zero_grad()
        F.mse_loss(layer(keys, keys, values, others)[0], values).backward()
        optimizer.step()
    assert error() < 0.02 < first


def test_masks_and_padding_of_texts() -> None:
    tokens, lengths = ct.text.pad_sequences([[1, 2, 3], [], [4]], value=9, length=4, left=True)
    assert tokens.tolist() == [[9, 1, 2, 3], [9, 9, 9, 9], [9, 9, 9, 4]]
    assert lengths.tolist() == [3, 0, 1]
    assert ct.text.padding_mask(lengths, 3).tolist() == [[False] * 3, [True] * 3, [False, True, True]]
    assert ct.text.causal_mask(2, 4, offset=1).tolist() == [[False, False, True, True], [False, False, False, True]]
    with pytest.raises(ValueError, match="longer than length=2"):
        ct.text.pad_sequences([[1, 2, 3]], length=2)
