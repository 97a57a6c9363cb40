"""Run folders of a version before the house was put in order (commit 6741d2d) give what they gave then.

``bm3``, ``freedom`` and ``popularity`` are finished after 4 epochs, with lists that were recommended by them beside;
``begun`` was killed after 6 of 12, its best.pt of a later epoch than its last.pt.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from torch_geometric.data import HeteroData

from bm3_pyg import TrainConfig, evaluate, fit, load_dataset, load_run
from bm3_pyg.serving.lists import recommendation_table, write_table
from bm3_pyg.study.report import build_report
from bm3_pyg.train.run_files import RunFiles
from bm3_pyg.train.settings import build_model

SEALED = Path(__file__).parent / "sealed_runs"
FINISHED = ["bm3", "freedom", "popularity"]


@pytest.fixture
def data() -> HeteroData:
    return load_dataset(SEALED / "shop")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SEALED, tmp_path / "runs"))


def resume(run: Path, data: HeteroData, **changes: Any) -> Any:
    config = yaml.safe_load((run / "config.yaml").read_text())
    settings = TrainConfig(**{**config["train"], **changes})
    model = build_model(data, config["model"]["options"], settings.seed, "cpu", config["model"]["name"])
    return fit(model, data, settings, run, resume=True, verbose=False)


@pytest.mark.parametrize("name", FINISHED)
def test_evaluate(runs: Path, data: HeteroData, name: str) -> None:
    model, _ = load_run(runs / name, data=data)
    metrics = json.loads((SEALED / name / "metrics.json").read_text())
    for split in ("val", "test"):
        assert evaluate(model, data, split) == pytest.approx(metrics[split], abs=1e-6)


@pytest.mark.parametrize("name", ["bm3", "freedom"])
def test_recommend(runs: Path, data: HeteroData, tmp_path: Path, name: str) -> None:
    model, _ = load_run(runs / name, data=data)
    write_table(recommendation_table(model, data, k=5), tmp_path / "lists.csv")
    lists, before = pl.read_csv(tmp_path / "lists.csv"), pl.read_csv(SEALED / f"{name}.csv")
    assert lists.drop("score").equals(before.drop("score"))
    assert lists["score"].to_list() == pytest.approx(before["score"].to_list(), abs=1e-5)


@pytest.mark.parametrize("name", FINISHED)
def test_report(runs: Path, name: str) -> None:
    (section,) = build_report([runs / name]).sections
    (row,) = section.rows
    metrics = json.loads((SEALED / name / "metrics.json").read_text())
    assert {metric: spread.mean for metric, spread in row.test.items()} == pytest.approx(
        {metric: metrics["test"][metric] for metric in row.test}
    )
    assert section.strata


@pytest.mark.parametrize("name", ["bm3", "freedom"])
def test_an_epoch_more(runs: Path, data: HeteroData, name: str) -> None:
    result = resume(runs / name, data, max_epochs=5)
    before = [json.loads(line) for line in (SEALED / name / "history.jsonl").read_text().splitlines()]
    assert result.history[:4] == before
    assert len(result.history) == 5
    check_finished(runs / name, data, result)


def test_what_was_killed_between_best_and_last_goes_on(runs: Path, data: HeteroData) -> None:
    last = torch.load(SEALED / "begun" / "last.pt", weights_only=True)["state"]
    assert torch.load(SEALED / "begun" / "best.pt", weights_only=True)["epoch"] > last["best_epoch"]
    result = resume(runs / "begun", data)
    before = [json.loads(line) for line in (SEALED / "begun" / "history.jsonl").read_text().splitlines()]
    assert result.history[: last["epoch"]] == before[: last["epoch"]]
    assert len(result.history) == 12
    check_finished(runs / "begun", data, result)


def check_finished(run: Path, data: HeteroData, result: Any) -> None:
    """Sealed, and its figures those of its weights."""
    assert RunFiles(run).result().metrics["test"] == result.test
    assert not (run / "best-of-last.pt").exists()
    assert evaluate(load_run(run, data=data)[0], data, "test") == result.test
