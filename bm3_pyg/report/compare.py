"""Rows against the best, changed models against the unchanged one, and strata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import polars as pl

from bm3_pyg.eval.significance import corrected, paired_test, welch_test
from bm3_pyg.eval.strata import ACTIVITY, POPULARITY, strata
from bm3_pyg.report.content import Comparison, Row, Stratum
from bm3_pyg.report.kept import Kept
from bm3_pyg.report.rows import Group
from bm3_pyg.report.table import HEADLINE

LEVEL = 0.05
HIT = "hit@20"


def with_best(
    rows: Sequence[Row], groups: Sequence[Group], kept: Kept, warnings: list[str]
) -> tuple[list[Row], list[Comparison]]:
    """Rows with ``best`` and ``within_noise``, and every row's comparison with the best one in each metric."""
    if len(rows) < 2:
        return list(rows), []
    by_label = {group.label: group for group in groups}
    best: dict[str, str] = {}
    pairs = []
    for metric in (metric for metric in HEADLINE if all(metric in row.test for row in rows)):
        leader = max(rows, key=lambda row: row.test[metric].mean)
        best[metric] = leader.label
        pairs += [(metric, by_label[leader.label], by_label[row.label]) for row in rows if row is not leader]
    comparisons = compared(pairs, kept, warnings)
    unclear = {(one.second, one.metric) for one in comparisons if one.corrected_p >= LEVEL}
    marked = [
        replace(
            row,
            best=tuple(metric for metric in best if best[metric] == row.label),
            within_noise=tuple(metric for metric in best if (row.label, metric) in unclear),
        )
        for row in rows
    ]
    return marked, comparisons


def compared(pairs: Sequence[tuple[str, Group, Group]], kept: Kept, warnings: list[str]) -> list[Comparison]:
    """Test each (metric, first, second), and correct for their number; those that cannot be tested are left out."""
    found = [one for pair in pairs if (one := _comparison(*pair, kept, warnings)) is not None]
    ps = corrected([one.p for one in found])
    return [replace(one, corrected_p=p) for one, p in zip(found, ps, strict=True)]


def all_strata(groups: Sequence[Group], kept: Kept) -> list[Stratum]:
    """Recall@20 and NDCG@20 by the users' activity, and the share of positives found by their item's popularity."""
    found: dict[tuple[str, str, str], Stratum] = {}
    for group in groups:
        users, positives = kept.users(group, group.seeds), kept.positives(group)
        if users is None or positives is None:
            continue
        _add(found, "user activity", strata(users, ACTIVITY, ["recall@20", "ndcg@20"]), group.label)
        hits = strata(positives.rename({"hit": HIT}), POPULARITY, [HIT])
        _add(found, "cold", hits.filter(pl.col("stratum") == "0"), group.label)
        _add(found, "item popularity", hits.filter(pl.col("stratum") != "0"), group.label)
    order = {"user activity": 0, "item popularity": 1, "cold": 2}
    return sorted(found.values(), key=lambda one: (order[one.group], one.metric != "recall@20"))


def beyond(groups: Sequence[Group], kept: Kept) -> dict[str, dict[str, float]]:
    """Beyond accuracy by label, means over seeds."""
    found = {}
    for group in groups:
        values = [one.beyond for run in group.runs if (one := kept.values(run)) is not None]
        if values:
            names = [name for name in values[0] if all(name in one for one in values)]
            found[group.label] = {name: fmean(one[name] for one in values) for name in names}
    return found


def _comparison(metric: str, first: Group, second: Group, kept: Kept, warnings: list[str]) -> Comparison | None:
    trained = [set(group.seeds) for group in (first, second) if not group.determined]
    common = set.intersection(*trained) if trained else {*first.seeds, *second.seeds}
    if not common:
        labels = " and ".join(sorted((first.label, second.label)))
        _once(warnings, f"{labels} have no seed in common and are not compared")
        return None
    if any(seeds != common for seeds in trained):
        _once(warnings, "rows with unequal seeds are compared on the seeds that both have")
    seeds = [group.seeds if group.determined else sorted(common) for group in (first, second)]
    tables = [kept.users(group, own) for group, own in zip((first, second), seeds, strict=True)]
    if tables[0] is None or tables[1] is None:
        return None
    both = tables[0].join(tables[1], on="user", suffix=" of the second")
    test = paired_test(both[metric].to_numpy(), both[f"{metric} of the second"].to_numpy())
    if test is None:
        _once(warnings, "fewer than two users can be ranked for: nothing is tested")
        return None
    means = [
        [run.metrics["test"][metric] for run in group.runs if run.seed in own]
        for group, own in zip((first, second), seeds, strict=True)
    ]
    return Comparison(
        metric,
        first.label,
        second.label,
        test.users,
        test.difference,
        test.low,
        test.high,
        test.p,
        test.p,
        test.effect,
        seeds_p=welch_test(*means),
    )


def _add(found: dict[tuple[str, str, str], Stratum], group: str, table: pl.DataFrame, label: str) -> None:
    for row in table.iter_rows(named=True):
        name = f"{row['stratum']} training interaction{'s' * (row['stratum'] != '1')}"
        for metric in (column for column in row if column not in ("stratum", "count")):
            one = found.setdefault((group, name, metric), Stratum(group, name, row["count"], metric, {}))
            one.values[label] = row[metric]


def _once(warnings: list[str], text: str) -> None:
    if text not in warnings:
        warnings.append(text)
