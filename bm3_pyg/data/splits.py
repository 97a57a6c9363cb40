"""Interactions as arrays, made ready for training: repeated ones merged, the k-core, and the split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.ids import first_appearance
from bm3_pyg.errors import DataError, check_number
from bm3_pyg.names import SPLITS

TIMED = ("time", "global-time")  # rules that need times
LABELS = {"0": 0, "1": 1, "2": 2, "train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Interactions:
    """Rows of (user, item), arrays of one length: indices, split (0 train, 1 val, 2 test), time and rating if known."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    split: NDArray[np.int8]
    time: NDArray[Any] | None = None
    rating: NDArray[np.float32] | None = None

    def take(self, rows: NDArray[Any]) -> Interactions:
        """The rows at these indices, or under this mask."""
        return Interactions(**{name: values[rows] for name, values in vars(self).items() if values is not None})


def merge_duplicates(rows: Interactions, name: str) -> tuple[Interactions, list[str]]:
    """Each (user, item) once: its earliest row if times are known, else its first. The rows that stay keep their order.

    Splits are not looked at (see :func:`refuse_conflicts`). If any row went, there is a note about ``name``.
    """
    keys = _keys(rows)
    order = np.lexsort((rows.time, keys)) if rows.time is not None else np.argsort(keys, kind="stable")
    first = np.ones(len(order), dtype=bool)
    first[1:] = keys[order][1:] != keys[order][:-1]
    if first.all():
        return rows, []
    return rows.take(np.sort(order[first])), [f"{name}: {(~first).sum():,} repeated interactions were merged"]


def refuse_conflicts(rows: Interactions, show: Callable[[int], str]) -> None:
    """Raise a :class:`DataError` if a (user, item) stands in two splits; ``show`` names a row by its index."""
    keys = _keys(rows)
    order = np.lexsort((rows.split, keys))
    clash = (keys[order][1:] == keys[order][:-1]) & (rows.split[order][1:] != rows.split[order][:-1])
    if not clash.any():
        return
    at = int(clash.argmax())
    first, second = sorted((int(order[at]), int(order[at + 1])))
    raise DataError(
        f"{show(second)} is {SPLITS[rows.split[second]]} here and {SPLITS[rows.split[first]]} in an earlier row "
        f"({len(np.unique(keys[order][1:][clash])):,} such pairs), expected each pair in one split"
    )


def _keys(rows: Interactions) -> NDArray[np.int64]:
    return rows.users * (int(rows.items.max(initial=0)) + 1) + rows.items


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


def _renumbered(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    distinct, at = first_appearance(pl.Series(codes))
    return distinct.to_numpy(), at


def split_rows(rows: Interactions, rule: str, seed: int) -> NDArray[np.int8]:
    """The split of every row by one of :data:`~bm3_pyg.names.SPLIT_RULES` but ``"label"``.

    Rules in :data:`TIMED` need ``rows.time``.
    """
    if rule in TIMED:
        assert rows.time is not None
        return time_split(rows.users, rows.time) if rule == "time" else global_time_split(rows.time)
    if rule == "leave-one-out":
        return leave_one_out(rows.users, rows.time, seed)
    return cold_item_split(rows.items, seed) if rule == "cold-items" else random_split(rows.users, seed)


def random_split(users: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """The published rule, per user of n interactions in random order: one val and one test below n = 10; from there
    int(0.2 n) held out, the floor half of them val, the rest test. Users with fewer than 3 keep all in training.
    """
    return _hold_out(users, np.random.default_rng(seed).random(len(users)), *_holdout_sizes(users))


def time_split(users: NDArray[np.int64], time: NDArray[Any]) -> NDArray[np.int8]:
    """As many held out as in :func:`random_split`, but the latest, val before test. Ties keep the rows' order."""
    return _hold_out(users, time, *_holdout_sizes(users))


def leave_one_out(users: NDArray[np.int64], time: NDArray[Any] | None, seed: int) -> NDArray[np.int8]:
    """The latest interaction is test, the one before it val; at random without ``time``.

    Users with fewer than 3 interactions keep all in training.
    """
    key = np.random.default_rng(seed).random(len(users)) if time is None else time
    held = (np.bincount(users) >= 3).astype(np.int64)
    return _hold_out(users, key, held, held)


def global_time_split(time: NDArray[Any], share: float = 0.1) -> NDArray[np.int8]:
    """One cut in time for all users: the latest ``share`` of the rows is test, as many before them val.

    Rows of one time stay together on the earlier side of a cut, so a part may be smaller than its share, and training
    is never empty. Users whose rows are all late have no training interaction.
    """
    check_number("share", share, float, 0, 0.5)
    ordered = np.sort(time)
    held = int(share * len(ordered))
    split = np.zeros(len(ordered), dtype=np.int8)
    if held:
        split += time > ordered[-2 * held - 1]
        split += time > ordered[-held - 1]
    return split


def cold_item_split(items: NDArray[np.int64], seed: int, share: float = 0.1) -> NDArray[np.int8]:
    """Items held out entirely: all rows of a random ``share`` of the items that occur are val, of as many others test.

    At least one item each where there are three; with fewer all rows are for training.
    """
    check_number("share", share, float, 0, 0.5)
    distinct = np.unique(items)
    held = min(max(1, int(share * len(distinct))), (len(distinct) - 1) // 2) if len(distinct) else 0
    drawn = np.random.default_rng(seed).permutation(distinct)
    split = np.zeros(len(items), dtype=np.int8)
    split[np.isin(items, drawn[:held])] = 1
    split[np.isin(items, drawn[held : 2 * held])] = 2
    return split


def _holdout_sizes(users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = np.bincount(users)
    held = np.where(n < 10, 2, n // 5)
    held[n < 3] = 0
    return held // 2, held - held // 2


def _hold_out(
    users: NDArray[np.int64], key: NDArray[Any], val: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Per user the ``test`` [U] rows of highest key are test, the ``val`` [U] before them val."""
    order = np.lexsort((key, users))
    ends = np.cumsum(np.bincount(users))
    by_user = users[order]
    from_end = ends[by_user] - 1 - np.arange(len(users))
    split = np.zeros(len(users), dtype=np.int8)
    split[order] = np.where(from_end < test[by_user], 2, np.where(from_end < (test + val)[by_user], 1, 0))
    return split
