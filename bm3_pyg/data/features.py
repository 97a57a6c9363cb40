"""Item features from files: a .npy array in item order, or a table keyed by item id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.content import file_sha256, is_table
from bm3_pyg.data.ids import positions, read_id_column, refuse_repeats
from bm3_pyg.data.table import Table, floats, read_table, type_of
from bm3_pyg.errors import DataError, named, shown

NPY = b"\x93NUMPY"
BLOCK = 1024  # rows worked on at a time, so that a temporary stays small beside the features


def read_features(
    path: str | Path, modality: str, *, item: str, item_ids: pl.Series
) -> tuple[NDArray[np.float32], NDArray[np.bool_], str, list[str]]:
    """Features of the items in ``item_ids`` [I] from a .npy file in their order or a table with the column ``item``.

    A row of the table with an empty cell gives its item no feature. A column without a name that numbers the rows, as
    pandas and R write, is no feature.

    Returns:
        Values [I, d]; the mask [I] of items that have none and were given the mean of the others; the file's SHA-256;
        notes on items filled in and rows left out.
    """
    path = Path(path)
    if is_table(path):
        return _from_table(read_table(path), modality, item, item_ids)
    values = read_npy(path, len(item_ids))
    return values, np.zeros(len(item_ids), dtype=bool), file_sha256(path), []


def read_npy(path: Path, items: int) -> NDArray[np.float32]:
    """A feature array [I, d] as float32.

    Raises:
        DataError: The file is missing, no .npy file, truncated, pickled, not [I, d], not numeric or not finite.
    """
    array = open_npy(path)
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: holds values of type {array.dtype}, expected numbers")
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{path}: holds an array of shape {list(array.shape)}, expected [{items}, d]")
    if array.shape[0] != items:
        raise DataError(f"{path}: holds {array.shape[0]:,} rows, expected {items:,}, one for each item")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    if (row := first_not_finite(values)) is not None:
        raise DataError(f"{path}: row {row} (from 0) holds NaN or infinity, expected finite float32 numbers")
    return values


def open_npy(path: Path) -> NDArray[Any]:
    """``np.load`` without pickle, with errors that name the file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file, expected a .npy array")
    with path.open("rb") as file:
        start = file.read(len(NPY))
    if start != NPY:
        raise DataError(f"{path}: not a .npy file (it begins with {start!r}), expected an array saved by numpy.save")
    try:
        with path.open("rb") as file:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
            at, size = file.tell(), path.stat().st_size
    except Exception as error:  # a damaged header can raise almost anything
        if "allow_pickle" in str(error):
            raise DataError(f"{path}: holds pickled Python objects, expected an array of numbers") from None
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{path}: not a whole .npy file ({reason}), expected an array saved by numpy.save") from None
    if at != size:
        raise DataError(
            f"{path}: {size:,} bytes, but its header says {at:,} (type {array.dtype}, shape {list(array.shape)}); "
            "bytes were put in or lost, expected an array saved by numpy.save"
        )
    return array


def first_not_finite(values: NDArray[np.float32]) -> int | None:
    """The first row of [n, d] that holds NaN or infinity, looked at in blocks."""
    for start in range(0, len(values), BLOCK):
        bad = ~np.isfinite(values[start : start + BLOCK]).all(axis=1)
        if bad.any():
            return start + int(bad.argmax())
    return None


def fill_missing(values: NDArray[np.float32], missing: NDArray[np.bool_]) -> None:
    """Put the mean of the present rows of [I, d] into the missing ones, in place."""
    if missing.any():
        total = np.zeros(values.shape[1])
        for start in range(0, len(values), BLOCK):
            rows = slice(start, start + BLOCK)
            total += values[rows][~missing[rows]].sum(axis=0, dtype=np.float64)
        values[missing] = total / (~missing).sum()


def missing_note(modality: str, missing: int, items: int) -> str:
    """The note for filled features."""
    return f"{modality}: {missing:,} of {items:,} items have no feature and were given the mean of the others"


