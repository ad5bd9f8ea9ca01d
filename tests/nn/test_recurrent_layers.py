"""Recurrent layers, cells and the scan: shapes, states, lengths, options, messages."""

from __future__ import annotations

import math

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.nn import functional as F
from corten.testing import assert_close

LAYERS = [nn.RNN, nn.LSTM, nn.GRU]
CELLS = [nn.RNNCell, nn.LSTMCell, nn.GRUCell]


def randn(*shape: int, seed: int = 0) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(seed).standard_normal(shape))


def parts(state: object) -> list[ct.Tensor]:
    return list(state) if isinstance(state, tuple) else [state]  # type: ignore[list-item]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_sequence_is_what_it_is_alone(layer: type, bidirectional: bool) -> None:
    """Lengths in any order, 0 included: y, last states and gradients are those of the sequences one by one."""
    lengths = [3, 0, 6, 1, 6]
    net = layer(4, 5, 2, batch_first=True, bidirectional=bidirectional, dtype="float64")
    x, g = randn(5, 6, 4).requires_grad_(True), randn(5, 6, 10 if bidirectional else 5, seed=1)
    # Whatever stands in the padding is not read.
    padded = np.array(x.detach().numpy())
    for i, length in enumerate(lengths):
        padded[i, length:] = np.nan
    padded_x = ct.tensor(padded, requires_grad=True)
    y, last = net(padded_x, lengths=ct.tensor(lengths))
    (y * g).sum().backward()
    together = {name: p.grad.detach().numpy() for name, p in net.named_parameters()}
    net.zero_grad()
    for i, length in enumerate(lengths):
        assert not y[i, length:].detach().numpy().any()
        assert not padded_x.grad[i, length:].detach().numpy().any()
        if length == 0:
            assert not any(s[:, i].detach().numpy().any() for s in parts(last))
            continue
        alone, end = net(x[i : i + 1, :length])
        assert_close(y[i, :length], alone[0], rtol=0, atol=1e-14)
        for a, b in zip(parts(last), parts(end), strict=True):
            assert_close(a[:, i], b[:, 0], rtol=0, atol=1e-14)
        (alone * g[i : i + 1, :length]).sum().backward()
    for i, length in enumerate(lengths):
        assert_close(padded_x.grad[i, :length], x.grad[i, :length], rtol=0, atol=1e-13)
    for name, p in net.named_parameters():
        np.testing.assert_allclose(p.grad.detach().numpy(), together[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_in_pieces_or_at_once(layer: type) -> None:
    """The last state of one piece, given to the next, makes one sequence of them."""
    net = layer(4, 5, 2)
    x = randn(9, 3, 4).astype("float32")
    y, last = net(x)
    first, state = net(x[:4])
    second, end = net(x[4:], state)
    # The same sums in the same order: the same bits.
    assert ct.concat([first, second]).detach().numpy().tobytes() == y.detach().numpy().tobytes()
    for a, b in zip(parts(end), parts(last), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


@pytest.mark.parametrize("layer", LAYERS)
def test_layouts_and_single_sequences(layer: type) -> None:
    net = layer(4, 5, 2, bidirectional=True)
    first = layer(4, 5, 2, bidirectional=True, batch_first=True)
    first.load_state_dict(net.state_dict())
    x = randn(6, 3, 4).astype("float32")
    y, last = net(x)
    turned, same = first(x.permute(1, 0, 2))
    assert_close(turned.permute(1, 0, 2), y, rtol=0, atol=1e-6)
    alone, end = net(x[:, 1])
    assert alone.shape == (6, 10)
    assert_close(alone, y[:, 1], rtol=0, atol=1e-6)
    for a, b, c in zip(parts(last), parts(same), parts(end), strict=True):
        assert_close(a, b, rtol=0, atol=1e-6)
        assert_close(a[:, 1], c, rtol=0, atol=1e-6)
        assert c.shape == (4, 5)


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("layer", LAYERS)
def test_threads_do_not_show(layer: type, threads: int) -> None:
    net = layer(20, 48, 2, bidirectional=True)
    for batch in (1, 5, 24):
        x = randn(11, batch, 20).astype("float32").requires_grad_(True)

        def everything(x: ct.Tensor = x, batch: int = batch) -> list[bytes]:
            net.zero_grad()
            x.grad = None
            y, last = net(x, lengths=[11 - i % 5 for i in range(batch)])
            (y * y).sum().backward()
            grads = [p.grad for p in net.parameters()]
            return [t.detach().numpy().tobytes() for t in (y, *parts(last), x.grad, *grads)]

        before = ct.get_num_threads()
        try:
            ct.set_num_threads(1)
            one = everything()
            ct.set_num_threads(threads)
            assert everything() == one
        finally:
            ct.set_num_threads(before)


def test_dropout_is_between_layers_and_in_training_only() -> None:
    net = nn.LSTM(4, 8, 2, dropout=0.5)
    x = randn(5, 3, 4).astype("float32")
    assert (net(x)[0] != net(x)[0]).any().item()
    net.eval()
    assert net(x)[0].tolist() == net(x)[0].tolist()
    single = nn.LSTM(4, 8, 1, dropout=0.5)
    assert single(x)[0].tolist() == single(x)[0].tolist()


def test_forget_bias_and_orthogonal_weights() -> None:
    net = nn.LSTM(3, 6, 2, bidirectional=True, forget_bias=1.0, recurrent_init="orthogonal", dtype="float64")
    for name, p in net.named_parameters():
        values = p.detach().numpy()
        if name.startswith("bias"):
            assert (values[6:12] == (1.0 if "_ih_" in name else 0.0)).all()
            assert abs(values[:6]).max() <= 1 / math.sqrt(6)
        if name.startswith("weight_hh"):
            for gate in values.reshape(4, 6, 6):
                np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_learnt_initial_states(layer: type) -> None:
    net = layer(3, 4, 2, bidirectional=True, learn_initial=True, dtype="float64")
    plain = layer(3, 4, 2, bidirectional=True, dtype="float64")
    own = {n: p for n, p in net.named_parameters() if n in ("h0", "c0")}
    assert all(p.shape == (4, 1, 4) for p in own.values())
    assert len(own) == (2 if layer is nn.LSTM else 1)
    for p in own.values():
        p.assign_(randn(4, 1, 4))
    plain.load_state_dict({n: p for n, p in net.state_dict().items() if n not in own})
    states = [ct.broadcast_to(p.detach(), (4, 2, 4)) for p in own.values()]
    x = randn(5, 2, 3)
    given = tuple(states) if layer is nn.LSTM else states[0]
    assert_close(net(x)[0], plain(x, given)[0], rtol=0, atol=0)
    net(x)[0].sum().backward()
    assert all(bool((p.grad != 0).all().item()) for p in own.values())
    assert_close(net(x, given)[0], plain(x, given)[0], rtol=0, atol=0)


@pytest.mark.parametrize("forget", ["gate", "never", "coupled"])
@pytest.mark.parametrize("peephole", [False, True])
def test_variants_of_the_lstm(forget: str, peephole: bool) -> None:
    net = nn.LSTM(3, 4, 2, forget=forget, peephole=peephole, dtype="float64")  # type: ignore[arg-type]
    rows = 16 if forget == "gate" else 12
    assert net.weight_hh_l1.shape == (rows, 4)  # type: ignore[attr-defined]
    x = randn(5, 2, 3)
    y, (h, _) = net(x)
    first, _, _ = F.lstm(x, [getattr(net, n) for n in net._names[0]], forget=forget, peephole=peephole)
    second, hn, _ = F.lstm(first, [getattr(net, n) for n in net._names[1]], forget=forget, peephole=peephole)
    assert_close(y, second, rtol=0, atol=0)
    assert_close(h[1:], hn, rtol=0, atol=0)
    y.sum().backward()
    assert all(bool((p.grad != 0).any().item()) for p in net.parameters())


@pytest.mark.parametrize("cell", CELLS)
def test_cells_step_as_layers_do(cell: type) -> None:
    one = cell(4, 5, dtype="float64")
    layer = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}[cell](4, 5, dtype="float64")
    layer.load_state_dict({f"{n}_l0": p for n, p in one.state_dict().items()})
    x = randn(6, 3, 4)
    y, last = layer(x)
    state = None
    for t in range(6):
        state = one(x[t], state)
        assert_close(parts(state)[0], y[t], rtol=0, atol=1e-15)
    for a, b in zip(parts(state), parts(last), strict=True):
        assert_close(a, b[0], rtol=0, atol=1e-15)
    single = one(x[0, 1])
    assert_close(parts(single)[0], y[0, 1], rtol=0, atol=1e-15)


class Plain(nn.Module):
    """A cell of one's own that computes what RNNCell does."""

    def __init__(self, cell: nn.RNNCell) -> None:
        super().__init__()
        self.inner = cell

    def initial_state(self, x: ct.Tensor) -> ct.Tensor:
        return ct.zeros((x.shape[0], 5), dtype="float64")

    def forward(self, x: ct.Tensor, h: ct.Tensor) -> ct.Tensor:
        w = self.inner
        return ct.tanh(F.linear(x, w.weight_ih, w.bias_ih) + F.linear(h, w.weight_hh, w.bias_hh))


@pytest.mark.parametrize("lengths", [None, [2, 6, 0]])
@pytest.mark.parametrize("batch_first", [False, True])
def test_scan_runs_any_cell(lengths: list[int] | None, batch_first: bool) -> None:
    cell = nn.RNNCell(4, 5, dtype="float64")
    x = randn(3, 6, 4) if batch_first else randn(6, 3, 4)
    fused, end = nn.Scan(cell, batch_first)(x, lengths=lengths)
    steps, last = nn.Scan(Plain(cell), batch_first)(x, lengths=lengths)
    assert_close(fused, steps, rtol=0, atol=1e-14)
    assert_close(end, last, rtol=0, atol=1e-14)  # type: ignore[arg-type]
    both = nn.RNN(4, 5, batch_first=batch_first, bidirectional=True, dtype="float64")
    for suffix in ("", "_reverse"):
        for name, p in cell.named_parameters():
            getattr(both, f"{name}_l0{suffix}").assign_(p.detach())
    y, h = both(x, lengths=lengths)
    back, begin = nn.Scan(cell, batch_first, reverse=True)(x, lengths=lengths)
    assert_close(back, y[:, :, 5:], rtol=0, atol=1e-14)
    assert_close(begin, h[1], rtol=0, atol=1e-14)  # type: ignore[arg-type]


def test_layer_norm_cell_by_the_formula() -> None:
    cell = nn.LayerNormLSTMCell(3, 4, dtype="float64")
    for p in cell.parameters():
        p.assign_(p.detach() + 0.3 * randn(*p.shape, seed=p.size))
    x, h, c = randn(2, 3), randn(2, 4, seed=1), randn(2, 4, seed=2)

    def norm(a: np.ndarray, layer: nn.LayerNorm) -> np.ndarray:
        y = (a - a.mean(1, keepdims=True)) / np.sqrt(a.var(1, keepdims=True) + 1e-5) * layer.weight.detach().numpy()
        return y if layer.bias is None else y + layer.bias.detach().numpy()

    def value(t: ct.Tensor) -> np.ndarray:
        return t.detach().numpy()

    a = norm(value(x) @ value(cell.weight_ih).T, cell.norm_ih) + norm(value(h) @ value(cell.weight_hh).T, cell.norm_hh)
    i, f, g, o = np.split(a + value(cell.bias), 4, axis=1)
    s = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    new = s(f) * value(c) + s(i) * np.tanh(g)
    out, state = cell(x, (h, c))
    np.testing.assert_allclose(value(state), new, atol=1e-14)
    np.testing.assert_allclose(value(out), s(o) * np.tanh(norm(new, cell.norm_c)), atol=1e-14)


def test_projection_of_full_size_by_one_is_an_lstm() -> None:
    cell, plain = nn.ProjectedLSTMCell(3, 4, 4, dtype="float64"), nn.LSTMCell(3, 4, dtype="float64")
    cell.weight_hr.assign_(ct.eye(4, dtype="float64"))
    plain.load_state_dict({n: p for n, p in cell.state_dict().items() if n != "weight_hr"})
    x = randn(5, 2, 3)
    (a, (h, c)), (b, (h2, c2)) = nn.Scan(cell)(x), nn.Scan(plain)(x)
    for one, other in [(a, b), (h, h2), (c, c2)]:
        assert_close(one, other, rtol=0, atol=1e-14)
    small, (h, c) = nn.Scan(nn.ProjectedLSTMCell(3, 4, 2))(x.astype("float32"))
    assert (small.shape, h.shape, c.shape) == ((5, 2, 2), (2, 2), (2, 4))


def test_zoneout() -> None:
    cell = nn.GRUCell(3, 64, dtype="float64")
    x, h = randn(8, 3), randn(8, 64, seed=1)
    new = cell(x, h).detach().numpy()
    zoned = nn.Zoneout(cell, 0.25)
    got = zoned(x, h).detach().numpy()
    old = h.detach().numpy()
    kept = got == old
    assert ((got == new) | kept).all()
    # 512 draws: five standard deviations are 0.096.
    assert abs(kept.mean() - 0.25) < 0.096
    zoned.eval()
    np.testing.assert_allclose(zoned(x, h).detach().numpy(), 0.25 * old + 0.75 * new, atol=1e-15)
    pair = nn.Zoneout(nn.LSTMCell(3, 4), (1.0, 0.0))
    h0, c0 = ct.ones((2, 4)), ct.ones((2, 4))
    h1, c1 = pair(ct.ones((2, 3)), (h0, c0))
    assert h1.tolist() == h0.tolist()
    assert c1.tolist() != c0.tolist()


def test_variational_dropout_has_one_mask_per_sequence() -> None:
    class Echo(nn.Module):
        def initial_state(self, x: ct.Tensor) -> ct.Tensor:
            return ct.ones(x.shape)

        def forward(self, x: ct.Tensor, h: ct.Tensor) -> ct.Tensor:
            return x + 0 * h

    scan = nn.Scan(nn.VariationalDropout(Echo(), p_input=0.5))
    y = scan(ct.ones((7, 4, 32)))[0].detach().numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[0]).all()
    assert (scan(ct.ones((7, 4, 32)))[0].detach().numpy()[0] != y[0]).any()
    scan.eval()
    assert (scan(ct.ones((7, 4, 32)))[0].detach().numpy() == 1).all()
    with pytest.raises(RuntimeError, match="call begin"):
        nn.VariationalDropout(Echo(), 0.5)(ct.ones((2, 3)), ct.ones((2, 3)))


def test_second_order_and_half_precision() -> None:
    net = nn.LSTM(2, 3, batch_first=True, dtype="float64")
    x = randn(2, 3, 2).requires_grad_(True)
    y, _ = net(x, lengths=[3, 2])
    (g,) = ct.grad([(y * y).sum()], [x], create_graph=True)
    (g * g).sum().backward()
    assert all(bool((p.grad != 0).any().item()) for p in net.parameters())
    for dtype in ("float16", "bfloat16"):
        small = nn.GRU(4, 5, 2, bidirectional=True, dtype=dtype)
        x = randn(6, 3, 4).astype(dtype).requires_grad_(True)
        y, h = small(x)
        assert y.dtype.name == h.dtype.name == dtype
        y.sum().backward()
        assert x.grad.dtype.name == dtype


@pytest.mark.parametrize("layer", LAYERS)
def test_wrong_arguments(layer: type) -> None:
    name = layer.__name__
    net = layer(4, 5, 2, bidirectional=True)
    x = ct.zeros((6, 3, 4))
    for call, text in [
        (
            lambda: net(ct.zeros((6, 3, 5))),
            rf"\[{name}\] expects x \(T, N, I\) or \(T, I\) with I = 4, got \(6, 3, 5\)",
        ),
        (lambda: net(ct.zeros((6, 3, 4))[0, 0]), "expects x"),
        (lambda: net(ct.zeros((6, 0, 4))), "at least one sequence and one step"),
        (lambda: net(ct.zeros((0, 3, 4))), "at least one sequence and one step"),
        (lambda: net(x, lengths=[1, 2]), "one number for each of the 3 sequences"),
        (lambda: net(x, lengths=[1, 2, 7]), r"lengths\[2\] is 7"),
        (lambda: net(x, lengths=[1, 2, -1]), "cannot be negative"),
        (lambda: net(x[:, 0], lengths=[1]), "lengths are for a batch"),
        (lambda: layer(0, 5), "input_size must be at least 1"),
        (lambda: layer(4, 5, dropout=1.5), "dropout must be a probability"),
        (lambda: layer(4, 5, recurrent_init="zeros"), "recurrent_init must be"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()
    wrong = ct.zeros((2, 3, 5))
    state = (wrong, wrong) if layer is nn.LSTM else wrong
    with pytest.raises(ValueError, match=r"h0 must be \(layers \* directions, N, H\) = \(4, 3, 5\), got \(2, 3, 5\)"):
        net(x, state)
    with pytest.raises(TypeError, match=r"state must be"):
        net(x, (wrong, wrong, wrong))
    with pytest.raises(TypeError, match=r"x must be a corten.Tensor"):
        net([1.0])
    with pytest.raises(TypeError, match="x is float64 but w_ih is float32"):
        net(ct.zeros((6, 3, 4), dtype="float64"))


def test_wrong_arguments_of_cells() -> None:
    with pytest.raises(ValueError, match=r"\[LSTMCell\] expects x \(N, I\) or \(I,\) with I = 4, got \(2, 3\)"):
        nn.LSTMCell(4, 5)(ct.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\[GRUCell\] state must be h, \(2, 5\)"):
        nn.GRUCell(4, 5)(ct.zeros((2, 4)), ct.zeros((1, 5)))
    with pytest.raises(ValueError, match="forget must be"):
        nn.LSTM(4, 5, forget="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="forget_bias needs a forget gate"):
        nn.LSTM(4, 5, forget="never", forget_bias=1.0)
    with pytest.raises(ValueError, match="reset must be"):
        nn.GRU(4, 5, reset="maybe")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nonlinearity must be"):
        nn.RNN(4, 5, nonlinearity="gelu")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"\[Scan\] cell must be a module with a method initial_state"):
        nn.Scan(nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"\[Scan\] x must be \(T, N, I\)"):
        nn.Scan(nn.GRUCell(3, 4))(ct.zeros((2, 3)))
    with pytest.raises(ValueError, match="p must be a probability"):
        nn.Zoneout(nn.GRUCell(3, 4), 1.5)
