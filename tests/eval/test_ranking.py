"""The full ranking against a loop over users, written from the definitions of the metrics."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from bm3_pyg import evaluate
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.eval import ranking_task
from bm3_pyg.eval.ranking import rank
from bm3_pyg.ops.csr import CSR


def naive(
    scores: torch.Tensor,
    data: HeteroData,
    split: str,
    ks: tuple[int, ...],
    mask: str,
    candidates: list[int] | None = None,
) -> dict[str, float]:
    ranked = range(scores.size(1)) if candidates is None else set(candidates)
    edges = data["user", "rates", "item"]
    names = {"train": "edge_index", "val": "val_edge_index", "test": "test_edge_index"}
    lists: dict[str, dict[int, set[int]]] = {s: defaultdict(set) for s in names}
    for s, name in names.items():
        for user, item in edges[name].T.tolist():
            if item in ranked or s == "train":
                lists[s][user].add(item)
    sums: dict[str, float] = defaultdict(float)
    users = [u for u in range(len(scores)) if lists[split][u] and lists["train"][u]]
    for user in users:
        hidden: set[int] = set().union(
            *(lists[s][user] for s in {"train": ["train"], "seen": ["train", "val"]}[mask] if s != split)
        )
        order = sorted((i for i in ranked if i not in hidden), key=lambda i: -float(scores[user, i]))
        positives = lists[split][user]
        for k in ks:
            hits = [item in positives for item in order[:k]]
            dcg = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)
            ideal = sum(1 / math.log2(place + 2) for place in range(min(len(positives), k)))
            precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
            sums[f"recall@{k}"] += sum(hits) / len(positives)
            sums[f"ndcg@{k}"] += dcg / ideal
            sums[f"precision@{k}"] += sum(hits) / k
            sums[f"map@{k}"] += sum(precisions) / min(len(positives), k)
            sums[f"mrr@{k}"] += next((1 / (place + 1) for place, hit in enumerate(hits) if hit), 0.0)
            sums[f"hitrate@{k}"] += any(hits)
    return {name: value / len(users) for name, value in sums.items()}


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("mask", ["train", "seen"])
@pytest.mark.parametrize(
    ("users", "items", "density"), [(40, 30, 0.2), (60, 7, 0.4), (15, 200, 0.02), (300, 11, 0.6), (9, 3, 0.6)]
)
def test_metrics_equal_a_loop_over_users(
    fixed: Any, random_data: Any, split: str, mask: str, users: int, items: int, density: float
) -> None:
    data = random_data(users, items, density, seed=users)
    scores = torch.randn(users, items, generator=torch.Generator().manual_seed(1))
    expected = naive(scores, data, split, (1, 5, 20, 50), mask)
    assert evaluate(fixed(scores), data, split, (1, 5, 20, 50), mask) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("candidates", [[4, 1, 1, 9, 28], list(range(3, 30)), [6]])
@pytest.mark.parametrize("mask", ["train", "seen"])
def test_candidates_alone_are_ranked(fixed: Any, random_data: Any, candidates: list[int], mask: str) -> None:
    data = random_data(60, 30, 0.3, seed=4)
    scores = torch.randn(60, 30, generator=torch.Generator().manual_seed(1))
    expected = naive(scores, data, "test", (1, 5, 50), mask, candidates)
    found = evaluate(fixed(scores), data, "test", (1, 5, 50), mask, candidates=candidates)
    assert found == pytest.approx(expected, rel=1e-6)


def test_candidates_without_positives_or_out_of_range(fixed: Any, random_data: Any) -> None:
    model, data = fixed(torch.ones(9, 4)), random_data(9, 4, 0.5, seed=0)
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(model, data, candidates=[])
    with pytest.raises(DataError, match="candidate: got id 4"):
        evaluate(model, data, candidates=[0, 4])


def test_blocks_do_not_change_the_result(fixed: Any, random_data: Any) -> None:
    data = random_data(3000, 400, 0.03, seed=0)
    scores = torch.randn(3000, 400)
    task = ranking_task(data, "test")
    whole = rank(fixed(scores).scorer(), task, memory_mb=64)
    assert rank(fixed(scores).scorer(), task, memory_mb=1) == pytest.approx(whole, rel=1e-6)


def test_a_hidden_item_is_never_a_hit(fixed: Any) -> None:
    """Two items, one hidden: the last place of the list of two is empty, not the last item."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 2
    data["user", "rates", "item"].edge_index = torch.tensor([[0, 1], [1, 0]])
    data["user", "rates", "item"].test_edge_index = torch.tensor([[0, 1], [1, 0]])
    assert evaluate(fixed(torch.ones(2, 2)), data, k=(2,))["hitrate@2"] == 0


def test_users_without_training_interactions_are_dropped_and_counted(fixed: Any) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 3
    data["user", "rates", "item"].edge_index = torch.tensor([[0], [0]])
    data["user", "rates", "item"].test_edge_index = torch.tensor([[0, 1], [1, 2]])
    task = ranking_task(data, "test")
    assert (task.users.tolist(), task.dropped) == ([0], 1)
    assert evaluate(fixed(torch.tensor([[0.0, 2.0, 1.0]] * 3)), data, k=(1,))["recall@1"] == pytest.approx(1)


def test_metrics_are_not_rounded(fixed: Any, random_data: Any) -> None:
    data = random_data(701, 50, 0.2, seed=2)
    metrics = evaluate(fixed(torch.randn(701, 50)), data)
    assert any(value != round(value, 6) for value in metrics.values())


def test_nothing_to_evaluate_is_said(fixed: Any) -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 2
    data["user", "rates", "item"].edge_index = torch.tensor([[0], [0]])
    with pytest.raises(DataError, match="no user has both test and training interactions"):
        evaluate(fixed(torch.ones(2, 2)), data)


def test_scores_that_are_not_numbers_are_refused(fixed: Any, random_data: Any) -> None:
    scores = torch.ones(9, 4)
    scores[:, 1] = float("nan")
    with pytest.raises(DataError, match="scores: got NaN"):
        evaluate(fixed(scores), random_data(9, 4, 0.9, seed=0), split="train")


@pytest.mark.parametrize(
    "arguments", [{"split": "tset"}, {"mask": "none"}, {"k": (0,)}, {"k": (2.5,)}, {"k": 10}, {"k": ()}]
)
def test_wrong_arguments_are_refused(fixed: Any, random_data: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        evaluate(fixed(torch.ones(9, 4)), random_data(9, 4, 0.5, seed=0), **arguments)


def test_ragged_lists() -> None:
    edges = torch.tensor([[3, 0, 3, 3, 0], [1, 2, 0, 1, 2]])
    lists = CSR.of(edges, num_rows=5, num_columns=4)
    assert lists.lengths().tolist() == [1, 0, 0, 2, 0]
    assert torch.stack(lists.entries(torch.tensor([3, 1, 0]))).tolist() == [[0, 0, 2], [0, 1, 2]]
    empty = CSR.of(torch.empty(2, 0, dtype=torch.long), 3, 4)
    assert [len(part) for part in empty.entries(torch.tensor([0, 2]))] == [0, 0]
