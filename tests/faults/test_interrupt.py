"""Ctrl-C: heard within 100 ms inside every long computation, on one thread and on several; afterwards all is as before.

A child process makes the call so long that it takes two seconds (or as long as its memory allows), and a thread of it sends SIGINT at
a random moment. What counts is the time from the signal to the exception, on the clock or in processor time per thread, whichever
is less: other processes on a busy machine must not fail the test. Best of a few.
"""

from __future__ import annotations

import sys

import pytest
from child import lines

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")

MEASURE = """
import gc, math, os, random, signal, sys, threading, time
import numpy as np
import corten as ct
from corten import _core, nn
import corten.nn.functional as F

threads, seed, most = {threads}, {seed}, {most}
random.seed(seed)
ct.set_num_threads(threads)
small = ct.ones((64, 64))
expected = (small @ small).exp().sum().item()

def make(n):
    n = int(n)
{setup}
    return lambda: {call}

def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start

# So long that it takes two seconds, or as long as it may.
n, taken = {first}, 0.0
while True:
    f = make(n)
    taken = seconds(f)
    if taken > 0.2 or n >= most:
        break
    n = min(most, n * 4)
if taken < 2.0:
    n = min(most, n * min(20.0, 2.5 / taken))
    f = make(n)
    whole = taken if n == most and taken < 2.0 else 2.5
else:
    whole = taken
gc.collect()
before = ct.info()["allocator"]["bytes_in_use"]
best = math.inf
for trial in range(6):
    sent = []
    def send():
        time.sleep(random.uniform(0.1, 0.5) * whole)
        sent.append((time.perf_counter(), time.process_time()))
        os.kill(os.getpid(), signal.SIGINT)
    sender = threading.Thread(target=send)
    interrupted = False
    try:
        if {alarm}:
            # The call keeps the interpreter to itself: no thread of it could send anything.
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            pause = random.uniform(0.1, 0.5) * whole
            sent.append((time.perf_counter() + pause, time.process_time() + pause))
            signal.setitimer(signal.ITIMER_REAL, pause)
        else:
            sender.start()
        result = f()
    except KeyboardInterrupt:
        clock, processor = time.perf_counter(), time.process_time()
        interrupted = True
    try:
        if sender.ident:
            sender.join()
        time.sleep(0.05)
    except KeyboardInterrupt:
        pass
    result = None
    if interrupted:
        waited = min(clock - sent[0][0], (processor - sent[0][1]) / threads)
        best = min(best, waited)
    else:
        whole /= 2  # it was done before the signal came: with memory that has been used before it is faster
    if best < 0.1:
        break
gc.collect()
print("waited", best)
print("kept", ct.info()["allocator"]["bytes_in_use"] - before)
# The library works on, and nobody is interrupted twice.
for _ in range(100):
    assert (small @ small).exp().sum().item() == expected
x = ct.ones((300, 300), requires_grad=True)
(x @ x).sum().backward()
assert set(x.grad.numpy().ravel().tolist()) == {{600.0}}
print("works")
"""

