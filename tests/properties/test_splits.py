"""Every rule against loops over users, for rows in any order, with ties, gaps and users of one row."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bm3_pyg.data.splits import (
    TIMED,
    Interactions,
    cold_item_split,
    global_time_split,
    leave_one_out,
    random_split,
    split_rows,
    time_split,
)
from bm3_pyg.names import SPLIT_RULES

PAIRS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 30), st.integers(-3, 3)), max_size=120, unique_by=lambda r: r[:2]
)
SEEDS = st.integers(0, 2**32)


def columns(rows: list[tuple[int, int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    users, items, times = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return users, items, times


def sizes(n: int) -> tuple[int, int]:
    """Rows of val and of test of a user with ``n``, as published."""
    if n < 3:
        return 0, 0
    held = 2 if n < 10 else int(0.2 * n)
    return held // 2, held - held // 2


def by_user(users: NDArray[np.int64]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for row, user in enumerate(users.tolist()):
        found[user].append(row)
    return found


@given(PAIRS, SEEDS)
def test_every_row_is_in_one_split_and_the_same_rows_with_the_same_seed(
    rows: list[tuple[int, int, int]], seed: int
) -> None:
    users, items, times = columns(rows)
    for rule in SPLIT_RULES:
        if rule == "label":
            continue
        for time in [times] if rule in TIMED else [times, None]:
            table = Interactions(users, items, np.zeros(len(users), dtype=np.int8), time=time)
            split = split_rows(table, rule, seed)
            assert split.shape == users.shape
            assert set(split.tolist()) <= {0, 1, 2}
            np.testing.assert_array_equal(split, split_rows(table, rule, seed))


@given(PAIRS, SEEDS)
def test_every_user_has_the_published_numbers(rows: list[tuple[int, int, int]], seed: int) -> None:
    users, _, times = columns(rows)
    for split, expected in (
        (random_split(users, seed), sizes),
        (time_split(users, times), sizes),
        (leave_one_out(users, times, seed), lambda n: (1, 1) if n >= 3 else (0, 0)),
        (leave_one_out(users, None, seed), lambda n: (1, 1) if n >= 3 else (0, 0)),
    ):
        for own in by_user(users).values():
            assert ((split[own] == 1).sum(), (split[own] == 2).sum()) == expected(len(own))


@given(PAIRS, SEEDS)
def test_val_is_later_than_train_and_test_later_than_val(rows: list[tuple[int, int, int]], seed: int) -> None:
    """Of equal times the row that stands first is the earlier one."""
    users, _, times = columns(rows)
    for split in (time_split(users, times), leave_one_out(users, times, seed)):
        for own in by_user(users).values():
            in_time = sorted(own, key=lambda row: times[row])
            assert split[in_time].tolist() == sorted(split[own].tolist())


@given(PAIRS, st.floats(0, 0.5, exclude_max=True))
def test_one_cut_in_time_for_all(rows: list[tuple[int, int, int]], share: float) -> None:
    _, _, times = columns(rows)
    split = global_time_split(times, share)
    for moment in set(times.tolist()):
        assert len(set(split[times == moment].tolist())) == 1
    order = np.argsort(times, kind="stable")
    assert split[order].tolist() == sorted(split.tolist())
    room = int(share * len(times))
    assert (split == 2).sum() <= room
    assert (split >= 1).sum() <= 2 * room
    assert not len(rows) or (split == 0).any()


@given(PAIRS, SEEDS, st.floats(0, 0.5, exclude_max=True))
def test_cold_items_are_in_one_split_each(rows: list[tuple[int, int, int]], seed: int, share: float) -> None:
    _, items, _ = columns(rows)
    split = cold_item_split(items, seed, share)
    own = [set(items[split == code].tolist()) for code in (0, 1, 2)]
    distinct = set(items.tolist())
    assert sum(map(len, own)) == len(distinct)
    assert len(own[1]) == len(own[2]) == (max(1, int(share * len(distinct))) if len(distinct) >= 3 else 0)


@given(PAIRS, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_is_irrelevant_where_times_differ(
    rows: list[tuple[int, int, int]], seed: int, random: object
) -> None:
    users, items, _ = columns(rows)
    times = np.arange(len(rows))
    order = np.array(random.sample(range(len(rows)), len(rows)), dtype=np.int64)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(time_split(users, times)[order], time_split(users[order], times[order]))
    np.testing.assert_array_equal(global_time_split(times)[order], global_time_split(times[order]))
    np.testing.assert_array_equal(cold_item_split(items, seed)[order], cold_item_split(items[order], seed))
