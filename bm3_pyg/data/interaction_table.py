"""Your own tables: a CSV, TSV, JSON lines or Parquet file of interactions, and files of features keyed by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class TableOptions:
    """How a table of interactions is read: the arguments of :func:`bm3_pyg.load_dataset` that are for tables only."""

    user: str = "user"
    item: str = "item"
    time: str | None = None
    rating: str | None = None
    label: str | None = None
    split: str | None = None
    core: int | None = None
    features: Mapping[str, Path] = field(default_factory=dict)
    items: Path | None = None
    columns: Sequence[str] | None = None
    id_column: str | None = None

    @property
    def rule(self) -> str:
        """``split``, or what it is by default."""
        return self.split or ("random" if self.label is None else "label")

    @property
    def item_files_column(self) -> str:
        """Column of item ids in feature tables and in ``items``."""
        return self.id_column or self.item


def read_interaction_table(path: Path, options: TableOptions, seed: int) -> HeteroData:
    """The dataset in a table of interactions; ``seed`` is of a split drawn at random.

    Users are numbered in order of first appearance, items too unless ``options.items`` lists them; a k-core is numbered
    as if the table held nothing else. A .npy of features has a row for every item of the table, in the core or not.

    Raises:
        DataError: A file does not hold what it should; the message names it and the row or column.
    """
    for modality in options.features:
        check_modality_word(modality, f"features of {path}")
    table = read_table(path, columns=options.columns)
    files = {path.name: table.sha256}
    users, user_at = first_appearance(read_id_column(table, options.user))
    items, item_at = _items(table, options, files)
    rows, notes = _interactions(table, options, user_at, item_at)
    all_items = items
    in_core: NDArray[np.int64] | slice = slice(None)
    if options.core is not None:
        rows, users_in_core, in_core, remarks = reduce_to_core(
            rows, options.core, path.name, items_keep_order=options.items is not None
        )
        users, items = users[users_in_core], items[in_core]
        notes += remarks
    if options.rule != "label":
        rows = replace(rows, split=split_rows(rows, options.rule, seed))
    features = {}
    for modality, file in options.features.items():
        keyed = is_table(file)
        values, missing, digest, remarks = read_features(
            file, modality, item=options.item_files_column, item_ids=items if keyed else all_items
        )
        features[modality] = (values, missing) if keyed else (values[in_core], missing[in_core])
        _add(files, file, digest)
        notes += remarks
    return build(
        table_name(path),
        rows,
        user_ids=to_array(users),
        item_ids=to_array(items),
        features=features,
        files=files,
        notes=notes,
    )


def _interactions(
    table: Table, options: TableOptions, users: NDArray[np.int64], items: NDArray[np.int64]
) -> tuple[Interactions, list[str]]:
    """Each pair once, in one split; and notes."""
    label, time, rating = options.label, options.time, options.rating
    rows = Interactions(
        users,
        items,
        np.zeros(len(users), dtype=np.int8) if label is None else codes(table, label, LABELS),
        time=None if time is None else times(table, time),
        rating=None if rating is None else floats(table, rating),
    )
    user_ids, item_ids = table.frame[options.user], table.frame[options.item]

    def show(row: int) -> str:
        return f"{table.where(row)}: {options.user} {shown(user_ids[row])}, {options.item} {shown(item_ids[row])}"

    refuse_conflicts(rows, show)
    rows, merged = merge_duplicates(rows, table.path.name)
    return rows, [*table.notes, *merged]


def _items(table: Table, options: TableOptions, files: dict[str, str]) -> tuple[pl.Series, NDArray[np.int64]]:
    """All item ids [I] in their order, and each interaction's index among them."""
    ids = read_id_column(table, options.item)
    if options.items is None:
        return first_appearance(ids)
    catalogue = _read_items(options.items, options.item_files_column, files)
    at = positions(catalogue, ids)
    if (at < 0).any():
        row = int((at < 0).argmax())
        raise DataError(
            f"{table.where(row)}: {options.item} {shown(ids[row])} is not in {options.items} "
            f"({(at < 0).sum():,} such rows), expected one of the {len(catalogue):,} items listed there"
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
