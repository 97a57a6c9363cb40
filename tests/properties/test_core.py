"""The k-core against taking rows away one by one, and against every set of rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bm3_pyg.data.splits import Interactions, k_core, reduce_to_core
from bm3_pyg.errors import DataError

Pairs = list[tuple[int, int]]
PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=36, unique=True)
REPEATED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=9)


def columns(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return users, items


def is_core(pairs: Pairs, rows: tuple[int, ...], k: int) -> bool:
    users, items = Counter(pairs[row][0] for row in rows), Counter(pairs[row][1] for row in rows)
    return all(users[pairs[row][0]] >= k and items[pairs[row][1]] >= k for row in rows)


def naive(pairs: Pairs, k: int) -> list[bool]:
    kept = list(range(len(pairs)))
    while not is_core(pairs, tuple(kept), k):
        users, items = Counter(pairs[row][0] for row in kept), Counter(pairs[row][1] for row in kept)
        kept.remove(next(row for row in kept if users[pairs[row][0]] < k or items[pairs[row][1]] < k))
    return [row in kept for row in range(len(pairs))]


@given(PAIRS | REPEATED, st.integers(1, 5))
def test_it_is_what_is_left_when_rows_go_one_by_one(pairs: Pairs, k: int) -> None:
    users, items = columns(pairs)
    mask = k_core(users, items, k)
    assert mask.tolist() == naive(pairs, k)
    assert k_core(users[mask], items[mask], k).all()


@given(REPEATED, st.integers(1, 3))
def test_no_larger_set_of_rows_is_a_core(pairs: Pairs, k: int) -> None:
    mask = k_core(*columns(pairs), k)
    for chosen in range(2 ** len(pairs)):
        rows = tuple(row for row in range(len(pairs)) if chosen >> row & 1)
        assert not is_core(pairs, rows, k) or mask[list(rows)].all()


@given(PAIRS, st.integers(1, 4) | st.none(), st.booleans())
def test_numbers_given_anew_lead_back_to_the_rows(pairs: Pairs, k: int | None, keep: bool) -> None:
    users, items = columns(pairs)
    mask = np.ones(len(pairs), dtype=bool) if k is None else k_core(users, items, k)
    rows = Interactions(users, items, np.zeros(len(users), dtype=np.int8), time=np.arange(len(users)))
    try:
        core, own_users, own_items, notes = reduce_to_core(rows, k, "x", items_keep_order=keep)
    except DataError:
        assert not mask.any()
        return
    np.testing.assert_array_equal(own_users[core.users], users[mask])
    np.testing.assert_array_equal(own_items[core.items], items[mask])
    np.testing.assert_array_equal(core.time, np.arange(len(users))[mask])
    assert own_users.tolist() == list(dict.fromkeys(users[mask].tolist()))
    assert own_items.tolist() == (sorted if keep else list)(dict.fromkeys(items[mask].tolist()))
    assert bool(notes) == (not mask.all())
