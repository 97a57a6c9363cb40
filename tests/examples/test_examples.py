"""Every example runs from anywhere and says what it promises; the documentation's Python runs as it stands."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "put-bm3-into-your-recommender.md"


def output(name: str, folder: Path) -> str:
    """What the example prints, on one thread, run in ``folder``, where nothing is left behind."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    return done.stdout


def recalls(text: str) -> list[float]:
    return [float(value) for value in re.findall(r"Recall@20 ([\d.]+)", text)]


def test_quickstart(tmp_path: Path) -> None:
    printed = output("quickstart.py", tmp_path)
    popularity, bm3 = recalls(printed)
    assert bm3 > 1.5 * popularity
    assert len(re.findall(r"user \d+: items (\d+, ){4}\d+\n", printed)) == 2


@pytest.mark.long
def test_own_catalogue(tmp_path: Path) -> None:
    printed = output("own_catalogue.py", tmp_path)
    assert "400 customers, 240 products" in printed
    assert recalls(printed)[0] > 2 * 20 / 240
    assert len(re.findall(r"^  SKU-\d{4} +-?[\d.]+  \w+ number \d+ for friends", printed, flags=re.MULTILINE)) == 5


@pytest.mark.long
@pytest.mark.parametrize(("name", "model"), [("lightgcn.py", "LightGCN"), ("bm3_lightgcn.py", "BM3LightGCN")])
def test_lightgcn_and_its_twin(name: str, model: str, tmp_path: Path) -> None:
    printed = output(name, tmp_path)
    assert printed.startswith(f"{model} before training")
    found = recalls(printed)
    assert len(found) == 6
    assert found[-1] > 0.15 > 5 * found[0]


def test_the_twins_are_two_lines_apart() -> None:
    theirs, ours = ((EXAMPLES / name).read_text(encoding="utf-8") for name in ("lightgcn.py", "bm3_lightgcn.py"))
    changes = [line for line in difflib.ndiff(theirs.splitlines(), ours.splitlines()) if line[0] in "+-"]
    assert [line[0] for line in changes] == ["-", "+", "-", "+"]
    calls = (".LightGCN(", ".BM3LightGCN(", ".recommendation_loss(", ".bootstrap_loss(")
    assert all(call in line for line, call in zip(changes, calls, strict=True))


@pytest.mark.long
def test_custom_encoder(tmp_path: Path) -> None:
    printed = output("custom_encoder.py", tmp_path)
    popularity, bm3 = recalls(printed)
    assert bm3 > popularity
    weights = [float(value) for value in re.findall(r"0\.\d{3}\b", printed.splitlines()[-1])]
    assert sum(weights) == pytest.approx(1, abs=0.002)
    assert weights != [0.5, 0.5]


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs faiss")
def test_topk_faiss(tmp_path: Path) -> None:
    printed = output("topk_faiss.py", tmp_path)
    found = {name: float(value) for name, value in re.findall(r"(\w+): 1000 items, .* ([\d.]+)\n", printed)}
    assert found["flat"] >= 0.99
    assert found["hnsw"] >= 0.8
    assert len(re.findall(r"user 42: items (\d+, ){9}\d+", printed)) == 1


def commands_of(name: str) -> list[list[str]]:
    """The commands in an example's docstring, each as its arguments."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    return [line.split() for line in re.findall(r"^    bm3 (.*)$", text, flags=re.MULTILINE)]


@pytest.mark.long
def test_own_model(tmp_path: Path) -> None:
    """From the folder of the module, which is not on Python's path, as for the ``bm3`` script."""
    shutil.copy(EXAMPLES / "own_model.py", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    script = "import sys; sys.path.pop(0); from bm3_pyg.cli import main; sys.exit(main())"
    used = (["evaluate", "runs/softmax"], ["recommend", "runs/softmax"], ["similar", "runs/softmax", "--items", "ids"])
    (tmp_path / "ids").write_text("3\n")
    for arguments in (*commands_of("own_model.py"), *used):
        command = [sys.executable, "-c", script, *arguments, *(["--seeds", "1"] if arguments[0] == "sweep" else [])]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs/softmax/metrics.json").read_text())["test"]["recall@20"] > 0.25
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "own_model:SoftmaxMF temperature=0.1" in report
    assert "BPRMF" in report


def test_the_table_names_every_example() -> None:
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\]\((\w+\.py)\)", table)) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_the_pages_python_runs_in_thirty_lines() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    assert len([line for block in blocks for line in block.splitlines() if line]) <= 30
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    top, losses, scores = names["top"], names["losses"], names["scores"]
    assert isinstance(top, torch.Tensor)
    assert top.shape == (2, 20)
    assert int(top.min()) >= 2000
    assert isinstance(losses, tuple)
    assert losses[0].requires_grad
    assert isinstance(scores, torch.Tensor)
    assert scores.shape == (2000, 1000)
