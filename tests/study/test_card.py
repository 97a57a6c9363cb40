from __future__ import annotations

from pathlib import Path

from bm3_pyg.data import describe, load_dataset
from bm3_pyg.study.card import card_facts, card_files, card_splits


def test_a_whole_card(shop: Path) -> None:
    card = describe(load_dataset(shop))
    facts = dict(card_facts(card))
    assert facts["users"] == "12"
    assert facts["items"] == "8"
    assert facts["feature image"] == "5-d, 0 items without"
    assert facts["training interactions per user"] == "4 to 4, median 4, mean 4.00"
    assert facts["interactions in two splits"] == "none"
    files = dict(card_files(card))
    assert files["SHA-256 of shop.inter"] == card["files"]["shop.inter"]
    assert files["fingerprint"] == card["fingerprint"]
    assert not facts.keys() & files.keys()
    assert card_splits(card) == [("train", [48, 12, 8, 0]), ("val", [12, 12, 8, 0]), ("test", [12, 12, 8, 0])]


def test_what_runs_know_is_enough() -> None:
    card = {"name": "shop", "modalities": {"image": {"dim": 4096}}, "files": {}, "fingerprint": "f"}
    assert card_facts(card) == [("name", "shop"), ("feature image", "4,096-d")]
    assert card_files(card) == [("fingerprint", "f")]
    assert card_splits(card) == []
    assert card_facts({}) == card_files({}) == []


def test_leaks(shop: Path) -> None:
    card = {**describe(load_dataset(shop)), "leaks": {"train-val": 2, "val-test": 0}}
    assert dict(card_facts(card))["interactions in two splits"] == "2 (train-val)"
