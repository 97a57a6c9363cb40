"""Negative sampling: items a user has not interacted with in training, drawn uniformly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bm3_pyg.errors import DataError
from bm3_pyg.ops import Graph


class Negatives(nn.Module):
    r"""Draws, for each user of a batch, one of the user's n non-positive items, each with probability 1/n.

    Nothing is drawn in vain. Let :math:`p_0 < p_1 < \dots` be the user's positives and r uniform in [0, n): the r-th
    non-positive item is :math:`r + c`, where c counts the j with :math:`p_j - j \le r`. As :math:`p_j - j` never falls,
    one binary search over all users' values finds c.

    Args:
        graph: the training interactions.

    Raises:
        DataError: if a user has every item, so that no negative is left.
    """

    gaps: Tensor
    indptr: Tensor
    free: Tensor

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        indptr, items = graph.by_user.indptr.long(), graph.by_user.indices.long()
        degree = indptr.diff()
        free = graph.num_items - degree
        if (free == 0).any():
            user = int((free == 0).nonzero()[0])
            raise DataError(
                f"user {user}: all {graph.num_items} items are in training, expected one left as a negative"
            )
        users = torch.repeat_interleave(degree)
        rank = torch.arange(items.numel(), device=items.device) - indptr[users]
        self.num_items = graph.num_items
        self.register_buffer("gaps", users * graph.num_items + items - rank, persistent=False)
        self.register_buffer("indptr", indptr, persistent=False)
        self.register_buffer("free", free, persistent=False)

    def forward(self, users: Tensor) -> Tensor:
        """One negative item [B] for each of ``users`` [B], from PyTorch's global random numbers."""
        # Of 2^63 numbers the remainder is uniform within 1e-12 for any catalogue.
        rank = torch.randint(2**63 - 1, users.shape, device=users.device) % self.free[users]
        found = torch.searchsorted(self.gaps, users * self.num_items + rank, right=True)
        return rank + found - self.indptr[users]
