"""Seconds until a quality: what is measured, what is kept, what is printed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import quality  # type: ignore[import-not-found]
import torch
from curves import best_value, curve, seconds_to, table, targets_of  # type: ignore[import-not-found]
from reference import ReferenceBM3, ReferenceEvaluation  # type: ignore[import-not-found]
from torch_geometric.data import HeteroData

import bm3_pyg
from bm3_pyg.data.planted import make_planted

SCRIPT = Path(quality.__file__)
SETTING = quality.Setting("baby", False, 4096, 0.002, 1, 20, 4, 0, 1)


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def run_of(values: list[float | None], batch_size: int = 2048, lr: float = 1e-3, **other: Any) -> dict[str, Any]:
    """A run whose epochs train for 2 CPU seconds and are evaluated in 1, where they are."""
    epochs = [
        {"train": {"cpu": 2.0, "wall": 4.0}, "eval": {"cpu": float(value is not None), "wall": 1.0}, "val": value}
        for value in values
    ]
    setting = {"dataset": "baby", "plain": False, "eval_every": 1, "seed": 0, "threads": 1, **other}
    test = {"recall@20": 0.08, "ndcg@20": 0.03}
    return {**setting, "batch_size": batch_size, "lr": lr, "epochs": epochs, "best_epoch": 2, "test": test}


@pytest.fixture(scope="module")
def demo() -> HeteroData:
    return make_planted("demo", 0)


@pytest.mark.parametrize("names", [(), ("image",), ("image", "text")])
def test_the_plain_model_computes_the_same_numbers(demo: HeteroData, names: tuple[str, ...]) -> None:
    data = demo.clone()
    for name in {"image", "text"} - {*names}:
        del data["item"][name]
    options = {"num_layers": 2, "dropout": 0.0, "reg_weight": 0.1}
    plain, ours = ReferenceBM3(data.clone(), **options), bm3_pyg.BM3.from_data(data, **options)
    assert {*plain.features} == {*names}
    weights = {
        name.replace("_embedding.weight", "_embedding").replace("predictor", "objective.predictor"): value
        for name, value in plain.state_dict().items()
        if not name.startswith("features")
    }
    assert not ours.load_state_dict(weights, strict=False).unexpected_keys
    users, items = data["user", "rates", "item"].edge_index[:, :3000]
    assert plain.loss(users, items).item() == pytest.approx(ours.loss(users, items).total.item(), rel=1e-5)
    for split in ("val", "test"):
        metrics = ReferenceEvaluation(data, split).run(plain)
        ours_too = bm3_pyg.evaluate(ours, data, split)
        assert metrics == pytest.approx({name: ours_too[name] for name in metrics}, abs=1e-6)


def test_training_is_the_same_without_the_evaluations_left_out(demo: HeteroData) -> None:
    every, second = (quality.train_ours(quality.replace(SETTING, eval_every=number), demo.clone()) for number in (1, 2))
    assert [epoch["val"] for epoch in second["epochs"]][1::2] == [epoch["val"] for epoch in every["epochs"]][1::2]
    assert [epoch["val"] is None for epoch in second["epochs"]] == [True, False, True, False]
    assert second["epochs"][0]["eval"] == {"wall": 0.0, "cpu": 0.0}
    assert all(epoch["train"]["cpu"] > 0 for epoch in [*every["epochs"], *second["epochs"]])
    assert all(epoch["eval"]["cpu"] > 0 for epoch in every["epochs"])


def test_the_plain_loop_learns_and_stops(demo: HeteroData) -> None:
    torch.manual_seed(5)
    result = quality.train_plain(quality.replace(SETTING, plain=True, lr=0.01, max_epochs=5, patience=1), demo.clone())
    values = [epoch["val"] for epoch in result["epochs"]]
    assert values[result["best_epoch"] - 1] == max(values)
    assert len(values) == min(result["best_epoch"] + 1, 5)
    assert result["test"]["recall@20"] > 0.02  # at random: 20 of 1,000


def test_seconds_to_a_value() -> None:
    run = run_of([0.01, 0.02, 0.03, 0.04])
    assert [*curve(run, "cpu")] == [(3.0, 0.01), (6.0, 0.02), (9.0, 0.03), (12.0, 0.04)]
    assert [*curve(run, "cpu", 2)] == [(5.0, 0.02), (10.0, 0.04)]
    assert [*curve(run_of([None, 0.02, None, 0.04]), "cpu")] == [(5.0, 0.02), (10.0, 0.04)]
    assert [seconds_to(run, 0.03, "cpu", every) for every in (1, 2, 5)] == [9.0, 10.0, math.inf]
    assert seconds_to(run, 0.03, "wall") == 15.0
    assert best_value(run_of([None, 0.02, None, 0.01])) == 0.02


def test_targets_are_those_of_the_published_settings() -> None:
    runs = [run_of([value]) for value in (0.1, 0.3, 0.2)]
    others = [run_of([0.9], batch_size=8192), run_of([0.9], lr=1e-2), run_of([0.9], plain=True)]
    assert targets_of([*runs, *others, run_of([0.9], eval_every=2)]) == pytest.approx([0.198, 0.19])
    assert targets_of(others) == [math.inf, math.inf]


def test_patience_and_learning_rate_grow_with_the_batch() -> None:
    begin = quality.published("tiktok", 1)
    found = quality.grid(begin, [2048, 8192, 32768], ["one", "sqrt", "linear"])
    assert [[setting.lr for setting in rates] for rates in found] == [
        [0.001],
        [0.001, 0.002, 0.004],
        [0.001, 0.004, 0.016],
    ]
    assert [rates[0].patience for rates in found] == [60, 120, 240]
    assert found[0] == [begin]


def test_a_table_has_medians_and_says_what_was_not_reached() -> None:
    runs = [run_of([0.1, 0.2]), run_of([0.2, 0.3], seed=1), run_of([0.2, 0.1], seed=2)]
    runs += [run_of([None, 0.1], 8192, 0.002, eval_every=2), run_of([0.2], plain=True)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(runs, "cpu").splitlines()[4:]]
    assert [row[:4] for row in rows] == [
        ["plain", "2,048", "0.001", "1"],
        ["ours", "2,048", "0.001", "3"],
        ["ours", "8,192", "0.002", "1"],
    ]
    assert rows[1][4:7] == ["3 / 5 / –", "3 / 5 / –", "0.2000 (0.2000 to 0.3000)"]
    assert rows[2][4:7] == ["–", "–", "0.1000"]


def test_a_run_is_kept_and_not_repeated(
    demo: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "quality.jsonl"
    first = quality.run(quality.replace(SETTING, max_epochs=1), demo, out)
    assert "baby, ours, 4,096, lr 0.002, seed 0: validation Recall@20 0." in capsys.readouterr().out
    monkeypatch.setattr(quality, "train_ours", None)
    assert quality.run(quality.replace(SETTING, max_epochs=1), demo, out) == first
    assert quality.read(out) == [first]


def test_the_other_seeds_are_of_the_soonest_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = {0.001: [0.1, 0.2], 0.002: [0.1, 0.199], 0.004: [0.25], 0.008: [0.1]}

    def trained(setting: Any, _: object) -> dict[str, Any]:
        return {key: run_of([*epochs[setting.lr]])[key] for key in ("epochs", "best_epoch", "test")}

    monkeypatch.setattr(quality, "train_ours", trained)
    out = tmp_path / "quality.jsonl"
    args = quality._parser().parse_args(["baby", "--out", str(out)])
    quality.study(
        quality.grid(quality.published("baby", 1), [2048, 8192], ["one", "sqrt", "linear"]), HeteroData(), args
    )
    assert [(run["batch_size"], run["lr"], run["seed"]) for run in quality.read(out)] == [
        *((2048, 0.001, 0), (8192, 0.001, 0), (8192, 0.002, 0), (8192, 0.004, 0)),
        *((2048, 0.001, 1), (2048, 0.001, 2), (8192, 0.004, 1), (8192, 0.004, 2)),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jester"], "got 'jester', expected a dataset of ml100k, tiktok, baby, sports"),
        (["baby"], "no baby in {here}/none, expected the real datasets there (set BM3_SHARED_DATA)"),
        (["--table", "none.jsonl"], "--table: no file none.jsonl"),
        (["--table", "half.jsonl"], "half.jsonl: line 2: found no JSON, expected a run; take the line out"),
        (["--table", "whole.jsonl", "--plot", "a.png"], "--plot: expected one DATASET"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quality, "SHARED", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["quality.py", *arguments])
    whole = json.dumps(run_of([0.1]))
    Path("whole.jsonl").write_text(whole + "\n")
    Path("half.jsonl").write_text(whole + "\n" + whole[:40])
    assert quality.main() == 2
    assert capsys.readouterr().err == f"quality.py: {message.format(here=tmp_path)}\n"


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "quality.jsonl"
    runs = [run_of([0.1, 0.2]), run_of([0.1, 0.3], seed=1), run_of([0.2], plain=True)]
    file.write_text("".join(json.dumps(run) + "\n" for run in runs))
    done = script("baby", "--table", str(file), "--plot", str(tmp_path / "baby.svg"))
    assert done.returncode == 0, done.stderr
    drawn = (tmp_path / "baby.svg").read_text()
    assert "ours, 2,048, lr 0.001" in drawn
    assert "validation Recall@20" in drawn
