from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bm3_pyg import BM3
from bm3_pyg.models import FREEDOM, Popularity
from bm3_pyg.protocols import PerEpoch, Recommender, Trainable

EDGES = torch.tensor([[0, 1, 2, 0], [3, 3, 1, 0]])


def bm3() -> BM3:
    return BM3(3, 4, EDGES, modalities={"image": torch.randn(4, 5)}, embedding_dim=8)


def popularity() -> Popularity:
    return Popularity(4, EDGES)


def freedom() -> FREEDOM:
    return FREEDOM(3, 4, EDGES, modalities={"image": torch.randn(4, 5)}, embedding_dim=8)


class OnlyLoss(nn.Module):
    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        return users.sum() + items.sum()


@pytest.mark.parametrize(
    ("model", "recommends", "trains", "draws"),
    [
        (bm3(), True, True, False),
        (freedom(), True, True, True),
        (popularity(), True, False, False),
        (OnlyLoss(), False, False, False),
        (nn.Linear(2, 2), False, False, False),
        (popularity().scorer(), False, False, False),
    ],
)
def test_who_satisfies_which_protocol(model: object, recommends: bool, trains: bool, draws: bool) -> None:
    assert isinstance(model, Recommender) is recommends
    assert isinstance(model, Trainable) is trains
    assert isinstance(model, PerEpoch) is draws


@pytest.mark.parametrize("model", [bm3(), popularity()])
def test_a_scorer_gives_every_item_a_score(model: Recommender) -> None:
    score = model.scorer()
    users = torch.tensor([2, 0, 2])
    with torch.no_grad():
        scores = score(users)
    assert scores.shape == (3, 4)
    assert scores.is_floating_point()
    assert torch.equal(scores[0], scores[2])
    assert scores[0].unique().numel() > 1


def test_losses_are_named_scalars_with_a_total_to_minimise() -> None:
    model: Trainable = bm3()
    losses = model.loss(EDGES[0], EDGES[1])
    named = losses._asdict()
    assert all(value.shape == () for value in named.values())
    assert losses.total is named["total"]
    assert losses.total.requires_grad
