"""corten beside PyTorch and JAX on the workloads of `workloads.json`: who is faster, once all agree on the numbers.

    python benches/compare.py --python torch=PATH --python jax=PATH            the table
    python benches/compare.py --only 'conv|pool' --peers torch --rounds 5      some of it
    python benches/compare.py --record --readme                                a record of it, shown in README.md

Each library lives in a process of its own, in the environment that `--python LIBRARY=INTERPRETER` names (else in this
one). For each case all get the same arrays; outputs and gradients are compared (`peers/agreement.py`), and a case on
which they disagree is reported instead of timed. Then they take turns, round by round, so that noise and drift hit all
alike and no two pools of threads run at once. Figures are medians of the rounds; the ratio is the time of the fastest
peer to corten's.

Exit status: 0; 1 when libraries disagreed or a case failed in one; 2 on a mistake in the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from peers import Arrays, Task, agreement, record
from peers.inputs import inputs

HERE = Path(__file__).resolve().parent
RECORDS = HERE / "record"
README = HERE.parent / "README.md"
PACKAGES = {"corten": "corten", "torch": "torch", "jax": "jax optax"}
"""What pip installs for each library."""
PAUSE = 0.05
"""Seconds between two measurements: threads that wait in a loop for more work go to sleep."""


class Workload(NamedTuple):
    """One case of `workloads.json`."""

    name: str
    group: str
    kind: str
    sizes: dict[str, Any]


KERNELS = "kernels alone"
"""The group of `workloads.json` that only `cargo bench` times."""


def workloads(path: Path = HERE / "workloads.json") -> list[Workload]:
    """All cases but those of `KERNELS`, in order."""
    groups = json.loads(path.read_text(encoding="utf-8"))
    return [
        Workload(case["name"], group, case["kind"], case["sizes"])
        for group, cases in groups.items()
        if group != KERNELS
        for case in cases
    ]


class Library(Protocol):
    """A library that can be asked for a case: here or in another process."""

    def prepare(self, workload: Workload, given: Path, results: Path) -> str:
        """Makes the case ready from the arrays in `given` and writes what it computes to `results`.

        Returns:
            `ready`, `missing` (the library has no such thing), or what went wrong.
        """
        ...

    def seconds(self, budget: float) -> float:
        """Mean time of a run, over as many as fit into `budget` seconds."""
        ...


class Adapter:
    """The library behind `peers/with_NAME.py`, in this process."""

    def __init__(self, name: str) -> None:
        self.module = importlib.import_module(f"peers.with_{name}")
        self.versions: dict[str, str] = self.module.versions()
        self.task: Task | None = None

    def prepare(self, workload: Workload, given: Path, results: Path) -> str:
        self.task = None  # what the case before held is free before this one takes its own
        make = getattr(self.module, workload.kind, None)
        if make is None:
            return "missing"
        with np.load(given) as file:
            arrays: Arrays = dict(file)
        try:
            self.task = task = make(arrays, **workload.sizes)
            np.savez(results, **task.results())
            for _ in range(3):
                task.run()
        except Exception as error:
            self.task = None
            return f"{type(error).__name__}: {error}"
        return "ready"

    def seconds(self, budget: float) -> float:
        assert self.task
        run, clock = self.task.run, time.perf_counter
        start = clock()
        run()
        count = max(1, int(budget / max(clock() - start, 1e-7)))
        start = clock()
        for _ in range(count):
            run()
        return (clock() - start) / count


def serve(name: str, threads: int | None) -> None:
    """A worker process: answers each JSON line of standard input with one of its own."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not land between our answers
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

    def answer(**values: object) -> None:
        print(json.dumps(values), file=out, flush=True)

    try:
        adapter = Adapter(name)
    except ImportError as error:
        answer(error=str(error))
        return
    answer(versions=adapter.versions)
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "prepare":
            workload = Workload(*command["workload"])
            answer(state=adapter.prepare(workload, Path(command["given"]), Path(command["results"])))
        else:
            answer(seconds=adapter.seconds(command["budget"]))


class Worker:
    """A library in a process of its own."""

    def __init__(self, name: str, interpreter: str, threads: int | None) -> None:
        self.name = name
        command = [interpreter, str(HERE / "compare.py"), "--worker", name]
        env = dict(os.environ)
        if threads:
            command += ["--threads", str(threads)]
            env |= {"OMP_NUM_THREADS": str(threads), "CORTEN_NUM_THREADS": str(threads)}
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        except OSError as error:
            usage(f"cannot start {interpreter} for {name}: {error.strerror} (--python {name}=PATH/TO/python)")
        hello = self._answer()
        if "error" in hello:
            self.close()
            usage(
                f"{interpreter} cannot import what {name} needs: {hello['error']} "
                f"(pip install {PACKAGES[name]} there, name another with --python {name}=PATH, or choose with --peers)"
            )
        self.versions: dict[str, str] = hello["versions"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"[compare] the process of {self.name} died; its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, **command: object) -> dict[str, Any]:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # `_answer` says so
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        return self._answer()

    def prepare(self, workload: Workload, given: Path, results: Path) -> str:
        state: str = self._ask(do="prepare", workload=workload, given=str(given), results=str(results))["state"]
        return state

    def seconds(self, budget: float) -> float:
        return float(self._ask(do="time", budget=budget)["seconds"])

    def close(self) -> None:
        """Lets the process end."""
        assert self.process.stdin
        assert self.process.stdout
        with contextlib.suppress(BrokenPipeError):  # it died, and somebody else says so
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure(
    workload: Workload, libraries: Mapping[str, Library], rounds: int, budget: float
) -> tuple[dict[str, list[float]], list[str]]:
    """One case: agree, then take turns.

    Returns:
        the seconds of each round by library (empty if they disagree), and what went wrong.
    """
    ready, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "inputs.npz")
        arrays: dict[str, Any] = inputs(workload.name, workload.kind, workload.sizes)
        np.savez(given, **arrays)
        for name, library in libraries.items():
            state = library.prepare(workload, given, Path(folder, f"{name}.npz"))
            if state == "ready":
                ready.append(name)
            elif state != "missing":
                wrong.append(f"{name}: {state}")
        differing = []
        for name in ready[1:]:
            with np.load(Path(folder, f"{ready[0]}.npz")) as ours, np.load(Path(folder, f"{name}.npz")) as theirs:
                what = agreement.disagreement(workload.kind, workload.sizes, dict(ours), dict(theirs))
            if what:
                differing.append(f"{ready[0]} and {name} disagree: {what}")
    if differing:
        return {}, wrong + differing
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name in ready:
            times[name].append(libraries[name].seconds(budget))
            time.sleep(PAUSE)
    return times, wrong


