"""What goes to a terminal: text alone, whatever is in the ids and names it speaks of, and a clear end if nobody reads.

Ids, file names and texts of other libraries can hold control sequences that move the cursor, set the window's title or
hide what follows. Files get ids as they are; standard output and standard error get them with such characters escaped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

from bm3_pyg.errors import BM3Error
from bm3_pyg.escape import printable


def line(text: object) -> str:
    """``text``, :func:`printable` and on one line."""
    return printable(str(text)).replace("\n", "\\n").replace("\t", "\\t")


class Unread(BaseException):
    """Nobody reads what is printed any more, as below ``head``."""


class OutputError(BM3Error):
    """What should be printed cannot be."""


@contextmanager
def printing() -> Iterator[None]:
    """Within the context standard output and standard error take text alone.

    Raises:
        Unread: the reader of either has gone.
        OutputError: standard output cannot be written, for example to a full disk.
    """
    with contextlib.ExitStack() as stack:
        output, errors = (stream or stack.enter_context(open(os.devnull, "w")) for stream in (sys.stdout, sys.stderr))
        stack.enter_context(redirect_stdout(_Text(output, "standard output")))
        stack.enter_context(redirect_stderr(_Text(errors)))
        try:
            yield
        finally:
            sys.stdout.flush()


class _Text:
    """A text stream for :func:`printable` text; what its encoding lacks is escaped too.

    Where a ``name`` is given a failure to write is an error; elsewhere, on standard error, there is nobody to tell it.
    """

    def __init__(self, stream: TextIO, name: str | None = None) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        start = "\r" if self._name is None and text.startswith("\r") else ""  # where progress bars begin
        encoding = self._stream.encoding or "utf-8"
        clean = start + printable(text[len(start) :]).encode(encoding, "backslashreplace").decode(encoding)
        with self._failures():
            self._stream.write(clean)
        return len(text)

    def flush(self) -> None:
        with self._failures():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self._give_up()
            raise Unread from None
        except OSError as error:
            self._give_up()
            if self._name is not None:
                raise OutputError(f"{self._name}: cannot be written ({error.strerror})") from error

    def _give_up(self) -> None:
        """So that Python does not try again at its end."""
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


class LogHandler(logging.Handler):
    """Writes to what standard error is at the time, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if bars := sys.modules.get("tqdm"):
            bars.tqdm.write(self.format(record), file=sys.stderr)
            sys.stderr.flush()
        else:
            print(self.format(record), file=sys.stderr, flush=True)
