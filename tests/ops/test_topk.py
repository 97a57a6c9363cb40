from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bm3_pyg.errors import DataError
from bm3_pyg.ops import masked_topk
from bm3_pyg.ops.csr import CSR, offsets


def twin(scores: Tensor, k: int, hidden: CSR, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Hide row by row, sort everything."""
    scores = scores.clone()
    for line, row in zip(scores, rows.tolist(), strict=True):
        line[hidden.indices[hidden.indptr[row] : hidden.indptr[row + 1]]] = -torch.inf
    values, ids = torch.sort(scores, dim=1, descending=True, stable=True)
    return values[:, :k], ids[:, :k]


def hidden_items(num_rows: int, num_items: int) -> CSR:
    """Some rows hide nothing, one hides everything."""
    counts = torch.randint(min(num_items, 30) + 1, (num_rows,))
    counts[0], counts[-1] = 0, num_items
    return CSR(offsets(counts), torch.cat([torch.randperm(num_items)[:c] for c in counts]))


@pytest.fixture(params=["numba", "torch"], autouse=True)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BM3_KERNELS", request.param)
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
@pytest.mark.parametrize("k", [1, 20, 50, 300])
@pytest.mark.parametrize(("size", "num_items"), [(3, 1), (9, 16), (7, 41), (40, 1_003), (10, 7_050)])
def test_topk_is_its_sorted_twin(size: int, num_items: int, k: int, dtype: torch.dtype) -> None:
    hidden = hidden_items(99, num_items)
    rows = torch.cat([torch.tensor([98]), torch.randint(98, (size - 1,))])
    random = torch.randn(size, num_items, dtype=dtype)
    ladder = torch.arange(num_items, dtype=dtype).expand(size, -1)
    for scores in (random, random.mul(3).round(), torch.zeros_like(random), ladder, -ladder):
        result = masked_topk(scores.clone(), k, hidden, rows)
        expected = twin(scores, k, hidden, rows)
        assert result[0].shape == (size, min(k, num_items))
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[1], expected[1])


def test_rows_count_from_the_first_by_default() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]])
    values, ids = masked_topk(scores, 2, CSR(torch.tensor([0, 0, 2]), torch.tensor([1, 2])))
    assert ids.tolist() == [[1, 2], [0, 1]]
    assert values.tolist() == [[3.0, 2.0], [1.0, -torch.inf]]


def test_scores_that_are_not_contiguous_and_no_rows() -> None:
    scores, nothing = torch.randn(30, 8).T, CSR(torch.zeros(9, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    expected = twin(scores, 5, nothing, torch.arange(8))
    assert torch.equal(masked_topk(scores, 5)[1], expected[1])
    assert torch.equal(masked_topk(scores, 5, nothing)[1], expected[1])
    assert masked_topk(torch.zeros(0, 4), 3)[0].shape == (0, 3)


def test_scores_that_are_not_numbers_do_no_harm() -> None:
    _, ids = masked_topk(torch.full((2, 40), torch.nan), 5)
    assert ids.min() >= 0
    assert ids.max() < 40


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="k = 0"):
        masked_topk(torch.zeros(1, 2), 0)
    with pytest.raises(DataError, match="1 rows for 2 rows of scores"):
        masked_topk(torch.zeros(2, 2), 1, rows=torch.tensor([0]))
