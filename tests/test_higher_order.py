"""Gradients of gradients as people use them: third order of fused operations, gradient penalties, learning to learn."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import _core, nn
from harness import run
from op_table import rows

RNG = np.random.default_rng(11)


def leaf(*shape: int) -> ct.Tensor:
    return ct.tensor(RNG.normal(size=shape), requires_grad=True)


def slope(fn, order: int):
    """The derivative of that order of the weighted sum of `fn`, along the sum of the inputs, as a function of them."""

    def derived(*xs):
        y = fn(*xs)
        value = (y * ct.tensor(np.cos(np.arange(float(y.size))).reshape(y.shape) + 1.5)).sum()
        for _ in range(order):
            grads = ct.grad(value, list(xs), create_graph=True, allow_unused=True)
            value = sum((g * (1.0 + 0.3 * i)).sum() for i, g in enumerate(grads) if g is not None)
        return value + sum((x * 0.0).sum() for x in xs)

    return derived


TARGET = ct.tensor([0, 2, 1])
STATISTICS = ct.zeros((3,), dtype="float64"), ct.ones((3,), dtype="float64")
FUSED = {
    "linear": (lambda x, w, b: ct.tanh(_core.linear(x, w, b)), [(3, 4), (2, 4), (2,)]),
    "linear with relu": (lambda x, w, b: _core.linear(x, w, b, activation="relu") ** 2, [(3, 4), (2, 4), (2,)]),
    "conv2d": (lambda x, w, b: _core.conv2d(x, w, b, padding=1).tanh(), [(1, 2, 3, 3), (2, 2, 2, 2), (2,)]),
    "batch_norm in training": (lambda x, w, b: _core.batch_norm(x, w, b, training=True).sin(), [(4, 3), (3,), (3,)]),
    "batch_norm in evaluation": (
        lambda x, w, b: _core.batch_norm(
            x, w, b, ct.zeros((3,), dtype="float64"), ct.ones((3,), dtype="float64")
        ).sin(),
        [(4, 3), (3,), (3,)],
    ),
    "layer_norm": (lambda x, w, b: nn.functional.layer_norm(x, (3,), w, b).sin(), [(2, 3), (3,), (3,)]),
    "softmax": (lambda x: _core.softmax(x), [(2, 3)]),
    "log_softmax": (lambda x: _core.log_softmax(x).tanh(), [(2, 3)]),
    "cross_entropy": (lambda x: _core.cross_entropy(x, TARGET, label_smoothing=0.1), [(3, 3)]),
    "max_pool2d": (lambda x: _core.max_pool2d(x, 2).exp(), [(1, 1, 4, 4)]),
    "avg_pool2d": (lambda x: _core.avg_pool2d(x, 2).exp(), [(1, 1, 4, 4)]),
    "gelu": (lambda x: _core.gelu(x), [(5,)]),
    "embedding": (lambda w: nn.functional.embedding(ct.tensor([0, 2, 0]), w).tanh(), [(3, 2)]),
    "logsumexp": (lambda x: _core.logsumexp(x), [(5,)]),
    "matmul": (lambda a, b: (a @ b).tanh(), [(2, 3), (3, 2)]),
    "norm": (lambda x: ct.norm(x), [(4,)]),
}


@pytest.mark.parametrize("name", FUSED)
def test_third_order(name: str) -> None:
    """The gradient of a second derivative by central differences: two layers of create_graph above the fused kernel."""
    fn, shapes = FUSED[name]
    assert ct.autograd.gradcheck(slope(fn, 2), [leaf(*s) for s in shapes])


def test_dropout_keeps_its_mask_in_every_order() -> None:
    x = leaf(50)

    def fn(t):
        ct.manual_seed(4)
        return _core.dropout(t, 0.4).sin()

    mask = (fn(ct.ones((50,), dtype="float64")) != 0.0).tolist()
    assert 10 < sum(mask) < 45
    assert ct.autograd.gradcheck(slope(fn, 2), [x])
    (third,) = ct.grad([ct.grad(ct.grad(fn(x).sum(), x, create_graph=True).sum(), x, create_graph=True).sum()], [x])
    assert (third != 0.0).tolist() == mask


def test_every_row_with_a_gradient_is_checked_at_second_order() -> None:
    """`test_second_order` runs over all samples with a gradient: no row may leave itself out quietly.

    A row without a gradient must be an operation that has none: its result is not in the graph, or its gradient is
    zero.
    """
    table = rows()
    for name, row in table.items():
        if row.grad:
            assert any(c.grad and not c.big for c in row.cases()), f"{name}: nothing small enough to check"
            continue
        for sample in row.cases():
            outputs, inputs = run(row, sample, grad=True)
            tracked = [y for y in outputs if y.requires_grad]
            ones = [ct.ones_like(y.detach()) for y in tracked]
            for g in _core.grad(tracked, inputs, ones, allow_unused=True) if tracked else []:
                assert g is None or not np.any(g.numpy()), f"{name} has a gradient, but its row says grad=False"


# -- flows


def critic() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))


def penalty(net: nn.Module, x: ct.Tensor) -> ct.Tensor:
    """`mean (|grad_x net(x)| - 1)^2`, as WGAN-GP has it."""
    x = x.detach().requires_grad_()
    (g,) = ct.grad(net(x).sum(), [x], create_graph=True)
    return (((g**2).sum(axis=1) + 1e-12).sqrt() - 1.0).square().mean()


def test_gradient_of_a_gradient_penalty_by_differences() -> None:
    ct.manual_seed(2)
    net, x = critic().to("float64"), ct.tensor(RNG.normal(size=(4, 2)))
    loss = penalty(net, x)
    loss.backward()
    eps = 1e-6
    checked = 0
    for p in net.parameters():
        if p.grad is None:
            continue
        for k in RNG.choice(p.size, min(p.size, 4), replace=False):
            base = p.detach().numpy().copy()
            values = []
            for sign in (1, -1):
                moved = base.copy().ravel()
                moved[k] += sign * eps
                p.assign_(ct.tensor(moved.reshape(base.shape)))
                values.append(penalty(net, x).item())
            p.assign_(ct.tensor(base))
            numeric = (values[0] - values[1]) / (2 * eps)
            assert p.grad.numpy().ravel()[k] == pytest.approx(numeric, rel=1e-5, abs=1e-8)
            checked += 1
    assert checked >= 12


def test_wgan_gp_trains_a_critic_to_slope_one() -> None:
    """A critic between two clouds: it learns to tell them apart while its slope stays near 1."""
    ct.manual_seed(0)
    rng = np.random.default_rng(0)
    net = critic()
    optimizer = ct.optim.Adam(net.parameters(), lr=5e-3)
    first = None
    for _ in range(200):
        real = ct.tensor(rng.normal([1.5, 0.0], 0.3, size=(32, 2)).astype("float32"))
        fake = ct.tensor(rng.normal([-1.5, 0.0], 0.3, size=(32, 2)).astype("float32"))
        t = ct.tensor(rng.uniform(size=(32, 1)).astype("float32"))
        optimizer.zero_grad()
        p = penalty(net, real * t + fake * (1.0 - t))
        first = p.item() if first is None else first
        (net(fake).mean() - net(real).mean() + 10.0 * p).backward()
        optimizer.step()
    gap = (net(real).mean() - net(fake).mean()).item()
    # The clouds are 3 apart: a function of slope 1 can separate them by 3. Measured: gap 2.9, penalty 0.004 of 0.6.
    assert 2.0 < gap < 4.0
    assert p.item() < 0.1 * first


def test_maml_inner_step_by_differences() -> None:
    """The loss after a gradient step, differentiated with respect to the parameters before it."""
    x, y, x2, y2 = (ct.tensor(RNG.normal(size=s)) for s in [(5, 3), (5, 2), (5, 3), (5, 2)])

    def after_step(w, b):
        inner = ct.mse_loss(ct.linear(x, w, b).tanh(), y)
        gw, gb = ct.grad(inner, [w, b], create_graph=True)
        return ct.mse_loss(ct.linear(x2, w - 0.4 * gw, b - 0.4 * gb).tanh(), y2)

    w, b = leaf(2, 3), leaf(2)
    assert ct.autograd.gradcheck(after_step, [w, b])

    def first_order(w, b):
        gw, gb = ct.grad(ct.mse_loss(ct.linear(x, w, b).tanh(), y), [w, b])
        return ct.mse_loss(ct.linear(x2, w - 0.4 * gw, b - 0.4 * gb).tanh(), y2)

    with pytest.raises(RuntimeError, match="central difference"):  # what is left out is not small
        ct.autograd.gradcheck(first_order, [w, b])


def test_maml_learns_to_learn() -> None:
    """Lines of different slopes: after one step from the learnt start the loss is far below that from a fixed one."""
    rng = np.random.default_rng(1)
    theta = ct.tensor([5.0, -3.0], dtype="float64", requires_grad=True)
    optimizer = ct.optim.SGD([theta], lr=0.3)

    def task():
        slope, shift = rng.uniform(0.5, 1.5), rng.uniform(-0.5, 0.5)
        x = rng.uniform(-1, 1, size=20)
        return ct.tensor(x), ct.tensor(slope * x + shift)

    def adapted(x, y, parameters):
        inner = ((parameters[0] * x + parameters[1] - y) ** 2).mean()
        (g,) = ct.grad(inner, [parameters], create_graph=True)
        stepped = parameters - 0.25 * g
        return ((stepped[0] * x + stepped[1] - y) ** 2).mean()

    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = adapted(*task(), theta)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.02 * losses[0]
    np.testing.assert_allclose(theta.detach().numpy(), [1.0, 0.0], atol=0.3)  # the middle of the tasks


def test_mixed_orders_leave_gradients_apart() -> None:
    """A walk with create_graph, a plain one and `.grad` side by side: none disturbs another."""
    x = ct.tensor([2.0, 3.0], dtype="float64", requires_grad=True)
    y = (x**3).sum()
    (g,) = ct.grad(y, [x], create_graph=True)
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [12.0, 27.0]
    assert not x.grad.requires_grad
    (g**2).sum().backward()
    assert x.grad.tolist() == [12.0 + 2 * 12 * 12, 27.0 + 2 * 27 * 18]
    (plain,) = ct.grad((x**3).sum(), [x])
    assert not plain.requires_grad
