"""What a run's folder says at any moment: its figures are those of its weights, and one process at a time writes it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_run
from bm3_pyg.errors import InUseError, RunError, WriteError
from bm3_pyg.files import append_text, locked_folder
from bm3_pyg.models import Popularity
from bm3_pyg.study.runs import gather
from bm3_pyg.timeline import PARTS
from bm3_pyg.train.run import RunFolder
from bm3_pyg.train.run_files import RunFiles

RUN_FILES = {"config.yaml", "environment.json", "history.jsonl", "best.pt", "last.pt", "metrics.json", "seal.json"}
RUN_FILES |= {"test_users.parquet", "test_positives.parquet", "beyond.json"}


def model_of(data: HeteroData) -> BM3:
    torch.manual_seed(0)
    return BM3.from_data(data, embedding_dim=8)


def config(max_epochs: int, **options: Any) -> TrainConfig:
    settings = {"batch_size": 100, "lr": 0.01, "checkpoint_seconds": 0, **options}
    return TrainConfig(max_epochs=max_epochs, **settings)


def train(data: HeteroData, out: Path, epochs: int, resume: bool = False, **options: Any) -> Any:
    model = model_of(data)
    return fit(model, data, config(epochs, **options), out, resume, verbose=False)


def stopped(data: HeteroData, out: Path, epochs: int, after: int, resume: bool = False, **options: Any) -> None:
    """Train until epoch ``after`` is done, and stop as Ctrl-C does."""
    model = model_of(data)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(model, data, config(epochs, **options), out, resume, callbacks=[stop], verbose=False)


class Killed(BaseException):
    """What nothing cleans up after."""


def killed(data: HeteroData, out: Path, epochs: int, after: int, resume: bool = False, **options: Any) -> None:
    """Train until epoch ``after`` is written to the history, and end there as kill -9 does: nothing more is saved."""
    model = model_of(data)

    def kill(record: dict[str, Any]) -> None:
        if record["epoch"] == after:
            raise Killed

    with pytest.raises(Killed):
        fit(model, data, config(epochs, **options), out, resume, callbacks=[kill], verbose=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """``whole(data, epochs)``: metrics.json of a run on ``small_data`` that nothing stops."""
    made: dict[object, bytes] = {}

    def metrics(data: HeteroData, epochs: int, **options: Any) -> bytes:
        key = (epochs, *options.items())
        if key not in made:
            out = tmp_path_factory.mktemp("whole") / "run"
            train(data, out, epochs, checkpoint_seconds=1000, **options)
            made[key] = (out / "metrics.json").read_bytes()
        return made[key]

    return metrics


def check_consistent(out: Path, data: HeteroData) -> None:
    """The figures of a finished run are those of its weights, in every file, and nothing else is there."""
    check_figures(out, data)
    assert {path.name for path in out.iterdir()} == RUN_FILES


def check_figures(out: Path, data: HeteroData) -> None:
    metrics = json.loads((out / "metrics.json").read_text())
    best = torch.load(out / "best.pt", weights_only=True)
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert best["epoch"] == metrics["best_epoch"]
    assert history[metrics["best_epoch"] - 1]["val"] == metrics["val"]
    model, _ = load_run(out, data=data)
    assert evaluate(model, data, "val") == metrics["val"]
    assert evaluate(model, data, "test") == metrics["test"]
    assert len(history) <= yaml.safe_load((out / "config.yaml").read_text())["train"]["max_epochs"]
    check_seal(out)


def check_seal(out: Path) -> None:
    seal = json.loads((out / "seal.json").read_text())
    assert seal["schema"] == 1
    assert {"metrics.json", "config.yaml", "best.pt"} <= seal["files"].keys()
    for name, digest in seal["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest, name


def test_a_finished_run_is_sealed(small_data: HeteroData, tmp_path: Path) -> None:
    train(small_data, tmp_path / "run", 3)
    check_consistent(tmp_path / "run", small_data)
    sealed = json.loads((tmp_path / "run/seal.json").read_text())["files"].keys()
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert sealed == files - {"last.pt", "seal.json"}
    fit(Popularity.from_data(small_data), small_data, config(3), tmp_path / "popular")
    check_seal(tmp_path / "popular")


@pytest.mark.parametrize("stop", [stopped, killed])
def test_a_finished_run_that_is_extended_is_not_finished(
    small_data: HeteroData, tmp_path: Path, stop: Callable[..., None], whole: Callable[..., bytes]
) -> None:
    out = tmp_path / "run"
    train(small_data, out, 3)
    stop(small_data, out, 12, after=7, resume=True, checkpoint_seconds=1000)
    left = {path.name for path in out.iterdir()}
    assert not left & {"metrics.json", "seal.json", "test_users.parquet", "test_positives.parquet", "beyond.json"}
    with pytest.raises(RunError, match="is not finished"):
        gather([out])
    train(small_data, out, 12, resume=True)
    check_consistent(out, small_data)
    assert (out / "metrics.json").read_bytes() == whole(small_data, 12)


def test_fewer_epochs_than_have_begun_are_refused(small_data: HeteroData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_data, out, 5)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(RunError, match=r"run: max_epochs: got 3, but epoch 5 has begun there; expected at least 5"):
        train(small_data, out, 3, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    check_consistent(out, small_data)


def test_a_run_ended_earlier_than_it_was_begun_with(
    small_data: HeteroData, tmp_path: Path, whole: Callable[..., bytes]
) -> None:
    """Its last epoch is evaluated, as if it had been begun so."""
    out = tmp_path / "run"
    stopped(small_data, out, 20, after=4, eval_every=10)
    train(small_data, out, 4, resume=True, eval_every=10)
    assert (out / "metrics.json").read_bytes() == whole(small_data, 4, eval_every=10)
    check_consistent(out, small_data)


@pytest.mark.parametrize("eval_every", [3, 10])
def test_a_kill_right_after_the_late_evaluation(
    small_data: HeteroData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eval_every: int,
    whole: Callable[..., bytes],
) -> None:
    """The history has it, last.pt does not: it is done again."""
    out = tmp_path / "run"

    def kill(folder: RunFolder, checkpoint: dict[str, Any]) -> None:
        raise Killed

    stopped(small_data, out, 20, after=4, eval_every=eval_every)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_last", kill)
        with pytest.raises(Killed):
            train(small_data, out, 4, resume=True, eval_every=eval_every)
    train(small_data, out, 4, resume=True, eval_every=eval_every)
    assert (out / "metrics.json").read_bytes() == whole(small_data, 4, eval_every=eval_every)
    check_consistent(out, small_data)


@pytest.mark.parametrize("epochs", [5, 6, 7, 8, 9, 15])
def test_best_pt_goes_back_to_what_last_pt_knows(
    small_data: HeteroData, tmp_path: Path, epochs: int, whole: Callable[..., bytes]
) -> None:
    """Killed when best.pt is of a later epoch than last.pt: however soon the resumed run ends, nothing is mixed."""
    out = tmp_path / "run"
    stopped(small_data, out, 20, after=4)
    killed(small_data, out, 20, after=9, resume=True, checkpoint_seconds=1000)
    assert torch.load(out / "best.pt", weights_only=True)["epoch"] > 4
    train(small_data, out, epochs, resume=True)
    check_consistent(out, small_data)
    assert (out / "metrics.json").read_bytes() == whole(small_data, epochs)


def test_best_pt_stays_where_last_pt_knows_none(
    small_data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first last.pt of an epoch, and again as it is taken up: the better of the weights are kept."""
    out = tmp_path / "run"

    def kill(folder: RunFolder, checkpoint: dict[str, Any]) -> None:
        raise Killed

    killed(small_data, out, 20, after=9, checkpoint_seconds=1000)
    spare, best = (torch.load(out / name, weights_only=True)["epoch"] for name in ("best-of-last.pt", "best.pt"))
    assert spare < best
    monkeypatch.setattr(RunFolder, "save_last", kill)
    with pytest.raises(Killed):
        train(small_data, out, 20, resume=True, checkpoint_seconds=1000)
    assert torch.load(out / "best.pt", weights_only=True)["epoch"] == best
    assert not (out / "best-of-last.pt").exists()


