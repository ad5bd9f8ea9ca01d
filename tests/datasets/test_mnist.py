"""MNIST: the built-in subset, the full set, downloads, damaged files."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import importlib
import importlib.util
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import corten as ct
from corten.datasets import mnist, read_idx
from corten.datasets.download import DownloadError, cache_folder

module = importlib.import_module("corten.datasets.mnist")
ROOT = Path(__file__).resolve().parents[2]
NAMES = list(module._MD5)


def idx(array: np.ndarray) -> bytes:
    codes = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
    header = struct.pack(">HBB", 0, codes[array.dtype.name], array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four small files in MNIST's format, which pass as the real ones."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "source"
    folder.mkdir()
    for name in NAMES:
        count = 5 if name.startswith("train") else 3
        array = rng.integers(0, 256, (count, 28, 28)) if "images" in name else rng.integers(0, 10, count)
        raw = idx(array.astype(np.uint8))
        (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        monkeypatch.setitem(module._MD5, name, hashlib.md5(raw).hexdigest())
    monkeypatch.delenv("CORTEN_DATA", raising=False)
    monkeypatch.setenv("CORTEN_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.mark.parametrize(("split", "each"), [("train", 600), ("test", 100)])
def test_builtin(split: str, each: int) -> None:
    data = mnist(split)  # type: ignore[call-overload]
    images, labels = data.tensors
    assert images.shape == (10 * each, 1, 28, 28)
    assert images.dtype == ct.float32
    assert labels.dtype == ct.int64
    array = images.numpy()
    assert array.min() == 0
    assert array.max() == 1
    np.testing.assert_array_equal(np.bincount(labels.numpy(), minlength=10), [each] * 10)


def test_both() -> None:
    train, test = mnist("both")
    assert len(train) == 6000
    assert len(test) == 1000


def test_builtin_files_say_where_they_are_from() -> None:
    folder = Path(module._BUILTIN)
    text = (folder / "README.md").read_text()
    for word in ("CC BY-SA 3.0", "LeCun", "Cortes", "Burges", "left out", "make_mnist_subset.py"):
        assert word in text
    assert "CC-BY-SA-3.0" in (folder / "LICENSE").read_text()
    for path in folder.glob("*.gz"):
        assert path.read_bytes()[4:8] == b"\0\0\0\0"  # no time stamp: the same bytes from every run of the script


@pytest.mark.skipif(not os.environ.get("CORTEN_DATA"), reason="needs the full MNIST in CORTEN_DATA")
def test_full_set_and_the_subset_made_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = mnist("test", subset="full", download=False)
    images, labels = (t.numpy() for t in full.tensors)
    assert images.shape == (10000, 1, 28, 28)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == d)[:100] for d in range(10)]))
    small = mnist("test")
    np.testing.assert_array_equal(small.tensors[0].numpy(), images[chosen])
    np.testing.assert_array_equal(small.tensors[1].numpy(), labels[chosen])
    spec = importlib.util.spec_from_file_location("make_mnist_subset", ROOT / "tools" / "make_mnist_subset.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", ["make", str(Path(os.environ["CORTEN_DATA"]) / "mnist"), str(tmp_path)])
    script.main()
    for path in tmp_path.iterdir():
        shipped = (Path(module._BUILTIN) / path.name).read_bytes()
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(shipped)


def test_full_set_from_root_data_folder_and_unpacked(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = mnist("train", "full", root=tiny).tensors[0].numpy()
    assert want.shape == (5, 1, 28, 28)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist").symlink_to(tiny)
    monkeypatch.setenv("CORTEN_DATA", str(tmp_path / "data"))
    np.testing.assert_array_equal(mnist("train", "full", download=False).tensors[0].numpy(), want)
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in NAMES:
        (plain / name).write_bytes(gzip.decompress((tiny / f"{name}.gz").read_bytes()))
    np.testing.assert_array_equal(mnist("train", "full", root=plain).tensors[0].numpy(), want)


def test_missing_files(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must hold train-images"):
        mnist("train", "full", root=tmp_path)
    with pytest.raises(FileNotFoundError, match="download=True"):
        mnist("train", "full", download=False)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="'builtin' or 'full'"):
        mnist("train", "some")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="'train', 'test' or 'both'"):
        mnist("validation")  # type: ignore[call-overload]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tiny: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(tiny))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}/"
        httpd.shutdown()
        thread.join()


def test_download_into_the_cache_once(
    server: str, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first mirror does not answer, the second lacks the files, the third has them.
    monkeypatch.setattr(module, "_MIRRORS", ("http://127.0.0.1:9/", server + "nothing/", server))
    data = mnist("test", subset="full")
    assert len(data) == 3
    assert "downloading" in capsys.readouterr().err
    folder = cache_folder() / "mnist"
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{n}.gz" for n in NAMES if n.startswith("t10k"))
    monkeypatch.setattr(module, "_MIRRORS", ())
    assert len(mnist("test", subset="full")) == 3  # from the cache
    assert capsys.readouterr().err == ""


def test_download_rejects_wrong_bytes(server: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "train-images-idx3-ubyte"
    monkeypatch.setattr(module, "_MIRRORS", (server,))
    good = (tiny / f"{name}.gz").read_bytes()
    for bad in (gzip.compress(b"something else"), b"<html>no such file</html>", good[:-20]):
        (tiny / f"{name}.gz").write_bytes(bad)
        with pytest.raises(DownloadError, match="what came"):
            mnist("train", subset="full")
        assert list((cache_folder() / "mnist").iterdir()) == []  # nothing half-done stays


def test_offline_text_helps(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = ("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/")
    monkeypatch.setattr(module, "_MIRRORS", mirrors)
    with pytest.raises(DownloadError) as error:
        mnist("train", subset="full")
    text = str(error.value)
    for part in (*mirrors, "train-images-idx3-ubyte.gz", str(cache_folder() / "mnist"), "CORTEN_DATA", "builtin"):
        assert part in text


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.array([-1.5, 2.5], np.float32),
        np.array([[1, -2]], np.int16),
        np.array([7], np.int32),
        np.array([0.1], np.float64),
        np.zeros((0, 28, 28), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_read_idx(array: np.ndarray, tmp_path: Path) -> None:
    for packed in (False, True):
        path = tmp_path / "file"
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
        got = read_idx(path)
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


GOOD = idx(np.arange(12, dtype=np.uint8).reshape(3, 4))


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "ends after 0 of 4"),
        (GOOD[:6], "ends after"),
        (GOOD[:-1], "ends after 11 of the 12"),
        (GOOD + b"x", "goes on"),
        (b"\1" + GOOD[1:], "no IDX file"),
        (GOOD[:2] + b"\7" + GOOD[3:], "no IDX file"),
        (GOOD[:3] + b"\0" + GOOD[4:], "no IDX file"),
        (b"\0\0\x08\x08" + b"\xff" * 32, "would take"),
        (b"\0\0\x08\x01" + b"\x7f\xff\xff\xff" + b"abc", "ends after 3 of"),
        (gzip.compress(GOOD)[:-9], "damaged"),
        (gzip.compress(GOOD)[:15] + b"\xff" * 9 + gzip.compress(GOOD)[24:], "damaged"),
        (gzip.compress(GOOD[:-3]), "ends after"),
        (b"\x1f\x8bnonsense", "damaged"),
    ],
)
def test_damaged_idx(raw: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=match):
        read_idx(path)


def test_files_that_do_not_belong_together(tiny: Path) -> None:
    (tiny / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(4, np.uint8))))
    with pytest.raises(ValueError, match="a label from 0 to 9 for each of 5"):
        mnist("train", "full", root=tiny)
    (tiny / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(5, 10, np.uint8))))
    with pytest.raises(ValueError, match="label from 0 to 9"):
        mnist("train", "full", root=tiny)
    (tiny / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros((5, 28), np.uint8))))
    with pytest.raises(ValueError, match="28 x 28"):
        mnist("train", "full", root=tiny)


#: Reads each file with so little address space to spare that no size in it can be believed before it is checked.
LIMITED = """
import resource, sys
from corten.datasets import read_idx

