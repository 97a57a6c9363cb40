"""Search over models, settings and seeds on one dataset: a folder of runs, each in a process of its own.

``OUT/SETTING/seed-N`` is a run folder like any other; ``OUT/sweep.yaml`` says what was asked for, ``OUT/table.md`` and
``OUT/results.json`` what is known so far. A finished run is never repeated and a stopped one goes on where it was, so
the same call takes up a sweep after a kill at any point.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from bm3_pyg.data.load import check_again
from bm3_pyg.errors import BM3Error, ConfigError, InUseError, RunError, one_line
from bm3_pyg.files import locked_folder, make_folder, write_text, writing
from bm3_pyg.names import check_option
from bm3_pyg.train.interrupt import StopFlag, stop_flag, terminable
from bm3_pyg.train.run_files import (
    SCHEMA,
    RunFiles,
    is_finished,
    is_run,
    is_sweep,
    read_config,
    read_error,
    read_sweep_file,
)
from bm3_pyg.train.settings import TrainConfig, split_settings

POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Setting:
    """A model with its ``KEY=VALUE`` settings, and what is done to the dataset's features before (for ablations)."""

    model: str
    settings: tuple[str, ...] = ()
    corrupt: str | None = None
    label: str = ""

    @property
    def name(self) -> str:
        """The name of its folder."""
        corrupt = () if self.corrupt is None else (f"corrupt={self.corrupt}",)
        return "_".join((self.model, *self.settings, *corrupt)).replace("/", "-")

    def __str__(self) -> str:
        corrupt = () if self.corrupt is None else (f"features {self.corrupt}",)
        return self.label or " ".join((self.model, *self.settings, *corrupt))


@dataclass(frozen=True)
class Sweep:
    """What is searched: ``settings`` x ``seeds`` on the dataset that ``load_dataset(**source)`` gives.

    ``fixed`` are ``KEY=VALUE`` settings of every run; a model takes those that it knows.
    """

    source: Mapping[str, Any]
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    fixed: tuple[str, ...] = ()
    device: str = "auto"

    def folder(self, out: Path, setting: Setting, seed: int) -> Path:
        return out / setting.name / f"seed-{seed}"


@dataclass
class Outcome:
    """What a run of a sweep came to: its metrics, an error, or neither yet."""

    setting: Setting
    seed: int
    folder: Path
    val: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    error: str | None = None

    @property
    def finished(self) -> bool:
        return bool(self.val or self.test)


def run_sweep(
    sweep: Sweep, out: Path, jobs: int = 1, after_each: Callable[[list[Outcome]], None] | None = None
) -> list[Outcome]:
    """Run what is not finished yet, ``jobs`` runs at a time, and return every outcome.

    A run that fails is noted and does not stop the others; the next call tries it again.

    Args:
        sweep: what to search.
        out: the folder of the runs; made, or taken up where an earlier call left it.
        jobs: runs at a time; each gets an equal share of the processor's cores.
        after_each: called with all outcomes so far whenever a run has ended.

    Raises:
        ConfigError: a setting is unknown to its model or out of range; nothing has been run then.
        RunError: ``out`` is in use, holds a sweep of another dataset, or a run made with other settings.
        DataError: the dataset is a pipe, which cannot be read in every run.
        WriteError: ``out`` cannot be written.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the runs in progress have saved their state and ended.
    """
    check_again(sweep.source)
    check_settings(sweep)
    with locked_folder(out), stop_flag() as flag:
        return _run(sweep, out, jobs, after_each, flag)


def _run(
    sweep: Sweep, out: Path, jobs: int, after_each: Callable[[list[Outcome]], None] | None, flag: StopFlag
) -> list[Outcome]:
    _check_folder(sweep, out)
    write_text(out / "sweep.yaml", yaml.safe_dump(_plain(sweep), sort_keys=False))
    waiting = [
        (setting, seed)
        for seed in sweep.seeds
        for setting in sweep.settings
        if not is_finished(sweep.folder(out, setting, seed))
    ]
    done = len(sweep.settings) * len(sweep.seeds) - len(waiting)
    progress = _Progress(done, len(waiting), jobs)
    running: dict[subprocess.Popen[bytes], tuple[Setting, int]] = {}
    here, alive = os.pipe()  # only this process holds ``alive``: when it is gone, the runs see the end of ``here``
    try:
        while (waiting or running) and not flag.set:
            while waiting and len(running) < jobs and not flag.set:
                setting, seed = waiting.pop(0)
                running[_start(sweep, out, setting, seed, jobs, here)] = setting, seed
            for process in [process for process in running if process.poll() is not None and not flag.set]:
                setting, seed = running.pop(process)
                outcome = _outcome(sweep, out, setting, seed)
                if not outcome.finished and outcome.error is None:
                    outcome.error = f"ended with exit code {process.returncode}, see {outcome.folder}.log"
                    write_text(_error_file(outcome.folder), outcome.error + "\n")
                progress.ended(outcome)
                if after_each is not None:
                    after_each(outcomes(sweep, out))
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        flag.set = True
    finally:
        _end(running)
        os.close(here)
        os.close(alive)
        progress.close()
    if flag.set:
        raise KeyboardInterrupt(f"stopped; the same command goes on with {out}")
    return outcomes(sweep, out)


