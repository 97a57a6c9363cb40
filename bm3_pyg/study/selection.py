"""What the runs of a sweep came to: read from their folders, the setting of each model that it selects, its table."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bm3_pyg.errors import RunError
from bm3_pyg.escape import markdown
from bm3_pyg.files import write_text
from bm3_pyg.names import SELECTION
from bm3_pyg.study.content import HEADLINE, metric_title
from bm3_pyg.study.search import Setting, Sweep
from bm3_pyg.train.plain import read_bytes
from bm3_pyg.train.run_files import Result, RunFiles, is_finished

PROTOCOLS = {
    "strict": "Selected on validation Recall@20 (mean over seeds); test figures of the selected settings only.",
    "mmrec": (
        "COMMON PRACTICE, NOT OURS (--protocol mmrec): selected on test Recall@20, each run's figures rounded to four "
        "decimals before they are compared and averaged, as in MMRec's and the authors' code. The test figures are "
        "optimistic: they were looked at for the choice."
    ),
}
"""How a setting is selected, in words."""


@dataclass
class Outcome:
    """What a run of a sweep came to: its metrics, an error, or neither yet."""

    setting: Setting
    seed: int
    folder: Path
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    result: Result | None = field(default=None, compare=False, repr=False)
    """All that the run says of itself, where it had to be read for the metrics: of a run without seal."""

    @property
    def finished(self) -> bool:
        return bool(self.val or self.test)


def outcomes(sweep: Sweep, out: Path) -> list[Outcome]:
    """What is known of every run, in the order of settings and seeds."""
    return [outcome_of(sweep, out, setting, seed) for setting in sweep.settings for seed in sweep.seeds]


def outcome_of(sweep: Sweep, out: Path, setting: Setting, seed: int) -> Outcome:
    """What is known of one run."""
    folder = sweep.folder(out, setting, seed)
    outcome = Outcome(setting, seed, folder)
    if is_finished(folder):
        files = RunFiles(folder)
        try:
            outcome.result = files.result() if files.sealed is None else None
            metrics = files.metrics() if outcome.result is None else outcome.result.metrics
        except RunError as error:
            outcome.error = f"{error}; remove {folder} to have it run again"
        else:
            outcome.val, outcome.test = metrics["val"], metrics["test"]
            if not outcome.finished:
                outcome.error = "the dataset has no validation and no test interactions: nothing to select by"
    elif os.path.lexists(error_file(folder)):
        outcome.error = read_error(error_file(folder))
    return outcome


def error_file(folder: Path) -> Path:
    """Where a run that failed leaves the reason, beside its folder."""
    return folder.with_name(f"{folder.name}.error")


def read_error(path: Path) -> str:
    """The reason in an :func:`error_file`, on one line; what can be read of it."""
    try:
        words = read_bytes(path, 1 << 20).decode("utf-8", errors="replace")
    except RunError as error:
        return str(error)
    return " ".join(words.split())[:1000] or "no reason is told"


def select(outcomes: Sequence[Outcome], protocol: str = "strict") -> dict[str, Setting]:
    """The best setting of each model, among those of which every seed is finished.

    ``strict`` compares the mean validation Recall@20 over seeds, ``mmrec`` the mean test Recall@20 of rounded values.
    """
    chosen: dict[str, Setting] = {}
    best: dict[str, float] = {}
    for setting, runs in _by_setting(outcomes).items():
        if not all(run.val and run.test for run in runs):
            continue
        value = statistics.fmean(_values(runs, "val" if protocol == "strict" else "test", SELECTION, protocol))
        if setting.model not in best or value > best[setting.model]:
            best[setting.model], chosen[setting.model] = value, setting
    return chosen


def sweep_table(outcomes: Sequence[Outcome], protocol: str = "strict", *, written: Callable[[str], str] = str) -> str:
    """Every setting with its validation Recall@20, and the test figures that the protocol lets one see.

    It is Markdown, given :func:`bm3_pyg.escape.markdown` as ``written`` for the names of settings and what errors say.
    """
    chosen = select(outcomes, protocol)
    by_setting = _by_setting(outcomes)
    rows = []
    for setting, runs in by_setting.items():
        done = [run for run in runs if run.val]
        seeds = f"{len(done)} of {len(runs)}" if len(done) < len(runs) else str(len(runs))
        selected = chosen.get(setting.model) == setting
        shown = done if selected or protocol == "mmrec" else []
        test = [_spread(_values(shown, "test", metric, protocol)) for metric in HEADLINE]
        bold = "**" * selected
        rows.append([f"{bold}{written(str(setting))}{bold}", seeds, _spread(_values(done, "val", SELECTION, protocol))])
        rows[-1] += test
    rows.sort(key=lambda row: row[2], reverse=True)
    headers = ["setting", "seeds", "val Recall@20", *(f"test {metric_title(metric)}" for metric in HEADLINE)]
    lines = [tabulate(rows, headers, tablefmt="github", disable_numparse=True), "", PROTOCOLS[protocol]]
    searched = [setting.model for setting in by_setting]
    budget = ", ".join(f"{model} {searched.count(model)}" for model in dict.fromkeys(searched))
    lines.append(f"Settings tried: {budget}. Bold: selected. Means and standard deviations over seeds.")
    lines += [written(f"FAILED: {run.setting}, seed {run.seed}: {run.error}") for run in outcomes if run.error]
    return "\n".join(lines)


def results(outcomes: Sequence[Outcome], protocol: str = "strict") -> dict[str, Any]:
    """The same as plain values: every run's validation metrics, and test metrics as far as the protocol shows them."""
    chosen = select(outcomes, protocol)
    return {
        "schema": 1,
        "protocol": {"name": protocol, "words": PROTOCOLS[protocol]},
        "selected": {model: setting.name for model, setting in chosen.items()},
        "runs": [
            {
                "model": run.setting.model,
                "setting": run.setting.name,
                "seed": run.seed,
                "val": run.val,
                "test": run.test if protocol == "mmrec" or chosen.get(run.setting.model) == run.setting else {},
                "error": run.error,
            }
            for run in outcomes
        ],
    }


def write_results(outcomes: Sequence[Outcome], out: Path, protocol: str = "strict") -> None:
    """Write table.md and results.json into the sweep's folder."""
    write_text(out / "table.md", sweep_table(outcomes, protocol, written=markdown) + "\n")
    write_text(out / "results.json", json.dumps(results(outcomes, protocol), indent=2) + "\n")


def _by_setting(outcomes: Sequence[Outcome]) -> dict[Setting, list[Outcome]]:
    runs: dict[Setting, list[Outcome]] = {}
    for outcome in outcomes:
        runs.setdefault(outcome.setting, []).append(outcome)
    return runs


def _values(runs: Sequence[Outcome], split: str, metric: str, protocol: str) -> list[float]:
    values = [figures[metric] for run in runs if metric in (figures := getattr(run, split))]
    return values if protocol == "strict" else [round(value, 4) for value in values]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{statistics.fmean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if values[1:] else "")
