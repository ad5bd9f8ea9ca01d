"""When the system refuses memory: a `MemoryError` that names operation, shape, dtype and bytes; the process lives and works on.

The children run under a limit of their address space, a little above what they use when the test begins.
"""

from __future__ import annotations

import re
import sys

import pytest
from child import lines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="an address-space limit that holds")

BEGIN = """
import gc, re, resource, sys
import numpy as np
import corten as ct
from corten import _core, nn
import corten.nn.functional as F

ct.set_num_threads({threads})
small = ct.ones((64, 64))
assert (small @ small).sum().item() == 64 ** 3  # threads and code are there

def limit(mib):
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (mib << 20), resource.RLIM_INFINITY))

def works():
    x = ct.ones((64, 64), requires_grad=True)
    (x @ small).sum().backward()
    assert set(x.grad.numpy().ravel().tolist()) == {{64.0}}
"""

#: call -> what the message says
NAMED = {
    "ct.zeros((20000, 20000))": r"\[full\] no memory for a float32 tensor of shape \(20000, 20000\): 1\.5 GiB \(1600000000 bytes\)",
    "ct.ones((10**9,), dtype='int8')": r"\[full\] no memory for a int8 tensor of shape \(1000000000,\): 953\.7 MiB \(1000000000 bytes\)",
    "ct.ones((30000, 1)) @ ct.ones((1, 30000))": r"\[matmul\] .*float32 tensor of shape \(30000, 30000\): 3\.4 GiB",
    "ct.ones((30000, 1)) + ct.ones((1, 30000))": r"\[add\] .*float32 tensor of shape \(30000, 30000\): 3\.4 GiB",
    "ct.exp(ct.broadcast_to(ct.ones((1,)), (10**9,)))": r"\[exp\] .*float32 tensor of shape \(1000000000,\): 3\.7 GiB",
    "ct.broadcast_to(ct.ones((1,)), (10**9,)).exp()": r"\[exp\] .*float32 tensor of shape \(1000000000,\): 3\.7 GiB",
    "ct.astype(ct.broadcast_to(ct.ones((1,)), (10**9,)), 'float64')": r"\[astype\] .*float64 tensor of shape \(1000000000,\): 7\.5 GiB",
    "ct.rand((10**9,))": r"\[rand\] .*float32 tensor of shape \(1000000000,\)",
    "ct.randint(0, 5, (10**9,))": r"\[randint\] .*int64 tensor of shape \(1000000000,\): 7\.5 GiB",
    "ct.arange(10**10)": r"\[arange\] .*int64 tensor of shape \(10000000000,\): 74\.5 GiB",
    "ct.linspace(0, 1, 10**10)": r"\[linspace\] .*float32 tensor of shape \(10000000000,\)",
    "ct.eye(10**5)": r"\[eye\] .*float32 tensor of shape \(100000, 100000\)",
    "ct.conv2d(ct.ones((1, 1, 9, 9)), ct.ones((1, 1, 1, 1)), padding=20000)": r"\[conv2d\] .*float32 tensor of shape \(1, 1, 40009, 40009\): 6\.0 GiB",
    "ct.one_hot(ct.zeros((10**6,), dtype='int64'), 1000)": r"\[one_hot\] .*bool tensor of shape \(1000000, 1000\)",
    "ct.tile(small, (10**3, 10**3))": r"\[tile\] .*float32 tensor of shape \(1000, 64, 1000, 64\): 15\.3 GiB",
    "ct.outer(ct.ones(10**5), ct.ones(10**5))": r"\[outer\] .*float32 tensor of shape \(100000, 100000\)",
    "ct.broadcast_to(ct.ones((1,)), (10**9,)).clone()": r"\[clone\] .*float32 tensor of shape \(1000000000,\)",
    "ct.broadcast_to(ct.ones((1,)), (10**9,)).tolist()": r"\[tolist\] .*float32 tensor of shape \(1000000000,\)",
    "ct.tensor(np.broadcast_to(np.float32(1), (10**9,)))": r"\[tensor\] .*float32 tensor of shape \(1000000000,\): 3\.7 GiB",
    "ct.full((2**31, 2**31), 1.0)": r"\[full\] .*float32 tensor of shape \(2147483648, 2147483648\): (16777216\.0 TiB|more bytes)",
}


