"""Interactions from Amazon's review and rating files.

Pieces of the file go to polars. Only a piece in which anything is wrong is read line by line, to find out what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from bm3_pyg.data.amazon.lines import Malformed, decoded, line_chunks
from bm3_pyg.errors import DataError, shown

SCHEMA = {"user": pl.String, "item": pl.String, "rating": pl.Float32, "time": pl.Int64}
KEYS = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float64, "unixReviewTime": pl.Int64}
ID = r"^[!#-Z\\^-z|~]+$"  # visible ASCII but quotes, brackets and braces
RATINGS = (1, 5)
TIMES = (0, 2**32)  # Unix seconds until 2106; milliseconds are above
ASIN = 10  # characters in an item id

Row = tuple[str, str, float, int]


def read_interactions(path: Path, *, tolerance: float = 0.001) -> tuple[pl.DataFrame, list[str]]:
    """Interactions of ``ratings_CAT.csv`` (no header) or ``reviews_CAT.json`` (JSON lines), either one gzipped or not.

    Args:
        path: The columns of the ratings are user, item, rating, time; of the reviews the keys reviewerID, asin,
            overall and unixReviewTime are read.
        tolerance: The share of malformed lines that are skipped with a note (see :class:`~.lines.Malformed`).

    Returns:
        Columns user (String), item (String), rating (Float32, 1 to 5) and time (Int64, Unix seconds), in file order;
        notes.

    Raises:
        DataError: The file is missing, empty, cut off, of another kind, or more lines are malformed than tolerated.
    """
    path = Path(path)
    fast, slow = _parsers(path)
    malformed = Malformed(path, tolerance)
    frames = [pl.DataFrame(schema=SCHEMA)]
    for first, chunk in line_chunks(path):
        frame = fast(chunk)
        lines = chunk.count(b"\n") + (not chunk.endswith(b"\n"))
        if frame is None or frame.height != lines or not _valid(frame):
            frame = _line_by_line(chunk, first, slow, malformed)
        frames.append(frame)
    interactions = pl.concat(frames, rechunk=True)
    notes = malformed.notes(interactions.height + malformed.count)
    if interactions.height == 0:
        raise DataError(f"{path}: holds no interaction, expected one a line")
    if slow is _rating:
        _refuse_swapped(path, interactions)
    return interactions, notes


def _parsers(path: Path) -> tuple[Callable[[bytes], pl.DataFrame | None], Callable[[str], Row]]:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return _fast_ratings, _rating
    if name.endswith((".json", ".jsonl")):
        return _fast_reviews, _review
    raise DataError(f"{path}: expected ratings (.csv, .csv.gz) or reviews (.json, .json.gz)")


def _fast_ratings(chunk: bytes) -> pl.DataFrame | None:
    try:
        columns = pl.read_csv(chunk, has_header=False, schema=dict.fromkeys(SCHEMA, pl.String), quote_char=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    if chunk.count(b",") != (len(SCHEMA) - 1) * columns.height:
        return None  # polars lets an empty fifth column pass in the last line
    return columns.with_columns(pl.col(name).cast(SCHEMA[name], strict=False) for name in ("rating", "time"))


def _fast_reviews(chunk: bytes) -> pl.DataFrame | None:
    try:
        columns = pl.read_ndjson(chunk, schema=KEYS)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, RuntimeError):  # the last is older polars'
        return None
    return columns.select(pl.col(key).cast(SCHEMA[name]).alias(name) for key, name in zip(KEYS, SCHEMA, strict=True))


def _valid(frame: pl.DataFrame) -> bool:
    rules = (
        pl.col("user").str.contains(ID),
        pl.col("item").str.contains(ID),
        pl.col("rating").is_between(*RATINGS),
        pl.col("time").is_between(*TIMES),
    )
    return bool(frame.select(pl.all_horizontal(rules).fill_null(False).all()).item())


def _line_by_line(chunk: bytes, first: int, parse: Callable[[str], Row], malformed: Malformed) -> pl.DataFrame:
    rows = []
    for number, line in enumerate(chunk.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            rows.append(_checked(parse(decoded(line))))
        except (ValueError, RecursionError) as error:
            malformed.add(number, str(error))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _rating(line: str) -> Row:
    cells = line.rstrip("\r").split(",")
    if len(cells) != len(SCHEMA):
        raise ValueError(f"{len(cells)} columns, expected {', '.join(SCHEMA)}")
    user, item, rating, time = cells
    return user, item, _number(float, "rating", rating), _number(int, "time", time)


def _review(line: str) -> Row:
    try:
        record = json.loads(line)
    except ValueError:
        raise ValueError(f"{line[:40]!r} is not a line of JSON") from None
    if not isinstance(record, dict):
        raise ValueError(f"{line[:40]!r} is not a review")
    if missing := [key for key in KEYS if record.get(key) is None]:
        raise ValueError(f"no {missing[0]}")
    user, item, rating, time = (record[key] for key in KEYS)
    return str(user), str(item), _number(float, "overall", rating), _number(int, "unixReviewTime", time)


def _number(kind: type, name: str, value: Any) -> Any:
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {str(value)[:40]!r}, expected a number") from None
    if kind is int and isinstance(value, float) and number != value:
        raise ValueError(f"{name} is {shown(value)}, expected a whole number")
    return number


def _checked(row: Row) -> Row:
    user, item, rating, time = row
    for name, value in (("user", user), ("item", item)):
        if not re.fullmatch(ID, value):
            raise ValueError(f"{name} is {value[:40]!r}, expected an id")
    if not RATINGS[0] <= rating <= RATINGS[1]:
        raise ValueError(f"rating is {rating:g}, expected {RATINGS[0]} to {RATINGS[1]}")
    if not TIMES[0] <= time <= TIMES[1]:
        raise ValueError(f"time is {time}, expected Unix seconds")
    return row


def _refuse_swapped(path: Path, interactions: pl.DataFrame) -> None:
    """The 2018 release puts the item first: every id would land on the wrong side, and no number shows it."""
    users, items = (
        float(interactions.select((pl.col(name).str.len_bytes() == ASIN).mean()).item()) for name in ("user", "item")
    )
    if users > 0.9 and items < 0.5:
        raise DataError(
            f"{path}: column 1 looks like items ({interactions['user'][0]}), expected users: user,item,rating,time"
        )
