from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from bm3_pyg.errors import DataError
from bm3_pyg.models.bpr import Negatives
from bm3_pyg.ops import build_graph

Edges = Callable[[int], tuple[int, int, Tensor]]


def free_items(num_users: int, num_items: int, edges: Tensor) -> list[list[int]]:
    """The slow twin: every user's non-positive items."""
    positives = {(int(u), int(i)) for u, i in edges.T}
    return [[i for i in range(num_items) if (u, i) not in positives] for u in range(num_users)]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_drawn_is_every_item_but_the_positives(ugly_edges: Edges, seed: int) -> None:
    num_users, num_items, edges = ugly_edges(seed)
    torch.manual_seed(seed)
    users = torch.arange(num_users).repeat(400)
    drawn = Negatives(build_graph(edges, num_users, num_items))(users)
    for user, expected in enumerate(free_items(num_users, num_items, edges)):
        assert drawn[users == user].unique().tolist() == expected


def test_every_negative_is_equally_likely(ugly_edges: Edges) -> None:
    num_users, num_items, edges = ugly_edges(1)
    torch.manual_seed(0)
    users = torch.arange(num_users).repeat(20_000)
    drawn = Negatives(build_graph(edges, num_users, num_items))(users)
    for user, expected in enumerate(free_items(num_users, num_items, edges)):
        counts = torch.bincount(drawn[users == user], minlength=num_items)[expected]
        if len(expected) > 1:
            assert chisquare(counts).pvalue > 1e-3


def test_no_positive_on_a_real_graph(shared_data: Callable[[str], object]) -> None:
    from bm3_pyg import load_dataset

    data = load_dataset(str(shared_data("tiktok")))
    users, items = data["user", "rates", "item"].edge_index
    num_items = data["item"].num_nodes
    drawn = Negatives(build_graph(torch.stack([users, items]), data["user"].num_nodes, num_items))(users)
    assert not torch.isin(users * num_items + drawn, users * num_items + items).any()
    assert drawn.min() >= 0
    assert drawn.max() < num_items


def test_a_batch_of_one_and_of_none(ugly_edges: Edges) -> None:
    num_users, num_items, edges = ugly_edges(4)
    negatives = Negatives(build_graph(edges, num_users, num_items))
    assert negatives(torch.tensor([6])).tolist() == [4]  # the one item its user lacks
    assert negatives(torch.empty(0, dtype=torch.long)).shape == (0,)


def test_the_global_random_state_decides(ugly_edges: Edges) -> None:
    num_users, num_items, edges = ugly_edges(0)
    negatives, users = Negatives(build_graph(edges, num_users, num_items)), torch.zeros(50, dtype=torch.long)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(negatives(users))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_user_with_every_item_is_refused() -> None:
    edges = torch.tensor([[0, 1, 1], [0, 0, 1]])
    with pytest.raises(DataError, match="user 1: all 2 items"):
        Negatives(build_graph(edges, 2, 2))