def _end(running: Collection[subprocess.Popen[bytes]]) -> None:
    """Ask the runs in progress to save their state and end, and wait for it; asked once more, they end at once."""
    while left := [process for process in running if process.poll() is None]:
        try:
            for process in left:
                process.terminate()
            for process in left:
                process.wait()
        except KeyboardInterrupt:
            continue


def outcomes(sweep: Sweep, out: Path) -> list[Outcome]:
    """What is known of every run, in the order of settings and seeds."""
    return [_outcome(sweep, out, setting, seed) for setting in sweep.settings for seed in sweep.seeds]


def read_sweep(out: Path) -> Sweep:
    """The sweep that a folder was made by.

    Raises:
        RunError: the folder holds none.
    """
    plain = read_sweep_file(out / "sweep.yaml")
    settings = tuple(Setting(**{**one, "settings": tuple(one["settings"])}) for one in plain["settings"])
    return Sweep(plain["source"], settings, tuple(plain["seeds"]), tuple(plain["fixed"]), plain["device"])


def train_one(sweep: Sweep, out: Path, setting: Setting, seed: int) -> None:
    """Do one run of a sweep, or what is left of it; if another process is at it, wait for what that comes to."""
    from bm3_pyg.data import load_dataset
    from bm3_pyg.train.loop import fit
    from bm3_pyg.train.settings import build_model

    folder = sweep.folder(out, setting, seed)
    if is_finished(folder):
        return
    training, options = _settings(sweep, setting)
    data = load_dataset(**sweep.source, corrupt=setting.corrupt)
    config = TrainConfig(**{**training, "seed": seed})
    while not is_finished(folder):
        model = build_model(data, options, seed, sweep.device, setting.model)
        try:
            fit(model, data, config, folder, resume=is_run(folder))
        except InUseError:  # a run of a sweep that was killed, which ends soon
            time.sleep(POLL_SECONDS)


def knows(model: str, text: str) -> bool:
    """Whether a model, or training, has the key of a ``KEY=VALUE`` setting."""
    try:
        split_settings([text], model)
    except ConfigError:
        return False
    return True


def check_settings(sweep: Sweep) -> None:
    """Raise :class:`ConfigError` if a setting stands twice, is unknown to its model or out of range."""
    names = [setting.name for setting in sweep.settings]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"sweep: {min(twice)} stands twice in the grid, expected each setting once")
    for setting in sweep.settings:
        training, options = _settings(sweep, setting)
        TrainConfig(**training)
        for name, value in options.items():
            check_option(name, value)


def _settings(sweep: Sweep, setting: Setting) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of training and of the model; the setting's own come before the fixed ones."""
    own = {text.partition("=")[0] for text in setting.settings}
    fixed = []
    for text in sweep.fixed:
        key = text.partition("=")[0]
        if key in own:
            continue
        try:
            split_settings([text], setting.model)
        except ConfigError:
            if not any(knows(other.model, text) for other in sweep.settings):
                raise
        else:
            fixed.append(text)
    return split_settings([*fixed, *setting.settings], setting.model)


def _check_folder(sweep: Sweep, out: Path) -> None:
    for setting in sweep.settings:
        for seed in sweep.seeds:
            folder = sweep.folder(out, setting, seed)
            if is_run(folder):
                _check_run(folder, sweep, setting)
    if is_sweep(out) and (before := read_sweep(out)).source != sweep.source:
        raise RunError(f"{out}: holds a sweep of {before.source.get('source')!r}, expected a new folder")


