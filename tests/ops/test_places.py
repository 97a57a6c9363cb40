from __future__ import annotations

import pytest
import torch

from bm3_pyg.ops.csr import add_rows, first_places, take_rows

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