#: kind -> set-up with the size n, the call, the first and the largest n
KINDS = {
    "matmul": ("    a = ct.ones((n, 1000)); b = ct.ones((1000, 1000))", "a @ b", 1000, 200_000),
    "matmul of one row": (
        "    a = ct.ones((1, n)); b = ct.broadcast_to(ct.ones((1, 4000)), (n, 4000))",
        "a @ b",
        5000,
        4_000_000,
    ),
    "batched matmul": ("    a = ct.ones((n, 16, 16))", "a @ a", 10_000, 800_000),
    "linear backward": (
        "    x = ct.ones((n, 1000), requires_grad=True); w = ct.ones((1000, 1000), requires_grad=True)\n    y = F.linear(x, w).sum()",
        "ct.grad(y, [x, w], retain_graph=True)",
        1000,
        40_000,
    ),
    "convolution": ("    x = ct.ones((n, 16, 64, 64)); w = ct.ones((32, 16, 5, 5))", "ct.conv2d(x, w)", 4, 1000),
    "convolution, input gradient": (
        "    x = ct.ones((n, 16, 64, 64), requires_grad=True); w = ct.ones((32, 16, 5, 5)); y = ct.conv2d(x, w).sum()",
        "ct.grad(y, [x], retain_graph=True)",
        4,
        400,
    ),
    "convolution, weight gradient": (
        "    x = ct.ones((n, 16, 64, 64)); w = ct.ones((32, 16, 5, 5), requires_grad=True); y = ct.conv2d(x, w).sum()",
        "ct.grad(y, [w], retain_graph=True)",
        4,
        400,
    ),
    "attention": (
        "    x = ct.rand((1, 1, n, 64))",
        "F.scaled_dot_product_attention(x, x, x)",
        2000,
        100_000,
    ),
    "attention backward": (
        "    x = ct.rand((1, 1, n, 64)).requires_grad_(); y = F.scaled_dot_product_attention(x, x, x).sum()",
        "ct.grad(y, [x], retain_graph=True)",
        2000,
        100_000,
    ),
    "max pooling of one plane": ("    x = ct.rand((1, 1, n, 2000))", "ct.max_pool2d(x, 15, 1)", 100, 20_000),
    "mean pooling, one huge window": (
        "    x = ct.broadcast_to(ct.ones((1, 1, 1, 10000)), (1, 1, n, 10000)).clone()",
        "ct.avg_pool2d(x, (n, 9000), 1)",
        10,
        10_000,
    ),
    "adaptive pooling": ("    x = ct.rand((1, n, 400, 400))", "ct.adaptive_avg_pool2d(x, 133)", 10, 500),
    "batch norm of one channel": (
        "    x = ct.rand((1, 1, n)); m = ct.zeros(1); v = ct.ones(1)",
        "ct.batch_norm(x, m, v, training=True)",
        10**6,
        10**8,
    ),
    "layer norm of one row": ("    x = ct.rand((1, n))", "F.layer_norm(x, (n,))", 10**6, 10**8),
    "softmax of one row": ("    x = ct.rand((1, n))", "ct.softmax(x, -1)", 10**6, 10**8),
    "log-softmax of many rows": ("    x = ct.rand((n, 100))", "ct.log_softmax(x, -1)", 10**4, 10**6),
    "cross entropy": (
        "    x = ct.rand((n, 100)); t = ct.zeros((n,), dtype='int64')",
        "ct.cross_entropy(x, t)",
        10**4,
        10**6,
    ),
    "power": ("    x = ct.rand((n,)); y = ct.rand((n,))", "x ** y", 10**6, 10**8),
    "element-wise, broadcast": (
        "    x = ct.rand((n, 1), dtype='float64'); y = ct.rand((1, 10000), dtype='float64')",
        "(x * y).sin()",
        100,
        10_000,
    ),
    "sum of one value": ("    x = ct.broadcast_to(ct.ones((1, 1)), (n, 10**5))", "x.sum()", 10**3, 10**7),
    "sums of columns": ("    x = ct.broadcast_to(ct.ones((1, 1000)), (n, 1000))", "x.sum(axis=0)", 10**4, 10**9),
    "largest of integers": (
        "    x = ct.broadcast_to(ct.ones((1, 1), dtype='int64'), (n, 10**5))",
        "x.max()",
        10**3,
        10**7,
    ),
    "argmax": ("    x = ct.broadcast_to(ct.ones((1, 1)), (n, 10**5))", "x.argmax()", 10**3, 10**7),
    "sort of one row": ("    x = ct.rand((n,))", "ct.sort(x)", 10**5, 10**8),
    "running sum of one row": ("    x = ct.rand((n,), dtype='float64')", "ct.cumulative_sum(x)", 10**6, 2 * 10**8),
    "transposed copy": ("    x = ct.ones((n, 20000)).T", "x.clone()", 1000, 20_000),
    "random numbers": ("", "ct.randn(n)", 10**6, 4 * 10**8),
    "fill": ("", "[ct.full((n,), 2.0, dtype='float64') for _ in range(10)][0]", 10**6, 2 * 10**8),
    "arange": ("", "ct.arange(n)", 10**6, 4 * 10**8),
    "gather and scatter": (
        "    x = ct.ones((1000, 64), requires_grad=True); i = ct.zeros((n,), dtype='int64'); y = ct.take(x, i, axis=0).sum()",
        "ct.grad(y, [x], retain_graph=True)",
        10**5,
        4 * 10**6,
    ),
    "einsum": (
        "    a = ct.ones((n, 300)); b = ct.ones((300, 300))",
        "ct.einsum('ij,jk,kl,lm->im', a, b, b, b)",
        10**4,
        4 * 10**5,
    ),
    "many small operations in one call": (
        "    x = ct.ones((3,), requires_grad=True); y = x\n    for _ in range(n): y = y * 1.0\n    y = y.sum()",
        "ct.grad(y, [x], retain_graph=True)",
        10**4,
        10**6,
    ),
    "a chain of views": (
        "    x = ct.ones((3, 1), requires_grad=True); y = x\n    for _ in range(n): y = y.T\n    y = y.sum()",
        "ct.grad(y, [x], retain_graph=True)",
        10**4,
        10**6,
    ),
    "gradcheck": (
        "    x = ct.rand((n,), dtype='float64'); x.requires_grad = True",
        "_core.gradcheck(lambda x: x.sin(), [x])",
        300,
        10**5,
    ),
    # Python takes a tenth of a second to drop twenty million numbers that were made before the signal: fewer.
    "reading a tensor": ("    x = ct.ones((n,))", "x.tolist()", 10**5, 10**7),
}
QUICK = ["matmul", "sort of one row", "many small operations in one call"]


