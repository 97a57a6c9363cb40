"""Published figures stand beside runs on the published data only."""

from __future__ import annotations

from typing import Any

import pytest

from bm3_pyg.study.content import HEADLINE
from bm3_pyg.study.published import PUBLISHED, SWAPPED, published_for


def card(name: str, **changes: Any) -> dict[str, Any]:
    known = PUBLISHED[name]
    counts = {"users": known.users, "items": known.items, "interactions": known.interactions}
    return {"name": name, **counts, "modalities": {feature: {} for feature in known.features}, **changes}


@pytest.mark.parametrize("name", ["baby", "sports", "electronics", "tiktok"])
def test_recall_is_under_its_own_name(name: str) -> None:
    warnings: list[str] = []
    figures = published_for(card(name), warnings)
    assert not warnings
    assert set(figures[0].metrics) == set(HEADLINE)
    for one in figures:
        if {"recall@20", "ndcg@20"} <= one.metrics.keys():
            assert one.metrics["recall@20"] > one.metrics["ndcg@20"]
        if "recall@10" in one.metrics:
            assert one.metrics["recall@20"] > one.metrics["recall@10"]
    assert (SWAPPED in [one.note for one in figures]) == (name != "tiktok")


def test_other_data_of_the_same_name_has_none() -> None:
    warnings: list[str] = []
    assert published_for(card("baby", users=5), warnings) == ()
    assert warnings == [
        "baby is not the published data of that name: 5 users (published 19,445); published figures are left out"
    ]
    warnings = []
    assert published_for({"name": "shop"}, warnings) == ()
    assert not warnings


def test_absent_features_are_named() -> None:
    warnings: list[str] = []
    assert published_for(card("baby", modalities={"text": {}}), warnings)
    assert len(warnings) == 1
    assert "reached with image features" in warnings[0]
    known_from_a_run = {"name": "baby", "modalities": {"image": {}, "text": {}}}
    assert published_for(known_from_a_run, []) == PUBLISHED["baby"].figures