pages = int(open("/proc/self/statm").read().split()[0])
room = pages * resource.getpagesize() + (24 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
for path in sys.argv[1:]:
    try:
        print("read", read_idx(path).shape)
    except BaseException as error:
        print(type(error).__name__, error)
"""


def test_idx_files_that_lie_cost_no_memory(tmp_path: Path) -> None:
    def header(code: int, *sizes: int) -> bytes:
        return struct.pack(">HBB", 0, code, len(sizes)) + struct.pack(f">{len(sizes)}I", *sizes)

    full, half = 2**32 - 1, 2**31
    count = 100 << 20
    zeros = gzip.compress(bytes(count))  # 100 KB; a gzip file is any number of such parts
    files = {
        "gigabytes": (header(8, full), "ends after 0 of the 4294967295 bytes"),
        "2^64 - 2": (header(8, half, 2, full), "would take more"),
        "overflow": (header(14, *[full] * 8), "would take more"),
        "nothing": (header(8, 0, full, full), "would take more"),
        "packed gigabytes": (gzip.compress(header(8, full)), "more than 200 times its own"),
        "packed, allowed, not there": (gzip.compress(header(8, 60 << 20)), "ends after 0 of 62914560"),
        "bomb": (gzip.compress(header(8, count)) + zeros, "more than 200 times its own"),
        "bomb behind a small array": (gzip.compress(header(8, 3)) + zeros, "goes on after the 3 bytes"),
        "bomb without a header": (zeros, "no IDX file"),
    }
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", LIMITED, *(str(tmp_path / name) for name in files)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(files)
    for (name, (_, words)), line in zip(files.items(), lines, strict=True):
        assert line.startswith(f"ValueError [read_idx] {tmp_path / name} is damaged or not an IDX file: "), line
        assert words in line


def test_packed_files_may_be_much_larger_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(idx(np.zeros((1 << 20, 16), np.uint8))))  # 1000 times
    assert not read_idx(tmp_path / "a").any()


def test_idx_cut_anywhere_and_with_any_bit_flipped(tmp_path: Path) -> None:
    """A flipped bit of the data cannot be seen in a plain file (a packed one has a checksum)."""
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = tmp_path / "file"
    for content in (idx(array), gzip.compress(idx(array))):
        packed = content[0] == 0x1F
        for size in range(len(content)):
            path.write_bytes(content[:size])
            with pytest.raises(ValueError, match="damaged or not an IDX file"):
                read_idx(path)
        for bit in range(8 * len(content)):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                got = read_idx(path)
            except ValueError:
                continue
            assert got.nbytes == array.nbytes
            assert not packed or np.array_equal(got, array)
