from __future__ import annotations

import pytest

from bm3_pyg.data import load_dataset
from bm3_pyg.data.amazon.release import CATEGORIES, PUBLISHED, about, compare_counts


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_dataset_is_told_about(name: str) -> None:
    ours, theirs = about(name), about(name, published=True)
    for text in (ours, theirs):
        assert all(f"{number:,}" in text for number in PUBLISHED[name])
        assert "without a seed" in text
    assert "`--from DIR`" in ours
    assert "as they are" in theirs
    assert "have the mean of the others" not in theirs


def test_other_counts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("demo")
    (note,) = compare_counts("baby", data)
    assert note == (
        "baby: 2,000 users, 1,000 items, 30,000 interactions; "
        "the published 5-core has 19,445 users, 7,050 items, 160,792 interactions"
    )
    monkeypatch.setitem(PUBLISHED, "baby", (2_000, 1_000, 30_000))
    assert compare_counts("baby", data) == []
