"""Users' own ids: integers where they are integers, strings otherwise, compared by their string form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from string import whitespace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.content import is_table, read_content, streams_kept, text_of
from bm3_pyg.data.table import Table, log_notes, present, read_table, table_kind, type_of
from bm3_pyg.errors import DataError, shown

Ids = NDArray[Any]  # int64, or str as Python objects: one long id does not widen all
LISTS = "bm3_pyg.lists"  # the logger of what people should know of lists, which every command shows


class IdList(list[str | int]):
    """Ids from a file, and where in it each stands: ``where(2)`` is ``"ids.txt: line 3"``."""

    def __init__(self, ids: Iterable[str | int], where: Callable[[int], str]) -> None:
        super().__init__(ids)
        self.where = where


@streams_kept()
def read_ids(path: str | Path, *columns: str) -> IdList:
    """Ids from a text file, one a line, as they stand; blank lines do not count. Or from a table's column.

    Args:
        path: A text file; a .jsonl or .parquet table, or a .csv or .tsv table whose header has one of ``columns``;
            compressed or not; ``-`` or a pipe will do.
        columns: Names of the column in a table; the first that it has counts, or its only column.

    Raises:
        DataError: The file is missing, not UTF-8 text or empty.
    """
    content = read_content(path)
    kind = table_kind(content)
    first = re.split(rb"[\r\n]", content.raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n"), maxsplit=1)[0]
    header = [name.strip('"') for name in re.split(r"[,\t;|]", first.decode(errors="replace"))]
    if kind not in ("jsonl", "parquet") and not (is_table(content.path) and set(header) & set(columns)):
        lines = id_lines(path, columns[0] if columns else "id")
        ids = lines.frame.to_series()
        return IdList(ids.drop_nulls(), partial(_where, lines, ids.is_not_null().arg_true().to_list()))
    table = read_table(path)
    only = table.frame.columns[: table.frame.width == 1]
    ids = read_id_column(table, _first_there([*columns, *only] or ["id"], table))
    log_notes(table.notes, LISTS)
    return IdList(ids, table.where)


def read_histories(
    path: str | Path, user: Sequence[str] = ("user",), item: Sequence[str] = ("item",)
) -> dict[str | int, list[str | int]]:
    """Each user's items, from a table of interactions; users in order of appearance.

    Args:
        path: A .csv, .tsv, .jsonl or .parquet table, compressed or not; ``-`` or a pipe will do.
        user: Names of the column of users; the first that the table has counts.
        item: Names of the column of items.

    Raises:
        DataError: The file is missing or not such a table.
    """
    table = read_table(path)
    names = {"user": _first_there(user, table), "item": _first_there(item, table)}
    pairs = pl.DataFrame({kind: read_id_column(table, name) for kind, name in names.items()}).with_row_index("row")
    log_notes(table.notes, LISTS)
    grouped = pairs.group_by("user", maintain_order=True).agg("item", "row")
    return {
        name: IdList(items, partial(_where, table, rows))
        for name, items, rows in zip(*(grouped[column].to_list() for column in ("user", "item", "row")), strict=True)
    }


def concatenated(lists: Iterable[Sequence[str | int]]) -> Sequence[str | int]:
    """The ids of all lists, as an :class:`IdList` if each list is one."""
    places = [(ids, place) for ids in lists for place in range(len(ids))]
    together = [ids[place] for ids, place in places]

    def where(row: int) -> str:
        ids, place = places[row]
        assert isinstance(ids, IdList)
        return ids.where(place)

    return IdList(together, where) if all(isinstance(ids, IdList) for ids, _ in places) else together


def _first_there(names: Sequence[str], table: Table) -> str:
    return next((name for name in names if name in table.frame.columns), names[0])


def _where(table: Table, rows: Sequence[int], place: int) -> str:
    return table.where(rows[place])


def read_id_column(table: Table, name: str) -> pl.Series:
    """Column ``name`` of ids as Int64 or String.

    In a text file ids stay strings unless every one is an integer as one writes it (no leading zero) of 64 bits.
    Integers that were written as floats (``12.0``), as pandas does where a value is missing, are integers again if all
    are such; a note tells.

    Raises:
        DataError: The column is missing, has an empty cell or an id with a line break or NUL, or holds neither integers
            nor strings.
    """
    values = present(table, name)
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    elif values.dtype == pl.Binary:
        values = _decoded(table, name, values)
    if values.dtype.is_integer():
        numbers = values.cast(pl.Int64, strict=False)
        return values.cast(pl.String) if numbers.null_count() else numbers
    if values.dtype.is_float() or values.dtype.is_decimal():
        return _whole_numbers(table, name, values)
    if values.dtype != pl.String:
        raise DataError(f"{table.path}: column {name!r} has type {type_of(values)}, expected integers or strings")
    if (broken := values.str.contains("[\0\r\n]")).any():
        row = int(broken.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {name} is {shown(values[row])}, expected an id on one line, without NUL")
    return values if table.lines is None else _from_text(table, name, values)


def id_lines(path: str | Path, name: str) -> Table:
    """A text file of ids, one a line, as a table with the column ``name``; a blank line is null.

    Raises:
        DataError: The file is missing, empty or not UTF-8.
    """
    content = read_content(path)
    text = text_of(content)
    if not text.strip():
        raise DataError(f"{path}: the file is empty, expected {name} ids, one a line")
    lines = text.replace(b"\r\n" if b"\n" in text else b"\r", b"\n")
    ids = [line if line.strip(whitespace) else None for line in lines.decode().rstrip("\n").split("\n")]
    return Table(content.path, pl.DataFrame({name: ids}, schema={name: pl.String}), content.sha256, lines=1)


def _decoded(table: Table, name: str, values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        raise DataError(f"{table.path}: column {name!r} holds bytes that are not UTF-8, expected text") from None


def _whole_numbers(table: Table, name: str, values: pl.Series) -> pl.Series:
    numbers = values.cast(pl.Int64, strict=False)
    wrong = numbers.is_null() | (numbers.cast(values.dtype) != values) | (numbers.abs() >= 2**53)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise DataError(
            f"{table.where(row)}: column {name!r} has type {values.dtype} and is {values[row]}, expected integers or "
            f"strings"
        )
    if values.dtype.is_float():
        table.notes.append(f"{table.path.name}: {name} holds integers as {values.dtype}, which are read as integers")
    return numbers


def _from_text(table: Table, name: str, values: pl.Series) -> pl.Series:
    ids = integers_if_canonical(values)
    if ids.dtype == pl.Int64:
        return ids
    floats = values.str.contains(r"^-?\d+\.0$")
    if not floats.any():
        return ids
    if floats.all():
        table.notes.append(f"{table.path.name}: {name} holds integers as floats ({values[0]}), read as integers")
        return integers_if_canonical(values.str.strip_suffix(".0"))
    row, other = int(floats.arg_max() or 0), int((~floats).arg_max() or 0)
    both = f"{shown(values[row])} ({table.where(row)}) beside {shown(values[other])}"
    table.notes.append(f"{table.path.name}: {name} holds {both}, and each is an id of its own")
    return ids


def refuse_repeats(table: Table, values: pl.Series, expected: str) -> None:
    """Raise a :class:`DataError` naming the first row whose value stands in an earlier row too."""
    repeated = ~values.is_first_distinct()
    if repeated.any():
        row = int(repeated.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {shown(values[row])} stands in an earlier row too, expected {expected}")


def integers_if_canonical(values: pl.Series) -> pl.Series:
    """Int64 if every string is an integer written the one usual way and fits 64 bits; else the strings."""
    numbers = values.cast(pl.Int64, strict=False)
    return numbers if (numbers.cast(pl.String) == values).fill_null(False).all() else values


def to_array(values: pl.Series) -> Ids:
    """Ids as a numpy array of int64, or of Python strings."""
    return np.array(values.to_list(), dtype=np.int64 if values.dtype == pl.Int64 else object)


def to_series(ids: Ids) -> pl.Series:
    """The reverse of :func:`to_array`; fixed-width strings will do too."""
    return pl.Series(ids.astype(np.int64)) if ids.dtype.kind in "iu" else pl.Series(ids.tolist(), dtype=pl.String)


def fixed_width(ids: Ids) -> Ids:
    """Ids as a .npy file can hold them: int64, or strings that all take the room of the longest.

    Raises:
        DataError: That would be over a gigabyte.
    """
    if ids.dtype != object:
        return ids
    longest = max(map(len, ids), default=0)
    if 4 * longest * len(ids) > 2**30:
        raise DataError(
            f"ids: {len(ids):,} of up to {longest:,} characters would take {4e-9 * longest * len(ids):.1f} GB in a "
            f".npy file, expected shorter ones; Parquet holds them"
        )
    return ids.astype(np.str_)


def look_up(catalogue: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
    """:func:`positions` of ids, and of those not there without the white space around them."""
    at = positions(catalogue, ids).copy()
    if ids.dtype == pl.String and (unknown := np.flatnonzero(at < 0)).size:
        stripped = [own.strip() for own in ids.gather(unknown).to_list()]
        at[unknown] = positions(catalogue, pl.Series(stripped, dtype=pl.String))
    return at


def positions(catalogue: pl.Series, ids: pl.Series) -> NDArray[np.int64]:
    """Index of each id in ``catalogue`` (distinct ids), -1 where it is not there."""
    if catalogue.dtype != ids.dtype:
        catalogue, ids = catalogue.cast(pl.String), ids.cast(pl.String)
    known = pl.DataFrame({"id": catalogue, "at": np.arange(len(catalogue))})
    joined = pl.DataFrame({"id": ids}).join(known, on="id", how="left", maintain_order="left")
    return joined["at"].fill_null(-1).cast(pl.Int64).to_numpy()


def first_appearance(ids: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
    """Distinct ids in order of first appearance, and each row's index among them."""
    catalogue = ids.unique(maintain_order=True)
    return catalogue, positions(catalogue, ids)
