"""benches/compare.py: its workloads run, its check finds differences, its records come back as they were written."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import compare
import numpy as np
import pytest
from peers import Arrays, agreement, record
from peers.inputs import KINDS, inputs

ROOT = Path(__file__).resolve().parent.parent
CASES = compare.workloads()
SMALL_PICTURE = {"batch": 2, "height": 9}
SMALL_SEQUENCE = {"time": 5, "batch": 3, "inputs": 4, "hidden": 6}
SMALL: dict[str, dict[str, int]] = {
    "matmul": {"m": 7, "k": 5, "n": 6},
    "bmm": {"batch": 2, "m": 7, "k": 5, "n": 6},
    "linear": {"batch": 4, "inputs": 5, "outputs": 6},
    "conv2d": SMALL_PICTURE,
    "conv1d": {"batch": 2, "channels": 3, "length": 9, "filters": 4},
    "max_pool2d": {"batch": 2, "channels": 3, "height": 8},
    "batch_norm2d": {"batch": 2, "channels": 3, "height": 4},
    "layer_norm": {"rows": 5, "columns": 8},
    "softmax": {"rows": 5, "columns": 8},
    "cross_entropy": {"rows": 5, "columns": 8},
    "embedding": {"words": 10, "size": 4, "rows": 6},
    "add": {"n": 8},
    "gelu": {"n": 50},
    "tanh": {"n": 50},
    "sum_axis0": {"rows": 5, "columns": 8},
    "recurrent": SMALL_SEQUENCE,
    "recurrent_forward": SMALL_SEQUENCE,
    "bidirectional_gru": SMALL_SEQUENCE,
    "lstm_lengths": SMALL_SEQUENCE,
    "attention": {"batch": 2, "heads": 2, "time": 6, "size": 8},
    "adam": {"matrix": 30, "vector": 5},
    "mlp": {"batch": 4, "hidden": 5},
    "lenet": {"batch": 2},
    "char_rnn": {"batch": 3, "time": 4, "words": 5, "hidden": 6},
    "char_lstm": {"batch": 3, "time": 4, "words": 5, "size": 4, "hidden": 6},
    "gpt": {"batch": 2, "time": 6, "words": 7, "size": 8, "heads": 2},
    "resnet20": {"batch": 2},
}


def small(workload: compare.Workload) -> compare.Workload:
    """The workload with the same options and few numbers."""
    return workload._replace(sizes=workload.sizes | SMALL[workload.kind])


@pytest.fixture(scope="module")
def corten() -> compare.Adapter:
    return compare.Adapter("corten")


def results(corten: compare.Adapter, workload: compare.Workload, folder: Path) -> Arrays:
    given, out = folder / "in.npz", folder / "out.npz"
    np.savez(given, **inputs(workload.name, workload.kind, workload.sizes))
    assert corten.prepare(workload, given, out) == "ready"
    with np.load(out) as file:
        return dict(file)


def test_workloads_are_named_once_and_known() -> None:
    names = [w.name for w in CASES]
    assert len(names) == len(set(names)) >= 45
    assert {w.kind for w in CASES} == KINDS.keys() == SMALL.keys()
    for w in CASES:
        assert re.fullmatch(r"\w+", w.name), w.name
        # Below the errors that the check is there for; above one rounding.
        assert agreement.EPS <= agreement.tolerance(w.kind, w.sizes) < 1e-3, w.name
        assert agreement.tolerance(w.kind, w.sizes, "grad.x") < 0.1, w.name


@pytest.mark.parametrize("name", ["corten", "torch", "jax"])
def test_adapters_know_the_kinds(name: str) -> None:
    """By their text: the peers are not installed here."""
    text = (ROOT / "benches" / "peers" / f"with_{name}.py").read_text(encoding="utf-8")
    has = set(re.findall(r"^def ([a-z]\w*)\(|^(bmm) = ", text, re.MULTILINE))
    kinds = {a or b for a, b in has} - {"versions"}
    assert kinds == KINDS.keys() - ({"bidirectional_gru", "lstm_lengths"} if name == "jax" else set())


@pytest.mark.parametrize("workload", CASES, ids=lambda w: w.name)
def test_corten_runs_and_differences_are_found(
    workload: compare.Workload, corten: compare.Adapter, tmp_path: Path
) -> None:
    workload = small(workload)
    kind, sizes = workload.kind, workload.sizes
    ours = results(corten, workload, tmp_path)
    assert corten.seconds(1e-6) > 0
    for name, array in ours.items():
        assert np.isfinite(array).all(), name
        assert np.any(array), name
    assert workload.name.endswith("_fb") <= any(name.startswith("grad.") for name in ours)
    # Another order of summation passes; the sign of one array, or one array too few, does not.
    rounded = {name: array * np.float32(1 + 2 * agreement.EPS) for name, array in ours.items()}
    assert agreement.disagreement(kind, sizes, ours, rounded) is None
    for name, array in ours.items():
        planted = ours | {name: -array}
        assert name in (agreement.disagreement(kind, sizes, ours, planted) or ""), name
    assert "one library only" in (agreement.disagreement(kind, sizes, ours, dict(list(ours.items())[1:])) or "")


def test_one_wrong_element_is_found() -> None:
    rng = np.random.default_rng(0)
    ours = {"out": rng.standard_normal((64, 64)).astype(np.float32)}
    sizes = {"m": 64, "k": 64, "n": 64}
    for wrong in (ours["out"][3, 5] + 1e-3, np.nan, np.inf):
        theirs = {"out": ours["out"].copy()}
        theirs["out"][3, 5] = wrong
        assert agreement.disagreement("matmul", sizes, ours, theirs), wrong
    assert "shape" in (agreement.disagreement("matmul", sizes, ours, {"out": ours["out"][:1]}) or "")


class Wrong(compare.Adapter):
    """corten with an error of one per cent in everything, or without any kind, or with one that fails."""

    def __init__(self, fault: str) -> None:
        super().__init__("corten")
        self.fault = fault

    def prepare(self, workload: compare.Workload, given: Path, results: Path) -> str:
        if self.fault != "planted":
            return self.fault
        state = super().prepare(workload, given, results)
        with np.load(results) as file:
            wrong = {name: array * 1.01 for name, array in file.items()}
        np.savez(results, **wrong)
        return state


def test_a_case_is_timed_only_when_all_agree(corten: compare.Adapter) -> None:
    workload = small(next(w for w in CASES if w.kind == "linear"))
    times, wrong = compare.measure(workload, {"corten": corten, "peer": compare.Adapter("corten")}, 3, 1e-6)
    assert not wrong
    assert [len(t) for t in times.values()] == [3, 3]

    times, wrong = compare.measure(workload, {"corten": corten, "peer": Wrong("planted")}, 3, 1e-6)
    assert times == {}
    assert len(wrong) == 1
    assert re.match(r"corten and peer disagree: out differs by \S+ of its size, tolerance", wrong[0])

    times, wrong = compare.measure(workload, {"corten": corten, "peer": Wrong("missing")}, 1, 1e-6)
    assert (list(times), wrong) == (["corten"], [])
    times, wrong = compare.measure(workload, {"corten": corten, "peer": Wrong("ValueError: no")}, 1, 1e-6)
    assert (list(times), wrong) == (["corten"], ["peer: ValueError: no"])


def facts() -> dict[str, str]:
    return record.facts("avx2", 2) | {"cpu": "Some CPU(R) @ 2.00GHz", "date": "2030-01-02"}


def rows(seconds: float = 1e-3) -> list[record.Row]:
    versions = {"corten": "0.1.0", "torch": "2.9", "jax": "0.8"}
    out = record.rows_of("add_8", versions, {"corten": [seconds] * 3, "torch": [2e-3, 4e-3, 3e-3], "jax": [6e-3]})
    return out + record.rows_of("maxpool_fb", versions, {"corten": [2e-3], "torch": [24e-3]})


def test_ratios_are_of_the_fastest_other_library() -> None:
    assert [r.ratio for r in rows()] == pytest.approx([3.0, 1 / 3, 1 / 6, 12.0, 1 / 12])
    assert [r.median_ms for r in rows()] == pytest.approx([1, 3, 6, 2, 24])
    assert rows()[1].min_ms == pytest.approx(2)
    assert record.mean_ratio(rows()) == pytest.approx(6.0)
    assert math.isnan(record.rows_of("add_8", {"corten": "1"}, {"corten": [1.0]})[0].ratio)
    assert math.isnan(record.mean_ratio([]))


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / record.folder_name(facts()["cpu"]) / "2030-01-02.csv"
    assert path.parent.name == "some-cpu-2-00ghz"
    alone = record.rows_of("gelu_1M_fb", {"corten": "0.1.0"}, {"corten": [1e-3]})
    record.write(path, record.Record(facts(), rows() + alone))
    back = record.read(path)
    assert back.facts == facts()
    assert [(r.case, r.library, r.version) for r in back.rows] == [
        (r.case, r.library, r.version) for r in rows() + alone
    ]
    for read, made in zip(back.rows, rows() + alone, strict=True):
        figures = (made.median_ms, made.min_ms, made.ratio)
        assert (read.median_ms, read.min_ms, read.ratio) == pytest.approx(figures, rel=1e-4, nan_ok=True)
    assert record.newest(tmp_path) == path
    with pytest.raises(SystemExit, match="--record writes one"):
        record.read(tmp_path / "none.csv")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match=r"no record: its columns are \['a', 'b'\]"):
        record.read(path)


def test_cases_measured_again_replace_the_old() -> None:
    old = record.Record(facts(), rows())
    new = record.Record(facts(), [r for r in rows(5e-4) if r.case == "add_8"])
    both = record.merged(old, new, ["maxpool_fb", "add_8"])
    assert [r.case for r in both.rows] == ["maxpool_fb"] * 2 + ["add_8"] * 3
    assert both.rows[2].median_ms == pytest.approx(0.5)
    for other in (facts() | {"cpu": "another"}, facts() | {"cores": "64"}):
        with pytest.raises(SystemExit, match=r"made with another (cpu|cores)"):
            record.merged(old, record.Record(other, new.rows), [])
    changed = [record.Row("add_8", "torch", "3.0", 1, 1, 1)]
    with pytest.raises(SystemExit, match="made with another torch"):
        record.merged(old, record.Record(facts(), changed), [])


def test_the_readme_shows_a_record(tmp_path: Path) -> None:
    path, readme = tmp_path / "cpu" / "2030-01-02.csv", tmp_path / "README.md"
    original = (ROOT / "README.md").read_text(encoding="utf-8")
    readme.write_text(original, encoding="utf-8")
    record.write(path, record.Record(facts(), rows()))
    compare.show(path, readme)
    text = readme.read_text(encoding="utf-8")
    before, table, after = re.split(f"{record.BEGIN}|{record.END}", text)
    assert (before, after) == tuple(re.split(f"{record.BEGIN}.*{record.END}", original, flags=re.DOTALL))
    assert "| case | corten | PyTorch | JAX | ratio |" in table
    assert "| add_8 | 1 | 3 | 6 | 3 |" in table
    assert f"| maxpool_fb | 2 | 24 | {record.DASH} | 12 |" in table
    assert "| **geometric mean** | | | | **6** |" in table
    assert {line.count("|") for line in table.splitlines() if line.startswith("|")} == {6}
    compare.show(path, readme)
    assert readme.read_text(encoding="utf-8") == text
    with pytest.raises(SystemExit, match="needs one line"):
        record.replace_table("no markers", "table")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """One case through a process of its own, recorded and shown."""
    monkeypatch.setattr(compare, "RECORDS", tmp_path)
    args = ["--peers", "", "--only", "^add_8$", "--rounds", "2", "--secs", "0.001", "--threads", "1"]
    assert compare.main([*args, "--record"]) == 0
    path = record.newest(tmp_path)
    written = record.read(path)
    assert [(r.case, r.library) for r in written.rows] == [("add_8", "corten")]
    assert written.facts["cores"] == "1"
    assert 0 < written.rows[0].min_ms <= written.rows[0].median_ms < 1e3
    assert path.parent.name == record.folder_name(record.cpu_model())
    assert "add_8" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "nothing-like-it"], "no case has 'nothing-like-it' in its name; there are matmul_64, "),
        (["--only", "("], "is no regular expression"),
        (["--peers", "tensorflow"], "no adapter for tensorflow (there are torch and jax)"),
        (["--python", "torch"], "expected LIBRARY=INTERPRETER"),
        (["--rounds", "0"], "at least 1, not '0'"),
        (["--secs", "-1"], "more than 0, not '-1'"),
        (["--peers", "torch", "--python", "torch=/no/such/python"], "cannot start /no/such/python for torch"),
    ],
)
def test_mistakes_are_explained(args: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        compare.main(args)
    assert stop.value.code == 2
    assert message in capfd.readouterr().err


def test_a_missing_peer_says_what_to_install(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\necho \'{"error": "No module named optax"}\'\ncat > /dev/null\n')
    fake.chmod(0o755)
    with pytest.raises(SystemExit) as stop:
        compare.main(["--only", "add_8", "--peers", "jax", "--python", f"jax={fake}"])
    assert stop.value.code == 2
    err = capfd.readouterr().err
    assert "cannot import what jax needs: No module named optax (pip install jax optax there" in err


def test_a_dead_worker_is_named() -> None:
    worker = compare.Worker("corten", sys.executable, None)
    worker.process.kill()
    worker.process.wait()
    with pytest.raises(SystemExit, match="the process of corten died"):
        worker.seconds(0.1)
    worker.close()
