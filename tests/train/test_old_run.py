"""A run folder made before there were seals, locks and records of kernels is read, reported and gone on with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bm3_pyg import TrainConfig, evaluate, fit, load_dataset, load_run
from bm3_pyg.errors import RunError
from bm3_pyg.study.runs import gather
from bm3_pyg.train.settings import build_model

OLD = Path(__file__).parent / "old_run"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old" / "run"


def test_it_is_read(old: Path) -> None:
    metrics = json.loads((old / "metrics.json").read_text())
    model, data = load_run(old, data=load_dataset(OLD / "shop"))
    for split in ("val", "test"):
        assert evaluate(model, data, split) == pytest.approx(metrics[split], abs=1e-6)
    gathered = gather([old])
    assert gathered.warnings == []
    assert gathered.runs[0].metrics == metrics


def test_it_is_gone_on_with(old: Path) -> None:
    data = load_dataset(OLD / "shop")
    model = build_model(data, {"embedding_dim": 4}, 0, "cpu")
    result = fit(model, data, TrainConfig(max_epochs=5, batch_size=16, lr=0.01), old, resume=True, verbose=False)
    before = [json.loads(line) for line in (OLD / "run" / "history.jsonl").read_text().splitlines()]
    assert result.history[:3] == before
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4, 5]
    environment = json.loads((old / "environment.json").read_text())
    assert "kernels" not in environment
    assert environment["resumed"][0]["kernels"]
    assert (old / "seal.json").exists()
    assert load_run(old, data=data)[0].options == model.options
    assert torch.load(old / "best.pt", weights_only=True)["epoch"] == result.best_epoch


NEWER = """
import sys
from dataclasses import make_dataclass
import bm3_pyg.train.settings as config
config.TrainConfig = make_dataclass("TrainConfig", [("warm_up", int, 0)], bases=(config.TrainConfig,), frozen=True)
from bm3_pyg import load_dataset, load_run
from bm3_pyg.train.run_files import read_config
run, data = sys.argv[1:]
load_run(run, data=load_dataset(data))
from pathlib import Path
print(read_config(Path(run))["train"]["warm_up"])
"""


def test_a_setting_that_came_later_has_its_default(old: Path) -> None:
    command = [sys.executable, "-c", NEWER, str(old), str(OLD / "shop")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "0\n"


def test_a_setting_of_a_newer_version_is_refused(old: Path) -> None:
    config = old / "config.yaml"
    config.write_text(config.read_text() + "  warm_up: 3\n")
    with pytest.raises(RunError, match=r"config\.yaml: train: unknown key 'warm_up'"):
        load_run(old, data=load_dataset(OLD / "shop"))


def test_its_figures_are_not_reported_beside_weights_of_another_epoch(old: Path) -> None:
    best = torch.load(old / "best.pt", weights_only=True)
    torch.save({**best, "epoch": best["epoch"] + 4}, old / "best.pt")
    with pytest.raises(RunError, match=rf"best\.pt: of epoch {best['epoch'] + 4}, expected epoch {best['epoch']}"):
        gather([old])
