"""Best and within noise on common seeds; the tests on planted cases: their level and power; strata."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats

from bm3_pyg.study.content import HEADLINE
from bm3_pyg.study.rows import grouped, row_of
from bm3_pyg.study.runs import Evaluations, gather
from bm3_pyg.study.stats import (
    ACTIVITY,
    POPULARITY,
    all_strata,
    beyond,
    corrected,
    paired_test,
    strata,
    welch_test,
    with_best,
)

Make = Callable[..., Path]


def values_of(folder: Path, metric: str) -> list[float]:
    return pl.read_parquet(folder / "test_users.parquet").sort("user")[metric].to_list()


def test_the_best_is_marked_and_who_cannot_be_told_from_it(tmp_path: Path, make_run: Make) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"a{seed}", "bm3", seed, shift=0.2)
        make_run(tmp_path / f"b{seed}", "lightgcn", seed, shift=0.2)
        make_run(tmp_path / f"c{seed}", "popularity", seed)
    groups = grouped(gather([tmp_path]).runs, [])
    warnings: list[str] = []
    rows, comparisons = with_best([row_of(group) for group in groups], groups, Evaluations(None, warnings))
    assert not warnings
    assert len(comparisons) == 2 * len(HEADLINE)
    for metric in HEADLINE:
        (best,) = [row for row in rows if metric in row.best]
        assert best.test[metric].mean == max(row.test[metric].mean for row in rows)
        for one in (one for one in comparisons if one.metric == metric):
            assert one.first == best.label
            (other,) = [row for row in rows if row.label == one.second]
            assert one.difference == pytest.approx(best.test[metric].mean - other.test[metric].mean)
            assert one.low <= one.difference <= one.high
            assert (metric in other.within_noise) == (one.corrected_p >= 0.05)
            assert one.corrected_p >= one.p
            assert one.seeds_p is not None
    popularity = rows[2]
    assert popularity.best == popularity.within_noise == ()
    assert all(one.corrected_p < 1e-6 for one in comparisons if one.second == "Popularity")


def test_unequal_seeds_are_compared_on_common_ones(tmp_path: Path, make_run: Make) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path / f"a{seed}", "bm3", seed, shift=0.1)
    for seed in (1, 2, 3):
        make_run(tmp_path / f"b{seed}", "lightgcn", seed)
    groups = grouped(gather([tmp_path]).runs, [])
    warnings: list[str] = []
    _, comparisons = with_best([row_of(group) for group in groups], groups, Evaluations(None, warnings))
    assert warnings == ["rows with unequal seeds are compared on the seeds that both have"]
    one = next(one for one in comparisons if one.metric == "ndcg@20")
    first = [sum(two) / 2 for two in zip(*(values_of(tmp_path / f"a{s}", "ndcg@20") for s in (1, 2)), strict=True)]
    second = [sum(two) / 2 for two in zip(*(values_of(tmp_path / f"b{s}", "ndcg@20") for s in (1, 2)), strict=True)]
    assert one.users == 60
    assert one.p == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)
    assert one.difference == pytest.approx((sum(first) - sum(second)) / 60)


def test_a_counted_model_stands_for_every_seed(tmp_path: Path, make_run: Make) -> None:
    for seed in (1, 2):
        make_run(tmp_path / f"a{seed}", "bm3", seed, shift=0.1)
    make_run(tmp_path / "b", "popularity", 0)
    groups = grouped(gather([tmp_path]).runs, [])
    warnings: list[str] = []
    _, comparisons = with_best([row_of(group) for group in groups], groups, Evaluations(None, warnings))
    assert warnings == []
    one = next(one for one in comparisons if one.metric == "ndcg@20")
    trained = [sum(two) / 2 for two in zip(*(values_of(tmp_path / f"a{s}", "ndcg@20") for s in (1, 2)), strict=True)]
    assert one.difference == pytest.approx((sum(trained) - sum(values_of(tmp_path / "b", "ndcg@20"))) / 60)
    assert one.seeds_p is None


def test_what_is_not_compared(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a", "bm3", 0)
    make_run(tmp_path / "b", "lightgcn", 1)
    groups = grouped(gather([tmp_path]).runs, [])
    warnings: list[str] = []
    rows, comparisons = with_best([row_of(group) for group in groups], groups, Evaluations(None, warnings))
    assert not comparisons
    assert not any(row.within_noise for row in rows)
    assert len(warnings) == 1
    assert "no seed in common" in warnings[0]
    alone, comparisons = with_best([row_of(groups[0])], groups[:1], Evaluations(None, []))
    assert not comparisons
    assert alone[0].best == ()


def test_one_user_is_not_tested(tmp_path: Path, make_run: Make) -> None:
    for name, model in (("a", "bm3"), ("b", "lightgcn")):
        make_run(tmp_path / name, model, count=1)
    groups = grouped(gather([tmp_path]).runs, [])
    warnings: list[str] = []
    _, comparisons = with_best([row_of(group) for group in groups], groups, Evaluations(None, warnings))
    assert not comparisons
    assert warnings == ["fewer than two users can be ranked for: nothing is tested"]


def test_strata_and_beyond_accuracy_are_means_over_seeds(tmp_path: Path, make_run: Make) -> None:
    folders = [make_run(tmp_path / f"a{seed}", "bm3", seed) for seed in (0, 1)]
    make_run(tmp_path / "b", "lightgcn")
    groups = grouped(gather([tmp_path]).runs, [])
    found = all_strata(groups, Evaluations(None, []))
    names = ["1 training interaction", "2 training interactions", "3-4 training interactions"]
    active = [one for one in found if (one.group, one.metric) == ("user activity", "recall@20")]
    assert [one.name for one in active] == [*names, "5-9 training interactions"]
    assert sum(one.count for one in active) == 60
    tables = [pl.read_parquet(folder / "test_users.parquet") for folder in folders]
    wanted = [table.filter(pl.col("training_interactions").is_between(3, 4))["recall@20"].mean() for table in tables]
    assert active[2].values["BM3"] == pytest.approx(sum(wanted) / 2)  # type: ignore[arg-type]
    assert set(active[2].values) == {"BM3", "LightGCN"}
    (cold,) = [one for one in found if one.group == "cold"]
    assert (cold.name, cold.count, cold.metric) == ("0 training interactions", 6, "hit@20")
    assert [one.group for one in found] == sorted(
        (one.group for one in found), key=lambda g: (g != "user activity", g == "cold")
    )
    assert beyond(groups, Evaluations(None, [])) == {
        "BM3": {"coverage@20": 0.55, "average_popularity@20": 4.5},
        "LightGCN": {"coverage@20": 0.5, "average_popularity@20": 4.5},
    }


PAIRS, LEVEL = 200, 0.05


def recalls(rng: np.random.Generator, users: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two models' recalls of the same users: mostly zero, right-skewed, correlated, as real ones are."""
    ease = rng.beta(0.5, 4, users)
    first, second = (rng.binomial(3, np.clip(ease + extra, 0, 1)) / 3 for extra in (shift, 0.0))
    return first, second