@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.long)])
def test_a_kill_between_any_two_writes(
    small_data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, whole: Callable[..., bytes]
) -> None:
    """Before and after a file is renamed, removed or appended to: moments to die at, when a run is extended."""
    finished, out = tmp_path / "finished", tmp_path / "run"
    train(small_data, finished, 2)
    dying, died = Dying(monkeypatch), 0
    while True:
        shutil.copytree(finished, out)
        with dying.at_moment(1 + died * stride), suppress(Killed):
            train(small_data, out, 5, resume=True, checkpoint_seconds=[0, 1000][died % 2])
        if not dying.dead:
            break
        died += 1
        if (out / "metrics.json").exists():
            check_figures(out, small_data)
        train(small_data, out, 5, resume=True)
        check_consistent(out, small_data)
        assert (out / "metrics.json").read_bytes() == whole(small_data, 5)
        shutil.rmtree(out)
    assert died > 40 / stride


class Dying:
    """The process dies at a moment, and then neither cleans up nor writes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.dead, self.watching = 0, False, False
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, self.mortal(getattr(Path, name)))
        monkeypatch.setattr("bm3_pyg.train.run.append_text", self.mortal(append_text))

    @contextmanager
    def at_moment(self, number: int) -> Iterator[None]:
        self.left, self.dead, self.watching = number, False, True
        try:
            yield
        finally:
            self.watching = False

    def mortal(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.watching:
                return change(*args, **kwargs)
            if self.dead:
                return None
            self.moment()
            result = change(*args, **kwargs)
            self.moment()
            return result

        return call

    def moment(self) -> None:
        self.left -= 1
        if not self.left:
            self.dead = True
            raise Killed


@pytest.mark.parametrize("size", [0, 1500, 5000])
def test_a_disk_that_is_full_when_a_run_is_extended(
    small_data: HeteroData, tmp_path: Path, small_files: Callable[[int], Any], size: int, whole: Callable[..., bytes]
) -> None:
    out = tmp_path / "run"
    train(small_data, out, 2)
    with small_files(size), pytest.raises(WriteError):
        train(small_data, out, 5, resume=True)
    if size == 0:
        check_consistent(out, small_data)
    train(small_data, out, 5, resume=True)
    check_consistent(out, small_data)
    assert (out / "metrics.json").read_bytes() == whole(small_data, 5)


def test_a_run_that_cannot_begin_leaves_nothing(
    small_data: HeteroData, tmp_path: Path, small_files: Callable[[int], Any]
) -> None:
    with small_files(0), pytest.raises(WriteError):
        train(small_data, tmp_path / "run", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(small_data: HeteroData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        train(small_data, tmp_path / "file" / "run", 1)


def test_a_folder_in_the_place_of_a_file_leaves_the_run_finished(small_data: HeteroData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_data, out, 2)
    (out / "beyond.json").unlink()
    (out / "beyond.json").mkdir()
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(RunError, match=r"beyond\.json: a folder, expected a file"):
        train(small_data, out, 3, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before


def test_one_process_at_a_time(small_data: HeteroData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_data, out, 2)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code = (
        "import sys, pathlib; from bm3_pyg.files import append_text, locked_folder\n"
        "with locked_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(InUseError, match=rf"run: in use by pid {other.pid}$"):
        train(small_data, out, 4, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.name != ".lock"} == before
    load_run(out, data=small_data)
    other.kill()
    other.communicate()
    train(small_data, out, 4, resume=True)  # the lock of a killed process holds nobody up
    check_consistent(out, small_data)


def test_a_run_in_use_cannot_be_taken_by_another_thread(small_data: HeteroData, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "run"), pytest.raises(InUseError, match=f"in use by pid {os.getpid()}"):
        train(small_data, tmp_path / "run", 2)
    assert not (tmp_path / "run").exists()


def test_of_many_new_runs_on_one_path_one_gets_in(small_data: HeteroData, tmp_path: Path) -> None:
    out, begun, results = tmp_path / "run", threading.Barrier(20), []

    def race() -> None:
        model = model_of(small_data)
        begun.wait()
        try:
            fit(model, small_data, config(3), out, verbose=False)
            results.append("trained")
        except RunError as error:
            results.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("trained") == 1
    assert all("in use by" in result or "exists already" in result for result in results if result != "trained")
    assert len((out / "history.jsonl").read_text().splitlines()) == 3
    check_seal(out)


RACER = """
import sys
from pathlib import Path
from bm3_pyg.errors import InUseError
from bm3_pyg.files import append_text, locked_folder
print("ready", flush=True)
sys.stdin.readline()
for _ in range(200):
    try:
        with locked_folder(Path(sys.argv[1])):
            file = Path(sys.argv[1]) / "one"
            file.touch(exist_ok=False)
            file.unlink()
    except InUseError:
        pass
