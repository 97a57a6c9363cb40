from __future__ import annotations

import pytest
import torch

from bm3_pyg.ops.csr import CSR, absent, add_rows, first_places, gaps, take_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("ids", [[], [4], [2, 2, 2], [5, 2, 5, 2, 9, 0, 9]])
def test_first_places(ids: list[int]) -> None:
    found = first_places(torch.tensor(ids, dtype=torch.int64, device=DEVICE))
    assert found.tolist() == [ids.index(i) for i in ids]


def test_add_rows() -> None:
    out, places = torch.ones(4, 2, device=DEVICE), torch.tensor([2, 0, 2], device=DEVICE)
    add_rows(out, places, torch.arange(6.0, device=DEVICE).view(3, 2))
    assert out.tolist() == [[3, 4], [1, 1], [5, 7], [1, 1]]


def test_add_rows_is_its_twin_and_the_same_every_time() -> None:
    torch.manual_seed(0)
    out, places, values = torch.randn(5, 3), torch.randint(4, (400,)), torch.randn(400, 3)
    expected = out.double()
    for place, value in zip(places.tolist(), values.double(), strict=True):
        expected[place] += value
    operands = places.to(DEVICE), values.to(DEVICE)
    results = [add_rows(out.to(DEVICE, copy=True), *operands).cpu() for _ in range(3)]
    torch.testing.assert_close(results[0].double(), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(results[0][4], out[4])


def test_taken_rows_and_their_gradient() -> None:
    torch.manual_seed(0)
    table, rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True), torch.tensor([4, 0, 4, 4, 1])
    assert torch.equal(take_rows(table, rows), table[rows])
    assert torch.autograd.gradcheck(take_rows, (table, rows))


def test_every_rank_of_every_row_against_loops() -> None:
    """Rows of no id, of the first, of the last, of all but one and of all."""
    size = 6
    rows = [[], [0], [5], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [1, 4], []]
    indptr = torch.tensor([0, *map(len, rows)]).cumsum(0)
    row_gaps = gaps(CSR(indptr, torch.tensor([i for row in rows for i in row])), size)
    for number, row in enumerate(rows):
        free = [i for i in range(size) if i not in row]
        assert absent(indptr, row_gaps, size, torch.tensor(number), torch.arange(len(free))).tolist() == free


def test_ranks_of_any_shape() -> None:
    indptr, ids = torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1])
    ranks = torch.tensor([[0, 1, 0], [1, 0, 0]])
    found = absent(indptr, gaps(CSR(indptr, ids), 4), 4, torch.tensor([[0], [1]]), ranks)
    assert found.tolist() == [[1, 3, 1], [2, 0, 0]]


def test_nothing_is_held() -> None:
    indptr, none = torch.zeros(4, dtype=torch.long), torch.empty(0, dtype=torch.long)
    assert absent(indptr, gaps(CSR(indptr, none), 5), 5, torch.tensor([2, 0]), torch.tensor([4, 1])).tolist() == [4, 1]