def test_equal_models_differ_about_as_often_as_the_stated_level() -> None:
    rng = np.random.default_rng(0)
    found = [paired_test(*recalls(rng, 500)) for _ in range(PAIRS)]
    false = sum(one is not None and one.p < LEVEL for one in found)
    low, high = scipy.stats.binom.interval(0.999, PAIRS, LEVEL)
    assert low <= false <= high
    misses = sum(one is not None and not one.low <= 0 <= one.high for one in found)
    assert misses == false


def test_a_true_difference_is_found_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(1)
    found = [paired_test(*recalls(rng, 5000, 0.03)) for _ in range(20)]
    for one in found:
        assert one is not None
        assert one.p < 0.001
        assert one.effect is not None
        assert 0 < one.effect < 0.5
    assert sum(one is not None and one.low <= 0.03 <= one.high for one in found) >= 15


def test_the_figures_are_those_of_the_textbook() -> None:
    first, second = np.array([0.5, 0.1, 0.9, 0.4]), np.array([0.3, 0.2, 0.5, 0.1])
    found = paired_test(first, second)
    assert found is not None
    differences = [0.2, -0.1, 0.4, 0.3]
    mean = sum(differences) / 4
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3)
    half = 3.182446 * deviation / 2  # t of 3 degrees of freedom at 0.975
    assert found.users == 4
    assert found.difference == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-5)
    assert found.effect == pytest.approx(mean / deviation)
    assert found.p == pytest.approx(scipy.stats.ttest_rel(first, second).pvalue)


