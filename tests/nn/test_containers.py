"""Sequential, ModuleList, ModuleDict, Identity."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn


def test_sequential_chains_and_indexes() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = ct.ones((5, 3))
    want = net[2](net[1](net[0](x)))
    np.testing.assert_array_equal(net(x).detach().numpy(), want.detach().numpy())
    assert len(net) == 3
    assert isinstance(net[-1], nn.Linear)
    assert isinstance(net[:2], nn.Sequential)
    assert len(net[:2]) == 2
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "Linear"]
    net[1] = nn.ReLU()
    net.append(nn.Identity())
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert len(net) == 4
    with pytest.raises(IndexError, match="out of range"):
        net[4]


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_fused_relu_gives_the_same_bits(kind: str) -> None:
    ct.manual_seed(3)
    layer: nn.Module = nn.Linear(7, 5) if kind == "linear" else nn.Conv2d(2, 4, 3, padding=1)
    x = ct.randn(6, 7) if kind == "linear" else ct.randn(3, 2, 6, 5)
    x.requires_grad_()
    fused = nn.Sequential(layer, nn.ReLU())(x)
    (fused * fused).sum().backward()
    assert x.grad is not None
    got = [fused.detach().numpy().copy(), x.grad.numpy().copy(), *[p.grad.numpy().copy() for p in layer.parameters()]]
    x.grad = None
    layer.zero_grad()
    plain = nn.functional.relu(layer(x))
    (plain * plain).sum().backward()
    assert x.grad is not None
    want = [plain.detach().numpy(), x.grad.numpy(), *[p.grad.numpy() for p in layer.parameters()]]
    assert (want[0] == 0).any()
    np.testing.assert_array_equal(got[0], want[0])
    for a, b in zip(got[1:], want[1:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_subclass_of_linear_is_not_bypassed() -> None:
    class Doubled(nn.Linear):
        def forward(self, x: ct.Tensor, **_: object) -> ct.Tensor:
            return super().forward(x) * 2

    layer = Doubled(2, 2)
    x = ct.ones((1, 2))
    want = nn.functional.relu(layer(x)).detach().numpy()
    np.testing.assert_array_equal(nn.Sequential(layer, nn.ReLU())(x).detach().numpy(), want)


def test_sequential_with_names() -> None:
    net = nn.Sequential({"first": nn.Linear(1, 2), "second": nn.Linear(2, 1)})
    assert list(net.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    assert net(ct.ones((1, 1))).shape == (1, 1)


def test_containers_hold_modules_only() -> None:
    with pytest.raises(TypeError, match="holds modules"):
        nn.Sequential(nn.ReLU(), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="holds modules"):
        nn.ModuleList([nn.ReLU]).append(3)  # type: ignore[list-item,arg-type]
    with pytest.raises(TypeError, match="holds modules"):
        nn.ModuleDict({"a": 3})  # type: ignore[dict-item]


def test_module_list_and_dict() -> None:
    layers = nn.ModuleList(nn.Linear(1, 1) for _ in range(2)).extend([nn.Linear(1, 1)])
    assert list(layers.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias"]
    assert isinstance(layers[1:], nn.ModuleList)
    heads = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.ReLU()})
    assert list(heads) == heads.keys() == ["a", "b"]
    assert "a" in heads
    assert "c" not in heads
    assert len(heads) == 2
    assert [type(m).__name__ for m in heads.values()] == ["Linear", "ReLU"]
    assert [n for n, _ in heads.items()] == ["a", "b"]
    del heads["a"]
    with pytest.raises(KeyError):
        heads["a"]
    with pytest.raises(KeyError, match="method"):
        heads["keys"] = nn.ReLU()


def test_identity() -> None:
    x = ct.ones((2,))
    assert nn.Identity()(x) is x


@pytest.mark.parametrize("name", ["forward", "training", "parameters", ""])
@pytest.mark.parametrize("kind", [nn.Sequential, nn.ModuleDict])
def test_a_name_hides_no_method(kind: type, name: str) -> None:
    with pytest.raises(KeyError, match="choose another"):
        kind({name: nn.ReLU()})


def test_names_are_texts() -> None:
    with pytest.raises(TypeError, match="names are texts"):
        nn.Sequential({1: nn.ReLU()})  # type: ignore[dict-item]
