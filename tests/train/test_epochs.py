"""Epochs against a plain loop over batches with dense Adam, and stopped and taken up anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, fit
from bm3_pyg.data import edges_of
from bm3_pyg.errors import RunError, TrainingError
from bm3_pyg.protocols import takes_generator
from bm3_pyg.train.epochs import Epochs, Position
from bm3_pyg.train.interrupt import StopFlag
from bm3_pyg.train.numbers import RunNumbers

CONFIG = TrainConfig(batch_size=100, lr=0.01, seed=3)
LAST = Path("last.pt")


class Pair(NamedTuple):
    total: Tensor
    other: Tensor


class Dots(nn.Module):
    """Users and items of 60 and 40; its losses are means over the batch."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.users = nn.Parameter(torch.randn(60, 4, generator=generator))
        self.items = nn.Parameter(torch.randn(40, 4, generator=generator))

    def loss(self, users: Tensor, items: Tensor) -> Pair:
        scores = (self.users[users] * self.items[items]).sum(1)
        return Pair(nn.functional.softplus(-scores).mean(), scores.square().mean())


@contextmanager
def epochs_of(model: Any, data: HeteroData) -> Iterator[Epochs]:
    model.train()
    with (
        RunNumbers(CONFIG.seed, torch.device("cpu"), shares=not takes_generator(model.loss)) as numbers,
        closing(Epochs(model, edges_of(data, "train"), CONFIG, numbers, LAST)) as epochs,
    ):
        yield epochs


def advance(epochs: Epochs, steps: int | None = None) -> dict[str, float]:
    """The rest of the epoch, or so many steps of it."""
    stop, left = StopFlag(), iter(range((steps or epochs.steps) - 1, -1, -1))

    def after_step(step: int, of: int) -> None:
        stop.set = next(left) == 0

    return epochs.advance(stop, after_step)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_steps_and_mean_losses_are_those_of_a_plain_loop(small_data: HeteroData) -> None:
    """The last batch is shorter than the others."""
    edges, model, twin = edges_of(small_data, "train"), Dots(), Dots()
    count = edges.size(1)
    assert count % CONFIG.batch_size
    adam, found, expected = torch.optim.Adam(twin.parameters(), lr=CONFIG.lr), [], []
    torch.manual_seed(CONFIG.seed)
    for _ in range(3):
        sums = {"total": 0.0, "other": 0.0}
        for batch in torch.randperm(count).split(CONFIG.batch_size):
            losses = twin.loss(*edges[:, batch])
            adam.zero_grad()
            losses.total.backward()
            adam.step()
            for name, value in losses._asdict().items():
                sums[name] += float(value.detach()) * len(batch)
        expected.append({name: total / count for name, total in sums.items()})
    with epochs_of(model, small_data) as epochs:
        for _ in range(3):
            found.append(advance(epochs))
            epochs.end()
        assert epochs.position == Position(3)
    assert found == [pytest.approx(losses, rel=1e-12) for losses in expected]
    torch.testing.assert_close(weights(model), weights(twin), rtol=0, atol=0)


def test_the_losses_of_part_of_an_epoch_are_the_means_over_it(small_data: HeteroData) -> None:
    edges, model, twin = edges_of(small_data, "train"), Dots(), Dots()
    with epochs_of(model, small_data) as epochs:
        losses = advance(epochs, 1)
        assert epochs.position.step == 1
        assert epochs.position.order is not None
        batch = epochs.position.order[: CONFIG.batch_size]
    expected = twin.loss(*edges[:, batch])._asdict()
    assert losses == pytest.approx({name: float(value.detach()) for name, value in expected.items()})


@pytest.mark.parametrize("steps", [1, 3, None])
def test_an_epoch_is_taken_up_bit_for_bit(small_data: HeteroData, steps: int | None) -> None:
    """After its first step, within it, and after its last; dropout and the rows that wait for their update go on."""

    def model_of() -> BM3:
        torch.manual_seed(0)
        return BM3.from_data(small_data, embedding_dim=8)

    whole, stopped, resumed = model_of(), model_of(), model_of()
    with epochs_of(whole, small_data) as epochs:
        expected = []
        for _ in range(3):
            expected.append(advance(epochs))
            epochs.end()
        assert epochs.steps > 4
    file = io.BytesIO()
    with epochs_of(stopped, small_data) as epochs:
        advance(epochs)
        epochs.end()
        advance(epochs, steps)
        assert epochs.position.step == (steps or epochs.steps)
        torch.save(epochs.state_dict(), file)
    file.seek(0)
    found = []
    with epochs_of(resumed, small_data) as epochs:
        epochs.load_state_dict(torch.load(file, weights_only=True), LAST)
        for _ in range(2):
            found.append(advance(epochs))
            epochs.end()
    assert found == expected[1:]
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_the_state_of_other_interactions_is_refused(small_data: HeteroData) -> None:
    with epochs_of(Dots(), small_data) as epochs:
        advance(epochs, 2)
        state = epochs.state_dict()
    order = state["state"]["order"]
    fewer = small_data.clone()
    fewer["user", "rates", "item"].edge_index = edges_of(small_data, "train")[:, :-1]
    other = {**state, "state": {**state["state"], "order": torch.zeros_like(order)}}
    beyond = {**state, "state": {**state["state"], "step": 99}}
    for data, wrong in ((fewer, state), (small_data, other), (small_data, beyond)):
        with (
            epochs_of(Dots(), data) as epochs,
            pytest.raises(RunError, match=r"last\.pt: state: not that of an epoch of"),
        ):
            epochs.load_state_dict(wrong, LAST)


def test_what_is_not_finite_is_told(small_data: HeteroData) -> None:
    model = Dots()
    with epochs_of(model, small_data) as epochs:
        advance(epochs)
        with torch.no_grad():
            model.items[7, 1] = torch.nan
        with pytest.raises(TrainingError, match="epoch 1: weights are not finite after its last step"):
            epochs.end()
        epochs.position = Position(1)
        with pytest.raises(TrainingError, match=r"epoch 2: loss is not finite \(total nan, other nan\)"):
            advance(epochs)


# In a run -------------------------------------------------------------------------------------------------------------


def test_the_recorded_loss_is_the_mean_over_the_interactions(small_data: HeteroData) -> None:
    """Batches of 100 with a short last one; a model whose loss is the number of its batch."""

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.sizes: list[int] = []
            self.inner = BM3.from_data(small_data, embedding_dim=8)

        def scorer(self) -> Any:
            return self.inner.scorer()

        def loss(self, users: Tensor, items: Tensor) -> Any:
            self.sizes.append(users.numel())
            losses = self.inner.loss(users, items)
            return losses._replace(total=losses.total * 0 + len(self.sizes))

    model = Counting()
    edges = small_data["user", "rates", "item"].edge_index.size(1)
    result = fit(model, small_data, TrainConfig(max_epochs=1, batch_size=100))
    assert model.sizes == [100] * (edges // 100) + [edges % 100]
    expected = sum((i + 1) * size for i, size in enumerate(model.sizes)) / edges
    assert result.history[0]["loss"]["total"] == pytest.approx(expected)


def test_each_epoch_is_announced_once(small_data: HeteroData, tmp_path: Path) -> None:
    class PerEpoch(BM3):
        started = 0

        def start_epoch(self) -> None:
            self.started += 1

    model = PerEpoch.from_data(small_data, embedding_dim=8)
    fit(model, small_data, TrainConfig(max_epochs=3), verbose=False)
    assert isinstance(model, PerEpoch)
    assert model.started == 3
