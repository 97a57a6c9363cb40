"""Coverage, popularity and personalization against plain loops."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.metrics import LinkPredPersonalization

from bm3_pyg.data import edges_of
from bm3_pyg.eval.beyond import beyond_accuracy

Build = Callable[[int, int, float, int], HeteroData]


def slow(ids: torch.Tensor, data: HeteroData, k: int) -> dict[str, float]:
    num_items = data["item"].num_nodes
    lists = [[item for item in row[:k] if item < num_items] for row in ids.tolist()]
    pairs = {tuple(pair) for pair in edges_of(data, "train").T.tolist()}
    popularity = [sum(item == other for _, other in pairs) for item in range(num_items)]
    means = [sum(popularity[item] for item in row) / len(row) for row in lists if row]
    values = {
        f"coverage@{k}": len({item for row in lists for item in row}) / num_items,
        f"average_popularity@{k}": sum(means) / len(means) if means else 0.0,
    }
    length = min(k, ids.size(1))
    shares = [
        len(set(one) & set(two)) / length for one, two in combinations([row for row in lists if len(row) == length], 2)
    ]
    if shares:
        values[f"personalization@{k}"] = 1 - sum(shares) / len(shares)
    return values


def lists_of(users: int, items: int, width: int, seed: int) -> torch.Tensor:
    """Lists of distinct items, some of them short."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.rand(users, items, generator=generator).argsort(dim=1)[:, :width]
    lengths = torch.randint(0, 2 * width + 1, (users, 1), generator=generator)
    return ids.masked_fill(torch.arange(ids.size(1)) >= lengths, items)


@pytest.mark.parametrize(
    ("users", "items", "k", "seed"), [(30, 40, 5, 0), (12, 5, 8, 1), (40, 60, 20, 2), (6, 1, 3, 3)]
)
def test_the_values_are_those_of_plain_loops(random_data: Build, users: int, items: int, k: int, seed: int) -> None:
    data = random_data(users, items, 0.3, seed)
    ids = lists_of(users, items, max(k, 2), seed)
    assert beyond_accuracy(ids, data, k) == pytest.approx(slow(ids, data, k), abs=1e-6)


def test_lists_without_any_item(random_data: Build) -> None:
    data = random_data(6, 4, 0.4, 1)
    assert beyond_accuracy(torch.full((6, 3), 4), data, 3) == {"coverage@3": 0.0, "average_popularity@3": 0.0}
    assert "personalization@3" not in beyond_accuracy(lists_of(6, 4, 3, 0)[:1], data, 3)


def test_personalization_is_that_of_pyg_over_all_pairs(random_data: Build) -> None:
    data = random_data(90, 40, 0.3, 2)
    ids = torch.rand(90, 40, generator=torch.Generator().manual_seed(3)).argsort(dim=1)[:, :7]
    metric = LinkPredPersonalization(7, max_src_nodes=None)
    metric.update(ids, torch.empty(2, 0, dtype=torch.long))
    assert beyond_accuracy(ids, data, 7)["personalization@7"] == pytest.approx(float(metric.compute()), abs=1e-6)
