"""The chapters of a report that hold its figures: results, published figures and significance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bm3_pyg.study.blocks import Block, Cell, Table, Words, number, probability
from bm3_pyg.study.content import HEADLINE, Comparison, Row, Section, Spread, metric_title

NOISE = "≈"
TESTED = (
    "The paired test asks whether two trained models serve users differently: its interval and p are over users, the "
    "models are taken as they were trained. It does not say that new trainings would differ in the same way; that is "
    "what Welch's test of the seeds' means asks (p over seeds), and with few seeds it finds only large differences. "
    "Corrected p: for the number of comparisons. Cohen's d: the mean difference in standard deviations of the users' "
    "differences; a tiny d can be significant where users are many."
)


def results(section: Section) -> list[Block]:
    table = results_table(section)
    if table is None:
        return []
    found: list[Block] = [table]
    names = list(dict.fromkeys(metric.partition("@")[0] for row in section.rows for metric in row.test))
    cutoffs = list(dict.fromkeys(metric.partition("@")[2] for row in section.rows for metric in row.test))
    every = [
        (
            Cell(row.label),
            Cell(metric_title(name)),
            *(spread_cell(row.test.get(f"{name}@{cutoff}")) for cutoff in cutoffs),
        )
        for name in names
        for row in section.rows
    ]
    if {metric for row in section.rows for metric in row.test} > set(HEADLINE):
        headers = ("model", "metric", *(f"@{cutoff}" for cutoff in cutoffs))
        found.append(Table("Every test metric", headers, tuple(map(tuple, every)), folded=True))
    return found


def results_table(section: Section) -> Table | None:
    """Test metrics of every row: mean and standard deviation over seeds, best and within-noise marked."""
    metrics = [metric for metric in HEADLINE if any(metric in row.test for row in section.rows)]
    if not metrics:
        return None
    body = [
        (Cell(row.label), Cell(str(len(row.seeds)), len(row.seeds)), *(_result(row, metric) for metric in metrics))
        for row in section.rows
    ]
    return Table("Test", ("model", "seeds", *map(metric_title, metrics)), tuple(body), tuple(_notes(section, metrics)))


def published(section: Section) -> list[Block]:
    if not section.published:
        return []
    metrics = [one for one in HEADLINE if any(one in published.metrics for published in section.published)]
    metrics = metrics or list(dict.fromkeys(name for one in section.published for name in one.metrics))
    ours = [
        (Cell(row.label), Cell("this report"), *(spread_cell(row.test.get(one)) for one in metrics))
        for row in section.rows
    ]
    theirs = [
        (Cell(one.source), Cell("published"), *(number(one.metrics.get(name)) for name in metrics))
        for one in section.published
    ]
    notes: dict[str, list[str]] = {}
    for one in section.published:
        if one.note:
            notes.setdefault(one.note, []).append(one.source)
    said = tuple(f"{', '.join(sources)}: {note}" for note, sources in notes.items())
    headers = ("model or source", "from", *map(metric_title, metrics))
    return [Table("Ours and published", headers, (*ours, *theirs), said)]


def significance(section: Section) -> list[Block]:
    by_first: dict[str, list[Comparison]] = {}
    for one in section.comparisons:
        by_first.setdefault(one.first, []).append(one)
    found: list[Block] = [Words((TESTED,))] if by_first else []
    seeds = any(one.seeds_p is not None for one in section.comparisons)
    for first, comparisons in by_first.items():
        names = ", ".join(dict.fromkeys(one.test for one in comparisons))
        rows = tuple((Cell(one.second), Cell(metric_title(one.metric)), *tested(one, seeds)) for one in comparisons)
        headers = ("other model", "metric", *tested_headers(seeds))
        found.append(Table(f"{first} minus the other ({names})", headers, rows))
    return found


def tested_headers(seeds: bool) -> tuple[str, ...]:
    welch = ("p over seeds",) if seeds else ()
    return ("difference", "95% interval", "p", "corrected p", "Cohen's d", *welch, "users")


def tested(one: Comparison, seeds: bool) -> tuple[Cell, ...]:
    return (
        Cell(f"{one.difference:+.4f}", one.difference),
        Cell(f"{one.low:+.4f} to {one.high:+.4f}", one.low),
        probability(one.p),
        probability(one.corrected_p),
        Cell("") if one.effect is None else Cell(f"{one.effect:+.3f}", one.effect),
        *((probability(one.seeds_p),) if seeds else ()),
        number(one.users, 0),
    )


def spread_cell(spread: Spread | None) -> Cell:
    return Cell("") if spread is None else Cell(spread_text(spread), spread.mean)


def spread_text(spread: Spread) -> str:
    return f"{spread.mean:.4f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.4f}")


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
    tested = {(one.metric, label) for one in section.comparisons for label in (one.first, one.second)}
    missing = [
        row.label
        for row in section.rows
        if not all(metric in row.best or (metric, row.label) in tested for metric in metrics)
    ]
    if missing and len(section.rows) > 1:
        yield f"Not tested in every metric, so a missing mark means nothing there: {', '.join(missing)}."
