"""The chapters of a report that hold its figures: results, comparisons, strata, ablations and curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from statistics import fmean

from bm3_pyg.study import plots
from bm3_pyg.study.blocks import Block, Cell, Plot, Table, Words, number, probability, spread_cell, spread_text, table
from bm3_pyg.study.content import HEADLINE, Comparison, Curve, Row, Section, Stratum, metric_title

NOISE = "≈"
TESTED = (
    "The paired test asks whether two trained models serve users differently: its interval and p are over users, the "
    "models are taken as they were trained. It does not say that new trainings would differ in the same way; that is "
    "what Welch's test of the seeds' means asks (p over seeds), and with few seeds it finds only large differences. "
    "Corrected p: for the number of comparisons. Cohen's d: the mean difference in standard deviations of the users' "
    "differences; a tiny d can be significant where users are many."
)


def results(section: Section) -> list[Block]:
    metrics = list(dict.fromkeys(metric for row in section.rows for metric in row.test))
    headline = results_table(section)
    if headline is None or not set(metrics) > set(HEADLINE):
        return [headline] if headline else []
    names, cutoffs = (list(dict.fromkeys(metric.split("@")[part] for metric in metrics)) for part in (0, 1))
    rows = [
        (row.label, metric_title(name), *(spread_cell(row.test.get(f"{name}@{cutoff}")) for cutoff in cutoffs))
        for name in names
        for row in section.rows
    ]
    headers = ("model", "metric", *(f"@{cutoff}" for cutoff in cutoffs))
    return [headline, *table("Every test metric", headers, rows, folded=True)]


def results_table(section: Section) -> Table | None:
    """Test metrics of every row: mean and standard deviation over seeds, best and within-noise marked."""
    metrics = [metric for metric in HEADLINE if any(metric in row.test for row in section.rows)]
    if not metrics:
        return None
    rows = tuple(
        (Cell(row.label), number(len(row.seeds), 0), *(_result(row, metric) for metric in metrics))
        for row in section.rows
    )
    return Table("Test", ("model", "seeds", *map(metric_title, metrics)), rows, tuple(_notes(section, metrics)))


def published(section: Section) -> list[Block]:
    if not section.published:
        return []
    reported = [name for figures in section.published for name in figures.metrics]
    metrics = [name for name in HEADLINE if name in reported] or list(dict.fromkeys(reported))
    ours = [(row.label, "this report", *(spread_cell(row.test.get(name)) for name in metrics)) for row in section.rows]
    theirs = [
        (figures.source, "published", *(number(figures.metrics.get(name)) for name in metrics))
        for figures in section.published
    ]
    sources: dict[str, list[str]] = {}
    for figures in section.published:
        sources.setdefault(figures.note, []).append(figures.source)
    notes = [f"{', '.join(sources[note])}: {note}" for note in sources if note]
    headers = ("model or source", "from", *map(metric_title, metrics))
    return table("Ours and published", headers, [*ours, *theirs], notes)


def significance(section: Section) -> list[Block]:
    by_first: dict[str, list[Comparison]] = {}
    for comparison in section.comparisons:
        by_first.setdefault(comparison.first, []).append(comparison)
    blocks: list[Block] = [Words((TESTED,))] if by_first else []
    seeds = any(comparison.seeds_p is not None for comparison in section.comparisons)
    for first, comparisons in by_first.items():
        tests = ", ".join(dict.fromkeys(comparison.test for comparison in comparisons))
        rows = [(test.second, metric_title(test.metric), *_tested(test, seeds)) for test in comparisons]
        blocks += table(f"{first} minus the other ({tests})", ("other model", "metric", *_tested_headers(seeds)), rows)
    return blocks


def strata(section: Section) -> list[Block]:
    if not section.strata:
        return []
    models = len({label for stratum in section.strata for label in stratum.values})
    caption = (
        "Recall and NDCG are means over the users of a stratum (n users). Hit is the share of the test positives "
        "(n, by item) that stand in their user's list."
    )
    most = len(plots.SERIES)
    caption += f" Of {models} models the {most} highest are drawn." if models > most else ""
    blocks: list[Block] = [Plot(caption, partial(plots.strata_bars, plots.strata_panels(section.strata)))]
    groups: dict[tuple[str, str], list[Stratum]] = {}
    for stratum in section.strata:
        groups.setdefault((stratum.group, stratum.metric), []).append(stratum)
    for (group, metric), columns in groups.items():
        labels = dict.fromkeys(label for stratum in columns for label in stratum.values)
        rows = [(label, *(number(stratum.values.get(label)) for stratum in columns)) for label in labels]
        headers = ("model", *(f"{stratum.name} (n\u00a0=\u00a0{stratum.count:,})" for stratum in columns))
        kind = "of cold items" if group == "cold" else f"by {group}"
        blocks += table(f"{metric_title(metric)} {kind}", headers, rows)
    return blocks


def ablations(section: Section) -> list[Block]:
    blocks: list[Block] = [Words((section.ablation_words,))] if section.ablation_words else []
    if not section.ablations:
        return blocks
    against = ", ".join(dict.fromkeys(change.comparison.second for change in section.ablations))
    metric = section.ablations[0].comparison.metric
    caption = (
        f"{metric_title(metric)} of the changed model minus that of {against}, with its 95% interval over users. "
        f"Filled: told from zero (corrected p below {section.level:g}); half: over users, but not over seeds."
    )
    seeds = any(change.comparison.seeds_p is not None for change in section.ablations)
    rows = [
        (
            change.label,
            number(len(change.seeds) or None, 0),
            spread_cell(change.test.get(change.comparison.metric)),
            *_tested(change.comparison, seeds),
        )
        for change in section.ablations
    ]
    headers = ("change", "seeds", metric_title(metric), *_tested_headers(seeds))
    return [
        *blocks,
        Plot(caption, partial(plots.forest, section.ablations, section.level)),
        *table(f"Changes, against {against}", headers, rows),
        Words(tuple(change.words for change in section.ablations if change.words), listed=True),
    ]


def validation(curves: Sequence[Curve]) -> list[Block]:
    curves = [curve for curve in curves if curve.epochs]
    if not curves:
        return []
    rows = [
        (
            curve.label,
            *(number(value, 0) for value in (curve.seed, curve.selected, max(curve.epochs))),
            number(dict(zip(curve.epochs, curve.validation, strict=True)).get(curve.selected)),
        )
        for curve in curves
    ]
    headers = ("model", "seed", "selected epoch", "last epoch", "validation Recall@20 there")
    caption = "Validation Recall@20; a line a seed, the dot marks the selected epoch."
    return [Plot(caption, partial(plots.validation_curves, curves)), *table("Selected epochs", headers, rows)]


def losses(curves: Sequence[Curve]) -> list[Block]:
    curves = [curve for curve in curves if curve.losses]
    if not curves:
        return []
    names = list(dict.fromkeys(name for curve in curves for name in curve.losses))
    caption = (
        "Training losses, mean of each epoch; a line a seed. Components are unweighted; the total is what is minimised."
    )
    rows = []
    for label in dict.fromkeys(curve.label for curve in curves):
        own = [curve for curve in curves if curve.label == label]
        rows.append((label, *(number(_at_selected(own, name)) for name in names)))
    table_ = table("At the selected epoch, mean over seeds", ("model", *names), rows)
    return [Plot(caption, partial(plots.loss_curves, curves)), *table_]


def beyond(section: Section) -> list[Block]:
    names = list(dict.fromkeys(name for values in section.beyond.values() for name in values))
    rows = [(label, *(number(values.get(name)) for name in names)) for label, values in section.beyond.items()]
    headers = ("model", *(metric_title(name).replace("_", " ") for name in names))
    note = (
        "Coverage: share of all items that any list contains. Average popularity: mean training interactions of listed "
        "items. Personalization: one minus the share of items that two users' lists have in common."
    )
    return table("Lists of recommendations", headers, rows, [note]) if names else []


def _at_selected(curves: Sequence[Curve], name: str) -> float | None:
    """A loss at the selected epoch, mean over the curves that have it there."""
    values = [
        losses[curve.selected - 1]
        for curve in curves
        if 0 < curve.selected <= len(losses := curve.losses.get(name, ()))
    ]
    return fmean(values) if values else None


def _tested_headers(seeds: bool) -> tuple[str, ...]:
    welch = ("p over seeds",) if seeds else ()
    return ("difference", "95% interval", "p", "corrected p", "Cohen's d", *welch, "users")


def _tested(test: Comparison, seeds: bool) -> tuple[Cell, ...]:
    return (
        Cell(f"{test.difference:+.4f}", test.difference),
        Cell(f"{test.low:+.4f} to {test.high:+.4f}", test.low),
        probability(test.p),
        probability(test.corrected_p),
        Cell("") if test.effect is None else Cell(f"{test.effect:+.3f}", test.effect),
        *((probability(test.seeds_p),) if seeds else ()),
        number(test.users, 0),
    )


def _result(row: Row, metric: str) -> Cell:
    if metric not in row.test:
        return Cell("")
    mark = NOISE if metric in row.within_noise else ""
    return Cell(spread_text(row.test[metric]), row.test[metric].mean, metric in row.best, mark)


def _notes(section: Section, metrics: Sequence[str]) -> Iterable[str]:
    yield "Mean ± sample standard deviation over seeds; a figure alone is of one seed."
    if any(row.best for row in section.rows):
        yield "Bold: the highest mean of its column."
    if section.comparisons:
        yield (
            f"{NOISE}: not told from the bold one by the paired test over users "
            f"(corrected p of {section.level:g} or more; see Significance)."
        )
    tested = {(test.metric, label) for test in section.comparisons for label in (test.first, test.second)}
    missing = [
        row.label
        for row in section.rows
        if not all(metric in row.best or (metric, row.label) in tested for metric in metrics)
    ]
    if missing and len(section.rows) > 1:
        yield f"Not tested in every metric, so a missing mark means nothing there: {', '.join(missing)}."
