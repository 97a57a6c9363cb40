"""The first command of a new user, whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bm3_pyg import evaluate, load_run
from bm3_pyg.cli import main
from bm3_pyg.models import Popularity


@pytest.mark.long
def test_bm3_clearly_beats_popularity(tmp_path: Path) -> None:
    assert main(["train", "demo", "--out", str(tmp_path / "run")]) == 0
    _, data = load_run(tmp_path / "run")
    popularity = evaluate(Popularity.from_data(data), data)
    found = json.loads((tmp_path / "run/metrics.json").read_text())["test"]
    assert found["recall@20"] > 2 * popularity["recall@20"]
    assert found["ndcg@20"] > 2 * popularity["ndcg@20"]
