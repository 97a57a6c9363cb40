"""The benchmark scripts, as they are run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments], capture_output=True, text=True, check=False
    )


def test_a_quick_run_says_what_it_is_and_what_is_absent(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    done = run("baby.py", str(shared_data("baby")), "--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "NOT A RESULT" in done.stdout
    assert "NOT COMPARABLE: image, text features are absent" in done.stdout
    assert "the headings are swapped there" in done.stdout
    assert done.stdout.splitlines()[-4] == str(tmp_path / "report.html")
    cells = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in done.stdout.splitlines() if "|" in row}
    assert [cell.strip() for cell in cells["published (paper)"]] == ["0.0564", "0.0883", "0.0301", "0.0383"]
    ours, difference = (float(cells[name][3]) for name in ("ours, 1 seed", "ours - published (paper)"))
    assert difference == pytest.approx(ours - 0.0383, abs=1.1e-4)
    report = json.loads((tmp_path / "report.json").read_text())
    row = report["sections"][0]["rows"][0]
    assert (
        row["test"]["ndcg@20"]["mean"] == json.loads((tmp_path / "quick-0/metrics.json").read_text())["test"]["ndcg@20"]
    )
    assert "NOT A RESULT" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("script", ["baby.py", "sports.py", "electronics.py", "tiktok.py"])
def test_a_missing_folder_is_one_line(script: str, tmp_path: Path) -> None:
    done = run(script, str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "none" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