def usage(message: str) -> Any:
    """Ends with status 2."""
    print(f"[compare] {message}", file=sys.stderr)
    raise SystemExit(2)


def line(rows: list[record.Row], names: list[str], case: str) -> str:
    """A line of the printed table."""
    by = {row.library: row for row in rows}
    cells = "".join(f"{by[n].median_ms:12.4f} ({by[n].min_ms:8.4f})" if n in by else f"{'-':>23}" for n in names)
    return f"{case:32}{cells}" + (f"{by['corten'].ratio:8.2f}" if "corten" in by else "")


def run(args: argparse.Namespace) -> int:
    """Times the chosen cases; returns the exit status."""
    everything = workloads()
    chosen = [w for w in everything if re.search(args.only, w.name)]
    if not chosen:
        usage(f"no case has {args.only.pattern!r} in its name; there are {', '.join(w.name for w in everything)}")
    interpreters = dict(args.python)
    workers: dict[str, Worker] = {}
    rows: list[record.Row] = []
    failures = 0
    try:
        for name in ["corten", *args.peers]:
            workers[name] = Worker(name, interpreters.get(name, sys.executable), args.threads)
        names = list(workers)
        versions = {name: worker.versions["version"] for name, worker in workers.items()}
        facts = record.facts(workers["corten"].versions["isa"], args.threads)
        print(", ".join(f"{name} {value}" for name, value in (facts | versions).items()))
        print(f"{'median ms (minimum)':32}" + "".join(f"{n:>23}" for n in names) + "   ratio", flush=True)
        for workload in chosen:
            times, wrong = measure(workload, workers, args.rounds, args.secs)
            found = record.rows_of(workload.name, versions, times)
            rows += found
            failures += len(wrong)
            print(line(found, names, workload.name), *(f"    {text}" for text in wrong), sep="\n", flush=True)
    finally:
        for worker in workers.values():
            worker.close()
    print(f"geometric mean of the ratios: {record.mean_ratio(rows):.2f}")
    if args.record:
        path = RECORDS / record.folder_name(facts["cpu"]) / f"{facts['date']}.csv"
        result = record.Record(facts, rows)
        if path.exists():
            result = record.merged(record.read(path), result, [w.name for w in everything])
        record.write(path, result)
        print(f"wrote {path}")
    return 1 if failures else 0


def show(path: Path, readme: Path = README) -> None:
    """Puts the table of a record into README.md."""
    groups: dict[str, list[str]] = {}
    for workload in workloads():
        groups.setdefault(workload.group, []).append(workload.name)
    table = record.markdown(record.read(path), groups)
    readme.write_text(record.replace_table(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(f"{readme} shows {path}")


def _peer(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if name not in PACKAGES or not path:
        raise argparse.ArgumentTypeError(
            f"expected LIBRARY=INTERPRETER with one of {', '.join(PACKAGES)}, not {text!r}"
        )
    return name, path


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = set(names) - (PACKAGES.keys() - {"corten"})
    if unknown:
        raise argparse.ArgumentTypeError(f"no adapter for {', '.join(sorted(unknown))} (there are torch and jax)")
    return names


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0, not {text!r}")
    return value


def main(argv: list[str] | None = None) -> int:
    """Parses the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", type=_pattern, default=re.compile(""), metavar="REGEX", help="cases whose names match")
    add("--peers", type=_peers, default=["torch", "jax"], help="libraries beside corten (default: torch,jax)")
    add("--python", type=_peer, action="append", default=[], metavar="LIBRARY=INTERPRETER", help="its environment")
    add("--rounds", type=_positive, default=7, help="turns of each library (default: 7)")
    add("--secs", type=_seconds, default=0.2, help="seconds of a turn (default: 0.2)")
    add("--threads", type=_positive, help="cores that each library may use (default: all of this process)")
    add("--record", action="store_true", help="write benches/record/<cpu>/<date>.csv, or replace cases in it")
    show_help = "show a record (else the newest) in README.md and measure nothing; with --record: measure first"
    add("--readme", nargs="?", const="", metavar="CSV", help=show_help)
    add("--worker", choices=sorted(PACKAGES), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        serve(args.worker, args.threads)
        return 0
    status = run(args) if args.record or args.readme is None else 0
    if args.readme is not None:
        show(Path(args.readme) if args.readme else record.newest(RECORDS))
    return status


if __name__ == "__main__":
    sys.exit(main())
