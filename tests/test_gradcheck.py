"""The checker itself: it accepts right gradients, and rejects one that is wrong by 0.05 % of one entry."""

from __future__ import annotations

import re

import numpy as np
import pytest

import corten as ct
from corten import _core

Tensor = _core.Tensor


def rejected(fn, inputs) -> bool:
    """Whether gradcheck refuses, by returning False or by raising an error that speaks of gradients."""
    try:
        return not _core.gradcheck(fn, inputs)
    except (RuntimeError, ValueError, AssertionError) as error:
        if re.search(r"(?i)gradient", str(error)):
            return True
        raise


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return _core.tensor(np.random.default_rng(seed).uniform(0.5, 2.0, size=shape), requires_grad=True)


def scaled_gradient(x: Tensor, factor: Tensor | float) -> Tensor:
    """`x` in the forward pass; its gradient is multiplied by `factor`."""
    return x * factor + (x * (1.0 - factor)).detach()


def test_accepts_right_gradients() -> None:
    assert _core.gradcheck(lambda x, y: (x.exp() * y.sin()).sum(), [leaf(3, 4), leaf(4)])


def test_accepts_a_result_of_many_elements() -> None:
    assert _core.gradcheck(lambda x: x * x, [leaf(3, 4)])


@pytest.mark.parametrize("error", [0.0005, -0.0005, 0.01, 1.0])
def test_rejects_a_gradient_wrong_by_this_share(error: float) -> None:
    """0.05 % is fifty times the tolerance of 1e-5; a checker with torch's float32 defaults would let it pass."""
    assert rejected(lambda x: scaled_gradient(x.exp(), 1.0 + error).sum(), [leaf(3, 4)])


def test_the_wrong_gradient_is_wrong_only_in_backward() -> None:
    """What the tests above feed to the checker: right values, gradients off by exactly the factor."""
    x = leaf(3)
    y = scaled_gradient(x, 1.0005)
    np.testing.assert_allclose(y.detach().numpy(), x.detach().numpy(), rtol=1e-15)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1.0005, rtol=1e-12)


def test_rejects_one_wrong_entry_of_many() -> None:
    factor = np.ones((5, 7))
    factor[3, 4] = 1.0005
    assert rejected(lambda x: scaled_gradient(x.exp(), _core.tensor(factor)).sum(), [leaf(5, 7)])


def test_rejects_a_wrong_second_input() -> None:
    assert rejected(lambda x, y: (x * scaled_gradient(y, 1.0005)).sum(), [leaf(3), leaf(3, seed=1)])


def test_rejects_a_missing_gradient() -> None:
    assert rejected(lambda x: (x * x.detach()).sum(), [leaf(3)])


def test_rejects_a_wrong_entry_of_a_result_of_many_elements() -> None:
    factor = np.ones(6)
    factor[5] = 1.0005
    assert rejected(lambda x: scaled_gradient(x * x, _core.tensor(factor)), [leaf(6)])


def test_rejects_a_wrong_second_derivative() -> None:
    """Gradcheck of a gradient: y = x**3 whose first derivative is right and whose second one is 0.05 % off."""

    def slope(x: Tensor) -> Tensor:
        (g,) = _core.grad([(x * x * x).sum()], [x], create_graph=True)
        return scaled_gradient(g, 1.0005).sum()

    assert rejected(slope, [leaf(3)])


def test_refuses_float32() -> None:
    """Central differences in float32 carry an error of about 1e-2: a check would mean nothing."""
    with pytest.raises((TypeError, ValueError), match=r"float64"):
        _core.gradcheck(lambda x: (x * x).sum(), [_core.ones(3, requires_grad=True)])


def test_leaves_the_inputs_alone() -> None:
    x = leaf(4)
    before = x.detach().numpy().copy()
    assert _core.gradcheck(lambda t: (t * t).sum(), [x])
    np.testing.assert_array_equal(x.detach().numpy(), before)
    assert x.grad is None


def test_nothing_to_check_is_no_success() -> None:
    with pytest.raises(ValueError, match="no input requires a gradient"):
        ct.testing.gradcheck(lambda x: x * x, ct.ones((2,), dtype="float64"))
