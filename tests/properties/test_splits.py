"""The rules of splitting against loops over users, for rows in any order, with ties, gaps and users of one row; the
k-core against taking rows away one by one, and against every set of rows; repeated pairs against dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bm3_pyg.data.splits import (
    TIMED,
    Interactions,
    cold_item_split,
    global_time_split,
    k_core,
    leave_one_out,
    merge_duplicates,
    random_split,
    reduce_to_core,
    refuse_conflicts,
    split_rows,
    time_split,
)
from bm3_pyg.errors import DataError
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


# The k-core -----------------------------------------------------------------------------------------------------------


Pairs = list[tuple[int, int]]
DISTINCT = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=36, unique=True)
REPEATED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=9)


def two_columns(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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


@given(DISTINCT | REPEATED, st.integers(1, 5))
def test_it_is_what_is_left_when_rows_go_one_by_one(pairs: Pairs, k: int) -> None:
    users, items = two_columns(pairs)
    mask = k_core(users, items, k)
    assert mask.tolist() == naive(pairs, k)
    assert k_core(users[mask], items[mask], k).all()


@given(REPEATED, st.integers(1, 3))
def test_no_larger_set_of_rows_is_a_core(pairs: Pairs, k: int) -> None:
    mask = k_core(*two_columns(pairs), k)
    for chosen in range(2 ** len(pairs)):
        rows = tuple(row for row in range(len(pairs)) if chosen >> row & 1)
        assert not is_core(pairs, rows, k) or mask[list(rows)].all()


@given(DISTINCT, st.integers(1, 4) | st.none(), st.booleans())
def test_numbers_given_anew_lead_back_to_the_rows(pairs: Pairs, k: int | None, keep: bool) -> None:
    users, items = two_columns(pairs)
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


# Repeated pairs, and pairs in two splits ------------------------------------------------------------------------------


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
