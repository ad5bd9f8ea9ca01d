"""Optimizers against plain NumPy formulas; groups, state, arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import corten as ct
from corten import nn, optim

SHAPES = [(3, 4), (5,), ()]


def make(seed: int = 0) -> tuple[list[ct.Tensor], list[list[np.ndarray]]]:
    """Parameters, and six steps of gradients for them."""
    rng = np.random.default_rng(seed)
    params = [ct.tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in SHAPES]
    return params, [[rng.standard_normal(s).astype(np.float32) for s in SHAPES] for _ in range(6)]


def numbers(params: list[ct.Tensor]) -> list[np.ndarray]:
    return [p.detach().numpy().astype(np.float64) for p in params]


def give(params: list[ct.Tensor], grads: list[np.ndarray]) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = ct.tensor(g)


def sgd(p, gs, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):  # type: ignore[no-untyped-def]
    b = None
    for g in gs:
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = g.copy() if b is None else momentum * b + (1 - dampening) * g
            g = g + momentum * b if nesterov else b
        p = p - lr * g
    return p


def adam(p, gs, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False, maximize=False):  # type: ignore[no-untyped-def]
    m = v = 0.0
    for t, g in enumerate(gs, 1):
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def rmsprop(p, gs, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False, maximize=False):  # type: ignore[no-untyped-def]
    v = m = b = 0.0
    for g in gs:
        g = (-g if maximize else g) + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        m = alpha * m + (1 - alpha) * g
        b = momentum * b + g / (np.sqrt(v - m * m if centered else v) + eps)
        p = p - lr * b
    return p


CASES: list[tuple[type[optim.Optimizer], Callable[..., Any], dict[str, Any], dict[str, Any]]] = [
    (optim.SGD, sgd, {"lr": 0.1}, {}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}, {}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}, {}),
    (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, {}),
    (optim.SGD, sgd, {"lr": 0.1, "maximize": True}, {}),
    (optim.Adam, adam, {"lr": 0.05}, {}),
    (optim.Adam, adam, {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}, {}),
    (optim.Adam, adam, {"lr": 0.05, "maximize": True}, {}),
    (optim.AdamW, adam, {"lr": 0.05}, {"weight_decay": 0.01, "decoupled": True}),
    (optim.AdamW, adam, {"lr": 0.05, "weight_decay": 0.5}, {"decoupled": True}),
    (optim.RMSprop, rmsprop, {"lr": 0.01}, {}),
    (optim.RMSprop, rmsprop, {"lr": 0.05, "alpha": 0.5, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.5}, {}),
    (optim.RMSprop, rmsprop, {"lr": 0.05, "alpha": 0.5, "eps": 0.1, "centered": True, "momentum": 0.9}, {}),
    (optim.RMSprop, rmsprop, {"lr": 0.05, "maximize": True}, {}),
]


@pytest.mark.parametrize(("kind", "formula", "settings", "more"), CASES)
def test_formula(kind, formula, settings, more) -> None:  # type: ignore[no-untyped-def]
    params, steps = make()
    start = numbers(params)
    optimizer = kind(params, **settings)
    for grads in steps:
        give(params, grads)
        optimizer.step()
    for i, (p, p0) in enumerate(zip(numbers(params), start, strict=True)):
        want = formula(p0, [g[i].astype(np.float64) for g in steps], **settings, **more)
        # float32 roundings of numbers near 1, six steps of them; dividing by the root of a square adds a few.
        np.testing.assert_allclose(p, want, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("kind", "formula", "settings", "more"), CASES)
def test_parameters_without_gradient_stay_and_start_late(kind, formula, settings, more) -> None:  # type: ignore[no-untyped-def]
    params, steps = make(1)
    start = numbers(params)
    optimizer = kind(params, **settings)
    for n, grads in enumerate(steps):
        give(params, grads)
        if n < 2:
            params[1].grad = None  # joins at the third step: other step count, other momentum
        optimizer.step()
        if n < 2:
            np.testing.assert_array_equal(numbers(params)[1], start[1])
    for i, (p, p0) in enumerate(zip(numbers(params), start, strict=True)):
        gs = [g[i].astype(np.float64) for g in (steps[2:] if i == 1 else steps)]
        np.testing.assert_allclose(p, formula(p0, gs, **settings, **more), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("kind", "formula", "settings", "more"), CASES)
def test_state_dict_resumes_exactly(kind, formula, settings, more) -> None:  # type: ignore[no-untyped-def]
    params, steps = make(2)
    optimizer = kind(params, **settings)
    for grads in steps[:3]:
        give(params, grads)
        optimizer.step()
    saved = optimizer.state_dict()
    twins = [ct.tensor(p.detach().numpy(), requires_grad=True) for p in params]
    other = kind(twins, lr=123.0)
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == settings["lr"]
    for grads in steps[3:]:
        give(params, grads)
        give(twins, grads)
        optimizer.step()
        other.step()
    for a, b in zip(numbers(params), numbers(twins), strict=True):
        np.testing.assert_array_equal(a, b)


def test_state_dict_is_a_snapshot_in_pytorchs_structure() -> None:
    params, steps = make()
    optimizer = optim.Adam([{"params": params[:1]}, {"params": params[1:], "lr": 0.5}])
    give(params, steps[0])
    optimizer.step()
    saved = optimizer.state_dict()
    assert [g["params"] for g in saved["param_groups"]] == [[0], [1, 2]]
    assert [g["lr"] for g in saved["param_groups"]] == [1e-3, 0.5]
    assert sorted(saved["state"]) == [0, 1, 2]
    assert saved["state"][0]["step"] == 1
    assert saved["state"][1]["exp_avg"].shape == (5,)
    before = saved["state"][0]["exp_avg"].numpy().copy()
    give(params, steps[1])
    optimizer.step()
    np.testing.assert_array_equal(saved["state"][0]["exp_avg"].numpy(), before)
    assert saved["state"][0]["step"] == 1


def test_load_state_dict_rejects_what_does_not_fit() -> None:
    params, steps = make()
    optimizer = optim.Adam(params)
    give(params, steps[0])
    optimizer.step()
    saved = optimizer.state_dict()
    with pytest.raises(ValueError, match="groups"):
        optim.Adam([{"params": params[:1]}, {"params": params[1:]}]).load_state_dict(saved)
    with pytest.raises(ValueError, match="3 parameters in the state, 2 in the optimizer"):
        optim.Adam(params[:2]).load_state_dict(saved)
    other = optim.Adam([ct.zeros((2, 2), requires_grad=True), *params[1:]])
    with pytest.raises(ValueError, match=r"shape \(3, 4\), its parameter \(2, 2\)"):
        other.load_state_dict(saved)
    assert other.state == {}  # nothing was taken over


def test_loads_what_pytorch_saves() -> None:
    # torch.optim.Adam keeps the step as a tensor and has keys that corten does not know.
    p = ct.ones((2,), requires_grad=True)
    optimizer = optim.Adam([p])
    moments = {"exp_avg": np.full(2, 0.5, np.float32), "exp_avg_sq": np.full(2, 0.25, np.float32)}
    group = {"lr": 0.25, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "params": [0]}
    optimizer.load_state_dict({"state": {0: {"step": np.float32(7), **moments}}, "param_groups": [group]})
    assert optimizer.state[p]["step"] == 7
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert "amsgrad" not in optimizer.param_groups[0]


def test_rmsprop_loads_what_pytorch_saves_and_takes_momentum_up_later() -> None:
    p = ct.ones((2,), requires_grad=True)
    optimizer = optim.RMSprop([p])
    group = {"lr": 0.5, "alpha": 0.75, "eps": 0.0, "weight_decay": 0, "momentum": 0, "centered": False, "params": [0]}
    saved = {"step": np.float32(3), "square_avg": np.full(2, 4.0, np.float32)}
    optimizer.load_state_dict({"state": {0: saved}, "param_groups": [{**group, "foreach": None, "capturable": False}]})
    p.grad = ct.full((2,), 2.0)
    optimizer.step()  # v stays 4
    assert p.tolist() == [0.5, 0.5]
    assert optimizer.state[p]["step"] == 4
    optimizer.param_groups[0]["momentum"] = 0.5
    optimizer.step()
    optimizer.step()
    assert p.tolist() == [0.5 - 0.5 - 0.75] * 2


def test_groups_have_their_own_settings() -> None:
    params, steps = make()
    start = numbers(params)
    optimizer = optim.SGD([{"params": params[0]}, {"params": params[1:2], "lr": 1.0}], lr=0.1)
    optimizer.add_param_group({"params": params[2:], "lr": 0.0})
    give(params, steps[0])
    optimizer.step()
    for p, p0, g, lr in zip(numbers(params), start, steps[0], (0.1, 1.0, 0.0), strict=True):
        np.testing.assert_allclose(p, p0 - lr * g, rtol=1e-6, atol=1e-6)
    optimizer.param_groups[0]["lr"] = -1
    with pytest.raises(ValueError, match="lr must be at least 0"):
        optimizer.step()
    assert "group 1: 1 parameters" in repr(optimizer)


def test_takes_named_parameters() -> None:
    net = nn.Linear(2, 1)
    assert optim.SGD(net.named_parameters()).param_groups[0]["params"][0] is net.weight


def test_mixed_dtypes() -> None:
    a = ct.ones((2,), requires_grad=True)
    b = ct.ones((2,), dtype="float64", requires_grad=True)
    for optimizer in (optim.Adam([a, b], lr=0.1), optim.SGD([a, b], lr=0.1, momentum=0.9)):
        a.grad, b.grad = ct.ones((2,)), ct.ones((2,), dtype="float64")
        optimizer.step()
    assert a.dtype == ct.float32
    assert b.dtype == ct.float64
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6)


def test_zero_grad() -> None:
    params, steps = make()
    optimizer = optim.SGD(params)
    give(params, steps[0])
    params[0].grad = ct.full(params[0].shape, float("nan"))  # zero times NaN would be NaN
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.numpy().any() for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_closure() -> None:
    p = ct.tensor([2.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.25)

    def closure() -> ct.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with ct.no_grad():
        loss = optimizer.step(closure)
    assert loss is not None
    assert loss.item() == 4.0
    assert p.tolist() == [1.0]


@pytest.mark.parametrize(
    ("make_it", "error", "match"),
    [
        (lambda p: optim.SGD([p], lr=-1), ValueError, "lr must be at least 0, got -1"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr must be"),
        (lambda p: optim.SGD([p], momentum=-0.1), ValueError, "momentum must be"),
        (lambda p: optim.SGD([p], weight_decay=-0.1), ValueError, "weight_decay must be"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs momentum > 0"),
        (lambda p: optim.SGD([p], momentum=0.9, dampening=0.1, nesterov=True), ValueError, "dampening = 0"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, r"betas must be two numbers in \[0, 1\)"),
        (lambda p: optim.Adam([p], betas=(0.9,)), ValueError, "two numbers"),
        (lambda p: optim.Adam([p], eps=-1), ValueError, "eps must be"),
        (lambda p: optim.AdamW([p], weight_decay=-1), ValueError, r"\[AdamW\] weight_decay"),
        (lambda p: optim.RMSprop([p], alpha=1.5), ValueError, r"\[RMSprop\] alpha must be in \[0, 1\], got 1.5"),
        (lambda p: optim.RMSprop([p], alpha=-0.1), ValueError, r"\[RMSprop\] alpha must be at least 0"),
        (lambda p: optim.RMSprop([p], eps=-1), ValueError, r"\[RMSprop\] eps must be"),
        (lambda p: optim.RMSprop([p], momentum=-1), ValueError, r"\[RMSprop\] momentum must be"),
        (lambda p: optim.Adam([]), ValueError, "no parameters"),
        (lambda p: optim.Adam([p, p]), ValueError, "given twice"),
        (lambda p: optim.Adam([{"params": [p]}, {"params": [p]}]), ValueError, "given twice"),
        (lambda p: optim.Adam([{"params": [p], "rate": 1}]), ValueError, "unknown hyper-parameters: rate"),
        (lambda p: optim.Adam([{"lr": 1}]), TypeError, "params"),
        (lambda p: optim.Adam(p), TypeError, "put it in a list"),
        (lambda p: optim.Adam([3]), TypeError, "tensors, got int"),
        (lambda p: optim.Adam([p * 2]), ValueError, "leaf"),
        (lambda p: optim.Adam([ct.arange(3)]), TypeError, "floating"),
        (lambda p: optim.Adam(nn.Linear(2, 2)), TypeError, r"model\.parameters\(\)"),
        (lambda p: optim.Adam([{"params": None}]), TypeError, "NoneType"),
        (lambda p: optim.Adam([{"params": [p]}, p]), TypeError, "parameter group is a dictionary"),
        (lambda p: optim.Adam([p], lr="0.1"), TypeError, "lr must be a number"),
        (lambda p: optim.Adam([p], betas=0.9), TypeError, "betas must be two numbers"),
        (lambda p: optim.Adam([p]).load_state_dict({}), ValueError, "param_groups"),
        (
            lambda p: optim.Adam([p]).load_state_dict({"state": {0: {"step": 1}}, "param_groups": [{"params": [0]}]}),
            ValueError,
            "lacks exp_avg, exp_avg_sq",
        ),
    ],
)
def test_bad_arguments(make_it, error: type[Exception], match: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=match):
        make_it(ct.ones((2,), requires_grad=True))


def test_adam_finds_a_minimum() -> None:
    # Rosenbrock's banana, whose minimum is at (1, 1).
    p = ct.tensor([-1.0, 1.5], dtype="float64", requires_grad=True)
    optimizer = optim.Adam([p], lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        x, y = p[0], p[1]
        ((1 - x) ** 2 + 100 * (y - x * x) ** 2).backward()
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), [1, 1], atol=0.03)
