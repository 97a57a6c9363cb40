"""The rest of LightGCN's calls: losses, new parameters, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import LightGCN

from bm3_pyg import BM3LightGCN
from bm3_pyg.errors import ConfigError, DataError

USERS, ITEMS = 11, 7


def script_models() -> tuple[BM3LightGCN, Tensor]:
    torch.manual_seed(0)
    return BM3LightGCN(USERS, ITEMS, 8, 2), edges_of_nodes()


def edges_of_nodes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack(
        [torch.randint(USERS, (40,), generator=generator), USERS + torch.randint(ITEMS, (40,), generator=generator)]
    )


def test_lightgcns_losses_are_those_of_pyg() -> None:
    """On the same scores and the same embeddings before propagation."""
    model, edges = script_models()
    theirs = LightGCN(USERS + ITEMS, 8, 2)
    theirs.embedding.weight.data = torch.cat([model.bm3.user_embedding, model.bm3.item_embedding]).detach()
    scores = model(edges)
    labels = torch.rand(40) < 0.5
    torch.testing.assert_close(model.link_pred_loss(scores, labels), theirs.link_pred_loss(scores, labels))
    for nodes in (None, edges.unique(), torch.tensor([3, 3, 5])):
        ours = model.recommendation_loss(scores[:20], scores[20:], nodes, 0.1)
        torch.testing.assert_close(ours, theirs.recommendation_loss(scores[:20], scores[20:], nodes, 0.1))
    model.recommendation_loss(scores[:20], scores[20:], edges.unique(), 0.1).backward()
    assert model.bm3.user_embedding.grad is not None


def test_parameters_are_drawn_anew() -> None:
    torch.manual_seed(0)
    model = BM3LightGCN(USERS, ITEMS, 8, 1, modalities={"image": torch.randn(ITEMS, 5)}, freeze_features=True)
    before = copy.deepcopy(model.state_dict())
    model.reset_parameters()
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.manual_seed(3)
    model.reset_parameters()
    bound = (6 / (USERS + 8)) ** 0.5
    assert bound / 2 < model.bm3.user_embedding.abs().max() <= bound
    trained = BM3LightGCN(USERS, ITEMS, 8, 1, modalities={"image": torch.randn(ITEMS, 5)})
    with pytest.raises(ConfigError, match="reset_parameters: features are trained"):
        trained.reset_parameters()


def test_edge_weights_are_refused_by_name() -> None:
    model, edges = script_models()
    weight: Any = torch.ones(40)
    for call in (
        lambda: model.get_embedding(edges, weight),
        lambda: model(edges, edges, weight),
        lambda: model.predict_link(edges, edges, edge_weight=weight),
        lambda: model.recommend(edges, edge_weight=weight),
    ):
        with pytest.raises(ConfigError, match="edge_weight: got one, expected None"):
            call()
    with pytest.raises(ConfigError, match=r"prob: got a Tensor.*edge_weight is a keyword here"):
        model.predict_link(edges, edges, weight)
    with pytest.raises(DataError, match=r"src_index: got torch.float32 \[40\]"):
        model.recommend(edges, weight)


def test_nodes_and_k_are_checked() -> None:
    model, edges = script_models()
    with pytest.raises(DataError, match=f"dst_index: got node {USERS + ITEMS}"):
        model.recommend(edges, dst_index=torch.tensor([0, USERS + ITEMS]))
    with pytest.raises(DataError, match=r"node_id: got torch.bool"):
        model.recommendation_loss(torch.ones(2), torch.ones(2), torch.ones(USERS + ITEMS, dtype=torch.bool))
    with pytest.raises(ConfigError, match="k: got 4"):
        model.recommend(edges, dst_index=torch.tensor([0, 1, 2]), k=4)
