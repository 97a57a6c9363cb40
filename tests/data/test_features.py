from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from bm3_pyg.data.features import fill_missing, read_features, read_npy
from bm3_pyg.errors import DataError

pytestmark = pytest.mark.usefixtures("sound_parquet")

ITEMS = pl.Series(["a", "b", "c"])


def refused(path: Path, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_features(path, "image", item="item", item_ids=ITEMS)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert re.search(message, text), text


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64", "uint8", ">f4"])
def test_numbers_become_float32(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "x.npy", np.asfortranarray(np.arange(6).reshape(3, 2).astype(kind)))
    values = read_npy(tmp_path / "x.npy", 3)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    assert values.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_not_finite(tmp_path: Path, value: float) -> None:
    array = np.zeros((3, 2))
    array[1, 0] = value
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", r": row 1 \(from 0\) holds NaN or infinity, expected finite")


@pytest.mark.parametrize("shape", [(3,), (3, 2, 2), (3, 0), ()])
def test_not_two_dimensional(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape))
    refused(tmp_path / "x.npy", rf": holds an array of shape {re.escape(str(list(shape)))}, expected \[3, d\]")


def test_wrong_number_of_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 2)))
    refused(tmp_path / "x.npy", ": holds 5 rows, expected 3, one for each item")


@pytest.mark.parametrize("raw", [b"hello\n", b"", b"item,x\na,1\n"])
def test_not_an_npy_file(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(raw)
    refused(tmp_path / "x.npy", r": not a \.npy file \(it begins with b'.*\), expected an array saved by numpy\.save")


@pytest.mark.parametrize("at", [4, 60, 128, 131, 152])
@pytest.mark.parametrize("count", [1, 4, 8, 64])
def test_bytes_put_in_are_found(tmp_path: Path, at: int, count: int) -> None:
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    raw = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(raw[:at] + raw[:count] + raw[at:])
    refused(tmp_path / "x.npy", r": .*expected an array saved by numpy\.save")


@pytest.mark.parametrize("keep", [6, 60, 127, 130, -1])
def test_truncated_npy_file(tmp_path: Path, keep: int) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:keep])
    refused(tmp_path / "x.npy", r": not a whole \.npy file")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path / "x.npy", ": holds pickled Python objects, expected an array of numbers")


