"""Runs a script in a process of its own, which a test may break, starve or interrupt."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

#: A process started in the background by a shell without job control ignores SIGINT, and so would its children.
LISTENS = "import signal as _signal; _signal.signal(_signal.SIGINT, _signal.default_int_handler); del _signal\n"


def script(code: str, *, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a new interpreter; what it wrote and how it ended."""
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", LISTENS + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )


def lines(code: str, *, timeout: float = 60, **environment: str) -> list[str]:
    """The lines that a script wrote, which must end well."""
    run = script(code, timeout=timeout, **environment)
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run.stdout.splitlines()
