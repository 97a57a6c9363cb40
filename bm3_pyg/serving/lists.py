"""Top-k lists in the users' and items' own ids, as tables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from bm3_pyg.data import index_of, raw_ids
from bm3_pyg.data.ids import IdList, concatenated, look_up, to_series
from bm3_pyg.errors import DataError, check_number, shown
from bm3_pyg.files import atomic_file, check_suffix, make_folder
from bm3_pyg.names import LIST_SUFFIXES
from bm3_pyg.protocols import Recommender
from bm3_pyg.serving.cold_start import (
    Cold,
    TopK,
    cold_start_model,
    eligible_items,
    logger,
    recommend_with_fallback,
    training_counts,
)
from bm3_pyg.serving.new_users import recommend_new
from bm3_pyg.serving.top_k import similar_items


def recommendation_table(
    model: Recommender,
    data: HeteroData,
    users: Sequence[str | int] | None = None,
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
    exclude_seen: bool = True,
    cold: Cold = "without",
) -> pl.DataFrame:
    """The k best items of each user, a row each: user, rank (from 1), item, score.

    A user without training interactions is offered the most popular items, without scores; see
    :func:`bm3_pyg.serving.cold_start.recommend_with_fallback`.

    Args:
        model: any recommender.
        data: the dataset it was trained on.
        users: the users' own ids; all users by default.
        k: length of the lists; a user with fewer items left gets a shorter one.
        candidates: own ids of the items to choose from; all items by default.
        exclude_seen: leave out every interaction in ``data``.
        cold: whether items without training interactions are left out, offered ``with`` the others or as the ``only``
            ones, scored from their features.

    Raises:
        ConfigError: for k below 1, or cold items that the model cannot place.
        DataError: for ids that are not in ``data``, which it names, or if no item is left to be offered.
    """
    rows = torch.arange(data["user"].num_nodes) if users is None else index_of(data, "user", users)
    allowed = None if candidates is None else index_of(data, "item", candidates)
    check_number("k", k, int, 1)
    k = min(k, data["item"].num_nodes)
    lists = recommend_with_fallback(model, data, rows, k, allowed, exclude_seen, cold)
    return _table(data, to_series(raw_ids(data, "user"))[rows.numpy()].rename("user"), lists)


def new_user_table(
    model: Recommender,
    data: HeteroData,
    histories: Mapping[str | int, Sequence[str | int]],
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
) -> pl.DataFrame:
    """As :func:`recommendation_table`, for new users given the own ids of each one's items; see
    :func:`~bm3_pyg.eval.recommend_new`.

    Raises:
        ConfigError: for another model, or k below 1.
        DataError: for item ids that are not in ``data``, which it names, or if no item is left to be offered.
    """
    check_number("k", k, int, 1)
    items = index_of(data, "item", concatenated(histories.values()))
    allowed = None if candidates is None else index_of(data, "item", candidates)
    own = items.split([len(history) for history in histories.values()])
    trained = training_counts(data, "item") > 0
    by_popularity = torch.tensor([not bool(trained[part].any()) for part in own], dtype=torch.bool)
    allowed = eligible_items(data, allowed, "without")
    ids, scores = recommend_new(model, [part.tolist() for part in own], min(k, data["item"].num_nodes), allowed)
    if by_popularity.any():
        logger.warning(
            f"{int(by_popularity.sum()):,} of {len(histories):,} new users have no item with training interactions and "
            "are offered the most popular items"
        )
    users = pl.Series("user", [str(user) for user in histories], pl.String)
    if known := int((look_up(to_series(raw_ids(data, "user")), users) >= 0).sum()):
        logger.warning(
            f"{known:,} of {len(histories):,} new users were there in training, too: only the items given here count "
            "for them, and those of the data may be offered again"
        )
    return _table(data, users, TopK(ids, scores, by_popularity))


def similar_table(
    model: Recommender, data: HeteroData, items: Sequence[str | int], k: int = 10, cold: Cold = "without"
) -> pl.DataFrame:
    """The k items most like each of ``items`` (own ids), a row each: item, rank (from 1), similar, cosine.

    See :func:`~bm3_pyg.eval.similar_items`. ``cold`` says whether items without training interactions are found, as in
    :func:`recommendation_table`; those among ``items`` are left out unless cold items can be placed.

    Raises:
        ConfigError: if k is below 1, the model has no embeddings, or cold items are asked for that it cannot place.
        DataError: for ids that are not in ``data``, which it names, or if no item is left.
    """
    rows = index_of(data, "item", items)
    check_number("k", k, int, 1)
    model = cold_start_model(model, data, cold)
    if cold == "without" and not (warm := training_counts(data, "item")[rows] > 0).all():
        left_out = f"{int((~warm).sum()):,} of the {len(rows):,} items to compare with have no training interactions"
        if not warm.any():
            raise DataError(f"{data.name}: {left_out}, expected others, or cold items placed by their features")
        logger.warning(f"{left_out} and are left out (--with-cold places them by their features)")
        rows = rows[warm]
    ids, cosines = similar_items(model, rows, min(k, data["item"].num_nodes), eligible_items(data, None, cold))
    names = to_series(raw_ids(data, "item"))[rows.numpy()].rename("of")
    table = _table(data, names, TopK(ids, cosines, torch.zeros(len(rows), dtype=torch.bool)))
    return table.rename({"item": "similar", "score": "cosine"}).rename({"of": "item"})


def write_table(table: pl.DataFrame, out: str | Path) -> None:
    """Write a table to a .parquet, .csv or .jsonl file, whole or not at all.

    Raises:
        ConfigError: for another suffix.
        WriteError: if ``out`` cannot be written.
    """
    check_suffix(out, LIST_SUFFIXES)
    out = Path(out)
    make_folder(out.parent)
    with atomic_file(out) as temporary:
        if out.suffix.lower() == ".parquet":
            table.write_parquet(temporary)
        elif out.suffix.lower() == ".csv":
            table.write_csv(temporary)
        else:
            table.write_ndjson(temporary)


def drop_unknown_ids(
    data: HeteroData, kind: Literal["user", "item"], ids: Sequence[str | int], strict: bool = False
) -> Sequence[str | int]:
    """Those of ``ids`` that ``data`` has; a note counts the others and names the first few.

    Raises:
        DataError: if none is known, or any is unknown where ``strict``.
    """
    return [name for name, known in zip(ids, _are_known(data, kind, ids, strict), strict=True) if known]


def drop_unknown_items(
    data: HeteroData, histories: Mapping[str | int, Sequence[str | int]], strict: bool = False
) -> dict[str | int, list[str | int]]:
    """Each user's items, but for those that ``data`` does not have; a note as :func:`drop_unknown_ids` gives."""
    known = iter(_are_known(data, "item", concatenated(histories.values()), strict))
    return {user: [item for item in items if next(known)] for user, items in histories.items()}


