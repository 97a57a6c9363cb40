"""Runs and sweeps, looked for in folders and read; warnings say what cannot be used, what a run lacks is made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from bm3_pyg.data import fingerprint, load_dataset, same_fingerprint
from bm3_pyg.errors import BM3Error, InUseError, RunError, WriteError
from bm3_pyg.files import atomic_file, locked_folder
from bm3_pyg.study.search import Setting, Sweep, is_sweep, read_sweep
from bm3_pyg.study.selection import Outcome, error_file, outcomes, read_error
from bm3_pyg.train.run_files import Result, RunFiles, is_finished, is_run

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(frozen=True)
class Run(Result):
    """A finished run: what its folder holds, and the ablation it is part of."""

    folder: Path
    name: str
    """Its place below the folder that was asked for."""
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
        from bm3_pyg.models import MODELS

        model = self.runs[0].model
        return model in MODELS and not hasattr(MODELS[model], "loss")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


@dataclass(frozen=True)
class SweptRuns:
    """The finished runs of a sweep, by their setting."""

    name: str
    sweep: Sweep
    outcomes: list[Outcome]
    by_setting: dict[Setting, list[Run]]

    @property
    def runs(self) -> list[Run]:
        return [run for runs in self.by_setting.values() for run in runs]

    @property
    def unchanged(self) -> Setting | None:
        """The setting that an ablation sweep changes one thing of; None in other sweeps."""
        settings = self.sweep.settings
        if not all(setting.label for setting in settings):
            return None
        return next((setting for setting in settings if not setting.settings and setting.corrupt is None), None)


@dataclass
class Gathered:
    """Runs that stand alone, sweeps, and what is missing or unusable."""

    runs: list[Run] = field(default_factory=list)
    sweeps: list[SweptRuns] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def every_run(self) -> list[Run]:
        return [*self.runs, *(run for sweep in self.sweeps for run in sweep.runs)]


def gather(paths: Sequence[str | Path]) -> Gathered:
    """Everything below ``paths``: run folders, sweep folders, or folders of these at any depth, each once.

    Raises:
        RunError: a path is not there, or none of them holds a finished run.
    """
    gathered, seen = Gathered(), set[Path]()
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
            _add_sweep(gathered, folder, root, seen)
        elif is_run(folder):
            _add_run(gathered, folder, root)
    if not gathered.every_run():
        reasons = f" ({gathered.warnings[0]})" if gathered.warnings else ""
        raise RunError(f"{', '.join(map(str, paths))}: no finished run{reasons}, expected at least one")
    return gathered


def _folders(folder: Path) -> Iterator[Path]:
    """``folder`` and what is below it, but nothing inside a run or a sweep."""
    yield folder
    if is_sweep(folder) or is_run(folder):
        return
    for below in sorted(folder.iterdir()):
        if below.is_dir() and not below.name.startswith(".") and not below.is_symlink():
            yield from _folders(below)


def _add_run(gathered: Gathered, folder: Path, root: Path) -> None:
    name, error = _name(folder, root), error_file(folder)
    if is_finished(folder):
        run = _read(gathered, folder, root)
        gathered.runs += [run] if run else []
    elif error.exists():
        gathered.warnings.append(f"{name} failed and is left out: {_without(root, read_error(error))}")
    else:
        gathered.warnings.append(f"{name} is not finished and is left out")


def _add_sweep(gathered: Gathered, folder: Path, root: Path, seen: set[Path]) -> None:
    name = _name(folder, root)
    try:
        sweep = read_sweep(folder)
        known = outcomes(sweep, folder)
    except RunError as error:
        gathered.warnings.append(f"{name}: cannot be read and is left out ({_without(root, str(error))})")
        return
    runs: dict[Setting, list[Run]] = {}
    for outcome in known:
        which = f"{name}: {outcome.setting}, seed {outcome.seed}"
        if outcome.finished:
            run = _read(gathered, outcome.folder, root, outcome)
            runs.setdefault(outcome.setting, []).extend([run] if run else [])
        elif outcome.error:
            gathered.warnings.append(f"{which} failed and is left out: {_without(root, outcome.error)}")
        else:
            gathered.warnings.append(f"{which} is not finished and is left out")
        seen.add(outcome.folder)
    gathered.sweeps.append(SweptRuns(name, sweep, known, runs))


def _read(gathered: Gathered, folder: Path, root: Path, outcome: Outcome | None = None) -> Run | None:
    """The finished run in ``folder``, which may be that of a sweep; None and a warning if it cannot be used."""
    try:
        result = (outcome.result if outcome else None) or RunFiles(folder).result()
    except RunError as error:
        warning = f"{_name(folder, root)} cannot be used and is left out ({_without(root, str(error))})"
        gathered.warnings.append(warning)
        return None
    corrupt = outcome.setting.corrupt if outcome else (result.config["dataset"]["source"] or {}).get("corrupt")
    label = outcome.setting.label if outcome else ""
    return Run(**vars(result), folder=folder, name=_name(folder, root), corrupt=corrupt, label=label)


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _without(root: Path, text: str) -> str:
    """``text`` on one line, without the path of this machine."""
    return " ".join(text.replace(f"{root.as_posix().rstrip('/')}/", "").split())


@dataclass(frozen=True)
class Evaluation:
    """What :func:`bm3_pyg.eval.users.write_user_metrics` writes of a run."""

    users: pl.DataFrame
    positives: pl.DataFrame
    beyond: dict[str, float]


class Evaluations:
    """Evaluations of runs, means of users, datasets: each read or made once; ``warnings`` gets what cannot be had."""

    def __init__(self, data: HeteroData | None, warnings: list[str]) -> None:
        self.warnings = warnings
        self._datasets: dict[str, HeteroData | None] = {} if data is None else {fingerprint(data): data}
        self._evaluations: dict[Path, Evaluation | None] = {}
        self._users: dict[tuple[Path, ...], pl.DataFrame | None] = {}

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def dataset(self, run: Run) -> HeteroData | None:
        """The dataset that a run was made on, None where it is not to be had."""
        wanted = run.dataset["fingerprint"]
        known = next((known for known in self._datasets if same_fingerprint(known, wanted)), wanted)
        if known not in self._datasets:
            self._datasets[known] = self._load(run)
        return self._datasets[known]

    def of(self, run: Run) -> Evaluation | None:
        """The evaluation of a run, None where it is not to be had."""
        if run.folder not in self._evaluations:
            try:
                self._evaluations[run.folder] = self._read_or_make(run)
            except BM3Error as error:
                reason = str(error).replace(f"{run.folder}", run.name)
                self.warnings.append(f"{run.name}: no per-user values, so no test ({reason})")
                self._evaluations[run.folder] = None
        return self._evaluations[run.folder]

    def users(self, group: Group, seeds: Sequence[int]) -> pl.DataFrame | None:
        """Values of the users of a group [n rows], mean over its runs of these seeds, in the order of the users."""
        runs = [run for run in group.runs if run.seed in seeds]
        key = tuple(run.folder for run in runs)
        if key not in self._users:
            tables = [evaluation.users for evaluation in self._all(runs)]
            self._users[key] = pl.concat(tables).group_by("user").mean().sort("user") if tables else None
        return self._users[key]

    def positives(self, group: Group) -> pl.DataFrame | None:
        """Likewise of the positives of all its runs; ``hit`` is the share of seeds that hit."""
        tables = [
            evaluation.positives.with_columns(pl.col("hit").cast(pl.Float64)) for evaluation in self._all(group.runs)
        ]
        return pl.concat(tables).group_by("user", "item").mean().sort("user", "item") if tables else None

    def _all(self, runs: Sequence[Run]) -> list[Evaluation]:
        """The evaluation of each run; none where one of them is not to be had."""
        evaluations = [evaluation for run in runs if (evaluation := self.of(run)) is not None]
        return evaluations if len(evaluations) == len(runs) else []

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

    def _read_or_make(self, run: Run) -> Evaluation | None:
        """What the run's folder holds of it, else made anew by its model: only then is one of one's own imported."""
        files = RunFiles(run.folder)
        if (tables := files.tables()) is not None:
            return Evaluation(*tables)
        if not run.metrics["test"] or (data := self.dataset(run)) is None:
            return None
        from bm3_pyg.eval.users import write_user_metrics
        from bm3_pyg.train.loading import load_run

        model, _ = load_run(run.folder, data=data)
        with tempfile.TemporaryDirectory() as spare:
            write_user_metrics(model, data, spare, run.mask)
            if (tables := RunFiles(Path(spare)).tables()) is None:
                return None
            files.check_test(run.metrics["test"], tables[0], run.environment)
            with suppress(InUseError, WriteError):  # somebody works in it, or it is somebody else's
                _keep(Path(spare), run)
        return Evaluation(*tables)


def _keep(evaluation: Path, run: Run) -> None:
    """Copy the files of an evaluation into its run's folder, unless the run has gone on since."""
    with locked_folder(run.folder):
        if is_finished(run.folder) and RunFiles(run.folder).metrics() == run.metrics:
            for file in evaluation.iterdir():
                with atomic_file(run.folder / file.name) as temporary:
                    shutil.copyfile(file, temporary)
