"""What goes into a table comes out of it, ids of any characters, by every kind of file; lists can be read by others."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bm3_pyg import load_dataset
from bm3_pyg.data.hetero import raw_ids
from bm3_pyg.data.ids import (
    first_appearance,
    id_lines,
    integers_if_canonical,
    positions,
    read_id_column,
    to_array,
    to_series,
)
from bm3_pyg.serving.lists import write_table

ANY = st.text(st.characters(codec="utf-8"), max_size=8)
ID = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=8).filter(
    lambda text: not re.fullmatch(r"-?\d+\.0", text)  # integers that pandas wrote as floats are integers again
)
NUMBER = st.integers(-(2**63), 2**63 - 1).map(str)
ROWS = st.lists(st.tuples(ID, ID), min_size=1, max_size=12) | st.lists(st.tuples(NUMBER, ID), min_size=1, max_size=12)
KINDS = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.gz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where files are that nobody damages, so that Parquet needs no process to try it in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bm3_pyg.data.table.parse_parquet", lambda raw: pl.read_parquet(io.BytesIO(raw)))
        yield tmp_path_factory.mktemp("tables")


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    names = ("user", "item")
    if path.suffix == ".parquet":
        pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row").write_parquet(path)
        return
    text = io.StringIO()
    if ".jsonl" in path.suffixes:
        text.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    else:
        writer = csv.writer(text, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        writer.writerows([names, *rows])
    raw = text.getvalue().encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


@pytest.mark.parametrize("kind", KINDS)
@given(ROWS)
@example([('7" screen', "a,b"), ('"', '""'), ("\t", " x "), ("#1", "\u2028"), ("007", "7")])
def test_every_pair_comes_out_of_every_kind_of_table(folder: Path, kind: str, rows: list[tuple[str, str]]) -> None:
    path = folder / f"clicks{kind}"
    write(path, rows)
    data = load_dataset(path, split="leave-one-out")
    users, items = (raw_ids(data, name) for name in ("user", "item"))
    edges = data["user", "rates", "item"]
    found = [
        (str(users[user]), str(items[item]))
        for name in ("edge_index", "val_edge_index", "test_edge_index")
        for user, item in edges[name].T.tolist()
    ]
    assert sorted(found) == sorted(set(rows))
    assert list(map(str, users)) == list(dict.fromkeys(user for user, _ in rows))
    assert list(map(str, items)) == list(dict.fromkeys(item for _, item in rows))


@given(st.lists(ID.filter(str.strip), min_size=1, max_size=9))
def test_ids_one_a_line(folder: Path, ids: list[str]) -> None:
    path = folder / "ids.txt"
    path.write_bytes("".join(f"{one}\n" for one in ids).encode())
    assert read_id_column(id_lines(path, "item"), "item").cast(pl.String).to_list() == ids


@given(
    st.lists(ID | NUMBER | st.sampled_from(["007", "-0", "+1", " 1", "1_0", "٣", "9223372036854775808"]), min_size=1)
)
def test_ids_are_integers_where_all_are_written_as_one_writes_them(ids: list[str]) -> None:
    values = pl.Series(ids, dtype=pl.String)
    found = integers_if_canonical(values)
    canonical = all(re.fullmatch(r"0|-?[1-9][0-9]*", one) and -(2**63) <= int(one) < 2**63 for one in ids)
    assert (found.dtype == pl.Int64) == canonical
    assert to_series(to_array(found)).to_list() == found.to_list()
    catalogue, at = first_appearance(found)
    assert catalogue.to_list() == list(dict.fromkeys(found.to_list()))
    assert catalogue.gather(at).to_list() == found.to_list()
    assert positions(catalogue, pl.Series(["no such id at all"])).tolist() == [-1]


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".parquet"])
@given(
    st.lists(
        st.tuples(ANY, st.integers(1, 9), ANY, st.floats(width=32, allow_nan=False, allow_infinity=False)), max_size=9
    )
)
def test_lists_can_be_read_by_others(folder: Path, kind: str, rows: list[tuple[str, int, str, float]]) -> None:
    names = ["user", "rank", "item", "score"]
    schema = dict(zip(names, (pl.String, pl.Int64, pl.String, pl.Float32), strict=True))
    path = folder / f"lists{kind}"
    write_table(pl.DataFrame(rows, schema=schema, orient="row"), path)
    if kind == ".parquet":
        found = pl.read_parquet(path).rows()
    elif kind == ".jsonl":
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        found = [tuple(json.loads(line)[name] for name in names) for line in lines]
    else:
        assume(sys.version_info >= (3, 11) or not any("\0" in row[0] + row[2] for row in rows))  # csv refused it
        with path.open(encoding="utf-8", newline="") as file:
            header, *cells = csv.reader(file)
        assert header == names
        found = [(user, int(rank), item, float(score)) for user, rank, item, score in cells]
    assert [row[:3] for row in found] == [row[:3] for row in rows]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in rows], rel=1e-6)
