"""Top-k lists in the users' and items' own ids, as tables and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from torch_geometric.data import HeteroData

from bm3_pyg.data import index_of, raw_ids
from bm3_pyg.data.ids import IdList, concatenated, look_up, read_histories, read_ids, to_series
from bm3_pyg.errors import ConfigError, DataError, check_number, shown
from bm3_pyg.files import atomic_file, make_folder
from bm3_pyg.names import LIST_SUFFIXES
from bm3_pyg.protocols import Recommender
from bm3_pyg.serving.new_users import recommend_new
from bm3_pyg.serving.offers import Cold, Offer, offer, offered_items, placing, tell, training_counts
from bm3_pyg.serving.similar import similar_items

__all__ = [
    "check_list_file",
    "known_histories",
    "known_ids",
    "read_histories",
    "read_ids",
    "similar_table",
    "write_new_recommendations",
    "write_recommendations",
    "write_table",
]


def write_recommendations(
    model: Recommender,
    data: HeteroData,
    out: str | Path,
    users: Sequence[str | int] | None = None,
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
    exclude_seen: bool = True,
    cold: Cold = "without",
) -> int:
    """Write the k best items of each user to ``out``, a row each: user, rank (from 1), item, score.

    A user without training interactions is offered the most popular items, without scores; see
    :func:`bm3_pyg.serving.offers.offer`.

    Args:
        model: any recommender.
        data: the dataset it was trained on.
        out: a .parquet, .csv or .jsonl file.
        users: the users' own ids; all users by default.
        k: length of the lists; a user with fewer items left gets a shorter one.
        candidates: own ids of the items to choose from; all items by default.
        exclude_seen: leave out every interaction in ``data``.
        cold: whether items without training interactions are left out, offered ``with`` the others or as the ``only``
            ones, scored from their features.

    Returns:
        The number of rows written.

    Raises:
        ConfigError: for another suffix, k below 1, or cold items that the model cannot place.
        DataError: for ids that are not in ``data``, which it names, or if no item is left to be offered.
    """
    check_list_file(out)
    rows = torch.arange(data["user"].num_nodes) if users is None else index_of(data, "user", users)
    allowed = None if candidates is None else index_of(data, "item", candidates)
    check_number("k", k, int, 1)
    found = offer(model, data, rows, min(k, data["item"].num_nodes), allowed, exclude_seen, cold)
    names = to_series(raw_ids(data, "user"))[rows.numpy()]
    return write_table(_table(data, names.rename("user"), found), out)


def write_new_recommendations(
    model: Recommender,
    data: HeteroData,
    out: str | Path,
    histories: Mapping[str | int, Sequence[str | int]],
    k: int = 20,
    candidates: Sequence[str | int] | None = None,
) -> int:
    """As :func:`write_recommendations`, for new users given the own ids of each one's items; see
    :func:`~bm3_pyg.eval.recommend_new`.

    Raises:
        ConfigError: for another suffix or model, or k below 1.
        DataError: for item ids that are not in ``data``, which it names, or if no item is left to be offered.
    """
    check_list_file(out)
    check_number("k", k, int, 1)
    items = index_of(data, "item", concatenated(histories.values()))
    allowed = None if candidates is None else index_of(data, "item", candidates)
    places = items.split([len(history) for history in histories.values()])
    trained = training_counts(data, "item") > 0
    popular = torch.tensor([not bool(trained[part].any()) for part in places], dtype=torch.bool)
    lists = [part.tolist() for part in places]
    allowed = offered_items(data, allowed, "without")
    ids, scores = recommend_new(model, lists, min(k, data["item"].num_nodes), allowed)
    if popular.any():
        tell(
            f"{int(popular.sum()):,} of {len(histories):,} new users have no item with training interactions and are "
            "offered the most popular items"
        )
    names = pl.Series("user", [str(user) for user in histories], pl.String)
    if known := int((look_up(to_series(raw_ids(data, "user")), names) >= 0).sum()):
        tell(
            f"{known:,} of {len(histories):,} new users were there in training, too: only the items given here count "
            "for them, and those of the data may be offered again"
        )
    return write_table(_table(data, names, Offer(ids, scores, popular)), out)


def similar_table(
    model: Recommender, data: HeteroData, items: Sequence[str | int], k: int = 10, cold: Cold = "without"
) -> pl.DataFrame:
    """The k items most like each of ``items`` (own ids), a row each: item, rank (from 1), similar, cosine.

    See :func:`~bm3_pyg.eval.similar_items`. ``cold`` says whether items without training interactions are found, as in
    :func:`write_recommendations`; those among ``items`` are left out unless cold items can be placed.

    Raises:
        ConfigError: if k is below 1, the model has no embeddings, or cold items are asked for that it cannot place.
        DataError: for ids that are not in ``data``, which it names, or if no item is left.
    """
    rows = index_of(data, "item", items)
    check_number("k", k, int, 1)
    model = placing(model, data, cold)
    if cold == "without" and not (warm := training_counts(data, "item")[rows] > 0).all():
        left_out = f"{int((~warm).sum()):,} of the {len(rows):,} items to compare with have no training interactions"
        if not warm.any():
            raise DataError(f"{data.name}: {left_out}, expected others, or cold items placed by their features")
        tell(f"{left_out} and are left out (--with-cold places them by their features)")
        rows = rows[warm]
    ids, cosines = similar_items(model, rows, min(k, data["item"].num_nodes), offered_items(data, None, cold))
    names = to_series(raw_ids(data, "item"))[rows.numpy()]
    table = _table(data, names.rename("of"), Offer(ids, cosines, torch.zeros(len(rows), dtype=torch.bool)))
    return table.rename({"item": "similar", "score": "cosine"}).rename({"of": "item"})


def known_ids(
    data: HeteroData, kind: Literal["user", "item"], asked: Sequence[str | int], strict: bool = False
) -> Sequence[str | int]:
    """Those of the ids asked for that ``data`` has; a note counts the others and names the first few.

    Raises:
        DataError: if none is known, or any is unknown where ``strict``.
    """
    known = _known(data, kind, asked, strict)
    return [one for one, is_known in zip(asked, known, strict=True) if is_known]


def known_histories(
    data: HeteroData, histories: Mapping[str | int, Sequence[str | int]], strict: bool = False
) -> dict[str | int, list[str | int]]:
    """Each user's items, without those that ``data`` does not have, which a note counts as :func:`known_ids` does."""
    known = iter(_known(data, "item", concatenated(histories.values()), strict))
    return {user: [item for item in items if next(known)] for user, items in histories.items()}


