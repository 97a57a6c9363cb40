"""The comparison with other libraries: its loop by a tiny library that is none, each library where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from speed import peers
from torch_geometric.data import HeteroData

from bm3_pyg import evaluate
from bm3_pyg.data import edges_of


def rises_until(epoch: int, seen: list[int]) -> peers.Side:
    """Scores of the held-out items that rise until ``epoch`` and are then changed in place to be useless."""

    def train(data: HeteroData, settings: peers.Settings, seed: int, after_epoch: peers.AfterEpoch) -> None:
        users, items = edges_of(data, "val")
        wanted = torch.zeros(data["user"].num_nodes, data["item"].num_nodes)
        catalogue = torch.eye(data["item"].num_nodes)
        for number in range(1, 100):
            seen.append(number)
            known = len(users) * min(number, epoch) // epoch if number <= epoch else 0
            wanted.zero_()[users[:known], items[:known]] = 1.0
            after_epoch(lambda: (wanted, catalogue))

    return peers.Side(train, 1, {"strength": (1.0,)}, {"strength": 1.0})


def test_the_best_epoch_is_kept_and_tested_and_training_ends(small_data: HeteroData) -> None:
    seen: list[int] = []
    run = peers.train(small_data, "tiny", rises_until(4, seen), {"strength": 1.0}, seed=0, every=1)
    assert run.best_epoch == 4
    assert len(run.wall) == len(run.cpu) == len(seen) == 4 + peers.PATIENCE
    users, items = edges_of(small_data, "val")
    scores = torch.zeros(small_data["user"].num_nodes, small_data["item"].num_nodes)
    scores[users, items] = 1.0
    best = peers.Embedded((scores, torch.eye(small_data["item"].num_nodes)))
    for split, found in (("val", run.val), ("test", run.test)):
        metrics = evaluate(best, small_data, split, k=(20,))
        assert found == {name: metrics[name] for name in peers.METRICS}


def test_a_timed_run_is_two_epochs_and_never_evaluated(small_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "evaluated", None)
    run = peers.train(small_data, "tiny", rises_until(4, []), {}, seed=0, every=0)
    assert (len(run.cpu), run.val, run.test) == (2, {}, {})


def test_a_setting_is_selected_by_validation_and_runs_are_not_repeated(
    small_data: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[float, int]] = []
    values = {1.0: 0.1, 2.0: 0.3, 3.0: 0.2}

    def train(data: Any, name: str, side: Any, settings: peers.Settings, seed: int, every: int) -> peers.Run:
        trained.append((settings["lr"], seed))
        metrics = dict.fromkeys(peers.METRICS, values[settings["lr"]])
        return peers.Run(name, settings, seed, every, [2.0], [1.0], 1, metrics, metrics)

    monkeypatch.setattr(peers, "train", train)
    side = peers.Side(lambda *_: None, 1, {"lr": (1.0, 2.0, 3.0)}, {"lr": 1.0})
    file = tmp_path / "runs.json"
    for _ in range(2):
        peers.quality(small_data, {"tiny": side}, range(3), peers.Report(str(file)))
    assert trained == [(1.0, 0), (2.0, 0), (3.0, 0), (2.0, 1), (2.0, 2)]
    assert len(json.loads(file.read_text())["runs"]) == 5
    row = peers.table(peers.Report(str(file)).runs).splitlines()[-1]
    assert row.startswith("| tiny | lr=2 | 3 | 1 | 0.3000 ± 0.0000 |")


def test_what_is_not_installed_is_left_out_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shop: Path
) -> None:
    absent = peers.Side(lambda *_: None, 1, {}, {}, ("no-such-library==1.2",))
    here = peers.Side(lambda *_: None, 1, {}, {})
    monkeypatch.setattr(peers, "SIDES", {"absent": absent, "here": here})
    assert list(peers.present(["absent", "here"])) == ["here"]
    assert capsys.readouterr().err == "absent: left out, it needs: pip install no-such-library==1.2\n"
    assert peers.main([str(shop), "--sides", "absent"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "peers.py: no side is left, expected a library that is installed"
    )


@pytest.mark.parametrize("name", list(peers.SIDES))
def test_each_library_trains_and_is_measured(
    name: str, small_data: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = peers.SIDES[name]
    if side.absent():
        pytest.skip(f"needs {', '.join(side.absent())}")
    monkeypatch.setattr(peers, "MAX_EPOCHS", 2)
    settings = side.settings()[-1] if side.grid else side.timed
    run = peers.train(small_data, name, side, settings, seed=0, every=1)
    assert len(run.cpu) == 2
    assert all(0 <= run.test[metric] <= 1 for metric in peers.METRICS)
    assert run.best_epoch in (1, 2)
