"""Triton's kernels beside their slow twins: on a GPU, or in Triton's interpreter with TRITON_INTERPRET=1."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch
from torch import Tensor

from bm3_pyg.ops import weighted_cosine
from bm3_pyg.optim.rows import AdamStep, PastSteps, RowState, catch_up_rows, update_rows

if importlib.util.find_spec("triton") is None:
    pytest.skip("needs the package triton", allow_module_level=True)
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("needs a GPU, or TRITON_INTERPRET=1", allow_module_level=True)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BETA1, BETA2, EPS, STEP, TERMS = 0.9, 0.999, 1e-8, 1200, 350
TOLERANCE = {torch.float32: 1e-7, torch.float64: 1e-13}
NEVER, SLEEPS = 0, [0, 1, 2, 349, 1000]
LAST = [NEVER, *(STEP - sleep for sleep in SLEEPS), 1, 600]  # the last two rows: asleep since the start, and all zero
PRECISE = {torch.float32: 1e-6, torch.float64: 1e-12}
N = 41  # rows of the cosines; not a multiple of what a program takes
DTYPES, DIMS = pytest.mark.parametrize("dtype", PRECISE), pytest.mark.parametrize("dim", [1, 3, 64, 100, 1030])


@pytest.fixture(autouse=True)
def _backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", "triton")


# Rows -----------------------------------------------------------------------------------------------------------------


def table(dim: int, dtype: torch.dtype) -> RowState:
    """x, m, v and last of ugly rows; every other x is 0, so that a small move is not lost in its rounding."""
    generator = torch.Generator().manual_seed(dim)
    x, m = (torch.randn(len(LAST), dim, generator=generator, dtype=torch.float64) for _ in range(2))
    v = 10 ** (-20 * torch.rand(len(LAST), dim, generator=generator, dtype=torch.float64))
    x[:, ::2] = 0
    for moment in (m, v):
        moment[0] = moment[-1] = 0
    last = torch.tensor(LAST, dtype=torch.int32)
    return RowState(x.to(DEVICE, dtype), m.to(DEVICE, dtype), v.to(DEVICE, dtype), last.to(DEVICE))


def caught_up(state: RowState, rows: Tensor, rates: Tensor, tolerance: float | None = None) -> Tensor:
    tolerance = TOLERANCE[state.param.dtype] if tolerance is None else tolerance
    t = torch.arange(STEP + 1, dtype=torch.float64, device=DEVICE)
    j = torch.arange(1, TERMS + 1, dtype=torch.float64, device=DEVICE)
    sizes, widths = rates / (1 - BETA1**t), (1 - BETA2**t).rsqrt()
    past = PastSteps(STEP, sizes, widths, BETA1**j, BETA2 ** (j / 2), EPS, tolerance)
    return catch_up_rows(state, rows, past, state.param.new_empty(len(rows), state.param.shape[1]))


def slow(x: Tensor, m: Tensor, v: Tensor, last: int, rates: Tensor) -> Tensor:
    """One row of dense Adam in float64, given no gradient from ``last`` to STEP; the moves go to 0 by themselves."""
    x, m, v = x.double(), m.double(), v.double()
    for t in range(last + 1, STEP + 1) if last else ():
        m, v = BETA1 * m, BETA2 * v
        x = x - rates[t] / (1 - BETA1**t) * m / ((v / (1 - BETA2**t)).sqrt() + EPS)
    return x


@DTYPES
@DIMS
def test_rows_are_caught_up(dim: int, dtype: torch.dtype) -> None:
    x, m, v, last = state = table(dim, dtype)
    before = [tensor.clone() for tensor in (x, m, v, last)]
    rates = torch.rand(STEP + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(DEVICE)
    rows = torch.tensor([7, 0, 3, 3, 1, 2, 4, 5, 3, 6], device=DEVICE)
    found = caught_up(state, rows, rates)
    expected = torch.stack([slow(x[row], m[row], v[row], LAST[row], rates) for row in rows.tolist()])
    error = (found.double() - expected).abs()
    assert (error <= PRECISE[dtype] * (expected.abs() + x[rows].double().abs())).all()
    assert torch.equal(found[[0, 1, 4]], x[[7, 0, 1]])  # nothing is owed to these
    assert all(torch.equal(*pair) for pair in zip((x, m, v, last), before, strict=True))
    one = caught_up(state, rows[5:6], rates)
    assert torch.equal(one, found[5:6])
    assert caught_up(state, rows[:0], rates).shape == (0, dim)


@DTYPES
@DIMS
def test_update_is_adams_and_passes_over_negative_rows(dim: int, dtype: torch.dtype) -> None:
    x, m, v, last = state = table(dim, dtype)
    torch.manual_seed(0)
    rows = torch.tensor([6, -1, 0, 3, -1], device=DEVICE)
    current, g = (torch.randn(5, dim, dtype=torch.float64).to(DEVICE, dtype) for _ in range(2))
    g[0] = 0
    decay1, decay2 = (torch.rand(5, dtype=torch.float64).to(DEVICE, dtype) for _ in range(2))
    expected = [tensor.clone() for tensor in (x, m, v, last)]
    for i, row in enumerate(rows.tolist()):
        if row >= 0:
            first, second = decay1[i] * m[row] + 0.1 * g[i], decay2[i] * v[row] + 0.001 * g[i] ** 2
            moved = current[i] - 0.3 * first / (2.0 * second.sqrt() + EPS)
            for tensor, value in zip(expected[:3], (moved, first, second), strict=True):
                tensor[row] = value
            expected[3][row] = STEP + 1
    update_rows(state, rows, current, g, (decay1, decay2), AdamStep(STEP + 1, 0.3, 2.0, 0.1, 0.001, EPS))
    torch.testing.assert_close((x, m), tuple(expected[:2]), rtol=PRECISE[dtype], atol=PRECISE[dtype])
    torch.testing.assert_close(v, expected[2], rtol=PRECISE[dtype], atol=0)
    assert torch.equal(last, expected[3])
    nothing = rows[:0], current[:0], g[:0], (decay1[:0], decay2[:0])
    update_rows(state, *nothing, AdamStep(STEP + 2, 0.3, 2.0, 0.1, 0.001, EPS))
    assert int(last.max()) == STEP + 1


@pytest.mark.parametrize("schedule", ["constant", "warm-up", "random", "mostly off"])
def test_long_sleeps_are_those_of_dense_adam(schedule: str) -> None:
    """By Gauss' rule where two nodes suffice, which no caller sees."""
    t = torch.arange(STEP + 1, dtype=torch.float64)
    rates = {
        "constant": torch.full_like(t, 1e-3),
        "warm-up": 1e-3 * (t / 100).clamp(max=1),
        "random": torch.rand(STEP + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
        "mostly off": torch.where(t % 50 == 0, 1e-3, 0.0),
    }[schedule].to(DEVICE)
    sleeps = [5, 8, 9, 10, 20, 60, 150, 198, 349, 350, 351, 700, 1100, 1190, 1199]
    x, m, v, _ = table(7, torch.float32)
    rows = torch.arange(len(sleeps), device=DEVICE)
    x, m, v = (tensor[torch.full_like(rows, 2)] for tensor in (x, m, v))
    state = RowState(x, m, v, STEP - torch.tensor(sleeps, dtype=torch.int32, device=DEVICE))
    found = caught_up(state, rows, rates)
    expected = torch.stack([slow(x[i], m[i], v[i], STEP - sleep, rates) for i, sleep in enumerate(sleeps)])
    moved = (expected - x.double()).abs()
    assert ((found.double() - expected).abs() <= 1e-6 * (expected.abs() + moved)).all()


def test_two_nodes_are_taken_where_they_meet_the_tolerance() -> None:
    """A sleep through Adam's first steps needs more of them."""
    x, m, v, _ = table(64, torch.float32)
    state = RowState(torch.zeros_like(x), m.fill_(1), v.fill_(1e-4), torch.ones(len(x), dtype=torch.int32).to(DEVICE))
    rows, rates = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.ones(STEP + 1, dtype=torch.float64).to(DEVICE)
    by_terms, as_asked, by_nodes = (caught_up(state, rows, rates, tolerance)[0] for tolerance in (0, 1e-7, 1))
    assert torch.equal(as_asked, by_terms)
    assert not torch.equal(by_nodes, by_terms)
    torch.testing.assert_close(by_nodes, by_terms, rtol=0.1, atol=0)


def test_infinity_and_nan_travel_as_in_dense_adam() -> None:
    x, m, v, _ = state = table(3, torch.float32)
    rows = torch.tensor([3, 5], device=DEVICE)  # asleep for two steps, and for long
    m[rows, 0], v[rows, 1], m[rows, 2] = float("nan"), float("inf"), float("inf")
    rates = torch.full((STEP + 1,), 1e-3, dtype=torch.float64, device=DEVICE)
    for row, found in zip(rows, caught_up(state, rows, rates), strict=True):
        assert found[0].isnan()
        assert found[1] == x[row, 1]
        assert found[2] == -float("inf")


# Cosines --------------------------------------------------------------------------------------------------------------


def cosine_twin(a: Tensor, b: Tensor, a_rows: Tensor | None, b_rows: Tensor | None, weight: Tensor | None) -> Tensor:
    x = a if a_rows is None else a[a_rows]
    y = b if b_rows is None else b[b_rows]
    x, y = (rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp(min=1e-8) for rows in (x, y.detach()))
    cosine = torch.sum(x * y, 1)
    return torch.mean(cosine) if weight is None else torch.sum(cosine * weight)


def cosine_tables(dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows with gradient and targets; some of either without length, and one shorter than any norm divided by."""
    generator = torch.Generator().manual_seed(dim)
    a, b = (torch.randn(N, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    a[3], a[4], b[4], b[5], a[6] = 0, 0, 0, 0, 1e-12
    return a.to(DEVICE, dtype).requires_grad_(), b.to(DEVICE, dtype).requires_grad_()


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize("dim", [1, 3, 64, 100, 128, 129])
@pytest.mark.parametrize("joins", ["rows", "a only", "b only", "in order"])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient(dim: int, joins: str, weighted: bool, dtype: torch.dtype) -> None:
    a, b = cosine_tables(dim, dtype)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(N // 2, (N,), generator=generator).to(DEVICE) for _ in range(2)]
    a_rows = drawn[0] if joins in ("rows", "a only") else None
    b_rows = drawn[1] if joins in ("rows", "b only") else None
    weight = torch.rand(N, generator=generator, dtype=torch.float64).to(DEVICE, dtype) if weighted else None
    found, expected = weighted_cosine(a, b, a_rows, b_rows, weight), cosine_twin(a, b, a_rows, b_rows, weight)
    torch.testing.assert_close(found, expected, rtol=PRECISE[dtype], atol=PRECISE[dtype])
    gradients = [torch.autograd.grad(value * 3, a)[0] for value in (found, expected)]
    length = torch.linalg.vector_norm(a.detach(), dim=1, keepdim=True).clamp(min=1e-8)  # slopes go with its inverse
    torch.testing.assert_close(*(gradient * length for gradient in gradients), rtol=0, atol=PRECISE[dtype])
    assert torch.equal(found, weighted_cosine(a, b, a_rows, b_rows, weight))


@pytest.mark.parametrize("dtype", PRECISE)
def test_one_pair_no_pair_and_no_gradient(dtype: torch.dtype) -> None:
    a, b = cosine_tables(3, dtype)
    row = torch.tensor([2], device=DEVICE)
    torch.testing.assert_close(weighted_cosine(a, b, row, row), cosine_twin(a, b, row, row, None))
    with torch.no_grad():
        torch.testing.assert_close(weighted_cosine(a, b), cosine_twin(a, b, None, None, None))
    empty = weighted_cosine(a, b, row[:0], row[:0])
    assert empty == 0
    assert not torch.autograd.grad(empty, a)[0].any()
