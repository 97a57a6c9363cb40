"""A :class:`~bm3_pyg.study.content.Report` as chapters of words, tables and plots, which every format shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

from bm3_pyg.study import plots
from bm3_pyg.study.blocks import Block, Cell, Chapter, Commands, Document, Part, Plot, Table, Words, number
from bm3_pyg.study.card import card_facts, card_files, card_splits
from bm3_pyg.study.content import Curve, Report, Row, Section, metric_title
from bm3_pyg.study.figures import published, results, significance, spread_cell, spread_text, tested, tested_headers
from bm3_pyg.study.plots import SERIES

SELECTION = "recall@20"


def document(report: Report) -> Document:
    """Everything that the report says; chapters that would be empty are left out."""
    report = report.printable()
    several = len(report.sections) > 1
    names = _names(report.sections)
    warnings = [
        f"{name}: {warning}" if several else warning
        for name, section in zip(names, report.sections, strict=True)
        for warning in section.warnings
    ]
    return Document(
        report.title,
        tuple(_lead(name, section) for name, section in zip(names, report.sections, strict=True)),
        (*report.warnings, *warnings),
        tuple(Part(name, _chapters(section)) for name, section in zip(names, report.sections, strict=True)),
    )


def _names(sections: Sequence[Section]) -> list[str]:
    """The sections' datasets, told apart where they have one name."""
    names = [str(section.dataset.get("name") or "dataset") for section in sections]
    return [
        name
        if names.count(name) == 1
        else f"{name}, section {place} ({str(section.dataset.get('fingerprint', ''))[:8] or 'unknown fingerprint'})"
        for place, (name, section) in enumerate(zip(names, sections, strict=True), 1)
    ]


def _lead(name: str, section: Section) -> str:
    """What was compared and what came out, in two sentences."""
    counts = [f"{section.dataset[key]:,} {key}" for key in ("users", "items", "interactions") if key in section.dataset]
    size = f" ({', '.join(counts)})" if counts else ""
    seeds = sorted({len(row.seeds) for row in section.rows})
    over = f" over {'–'.join(map(str, sorted({seeds[0], seeds[-1]})))} seed{'s' * (seeds[-1] > 1)}" if seeds else ""
    labels = [row.label for row in section.rows]
    if len(labels) > 4:
        labels = [f"{len(labels)} rows of {', '.join(dict.fromkeys(row.model for row in section.rows))}"]
    first = f"{', '.join(labels) or 'No finished model'} on {name}{size}{over}."
    ranked = [row for row in section.rows if SELECTION in row.test]
    if not ranked:
        return first
    best = max(ranked, key=lambda row: row.test[SELECTION].mean)
    figure = spread_text(best.test[SELECTION])
    if len(ranked) == 1:
        return f"{first} Test Recall@20: {figure}."
    compared = [one for one in section.comparisons if one.metric == SELECTION and best.label in (one.first, one.second)]
    told = sum(one.corrected_p < section.level for one in compared)
    others = f"{told} of the {len(ranked) - 1} others" if len(ranked) > 2 else "the other" if told else "none"
    tested = f"; the paired test over users tells it from {others}" if compared else ""
    return f"{first} The highest test Recall@20 is that of {best.label}, {figure}{tested}."


def _chapters(section: Section) -> tuple[Chapter, ...]:
    chapters: dict[str, list[Block]] = {
        "Results": results(section),
        "Published figures": published(section),
        "Significance": significance(section),
        "Protocol": _protocol(section),
        "Dataset": _dataset(section.dataset),
        "Strata": _strata(section),
        "Ablations": _ablations(section),
        "Validation": _validation(section.curves),
        "Losses": _losses(section.curves),
        "Beyond accuracy": _beyond(section),
        "Time and memory": _costs(section.rows),
        "Search": _search(section),
        "Environment": _environment(section.environment),
        "Commands": _commands(section),
        "Files": _files(section.dataset),
    }
    return tuple(Chapter(name, tuple(blocks)) for name, blocks in chapters.items() if blocks)


def _dataset(card: dict[str, Any]) -> list[Block]:
    facts = tuple((Cell(name), Cell(value)) for name, value in card_facts(card))
    notes = tuple(map(str, card.get("notes", ())))
    found: list[Block] = [Table("Card", ("", ""), facts, notes)] if facts else []
    if splits := card_splits(card):
        rows = tuple((Cell(name), *(number(count, 0) for count in counts)) for name, counts in splits)
        found.append(Table("Splits", ("split", "interactions", "users", "items", "repeated"), rows))
    return found


def _files(card: dict[str, Any]) -> list[Block]:
    rows = tuple((Cell(name), Cell(value)) for name, value in card_files(card))
    return [Table("What the dataset was made from", ("", ""), rows)] if rows else []


def _commands(section: Section) -> list[Block]:
    where = "To repeat the runs, where the dataset's files lie:"
    return [Words((where,)), Commands(section.commands)] if section.commands else []


def _protocol(section: Section) -> list[Block]:
    found: list[Block] = [Words(section.protocol, listed=True)] if section.protocol else []
    rows = tuple((Cell(row.label), Cell(row.settings or "none")) for row in section.rows)
    if rows:
        found.append(Table("Settings other than the models' defaults", ("model", "settings"), rows))
    return found


