"""What can be said of the benchmarks for a GPU without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from speed.roofline import CARDS, SIZES, Card, catch_up, step

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks/speed/gpu.sh"


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHON": sys.executable} | environment,
    )


def test_the_script_says_what_it_is_for() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    told = call("--help")
    assert told.returncode == 0
    assert "--dry-run" in told.stdout
    wrong = call("--sizes")
    assert wrong.returncode == 2
    assert wrong.stderr == "gpu.sh: got --sizes, expected a folder, --dry-run or --help\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_written(tmp_path: Path) -> None:
    done = call(str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "sees no GPU" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_table_has_what_there_is(tmp_path: Path) -> None:
    compared = {"ours_ms": 1.5, "reference_ms": 3.0, "ratio": 2.0}
    (tmp_path / "run-baby.json").write_text(json.dumps({"step": compared}))
    command = [sys.executable, str(ROOT / "benchmarks/speed/gpu.py"), "--table", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[2:] == ["| baby | step, ms | 1.50 | reference 3.00 | 2.00 |"]


@pytest.mark.parametrize("name", SIZES)
def test_bytes_of_a_step(name: str) -> None:
    size = SIZES[name]
    parts = {work.name: work for work in step(size)}
    nodes = (size.users + size.items) * 256
    # Two half-products a layer read a row, an id and a value for each interaction, and all rows in and out.
    layer = 2 * size.interactions * (256 + 8) + 2 * nodes
    assert parts["propagation, forward"].bytes == pytest.approx(size.layers * layer)
    assert parts["update, 4096"].bytes == pytest.approx(size.items_in_batch * 4096 * 4 * 7)
    assert parts["Adam on ids"].bytes == pytest.approx(7 * nodes)
    card = CARDS["H200"]
    in_l2 = {work.name: work for work in step(size, card)}
    assert in_l2["propagation, forward"].bytes < parts["propagation, forward"].bytes
    assert in_l2["update, 4096"] == parts["update, 4096"]


def test_the_rule_takes_less_than_the_terms_where_sleeps_are_long() -> None:
    by_rule, by_terms = (catch_up(SIZES["electronics"], 4096, by_terms) for by_terms in (False, True))
    assert by_rule < by_terms / 4
    slow = Card(bandwidth=1.0, flops=1e30)
    assert all(work.seconds(slow) == work.bytes for work in step(SIZES["baby"]))
