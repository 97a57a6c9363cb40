"""What one needs to repeat runs: their environment, merged, and the commands."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bm3_pyg.data.load import READ_ONCE
from bm3_pyg.data.planted import PLANTED
from bm3_pyg.escape import shell
from bm3_pyg.study.rows import other_than_default
from bm3_pyg.study.runs import Group, Run, SweptRuns

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


NOT_COMPARED = ("packages", "command", "data", "resumed", "after_epoch", "seconds", "seconds_beside")


def environment_of(runs: Sequence[Run], warnings: list[str]) -> dict[str, Any]:
    """What the runs' environment.json say together; where they differ, all values, which is added to ``warnings``."""
    sessions = [session for run in runs for session in (run.environment, *run.environment.get("resumed", []))]
    flat = [{**session, **session.get("packages", {})} for session in sessions]
    packages = {name for session in sessions for name in session.get("packages", {})}
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for session in flat for key in session if key not in NOT_COMPARED):
        values = list(dict.fromkeys(session.get(key) or "unknown" for session in flat))
        if len(values) > 1:
            shown = ", ".join(_short(value) for value in values)
            warnings.append(f"runs differ in {key}: {shown}; figures and times may differ for that")
        (merged.setdefault("packages", {}) if key in packages else merged)[key] = values if values[1:] else values[0]
    return merged


def commands_of(sweeps: Sequence[SweptRuns], groups: Sequence[Group]) -> list[str]:
    """``bm3 sweep`` for each sweep that knows what it was asked for, ``bm3 train`` for the other runs of ``groups``.

    A comment stands for a sweep that was not asked for by a command, or that is older than the record of it.
    """
    lines: list[str] = []
    swept: set[Path] = set()
    for sweep in sweeps:
        if sweep.sweep.arguments:
            lines.append(_sweep_command(sweep))
            swept |= {run.folder for run in sweep.runs}
        else:
            name = shell(Path(sweep.name).name)
            lines.append(f"# the command of the sweep {name} is not on record; those of its runs shown here are below")
    single = [train_command(run) for group in groups for run in group.runs if run.folder not in swept]
    return list(dict.fromkeys([*lines, *single]))


def _sweep_command(swept: SweptRuns) -> str:
    """The command that a sweep was asked for by, in the folder where its dataset lies."""
    sweep = swept.sweep
    name = str(swept.runs[0].dataset["name"])
    line = ["bm3", "sweep", *_source(sweep.source, name), "--out", f"runs/{Path(swept.name).name}"]
    return _command([*line, *(part for option, values in sweep.arguments.items() for part in (option, *values))])


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


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 40 and text.isalnum() else text
