"""Make the MNIST subset that ships inside the package.

The subset holds the first 600 training digits and the first 100 test digits of each class, in the order in which
they stand in the original files, as four gzipped IDX files. The bytes are reproducible: no time stamp and no file
name is stored, so running the script twice gives the same files.

    python tools/make_mnist_subset.py PATH/TO/mnist [OUT]

PATH/TO/mnist holds the four original files, gzipped or not; OUT defaults to the folder inside the package.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import struct
import sys
from pathlib import Path

import numpy as np

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent / "python" / "corten" / "datasets" / "mnist_subset"

# MD5 of the original files, unpacked. A copy that was compressed again still has these.
ORIGINAL_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def read_original(folder: Path, name: str) -> bytes:
    """The unpacked bytes of one original file, checked against its MD5."""
    packed, plain = folder / f"{name}.gz", folder / name
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    if digest != ORIGINAL_MD5[name]:
        raise SystemExit(f"{name}: MD5 is {digest}, expected {ORIGINAL_MD5[name]}")
    return raw


def write_idx_gz(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as a gzipped IDX file whose bytes depend on nothing but the array."""
    header = struct.pack(">HBB", 0, 0x08, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    with path.open("wb") as file, gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as out:
        out.write(header + np.ascontiguousarray(array).tobytes())


def first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of the first `count` samples of each class, in the order of the file."""
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:count] for digit in range(10)])
    if len(chosen) != 10 * count:
        raise SystemExit(f"a class has fewer than {count} samples")
    return np.sort(chosen)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the MNIST subset that ships inside the package.")
    parser.add_argument("source", type=Path, help="folder with the four original MNIST files")
    parser.add_argument("out", type=Path, nargs="?", default=PACKAGE_FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 600), ("t10k", 100)):
        images_name, labels_name = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        images = np.frombuffer(read_original(args.source, images_name), np.uint8, offset=16).reshape(-1, 28, 28)
        labels = np.frombuffer(read_original(args.source, labels_name), np.uint8, offset=8)
        chosen = first_of_each_class(labels, count)
        for name, array in ((images_name, images[chosen]), (labels_name, labels[chosen])):
            path = args.out / f"{name}.gz"
            write_idx_gz(path, array)
            print(f"{path.name}: {array.shape}, {path.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