def test_pickle_that_pretends_to_be_npy(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.")
    refused(tmp_path / "x.npy", r": not a \.npy file")


def test_strings(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([["a"], ["b"], ["c"]]))
    refused(tmp_path / "x.npy", ": holds values of type <U1, expected numbers")


def test_several_arrays(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, a=np.zeros((3, 2)))
    refused(tmp_path / "x.npy", r": not a \.npy file \(it begins with b'PK")


def test_missing_file(tmp_path: Path) -> None:
    refused(tmp_path / "x.npy", ": no such file, expected a .npy array")
    refused(tmp_path / "x.csv", ": no such file, expected a file")


def tables(tmp_path: Path, ids: list[str], rows: NDArray[np.float32]) -> list[Path]:
    """The same features as CSV, TSV, wide Parquet, and Parquet with a list and an array column."""
    wide = pl.DataFrame({"item": ids, **{f"x{column}": rows[:, column] for column in range(rows.shape[1])}})
    wide.write_csv(tmp_path / "x.csv")
    wide.select(pl.exclude("item"), "item").write_csv(tmp_path / "x.tsv", separator="\t")
    wide.write_parquet(tmp_path / "x.parquet")
    pl.DataFrame({"item": ids, "vector": rows.tolist()}).write_parquet(tmp_path / "list.parquet")
    pl.DataFrame({"item": ids, "vector": rows}).write_parquet(tmp_path / "array.parquet")
    return [tmp_path / name for name in ("x.csv", "x.tsv", "x.parquet", "list.parquet", "array.parquet")]


def test_tables_keyed_by_item(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)
    for path in tables(tmp_path, ["c", "unknown", "a"], rows):
        values, missing, digest, notes = read_features(path, "image", item="item", item_ids=ITEMS)
        assert missing.tolist() == [False, True, False]
        np.testing.assert_array_equal(values[[2, 0]], rows[[0, 2]])
        np.testing.assert_allclose(values[1], (rows[0] + rows[2]) / 2, rtol=1e-6)
        assert len(digest) == 64
        assert notes == [
            "image: 1 of 3 items have no feature and were given the mean of the others",
            "image: 1 of 3 rows are of items not in the data and are left out",
        ]


def test_integer_ids_match_text_ids(tmp_path: Path) -> None:
    pl.DataFrame({"item": [7, 8], "x": [1.0, 2.0]}).write_parquet(tmp_path / "x.parquet")
    values, *_ = read_features(tmp_path / "x.parquet", "image", item="item", item_ids=pl.Series(["8", "7"]))
    assert values.tolist() == [[2], [1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,x\na,1\nb,2\na,3\n", ": line 4: 'a' stands in an earlier row too, expected one row per item"),
        ("item,x\na,1\nb,red\n", ": line 3: x is 'red', expected a number"),
        ("item,x\na,1\nb,1e99\n", ": line 3: a feature is infinite"),
        ("item,x\na,1\nb,-inf\n", ": line 3: a feature is infinite"),
        ("item,x,y\na,1,\nb,,2\nq,1,2\n", ": every row of an item has an empty cell"),
        ("item,x\nq,1\nr,2\n", ": item is 'q' in the first row and none is an item of the data, .* such as 'a'"),
        ("item\na\n", ": no column beside 'item', expected features"),
        ("id,x\na,1\n", ": no column 'item'; found id, x; say what yours is called .*--id-column"),
        ('item,t,x\na,"a\nb",1\nb,,2\nc,,oops\n', ": line 2: t is 'a\\\\nb', expected a number"),
        ('item,x\na,1\nb,oops\nc,"2"\n', ": line 3: x is 'oops', expected a number"),
        ("item,x,x\na,1,2\n", ": column 'x' stands twice in the header"),
    ],
)
def test_bad_text_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    refused(tmp_path / "x.csv", message)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series([[1.0], [2.0, 3.0]]), ": row 2: x has length 2, expected 1 as others"),
        (pl.Series([None, [float("nan")]]), ": every row of an item has an empty cell"),
        (pl.Series([["a"], ["b"]]), r": column 'x' has type List\(String\), expected lists of numbers"),
        (pl.Series([[], []], dtype=pl.List(pl.Float32)), ": row 1: x has length 0, expected 1"),
        (pl.Series([1.0, float("inf")]), ": row 2: a feature is infinite"),
        (pl.Series([{"a": 1}, {"a": 2}]), ": column 'x' has type Struct.*, expected numbers"),
    ],
)
def test_bad_parquet_table(tmp_path: Path, column: pl.Series, message: str) -> None:
    pl.DataFrame({"item": ["a", "b"], "x": column}).write_parquet(tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", message)


@pytest.mark.parametrize("empty", ["", "NA", "nan", "NaN", "null", '""'])
def test_a_row_with_an_empty_cell_gives_no_feature(tmp_path: Path, empty: str) -> None:
    (tmp_path / "x.csv").write_text(f"item,x,y\na,1,2\nb,{empty},5\nc,3,4\nq,,\n")
    values, missing, _, notes = read_features(tmp_path / "x.csv", "image", item="item", item_ids=ITEMS)
    assert values.tolist() == [[1, 2], [2, 3], [3, 4]]
    assert missing.tolist() == [False, True, False]
    assert notes == [
        "image: 1 rows of x.csv have an empty cell and do not count",
        "image: 1 of 3 items have no feature and were given the mean of the others",
        "image: 1 of 4 rows are of items not in the data and are left out",
    ]


@pytest.mark.parametrize(
    "column", [[1.0, None, 3.0], [1.0, float("nan"), 3.0], [[1.0], None, [3.0]], [[1.0], [None], [3.0]]]
)
def test_gaps_in_parquet(tmp_path: Path, column: list[object]) -> None:
    pl.DataFrame({"item": ITEMS, "x": column}).write_parquet(tmp_path / "x.parquet")
    values, missing, _, _ = read_features(tmp_path / "x.parquet", "image", item="item", item_ids=ITEMS)
    assert (values.tolist(), missing.tolist()) == ([[1], [2], [3]], [False, True, False])


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("Unnamed: 0", "0 1 2"),
        ("Unnamed: 0", "17 5 900"),
        ("", "0 1 2"),
        ("", "1 2 3"),
        ("__index_level_0__", "4 3 8"),
        ("index", "0 1 2"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_of_rows_are_no_feature(tmp_path: Path, header: str, numbers: str, kind: str) -> None:
    frame = pl.DataFrame({header: list(map(int, numbers.split())), "item": ITEMS, "x": [5, 6, 7]})
    getattr(frame, f"write_{kind}")(tmp_path / f"x.{kind}")
    values, _, _, notes = read_features(tmp_path / f"x.{kind}", "image", item="item", item_ids=ITEMS)
    assert values.tolist() == [[5], [6], [7]]
    assert notes == [f"x.{kind}: column {header!r} numbers the rows and is left out"]


def test_a_column_called_index_that_does_not_number_the_rows_is_a_feature(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("item,index\na,3\nb,1\nc,2\n")
    values, _, _, notes = read_features(tmp_path / "x.csv", "image", item="item", item_ids=ITEMS)
    assert (values.tolist(), notes) == ([[3], [1], [2]], [])


@pytest.mark.parametrize("cells", ["0.5 1.5 2.5", "1 1 2", "u v w"])
@pytest.mark.parametrize("header", ["", "Unnamed: 0"])
def test_features_need_names(tmp_path: Path, header: str, cells: str) -> None:
    rows = "".join(f"{cell},{item},1\n" for cell, item in zip(cells.split(), ITEMS, strict=True))
    (tmp_path / "x.csv").write_text(f"{header},item,x\n{rows}")
    refused(tmp_path / "x.csv", f": column 1 is called '{header}' and does not number the rows, expected a name")


@pytest.mark.parametrize(
    "text", ["item,x,\na,1,\nb,2,\nc,3,\n", "item,x\na,1,\nb,2,\nc,3,\n", "item,x,,\na,1\nb,2\nc,3\n"]
)
def test_separators_at_the_ends_of_lines_are_no_feature(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    values, missing, _, notes = read_features(tmp_path / "x.csv", "image", item="item", item_ids=ITEMS)
    assert (values.tolist(), bool(missing.any()), notes) == ([[1.0], [2.0], [3.0]], False, [])


def test_lists_in_json_lines(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"item": "a", "v": [1, 2.5]}\n\n{"item": "c", "v": [3, 4]}\n{"item": "b", "v": null}\n'
    )
    values, missing, _, _ = read_features(tmp_path / "x.jsonl", "image", item="item", item_ids=ITEMS)
    assert values.tolist() == [[1, 2.5], [2, 3.25], [3, 4]]
    assert missing.tolist() == [False, True, False]


@pytest.mark.parametrize("raw", [b"", b"PAR1 not really", b"item,x\na,1\n"])
def test_broken_parquet(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(raw)
    refused(tmp_path / "x.parquet", "Parquet")


def test_filling_is_the_naive_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3000, 3), dtype=np.float32)
    missing = rng.random(3000) < 0.3
    expected = values.copy()
    expected[missing] = values[~missing].astype(np.float64).mean(axis=0)
    fill_missing(values, missing)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
