from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.models import BPRMF
from bm3_pyg.protocols import Trainable

Edges = Callable[[int], tuple[int, int, Tensor]]


@pytest.mark.parametrize("batch", [1, 8])
def test_loss_and_gradients_against_loops_in_double(ugly_edges: Edges, batch: int) -> None:
    num_users, num_items, edges = ugly_edges(2)
    torch.manual_seed(0)
    model = BPRMF(num_users, num_items, edges, embedding_dim=5, reg_weight=0.3)
    users, items = edges[:, torch.randint(edges.size(1), (batch,))]
    torch.manual_seed(1)
    losses = model.loss(users, items)
    losses.total.backward()

    torch.manual_seed(1)
    negatives = model.negatives(users)
    user_table, item_table = (table.detach().double().requires_grad_() for table in model.embed())
    expected = torch.zeros((), dtype=torch.float64)
    for u, p, n in zip(users, items, negatives, strict=True):
        margin = (user_table[u] * item_table[p]).sum() - (user_table[u] * item_table[n]).sum()
        squares = sum(row.square().sum() for row in (user_table[u], item_table[p], item_table[n]))
        expected = expected + (-logsigmoid(margin) + 0.3 * squares) / batch
    expected.backward()
    torch.testing.assert_close(losses.total.double(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(losses.total, losses.ranking + 0.3 * losses.regularisation)
    for found, twin in ((model.user_embedding, user_table), (model.item_embedding, item_table)):
        assert found.grad is not None
        assert twin.grad is not None
        torch.testing.assert_close(found.grad.double(), twin.grad, rtol=1e-5, atol=1e-7)


def test_scores_are_dot_products_and_options_build_it_anew(ugly_edges: Edges) -> None:
    num_users, num_items, edges = ugly_edges(0)
    model = BPRMF(num_users, num_items, edges, embedding_dim=5, reg_weight=0.3)
    assert isinstance(model, Trainable)
    scores = model.scorer()(torch.tensor([4, 1]))
    torch.testing.assert_close(scores[1, 7], (model.user_embedding[1] * model.item_embedding[7]).sum().detach())
    again = BPRMF(num_users, num_items, edges, **model.options)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.scorer()(torch.tensor([4, 1])), scores)
    assert set(model.state_dict()) == {"user_embedding", "item_embedding"}


@pytest.mark.parametrize("options", [{"embedding_dim": 0}, {"reg_weight": -1}, {"reg_weight": "much"}])
def test_wrong_options_are_named(ugly_edges: Edges, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(options))}: got "):
        BPRMF(*ugly_edges(0), **options)


def test_an_interaction_outside_the_range_is_named() -> None:
    with pytest.raises(DataError, match="got item 2, expected ids from 0 to 1"):
        BPRMF(2, 2, torch.tensor([[0], [2]]))
