"""A sweep: what it runs, what it does not run again, what it refuses."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch_geometric.data import HeteroData

from bm3_pyg.data import load_dataset, modalities
from bm3_pyg.errors import ConfigError, RunError
from bm3_pyg.files import locked_folder
from bm3_pyg.study.search import Setting, Sweep, read_sweep
from bm3_pyg.study.selection import outcomes
from bm3_pyg.study.sweep import run_sweep, train_one


def sweep_of(shop: Path, *settings: Setting, seeds: tuple[int, ...] = (0,)) -> Sweep:
    return Sweep({"source": str(shop)}, settings, seeds, ("max_epochs=2", "dropout=0.1"), "cpu")


def test_runs_are_done_once_and_a_failed_one_is_tried_again(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Setting("bm3", ("num_layers=2",)), Setting("bm3", ("lr=1e38",))
    out = tmp_path / "out"
    found = run_sweep(sweep_of(shop, good, bad), out, jobs=2)
    assert [one.finished for one in found] == [True, False]
    assert "not finite" in str(found[1].error)
    assert [line[:5] for line in capsys.readouterr().err.splitlines()] == ["[1/2]", "[2/2]"]
    config = (out / "bm3_num_layers=2" / "seed-0" / "config.yaml").read_text()
    assert "num_layers: 2" in config
    assert "dropout: 0.1" in config
    before = (out / good.name / "seed-0" / "metrics.json").stat().st_mtime_ns
    again = run_sweep(sweep_of(shop, good, bad), out, jobs=2)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "1 of 2 runs are finished already"
    assert second.startswith("[2/2] bm3 lr=1e38, seed 0: FAILED: ")
    assert again == found
    assert (out / good.name / "seed-0" / "metrics.json").stat().st_mtime_ns == before


def test_one_run_is_that_of_fit_and_takes_what_fits_its_model(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(shop, Setting("popularity"), Setting("bm3", ("dropout=0.3",)))
    read: list[HeteroData] = []

    def load(**source: Any) -> HeteroData:
        read.append(load_dataset(**source))
        return read[-1]

    monkeypatch.setattr("bm3_pyg.data.load_dataset", load)
    for setting in sweep.settings:
        (tmp_path / "out" / setting.name).mkdir(parents=True)
        train_one(sweep, tmp_path / "out", setting, 0)
    finished = outcomes(sweep, tmp_path / "out")
    assert all(one.finished for one in finished)
    assert json.loads((finished[1].folder / "metrics.json").read_text())["test"] == finished[1].test
    config = (finished[1].folder / "config.yaml").read_text()
    assert "dropout: 0.3" in config
    assert [modalities(data) for data in read] == [{}, {}]  # the models have them


def test_who_waits_for_another_process_builds_nothing(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_of(shop, Setting("bm3"))
    folder = sweep.folder(tmp_path, sweep.settings[0], 0)
    waits: list[float] = []

    def finish(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (folder / "metrics.json").touch()
            lock.close()

    def load_dataset(**_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(time, "sleep", finish)
    monkeypatch.setattr("bm3_pyg.data.load_dataset", load_dataset)
    with ExitStack() as lock:
        lock.enter_context(locked_folder(folder))
        train_one(sweep, tmp_path, sweep.settings[0], 0)
    assert len(waits) == 3


def test_a_sweep_is_read_back(shop: Path, tmp_path: Path) -> None:
    sweep = sweep_of(shop, Setting("bm3", corrupt="random", label="noise"), seeds=())
    assert run_sweep(sweep, tmp_path / "out") == []
    assert read_sweep(tmp_path / "out") == sweep
    (tmp_path / "out" / "sweep.yaml").write_text("settings: 3\n")
    with pytest.raises(RunError, match=r"sweep\.yaml: "):
        read_sweep(tmp_path / "out")


def test_what_is_refused_before_anything_runs(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    twice = Setting("bm3", ("num_layers=1",))
    with pytest.raises(ConfigError, match="stands twice"):
        run_sweep(sweep_of(shop, twice, twice), out)
    with pytest.raises(ConfigError, match="unknown key 'num_layer'"):
        run_sweep(sweep_of(shop, Setting("bm3", ("num_layer=1",))), out)
    with pytest.raises(ConfigError, match="unknown key 'drop'"):
        run_sweep(replace(sweep_of(shop, twice), fixed=("drop=1",)), out)
    with pytest.raises(ConfigError, match="lr"):
        run_sweep(sweep_of(shop, Setting("bm3", ("lr=high",))), out)
    assert not out.exists()
    run_sweep(sweep_of(shop, twice, seeds=()), out)
    with pytest.raises(RunError, match="holds a sweep of"):
        run_sweep(replace(sweep_of(shop, twice, seeds=()), source={"source": "demo"}), out)


def test_a_run_made_with_other_settings_is_refused(shop: Path, tmp_path: Path) -> None:
    sweep, out = sweep_of(shop, Setting("bm3")), tmp_path / "out"
    (out / "bm3").mkdir(parents=True)
    train_one(sweep, out, sweep.settings[0], 0)
    with pytest.raises(RunError, match="was trained with max_epochs 2, expected 3"):
        run_sweep(replace(sweep, fixed=("max_epochs=3", "dropout=0.1")), out)
    with pytest.raises(RunError, match=r"was trained with dropout 0.1, expected 0.2"):
        run_sweep(replace(sweep, fixed=("max_epochs=2", "dropout=0.2")), out)
