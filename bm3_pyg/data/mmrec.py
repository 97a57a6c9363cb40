"""MMRec's folder layout: NAME.inter, one PREFIX_feat.npy per modality, optionally id mappings and missing masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.content import file_sha256, read_bytes
from bm3_pyg.data.edges import interactions_of
from bm3_pyg.data.features import missing_note, open_npy, read_npy
from bm3_pyg.data.hetero import build, check_modality_word, missing_of, modalities, raw_ids
from bm3_pyg.data.ids import Ids, integers_if_canonical, refuse_repeats, to_array, to_series
from bm3_pyg.data.splits import LABELS, Interactions, merge_duplicates, refuse_conflicts
from bm3_pyg.data.table import Table, codes, floats, integers, present, read_table
from bm3_pyg.data.times import times
from bm3_pyg.errors import DataError

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

MAPPINGS = {"user": ("u_id_mapping.csv", "userID"), "item": ("i_id_mapping.csv", "itemID")}


def find_inter(folder: Path) -> Path:
    """The one .inter file of a folder; a :class:`DataError` where there is none or more than one."""
    paths = sorted(folder.glob("*.inter"))
    if len(paths) != 1:
        names = ", ".join(path.name for path in paths) or "none"
        raise DataError(f"{folder}: found {len(paths)} .inter files ({names}), expected exactly one")
    return paths[0]


def read_mmrec(inter: Path) -> HeteroData:
    """The dataset around a .inter file (tab-separated userID, itemID, x_label 0/1/2; rating and timestamp if there).

    Users and items are numbered as in the file. Their own ids come from u_id_mapping.csv and i_id_mapping.csv where
    these stand beside it; they may also list users and items without interactions. Row i of PREFIX_feat.npy is item i's
    feature in the modality PREFIX; PREFIX_missing.npy ([I] bool) marks the items whose feature was filled in.

    Raises:
        DataError: A file does not hold what it should; the message names it and the row.
    """
    table = read_table(inter, separator="\t")
    files = {inter.name: table.sha256}
    users, items = integers(table, "userID"), integers(table, "itemID")
    rows = Interactions(
        users,
        items,
        codes(table, "x_label", LABELS),
        time=times(table, "timestamp") if "timestamp" in table.frame.columns else None,
        rating=floats(table, "rating") if "rating" in table.frame.columns else None,
    )
    user_ids = _own_ids(table, "user", users, files)
    item_ids = _own_ids(table, "item", items, files)
    refuse_conflicts(rows, lambda row: f"{table.where(row)}: userID {users[row]}, itemID {items[row]}")
    rows, merged = merge_duplicates(rows, inter.name)
    notes = [*table.notes, *merged]
    features = {}
    for path in sorted(inter.parent.glob("*_feat.npy")):
        modality = path.name.removesuffix("_feat.npy")
        check_modality_word(modality, str(path))
        values = read_npy(path, len(item_ids))
        files[path.name] = file_sha256(path)
        mask = path.with_name(f"{modality}_missing.npy")
        missing = _mask(mask, len(item_ids), files) if mask.exists() else np.zeros(len(item_ids), dtype=bool)
        features[modality] = values, missing
        if missing.any():
            notes.append(missing_note(modality, int(missing.sum()), len(item_ids)))
    return build(inter.stem, rows, user_ids=user_ids, item_ids=item_ids, features=features, files=files, notes=notes)


def write_mmrec(data: HeteroData, folder: Path) -> None:
    """Write ``data`` into an existing folder so that :func:`read_mmrec` gives it back, order and own ids included.

    Ids that are all integers come back as integers, and features as float32. Times and ratings are written where every
    split has them.
    """
    name = re.sub(r"[^\w.-]+", "_", str(getattr(data, "name", None) or "data"))
    rows = interactions_of(data)
    columns = {"userID": rows.users, "itemID": rows.items, "rating": rows.rating, "timestamp": rows.time}
    table = {column: values for column, values in columns.items() if values is not None} | {"x_label": rows.split}
    pl.DataFrame(table).write_csv(folder / f"{name}.inter", separator="\t")
    for kind, (filename, column) in MAPPINGS.items():
        own = raw_ids(data, kind)
        pl.DataFrame({kind: to_series(own), column: np.arange(len(own))}).write_csv(folder / filename, separator="\t")
    for modality, values in modalities(data).items():
        np.save(folder / f"{modality}_feat.npy", values.detach().cpu().float().numpy())
        missing = missing_of(data, modality)
        if missing.any():
            np.save(folder / f"{modality}_missing.npy", missing)


def _own_ids(table: Table, kind: str, indices: NDArray[np.int64], files: dict[str, str]) -> Ids:
    """Own ids [n] from the mapping file (its hash goes to ``files``), or 0 to the largest index where there is none."""
    filename, name = MAPPINGS[kind]
    path = table.path.with_name(filename)
    top = int(indices.argmax())
    if not path.exists():
        distinct = pl.Series(indices).n_unique()
        if int(indices[top]) + 1 > 10 * distinct + 1000:
            raise DataError(
                f"{table.where(top)}: {name} is {indices[top]}, but only {distinct:,} distinct ones occur, "
                f"expected ids numbered from 0 (is it an own id? then load a table, not a .inter file)"
            )
        return np.arange(int(indices[top]) + 1)
    ids = _read_mapping(path, name, files)
    if indices[top] >= len(ids):
        raise DataError(f"{table.where(top)}: {name} is {indices[top]}, expected one of the {len(ids):,} in {path}")
    return ids


def _read_mapping(path: Path, name: str, files: dict[str, str]) -> Ids:
    header = read_bytes(path).split(b"\n", 1)[0]
    mapping = read_table(path, separator="\t" if b"\t" in header else ",")
    files[path.name] = mapping.sha256
    indices = integers(mapping, name)
    if mapping.frame.width != 2:
        raise DataError(f"{path}: {mapping.frame.width} columns, expected two: own ids and {name}")
    own = present(mapping, next(other for other in mapping.frame.columns if other != name))
    refuse_repeats(mapping, pl.Series(indices), f"each {name} once")
    refuse_repeats(mapping, own, "each own id once")
    n = len(indices)
    top = int(indices.argmax())
    if indices[top] != n - 1:
        raise DataError(f"{mapping.where(top)}: {name} is {indices[top]}, expected 0 to {n - 1}, as there are {n} rows")
    return to_array(integers_if_canonical(own)[np.argsort(indices)])


def _mask(path: Path, items: int, files: dict[str, str]) -> NDArray[np.bool_]:
    mask = open_npy(path)
    if mask.dtype != np.bool_ or mask.shape != (items,):
        raise DataError(f"{path}: holds {mask.dtype} of shape {list(mask.shape)}, expected bool [{items}]")
    if (mask.view(np.uint8) > 1).any():
        raise DataError(f"{path}: holds bytes other than 0 and 1, expected bool [{items}]")
    files[path.name] = file_sha256(path)
    return mask
