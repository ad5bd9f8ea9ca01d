"""nn.init: distributions, fans, gains."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corten as ct
from corten import nn

init = nn.init


def out(x: ct.Tensor) -> np.ndarray:
    return x.detach().numpy()


@pytest.mark.parametrize(
    ("fill", "spread"),
    [
        (init.xavier_uniform_, math.sqrt(6 / (50 * 9 + 100 * 9)) / math.sqrt(3)),
        (init.xavier_normal_, math.sqrt(2 / (50 * 9 + 100 * 9))),
        (init.kaiming_uniform_, math.sqrt(2 / (50 * 9))),
        (init.kaiming_normal_, math.sqrt(2 / (50 * 9))),
        (lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / (100 * 9))),
        (lambda w: init.kaiming_normal_(w, a=1.0), math.sqrt(1 / (50 * 9))),
        (lambda w: init.normal_(w, 0, 0.3), 0.3),
        (lambda w: init.uniform_(w, -1, 1), 1 / math.sqrt(3)),
        (lambda w: init.xavier_normal_(w, gain=2.0), 2 * math.sqrt(2 / (50 * 9 + 100 * 9))),
    ],
)
def test_spread(fill, spread: float) -> None:  # type: ignore[no-untyped-def]
    ct.manual_seed(0)
    w = nn.Parameter(ct.zeros((100, 50, 3, 3)))
    assert fill(w) is w
    # 45,000 draws: the standard error of the deviation is below 0.4 %, of the mean below 0.5 % of the deviation.
    np.testing.assert_allclose(out(w).std(), spread, rtol=0.02)
    assert abs(out(w).mean()) < 0.03 * spread
    assert w.requires_grad
    assert w.is_leaf


def test_uniform_bounds() -> None:
    w = out(init.xavier_uniform_(ct.zeros((30, 20))))
    bound = math.sqrt(6 / 50)
    assert 0.9 * bound < np.abs(w).max() <= bound


def test_constants() -> None:
    w = ct.zeros((2,))
    assert init.ones_(w).tolist() == [1.0, 1.0]
    assert init.constant_(w, 2.5).tolist() == [2.5, 2.5]
    assert init.zeros_(w).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (4, 3, 2, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = out(init.orthogonal_(ct.zeros(shape), gain=2.0)).reshape(shape[0], -1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-5)


def test_gains() -> None:
    assert init.calculate_gain("linear") == 1
    assert init.calculate_gain("tanh") == pytest.approx(5 / 3)
    assert init.calculate_gain("relu") == pytest.approx(math.sqrt(2))
    assert init.calculate_gain("leaky_relu", 1.0) == pytest.approx(1.0)
    assert init.calculate_gain("leaky_relu") == pytest.approx(math.sqrt(2 / 1.0001))
    assert init.calculate_gain("selu") == 0.75
    with pytest.raises(ValueError, match="unknown"):
        init.calculate_gain("what")  # type: ignore[arg-type]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="two axes"):
        init.xavier_uniform_(ct.zeros((3,)))
    with pytest.raises(ValueError, match="fan_in"):
        init.kaiming_uniform_(ct.zeros((3, 3)), mode="fan")  # type: ignore[arg-type]


def test_keeps_dtype() -> None:
    w = ct.zeros((4, 4), dtype="float64")
    for fill in (init.kaiming_uniform_, init.kaiming_normal_, init.orthogonal_, init.ones_):
        assert fill(w).dtype == ct.float64
