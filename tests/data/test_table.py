from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data.table import floats, read_table
from bm3_pyg.errors import DataError


def test_ratings(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("r,u\n4.5,1\n,1\n")
    np.testing.assert_array_equal(floats(read_table(tmp_path / "x.csv"), "r"), [4.5, np.nan])
    (tmp_path / "x.csv").write_text("r,u\n4.5,1\ngood,1\n")
    with pytest.raises(DataError, match=r"line 3: r is 'good', expected a number"):
        floats(read_table(tmp_path / "x.csv"), "r")


def test_line_numbers_count_leading_blank_lines_and_quoted_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\n\nr,u\n1,1\nx,1\n")
    table = read_table(path)
    assert table.where(1) == f"{path}: line 5"
    path.write_text('\nr,u\n1,"a\nb"\n2,"c\nd\ne"\nx,1\n')
    table = read_table(path)
    assert [table.where(row) for row in range(3)] == [f"{path}: line {line}" for line in (3, 5, 8)]


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, expected a file"):
        read_table(tmp_path)


def test_a_parquet_file_that_would_end_the_process(tmp_path: Path) -> None:
    """A page with a negative number of values: polars aborts."""
    path = tmp_path / "a.parquet"
    pl.DataFrame({"user": [f"u{at // 6}" for at in range(72)]}).write_parquet(path, compression="uncompressed")
    raw = bytearray(path.read_bytes())
    raw[raw.index(b",\x15\x90\x01") + 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet \(damaged: reading it ended"):
        read_table(path)
