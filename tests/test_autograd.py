"""The autograd contract of docs/architecture.md: accumulation, modes, hooks, lifetime, higher order, long chains."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import corten as ct
from corten import _core

Tensor = _core.Tensor


def leaf(values, dtype="float64") -> Tensor:
    return _core.tensor(np.asarray(values, dtype=dtype), requires_grad=True)


def grad_of(x: Tensor) -> list:
    assert x.grad is not None
    return x.grad.tolist()


# -- accumulation


def test_gradients_accumulate_over_backward_calls() -> None:
    x = leaf([1.0, 2.0])
    (x * 3.0).sum().backward()
    (x * 4.0).sum().backward()
    assert grad_of(x) == [7, 7]


def test_every_use_contributes() -> None:
    x = leaf([3.0])
    (x * x + x).sum().backward()
    assert grad_of(x) == [7]


def test_same_tensor_twice_in_one_operation() -> None:
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    (x @ x).sum().backward()
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    ones = np.ones((2, 2))
    np.testing.assert_array_equal(x.grad.numpy(), ones @ a.T + a.T @ ones)


def test_grad_can_be_set_and_cleared() -> None:
    x = leaf([1.0, 2.0])
    x.grad = _core.tensor([5.0, 6.0], dtype="float64")
    x.sum().backward()
    assert grad_of(x) == [6, 7]
    x.grad = None
    assert x.grad is None


@pytest.mark.parametrize("wrong", [lambda: _core.ones(3, dtype="float64"), lambda: _core.ones(2, dtype="float32")])
def test_grad_of_another_shape_or_dtype_is_refused(wrong) -> None:
    x = leaf([1.0, 2.0])
    with pytest.raises((ValueError, TypeError), match=r"\[grad\]"):
        x.grad = wrong()


def test_accumulation_does_not_change_a_gradient_already_taken() -> None:
    x = leaf([1.0, 2.0])
    x.sum().backward()
    first = x.grad
    x.sum().backward()
    assert first.tolist() == [1, 1]
    assert grad_of(x) == [2, 2]


def test_broadcast_gradients_are_summed_back() -> None:
    x, y = leaf(np.ones((3, 1))), leaf(np.ones(4))
    (x * y).sum().backward()
    assert x.grad.shape == (3, 1)
    assert grad_of(x) == [[4], [4], [4]]
    assert grad_of(y) == [3, 3, 3, 3]


def test_gradient_argument_scales() -> None:
    x = leaf([1.0, 2.0])
    (x * x).backward(_core.tensor([1.0, 10.0], dtype="float64"))
    assert grad_of(x) == [2, 40]


def test_backward_of_many_elements_needs_a_gradient() -> None:
    with pytest.raises((RuntimeError, ValueError), match=r"(?i)gradient"):
        (leaf([1.0, 2.0]) * 2.0).backward()


def test_gradient_of_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\)"):
        (leaf([1.0, 2.0]) * 2.0).backward(_core.ones(3, dtype="float64"))


def test_backward_without_graph_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"requires_grad|require grad"):
        _core.ones(()).backward()


def test_backward_of_a_leaf() -> None:
    x = leaf(2.0)
    x.backward()
    assert grad_of(x) == 1


def test_only_what_requires_grad_gets_one() -> None:
    x, c = leaf([2.0]), _core.tensor([3.0], dtype="float64")
    (x * c).sum().backward()
    assert grad_of(x) == [3]
    assert c.grad is None


# -- leaves, flags


def test_flags() -> None:
    x = leaf([1.0])
    y = x * 2.0
    assert x.is_leaf
    assert x.grad_fn is None
    assert x.requires_grad
    assert not y.is_leaf
    assert y.requires_grad
    assert isinstance(y.grad_fn, str)
    assert y.grad_fn
    z = _core.ones(1) * 2.0
    assert z.is_leaf
    assert not z.requires_grad
    assert z.grad_fn is None


def test_requires_grad_of_integers_is_refused() -> None:
    with pytest.raises(TypeError, match=r"int64.*astype|float"):
        _core.tensor([1, 2]).requires_grad_()
    with pytest.raises(TypeError, match=r"int64.*astype|float"):
        _core.tensor([1, 2], requires_grad=True)


def test_requires_grad_can_be_turned_off_on_leaves_only() -> None:
    x = leaf([1.0])
    x.requires_grad = False
    assert (x * 2.0).grad_fn is None
    y = leaf([1.0]) * 2.0
    with pytest.raises(RuntimeError, match=r"detach"):
        y.requires_grad = False


def test_detach_cuts_and_shares_values() -> None:
    x = leaf([3.0])
    y = x.detach()
    assert not y.requires_grad
    (x * y).sum().backward()
    assert grad_of(x) == [3]


def test_non_leaf_keeps_no_gradient_unless_told() -> None:
    x = leaf([1.0, 2.0])
    y = x * 2.0
    z = y * y
    y.retain_grad()
    z.sum().backward()
    assert z.grad is None
    assert y.grad.tolist() == [4, 8]
    assert grad_of(x) == [8, 16]


# -- modes


def test_no_grad_as_context_and_decorator() -> None:
    x = leaf([1.0])
    with ct.no_grad():
        assert not _core.is_grad_enabled()
        assert not (x * 2.0).requires_grad
    assert _core.is_grad_enabled()

    @ct.no_grad()
    def double(t):
        return t * 2.0

    assert not double(x).requires_grad
    assert (x * 2.0).requires_grad


def test_enable_grad_inside_no_grad() -> None:
    x = leaf([1.0])
    with ct.no_grad():
        with ct.enable_grad():
            assert (x * 2.0).requires_grad
        assert not (x * 2.0).requires_grad


def test_no_grad_ends_when_the_body_raises() -> None:
    with pytest.raises(KeyError), ct.no_grad():
        raise KeyError
    assert _core.is_grad_enabled()


def test_grad_mode_is_thread_local() -> None:
    seen: list[bool] = []
    with ct.no_grad():
        thread = threading.Thread(target=lambda: seen.append(_core.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


# -- hooks


def test_a_hook_that_changes_the_shape_is_told_so() -> None:
    x = ct.ones((4, 3), requires_grad=True)
    y = x * 2.0
    y.register_hook(lambda g: ct.zeros(7))
    with pytest.raises(ValueError, match=r"hook on the gradient of 'multiply'.*\(4, 3\).*\(7,\)"):
        y.sum().backward()


def test_leaf_hook_fires_once_with_the_final_gradient() -> None:
    x = leaf([2.0])
    seen: list[list[float]] = []
    x.register_hook(lambda g: seen.append(g.tolist()))
    (x * x + x * 3.0 + x.exp() * 0.0).sum().backward()
    assert seen == [[7.0]]


def test_hook_replaces_the_gradient() -> None:
    x = leaf([2.0])
    y = x * 3.0
    y.register_hook(lambda g: g * 10.0)
    y.sum().backward()
    assert grad_of(x) == [30]
    x.grad = None
    x.register_hook(lambda g: g * 2.0)
    (x * 3.0).sum().backward()
    assert grad_of(x) == [6]


def test_removed_hook_is_silent() -> None:
    x = leaf([2.0])
    calls: list[int] = []
    handle = x.register_hook(lambda g: calls.append(1))
    x.remove_hook(handle)
    x.sum().backward()
    assert calls == []


def test_hooks_run_in_order() -> None:
    x = leaf([1.0])
    x.register_hook(lambda g: g + 1.0)
    x.register_hook(lambda g: g * 10.0)
    x.sum().backward()
    assert grad_of(x) == [20]


def test_exception_of_a_hook_comes_out_of_backward() -> None:
    x = leaf([1.0])

    def hook(_):
        raise KeyError("from the hook")

    handle = x.register_hook(hook)
    with pytest.raises(KeyError, match="from the hook"):
        x.sum().backward()
    x.remove_hook(handle)
    x.grad = None
    (x * 2.0).sum().backward()
    assert grad_of(x) == [2]


def test_hook_may_run_operations_and_backward() -> None:
    """No lock is held while a hook runs. (Hooks run in backward's grad mode: off, unless create_graph.)"""
    x, other = leaf([2.0]), leaf([5.0])

    def hook(g):
        with ct.enable_grad():
            (other * other).sum().backward()
        return g + other.detach()

    x.register_hook(hook)
    x.sum().backward()
    assert grad_of(x) == [6]
    assert grad_of(other) == [10]


# -- graph lifetime


def test_second_backward_says_what_to_do() -> None:
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"retain_graph=True"):
        y.backward()
    assert grad_of(x) == [4]


