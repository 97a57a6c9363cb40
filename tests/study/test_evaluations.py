"""Per-user values: read where they are, made where they are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from bm3_pyg.data import load_dataset
from bm3_pyg.eval.users import user_metrics
from bm3_pyg.files import locked_folder
from bm3_pyg.study.rows import grouped
from bm3_pyg.study.runs import Evaluations, gather
from bm3_pyg.train import TrainConfig, fit
from bm3_pyg.train.loading import load_run
from bm3_pyg.train.settings import build_model

Make = Callable[..., Path]


def test_values_are_averaged_over_the_seeds_asked_for(tmp_path: Path, make_run: Make) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path / f"run-{seed}", seed=seed)
    (group,) = grouped(gather([tmp_path]).runs, [])
    warnings: list[str] = []
    evaluations = Evaluations(None, warnings)
    tables = [pl.read_parquet(tmp_path / f"run-{seed}" / "test_users.parquet") for seed in (0, 2)]
    found = evaluations.users(group, (0, 2))
    assert found is not None
    expected = [(left + right) / 2 for left, right in zip(*(table["recall@20"] for table in tables), strict=True)]
    assert found["recall@20"].to_list() == pytest.approx(expected)
    assert found["user"].to_list() == list(range(60))
    assert evaluations.users(group, (0, 2)) is found
    every = evaluations.users(group, (0, 1, 2))
    assert every is not None
    assert not every.equals(found)
    hits = evaluations.positives(group)
    assert hits is not None
    by_hand = [
        sum(column) / 3
        for column in zip(
            *(pl.read_parquet(tmp_path / f"run-{seed}" / "test_positives.parquet")["hit"] for seed in (0, 1, 2)),
            strict=True,
        )
    ]
    assert hits["hit"].to_list() == pytest.approx(by_hand)
    assert not warnings


@pytest.fixture
def trained(shop: Path, tmp_path: Path) -> Path:
    """A run of two epochs whose folder holds no per-user values, nor a seal that knows of them."""
    data = load_dataset(shop)
    out = tmp_path / "trained"
    fit(build_model(data, {"embedding_dim": 8}, 0, "cpu"), data, TrainConfig(max_epochs=2), out, verbose=False)
    for name in ("seal.json", "test_users.parquet", "test_positives.parquet", "beyond.json"):
        (out / name).unlink(missing_ok=True)
    return out


def test_a_run_without_them_gets_them_and_says_nothing(trained: Path) -> None:
    (run,) = gather([trained]).runs
    warnings: list[str] = []
    evaluations = Evaluations(None, warnings)
    values = evaluations.of(run)
    assert values is not None
    assert values.users.equals(user_metrics(*load_run(trained)))
    assert values.users["recall@20"].mean() == pytest.approx(run.metrics["test"]["recall@20"], abs=1e-7)
    assert values.positives.height == values.users["positives"].sum()
    assert 0 < values.beyond["coverage@20"] <= 1
    assert (trained / "test_users.parquet").exists()
    assert not warnings


def test_a_folder_in_use_is_not_written_into(trained: Path) -> None:
    (run,) = gather([trained]).runs
    warnings: list[str] = []
    with locked_folder(trained):
        assert Evaluations(None, warnings).of(run) is not None
    assert not (trained / "test_users.parquet").exists()
    assert not warnings


def test_a_run_that_has_gone_on_since_is_not_written_into(trained: Path) -> None:
    (run,) = gather([trained]).runs
    before = replace(run, metrics={**run.metrics, "best_epoch": 9})
    assert Evaluations(None, []).of(before) is not None
    assert not (trained / "test_users.parquet").exists()


def test_a_dataset_that_is_gone_is_said_and_can_be_given(trained: Path, shop: Path, tmp_path: Path) -> None:
    data = load_dataset(shop)
    shutil.rmtree(shop)
    (run,) = gather([trained]).runs
    warnings: list[str] = []
    evaluations = Evaluations(None, warnings)
    assert evaluations.of(run) is None
    assert evaluations.dataset(run) is None
    assert len(warnings) == 1
    assert "shop: the dataset of trained is not at hand (shop: no such file" in warnings[0]
    assert str(tmp_path) not in warnings[0]
    warnings = []
    given = Evaluations(data, warnings)
    assert given.of(run) is not None
    assert not warnings


def test_a_run_without_weights_has_no_values(trained: Path) -> None:
    (trained / "best.pt").unlink()
    (run,) = gather([trained]).runs
    warnings: list[str] = []
    evaluations = Evaluations(None, warnings)
    assert evaluations.of(run) is None
    assert warnings == ["trained: no per-user values, so no test (trained/best.pt: no such file)"]
    (group,) = grouped([run], [])
    assert evaluations.users(group, group.seeds) is None
    assert evaluations.positives(group) is None
