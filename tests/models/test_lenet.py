"""LeNet-5: shapes, parameters, variants."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.models import LeNet5


def test_shapes_and_size() -> None:
    net = LeNet5()
    assert net(ct.zeros((3, 1, 28, 28))).shape == (3, 10)
    assert sum(p.size for p in net.parameters()) == 44_426
    assert [p.shape for p in net.parameters()] == [
        (6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 256), (120,), (84, 120), (84,), (10, 84), (10,)
    ]  # fmt: skip
    assert LeNet5(num_classes=4, in_channels=3)(ct.zeros((1, 3, 28, 28))).shape == (1, 4)
    assert LeNet5(dtype="float64")(ct.zeros((1, 1, 28, 28), dtype="float64")).dtype == ct.float64


def test_activation() -> None:
    count = {kind: sum(isinstance(m, nn.ReLU) for m in LeNet5(activation=kind).modules()) for kind in ("relu", "first")}
    assert count == {"relu": 4, "first": 1}
    with pytest.raises(ValueError, match="'relu' or 'first'"):
        LeNet5(activation="tanh")  # type: ignore[arg-type]


def test_every_parameter_gets_a_gradient() -> None:
    ct.manual_seed(0)
    net = LeNet5()
    nn.functional.cross_entropy(net(ct.randn(8, 1, 28, 28)), ct.arange(8)).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert np.abs(p.grad.numpy()).max() > 0, name


def test_a_step_does_not_change_another_net() -> None:
    # Two nets made from the same seed share no memory.
    ct.manual_seed(1)
    a = LeNet5()
    ct.manual_seed(1)
    b = LeNet5()
    before = b.state_dict()["classifier.1.weight"].numpy().copy()
    for p in a.parameters():
        p.assign_(p.detach() + 1)
    np.testing.assert_array_equal(b.state_dict()["classifier.1.weight"].numpy(), before)
