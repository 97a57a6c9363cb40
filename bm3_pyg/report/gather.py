"""Finds runs and sweeps in folders and reads them; what cannot be used is said in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bm3_pyg.errors import RunError
from bm3_pyg.train.run_files import RunFiles, is_finished, is_run, is_sweep, read_error
from bm3_pyg.train.sweep import Outcome, Setting, Sweep, outcomes, read_sweep


@dataclass(frozen=True)
class Run:
    """A finished run: what its folder holds, and the ablation it is part of."""

    folder: Path
    name: str
    """Its place below the folder that was asked for."""
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    corrupt: str | None = None
    label: str = ""

    @property
    def seed(self) -> int:
        return int(self.config["train"]["seed"])

    @property
    def model(self) -> str:
        return str(self.config["model"]["name"])

    @property
    def mask(self) -> str:
        return str(self.config["train"]["mask"])

    @property
    def dataset(self) -> dict[str, Any]:
        return dict(self.config["dataset"])


@dataclass(frozen=True)
class Search:
    """A sweep with its finished runs."""

    name: str
    sweep: Sweep
    outcomes: list[Outcome]
    runs: dict[Setting, list[Run]]

    @property
    def unchanged(self) -> Setting | None:
        """The setting that an ablation sweep changes one thing of; None in other sweeps."""
        settings = self.sweep.settings
        if not all(setting.label for setting in settings):
            return None
        return next((one for one in settings if not one.settings and one.corrupt is None), None)


@dataclass
class Gathered:
    """Runs that stand alone, sweeps, and what is missing or unusable."""

    runs: list[Run] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def every_run(self) -> list[Run]:
        swept = [run for search in self.searches for runs in search.runs.values() for run in runs]
        return [*self.runs, *swept]


def gather(paths: Sequence[str | Path]) -> Gathered:
    """Everything below ``paths``: run folders, sweep folders, or folders of these at any depth, each once.

    Raises:
        RunError: a path is not there, or none of them holds a finished run.
    """
    found, seen = Gathered(), set[Path]()
    places: list[tuple[Path, Path]] = []
    for path in map(Path, paths):
        if not path.is_dir():
            raise RunError(f"{path}: no such folder, expected a run, a sweep or a folder of them")
        root = path.resolve()
        places += [(folder, root.parent) for folder in _folders(root)]
    for folder, root in sorted(places, key=lambda place: not is_sweep(place[0])):  # a sweep's runs are no others
        if folder in seen:
            continue
        seen.add(folder)
        if is_sweep(folder):
            _add_search(found, folder, root, seen)
        elif is_run(folder):
            _add_run(found, folder, root)
    if not found.every_run():
        reasons = f" ({found.warnings[0]})" if found.warnings else ""
        raise RunError(f"{', '.join(map(str, paths))}: no finished run{reasons}, expected at least one")
    return found


def _folders(folder: Path) -> Iterator[Path]:
    """``folder`` and what is below it, but nothing inside a run or a sweep."""
    yield folder
    if is_sweep(folder) or is_run(folder):
        return
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith(".") and not below.is_symlink():
            yield from _folders(below)


def _add_run(found: Gathered, folder: Path, root: Path) -> None:
    name, error = _name(folder, root), folder.with_name(f"{folder.name}.error")
    if is_finished(folder):
        run = _read(found, folder, root)
        found.runs += [run] if run else []
    elif error.exists():
        found.warnings.append(f"{name} failed and is left out: {_without(root, read_error(error))}")
    else:
        found.warnings.append(f"{name} is not finished and is left out")


def _add_search(found: Gathered, folder: Path, root: Path, seen: set[Path]) -> None:
    try:
        sweep = read_sweep(folder)
        results = outcomes(sweep, folder)
    except RunError as error:
        found.warnings.append(f"{_name(folder, root)}: cannot be read and is left out ({_without(root, str(error))})")
        return
    runs: dict[Setting, list[Run]] = {}
    for outcome in results:
        which = f"{_name(folder, root)}: {outcome.setting}, seed {outcome.seed}"
        if outcome.finished:
            run = _read(found, outcome.folder, root, outcome.setting)
            runs.setdefault(outcome.setting, []).extend([run] if run else [])
        elif outcome.error:
            found.warnings.append(f"{which} failed and is left out: {_without(root, outcome.error)}")
        else:
            found.warnings.append(f"{which} is not finished and is left out")
        seen.add(outcome.folder)
    found.searches.append(Search(_name(folder, root), sweep, results, runs))


def _read(found: Gathered, folder: Path, root: Path, setting: Setting | None = None) -> Run | None:
    try:
        result = RunFiles(folder).result()
    except RunError as error:
        found.warnings.append(f"{_name(folder, root)} cannot be used and is left out ({_without(root, str(error))})")
        return None
    corrupt = setting.corrupt if setting else (result.config["dataset"]["source"] or {}).get("corrupt")
    label = setting.label if setting else ""
    return Run(
        folder,
        _name(folder, root),
        result.config,
        result.environment,
        result.metrics,
        result.history,
        corrupt,
        label,
    )


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _without(root: Path, text: str) -> str:
    """``text`` on one line, without the path of this machine."""
    return " ".join(text.replace(f"{root.as_posix().rstrip('/')}/", "").split())
