"""Who can be offered what. Nothing has been learnt of users and items without training interactions: scores that a
model has for them are what it was initialised to. So such users are offered the most popular items, and such items are
offered where their features place them, if that is asked for.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.errors import DataError
from bm3_pyg.eval.cold import with_cold_items
from bm3_pyg.models import ItemKNN, Popularity
from bm3_pyg.models.itemknn import INTERACTIONS
from bm3_pyg.protocols import Recommender
from bm3_pyg.serving.recommendations import recommend

Cold = Literal["without", "with", "only"]
"""Which items can be offered: those with training interactions, all, or those without."""


class Offer(NamedTuple):
    """Lists as of :func:`bm3_pyg.recommend`, item ids and scores [B, k], and whose are not the model's but by
    popularity, [B]."""

    ids: Tensor
    scores: Tensor
    popular: Tensor


def offer(
    model: Recommender,
    data: HeteroData,
    users: Tensor,
    k: int = 20,
    candidates: Tensor | None = None,
    exclude_seen: bool = True,
    cold: Cold = "without",
) -> Offer:
    """The k best items for each user, of those of which something is known.

    Users without training interactions get the most popular items; nothing, where only cold items are offered.

    Args:
        model: any recommender.
        data: the dataset it was trained on.
        users: [B] user ids.
        k: length of the lists.
        candidates: item ids to choose from; all by default.
        exclude_seen: leave out every interaction in ``data``.
        cold: see :data:`Cold`.

    Raises:
        ConfigError: if cold items are asked for and the model cannot place them.
        DataError: if no item is left to be offered.
    """
    allowed = offered_items(data, candidates, cold)
    model = placing(model, data, cold)
    seen = data if exclude_seen else None
    trained = training_counts(data, "user")[users] > 0
    popular = torch.zeros_like(trained) if isinstance(model, Popularity) else ~trained
    ids = users.new_full((users.numel(), k), -1)
    scores = torch.full((users.numel(), k), float("-inf"))
    ids[~popular], scores[~popular] = recommend(model, users[~popular], k, seen, allowed)
    if cold != "only" and popular.any():
        ids[popular], scores[popular] = recommend(Popularity.from_data(data), users[popular], k, seen, allowed)
    if without := int(popular.sum()):
        instead = "nothing" if cold == "only" else "the most popular items"
        tell(f"{without:,} of {users.numel():,} users have no training interactions and are offered {instead}")
    return Offer(ids, scores, popular)


def offered_items(data: HeteroData, candidates: Tensor | None, cold: Cold) -> Tensor:
    """The ids of those items, of all or of ``candidates``, that can be offered; a note tells of those left out.

    Raises:
        DataError: if there are none.
    """
    own = torch.arange(count(data, "item")) if candidates is None else candidates
    warm = training_counts(data, "item")[own] > 0
    left = own if cold == "with" else own[~warm] if cold == "only" else own[warm]
    among = "items" if candidates is None else "candidates"
    if not left.numel():
        lack = "lacks training interactions" if cold == "only" else "has training interactions"
        raise DataError(f"{data.name}: none of the {own.numel():,} {among} {lack}, so none can be offered")
    if cold == "without" and left.numel() < own.numel():
        tell(
            f"{own.numel() - left.numel():,} of {own.numel():,} {among} have no training interactions and are not "
            "offered (--with-cold offers them too, --cold alone, by their features)"
        )
    return left


def placing(model: Recommender, data: HeteroData, cold: Cold) -> Any:
    """``model``, as it scores cold items if those are asked for.

    Raises:
        ConfigError: if it cannot place them.
    """
    if cold == "without" or (isinstance(model, ItemKNN) and model.by != INTERACTIONS):
        return model
    return with_cold_items(model, data)


def training_counts(data: HeteroData, kind: Literal["user", "item"]) -> Tensor:
    """Number of training interactions of each user or item."""
    counts: Tensor = edges_of(data, "train")[0 if kind == "user" else 1].bincount(minlength=count(data, kind))
    return counts


def tell(note: str) -> None:
    """Say what people should know of lists."""
    logging.getLogger("bm3_pyg.lists").warning(note)
