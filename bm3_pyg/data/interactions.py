"""Interactions as arrays, before they become a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.errors import DataError

SPLITS = ("train", "val", "test")


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
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            split=self.split[rows],
            time=None if self.time is None else self.time[rows],
            rating=None if self.rating is None else self.rating[rows],
        )


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
