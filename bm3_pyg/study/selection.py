"""A sweep as a table, and which setting of each model it selects."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from bm3_pyg.escape import markdown
from bm3_pyg.files import write_text
from bm3_pyg.study.sweep import Outcome, Setting
from bm3_pyg.study.tables import HEADLINE, title

SELECTION = "recall@20"
PROTOCOLS = {
    "strict": "Selected on validation Recall@20 (mean over seeds); test figures of the selected settings only.",
    "mmrec": (
        "COMMON PRACTICE, NOT OURS (--protocol mmrec): selected on test Recall@20, each run's figures rounded to four "
        "decimals before they are compared and averaged, as in MMRec's and the authors' code. The test figures are "
        "optimistic: they were looked at for the choice."
    ),
}
"""How a setting is selected, in words."""


def select(outcomes: Sequence[Outcome], protocol: str = "strict") -> dict[str, Setting]:
    """The best setting of each model, among those of which every seed is finished.

    ``strict`` compares the mean validation Recall@20 over seeds, ``mmrec`` the mean test Recall@20 of rounded values.
    """
    chosen: dict[str, Setting] = {}
    best: dict[str, float] = {}
    for setting in dict.fromkeys(outcome.setting for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.setting == setting]
        if not all(run.val and run.test for run in runs):
            continue
        value = _mean(runs, "val" if protocol == "strict" else "test", SELECTION, _rounding(protocol))
        if setting.model not in best or value > best[setting.model]:
            best[setting.model], chosen[setting.model] = value, setting
    return chosen


def sweep_table(outcomes: Sequence[Outcome], protocol: str = "strict", *, written: Callable[[str], str] = str) -> str:
    """Every setting with its validation Recall@20, and the test figures that the protocol lets one see.

    It is Markdown, given :func:`bm3_pyg.escape.markdown` as ``written`` for the names of settings and what errors say.
    """
    chosen = select(outcomes, protocol)
    rounding = _rounding(protocol)
    rows = []
    for setting in dict.fromkeys(outcome.setting for outcome in outcomes):
        runs = [outcome for outcome in outcomes if outcome.setting == setting]
        done = [run for run in runs if run.val]
        seeds = f"{len(done)} of {len(runs)}" if len(done) < len(runs) else str(len(runs))
        selected = chosen.get(setting.model) == setting
        shown = (selected or protocol == "mmrec") and bool(done)
        test = [_spread(done, "test", metric, rounding) if shown else "" for metric in HEADLINE]
        val = _spread(done, "val", SELECTION, rounding) if done else ""
        rows.append([f"{'**' * selected}{written(str(setting))}{'**' * selected}", seeds, val, *test])
    rows.sort(key=lambda row: row[2], reverse=True)
    headers = ["setting", "seeds", "val Recall@20", *(f"test {title(metric)}" for metric in HEADLINE)]
    lines = [tabulate(rows, headers, tablefmt="github", disable_numparse=True), "", PROTOCOLS[protocol]]
    searched = [setting.model for setting in dict.fromkeys(outcome.setting for outcome in outcomes)]
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


def _rounding(protocol: str) -> Callable[[float], float]:
    return (lambda value: value) if protocol == "strict" else (lambda value: round(value, 4))


def _values(runs: Sequence[Outcome], split: str, metric: str, rounding: Callable[[float], float]) -> list[float]:
    return [rounding(getattr(run, split)[metric]) for run in runs]


def _mean(runs: Sequence[Outcome], split: str, metric: str, rounding: Callable[[float], float]) -> float:
    return statistics.fmean(_values(runs, split, metric, rounding))


def _spread(runs: Sequence[Outcome], split: str, metric: str, rounding: Callable[[float], float]) -> str:
    values = _values(runs, split, metric, rounding)
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"
