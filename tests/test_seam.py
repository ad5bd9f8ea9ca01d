"""Where Python meets Rust: NumPy, foreign buffers, the interpreter lock, threads, panics, Ctrl-C, fork, exit."""

from __future__ import annotations

import array
import gc
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import corten as ct
from corten import _core
from harness import bits

# -- exports


def test_numpy_is_read_only_and_shares() -> None:
    t = ct.tensor([1.0, 2.0])
    a = t.numpy()
    assert not a.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 5
    assert np.shares_memory(a, t.numpy())


def test_numpy_outlives_the_tensor() -> None:
    t = ct.tensor(np.arange(100_000.0))
    a = t.numpy()
    del t
    gc.collect()
    churn = [ct.zeros(100_000, dtype="float64") for _ in range(10)]
    np.testing.assert_array_equal(a, np.arange(100_000.0))
    assert len(churn) == 10


def test_numpy_keeps_old_values_when_the_tensor_is_written() -> None:
    t = ct.zeros(3)
    a = t.numpy()
    t[1] = 5.0
    assert a.tolist() == [0, 0, 0]
    assert t.numpy().tolist() == [0, 5, 0]


def test_numpy_of_a_view_is_right() -> None:
    t = ct.tensor(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(t.T.numpy(), np.arange(12.0).reshape(3, 4).T)
    np.testing.assert_array_equal(t[::-1, 1::2].numpy(), np.arange(12.0).reshape(3, 4)[::-1, 1::2])
    np.testing.assert_array_equal(ct.broadcast_to(t[0], (2, 4)).numpy(), [[0, 1, 2, 3]] * 2)


def test_array_protocol() -> None:
    t = ct.tensor([1.5, 2.5])
    assert np.asarray(t).dtype == np.float32
    assert np.asarray(t, dtype=np.float64).tolist() == [1.5, 2.5]
    copy = np.array(t)
    copy[0] = 9
    assert t.tolist() == [1.5, 2.5]
    assert t.__array__(copy=True).flags.writeable
    assert np.sum(np.asarray(t)) == 4
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(ct.tensor([1.0], requires_grad=True))


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="copy= came with NumPy 2")
def test_array_protocol_refuses_a_copy_it_needs() -> None:
    with pytest.raises(ValueError, match=r"(?i)copy"):
        np.array(ct.tensor([1.5]), dtype=np.float64, copy=False)
    assert np.shares_memory(np.array(ct.tensor([1.5])[:], copy=False), np.zeros(0)) is False


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_every_dtype_there_and_back(name: str) -> None:
    a = np.array([[0, 1, 1], [1, 0, 1]]).astype(name)
    t = ct.tensor(a)
    assert t.dtype.name == name
    assert t.dtype == np.dtype(name)
    assert bits(t) == bits(a)
    assert t.tolist() == a.tolist()
    assert type(t[0, 1].item()) is type(a[0, 1].item())


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 1, 3)])
def test_tolist_and_item_of_every_shape(shape) -> None:
    a = np.arange(float(np.prod(shape))).reshape(shape)
    assert ct.tensor(a).tolist() == a.tolist()
    if a.size == 1:
        assert ct.tensor(a).item() == a.item()


# -- imports


def misaligned() -> np.ndarray:
    """Doubles that start one byte into their buffer."""
    raw = np.zeros(8 * 5 + 1, np.uint8)
    a = raw[1:].view(np.float64)
    a[:] = np.arange(5.0)
    return a


ODD = {
    "column-major": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "negative strides": np.arange(6.0).reshape(2, 3)[::-1, ::-1],
    "stepped": np.arange(24.0).reshape(4, 6)[1::2, ::3],
    "stride 0": np.broadcast_to(np.arange(3.0), (2, 3)),
    "big-endian": np.arange(5).astype(">f8"),
    "big-endian integers": np.arange(5).astype(">i4"),
    "misaligned": misaligned(),
    "0-d": np.array(3.0),
    "no elements": np.zeros((3, 0)),
    "a column of records": np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i1"), ("b", "f8")])["b"],
    "packed records": np.array([(1, 2), (3, 4)], dtype=np.dtype([("a", "u1"), ("b", "i2")], align=False))["b"],
    "matrix subclass": np.ma.asarray(np.arange(3.0)).data,
}


@pytest.mark.parametrize("function", ["tensor", "asarray", "from_numpy"])
@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_come_in_right(name: str, function: str) -> None:
    a = ODD[name]
    t = getattr(_core, function)(a)
    assert t.shape == a.shape
    np.testing.assert_array_equal(t.numpy(), a)
    np.testing.assert_array_equal((t + 1).numpy(), a + 1)
    np.testing.assert_array_equal(t.sum().numpy(), a.sum())


def test_read_only_arrays_come_in() -> None:
    a = np.arange(3.0)
    a.flags.writeable = False
    assert _core.from_numpy(a).tolist() == [0, 1, 2]


