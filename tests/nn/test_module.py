"""Module: finding parameters, names, state, modes, conversion, repr."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import corten as ct
from corten import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
        self.scale = nn.Parameter(ct.ones((1,)))

    def forward(self, x: ct.Tensor) -> ct.Tensor:
        return self.head(nn.functional.relu(self.norm(self.conv(x)))) * self.scale


def values(x: ct.Tensor) -> np.ndarray:
    return x.detach().numpy().copy()


def test_keys_are_those_of_pytorch() -> None:
    # What torch.nn gives for the same module.
    assert list(Net().state_dict()) == [
        "scale",
        "conv.weight",
        "conv.bias",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
        "head.1.weight",
        "head.1.bias",
    ]


def test_parameters_and_buffers_are_apart() -> None:
    net = Net()
    names = [name for name, _ in net.named_parameters()]
    assert names == ["scale", "conv.weight", "conv.bias", "norm.weight", "norm.bias", "head.1.weight", "head.1.bias"]
    assert [n for n, _ in net.named_buffers()] == ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert all(p.requires_grad and isinstance(p, nn.Parameter) for p in net.parameters())
    assert not any(b.requires_grad or isinstance(b, nn.Parameter) for b in net.buffers())
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.head.named_parameters("p")] == ["p.1.weight", "p.1.bias"]


def test_modules_and_children() -> None:
    net = Net()
    assert [name for name, _ in net.named_modules()] == ["", "conv", "norm", "head", "head.0", "head.1"]
    assert [name for name, _ in net.named_children()] == ["conv", "norm", "head"]
    assert next(net.children()) is net.conv
    assert len(list(net.modules())) == 6


def test_shared_parameter_comes_once_but_has_both_keys() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2, bias=False)
            self.b = nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    net = Tied()
    assert [n for n, _ in net.named_parameters()] == ["a.weight"]
    assert list(net.state_dict()) == ["a.weight", "b.weight"]
    net.to("float64")
    assert net.a.weight is net.b.weight
    assert net.a.weight.dtype == ct.float64


def test_a_subclass_may_forget_super_init() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    net = Forgetful()
    assert net.training
    assert [n for n, _ in net.named_parameters()] == ["layer.weight", "layer.bias"]
    assert not net.eval().layer.training


def test_parameter_is_a_marked_leaf() -> None:
    source = ct.ones((2, 2))
    p = nn.Parameter(source * 3)
    assert isinstance(p, nn.Parameter)
    assert isinstance(p, ct.Tensor)
    assert p.is_leaf
    assert p.requires_grad
    assert not isinstance(source, nn.Parameter)
    assert not isinstance(p + 1, nn.Parameter)
    assert not isinstance(p.detach(), nn.Parameter)
    assert not isinstance(3, nn.Parameter)
    p.requires_grad_(False)
    assert isinstance(p, nn.Parameter)  # frozen, but still one
    assert nn.Parameter([1.0, 2.0]).tolist() == [1.0, 2.0]


def test_parameter_leaves_its_source_alone() -> None:
    source = ct.zeros((3,))
    p = nn.Parameter(source)
    p.assign_(ct.ones((3,)))
    assert source.tolist() == [0.0, 0.0, 0.0]


def test_integers_are_no_parameters_that_learn() -> None:
    with pytest.raises(TypeError):
        nn.Parameter(ct.arange(3))


def test_plain_tensor_cannot_replace_a_parameter() -> None:
    net = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"nn\.Parameter"):
        net.weight = ct.zeros((2, 2))
    net.weight = nn.Parameter(ct.zeros((2, 2)))
    assert net.weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_register_parameter_and_buffer() -> None:
    net = nn.Module()
    net.register_parameter("w", nn.Parameter(ct.ones((1,))))
    net.register_parameter("none", None)
    net.register_buffer("b", ct.zeros((2,)))
    net.register_buffer("temporary", ct.zeros((1,)), persistent=False)
    assert list(net.state_dict()) == ["w", "b"]
    assert [n for n, _ in net.named_buffers()] == ["b", "temporary"]
    net.b = ct.ones((2,))  # stays a buffer
    assert net.state_dict()["b"].tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="Parameter or None"):
        net.register_parameter("x", ct.ones((1,)))
    with pytest.raises(TypeError, match="Tensor or None"):
        net.register_buffer("x", 3)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="already has"):
        net.register_buffer("w", ct.ones((1,)))


def test_state_dict_is_a_snapshot() -> None:
    net = nn.Linear(2, 1)
    state = net.state_dict()
    before = values(state["weight"])
    net.weight.assign_(ct.full((1, 2), 7.0))
    np.testing.assert_array_equal(values(state["weight"]), before)
    assert not state["weight"].requires_grad


def test_load_state_dict_copies_values() -> None:
    ct.manual_seed(0)
    a, b = Net(), Net()
    weight = b.conv.weight
    result = b.load_state_dict(a.state_dict())
    assert result == ([], [])
    assert b.conv.weight is weight  # written to, not replaced: an optimizer keeps knowing it
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(values(value), values(b.state_dict()[name]))
    a.conv.weight.assign_(a.conv.weight.detach() * 0)
    assert np.abs(values(b.conv.weight)).max() > 0


def test_load_state_dict_takes_arrays_of_another_dtype() -> None:
    net = nn.Linear(2, 1)
    net.load_state_dict({"weight": np.array([[1.5, 2.5]]), "bias": np.array([3])})
    assert net.weight.tolist() == [[1.5, 2.5]]
    assert net.bias is not None
    assert net.bias.tolist() == [3.0]
    assert net.weight.dtype == ct.float32


def test_load_state_dict_lists_everything_that_is_wrong() -> None:
    net = Net()
    state = dict(net.state_dict())
    del state["scale"], state["norm.bias"]
    state["extra"] = ct.zeros((1,))
    state["conv.weight"] = ct.zeros((2, 1, 5, 5))
    before = values(net.conv.bias)
    state["conv.bias"] = ct.full((2,), 9.0)
    with pytest.raises(ValueError, match="does not fit Net") as error:
        net.load_state_dict(state)
    text = str(error.value)
    assert "missing keys: scale, norm.bias" in text
    assert "unexpected keys: extra" in text
    assert "conv.weight: the state has shape (2, 1, 5, 5), the module (2, 1, 3, 3)" in text
    np.testing.assert_array_equal(values(net.conv.bias), before)  # nothing was written


def test_load_state_dict_not_strict() -> None:
    net = nn.Linear(2, 1)
    result = net.load_state_dict({"bias": ct.full((1,), 5.0), "extra": ct.zeros((1,))}, strict=False)
    assert result.missing_keys == ["weight"]
    assert result.unexpected_keys == ["extra"]
    assert net.bias is not None
    assert net.bias.tolist() == [5.0]
    with pytest.raises(ValueError, match="shape"):
        net.load_state_dict({"bias": ct.zeros((2,))}, strict=False)


def test_modes() -> None:
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.head.train()
    assert not net.training
    assert net.head[1].training


def test_requires_grad_and_zero_grad() -> None:
    net = nn.Linear(2, 1)
    net(ct.ones((3, 2))).sum().backward()
    assert net.weight.grad is not None
    assert net.weight.grad.tolist() == [[3.0, 3.0]]
    net.weight.grad = ct.full((1, 2), float("nan"))  # zero times NaN would be NaN
    net.zero_grad(set_to_none=False)
    assert net.weight.grad is not None
    assert net.weight.grad.tolist() == [[0.0, 0.0]]
    net.zero_grad()
    assert net.weight.grad is None
    net.requires_grad_(False)
    assert not net(ct.ones((3, 2))).requires_grad
    assert len(list(net.parameters())) == 2


def test_to_converts_floating_tensors_only() -> None:
    net = Net()
    weight, count = values(net.conv.weight), net.norm.num_batches_tracked
    assert net.to(ct.float32).conv.weight is net.conv.weight
    kept = net.conv.weight
    net.to(ct.float32)
    assert net.conv.weight is kept  # nothing to convert, nothing replaced
    net.to("float64")
    assert net.conv.weight.dtype == ct.float64
    assert isinstance(net.conv.weight, nn.Parameter)
    assert net.norm.running_mean is not None
    assert net.norm.running_mean.dtype == ct.float64
    assert net.norm.num_batches_tracked is count
    np.testing.assert_array_equal(values(net.conv.weight).astype(np.float32), weight)
    assert net(ct.zeros((2, 1, 4, 4), dtype="float64")).dtype == ct.float64
    with pytest.raises(TypeError, match="floating"):
        net.to("int64")


def test_to_keeps_frozen_and_gradient() -> None:
    net = nn.Linear(2, 1)
    net(ct.ones((1, 2))).sum().backward()
    net.weight.requires_grad_(False)
    net.to("float64")
    assert not net.weight.requires_grad
    assert net.weight.grad is not None
    assert net.weight.grad.dtype == ct.float64


def test_apply_goes_children_first() -> None:
    seen: list[str] = []
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


def test_repr_is_readable() -> None:
    assert repr(Net()) == (
        "Net(\n"
        "  (conv): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))\n"
        "  (norm): BatchNorm2d(2, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)\n"
        "  (head): Sequential(\n"
        "    (0): Flatten(start_dim=1, end_dim=-1)\n"
        "    (1): Linear(in_features=8, out_features=3, bias=True)\n"
        "  )\n"
        ")"
    )


def test_missing_forward_says_so() -> None:
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_deepcopy_is_independent() -> None:
    net = Net()
    twin = copy.deepcopy(net)
    assert [n for n, _ in twin.named_parameters()] == [n for n, _ in net.named_parameters()]
    twin.scale.assign_(ct.full((1,), 5.0))
    assert net.scale.tolist() == [1.0]
