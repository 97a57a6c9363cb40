from __future__ import annotations

import numpy as np
import pytest

from bm3_pyg.data.splits import Interactions, merge_duplicates, refuse_conflicts
from bm3_pyg.errors import DataError


def random_rows(seed: int, with_time: bool) -> Interactions:
    rng = np.random.default_rng(seed)
    n = 400
    return Interactions(
        rng.integers(12, size=n),
        rng.integers(25, size=n),
        np.zeros(n, dtype=np.int8),
        time=rng.integers(6, size=n) if with_time else None,
        rating=rng.random(n, dtype=np.float32),
    )


@pytest.mark.parametrize("with_time", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_merging_is_the_naive_one(seed: int, with_time: bool) -> None:
    rows = random_rows(seed, with_time)
    kept: dict[tuple[int, int], int] = {}
    for row, pair in enumerate(zip(rows.users.tolist(), rows.items.tolist(), strict=True)):
        if pair not in kept or (rows.time is not None and rows.time[row] < rows.time[kept[pair]]):
            kept[pair] = row
    expected = rows.take(np.array(sorted(kept.values())))
    merged, notes = merge_duplicates(rows, "x.csv")
    for name in ("users", "items", "split", "time", "rating"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name))
    assert notes == [f"x.csv: {400 - len(kept)} repeated interactions were merged"]


def test_nothing_to_merge() -> None:
    rows = Interactions(np.array([0, 0, 1]), np.array([0, 1, 0]), np.zeros(3, dtype=np.int8))
    merged, notes = merge_duplicates(rows, "x.csv")
    assert merged is rows
    assert notes == []


def test_pairs_in_two_splits_are_refused_and_counted() -> None:
    split = np.array([0, 0, 2, 1, 0, 0], dtype=np.int8)
    rows = Interactions(np.array([0, 1, 0, 1, 2, 2]), np.array([5, 6, 5, 6, 7, 7]), split)
    with pytest.raises(DataError, match=r"^row 2 is test here and train in an earlier row \(2 such pairs\), expected"):
        refuse_conflicts(rows, lambda row: f"row {row}")


def test_repeats_within_a_split_are_no_conflict() -> None:
    users, items = np.array([0, 0]), np.array([1, 1])
    within, across = (Interactions(users, items, np.array(split, dtype=np.int8)) for split in ([2, 2], [2, 0]))
    refuse_conflicts(within, str)
    with pytest.raises(DataError, match="1 is train here and test in an earlier row"):
        refuse_conflicts(across, str)


def test_no_rows() -> None:
    empty = np.zeros(0, dtype=np.int64)
    rows = Interactions(empty, empty, empty.astype(np.int8))
    refuse_conflicts(rows, str)
    assert merge_duplicates(rows, "x")[1] == []
