"""A sweep killed without warning, then taken up, ends with the table of an uninterrupted one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SWEEP = [sys.executable, "-m", "bm3_pyg.cli", "sweep", "demo", "--jobs", "2", "--seeds", "2"]
WHAT = ["--grid", "num_layers=1,2", "--set", "max_epochs=6", "checkpoint_seconds=0", "--out"]
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}


def kill_when(process: subprocess.Popen[bytes], out: Path, epochs: int) -> None:
    """Kill the sweep, but not the runs it started, once its runs have seen so many epochs in all."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if sum(history.read_text().count("\n") for history in out.glob("*/*/history.jsonl")) >= epochs:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL, "the sweep was over before it could be killed"


@pytest.mark.long
def test_kill_and_take_up_a_sweep(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*SWEEP, *WHAT, str(whole)], check=True, env=ENVIRONMENT, capture_output=True)
    for epochs in (2, 15):
        process = subprocess.Popen([*SWEEP, *WHAT, str(killed)], env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        kill_when(process, killed, epochs)
    again = subprocess.run([*SWEEP, *WHAT, str(killed)], check=True, env=ENVIRONMENT, capture_output=True)
    assert (killed / "table.md").read_bytes() == (whole / "table.md").read_bytes()
    assert (killed / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    for metrics in whole.glob("*/*/metrics.json"):
        assert (killed / metrics.relative_to(whole)).read_bytes() == metrics.read_bytes()
        history = killed / metrics.relative_to(whole).with_name("history.jsonl")
        assert history.read_text().count("\n") == 6  # no epoch was written twice
    assert again.stdout.decode().splitlines()[-1] == str(killed)
