"""Can recommenders be told apart? Rows of a report against the best, changed models against the unchanged one, and
strata of users and items. All tests are SciPy's.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from types import ModuleType

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from bm3_pyg.errors import ConfigError
from bm3_pyg.names import SELECTION
from bm3_pyg.study.content import HEADLINE, Comparison, Row, Stratum
from bm3_pyg.study.runs import Evaluations, Group

LEVEL = 0.05
HIT = "hit@20"
ACTIVITY = (1, 2, 3, 5, 10, 20)
POPULARITY = (0, 1, 5, 20, 100)
"""Lower bounds of the bins of training interactions."""


def with_best(
    rows: Sequence[Row], groups: Sequence[Group], evaluations: Evaluations
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
    comparisons = compared(pairs, evaluations)
    unclear = {(test.second, test.metric) for test in comparisons if test.corrected_p >= LEVEL}
    marked = [
        replace(
            row,
            best=tuple(metric for metric in best if best[metric] == row.label),
            within_noise=tuple(metric for metric in best if (row.label, metric) in unclear),
        )
        for row in rows
    ]
    return marked, comparisons


def compared(pairs: Sequence[tuple[str, Group, Group]], evaluations: Evaluations) -> list[Comparison]:
    """Test each (metric, first, second), and correct for their number; those that cannot be tested are left out."""
    tests = [test for pair in pairs if (test := _comparison(*pair, evaluations)) is not None]
    ps = corrected([test.p for test in tests])
    return [replace(test, corrected_p=p) for test, p in zip(tests, ps, strict=True)]


def all_strata(groups: Sequence[Group], evaluations: Evaluations) -> list[Stratum]:
    """Recall@20 and NDCG@20 by the users' activity, and the share of positives listed by their item's popularity."""
    by_name: dict[tuple[str, str, str], Stratum] = {}
    for group in groups:
        users, positives = evaluations.users(group, group.seeds), evaluations.positives(group)
        if users is None or positives is None:
            continue
        _add(by_name, "user activity", strata(users, ACTIVITY, ["recall@20", "ndcg@20"]), group.label)
        hits = strata(positives.rename({"hit": HIT}), POPULARITY, [HIT])
        _add(by_name, "cold", hits.filter(pl.col("stratum") == "0"), group.label)
        _add(by_name, "item popularity", hits.filter(pl.col("stratum") != "0"), group.label)
    order = {"user activity": 0, "item popularity": 1, "cold": 2}
    return sorted(by_name.values(), key=lambda stratum: (order[stratum.group], stratum.metric != SELECTION))


def beyond(groups: Sequence[Group], evaluations: Evaluations) -> dict[str, dict[str, float]]:
    """Beyond accuracy by label, means over seeds."""
    means = {}
    for group in groups:
        values = [evaluation.beyond for run in group.runs if (evaluation := evaluations.of(run)) is not None]
        if values:
            names = [name for name in values[0] if all(name in figures for figures in values)]
            means[group.label] = {name: fmean(figures[name] for figures in values) for name in names}
    return means


def _comparison(metric: str, first: Group, second: Group, evaluations: Evaluations) -> Comparison | None:
    trained = [set(group.seeds) for group in (first, second) if not group.determined]
    common = set.intersection(*trained) if trained else {*first.seeds, *second.seeds}
    if not common:
        labels = " and ".join(sorted((first.label, second.label)))
        evaluations.warn(f"{labels} have no seed in common and are not compared")
        return None
    if any(seeds != common for seeds in trained):
        evaluations.warn("rows with unequal seeds are compared on the seeds that both have")
    seeds = [group.seeds if group.determined else sorted(common) for group in (first, second)]
    tables = [evaluations.users(group, own) for group, own in zip((first, second), seeds, strict=True)]
    if tables[0] is None or tables[1] is None:
        return None
    both = tables[0].join(tables[1], on="user", suffix=" of the second")
    test = paired_test(both[metric].to_numpy(), both[f"{metric} of the second"].to_numpy())
    if test is None:
        evaluations.warn("fewer than two users can be ranked for: nothing is tested")
        return None
    means = [
        [run.metrics["test"][metric] for run in group.runs if run.seed in own]
        for group, own in zip((first, second), seeds, strict=True)
    ]
    return Comparison(metric, first.label, second.label, **asdict(test), corrected_p=test.p, seeds_p=welch_test(*means))


def _add(by_name: dict[tuple[str, str, str], Stratum], group: str, table: pl.DataFrame, label: str) -> None:
    for row in table.iter_rows(named=True):
        name = f"{row['stratum']} training interaction{'s' * (row['stratum'] != '1')}"
        for metric in (column for column in row if column not in ("stratum", "count")):
            stratum = by_name.setdefault((group, name, metric), Stratum(group, name, row["count"], metric, {}))
            stratum.values[label] = row[metric]


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test over ``users``: the mean ``difference`` of first - second with its interval, p and Cohen's d.

    ``effect`` is the mean of the differences over their standard deviation, None where all users differ alike.
    """

    users: int
    difference: float
    low: float
    high: float
    p: float
    effect: float | None


