"""Rows of JSON lines: an object a line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.errors import DataError, shown

CHUNK = 50_000  # rows that are Python objects at a time
NUMBERS = pl.List(pl.Float64)


def parse_jsonl(path: Path, text: bytes) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """A column for each key, and the line [n] of each row; blank lines do not count.

    Numbers and truth values become the strings that JSON has for them, as in a text table; a column of lists of numbers
    is a list column, other lists and objects are JSON text; null, an empty string and a missing key are null.

    Raises:
        DataError: A line is no JSON object; the message names it.
    """
    chunks: list[pl.DataFrame] = []
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(io.BytesIO(text), 1):
        if line.strip():
            rows.append(_object(path, number, line))
            lines.append(number)
        if len(rows) == CHUNK:
            chunks.append(_frame(rows))
            rows = []
    chunks.append(_frame(rows))
    return _joined(chunks), np.array(lines, dtype=np.int64)


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: line {number}: half a surrogate pair, expected text") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: line {number}: {shown(line.decode().strip())}, expected a line of JSON") from None
    if not isinstance(row, dict) or not row:
        raise DataError(f"{path}: line {number}: {shown(line.decode().strip())}, expected a JSON object in each line")
    return row


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in names])


def _column(name: str, values: list[Any]) -> pl.Series:
    vectors = [_vector(value) for value in values]
    is_vector = [vector is not None for vector in vectors]
    if any(is_vector) and is_vector == [value is not None for value in values]:
        return pl.Series(name, vectors, dtype=NUMBERS)
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _vector(value: Any) -> list[float] | None:
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        return None
    try:
        return [float(number) for number in value]
    except OverflowError:
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _joined(chunks: list[pl.DataFrame]) -> pl.DataFrame:
    """The chunks below one another; a column that is of text in one is of text in all."""
    columns = [column for chunk in chunks for column in chunk]
    texts = {column.name for column in columns if column.dtype == pl.String and column.null_count() < len(column)}
    vectors = {column.name for column in columns if column.dtype == NUMBERS} - texts

    def cast(column: pl.Series) -> pl.Series:
        if column.name in texts and column.dtype == NUMBERS:
            return pl.Series(column.name, [_text(value) for value in column.to_list()], dtype=pl.String)
        if column.name in vectors and column.dtype == pl.String:
            return pl.Series(column.name, [None] * len(column), dtype=NUMBERS)
        return column

    return pl.concat([pl.DataFrame([cast(column) for column in chunk]) for chunk in chunks], how="diagonal")
