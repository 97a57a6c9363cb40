from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from bm3_pyg.data.splits import Interactions, k_core, reduce_to_core
from bm3_pyg.errors import DataError

Ints = NDArray[np.int64]


def naive_core(users: Ints, items: Ints, k: int) -> list[bool]:
    kept = [True] * len(users)
    changed = True
    while changed:
        changed = False
        rows = [row for row in range(len(users)) if kept[row]]
        per_user, per_item = Counter(users[row] for row in rows), Counter(items[row] for row in rows)
        for row in rows:
            if per_user[users[row]] < k or per_item[items[row]] < k:
                kept[row] = False
                changed = True
    return kept


def rows_of(users: list[int], items: list[int]) -> Interactions:
    return Interactions(np.array(users), np.array(items), np.zeros(len(users), dtype=np.int8))


@pytest.mark.parametrize("seed", range(12))
def test_k_core_is_the_naive_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 400))
    users = (40 * rng.random(n) ** 2).astype(np.int64)  # a few with many rows, ids with gaps, repeated pairs
    items = 3 * (30 * rng.random(n) ** 2).astype(np.int64)
    for k in (1, 2, 3, 5, 9):
        assert k_core(users, items, k).tolist() == naive_core(users, items, k)


def test_a_chain_unravels_round_by_round() -> None:
    users, items = np.repeat(np.arange(50), 2), np.repeat(np.arange(51), 2)[1:-1]
    assert not k_core(users, items, 2).any()
    ring = np.append(items[:-1], items[0])
    assert k_core(users, ring, 2).all()


def test_no_rows() -> None:
    assert k_core(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), 5).tolist() == []


def test_reduce_numbers_what_is_left_by_first_appearance() -> None:
    rows = rows_of([3, 0, 1, 0, 1], [2, 1, 0, 0, 1])
    reduced, users, items, notes = reduce_to_core(rows, 2, "toy")
    assert (users.tolist(), items.tolist()) == ([0, 1], [1, 0])
    assert (reduced.users.tolist(), reduced.items.tolist()) == ([0, 1, 0, 1], [0, 1, 1, 0])
    assert notes == ["toy: 1 of 5 interactions are not in the 2-core and are left out"]
    reduced, users, items, _ = reduce_to_core(rows, 2, "toy", items_keep_order=True)
    assert (users.tolist(), items.tolist()) == ([0, 1], [0, 1])
    assert reduced.items.tolist() == [1, 0, 0, 1]


def test_without_a_core_all_rows_stay() -> None:
    reduced, users, _, notes = reduce_to_core(rows_of([3, 0], [0, 0]), None, "toy")
    assert users.tolist() == [3, 0]
    assert reduced.users.tolist() == [0, 1]
    assert notes == []


def test_an_empty_core_is_an_error() -> None:
    with pytest.raises(DataError, match=r"^toy: none of the 2 interactions is in the 3-core, expected some"):
        reduce_to_core(rows_of([0, 1], [0, 0]), 3, "toy")
