"""Tables from text, JSON lines and Parquet, with errors that name the line and the column."""

from __future__ import annotations

import hashlib
import io
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.content import Content, is_stream, kind_of, read_content, text_of
from bm3_pyg.data.delimited import parse_delimited
from bm3_pyg.data.jsonl import parse_jsonl
from bm3_pyg.errors import LONGEST, DataError, named, shown

OPTIONS = {"user": "--user-column", "item": "--item-column, or --id-column of items and features"}
NOTHING = ("NA", "N/A", "null", "NULL", "None")  # what tools write where a number is missing


@dataclass(frozen=True)
class Table:
    """A file's rows, empty cells null.

    Of text every column is of strings (or, in JSON lines, of lists of numbers), and ``lines`` has the line of the first
    row or of every row [n]. ``notes`` grows as columns are read.
    """

    path: Path
    frame: pl.DataFrame
    sha256: str
    lines: int | NDArray[np.int64] | None = None
    repeated: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    def where(self, row: int) -> str:
        """``"clicks.csv: line 7"`` for text, ``"clicks.parquet: row 6"`` (from 1) for Parquet."""
        if self.lines is None:
            return f"{self.path}: row {row + 1}"
        return f"{self.path}: line {self.lines + row if isinstance(self.lines, int) else self.lines[row]}"


def read_table(path: str | Path, *, separator: str | None = None, columns: Sequence[str] | None = None) -> Table:
    """Read a .csv, .tsv, .jsonl or .parquet file, also compressed, a pipe with one of these, or any other text.

    Args:
        path: ``-`` is standard input.
        separator: Of text, where the name and the header do not tell.
        columns: The columns' names, for text without a header.

    Raises:
        DataError: The file is missing, empty, without rows, not UTF-8 or not what its name says.
    """
    content = read_content(path)
    kind = None if separator else table_kind(content)
    if columns is not None and kind in ("parquet", "jsonl"):
        raise DataError(f"{content.path}: columns are named in it, got {', '.join(columns)} for text without a header")
    if kind == "parquet":
        table = Table(content.path, _parse_parquet(content), content.sha256)
    elif kind == "jsonl":
        frame, lines = parse_jsonl(content.path, text_of(content))
        table = Table(content.path, frame, content.sha256, lines)
    else:
        separator = separator or ("\t" if kind == "tsv" else ",")
        rows = parse_delimited(content.path, text_of(content), separator, columns)
        table = Table(content.path, rows.frame, content.sha256, rows.lines, rows.repeated, rows.notes)
    if table.frame.height == 0:
        raise DataError(f"{table.path}: no rows, expected at least one{' below the header' if kind != 'jsonl' else ''}")
    return table


def table_kind(content: Content) -> str | None:
    """What a table is by its first bytes, else by its name."""
    if content.raw.startswith(b"PAR1"):
        return "parquet"
    if is_stream(content.path) and content.raw.lstrip().startswith(b"{"):
        return "jsonl"
    return kind_of(content.path)


def log_notes(notes: Sequence[str], logger: str = "bm3_pyg") -> None:
    """Log what users should know about their data."""
    for note in notes:
        logging.getLogger(logger).warning(note)


def column(table: Table, name: str) -> pl.Series:
    """The column called ``name``; where it is missing, the error says which there are."""
    if name in table.repeated:
        raise DataError(f"{table.path}: column {shown(name)} stands twice in the header, expected it once")
    with suppress(pl.exceptions.ColumnNotFoundError):
        return table.frame.get_column(name)
    names = table.frame.columns
    message = f"{table.path}: no column {name!r}; found {', '.join(map(named, names[:8]))}" + (
        ", ..." if len(names) > 8 else ""
    )
    if table.lines is not None and _is_row(table.frame):
        message += "; is there no header? Then name all columns in their order: columns=user,item,... (--columns)"
    elif name in OPTIONS:
        message += f"; say what yours is called ({OPTIONS[name]})"
    raise DataError(message)


def present(table: Table, name: str) -> pl.Series:
    """Column ``name``, in which every row must hold a value."""
    values = column(table, name)
    missing = values.is_null()
    if values.dtype == pl.String:
        missing |= values.eq("").fill_null(False)
    if missing.any():
        row = int(missing.arg_max() or 0)
        raise DataError(f"{table.where(row)}: column {name!r} is empty, expected a value in every row")
    return values


