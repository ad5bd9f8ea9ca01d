"""Progress: a bar that is drawn in place on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

__all__ = ["Progress"]

_BAR = 24


def _time(seconds: float) -> str:
    """Seconds as 8.2s, 1:02 or 1:01:05."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _figure(name: str, value: float) -> str:
    """A figure as text: shares as percent, anything else with four digits."""
    return f"{name} {value:.2%}" if name.endswith("accuracy") else f"{name} {value:.4f}"


class Progress:
    """Shows how far `Trainer.fit` is.

    On a terminal the line of the running epoch is redrawn in place, at most ten times a second; elsewhere each epoch is
    one line, and an epoch that takes long gets a line every half a minute.

    Args:
        epochs: how many there will be.
        steps: steps in an epoch, or None if nobody knows.
        stream: where to; standard output by default.
        interactive: whether the stream is a terminal; asked of the stream by default.
    """

    def __init__(
        self, epochs: int, steps: int | None, stream: TextIO | None = None, interactive: bool | None = None
    ) -> None:
        self.epochs = epochs
        self.steps = steps
        self._stream = sys.stdout if stream is None else stream
        isatty = getattr(self._stream, "isatty", None)
        self._interactive = bool(isatty and isatty()) if interactive is None else interactive
        self._interval = 0.1 if self._interactive else 30.0
        # Blocks need an encoding that has them.
        encoding = getattr(self._stream, "encoding", None) or "ascii"
        try:
            "━╸".encode(encoding)
            self._glyphs = ("━", "╸", " ")
        except (UnicodeEncodeError, LookupError):
            self._glyphs = ("=", ">", " ")
        self._epoch = 0
        self._start = self._next = 0.0
        self._width = 0

    def begin(self, epoch: int) -> None:
        """An epoch begins; it counts from 1."""
        self._epoch = epoch
        self._start = time.perf_counter()
        self._next = self._start + (0.0 if self._interactive else self._interval)

    def due(self) -> bool:
        """Whether `update` would draw now; lets the caller leave out computing the figures."""
        return time.perf_counter() >= self._next

    def update(self, step: int, figures: Mapping[str, float]) -> None:
        """Step `step` of the epoch is done; draws if enough time has passed."""
        now = time.perf_counter()
        if now < self._next:
            return
        self._next = now + self._interval
        elapsed = max(now - self._start, 1e-9)
        rate = step / elapsed
        if self.steps:
            count = f"{step:{len(str(self.steps))}d}/{self.steps}"
            left = f"  {_time((self.steps - step) / rate)} left" if step <= self.steps else ""
        else:
            count, left = str(step), ""
        parts = [f"{count}{left}", f"{rate:.0f} steps/s", *(_figure(n, v) for n, v in figures.items())]
        self._draw(step, "  ".join(parts), final=not self._interactive)

    def end(self, step: int, figures: Mapping[str, float]) -> None:
        """The epoch is over: its line becomes permanent."""
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        parts = [f"{_time(elapsed):>5}", *(_figure(n, v) for n, v in figures.items())]
        self._draw(self.steps or step, "  ".join(parts), final=True)

    def abort(self) -> None:
        """Leave the bar as it is and go to the next line."""
        if self._interactive and self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0

    def _bar(self, step: int, width: int) -> str:
        if not self._interactive or not self.steps or width < 5:
            return ""
        full, tip, empty = self._glyphs
        filled = min(width, width * step // self.steps)
        bar = full * filled + (tip if filled < width else "")
        return f"{bar:{empty}<{width}} "

    def _draw(self, step: int, text: str, final: bool) -> None:
        head = f"epoch {self._epoch:{len(str(self.epochs))}d}/{self.epochs} "
        if not self._interactive:
            self._stream.write(f"{head}{text}\n")
        else:
            columns = shutil.get_terminal_size().columns
            # The bar takes what the figures leave of the line.
            line = head + self._bar(step, min(_BAR, columns - 2 - len(head) - len(text))) + text
            if not final:  # a line that wraps could not be redrawn
                line = line[: max(columns - 1, 20)]
            self._stream.write("\r" + line.ljust(self._width) + ("\n" if final else ""))
            self._width = 0 if final else len(line)
        self._stream.flush()
