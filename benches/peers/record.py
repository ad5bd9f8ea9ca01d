"""Measurements on disk: `record/<cpu>/<date>.csv`, and the table that README.md shows."""

from __future__ import annotations

import csv
import datetime
import math
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
DASH = "\N{EN DASH}"
NAMES = {"corten": "corten", "torch": "PyTorch", "jax": "JAX"}


@dataclass(frozen=True)
class Row:
    """One case in one library."""

    case: str
    library: str
    version: str
    median_ms: float
    min_ms: float
    ratio: float
    """Median of the fastest other library / median of this one (NaN without another): above 1, this one is fastest."""


@dataclass
class Record:
    """A run: where, with what, and its rows."""

    facts: dict[str, str]
    rows: list[Row]


def cpu_model() -> str:
    """The name of the processor."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return " ".join(found.group(1).split()) if found else platform.processor() or platform.machine()


def facts(isa: str, threads: int | None) -> dict[str, str]:
    """What the figures depend on besides the libraries."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_model(),
        "cores": str(threads or len(os.sched_getaffinity(0))),
        "instruction set": isa,
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def folder_name(cpu: str) -> str:
    """The name of a processor as that of a folder: `AMD EPYC(tm) 9B14` is `amd-epyc-9b14`."""
    plain = re.sub(r"\((?:r|tm|c)\)", "", cpu.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"


def rows_of(case: str, versions: dict[str, str], times: dict[str, list[float]]) -> list[Row]:
    """The rows of a case from the seconds of its rounds, by library."""
    middle = {library: float(np.median(t)) * 1e3 for library, t in times.items()}
    rows = []
    for library, median in middle.items():
        others = [m for name, m in middle.items() if name != library]
        ratio = min(others) / median if others else math.nan
        rows.append(Row(case, library, versions[library], median, min(times[library]) * 1e3, ratio))
    return rows


def geometric_mean(ratios: Iterable[float]) -> float:
    """Of the ratios that are numbers; NaN without any."""
    logs = [math.log(r) for r in ratios if not math.isnan(r)]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def mean_ratio(rows: Iterable[Row]) -> float:
    """corten's geometric mean."""
    return geometric_mean(row.ratio for row in rows if row.library == "corten")


def write(path: Path, record: Record) -> None:
    """A CSV file; facts stand before the table in lines that start with `#`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        for name, value in record.facts.items():
            file.write(f"# {name}: {value}\n")
        out = csv.writer(file, lineterminator="\n")
        out.writerow(f.name for f in fields(Row))
        for row in record.rows:
            out.writerow(f"{v:.5g}" if isinstance(v, float) else v for v in asdict(row).values())


def read(path: Path) -> Record:
    """What `write` wrote."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise SystemExit(f"[compare] there is no record {path} (benches/compare.py --record writes one)") from None
    head = dict(line[2:].split(": ", 1) for line in lines if line.startswith("# "))
    table = csv.DictReader(line for line in lines if not line.startswith("# "))
    wanted = [f.name for f in fields(Row)]
    if table.fieldnames != wanted:
        raise SystemExit(f"[compare] {path} is no record: its columns are {table.fieldnames}, not {wanted}")
    rows = [
        Row(r["case"], r["library"], r["version"], float(r["median_ms"]), float(r["min_ms"]), float(r["ratio"]))
        for r in table
    ]
    return Record(head, rows)


def merged(old: Record, new: Record, order: list[str]) -> Record:
    """The cases of `new` in the place of those of `old`, in the given order.

    Raises:
        SystemExit: the two come from different machines or versions.
    """
    versions = [{row.library: row.version for row in record.rows} for record in (old, new)]
    changed = [name for name in versions[0].keys() & versions[1].keys() if versions[0][name] != versions[1][name]]
    changed += [name for name in old.facts.keys() | new.facts.keys() if old.facts.get(name) != new.facts.get(name)]
    if changed:
        raise SystemExit(
            f"[compare] today's record was made with another {', '.join(sorted(changed))}: "
            "the cases would not compare (remove the file to begin anew)"
        )
    again = {row.case for row in new.rows}
    rows = [row for row in old.rows if row.case not in again] + new.rows
    place = {case: i for i, case in enumerate(order)}
    return Record(new.facts, sorted(rows, key=lambda row: place.get(row.case, len(place))))


def newest(folder: Path) -> Path:
    """The last record in a folder of records."""
    found = sorted(folder.glob("*/*.csv"), key=lambda p: (p.stem, p.stat().st_mtime))
    if not found:
        raise SystemExit(f"[compare] no record in {folder} (benches/compare.py --record writes one)")
    return found[-1]


def _number(x: float) -> str:
    return DASH if math.isnan(x) else f"{x:.0f}" if x >= 100 else f"{x:.3g}"


def markdown(record: Record, groups: dict[str, list[str]]) -> str:
    """The table of README.md: milliseconds by library and corten's ratio; `groups`: the cases of each group."""
    by_case: dict[str, dict[str, Row]] = {}
    for row in record.rows:
        by_case.setdefault(row.case, {})[row.library] = row
    libraries = list(dict.fromkeys(row.library for row in record.rows))
    versions = {row.library: row.version for row in record.rows}
    named = ", ".join(f"{NAMES.get(name, name)} {versions[name]}" for name in libraries)
    f = record.facts
    lines = [
        f"{f['cpu']}, {f['cores']} cores ({f['instruction set']}), {f['date']}; {named}; medians in milliseconds,",
        "`fb` is forward and backward; the ratio is the time of the fastest other library / corten's.",
        "",
        "| case | " + " | ".join(NAMES.get(name, name) for name in libraries) + " | ratio |",
        "|---|" + "--:|" * (len(libraries) + 1),
    ]
    blank = " |" * len(libraries)
    for group, cases in groups.items():
        present = [case for case in cases if case in by_case]
        if not present:
            continue
        mean = mean_ratio(row for case in present for row in by_case[case].values())
        lines.append(f"| **{group}** |{blank} **{_number(mean)}** |")
        for case in present:
            found = by_case[case]
            cells = [_number(found[name].median_ms) if name in found else DASH for name in libraries]
            ratio = found["corten"].ratio if "corten" in found else math.nan
            lines.append(f"| {case} | {' | '.join(cells)} | {_number(ratio)} |")
    lines.append(f"| **geometric mean** |{blank} **{_number(mean_ratio(record.rows))}** |")
    return "\n".join(lines)


def replace_table(text: str, table: str) -> str:
    """`text` with `table` between the two marker comments."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"[compare] the file needs one line {BEGIN} and after it one line {END}: the table's place")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
