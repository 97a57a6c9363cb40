"""Splitting interactions into train (0), val (1) and test (2). Everything is vectorised over users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.data.interactions import Interactions
from bm3_pyg.errors import check_number
from bm3_pyg.names import SPLIT_RULES

RULES = SPLIT_RULES
TIMED = ("time", "global-time")  # rules that need times
LABELS = {"0": 0, "1": 1, "2": 2, "train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def split_rows(rows: Interactions, rule: str, seed: int) -> NDArray[np.int8]:
    """The split of every row by one of :data:`RULES` but ``"label"``; those in :data:`TIMED` need ``rows.time``."""
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
    one = (np.bincount(users) >= 3).astype(np.int64)
    return _hold_out(users, key, one, one)


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
