"""Large text files in pieces of whole lines, compressed or not, and an account of the lines that are malformed."""

from __future__ import annotations

import codecs
import gzip
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from bm3_pyg.data.content import refuse_no_file
from bm3_pyg.errors import DataError, one_line

PIECE = 1 << 24  # bytes handed on at a time
LONGEST = 2 * PIECE  # bytes in a line; more is no text file
ALLOWED, SHOWN = 10, 3  # malformed lines forgiven in any file; described


def line_chunks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines) in pieces of about PIECE bytes; what is gzip is decompressed.

    Compression is told by content, not by name. A byte order mark is dropped. Progress shows on a terminal.

    Raises:
        DataError: The file is missing, empty, cut off, damaged, or has a line of more than LONGEST bytes.
    """
    if open_size(path) == 0:
        raise DataError(f"{path}: the file is empty, expected lines of text")
    line, buffer = 1, bytearray()
    with path.open("rb") as raw, progress(path) as bar:
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        source = gzip.GzipFile(fileobj=raw) if packed else raw
        while True:
            try:
                part = source.read1(PIECE)
            except (EOFError, OSError, zlib.error) as error:
                early = "the compressed data end early"
                wrong = early if isinstance(error, EOFError) else f"damaged ({one_line(error)})"
                at = line + buffer.count(b"\n")
                raise DataError(f"{path}: {wrong}, about line {at:,}; download it again") from error
            bar.update(raw.tell() - bar.n)
            buffer += part
            if part and len(buffer) < PIECE:
                continue
            if chunk := _cut(buffer, buffer.rfind(b"\n") + 1 if part else len(buffer)):
                yield line, chunk.removeprefix(codecs.BOM_UTF8) if line == 1 else chunk
                line += chunk.count(b"\n")
            if not part:
                return
            if len(buffer) > LONGEST:
                raise DataError(f"{path}: line {line:,} is longer than {LONGEST >> 20} MB, expected lines of text")


def open_size(path: Path) -> int:
    """Bytes in a file; a :class:`DataError` where there is none to read."""
    refuse_no_file(path)
    try:
        with path.open("rb"):
            return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def progress(path: Path) -> tqdm[NoReturn]:
    """A bar that counts the bytes of ``path``, on a terminal."""
    return tqdm(
        total=path.stat().st_size,
        desc=path.name,
        unit="B",
        unit_scale=True,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )


@dataclass
class Malformed:
    """Lines of a file that were skipped, up to a ``tolerance`` (share of the lines)."""

    path: Path
    tolerance: float
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.examples.append(f"line {line:,}: {what}")

    def notes(self, lines: int) -> list[str]:
        """What was skipped among ``lines`` lines, as one note; none if nothing was.

        Raises:
            DataError: More than ``tolerance * lines`` were, and more than ALLOWED or more than half.
        """
        if not self.count:
            return []
        allowed = max(self.tolerance * lines, min(ALLOWED, lines / 2))
        malformed = f"{self.count:,} of {lines:,} lines malformed"
        examples = "; ".join(self.examples) + ("; ..." if self.count > SHOWN else "")
        if self.count > allowed:
            raise DataError(f"{self.path}: {malformed}, expected at most {int(allowed):,} ({examples})")
        return [f"{self.path.name}: {malformed} and skipped ({examples})"]


def decoded(line: bytes) -> str:
    """A line as text; a ``ValueError`` that names the first byte which is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte 0x{line[error.start]:02x} is not UTF-8") from None


def _cut(buffer: bytearray, end: int) -> bytes:
    """Take the bytes before ``end`` off the buffer."""
    with memoryview(buffer) as view:
        head = bytes(view[:end])
    del buffer[:end]
    return head
