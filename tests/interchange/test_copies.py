"""copy, deepcopy, pickle: values and flags travel, graphs and hooks do not, and what was shared stays shared."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import pickletools

import numpy as np
import pytest

import corten as ct
from corten import nn, optim
from harness import bits

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
DTYPES = [*ct.__array_namespace_info__().dtypes()]


def through_pickle(obj, protocol: int = pickle.HIGHEST_PROTOCOL):
    return pickle.loads(pickle.dumps(obj, protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", DTYPES)
def test_tensors_of_every_dtype(name: str, protocol: int) -> None:
    t = ct.tensor([[0, 1, 1], [1, 0, 2]]).astype(name)
    back = through_pickle(t, protocol)
    assert (back.dtype, back.shape, back.tolist()) == (t.dtype, t.shape, t.tolist())
    assert back.is_leaf
    assert not back.requires_grad


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 1, 3)])
def test_tensors_of_every_shape(shape: tuple[int, ...], protocol: int) -> None:
    t = ct.randn(shape)
    assert through_pickle(t, protocol).tolist() == t.tolist()


@pytest.mark.parametrize("protocol", [2, 5])
def test_views_travel_alone(protocol: int) -> None:
    big = ct.tensor(np.arange(10_000.0))
    t = big.reshape(100, 100)[::-50, ::25].T
    data = pickle.dumps(t, protocol)
    assert len(data) < 500
    assert pickle.loads(data).tolist() == t.tolist()


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_flags_travel(how: str) -> None:
    duplicate = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": through_pickle}[how]
    frozen = nn.Parameter(ct.ones(2), requires_grad=False)
    for t in (ct.ones(2), ct.ones(2, requires_grad=True), nn.Parameter(ct.ones(2)), frozen):
        new = duplicate(t)
        assert new is not t
        assert (new.requires_grad, new.is_parameter, new.is_leaf) == (t.requires_grad, t.is_parameter, True)
    assert duplicate(ct.ones(2).to("reference")).device == "reference"


@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_copies_are_independent(how: str) -> None:
    duplicate = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": through_pickle}[how]
    foreign = np.zeros(3)
    for t in (ct.zeros(3, dtype="float64"), ct.from_numpy(foreign)):
        new = duplicate(t)
        foreign[2] = 8
        t[0] = 5.0
        new[1] = 7.0
        assert new.tolist() == [0, 7, 0]
        assert t[0].item() == 5
        assert t[1].item() == 0
        foreign[2] = 0


def test_gradients_and_hooks() -> None:
    w = ct.ones(2, requires_grad=True)
    calls = []
    w.register_hook(lambda g: calls.append(g))
    (w * 3).sum().backward()
    assert len(calls) == 1
    deep, back, shallow = copy.deepcopy(w), through_pickle(w), copy.copy(w)
    assert deep.grad is not None
    assert deep.grad.tolist() == [3, 3]
    w.grad.assign_(ct.zeros(2))
    assert deep.grad.tolist() == [3, 3]
    assert back.grad is None
    assert shallow.grad is None
    for new in (deep, back, shallow):
        (new * 2).sum().backward()
    assert len(calls) == 1


def test_results_of_operations() -> None:
    y = ct.ones(2, requires_grad=True) * 2
    for duplicate in (copy.deepcopy, pickle.dumps):
        with pytest.raises(RuntimeError, match=r"x\.detach\(\)"):
            duplicate(y)
    assert through_pickle(y.detach()).tolist() == [2, 2]
    assert copy.copy(y).grad_fn is not None  # a clone, in the same graph
    with ct.no_grad():
        assert through_pickle(y * 1).tolist() == [2, 2]


def test_one_tensor_stays_one() -> None:
    w = ct.ones(2)
    for duplicate in (copy.deepcopy, through_pickle):
        a, b, c = duplicate([w, w, ct.ones(2)])
        assert a is b
        assert a is not c


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickles_hold_data_and_one_function(protocol: int) -> None:
    """Whoever allows only names that they know needs to allow a single one."""
    data = pickle.dumps([ct.ones((2, 2)), nn.Parameter(ct.ones(3))], protocol)

    found: set[tuple[str, str]] = set()

    class Watching(pickle.Unpickler):
        def find_class(self, module: str, name: str):
            found.add((module, name))
            return super().find_class(module, name)

    Watching(io.BytesIO(data)).load()
    # Protocols before 3 know no bytes and write them as text that `_codecs.encode` turns back.
    assert found <= {("corten._core", "_rebuild_tensor"), ("_codecs", "encode")}
    calls = [op.name for op, _, _ in pickletools.genops(data) if op.name in ("INST", "OBJ", "BUILD", "NEWOBJ")]
    assert not calls


def test_out_of_band_buffers_are_not_copied_into_the_pickle() -> None:
    t = ct.tensor(np.arange(10_000.0))
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(t, 5, buffer_callback=buffers.append)
    assert len(data) < 300
    assert len(buffers) == 1
    assert np.shares_memory(np.frombuffer(buffers[0]), t.numpy())
    assert pickle.loads(data, buffers=buffers).tolist() == t.tolist()
    written = [bytearray(buffers[0].raw())]
    back = pickle.loads(data, buffers=written)
    written[0][:8] = b"\xff" * 8
    assert back.tolist() == t.tolist()


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        ((b"1234", "float32", (2,), "cpu", False, False), ValueError, "4 bytes do not fill shape"),
        ((b"1234", "float32", (2**61,), "cpu", False, False), ValueError, "do not fill"),
        ((b"1234", "float32", (2**62, 2**62), "cpu", False, False), ValueError, "more elements"),
        ((b"1234", "float32", (-1,), "cpu", False, False), ValueError, "negative"),
        ((b"1234", "float31", (1,), "cpu", False, False), TypeError, "float31"),
        ((b"1234", "float32", (1,), "moon", False, False), ValueError, "moon"),
        ((b"1234", "int32", (1,), "cpu", True, False), TypeError, "float"),
        (("1234", "float32", (1,), "cpu", False, False), TypeError, "bytes-like|buffer"),
    ],
)
def test_damaged_pickles_are_errors(args: tuple, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        ct._core._rebuild_tensor(*args)


def test_bools_from_a_pickle_are_bools() -> None:
    t = ct._core._rebuild_tensor(b"\0\1\2\xff", "bool", (4,), "cpu", False, False)
    assert t.numpy().view(np.uint8).tolist() == [0, 1, 1, 1]


# -- modules and optimizers


class Tied(nn.Module):
    """Two layers that share a weight, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("steps", ct.zeros(1, dtype="int64"))

    def forward(self, x):  # x (N, 3) -> (N, 3)
        return self.norm(self.second(ct.tanh(self.first(x))))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle])