def test_retain_graph_allows_a_second_backward() -> None:
    x = leaf([2.0])
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert grad_of(x) == [8]


def test_shared_part_of_two_losses() -> None:
    x = leaf([2.0])
    shared = x.exp()
    first, second = (shared * 2.0).sum(), (shared * 3.0).sum()
    first.backward(retain_graph=True)
    second.backward()
    np.testing.assert_allclose(x.grad.numpy(), 5 * np.exp(2.0), rtol=1e-14)


def test_values_saved_before_a_write_are_the_old_ones() -> None:
    """An optimizer step between forward and backward must not bend the gradient: the graph keeps the old values."""
    w, x = leaf([2.0, 3.0]), leaf([5.0, 7.0])
    loss = (w * w * x).sum()
    w.assign_(_core.tensor([100.0, 100.0], dtype="float64"))
    assert w.tolist() == [100, 100]
    loss.backward()
    assert grad_of(w) == [2 * 2 * 5, 2 * 3 * 7]
    assert grad_of(x) == [4, 9]


def test_optimizer_step_between_two_losses() -> None:
    w = leaf([2.0, 3.0])
    first, second = (w * w).sum(), (w * w * w).sum()
    first.backward()
    _core.sgd_step([w], [w.grad], None, lr=0.5)
    assert w.tolist() == [0, 0]
    w.grad = None
    second.backward()
    assert grad_of(w) == [12, 27]


