"""LeNet on MNIST, corten beside PyTorch: accuracy over seeds and the time of an epoch.

    python benches/lenet_compare.py speed    --python torch=PATH/TO/python [--rounds 7]
    python benches/lenet_compare.py accuracy --python torch=PATH/TO/python [--seeds 5] [--epochs 12]

Each library lives in a process of its own (PyTorch usually in an environment of its own: `--python torch=...`); in
`speed` the processes take turns, epoch by epoch, so that noise and drift hit both alike. `speed` wants the full MNIST
(`CORTEN_DATA`); `accuracy` trains on the subset that ships with corten and tests on its test digits, or on all of
MNIST with `--subset full`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


class Library:
    """One worker process."""

    def __init__(self, name: str, interpreter: str, data: Path) -> None:
        command = [interpreter, str(HERE / "lenet_task.py"), name, str(data)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **command: Any) -> dict[str, float]:
        """Sends a command and waits for its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a worker died; its message stands above")
        answer: dict[str, float] = json.loads(line)
        return answer


def export(folder: Path, subset: str) -> Path:
    """Writes MNIST (`subset`: "builtin" or "full") as the .npz file that the workers read."""
    from corten.datasets import mnist

    arrays = {}
    for split in ("train", "test"):
        data = mnist(split, subset=subset)
        arrays[f"x_{split}"], arrays[f"y_{split}"] = (t.numpy() for t in data.tensors)
    path = folder / "mnist.npz"
    np.savez(path, **arrays)
    return path


def speed(libraries: dict[str, Library], rounds: int) -> None:
    """Alternates epochs; prints medians and the ratio."""
    for lib in libraries.values():
        lib.ask(do="setup", net="relu", optimizer="adam", lr=1e-3, batch=64, seed=0)
        lib.ask(do="epoch")
    seconds: dict[str, list[float]] = {name: [] for name in libraries}
    for _ in range(rounds):
        for name, lib in libraries.items():
            seconds[name].append(lib.ask(do="epoch")["seconds"])
            time.sleep(0.2)
    for name, s in seconds.items():
        print(f"{name:8} epoch: median {statistics.median(s):.3f} s, min {min(s):.3f} s, max {max(s):.3f} s")
    ratios = [t / c for t, c in zip(seconds["torch"], seconds["corten"], strict=True)]
    print(f"torch / corten: median of {rounds} paired rounds {statistics.median(ratios):.2f}")


def accuracy(libraries: dict[str, Library], seeds: int, epochs: int) -> None:
    """Same subset, net, optimizer, batches and epochs in both; prints the test accuracy of each seed."""
    for name, lib in libraries.items():
        result = []
        for seed in range(seeds):
            lib.ask(do="setup", net="relu", optimizer="adam", lr=1e-3, batch=64, seed=seed)
            for _ in range(epochs):
                lib.ask(do="epoch")
            result.append(lib.ask(do="accuracy")["accuracy"])
        print(f"{name:8} accuracy: median {statistics.median(result):.4f} of {[f'{a:.4f}' for a in result]}")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "accuracy"])
    parser.add_argument("--python", action="append", default=[], metavar="LIBRARY=PATH")
    parser.add_argument("--subset", choices=["builtin", "full"], help="default: full for speed, builtin for accuracy")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    interpreters = dict(x.split("=", 1) for x in args.python)
    with tempfile.TemporaryDirectory() as folder:
        data = export(Path(folder), args.subset or ("full" if args.what == "speed" else "builtin"))
        libraries = {name: Library(name, interpreters.get(name, sys.executable), data) for name in ("corten", "torch")}
        if args.what == "speed":
            speed(libraries, args.rounds)
        else:
            accuracy(libraries, args.seeds, args.epochs)


if __name__ == "__main__":
    main()
