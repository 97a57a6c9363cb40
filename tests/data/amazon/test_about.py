from __future__ import annotations

import pytest

from bm3_pyg.data.amazon.about import PUBLISHED, about
from bm3_pyg.data.amazon.sources import CATEGORIES


@pytest.mark.parametrize("name", CATEGORIES)
def test_every_dataset_is_told_about(name: str) -> None:
    ours, theirs = about(name), about(name, published=True)
    for text in (ours, theirs):
        assert all(f"{number:,}" in text for number in PUBLISHED[name])
        assert "without a seed" in text
    assert "`--from DIR`" in ours
    assert "as they are" in theirs
