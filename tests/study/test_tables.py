from __future__ import annotations

import re

from bm3_pyg.study import description, metrics_table


def test_four_decimals_and_gaps() -> None:
    table = metrics_table({"ours": {"recall@20": 0.12345}, "theirs": {"ndcg@20": 0.5}}, ["recall@20", "ndcg@20"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert lines[0] == ["", "Recall@20", "NDCG@20"]
    assert lines[2:] == [["ours", "0.1235", ""], ["theirs", "", "0.5000"]]


def test_a_dataset_card_says_everything_in_it() -> None:
    degree = {"min": 1, "median": 2.0, "mean": 2.5, "max": 1000}
    card = {
        "name": "shop",
        "users": 12000,
        "items": 8,
        "interactions": 72,
        "splits": {"train": 48, "val": 12, "test": 12},
        "split_users": {"train": 9000, "val": 11, "test": 10},
        "split_items": {"train": 7, "val": 6, "test": 5},
        "duplicates": {"train": 0, "val": 1234, "test": 2},
        "leaks": {"train-val": 0, "train-test": 0, "val-test": 0},
        "time": {"train": [0, 86399.5], "test": [86400, 1_400_000_000]},
        "sparsity": 0.99925,
        "degrees": {"user": degree, "item": degree},
        "users_without_training": 3,
        "cold_items": 1,
        "modalities": {"image": {"dim": 4096, "missing": 2}},
        "files": {"shop.inter": "abc"},
        "fingerprint": "def",
        "notes": [],
    }
    text = description(card)
    for part in ("shop", "12,000", "48, 12, 12", "99.9250%", "1 to 1,000", "4,096-d, 2 items without", "abc", "def"):
        assert part in text
    assert "12,000" in text.splitlines()[1]
    rows = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in text.splitlines()[1:])
    assert rows["their users"] == "9,000, 11, 10"
    assert rows["their items"] == "7, 6, 5"
    assert rows["repeated in a split"] == "1,234 (val), 2 (test)"
    assert rows["in two splits"] == "none"
    assert rows["dates of train, UTC"] == "1970-01-01 to 1970-01-01"
    assert rows["dates of test, UTC"] == "1970-01-02 to 2014-05-13"
