from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from raw_amazon import RawFiles, Size, write_raw

from bm3_pyg.data.amazon import lines
from bm3_pyg.data.amazon.reviews import read_interactions
from bm3_pyg.errors import DataError

Row = tuple[str, str, float, int]
GOOD: Row = ("A3", "B000000001", 4.0, 1_365_811_200)


def review(row: Row = GOOD, **other: object) -> str:
    user, item, rating, time = row
    record = {"reviewerID": user, "asin": item, "reviewText": 'a "b"\n', "overall": rating, "unixReviewTime": time}
    return json.dumps(record | other)


UGLY_RATINGS: list[tuple[bytes, Row | None]] = [
    (b"A3,B000000001,4.0,1365811200", GOOD),
    (b"A3,B000000001,4,1365811200\r", GOOD),
    (b'#oc-R2,"B0,4.0,5', None),
    (b"#oc-R2,0000000012,1.0,0", ("#oc-R2", "0000000012", 1.0, 0)),
    (b"", None),
    (b"A3,B000000001,4.0", None),
    (b"A3,B000000001,4.0,1365811200,9", None),
    (b"A3,B000000001,nan,1365811200", None),
    (b"A3,B000000001,4.0,nan", None),
    (b"A3,B000000001,4.0,", None),
    (b"A3,B000000001,,1365811200", None),
    (b",B000000001,4.0,1365811200", None),
    (b"A3,,4.0,1365811200", None),
    (b"A 3,B000000001,4.0,1365811200", None),
    (b"A\xff,B000000001,4.0,1365811200", None),
    (b"A3,B000000001,0.0,1365811200", None),
    (b"A3,B000000001,1365811200,4", None),
    (b"A3,B000000001,4.0,1365811200000", None),
    (b"A3,B000000001,4.0,-1", None),
    (b"A3,B000000001,4.0,1365811200.5", None),
    (b"user,item,rating,timestamp", None),
    (b"<html>", None),
]
UGLY_REVIEWS: list[tuple[bytes, Row | None]] = [
    (review().encode(), GOOD),
    (b"  " + review().encode() + b" \r", GOOD),
    (review(overall="4.0", unixReviewTime=1365811200.0).encode(), GOOD),
    (review(reviewerID=7, overall=4).encode(), ("7", *GOOD[1:])),
    (b"", None),
    (b"{}", None),
    (b"[1]", None),
    (b"null", None),
    (b"{", None),
    (b"[" * 100_000, None),
    (review().encode()[:40], None),
    (review().encode() * 2, None),
    (review(asin=None).encode(), None),
    (review(reviewerID="").encode(), None),
    (review(reviewerID=["A3"]).encode(), None),
    (review(asin="\ud800").encode(), None),
    (review(asin="B000000001\n").encode(), None),
    (review(overall=float("nan")).encode(), None),
    (review(overall=6).encode(), None),
    (review(overall=[5]).encode(), None),
    (review(unixReviewTime=float("nan")).encode(), None),
    (review(unixReviewTime=float("inf")).encode(), None),
    (review(unixReviewTime=0.5).encode(), None),
    (review(unixReviewTime=10**30).encode(), None),
    (review(unixReviewTime="06 2, 2013").encode(), None),
    (review(x="\xff").encode("latin-1").replace(b"\\u00ff", b"\xff"), None),
]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFiles:
    folder = tmp_path_factory.mktemp("raw")
    size = {"users": 190, "items": 70, "interactions": 1600, "ratings": 7000, "meta_items": 300}
    return write_raw(folder, "Baby", Size(**size), image_dim=4)


