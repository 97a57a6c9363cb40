"""Negative sampling: items a user has not interacted with in training, drawn uniformly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bm3_pyg.errors import DataError
from bm3_pyg.ops import Graph
from bm3_pyg.ops.absent import absent, gaps


class Negatives(nn.Module):
    """Draws, for each user of a batch, one of the user's n non-positive items, each with probability 1/n.

    Nothing is drawn in vain: see :mod:`bm3_pyg.ops.absent`.

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
        free = graph.num_items - indptr.diff()
        if (free == 0).any():
            user = int((free == 0).nonzero()[0])
            raise DataError(
                f"user {user}: all {graph.num_items} items are in training, expected one left as a negative"
            )
        self.num_items = graph.num_items
        self.register_buffer("gaps", gaps(indptr, items, graph.num_items), persistent=False)
        self.register_buffer("indptr", indptr, persistent=False)
        self.register_buffer("free", free, persistent=False)

    def extra_repr(self) -> str:
        return f"num_items={self.num_items}"

    def forward(self, users: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One negative item [B] for each of ``users`` [B], from ``generator`` or PyTorch's global random numbers."""
        # Of 2^63 numbers the remainder is uniform within 1e-12 for any catalogue.
        rank = torch.randint(2**63 - 1, users.shape, generator=generator, device=users.device) % self.free[users]
        return absent(self.indptr, self.gaps, self.num_items, users, rank)
