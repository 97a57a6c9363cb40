"""Whole reports: nothing is averaged silently, and nothing of the machine is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bm3_pyg.data import load_dataset
from bm3_pyg.study.content import Report
from bm3_pyg.study.report import build_report
from bm3_pyg.study.search import Setting, ablations, grid
from bm3_pyg.train import TrainConfig, fit
from bm3_pyg.train.settings import build_model

Make = Callable[..., Path]


def plain(report: Report) -> str:
    return json.dumps(report.plain(), allow_nan=False)


def test_trained_runs_and_their_dataset(shop: Path, tmp_path: Path) -> None:
    data = load_dataset(shop)
    for model, options in (("bm3", {"embedding_dim": 8, "num_layers": 2}), ("popularity", {})):
        for seed in (0, 1):
            built = build_model(data, options, seed, "cpu", model)
            fit(built, data, TrainConfig(max_epochs=2, seed=seed), tmp_path / f"runs/{model}-{seed}", verbose=False)
    report = build_report([tmp_path / "runs"])
    (section,) = report.sections
    assert report.title == "Recommendation on shop"
    assert (section.dataset["users"], section.dataset["splits"]["test"]) == (12, 12)
    assert "Metrics are means over the 12 users with test interactions." in section.protocol
    assert [(row.label, row.seeds) for row in section.rows] == [("BM3", (0, 1)), ("Popularity", (0, 1))]
    for row in section.rows:
        saved = [
            json.loads((tmp_path / f"runs/{row.model}-{seed}/metrics.json").read_text())["test"] for seed in (0, 1)
        ]
        for metric, spread in row.test.items():
            assert spread.values == tuple(one[metric] for one in saved)
            assert spread.mean == pytest.approx((saved[0][metric] + saved[1][metric]) / 2)
    assert {one.metric for one in section.comparisons} == {"recall@10", "recall@20", "ndcg@10", "ndcg@20"}
    assert 0 < section.beyond["Popularity"]["coverage@20"] <= 1
    assert section.strata
    assert [curve.label for curve in section.curves] == ["BM3", "BM3"]
    assert "bm3 train shop --model bm3 --set embedding_dim=8 num_layers=2 max_epochs=2 --seed 1" in section.commands
    assert not section.published
    assert not report.warnings
    assert not section.warnings
    assert str(tmp_path) not in plain(report)


def test_missing_seeds_failed_runs_and_single_seeds_are_said(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "runs/a0", seed=0)
    make_run(tmp_path / "runs/a1", seed=1)
    make_run(tmp_path / "runs/b0", "lightgcn", seed=0)
    (make_run(tmp_path / "runs/b1", "lightgcn", seed=1) / "metrics.json").unlink()
    (tmp_path / "runs/b1.error").write_text("loss is not finite\n")
    report = build_report([tmp_path / "runs"], title="Mine")
    (section,) = report.sections
    assert report.title == "Mine"
    assert report.warnings == ("runs/b1 failed and is left out: loss is not finite",)
    assert "LightGCN has no seed 1, which others have" in section.warnings
    assert "one seed only, so how much figures vary with it is not known: LightGCN" in section.warnings
    assert "rows with unequal seeds are compared on the seeds that both have" in section.warnings


def test_models_that_are_counted_need_no_seeds(tmp_path: Path, make_run: Make) -> None:
    for seed in (0, 1):
        make_run(tmp_path / f"runs/a{seed}", seed=seed)
    make_run(tmp_path / "runs/b", "popularity")
    make_run(tmp_path / "runs/c", "itemknn", seed=1)
    (section,) = build_report([tmp_path / "runs"]).sections
    assert [warning for warning in section.warnings if "seed" in warning] == []
    assert len(section.rows) == 3
    assert len(section.comparisons) == 8
    assert any("the dataset of runs/a0 is not at hand" in text for text in section.warnings)
    assert section.dataset["name"] == "shop"
    assert section.dataset["modalities"] == {"image": {"dim": 5}, "text": {"dim": 4}}
    assert all(one.seeds_p is None for one in section.comparisons)


def test_two_datasets_and_two_protocols_have_sections_of_their_own(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "runs/a", shift=0.1)
    make_run(tmp_path / "runs/b", dataset="other", fingerprint="e" * 64)
    make_run(tmp_path / "runs/c", train={"mask": "seen"})
    report = build_report([tmp_path / "runs"])
    assert [(one.dataset["name"], len(one.rows)) for one in report.sections] == [("shop", 1), ("other", 1), ("shop", 1)]
    assert not any(section.comparisons for section in report.sections)
    assert "mask=seen" in report.sections[2].protocol[0]
    assert "training and validation items" in report.sections[2].protocol[0]
    first, second = report.warnings
    assert first.startswith("the runs are on 2 datasets: shop, other; each has its own section")
    assert second.startswith("the runs follow 2 protocols (mask seen, train)")


def test_other_commits_and_threads_are_said(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1, environment={"commit": "b" * 40, "threads": 2})
    (section,) = build_report([tmp_path]).sections
    assert [text.split(":")[0] for text in section.warnings if "differ in" in text] == [
        "runs differ in commit",
        "runs differ in threads",
    ]


def test_a_sweep_shows_test_figures_of_the_selected_setting_only(
    tmp_path: Path, make_run: Make, make_sweep: Make
) -> None:
    settings = [*grid(["bm3"], ["num_layers=1,2"]), Setting("popularity")]
    out = make_sweep(tmp_path / "sweep", settings)
    for seed in (0, 1):
        make_run(out / settings[0].name / f"seed-{seed}", seed=seed, options={"num_layers": 1}, val=0.3)
        make_run(out / settings[1].name / f"seed-{seed}", seed=seed, options={"num_layers": 2}, val=0.2, shift=0.3125)
        make_run(out / settings[2].name / f"seed-{seed}", "popularity", seed=seed)
    report = build_report([out])
    (section,) = report.sections
    assert [(row.label, row.settings) for row in section.rows] == [("BM3", ""), ("Popularity", "")]
    assert section.searches == (
        "bm3: 2 settings x 2 seeds, selected on validation Recall@20",
        "popularity: 1 setting x 2 seeds, nothing to select",
    )
    assert [(row["setting"], row["seeds"], row["selected"]) for row in section.search_rows] == [
        ("bm3 num_layers=1", [0, 1], True),
        ("bm3 num_layers=2", [0, 1], False),
        ("popularity", [0, 1], True),
    ]
    assert section.search_rows[1]["val"].mean == 0.2
    assert "unequal tuning: settings tried are bm3 2, popularity 1" in section.warnings
    assert any("selected by mean validation" in sentence for sentence in section.protocol)
    hidden = json.loads((out / settings[1].name / "seed-0" / "metrics.json").read_text())["test"]["recall@20"]
    assert str(hidden) not in plain(report)
    assert not any("side by side" in text for text in section.warnings)


def test_a_sweep_without_a_whole_setting_selects_none(tmp_path: Path, make_run: Make, make_sweep: Make) -> None:
    (setting,) = settings = [Setting("bm3")]
    out = make_sweep(tmp_path / "sweep", settings)
    make_run(out / setting.name / "seed-0")
    report = build_report([out])
    (section,) = report.sections
    assert section.rows == ()
    assert "sweep: no setting of bm3 has all its seeds, so none is selected" in section.warnings
    assert report.warnings == ("sweep: bm3, seed 1 is not finished and is left out",)


def test_settings_beside_each_other_are_no_selection(tmp_path: Path, make_run: Make) -> None:
    make_run(tmp_path / "a", options={"num_layers": 1})
    make_run(tmp_path / "b", options={"num_layers": 2})
    (section,) = build_report([tmp_path]).sections
    assert [row.label for row in section.rows] == ["BM3 num_layers=1", "BM3 num_layers=2"]
    assert any(text.startswith("2 settings of BM3 stand side by side") for text in section.warnings)


def test_an_ablation_sweep(tmp_path: Path, make_run: Make, make_sweep: Make) -> None:
    settings = list(ablations(["image", "text"]))
    out = make_sweep(tmp_path / "sweep", settings, 2, {"--preset": ["ablation"], "--seeds": ["2"]})
    options: dict[str, dict[str, Any]] = {
        "without image": {"modalities": ["text"]},
        "without text": {"modalities": ["image"]},
        "without any feature": {"modalities": []},
        "alignment off": {"align_weight": 0.0, "mask_weight": 2.0},
        "masking off": {"mask_weight": 0.0},
        "features frozen": {"freeze_features": True},
    }
    for at, setting in enumerate(settings):
        for seed in (0, 1):
            spoilt = {"fingerprint": f"{at}" * 64, "corrupt": setting.corrupt} if setting.corrupt else {}
            changed = {"modalities": ["image", "text"], **options.get(setting.label, {})}
            make_run(out / setting.name / f"seed-{seed}", seed=seed, options=changed, **spoilt)
    report = build_report([out])
    (section,) = report.sections  # spoilt features are no other dataset
    assert not report.warnings
    assert [row.label for row in section.rows] == ["BM3 as published"]
    assert [one.label for one in section.ablations] == [setting.label for setting in settings[1:]]
    for one in section.ablations:
        assert (one.comparison.first, one.comparison.second) == (one.label, "BM3 as published")
        assert one.words.startswith(f"{one.label}: Recall@20 ")
        means = one.test["recall@20"].mean, section.rows[0].test["recall@20"].mean
        assert one.comparison.difference == pytest.approx(means[0] - means[1])
    assert "without any feature" in section.ablation_words
    assert "predictor" in section.ablation_words
    assert section.searches == ("sweep: 8 changes to BM3 as published x 2 seeds, none selected",)
    assert section.search_rows == ()
    assert section.commands == ("bm3 sweep shop --out runs/sweep --preset ablation --seeds 2",)
    plain(report)


def test_validation_alone_is_reported_without_tests(shop: Path, tmp_path: Path) -> None:
    lines = [line for line in (shop / "shop.inter").read_text().splitlines() if not line.endswith("\t2")]
    (shop / "shop.inter").write_text("\n".join(lines) + "\n")
    data = load_dataset(shop)
    for seed, model in enumerate(("bm3", "popularity")):
        fit(
            build_model(data, {}, seed, "cpu", model),
            data,
            TrainConfig(max_epochs=1),
            tmp_path / f"runs/{model}",
            verbose=False,
        )
    (section,) = build_report([tmp_path / "runs"]).sections
    assert [row.test for row in section.rows] == [{}, {}]
    assert np.isfinite(section.rows[0].val["recall@20"].mean)
    assert not section.comparisons
    assert not section.strata


def test_ablations_without_their_unchanged_model_and_two_ablations(
    tmp_path: Path, make_run: Make, make_sweep: Make
) -> None:
    settings = [Setting("bm3", label="BM3 as published"), Setting("bm3", ("mask_weight=0",), label="masking off")]
    for name, layers in (("one", 1), ("two", 2)):
        out = make_sweep(tmp_path / name, settings, 1)
        make_run(out / settings[0].name / "seed-0", options={"num_layers": layers})
        make_run(out / settings[1].name / "seed-0", options={"num_layers": layers, "mask_weight": 0.0})
    make_run(make_sweep(tmp_path / "three", settings, 1) / settings[1].name / "seed-0", options={"num_layers": 3})
    (section,) = build_report([tmp_path]).sections
    labels = ["BM3 as published num_layers=1", "BM3 as published num_layers=2"]
    assert [row.label for row in section.rows] == labels
    assert [one.comparison.second for one in section.ablations] == labels
    assert any("three: BM3 as published has no finished run" in text for text in section.warnings)