def _from_table(
    table: Table, modality: str, item: str, item_ids: pl.Series
) -> tuple[NDArray[np.float32], NDArray[np.bool_], str, list[str]]:
    ids = read_id_column(table, item)
    refuse_repeats(table, ids, "one row per item")
    values, gaps = _matrix(table, item)
    at = positions(item_ids, ids)
    known = at >= 0
    if not known.any():
        raise DataError(
            f"{table.path}: {item} is {shown(ids[0])} in the first row and none is an item of the data, "
            f"expected ids such as {shown(item_ids[0])}"
        )
    if not (known & ~gaps).any():
        raise DataError(f"{table.path}: every row of an item has an empty cell, expected a number in each of some rows")
    notes = [*table.notes]
    if (known & gaps).any():
        notes.append(
            f"{modality}: {(known & gaps).sum():,} rows of {table.path.name} have an empty cell and do not count"
        )
    known = known & ~gaps
    missing = np.ones(len(item_ids), dtype=bool)
    missing[at[known]] = False
    placed = np.zeros((len(item_ids), values.shape[1]), dtype=np.float32)
    placed[at[known]] = values[known]
    fill_missing(placed, missing)
    if missing.any():
        notes.append(missing_note(modality, int(missing.sum()), len(missing)))
    if (at < 0).any():
        notes.append(
            f"{modality}: {(at < 0).sum():,} of {len(at):,} rows are of items not in the data and are left out"
        )
    return placed, missing, table.sha256, notes


def _matrix(table: Table, item: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The feature columns as [n, d], one list column or numeric columns in their order, and the rows [n] with a gap."""
    features = [table.frame[name] for name in table.frame.columns if name != item and not _is_index(table, name)]
    if not features:
        raise DataError(f"{table.path}: no column beside {item!r}, expected features")
    if len(features) == 1 and features[0].dtype.base_type() in (pl.List, pl.Array):
        values = _unlist(table, features[0])
    else:
        values = np.empty((table.frame.height, len(features)), dtype=np.float32)
        for place, feature in enumerate(features):
            values[:, place] = floats(table, feature.name)
    gaps = np.asarray(np.isnan(values).any(axis=1))
    values[gaps] = 0
    if (row := first_not_finite(values)) is not None:
        raise DataError(f"{table.where(row)}: a feature is infinite as float32, expected finite numbers")
    return values, gaps


def _is_index(table: Table, name: str) -> bool:
    """Whether a column numbers the rows: one that pandas or R named, or ``index`` from 0 or 1 on."""
    unnamed = re.fullmatch(r"( \(\d+\))?|Unnamed: \d+|__index_level_\d+__", name) is not None
    if not unnamed and name not in ("index", "level_0", "row_nr"):
        return False
    values = table.frame[name]
    if unnamed and values.null_count() == len(values):
        return True
    numbers = values.cast(pl.Int64, strict=False)
    rows = (numbers - pl.Series(np.arange(len(numbers)))).unique().to_list()
    if rows not in ([0], [1]) and not (unnamed and numbers.null_count() == 0 and numbers.n_unique() == len(numbers)):
        if unnamed:
            raise DataError(
                f"{table.path}: column {table.frame.get_column_index(name) + 1} is called {shown(name)} and does not "
                f"number the rows, expected a name for each feature"
            )
        return False
    table.notes.append(f"{table.path.name}: column {shown(name)} numbers the rows and is left out")
    return True


def _unlist(table: Table, column: pl.Series) -> NDArray[np.float32]:
    """A column of lists as [n, d], NaN where there is no list or a gap in it."""
    kind = column.dtype
    assert isinstance(kind, (pl.List, pl.Array))
    lists = column.cast(pl.List(kind.inner))
    lengths = lists.list.len()
    width = int(next(iter(lengths.drop_nulls()), 0))
    bad = lengths.is_not_null() & (lengths != width)
    if bad.any() or not width:
        row = int(bad.arg_max() or 0)
        raise DataError(
            f"{table.where(row)}: {named(column.name)} has length {lengths[row]}, expected {width or 1} as others"
        )
    flat = lists.drop_nulls().explode()
    if not flat.dtype.is_numeric():
        raise DataError(
            f"{table.path}: column {shown(column.name)} has type {type_of(column)}, expected lists of numbers"
        )
    values = np.full((len(column), width), np.nan, dtype=np.float32)
    values[lists.is_not_null().to_numpy()] = flat.cast(pl.Float32).fill_null(float("nan")).to_numpy().reshape(-1, width)
    return values
