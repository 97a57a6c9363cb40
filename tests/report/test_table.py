from __future__ import annotations

from bm3_pyg.report import description, metrics_table


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
