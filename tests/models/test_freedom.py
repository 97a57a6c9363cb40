from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torch.nn.functional import logsigmoid

from bm3_pyg.errors import ConfigError
from bm3_pyg.models import FREEDOM
from bm3_pyg.models.freedom import modality_weights, prune
from bm3_pyg.ops import Graph, build_graph
from bm3_pyg.protocols import PerEpoch

Edges = Callable[[int], tuple[int, int, Tensor]]


def model_of(edges: tuple[int, int, Tensor], **options: Any) -> FREEDOM:
    torch.manual_seed(0)
    features = {"image": torch.randn(edges[1], 4).half().float(), "text": torch.randn(edges[1], 3).half().float()}
    options = {"embedding_dim": 5, "neighbours": 3, "pruning": 0.5, "feature_weight": 0.3, **options}
    return FREEDOM(*edges, modalities=features, **options)


def slow_embeddings(model: FREEDOM, graph: Graph, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """h_u and h_i with dense matrices in double precision."""
    adjacency = torch.zeros(len(users), len(items), dtype=torch.float64)
    adjacency[tuple(graph.edge_index())] = 1
    scales = (torch.where(degree > 0, degree.rsqrt(), 0) for degree in (adjacency.sum(1), adjacency.sum(0)))
    half = next(scales)[:, None] * adjacency * next(scales)
    layer_users, layer_items, sum_users, sum_items = users, items, users, items
    for _ in range(model.num_layers):
        layer_users, layer_items = half @ layer_items, half.T @ layer_users
        sum_users, sum_items = sum_users + layer_users, sum_items + layer_items
    similar = model.item_graph.smooth(torch.eye(len(items), dtype=torch.float64))
    over_items = torch.linalg.matrix_power(similar, model.item_layers) @ items
    layers = model.num_layers + 1
    return sum_users / layers, sum_items / layers + over_items


@pytest.mark.parametrize(("batch", "options"), [(1, {}), (8, {}), (8, {"num_layers": 0, "item_layers": 2})])
def test_loss_and_gradients_against_loops_in_double(ugly_edges: Edges, batch: int, options: dict[str, Any]) -> None:
    edges = ugly_edges(2)
    model = model_of(edges, **options)
    users, items = edges[2][:, torch.randint(edges[2].size(1), (batch,))]
    model.start_epoch()
    torch.manual_seed(1)
    losses = model.loss(users, items)
    losses.total.backward()

    torch.manual_seed(1)
    negatives = model.negatives(users)
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    tables = weights["user_embedding"], weights["item_embedding"]
    hidden_users, hidden_items = slow_embeddings(model, model.pruned_graph(), *tables)
    expected = torch.zeros((), dtype=torch.float64)
    for u, p, n in zip(users, items, negatives, strict=True):
        expected = expected - logsigmoid(hidden_users[u] @ (hidden_items[p] - hidden_items[n])) / batch
        for name, table in model.features.tables.items():
            projection = weights[f"features.projections.{name}.weight"]
            positive, negative = (projection @ table.weight[i].double() for i in (p, n))
            expected = expected - 0.3 * logsigmoid(hidden_users[u] @ (positive - negative)) / batch
    expected.backward()
    torch.testing.assert_close(losses.total.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses.total, losses.ranking + 0.3 * losses.features)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad.double(), weights[name].grad, rtol=1e-4, atol=1e-6)


def test_scores_use_all_interactions(ugly_edges: Edges) -> None:
    model = model_of(ugly_edges(0))
    tables = (table.detach().double() for table in (model.user_embedding, model.item_embedding))
    users, items = slow_embeddings(model, model.graph, *tables)
    torch.testing.assert_close(model.scorer()(torch.arange(7)).double(), users @ items.T, rtol=1e-5, atol=1e-6)


def test_each_epoch_is_pruned_anew_and_the_state_remembers_it(ugly_edges: Edges) -> None:
    edges = ugly_edges(0)
    model = model_of(edges)
    assert isinstance(model, PerEpoch)
    graphs = []
    for _ in range(3):
        model.start_epoch()
        graphs.append(model.pruned_graph().edge_index().tolist())
    assert graphs[0] != graphs[1] != graphs[2]
    again = model_of(edges)
    again.load_state_dict(model.state_dict())
    assert again.pruned_graph().edge_index().tolist() == graphs[2]
    assert model_of(edges, pruning=0).pruned_graph().edge_index().tolist() == model.graph.edge_index().tolist()


def test_pruning_keeps_a_share_of_the_edges_by_degree() -> None:
    """All draws of 2 edges of 4, against the probabilities of drawing one after the other."""
    edges = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 2]])
    graph = build_graph(edges, 2, 3)
    rate = [3**-0.5, 3**-0.5, 6**-0.5, 2**-0.5]
    rate = [value / sum(rate) for value in rate]
    generator = torch.Generator().manual_seed(0)
    found: Counter[tuple[int, int]] = Counter()
    for _ in range(3000):
        kept = prune(graph, 0.5, generator).edge_index()
        first, second = sorted(int(e) for e in (kept[0] * 3 + kept[1]))
        found[first, second] += 1
    keys = [0, 1, 2, 5]
    expected = {
        (keys[a], keys[b]): 3000 * rate[a] * rate[b] * (1 / (1 - rate[a]) + 1 / (1 - rate[b]))
        for a in range(4)
        for b in range(a + 1, 4)
    }
    assert found.keys() == expected.keys()
    assert chisquare([found[key] for key in expected], list(expected.values())).pvalue > 1e-3


def test_options_build_it_anew(ugly_edges: Edges) -> None:
    edges = ugly_edges(0)
    model = model_of(edges)
    options = model.options
    chosen = {name: model.features.tables[name].weight for name in options.pop("modalities")}
    again = FREEDOM(*edges, modalities=chosen, **options)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.scorer()(torch.arange(7)), model.scorer()(torch.arange(7)))
    assert again.options == model.options


@pytest.mark.parametrize(
    "options",
    [
        {"pruning": 1.0},
        {"neighbours": 0},
        {"image_weight": 1.5},
        {"item_layers": -1},
        {"feature_weight": "much"},
        {"num_layers": 1.5},
    ],
)
def test_wrong_options_are_named(ugly_edges: Edges, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))}: got "):
        model_of(ugly_edges(0), **options)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["text", "image"], [0.9, 0.1]),
        (["image", "text", "audio"], [0.1, 0.45, 0.45]),
        (["image"], [1]),
        (["text", "audio"], [0.5, 0.5]),
    ],
)
def test_weights_of_the_modalities(names: list[str], expected: list[float]) -> None:
    assert modality_weights(names, 0.1) == pytest.approx(expected)


def test_it_needs_features(ugly_edges: Edges) -> None:
    with pytest.raises(ConfigError, match="modalities: got none, expected item features"):
        FREEDOM(*ugly_edges(0), modalities={})
