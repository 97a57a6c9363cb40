"""Popularity: every user is offered the items with the most training interactions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data.graph import training_of
from bm3_pyg.protocols import Scorer


class Popularity(nn.Module):
    """Scores an item by its number of training interactions; ties are broken by item id, the lower first.

    Args:
        num_items: number of items I.
        edge_index: [2, E] training interactions, user ids above item ids; repeated ones count once.
    """

    def __init__(self, num_items: int, edge_index: Tensor) -> None:
        super().__init__()
        items = edge_index.unique(dim=1)[1]
        order = torch.bincount(items, minlength=num_items).argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(num_items)
        # Whole numbers up to 2^24 are exact in float32, so no two items tie.
        self.register_buffer("scores", -rank.float())

    @classmethod
    def from_data(cls, data: HeteroData) -> Popularity:
        return cls(*training_of(data)[1:])

    @property
    def options(self) -> dict[str, Any]:
        """None: the training interactions decide everything."""
        return {}

    def scorer(self) -> Scorer:
        scores = self.scores
        assert isinstance(scores, Tensor)
        return lambda users: scores.repeat(users.numel(), 1)
