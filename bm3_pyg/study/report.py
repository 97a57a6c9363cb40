"""From run folders to a :class:`~bm3_pyg.study.content.Report`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from bm3_pyg.data import describe, same_fingerprint
from bm3_pyg.eval import ranking_task
from bm3_pyg.names import SELECTION
from bm3_pyg.study.ablation import sweep_ablations
from bm3_pyg.study.content import Report, Section
from bm3_pyg.study.published import published_for
from bm3_pyg.study.repeat import commands_of, environment_of
from bm3_pyg.study.rows import curves, grouped, model_title, row_of, spread
from bm3_pyg.study.runs import Evaluations, Gathered, Group, Run, SweptRuns, gather
from bm3_pyg.study.selection import select
from bm3_pyg.study.stats import LEVEL, all_strata, beyond, with_best

Key = tuple[str, str]
"""Of a section: the dataset's fingerprint and the mask."""


def build_report(
    paths: Sequence[str | Path] | Gathered, *, title: str | None = None, data: HeteroData | None = None
) -> Report:
    """Read every run below ``paths`` and say what they say together.

    Runs on one dataset under one protocol make a section; those that differ in nothing but the seed make a row. Of a
    sweep only the selected settings have test figures here, of an ablation sweep the unchanged model is a row and the
    others stand beside it. Runs that lack their per-user values get them, for which their dataset is loaded.

    Args:
        paths: run folders, sweep folders, or folders of these, or what :func:`~bm3_pyg.study.runs.gather` gave.
        title: of the report.
        data: the dataset of the runs, where it is not to be loaded from where it was.

    Raises:
        RunError: a path is not there, or there is no finished run.
        ConfigError: SciPy is not installed.
    """
    gathered = paths if isinstance(paths, Gathered) else gather(paths)
    keys = _section_keys(gathered.every_run())
    sections = [_section(gathered, keys, key, data) for key in dict.fromkeys(keys.values())]
    names = list(dict.fromkeys(str(section.dataset["name"]) for section in sections))
    return Report(
        title or f"Recommendation on {', '.join(names)}", tuple(sections), tuple(_warnings(gathered, keys, names))
    )


def _section_keys(runs: Sequence[Run]) -> dict[Path, Key]:
    """The section of each run by its folder; one with spoilt features goes with the dataset they were spoilt in."""
    prints = list(dict.fromkeys(run.dataset["fingerprint"] for run in runs))
    known = {short: max((full for full in prints if same_fingerprint(short, full)), key=len) for short in prints}
    own = {run.folder: known[run.dataset["fingerprint"]] for run in runs}
    sound = {_files(run): own[run.folder] for run in reversed(runs) if run.corrupt is None}
    return {
        run.folder: (own[run.folder] if run.corrupt is None else sound.get(_files(run), own[run.folder]), run.mask)
        for run in runs
    }


def _files(run: Run) -> str:
    """What a run's dataset was made from, but for what was done to its features."""
    source = {key: value for key, value in (run.dataset["source"] or {}).items() if key != "corrupt"}
    return json.dumps([source, run.environment.get("data", {}).get("files", {})], sort_keys=True)


def _warnings(gathered: Gathered, keys: dict[Path, Key], names: Sequence[str]) -> list[str]:
    """What a reader must know first."""
    warnings = list(gathered.warnings)
    datasets, masks = {key[0] for key in keys.values()}, {key[1] for key in keys.values()}
    if len(datasets) > 1:
        same = "" if len(names) == len(datasets) else " (some under one name)"
        warnings.append(
            f"the runs are on {len(datasets)} datasets: {', '.join(names)}{same}; each has its own section, and "
            "nothing is averaged or compared across them"
        )
    if len(masks) > 1:
        warnings.append(
            f"the runs follow {len(masks)} protocols (mask {', '.join(sorted(masks))}); each has its own section, and "
            "nothing is averaged or compared across them"
        )
    return warnings


def _section(gathered: Gathered, keys: dict[Path, Key], key: Key, data: HeteroData | None) -> Section:
    warnings: list[str] = []
    runs = [run for run in gathered.every_run() if keys[run.folder] == key]
    alone = [run for run in gathered.runs if run in runs]
    sweeps = [sweep for sweep in gathered.sweeps if any(run in runs for run in sweep.runs)]
    shown = [run for run in [*alone, *_chosen(sweeps, warnings)] if run in runs]
    groups = grouped(shown, warnings)
    _warn_of_seeds(groups, warnings)
    _warn_of_choice(alone, warnings)
    evaluations = Evaluations(data, warnings)
    dataset = next((evaluations.dataset(run) for run in runs if run.corrupt is None), None)
    card = _card(runs[0]) if dataset is None else {**describe(dataset), "name": runs[0].dataset["name"]}
    rows, comparisons = with_best([row_of(group) for group in groups], groups, evaluations)
    ablations, words = sweep_ablations(sweeps, groups, evaluations)
    return Section(
        dataset=card,
        protocol=tuple(_protocol(runs, sweeps, dataset, len(comparisons), len(ablations))),
        rows=tuple(rows),
        published=published_for(card, warnings),
        comparisons=tuple(comparisons),
        level=LEVEL,
        beyond=beyond(groups, evaluations),
        strata=tuple(all_strata(groups, evaluations)),
        ablations=ablations,
        ablation_words=words,
        curves=tuple(curve for group in groups for curve in curves(group)),
        searches=tuple(_budgets(sweeps, warnings)),
        search_rows=tuple(row for sweep in sweeps for row in _tried(sweep)),
        environment=environment_of(runs, warnings),
        commands=tuple(commands_of(sweeps, groups)),
        warnings=tuple(warnings),
    )


