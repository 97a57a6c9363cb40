"""Your own tables: a CSV, TSV, JSON lines or Parquet file of interactions, and files of features keyed by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.content import is_table, table_name
from bm3_pyg.data.features import read_features
from bm3_pyg.data.hetero import build, check_modality_word
from bm3_pyg.data.ids import first_appearance, id_lines, positions, read_id_column, refuse_repeats, to_array
from bm3_pyg.data.splits import LABELS, Interactions, merge_duplicates, reduce_to_core, refuse_conflicts, split_rows
from bm3_pyg.data.table import Table, codes, floats, read_table
from bm3_pyg.data.times import times
from bm3_pyg.errors import DataError, shown

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


def read_interaction_table(
    path: Path,
    *,
    seed: int,
    user: str,
    item: str,
    time: str | None,
    rating: str | None,
    label: str | None,
    split: str,
    core: int | None,
    features: Mapping[str, Path],
    items: Path | None,
    columns: Sequence[str] | None,
    id_column: str | None,
) -> HeteroData:
    """The dataset in a table of interactions; options as in :func:`bm3_pyg.data.load_dataset`, ``split`` resolved.

    Users are numbered in order of first appearance, items too unless ``items`` lists them; a k-core is numbered as if
    the table held nothing else. A .npy of features has a row for every item of the table, in the core or not.

    Raises:
        DataError: A file does not hold what it should; the message names it and the row or column.
    """
    for modality in features:
        check_modality_word(modality, f"features of {path}")
    table = read_table(path, columns=columns)
    files = {path.name: table.sha256}
    users, user_at = first_appearance(read_id_column(table, user))
    catalogue, item_at = _items(table, item, items, id_column or item, files)
    rows = Interactions(
        user_at,
        item_at,
        np.zeros(len(user_at), dtype=np.int8) if label is None else codes(table, label, LABELS),
        time=None if time is None else times(table, time),
        rating=None if rating is None else floats(table, rating),
    )
    own_user, own_item = table.frame[user], table.frame[item]
    refuse_conflicts(
        rows, lambda row: f"{table.where(row)}: {user} {shown(own_user[row])}, {item} {shown(own_item[row])}"
    )
    rows, merged = merge_duplicates(rows, path.name)
    notes = [*table.notes, *merged]
    everything = catalogue
    if core is not None:
        rows, kept_users, kept_items, remarks = reduce_to_core(
            rows, core, path.name, items_keep_order=items is not None
        )
        users, catalogue = users[kept_users], catalogue[kept_items]
        notes += remarks
    if split != "label":
        rows = replace(rows, split=split_rows(rows, split, seed))
    values = {}
    for modality, source in features.items():
        in_order = not is_table(source)
        array, missing, digest, remarks = read_features(
            source, modality, item=id_column or item, item_ids=everything if in_order else catalogue
        )
        if in_order and core is not None:
            array, missing = array[kept_items], missing[kept_items]
        _add(files, source, digest)
        values[modality] = array, missing
        notes += remarks
    return build(
        table_name(path),
        rows,
        user_ids=to_array(users),
        item_ids=to_array(catalogue),
        features=values,
        files=files,
        notes=notes,
    )


def _items(
    table: Table, name: str, listed: Path | None, id_column: str, files: dict[str, str]
) -> tuple[pl.Series, NDArray[np.int64]]:
    """All item ids [I] in their order, and each interaction's index among them."""
    ids = read_id_column(table, name)
    if listed is None:
        return first_appearance(ids)
    catalogue = _read_items(listed, id_column, files)
    at = positions(catalogue, ids)
    if (at < 0).any():
        row = int((at < 0).argmax())
        raise DataError(
            f"{table.where(row)}: {name} {shown(ids[row])} is not in {listed} ({(at < 0).sum():,} such rows), "
            f"expected one of the {len(catalogue):,} items listed there"
        )
    return catalogue, at


def _read_items(path: Path, name: str, files: dict[str, str]) -> pl.Series:
    table = read_table(path) if is_table(path) else id_lines(path, name)
    ids = read_id_column(table, name)
    refuse_repeats(table, ids, "each item once")
    _add(files, path, table.sha256)
    return ids


def _add(files: dict[str, str], path: Path, digest: str) -> None:
    files[path.name if path.name not in files else f"{path.parent.name}/{path.name}"] = digest
