"""Activation modules: formulas, defaults, arguments, state and repr, as PyTorch has them."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn

F = nn.functional
X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32) * 3


def soft(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


@pytest.mark.parametrize(
    ("layer", "formula"),
    [
        (nn.LeakyReLU(), lambda x: np.where(x > 0, x, 0.01 * x)),
        (nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
        (nn.PReLU(), lambda x: np.where(x > 0, x, 0.25 * x)),
        (nn.PReLU(6, 0.5), lambda x: np.where(x > 0, x, 0.5 * x)),
        (nn.ELU(), lambda x: np.where(x > 0, x, np.expm1(x))),
        (nn.ELU(0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
        (nn.CELU(0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x / 0.5))),
        (nn.SELU(), lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
        (nn.Mish(), lambda x: x * np.tanh(soft(x))),
        (nn.Hardtanh(), lambda x: np.clip(x, -1, 1)),
        (nn.Hardtanh(-2.0, 0.5), lambda x: np.clip(x, -2, 0.5)),
        (nn.ReLU6(), lambda x: np.clip(x, 0, 6)),
        (nn.Softsign(), lambda x: x / (1 + abs(x))),
        (nn.Hardsigmoid(), lambda x: np.clip(x / 6 + 0.5, 0, 1)),
        (nn.Hardswish(), lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
        (nn.LogSigmoid(), lambda x: -soft(-x)),
        (nn.Tanhshrink(), lambda x: x - np.tanh(x)),
        (nn.Softshrink(), lambda x: np.where(abs(x) > 0.5, x - 0.5 * np.sign(x), 0)),
        (nn.Hardshrink(1.0), lambda x: np.where(abs(x) > 1, x, 0)),
        (nn.Threshold(0.5, -3.0), lambda x: np.where(x > 0.5, x, -3.0)),
        (nn.GLU(), lambda x: x[:, :3] / (1 + np.exp(-x[:, 3:]))),
        (nn.GLU(0), lambda x: x[:2] / (1 + np.exp(-x[2:]))),
        (nn.Softmin(1), lambda x: np.exp(-x) / np.exp(-x).sum(1, keepdims=True)),
    ],
    ids=repr,
)
def test_formula(layer: nn.Module, formula) -> None:  # type: ignore[no-untyped-def]
    got = layer(ct.tensor(X)).detach().numpy()
    np.testing.assert_allclose(got, formula(X.astype(np.float64)), rtol=2e-5, atol=2e-6)


def test_prelu_learns_its_slope_under_pytorchs_key() -> None:
    layer = nn.PReLU(6, 0.5)
    assert list(layer.state_dict()) == ["weight"]
    layer(ct.tensor(X)).sum().backward()
    assert layer.weight.grad is not None
    np.testing.assert_allclose(layer.weight.grad.numpy(), np.minimum(X, 0).sum(0), rtol=1e-5)
    with pytest.raises(ValueError, match="num_parameters"):
        nn.PReLU(0)
    with pytest.raises(TypeError, match=r"\[prelu\].*float64.*float32"):
        layer(ct.tensor(X.astype(np.float64)))
    with pytest.raises(ValueError, match=r"\[prelu\]"):
        layer(ct.ones((4, 5)))


def test_functional_takes_dim_and_axis() -> None:
    x = ct.tensor(X)
    np.testing.assert_array_equal(F.glu(x, dim=0).numpy(), F.glu(x, axis=0).numpy())
    np.testing.assert_array_equal(F.softmin(x, 0).numpy(), F.softmin(x, axis=0).numpy())
    with pytest.raises(TypeError, match="not both"):
        F.glu(x, 0, axis=0)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.LeakyReLU(), "LeakyReLU(negative_slope=0.01)"),
        (nn.ELU(), "ELU(alpha=1.0)"),
        (nn.Hardtanh(), "Hardtanh(min_val=-1.0, max_val=1.0)"),
        (nn.PReLU(), "PReLU(num_parameters=1)"),
        (nn.Threshold(1.0, 2.0), "Threshold(threshold=1.0, value=2.0)"),
        (nn.Mish(), "Mish()"),
        (nn.GLU(), "GLU(dim=-1)"),
    ],
)
def test_repr(layer: nn.Module, text: str) -> None:
    assert repr(layer) == text
