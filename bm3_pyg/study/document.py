"""A :class:`~bm3_pyg.study.content.Report` as chapters of words, tables and plots, which every format shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bm3_pyg.data.summary import facts
from bm3_pyg.names import SELECTION, SPLITS
from bm3_pyg.study import figures
from bm3_pyg.study.blocks import (
    Block,
    Cell,
    Chapter,
    Commands,
    Document,
    Part,
    Words,
    number,
    spread_cell,
    spread_text,
    table,
)
from bm3_pyg.study.content import Report, Row, Section


def document(report: Report) -> Document:
    """Everything that the report says; chapters that would be empty are left out."""
    report = report.printable()
    named = list(zip(_names(report.sections), report.sections, strict=True))
    warnings = [f"{name}: {text}" if named[1:] else text for name, section in named for text in section.warnings]
    return Document(
        report.title,
        tuple(_lead(name, section) for name, section in named),
        (*report.warnings, *warnings),
        tuple(Part(name, _chapters(section)) for name, section in named),
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
    tests = [test for test in section.comparisons if test.metric == SELECTION]
    tests = [test for test in tests if best.label in (test.first, test.second)]
    told = sum(test.corrected_p < section.level for test in tests)
    others = f"{told} of the {len(ranked) - 1} others" if len(ranked) > 2 else "the other" if told else "none"
    tested = f"; the paired test over users tells it from {others}" if tests else ""
    return f"{first} The highest test Recall@20 is that of {best.label}, {figure}{tested}."


def _chapters(section: Section) -> tuple[Chapter, ...]:
    chapters: dict[str, list[Block]] = {
        "Results": figures.results(section),
        "Published figures": figures.published(section),
        "Significance": figures.significance(section),
        "Protocol": _protocol(section),
        "Dataset": _dataset(section.dataset),
        "Strata": figures.strata(section),
        "Ablations": figures.ablations(section),
        "Validation": figures.validation(section.curves),
        "Losses": figures.losses(section.curves),
        "Beyond accuracy": figures.beyond(section),
        "Time and memory": _costs(section.rows),
        "Search": _search(section),
        "Environment": _environment(section.environment),
        "Commands": _commands(section),
        "Files": _files(section.dataset),
    }
    return tuple(Chapter(name, tuple(blocks)) for name, blocks in chapters.items() if blocks)


def _protocol(section: Section) -> list[Block]:
    rows = [(row.label, row.settings or "none") for row in section.rows]
    settings = table("Settings other than the models' defaults", ("model", "settings"), rows)
    return [*_listed(section.protocol), *settings]


def _dataset(card: Mapping[str, Any]) -> list[Block]:
    """The card of :func:`bm3_pyg.data.describe` but for its hashes; of a card that runs kept, what they knew."""
    rows = [("name", str(card["name"]))] if card.get("name") else []
    if "users" in card:
        leaks = ", ".join(f"{count:,} ({where})" for where, count in card["leaks"].items() if count)
        rows += [*facts(card), ("interactions in two splits", leaks or "none")]
    else:
        rows += [(f"feature {name}", f"{kind['dim']:,}-d") for name, kind in card.get("modalities", {}).items()]
    counts = [card.get(key, {}) for key in ("splits", "split_users", "split_items", "duplicates")]
    splits = [(split, *(number(count.get(split), 0) for count in counts)) for split in SPLITS if split in counts[0]]
    return [
        *table("Card", ("", ""), rows, map(str, card.get("notes", ()))),
        *table("Splits", ("split", "interactions", "users", "items", "repeated"), splits),
    ]


def _files(card: Mapping[str, Any]) -> list[Block]:
    """Each file the dataset was made from with its hash, and the dataset's own."""
    rows = [(f"SHA-256 of {name}", str(digest)) for name, digest in card.get("files", {}).items()]
    rows += [("fingerprint", str(card["fingerprint"]))] if card.get("fingerprint") else []
    return table("What the dataset was made from", ("", ""), rows)


def _costs(rows: Sequence[Row]) -> list[Block]:
    costs = [
        (
            row.label,
            Cell(", ".join(map(str, row.epochs)), fmean(row.epochs) if row.epochs else None),
            number(row.train_seconds, 1),
            number(row.epoch_seconds, 3),
            number(row.eval_seconds, 3),
            number(row.memory_mb, 0),
        )
        for row in rows
        if {row.train_seconds, row.epoch_seconds, row.eval_seconds, row.memory_mb} != {None}
    ]
    headers = ("model", "selected epochs", "training, s", "an epoch, s", "an evaluation, s", "peak memory, MB")
    return table("Costs of a run", headers, costs, ["Times are means over seeds, memory is the largest."])


def _search(section: Section) -> list[Block]:
    rows = [
        (
            Cell(str(row["setting"]), bold=bool(row.get("selected"))),
            number(len(row["seeds"]), 0),
            spread_cell(row.get("val")),
            "selected" if row.get("selected") else "",
        )
        for row in section.search_rows
    ]
    tried = table("Every setting tried", ("setting", "seeds", "validation Recall@20", ""), rows)
    return [*_listed(section.searches), *tried]


def _environment(environment: Mapping[str, Any]) -> list[Block]:
    flat: dict[str, Any] = {}
    for key, value in environment.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    rows = [
        (key, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
        for key, value in flat.items()
    ]
    return table("Where the runs were made", ("", ""), rows)


def _commands(section: Section) -> list[Block]:
    where = "To repeat the runs, where the dataset's files lie:"
    return [Words((where,)), Commands(section.commands)] if section.commands else []


def _listed(sentences: tuple[str, ...]) -> list[Block]:
    return [Words(sentences, listed=True)] if sentences else []
