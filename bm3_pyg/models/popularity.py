"""Popularity: every user is offered the items with the most training interactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data.hetero import training_of
from bm3_pyg.errors import DataError, check_number
from bm3_pyg.nn.base import RecommenderModel
from bm3_pyg.protocols import Scorer


class Popularity(RecommenderModel):
    """Scores an item by its number of training interactions; ties are broken by item id, the lower first.

    Args:
        num_items: number of items I.
        edge_index: [2, E] training interactions, user ids above item ids; repeated ones count once.

    Raises:
        DataError: if ``edge_index`` is not such a tensor, or names an item outside the range.
    """

    scores: Tensor

    def __init__(self, num_items: int, edge_index: Tensor) -> None:
        super().__init__()
        check_number("num_items", num_items, int, 1, 2**24)
        if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.is_floating_point():
            kind = f"{edge_index.dtype} {list(edge_index.shape)}"
            raise DataError(f"edge_index: got {kind}, expected an integer tensor [2, E]")
        users, items = edge_index.long()
        if items.numel() and not 0 <= int(items.min()) <= int(items.max()) < num_items:
            wrong = items[(items < 0) | (items >= num_items)][0]
            raise DataError(f"edge_index: got item {int(wrong)}, expected ids from 0 to {num_items - 1}")
        distinct = (users * num_items + items).unique() % num_items
        order = torch.bincount(distinct, minlength=num_items).argsort(descending=True, stable=True)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(num_items, device=order.device)
        # Whole numbers up to 2^24 are exact in float32, so no two items tie.
        self.register_buffer("scores", -rank.float())

    @classmethod
    def from_data(cls, data: HeteroData, **options: Any) -> Popularity:
        return cls(*training_of(data)[1:], **options)

    def scorer(self) -> Scorer:
        scores = self.scores
        return lambda users: scores.repeat(users.numel(), 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Popularity:
        """Scores are moved and never cast: in half precision items would tie."""
        self.scores = self.scores.to(fn(self.scores[:0]).device)
        return self