def _check_run(folder: Path, sweep: Sweep, setting: Setting) -> None:
    """Refuse a run that was made with other settings than the sweep asks for."""
    training, options = _settings(sweep, setting)
    try:
        saved = read_config(folder)
    except RunError:  # the outcome of this run tells it, and the others go on
        return
    asked = {**asdict(TrainConfig(**training)), **options}
    found = {**saved["train"], **saved["model"]["options"]}
    for name in asked.keys() - {"seed", "checkpoint_seconds"}:
        if found.get(name) != asked[name]:
            raise RunError(
                f"{folder}: was trained with {name} {found.get(name)!r}, expected {asked[name]!r}; choose another --out"
            )


def _start(sweep: Sweep, out: Path, setting: Setting, seed: int, jobs: int, here: int) -> subprocess.Popen[bytes]:
    """The process of one run, in a session of its own: what interrupts the sweep comes to it once, from the sweep."""
    folder = sweep.folder(out, setting, seed)
    make_folder(folder.parent)
    _error_file(folder).unlink(missing_ok=True)
    environment = dict(os.environ)
    if jobs > 1:
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        environment = {"OMP_NUM_THREADS": threads, **environment}
    command = [sys.executable, "-m", "bm3_pyg.study.sweep", str(out), setting.name, str(seed)]
    path = folder.with_name(f"{folder.name}.log")
    with writing(path), path.open("ab") as log:
        return subprocess.Popen(command, stdin=here, stdout=log, stderr=log, env=environment, start_new_session=True)


def _outcome(sweep: Sweep, out: Path, setting: Setting, seed: int) -> Outcome:
    folder = sweep.folder(out, setting, seed)
    outcome = Outcome(setting, seed, folder)
    if is_finished(folder):
        files = RunFiles(folder)
        try:
            metrics = files.result().metrics if files.sealed is None else files.metrics()
        except RunError as error:
            outcome.error = f"{error}; remove {folder} to have it run again"
        else:
            outcome.val, outcome.test = metrics["val"], metrics["test"]
            if not outcome.finished:
                outcome.error = "the dataset has no validation and no test interactions: nothing to select by"
    elif os.path.lexists(_error_file(folder)):
        outcome.error = read_error(_error_file(folder))
    return outcome


def _error_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.error")


def _plain(sweep: Sweep) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "source": dict(sweep.source),
        "settings": [{**asdict(setting), "settings": list(setting.settings)} for setting in sweep.settings],
        "seeds": list(sweep.seeds),
        "fixed": list(sweep.fixed),
        "device": sweep.device,
    }


class _Progress:
    """A bar on a terminal, a line for each run elsewhere, with the time left."""

    def __init__(self, done: int, waiting: int, jobs: int) -> None:
        self.started = time.monotonic()
        self.new, self.waiting, self.jobs = 0, waiting, jobs
        self.bar = tqdm(total=done + waiting, initial=done, unit="run", disable=not sys.stderr.isatty())
        self.done, self.total = done, done + waiting
        if done and waiting:
            self._say(f"{done} of {self.total} runs are finished already")

    def ended(self, outcome: Outcome) -> None:
        self.new += 1
        left = (time.monotonic() - self.started) / self.new * (self.waiting - self.new)
        if outcome.error is not None:
            result = f"FAILED: {outcome.error}"
        elif outcome.val:
            result = f"validation Recall@20 {outcome.val['recall@20']:.4f}"
        else:
            result = "finished"
        time_left = f"; about {left / 60:.0f} min left" if self.waiting > self.new else ""
        self.bar.update(1)
        self._say(f"[{self.done + self.new}/{self.total}] {outcome.setting}, seed {outcome.seed}: {result}{time_left}")

    def close(self) -> None:
        self.bar.close()

    def _say(self, line: str) -> None:
        self.bar.write(line, file=sys.stderr) if not self.bar.disable else print(line, file=sys.stderr, flush=True)


def _main(out: str, name: str, seed: str) -> int:
    """One run, in a process of its own; what goes wrong is left in a file beside its folder."""
    sweep = read_sweep(Path(out))
    setting = next(one for one in sweep.settings if one.name == name)
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    try:
        with terminable():
            train_one(sweep, Path(out), setting, int(seed))
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the sweep goes on without this run, and its table says why
        message = str(error) if isinstance(error, BM3Error) else f"{type(error).__name__}: {one_line(error)}"
        write_text(_error_file(sweep.folder(Path(out), setting, int(seed))), message + "\n")
        raise
    return 0


def _end_with_the_sweep() -> None:
    """Standard input ends when the sweep is gone, however it ended: then this run saves its state and ends too."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