def type_of(values: pl.Series) -> str:
    """A column's type for messages."""
    kind = str(values.dtype)
    return kind if len(kind) <= LONGEST else f"{kind[:LONGEST]}..."


def integers(table: Table, name: str) -> NDArray[np.int64]:
    """Column ``name`` as non-negative int64 numbers."""
    values = present(table, name)
    if values.dtype != pl.String and not values.dtype.is_integer():
        raise DataError(f"{table.path}: column {name!r} has type {type_of(values)}, expected integers")
    numbers = values.cast(pl.Int64, strict=False)
    bad = numbers.is_null() | (numbers < 0)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {name} is {shown(values[row])}, expected a non-negative 64-bit integer")
    return numbers.to_numpy()


def codes(table: Table, name: str, known: Mapping[str, int]) -> NDArray[np.int8]:
    """Column ``name`` through the table ``known``; a value that is not in it is an error."""
    values = present(table, name)
    if values.dtype.is_nested():
        raise DataError(f"{table.path}: column {name!r} has type {type_of(values)}, expected strings or integers")
    numbers = values.cast(pl.String).replace_strict(known, default=None, return_dtype=pl.Int8)
    refuse_new_nulls(table, name, values, numbers, f"one of {', '.join(known)}")
    return numbers.to_numpy()


def floats(table: Table, name: str) -> NDArray[np.float32]:
    """Column ``name`` as float32; empty cells and such as ``NA`` become NaN."""
    values = column(table, name)
    if values.dtype != pl.String and not values.dtype.is_numeric() and values.dtype != pl.Null:
        raise DataError(f"{table.path}: column {shown(name)} has type {type_of(values)}, expected numbers")
    numbers = values.cast(pl.Float32, strict=False)
    if numbers.null_count() > values.null_count() and values.dtype == pl.String:
        values = values.set(values.is_in(NOTHING), None)
    refuse_new_nulls(table, name, values, numbers, "a number with a decimal point")
    return numbers.to_numpy()


def refuse_new_nulls(table: Table, name: str, before: pl.Series, after: pl.Series, expected: str) -> None:
    """Raise a :class:`DataError` for the first row that a conversion left without a value."""
    if after.null_count() > before.null_count():
        row = int((after.is_null() & before.is_not_null()).arg_max() or 0)
        raise DataError(f"{table.where(row)}: {named(name)} is {shown(before[row])}, expected {expected}")


def _parse_parquet(content: Content) -> pl.DataFrame:
    if not content.raw:
        raise DataError(f"{content.path}: the file is empty, expected a Parquet file")
    try:
        return parse_parquet(content.raw)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DataError(f"{content.path}: cannot be read as Parquet ({_first_line(error)})") from error


def parse_parquet(raw: bytes) -> pl.DataFrame:
    """The table in a Parquet file that may be damaged.

    Some damage has polars end the process ("memory allocation of 2305843009213693944 bytes failed"), so the first to
    read the file is another one; the same bytes are not tried again.

    Raises:
        ValueError: It cannot be read.
    """
    digest = hashlib.sha256(raw).digest()
    if digest not in _flaws:
        _flaws[digest] = _flaw(raw)
    if (flaw := _flaws[digest]) is not None:
        raise ValueError(flaw)
    return pl.read_parquet(io.BytesIO(raw))


_flaws: dict[bytes, str | None] = {}
"""What is wrong with each Parquet file that another process has tried, by its SHA-256; None for those it has read."""


def _flaw(raw: bytes) -> str | None:
    code = "import io, sys, polars; polars.read_parquet(io.BytesIO(sys.stdin.buffer.read()))"
    trial = subprocess.run([sys.executable, "-c", code], input=raw, capture_output=True)
    if trial.returncode == 0:
        return None
    if trial.returncode < 0:
        return "damaged: reading it ended the process"
    return trial.stderr.decode(errors="replace").strip().rpartition("\n")[2].partition(": ")[2]


def _is_row(frame: pl.DataFrame) -> bool:
    """Whether the names look like values: one is a number, or stands in its own column."""
    names = pl.Series(frame.columns, dtype=pl.String)
    if names.cast(pl.Float64, strict=False).is_not_null().any():
        return True
    return any(column.dtype == pl.String and (column == column.name).any() for column in frame)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
