from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
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
from bm3_pyg.errors import ConfigError, DataError
from bm3_pyg.names import SPLIT_RULES

Ints = NDArray[np.int64]


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


def test_no_rows_to_merge() -> None:
    empty = np.zeros(0, dtype=np.int64)
    rows = Interactions(empty, empty, empty.astype(np.int8))
    refuse_conflicts(rows, str)
    assert merge_duplicates(rows, "x")[1] == []


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


def test_no_rows_have_no_core() -> None:
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


def naive_sizes(n: int) -> tuple[int, int]:
    if n < 3:
        return 0, 0
    if n < 10:
        return 1, 1
    held = int(0.2 * n)
    return held // 2, held - held // 2


def naive_time_split(users: Ints, time: Ints, sizes: Callable[[int], tuple[int, int]]) -> list[int]:
    rows = defaultdict(list)
    for row, user in enumerate(users):
        rows[user].append(row)
    split = [0] * len(users)
    for own in rows.values():
        own.sort(key=lambda row: time[row])
        val, test = sizes(len(own))
        for row in own[len(own) - test :]:
            split[row] = 2
        for row in own[len(own) - test - val : len(own) - test]:
            split[row] = 1
    return split


@pytest.fixture(params=[0, 1, 2])
def rows(request: pytest.FixtureRequest) -> tuple[Ints, Ints]:
    """Ungrouped users with 1 to about 100 interactions and times with many ties."""
    rng = np.random.default_rng(request.param)
    users = rng.permutation(np.repeat(np.arange(60), np.r_[np.arange(1, 41), rng.integers(1, 100, 20)]))
    return users, rng.integers(8, size=len(users))


def test_time_split_is_the_naive_one(rows: tuple[Ints, Ints]) -> None:
    users, time = rows
    assert time_split(users, time).tolist() == naive_time_split(users, time, naive_sizes)


def test_leave_one_out_is_the_naive_one(rows: tuple[Ints, Ints]) -> None:
    users, time = rows
    expected = naive_time_split(users, time, lambda n: (1, 1) if n >= 3 else (0, 0))
    assert leave_one_out(users, time, seed=0).tolist() == expected


def test_random_split_has_the_published_sizes(rows: tuple[Ints, Ints]) -> None:
    users, _ = rows
    split = random_split(users, seed=3)
    for user, n in Counter(users.tolist()).items():
        own = Counter(split[users == user].tolist())
        assert (own[1], own[2]) == naive_sizes(n), n


def test_random_split_depends_on_the_seed_alone(rows: tuple[Ints, Ints]) -> None:
    users, _ = rows
    np.testing.assert_array_equal(random_split(users, 1), random_split(users, 1))
    assert (random_split(users, 1) != random_split(users, 2)).any()


def test_random_split_holds_every_row_out_equally_often() -> None:
    users = np.tile(np.arange(3), 5)
    held = np.mean([random_split(users, seed) == 2 for seed in range(600)], axis=0)
    np.testing.assert_allclose(held, 0.2, atol=0.06)


def test_leave_one_out_without_times_is_random() -> None:
    users = np.repeat(np.arange(40), 5)
    first, second = leave_one_out(users, None, 0), leave_one_out(users, None, 1)
    assert Counter(first.tolist()) == Counter(second.tolist()) == {0: 120, 1: 40, 2: 40}
    assert (first != second).any()


def test_sizes_are_those_of_the_published_split(shared_data: Callable[[str], Path]) -> None:
    columns = np.loadtxt(shared_data("baby") / "baby.inter", skiprows=1, dtype=np.int64).T
    users, published = columns[0], columns[2]
    ours = random_split(users, seed=0)
    for code in (0, 1, 2):
        np.testing.assert_array_equal(np.bincount(users[ours == code]), np.bincount(users[published == code]))


@pytest.mark.parametrize("n", [1, 2])
def test_one_user_with_few_interactions_keeps_all(n: int) -> None:
    users = np.zeros(n, dtype=np.int64)
    assert not random_split(users, 0).any()
    assert not leave_one_out(users, None, 0).any()
    assert not time_split(users, np.arange(n)).any()


def test_no_rows() -> None:
    assert len(random_split(np.zeros(0, dtype=np.int64), 0)) == 0


def naive_global_time_split(time: Ints, share: float) -> list[int]:
    """The latest rows one by one, as long as all rows of their time fit into the share."""
    split, held = [0] * len(time), int(share * len(time))
    for code, room in ((2, held), (1, 2 * held)):
        for moment in sorted(set(time.tolist()), reverse=True):
            later = [row for row in range(len(time)) if time[row] >= moment]
            if len(later) > room:
                break
            for row in later:
                split[row] = split[row] or code
    return split


@pytest.mark.parametrize("share", [0.1, 0.25, 0.0, 0.49])
def test_global_time_split_is_the_naive_one(rows: tuple[Ints, Ints], share: float) -> None:
    _, time = rows
    for times in (time, np.random.default_rng(0).permutation(150), np.zeros(9, dtype=np.int64)):
        assert global_time_split(times, share).tolist() == naive_global_time_split(times, share)


def test_global_time_split_cuts_once_for_all() -> None:
    time = np.random.default_rng(1).permutation(1000)
    split = global_time_split(time)
    assert np.bincount(split).tolist() == [800, 100, 100]
    assert time[split == 0].max() < time[split == 1].min()
    assert time[split == 1].max() < time[split == 2].min()
    assert not global_time_split(np.zeros(50)).any()


def test_cold_items_are_in_one_split_each() -> None:
    items = np.random.default_rng(0).permutation(np.repeat(7 * np.arange(60), np.arange(1, 61)))
    split = cold_item_split(items, seed=4)
    own = [set(items[split == code].tolist()) for code in (0, 1, 2)]
    assert [len(one) for one in own] == [48, 6, 6]
    assert sum(map(len, own)) == len(set.union(*own))
    np.testing.assert_array_equal(split, cold_item_split(items, seed=4))
    assert (split != cold_item_split(items, seed=5)).any()
    assert [len(set(items[cold_item_split(items, 0, share=0.3) == code].tolist())) for code in (0, 1, 2)] == [
        24,
        18,
        18,
    ]


@pytest.mark.parametrize(("n", "held"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)])
def test_cold_items_of_few_items(n: int, held: int) -> None:
    split = cold_item_split(np.arange(n), seed=0)
    assert ((split == 1).sum(), (split == 2).sum()) == (held, held)


@pytest.mark.parametrize("share", [-0.1, 0.5, 1])
def test_shares_that_leave_nothing_to_train_on(share: float) -> None:
    with pytest.raises(ConfigError, match="share: got"):
        cold_item_split(np.arange(9), 0, share)
    with pytest.raises(ConfigError, match="share: got"):
        global_time_split(np.arange(9), share)


@pytest.mark.parametrize("rule", [rule for rule in SPLIT_RULES if rule != "label"])
def test_split_rows_goes_by_the_rule(rule: str, rows: tuple[Ints, Ints]) -> None:
    users, time = rows
    items = np.arange(len(users)) % 37
    table = Interactions(users, items, np.zeros(len(users), dtype=np.int8), time=time)
    expected = {
        "random": random_split(users, 3),
        "leave-one-out": leave_one_out(users, time, 3),
        "time": time_split(users, time),
        "global-time": global_time_split(time),
        "cold-items": cold_item_split(items, 3),
    }
    np.testing.assert_array_equal(split_rows(table, rule, 3), expected[rule])
    assert (rule in TIMED) == ("time" in rule)
