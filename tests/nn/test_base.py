"""What a recommender has from its base alone."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3
from bm3_pyg.errors import ConfigError
from bm3_pyg.models import MODELS
from bm3_pyg.nn import RecommenderModel
from bm3_pyg.optim import RowTable


class Dots(RecommenderModel):
    def __init__(
        self,
        num_users: int,
        num_items: int,
        edge_index: Any,
        *,
        embedding_dim: int = 4,
        encoder: Any = None,
        way: Any = 1,
    ) -> None:
        super().__init__()
        self.user_embedding = nn.Parameter(torch.empty(num_users, embedding_dim))
        self.item_embedding = nn.Parameter(torch.empty(num_items, embedding_dim))
        self.linear = nn.Linear(3, 3)
        self.reset_parameters()

    def embed(self) -> tuple[Tensor, Tensor]:
        return self.user_embedding, self.item_embedding


class Wider(Dots):
    def __init__(self, *arguments: Any, width: int) -> None:
        super().__init__(*arguments, embedding_dim=2 * width)


def test_what_it_is_made_with_is_kept(some_data: HeteroData) -> None:
    model = Dots.from_data(some_data, encoder=nn.Identity(), way=[1, 2])
    assert (model.num_users, model.num_items) == (70, 50)
    assert model.options == {"embedding_dim": 4, "encoder": "Identity", "way": [1, 2]}
    assert "num_users=70, num_items=50, embedding_dim=4, encoder='Identity', way=[1, 2]" in repr(model)
    assert copy.deepcopy(model).options == copy.copy(model).options == model.options
    assert model.scorer()(torch.tensor([3, 3])).shape == (2, 50)
    assert Dots(num_users=2, num_items=3, edge_index=None).num_items == 3
    assert list(inspect.signature(Dots).parameters)[:2] == ["num_users", "num_items"]


def test_a_subclass_has_the_options_of_its_own_constructor() -> None:
    model = Wider(2, 3, None, width=5)
    assert model.options == {"width": 5}
    assert model.user_embedding.shape == (2, 10)


def test_options_with_a_range_are_checked() -> None:
    with pytest.raises(ConfigError, match="embedding_dim: got 0, expected an integer at least 1"):
        Dots(2, 3, None, embedding_dim=0)


@pytest.mark.parametrize("name", [name for name, cls in MODELS.items() if hasattr(cls, "loss")])
def test_parameters_are_drawn_anew_as_for_a_new_model(some_data: HeteroData, name: str) -> None:
    options = {"freeze_features": True} if name == "bm3" else {}
    torch.manual_seed(0)
    model = MODELS[name].from_data(some_data, **options)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    model.reset_parameters()
    for key, parameter in model.named_parameters():
        assert not (parameter == 7).any(), key
        assert (parameter == before[key]).all() == (not before[key].any()), key
        assert float(parameter.abs().max()) <= 2 * float(before[key].abs().max()), key
    assert all(not table.trainable for table in model.modules() if isinstance(table, RowTable))


def test_a_subclass_with_its_own_constructor_keeps_what_the_model_is_made_with() -> None:
    edges = torch.tensor([[0, 1, 2], [0, 3, 4]])

    class Passing(BM3):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    class Fixed(BM3):
        def __init__(self, *, extra: int = 1) -> None:
            super().__init__(5, 6, edges, embedding_dim=8)

    plain = BM3(5, 6, edges, embedding_dim=8)
    assert Passing(5, 6, edges, embedding_dim=8).options == plain.options
    assert Fixed().options == {"extra": 1}
    for model in (Passing(5, 6, edges, embedding_dim=8), Fixed()):
        assert (model.num_users, model.num_items) == (5, 6)
        assert model.loss(edges[0], edges[1]).total.isfinite()
    with pytest.raises(ConfigError, match="dropout"):
        Passing(5, 6, edges, dropout=2.0)
