"""Early stopping against a plain search through the validation values, many of them equal."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, fit
from bm3_pyg.names import SELECTION
from bm3_pyg.train.early_stopping import EarlyStopping
from bm3_pyg.train.run import RunFolder


def consider(stopping: EarlyStopping, epoch: int, val: dict[str, float]) -> None:
    """An epoch that leaves its number as the weights."""
    with torch.no_grad():
        for weight in stopping.model.parameters():
            weight.fill_(epoch)
    stopping.consider(epoch, val)


@pytest.mark.parametrize("seed", range(40))
def test_the_best_epoch_and_the_last_are_those_of_a_search(seed: int) -> None:
    """Of equal epochs the first is the best. At each epoch another takes over, from what last.pt holds of this one."""
    random = Random(seed)
    values = [random.randrange(5) / 4 for _ in range(12)]
    config = TrainConfig(max_epochs=12, patience=random.randint(1, 5), min_epochs=random.randrange(13))

    def best(epochs: int) -> int:
        return 1 + values.index(max(values[:epochs]))

    ends = next(n for n in range(1, 13) if n == 12 or (n - best(n) >= config.patience and n >= config.min_epochs))
    model, epoch = nn.Linear(1, 1), 0
    kept, taken = EarlyStopping(model, config, None), EarlyStopping(model, config, None)
    while not kept.ends_after(epoch):
        assert not taken.ends_after(epoch)
        epoch += 1
        val = {SELECTION: values[epoch - 1], "ndcg@20": random.random()}
        state = taken.state_dict()
        taken = EarlyStopping(model, config, None)
        taken.load_state_dict(state)
        for stopping in (kept, taken):
            consider(stopping, epoch, val)
        assert kept.state_dict() == taken.state_dict()
        assert (kept.best_epoch, kept.best[SELECTION]) == (best(epoch), max(values[:epoch]))
    assert taken.ends_after(epoch)
    assert epoch == ends
    kept.load_best()
    assert float(model.weight.detach()) == best(ends)


def test_without_validation_the_last_epoch_is_the_best() -> None:
    model = nn.Linear(1, 1)
    stopping = EarlyStopping(model, TrainConfig(max_epochs=5, patience=1), None)
    for epoch in range(1, 6):
        assert not stopping.ends_after(epoch - 1)
        consider(stopping, epoch, {})
        assert (stopping.best_epoch, stopping.without_gain, stopping.best) == (epoch, 0, {})
    assert stopping.ends_after(5)
    model.reset_parameters()
    stopping.load_best()
    assert float(model.weight.detach()) == 5


def test_weights_are_kept_in_the_folder(small_data: HeteroData, tmp_path: Path) -> None:
    model = BM3.from_data(small_data, embedding_dim=4)
    with RunFolder.open(tmp_path / "run", model, small_data, TrainConfig()) as folder:
        folder.begin()
        stopping = EarlyStopping(model, TrainConfig(), folder)
        for epoch, value in enumerate((0.1, 0.3, 0.3, 0.2), 1):
            consider(stopping, epoch, {SELECTION: value})
        stopping.load_best()
    saved = torch.load(tmp_path / "run/best.pt", weights_only=True)
    assert saved["epoch"] == stopping.best_epoch == 2
    assert all(bool((weight == 2).all()) for weight in model.parameters())


# In a run -------------------------------------------------------------------------------------------------------------


class Scripted(nn.Module):
    """Validation goes as scripted: epoch e ranks the positives of the first script[e] tenths of the users first."""

    def __init__(self, data: HeteroData, script: list[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.script, self.epoch, self.data = script, -1, data

    def loss(self, users: Tensor, items: Tensor) -> Any:
        return BM3.from_data(self.data, embedding_dim=8).loss(users, items)._replace(total=self.weight.sum())

    def scorer(self) -> Any:
        self.epoch += 1
        share = self.script[min(self.epoch, len(self.script) - 1)]
        scores = torch.zeros(60, 40)
        val = self.data["user", "rates", "item"].val_edge_index
        good = val[:, val[0] < 6 * share]
        scores[good[0], good[1]] = 1
        bad = val[:, val[0] >= 6 * share]
        scores[bad[0], bad[1]] = -1
        return lambda users: scores[users].clone()


@pytest.mark.parametrize(
    ("script", "patience", "min_epochs", "epochs", "best"),
    [
        ([1, 2, 3, 2, 3, 1, 9], 3, 0, 6, 3),  # an equal value is no gain
        ([5, 1, 1, 1, 1, 9, 1, 1], 2, 5, 5, 1),  # min_epochs holds the stop back, the count goes on
        ([5, 1, 1, 9, 1, 1, 1], 2, 4, 6, 4),
        ([1, 2, 3, 4, 5, 6, 7, 8], 1, 0, 8, 8),
    ],
)
def test_early_stopping(
    small_data: HeteroData, script: list[int], patience: int, min_epochs: int, epochs: int, best: int
) -> None:
    settings = TrainConfig(max_epochs=8, patience=patience, min_epochs=min_epochs, batch_size=10_000)
    result = fit(Scripted(small_data, script), small_data, settings, verbose=False)
    assert (len(result.history), result.best_epoch) == (epochs, best)