def check(kind: str, threads: int) -> None:
    setup, call, first, most = KINDS[kind]
    code = MEASURE.format(
        threads=threads,
        seed=len(kind),
        setup=setup,
        call=call,
        first=first,
        most=most,
        alarm=kind == "reading a tensor",
    )
    found = dict(line.split() if " " in line else (line, "") for line in lines(code, timeout=300))
    waited = float(found["waited"])
    assert waited < 0.1, f"{kind} on {threads} threads: {waited:.3f} s until the interrupt"
    assert int(found["kept"]) <= 0, f"{kind}: {found['kept']} bytes are lost"
    assert "works" in found


@pytest.mark.parametrize("kind", QUICK)
def test_heard_within_a_tenth_of_a_second(kind: str) -> None:
    check(kind, 2)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_heard_within_a_tenth_of_a_second_everywhere(kind: str, threads: int) -> None:
    check(kind, threads)


def test_heard_when_another_thread_imported_the_library() -> None:
    """Python delivers signals to the main thread, whoever came first."""
    found = lines(
        """
        import os, signal, threading, time
        def first():
            import corten as ct
            assert (ct.ones((300, 300)) @ ct.ones((300, 300))).sum().item() == 300 ** 3
        thread = threading.Thread(target=first)
        thread.start()
        thread.join()
        import corten as ct
        a = ct.ones((3000, 3000))
        def send():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=send).start()
        start = time.process_time()
        try:
            ct.einsum("ij,jk,kl,lm,mn,no->io", *[ct.broadcast_to(ct.ones((1, 1)), (6000, 6000))] * 6)
            print("missed")
        except KeyboardInterrupt:
            print("heard")
        """
    )
    assert found == ["heard"]


def test_a_handler_may_compute() -> None:
    """A handler of another signal runs in the middle of a kernel, uses the library, and the kernel goes on to the right result."""
    found = lines(
        """
        import signal, threading
        import corten as ct
        ct.set_num_threads(3)
        small = ct.ones((200, 200))
        seen = []
        def handler(number, frame):
            seen.append((small @ small).sum().item())
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        a, b = ct.ones((2000, 1000)), ct.ones((1000, 1000))
        for _ in range(400):
            c = a @ b
            if len(seen) >= 3:
                break
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(set(seen), c.sum().item() == 2e9)
        """
    )
    assert found == ["{8000000.0} True"]


HALVES = """
import os, random, signal, threading, time
import corten as ct
random.seed(4)
def make():
    params = [ct.nn.Parameter(ct.zeros((size,))) for size in [1_000_000, 7, 400_000]]
    for p in params:
        p.grad = ct.ones(p.shape)
    groups = [{{"params": params[:1]}}, {{"params": params[1:], "lr": 0.5}}]
    return params, {optimizer}
params, optimizer = make()
for trial in range({trials}):
    pause = random.uniform(0.0, 0.03)
    def send():
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        while True:
            optimizer.step()
    except KeyboardInterrupt:
        sender.join()
# As many whole steps without any signal give the same.
others, witness = make()
while not (ct.equal(others[1], params[1])).all().item():
    witness.step()
    assert abs(others[1][0].item()) < 1e6
print(all((a == b).all().item() for a, b in zip(params, others, strict=True)))
print(repr(optimizer.state_dict()) == repr(witness.state_dict()))
"""


@pytest.mark.parametrize(
    "optimizer",
    [
        "ct.optim.Adam(groups, lr=1.0)",
        "ct.optim.SGD(groups, lr=1.0, momentum=0.9, dampening=0.5)",
    ],
)
def test_parameters_and_state_are_of_the_same_step(optimizer: str) -> None:
    """Neither a step count nor a momentum buffer is left behind, nor a second group of parameters."""
    assert lines(HALVES.format(optimizer=optimizer, trials=30)) == ["True", "True"]


STEPS = """
import os, random, signal, threading, time
import numpy as np
import corten as ct
random.seed(3)
ct.set_num_threads({threads})
params = [ct.nn.Parameter(ct.zeros((size,))) for size in [3, 2_000_000, 17, 5_000_000, 100, 1_000_000]]
optimizer = ct.optim.SGD(params, lr=1.0)
for p in params:
    p.grad = ct.ones(p.shape)
torn = 0
for trial in range({trials}):
    pause = random.uniform(0.0, 0.05)
    def send():
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        while True:
            optimizer.step()
    except KeyboardInterrupt:
        sender.join()
    values = {{v for p in params for v in np.unique(p.detach().numpy()).tolist()}}
    torn += len(values) != 1
print(torn)
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_step_is_taken_wholly_or_not_at_all(threads: int) -> None:
    assert lines(STEPS.format(threads=threads, trials=5)) == ["0"]


@pytest.mark.slow
def test_a_step_is_taken_wholly_or_not_at_all_often() -> None:
    assert lines(STEPS.format(threads=3, trials=100), timeout=120) == ["0"]
