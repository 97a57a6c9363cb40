from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bm3_pyg.optim.rows import AdamStep, PastSteps, RowState, SleepRules, read_rows, sleep_rules, update_rows

BETA1, BETA2, TERMS = 0.9, 0.999, 350


@pytest.fixture(params=["numba", "torch"])
def _backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", request.param)


def history(steps: int, lr: Tensor | None = None) -> tuple[Tensor, Tensor]:
    t = torch.arange(1, steps + 1, dtype=torch.float64)
    lr = torch.full_like(t, 1e-3) if lr is None else lr
    zero = torch.zeros(1, dtype=torch.float64)
    return torch.cat([zero, lr / (1 - BETA1**t)]), torch.cat([zero, 1 / (1 - BETA2**t).sqrt()])


def rules_at(last: Tensor, step: int, like: Tensor, lr: Tensor | None = None) -> SleepRules:
    j = torch.arange(1, TERMS + 1, dtype=torch.float64)
    tolerance = 1e-7 if like.dtype == torch.float32 else 1e-13
    past = PastSteps(step, *history(step, lr), BETA1**j, BETA2 ** (j / 2), 1e-8, tolerance)
    return sleep_rules(last, past, like)


def slow_sum(s: Tensor, last: int, step: int, eps: float, lr: Tensor | None = None) -> Tensor:
    """S(s) term by term: what a unit of momentum moves a row by from ``last`` to ``step``."""
    total = torch.zeros_like(s)
    for t in range(last + 1, step + 1):
        size = (1e-3 if lr is None else lr[t - 1].item()) * BETA1 ** (t - last) / (1 - BETA1**t)
        total += size / (s * math.sqrt(BETA2 ** (t - last) / (1 - BETA2**t)) + eps)
    return total


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
@pytest.mark.parametrize("schedule", ["constant", "random", "mostly zero"])
def test_rules_equal_the_sum(dtype: torch.dtype, eps: float, schedule: str) -> None:
    step = 1200
    rates = torch.rand(step, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lr = {"constant": None, "random": rates, "mostly zero": rates * (rates > 0.9)}[schedule]
    last = torch.tensor([1, 2, 3, 10, 100, 500, 1000, 1150, 1190, 1196, 1197, 1198, 1199, 1200], dtype=torch.int32)
    s = torch.logspace(-12, 0, 40, dtype=torch.float64)
    m, v = -torch.ones(len(last), len(s), dtype=dtype), (s**2).to(dtype).repeat(len(last), 1)
    out = torch.empty_like(m)
    rules = rules_at(last, step, out, lr)
    read_rows(RowState(torch.zeros_like(m), m, v, last), torch.arange(len(last)), rules, eps, out)
    expected = torch.stack([slow_sum(s, int(t), step, eps, lr) for t in last])
    torch.testing.assert_close(out.double(), expected, rtol=1e-6 if dtype == torch.float32 else 1e-12, atol=0)


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("step", [1, 2, 3, 5, 20, 60])
def test_first_steps(step: int) -> None:
    last = torch.arange(1, step + 1, dtype=torch.int32)
    s = torch.logspace(-12, 0, 20, dtype=torch.float64)
    m, v = -torch.ones(step, 20, dtype=torch.float64), (s**2).repeat(step, 1)
    state = RowState(torch.zeros_like(m), m, v, last)
    out = read_rows(state, torch.arange(step), rules_at(last, step, m), 1e-8, torch.empty_like(m))
    torch.testing.assert_close(out, torch.stack([slow_sum(s, int(t), step, 1e-8) for t in last]), rtol=1e-12, atol=0)


@pytest.mark.usefixtures("_backend")
def test_depth_is_bounded_however_long_the_sleep() -> None:
    rules = rules_at(torch.arange(1, 5001, dtype=torch.int32), 5000, torch.zeros(1))
    depth = rules.depth[rules.which]
    assert depth[-1] == 0  # touched at this very step
    assert depth[-2] == 1
    assert depth[1000:].max() <= 2
    assert depth.max() <= 10


@pytest.mark.usefixtures("_backend")
def test_rows_never_touched_or_repeated() -> None:
    generator = torch.Generator().manual_seed(0)
    x, m = (torch.randn(5, 3, generator=generator) for _ in range(2))
    v, last = torch.rand(5, 3, generator=generator), torch.tensor([0, 4, 9, 10, 0], dtype=torch.int32)
    rows = torch.tensor([4, 1, 1, 3, 0])
    state = RowState(x, m, v, last)
    out = read_rows(state, rows, rules_at(last[rows], 10, x), 1e-8, torch.empty(5, 3))
    for i, row in enumerate(rows.tolist()):
        moved = slow_sum(v[row].double().sqrt(), int(last[row]), 10, 1e-8) if last[row] else torch.zeros(3)
        torch.testing.assert_close(out[i], (x[row] - m[row] * moved).float())
    nothing = torch.empty(0, dtype=torch.int64)
    assert read_rows(state, nothing, rules_at(last[nothing], 10, x), 1e-8, torch.empty(0, 3)).shape == (0, 3)


@pytest.mark.usefixtures("_backend")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_update_is_adams(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, m, g = (torch.randn(4, 33, generator=generator, dtype=dtype) for _ in range(3))
    v = torch.rand(4, 33, generator=generator, dtype=dtype)
    rows, slept = torch.tensor([2, 0]), torch.tensor([3.0, 1.0], dtype=dtype)
    current = x[rows] + 1
    first = m[rows] * BETA1 ** slept[:, None] + (1 - BETA1) * g[rows]
    second = v[rows] * BETA2 ** slept[:, None] + (1 - BETA2) * g[rows] ** 2
    moved = current - 0.1 * first / (2.0 * second.sqrt() + 1e-8)
    untouched, last = x[[1, 3]].clone(), torch.tensor([8, 0, 6, 0], dtype=torch.int32)
    step = AdamStep(9, 0.1, 2.0, 1 - BETA1, 1 - BETA2, 1e-8)
    update_rows(RowState(x, m, v, last), rows, current, g[rows], (BETA1**slept, BETA2**slept), step)
    torch.testing.assert_close(x[rows], moved)
    torch.testing.assert_close(m[rows], first)
    torch.testing.assert_close(v[rows], second)
    assert torch.equal(x[[1, 3]], untouched)
    assert last.tolist() == [9, 0, 9, 0]


def test_results_do_not_depend_on_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    x, m = (torch.randn(300, 40, generator=generator) for _ in range(2))
    v, last = torch.rand(300, 40, generator=generator), torch.arange(300, dtype=torch.int32)
    rows = torch.randperm(300, generator=generator)[:200]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            rules = rules_at(last[rows], 300, x)
            results.append(read_rows(RowState(x, m, v, last), rows, rules, 1e-8, torch.empty(200, 40)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