def test_from_numpy_shares_and_never_writes() -> None:
    a = np.zeros(4)
    t = _core.from_numpy(a)
    a[1] = 5
    assert t.tolist() == [0, 5, 0, 0]
    t[2] = 7.0
    assert a.tolist() == [0, 5, 0, 0]
    assert t.tolist() == [0, 5, 7, 0]


def test_from_numpy_keeps_the_array_alive() -> None:
    t = _core.from_numpy(np.arange(100_000.0))
    gc.collect()
    churn = [np.full(100_000, 9.0) for _ in range(10)]
    np.testing.assert_array_equal(t.numpy(), np.arange(100_000.0))
    assert len(churn) == 10


def test_foreign_owner_may_be_dropped_in_another_thread() -> None:
    holder = [_core.from_numpy(np.arange(1000.0)) * 1.0, _core.from_numpy(np.arange(1000.0))]
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    assert holder == []


def test_asarray_copy_argument() -> None:
    a = np.zeros(3)
    always = _core.asarray(a, copy=True)
    never = _core.asarray(a, copy=False)
    a[0] = 1
    assert always.tolist() == [0, 0, 0]
    assert never.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"(?i)copy"):
        _core.asarray(a, dtype="float32", copy=False)
    with pytest.raises(ValueError, match=r"(?i)copy"):
        _core.asarray([1.0, 2.0], copy=False)


def test_other_buffers_and_array_objects() -> None:
    class Arrayish:
        def __array__(self, dtype=None, copy=None):
            return np.arange(3, dtype=np.int16)

    assert ct.tensor(array.array("f", [1, 2])).tolist() == [1, 2]
    assert ct.tensor(memoryview(np.arange(3.0))).tolist() == [0, 1, 2]
    assert ct.tensor(Arrayish()).dtype == ct.int16
    assert ct.tensor(np.float32(2.5)).dtype == ct.float32
    assert ct.tensor(range(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "S3", "O", "V4"])
def test_arrays_without_a_tensor_dtype_are_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=r".+"):
        ct.tensor(np.zeros(2, dtype=dtype))


# -- the interpreter lock and threads


@pytest.mark.slow
def test_long_kernels_release_the_interpreter() -> None:
    """While products run, another Python thread keeps ticking."""
    ct.set_num_threads(1)
    a = ct.rand(1400, 1400, dtype="float64")
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        begin = time.perf_counter()
        for _ in range(2):
            _ = a @ a
        a = (a @ a) @ a
        end = time.perf_counter()
    finally:
        stop.set()
        thread.join()
    inside = [t for t in ticks if begin < t < end]
    # Four calls; with the lock held, at most one tick could slip in between two calls.
    assert len(inside) > 10, f"{len(inside)} ticks in {end - begin:.3f} s"


def test_many_threads_compute_right() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(70, 90)), rng.normal(size=(90, 50))
    x, y = ct.tensor(a), ct.tensor(b)
    alone = bits(x @ y), bits(x.exp().sum(axis=0))
    wrong: list[object] = []

    def work() -> None:
        results = {(bits(x @ y), bits(x.exp().sum(axis=0))) for _ in range(50)}
        wrong.extend(results - {alone})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_set_num_threads_is_not_clamped() -> None:
    for n in (1, 3, 2 * (os.cpu_count() or 1) + 5):
        ct.set_num_threads(n)
        assert ct.get_num_threads() == n
        assert (ct.ones((50, 50)) @ ct.ones((50, 50))).sum().item() == 125_000


# -- processes


def script(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )


def test_exit_while_a_thread_computes() -> None:
    """A daemon thread inside a kernel must neither hang nor crash the end of the interpreter."""
    run = script(
        """
import threading, time
import corten as ct
a = ct.ones((600, 600))
def work():
    while True:
        a @ a
threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
print("bye", flush=True)
""",
        timeout=30,
    )
    assert (run.returncode, run.stdout) == (0, "bye\n"), run.stderr


def test_tensors_at_interpreter_exit() -> None:
    """Module globals with graphs, hooks and shared memory are dropped while the interpreter goes down."""
    run = script(
        """
import numpy as np
import corten as ct
x = ct.tensor(np.ones(1000), requires_grad=True)
x.register_hook(lambda g: g * 2)
y = (x * 2).exp()
shared = ct._core.from_numpy(np.ones(10))
kept = shared.numpy()
"""
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_import_is_silent_and_light() -> None:
    run = script("import sys, corten; print(sorted(m for m in sys.modules if m in ('matplotlib', 'torch', 'pandas')))")
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")


def test_info() -> None:
    info = _core.info()
    assert info["version"] == _core.__version__ == ct.__version__
    assert isinstance(info["threads"], int)
    assert info["isa"]


def test_isa_can_be_forced() -> None:
    for isa in ("scalar", "avx2"):
        run = script(
            "import corten as ct; print(ct._core.info()['isa'], (ct.ones((9, 9)) @ ct.ones((9, 9))).sum().item())",
            CORTEN_ISA=isa,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.split()[1] == "729.0"
        if isa == "scalar":
            assert run.stdout.split()[0] == "scalar"
