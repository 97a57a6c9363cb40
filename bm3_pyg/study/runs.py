"""Runs and sweeps, found in folders and read; what cannot be used is said in words, what a run lacks is made anew."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from torch_geometric.data import HeteroData

from bm3_pyg.data import fingerprint, load_dataset, same_fingerprint
from bm3_pyg.errors import BM3Error, ConfigError, RunError, WriteError
from bm3_pyg.eval.users import write_user_metrics
from bm3_pyg.files import atomic_file
from bm3_pyg.models import model_named
from bm3_pyg.study.sweep import Outcome, Setting, Sweep, outcomes, read_sweep
from bm3_pyg.train.run import load_run
from bm3_pyg.train.run_files import RunFiles, is_finished, is_run, is_sweep, read_error


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
class Group:
    """The runs of one setting, one a seed, in the order of the seeds."""

    label: str
    runs: tuple[Run, ...]

    @property
    def determined(self) -> bool:
        """Whether the model is counted, not trained, and so the same for every seed."""
        try:
            return not hasattr(model_named(self.runs[0].model), "loss")
        except ConfigError:
            return False

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


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


@dataclass(frozen=True)
class Values:
    """What :func:`bm3_pyg.eval.users.write_user_metrics` keeps of a run."""

    users: pl.DataFrame
    positives: pl.DataFrame
    beyond: dict[str, float]


class Kept:
    """Reads runs' values and datasets, each once; what cannot be had is noted in ``warnings``."""

    def __init__(self, data: HeteroData | None, warnings: list[str]) -> None:
        self.warnings = warnings
        self._datasets: dict[str, HeteroData | None] = {} if data is None else {fingerprint(data): data}
        self._values: dict[Path, Values | None] = {}

    def dataset(self, run: Run) -> HeteroData | None:
        """The dataset that a run was made on, None where it is not to be had."""
        wanted = run.dataset["fingerprint"]
        known = next((one for one in self._datasets if same_fingerprint(one, wanted)), wanted)
        if known not in self._datasets:
            self._datasets[known] = self._load(run)
        return self._datasets[known]

    def values(self, run: Run) -> Values | None:
        """The values of a run, None where they are not to be had."""
        if run.folder not in self._values:
            self._values[run.folder] = self._read_or_make(run)
        return self._values[run.folder]

    def users(self, group: Group, seeds: Sequence[int]) -> pl.DataFrame | None:
        """Values of the users of a group [n rows], mean over its runs of these seeds, in the order of the users."""
        found = [self.values(run) for run in group.runs if run.seed in seeds]
        tables = [values.users for values in found if values is not None]
        if not tables or len(tables) < len(found):
            return None
        return pl.concat(tables).group_by("user").mean().sort("user")

    def positives(self, group: Group) -> pl.DataFrame | None:
        """Likewise of the positives of all its runs; ``hit`` is the share of seeds that hit."""
        found = [values for run in group.runs if (values := self.values(run)) is not None]
        if not found or len(found) < len(group.runs):
            return None
        tables = pl.concat([values.positives.with_columns(pl.col("hit").cast(pl.Float64)) for values in found])
        return tables.group_by("user", "item").mean().sort("user", "item")

    def _load(self, run: Run) -> HeteroData | None:
        name, source = run.dataset["name"], run.dataset["source"]
        try:
            if not source:
                raise RunError("it was not loaded from a file")
            data = load_dataset(**source)
            if not same_fingerprint(run.dataset["fingerprint"], fingerprint(data)):
                raise RunError("it has changed since")
        except (BM3Error, OSError, TypeError) as error:
            reason = str(error).replace(f"{Path(str((source or {}).get('source', ''))).parent}/", "")
            self.warnings.append(f"{name}: the dataset of {run.name} is not at hand ({reason})")
            return None
        return data

    def _read_or_make(self, run: Run) -> Values | None:
        try:
            return self._values_of(run)
        except BM3Error as error:
            reason = str(error).replace(f"{run.folder}", run.name)
            self.warnings.append(f"{run.name}: no per-user values, so no test ({reason})")
            return None

    def _values_of(self, run: Run) -> Values | None:
        files = RunFiles(run.folder)
        if (tables := files.tables()) is not None:
            return Values(*tables)
        if not run.metrics["test"] or (data := self.dataset(run)) is None:
            return None
        model, _ = load_run(run.folder, data=data)
        with tempfile.TemporaryDirectory() as spare:
            write_user_metrics(model, data, spare, run.mask)
            if (tables := RunFiles(Path(spare)).tables()) is None:
                return None
            files.check_test(run.metrics["test"], tables[0], run.environment)
            with suppress(OSError, WriteError):  # somebody else's folder
                for file in Path(spare).iterdir():
                    with atomic_file(run.folder / file.name) as temporary:
                        shutil.copyfile(file, temporary)
        return Values(*tables)
