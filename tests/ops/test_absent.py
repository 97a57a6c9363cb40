from __future__ import annotations

import torch

from bm3_pyg.ops.csr import absent, gaps


def test_every_rank_of_every_row_against_loops() -> None:
    """Rows of no id, of the first, of the last, of all but one and of all."""
    size = 6
    rows = [[], [0], [5], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5], [1, 4], []]
    indptr = torch.tensor([0, *map(len, rows)]).cumsum(0)
    found = gaps(indptr, torch.tensor([i for row in rows for i in row]), size)
    for number, row in enumerate(rows):
        free = [i for i in range(size) if i not in row]
        assert absent(indptr, found, size, torch.tensor(number), torch.arange(len(free))).tolist() == free


def test_ranks_of_any_shape() -> None:
    indptr, ids = torch.tensor([0, 2, 3]), torch.tensor([0, 2, 1])
    ranks = torch.tensor([[0, 1, 0], [1, 0, 0]])
    found = absent(indptr, gaps(indptr, ids, 4), 4, torch.tensor([[0], [1]]), ranks)
    assert found.tolist() == [[1, 3, 1], [2, 0, 0]]


def test_nothing_is_held() -> None:
    indptr, none = torch.zeros(4, dtype=torch.long), torch.empty(0, dtype=torch.long)
    assert absent(indptr, gaps(indptr, none, 5), 5, torch.tensor([2, 0]), torch.tensor([4, 1])).tolist() == [4, 1]