def frame(rows: list[Row]) -> pl.DataFrame:
    schema = {"user": pl.String, "item": pl.String, "rating": pl.Float32, "time": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.mark.parametrize("piece", [2000, 30_000, 1 << 24])
def test_generated_files_are_read_as_plain_loops_read_them(
    raw: RawFiles, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(lines, "PIECE", piece)
    with raw.ratings.open(newline="") as file:
        expected = frame([(user, item, float(rating), int(time)) for user, item, rating, time in csv.reader(file)])
    found, notes = read_interactions(raw.ratings)
    assert found.equals(expected)
    assert found.equals(raw.everything)
    assert notes == []
    with gzip.open(raw.reviews, "rt", encoding="utf-8") as text:
        records = [json.loads(line) for line in text]
    keys = ("reviewerID", "asin", "overall", "unixReviewTime")
    found, notes = read_interactions(raw.reviews)
    assert found.equals(frame([tuple(record[key] for key in keys) for record in records]))
    assert found.equals(raw.core)
    assert notes == []


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.json", "x.json.gz", "x.jsonl"])
@pytest.mark.parametrize("seed", range(4))
def test_every_malformed_line_is_found_wherever_the_pieces_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    kinds = UGLY_RATINGS if ".csv" in name else UGLY_REVIEWS
    chosen = [kinds[0]] * 40 + [kinds[at] for at in rng.permutation(len(kinds))]
    chosen = [chosen[at] for at in rng.permutation(len(chosen))]
    monkeypatch.setattr(lines, "PIECE", int(rng.integers(20, 2000)))
    text = b"\n".join(line for line, _ in chosen)
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    found, (note,) = read_interactions(tmp_path / name, tolerance=1)
    assert found.equals(frame([row for _, row in chosen if row is not None]))
    bad = [number for number, (line, row) in enumerate(chosen, 1) if row is None and line]
    assert note.startswith(f"{name}: {len(bad)} of {sum(bool(line) for line, _ in chosen)} lines malformed and skipped")
    assert [int(number) for number in re.findall(r"line (\d+): ", note)] == bad[:3]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("A3,B000000001,4.0", "3 columns, expected user, item, rating, time"),
        ("A3,B000000001,4.0,1365811200,", "5 columns, expected user, item, rating, time"),
        ("A3,B000000001,1365811200,4.0", "time is '4.0', expected a number"),
        ("A3,B000000001,1365811200,4", "rating is 1.36581e+09, expected 1 to 5"),
        ("A3,B000000001,nan,4", "rating is nan, expected 1 to 5"),
        ("A3,B000000001,5,1365811200000", "time is 1365811200000, expected Unix seconds"),
        (",B000000001,5,1365811200", "user is '', expected an id"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "ratings_Baby.csv"
    path.write_text("A3,B000000001,4.0,1365811200\n" * 20 + line)
    found, notes = read_interactions(path)
    assert found.height == 20
    assert notes == [f"ratings_Baby.csv: 1 of 21 lines malformed and skipped (line 21: {what})"]
    path.write_text(f"{line}\n" * 40)
    with pytest.raises(
        DataError, match=r"^.*ratings_Baby\.csv: 40 of 40 lines malformed, expected at most 10 "
    ) as error:
        read_interactions(path)
    assert f"(line 1: {what}; line 2: {what}; line 3: {what}; ...)" in str(error.value)


def test_items_before_users_are_refused(raw: RawFiles, tmp_path: Path) -> None:
    path = tmp_path / "Baby.csv"
    raw.everything.select("item", "user", "rating", "time").write_csv(path, include_header=False)
    with pytest.raises(DataError, match=r"Baby\.csv: column 1 looks like items \(B000000000\), expected users"):
        read_interactions(path)


def test_short_ids_of_ones_own_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("1,22,5,0\n0000000001,23,5,1\n")
    assert read_interactions(path)[0]["user"].to_list() == ["1", "0000000001"]


def test_files_that_hold_no_interactions(tmp_path: Path) -> None:
    for name, text, what in (
        ("a.csv", "", "the file is empty"),
        ("a.csv", "\n\n", "holds no interaction"),
        ("a.json", "<!DOCTYPE html>\n<html>", "2 of 2 lines malformed.*'<!DOCTYPE html>' is not a line of JSON"),
        ("a.txt", "A3,B000000001,4.0,1365811200", r"expected ratings \(.csv, .csv.gz\) or reviews"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=what):
            read_interactions(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_interactions(tmp_path / "none.csv")


def test_a_truncated_file_is_refused(raw: RawFiles, tmp_path: Path) -> None:
    path = tmp_path / "reviews_Baby_5.json.gz"
    path.write_bytes(raw.reviews.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"reviews_Baby_5\.json\.gz: the compressed data end early.*download it again"):
        read_interactions(path)