def paired_test(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> PairedTest | None:
    """Compare a metric of the same users [n] under two models.

    Returns:
        The test; p is 1 where no user differs. None for fewer than two users, who show no spread.

    Raises:
        ConfigError: SciPy is not installed.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    users = len(differences)
    if users < 2:
        return None
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if np.ptp(differences) == 0:
        return PairedTest(users, mean, mean, mean, float(mean == 0), 0.0 if mean == 0 else None)
    test = _scipy_stats().ttest_1samp(differences, 0.0)  # the paired test is that of the differences
    interval = test.confidence_interval(confidence)
    return PairedTest(
        users, mean, float(interval.low), float(interval.high), float(test.pvalue), float(mean / deviation)
    )


def welch_test(first: Sequence[float], second: Sequence[float]) -> float | None:
    """p of Welch's t-test of two models' means over users, one a seed.

    None where a model has fewer than two seeds, or where neither model's figures vary with the seed.
    """
    if min(len(first), len(second)) < 2 or (np.ptp(first) == 0 and np.ptp(second) == 0):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # one model may not vary at all, which is no loss of precision
        return float(_scipy_stats().ttest_ind(first, second, equal_var=False).pvalue)


def corrected(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's correction of many p: below a level stand that share of false discoveries at most."""
    return [float(value) for value in _scipy_stats().false_discovery_control(p)] if p else []


def _scipy_stats() -> ModuleType:
    try:
        import scipy.stats
    except ImportError as error:
        raise ConfigError('significance tests need SciPy: pip install "bm3-pyg[report]"') from error
    stats: ModuleType = scipy.stats
    return stats


def strata(table: pl.DataFrame, bounds: Sequence[int], columns: Sequence[str]) -> pl.DataFrame:
    """Means of ``columns`` over the rows of each bin of the column ``training_interactions``.

    Args:
        table: of :func:`bm3_pyg.eval.users.user_metrics` or :func:`~bm3_pyg.eval.users.positive_hits`.
        bounds: lower bounds of the bins, ascending.
        columns: what to average.

    Returns:
        A row for each bin that is not empty, in their order: stratum (its name, ``"5-9"``), count, and the means.
    """
    bin_ = pl.sum_horizontal([pl.col("training_interactions") >= bound for bound in bounds]).alias("bin")
    means = table.group_by(bin_).agg(pl.len().alias("count"), pl.col(columns).cast(pl.Float64).mean()).sort("bin")
    names = ["", *_names(bounds)]
    named = means.with_columns(pl.Series("stratum", [names[place] for place in means["bin"]], pl.String))
    return named.filter(pl.col("bin") > 0).select("stratum", "count", *columns)


def _names(bounds: Sequence[int]) -> list[str]:
    ranges = [str(low) if low + 1 == end else f"{low}-{end - 1}" for low, end in itertools.pairwise(bounds)]
    return [*ranges, f"{bounds[-1]}+"]