"""


def test_the_lock_lets_one_in_whatever_the_others_do(tmp_path: Path) -> None:
    """Six processes take and leave one folder, which comes and goes with its holder, 200 times each."""
    command = [sys.executable, "-c", RACER, str(tmp_path / "run")]
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        _, errors = racer.communicate()
        assert (racer.returncode, errors) == (0, "")
    assert not (tmp_path / "run").exists()


def test_what_a_killed_process_left_in_a_run_is_cleared(small_data: HeteroData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_data, out, 2)
    (out / ".best.pt.999999999-0123abcd.tmp.pt").touch()
    train(small_data, out, 3, resume=True)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_the_kernels_are_recorded_and_those_of_a_run_are_kept(
    small_data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    monkeypatch.setenv("BM3_KERNELS", "torch")
    train(small_data, out, 2)
    environment = json.loads((out / "environment.json").read_text())
    assert environment["kernels"] == "torch"
    assert environment["threads"] == torch.get_num_threads()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setenv("BM3_KERNELS", "numba")
    with pytest.raises(RunError, match=r"kernels torch on .*, found numba on .*; set BM3_KERNELS=torch to go on"):
        train(small_data, out, 4, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    monkeypatch.setenv("BM3_KERNELS", "torch")
    train(small_data, out, 4, resume=True)


def test_a_resume_adds_to_the_environment(small_data: HeteroData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_data, out, 2)
    first = json.loads((out / "environment.json").read_text())
    for epochs in (3, 4):
        train(small_data, out, epochs, resume=True)
    found = json.loads((out / "environment.json").read_text())
    assert {key: found[key] for key in first} == first
    assert [session["after_epoch"] for session in found["resumed"]] == [2, 3]
    assert all(session["packages"] == first["packages"] for session in found["resumed"])
    (run,) = gather([out]).runs
    assert run.environment["resumed"] == found["resumed"]


def test_each_session_records_its_seconds(small_data: HeteroData, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_data, out, 1)
    stopped(small_data, out, 3, after=2, resume=True)
    train(small_data, out, 3, resume=True)
    check_seal(out)
    environment = RunFiles(out).environment()
    sessions = [environment, *environment["resumed"]]
    assert len(sessions) == 3
    for session in sessions:
        assert session["seconds"].keys() == PARTS.keys()
        assert min(session["seconds"][part] for part in ("train", "rank", "write")) > 0


def test_each_session_records_the_command_that_it_was_given(small_data: HeteroData, tmp_path: Path) -> None:
    out, first, second = tmp_path / "run", ["bm3", "train", "caf\udce9", "--set", "x= y"], ["bm3", "train", "--resume"]
    fit(model_of(small_data), small_data, config(1), out, verbose=False, command=first)
    fit(model_of(small_data), small_data, config(2), out, resume=True, verbose=False, command=second)
    train(small_data, out, 3, resume=True)
    (run,) = gather([out]).runs
    assert run.environment["command"] == first
    assert run.environment["resumed"][0]["command"] == second
    assert "command" not in run.environment["resumed"][1]


def test_that_nothing_was_selected_or_tested_is_said(
    small_data: HeteroData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small_data, tmp_path / "whole", 1)
    assert not caplog.messages
    del small_data["user", "rates", "item"].val_edge_index
    del small_data["user", "rates", "item"].test_edge_index
    result = train(small_data, tmp_path / "run", 3)
    assert caplog.messages == [
        "dataset: no validation interactions: nothing is selected by it, the last epoch is kept",
        "dataset: no test interactions: nothing is tested",
    ]
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (metrics["best_epoch"], metrics["val"], metrics["test"]) == (3, {}, {})
    assert (result.val, result.test) == ({}, {})
    assert "test_users.parquet" not in json.loads((tmp_path / "run/seal.json").read_text())["files"]


def test_threads_may_train_into_folders_of_their_own(small_data: HeteroData, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            fit(model_of(small_data), small_data, config(2), tmp_path / str(number), verbose=False)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for number in range(3):
        check_seal(tmp_path / str(number))


def test_that_a_run_is_not_finished_is_said(
    small_data: HeteroData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(small_data, tmp_path / "run", 9, after=2)
    load_run(tmp_path / "run", data=small_data)
    (message,) = caplog.messages
    assert "run: not finished; its best weights so far are those of epoch" in message
