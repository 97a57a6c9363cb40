"""Writes beside training, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import IO, Any, cast

import torch

from bm3_pyg.files import atomic_file
from bm3_pyg.timeline import part

PIECE = 1 << 23  # bytes


class Writer:
    """Does what it is given in turn, on a thread of its own: nobody waits until it is safe on the disk.

    After a failure nothing more is done, so that what is done is always a beginning of what was given; the next call
    raises it.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[], object], Event] | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._given_up, self._ended = Event(), Event()
        self._durable: dict[Path, Event] = {}
        self._thread = threading.Thread(target=self._work, name="bm3-writer", daemon=True)
        self._thread.start()

    def do(self, task: Callable[[], object], passed: Event | None = None) -> None:
        """Have ``task`` done; ``passed`` is set then, if the task has not set it, or the task left out."""
        self._raise()
        counted = partial(copy_context().run, part("write")(task))
        self._tasks.put((counted, passed or Event()))

    def save(self, path: Path, content: Any) -> None:
        """Write a checkpoint. Its tensors may change on return: they are in the temporary file, which is yet to be
        flushed to the disk and renamed to ``path``."""
        passed = Event()

        def task() -> None:
            with atomic_file(path) as temporary:
                with temporary.open("wb") as file:
                    pieces = _Pieces(file, self._given_up)
                    torch.save(content, cast(IO[bytes], pieces))
                    failure, pieces.failure = pieces.failure, None  # PyTorch keeps the pieces alive, and it with them
                    if failure is not None:
                        raise failure
                passed.set()

        self.do(task, passed)
        self._wait_for(passed)
        self._durable[path] = self._mark()

    def wait(self, path: Path | None = None) -> None:
        """Until all is done, or what was saved to ``path``."""
        self._wait_for(self._durable[path] if path in self._durable else self._mark())

    def close(self) -> None:
        """Do what is left and end. Interrupted, what has not been begun is left out."""
        if not self._thread.is_alive():  # it stays behind when a process forks
            return
        self._tasks.put(None)
        try:
            self._ended.wait()  # join, if interrupted, takes the thread for ended, up to Python 3.12
        except BaseException:
            self._given_up.set()
            self._ended.wait()
            raise

    def _mark(self) -> Event:
        """What is set when all is done that has been given so far."""
        passed = Event()
        self.do(lambda: None, passed)
        return passed

    def _wait_for(self, passed: Event) -> None:
        try:
            passed.wait()
        except BaseException:
            self._given_up.set()
            raise
        self._raise()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (given := self._tasks.get()) is not None:
            task, passed = given
            if self._failure is None and not self._given_up.is_set():
                try:
                    task()
                except BaseException as error:
                    self._failure = error
            passed.set()
        self._ended.set()


class _Pieces:
    """A file that is written in pieces, so that it can be given up within a large one. PyTorch does not bear a failure
    well while it writes: it is kept until then."""

    def __init__(self, file: IO[bytes], given_up: Event) -> None:
        self.file, self.given_up = file, given_up
        self.failure: BaseException | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE):
            if self.failure is None:
                try:
                    if self.given_up.is_set():
                        raise InterruptedError("given up")
                    self.file.write(view[start : start + PIECE])
                except BaseException as error:
                    self.failure = error
        return len(view)

    def flush(self) -> None:
        if self.failure is None:
            try:
                self.file.flush()
            except BaseException as error:
                self.failure = error
