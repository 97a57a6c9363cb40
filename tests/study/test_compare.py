"""Best and within noise, common seeds, strata."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import scipy.stats

from bm3_pyg.study.content import HEADLINE
from bm3_pyg.study.rows import grouped, row_of
from bm3_pyg.study.runs import Evaluations, gather
from bm3_pyg.study.stats import all_strata, beyond, with_best

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
