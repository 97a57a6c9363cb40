from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bm3_pyg.errors import ConfigError
from bm3_pyg.models import VBPR
from bm3_pyg.protocols import Trainable

Edges = Callable[[int], tuple[int, int, Tensor]]


def model_of(edges: tuple[int, int, Tensor], **options: Any) -> tuple[VBPR, dict[str, Tensor]]:
    """A model with no zero weights, and its features as it reads them."""
    torch.manual_seed(0)
    features = {"image": torch.randn(edges[1], 4).half().float(), "text": torch.randn(edges[1], 3).half().float()}
    model = VBPR(*edges, modalities=features, embedding_dim=5, **options)
    torch.nn.init.normal_(model.item_bias)
    for linear in model.features.projections.values():
        torch.nn.init.normal_(linear.weight)
    return model, features


def slow_score(weights: dict[str, Tensor], features: dict[str, Tensor], u: int, i: int) -> Tensor:
    """The paper's equation."""
    gamma_u, theta_u = weights["user_embedding"][u].chunk(2)
    score = weights["item_bias"][i, 0] + gamma_u @ weights["item_embedding"][i]
    for name, values in features.items():
        projection, bias = weights[f"features.projections.{name}.weight"].split([5, 1])
        score = score + theta_u @ (projection @ values[i].double()) + bias[0] @ values[i].double()
    return score


def test_scores_follow_the_paper(ugly_edges: Edges) -> None:
    edges = ugly_edges(0)
    model, features = model_of(edges)
    weights = {name: value.detach().double() for name, value in model.named_parameters()}
    scores = model.scorer()(torch.tensor([5, 2, 5]))
    for row, user in enumerate((5, 2, 5)):
        expected = torch.stack([slow_score(weights, features, user, item) for item in range(edges[1])])
        torch.testing.assert_close(scores[row].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 8])
def test_loss_and_gradients_against_loops_in_double(ugly_edges: Edges, batch: int) -> None:
    edges = ugly_edges(2)
    model, features = model_of(edges, reg_weight=0.3)
    users, items = edges[2][:, torch.randint(edges[2].size(1), (batch,))]
    torch.manual_seed(1)
    losses = model.loss(users, items)
    losses.total.backward()

    torch.manual_seed(1)
    negatives = model.negatives(users)
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    expected = torch.zeros((), dtype=torch.float64)
    for u, p, n in zip(users.tolist(), items.tolist(), negatives.tolist(), strict=True):
        margin = slow_score(weights, features, u, p) - slow_score(weights, features, u, n)
        rows = [weights["user_embedding"][u]]
        rows += [weights[name][i] for name in ("item_embedding", "item_bias") for i in (p, n)]
        expected = expected + (-logsigmoid(margin) + 0.3 * sum(row.square().sum() for row in rows)) / batch
    expected.backward()
    torch.testing.assert_close(losses.total.double(), expected, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        found, twin = parameter.grad, weights[name].grad
        assert found is not None
        torch.testing.assert_close(found.double(), twin, rtol=1e-4, atol=1e-6)


def test_options_build_it_anew(ugly_edges: Edges) -> None:
    edges = ugly_edges(0)
    model, features = model_of(edges, reg_weight=0.3)
    assert isinstance(model, Trainable)
    options = model.options
    chosen = {name: features[name] for name in options.pop("modalities")}
    again = VBPR(*edges, modalities=chosen, **options)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.scorer()(torch.arange(7)), model.scorer()(torch.arange(7)))


def test_it_needs_features(ugly_edges: Edges) -> None:
    with pytest.raises(ConfigError, match="modalities: got none, expected item features"):
        VBPR(*ugly_edges(0), modalities={})
