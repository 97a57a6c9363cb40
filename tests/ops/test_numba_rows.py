"""The compiled loops over rows by themselves, beside slow twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")
BETA1, BETA2, STEP, UNTOUCHED = 0.9, 0.999, 1200, 99.0


def run(loop: Callable[..., object], *operands: Any) -> None:
    """As the package calls the loops: with arrays that share memory with the tensors."""
    loop(*(operand.numpy() if isinstance(operand, Tensor) else operand for operand in operands))


def fraction(s: Tensor, total: Tensor, centre: Tensor, ratio: Tensor, eps: float) -> Tensor:
    """N / (c1 s + eps - r1 s^2 / (c2 s + eps - ...)), from the innermost level out."""
    lower = centre[-1] * s + eps
    for level in reversed(range(len(centre) - 1)):
        lower = centre[level] * s + eps - ratio[level] * s * s / lower
    return total / lower


@pytest.mark.parametrize(("low", "high"), [(0, 7), (2, 5)])
@pytest.mark.parametrize("dim", [1, 7, 300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 1e-5), (torch.double, 1e-12)])
def test_rows_read_are_the_continued_fraction(
    dim: int, low: int, high: int, dtype: torch.dtype, tolerance: float
) -> None:
    from bm3_pyg.ops.numba_kernels import read_rows

    torch.manual_seed(0)
    x, m = torch.randn(2, 9, dim, dtype=dtype)
    v = 10 ** (-12 * torch.rand(9, dim, dtype=dtype))
    v[3] = 0
    rows, which, depth = torch.tensor([8, 3, 3, 0, 5, 1, 7]), torch.tensor([4, 0, 3, 2, 1, 3, 4]), torch.arange(5)
    total, centre, ratio = torch.rand(5, dtype=dtype), 1 + torch.rand(5, 4, dtype=dtype), torch.rand(5, 4, dtype=dtype)
    ratio *= 0.1
    out = torch.full((7, dim), UNTOUCHED, dtype=dtype)
    expected = out.clone()
    for i in range(low, high):
        row, rule = rows[i], which[i]
        expected[i] = x[row]
        if depth[rule] > 0:
            levels = centre[rule, : depth[rule]], ratio[rule]
            expected[i] -= m[row] * fraction(v[row].sqrt(), total[rule], *levels, 1e-3)
    eps = torch.tensor([1e-3], dtype=dtype).numpy()[0]
    run(read_rows, x, m, v, rows, which, depth, total, centre, ratio, eps, out, low, high)
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("low", "high"), [(0, 3), (1, 2), (2, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 1e-5), (torch.double, 1e-12)])
def test_rows_updated_are_adams(low: int, high: int, dtype: torch.dtype, tolerance: float) -> None:
    from bm3_pyg.ops.numba_kernels import update_rows

    torch.manual_seed(0)
    x, m, v = torch.rand(3, 6, 33, dtype=dtype)
    current, gradient = torch.randn(2, 3, 33, dtype=dtype)
    decay1, decay2 = torch.rand(2, 3, dtype=dtype)
    rows, last = torch.tensor([4, 0, 2]), torch.tensor([5, 6, 7, 8, 0, 1], dtype=torch.int32)
    size, width, gain1, gain2, eps = scalars = torch.tensor([0.3, 2.0, 0.1, 0.001, 1e-8], dtype=dtype)
    expected = x.clone(), m.clone(), v.clone(), last.clone()
    for i in range(low, high):
        first = decay1[i] * m[rows[i]] + gain1 * gradient[i]
        second = decay2[i] * v[rows[i]] + gain2 * gradient[i] ** 2
        moved = current[i] - size * first / (width * second.sqrt() + eps)
        for tensor, value in zip(expected, (moved, first, second, torch.tensor(9)), strict=True):
            tensor[rows[i]] = value
    run(update_rows, x, m, v, last, rows, current, gradient, decay1, decay2, 9, scalars, low, high)
    torch.testing.assert_close((x, m, v, last), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("low", "high"), [(0, 9), (3, 6)])
def test_rules_give_the_sum_they_stand_for(low: int, high: int) -> None:
    from bm3_pyg.ops.numba_kernels import sleep_rules

    t, j = np.arange(1, STEP + 1), np.arange(1, 351)
    sizes, widths = np.append(0, 1e-3 / (1 - BETA1**t)), np.append(0, 1 / np.sqrt(1 - BETA2**t))
    decay, shrink = BETA1**j, BETA2 ** (j / 2)
    starts = np.array([0, 1, 2, 40, 700, 1190, 1198, 1199, 1200], dtype=np.int32)
    depth, total = np.full(9, 99), np.full(9, UNTOUCHED)
    centre, ratio = np.full((9, 64), UNTOUCHED), np.full((9, 64), UNTOUCHED)
    sleep_rules(starts, STEP, sizes, widths, decay, shrink, 1e-13, depth, total, centre, ratio, low, high)

    s, eps = torch.logspace(-12, 0, 30, dtype=torch.double), 1e-8
    for i, start in enumerate(starts.tolist()):
        if not low <= i < high:
            assert depth[i] == total[i] == centre[i, 0] == ratio[i, 0] == UNTOUCHED
        elif start in (0, STEP):
            assert depth[i] == 0  # never touched, or just now
        else:
            expected = torch.zeros_like(s)
            for k in range(1, min(STEP - start, len(j)) + 1):
                expected += sizes[start + k] * decay[k - 1] / (shrink[k - 1] * widths[start + k] * s + eps)
            levels = torch.from_numpy(centre[i, : depth[i]]), torch.from_numpy(ratio[i])
            found = fraction(s, torch.tensor(total[i]), *levels, eps)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_without_mass_there_is_no_rule() -> None:
    from bm3_pyg.ops.numba_kernels import sleep_rules

    depth, total, (centre, ratio) = np.zeros(1, dtype=np.int64), np.zeros(1), np.ones((2, 1, 8))
    decay, zero, one = np.array([0.9, 0.81]), np.zeros(11), np.ones(11)
    for sizes, expected in ((zero, 0), (one, 1)):  # a learning rate of 0, then a constant one over constant widths
        sleep_rules(np.array([4]), 10, sizes, one, decay, one[:2], 1e-13, depth, total, centre, ratio, 0, 1)
        assert depth[0] == expected
    assert total[0] == pytest.approx(1.71)
    assert centre[0, 0] == pytest.approx(1)
