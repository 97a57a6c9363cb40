"""Users' own ids: integers where they are integers, strings otherwise, compared by their string form."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.reading import Table, present
from bm3_pyg.errors import DataError

Ids = NDArray[Any]  # int64 or str


def read_ids(table: Table, name: str) -> pl.Series:
    """Column ``name`` of ids as Int64 or String.

    In a text file ids stay strings unless every one is an integer as one writes it (no leading zero) of 64 bits.

    Raises:
        DataError: The column is missing, has an empty cell, or holds neither integers nor strings.
    """
    values = present(table, name)
    if values.dtype in (pl.Categorical, pl.Enum):
        values = values.cast(pl.String)
    if values.dtype.is_integer():
        return values.cast(pl.Int64 if int(values.max()) < 2**63 else pl.String)  # type: ignore[arg-type]
    if values.dtype != pl.String:
        raise DataError(f"{table.path}: column {name!r} has type {values.dtype}, expected integers or strings")
    return integers_if_canonical(values) if table.separator is not None else values


def refuse_repeats(table: Table, values: pl.Series, expected: str) -> None:
    """Raise a :class:`DataError` naming the first row whose value stands in an earlier row too."""
    repeated = ~values.is_first_distinct()
    if repeated.any():
        row = int(repeated.arg_max() or 0)
        raise DataError(f"{table.where(row)}: {values[row]!r} stands in an earlier row too, expected {expected}")


def integers_if_canonical(values: pl.Series) -> pl.Series:
    """Int64 if every string is an integer written the one usual way and fits 64 bits; else the strings."""
    numbers = values.cast(pl.Int64, strict=False)
    return numbers if (numbers.cast(pl.String) == values).fill_null(False).all() else values


def to_array(values: pl.Series) -> Ids:
    """Ids as a numpy array of int64 or of fixed-width strings."""
    return np.array(values, dtype=np.int64) if values.dtype == pl.Int64 else np.array(values.to_list(), dtype=np.str_)


def to_series(ids: Ids) -> pl.Series:
    """The reverse of :func:`to_array`."""
    return pl.Series(ids.astype(np.int64)) if ids.dtype.kind in "iu" else pl.Series(ids.tolist(), dtype=pl.String)


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