def test_views_of_a_parameter_keep_the_old_values() -> None:
    w = leaf([[1.0, 2.0], [3.0, 4.0]])
    before, view = w.detach(), w[0]
    exported = w.detach().numpy()
    w.assign_(_core.zeros((2, 2), dtype="float64"))
    assert before.tolist() == [[1, 2], [3, 4]]
    assert view.tolist() == [1, 2]
    assert exported.tolist() == [[1, 2], [3, 4]]


def test_training_step_copies_no_parameter() -> None:
    w, b = leaf(np.ones((4, 3)), "float32"), leaf(np.zeros(4), "float32")
    state = [_core.zeros((4, 3)), _core.zeros(4)], [_core.zeros((4, 3)), _core.zeros(4)]
    x = _core.ones((5, 3))

    def step(number: int) -> None:
        loss = _core.linear(x, w, b).square().mean()
        w.grad = b.grad = None
        loss.backward()
        del loss
        _core.adam_step([w, b], [w.grad, b.grad], *state, step=number)

    step(1)
    copies = _core.parameter_copies()
    for number in range(2, 6):
        step(number)
    assert _core.parameter_copies() == copies


def test_a_held_snapshot_costs_one_copy() -> None:
    w = leaf(np.ones(4), "float32")
    kept = w.detach()
    copies = _core.parameter_copies()
    w.assign_(_core.zeros(4))
    assert _core.parameter_copies() == copies + 1
    assert kept.tolist() == [1, 1, 1, 1]


def test_setitem_of_a_leaf() -> None:
    x = _core.zeros((2, 3))
    x[0, 1] = 5.0
    x[1] = _core.tensor([7.0, 8.0, 9.0])
    x[:, ::2] = 1
    assert x.tolist() == [[1, 5, 1], [1, 8, 1]]


def test_setitem_of_a_view_is_refused() -> None:
    """It would be lost: views are values of their own."""
    x = _core.zeros((2, 3))
    with pytest.raises((RuntimeError, ValueError), match=r"(?i)view"):
        x[0][1] = 5.0
    assert x.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_setitem_of_a_result_is_refused() -> None:
    y = leaf([1.0, 2.0]) * 2.0
    with pytest.raises(RuntimeError, match=r"(?i)leaf|detach|operation"):
        y[0] = 1.0


def test_writing_a_result_is_refused() -> None:
    y = leaf([1.0, 2.0]) * 2.0
    with pytest.raises(RuntimeError, match=r"leaf"):
        y.assign_(_core.zeros(2, dtype="float64"))


# -- grad() and higher order


def test_grad_returns_and_does_not_accumulate() -> None:
    x, y = leaf([2.0]), leaf([3.0])
    gx, gy = _core.grad([(x * x * y).sum()], [x, y])
    assert gx.tolist() == [12]
    assert gy.tolist() == [4]
    assert x.grad is None
    assert y.grad is None