def test_what_cannot_be_tested() -> None:
    same = paired_test([0.2, 0.4], [0.2, 0.4])
    assert same is not None
    assert (same.p, same.difference, same.effect) == (1.0, 0.0, 0.0)
    alike = paired_test([0.75, 0.5], [0.5, 0.25])
    assert alike is not None
    assert (alike.p, alike.low, alike.high, alike.effect) == (0.0, 0.25, 0.25, None)
    assert paired_test([0.3], [0.1]) is None
    assert paired_test([], []) is None
    assert welch_test([0.1], [0.2, 0.3]) is None
    assert welch_test([0.1, 0.1], [0.2, 0.2]) is None


def test_seeds_that_overlap_are_not_told_apart_and_others_are() -> None:
    apart, mixed = welch_test([0.10, 0.11, 0.105], [0.20, 0.21, 0.20]), welch_test([0.10, 0.12, 0.14], [0.11, 0.13])
    assert apart is not None
    assert mixed is not None
    assert apart < 0.001
    assert mixed > 0.5
    constant = welch_test([0.1, 0.1], [0.2, 0.21])
    assert constant is not None
    assert constant < 0.05


def test_correction_holds_the_share_of_false_discoveries() -> None:
    assert corrected([]) == []
    assert corrected([0.04]) == [0.04]
    assert corrected([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert corrected([1.0, 1.0]) == [1.0, 1.0]


@pytest.mark.parametrize(("bounds", "highest"), [(ACTIVITY, 30), (POPULARITY, 300), (POPULARITY, 4), ((3,), 9)])
def test_means_of_bins_are_those_of_a_plain_loop(bounds: tuple[int, ...], highest: int) -> None:
    rng = np.random.default_rng(highest)
    counts, values = rng.integers(bounds[0], highest + 1, 200), rng.random(200)
    table = pl.DataFrame({"training_interactions": counts, "x": values, "hit": values > 0.5})
    found = strata(table, bounds, ["x", "hit"])
    expected = []
    for low, high in zip(bounds, [*bounds[1:], 10**9], strict=True):
        inside = [value for count, value in zip(counts, values, strict=True) if low <= count < high]
        if inside:
            name = f"{low}+" if high == 10**9 else str(low) if high == low + 1 else f"{low}-{high - 1}"
            expected.append((name, len(inside), sum(inside) / len(inside), sum(v > 0.5 for v in inside) / len(inside)))
    assert [row[:2] for row in found.rows()] == [row[:2] for row in expected]
    for row, wanted in zip(found.rows(), expected, strict=True):
        assert row[2:] == pytest.approx(wanted[2:])


def test_cold_items_have_a_bin_of_their_own_and_empty_bins_are_left_out() -> None:
    table = pl.DataFrame({"training_interactions": [0, 0, 100], "hit": [False, True, True]})
    assert strata(table, POPULARITY, ["hit"]).rows() == [("0", 2, 0.5), ("100+", 1, 1.0)]
    assert strata(table.clear(), POPULARITY, ["hit"]).is_empty()
