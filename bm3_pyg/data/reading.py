"""Tables from text and Parquet files, with errors that name the line and the column."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A file's rows. Of a text file (``separator`` is set) every column is a string column; empty cells are null."""

    path: Path
    frame: pl.DataFrame
    sha256: str
    separator: str | None = None
    first_line: int = 2

    def where(self, row: int) -> str:
        """``"clicks.csv: line 7"`` for a text file, ``"clicks.parquet: row 6"`` (from 1) for Parquet."""
        if self.separator is None:
            return f"{self.path}: row {row + 1}"
        return f"{self.path}: line {_line_number(self, row)}"


def read_table(path: str | Path, *, separator: str | None = None) -> Table:
    """Read a .csv, .tsv or .parquet file, or any text file whose ``separator`` is given.

    Raises:
        DataError: The file is missing, empty, without rows, not UTF-8 or not what its name says.
    """
    path = Path(path)
    raw = read_bytes(path)
    digest = hashlib.sha256(raw).hexdigest()
    if separator is None and path.suffix.lower() == ".parquet":
        return _with_rows(Table(path, _parse_parquet(path, raw), digest))
    separator = separator or ("\t" if path.suffix.lower() == ".tsv" else ",")
    check_utf8(path, raw)
    text = raw.removeprefix(b"\xef\xbb\xbf")
    body = text.lstrip(b"\r\n")
    if not body.strip():
        raise DataError(f"{path}: the file is empty, expected a header line and rows")
    first_line = 2 + text[: len(text) - len(body)].count(b"\n")
    return _with_rows(Table(path, _parse_text(path, body.rstrip(b"\r\n"), separator), digest, separator, first_line))


