"""What holds for every reader of tables and of ids: a bad file is one line that names it, and no row is lost."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bm3_pyg import load_dataset
from bm3_pyg.data.ids import read_histories, read_ids
from bm3_pyg.data.table import read_table
from bm3_pyg.errors import BM3Error

USERS, ITEMS = [f"u{user}" for user in range(6)], [f"i{item}" for item in range(8)]
ROWS = [(user, item) for user in USERS for item in ITEMS]
CLICKS = "user,item\n" + "".join(f"{user},{item}\n" for user, item in ROWS)
Read = Callable[[Path], Any]


def clicks_beside(path: Path) -> Path:
    clicks = path.parent / "interactions.csv"
    clicks.write_text(CLICKS)
    return clicks


def prepared(path: Path) -> Any:
    from bm3_pyg.data.catalogue import prepare_catalogue

    return prepare_catalogue(clicks_beside(path), path, path.parent / "out")


READERS: dict[str, Read] = {
    "table": read_table,
    "interactions": load_dataset,
    "items": lambda path: load_dataset(clicks_beside(path), items=path),
    "features": lambda path: load_dataset(clicks_beside(path), features={"f": path}),
    "prepared items": prepared,
    "new users": read_histories,
    "ids": lambda path: read_ids(path, "item"),
}
KINDS = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz")


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    """A table in the format that the name says."""
    frame = pl.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dicts()))
    else:
        file = io.BytesIO()
        frame.write_csv(file, separator="\t" if path.suffix == ".tsv" else ",")
        path.write_bytes(gzip.compress(file.getvalue()) if path.suffix == ".gz" else file.getvalue())


def columns_for(reader: str) -> dict[str, list[Any]]:
    """What each reader takes, every item or pair once."""
    if reader in ("table", "interactions", "new users"):
        return {"user": [user for user, _ in ROWS], "item": [item for _, item in ROWS]}
    return {"item": ITEMS, **({"x": [float(place) for place in range(len(ITEMS))]} if reader == "features" else {})}


def refused(read: Read, path: Path, message: str = "") -> None:
    with pytest.raises(BM3Error) as caught:
        read(path)
    text = str(caught.value)
    assert str(path) in text
    assert text.isprintable()
    assert len(text) < 600
    assert re.search(message, text), text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_every_format(tmp_path: Path, reader: str, kind: str) -> None:
    write(tmp_path / f"x{kind}", columns_for(reader))
    found = READERS[reader](tmp_path / f"x{kind}")
    if reader == "table":
        assert found.frame.rows() == ROWS
    elif reader == "new users":
        assert found == dict.fromkeys(USERS, ITEMS)
    elif reader == "ids":
        assert found == ITEMS
        place = {".parquet": "row 3", ".jsonl": "line 3"}.get(kind, "line 4")
        assert found.where(2) == f"{tmp_path / f'x{kind}'}: {place}"
    elif reader != "prepared items":
        assert found["item"].raw_id.tolist() == ITEMS
        if reader == "features":
            assert found["item"].f.ravel().tolist() == list(range(len(ITEMS)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "no such file"),
        ("folder", "is a folder"),
        (b"", "empty"),
        (b"\n\n", "empty|Parquet"),
        (b"\xef\xbb\xbf", "empty|no rows|Parquet"),
        (b"item,user\n\xff,a\n", "not UTF-8|Parquet"),
        (b"item,user\na\0,b\n", "NUL|Parquet"),
        ("item,user\na,b\n".encode("utf-16"), "UTF-16|Parquet"),
        (b"PK\x03\x04 and more", "zip archive"),
        (b"\x1f\x8b\x08 and more", "damaged or cut off"),
        (b"PAR1 and more PAR1", "cannot be read as Parquet"),
    ],
    ids=str,
)
def test_bad_files(tmp_path: Path, reader: str, kind: str, raw: bytes | str | None, message: str) -> None:
    path = tmp_path / f"x{kind}"
    if raw == "folder":
        path.mkdir()
        if reader in ("features", "prepared items"):
            return  # a folder of texts
    elif isinstance(raw, bytes):
        path.write_bytes(raw)
    refused(READERS[reader], path, message)


@pytest.mark.usefixtures("sound_parquet")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "ids"])
def test_no_rows_and_no_column(tmp_path: Path, reader: str, kind: str) -> None:
    path = tmp_path / f"x{kind}"
    columns = columns_for(reader)
    write(path, {name: pl.Series([], dtype=pl.String) for name in columns})  # type: ignore[misc]
    refused(READERS[reader], path, "no rows|empty")
    if reader != "table":
        write(path, {f"other\x1b{name}": values for name, values in columns.items()})
        refused(READERS[reader], path, r"no column '(user|item)'; found 'other\\x1b")


@pytest.mark.usefixtures("sound_parquet")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "table"])
def test_an_empty_id(tmp_path: Path, reader: str, kind: str) -> None:
    path, columns = tmp_path / f"x{kind}", columns_for(reader)
    write(path, {**columns, "item": ["", *columns["item"][1:]], "more": columns["item"]})
    refused(READERS[reader], path, r": (line|row) \d: column 'item' is empty|\.csv: line 2: item is ''")


@pytest.mark.usefixtures("sound_parquet")
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("reader", ["table", "interactions", "new users"])
@pytest.mark.parametrize(
    "comments",
    [['7" screen', "x"], ['"', '"'], ["two\nlines", "a, b"], ["\r", "\t"], [" ", "   "], ['""', "'"]],
    ids=repr,
)
def test_a_column_nobody_uses_costs_no_row(tmp_path: Path, reader: str, kind: str, comments: list[str]) -> None:
    path, columns = tmp_path / f"x{kind}", columns_for(reader)
    write(path, {**columns, "comment": (comments * len(ROWS))[: len(ROWS)]})
    found = READERS[reader](path)
    if reader == "table":
        assert found.frame.select("user", "item").rows() == ROWS
        assert found.frame["comment"].to_list() == (comments * len(ROWS))[: len(ROWS)]
    elif reader == "interactions":
        edges = found["user", "rates", "item"]
        parts = (edges.edge_index, edges.val_edge_index, edges.test_edge_index)
        assert sum(part.size(1) for part in parts) == len(ROWS)
    else:
        assert found == dict.fromkeys(USERS, ITEMS)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("reader", READERS)
def test_ends_of_lines_blank_lines_and_a_byte_order_mark(tmp_path: Path, reader: str, end: str) -> None:
    path, columns = tmp_path / "x.csv", columns_for(reader)
    columns = {**columns, "last": ["z"] * len(columns["item"])} if reader != "features" else columns
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    text = end.join(["", ",".join(columns), *rows[:3], "", *rows[3:], "", ""])
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = READERS[reader](path)
    if reader == "new users":
        assert found == dict.fromkeys(USERS, ITEMS)
    elif reader == "ids":
        assert [found.where(place) for place in (0, 3)] == [f"{path}: line 3", f"{path}: line 7"]
    elif reader == "table":
        assert (found.where(0), found.where(3)) == (f"{path}: line 3", f"{path}: line 7")
    elif reader != "prepared items":
        assert found["item"].raw_id.tolist() == ITEMS


@pytest.mark.parametrize("length", [1_000, 100_000])
def test_one_long_id_is_an_id(tmp_path: Path, length: int) -> None:
    (tmp_path / "x.csv").write_text(CLICKS + f"{'é' * length},i0\n")
    data = load_dataset(tmp_path / "x.csv")
    assert data["user"].raw_id[-1] == "é" * length
    assert np.asarray(data["user"].raw_id).nbytes == 8 * 7
