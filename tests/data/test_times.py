from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data.table import read_table
from bm3_pyg.data.times import times
from bm3_pyg.errors import DataError

pytestmark = pytest.mark.usefixtures("sound_parquet")

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
        (["1970-01-01T00:00:00,5Z", "1970-01-01t02Z"], [0.5, 2 * HOUR], "f"),
        (["19700101T010000Z", "1970-01-01T24:00", "19700102"], [HOUR, 24 * HOUR, 24 * HOUR], "i"),
        (["1970-01-01T01:00:00+0130", "1970-01-01 01:00:00 -02"], [-HOUR // 2, 3 * HOUR], "i"),
        (["1970-01-01 01:00:00 UTC", "1970-01-01 01:00 GMT"], [HOUR, HOUR], "i"),
        (["1970-W01-5", "1970-002", "1970-01-02"], [24 * HOUR, 24 * HOUR, 24 * HOUR], "i"),
        (["1969-12-31T23:59:59Z", "-1", "0"][:1], [-1], "i"),
        (["-1", "0", "-86400.5"], [-1, 0, -86400.5], "f"),
        (["1500000000000", "1"], [1.5e9, 0.001], "f"),
        (["1500000000000", "1500000001000"], [1_500_000_000, 1_500_000_001], "i"),
        (["1500000000250", "1500000001000"], [1_500_000_000.25, 1_500_000_001], "f"),
        (["1500000000000.0", "1.5e12"], [1.5e9, 1.5e9], "i"),
        (["1500000000000000"], [1_500_000_000], "i"),
        (["1500000000000000000", "0"], [1_500_000_000, 0], "i"),
        (["19700102", "19700101"], [24 * HOUR, 0], "i"),
        (["19700102010000", "19700101010000"], [25 * HOUR, HOUR], "i"),
        (["19700102", "19700199"], [19700102, 19700199], "i"),
    ],
)
def test_times_in_text(tmp_path: Path, texts: list[str], expected: list[float], kind: str) -> None:
    (tmp_path / "x.csv").write_text("\n".join(["t,u", *(f'"{text}",1' for text in texts)]))
    seconds = times(read_table(tmp_path / "x.csv"), "t")
    assert seconds.dtype.kind == kind
    np.testing.assert_allclose(seconds, expected, rtol=1e-12)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_in_parquet(tmp_path: Path, unit: str) -> None:
    moments = pl.Series("t", [dt.datetime(1970, 1, 1, 1), dt.datetime(1970, 1, 2)]).dt.cast_time_unit(unit)  # type: ignore[arg-type]
    for column in (moments, moments.dt.replace_time_zone("UTC")):
        column.to_frame().write_parquet(tmp_path / "x.parquet")
        assert times(read_table(tmp_path / "x.parquet"), "t").tolist() == [HOUR, 24 * HOUR]
    moments.dt.date().to_frame().write_parquet(tmp_path / "x.parquet")
    assert times(read_table(tmp_path / "x.parquet"), "t").tolist() == [0, 24 * HOUR]


@pytest.mark.parametrize(
    "bad",
    ["soon", "03/02/2014", "2014-13-01", "nan", "inf", "2014-03-02T25:00", "2014-03-02T"],
)
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


def notes_of(tmp_path: Path, cells: list[str]) -> list[str]:
    (tmp_path / "x.csv").write_text("\n".join(["t,u", *(f"{cell},1" for cell in cells)]))
    table = read_table(tmp_path / "x.csv")
    times(table, "t")
    return table.notes


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (["1500000000000"], "x.csv: t is taken for milliseconds since 1970"),
        (["1500000000000000"], "x.csv: t is taken for microseconds since 1970"),
        (["1500000000000000000"], "x.csv: t is taken for nanoseconds since 1970"),
        (["20140701"], "x.csv: t holds dates such as 20140701, which are read as such"),
        (["2014-07-01T00:00Z", "2014-07-01"], "x.csv: t: 1 of 2 times have no zone and are taken for UTC"),
    ],
)
def test_conversions_are_told(tmp_path: Path, cells: list[str], note: str) -> None:
    assert notes_of(tmp_path, cells) == [note]


@pytest.mark.parametrize("cells", [["1500000000", "0", "-5"], ["2014-07-01", "2014-07-01 00:00"], ["2014-07-01T00Z"]])
def test_what_needs_no_conversion_is_not_told(tmp_path: Path, cells: list[str]) -> None:
    assert notes_of(tmp_path, cells) == []


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1500000000000", "1500000000"], "line 3: t is 1500000000, seconds since 1970, where others are milliseconds"),
        (["1500000000", "1500000000000"], "line 2: t is 1500000000, seconds since 1970, where others are milliseconds"),
        (
            ["1500000000000", "15e14"],
            "line 2: t is 1500000000000.0, milliseconds since 1970, where others are micro",
        ),
        (["5", "1e30"], r"line 3: t is 1e\+30, expected Unix seconds or an ISO 8601 time, before 2100"),
        (["2014-07-01", "2014-07-02", "5"], "line 4: t is '5', expected Unix seconds or an ISO 8601 time"),
    ],
)
def test_units_that_do_not_fit(tmp_path: Path, cells: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        notes_of(tmp_path, cells)


def test_zones_in_parquet(tmp_path: Path) -> None:
    summer = pl.Series("t", [dt.datetime(1970, 1, 1, 2)]).dt.replace_time_zone("Europe/Berlin")
    summer.to_frame().write_parquet(tmp_path / "x.parquet")
    assert times(read_table(tmp_path / "x.parquet"), "t").tolist() == [HOUR]