def test_grad_of_an_intermediate() -> None:
    x = leaf([2.0])
    y = x * x
    (g,) = _core.grad([(y * 3.0).sum()], [y])
    assert g.tolist() == [3]


def test_grad_with_grad_outputs_and_many_outputs() -> None:
    x = leaf([1.0, 2.0])
    (g,) = _core.grad([x * 2.0, (x * x).sum()], [x], [_core.tensor([1.0, 10.0], dtype="float64"), None])
    assert g.tolist() == [2 + 2, 20 + 4]


def test_unused_input() -> None:
    x, y = leaf([1.0]), leaf([1.0])
    with pytest.raises((RuntimeError, ValueError), match=r"allow_unused"):
        _core.grad([(x * 2.0).sum()], [y])
    assert _core.grad([(x * 2.0).sum()], [y], allow_unused=True) == [None]


def test_derivatives_up_to_the_fourth() -> None:
    x = leaf([2.0])
    y = (x * x * x * x).sum()
    for expected in (4 * 2.0**3, 12 * 2.0**2, 24 * 2.0, 24.0):
        (g,) = _core.grad([y], [x], create_graph=True)
        assert g.tolist() == [expected]
        y = g.sum()


def test_create_graph_through_backward() -> None:
    x = leaf([3.0])
    (x * x * x).sum().backward(create_graph=True)
    g = x.grad
    x.grad = None
    g.sum().backward()
    assert grad_of(x) == [18]


def test_gradient_without_create_graph_has_no_graph() -> None:
    x = leaf([3.0])
    (x * x).sum().backward()
    assert not x.grad.requires_grad


def test_gradient_penalty_through_a_network() -> None:
    """Second order through linear, conv2d, softmax and batch norm, against central differences of the penalty."""
    rng = np.random.default_rng(0)
    x = leaf(rng.normal(size=(2, 2, 4, 4)))
    w, v = leaf(rng.normal(size=(3, 2, 3, 3))), leaf(rng.normal(size=(4, 12)))

    def penalty(x, w, v):
        h = _core.batch_norm(_core.conv2d(x, w).tanh(), training=True)
        y = _core.softmax(_core.linear(h.flatten(1), v))
        (g,) = _core.grad([y.square().sum()], [x], create_graph=True)
        return g.square().sum()

    assert _core.gradcheck(penalty, [x, w, v])


def test_nodes_before_the_targets_are_not_visited() -> None:
    x = leaf([2.0])
    hidden = x.exp()
    calls: list[int] = []
    x.register_hook(lambda g: calls.append(1))
    _core.grad([(hidden * 2.0).sum()], [hidden])
    assert calls == []


# -- size, memory, threads


def test_chain_of_150_000_nodes() -> None:
    """Neither backward nor dropping the graph may recurse."""
    x = leaf(1.0)
    y = x
    for _ in range(150_000):
        y = y + 0.0
    y.backward()
    assert grad_of(x) == 1
    del y
    z = x
    for _ in range(150_000):
        z = z + 0.0
    del z
    gc.collect()


def test_chain_in_a_thread_with_a_small_stack() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            x = leaf(1.0)
            y = x
            for _ in range(20_000):
                y = y * 1.0
            y.backward()
            assert grad_of(x) == 1
        except BaseException as error:  # handed to the main thread
            failures.append(error)

    old = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert failures == []


def test_graph_is_freed_without_backward() -> None:
    """A hook's closure lives as long as its node: it must go with the last reference to the result (no cycle)."""

    class Token:
        pass

    token = Token()
    alive = weakref.ref(token)
    x = leaf([1.0, 2.0])
    y = x.exp().tanh().sigmoid()  # each saves its output
    y.register_hook(lambda g, held=token: None)
    del token
    z = y.sum()
    del y, z
    gc.collect()
    assert alive() is None


def test_backward_from_two_threads_accumulates_both() -> None:
    x = leaf(np.zeros(1000))
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(25):
            (x * 1.0).sum().backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert set(x.grad.numpy().tolist()) == {100.0}


def test_graph_built_in_one_thread_runs_backward_in_another() -> None:
    x = leaf([3.0])
    y = (x * x).sum()
    thread = threading.Thread(target=y.backward)
    thread.start()
    thread.join()
    assert grad_of(x) == [6]
