"""Ids that are asked for in files: of users, of items, and of the items of new users."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from bm3_pyg.data.content import is_table, read_content, streams_kept
from bm3_pyg.data.ids import Asked, id_lines
from bm3_pyg.data.ids import read_ids as read_id_column
from bm3_pyg.data.reading import Table, read_table, table_kind, tell

LISTS = "bm3_pyg.lists"  # the logger of what people should know of lists, which every command shows


def read_histories(
    path: str | Path, user: Sequence[str] = ("user",), item: Sequence[str] = ("item",)
) -> dict[str | int, list[str | int]]:
    """Each user's items, from a table of interactions; users in order of appearance.

    Args:
        path: a .csv, .tsv, .jsonl or .parquet table, compressed or not; ``-`` or a pipe will do.
        user: names of the column of users; the first that the table has counts.
        item: names of the column of items.

    Raises:
        DataError: if the file is missing or not such a table.
    """
    table = read_table(path)
    own = {"user": _first(user, table), "item": _first(item, table)}
    pairs = pl.DataFrame({name: read_id_column(table, column) for name, column in own.items()}).with_row_index("row")
    tell(table.notes, LISTS)
    grouped = pairs.group_by("user", maintain_order=True).agg("item", "row")
    return {
        name: Asked(items, partial(_where, table, rows))
        for name, items, rows in zip(*(grouped[column].to_list() for column in ("user", "item", "row")), strict=True)
    }


@streams_kept()
def read_ids(path: str | Path, *columns: str) -> Asked:
    """Ids from a text file, one a line, as they stand; blank lines do not count. Or from a table's column.

    Args:
        path: a text file; a .jsonl or .parquet table, or a .csv or .tsv table whose header has one of ``columns``;
            compressed or not; ``-`` or a pipe will do.
        columns: names of the column in a table; the first that it has counts, or its only column.

    Raises:
        DataError: if the file is missing, not UTF-8 text or empty.
    """
    content = read_content(path)
    kind = table_kind(content)
    first = re.split(rb"[\r\n]", content.raw.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n"), maxsplit=1)[0]
    header = [name.strip('"') for name in re.split(r"[,\t;|]", first.decode(errors="replace"))]
    if kind not in ("jsonl", "parquet") and not (is_table(content.path) and set(header) & set(columns)):
        lines = id_lines(path, columns[0] if columns else "id")
        ids = lines.frame.to_series()
        return Asked(ids.drop_nulls(), partial(_where, lines, ids.is_not_null().arg_true().to_list()))
    table = read_table(path)
    ids = read_id_column(table, _first([*columns, *table.frame.columns[: table.frame.width == 1]] or ["id"], table))
    tell(table.notes, LISTS)
    return Asked(ids, table.where)


def _first(names: Sequence[str], table: Table) -> str:
    return next((name for name in names if name in table.frame.columns), names[0])


def flat(lists: Iterable[Sequence[str | int]]) -> Sequence[str | int]:
    """The ids of all lists, which know where they were found if each list does."""
    found = [(ids, place) for ids in lists for place in range(len(ids))]
    flat = [ids[place] for ids, place in found]

    def where(row: int) -> str:
        ids, place = found[row]
        assert isinstance(ids, Asked)
        return ids.where(place)

    return Asked(flat, where) if all(isinstance(ids, Asked) for ids, _ in found) else flat


def _where(table: Table, rows: Sequence[int], place: int) -> str:
    return table.where(rows[place])
