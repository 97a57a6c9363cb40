"""The compiled loops by themselves, beside slow twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("numba")
UNTOUCHED = 99.0


def run(loop: Callable[..., object], *operands: Any) -> None:
    """As the package calls the loops: with arrays that share memory with the tensors."""
    loop(*(operand.numpy() if isinstance(operand, Tensor) else operand for operand in operands))


def interactions(rows: int, columns: int, density: float) -> tuple[Tensor, Tensor, Tensor]:
    """A binary matrix [rows, columns], whose first row is empty, and its CSR form."""
    dense = torch.rand(rows, columns) < density
    dense[0] = False
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), dense.sum(1).cumsum(0)])
    return dense, indptr.int(), dense.nonzero()[:, 1].int()


@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 70), (3, 69), (5, 5)])
@pytest.mark.parametrize("dim", [1, 7, 64, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float, 1e-5), (torch.double, 1e-12)])
def test_layer_is_its_twin(dim: int, low: int, high: int, measure: bool, dtype: torch.dtype, tolerance: float) -> None:
    from bm3_pyg.ops.numba_kernels import layer

    torch.manual_seed(0)
    dense, indptr, indices = interactions(70, 41, 0.2)
    row_scale, column_scale, x, w = (torch.rand(*size, dtype=dtype) for size in ((70,), (41,), (70, dim), (41, dim)))
    out, squares = torch.full_like(x, UNTOUCHED), torch.full((3,), UNTOUCHED, dtype=torch.double)
    alpha, beta = (torch.tensor(number, dtype=dtype).numpy()[()] for number in (0.5, -2.0))
    operands = (indptr, indices, row_scale, column_scale, x, w, alpha, beta, out, squares)
    run(layer, *operands, measure, 1, low, high)

    expected = torch.full_like(x, UNTOUCHED)
    for row in range(low, high):
        expected[row] = 0.5 * x[row]
        for column in dense[row].nonzero().flatten():
            expected[row] -= 2 * row_scale[row] * column_scale[column] * w[column]
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    square = expected[low:high].double().square().sum().item() if measure else 0.0
    assert squares.tolist() == pytest.approx([UNTOUCHED, square, UNTOUCHED], rel=10 * tolerance)


@pytest.mark.parametrize(("low", "high"), [(0, 9), (2, 5), (4, 4)])
@pytest.mark.parametrize(("num_items", "k"), [(1, 1), (16, 3), (41, 41), (500, 20)])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_topk_is_its_twin(num_items: int, k: int, ties: bool, low: int, high: int, dtype: torch.dtype) -> None:
    from bm3_pyg.ops.numba_kernels import topk

    torch.manual_seed(0)
    scores = torch.randint(4, (9, num_items)).to(dtype) if ties else torch.randn(9, num_items, dtype=dtype)
    _, indptr, hidden = interactions(9, num_items, 0.3)
    start, stop = indptr[:-1].long(), indptr[1:].long()
    values, ids = torch.full((9, k), UNTOUCHED, dtype=dtype), torch.full((9, k), int(UNTOUCHED))
    expected_values, expected_ids = values.clone(), ids.clone()
    for row in range(low, high):
        line = scores[row].clone()
        line[hidden[start[row] : stop[row]].long()] = -torch.inf
        best = sorted(range(num_items), key=lambda item: (-line[item].item(), item))[:k]
        expected_ids[row], expected_values[row] = torch.tensor(best), line[best]
    run(topk, scores, start, stop, hidden.long(), values, ids, low, high)
    assert torch.equal(values, expected_values)
    assert torch.equal(ids, expected_ids)


def test_topk_of_what_is_no_number_gives_ids_in_range() -> None:
    from bm3_pyg.ops.numba_kernels import topk

    scores, values, ids = torch.full((2, 40), torch.nan), torch.zeros(2, 5), torch.full((2, 5), 99)
    nothing = torch.zeros(2, dtype=torch.long)
    run(topk, scores, nothing, nothing, nothing[:0], values, ids, 0, 2)
    assert ids.eq(0).all()
    assert values.eq(-torch.inf).all()
