"""Anomaly mode: name the operation, the layer and the line in which a NaN was born."""

from __future__ import annotations

import linecache
import os
import sys
import threading
from contextlib import ContextDecorator
from types import FrameType, TracebackType
from typing import Any

from .. import _core
from .._core import AnomalyError

__all__ = ["AnomalyError", "detect_anomaly"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Where other people's programs lie: what runs the caller's (a test runner, a notebook) is not worth showing.
_FOREIGN = (f"{os.sep}site-packages{os.sep}", os.path.dirname(os.__file__) + os.sep, "<frozen ")
#: How many lines of the caller's program are shown.
_FRAMES = 4


class _Layers(threading.local):
    """The modules whose forward runs on this thread, with their paths, outermost first."""

    def __init__(self) -> None:
        self.stack: list[tuple[str, Any]] = []


_layers = _Layers()


class _Place:
    """Where the program was: the path of the innermost module, and the lines of the caller's program, innermost last.

    Its text is made only when it is asked for: one of these is made for every operation.
    """

    __slots__ = ("frames", "layer")

    def __init__(self, layer: str | None, frames: list[tuple[str, int, str]]) -> None:
        self.layer = layer
        self.frames = frames

    def __str__(self) -> str:
        text = f"\n  layer {self.layer}" if self.layer else ""
        for file, line, function in self.frames:
            source = linecache.getline(file, line).strip()
            text += f"\n  at {file}:{line} in {function}" + (f": {source}" if source else "")
        return text


def _observe() -> _Place:
    frames: list[tuple[str, int, str]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(frames) < _FRAMES:
        file = frame.f_code.co_filename
        if not file.startswith(_PACKAGE) and not any(part in file for part in _FOREIGN):
            frames.append((file, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    stack = _layers.stack
    return _Place(_shown(*stack[-1]) if stack else None, frames[::-1])


def _shown(path: str, module: Any) -> str:
    kind = type(module).__name__
    return f"{path} ({kind})" if path else kind


class inside:
    """While it lasts, operations belong to `module`; what `Module.__call__` enters in anomaly mode."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __enter__(self) -> None:
        stack = _layers.stack
        path = ""
        # Its name within the innermost running module that holds it: a list of modules is not called itself.
        for above, holder in reversed(stack):
            found = next((name for name, m in holder.named_modules() if m is self.module), None)
            if found is not None:
                path = ".".join(part for part in (above, found) if part)
                break
        stack.append((path, self.module))

    def __exit__(self, *_: object) -> None:
        _layers.stack.pop()


#: How many contexts are active: `Module.__call__` looks at it.
active = 0
_lock = threading.Lock()


class detect_anomaly(ContextDecorator):
    """Look at every result and every gradient, and raise where a NaN is born. A context manager and a decorator.

    The first operation whose inputs hold no NaN and whose output does raises `corten.autograd.AnomalyError`; so does
    the first gradient function that makes a NaN from clean gradients. The message names the operation, forward or
    backward, the layer (`features.3 (Conv2d)`), the lines of the program that called it (also for backward), shapes and
    ranges of what went in and came out, how many elements failed and the first of them.

    A NaN that comes in with data or a parameter was born nowhere, and raises nothing; operations pass it on.

    The mode holds for all threads. It looks through every tensor and notes every line, so it is slow: for the search,
    not for training. Off, it costs nothing that can be measured. `CORTEN_ANOMALY=1` in the environment (or `inf`, to
    look for infinities) turns it on for the whole program.

    Args:
        check_inf: also raise where an infinity is born of finite numbers.

    >>> import corten as ct
    >>> with ct.detect_anomaly():
    ...     ct.sqrt(ct.tensor([4.0, -1.0]))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    corten.AnomalyError: [sqrt] a NaN was born here, in the forward pass: ...
    """

    def __init__(self, check_inf: bool = False) -> None:
        self.check_inf = bool(check_inf)

    def _recreate_cm(self) -> detect_anomaly:
        return type(self)(self.check_inf)

    def __enter__(self) -> None:
        global active
        _core._anomaly_enter(self.check_inf, _observe)
        with _lock:
            active += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global active
        with _lock:
            active -= 1
        _core._anomaly_leave(self.check_inf)


def _from_environment(value: str | None) -> None:
    if value in (None, "", "0"):
        return
    if value not in ("1", "inf"):
        raise ValueError(f"[corten] CORTEN_ANOMALY must be 0, 1 or inf, got {value!r}")
    detect_anomaly(check_inf=value == "inf").__enter__()


_from_environment(os.environ.get("CORTEN_ANOMALY"))
