from __future__ import annotations

import json
from pathlib import Path

import pytest

from bm3_pyg import load_dataset
from bm3_pyg.data import modalities
from bm3_pyg.errors import ConfigError, RunError, WriteError
from bm3_pyg.train.request import RunRequest, train_run


def test_a_run_is_made_and_gone_on_with(shop: Path, tmp_path: Path) -> None:
    out, command = tmp_path / "run", ["bm3", "train", str(shop)]
    request = RunRequest({"source": str(shop)}, out, settings=["max_epochs=1", "seed=5"], seed=3, command=command)
    run = train_run(request)
    assert run.out == run.result.out == out
    assert (run.config.seed, run.data.name, type(run.model).__name__) == (3, "shop", "BM3")
    assert not modalities(run.data)
    assert json.loads((out / "environment.json").read_text())["command"] == command
    with pytest.raises(RunError, match="exists already; resume it"):
        train_run(request)
    more = train_run(RunRequest(out=out, settings=["max_epochs=2"], resume=True, command=[*command, "--resume"]))
    assert (more.config.seed, len(more.result.history)) == (3, 2)
    environment = json.loads((out / "environment.json").read_text())
    assert [environment["command"], environment["resumed"][0]["command"]] == [command, [*command, "--resume"]]


def test_a_folder_of_its_own_by_default(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = RunRequest({"source": str(shop)}, model="popularity")
    assert [str(train_run(request).out) for _ in range(2)] == ["runs/shop", "runs/shop-2"]


def test_a_folder_that_cannot_be_is_not_made(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = load_dataset(shop)
    data.name = "\udcff"
    monkeypatch.setattr("bm3_pyg.data.load_dataset", lambda **source: data)
    with pytest.raises(WriteError, match="the name is not UTF-8"):
        train_run(RunRequest({"source": str(shop)}, model="popularity"))
    assert not list(Path("runs").iterdir())


def test_what_cannot_be_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a dataset"):
        train_run(RunRequest())
    with pytest.raises(ConfigError, match="--resume: expected --out"):
        train_run(RunRequest(resume=True))
    with pytest.raises(ConfigError, match="--preset: is for bm3, got --model vbpr"):
        train_run(RunRequest({"source": "demo"}, model="vbpr", preset="plus"))
    with pytest.raises(RunError, match="not a run directory"):
        train_run(RunRequest(out=tmp_path / "none", resume=True))
