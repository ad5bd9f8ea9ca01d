"""What goes wrong with files: killed writers, full disks, files cut short, flipped bits, files that lie."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import corten as ct
from corten.io.atomic import atomic_write


def sample(rows: int = 3) -> dict[str, np.ndarray]:
    """Tensors of several dtypes, the first ones of 4 KiB a row."""
    rng = np.random.default_rng(0)
    return {
        "layer.weight": rng.standard_normal((rows, 1024)).astype(np.float32),
        "layer.bias": rng.standard_normal((rows, 512)),
        "steps": rng.integers(-9, 9, (rows, 5)),
        "mask": rng.integers(0, 2, 7).astype(bool),
        "scalar": np.array(3, np.int16),
        "empty": np.zeros((0, 4), np.int8),
    }


METADATA = {"epoch": "3", "note": "größer"}


def differences(got: dict[str, Any], want: dict[str, np.ndarray]) -> list[str]:
    """Names of the tensors that are not the same to the bit."""
    arrays = {name: np.asarray(value) for name, value in got.items()}
    return [
        name
        for name in sorted({*arrays, *want})
        if name not in arrays
        or name not in want
        or arrays[name].dtype != want[name].dtype
        or arrays[name].shape != want[name].shape
        or arrays[name].tobytes() != want[name].tobytes()
    ]


def data_start(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


# -- killed writers

#: For each line it reads, forks a process that saves one version after the other until it is killed.
SAVER = """
import os, sys
import numpy as np
import corten as ct

