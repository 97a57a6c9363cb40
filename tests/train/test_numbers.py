from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg import BM3, TrainConfig, fit
from bm3_pyg.errors import ConfigError
from bm3_pyg.models import MODELS
from bm3_pyg.train.numbers import RunNumbers
from bm3_pyg.train.settings import build_model

CONFIG = TrainConfig(max_epochs=3, batch_size=100, lr=0.01, seed=7)


class Encoder(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(rate)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(self.linear(x))
        return hidden


def with_encoder(data: HeteroData, rate: float) -> BM3:
    torch.manual_seed(0)
    return BM3.from_data(data, embedding_dim=8, encoder=Encoder(rate))


def weights_after(model: Any, data: HeteroData) -> dict[str, Tensor]:
    fit(model, data, CONFIG, verbose=False)
    weights: dict[str, Tensor] = model.state_dict()
    return weights


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["bm3", "freedom", "lightgcn"])
def test_a_seed_decides_the_result_in_any_thread(small_data: HeteroData, name: str) -> None:
    def run(_: int) -> dict[str, Tensor]:
        return weights_after(build_model(small_data, {}, 3, "cpu", name), small_data)

    expected = run(0)
    with ThreadPoolExecutor(3) as threads:
        assert all(equal(weights, expected) for weights in threads.map(run, range(3)))


def test_global_numbers_are_refused_in_another_thread_and_repeatable_in_the_main_one(small_data: HeteroData) -> None:
    assert equal(*(weights_after(with_encoder(small_data, 0.5), small_data) for _ in range(2)))
    with ThreadPoolExecutor(1) as thread:
        with pytest.raises(ConfigError, match=r"model: aten.* draws from PyTorch's global random numbers"):
            thread.submit(weights_after, with_encoder(small_data, 0.5), small_data).result()
        there = thread.submit(weights_after, with_encoder(small_data, 0.0), small_data).result()
    assert equal(there, weights_after(with_encoder(small_data, 0.0), small_data))


def test_a_loss_without_generator_makes_the_same_run(small_data: HeteroData) -> None:
    """It draws from the global numbers what the other draws from its own."""
    plain, wrapped = (build_model(small_data, {"embedding_dim": 8}, 0, "cpu") for _ in range(2))
    loss = wrapped.loss
    wrapped.loss = lambda users, items: loss(users, items)
    assert equal(weights_after(plain, small_data), weights_after(wrapped, small_data))


@pytest.mark.parametrize("name", MODELS)
def test_the_callers_numbers_go_on(small_data: HeteroData, name: str) -> None:
    def drawn() -> tuple[float, float, list[float]]:
        return random.random(), float(np.random.random()), torch.rand(3).tolist()  # noqa: NPY002

    def begin() -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)

    begin()
    expected = drawn()
    begin()
    fit(build_model(small_data, {}, 5, "cpu", name), small_data, CONFIG, verbose=False)
    assert drawn() == expected


def test_a_run_on_a_gpu_from_before_runs_had_numbers_of_their_own_goes_on_from_those_of_its_gpu() -> None:
    class OnSecondGPU:
        device = torch.device("cuda:1")
        state: Tensor

        def set_state(self, state: Tensor) -> None:
            self.state = state

    numbers = RunNumbers(0, torch.device("cpu"), shares=False)
    generator: Any = OnSecondGPU()
    numbers.generator = generator
    states = [torch.full((16,), gpu, dtype=torch.uint8) for gpu in range(2)]
    numbers.load_state_dict({"rng": torch.zeros(5056, dtype=torch.uint8), "cuda_rng": states})
    assert generator.state.equal(states[1])
