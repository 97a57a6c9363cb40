"""Ctrl-C and SIGTERM ask training to stop between two steps; a second one stops at once. Elsewhere the first does."""

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
    """Within the context the first SIGINT or SIGTERM sets the flag. Outside the main thread it is never set."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.set:
            raise KeyboardInterrupt
        flag.set = True

    with _handled(handle, signal.SIGINT, signal.SIGTERM):
        yield flag


@contextmanager
def terminable() -> Iterator[None]:
    """Within the context, in the main thread, SIGTERM is as Ctrl-C: a KeyboardInterrupt, so that all is left clean."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("stopped by SIGTERM")

    with _handled(handle, signal.SIGTERM):
        yield


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
