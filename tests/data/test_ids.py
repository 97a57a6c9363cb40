from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bm3_pyg.data.ids import (
    IdList,
    concatenated,
    first_appearance,
    fixed_width,
    integers_if_canonical,
    look_up,
    positions,
    read_id_column,
    to_array,
    to_series,
)
from bm3_pyg.data.table import Table
from bm3_pyg.errors import DataError


@pytest.mark.parametrize(
    ("texts", "integers"),
    [
        (["1", "20", "0", "-3"], True),
        (["9223372036854775807"], True),
        (["9223372036854775808"], False),
        (["1", "007"], False),
        (["1", "+2"], False),
        (["1", "2.0"], False),
        (["1", " 2"], False),
        (["-0"], False),
        (["a"], False),
    ],
)
def test_canonical_integers(texts: list[str], integers: bool) -> None:
    ids = integers_if_canonical(pl.Series(texts))
    assert (ids.dtype == pl.Int64) is integers
    assert ids.cast(pl.String).to_list() == texts


def test_positions_is_the_naive_one() -> None:
    rng = np.random.default_rng(0)
    catalogue = rng.permutation(50)
    asked = rng.integers(70, size=200)
    expected = [catalogue.tolist().index(one) if one in catalogue else -1 for one in asked]
    for own in (pl.Series(catalogue), pl.Series(catalogue).cast(pl.String)):
        for ids in (pl.Series(asked), pl.Series(asked).cast(pl.String)):
            assert positions(own, ids).tolist() == expected


def test_first_appearance_is_the_naive_one() -> None:
    ids = ["b", "a", "b", "c", "a"]
    catalogue, at = first_appearance(pl.Series(ids))
    assert catalogue.to_list() == list(dict.fromkeys(ids)) == ["b", "a", "c"]
    assert at.tolist() == [0, 1, 0, 2, 1]


@pytest.mark.parametrize("ids", [["b", "ü", "a\tb"], [3, 1, 2]])
def test_arrays_and_series(ids: list[object]) -> None:
    array = to_array(pl.Series(ids))
    assert array.dtype.kind in "iO"
    assert array.flags.writeable
    assert to_series(array).to_list() == ids


@pytest.mark.parametrize(
    ("cells", "expected", "note"),
    [
        (["12.0", "7.0", "-3.0"], [12, 7, -3], "x.csv: id holds integers as floats (12.0), read as integers"),
        (
            ["12.0", "7"],
            ["12.0", "7"],
            "x.csv: id holds '12.0' (x.csv: line 2) beside '7', and each is an id of its own",
        ),
        (["12.5", "7.5"], ["12.5", "7.5"], None),
        (["1e5", "+5", "007"], ["1e5", "+5", "007"], None),
        (["-5", "0", "9223372036854775807"], [-5, 0, 2**63 - 1], None),
        (["5", "9223372036854775808"], ["5", "9223372036854775808"], None),
        ([" a", "a", "a\u00a0", "\u2028"], [" a", "a", "a\u00a0", "\u2028"], None),
    ],
)
def test_ids_in_text(cells: list[str], expected: list[object], note: str | None) -> None:
    table = Table(Path("x.csv"), pl.DataFrame({"id": cells}), "", lines=2)
    assert read_id_column(table, "id").to_list() == expected
    assert table.notes == ([] if note is None else [note])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pl.Series([12.0, 7.0]), [12, 7]),
        (pl.Series([12, 7]).cast(pl.Decimal(38, 0)), [12, 7]),
        (pl.Series([b"a", "ü".encode()]), ["a", "ü"]),
        (pl.Series(["a", "b"]).cast(pl.Categorical), ["a", "b"]),
        (pl.Series(["12.0", "7.0"]), ["12.0", "7.0"]),
        (pl.Series([str(-(2**63)), "7"]).cast(pl.Int128), [-(2**63), 7]),
        (pl.Series([str(-(2**63) - 1), "7"]).cast(pl.Int128), [str(-(2**63) - 1), "7"]),
    ],
)
def test_ids_in_parquet(values: pl.Series, expected: list[object]) -> None:
    assert read_id_column(Table(Path("x.parquet"), pl.DataFrame({"id": values}), ""), "id").to_list() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pl.Series([1.0, 1.5]), "row 2: column 'id' has type Float64 and is 1.5, expected integers or strings"),
        (pl.Series([1.0, float("nan")]), "row 2: column 'id' has type Float64 and is nan"),
        (pl.Series([2.0**53]), "row 1: column 'id' has type Float64 and is 9007199254740992.0"),
        (pl.Series([b"\xff"]), "column 'id' holds bytes that are not UTF-8"),
        (pl.Series(["a", "b\0"]), r"row 2: id is 'b\\x00', expected an id on one line, without NUL"),
        (pl.Series(["a\nb"]), r"row 1: id is 'a\\nb', expected an id on one line"),
        (pl.Series([True]), "has type Boolean, expected integers or strings"),
    ],
)
def test_what_cannot_be_ids(values: pl.Series, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_id_column(Table(Path("x.parquet"), pl.DataFrame({"id": values}), ""), "id")


def test_ids_of_several_lists_are_where_they_were() -> None:
    first, second = IdList([7, 8], "first {}".format), IdList([9], "second {}".format)
    together = concatenated([first, second])
    assert together == [7, 8, 9]
    assert isinstance(together, IdList)
    assert [together.where(row) for row in range(3)] == ["first 0", "first 1", "second 0"]
    assert not isinstance(concatenated([first, [9]]), IdList)


def test_white_space_around_an_id_counts_where_the_catalogue_has_it() -> None:
    catalogue = pl.Series([" a", "a", "b", "c\u2028"])
    asked = pl.Series([" a", "a", "a ", " b\u00a0", "c", "c\u2028", " c", ""])
    assert look_up(catalogue, asked).tolist() == [0, 1, 1, 2, -1, 3, -1, -1]
    assert look_up(pl.Series([7, 8]), pl.Series([" 8", "7"])).tolist() == [1, 0]


def test_ids_in_a_npy_file_take_the_room_of_the_longest() -> None:
    assert fixed_width(to_array(pl.Series([1, 2]))).dtype == np.int64
    assert fixed_width(to_array(pl.Series(["a", "bcd"]))).dtype == np.dtype("U3")
    with pytest.raises(DataError, match=r"ids: 1,001 of up to 300,000 characters would take 1\.2 GB in a \.npy file"):
        fixed_width(to_array(pl.Series(["a"] * 1000 + ["b" * 300_000])))
