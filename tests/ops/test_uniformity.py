"""Uniformity against the sum over all pairs, by autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bm3_pyg.ops.loss import BLOCK, uniformity


def twin(rows: Tensor, weight: Tensor) -> Tensor:
    units = rows / rows.norm(dim=1, keepdim=True)
    squares = (units[:, None] - units[None]).square().sum(-1)
    result: Tensor = (weight[:, None] * weight * (-2 * squares).exp()).sum().log()
    return result


@pytest.mark.parametrize("count", [1, 2, 40, BLOCK + 3])
def test_value_and_gradient_are_those_of_the_twin(count: int) -> None:
    torch.manual_seed(count)
    rows = torch.randn(count, 5, dtype=torch.float64)
    rows[count // 2] = rows[0]
    rows.requires_grad_()
    weight = torch.rand(count, dtype=torch.float64)
    weight[0] = 0 if count > 1 else 1
    weight /= weight.sum()
    found, expected = uniformity(rows, weight), twin(rows, weight)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    of_found, of_expected = (torch.autograd.grad(3 * value, rows)[0] for value in (found, expected))
    torch.testing.assert_close(of_found, of_expected, rtol=1e-9, atol=1e-13)


def test_zero_rows_have_a_finite_gradient() -> None:
    rows = torch.zeros(4, 3, requires_grad=True)
    value = uniformity(rows, torch.full((4,), 0.25))
    value.backward()
    assert value.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_one_direction_is_the_worst() -> None:
    rows, even = torch.ones(6, 3), torch.full((6,), 1 / 6)
    assert float(uniformity(rows, even)) == pytest.approx(0, abs=1e-6)
    spread = uniformity(torch.cat([torch.eye(3), -torch.eye(3)]), even)
    assert float(spread) == pytest.approx(float(twin(torch.cat([torch.eye(3), -torch.eye(3)]), even)), rel=1e-5)
    assert spread < -1
