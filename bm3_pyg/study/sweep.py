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
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import yaml
from torch_geometric.data import HeteroData
from tqdm import tqdm

from bm3_pyg.data.load import refuse_pipes
from bm3_pyg.errors import BM3Error, InUseError, RunError, one_line
from bm3_pyg.files import check_not_in_use, locked_folder, make_folder, write_text, writing
from bm3_pyg.names import SELECTION, is_own
from bm3_pyg.study.search import Setting, Sweep, is_sweep, read_sweep
from bm3_pyg.study.selection import Outcome, error_file, outcome_of, outcomes, write_results
from bm3_pyg.train.interrupt import StopFlag, stop_flag, terminable
from bm3_pyg.train.run_files import is_finished, is_run, read_config
from bm3_pyg.train.settings import TrainConfig

POLL_SECONDS = 0.2


def run_sweep(sweep: Sweep, out: Path, jobs: int = 1, protocol: str = "strict") -> list[Outcome]:
    """Run what is not finished yet, ``jobs`` runs at a time, and return every outcome.

    A run that fails is noted and does not stop the others; the next call tries it again. Table and results are written
    anew after each run.

    Args:
        sweep: what to search.
        out: the folder of the runs; made, or taken up where an earlier call left it.
        jobs: runs at a time; each gets an equal share of the processor's cores.
        protocol: how table.md and results.json select, a key of :data:`bm3_pyg.study.selection.PROTOCOLS`.

    Raises:
        ConfigError: a setting is unknown to its model or out of range; nothing has been run then.
        RunError: ``out`` is in use, holds a sweep of another dataset, or a run made with other settings.
        DataError: the dataset is a pipe, which cannot be read in every run.
        WriteError: ``out`` cannot be written.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the runs in progress have saved their state and ended.
    """
    refuse_pipes(sweep.source)
    sweep.check()
    with locked_folder(out), stop_flag() as flag:
        _check_folder(sweep, out)
        write_text(out / "sweep.yaml", yaml.safe_dump(sweep.plain(), sort_keys=False))
        known = {(outcome.setting, outcome.seed): outcome for outcome in outcomes(sweep, out)}
        _run(sweep, out, jobs, protocol, known, flag)
        if flag.set:
            raise KeyboardInterrupt(f"stopped; the same command goes on with {out}")
        write_results(list(known.values()), out, protocol)
        return list(known.values())


Known = dict[tuple[Setting, int], Outcome]


def _run(sweep: Sweep, out: Path, jobs: int, protocol: str, known: Known, flag: StopFlag) -> None:
    """Do the runs that are not finished, and keep ``known`` and the table up to date."""
    waiting = [
        (setting, seed)
        for seed in sweep.seeds
        for setting in sweep.settings
        if not is_finished(sweep.folder(out, setting, seed))
    ]
    progress = _Progress(len(known) - len(waiting), len(waiting))
    running: dict[subprocess.Popen[bytes], tuple[Setting, int]] = {}
    here, alive = os.pipe()  # only this process holds ``alive``: when it is gone, the runs see the end of ``here``
    try:
        while (waiting or running) and not flag.set:
            while waiting and len(running) < jobs and not flag.set:
                setting, seed = waiting.pop(0)
                known[setting, seed] = Outcome(setting, seed, sweep.folder(out, setting, seed))
                running[_start(sweep, out, setting, seed, jobs, here)] = setting, seed
            for process in [process for process in running if process.poll() is not None and not flag.set]:
                setting, seed = running.pop(process)
                outcome = known[setting, seed] = outcome_of(sweep, out, setting, seed)
                if not outcome.finished and outcome.error is None:
                    outcome.error = f"ended with exit code {process.returncode}, see {outcome.folder}.log"
                    write_text(error_file(outcome.folder), outcome.error + "\n")
                progress.ended(outcome)
                write_results(list(known.values()), out, protocol)
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        flag.set = True
    finally:
        _end(running)
        os.close(here)
        os.close(alive)
        progress.bar.close()