def _known(data: HeteroData, kind: Literal["user", "item"], asked: Sequence[str | int], strict: bool) -> list[bool]:
    found = look_up(to_series(raw_ids(data, kind)), pl.Series([str(one) for one in asked], dtype=pl.String))
    unknown = np.flatnonzero(found < 0).tolist()
    if strict or len(unknown) == len(asked):
        index_of(data, kind, asked)  # says what is wrong
    if unknown:
        places = [f" ({asked.where(place)})" if isinstance(asked, IdList) else "" for place in unknown[:3]]
        named = [f"{shown(asked[place])}{where}" for place, where in zip(unknown, places, strict=False)]
        tell(
            f"{len(unknown):,} of {len(asked):,} {kind} ids are unknown to {data.name} and left out: "
            f"{', '.join(named)}{', ...' if len(unknown) > 3 else ''}"
        )
    return (found >= 0).tolist()  # type: ignore[no-any-return]


def _table(data: HeteroData, names: pl.Series, found: Offer) -> pl.DataFrame:
    """A row for each item of the lists; ``names`` [B] are those whose lists they are, scores
    are empty where the lists are not the model's."""
    row, position = (part.numpy() for part in (found.ids >= 0).nonzero(as_tuple=True))
    return pl.DataFrame(
        {
            names.name: names[row],
            "rank": position + 1,
            "item": to_series(raw_ids(data, "item"))[found.ids[row, position].numpy()],
            "score": pl.Series(found.scores[row, position].numpy()).set(pl.Series(found.popular[row].numpy()), None),
        }
    )


def check_list_file(out: str | Path) -> None:
    """Raise :class:`ConfigError` unless the suffix of ``out`` is one of :data:`~bm3_pyg.names.LIST_SUFFIXES`."""
    suffix = Path(out).suffix.lower()
    if suffix not in LIST_SUFFIXES:
        raise ConfigError(f"{out}: got suffix {suffix or 'none'!r}, expected {', '.join(LIST_SUFFIXES)}")


def write_table(table: pl.DataFrame, out: str | Path) -> int:
    """Write a table to a .parquet, .csv or .jsonl file, whole or not at all; its number of rows."""
    check_list_file(out)
    out = Path(out)
    make_folder(out.parent)
    with atomic_file(out) as temporary:
        if out.suffix.lower() == ".parquet":
            table.write_parquet(temporary)
        elif out.suffix.lower() == ".csv":
            table.write_csv(temporary)
        else:
            table.write_ndjson(temporary)
    return table.height
