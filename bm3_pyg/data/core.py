"""The k-core: what is left when users and items with fewer than k interactions go, again and again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.ids import first_appearance
from bm3_pyg.data.interactions import Interactions
from bm3_pyg.errors import DataError


def k_core(users: NDArray[np.int64], items: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Mask [n] of the rows in which the user and the item each have at least ``k`` rows under the mask.

    It is the largest such mask. Every row counts, repeated pairs too: merge them first.
    """
    kept = np.arange(len(users))
    while len(kept):
        own, met = users[kept], items[kept]
        enough = (np.bincount(own)[own] >= k) & (np.bincount(met)[met] >= k)
        if enough.all():
            break
        kept = kept[enough]
    mask = np.zeros(len(users), dtype=bool)
    mask[kept] = True
    return mask


def reduce_to_core(
    rows: Interactions, k: int | None, name: str, *, items_keep_order: bool = False
) -> tuple[Interactions, NDArray[np.int64], NDArray[np.int64], list[str]]:
    """The rows of the ``k``-core (all rows if None), users and items numbered anew in order of first appearance.

    Args:
        rows: Interactions without duplicates.
        k: At least 1.
        name: Of the data, for messages.
        items_keep_order: Number the items in their old order instead.

    Returns:
        The rows; the old index of each user [U] and each item [I]; a note if any row went.

    Raises:
        DataError: No row is left.
    """
    mask = np.ones(len(rows.users), dtype=bool) if k is None else k_core(rows.users, rows.items, k)
    if not mask.any():
        raise DataError(
            f"{name}: none of the {len(mask):,} interactions is in the {k}-core, expected some; try a lower core"
        )
    gone = int((~mask).sum())
    rows = rows.take(mask) if gone else rows
    users, user_at = _renumbered(rows.users)
    items, item_at = np.unique(rows.items, return_inverse=True) if items_keep_order else _renumbered(rows.items)
    notes = [f"{name}: {gone:,} of {len(mask):,} interactions are not in the {k}-core and are left out"] if gone else []
    return replace(rows, users=user_at, items=item_at), users, items, notes


def _renumbered(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    distinct, at = first_appearance(pl.Series(codes))
    return distinct.to_numpy(), at
