"""The view into time, against derivatives that are known or computed otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.viz import bptt


def randn(*shape: int, seed: int = 0) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(seed).standard_normal(shape))


class ManyToOne(nn.Module):
    def __init__(self, layer: nn.Module, size: int) -> None:
        super().__init__()
        self.layer = layer
        self.out = nn.Linear(size, 3, dtype="float64")

    def forward(self, x: ct.Tensor) -> ct.Tensor:
        return self.out(self.layer(x)[0][:, -1])


@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
def test_watching_changes_nothing(make: type) -> None:
    net = ManyToOne(make(2, 5, 2, batch_first=True, bidirectional=True, dtype="float64"), 10)
    x, target = randn(3, 7, 2), ct.tensor([0, 2, 1])
    view = bptt(net, x, target)
    loss = nn.functional.cross_entropy(net(x), target)
    assert view.loss == pytest.approx(loss.item(), rel=1e-13)
    assert [(v.layer, v.reverse) for v in view.layers] == [(0, False), (0, True), (1, False), (1, True)]
    assert all(v.loss_gradient.shape == v.reach.shape == (7,) for v in view.layers)
    assert net.layer.bidirectional is True
    # Of the second layer's backward direction only its first step, the last in time, is seen by the loss.
    last = view.layers[3].loss_gradient
    assert last[-1] > 0
    assert (last[:-1] == 0).all()


def test_gradients_of_the_loss_are_those_of_a_hand_written_net() -> None:
    layer = nn.RNN(2, 4, batch_first=True, dtype="float64")
    net = ManyToOne(layer, 4)
    x, target = randn(3, 6, 2), ct.tensor([0, 2, 1])
    view = bptt(net, x, target)
    h, states = ct.zeros((3, 4), dtype="float64"), []
    for t in range(6):
        a = x[:, t] @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0
        h = ct.tanh(a)
        states.append(h)
    loss = nn.functional.cross_entropy(net.out(h), target)
    for t, g in enumerate(ct.grad([loss], states)):
        norm = np.sqrt((g.numpy() ** 2).sum(axis=1).mean())
        assert view.layers[0].loss_gradient[t] == pytest.approx(norm, rel=1e-12)


def linear_rnn(scale: float) -> nn.RNN:
    """h' = max(scale h + x, 0): with positive x, dh_T/dh_t is scale^(T - t) times the identity."""
    net = nn.RNN(3, 3, nonlinearity="relu", dtype="float64")
    net.weight_ih_l0.assign_(ct.eye(3, dtype="float64"))
    net.weight_hh_l0.assign_(scale * ct.eye(3, dtype="float64"))
    for b in (net.bias_ih_l0, net.bias_hh_l0):
        b.assign_(ct.zeros((3,), dtype="float64"))
    return net


@pytest.mark.parametrize(("scale", "word"), [(0.5, "vanishes"), (1.0, "steady"), (1.5, "explodes")])
def test_reach_and_verdict_where_they_are_known(scale: float, word: str) -> None:
    view = bptt(linear_rnn(scale), abs(randn(20, 2, 3)), loss=lambda y, _: y[-1].sum())
    (layer,) = view.layers
    np.testing.assert_allclose(layer.reach, scale ** np.arange(19.0, -1, -1), rtol=1e-12)
    assert layer.factor == pytest.approx(scale)
    assert layer.verdict.startswith(word)
    assert word in str(view)


def test_an_lstm_that_remembers_is_steady() -> None:
    """Gates wide open by their biases: c is carried on, and with it the gradient."""
    net = nn.LSTM(2, 4, dtype="float64")
    for p in net.parameters():
        p.assign_(0.05 * p.detach())
    bias = np.zeros(16)
    bias[4:8] = 8.0  # forget: nothing
    net.bias_ih_l0.assign_(ct.tensor(bias))
    (layer,) = bptt(net, randn(40, 3, 2), loss=lambda y, _: y[-1].sum()).layers
    assert layer.verdict.startswith("steady")
    assert layer.saturation["forget"].min() == 1.0
    assert layer.gates["forget"].min() > 0.99
    assert layer.saturation["input"].max() == 0.0


@pytest.mark.parametrize(
    "net",
    [
        nn.RNN(2, 3, dtype="float64"),
        nn.LSTM(2, 3, dtype="float64"),
        nn.LSTM(2, 3, forget="coupled", peephole=True, dtype="float64"),
        nn.LSTM(2, 3, forget="never", bias=False, dtype="float64"),
        nn.GRU(2, 3, dtype="float64"),
        nn.GRU(2, 3, reset="before", dtype="float64"),
        nn.GRU(2, 3, bias=False, bidirectional=True, dtype="float64"),
    ],
    ids=str,
)
def test_gates_explain_the_states(net: nn.Module) -> None:
    """With one sequence and one unit at a time nothing is averaged away: gates must be those that made h."""
    view = bptt(net, randn(5, 2, 2), loss=lambda y, _: (y * y).sum())
    for layer in view.layers:
        for gate, mean in layer.gates.items():
            assert mean.shape == (5,)
            low = -1.0 if gate in ("candidate", "h") else 0.0
            assert ((mean > low) & (mean < 1)).all()
    if isinstance(net, nn.GRU) and not net.bidirectional and net.reset == "before":
        names = {"reset", "update", "candidate"}
        assert set(view.layers[0].gates) == names


def test_picture(tmp_path: Path) -> None:
    view = bptt(nn.GRU(2, 3, 2, bidirectional=True), ct.zeros((6, 2, 2)), loss=lambda y, _: y.sum())
    path = tmp_path / "view.png"
    view.draw(path)
    assert path.read_bytes()[:4] == b"\x89PNG"


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="has no RNN, LSTM or GRU layer"):
        bptt(nn.Linear(2, 3), ct.zeros((2, 2)))
    with pytest.raises(TypeError, match="model must be a module"):
        bptt(lambda x: x, ct.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give a target"):
        bptt(nn.RNN(2, 3), ct.zeros((4, 2, 2)))
    net = nn.RNN(2, 3)
    with pytest.raises(RuntimeError, match="broken"):
        bptt(net, ct.zeros((4, 2, 2)), loss=broken)
    assert net._watch is None


def broken(y: ct.Tensor, target: ct.Tensor) -> ct.Tensor:
    raise RuntimeError("broken")
