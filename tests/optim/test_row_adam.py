"""Dense Adam is the twin: of a table's rows, and of how far off they may be."""

from __future__ import annotations

import copy
import math
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bm3_pyg.errors import ConfigError
from bm3_pyg.optim import DeferredAdam
from bm3_pyg.optim.row_adam import RowAdam
from bm3_pyg.optim.row_gradient import RowGradient, RowPart
from bm3_pyg.optim.row_table import RowTable

N, WIDTH = 40, 12
BETAS, EPS, LR = (0.9, 0.999), 1e-8, 1e-3


@pytest.fixture(params=["numba", "torch"], autouse=True)
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything below holds for both kinds of kernels."""
    monkeypatch.setenv("BM3_KERNELS", request.param)


def batches(steps: int, size: int = 3, seed: int = 0) -> Iterator[Tensor]:
    """Distinct rows per step, low ones often and high ones seldom; the last rows never."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        skewed = (torch.rand(size, generator=generator) ** 3 * (N - 5)).long()
        yield skewed.unique()


def test_errors_are_those_of_dense_float32_adam() -> None:
    """Dense Adam in float64 is the truth; DeferredAdam in float32 may err twice as much as dense Adam in float32."""
    generator = torch.Generator().manual_seed(1)
    origin = 0.1 * torch.randn(N, WIDTH, generator=generator, dtype=torch.float64)
    origin[:, ::2] = 0  # where small moves are not lost in the rounding of x
    exact, dense = nn.Parameter(origin.clone()), nn.Parameter(origin.float())
    tables = [RowTable(origin.float()), RowTable(origin.clone())]
    deferred = [DeferredAdam(table.parameters(), [table]) for table in tables]
    adams = [torch.optim.Adam([exact]), torch.optim.Adam([dense])]
    for step, rows in enumerate(batches(2000)):
        lr = 1e-3 * (1 + math.sin(step / 37)) * (0.0 if 700 <= step < 760 else 1.0)
        gradient = torch.randn(len(rows), WIDTH, generator=generator, dtype=torch.float64)
        gradient *= 10 ** (-8 * torch.rand(len(rows), WIDTH, generator=generator, dtype=torch.float64))
        for param in (exact, dense):
            param.grad = torch.zeros_like(param).index_copy_(0, rows, gradient.to(param.dtype))
        for table in tables:
            table.zero_grad()
            (table.gather(rows) * gradient.to(table.stored.dtype)).sum().backward()
        for optimizer in (*deferred, *adams):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        if step % 200 < 20 or step == 1999:
            error, own, error64 = (
                (x.detach().double() - exact.detach()).abs().max().item()
                for x in (tables[0].state_dict()["weight"], dense, tables[1].state_dict()["weight"])
            )
            assert error <= 2 * own, (step, error, own)
            assert error64 <= 1e-9 * exact.detach().abs().max(), (step, error64)


