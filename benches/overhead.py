"""What corten costs before it computes anything: import time, wheel size, one small operation.

    python benches/overhead.py            prints the figures and the limits
    python benches/overhead.py --check    and fails if one is over its limit (`make overhead`)

Wheel size is that of the newest wheel in dist/ (`make wheel`). Times are the best of many, so that other load on the
machine counts as little as possible.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

IMPORT = """
import time
import numpy
start = time.perf_counter()
import corten
print(time.perf_counter() - start)
"""


def import_seconds() -> float:
    """Time of `import corten` after `import numpy`, each in a fresh interpreter."""
    times = [
        float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout)
        for _ in range(7)
    ]
    return min(times)


def wheel_megabytes() -> float | None:
    """Size of the newest wheel, in MB."""
    wheels = Path(__file__).parents[1].joinpath("dist").glob("corten-*.whl")
    newest = max(wheels, key=lambda p: p.stat().st_mtime, default=None)
    return None if newest is None else newest.stat().st_size / 1e6


def microseconds(call: Callable[[], object], number: int = 20_000) -> float:
    """Best time of one call, without the loop's own."""
    return (min(timeit.repeat(call, number=number, repeat=15)) - min(timeit.repeat(lambda: None, number=number))) / (
        number * 1e-6
    )


def main() -> int:
    """Print every figure; with --check, 1 if one is over its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail when a figure is over its limit")
    check = parser.parse_args().check

    import numpy as np

    import corten as ct

    a, b = ct.ones(8), ct.ones(8)
    w = ct.ones(8, requires_grad=True)
    x, y = np.ones(8, np.float32), np.ones(8, np.float32)
    # A slow machine is no fault of ours: there NumPy's own addition is the measure.
    numpys = microseconds(lambda: x + y)
    rows: list[tuple[str, float | None, float | None, str]] = [
        ("import corten, beyond NumPy's", import_seconds(), 0.15, "s"),
        ("wheel", wheel_megabytes(), 8.0, "MB"),
        ("a + b on 8 floats", microseconds(lambda: a + b), max(1.0, 1.25 * numpys), "us"),
        ("a + b on 8 floats, recorded", microseconds(lambda: w + b), None, "us"),
        ("a + 1.0 on 8 floats", microseconds(lambda: a + 1.0), None, "us"),
        ("corten.add(a, b)", microseconds(lambda: ct.add(a, b)), None, "us"),
        ("a.sum()", microseconds(lambda: a.sum()), None, "us"),
        ("a.shape", microseconds(lambda: a.shape), None, "us"),
        ("numpy: x + y on 8 floats", numpys, None, "us"),
    ]
    over = 0
    for name, figure, limit, unit in rows:
        shown = "not built (make wheel)" if figure is None else f"{figure:8.3f} {unit}"
        if limit is not None and figure is not None:
            shown += f"   limit {limit:.3g} {unit}: {'ok' if figure <= limit else 'OVER'}"
            over += figure > limit
        print(f"{name:32}{shown}")
    return int(check and over > 0)


if __name__ == "__main__":
    sys.exit(main())
