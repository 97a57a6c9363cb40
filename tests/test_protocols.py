from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bm3_pyg import BM3, BM3LightGCN
from bm3_pyg.errors import ConfigError
from bm3_pyg.models import FREEDOM, Popularity
from bm3_pyg.protocols import (
    Recommender,
    Trainable,
    draws_per_epoch,
    is_recommender,
    is_trainable,
    ranking_mode,
    to_train,
    training_mode,
    trains,
)

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
    assert is_recommender(model) is recommends
    assert is_trainable(model) is trains
    assert draws_per_epoch(model) is draws


class Outer(nn.Module):
    """Its loss is a submodule, which ``isinstance`` of a protocol overlooks since Python 3.12."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = OnlyLoss()
        self.scorer = popularity().scorer
        self.weight = nn.Parameter(torch.ones(1))


class Misspelt(Outer):
    def __init__(self) -> None:
        super().__init__()
        self.losss = self.loss
        del self.loss


def test_a_loss_may_be_a_submodule() -> None:
    assert is_trainable(Outer())
    assert trains(Outer())
    assert not trains(Outer().requires_grad_(False))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Misspelt(), "Misspelt has parameters to train but no loss.*did you mean 'losss'"),
        (BM3LightGCN(3, 4), r"got BM3LightGCN.*expected model\.as_bm3\(edge_index\)"),
        (nn.DataParallel(bm3()), r"got DataParallel, expected the module inside it, model\.module"),
        (BM3, r"got the class BM3, expected an object"),
        (OnlyLoss(), "got OnlyLoss, expected a recommender"),
        (popularity().scorer(), "got function, expected a recommender"),
        (None, "got NoneType"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(model: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        to_train(model)
    assert "\n" not in str(error.value)


def test_of_a_compiled_module_the_one_inside_is_trained() -> None:
    model = bm3()
    assert to_train(torch.compile(model)) is model


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("training", [True, False])
def test_ranking_and_training_give_every_module_its_mode_back(training: bool) -> None:
    model: Any = nn.Module()
    model.inner = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model.scorer = popularity().scorer
    model.train(training)
    model.inner[1][0].train(not training)
    before = modes(model)
    with training_mode(model):
        assert model.training
        assert model.inner[1][0].training is not training  # someone has put it there
        with ranking_mode(model) as same:
            assert same is model
            assert not any(modes(model))
        assert model.training
    assert modes(model) == before


@pytest.mark.parametrize("model", [bm3(), popularity()])
def test_a_scorer_gives_every_item_a_score(model: Recommender) -> None:
    score = model.scorer()
    users = torch.tensor([2, 0, 2])
    with torch.no_grad():
        scores = score(users)
    assert scores.shape == (3, 4)
    assert scores.is_floating_point()
    torch.testing.assert_close(scores[0], scores[2])
    assert scores[0].unique().numel() > 1


def test_losses_are_named_scalars_with_a_total_to_minimise() -> None:
    model: Trainable = bm3()
    losses = model.loss(EDGES[0], EDGES[1])
    named = losses._asdict()
    assert all(value.shape == () for value in named.values())
    assert losses.total is named["total"]
    assert losses.total.requires_grad
