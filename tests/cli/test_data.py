"""``bm3 data``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_describe(bm3: Run, mmrec: Path) -> None:
    _, out, _ = bm3("data", "describe", mmrec, "--json")
    card = json.loads(out)
    assert (card["users"], card["items"], card["interactions"]) == (12, 8, 72)
    assert card["splits"] == {"train": 48, "val": 12, "test": 12}
    assert card["modalities"] == {"image": {"dim": 5, "missing": 0}}
    code, out, _ = bm3("data", "describe", mmrec)
    assert code == 0
    assert "interactions" in out
    assert "shop.inter" in out