def _start(sweep: Sweep, out: Path, setting: Setting, seed: int, jobs: int, here: int) -> subprocess.Popen[bytes]:
    """The process of one run, in a session of its own: what interrupts the sweep comes to it once, from the sweep."""
    folder = sweep.folder(out, setting, seed)
    make_folder(folder.parent)
    error_file(folder).unlink(missing_ok=True)
    environment = dict(os.environ)
    if jobs > 1:
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        environment = {"OMP_NUM_THREADS": threads, **environment}
    if is_own(setting.model):
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-m", "bm3_pyg.study.sweep", str(out), setting.name, str(seed)]
    path = folder.with_name(f"{folder.name}.log")
    with writing(path), path.open("ab") as log:
        return subprocess.Popen(command, stdin=here, stdout=log, stderr=log, env=environment, start_new_session=True)


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
    training, options = sweep.options(setting)
    try:
        config = read_config(folder)
    except RunError:  # the outcome of this run tells it, and the others go on
        return
    wanted = {**asdict(TrainConfig(**training)), **options}
    trained = {**config["train"], **config["model"]["options"]}
    for name in wanted.keys() - {"seed", "checkpoint_seconds"}:
        if trained.get(name) != wanted[name]:
            raise RunError(
                f"{folder}: was trained with {name} {trained.get(name)!r}, expected {wanted[name]!r}; choose another "
                "--out"
            )


class _Progress:
    """A bar on a terminal, a line for each run elsewhere, with the time left."""

    def __init__(self, done: int, waiting: int) -> None:
        self.started = time.monotonic()
        self.done, self.waiting, self.total = done, waiting, done + waiting
        self.bar = tqdm(total=self.total, initial=done, unit="run", disable=not sys.stderr.isatty())
        if done and waiting:
            self._print(f"{done} of {self.total} runs are finished already")

    def ended(self, outcome: Outcome) -> None:
        """Count a run, and print what it came to."""
        self.done += 1
        left = self.total - self.done
        if outcome.error is not None:
            result = f"FAILED: {outcome.error}"
        elif outcome.val:
            result = f"validation Recall@20 {outcome.val[SELECTION]:.4f}"
        else:
            result = "finished"
        seconds = (time.monotonic() - self.started) / (self.waiting - left) * left
        time_left = f"; about {seconds / 60:.0f} min left" if left else ""
        self.bar.update(1)
        self._print(f"[{self.done}/{self.total}] {outcome.setting}, seed {outcome.seed}: {result}{time_left}")

    def _print(self, line: str) -> None:
        self.bar.write(line, file=sys.stderr) if not self.bar.disable else print(line, file=sys.stderr, flush=True)


def train_one(sweep: Sweep, out: Path, setting: Setting, seed: int) -> None:
    """Do one run of a sweep, or what is left of it; if another process is at it, wait for what that comes to."""
    from bm3_pyg.data import load_dataset
    from bm3_pyg.train.loop import fit
    from bm3_pyg.train.settings import build_model

    folder = sweep.folder(out, setting, seed)
    training, options = sweep.options(setting)
    data: HeteroData | None = None
    while not _is_finished_in_the_end(folder):
        if data is None:
            data = load_dataset(**sweep.source, corrupt=setting.corrupt)
        model = build_model(data, options, seed, sweep.device, setting.model)
        try:
            config = TrainConfig(**{**training, "seed": seed})
            fit(model, data, config, folder, resume=is_run(folder), keep_features=False)
        except InUseError:  # it came before
            continue


def _is_finished_in_the_end(folder: Path) -> bool:
    """Whether a run is finished once nobody is at it: one of a sweep that was killed ends soon."""
    while True:
        try:
            check_not_in_use(folder)
        except InUseError:
            time.sleep(POLL_SECONDS)
        else:
            return is_finished(folder)


def _main(out: str, name: str, seed: str) -> int:
    """One run, in a process of its own; what goes wrong is left in a file beside its folder."""
    sweep = read_sweep(Path(out))
    setting = next(setting for setting in sweep.settings if setting.name == name)
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    try:
        with terminable():
            train_one(sweep, Path(out), setting, int(seed))
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the sweep goes on without this run, and its table says why
        message = str(error) if isinstance(error, BM3Error) else f"{type(error).__name__}: {one_line(error)}"
        write_text(error_file(sweep.folder(Path(out), setting, int(seed))), message + "\n")
        raise
    return 0


def _end_with_the_sweep() -> None:
    """Standard input ends when the sweep is gone, however it ended: then this run saves its state and ends too."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
