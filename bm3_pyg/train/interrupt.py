"""Ctrl-C, SIGTERM and a closed terminal ask training to stop between two steps; a second one stops at once. Elsewhere
the first does. ``nohup`` keeps its meaning: a signal that is ignored stays so."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DELICATE = ("llvmlite", "polars")


@dataclass
class StopFlag:
    set: bool = False


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Within the context the first SIGINT, SIGTERM or SIGHUP sets the flag. Outside the main thread it is never set.

    Within :func:`terminable` it is set from the start if a signal has come before, and was swallowed.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if flag.set:
            raise KeyboardInterrupt
        flag.set = True

    for handler in map(signal.getsignal, SIGNALS):
        if isinstance(handler, _Interrupt) and handler.reason:
            handler.over.set()
            flag.set = True
    with _handled(handle):
        yield flag


@contextmanager
def terminable() -> Iterator[None]:
    """Within the context, in the main thread, SIGINT, SIGTERM and SIGHUP are a KeyboardInterrupt, and what they break
    is one too.

    An import is not interrupted, nor a compilation, nor Polars: half a module would stay behind, and compiled code
    swallows what Python raises, or panics.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupt = _Interrupt()
    try:
        with _handled(interrupt):
            yield
    except BaseException as error:
        if not interrupt.reason or isinstance(error, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt(interrupt.reason) from error
    finally:
        interrupt.over.set()


class _Interrupt:
    """A handler that raises as soon as it may; a second signal does not wait for that."""

    def __init__(self) -> None:
        self.reason = ""
        self.over = threading.Event()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        first = not self.reason
        self.reason = f"stopped by {signal.Signals(number).name}" if number != signal.SIGINT else "interrupted"
        if first and _is_delicate(frame):
            threading.Thread(target=self._send_again, args=(number,), daemon=True).start()
        else:
            raise KeyboardInterrupt(self.reason)

    def _send_again(self, number: int) -> None:
        main = threading.main_thread().ident or 0
        while not self.over.wait(0.02):
            if not _is_delicate(sys._current_frames().get(main)):
                signal.pthread_kill(main, number)
                return


def _is_delicate(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib") or any(f"{os.sep}{library}{os.sep}" in name for library in DELICATE):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """The signals that are not ignored go to ``handle``."""
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