def _chosen(sweeps: Sequence[SweptRuns], warnings: list[str]) -> list[Run]:
    """The runs of sweeps that make rows: those of selected settings, and of ablations the unchanged ones."""
    chosen: list[Run] = []
    for swept in sweeps:
        if swept.unchanged is not None:
            chosen += swept.by_setting.get(swept.unchanged, [])
            continue
        selected = select(swept.outcomes)
        chosen += [run for setting in selected.values() for run in swept.by_setting.get(setting, [])]
        warnings += [
            f"{swept.name}: no setting of {model} has all its seeds, so none is selected"
            for model in dict.fromkeys(setting.model for setting in swept.sweep.settings)
            if model not in selected
        ]
    return chosen


def _card(run: Run) -> dict[str, Any]:
    """What a run knows of its dataset."""
    return {
        "name": run.dataset["name"],
        "modalities": {name: {"dim": dim} for name, dim in run.dataset["modalities"].items()},
        "files": run.environment.get("data", {}).get("files", {}),
        "fingerprint": run.dataset["fingerprint"],
    }


def _warn_of_seeds(groups: Sequence[Group], warnings: list[str]) -> None:
    groups = [group for group in groups if not group.determined]
    seeds = {seed for group in groups for seed in group.seeds}
    for group in groups:
        if missing := sorted(seeds - set(group.seeds)):
            warnings.append(f"{group.label} has no seed {', '.join(map(str, missing))}, which others have")
    if single := [group.label for group in groups if len(group.seeds) == 1]:
        warnings.append(f"one seed only, so how much figures vary with it is not known: {', '.join(single)}")


def _warn_of_choice(alone: Sequence[Run], warnings: list[str]) -> None:
    """Several settings of a model with their test figures invite a choice that must not be made there."""
    groups = grouped(alone, [])
    for model in dict.fromkeys(group.runs[0].model for group in groups):
        if (count := sum(group.runs[0].model == model for group in groups)) > 1:
            warnings.append(
                f"{count} settings of {model_title(model)} stand side by side with their test figures; to take the "
                "best of them by these would be to select on test"
            )


def _protocol(
    runs: Sequence[Run], sweeps: Sequence[SweptRuns], data: HeteroData | None, comparisons: int, ablations: int
) -> list[str]:
    mask = runs[0].mask
    hidden = "training items" if mask == "train" else "training and validation items"
    sentences = [f"Full ranking: all items are ranked for each user; the user's {hidden} are masked (mask={mask})."]
    if data is not None and any(run.metrics["test"] for run in runs):
        task = ranking_task(data, "test", mask)
        left = f"; {task.dropped:,} without training interactions are left out" if task.dropped else ""
        sentences.append(f"Metrics are means over the {len(task.users):,} users with test interactions{left}.")
    sentences.append(
        "Each run keeps the epoch with the highest validation Recall@20 and is tested once, with the weights of that "
        "epoch. Nothing is rounded before it is compared or averaged."
    )
    if any(swept.unchanged is None for swept in sweeps):
        sentences.append(
            "Settings are selected by mean validation Recall@20 over seeds; the others' test figures are not shown."
        )
    sentences.append("Figures are means over seeds, with the sample standard deviation.")
    if comparisons or ablations:
        families = [f"{comparisons} comparisons with the best row"] * bool(comparisons)
        families += [f"{ablations} ablations"] * bool(ablations)
        sentences.append(
            "Significance: paired t-test over users of the values averaged over common seeds, p corrected by Benjamini "
            f"and Hochberg's method for the {' and, apart, the '.join(families)}, level {LEVEL:g}; effects are Cohen's "
            "d. It tells these trained models apart; whether new trainings would differ is Welch's t-test over seeds."
        )
    return sentences


def _budgets(sweeps: Sequence[SweptRuns], warnings: list[str]) -> list[str]:
    lines = []
    tried: dict[str, int] = {}
    for swept in sweeps:
        seeds = len(swept.sweep.seeds)
        settings = swept.sweep.settings
        if swept.unchanged is not None:
            lines.append(
                f"{swept.name}: {len(settings) - 1} changes to {swept.unchanged} x {seeds} seeds, none selected"
            )
            continue
        for model in dict.fromkeys(setting.model for setting in settings):
            count = sum(setting.model == model for setting in settings)
            tried[model] = tried.get(model, 0) + count
            chosen = "selected on validation Recall@20" if count > 1 else "nothing to select"
            lines.append(f"{model}: {count} setting{'s' * (count > 1)} x {seeds} seed{'s' * (seeds > 1)}, {chosen}")
    if len(set(tried.values())) > 1:
        counts = ", ".join(f"{model} {count}" for model, count in tried.items())
        warnings.append(f"unequal tuning: settings tried are {counts}")
    return lines


def _tried(swept: SweptRuns) -> list[dict[str, Any]]:
    if swept.unchanged is not None:
        return []
    selected = select(swept.outcomes).values()
    rows = []
    for setting in swept.sweep.settings:
        runs = [run for run in swept.by_setting.get(setting, []) if SELECTION in run.metrics["val"]]
        rows.append(
            {
                "setting": str(setting),
                "seeds": [run.seed for run in runs],
                "val": spread([run.metrics["val"][SELECTION] for run in runs]) if runs else None,
                "selected": setting in selected,
            }
        )
    return rows
