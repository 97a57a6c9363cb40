"""Per-user and per-positive values against a plain loop, and against evaluate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.errors import ConfigError, WriteError
from bm3_pyg.eval import evaluate
from bm3_pyg.eval.users import positive_hits, user_metrics, write_user_metrics

CASES = [(30, 40, 0.2, 0), (12, 5, 0.4, 1), (50, 25, 0.5, 2), (40, 2, 0.5, 3)]
Build = Callable[[int, int, float, int], HeteroData]


def slow(scores: torch.Tensor, data: HeteroData, split: str, k: int, mask: str) -> dict[int, tuple[Any, ...]]:
    """By user: training interactions, positives, Recall@k, NDCG@k, and (item, training interactions, hit) of each."""
    lists = {name: [tuple(pair) for pair in edges_of(data, name).T.tolist()] for name in ("train", "val", "test")}
    hidden = lists["train"] + (lists["val"] if mask == "seen" and split == "test" else [])
    found: dict[int, tuple[Any, ...]] = {}
    for user in range(data["user"].num_nodes):
        trained = {item for other, item in lists["train"] if other == user}
        positives = {item for other, item in lists[split] if other == user}
        if not trained or not positives:
            continue
        barred = {item for other, item in hidden if other == user}
        row = scores[user].tolist()
        ranked = sorted((item for item in range(len(row)) if item not in barred), key=lambda item: -row[item])[:k]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked) if item in positives)
        best = sum(1 / math.log2(place + 2) for place in range(min(k, len(positives))))
        items = [
            (item, len({other for other, one in lists["train"] if one == item}), item in ranked)
            for item in sorted(positives)
        ]
        recall = len(positives & set(ranked)) / len(positives)
        found[user] = (len(trained), len(positives), recall, gain / best, items)
    return found


@pytest.mark.parametrize(("users", "items", "density", "seed"), CASES)
@pytest.mark.parametrize(("split", "mask"), [("test", "train"), ("test", "seen"), ("val", "train")])
def test_the_values_are_those_of_a_plain_loop(
    fixed: Any, random_data: Build, users: int, items: int, density: float, seed: int, split: str, mask: str
) -> None:
    data = random_data(users, items, density, seed)
    scores = torch.rand(users, items, generator=torch.Generator().manual_seed(seed + 9))
    model = fixed(scores)
    for k in (1, 3, 10):
        expected = slow(scores, data, split, k, mask)
        table = user_metrics(model, data, split, (k,), mask)
        assert table["user"].to_list() == list(expected)
        columns = ["training_interactions", "positives", f"recall@{k}", f"ndcg@{k}"]
        for row, wanted in zip(table.select(columns).rows(), expected.values(), strict=True):
            assert row == pytest.approx(wanted[:4], abs=1e-6)
        hits = positive_hits(model, data, split, k, mask)
        assert hits.columns == ["user", "item", "training_interactions", "hit"]
        assert hits.rows() == [(user, *one) for user, wanted in expected.items() for one in wanted[4]]


def test_their_means_are_those_of_evaluate(fixed: Any, random_data: Build) -> None:
    data = random_data(300, 60, 0.3, 4)
    model = fixed(torch.rand(300, 60, generator=torch.Generator().manual_seed(5)))
    table, whole = user_metrics(model, data), evaluate(model, data)
    for name in ("recall@10", "recall@20", "ndcg@10", "ndcg@20"):
        assert table[name].mean() == pytest.approx(whole[name], abs=1e-7)  # it sums Recall in float32


def test_what_is_written_is_read_back(fixed: Any, random_data: Build, tmp_path: Path) -> None:
    data = random_data(40, 30, 0.2, 6)
    model = fixed(torch.rand(40, 30, generator=torch.Generator().manual_seed(7)))
    write_user_metrics(model, data, tmp_path, "seen")
    assert pl.read_parquet(tmp_path / "test_users.parquet").equals(user_metrics(model, data, mask="seen"))
    assert pl.read_parquet(tmp_path / "test_positives.parquet").equals(positive_hits(model, data, mask="seen"))
    assert 0 < json.loads((tmp_path / "beyond.json").read_text())["coverage@20"] < 1 + 1e-9
    with pytest.raises(WriteError, match="cannot be written"):
        write_user_metrics(model, data, tmp_path / "absent")
    with pytest.raises(ConfigError, match="k: got 0"):
        positive_hits(model, data, k=0)


def test_without_test_interactions_nothing_is_written(fixed: Any, random_data: Build, tmp_path: Path) -> None:
    data = random_data(10, 8, 0.3, 8)
    data["user", "rates", "item"].test_edge_index = torch.empty(2, 0, dtype=torch.long)
    write_user_metrics(fixed(torch.rand(10, 8)), data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_validation_has_no_say(fixed: Any, random_data: Build, tmp_path: Path) -> None:
    data = random_data(40, 30, 0.2, 6)
    edges = data["user", "rates", "item"]
    edges.edge_index = edges.edge_index[:, edges.edge_index[0] != 0]
    edges.val_edge_index = torch.tensor([[0], [1]])  # of a user who has nothing to train on
    model = fixed(torch.rand(40, 30, generator=torch.Generator().manual_seed(7)))
    write_user_metrics(model, data, tmp_path)
    assert pl.read_parquet(tmp_path / "test_users.parquet").equals(user_metrics(model, data))
