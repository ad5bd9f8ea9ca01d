"""Make the copy of *Alice's Adventures in Wonderland* that ships inside the package.

The bytes are reproducible: no time stamp and no file name is stored.

    python tools/make_alice.py PATH/TO/alice29.txt [OUT]

OUT defaults to the file inside the package.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

DATASETS = Path(__file__).resolve().parent.parent / "python" / "corten" / "datasets"
ORIGINAL_MD5 = "74c3b556c76ea0cfae111cdb64d08255"


def main() -> None:
    """Read the original, check it, write the copy."""
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    raw = Path(sys.argv[1]).read_bytes()
    if (digest := hashlib.md5(raw, usedforsecurity=False).hexdigest()) != ORIGINAL_MD5:
        raise SystemExit(f"{sys.argv[1]}: MD5 is {digest}, expected {ORIGINAL_MD5}")
    from corten.datasets.alice import strip_edition

    text = strip_edition(raw).encode("ascii")
    out = Path(sys.argv[2]) if len(sys.argv) == 3 else DATASETS / "alice_text" / "alice.txt.gz"
    out.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{out}: {out.stat().st_size} bytes; the text has {len(text)}, MD5 {hashlib.md5(text).hexdigest()}")


if __name__ == "__main__":
    main()
