from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError
from bm3_pyg.models import ItemKNN
from bm3_pyg.models.itemknn import nearest_items
from bm3_pyg.ops import build_graph
from bm3_pyg.ops.topk import GRID

Edges = Callable[[int], tuple[int, int, Tensor]]


def slow_scores(users: list[set[int]], similarity: list[list[float]], k: int) -> list[list[float]]:
    """The definition in loops: item j gives its similarity to the k items nearest to it."""
    count = len(similarity)
    scores = [[0.0] * count for _ in users]
    for j in range(count):
        near = sorted((-similarity[j][i], i) for i in range(count) if i != j)[:k]
        for user, items in enumerate(users):
            for _, i in near if j in items else ():
                scores[user][i] += similarity[j][i]
    return scores


def sets_of(edges: Tensor, row: int, count: int) -> list[set[int]]:
    return [{int(e[1 - row]) for e in edges.T if int(e[row]) == node} for node in range(count)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("k", "shrinkage"), [(1, 0.0), (3, 2.5), (50, 0.0)])
def test_by_interactions_against_loops(ugly_edges: Edges, seed: int, k: int, shrinkage: float) -> None:
    num_users, num_items, edges = ugly_edges(seed)
    raters = sets_of(edges, 1, num_items)
    similarity = [
        [len(a & b) / (math.sqrt(len(a) * len(b)) + shrinkage) if a and b else 0.0 for b in raters] for a in raters
    ]
    expected = torch.tensor(slow_scores(sets_of(edges, 0, num_users), similarity, k))
    model = ItemKNN(num_users, num_items, edges, neighbours=k, shrinkage=shrinkage)
    users = torch.tensor([6, 0, 3, 0, 1])  # user 3 has nothing
    torch.testing.assert_close(model.scorer()(users), expected[users])


@pytest.mark.parametrize("seed", [0, 1])
def test_by_features_against_loops(ugly_edges: Edges, seed: int) -> None:
    num_users, num_items, edges = ugly_edges(seed)
    features = torch.randn(num_items, 4)
    features[2], features[7] = 0, features[1]
    cosines = torch.nn.functional.cosine_similarity(features[:, None], features[None], dim=2)
    similarity = ((cosines * GRID).round() / GRID).tolist()  # items that are alike tie however sums are split
    expected = torch.tensor(slow_scores(sets_of(edges, 0, num_users), similarity, 3))
    model = ItemKNN(num_users, num_items, edges, {"image": features}, by="image", neighbours=3)
    torch.testing.assert_close(model.scorer()(torch.arange(num_users)), expected, rtol=1e-4, atol=1e-5)


def test_blocks_do_not_change_the_result(ugly_edges: Edges) -> None:
    num_users, num_items, edges = ugly_edges(3)
    graph = build_graph(edges, num_users, num_items)
    for found, whole in zip(nearest_items(graph, 4, 1.0, memory_mb=1e-6), nearest_items(graph, 4, 1.0), strict=True):
        torch.testing.assert_close(found, whole)


def test_one_item() -> None:
    model = ItemKNN(2, 1, torch.tensor([[0], [0]]))
    assert model.scorer()(torch.tensor([0, 1])).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbours": 0}, "neighbours: got 0"),
        ({"shrinkage": -1}, "shrinkage: got -1"),
        ({"by": "imag"}, "by: got 'imag', did you mean 'image'"),
        ({"by": 3}, "by: got 3, expected one of image, interactions, short"),
        ({"by": "image", "shrinkage": 1.0}, "shrinkage: got 1.0, expected 0"),
        ({"by": "short"}, r"modality short: got shape \[4, 2\], expected \[9, d\]"),
    ],
)
def test_wrong_options_are_named(ugly_edges: Edges, options: dict[str, Any], message: str) -> None:
    num_users, num_items, edges = ugly_edges(0)
    with pytest.raises(ConfigError, match=message):
        ItemKNN(num_users, num_items, edges, {"image": torch.randn(9, 2), "short": torch.randn(4, 2)}, **options)