for line in sys.stdin:
    step = int(line)
    child = os.fork()
    while not child:
        ct.io.save({f"w{i}": np.full(5_000, step, np.int32) for i in range(4)}, sys.argv[1], {"step": str(step)})
        os.write(1, b"saved %d\\n" % step)
        step += 1
    print("child", child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@pytest.mark.parametrize("trials", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_kill_while_saving(trials: int, tmp_path: Path) -> None:
    """The file is that of the last save that returned, or of the one that was under way."""
    path = tmp_path / "model.safetensors"
    rng = random.Random(0)
    interrupted, step = 0, 0
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SAVER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as saver:
        assert saver.stdin
        assert saver.stdout
        for _ in range(trials):
            print(step, file=saver.stdin, flush=True)
            started = time.monotonic()
            lines = [saver.stdout.readline().split(), saver.stdout.readline().split()]  # in any order
            child = next(int(number) for word, number in lines if word == "child")
            time.sleep(rng.uniform(0, 1.5) * (time.monotonic() - started))
            os.kill(child, signal.SIGKILL)
            while lines[-1] != ["dead"]:
                lines.append(saver.stdout.readline().split())
            saved = max(int(line[1]) for line in lines if line[0] == "saved")
            found = int(ct.io.load_metadata(path)["step"])
            assert saved <= found <= saved + 1
            tensors = ct.io.load(path)
            assert not differences(tensors, {f"w{i}": np.full(5_000, found, np.int32) for i in range(4)})
            left = sorted(p.name for p in tmp_path.iterdir() if p != path)
            assert len(left) <= 1, left  # that of the writer before was removed
            interrupted += len(left)
            step = found + 1
        saver.stdin.close()
    assert interrupted >= 10 or trials < 200, "the kills hit no save"
    ct.io.save({}, path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_abandoned_files_are_removed_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "a"
    keep = [".a.b.12345678.tmp", ".a.1234567.tmp", ".a.12345678", "a.12345678.tmp", ".b.12345678.tmp"]
    for name in [".a.12345678.tmp", ".a.abcdefg_.tmp", *keep]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".a.folder__.tmp").mkdir()
    ct.io.save({}, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*keep, ".a.folder__.tmp", "a"])


def test_a_writer_does_not_disturb_another(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_write(path) as slow:
        slow.write(b"slow")
        with atomic_write(path) as quick:
            quick.write(b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_threads_that_save_to_one_path(tmp_path: Path) -> None:
    path = tmp_path / "a"
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(25):
                ct.io.save({"x": np.full(1000, number)}, path)
                x = ct.io.load(path)["x"].numpy()
                assert (x == x[0]).all()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


# -- full disks


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing beyond `size` fails with EFBIG (Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_at_any_point_of_the_file(tmp_path: Path) -> None:
    path, old = tmp_path / "a", {"old": np.arange(3)}
    ct.io.save(sample(), path)
    whole = path.stat().st_size
    ct.io.save(old, path)
    for limit in [0, 1, 100, *range(4096, whole, 4096), whole - 1]:
        with pytest.raises(OSError) as caught, file_size_limit(limit):
            ct.io.save(sample(), path)
        assert caught.value.errno == errno.EFBIG
        assert caught.value.filename == str(path)
        assert [p.name for p in tmp_path.iterdir()] == ["a"]
        assert not differences(ct.io.load(path), old)
    with file_size_limit(whole):
        ct.io.save(sample(), path)
    assert not differences(ct.io.load(path), sample())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("may not mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_disk_full(small_disk: Path) -> None:
    path, old = small_disk / "a", {"old": np.arange(3)}
    ct.io.save(old, path)
    with pytest.raises(OSError, match=r"No space left on device.*/a'") as caught:
        ct.io.save({"new": np.zeros(1 << 20)}, path)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in small_disk.iterdir()] == ["a"]
    assert not differences(ct.io.load(path), old)
    ct.io.save(sample(), path)  # the room is there again
    assert not differences(ct.io.load(path), sample())


def test_errors_name_the_file_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "no" / "a"
    with pytest.raises(FileNotFoundError) as caught:
        ct.io.save({}, path)
    assert caught.value.filename == str(path)


# -- damage


def test_truncated_anywhere(tmp_path: Path) -> None:
    """Every byte of the header and every 4 KiB of the data, where the first tensor that is not whole is named."""
    path = tmp_path / "a"
    ct.io.save(sample(rows=64), path, METADATA)
    content = path.read_bytes()
    start = data_start(content)
    header = json.loads(content[8:start])
    del header["__metadata__"]
    assert len(content) > 500_000
    for size in [*range(start), *range(start, len(content), 4096), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="not a valid safetensors file") as caught:
            ct.io.load(path)
        assert str(path) in str(caught.value)
        if size >= start:
            cut = [(e["data_offsets"], name) for name, e in header.items() if e["data_offsets"][1] > size - start]
            assert f"{min(cut)[1]!r} ends at" in str(caught.value)
    path.write_bytes(content + b"\0")
    with pytest.raises(ValueError, match="the tensors take"):
        ct.io.load(path)


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def check_flip(path: Path, content: bytes, bit: int, want: dict[str, np.ndarray]) -> bool:
    """Load the file with one bit flipped: it is the same, or refused (True) and what is to blame is named."""
    path.write_bytes(flipped(content, bit))
    try:
        got = ct.io.load(path)
    except (ValueError, TypeError) as error:
        text = str(error)
        assert str(path) in text
        if bit // 8 >= data_start(content):
            assert sum(
                f" {name!r} does not match its checksum" in text or f" {name!r} is of bool" in text for name in want
            )
        refused = True
    else:
        assert not differences(got, want), f"bit {bit} changed {differences(got, want)} in silence"
        refused = False
    with contextlib.suppress(ValueError):
        texts = ct.io.load_metadata(path)
        # The checksums' own name may be what was hit: then they are one more text.
        assert METADATA.items() <= texts.items(), f"bit {bit} changed the metadata in silence"
        assert len(texts) <= len(METADATA) + 1
    return refused


def test_a_thousand_flipped_bits(tmp_path: Path) -> None:
    path = tmp_path / "a"
    ct.io.save(sample(rows=16), path, METADATA)
    content = path.read_bytes()
    rng = random.Random(0)
    refused = sum(check_flip(path, content, rng.randrange(8 * len(content)), sample(rows=16)) for _ in range(1000))
    assert refused >= 990  # what is left over: the checksums' name


def test_every_bit_of_a_small_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    want = {"w": np.array([1, 2], np.float32), "veil": np.array([True, False]), "none": np.zeros((0, 2, 6), np.uint8)}
    ct.io.save(want, path, METADATA)
    content = path.read_bytes()
    refused = [check_flip(path, content, bit, want) for bit in range(8 * len(content))]
    # The rest is the metadata, which is not loaded here, the checksums' name, and the case of their digits.
    assert sum(refused) >= 0.85 * len(refused)


def test_without_checksums_or_without_looking_at_them(tmp_path: Path) -> None:
    path = tmp_path / "a"
    want = sample()
    safetensors.numpy.save_file(want, path, METADATA)  # another program writes none
    assert not differences(ct.io.load(path), want)
    assert ct.io.load_metadata(path) == METADATA

    ct.io.save(want, path, METADATA)
    content = path.read_bytes()
    path.write_bytes(flipped(content, 8 * data_start(content)))
    with pytest.raises(ValueError, match=r"'layer.bias' does not match.*verify=False"):
        ct.io.load(path)
    assert differences(ct.io.load(path, verify=False), want) == ["layer.bias"]


def test_checksums_survive_a_program_that_copies_the_metadata(tmp_path: Path) -> None:
    path, copy = tmp_path / "a", tmp_path / "b"
    ct.io.save(sample(), path, METADATA)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    safetensors.numpy.save_file(tensors, copy, metadata)
    assert not differences(ct.io.load(copy), sample())
    assert ct.io.load_metadata(copy) == METADATA
    # Stale ones are refused, and replaced by the next save.
    safetensors.numpy.save_file({**tensors, "steps": tensors["steps"] + 1}, copy, metadata)
    with pytest.raises(ValueError, match="'steps' does not match its checksum"):
        ct.io.load(copy)
    del tensors["mask"]
    safetensors.numpy.save_file(tensors, copy, metadata)
    with pytest.raises(ValueError, match="checksums for 6 tensors, but holds 5"):
        ct.io.load(copy)
    ct.io.save(tensors, copy, metadata)
    assert not differences(ct.io.load(copy), tensors)
    safetensors.numpy.save_file(tensors, copy, {**metadata, "corten.crc32": "nonsense"})
    with pytest.raises(ValueError, match="cannot be read"):
        ct.io.load(copy)


# -- files that lie

#: Loads each file with so little address space to spare that no size in it can be believed before it is checked.
LIMITED = """
import resource, sys
import corten as ct
from corten.datasets import read_idx

room = int(sys.argv[1])
for path in sys.argv[2:]:
    read = ct.io.load if path.endswith(".safetensors") else read_idx
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, resource.RLIM_INFINITY))
    try:
        read(path)
        print("loaded", path)
    except BaseException as error:
        print(type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def read_in_little_room(files: dict[str, bytes], room: int, folder: Path) -> list[str]:
    """What each file gave: a line each."""
    paths = [folder / name for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_bytes(content)
    command = [sys.executable, "-c", LIMITED, str(room), *map(str, paths)]
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0"}  # what one file took is no room for the next
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.splitlines()


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(end: int, shape: list[int], dtype: str = "U8", begin: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_lies_cost_no_memory(tmp_path: Path) -> None:
    mega, most = 1 << 20, 2**64 - 2
    files = {
        "length": (2**63).to_bytes(8, "little") + b"{}",
        "length_allowed": (99_000_000).to_bytes(8, "little") + b"{}",
        "gibibyte": raw({"w": entry(1 << 30, [1 << 30])}),
        "most": raw({"w": entry(most, [most])}),
        "most_of_nothing": raw({"w": entry(0, [0, most])}),
        "product": raw({"w": entry(0, [2**32, 2**32])}),
        "axes": raw({"w": entry(1, [1] * 100_000)}, b"1"),
        "far": raw({"w": entry(most, [4], begin=most - 4)}, b"1234"),
        "overlap": raw({str(i): entry(mega, [mega]) for i in range(1000)}, bytes(mega)),
        "deep": raw(b'{"w":' * mega),
        "deep_lists": raw(b'{"w":' + b"[" * 5 * mega),
        "zeros": raw(bytes(5 * mega)),
        "name": raw(b'{"' + b"w" * 5 * mega + b'":1}'),
    }
    lines = read_in_little_room({f"{name}.safetensors": c for name, c in files.items()}, 40 * mega, tmp_path)
    assert len(lines) == len(files)
    for name, line in zip(files, lines, strict=True):
        assert line.startswith("ValueError [io.load] "), line
        assert f"/{name}.safetensors is not a valid safetensors file: " in line
        assert len(line) < 1200


def test_huge_headers_take_memory_in_proportion(tmp_path: Path) -> None:
    """Ten million bytes of header each, which take at most six times as much beside themselves."""
    size = 10_000_000
    tensor = json.dumps(entry(0, [0]), separators=(",", ":")).encode()
    twice = b'"w":' + tensor + b","
    texts = b'"":"",'
    files = {
        "tensors": b"{" + twice * (size // len(twice)) + b'"w":' + tensor + b"}",
        "texts": b'{"__metadata__":{' + texts * (size // len(texts)) + b'"":""}}',
        "axes": b'{"w":{"shape":[' + b"0," * (size // 2) + b"0]}}",
    }
    lines = read_in_little_room({f"{name}.safetensors": raw(h) for name, h in files.items()}, 8 * size, tmp_path)
    assert "the name 'w' is there twice" in lines[0]
    assert "more than 65536" in lines[1]
    assert "'w' has no valid shape (more than 64" in lines[2]
