from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bm3_pyg.ops import weighted_cosine

A_ROWS, B_ROWS = torch.tensor([0, 3, 3, 6, 2, 2]), torch.tensor([5, 0, 1, 1, 1, 4])


def twin(a: Tensor, b: Tensor, a_rows: Tensor | None, b_rows: Tensor | None, weight: Tensor | None) -> Tensor:
    x = a if a_rows is None else a[a_rows]
    y = b if b_rows is None else b[b_rows]
    cosine = F.cosine_similarity(x, y.detach())
    return cosine.mean() if weight is None else (cosine * weight).sum()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-12), (torch.float, 1e-6)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [(A_ROWS, B_ROWS), (None, A_ROWS), (B_ROWS, None), (None, None)])
@pytest.mark.parametrize("dim", [1, 7, 64])
def test_weighted_cosine_is_its_twin(
    dim: int, rows: tuple[Tensor | None, Tensor | None], weighted: bool, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    pairs = 7 if rows == (None, None) else 6
    a = torch.randn(7 if rows[0] is not None else (6 if rows[1] is not None else 7), dim, dtype=dtype)
    b = torch.randn(7 if rows[1] is not None else (6 if rows[0] is not None else 7), dim, dtype=dtype)
    a.requires_grad_()
    b.requires_grad_()
    weight = torch.rand(pairs, dtype=dtype) if weighted else None
    result, expected = weighted_cosine(a, b, *rows, weight), twin(a, b, *rows, weight)
    torch.testing.assert_close(result, expected, rtol=tolerance, atol=tolerance)
    gradients = [torch.autograd.grad(x * 3, a)[0] for x in (result, expected)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_targets_get_no_gradient_and_rows_without_length_do_no_harm() -> None:
    a = torch.randn(4, 3, dtype=torch.double)
    a[1] = 0
    b = torch.randn(4, 3, dtype=torch.double)
    b[3] = 0
    a.requires_grad_()
    b.requires_grad_()
    result, expected = weighted_cosine(a, b), twin(a, b, None, None, None)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, a)[0] for x in (result, expected)))
    assert torch.autograd.grad(weighted_cosine(a, b), b, allow_unused=True)[0] is None
    a = torch.randn(4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: weighted_cosine(a, b, A_ROWS[:3], B_ROWS[1:4]), a)
