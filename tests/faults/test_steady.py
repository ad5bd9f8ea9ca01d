"""A training run that goes on for ever keeps its size, and a steady step takes nothing from the system.

Three counters tell: blocks for tensors and workspaces that the library's cache had to take from the system; blocks of 4 KiB or more
that the Rust code took from the heap (`heap_blocks`); copies of parameters. Small heap blocks (the nodes of a graph, Python's own
objects) come and go with every step and are not counted; that they do not pile up shows in the size of the process.
"""

from __future__ import annotations

import sys

import pytest
from child import lines

MODELS = """
import gc, resource
import numpy as np
import corten as ct
import corten.nn.functional as F
from corten import _core, models, nn

ct.set_num_threads({threads})
rng = np.random.default_rng(0)
MODELS = {{
    "lenet": (models.LeNet5, (1, 28, 28)),
    "mlp": (lambda: nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10)), (196,)),
}}
make, shape = MODELS[{model!r}]
model = make()
optimizer = ct.optim.Adam(model.parameters(), lr=1e-3)
data = rng.random((64, *shape)).astype(np.float32)
labels = np.arange(64) % 10

def step(n):
    x, t = ct.tensor(data[:n]), ct.tensor(labels[:n])
    loss = F.cross_entropy(model(x), t)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()

def counters():
    a = ct.info()["allocator"]
    return a["taken_from_system"], a["heap_blocks"], _core.parameter_copies()
"""

GROWTH = (
    MODELS
    + """
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

sizes = rng.integers(1, {batch} + 1, {steps})
for n in [{batch}] * 20 + sizes[:{warm}].tolist():
    step(n)
before, used = resident(), ct.info()["allocator"]["bytes_in_use"]
for n in sizes.tolist():
    step(n)
print(resident() - before, ct.info()["allocator"]["bytes_in_use"] - used)
"""
)


def growth(model: str, threads: int, steps: int, batch: int) -> None:
    code = GROWTH.format(model=model, threads=threads, steps=steps, batch=batch, warm=min(steps, 1000))
    (line,) = lines(code, timeout=1200)
    resident, used = map(int, line.split())
    assert used == 0, f"{used} bytes of tensors are lost"
    assert resident <= 1 << 20, f"grew by {resident} bytes in {steps} steps"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_short_run_keeps_its_size() -> None:
    growth("mlp", 2, 1000, 32)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("model", ["lenet", "mlp"])
def test_ten_thousand_steps_of_random_sizes_keep_their_size(model: str, threads: int) -> None:
    growth(model, threads, 10_000, 16)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("model", ["lenet", "mlp"])
def test_a_steady_step_takes_nothing_from_the_system(model: str, threads: int) -> None:
    """Which of several threads holds which cached block settles in the first steps: of five runs of 50 steps, one takes nothing;
    a step that needed fresh memory would take some in each."""
    code = MODELS.format(model=model, threads=threads)
    code += """
for _ in range(50):
    step(64)
for run in range(5):
    before = counters()
    for _ in range(50):
        step(64)
    print(*(b - a for a, b in zip(before, counters())))
"""
    runs = [tuple(map(int, line.split())) for line in lines(code, timeout=300)]
    assert min(r[0] for r in runs) == 0, f"blocks taken from the system: {runs}"
    assert min(r[1] for r in runs) == 0, f"large blocks of the heap: {runs}"
    assert {r[2] for r in runs} == {0}, f"copies of parameters: {runs}"


def test_the_counters_count() -> None:
    """What they do not see would not be missed."""
    (line,) = lines(
        MODELS.format(model="mlp", threads=1)
        + """
a = counters()
kept = [ct.ones((n * 1000,)) for n in range(1, 40)]   # fresh blocks
b = counters()
ct.nonzero(ct.ones((100_000,)))                        # a list of indices
c = counters()
p = nn.Parameter(ct.zeros((10,)))
view = p.detach()
p.grad = ct.ones((10,))
ct.optim.SGD([p], lr=1.0).step()                       # the view keeps the old values
d = counters()
print(b[0] - a[0] >= 30, c[1] - b[1] >= 1, d[2] - c[2] == 1)
"""
    )
    assert line == "True True True"
