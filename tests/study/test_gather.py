"""What is found in folders, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.errors import RunError
from bm3_pyg.study.runs import gather
from bm3_pyg.study.search import Setting

Make = Callable[..., Path]


def test_runs_are_found_at_any_depth_and_once(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "runs" / "a" / "b", seed=3)
    make_run(tmp_path / "runs" / "c")
    make_run(tmp_path / "runs" / ".hidden")
    found = gather([tmp_path / "runs", tmp_path / "runs" / "c"])
    assert [(run.name, run.seed, run.model, run.mask) for run in found.runs] == [
        ("runs/a/b", 3, "bm3", "train"),
        ("runs/c", 0, "bm3", "train"),
    ]
    assert not found.warnings
    assert gather([tmp_path / "runs" / "c"]).runs[0].metrics["best_epoch"] == 2


def test_failed_unfinished_and_damaged_runs_are_named_without_machine_paths(tmp_path: Path, make_run: Make) -> None:
    runs = tmp_path / "runs"
    make_run(runs / "good")
    for name in ("failed", "stopped"):
        (make_run(runs / name) / "metrics.json").unlink()
    (runs / "failed.error").write_text(f"loss is not finite;\nsee {runs}/failed.log\n")
    (make_run(runs / "torn", sealed=False) / "metrics.json").write_text("{")
    (make_run(runs / "poor", sealed=False) / "metrics.json").write_text("{}")
    found = gather([runs])
    assert [run.name for run in found.runs] == ["runs/good"]
    assert "runs/failed failed and is left out: loss is not finite; see runs/failed.log" in found.warnings
    assert "runs/stopped is not finished and is left out" in found.warnings
    assert any("runs/poor/metrics.json: schema: got None, expected 1" in warning for warning in found.warnings)
    assert any(warning.startswith("runs/torn cannot be used and is left out") for warning in found.warnings)
    assert str(tmp_path) not in " ".join(found.warnings)


def test_a_sweep_and_its_runs_are_one_thing(tmp_path: Path, make_run: Make, make_sweep: Make) -> None:
    one, two = Setting("bm3", ("num_layers=1",)), Setting("bm3", ("num_layers=2",))
    out = make_sweep(tmp_path / "sweep", [one, two])
    inside = make_run(out / one.name / "seed-0", options={"num_layers": 1})
    (out / two.name).mkdir()
    (out / two.name / "seed-1.error").write_text("loss is not finite\n")
    found = gather([inside, out])
    assert not found.runs
    (swept,) = found.sweeps
    assert [run.seed for run in swept.by_setting[one]] == [0]
    assert found.every_run() == swept.by_setting[one]
    assert swept.unchanged is None
    assert f"sweep: {two}, seed 1 failed and is left out: loss is not finite" in found.warnings
    assert f"sweep: {one}, seed 1 is not finished and is left out" in found.warnings


def test_the_unchanged_setting_of_an_ablation(tmp_path: Path, make_run: Make, make_sweep: Make) -> None:
    settings = [Setting("bm3", label="BM3 as published"), Setting("bm3", corrupt="random", label="random features")]
    out = make_sweep(tmp_path / "sweep", settings, 1)
    for setting in settings:
        make_run(out / setting.name / "seed-0")
    (swept,) = gather([out]).sweeps
    assert swept.unchanged == settings[0]
    assert [(run.corrupt, run.label) for runs in swept.by_setting.values() for run in runs] == [
        (None, "BM3 as published"),
        ("random", "random features"),
    ]


def test_what_is_refused(tmp_path: Path, make_run: Make) -> None:
    with pytest.raises(RunError, match="no such folder"):
        gather([tmp_path / "absent"])
    with pytest.raises(RunError, match="no finished run, expected at least one"):
        gather([tmp_path])
    (make_run(tmp_path / "run") / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"no finished run \(.*run is not finished"):
        gather([tmp_path])
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.yaml").write_text("settings: 3\n")
    make_run(tmp_path / "other")
    assert any("sweep.yaml: schema: got None" in warning for warning in gather([tmp_path]).warnings)
