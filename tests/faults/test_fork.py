"""Children of a process that has computed on several threads: made by fork, forkserver or spawn, at any moment, they compute or
raise, and never hang."""

from __future__ import annotations

import os

import pytest
from child import lines

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

#: Each child has so many seconds; the parent makes `trials` of them.
FORK = """
import os, random, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import corten as ct
from corten import _core
random.seed({seed})
ct.set_num_threads(3)
_core._force_threads({forced})
a = ct.rand((150, 150), dtype="float64")
w = ct.rand((40, 30))
def work():
    w.requires_grad = True
    y = (a @ a).numpy().tobytes()
    g = ct.grad((w @ w.T).exp().sum(), [w])[0].numpy().tobytes()
    sizes = [ct.ones((n,)).sum().item() for n in (10, 5_000, 300_000)]
    return y, g, sizes
expected = work()
stop = False
def busy():
    # In the middle of regions and of allocations of every size all the time.
    b = ct.rand((180, 180))
    while not stop:
        (b @ b).exp()
        [ct.ones((n,)) for n in (1, 100, 3_000, 70_000, 900_000)]
threads = [threading.Thread(target=busy, daemon=True) for _ in range({busy})]
for t in threads:
    t.start()
bad = []
for trial in range({trials}):
    time.sleep(random.uniform(0.0, 0.004))
    child = os.fork()
    if child == 0:
        try:
            ok = work() == expected
            ct.set_num_threads(2)
            ok = ok and work() == expected
            os._exit(0 if ok else 3)
        except BaseException:
            os._exit(4)
    end = time.monotonic() + 10
    status = None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        else:
            time.sleep(0.002)
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if status != 0:
        bad.append((trial, status))
stop = True
for t in threads:
    t.join()
assert work() == expected
print(bad)
"""


def fork(trials: int, busy: int, forced: bool) -> None:
    code = FORK.format(seed=trials + busy, trials=trials, busy=busy, forced=forced)
    assert lines(code, timeout=30 + 10 * trials) == ["[]"]


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("busy", [0, 2])
def test_forked_children_compute(busy: int, forced: bool) -> None:
    fork(10, busy, forced)


@pytest.mark.slow
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("busy", [0, 1, 3])
def test_a_hundred_forked_children_compute(busy: int, forced: bool) -> None:
    fork(100, busy, forced)


#: A module, so that children that do not inherit the parent's memory can import what they run.
JOBS = """
import corten as ct

def job(n):
    ct.set_num_threads(3)
    x = ct.ones((n, 200), requires_grad=True)
    (x @ ct.ones((200, 100))).sum().backward()
    return x.grad.sum().item()
"""
POOL = """
import multiprocessing, sys
sys.path.insert(0, {folder!r})
import warnings
warnings.simplefilter("ignore")
from jobs import job
if __name__ == "__main__":
    assert job(300) == 300 * 200 * 100
    context = multiprocessing.get_context({method!r})
    done = 0
    # A pool's children live for a few jobs each; every job is waited for at most ten seconds.
    while done < {trials}:
        with context.Pool(2, maxtasksperchild=1) as pool:
            for result in [pool.apply_async(job, (100 + i,)) for i in range(min(10, {trials} - done))]:
                assert result.get(timeout={limit}) > 0
                done += 1
        assert job(300) == 300 * 200 * 100
    print(done)
"""


def pool(folder: os.PathLike[str], method: str, trials: int) -> None:
    with open(os.path.join(folder, "jobs.py"), "w") as file:
        file.write(JOBS)
    script = os.path.join(folder, "main.py")
    with open(script, "w") as file:
        # Ten seconds for the job itself; a new interpreter on a busy machine takes a while to start.
        file.write(POOL.format(folder=str(folder), method=method, trials=trials, limit=10 if method == "fork" else 30))
    code = f"import runpy; runpy.run_path({script!r}, run_name='__main__')"
    assert lines(code, timeout=60 + 10 * trials) == [str(trials)]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_of_processes(tmp_path, method: str) -> None:
    pool(tmp_path, method, 4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pools_of_a_hundred_processes(tmp_path, method: str) -> None:
    pool(tmp_path, method, 100)


def test_a_thread_of_a_child_may_fork_again() -> None:
    found = lines(
        """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        import corten as ct
        ct.set_num_threads(3)
        a = ct.ones((200, 200))
        def product():
            return (a @ a).sum().item() == 8e6
        assert product()
        out = []
        def descend(depth):
            assert product()
            if depth:
                child = os.fork()
                if child == 0:
                    os._exit(0 if descend(depth - 1) else 1)
                return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and product()
            return product()
        thread = threading.Thread(target=lambda: out.append(descend(4)))
        thread.start()
        thread.join(60)
        print(out)
        """
    )
    assert found == ["[True]"]


def test_ctrl_c_is_heard_in_a_child_whose_main_thread_forked_elsewhere() -> None:
    """The thread that forks is the child's main thread, whatever it was before."""
    found = lines(
        """
        import os, signal, threading, time, warnings
        warnings.simplefilter("ignore")
        import corten as ct
        a = ct.ones((500, 500))
        (a @ a)
        status = []
        def run():
            child = os.fork()
            if child == 0:
                try:
                    signal.alarm(20)
                    threading.Thread(target=lambda: (time.sleep(0.3), os.kill(os.getpid(), signal.SIGINT))).start()
                    x = ct.broadcast_to(ct.ones((1, 1)), (10**7, 10**5))
                    x.sum()
                except KeyboardInterrupt:
                    os._exit(0)
                os._exit(1)
            status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        print(status)
        """
    )
    assert found == ["[0]"]
