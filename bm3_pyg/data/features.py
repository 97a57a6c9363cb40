"""Item features from files: a .npy array in item order, or a table keyed by item id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.ids import positions, read_ids, refuse_repeats
from bm3_pyg.data.reading import TABLE_SUFFIXES, Table, file_sha256, read_table
from bm3_pyg.errors import DataError

NPY = b"\x93NUMPY"
BLOCK = 1024  # rows worked on at a time, so that a temporary stays small beside the features


def read_features(
    path: str | Path, modality: str, *, item: str, item_ids: pl.Series
) -> tuple[NDArray[np.float32], NDArray[np.bool_], str, list[str]]:
    """Features of the items in ``item_ids`` [I] from a .npy file in their order or a table with the column ``item``.

    Returns:
        Values [I, d]; the mask [I] of items that have none and were given the mean of the others; the file's SHA-256;
        notes on items filled in and rows left out.
    """
    path = Path(path)
    if path.suffix.lower() in TABLE_SUFFIXES:
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
    ids = read_ids(table, item)
    refuse_repeats(table, ids, "one row per item")
    values = _matrix(table, item)
    at = positions(item_ids, ids)
    known = at >= 0
    if not known.any():
        raise DataError(
            f"{table.path}: {item} is {ids[0]!r} in the first row and none is an item of the data, "
            f"expected ids such as {item_ids[0]!r}"
        )
    missing = np.ones(len(item_ids), dtype=bool)
    missing[at[known]] = False
    placed = np.zeros((len(item_ids), values.shape[1]), dtype=np.float32)
    placed[at[known]] = values[known]
    fill_missing(placed, missing)
    notes = [missing_note(modality, int(missing.sum()), len(missing))] if missing.any() else []
    if not known.all():
        notes.append(
            f"{modality}: {(~known).sum():,} of {len(at):,} rows are of items not in the data and are left out"
        )
    return placed, missing, table.sha256, notes


def _matrix(table: Table, item: str) -> NDArray[np.float32]:
    """The feature columns as [n, d]: one list column, or numeric columns in their order."""
    frame = table.frame.drop(item)
    if frame.width == 0:
        raise DataError(f"{table.path}: no column beside {item!r}, expected features")
    if frame.width == 1 and frame.to_series().dtype.base_type() in (pl.List, pl.Array):
        values = _unlist(table, frame.to_series())
    else:
        values = np.empty((frame.height, frame.width), dtype=np.float32)
        for index, column in enumerate(frame.iter_columns()):
            values[:, index] = _numbers(table, column)
    if (row := first_not_finite(values)) is not None:
        raise DataError(f"{table.where(row)}: a feature is NaN or infinite, expected finite float32 numbers")
    return values


def _unlist(table: Table, column: pl.Series) -> NDArray[np.float32]:
    lengths = column.cast(pl.List(column.dtype.inner)).list.len()  # type: ignore[attr-defined]
    width = lengths.drop_nulls().first()
    bad = lengths.is_null() | (lengths != (width or 0))
    if bad.any():
        row = int(bad.arg_max() or 0)
        raise DataError(
            f"{table.where(row)}: {column.name} has length {lengths[row]!r}, expected {width!r} as in other rows"
        )
    flat = column.explode()
    if not flat.dtype.is_numeric() or flat.null_count() or not width:
        raise DataError(
            f"{table.path}: column {column.name!r} of type {column.dtype} has gaps or no numbers, expected numbers"
        )
    return flat.cast(pl.Float32).to_numpy().reshape(len(column), -1)


def _numbers(table: Table, column: pl.Series) -> NDArray[np.float32]:
    if column.dtype != pl.String and not column.dtype.is_numeric():
        raise DataError(
            f"{table.path}: column {column.name!r} has type {column.dtype}, expected numbers or one list column"
        )
    numbers = column.cast(pl.Float32, strict=False)
    if numbers.null_count():
        row = int(numbers.is_null().arg_max() or 0)
        raise DataError(f"{table.where(row)}: {column.name} is {column[row]!r}, expected a number")
    return numbers.to_numpy()
