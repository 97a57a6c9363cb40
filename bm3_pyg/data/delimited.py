"""Rows of text whose cells are separated by commas, tabs, semicolons or bars, as people have them.

- A line is a row. Blank lines and rows of empty cells do not count (but in a table of one column), nor, before the
  header, comments (``#``) and Excel's ``sep=;``. White space around the columns' names does not count.
- A quote opens a quoted field at the start of a cell if it is closed before a separator or the line's end (RFC 4180,
  quotes in it are doubled); any other quote is a character like others.
- A quoted field may run over line ends if that gives a row of the header's number of cells. Where each of its lines is
  such a row too, a tab-separated file is read line by line; any other is refused, unless its other fields prove that
  it quotes line ends.
- Cells missing at a row's end are empty; more cells than the header has are an error, unless they are empty.
"""

from __future__ import annotations

import io
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from string import whitespace
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.errors import DataError

SEPARATORS = ",\t;|"
CHUNK = 50_000  # rows that are Python objects at a time
BLOCK = 1 << 24


@dataclass(frozen=True)
class Rows:
    """String columns; the line of the first row, or [n] of each; names that stand twice in the header; notes."""

    frame: pl.DataFrame
    lines: int | NDArray[np.int64]
    repeated: frozenset[str]
    notes: list[str]


def parse_delimited(path: Path, text: bytes, separator: str, names: Sequence[str] | None = None) -> Rows:
    """The rows of ``text`` below its header, or of all its lines where the columns' ``names`` are given.

    Args:
        path: For messages.
        text: UTF-8.
        separator: What separates cells, where the first line does not show that it is another of :data:`SEPARATORS`.

    Raises:
        DataError: There is no text, or a row has more cells than the header; the message names the line.
    """
    if b"\n" not in text:
        text = text.replace(b"\r", b"\n")
    start, skipped = _start(text)
    body = text[start:].rstrip(b"\r\n")
    if not body.strip():
        raise DataError(f"{path}: the file is empty, expected a header line and rows")
    first = body.split(b"\n", 1)[0].decode().removesuffix("\r")
    separator = _separator(first, separator)
    cells = _Reader(separator).cells(first)
    given = None if names is None or list(names) == cells else list(names)
    if (frame := _parse_regular(body, separator, len(cells), given)) is not None:
        return _named(frame, given or cells, skipped + (2 if given is None else 1), [])
    return _named(*_parse_carefully(path, body, separator, given, skipped))


def _start(text: bytes) -> tuple[int, int]:
    """Where the first line is that is neither blank nor a comment, and the number of lines before it."""
    at = lines = 0
    while at < len(text):
        end = text.find(b"\n", at) + 1 or len(text)
        line = text[at:end].strip(b"\r\n")
        if line and not re.match(rb"#(\s|[^,\t;|]*$)|sep=.$", line):
            break
        at, lines = end, lines + 1
    return at, lines


def _separator(first: str, expected: str) -> str:
    if expected in first:
        return expected
    return max(SEPARATORS, key=lambda mark: (len(_Reader(mark).cells(first)), mark == expected))


class _Shape(NamedTuple):
    """How many cells a row should have: to the last column that has a name, to the last column."""

    least: int
    most: int

    @staticmethod
    def of(header: Sequence[str]) -> _Shape:
        named = [place for place, name in enumerate(header, 1) if name]
        return _Shape(named[-1] if named else len(header), len(header))

    def fits(self, cells: Sequence[str]) -> bool:
        return len(cells) >= self.least and not any(cells[self.most :])


class _Record(NamedTuple):
    first: int
    last: int
    cells: list[str]
    doubtful: bool = False  # each of its lines is a row too


