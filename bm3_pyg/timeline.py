"""Where the time of a run goes: seconds of each of its parts, what other threads do beside it told apart."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

PARTS = {
    "start": "Python, and reading the command line",
    "import": "PyTorch, PyTorch Geometric and other libraries",
    "read": "the dataset and its fingerprint, checkpoints",
    "build": "the model, its optimizer, who is ranked",
    "compile": "compiled loops, or loading them",
    "train": "training steps",
    "rank": "validation and test",
    "write": "files of the run",
    "other": "all else",
}
IMPORTED = time.perf_counter()


class Timeline:
    """Seconds of each of the :data:`PARTS`. A part within another counts for itself alone, so that they add up.

    Attributes:
        seconds: of the thread that made it, by part.
        beside: of other threads that run in a copy of its context (:func:`contextvars.copy_context`), by part.

    Args:
        since: what :func:`time.perf_counter` said when it began; by default it begins now. All before now is "start".
    """

    def __init__(self, since: float | None = None) -> None:
        now = time.perf_counter()
        self.seconds, self.beside = dict.fromkeys(PARTS, 0.0), dict[str, float]()
        if since is not None:
            self.seconds["start"] = now - since
        self._own = _Stopwatch(self.seconds, ["other"], now)
        self._others = threading.local()

    def count(self) -> dict[str, dict[str, float]]:
        """``seconds`` until now and, if there is any, ``seconds_beside``, as environment.json has them."""
        self._own.charge()
        counted = {"seconds": self.seconds, "seconds_beside": self.beside}
        return {name: {part: round(value, 3) for part, value in of.items()} for name, of in counted.items() if of}

    def table(self) -> str:
        """Seconds and share of each part until now, a line each."""
        self._own.charge()
        total = sum(self.seconds.values())
        lines = [f"{'seconds':>9} {'share':>6}"]
        for part, seconds in self.seconds.items():
            lines.append(f"{seconds:9.2f} {seconds / total:6.1%}  {part:8} {PARTS[part]}")
        lines.append(f"{total:9.2f} {1:6.1%}  in all")
        lines += [f"{seconds:9.2f}         {part:8} beside it, in threads" for part, seconds in self.beside.items()]
        return "\n".join(lines)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        watch = self._watch()
        watch.charge()
        watch.parts.append(name)
        try:
            yield
        finally:
            watch.charge()
            watch.parts.pop()

    def _watch(self) -> _Stopwatch:
        if threading.get_ident() == self._own.thread:
            return self._own
        if not hasattr(self._others, "watch"):
            self._others.watch = _Stopwatch(self.beside, [], time.perf_counter())
        watch: _Stopwatch = self._others.watch
        return watch


class _Stopwatch:
    """Charges the time of one thread to the innermost of the parts that it is in."""

    def __init__(self, seconds: dict[str, float], parts: list[str], now: float) -> None:
        self.seconds, self.parts, self.now = seconds, parts, now
        self.thread = threading.get_ident()

    def charge(self) -> None:
        before, self.now = self.now, time.perf_counter()
        if self.parts:
            part = self.parts[-1]
            self.seconds[part] = self.seconds.get(part, 0.0) + self.now - before


@contextmanager
def recorded(since: float | None = None) -> Iterator[Timeline]:
    """The timeline that :func:`part` counts in: that of the context around it, else a new one (``since`` then)."""
    timeline = _current.get() or Timeline(since)
    token = _current.set(timeline)
    try:
        yield timeline
    finally:
        _current.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Count the time within the context, or of the decorated function, as one of the :data:`PARTS`, if any counts."""
    timeline = _current.get()
    if timeline is None:
        yield
        return
    with timeline.part(name):
        yield


def process_start() -> float:
    """When this process began, as :func:`time.perf_counter` counts; when this module was imported if none can tell."""
    now = time.perf_counter()
    with suppress(OSError, AttributeError, IndexError, ValueError):
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        if 0 < age - (now - IMPORTED) < 60:  # else it counts otherwise than it should, as in some sandboxes
            return now - age
    return IMPORTED


_current: ContextVar[Timeline | None] = ContextVar("timeline", default=None)
