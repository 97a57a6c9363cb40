from __future__ import annotations

import torch

from bm3_pyg.models import Popularity
from bm3_pyg.protocols import Recommender


def test_more_interactions_first_and_ties_by_item_id() -> None:
    edges = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [3, 3, 3, 1, 1, 4, 4]])
    model = Popularity(6, edges)
    assert isinstance(model, Recommender)
    scores = model.scorer()(torch.tensor([2, 0]))
    assert scores.shape == (2, 6)
    assert scores[0].argsort(descending=True).tolist() == [3, 1, 4, 0, 2, 5]
    assert torch.equal(scores[0], scores[1])
