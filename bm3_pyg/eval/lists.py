"""Top-k lists in the users' and items' own ids, as tables and files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import index_of, raw_ids
from bm3_pyg.data.content import is_table, read_content, streams_kept
from bm3_pyg.data.ids import Asked, id_lines, to_series
from bm3_pyg.data.ids import read_ids as read_id_column
from bm3_pyg.data.reading import Table, read_table, table_kind, tell
from bm3_pyg.errors import ConfigError, check_number
from bm3_pyg.eval.new_users import recommend_new
from bm3_pyg.eval.recommend import recommend
from bm3_pyg.eval.similar import similar_items
from bm3_pyg.files import atomic_file, make_folder
from bm3_pyg.protocols import Recommender

SUFFIXES = (".parquet", ".csv", ".jsonl")


def write_recommendations(
    model: Recommender,
    data: HeteroData,
    out: str | Path,
    users: Sequence[str | int] | None = None,
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
    exclude_seen: bool = True,
) -> int:
    """Write the k best items of each user to ``out``, a row each: user, rank (from 1), item, score.

    Args:
        model: any recommender.
        data: the dataset it was trained on.
        out: a .parquet, .csv or .jsonl file.
        users: the users' own ids; all users by default.
        k: length of the lists; a user with fewer items left gets a shorter one.
        candidates: own ids of the items to choose from; all items by default.
        exclude_seen: leave out every interaction in ``data``.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: for another suffix, or k below 1.
        DataError: for ids that are not in ``data``, which it names.
    """
    _check_suffix(out)
    rows = torch.arange(data["user"].num_nodes) if users is None else index_of(data, "user", users)
    allowed = None if candidates is None else index_of(data, "item", candidates)
    check_number("k", k, int, 1)
    k = min(k, data["item"].num_nodes)
    ids, scores = recommend(model, rows, k, data if exclude_seen else None, allowed)
    names = to_series(raw_ids(data, "user"))[rows.numpy()]
    return write_table(_table(data, names.rename("user"), ids, scores), out)


def write_new_recommendations(
    model: Recommender,
    data: HeteroData,
    out: str | Path,
    histories: Mapping[str | int, Sequence[str | int]],
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
) -> int:
    """As :func:`write_recommendations`, for new users given the own ids of each one's items; see
    :func:`~bm3_pyg.eval.recommend_new`.

    Raises:
        ConfigError: for another suffix or model, or k below 1.
        DataError: for item ids that are not in ``data``, which it names.
    """
    _check_suffix(out)
    check_number("k", k, int, 1)
    items = index_of(data, "item", _flat(histories.values()))
    allowed = None if candidates is None else index_of(data, "item", candidates)
    places = [part.tolist() for part in items.split([len(history) for history in histories.values()])]
    ids, scores = recommend_new(model, places, min(k, data["item"].num_nodes), allowed)
    return write_table(_table(data, pl.Series("user", [str(user) for user in histories], pl.String), ids, scores), out)


def similar_table(model: Recommender, data: HeteroData, items: Sequence[str | int], k: int = 10) -> pl.DataFrame:
    """The k items most like each of ``items`` (own ids), a row each: item, rank (from 1), similar, cosine.

    See :func:`~bm3_pyg.eval.similar_items`.

    Raises:
        ConfigError: if k is below 1, or the model has no embeddings.
        DataError: for ids that are not in ``data``, which it names.
    """
    rows = index_of(data, "item", items)
    check_number("k", k, int, 1)
    ids, cosines = similar_items(model, rows, min(k, data["item"].num_nodes))
    names = to_series(raw_ids(data, "item"))[rows.numpy()]
    table = _table(data, names.rename("of"), ids, cosines)
    return table.rename({"item": "similar", "score": "cosine"}).rename({"of": "item"})


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
    tell(table.notes)
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
    header = re.split(r"[,\t;|]", content.raw.split(b"\n", 1)[0].decode(errors="replace").strip())
    if kind not in ("jsonl", "parquet") and not (is_table(content.path) and set(header) & set(columns)):
        lines = id_lines(path, columns[0] if columns else "id")
        ids = lines.frame.to_series()
        return Asked(ids.drop_nulls(), partial(_where, lines, ids.is_not_null().arg_true().to_list()))
    table = read_table(path)
    ids = read_id_column(table, _first([*columns, *table.frame.columns[: table.frame.width == 1]] or ["id"], table))
    tell(table.notes)
    return Asked(ids, table.where)


def _first(names: Sequence[str], table: Table) -> str:
    return next((name for name in names if name in table.frame.columns), names[0])


def _flat(lists: Iterable[Sequence[str | int]]) -> Sequence[str | int]:
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


def _table(data: HeteroData, names: pl.Series, ids: Tensor, scores: Tensor) -> pl.DataFrame:
    """A row for each entry of ``ids`` [B, k] that is not -1; ``names`` [B] are those whose lists they are."""
    row, position = (part.numpy() for part in (ids >= 0).nonzero(as_tuple=True))
    return pl.DataFrame(
        {
            names.name: names[row],
            "rank": position + 1,
            "item": to_series(raw_ids(data, "item"))[ids[row, position].numpy()],
            "score": scores[row, position].numpy(),
        }
    )


def _check_suffix(out: str | Path) -> None:
    suffix = Path(out).suffix
    if suffix not in SUFFIXES:
        raise ConfigError(f"{out}: got suffix {suffix or 'none'!r}, expected {', '.join(SUFFIXES)}")


def write_table(table: pl.DataFrame, out: str | Path) -> int:
    """Write a table to a .parquet, .csv or .jsonl file, whole or not at all; its number of rows."""
    _check_suffix(out)
    out = Path(out)
    make_folder(out.parent)
    with atomic_file(out) as temporary:
        if out.suffix == ".parquet":
            table.write_parquet(temporary)
        elif out.suffix == ".csv":
            table.write_csv(temporary)
        else:
            table.write_ndjson(temporary)
    return table.height
