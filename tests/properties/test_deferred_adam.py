"""DeferredAdam against dense Adam in float64, whatever is read, touched, saved or flushed in between."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bm3_pyg.optim import DeferredAdam
from bm3_pyg.optim.row_table import RowTable

ROWS, WIDTH, DIM = 6, 3, 2


@pytest.fixture(params=["numba", "torch"], autouse=True, scope="module")
def _backend(request: pytest.FixtureRequest) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BM3_KERNELS", request.param)
        yield


class Model(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = RowTable(torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64))
        self.linear = nn.Linear(WIDTH, DIM, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(DIM, WIDTH, generator=generator))
            self.linear.bias.zero_()

    def loss(self, kind: str, rows: Tensor) -> Tensor:
        if kind == "project":
            return (self.table.project(rows, self.linear) - 1).square().sum()
        if kind == "gather":
            return self.table.gather(rows).sin().sum()
        if kind == "steady":
            return self.table.gather(rows).sum() + self.linear.weight.sum()
        if kind == "both":
            return self.loss("project", rows) + self.loss("gather", rows.flip(0))
        return self.table.weight.square().sum() + self.linear.bias.sum()


BATCH = st.lists(st.integers(0, ROWS - 1), max_size=8)
STEP = st.tuples(st.just("step"), st.sampled_from(["project", "gather", "both", "dense"]), BATCH)
SLEEP = st.tuples(st.just("sleep"), st.integers(1, 40))
RATE = st.tuples(st.just("lr"), st.sampled_from([0.0, 1e-4, 1e-2, 0.5]))
OTHER = st.tuples(st.sampled_from(["flush", "save", "read", "load weights", "skip"]))


@given(
    st.lists(STEP | SLEEP | RATE | OTHER, max_size=25),
    st.integers(0, 99),
    st.sampled_from([(0.9, 0.999), (0.5, 0.9), (0.0, 0.999)]),
    st.sampled_from([1e-8, 1e-3]),
)
def test_every_history_ends_as_dense_adams(
    history: list[tuple[Any, ...]], seed: int, betas: tuple[float, float], eps: float
) -> None:
    model, twin = Model(seed), Model(seed)
    optimizer: Any = DeferredAdam(model.parameters(), [model.table], betas=betas, eps=eps)
    dense: Any = torch.optim.Adam(twin.parameters(), betas=betas, eps=eps)

    def step(kind: str, rows: list[int]) -> None:
        for each, optim in ((model, optimizer), (twin, dense)):
            optim.zero_grad()
            each.loss(kind, torch.tensor(rows, dtype=torch.long)).backward()
            optim.step()

    for action, *given_ in history:
        if action == "step":
            step(*given_)
        elif action == "sleep":  # one row again and again; at a loss of zero any two Adams drift apart
            for _ in range(given_[0]):
                step("steady", [0])
        elif action == "lr":
            for optim in (optimizer, dense):
                optim.param_groups[0]["lr"] = given_[0]
        elif action == "flush":
            model.table.flush()
        elif action == "save":
            saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
            model = Model(seed + 1)
            optimizer = DeferredAdam(model.parameters(), [model.table], betas=betas, eps=eps)
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
        elif action == "load weights":
            for each in (model, twin):
                each.load_state_dict(Model(seed + 2).state_dict())
        elif action == "skip":  # a step without any gradient
            for optim in (optimizer, dense):
                optim.zero_grad()
                optim.step()
        else:
            torch.testing.assert_close(model.table.gather(torch.arange(ROWS)), twin.table.gather(torch.arange(ROWS)))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-9, atol=1e-10, msg=name)
