"""What one needs to repeat runs: their environment, merged, and the commands."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bm3_pyg.data.load import READ_ONCE
from bm3_pyg.data.planted import PLANTED
from bm3_pyg.errors import ConfigError
from bm3_pyg.escape import shell
from bm3_pyg.study.grid import PUBLISHED, ablations, grid
from bm3_pyg.study.rows import other_than_default
from bm3_pyg.study.runs import Group, Run, Search
from bm3_pyg.study.sweep import Sweep

OPTIONS = {
    "user": "--user-column",
    "item": "--item-column",
    "time": "--time-column",
    "rating": "--rating-column",
    "label": "--label-column",
    "id_column": "--id-column",
    "columns": "--columns",
    "split": "--split",
    "seed": "--split-seed",
    "core": "--core",
    "corrupt": "--corrupt",
}
"""Of the command line, for arguments of :func:`bm3_pyg.data.load_dataset` that are no files."""


NOT_COMPARED = ("packages", "command", "data", "resumed", "after_epoch")


def environment_of(runs: Sequence[Run], warnings: list[str]) -> dict[str, Any]:
    """What the runs' environment.json say together; where they differ, all values, which is added to ``warnings``."""
    sessions = [one for run in runs for one in (run.environment, *run.environment.get("resumed", []))]
    found = [{**one, **one.get("packages", {})} for one in sessions]
    packages = {name for one in sessions for name in one.get("packages", {})}
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in found for key in one if key not in NOT_COMPARED):
        values = list(dict.fromkeys(one.get(key) or "unknown" for one in found))
        if len(values) > 1:
            shown = ", ".join(_short(value) for value in values)
            warnings.append(f"runs differ in {key}: {shown}; figures and times may differ for that")
        (merged.setdefault("packages", {}) if key in packages else merged)[key] = values if values[1:] else values[0]
    return merged


def commands_of(searches: Sequence[Search], groups: Sequence[Group]) -> list[str]:
    """``bm3 sweep`` for each sweep that a grid or preset can say, ``bm3 train`` for each other run."""
    lines = {}
    for search in searches:
        runs = [run for runs in search.runs.values() for run in runs]
        if runs and (rest := _sweep_options(search.sweep)) is not None:
            name = runs[0].dataset["name"]
            line = ["bm3", "sweep", *_source(search.sweep.source, name), "--out", f"runs/{Path(search.name).name}"]
            lines.update(dict.fromkeys((run.folder for run in runs), _command([*line, *rest])))
    single = {run.folder: train_command(run) for group in groups for run in group.runs if run.folder not in lines}
    return list(dict.fromkeys([*lines.values(), *single.values()]))


def train_command(run: Run) -> str:
    """The command that repeats one run in the folder where its dataset lies."""
    settings = [text for text in other_than_default(run) if not text.startswith("features=")]
    settings += [] if run.mask == "train" else [f"mask={run.mask}"]
    name = run.dataset["name"]
    source = dict(run.dataset["source"] or {"source": name})
    source.update({} if run.corrupt is None else {"corrupt": run.corrupt})
    line = ["bm3", "train", *_source(source, name), "--model", run.model]
    return _command([*line, *(["--set", *settings] if settings else []), "--seed", str(run.seed)])


def _source(source: Mapping[str, Any], name: str) -> list[str]:
    """The dataset and how it was read; its files as they stand to the folder that it is in."""
    where = str(source.get("source") or name)
    planted = where in PLANTED
    folder = os.path.dirname(where)

    def beside(file: str) -> str:
        return os.path.relpath(file, folder) if os.path.isabs(file) and os.path.isabs(folder) else file

    once = where == READ_ONCE.format(name)
    parts = [where if planted else "-" if once else _plain(os.path.basename(where))]
    for key, option in OPTIONS.items():
        if source.get(key) is not None:
            value = source[key]
            parts += [option, ",".join(value) if isinstance(value, list) else str(value)]
    if source.get("features"):
        parts += ["--features", *(f"{key}={beside(file)}" for key, file in source["features"].items())]
    if source.get("items"):
        parts += ["--items", _plain(beside(source["items"]))]
    return parts


def _plain(name: str) -> str:
    """A file's name that is taken for no option and no planted dataset."""
    return f"./{name}" if name.startswith("-") or name in PLANTED else name


def _command(parts: Sequence[str]) -> str:
    return " ".join(map(shell, parts))


def _sweep_options(sweep: Sweep) -> list[str] | None:
    """``--preset`` or ``--models`` and ``--grid``, with seeds and settings; None where they cannot say the sweep."""
    if sweep.seeds != tuple(range(len(sweep.seeds))):
        return None
    rest = ["--seeds", str(len(sweep.seeds)), *(["--set", *sweep.fixed] if sweep.fixed else [])]
    if sweep.settings == grid(["bm3"], PUBLISHED):
        return ["--preset", "published", *rest]
    models = list(dict.fromkeys(setting.model for setting in sweep.settings))
    if sweep.settings[0].label:
        removed = [one.label.removeprefix("without ") for one in sweep.settings if "modalities=[" in str(one.settings)]
        names = [name for name in removed if name != "any feature"]
        same = {one.name for one in ablations(names)} == {one.name for one in sweep.settings}
        return ["--preset", "ablation", *rest] if same else None
    axes: dict[str, dict[str, None]] = {}
    for setting in sweep.settings:
        for text in setting.settings:
            key, _, value = text.partition("=")
            axes.setdefault(f"{setting.model}.{key}", {})[value] = None
    texts = [f"{key}={','.join(values)}" for key, values in axes.items()]
    try:
        said = grid(models, texts) == sweep.settings
    except ConfigError:
        return None
    return ["--models", *models, *(["--grid", *texts] if texts else []), *rest] if said else None


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 40 and text.isalnum() else text
