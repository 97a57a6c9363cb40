from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_geometric.nn
from torch import Tensor

from bm3_pyg.errors import ConfigError
from bm3_pyg.models import LightGCN
from bm3_pyg.protocols import Trainable

Edges = Callable[[int], tuple[int, int, Tensor]]


def twin_of(model: LightGCN, num_users: int, edges: Tensor) -> tuple[Any, Tensor]:
    """PyG's model in double precision with the same weights, and the graph as it wants it."""
    twin = torch_geometric.nn.LightGCN(model.num_nodes, model.embedding_dim, model.num_layers)
    twin.load_state_dict(model.state_dict())
    pairs = edges.unique(dim=1)
    pairs = torch.stack([pairs[0], pairs[1] + num_users])
    return twin.double(), torch.cat([pairs, pairs.flip(0)], dim=1)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_embeddings_are_those_of_pyg(ugly_edges: Edges, num_layers: int, seed: int) -> None:
    num_users, num_items, edges = ugly_edges(seed)
    model = LightGCN(num_users, num_items, edges, embedding_dim=6, num_layers=num_layers)
    twin, edge_index = twin_of(model, num_users, edges)
    expected = twin.get_embedding(edge_index)
    torch.testing.assert_close(torch.cat(model.embed()).double(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        model.scorer()(torch.tensor([5, 3])).double(), expected[[5, 3]] @ expected[num_users:].T, rtol=1e-5, atol=1e-7
    )
    own: Tensor = model.get_embedding(edge_index)  # type: ignore[operator]
    torch.testing.assert_close(own.double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("batch", "num_layers"), [(1, 2), (8, 2), (8, 0)])
def test_loss_and_gradients_are_those_of_pyg(ugly_edges: Edges, batch: int, num_layers: int) -> None:
    num_users, num_items, edges = ugly_edges(2)
    torch.manual_seed(0)
    model = LightGCN(num_users, num_items, edges, embedding_dim=6, num_layers=num_layers, reg_weight=0.3)
    users, items = edges[:, torch.randint(edges.size(1), (batch,))]
    torch.manual_seed(1)
    losses = model.loss(users, items)
    losses.total.backward()

    torch.manual_seed(1)
    positives, negatives = items + num_users, model.negatives(users) + num_users
    twin, edge_index = twin_of(model, num_users, edges)
    labels = torch.stack([users.repeat(2), torch.cat([positives, negatives])])
    positive_rank, negative_rank = twin(edge_index, labels).chunk(2)
    nodes = torch.cat([users, positives, negatives])
    expected = twin.recommendation_loss(positive_rank, negative_rank, node_id=nodes, lambda_reg=0.3)
    expected.backward()
    torch.testing.assert_close(losses.total.double(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(losses.total, losses.ranking + 0.3 * losses.regularisation)
    gradient = model.embedding.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient.double(), twin.embedding.weight.grad, rtol=1e-5, atol=1e-7)


def test_options_build_it_anew(ugly_edges: Edges) -> None:
    num_users, num_items, edges = ugly_edges(0)
    model = LightGCN(num_users, num_items, edges, embedding_dim=6, num_layers=1, reg_weight=0.3)
    assert isinstance(model, Trainable)
    again = LightGCN(num_users, num_items, edges, **model.options)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.scorer()(torch.arange(7)), model.scorer()(torch.arange(7)))
    assert set(model.state_dict()) == {"embedding.weight", "alpha"}


@pytest.mark.parametrize("options", [{"embedding_dim": 0}, {"num_layers": -1}, {"reg_weight": "much"}])
def test_wrong_options_are_named(ugly_edges: Edges, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))}: got "):
        LightGCN(*ugly_edges(0), **options)
