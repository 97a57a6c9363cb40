"""Groups, labels, figures and costs of rows."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bm3_pyg.study.rows import curves, grouped, other_than_default, row_of, written
from bm3_pyg.study.runs import gather

Make = Callable[..., Path]


def test_a_row_is_what_a_plain_loop_makes_of_metrics_json(tmp_path: Path, make_run: Make) -> None:
    for seed in (2, 0, 1):
        make_run(tmp_path / f"run-{seed}", seed=seed, val=0.2 + seed / 100)
    warnings: list[str] = []
    (group,) = grouped(gather([tmp_path]).runs, warnings)
    row = row_of(group)
    assert not warnings
    assert (row.label, row.model, row.settings, row.seeds, row.epochs) == ("BM3", "bm3", "", (0, 1, 2), (2, 2, 2))
    saved = [json.loads((tmp_path / f"run-{seed}" / "metrics.json").read_text()) for seed in (0, 1, 2)]
    for split, spreads in (("test", row.test), ("val", row.val)):
        assert spreads.keys() == saved[0][split].keys()
        for metric, spread in spreads.items():
            values = [one[split][metric] for one in saved]
            mean = sum(values) / 3
            deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
            assert spread.values == tuple(values)
            assert spread.mean == pytest.approx(mean, abs=1e-15)
            assert spread.deviation == pytest.approx(deviation, abs=1e-12)
    assert (row.train_seconds, row.epoch_seconds, row.eval_seconds, row.memory_mb) == (6.0, 2.0, 0.5, 102.0)


def test_one_seed_has_no_deviation_and_a_model_without_training_no_curve(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a", "popularity")
    make_run(tmp_path / "b", "lightgcn")
    popularity, lightgcn = grouped(gather([tmp_path]).runs, [])
    assert row_of(popularity).test["recall@20"].deviation is None
    assert row_of(popularity).epochs == (0,)
    assert curves(popularity) == []
    (curve,) = curves(lightgcn)
    assert (curve.label, curve.seed, curve.selected, curve.epochs) == ("LightGCN", 0, 2, (1, 2, 3))
    assert curve.validation == pytest.approx((0.24, 0.25, 0.24))
    assert curve.losses == {"total": (2.0, 1.0, 0.0)}


def test_labels_name_what_differs_and_settings_what_is_not_default(tmp_path: Path, make_run: Make) -> None:
    both = {"modalities": ["text", "image"], "num_layers": 2}
    make_run(tmp_path / "a", options={**both, "dropout": 0.3}, train={"patience": 9})
    make_run(tmp_path / "b", options={**both, "modalities": []}, train={"patience": 9})
    make_run(tmp_path / "c", "lightgcn")
    first, second, other = grouped(gather([tmp_path]).runs, [])
    assert first.label == "BM3 modalities=[text, image] dropout=0.3"
    assert second.label == "BM3 modalities=[] dropout=0.5"
    assert other.label == "LightGCN"
    assert row_of(first).settings == "num_layers=2 dropout=0.3 patience=9"
    assert other_than_default(second.runs[0]) == ["modalities=[]", "num_layers=2", "patience=9"]


def test_an_option_that_an_older_run_lacks_stands_at_its_default(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "old", seed=0, options={"num_layers": 1})
    make_run(tmp_path / "new", seed=1, options={"num_layers": 1, "mirror_weight": 0.0})
    assert [group.seeds for group in grouped(gather([tmp_path]).runs, [])] == [(0, 1)]


def test_a_seed_that_stands_twice_is_not_averaged(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", shift=0.1)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    warnings: list[str] = []
    (group,) = grouped(gather([tmp_path]).runs, warnings)
    assert [run.folder.name for run in group.runs] == ["a"]
    assert [("OTHER" in text, "the same" in text) for text in warnings] == [(True, False), (False, True)]


def test_values_are_written_as_they_are_read() -> None:
    values = [None, True, False, 0.1, 1e-4, 1 / 3, 2, "image", ["a", "b"], []]
    assert [written(value) for value in values] == [
        *("null", "true", "false", "0.1", "0.0001", "0.3333333333333333", "2", "image", "[a, b]", "[]")
    ]