@pytest.mark.parametrize("touched", [1, 2, 30, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_may_sleep_for_any_number_of_steps(touched: int, dtype: torch.dtype) -> None:
    """The row learns for ``touched`` steps, is put to zero so that its moves stand out, and sleeps.

    The float64 twin falls asleep with the same moments, so what differs is the sleep.
    """
    table = RowTable(torch.zeros(1, 3, dtype=dtype))
    optimizer = DeferredAdam(table.parameters(), [table], lr=1e-3)
    row, gradient = torch.tensor([0]), torch.tensor([1e-8, 1e-6, 1.0], dtype=torch.float64)
    x, m, v = (torch.zeros(3, dtype=torch.float64) for _ in range(3))
    for step in range(1, touched + 3001):
        g = gradient if step <= touched else torch.zeros_like(gradient)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x = x - 1e-3 / (1 - 0.9**step) * m / (v.sqrt() / math.sqrt(1 - 0.999**step) + 1e-8)
        table.stored.grad = RowGradient([], table.stored)
        if step <= touched:
            (table.gather(row) * gradient.to(dtype)).sum().backward()
        optimizer.step()
        if step == touched:
            table.stored.data.zero_()
            state = optimizer.state_dict()["tables"][0]
            x, m, v = (state[key][0].double() for key in ("weight", "exp_avg", "exp_avg_sq"))
        slept = step - touched
        if slept > 0 and (slept < 12 or slept % 97 == 0 or slept == 3000):
            moved = table.gather(row)[0].detach().double()
            torch.testing.assert_close(moved, x, rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=0)


# By itself --------------------------------------------------------------------------------------------------------


def table() -> Tensor:
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def advance(own: RowAdam, steps: int, seed: int = 0, factored: bool = True) -> Tensor:
    """Some steps with gradients at few rows, and what dense Adam makes of :func:`table` by them."""
    twin = nn.Parameter(table())
    adam = torch.optim.Adam([twin], lr=LR)
    generator = torch.Generator().manual_seed(seed)
    for rows in batches(steps, seed=seed):
        values = torch.randn(len(rows), WIDTH, generator=generator, dtype=torch.float64)
        gradient = RowGradient([RowPart(rows, values)], own.weight)
        twin.grad = torch.zeros_like(twin).index_copy_(0, rows, values)
        own.advance(gradient if factored else twin.grad, LR)
        adam.step()
    return twin.detach()


def everything(own: RowAdam) -> Tensor:
    return own.read(torch.arange(N), torch.empty(N, WIDTH, dtype=torch.float64))


@pytest.mark.parametrize("factored", [True, False])
def test_rows_read_are_those_of_dense_adam(factored: bool) -> None:
    own = RowAdam(table(), BETAS, EPS)
    expected = advance(own, 60, factored=factored)
    torch.testing.assert_close(everything(own), expected, rtol=0, atol=1e-12)
    some = torch.tensor([3, 0, 3, N - 1])
    torch.testing.assert_close(own.read(some, torch.empty(4, WIDTH).double()), expected[some], rtol=0, atol=1e-12)


def test_reading_writes_nothing_and_flushing_writes_everything() -> None:
    own = RowAdam(table(), BETAS, EPS)
    expected = advance(own, 60)
    before = copy.deepcopy(own.state_dict())
    read = everything(own)
    torch.testing.assert_close(own.state_dict(), before, rtol=0, atol=0)
    assert (own.weight - expected).abs().max() > 1e-5  # moves are owed, so there is something to flush
    own.flush()
    torch.testing.assert_close(own.weight, read, rtol=1e-15, atol=0)
    torch.testing.assert_close(own.weight, expected, rtol=0, atol=1e-12)
    assert set(own.last.tolist()) == {0, 60}
    torch.testing.assert_close(everything(own), expected, rtol=0, atol=1e-12)


def test_flushing_in_between_is_only_rounding() -> None:
    whole, flushed = (RowAdam(table(), BETAS, EPS) for _ in range(2))
    for seed in range(4):
        advance(whole, 20, seed=seed)
        advance(flushed, 20, seed=seed)
        flushed.flush()
    torch.testing.assert_close(flushed.weight, everything(whole), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows_at_once", [1, 2, 7])
def test_work_in_blocks_is_the_same(rows_at_once: int) -> None:
    whole, blocks = (RowAdam(table(), BETAS, EPS) for _ in range(2))
    blocks._block = rows_at_once
    for own in (whole, blocks):
        advance(own, 30)
        own.flush()
    torch.testing.assert_close(blocks.weight, whole.weight, rtol=0, atol=1e-14)


def test_the_stamp_sees_steps_and_changes_of_the_table() -> None:
    own = RowAdam(table(), BETAS, EPS)
    stamps = [own.stamp]
    everything(own)
    assert own.stamp == stamps[0]
    advance(own, 1)
    stamps.append(own.stamp)
    own.weight.mul_(0.5)
    stamps.append(own.stamp)
    assert len(set(stamps)) == 3


def test_a_table_that_was_cast_is_refused() -> None:
    own = RowAdam(table(), BETAS, EPS)
    own.weight = own.weight.float()
    for use in (own.check_weight, own.flush, lambda: everything(own)):
        with pytest.raises(ConfigError, match=r"float32 on cpu, expected torch\.float64 on cpu"):
            use()


def test_state_goes_on_bit_for_bit() -> None:
    own, resumed = RowAdam(table(), BETAS, EPS), RowAdam(torch.zeros_like(table()), BETAS, EPS)
    advance(own, 30)
    state = copy.deepcopy(own.state_dict())
    resumed.check_state_dict(state)
    resumed.load_state_dict(state)
    for each in (own, resumed):
        advance(each, 30, seed=1)
    assert torch.equal(everything(own), everything(resumed))
    assert not torch.equal(everything(own)[: N - 5], table()[: N - 5])
    with pytest.raises(ConfigError, match="eps is 1e-08, this optimizer has 1e-06"):
        RowAdam(table(), BETAS, 1e-6).check_state_dict(state)


def test_rows_never_touched_take_no_memory_for_moments() -> None:
    """Neither where they are read nor where what is owed to others is written, nor in a state that is gone on with."""
    weight, rows = torch.ones(2048, 4096), torch.tensor([3, 1000])
    own, resumed = RowAdam(weight, BETAS, EPS), RowAdam(weight.clone(), BETAS, EPS)
    gradient = RowGradient([RowPart(rows, torch.ones(2, 4096))], weight)
    room = torch.ones(256, 4096)  # for reading
    before = resident_bytes()
    for block in torch.arange(2048).split(256):
        own.read(block, room)
    own.advance(gradient, LR)
    own.advance(RowGradient([RowPart(rows[:1], torch.ones(1, 4096))], weight), LR)
    own.flush()
    resumed.load_state_dict(own.state_dict())
    grown = resident_bytes() - before
    moments = 4 * own.exp_avg.numel() * own.exp_avg.element_size()
    assert grown < moments / 4
    assert resumed.exp_avg.count_nonzero() == resumed.exp_avg_sq.count_nonzero() == 2 * 4096


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_state_takes_the_place_of_whatever_was_there() -> None:
    own, other = RowAdam(table(), BETAS, EPS), RowAdam(table(), BETAS, EPS)
    advance(own, 1)
    advance(other, 30, seed=1)
    state = copy.deepcopy(own.state_dict())
    other.load_state_dict(state)
    torch.testing.assert_close(other.state_dict(), state, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_a_table_of_nothing(shape: tuple[int, int]) -> None:
    own = RowAdam(torch.zeros(shape), BETAS, EPS)
    own.advance(torch.zeros(shape), LR)
    own.flush()
    assert own.exp_avg.shape == shape
