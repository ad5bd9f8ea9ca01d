"""`python -m corten demo` trains LeNet-5; `python -m corten info` tells what corten sees of the machine."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__, functions


def _info() -> None:
    import numpy as np

    print(f"corten {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}")
    facts = functions.info()
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if name == "version":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(str(v) for v in value) or "none"
        print(f"  {name:{width}}  {value}")
    try:
        import matplotlib

        print(f"  {'matplotlib':{width}}  {matplotlib.__version__}")
    except ImportError:
        print(f"  {'matplotlib':{width}}  missing: no pictures (pip install 'corten[viz]')")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m corten", description="corten: deep learning in one small wheel.")
    parser.add_argument("--version", action="version", version=f"corten {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train LeNet-5 on handwritten digits and draw what it has learnt")
    demo.add_argument(
        "--epochs", type=int, default=12, help="passes through the training digits (default: %(default)s)"
    )
    demo.add_argument("--seed", type=int, default=0, help="of all random numbers (default: %(default)s)")
    demo.add_argument("--batch-size", type=int, default=64, help="digits in a step (default: %(default)s)")
    demo.add_argument("--lr", type=float, default=1e-3, help="Adam's learning rate (default: %(default)s)")
    demo.add_argument("--threads", type=int, help="threads of the kernels (default: the cores of this process)")
    demo.add_argument(
        "--data",
        choices=["builtin", "full"],
        default="builtin",
        help="6,000 digits that ship with corten, or all 60,000 from CORTEN_DATA or the network (default: %(default)s)",
    )
    demo.add_argument("--out", type=Path, default=Path("out/demo.png"), help="the picture (default: %(default)s)")
    demo.add_argument("--no-picture", action="store_true", help="draw none")
    commands.add_parser("info", help="tell what corten sees of the machine")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _parser().parse_args(argv)
    if args.command == "info":
        _info()
        return 0
    from .demo import run

    try:
        if args.threads is not None:
            functions.set_num_threads(args.threads)
        if not -(2**63) <= args.seed < 2**64:
            raise ValueError(f"[demo] the seed must fit 64 bits, got {args.seed}")
        run(
            args.epochs,
            args.seed,
            args.data,
            None if args.no_picture else args.out,
            args.batch_size,
            args.lr,
        )
    except KeyboardInterrupt:
        print("\nstopped")
        return 130
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
