from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data.reading import floats, read_table
from bm3_pyg.data.times import times
from bm3_pyg.errors import DataError

HOUR = 3600


@pytest.mark.parametrize(
    ("texts", "expected", "kind"),
    [
        (["1500000000", "7"], [1_500_000_000, 7], "i"),
        (["1.5", "2"], [1.5, 2], "f"),
        (["1.5e9", "2.0"], [1_500_000_000, 2], "i"),
        (["1970-01-02", "1970-01-01 01:00:00"], [24 * HOUR, HOUR], "i"),
        (["1970-01-01T01:00:00Z", "1970-01-01T01:00:00+01:00"], [HOUR, 0], "i"),
        (["1970-01-01T00:00:00.25", "1970-01-01 00:01"], [0.25, 60], "f"),
    ],
)
def test_times_in_text(tmp_path: Path, texts: list[str], expected: list[float], kind: str) -> None:
    (tmp_path / "x.csv").write_text("\n".join(["t,u", *(f"{text},1" for text in texts)]))
    seconds = times(read_table(tmp_path / "x.csv"), "t")
    assert seconds.dtype.kind == kind
    assert seconds.tolist() == expected


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_in_parquet(tmp_path: Path, unit: str) -> None:
    moments = pl.Series("t", [dt.datetime(1970, 1, 1, 1), dt.datetime(1970, 1, 2)]).dt.cast_time_unit(unit)  # type: ignore[arg-type]
    for column in (moments, moments.dt.replace_time_zone("UTC")):
        column.to_frame().write_parquet(tmp_path / "x.parquet")
        assert times(read_table(tmp_path / "x.parquet"), "t").tolist() == [HOUR, 24 * HOUR]
    moments.dt.date().to_frame().write_parquet(tmp_path / "x.parquet")
    assert times(read_table(tmp_path / "x.parquet"), "t").tolist() == [0, 24 * HOUR]


@pytest.mark.parametrize("bad", ["soon", "03/02/2014", "2014-13-01", "nan", "inf", "2014-03-02x"])
@pytest.mark.parametrize("good", ["1500000000", "2014-03-02", "0.5"])
def test_unparsable_time(tmp_path: Path, good: str, bad: str) -> None:
    (tmp_path / "x.csv").write_text(f"t,u\n{good},1\n{bad},1\n")
    with pytest.raises(DataError, match=rf"x\.csv: line 3: t is '{bad}', expected Unix seconds or an ISO 8601 time$"):
        times(read_table(tmp_path / "x.csv"), "t")


def test_missing_time(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("t,u\n1,1\n,1\n")
    with pytest.raises(DataError, match=r"line 3: column 't' is empty"):
        times(read_table(tmp_path / "x.csv"), "t")


def test_times_of_another_type(tmp_path: Path) -> None:
    pl.DataFrame({"t": [True]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="has type Boolean, expected times"):
        times(read_table(tmp_path / "x.parquet"), "t")


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