def test_modules(duplicate) -> None:
    net = Tied().eval()
    net.first.bias.requires_grad_(False)
    twin = duplicate(net)
    x = ct.randn((5, 3))
    assert bits(twin(x)) == bits(net(x))
    assert list(twin.state_dict()) == list(net.state_dict())
    assert twin.second.weight is twin.first.weight
    assert twin.first.weight is not net.first.weight
    assert not twin.training
    assert not twin.first.bias.requires_grad
    assert isinstance(twin.first.weight, nn.Parameter)
    assert twin.steps.dtype == ct.int64
    twin.first.weight[0, 0] = 100.0
    assert net.first.weight[0, 0].item() != 100


LAYERS = [
    nn.Conv2d(3, 4, 3, padding=1),
    nn.Conv1d(3, 4, 3),
    nn.BatchNorm2d(3),
    nn.LayerNorm(4),
    nn.GroupNorm(1, 3),
    nn.Embedding(5, 3),
    nn.Dropout(0.3),
    nn.PReLU(),
    nn.MaxPool2d(2),
    nn.CrossEntropyLoss(weight=ct.ones(3), label_smoothing=0.1),
    nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Flatten()),
    nn.ModuleList([nn.Linear(2, 2)]),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers(layer: nn.Module) -> None:
    for twin in (copy.deepcopy(layer), through_pickle(layer)):
        assert repr(twin) == repr(layer)
        assert twin.state_dict().keys() == layer.state_dict().keys()
        for a, b in zip(twin.state_dict().values(), layer.state_dict().values(), strict=True):
            assert bits(a) == bits(b)


def step(net: nn.Module, optimizer: optim.Optimizer) -> None:
    optimizer.zero_grad()
    (net(ct.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))) ** 2).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle])
@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.AdamW(p, lr=0.01)])
def test_training_goes_on_after_a_copy(make, duplicate) -> None:
    """Network and optimizer in one copy stay connected, and take the same steps as the originals."""
    net = Tied()
    optimizer = make(net.parameters())
    for _ in range(3):
        step(net, optimizer)
    net2, optimizer2 = duplicate((net, optimizer))
    assert optimizer2.param_groups[0]["params"][0] is net2.first.weight
    for _ in range(3):
        step(net, optimizer)
        step(net2, optimizer2)
    for a, b in zip(net.parameters(), net2.parameters(), strict=True):
        assert bits(a) == bits(b)


def test_through_a_spawned_process() -> None:
    """The child imports corten anew to read what it was sent; the layer comes back by itself."""
    net, x = nn.Linear(3, 2), ct.randn((4, 3))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        y = pool.apply(copy.copy, (x,))
        back = pool.apply(copy.deepcopy, (net,))
    assert bits(y) == bits(x)
    assert isinstance(back.weight, nn.Parameter)
    assert bits(back(x)) == bits(net(x))
