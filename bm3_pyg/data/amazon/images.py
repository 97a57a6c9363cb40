"""Image features from Amazon's .b files."""

from __future__ import annotations

import hashlib
from io import FileIO
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.amazon.lines import open_size, progress
from bm3_pyg.errors import DataError

ASIN = 10  # bytes
PIECE = 1 << 24  # bytes read at a time


def read_images(
    path: Path, wanted: pl.Series, *, dim: int = 4096
) -> tuple[NDArray[np.float32], NDArray[np.bool_], str, list[str]]:
    """Image features of the items in ``wanted`` [I], from ``image_features_CAT.b``, which is read once, front to back.

    The file repeats 10 bytes of ASCII, the asin, and ``dim`` little-endian float32 numbers. A record with NaN or
    infinity is skipped; of an item's other records the first is used.

    Args:
        path: The file.
        wanted: Distinct item ids.
        dim: Numbers in a record.

    Returns:
        Values [I, dim], zeros where an item has none; the mask [I] of those; the file's SHA-256; notes on the
        records skipped.

    Raises:
        DataError: The file is missing, empty, cut off within a record, or what should be an asin is none.
    """
    path = Path(path)
    record = np.dtype([("asin", "S", ASIN), ("values", "<f4", (dim,))])
    _refuse_cut(path, record.itemsize)
    rows = {item.encode(): row for row, item in enumerate(wanted.cast(pl.String).to_list())}
    values = np.zeros((len(wanted), dim), dtype=np.float32)
    missing = np.ones(len(wanted), dtype=bool)
    block = np.empty(max(1, PIECE // record.itemsize), dtype=record)
    first = repeated = broken = 0
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file, progress(path) as bar:
        while size := _fill(file, block):
            records = block[: size // record.itemsize]
            digest.update(records.data)
            _refuse_no_asin(path, records["asin"], first)
            for at, item in enumerate(records["asin"].tolist()):
                row = rows.get(item)
                if row is None:
                    continue
                if not np.isfinite(records["values"][at]).all():
                    broken += 1
                elif not missing[row]:
                    repeated += 1
                else:
                    values[row], missing[row] = records["values"][at], False
            first += len(records)
            bar.update(size)
    return values, missing, digest.hexdigest(), _notes(path, repeated, broken)


def _refuse_cut(path: Path, record: int) -> None:
    size = open_size(path)
    if size == 0:
        raise DataError(f"{path}: the file is empty, expected records of {record:,} bytes")
    if size % record:
        raise DataError(
            f"{path}: {size // record:,} whole records and {size % record:,} extra bytes, "
            f"expected records of {record:,} bytes; download it again"
        )


def _fill(file: FileIO, block: NDArray[np.void]) -> int:
    """Read into ``block`` until it is full or the file ends; the number of bytes read."""
    view = block.view(np.uint8).data
    size = 0
    while size < len(view) and (more := file.readinto(view[size:])):
        size += more
    return size


def _refuse_no_asin(path: Path, items: NDArray[np.bytes_], first: int) -> None:
    good = np.char.isalnum(items) & (np.char.str_len(items) == ASIN)
    if not good.all():
        at = int(good.argmin())
        raise DataError(
            f"{path}: record {first + at + 1:,} begins with {bytes(items[at])!r}, expected {ASIN} letters and digits: "
            "damaged, or not a file of image features"
        )


def _notes(path: Path, repeated: int, broken: int) -> list[str]:
    notes = []
    if repeated:
        notes.append(f"{path.name}: {repeated:,} repeated items, the first record of each was used")
    if broken:
        notes.append(f"{path.name}: {broken:,} records hold NaN or infinity and were skipped")
    return notes
