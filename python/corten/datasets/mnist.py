"""MNIST: handwritten digits, as a subset that ships with corten and in full."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, overload

import numpy as np

from ..data import TensorDataset
from .download import DownloadError, cache_folder, fetch_file, md5_of
from .idx import read_idx

__all__ = ["mnist"]

Split = Literal["train", "test"]
Which = Literal["builtin", "full"]

# MD5 of the unpacked files: a copy that was compressed again still has these.
_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
    "http://yann.lecun.com/exdb/mnist/",
)
_BUILTIN = Path(__file__).parent / "mnist_subset"
_LIMIT = 1 << 26  # the largest file has 47 MB unpacked
_PREFIX = {"train": "train", "test": "t10k"}


@overload
def mnist(
    split: Split = "train", subset: Which = "builtin", root: str | os.PathLike[str] | None = None, download: bool = True
) -> TensorDataset: ...
@overload
def mnist(
    split: Literal["both"], subset: Which = "builtin", root: str | os.PathLike[str] | None = None, download: bool = True
) -> tuple[TensorDataset, TensorDataset]: ...
def mnist(
    split: Literal["train", "test", "both"] = "train",
    subset: Which = "builtin",
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> TensorDataset | tuple[TensorDataset, TensorDataset]:
    """Handwritten digits: images (N, 1, 28, 28) float32 in [0, 1] and labels (N,) int64 from 0 to 9.

    Args:
        split: "train", "test", or "both" for a pair of sets.
        subset: "builtin" is the first 600 training digits and the first 100 test digits of each class, which ship with
            corten; "full" is all 60,000 and 10,000.
        root: folder with the four files of the full set. By default it is looked for in `$CORTEN_DATA/mnist`, then in
            the cache folder (`$CORTEN_CACHE`, or `corten` in the user's cache folder).
        download: download the full set into the cache folder if it is found nowhere.

    Returns:
        a `TensorDataset` with `tensors = (images, labels)`, or with split "both" two of them.

    Raises:
        ValueError: an argument is not one of the above, or a file is damaged.
        FileNotFoundError: `root` lacks a file, or nothing was found and `download` is false.
        DownloadError: no mirror gave a file; the message says what was tried and how to put the files there by hand.

    Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", licence CC BY-SA 3.0; described in
    Y. LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE 86(11), 1998.

    >>> import corten as ct
    >>> data = ct.datasets.mnist("test")
    >>> data.tensors[0].shape, data.tensors[1][:3].tolist()
    ((1000, 1, 28, 28), [7, 2, 1])
    """
    if subset not in ("builtin", "full"):
        raise ValueError(f"[mnist] subset must be 'builtin' or 'full', got {subset!r}")
    if split == "both":
        return mnist("train", subset, root, download), mnist("test", subset, root, download)
    if split not in _PREFIX:
        raise ValueError(f"[mnist] split must be 'train', 'test' or 'both', got {split!r}")
    names = (f"{_PREFIX[split]}-images-idx3-ubyte", f"{_PREFIX[split]}-labels-idx1-ubyte")
    if subset == "builtin":
        paths = [_BUILTIN / f"{name}.gz" for name in names]
    else:
        paths = _find_full(names, None if root is None else Path(root), download)
    images, labels = (read_idx(path) for path in paths)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or images.dtype != np.uint8:
        raise ValueError(
            f"[mnist] {paths[0]} should hold images of 28 x 28 bytes, but holds {images.dtype} {images.shape}"
        )
    if labels.shape != images.shape[:1] or labels.dtype != np.uint8 or (labels.size and labels.max() > 9):
        raise ValueError(f"[mnist] {paths[1]} should hold a label from 0 to 9 for each of {len(images)} images")
    scaled = images.astype(np.float32)[:, None, :, :]
    scaled /= 255
    return TensorDataset(scaled, labels.astype(np.int64))


def _find_in(folder: Path, names: tuple[str, str]) -> list[Path] | None:
    """The files in a folder, gzipped or not, or None if one is missing."""
    found = [next((p for p in (folder / f"{n}.gz", folder / n) if p.is_file()), None) for n in names]
    return [p for p in found if p is not None] if None not in found else None


def _find_full(names: tuple[str, str], root: Path | None, download: bool) -> list[Path]:
    if root is not None:
        found = _find_in(root, names)
        if found is None:
            raise FileNotFoundError(f"[mnist] {root} must hold {names[0]}.gz and {names[1]}.gz (or the two unpacked)")
        return found
    folders = [cache_folder() / "mnist"]
    if data := os.environ.get("CORTEN_DATA"):
        folders.insert(0, Path(data) / "mnist")
    for folder in folders:
        if (found := _find_in(folder, names)) is not None:
            return found
    looked = " and ".join(str(folder) for folder in folders)
    if not download:
        raise FileNotFoundError(
            f"[mnist] the full set is not in {looked}; allow download=True, or put {names[0]}.gz and "
            f"{names[1]}.gz there"
        )
    try:
        return [
            fetch_file(f"{name}.gz", _MIRRORS, folders[-1], _checker(name), limit=_LIMIT, log=_log) for name in names
        ]
    except DownloadError as error:
        raise DownloadError(
            f"[mnist] {error}\nThe subset that ships with corten needs no network: mnist(subset='builtin'). Files that "
            f"you have already are found in $CORTEN_DATA/mnist or with root=."
        ) from None


def _checker(name: str) -> Callable[[Path], None]:
    """A function that raises ValueError unless the file at a path unpacks to the right MD5."""

    def check(path: Path) -> None:
        try:
            with gzip.open(path, "rb") as file:
                got = md5_of(file, _LIMIT)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"what came is no gzip file ({error})") from None
        if got != _MD5[name]:
            raise ValueError(f"what came has MD5 {got} when unpacked, expected {_MD5[name]}")

    return check


def _log(line: str) -> None:
    print(f"corten: {line}", file=sys.stderr, flush=True)
