"""Ctrl-C, SIGTERM and a closed terminal ask training to stop between two steps; a second one stops at once. Elsewhere
the first does. ``nohup`` keeps its meaning: a SIGHUP that is ignored stays so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopFlag:
    set: bool = False


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Within the context the first SIGINT, SIGTERM or SIGHUP sets the flag. Outside the main thread it is never set."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.set:
            raise KeyboardInterrupt
        flag.set = True

    with _handled(handle, signal.SIGINT, signal.SIGTERM, *_hangup()):
        yield flag


@contextmanager
def terminable() -> Iterator[None]:
    """Within the context, in the main thread, SIGTERM and SIGHUP are as Ctrl-C: a KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")

    with _handled(handle, signal.SIGTERM, *_hangup()):
        yield


def _hangup() -> tuple[signal.Signals, ...]:
    """SIGHUP, unless it is ignored."""
    return () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