def test_messages_name_operation_shape_dtype_and_bytes() -> None:
    code = BEGIN.format(threads=2) + "limit(400)\n"
    for call in NAMED:
        code += f"""
try:
    {call}
    print("no error")
except MemoryError as e:
    print(e)
works()
"""
    found = lines(code)
    assert len(found) == len(NAMED)
    wrong = [
        (call, text) for (call, pattern), text in zip(NAMED.items(), found, strict=True) if not re.search(pattern, text)
    ]
    assert wrong == []


#: Calls whose results are small and whose workspaces are huge.
WORKSPACES = [
    "ct.conv2d(ct.ones((1, 1, 4, 4)), ct.ones((1, 1, 2, 2)), padding=500_000_002, dilation=1_000_000_000)",
    "ct.conv2d(ct.ones((1, 1, 4, 4)), ct.ones((1, 1, 2, 2)), padding=(500_000_002, 1), dilation=(1_000_000_000, 1))",
    "ct.conv2d(ct.ones((1, 4, 4, 4)), ct.ones((1, 4, 3, 3)), padding=2**40 + 1, dilation=2**40)",
    "ct.grad(ct.conv2d(x4, ct.ones((1, 1, 2, 2)), padding=500_000_002, dilation=1_000_000_000).sum(), [x4])",
    "ct.max_pool2d(ct.ones((1, 1, 1, 50_000_000)), (1, 25_000_000), 1)",
]


@pytest.mark.parametrize("threads", [1, 3])
def test_workspaces_that_do_not_fit(threads: int) -> None:
    code = BEGIN.format(threads=threads) + "x4 = ct.ones((1, 1, 4, 4), requires_grad=True)\nlimit(300)\n"
    for call in WORKSPACES:
        code += f"""
try:
    y = {call}
    print("computed")
except MemoryError as e:
    assert re.search(r"^\\[\\w+\\] no memory for .*: [\\d.]+ (KiB|MiB|GiB|TiB) \\(\\d+ bytes\\)$|more bytes than can be addressed$", str(e)), e
    print("MemoryError")
except ValueError as e:  # sizes that no tensor can have
    print("ValueError")
works()
"""
    found = lines(code)
    assert len(found) == len(WORKSPACES)
    assert found.count("MemoryError") >= 3, found