class _Reader:
    """Records of a text; its lines end in \\n or \\r\\n, with ``lone_returns`` in \\r too."""

    def __init__(self, separator: str, lone_returns: bool = False) -> None:
        mark, end = re.escape(separator), r"\r\n?|\n" if lone_returns else r"\r?\n"
        self.separator = separator
        self.end = re.compile(r"\r\n?|\n" if lone_returns else r"\n")
        self.stop = re.compile(rf"{mark}|{end}|\Z")
        self.quoted = re.compile(rf'"[^"]*(?:""[^"]*)*"(?={mark}|{end}|\Z)')

    def cells(self, line: str) -> list[str]:
        """Cells of one line."""
        return self._cells(line, 0)[0] if self._opens(line) else line.split(self.separator)

    def row(self, line: str, shape: _Shape) -> list[str]:
        """Cells of one line, with its quotes taken for characters where only that gives the right number."""
        literal = line.split(self.separator)
        if not self._opens(line):
            return literal
        cells, _ = self._cells(line, 0)
        return literal if shape.fits(literal) and not shape.fits(cells) else cells

    def records(self, text: str, shape: _Shape | None) -> Iterator[_Record]:
        """All records; without a ``shape`` the first is the header and gives it."""
        at, number = 0, 1
        while at < len(text):
            line, after = self._line(text, at)
            record = _Record(number, number, self.row(line, shape) if shape else self.cells(line))
            if self._opens(line) and (long := self._long(text, at, number, line, shape)):
                record, after = long
            if line.strip(whitespace) or (shape and shape.most == 1):
                yield record
            shape = shape or _Shape.of(record.cells)
            at, number = after, record.last + 1

    def _opens(self, line: str) -> bool:
        """Whether a cell begins with a quote."""
        return '"' in line and (line[0] == '"' or f'{self.separator}"' in line)

    def _long(self, text: str, at: int, number: int, line: str, shape: _Shape | None) -> tuple[_Record, int] | None:
        """The record at ``at`` and where the next begins, if a quoted field of it runs over the end of ``line``."""
        cells, end = self._cells(text, at)
        if end <= at + len(line) or (shape and not shape.fits(cells)):
            return None
        lines, after = [], at
        while after < end:
            line, after = self._line(text, after)
            lines.append(line)
        shape = shape or _Shape.of(cells)
        doubtful = all(shape.fits(self.row(line, shape)) for line in lines)
        if doubtful and self.separator == "\t":
            return None
        return _Record(number, number + len(lines) - 1, cells, doubtful), after

    def _cells(self, text: str, at: int) -> tuple[list[str], int]:
        """Cells of the record at ``at``, and where it ends."""
        cells = []
        while True:
            if quoted := self.quoted.match(text, at):
                end = quoted.end()
                cells.append(text[at + 1 : end - 1].replace('""', '"'))
            else:
                stop = self.stop.search(text, at)
                assert stop is not None
                end = stop.start()
                cells.append(text[at:end])
            if not text.startswith(self.separator, end):
                return cells, end
            at = end + 1

    def _line(self, text: str, at: int) -> tuple[str, int]:
        """The line at ``at``, and where the next begins."""
        end = self.end.search(text, at)
        if end is None:
            return text[at:], len(text)
        return text[at : end.start()].removesuffix("\r"), end.end()


class _Uneven(Exception):
    """A row has fewer cells than the header."""


def _parse_carefully(
    path: Path, body: bytes, separator: str, names: list[str] | None, skipped: int
) -> tuple[pl.DataFrame, list[str], NDArray[np.int64], list[str]]:
    """Rows, header, the line of each row, and notes."""
    text = body.decode()
    if text.count("\r") > text.count("\r\n"):
        try:  # a lone \r ends a line if that makes all of them whole rows, else it is a character
            return _collect(path, _Reader(separator, lone_returns=True), text, names, skipped, even=True)
        except (DataError, _Uneven):
            pass
    return _collect(path, _Reader(separator), text, names, skipped)


def _collect(
    path: Path, reader: _Reader, text: str, names: list[str] | None, skipped: int, even: bool = False
) -> tuple[pl.DataFrame, list[str], NDArray[np.int64], list[str]]:
    """As :func:`_parse_carefully`. With ``even``, :class:`_Uneven` is raised for a row with gaps."""
    records = reader.records(text, None if names is None else _Shape.of(names))
    header = next(records).cells if names is None else names
    shape = _Shape.of(header)
    schema = {str(place): pl.String for place in range(shape.most)}
    chunks: list[pl.DataFrame] = []
    rows: list[list[str | None]] = []
    lines = array("q")
    doubtful: list[_Record] = []
    proven = False
    for record in records:
        cells = record.cells
        if even and not shape.fits(cells):
            raise _Uneven
        if any(cells[shape.most :]):
            expected = f"expected {shape.most} as {'in the header' if names is None else 'columns are named'}"
            raise DataError(f"{path}: line {record.first + skipped}: {len(cells)} cells, {expected}")
        proven |= record.last > record.first and not record.doubtful
        if record.doubtful:
            doubtful.append(record)
        rows.append([*cells[: shape.most], *[None] * (shape.most - len(cells))])
        lines.append(record.first + skipped)
        if len(rows) == CHUNK:
            chunks.append(pl.DataFrame(rows, schema=schema, orient="row"))
            rows.clear()
    chunks.append(pl.DataFrame(rows, schema=schema, orient="row"))
    notes = _notes(path, doubtful, proven, skipped)
    return pl.concat(chunks), header, np.array(lines, dtype=np.int64), notes