def _are_known(
    data: HeteroData, kind: Literal["user", "item"], ids: Sequence[str | int], strict: bool
) -> NDArray[np.bool_]:
    positions = look_up(to_series(raw_ids(data, kind)), pl.Series([str(name) for name in ids], dtype=pl.String))
    unknown = np.flatnonzero(positions < 0).tolist()
    if strict or len(unknown) == len(ids):
        index_of(data, kind, ids)  # says what is wrong
    if unknown:
        places = [f" ({ids.where(row)})" if isinstance(ids, IdList) else "" for row in unknown[:3]]
        named = [f"{shown(ids[row])}{where}" for row, where in zip(unknown, places, strict=False)]
        logger.warning(
            f"{len(unknown):,} of {len(ids):,} {kind} ids are unknown to {data.name} and left out: "
            f"{', '.join(named)}{', ...' if len(unknown) > 3 else ''}"
        )
    return positions >= 0


def _table(data: HeteroData, names: pl.Series, lists: TopK) -> pl.DataFrame:
    """A row for each item of the lists of ``names`` [B]; scores are empty where the lists are by popularity."""
    row, position = (part.numpy() for part in (lists.ids >= 0).nonzero(as_tuple=True))
    scores = pl.Series(lists.scores[row, position].numpy())
    return pl.DataFrame(
        {
            names.name: names[row],
            "rank": position + 1,
            "item": to_series(raw_ids(data, "item"))[lists.ids[row, position].numpy()],
            "score": scores.set(pl.Series(lists.by_popularity[row].numpy()), None),
        }
    )
