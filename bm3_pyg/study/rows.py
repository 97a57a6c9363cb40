"""Runs of one setting become a row: its label, figures over seeds and costs."""

from __future__ import annotations

import inspect
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from bm3_pyg.models import MODELS
from bm3_pyg.names import SELECTION, as_text, keyword_options
from bm3_pyg.study.content import Curve, Row, Spread
from bm3_pyg.study.runs import Group, Run
from bm3_pyg.train.settings import TrainConfig

NO_SETTING = frozenset({"seed", "mask", "checkpoint_seconds", "save_features"})
"""Parts of a run's configuration that make no other setting: its seed, its section, how often and what it saves."""


def grouped(runs: Iterable[Run], warnings: list[str]) -> list[Group]:
    """One group for each setting, in order of appearance, with labels that differ.

    Of two runs with the same setting and seed the first is used, which is added to ``warnings``.
    """
    by_setting: dict[str, dict[int, Run]] = {}
    for run in runs:
        seeds = by_setting.setdefault(json.dumps([run.model, settings_of(run)], sort_keys=True), {})
        if (first := seeds.setdefault(run.seed, run)) is not run:
            same = "the same" if first.metrics["test"] == run.metrics["test"] else "OTHER"
            warnings.append(
                f"{run.name} repeats {first.name} (setting and seed) with {same} figures; the first is used"
            )
    sets = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in by_setting.values()]
    return [Group(_label(group, sets), group) for group in sets]


def row_of(group: Group) -> Row:
    """The group's figures and costs."""
    runs = group.runs
    return Row(
        label=group.label,
        model=runs[0].model,
        settings=" ".join(other_than_default(runs[0])),
        seeds=group.seeds,
        test=spreads([run.metrics["test"] for run in runs]),
        val=spreads([run.metrics["val"] for run in runs]),
        epochs=tuple(run.metrics["best_epoch"] for run in runs),
        train_seconds=_mean(sum(_all(run, "train_seconds")) for run in runs),
        epoch_seconds=_mean(statistics.median(_all(run, "train_seconds")) for run in runs if run.history),
        eval_seconds=_mean(statistics.median(seconds) for run in runs if (seconds := _all(run, "eval_seconds"))),
        memory_mb=max((value for run in runs for value in _all(run, "peak_memory_mb")), default=None),
    )


def spreads(results: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """Each metric over the seeds' results."""
    common = [metric for metric in results[0] if all(metric in result for result in results)]
    return {metric: spread([result[metric] for result in results]) for metric in common}


def spread(values: Sequence[float]) -> Spread:
    return Spread(
        statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, tuple(map(float, values))
    )


def curves(group: Group) -> list[Curve]:
    """Validation and losses of each run that trained."""
    return [_curve(group.label, run) for run in group.runs if run.history and run.history[0].get("loss")]


def _curve(label: str, run: Run) -> Curve:
    evaluated = [record for record in run.history if record.get("val")]
    return Curve(
        label,
        run.seed,
        tuple(record["epoch"] for record in evaluated),
        tuple(record["val"][SELECTION] for record in evaluated),
        run.metrics["best_epoch"],
        {name: tuple(record["loss"][name] for record in run.history) for name in run.history[0]["loss"]},
    )


def settings_of(run: Run) -> dict[str, Any]:
    """The options of model and training that make the setting, in one; ``features`` says how they were spoilt.

    Options that the run's version did not have yet stand at their defaults.
    """
    training = {key: value for key, value in run.config["train"].items() if key not in NO_SETTING}
    spoilt = {} if run.corrupt is None else {"features": run.corrupt}
    return {**_model_defaults(run.model), **run.config["model"]["options"], **training, **spoilt}


def other_than_default(run: Run) -> list[str]:
    """``KEY=VALUE`` of every setting that is not the default."""
    default = {**_model_defaults(run.model), **asdict(TrainConfig())}
    if set(settings_of(run).get("modalities") or ()) == set(run.dataset["modalities"]):
        default["modalities"] = settings_of(run).get("modalities")  # all that there are
    return [
        f"{key}={written(value)}"
        for key, value in settings_of(run).items()
        if key not in default or default[key] != value
    ]


def written(value: Any) -> str:
    """A value as ``--set`` reads it."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(as_text(value))


def model_title(name: str) -> str:
    """``"lightgcn"`` -> ``"LightGCN"``; a model that is not known here keeps its name."""
    return str(MODELS[name].__name__) if name in MODELS else name


def _model_defaults(name: str) -> dict[str, Any]:
    """Of the models here alone: to read a run is not to import what it names."""
    if name not in MODELS:
        return {}
    options = keyword_options(MODELS[name])
    return {key: default for key, default in options.items() if default is not inspect.Parameter.empty}


def _label(group: tuple[Run, ...], groups: Sequence[tuple[Run, ...]]) -> str:
    """The name of the ablation or model, with the settings in which it differs from others of that name."""
    own, missing = settings_of(group[0]), object()
    others = [settings_of(other[0]) for other in groups if other is not group and _called(other) == _called(group)]
    parts = [
        f"{key}={written(value)}"
        for key, value in own.items()
        if any(other.get(key, missing) != value for other in others)
    ]
    return " ".join([_called(group), *parts])


def _called(group: Sequence[Run]) -> str:
    return next((run.label for run in group if run.label), model_title(group[0].model))


def _all(run: Run, key: str) -> list[float]:
    return [record[key] for record in run.history if key in record]


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.fmean(known) if known else None