def _notes(path: Path, doubtful: list[_Record], proven: bool, skipped: int) -> list[str]:
    """A note on the ``doubtful`` rows; an error where nothing proves that the file quotes line ends."""
    if not doubtful:
        return []
    first, last = doubtful[0].first + skipped, doubtful[0].last + skipped
    if not proven:
        raise DataError(
            f"{path}: lines {first} to {last}: a quote opens in the first and closes in the last, but each is a "
            f'whole row by itself, expected quotes that close in their line or are doubled (""), or .jsonl'
        )
    return [
        f"{path.name}: {len(doubtful):,} rows run over lines, such as {first} to {last}, that would be rows by "
        f"themselves; stray quotes?"
    ]


def _parse_regular(body: bytes, separator: str, width: int, names: list[str] | None) -> pl.DataFrame | None:
    """What polars reads, if every line is a row of ``width`` cells and its quotes are RFC 4180's."""
    lines = body.count(b"\n") + 1
    if b"\n\n" in body or b"\n\r\n" in body or body.count(b"\r") > body.count(b"\r\n"):
        return None
    if names is not None and len(names) != width:
        return None
    quotes = b'"' in body
    cells = _proper_cells(body, separator) if quotes else body.count(separator.encode()) + lines
    if cells != width * lines:
        return None
    try:
        frame = pl.read_csv(
            io.BytesIO(body),
            separator=separator,
            quote_char='"' if quotes else None,
            has_header=names is None,
            infer_schema=False,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    return frame if frame.shape == (lines - (names is None), width) else None


def _proper_cells(body: bytes, separator: str) -> int | None:
    """The number of cells if quotes stand where RFC 4180 has them and none encloses a line's end, else None."""
    text = np.frombuffer(body, dtype=np.uint8)
    quote, end, mark = ord('"'), ord("\n"), ord(separator)
    before, after = np.zeros(256, dtype=bool), np.zeros(256, dtype=bool)
    before[[mark, end, quote]] = True
    after[[mark, end, quote, ord("\r")]] = True
    quotes, cells = 0, 1
    for start in range(0, len(text), BLOCK):
        block = text[start : start + BLOCK]
        is_quote = block == quote
        inside = (np.cumsum(is_quote, dtype=np.uint8) + quotes % 2) % 2 == 1
        if (inside & (block == end)).any():
            return None
        cells += int((~inside & ((block == mark) | (block == end))).sum())
        places = start + np.flatnonzero(is_quote)
        opening, closing = places[quotes % 2 :: 2], places[1 - quotes % 2 :: 2]
        if (
            not before[text[opening[opening > 0] - 1]].all()
            or not after[text[closing[closing < len(text) - 1] + 1]].all()
        ):
            return None
        quotes += len(places)
    return None if quotes % 2 else cells


def _named(frame: pl.DataFrame, header: Sequence[str], lines: int | NDArray[np.int64], notes: list[str]) -> Rows:
    """The frame under its names, the second of a name with a number; empty cells are null, nameless columns of nothing
    but such at the end are gone."""
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if len(header) > 1 and blank.any():
        at = np.arange(lines, lines + len(blank)) if isinstance(lines, int) else lines
        frame, lines = frame.filter(~blank), at[~blank.to_numpy()]
    while len(header) > 1 and not header[-1] and frame.to_series(len(header) - 1).null_count() == frame.height:
        header, frame = header[:-1], frame[:, :-1]
    header = [name.strip() for name in header]
    taken, names = set(header), dict[str, None]()
    for name in header:
        copies = (f"{name} ({number})" for number in count(2))
        names[name if name not in names else next(copy for copy in copies if copy not in {*names, *taken})] = None
    frame.columns = list(names)
    return Rows(frame, lines, frozenset(name for name, times in Counter(header).items() if times > 1), notes)
