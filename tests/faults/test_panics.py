"""A bug of corten itself is an `InternalError` wherever it strikes, and the library works on."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest
from child import lines

import corten as ct
from corten import _core


@pytest.fixture(autouse=True)
def several_threads():
    ct.set_num_threads(3)


def works() -> None:
    """Products on the pool, and a backward pass."""
    a = ct.ones((200, 300), requires_grad=True)
    (a @ ct.ones((300, 100))).sum().backward()
    assert set(a.grad.numpy().ravel().tolist()) == {100.0}


REPORT = r"\[corten\] the test asked for it.*faults\.rs:\d+.*bug in corten.*report"


@pytest.mark.parametrize("place", ["call", "tile", "worker"])
def test_in_a_call(place: str, capfd) -> None:
    for _ in range(3):
        with pytest.raises(ct.InternalError, match=REPORT):
            _core._panic(place)
        works()
    assert issubclass(ct.InternalError, RuntimeError)
    if os.environ.get("RUST_BACKTRACE", "0") == "0":
        assert capfd.readouterr().err == ""


@pytest.mark.parametrize("place", ["hook", "vjp"])
def test_in_a_backward_pass(place: str) -> None:
    for _ in range(3):
        y = _core._panic(place)
        with pytest.raises(ct.InternalError, match=REPORT):
            (y * 2).sum().backward()
        works()


def test_in_a_drop_during_backward() -> None:
    """The graph is freed as the pass goes."""
    for _ in range(3):
        y = _core._panic("drop")
        with pytest.raises(ct.InternalError, match=REPORT):
            (y * 2).sum().backward()
        works()


def test_in_a_drop_of_the_last_reference(capfd) -> None:
    """Nobody can catch what happens while Python frees an object: it is reported, and later graphs are freed all the same."""
    reported = []
    previous, sys.unraisablehook = sys.unraisablehook, reported.append
    try:
        for _ in range(3):
            y = (_core._panic("drop") * 2).exp()
            del y
            gc.collect()
    finally:
        sys.unraisablehook = previous
    capfd.readouterr()
    works()
    # The list of nodes that wait for their end is not stuck: a new chain leaves it, with the memory it holds.
    before = ct.info()["allocator"]["bytes_in_use"]
    x = ct.ones((1000,), requires_grad=True)
    y = x
    for _ in range(100):
        y = (y * 1.5).exp().log()
    del y
    gc.collect()
    assert ct.info()["allocator"]["bytes_in_use"] - before <= 8192


def test_an_exception_of_a_hook_is_no_panic() -> None:
    x = ct.ones((3,), requires_grad=True)

    def hook(grad):
        raise KeyError("mine")

    x.register_hook(hook)
    with pytest.raises(KeyError, match="mine"):
        (x * 2).sum().backward()
    works()


def test_in_several_threads_at_once() -> None:
    a = ct.rand((90, 90), dtype="float64")
    expected = (a @ a).numpy().tobytes()
    wrong: list[object] = []

    def work(number: int) -> None:
        for i in range(30):
            if (i + number) % 3 == 0:
                try:
                    _core._panic("tile" if i % 2 else "call")
                    wrong.append("no exception")
                except ct.InternalError:
                    pass
            elif (a @ a).numpy().tobytes() != expected:
                wrong.append("another product")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert wrong == []
    works()


def test_under_forced_threads_and_after_fork() -> None:
    found = lines(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        import corten as ct
        from corten import _core
        ct.set_num_threads(4)
        def panics(place):
            try:
                _core._panic(place)
            except ct.InternalError:
                return (ct.ones((90, 90)) @ ct.ones((90, 90))).sum().item() == 90 ** 3
        good = [panics("tile"), panics("worker")]
        child = os.fork()
        if child == 0:
            os._exit(0 if panics("tile") and panics("worker") else 1)
        good.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0)
        print(good)
        """,
        CORTEN_SERIAL_BELOW="0",
    )
    assert found == ["[True, True, True]"]


def test_the_place_is_not_another_threads() -> None:
    """Each exception names a place in the file where the panic was."""
    found: list[str] = []

    def work() -> None:
        for _ in range(20):
            try:
                _core._panic("call")
            except ct.InternalError as e:
                found.append(str(e))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 80
    assert all(text.count("bug in corten") == 1 for text in found)