#: All that fits once fits again, however often it failed in between; and the process starves slowly.
STARVE = """
limit({mib})
rng = np.random.default_rng({seed})
x = {{n: ct.tensor(rng.random((n,)).astype(np.float32)) for n in (100, 5000, 300_000)}}
big = ct.ones((300_000,), requires_grad=True)
wide = ct.ones((500, 600), requires_grad=True)
images = ct.ones((8, 4, 60, 60), requires_grad=True)
index = ct.tensor(rng.integers(0, 500, 300_000))
calls = [
    lambda: ct.sort(big.detach()), lambda: ct.argsort(x[300_000]), lambda: ct.unique_all(x[300_000]), lambda: ct.nonzero(x[300_000] > 0.5),
    lambda: ct.cumulative_sum(big), lambda: ct.take(wide, index, axis=0), lambda: ct.pad(wide, 300, mode="reflect"),
    lambda: ct.repeat(wide, 30), lambda: ct.tile(wide, (5, 5)), lambda: ct.roll(wide, 7), lambda: ct.tril(wide),
    lambda: ct.one_hot(index, 500), lambda: (wide @ wide.T).exp().sum().backward(), lambda: ct.softmax(wide, 0).sum().backward(),
    lambda: F.layer_norm(wide, (600,), ct.ones(600, requires_grad=True)).sum().backward(),
    lambda: ct.conv2d(images, ct.ones((32, 4, 5, 5), requires_grad=True)).sum().backward(),
    lambda: ct.max_pool2d(images, 3, 1).sum().backward(), lambda: ct.avg_pool2d(images, 3, 1).sum().backward(),
    lambda: ct.adaptive_avg_pool2d(images, 7).sum().backward(), lambda: ct.einsum("ij,kj,kl->il", wide, wide, wide),
    lambda: wide.detach().numpy().copy(), lambda: big.tolist(), lambda: ct.tensor(list(range(100_000))), lambda: ct.tensor(range(150_000)), lambda: ct.tensor([wide.detach(), wide.detach()]),
    lambda: ct.masked_select(big, big > 0), lambda: ct.scatter_add(x[5000], 0, index % 5000, x[300_000]), lambda: ct.unfold(big, 0, 100, 1).sum(),
    lambda: ct.tensordot(wide, wide, axes=([1], [1])), lambda: ct.diagonal(wide), lambda: ct.diff(big), lambda: ct.norm(wide),
    lambda: ct.logsumexp(wide, axis=0), lambda: ct.var(wide, axis=0), lambda: ct.where(wide > 0, wide, 0.0), lambda: repr(big),
    lambda: ct.concat([wide] * 20), lambda: ct.stack([wide] * 20), lambda: ct.grad((wide * wide).sum(), [wide], create_graph=True)[0].sum().backward(),
    lambda: ct.optim.Adam([big], lr=0.1).step(), lambda: ct.topk(big, 1000), lambda: ct.meshgrid(x[5000], x[5000]), lambda: _core.im2col(images, 5),
    lambda: nn.Linear(600, 3000)(wide).sum().backward(), lambda: nn.BatchNorm2d(4)(images).sum().backward(),
    lambda: F.cross_entropy(wide, index[:500]).backward(), lambda: nn.GroupNorm(2, 4)(images).sum().backward(),
]
hoard, refused, fine = [], set(), set()
for round in range({rounds}):
    try:
        hoard.append(ct.ones((int(rng.integers(1, 3_000_000)),)))
    except MemoryError:
        del hoard[: len(hoard) // 2]
    order = rng.permutation(len(calls))
    for i in order:
        try:
            calls[i]()
            fine.add(int(i))
        except MemoryError:
            refused.add(int(i))
        big.grad = wide.grad = images.grad = None
hoard.clear()
gc.collect()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
works()
for call in calls:
    call()
print(len(refused) >= 8, len(fine) >= 20)
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_a_starving_process_lives(threads: int) -> None:
    """Every call computes or raises MemoryError while memory comes and goes, and all compute when there is enough."""
    code = BEGIN.format(threads=threads) + STARVE.format(mib=40, seed=1, rounds=12)
    assert lines(code, timeout=120, CORTEN_SERIAL_BELOW="0") == ["True True"]


@pytest.mark.slow
@pytest.mark.parametrize("mib", [25, 45, 90, 150])
@pytest.mark.parametrize("seed", [2, 3])
def test_a_starving_process_lives_long(mib: int, seed: int) -> None:
    code = BEGIN.format(threads=2) + STARVE.format(mib=mib, seed=seed, rounds=60).replace(">= 20", ">= 5").replace(
        ">= 8", ">= 1"
    )
    assert lines(code, timeout=600) == ["True True"]


def test_a_lying_length_is_no_allocation() -> None:
    found = lines(
        BEGIN.format(threads=1)
        + """
limit(200)
class Long:
    def __init__(self, n):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        if i < 2:
            return small
        raise IndexError
for n in (2**40, 2**62):
    for f in (ct.concat, ct.stack):
        try:
            print(f(Long(n)).shape)
        except TypeError:
            print("TypeError")
works()
"""
    )
    assert len(found) == 4
