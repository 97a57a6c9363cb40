from __future__ import annotations

from typing import Any

import pytest
import torch

from bm3_pyg import BM3, recommend
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.models import Popularity
from bm3_pyg.serving.cold_start import cold_start_model, eligible_items, recommend_with_fallback, training_counts


@pytest.fixture
def data(random_data: Any) -> Any:
    """9 users and 12 items, of whom user 8 and the items 10 and 11 have no training interactions."""
    data = random_data(9, 12, 0.5, seed=0)
    edges = data["user", "rates", "item"].edge_index
    data["user", "rates", "item"].edge_index = edges[:, (edges[0] < 8) & (edges[1] < 10)]
    data.name = "small"
    return data


def test_lists_are_the_models_but_for_users_without_training_interactions(fixed: Any, data: Any) -> None:
    known = training_counts(data, "user").nonzero().view(-1)[:2]
    model, users = fixed(torch.randn(9, 12)), torch.tensor([8, *known.tolist()])
    lists = recommend_with_fallback(model, data, users, 4)
    ids, scores = recommend(model, known, 4, data, torch.arange(10))
    popular, _ = recommend(Popularity.from_data(data), [8], 4, data, torch.arange(10))
    assert torch.equal(lists.ids, torch.cat([popular, ids]))
    assert torch.equal(lists.scores[1:], scores)
    assert lists.by_popularity.tolist() == [True, False, False]


def test_eligible_items(data: Any) -> None:
    assert training_counts(data, "item")[10:].tolist() == [0, 0]
    assert eligible_items(data, None, "without").tolist() == list(range(10))
    assert eligible_items(data, None, "only").tolist() == [10, 11]
    assert eligible_items(data, torch.tensor([11, 3]), "with").tolist() == [11, 3]
    with pytest.raises(DataError, match="none of the 1 candidates has training interactions"):
        eligible_items(data, torch.tensor([11]), "without")
    with pytest.raises(DataError, match="none of the 1 candidates lacks training interactions"):
        eligible_items(data, torch.tensor([3]), "only")


def test_cold_items_need_a_model_that_places_them(fixed: Any, data: Any) -> None:
    model = fixed(torch.randn(9, 12))
    assert cold_start_model(model, data, "without") is model
    for other in (model, Popularity.from_data(data), BM3.from_data(data, modalities=[])):
        with pytest.raises(ConfigError, match="cold items"):
            recommend_with_fallback(other, data, torch.tensor([0]), 3, cold="with")
