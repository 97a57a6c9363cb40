from __future__ import annotations

import copy
import json
import math
import os
import signal
import weakref
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, evaluate, fit, load_run
from bm3_pyg.data import fingerprint, modalities
from bm3_pyg.errors import DataError, RunError, TrainingError
from bm3_pyg.eval import RankingTask, ranking_task
from bm3_pyg.eval.ranking import best_items
from bm3_pyg.models import Popularity
from bm3_pyg.protocols import Scorer

KEPT = ("test_users.parquet", "test_positives.parquet", "beyond.json")


def model_of(data: HeteroData, **options: Any) -> BM3:
    torch.manual_seed(0)
    return BM3.from_data(data, embedding_dim=8, **options)


def config(**options: Any) -> TrainConfig:
    return TrainConfig(**{"max_epochs": 6, "batch_size": 100, "lr": 0.01, "checkpoint_seconds": 0, **options})


def weights_equal(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def strip_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: record[key] for key in ("epoch", "loss", "val")} for record in history]


def test_training_lowers_the_loss_and_records_every_epoch(small_data: HeteroData, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    result = fit(model_of(small_data), small_data, config(max_epochs=30), tmp_path / "run", callbacks=[seen.append])
    assert [record["epoch"] for record in result.history] == list(range(1, 1 + len(result.history)))
    assert result.history[-1]["loss"]["total"] < 0.8 * result.history[0]["loss"]["total"]
    assert seen == result.history
    lines = (tmp_path / "run/history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.history
    names = {
        "config.yaml",
        "environment.json",
        "history.jsonl",
        "best.pt",
        "last.pt",
        "metrics.json",
        "seal.json",
        *KEPT,
    }
    assert {path.name for path in (tmp_path / "run").iterdir()} == names


def test_the_best_epoch_is_selected_on_validation_and_tested(small_data: HeteroData, tmp_path: Path) -> None:
    model = model_of(small_data)
    result = fit(model, small_data, config(max_epochs=15), tmp_path / "run")
    recalls = [record["val"]["recall@20"] for record in result.history]
    assert result.best_epoch == 1 + recalls.index(max(recalls))
    assert result.val == evaluate(model, small_data, "val")
    assert result.test == evaluate(model, small_data, "test")
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test"] == result.test
    assert {"schema", "dataset", "model", "seed", "best_epoch", "val", "test"} == metrics.keys()


@pytest.mark.parametrize("model", ["bm3", "popularity"])
def test_each_split_is_ranked_once(
    small_data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """Validation after each epoch, the test at the end: its metrics are the means of the values kept of users."""
    ranked: list[int] = []

    def counting(scorer: Any, task: RankingTask, *args: Any) -> Any:
        ranked.append(task.positives.indices.numel())
        return best_items(scorer, task, *args)

    monkeypatch.setattr("bm3_pyg.eval.ranking.best_items", counting)
    monkeypatch.setattr("bm3_pyg.eval.held_out.best_items", counting)
    untrained = model_of(small_data) if model == "bm3" else Popularity.from_data(small_data)
    result = fit(untrained, small_data, config(max_epochs=3), tmp_path / "run")
    val, test = (ranking_task(small_data, split).positives.indices.numel() for split in ("val", "test"))
    assert ranked == [val] * len(result.history) + [test]
    users = pl.read_parquet(tmp_path / "run/test_users.parquet")
    means = {name: users[name].mean() for name in users.columns if "@" in name}
    assert {name: result.test[name] for name in means} == pytest.approx(means, rel=1e-12)


def test_evaluation_every_few_epochs_and_at_the_end(small_data: HeteroData) -> None:
    result = fit(model_of(small_data), small_data, config(max_epochs=7, eval_every=3))
    assert ["val" in record for record in result.history] == [False, False, True, False, False, True, True]


def test_without_validation_the_last_epoch_is_kept(small_data: HeteroData, tmp_path: Path) -> None:
    del small_data["user", "rates", "item"].val_edge_index
    result = fit(model_of(small_data), small_data, config(), tmp_path / "run")
    assert (result.best_epoch, result.val) == (6, {})
    assert result.test


def test_the_seed_decides_everything(small_data: HeteroData) -> None:
    one, two, other = model_of(small_data), model_of(small_data), model_of(small_data)
    histories = [
        strip_times(fit(model, small_data, config(seed=seed), verbose=False).history)
        for model, seed in ((one, 1), (two, 1), (other, 2))
    ]
    assert histories[0] == histories[1] != histories[2]
    assert weights_equal(one, two)


def test_the_callers_random_state_is_left_alone(small_data: HeteroData) -> None:
    model = model_of(small_data)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(model, small_data, config(max_epochs=1), verbose=False)
    assert torch.equal(torch.rand(3), expected)


def test_the_features_stay_in_the_data_unless_they_are_to_be_held_once(small_data: HeteroData, tmp_path: Path) -> None:
    del small_data["item"].num_nodes
    small_data["item"].x = torch.randn(40, 3)  # by which PyG then counts the items
    before = copy.deepcopy(small_data)
    names, tensors = list(modalities(small_data)), list(modalities(small_data).values())
    assert set(names) == {"image", "x"}
    kept, dropped = model_of(small_data), model_of(small_data)
    settings = config(max_epochs=2, save_features=True)
    fit(kept, small_data, settings, tmp_path / "kept")
    assert list(modalities(small_data).values()) == tensors  # the very same tensors
    assert fingerprint(small_data) == fingerprint(before)
    weak, places = [weakref.ref(tensor) for tensor in tensors], [tensor.data_ptr() for tensor in tensors]
    del tensors
    fit(dropped, small_data, settings, tmp_path / "dropped", keep_features=False)
    assert not modalities(small_data)
    assert not any(ref() for ref in weak)
    assert not {table.stored.data_ptr() for table in dropped.features.values()} & {*places}
    assert small_data["item"].num_nodes == before["item"].num_nodes
    assert weights_equal(kept, dropped)
    configs = [(tmp_path / run / "config.yaml").read_text() for run in ("kept", "dropped")]
    assert configs[0] == configs[1]
    assert all(name in configs[1] for name in names)


@pytest.mark.parametrize("stop_after", [1, 4, 5, 13])
def test_a_stopped_run_resumes_bit_for_bit(small_data: HeteroData, tmp_path: Path, stop_after: int) -> None:
    """Ctrl-C after some steps, within an epoch or at its end; then resume, and compare with an uninterrupted run."""
    whole = model_of(small_data)
    settings = config(save_features=True)
    expected = fit(whole, small_data, settings, tmp_path / "whole")

    stopped = model_of(small_data)
    steps, loss = [0], stopped.loss

    def interrupting(users: Tensor, items: Tensor) -> Any:
        steps[0] += 1
        if steps[0] == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(users, items)

    stopped.loss = interrupting  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt, match="resume"):
        fit(stopped, small_data, settings, tmp_path / "stopped")
    assert not (tmp_path / "stopped/metrics.json").exists()

    resumed = model_of(small_data)
    found = fit(resumed, small_data, settings, tmp_path / "stopped", resume=True)
    assert strip_times(found.history) == strip_times(expected.history)
    assert weights_equal(resumed, whole)
    assert (tmp_path / "stopped/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()


def test_epochs_after_the_last_checkpoint_are_done_again(small_data: HeteroData, tmp_path: Path) -> None:
    """As after kill -9: best.pt and history.jsonl are ahead of last.pt, and a line is half-written."""
    expected = fit(model_of(small_data), small_data, config(max_epochs=5), tmp_path / "whole")
    fit(model_of(small_data), small_data, config(max_epochs=2), tmp_path / "run")
    last = (tmp_path / "run/last.pt").read_bytes()
    fit(model_of(small_data), small_data, config(max_epochs=4), tmp_path / "run", resume=True)
    (tmp_path / "run/last.pt").write_bytes(last)
    for name in ("metrics.json", "seal.json"):
        (tmp_path / "run" / name).unlink()
    with (tmp_path / "run/history.jsonl").open("a") as file:
        file.write('{"epoch": 5, "lo')
    found = fit(model_of(small_data), small_data, config(max_epochs=5), tmp_path / "run", resume=True)
    assert strip_times(found.history) == strip_times(expected.history)
    assert (tmp_path / "run/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()


def test_resuming_a_finished_run_changes_nothing(small_data: HeteroData, tmp_path: Path) -> None:
    fit(model_of(small_data), small_data, config(), tmp_path / "run")
    before = (tmp_path / "run/metrics.json").read_bytes()
    fit(model_of(small_data), small_data, config(), tmp_path / "run", resume=True)
    assert (tmp_path / "run/metrics.json").read_bytes() == before


def test_a_run_killed_before_its_first_checkpoint_starts_again(small_data: HeteroData, tmp_path: Path) -> None:
    expected = fit(model_of(small_data), small_data, config(), tmp_path / "whole")
    fit(model_of(small_data), small_data, config(max_epochs=1), tmp_path / "run")
    for name in ("last.pt", "best.pt", "history.jsonl", "metrics.json", "seal.json"):
        (tmp_path / "run" / name).unlink()
    found = fit(model_of(small_data), small_data, config(), tmp_path / "run", resume=True)
    assert strip_times(found.history) == strip_times(expected.history)


def test_a_run_whose_checkpoint_is_gone_is_not_begun_again(small_data: HeteroData, tmp_path: Path) -> None:
    fit(model_of(small_data), small_data, config(max_epochs=1), tmp_path / "run")
    (tmp_path / "run/last.pt").unlink()
    before = (tmp_path / "run/best.pt").read_bytes()
    with pytest.raises(RunError, match=r"last\.pt: no such checkpoint"):
        fit(model_of(small_data), small_data, config(), tmp_path / "run", resume=True)
    assert (tmp_path / "run/best.pt").read_bytes() == before


def test_weights_that_are_not_finite_are_never_saved(small_data: HeteroData, tmp_path: Path) -> None:
    """The first epoch's losses are finite, its last step is not."""
    settings = config(lr=1e38, batch_size=10_000)
    with pytest.raises(TrainingError, match=r"epoch 1: weights are not finite .*last\.pt keeps the last good state"):
        fit(model_of(small_data), small_data, settings, tmp_path / "run")
    assert not (tmp_path / "run/best.pt").exists()
    saved = torch.load(tmp_path / "run/last.pt", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in saved.values())


def test_a_test_split_nobody_can_be_ranked_in_is_said_before_training(small_data: HeteroData, tmp_path: Path) -> None:
    small_data["user"].num_nodes = 61
    small_data["user", "rates", "item"].test_edge_index = torch.tensor([[60], [0]])
    with pytest.raises(DataError, match="no user has both test and training interactions"):
        fit(model_of(small_data), small_data, config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(small_data: HeteroData, tmp_path: Path) -> None:
    model = model_of(small_data)
    steps, loss = [0], model.loss

    def failing(users: Tensor, items: Tensor) -> Any:
        steps[0] += 1
        losses = loss(users, items)
        return losses._replace(total=losses.total * math.inf) if steps[0] == 12 else losses

    model.loss = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(TrainingError, match=r"epoch 3: loss is not finite .*last\.pt keeps the last good state"):
        fit(model, small_data, config(), tmp_path / "run")
    assert not (tmp_path / "run/metrics.json").exists()
    found = fit(model_of(small_data), small_data, config(), tmp_path / "run", resume=True)
    expected = fit(model_of(small_data), small_data, config(), tmp_path / "whole")
    assert strip_times(found.history) == strip_times(expected.history)


def test_an_existing_run_is_not_overwritten(small_data: HeteroData, tmp_path: Path) -> None:
    fit(model_of(small_data), small_data, config(max_epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match="exists already"):
        fit(model_of(small_data), small_data, config(max_epochs=1), tmp_path / "run")


def test_another_run_is_not_resumed(small_data: HeteroData, tmp_path: Path) -> None:
    fit(model_of(small_data), small_data, config(max_epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match=r"lr is 0\.01 there, got 0\.1"):
        fit(model_of(small_data), small_data, config(lr=0.1), tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="num_layers is 1 there, got 2"):
        fit(model_of(small_data, num_layers=2), small_data, config(), tmp_path / "run", resume=True)
    other = small_data.clone()
    other["user", "rates", "item"].edge_index = other["user", "rates", "item"].edge_index[:, 1:]
    with pytest.raises(RunError, match="another dataset"):
        fit(model_of(other), other, config(), tmp_path / "run", resume=True)
    with pytest.raises(RunError, match="not a run directory"):
        fit(model_of(small_data), small_data, config(), tmp_path / "nothing", resume=True)


def test_no_training_interactions(small_data: HeteroData) -> None:
    model = model_of(small_data)
    small_data["user", "rates", "item"].edge_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(DataError, match="no training interactions"):
        fit(model, small_data)


def test_a_model_without_a_loss_makes_a_run_of_epoch_0(small_data: HeteroData, tmp_path: Path) -> None:
    model = Popularity.from_data(small_data)
    seen: list[dict[str, Any]] = []
    result = fit(model, small_data, config(), tmp_path / "run", callbacks=[seen.append])
    assert result.best_epoch == 0
    assert result.val == evaluate(model, small_data, "val")
    assert result.test == evaluate(model, small_data, "test")
    assert [record["epoch"] for record in result.history] == [0]
    assert seen == result.history == [json.loads((tmp_path / "run/history.jsonl").read_text())]
    names = {"config.yaml", "environment.json", "history.jsonl", "best.pt", "metrics.json", "seal.json", *KEPT}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    loaded, _ = load_run(tmp_path / "run", data=small_data)
    assert evaluate(loaded, small_data) == result.test

    before = (tmp_path / "run/metrics.json").read_bytes()
    again = fit(Popularity.from_data(small_data), small_data, config(), tmp_path / "run", resume=True)
    assert (again.val, again.test) == (result.val, result.test)
    assert (tmp_path / "run/metrics.json").read_bytes() == before
    assert len((tmp_path / "run/history.jsonl").read_text().splitlines()) == 1


def test_without_a_loss_or_a_split_there_is_nothing_to_measure(small_data: HeteroData) -> None:
    del small_data["user", "rates", "item"].val_edge_index
    result = fit(Popularity.from_data(small_data), small_data)
    assert (result.val, result.out) == ({}, None)
    assert result.test


def test_a_test_that_fails_leaves_a_finished_run_of_an_untrained_model(small_data: HeteroData, tmp_path: Path) -> None:
    model = Popularity.from_data(small_data)
    fit(model, small_data, TrainConfig(), tmp_path / "run", verbose=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    scorer, calls = model.scorer, iter(range(2))

    def failing() -> Scorer:
        return scorer() if next(calls) == 0 else lambda users: torch.full((len(users), 40), torch.nan)

    model.scorer = failing  # type: ignore[method-assign]
    with pytest.raises(DataError):
        fit(model, small_data, TrainConfig(), tmp_path / "run", resume=True, verbose=False)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
