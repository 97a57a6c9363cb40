from __future__ import annotations

import ast
import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from raw_amazon import Size, write_raw

SIZE: dict[str, Any] = {"users": 300, "items": 90, "interactions": 2000, "ratings": 9000, "meta_items": 400}


def peeled(pairs: list[tuple[str, str]], core: int) -> tuple[set[tuple[str, str]], int]:
    """The core of ``pairs`` and the rounds it took: users and items of fewer rows go, all at once, until none does."""
    rounds = 0
    while True:
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        kept = [(user, item) for user, item in pairs if users[user] >= core and items[item] >= core]
        if len(kept) == len(pairs):
            return set(pairs), rounds
        pairs, rounds = kept, rounds + 1


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize(("users", "items"), [(300, 90), (90, 300), (70, 70)])
def test_what_lies_around_the_core_is_peeled_off(tmp_path: Path, distinct: bool, users: int, items: int) -> None:
    raw = write_raw(tmp_path, "Baby", Size(**SIZE | {"users": users, "items": items}), image_dim=2)
    assert raw.core.height == 2000
    assert raw.core["user"].n_unique() == users
    assert raw.core["item"].n_unique() == items
    assert raw.everything.height == 9000
    pairs = list(raw.everything.select("user", "item").iter_rows())
    core, rounds = peeled(sorted(set(pairs)) if distinct else pairs, 5)
    assert core == set(raw.core.select("user", "item").iter_rows())
    assert rounds >= 3


def test_a_core_row_is_the_earliest_of_its_pair(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, "Baby", Size(**SIZE), image_dim=2)
    together = raw.everything.join(raw.core, on=["user", "item"], suffix="_core")
    assert (together["time"] >= together["time_core"]).all()
    assert (together["time"] > together["time_core"]).sum() == 4
    assert raw.everything.is_duplicated().sum() >= 8
    first = raw.everything.sort("time", maintain_order=True).unique(["user", "item"], keep="first")
    assert first.join(raw.core, on=["user", "item", "rating", "time"]).height == raw.core.height


def test_the_files_have_the_real_formats(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, "Sports_and_Outdoors", Size(**SIZE), image_dim=4096)
    names = sorted(path.name for path in tmp_path.iterdir())
    category = "Sports_and_Outdoors"
    expected = [f"image_features_{category}.b", f"meta_{category}.json.gz", f"ratings_{category}.csv"]
    assert names == [*expected, f"reviews_{category}_5.json.gz"]
    with gzip.open(raw.reviews, "rt", encoding="utf-8") as file:
        reviews = [json.loads(line) for line in file]
    assert len(reviews) == 2000
    assert set(reviews[0]) >= {"reviewerID", "asin", "reviewText", "overall", "unixReviewTime", "helpful", "summary"}
    with raw.ratings.open(newline="") as text:
        assert all(len(row) == 4 and row[2].endswith(".0") for row in csv.reader(text))
    with gzip.open(raw.meta, "rt", encoding="utf-8") as file:
        meta = [ast.literal_eval(line) for line in file]
    assert len({record["asin"] for record in meta}) == len(meta) == 400
    assert raw.images.stat().st_size == 401 * (10 + 4 * 4096)


def test_what_is_ugly_in_the_real_files_is_there(tmp_path: Path) -> None:
    raw = write_raw(tmp_path, "Baby", Size(**SIZE), image_dim=2)
    core_items = set(raw.core["item"])
    assert 0 < len(core_items - raw.texts.keys()) < 5
    assert 0 < len(core_items - raw.image_row.keys()) < 5
    assert core_items >= raw.texts.keys() | raw.image_row.keys()
    assert raw.everything["item"].str.contains(r"^0\d{9}$").any()
    assert set(raw.everything["item"].str.len_bytes()) == {10}
    with gzip.open(raw.meta, "rt", encoding="utf-8") as file:
        content = file.read()
    for piece in ("\\u96e8", "雨", "\\xe9", "é", "&amp;", '"', "\\'", "[[]]", "\\n"):
        assert piece in content
    records = [ast.literal_eval(line) for line in content.splitlines()]
    for key in ("title", "brand", "categories", "description"):
        assert 0 < sum(key not in record for record in records) < len(records)


def test_same_seed_same_files(tmp_path: Path) -> None:
    contents = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        write_raw(tmp_path / folder, "Baby", Size(**SIZE), seed=seed, image_dim=2)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1]
    assert all(contents[0][name] != contents[2][name] for name in contents[0])


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"interactions": 1499}, "no 5-core of 300 users, 90 items and 1,499 interactions"),
        ({"interactions": 13_501}, "no 5-core"),
        ({"items": 4}, "no 5-core"),
        ({"ratings": 2007}, "2,007 ratings are too few around 2,000 of the core"),
    ],
)
def test_impossible_sizes(tmp_path: Path, changed: dict[str, int], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        write_raw(tmp_path, "Baby", Size(**SIZE | changed), image_dim=2)


@pytest.mark.parametrize("size", [{"users": 10, "items": 10, "interactions": 50}, {"interactions": 13_500}])
def test_full_and_smallest(tmp_path: Path, size: dict[str, int]) -> None:
    raw = write_raw(tmp_path, "Baby", Size(**SIZE | size | {"ratings": 40_000}), image_dim=2)
    assert raw.core.select(pl.struct("user", "item").n_unique()).item() == size["interactions"]
    assert raw.everything.height == 40_000