def _strata(section: Section) -> list[Block]:
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in section.strata:
        groups.setdefault((one.group, one.metric), []).append(one)
    found: list[Block] = []
    if section.strata:
        models = len({label for one in section.strata for label in one.values})
        caption = (
            "Recall and NDCG are means over the users of a stratum (n users). Hit is the share of the test positives "
            "(n, by item) that stand in their user's list."
        )
        caption += f" Of {models} models the {len(SERIES)} highest are drawn." if models > len(SERIES) else ""
        found.append(Plot(caption, partial(plots.strata_bars, plots.strata_panels(section.strata))))
    for (group, metric), strata in groups.items():
        labels = list(dict.fromkeys(label for one in strata for label in one.values))
        rows = tuple((Cell(label), *(number(one.values.get(label)) for one in strata)) for label in labels)
        headers = ("model", *(f"{one.name} (n\u00a0=\u00a0{one.count:,})" for one in strata))
        kind = "of cold items" if group == "cold" else f"by {group}"
        found.append(Table(f"{metric_title(metric)} {kind}", headers, rows))
    return found


def _ablations(section: Section) -> list[Block]:
    found: list[Block] = [Words((section.ablation_words,))] if section.ablation_words else []
    if not section.ablations:
        return found
    against = ", ".join(dict.fromkeys(one.comparison.second for one in section.ablations))
    metric = section.ablations[0].comparison.metric
    caption = (
        f"{metric_title(metric)} of the changed model minus that of {against}, with its 95% interval over users. "
        f"Filled: told from zero (corrected p below {section.level:g}); half: over users, but not over seeds."
    )
    found.append(Plot(caption, partial(plots.forest, section.ablations, section.level)))
    seeds = any(one.comparison.seeds_p is not None for one in section.ablations)
    rows = tuple(
        (
            Cell(one.label),
            Cell(str(len(one.seeds)) if one.seeds else "", len(one.seeds) or None),
            spread_cell(one.test.get(one.comparison.metric)),
            *tested(one.comparison, seeds),
        )
        for one in section.ablations
    )
    headers = ("change", "seeds", metric_title(metric), *tested_headers(seeds))
    found.append(Table(f"Changes, against {against}", headers, rows))
    found.append(Words(tuple(one.words for one in section.ablations if one.words), listed=True))
    return found


def _validation(curves: Sequence[Curve]) -> list[Block]:
    curves = [curve for curve in curves if curve.epochs]
    if not curves:
        return []
    rows = tuple(
        (
            Cell(curve.label),
            number(curve.seed, 0),
            number(curve.selected, 0),
            number(max(curve.epochs), 0),
            number(dict(zip(curve.epochs, curve.validation, strict=True)).get(curve.selected)),
        )
        for curve in curves
    )
    headers = ("model", "seed", "selected epoch", "last epoch", "validation Recall@20 there")
    caption = "Validation Recall@20; a line a seed, the dot marks the selected epoch."
    return [Plot(caption, partial(plots.validation_curves, curves)), Table("Selected epochs", headers, rows)]


def _losses(curves: Sequence[Curve]) -> list[Block]:
    curves = [curve for curve in curves if curve.losses]
    if not curves:
        return []
    names = list(dict.fromkeys(name for curve in curves for name in curve.losses))
    by_label: dict[str, list[Curve]] = {}
    for curve in curves:
        by_label.setdefault(curve.label, []).append(curve)
    rows = []
    for label, ones in by_label.items():
        found = [
            [values[one.selected - 1] for one in ones if 0 < one.selected <= len(values := one.losses.get(name, ()))]
            for name in names
        ]
        rows.append((Cell(label), *(number(fmean(values) if values else None) for values in found)))
    caption = (
        "Training losses, mean of each epoch; a line a seed. Components are unweighted; the total is what is minimised."
    )
    table = Table("At the selected epoch, mean over seeds", ("model", *names), tuple(rows))
    return [Plot(caption, partial(plots.loss_curves, curves)), table]


def _beyond(section: Section) -> list[Block]:
    names = list(dict.fromkeys(name for values in section.beyond.values() for name in values))
    rows = tuple(
        (Cell(label), *(number(values.get(name)) for name in names)) for label, values in section.beyond.items()
    )
    headers = ("model", *(metric_title(name).replace("_", " ") for name in names))
    notes = (
        "Coverage: share of all items that any list contains. Average popularity: mean training interactions of listed "
        "items. Personalization: one minus the share of items that two users' lists have in common.",
    )
    return [Table("Lists of recommendations", headers, rows, notes)] if names else []


def _costs(rows: Sequence[Row]) -> list[Block]:
    body = tuple(
        (
            Cell(row.label),
            Cell(", ".join(map(str, row.epochs)), fmean(row.epochs) if row.epochs else None),
            number(row.train_seconds, 1),
            number(row.epoch_seconds, 3),
            number(row.eval_seconds, 3),
            number(row.memory_mb, 0),
        )
        for row in rows
        if any(one is not None for one in (row.train_seconds, row.epoch_seconds, row.eval_seconds, row.memory_mb))
    )
    headers = ("model", "selected epochs", "training, s", "an epoch, s", "an evaluation, s", "peak memory, MB")
    return (
        [Table("Costs of a run", headers, body, ("Times are means over seeds, memory is the largest.",))]
        if body
        else []
    )


def _search(section: Section) -> list[Block]:
    found: list[Block] = [Words(section.searches, listed=True)] if section.searches else []
    rows = tuple(
        (
            Cell(str(row["setting"]), bold=bool(row.get("selected"))),
            Cell(str(len(row["seeds"])), len(row["seeds"])),
            spread_cell(row.get("val")),
            Cell("selected" if row.get("selected") else ""),
        )
        for row in section.search_rows
    )
    if rows:
        found.append(Table("Every setting tried", ("setting", "seeds", "validation Recall@20", ""), rows))
    return found


def _environment(environment: dict[str, Any]) -> list[Block]:
    flat: dict[str, Any] = {}
    for key, value in environment.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    rows = tuple(
        (Cell(key), Cell(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
        for key, value in flat.items()
    )
    return [Table("Where the runs were made", ("", ""), rows)] if rows else []
