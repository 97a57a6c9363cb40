from __future__ import annotations

import math

import pytest
import torch

from bm3_pyg.models.bpr import BPRLosses, mean_squares, ranking_loss


@pytest.mark.parametrize("batch", [1, 5])
def test_losses_follow_their_formulas(batch: int) -> None:
    users, positives, negatives = torch.randn(3, batch, 4, dtype=torch.float64) * 3
    ranking, squares = 0.0, 0.0
    for u, p, n in zip(users.tolist(), positives.tolist(), negatives.tolist(), strict=True):
        margin = sum(a * (b - c) for a, b, c in zip(u, p, n, strict=True))
        ranking += math.log(1 + math.exp(-margin)) / batch
        squares += sum(x * x for row in (u, p, n) for x in row) / batch
    assert ranking_loss(users, positives, negatives).item() == pytest.approx(ranking, rel=1e-12)
    assert mean_squares(users, torch.cat([positives, negatives])).item() == pytest.approx(squares, rel=1e-12)


def test_the_total_is_weighted_and_the_parts_are_not() -> None:
    losses = BPRLosses.of(torch.tensor(2.0), torch.tensor(3.0), 0.5)
    assert [float(value) for value in losses] == [3.5, 2.0, 3.0]
