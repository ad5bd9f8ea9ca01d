"""Do the tests notice a wrong gradient? Plants mutants in the gradient rules and counts how many the tests kill.

    make mutation            (or: .venv/bin/python tools/mutation/run.py [--only REGEX] [--list])

The sources are copied to out/mutation, mutants are planted there (`plant.py`), the copy is built once, and the
operations' tests run for each mutant on the samples that reach it; then, for those still alive, the other tests of
gradients. Fails when fewer than 95 % are killed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "out" / "mutation"
sys.path.insert(0, str(Path(__file__).parent))
from plant import Mutant, plant  # noqa: E402  (a neighbour, found through the line above)

SHARE = 0.95
#: The tests of test_ops.py that rows drive have run already.
REST = "not (test_forward or test_gradcheck or test_second_order or test_differentiable or test_float32 or test_layout \
or test_thread_count or test_bad_input or test_integers)"


def build() -> list[Mutant]:
    """A copy of the project with all mutants, and its extension module."""
    if COPY.exists():
        shutil.rmtree(COPY)
    COPY.mkdir(parents=True)
    for name in ("rust", "benches", "python"):
        shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("target", "__pycache__", "_core*.so"))
    for name in ("Cargo.toml", "Cargo.lock", "README.md"):
        shutil.copy(ROOT / name, COPY / name)
    mutants = plant(COPY)
    target = ROOT / "target" / "mutation"
    command = ["cargo", "build", "--quiet", "--profile", "fast", "-p", "corten-python"]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable, "RUSTFLAGS": "-A warnings"}
    subprocess.run(command, cwd=COPY, env=env, check=True)
    shutil.copy(target / "fast" / "lib_core.so", COPY / "python" / "corten" / "_core.abi3.so")
    return mutants


class Suite:
    """The gradient tests of every operation, on the mutated build."""

    def __init__(self) -> None:
        sys.path[:0] = [str(COPY / "python"), str(ROOT / "tests")]
        os.chdir(ROOT)
        self.tests = importlib.import_module("test_ops")
        core = importlib.import_module("corten._core")
        module = str(core.__file__)
        if COPY not in Path(module).parents:
            raise SystemExit(f"tests would run against {module}")
        self.lib = ctypes.CDLL(module)
        self.lib.corten_mutant_set.argtypes = [ctypes.c_size_t]
        self.lib.corten_mutant_met.argtypes = [ctypes.c_size_t]
        self.lib.corten_mutant_met.restype = ctypes.c_bool

    def samples(self) -> list[tuple[Any, Any]]:
        t = self.tests
        return [(r, s) for r in t.ROWS.values() for s in r.cases() if t.has_gradient(r, s)]

    def check(self, row: Any, sample: Any) -> None:
        t = self.tests
        if not sample.big:
            t.test_gradcheck(row, sample, "cpu")
            t.test_differentiable_gradient_is_the_fused_one(row, sample, "cpu")
            t.test_second_order(row, sample)
        t.test_float32_gradient_against_float64_reference(row, sample)

    def rest_fails(self) -> bool:
        """Whether one of the tests beside the rows notices the mutant that is alive."""
        paths = ["tests/test_autograd.py", "tests/test_tensor.py", "tests/nn", "tests/test_ops.py"]
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--no-header", "--tb=no", "-k", REST]
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink):
            return pytest.main([*paths, *options]) == pytest.ExitCode.TESTS_FAILED

    def alive(self, mutant: int | None) -> None:
        self.lib.corten_mutant_set(2**63 if mutant is None else mutant)

    def met(self, count: int) -> list[int]:
        return [n for n in range(count) if self.lib.corten_mutant_met(n)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression on the mutants' files")
    parser.add_argument("--list", action="store_true", help="plant, list, and stop before the tests")
    options = parser.parse_args()
    start = time.monotonic()
    mutants = build()
    print(f"{len(mutants)} mutants, built in {time.monotonic() - start:.0f} s", flush=True)
    if options.list:
        for m in mutants:
            print(f"{m.number:4} {m.file}:{m.line}  {m.kind}: {m.text}")
        return 0
    suite = Suite()
    reach: dict[int, list[tuple[Any, Any]]] = {m.number: [] for m in mutants}
    suite.alive(None)
    for row, sample in suite.samples():
        suite.met(len(mutants))
        suite.check(row, sample)  # without a mutant everything passes
        for n in suite.met(len(mutants)):
            reach[n].append((row, sample))
    print(f"samples that reach each mutant found after {time.monotonic() - start:.0f} s", flush=True)
    chosen = [m for m in mutants if re.search(options.only, m.file)]
    killed, left = 0, []
    for m in chosen:
        suite.alive(m.number)
        by = None
        # The most specific samples first: an operation's own rather than one that uses it.
        for row, sample in sorted(reach[m.number], key=lambda rs: rs[0].name not in m.text):
            try:
                suite.check(row, sample)
            except BaseException as error:  # whatever a wrong gradient leads to
                if isinstance(error, KeyboardInterrupt):
                    raise
                by = f"{row.name} ({type(error).__name__})"
                break
        suite.alive(None)
        if by is None:
            left.append(m)
        else:
            killed += 1
    for m in list(left):
        suite.alive(m.number)
        if suite.rest_fails():
            left.remove(m)
            killed += 1
        suite.alive(None)
    for m in left:
        print(f"alive ({len(reach[m.number])} samples reach it): {m.file}:{m.line}  {m.kind}: {m.text}")
    share = killed / max(len(chosen), 1)
    print(f"{killed} of {len(chosen)} killed ({share:.1%}) in {time.monotonic() - start:.0f} s")
    return 0 if share >= SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
