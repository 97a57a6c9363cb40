"""Signals, to one process or to a group, in any phase: the command ends with 130, nothing goes on, and it can go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.cli import main

ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
BM3 = [sys.executable, "-m", "bm3_pyg.cli"]
SETTINGS = ["--set", "max_epochs=100000", "patience=100000"]


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*BM3, *command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lines_of(folder: Path) -> int:
    path = folder / "history.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def runs_of(out: Path) -> list[int]:
    """The processes that train a run of a sweep."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"bm3_pyg.study.sweep\0{out}\0".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("number", "epochs"),
    [
        (signal.SIGTERM, 3),
        *(pytest.param(*case, marks=LONG) for case in ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGINT, 3))),
    ],
)
def test_training_stops_and_goes_on(tmp_path: Path, number: signal.Signals, epochs: int) -> None:
    out = tmp_path / "run"
    process = start("train", "demo", "--out", str(out), *SETTINGS)
    wait_until(lambda: (out / "last.pt").exists() and lines_of(out) >= epochs, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("bm3: stopped in epoch ")
    assert f"resume {out} to go on" in errors
    assert {path.name for path in out.iterdir()} <= {
        *("config.yaml", "environment.json", "history.jsonl", "best.pt", "last.pt")
    }
    done = lines_of(out)
    assert main(["train", "--resume", "--out", str(out), "--set", f"max_epochs={done + 2}"]) == 0
    assert lines_of(out) == done + 2


@pytest.mark.parametrize("after", [1.0, *(pytest.param(after / 4, marks=LONG) for after in range(1, 20))])
def test_before_the_first_step_nothing_is_left_or_a_run_that_goes_on(tmp_path: Path, after: float) -> None:
    out = tmp_path / "run"
    process = start("train", "demo", "--out", str(out), *SETTINGS)
    time.sleep(after)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode in (130, -signal.SIGTERM), errors  # the latter before the command has begun
    assert "Traceback" not in errors
    left = {path.name for path in out.iterdir()} if out.exists() else set()
    assert not left or "config.yaml" in left
    assert not {name for name in left if name.startswith(".")}


@pytest.mark.parametrize(
    ("number", "to"),
    [
        (signal.SIGTERM, "parent"),
        pytest.param(signal.SIGTERM, "group", marks=LONG),
        pytest.param(signal.SIGINT, "parent", marks=LONG),
        pytest.param(signal.SIGINT, "group", marks=LONG),
    ],
)
def test_a_sweep_passes_a_signal_on_and_waits(tmp_path: Path, number: signal.Signals, to: str) -> None:
    out = tmp_path / "out"
    process = start("sweep", "demo", "--out", str(out), "--seeds", "2", "--jobs", "2", *SETTINGS)
    folders = [out / "bm3" / f"seed-{seed}" for seed in (0, 1)]
    wait_until(lambda: min(lines_of(folder) for folder in folders) >= 2, process)
    assert len(runs_of(out)) == 2
    process.send_signal(number) if to == "parent" else os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == f"bm3: stopped; the same command goes on with {out}"
    assert runs_of(out) == []
    for folder in folders:
        assert (folder / "last.pt").exists()
        assert not (folder / "metrics.json").exists()
        assert not (folder / ".lock").exists()
    assert not list(out.rglob("*.error"))
    assert not (out / ".lock").exists()


@LONG
def test_what_a_killed_sweep_was_running_ends_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("sweep", "demo", "--out", str(out), "--seeds", "2", "--jobs", "2", *SETTINGS)
    wait_until(lambda: min(lines_of(out / "bm3" / f"seed-{seed}") for seed in (0, 1)) >= 1, process)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while runs_of(out):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (out / "bm3" / "seed-0" / "last.pt").exists()


@LONG
def test_two_sweeps_on_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start("sweep", "demo", "--out", str(out), "--seeds", "1", *SETTINGS)
    wait_until(lambda: lines_of(out / "bm3" / "seed-0") >= 1, first)
    before = (out / "sweep.yaml").read_bytes()
    second = start("sweep", "demo", "--out", str(out), "--seeds", "3", "--models", "bprmf")
    _, errors = second.communicate(timeout=120)
    assert (second.returncode, errors.splitlines()[-1]) == (2, f"bm3: {out}: in use by pid {first.pid}")
    assert (out / "sweep.yaml").read_bytes() == before
    first.terminate()
    first.communicate(timeout=120)


def test_two_that_resume_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    first = start("train", "demo", "--out", str(out), *SETTINGS)
    wait_until(lambda: lines_of(out) >= 1, first)
    assert main(["train", "--resume", "--out", str(out)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"bm3: {out}: in use by pid {first.pid}"
    first.terminate()
    first.communicate(timeout=120)
    epochs = [json.loads(line)["epoch"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 1 + len(epochs)))


@LONG
def test_two_without_a_name_get_two(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [*BM3, "train", "demo", "--set", "max_epochs=1"],
            env=ENVIRONMENT,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    results = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    assert {out.splitlines()[-1] for out, _ in results} == {"runs/demo", "runs/demo-2", "runs/demo-3"}
