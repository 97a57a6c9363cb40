"""A run killed without warning, then resumed, ends as an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from bm3_pyg.cli import main

TRAIN = [sys.executable, "-m", "bm3_pyg.cli", "train"]
SETTINGS = ["--set", "max_epochs=12", "checkpoint_seconds=0", "--seed", "1"]


def kill_when(process: subprocess.Popen[bytes], history: Path, epochs: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if history.exists() and history.read_text().count("\n") >= epochs:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"


def test_kill_and_resume(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(torch.get_num_threads())}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["train", "demo", "--out", str(whole), *SETTINGS]) == 0
    process = subprocess.Popen(
        [*TRAIN, "demo", "--out", str(killed), *SETTINGS], env=environment, stderr=subprocess.DEVNULL
    )
    kill_when(process, killed / "history.jsonl", epochs=4)
    assert not (killed / "metrics.json").exists()
    assert main(["train", "--resume", "--out", str(killed)]) == 0
    assert (killed / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
