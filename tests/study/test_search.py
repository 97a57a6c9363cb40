"""Grids, samples and presets."""

from __future__ import annotations

import itertools

import pytest

from bm3_pyg import load_dataset
from bm3_pyg.data import modalities
from bm3_pyg.errors import ConfigError
from bm3_pyg.study.search import PUBLISHED, Setting, ablations, grid, sample
from bm3_pyg.train.settings import build_model, split_settings


def test_every_combination_of_every_model() -> None:
    settings = grid(["bm3", "lightgcn"], ["num_layers=1,2", "bm3.dropout=0.3,0.5", "lr=0.001,0.01"])
    expected = [
        Setting("bm3", combination)
        for combination in itertools.product(
            ("num_layers=1", "num_layers=2"), ("dropout=0.3", "dropout=0.5"), ("lr=0.001", "lr=0.01")
        )
    ] + [
        Setting("lightgcn", combination)
        for combination in itertools.product(("num_layers=1", "num_layers=2"), ("lr=0.001", "lr=0.01"))
    ]
    assert list(settings) == expected
    assert len({setting.name for setting in settings}) == len(settings)
    assert grid(["popularity"], []) == (Setting("popularity"),)
    assert len(grid(["bm3"], PUBLISHED)) == 8


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (["dropout"], "got 'dropout', expected KEY=VALUE"),
        (["dropout="], "expected KEY=VALUE"),
        (["vbpr.lr=1"], "vbpr is not among the models"),
        (["drop=1"], "has a setting 'drop'"),
        (["lr=1", "bm3.lr=2"], "got lr twice for bm3"),
    ],
)
def test_wrong_axes(axes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(["bm3"], axes)


def test_a_sample_is_of_each_model_and_has_no_repeats() -> None:
    settings = grid(["bm3", "lightgcn"], ["num_layers=1,2,3", "bm3.dropout=0.1,0.2,0.3"])
    chosen = sample(settings, 4, seed=1)
    assert [setting.model for setting in chosen] == ["bm3"] * 4 + ["lightgcn"] * 3
    assert len(set(chosen)) == 7
    assert set(chosen) <= set(settings)
    assert sample(settings, 4, seed=1) == chosen
    assert len({sample(settings, 4, seed) for seed in range(20)}) > 10
    with pytest.raises(ConfigError, match="--random"):
        sample(settings, 0)


def test_each_ablation_is_a_model_that_can_be_built() -> None:
    data = load_dataset("demo")
    rows = ablations(list(modalities(data)))
    assert len({row.name for row in rows}) == len({str(row) for row in rows}) == len(rows) == 9
    found = {str(row): build_model(data, split_settings(row.settings)[1], 0) for row in rows}
    assert list(found["without image"].features) == ["text"]
    assert list(found["without any feature"].features) == []
    assert found["alignment off"].objective.align_weight == 0
    assert found["features frozen"].options["freeze_features"]
    assert [str(row) for row in ablations(["image"])][1] == "without any feature"
