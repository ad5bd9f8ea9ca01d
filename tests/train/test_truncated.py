"""Truncated backpropagation through time against gradients by hand; recomputation in chunks; streams; generate."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import corten as ct
from corten import nn, optim, text
from corten.testing import assert_close
from corten.train import TruncatedBPTT, detach_state


def randn(*shape: int, seed: int = 0) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(seed).standard_normal(shape))


class Net(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.out = nn.Linear(4, 2, dtype="float64")

    def forward(self, x: ct.Tensor, state: object = None) -> tuple[ct.Tensor, object]:
        y, state = self.layer(x, state)
        return self.out(y), state


def net(kind: type = nn.LSTM) -> Net:
    ct.manual_seed(3)
    return Net(kind(3, 4, batch_first=True, dtype="float64"))


def gradients(model: nn.Module) -> dict[str, np.ndarray]:
    return {n: p.grad.numpy().copy() for n, p in model.named_parameters()}


class Still(optim.SGD):
    """Keeps gradients instead of following them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.0)
        self.model = model
        self.seen: list[dict[str, np.ndarray]] = []

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.seen.append(gradients(self.model))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (2, 5), (3, 6), (1, 3), (5, 100), (4, 6)])
def test_gradients_reach_k2_steps_back(kind: type, k1: int, k2: int) -> None:
    model, x, target = net(kind), randn(2, 12, 3), randn(2, 12, 2, seed=1)
    still = Still(model)
    tbptt = TruncatedBPTT(model, nn.MSELoss(), still, k1, k2)
    # In two batches: the state is carried over, and windows reach into the batch before.
    losses = tbptt.fit_batch(x[:, :7], target[:, :7]) + tbptt.fit_batch(x[:, 7:], target[:, 7:])
    ends = [*range(k1, 7, k1), 7, *range(7 + k1, 12, k1), 12]
    assert len(losses) == len(still.seen) == len(ends)
    begin = 0
    for loss, seen, end in zip(losses, still.seen, ends, strict=True):
        first = max(0, end - max(k2, end - begin))
        with ct.no_grad():
            state = model(x[:, :first])[1] if first else None
        model.zero_grad()
        y, _ = model(x[:, first:end], state)
        wanted = nn.functional.mse_loss(y[:, begin - first :], target[:, begin:end])
        wanted.backward()
        assert loss == pytest.approx(wanted.item(), rel=1e-12)
        for name, g in gradients(model).items():
            np.testing.assert_allclose(seen[name], g, rtol=0, atol=1e-14)
        begin = end


def test_reset_and_clipping() -> None:
    model, x, target = net(), randn(2, 6, 3), 100 * randn(2, 6, 2, seed=1)
    still = Still(model)
    tbptt = TruncatedBPTT(model, nn.MSELoss(), still, 6, clip_norm=0.5, clip_value=0.1)
    first = tbptt.fit_batch(x, target)
    assert tbptt.fit_batch(x, target) != first
    tbptt.reset()
    assert tbptt.fit_batch(x, target) == first
    norm = np.sqrt(sum((g**2).sum() for g in still.seen[0].values()))
    assert norm <= 0.5 + 1e-9
    assert max(abs(g).max() for g in still.seen[0].values()) <= 0.1
    for bad in ({"k1": 0}, {"k1": 3, "k2": 2}, {"k1": 3, "clip_norm": 0.0}):
        with pytest.raises(ValueError, match="TruncatedBPTT"):
            TruncatedBPTT(model, nn.MSELoss(), still, **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must begin with the same \(N, T\)"):
        tbptt.fit_batch(x, target[:, :5])
    state = detach_state({"a": (x.requires_grad_(True) * 2, [None])})
    assert not state["a"][0].requires_grad
    assert state["a"][1] == [None]


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_recompute_is_the_layer(kind: type, batch_first: bool, given: bool) -> None:
    layer = kind(3, 4, 2, batch_first=batch_first, dtype="float64")
    x = (randn(2, 11, 3) if batch_first else randn(11, 2, 3)).requires_grad_(True)
    h = [randn(2, 2, 4, seed=k).requires_grad_(True) for k in (1, 2)]
    state = None if not given else (h[0], h[1]) if kind is nn.LSTM else h[0]

    def everything(y: ct.Tensor, last: object) -> list[np.ndarray]:
        layer.zero_grad()
        for leaf in (x, *h):
            leaf.grad = None
        parts = list(last) if isinstance(last, tuple) else [last]
        loss = (y * y * y).sum() + sum((s * s).sum() for s in parts)
        loss.backward()
        grads = [leaf.grad for leaf in (x, *h, *layer.parameters()) if leaf.grad is not None]
        return [t.detach().numpy().copy() for t in (y, *parts, *grads)]

    wanted = everything(*layer(x, state))
    for chunk in (None, 1, 4, 100):
        found = everything(*nn.utils.recompute(layer, x, state, chunk=chunk))
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_recompute_says_what_it_cannot() -> None:
    x = ct.zeros((5, 2, 3))
    with pytest.raises(ValueError, match="one direction"):
        nn.utils.recompute(nn.GRU(3, 4, bidirectional=True), x)
    with pytest.raises(ValueError, match="no dropout"):
        nn.utils.recompute(nn.GRU(3, 4, 2, dropout=0.5), x)
    with pytest.raises(TypeError, match="RNN, LSTM or GRU"):
        nn.utils.recompute(nn.Linear(3, 4), x)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="three axes"):
        nn.utils.recompute(nn.GRU(3, 4), x[0])