def read_bytes(path: Path) -> bytes:
    """The content of a file; a :class:`DataError` where there is none to read."""
    _refuse_no_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def check_utf8(path: Path, raw: bytes) -> None:
    """Raise a :class:`DataError` naming the line of the first byte that is not UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: line {line}: byte 0x{raw[error.start]:02x} is not UTF-8, expected UTF-8 text"
        ) from None


def file_sha256(path: str | Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    path = Path(path)
    _refuse_no_file(path)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 22):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def column(table: Table, name: str) -> pl.Series:
    """The column called ``name``; where it is missing, the error says which there are."""
    if name in table.frame.columns:
        return table.frame[name]
    found = table.frame.columns
    message = f"{table.path}: no column {name!r}"
    if table.separator is not None and len(found) == 1 and (other := _delimiter(found[0], table.separator)):
        names = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}
        raise DataError(
            f"{message}: the header {found[0]!r} looks like one column separated by {names[other]}, "
            f"expected {names[table.separator]}"
        )
    shown = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
    raise DataError(f"{message}; found {shown}")


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


def integers(table: Table, name: str) -> NDArray[np.int64]:
    """Column ``name`` as non-negative int64 numbers."""
    values = present(table, name)
    if values.dtype != pl.String and not values.dtype.is_integer():
        raise DataError(f"{table.path}: column {name!r} has type {values.dtype}, expected integers")
    numbers = values.cast(pl.Int64, strict=False)
    bad = numbers.is_null() | (numbers < 0)
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {name} is {values[row]!r}, expected a non-negative 64-bit integer")
    return numbers.to_numpy()


def codes(table: Table, name: str, known: Mapping[str, int]) -> NDArray[np.int8]:
    """Column ``name`` through the table ``known``; a value that is not in it is an error."""
    values = present(table, name)
    if values.dtype.is_nested():
        raise DataError(f"{table.path}: column {name!r} has type {values.dtype}, expected strings or integers")
    numbers = values.cast(pl.String).replace_strict(known, default=None, return_dtype=pl.Int8)
    _refuse_new_nulls(table, name, values, numbers, f"one of {', '.join(known)}")
    return numbers.to_numpy()


def floats(table: Table, name: str) -> NDArray[np.float32]:
    """Column ``name`` as float32; empty cells become NaN."""
    values = column(table, name)
    if values.dtype != pl.String and not values.dtype.is_numeric() and values.dtype != pl.Null:
        raise DataError(f"{table.path}: column {name!r} has type {values.dtype}, expected numbers")
    numbers = values.cast(pl.Float32, strict=False)
    _refuse_new_nulls(table, name, values, numbers, "a number")
    return numbers.fill_null(float("nan")).to_numpy()


def times(table: Table, name: str) -> NDArray[Any]:
    """Column ``name`` as Unix time in seconds: int64 where every time is a whole second, else float64.

    Numbers are taken as they are; dates and date-times (also as ISO 8601 text) are UTC unless they carry a zone.
    """
    values = present(table, name)
    if values.dtype.base_type() in (pl.Date, pl.Datetime):
        return _whole(values.cast(pl.Datetime("us")).dt.timestamp("us").to_numpy() / 1e6)
    if values.dtype.is_integer():
        return np.asarray(values.cast(pl.Int64).to_numpy())
    if values.dtype.is_float():
        numbers = _finite(values.cast(pl.Float64))
    elif values.dtype == pl.String:
        if (whole := values.cast(pl.Int64, strict=False)).null_count() == 0:
            return np.asarray(whole.to_numpy())
        numbers = _finite(values.cast(pl.Float64, strict=False))
        if numbers.null_count() == len(numbers):
            numbers = _iso_seconds(values)
    else:
        raise DataError(f"{table.path}: column {name!r} has type {values.dtype}, expected times")
    _refuse_new_nulls(table, name, values, numbers, "Unix seconds or an ISO 8601 time")
    return _whole(numbers.to_numpy())


def _finite(numbers: pl.Series) -> pl.Series:
    return numbers.set(~numbers.is_finite(), None)


def _iso_seconds(values: pl.Series) -> pl.Series:
    iso = values.set(~values.str.contains(r"^\d{4}-\d{2}-\d{2}([T ]|$)"), None)
    if iso.null_count() == len(iso):
        return iso.cast(pl.Float64, strict=False)
    parsed = iso.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    return parsed.dt.timestamp("us").cast(pl.Float64) / 1e6


def _whole(seconds: NDArray[np.float64]) -> NDArray[Any]:
    whole = (np.abs(seconds) < 2**53).all() and (seconds == np.floor(seconds)).all()
    return seconds.astype(np.int64) if whole else seconds


def _refuse_new_nulls(table: Table, name: str, before: pl.Series, after: pl.Series, expected: str) -> None:
    bad = after.is_null() & before.is_not_null()
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {name} is {before[row]!r}, expected {expected}")


def _refuse_no_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}, expected a file")


def _with_rows(table: Table) -> Table:
    if table.frame.height == 0:
        raise DataError(f"{table.path}: no rows, expected at least one below the header")
    return table


def _parse_parquet(path: Path, raw: bytes) -> pl.DataFrame:
    if not raw:
        raise DataError(f"{path}: the file is empty, expected a Parquet file")
    try:
        return pl.read_parquet(io.BytesIO(raw))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({_first_line(error)})") from error


def _parse_text(path: Path, body: bytes, separator: str) -> pl.DataFrame:
    try:
        return pl.read_csv(io.BytesIO(body), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataError(_ragged(path, separator) or f"{path}: cannot be read as text ({_first_line(error)})") from error


def _ragged(path: Path, separator: str) -> str | None:
    with path.open(encoding="utf-8-sig", newline="") as file, contextlib.suppress(csv.Error):
        rows = csv.reader(file, delimiter=separator)
        width = 0
        for row in rows:
            width = width or len(row)
            if len(row) > width:
                return f"{path}: line {rows.line_num}: {len(row)} cells, expected {width} as in the header"
    return None


def _line_number(table: Table, row: int) -> int:
    raw = table.path.read_bytes()
    if b'"' not in raw or table.separator == "\n":
        return table.first_line + row
    rows = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), delimiter=table.separator or ",")
    with contextlib.suppress(csv.Error):
        for _ in range(table.first_line - 1 + row):
            next(rows, None)
        return rows.line_num + 1
    return table.first_line + row


def _delimiter(header: str, expected: str) -> str | None:
    return next((mark for mark in "\t,;| " if mark != expected and mark in header), None)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
