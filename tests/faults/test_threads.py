"""Several Python threads use the library at once: each gets what it would have got alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import corten as ct
from corten import nn

THREADS = 8


def together(work: Callable[[int], object], count: int = THREADS) -> list[object]:
    """What `work(0..count)` give, run at the same time."""
    results: list[object] = [None] * count
    start = threading.Barrier(count)

    def run(i: int) -> None:
        start.wait()
        try:
            results[i] = work(i)
        except BaseException as e:
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert not any(t.is_alive() for t in threads), "a thread hangs"
    for r in results:
        if isinstance(r, BaseException):
            raise r
    return results


@pytest.fixture
def switching() -> Iterator[None]:
    """Another thread changes the number of threads all the time."""
    done = threading.Event()

    def switch() -> None:
        n = 0
        while not done.wait(0.002):
            n += 1
            ct.set_num_threads(1 + n % 5)

    thread = threading.Thread(target=switch)
    thread.start()
    yield
    done.set()
    thread.join()


def numbers(seed: int, *shape: int) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def train(i: int, shared: ct.Tensor) -> bytes:
    """A model of its own, on top of parameters that all threads read; its weights after ten steps."""
    model = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.BatchNorm1d(30), nn.Linear(30, 5))
    # The generator is shared: the draws of a layer's own initialisation would depend on what the others do.
    own = {name: numbers(100 * i + k, *p.shape) * 0.1 for k, (name, p) in enumerate(model.named_parameters())}
    model.load_state_dict(own, strict=False)
    optimizer = ct.optim.Adam(model.parameters(), lr=0.01)
    for step in range(10):
        x = numbers(1000 * i + step, 64, 50) @ shared
        target = ct.tensor(np.arange(64) % 5)
        loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return b"".join(t.detach().numpy().tobytes() for t in model.state_dict().values())


@pytest.mark.parametrize("threads", [1, 3])
def test_training_side_by_side_gives_the_same_bits(threads: int) -> None:
    ct.set_num_threads(threads)
    shared = numbers(7, 50, 40)
    alone = [train(i, shared) for i in range(THREADS)]
    assert len(set(alone)) == THREADS
    assert together(lambda i: train(i, shared)) == alone


def test_training_while_the_number_of_threads_changes(switching) -> None:
    shared = numbers(7, 50, 40)
    ct.set_num_threads(1)
    alone = [train(i, shared) for i in range(THREADS)]
    assert together(lambda i: train(i, shared)) == alone


def test_gradients_of_a_shared_leaf_add_up() -> None:
    """Whole numbers, so that the sum does not depend on the order."""
    leaf = ct.ones((300, 20), requires_grad=True)
    factors = [ct.tensor(float(i + 1)) for i in range(THREADS)]

    def work(i: int) -> None:
        for _ in range(25):
            (leaf * factors[i]).sum().backward()

    together(work)
    expected = 25.0 * sum(range(1, THREADS + 1))
    assert set(leaf.grad.numpy().ravel().tolist()) == {expected}


def test_hooks_of_a_shared_leaf_are_all_called() -> None:
    leaf = ct.ones((50,), requires_grad=True)
    calls: list[int] = []
    leaf.register_hook(lambda g: calls.append(1))
    together(lambda i: [(leaf * 2.0).sum().backward() for _ in range(20)])
    assert len(calls) == 20 * THREADS
    assert set(leaf.grad.numpy().tolist()) == {2.0 * 20 * THREADS}


def test_one_graph_walked_by_several_threads() -> None:
    x = ct.ones((60, 60), requires_grad=True)
    y = (x @ x).exp().sum()
    expected = ct.grad(y, [x], retain_graph=True)[0].numpy().tobytes()
    got = together(lambda i: [ct.grad(y, [x], retain_graph=True)[0].numpy().tobytes() for _ in range(10)])
    assert {b for each in got for b in each} == {expected}


def test_grad_mode_belongs_to_its_thread() -> None:
    x = ct.ones((3,), requires_grad=True)

    def work(i: int) -> set[bool]:
        if i % 2:
            return {(x * 2).requires_grad for _ in range(200)}
        with ct.no_grad():
            return {(x * 2).requires_grad for _ in range(200)}

    assert together(work) == [{bool(i % 2)} for i in range(THREADS)]


def test_reading_while_another_thread_writes() -> None:
    """A reader sees the parameter before a write or after it, never half of each."""
    p = nn.Parameter(ct.zeros((200_000,)))
    optimizer = ct.optim.SGD([p], lr=1.0)
    p.grad = ct.ones((200_000,))

    def work(i: int) -> object:
        if i == 0:
            for _ in range(60):
                optimizer.step()
            return None
        torn = 0
        for _ in range(60):
            seen = (p.detach() + 0.0).numpy()
            torn += seen.min() != seen.max()
        return torn

    assert together(work, 4)[1:] == [0, 0, 0]


def test_random_numbers_are_drawn_once() -> None:
    """Threads share one generator; each draw has numbers of its own."""
    ct.manual_seed(3)
    drawn = together(lambda i: [ct.rand((4,), dtype="float64").numpy().tobytes() for _ in range(50)])
    flat = [b for each in drawn for b in each]
    assert len(set(flat)) == len(flat)
    ct.manual_seed(3)
    assert {ct.rand((4,), dtype="float64").numpy().tobytes() for _ in flat} == set(flat)