MEMORY = """
import re, sys
import corten as ct
from corten import nn
steps, how = int(sys.argv[1]), sys.argv[2]
layer = nn.LSTM(8, 64)
x = ct.zeros((steps, 16, 8))
def run(x):
    y, _ = nn.utils.recompute(layer, x) if how == "recompute" else layer(x)
    y.sum().backward()
def peak():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+(\\d+)", file.read()).group(1))
run(x[:4])
before = peak()
run(x)
print(peak() - before)
"""


@pytest.mark.slow
def test_memory_grows_linearly_or_as_the_root() -> None:
    """Per step of 16 sequences: gates and their gradients (2 x 16 KiB), c, h and y's gradient (4 KiB each)."""

    def peak(steps: int, how: str) -> float:
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, str(steps), how], capture_output=True, text=True, check=True
        )
        return float(run.stdout) / 1024

    whole = [peak(steps, "layer") for steps in (1000, 2000, 4000)]
    # Linear: twice the steps, twice the memory; pages and size classes of blocks leave a quarter of play.
    assert 1.5 < whole[1] / whole[0] < 2.5
    assert 1.5 < whole[2] / whole[1] < 2.5
    less = peak(4000, "recompute")
    # What grows with T is y, its gradient and concatenation (4 KiB a step each); gates are kept for 63 steps at a time.
    assert less < 0.6 * whole[2]


def test_stream_carries_on() -> None:
    tokens = ct.arange(23)
    pieces = list(text.stream(tokens, 3, 3))
    x = ct.concat([p for p, _ in pieces], axis=1)
    y = ct.concat([p for _, p in pieces], axis=1)
    assert x.tolist() == [list(range(7)), list(range(7, 14)), list(range(14, 21))]
    assert (y == x + 1).all().item()
    with pytest.raises(ValueError, match=r"T > batch = 9, got \(9,\)"):
        text.stream(ct.arange(9), 9, 2)


def test_generate() -> None:
    class Model(nn.Module):
        """Says the sum of what it has read, modulo 7."""

        def forward(self, tokens: ct.Tensor, state: ct.Tensor | None) -> tuple[ct.Tensor, ct.Tensor]:
            assert not self.training
            total = ct.cumulative_sum(tokens, axis=1) + (0 if state is None else state)
            return nn.functional.one_hot(total % 7, 7).astype("float32"), total[:, -1:]

    model = Model()
    greedy = text.Sampler(temperature=0)
    written = text.generate(model, ct.tensor([[1, 2], [3, 3]]), 4, choose=greedy)
    assert written.tolist() == [[1, 2, 3, 6, 5, 3], [3, 3, 6, 5, 3, 6]]
    assert model.training
    stopped = text.generate(model, ct.tensor([[1, 2], [3, 3]]), 9, choose=greedy, stop=5)
    assert stopped.tolist() == [[1, 2, 3, 6, 5], [3, 3, 6, 5, 5]]
    single = text.generate(model, ct.tensor([1, 2]), 2, choose=greedy)
    assert single.tolist() == [1, 2, 3, 6]
    assert text.generate(model, ct.tensor([1, 2]), 0).tolist() == [1, 2]
    for shape in ((0,), (2, 0), (1, 1, 1)):
        with pytest.raises(ValueError, match="at least one token"):
            text.generate(model, ct.zeros(shape, dtype="int64"), 1)


def test_deep_output() -> None:
    deep, plain = nn.GRU(3, 4, 3, bidirectional=True, deep_output=True), nn.GRU(3, 4, 3, bidirectional=True)
    plain.load_state_dict(deep.state_dict())
    x = randn(5, 2, 3).astype("float32")
    y, h = deep(x)
    assert y.shape == (5, 2, 24)
    last, same = plain(x)
    assert_close(y[:, :, 16:], last, rtol=0, atol=0)
    assert_close(h, same, rtol=0, atol=0)
