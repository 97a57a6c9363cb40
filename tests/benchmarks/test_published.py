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
    table = (tmp_path / "table.md").read_text()
    assert done.stdout == f"{table}{tmp_path / 'table.md'}\n"
    assert "NOT A RESULT" in table
    assert "NOT COMPARABLE: image, text features are absent" in table
    assert "the headings are swapped there" in table
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert rows["published (paper)"] == {
        "recall@10": 0.0564, "recall@20": 0.0883, "ndcg@10": 0.0301, "ndcg@20": 0.0383
    }  # fmt: skip
    ours = rows["ours, 1 seed"]
    assert rows["ours - published (paper)"]["ndcg@20"] == pytest.approx(ours["ndcg@20"] - 0.0383)


@pytest.mark.parametrize("script", ["baby.py", "sports.py", "electronics.py", "tiktok.py"])
def test_a_missing_folder_is_one_line(script: str, tmp_path: Path) -> None:
    done = run(script, str(tmp_path / "none"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "none" in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()
