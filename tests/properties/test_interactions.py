"""Repeated pairs and pairs in two splits, against dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bm3_pyg.data.splits import Interactions, merge_duplicates, refuse_conflicts
from bm3_pyg.errors import DataError

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2), st.integers(-2, 2)), max_size=40
)  # user, item, split, time


def table(rows: list[tuple[int, int, int, int]], timed: bool) -> Interactions:
    users, items, split, time = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    rating = np.arange(len(rows), dtype=np.float32)
    return Interactions(users, items, split.astype(np.int8), time=time if timed else None, rating=rating)


@given(ROWS, st.booleans())
def test_of_each_pair_its_earliest_row_stays(rows: list[tuple[int, int, int, int]], timed: bool) -> None:
    first: dict[tuple[int, int], int] = {}
    for at, (user, item, _, time) in enumerate(rows):
        known = first.get((user, item))
        if known is None or (timed and time < rows[known][3]):
            first[user, item] = at
    merged, notes = merge_duplicates(table(rows, timed), "x")
    assert merged.rating is not None
    assert merged.rating.tolist() == sorted(first.values())
    assert list(zip(merged.users.tolist(), merged.items.tolist(), strict=True)) == [
        rows[at][:2] for at in sorted(first.values())
    ]
    assert bool(notes) == (len(first) < len(rows))
    assert merge_duplicates(merged, "x")[1] == []


@given(ROWS)
def test_a_pair_in_two_splits_is_refused_and_named(rows: list[tuple[int, int, int, int]]) -> None:
    splits: dict[tuple[int, int], set[int]] = {}
    for user, item, split, _ in rows:
        splits.setdefault((user, item), set()).add(split)
    wrong = [pair for pair, found in splits.items() if len(found) > 1]
    if not wrong:
        refuse_conflicts(table(rows, False), str)
        return
    with pytest.raises(DataError) as caught:
        refuse_conflicts(table(rows, False), lambda row: f"pair {rows[row][:2]}")
    assert any(str(caught.value).startswith(f"pair {pair} is") for pair in wrong)
    assert f"({len(wrong)} such pairs)" in str(caught.value)
