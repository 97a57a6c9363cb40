"""Two hundred kills at any moment; see :mod:`tests.end_to_end.kills`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_killed_runs_end_as_uninterrupted_ones() -> None:
    command = [sys.executable, "-m", "tests.end_to_end.kills", "--kills", "200", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
