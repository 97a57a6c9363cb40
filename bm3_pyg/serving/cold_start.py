"""Users and items without training interactions. Nothing has been learnt of them: the scores that a model has for them
are what it was initialised to. So such users get the most popular items, and such items are recommended where their
features place them, if that is asked for.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.data.ids import LISTS
from bm3_pyg.errors import DataError
from bm3_pyg.eval.cold import with_cold_items
from bm3_pyg.models import ItemKNN, Popularity
from bm3_pyg.models.itemknn import INTERACTIONS
from bm3_pyg.protocols import Recommender
from bm3_pyg.serving.top_k import recommend

Cold = Literal["without", "with", "only"]
"""Which items can be recommended: those with training interactions, all, or those without."""

logger = logging.getLogger(LISTS)


class TopK(NamedTuple):
    """Lists as of :func:`bm3_pyg.recommend`, item ids and scores [B, k], and whose are by popularity, not by the
    model's scores, [B]."""

    ids: Tensor
    scores: Tensor
    by_popularity: Tensor


def recommend_with_fallback(
    model: Recommender,
    data: HeteroData,
    users: Tensor,
    k: int = 20,
    candidates: Tensor | None = None,
    exclude_seen: bool = True,
    cold: Cold = "without",
) -> TopK:
    """The k best items for each user, of those of which something is known.

    Users without training interactions get the most popular items; nothing, where only cold items are recommended.

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
        DataError: if no item is left to be recommended.
    """
    allowed = eligible_items(data, candidates, cold)
    model = cold_start_model(model, data, cold)
    seen = data if exclude_seen else None
    trained = training_counts(data, "user")[users] > 0
    by_popularity = torch.zeros_like(trained) if isinstance(model, Popularity) else ~trained
    ids = users.new_full((users.numel(), k), -1)
    scores = torch.full((users.numel(), k), float("-inf"))
    ids[~by_popularity], scores[~by_popularity] = recommend(model, users[~by_popularity], k, seen, allowed)
    if number := int(by_popularity.sum()):
        if cold != "only":
            popularity = Popularity.from_data(data)
            ids[by_popularity], scores[by_popularity] = recommend(popularity, users[by_popularity], k, seen, allowed)
        instead = "nothing" if cold == "only" else "the most popular items"
        logger.warning(f"{number:,} of {users.numel():,} users have no training interactions and are offered {instead}")
    return TopK(ids, scores, by_popularity)


def eligible_items(data: HeteroData, candidates: Tensor | None, cold: Cold) -> Tensor:
    """The ids of those items, of all or of ``candidates``, that can be recommended; a note tells of those left out.

    Raises:
        DataError: if there are none.
    """
    pool = torch.arange(count(data, "item")) if candidates is None else candidates
    warm = training_counts(data, "item")[pool] > 0
    eligible = pool if cold == "with" else pool[~warm] if cold == "only" else pool[warm]
    among = "items" if candidates is None else "candidates"
    if not eligible.numel():
        lack = "lacks training interactions" if cold == "only" else "has training interactions"
        raise DataError(f"{data.name}: none of the {pool.numel():,} {among} {lack}, so none can be offered")
    if cold == "without" and eligible.numel() < pool.numel():
        logger.warning(
            f"{pool.numel() - eligible.numel():,} of {pool.numel():,} {among} have no training interactions and are "
            "not offered (--with-cold offers them too, --cold alone, by their features)"
        )
    return eligible


def cold_start_model(model: Recommender, data: HeteroData, cold: Cold) -> Any:
    """``model``, with the scores of cold items by their features if those are asked for.

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
