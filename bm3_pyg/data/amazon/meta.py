"""Texts of items from Amazon's meta files."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from bm3_pyg.data.amazon.lines import Malformed, decoded, line_chunks

LONGEST = 1 << 20  # bytes of a line that is worth parsing
ASIN = re.compile(rb"""['"]asin['"]: ?['"]([^'"]*)['"]""")


def read_texts(path: Path, wanted: pl.Series, *, tolerance: float = 0.001) -> tuple[list[str], list[str]]:
    """The text "title brand categories description" of each item in ``wanted`` [I], from ``meta_CAT.json.gz``.

    Each line is a Python literal (or JSON) and is never evaluated. Lines of other items are not even parsed. Categories
    are the first path, joined by spaces; missing parts are empty; newlines become spaces; HTML entities stay.

    Args:
        path: The meta file, gzipped or not.
        wanted: Distinct item ids.
        tolerance: The share of malformed lines, among those parsed, that are skipped with a note.

    Returns:
        The texts [I], "" where an item has no line or no text; notes.

    Raises:
        DataError: The file is missing, empty, cut off, or more lines are malformed than tolerated.
    """
    path = Path(path)
    rows = {item.encode(): row for row, item in enumerate(wanted.cast(pl.String).to_list())}
    texts: dict[int, str] = {}
    malformed = Malformed(path, tolerance)
    parsed = repeated = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser's about escapes and digits in what was downloaded
        for number, line in _wanted_lines(path, rows):
            parsed += 1
            try:
                item, text = _item_text(line)
            except (ValueError, RecursionError) as error:
                malformed.add(number, str(error))
                continue
            row = rows.get(item.encode("utf-8", "replace"))
            if row is not None:
                repeated += row in texts
                texts.setdefault(row, text)
    notes = malformed.notes(parsed)
    if repeated:
        notes.append(f"{path.name}: {repeated:,} repeated items, the first line of each was used")
    return [texts.get(row, "") for row in range(len(wanted))], notes


def _wanted_lines(path: Path, rows: dict[bytes, int]) -> Iterator[tuple[int, bytes]]:
    """Number and content of the lines that hold a wanted item, or may: their asin is not found at a glance."""
    for first, chunk in line_chunks(path):
        for number, line in enumerate(chunk.split(b"\n"), first):
            items = ASIN.findall(line) if len(line) <= LONGEST else []
            if any(item in rows for item in items) if items else line.strip():
                yield number, line


def _item_text(line: bytes) -> tuple[str, str]:
    """Item id and text of one line; a ``ValueError`` says what is wrong with it."""
    if len(line) > LONGEST:
        raise ValueError(f"{len(line):,} bytes, expected at most {LONGEST:,}")
    record = _record(decoded(line.strip()))
    if not isinstance(record, dict) or not isinstance(record.get("asin"), str):
        raise ValueError("no asin")
    parts = (_string(record, "title"), _string(record, "brand"), _category(record), _string(record, "description"))
    text = " ".join(parts).replace("\n", " ").replace("\r", " ").strip()
    return record["asin"], text.encode("utf-8", "replace").decode()  # halves of surrogate pairs become "?"


def _record(line: str) -> Any:
    if line.startswith('{"'):
        try:
            return json.loads(line)
        except ValueError:
            pass  # a Python literal may begin so too
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        # MemoryError is how Python's parser refuses deep nesting.
        raise ValueError(f"{line[:40]!r} is no Python literal ({type(error).__name__})") from None


def _string(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} is of type {type(value).__name__}, expected text")
    return value or ""


def _category(record: dict[str, Any]) -> str:
    paths = record.get("categories") or [[]]
    if not isinstance(paths, list) or not isinstance(paths[0], list) or not all(isinstance(x, str) for x in paths[0]):
        raise ValueError("categories are not a list of lists of text")
    return " ".join(paths[0])
