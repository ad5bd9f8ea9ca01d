"""safetensors: round trips, the reference package as a witness, hostile files, atomic writing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import corten as ct
from corten import io, nn
from corten.datasets.idx import read_idx
from corten.io import atomic

DTYPES = ["float64", "float32", "int64", "int32", "int16", "int8", "uint8", "bool"]


def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {f"x.{d}": (rng.standard_normal((3, 2)) * 3).astype(d) for d in DTYPES}
    arrays["scalar"] = np.array(1.5, np.float32)
    arrays["empty"] = np.zeros((0, 4), np.int64)
    arrays['ünïcode " \\ name'] = np.arange(3, dtype=np.int8)
    return arrays


def same(got: dict[str, Any], want: dict[str, np.ndarray]) -> None:
    assert sorted(got) == sorted(want)
    for name, array in want.items():
        other = np.asarray(got[name])
        assert other.dtype == array.dtype, name
        assert other.shape == array.shape, name
        np.testing.assert_array_equal(other, array)


def raw(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int = 0, end: int = 4, dtype: str = "F32", shape: Any = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


EMPTY = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays = sample()
    ct.io.save({name: ct.tensor(a) for name, a in arrays.items()}, path, metadata={"b": "2", "a": "ä"})
    got = ct.io.load(path)
    assert all(isinstance(t, ct.Tensor) for t in got.values())
    same({name: t.numpy() for name, t in got.items()}, arrays)
    assert ct.io.load_metadata(path) == {"a": "ä", "b": "2"}


def test_the_reference_package_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    ct.io.save(sample(), path, metadata={"made by": "corten"})
    same(safetensors.numpy.load_file(path), sample())
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    assert sorted(metadata) == ["corten.crc32", "made by"]
    assert metadata["made by"] == "corten"


def test_we_read_what_the_reference_package_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file(sample(), path, metadata={"k": "v"})
    same({name: t.numpy() for name, t in ct.io.load(path).items()}, sample())
    assert ct.io.load_metadata(path) == {"k": "v"}


def test_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    arrays = sample()
    ct.io.save(arrays, a, {"x": "1", "y": "2"})
    ct.io.save(dict(reversed(arrays.items())), b, {"y": "2", "x": "1"})
    assert a.read_bytes() == b.read_bytes()


def test_tensors_lie_aligned(tmp_path: Path) -> None:
    path = tmp_path / "a"
    ct.io.save(sample(), path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    for name, line in header.items():
        assert line["data_offsets"][0] % sample()[name].itemsize == 0


def test_non_contiguous_and_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "a"
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    ct.io.save({"t": ct.tensor(array).T, "b": array.astype(">f4")}, path)
    same({name: t.numpy() for name, t in ct.io.load(path).items()}, {"t": np.ascontiguousarray(array.T), "b": array})


def test_a_model_comes_back(tmp_path: Path) -> None:
    ct.manual_seed(0)
    path = tmp_path / "model.safetensors"
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    net(ct.randn(5, 1, 4, 4))
    ct.io.save(net.state_dict(), path)
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    other.load_state_dict(ct.io.load(path))
    x = ct.randn(3, 1, 4, 4)
    np.testing.assert_array_equal(net.eval()(x).detach().numpy(), other.eval()(x).detach().numpy())


def test_loaded_tensors_are_independent_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    ct.io.save({"x": ct.ones((4,))}, path)
    x = ct.io.load(path)["x"]
    path.write_bytes(b"gone")
    assert x.tolist() == [1.0] * 4
    x.assign_(ct.zeros((4,)))
    assert x.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "8"),
        (b"1234567", "8"),
        (b"\xff" * 8, "claims"),
        ((50).to_bytes(8, "little") + b"{}", "claims 50 bytes"),
        (raw(b""), "start with"),
        (raw(b" {}"), "start with"),
        (raw(b"[]"), "start with"),
        (raw(b"{"), "not valid JSON"),
        (raw(b'{"a": \xff}'), "not valid JSON"),
        (raw(b'{"a":' * 50_000), "'a' must have exactly"),
        (raw(b'{"a":' + b"[" * 200_000), "'a' invalid type: sequence"),
        (raw({"a": 1}), "exactly dtype, shape and data_offsets"),
        (raw({"a": {**entry(), "more": 1}}, b"1234"), "exactly"),
        (raw({"a": entry(dtype="F31")}, b"1234"), "unknown dtype"),
        (raw({"a": entry(dtype=["F32"])}, b"1234"), "no valid dtype"),  # type: ignore[arg-type]
        (raw({"a": entry(shape=[-1])}, b"1234"), "no valid shape"),
        (raw({"a": entry(shape=[1.0])}, b"1234"), "no valid shape"),
        (raw({"a": entry(shape=[True])}, b"1234"), "no valid shape"),
        (raw({"a": entry(shape=[1] * 65)}, b"1234"), "no valid shape"),
        (raw({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}), "'a' has the shape.*too large"),
        (raw({"a": {**entry(), "data_offsets": [0]}}, b"1234"), "no valid data_offsets"),
        (raw({"a": entry(-4, 0)}, b"1234"), "no valid data_offsets"),
        (raw({"a": entry(4, 0)}, b"1234"), "'a' ends at 0, before it begins at 4"),
        (raw({"a": entry(shape=[2**62, 2**62])}, b"1234"), "'a' has the shape.*too large"),
        (raw({"a": entry(shape=[2**64 - 2])}, b"1234"), "'a' has the shape.*too large"),
        (raw({"a": entry(0, 2**64 - 2, "U8", [2**64 - 2])}, b"1234"), "too large"),
        (raw({"a": entry(0, 2**60, "U8", [2**60])}, b"1234"), "'a' ends at 1152921504606846976, but"),
        (raw({"a": entry(0, 2**70, shape=[2**68])}, b"1234"), "'a' has no valid"),
        (raw({"a": entry(0, 8, shape=[2])}, b"1234"), "'a' ends at 8, but the file holds only 4"),
        (raw({"a": entry()}, b"12345"), "the file holds 5"),
        (raw({"a": entry(4, 8)}, b"12345678"), "starts at 4"),
        (raw({"a": entry(0, 4), "b": entry(8, 12)}, b"1" * 12), "starts at 8"),
        (raw({"a": entry(0, 8, shape=[2]), "b": entry(4, 8)}, b"1" * 8), "starts at 4"),
        (raw({"a": entry(0, 4), "b": entry(0, 4)}, b"1234"), "starts at 0"),
        (raw(b'{"a":%s,"a":%s}' % (EMPTY, EMPTY)), "twice"),
        (raw({"__metadata__": {"a": 1}}), "texts"),
        (raw({"__metadata__": []}), "texts"),
        (raw({"a": entry(0, 1, "BOOL", [1])}, b"\x02"), "booleans"),
    ],
)  # fmt: skip
def test_hostile_files(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        ct.io.load(path)


#: All 65,536 numbers of 16 bits: every float of these types, NaNs with their payloads.
ALL_BITS = np.arange(65536, dtype=np.uint16).view(np.int16).reshape(256, 256)
HALVES = [("float16", "F16"), ("bfloat16", "BF16")]


@pytest.mark.parametrize(("dtype", "tag"), HALVES)
def test_the_reference_package_reads_our_16_bit_floats(dtype: str, tag: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    x = ct.tensor(ALL_BITS).view(dtype)
    ct.io.save(
        {"x": x, "turned": x.T, "scalar": ct.full((), 1.5, dtype=dtype), "empty": ct.zeros((0, 2), dtype=dtype)}, path
    )
    read = dict(safetensors.deserialize(path.read_bytes()))
    assert {item["dtype"] for item in read.values()} == {tag}
    assert bytes(read["x"]["data"]) == ALL_BITS.tobytes()
    assert bytes(read["turned"]["data"]) == ALL_BITS.T.tobytes()
    assert bytes(read["scalar"]["data"]) == {"F16": b"\0\x3e", "BF16": b"\xc0\x3f"}[tag]
    assert (read["scalar"]["shape"], read["empty"]["shape"]) == ([], [0, 2])
    got = ct.io.load(path)
    assert {str(t.dtype) for t in got.values()} == {dtype}
    np.testing.assert_array_equal(got["x"].view("int16").numpy(), ALL_BITS)
    np.testing.assert_array_equal(got["turned"].view("int16").numpy(), ALL_BITS.T)
    assert got["scalar"].item() == 1.5


@pytest.mark.parametrize(("dtype", "tag"), HALVES)
def test_we_read_the_reference_packages_16_bit_floats(dtype: str, tag: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    # The bits and not an array: NumPy has no bfloat16.
    size = {"data_ptr": ALL_BITS.ctypes.data, "data_len": ALL_BITS.nbytes}
    path.write_bytes(safetensors.serialize({"x": safetensors.TensorSpec(dtype=dtype, shape=[256, 256], **size)}))
    x = ct.io.load(path)["x"]
    assert x.dtype == dtype
    np.testing.assert_array_equal(x.view("int16").numpy(), ALL_BITS)
    x.assign_(ct.zeros((256, 256), dtype=dtype))  # it is ours to write to
    assert x[3, 5].item() == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_of_16_bit_floats_comes_back(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    weight = ct.randn(3, 4).astype(dtype)
    ct.io.save({"weight": weight, "bias": ct.zeros((3,), dtype=dtype)}, path)
    got = ct.io.load(path)
    assert (got["weight"] == weight).all().item()
    assert got["bias"].dtype == dtype


def test_dtypes_that_corten_lacks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for tag in ("F8_E4M3", "F4", "U16", "U64", "C64"):
        size = {"F4": 4, "U16": 16, "U64": 64, "C64": 64}.get(tag, 8)
        path.write_bytes(raw({"a": entry(0, size, tag, [8])}, bytes(size)))
        with pytest.raises(TypeError, match=f"'a' in .* is {tag}, which corten does not have"):
            ct.io.load(path)
    with pytest.raises(TypeError, match="complex128"):
        ct.io.save({"a": np.zeros(1, complex)}, path)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_flipped_byte_never_does_more_than_raise(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = folder / "flipped"
    ct.io.save({"a": np.arange(4, dtype=np.float32), "b": np.array([True, False])}, path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        got = ct.io.load(path)
    except (ValueError, TypeError):
        return
    assert sum(t.size * t.dtype.itemsize for t in got.values()) <= len(content)


def test_save_checks_what_it_gets(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(TypeError, match="by name"):
        ct.io.save([ct.ones((1,))], path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="names are strings"):
        ct.io.save({1: ct.ones((1,))}, path)  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="reserves"):
        ct.io.save({"__metadata__": ct.ones((1,))}, path)
    with pytest.raises(TypeError, match="texts"):
        ct.io.save({}, path, {"a": 1})  # type: ignore[dict-item]
    assert not path.exists()
    ct.io.save({}, path)
    assert ct.io.load(path) == {}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    ct.io.save({"x": ct.ones((2,))}, path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        ct.io.save({"x": ct.zeros((2,))}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]  # no temporary file stays


def test_file_is_synced_before_it_is_renamed_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle: int) -> None:
        steps.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "fsync file")
        fsync(handle)

    def spy_replace(a: Any, b: Any) -> None:
        steps.append("rename")
        replace(a, b)

    monkeypatch.setattr(atomic.os, "fsync", spy_fsync)
    monkeypatch.setattr(atomic.os, "replace", spy_replace)
    ct.io.save({"x": ct.ones((2,))}, tmp_path / "a")
    assert steps == ["fsync file", "rename", "fsync folder"]


def test_permissions_are_ordinary(tmp_path: Path) -> None:
    path, plain = tmp_path / "a", tmp_path / "plain"
    plain.write_bytes(b"")
    ct.io.save({}, path)
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o640)
    ct.io.save({}, path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ct.io.save({}, tmp_path / "no" / "a")
    with pytest.raises(FileNotFoundError):
        ct.io.load(tmp_path / "a")


@pytest.mark.parametrize("path", [3, None, True, ["model.safetensors"]])
def test_a_path_is_a_path(path) -> None:
    """`open(3)` would read, and close, whatever file has that number."""
    for name, call in {
        "io.load": io.load,
        "io.load_metadata": io.load_metadata,
        "io.save": lambda path: io.save({"x": ct.zeros(2)}, path),
        "read_idx": read_idx,
    }.items():
        with pytest.raises(TypeError, match=rf"\[{name}\] path must be a path"):
            call(path)
