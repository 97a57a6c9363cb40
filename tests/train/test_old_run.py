"""A run folder made before there were seals, locks and records of kernels is read, reported and gone on with."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bm3_pyg import TrainConfig, evaluate, fit, load_dataset, load_run
from bm3_pyg.errors import RunError
from bm3_pyg.study.runs import gather
from bm3_pyg.train import run_files
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


@dataclass(frozen=True)
class Newer(TrainConfig):
    """The settings of a version to come."""

    warm_up: int = 0

    def __post_init__(self) -> None:
        """No range is known of the new one."""


def test_a_setting_that_came_later_has_its_default(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "TrainConfig", Newer)
    load_run(old, data=load_dataset(OLD / "shop"))
    assert run_files.read_config(old)["train"]["warm_up"] == 0


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
