"""python -m corten, the picture, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import corten as ct
from corten.__main__ import main
from corten.viz import draw_predictions, training_picture


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"corten {ct.__version__}, Python")
    assert "threads" in text


def test_demo_runs_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "new folder" / "demo.png"
    assert main(["demo", "--epochs", "1", "--batch-size", "200", "--out", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "test accuracy" in text
    assert f"picture: {picture}" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 50_000  # not an empty page


def test_demo_without_matplotlib_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # type: ignore[arg-type]  # makes importing it fail
    picture = tmp_path / "demo.png"
    assert main(["demo", "--epochs", "1", "--batch-size", "500", "--out", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "test accuracy" in text
    assert "no picture" in text
    assert "corten[viz]" in text
    assert not picture.exists()


def test_bad_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--threads", "0"]) == 1
    assert "at least one thread" in capsys.readouterr().err
    assert main(["demo", "--seed", str(2**70)]) == 1
    assert "64 bits" in capsys.readouterr().err
    assert main(["demo", "--epochs", "0"]) == 1
    assert "epochs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--data", "other"])
    with pytest.raises(SystemExit):
        main([])


def test_picture_of_a_perfect_and_of_a_hopeless_net(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 1, 8, 8)).astype(np.float32), np.arange(40) % 4
    history = {"loss": [1.0, 0.5], "accuracy": [0.5, 1.0]}
    right = np.eye(4, dtype=np.float32)[labels]
    for i, probabilities in enumerate((right, np.roll(right, 1, axis=1))):
        path = training_picture(tmp_path / f"{i}.png", history, images, labels, probabilities, title="a", subtitle="b")
        assert path.stat().st_size > 10_000
    for given, lies in (("", "picture.png"), ("new/bare", "new/bare.png")):
        path = training_picture(tmp_path / given, history, images, labels, right, title="a", subtitle="b")
        assert path == tmp_path / lies
        assert path.is_file()
    with pytest.raises(ValueError, match="shapes do not fit"):
        draw_predictions(None, images, labels[:3], right)  # type: ignore[arg-type]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light() -> None:
    loaded = set(run("import sys, corten; print(*sys.modules)").split())
    heavy = {"matplotlib", "urllib.request", "http.client", "concurrent.futures", "argparse", "email", "corten.train"}
    assert not loaded & heavy


def test_submodules_load_when_used() -> None:
    assert run("import corten as ct; print(ct.nn.Linear.__name__, ct.train.Trainer.__name__)") == "Linear Trainer\n"
    names = dir(ct)
    assert "nn" in names
    assert "matmul" in names
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ct.nonsense  # noqa: B018


def test_all_names_exist() -> None:
    assert len(set(ct.__all__)) == len(ct.__all__)
    for name in ct.__all__:
        assert getattr(ct, name) is not None or name == "newaxis"  # which is None, as in NumPy


def test_grad_modes() -> None:
    x = ct.ones((2,), requires_grad=True)

    @ct.no_grad()
    def frozen() -> bool:
        return (x * 2).requires_grad

    assert not frozen()
    assert (x * 2).requires_grad
    mode = ct.no_grad()
    with mode, ct.enable_grad(), mode:
        assert not (x * 2).requires_grad
    assert ct.is_grad_enabled()
    with pytest.raises(ZeroDivisionError), ct.no_grad():
        _ = 1 / 0
    assert ct.is_grad_enabled()


def test_grad_of_one_and_of_several() -> None:
    x, y = ct.tensor(2.0, requires_grad=True), ct.tensor(3.0, requires_grad=True)
    assert ct.grad(x * y, x).item() == 3.0
    dx, dy = ct.grad([x * y, x * x], [x, y], grad_outputs=[ct.tensor(1.0), ct.tensor(10.0)])
    assert (dx.item(), dy.item()) == (43.0, 2.0)
    assert ct.grad(x * 2, (x, y), allow_unused=True)[1] is None
    assert x.grad is None
