"""Splitting interactions into train (0), val (1) and test (2). Everything is vectorised over users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RULES = ("random", "leave-one-out", "time", "label")
LABELS = {"0": 0, "1": 1, "2": 2, "train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


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
