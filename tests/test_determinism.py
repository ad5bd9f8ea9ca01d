"""The same bits after training, for any number of threads and on every run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# A small LeNet with batch norm and dropout, 200 steps. Odd sizes on purpose: no tile divides them.
SCRIPT = """
import hashlib, sys
import numpy as np
import corten as ct
from corten import _core, nn, optim
from corten.nn import functional as F

threads = int(sys.argv[1])
ct.set_num_threads(threads)
assert ct.get_num_threads() == threads, "set_num_threads must not clamp"
ct.manual_seed(3)

class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 11, 3)
        self.drop = nn.Dropout(0.3)
        self.fc1 = nn.Linear(11 * 2 * 2, 37)
        self.fc2 = nn.Linear(37, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.drop(F.relu(self.fc1(x.flatten(1))))
        return self.fc2(x)

rng = np.random.default_rng(0)
images = rng.normal(size=(130, 1, 13, 13)).astype(np.float32)
labels = rng.integers(0, 10, size=130)
model = LeNet()
optimizer = optim.Adam(model.parameters(), lr=1e-2) if sys.argv[2] == "adam" else optim.SGD(
    model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
_core.reset_threads_worked()
for step in range(200):
    pick = rng.integers(0, 130, size=33)
    loss = F.cross_entropy(model(ct.tensor(images[pick])), ct.tensor(labels[pick]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
worked = _core.threads_worked()
assert worked == threads, f"{worked} of {threads} threads worked"
digest = hashlib.sha256()
for name, value in sorted(model.state_dict().items()):
    digest.update(name.encode() + value.numpy().tobytes())
assert np.isfinite(loss.item())
print(digest.hexdigest())
"""


def digest(threads: int, optimizer: str) -> str:
    # Regions are forced however small the work: every kernel's partition is exercised.
    environment = {**os.environ, "CORTEN_SERIAL_BELOW": "0"}
    environment.pop("CORTEN_NUM_THREADS", None)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(threads), optimizer],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_weights_after_200_steps_are_the_same_for_any_thread_count(optimizer: str) -> None:
    first = digest(1, optimizer)
    assert len(first) == 64
    for threads in (1, 2, 3, 4, 8) if optimizer == "sgd" else (3,):
        assert digest(threads, optimizer) == first, f"{threads} threads give other weights"
