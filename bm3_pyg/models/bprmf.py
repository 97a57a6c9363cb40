"""BPR-MF: matrix factorisation trained by pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bm3_pyg.models.bpr import BPRLosses, Negatives, mean_squares, ranking_loss
from bm3_pyg.nn.base import RecommenderModel, check_batch, embedding
from bm3_pyg.ops import build_graph
from bm3_pyg.ops.csr import take_rows


class BPRMF(RecommenderModel):
    """The matrix factorisation of Rendle et al., `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_, UAI 2009: a user's score of an item is the dot product of their embeddings.

    The loss, and how ``reg_weight`` enters it, are in :mod:`bm3_pyg.models.bpr`. Embeddings are Xavier uniform.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        edge_index: training interactions, as for :class:`~bm3_pyg.BM3`.
        embedding_dim: dimension D of the embeddings.
        reg_weight: weight of the squared embeddings.

    Raises:
        ConfigError: if an option is of the wrong type or out of range.
        DataError: if ``edge_index`` names a user or item outside the range, or a user has every item.
    """

    def __init__(
        self, num_users: int, num_items: int, edge_index: Any, *, embedding_dim: int = 64, reg_weight: float = 1e-4
    ) -> None:
        super().__init__()
        self.reg_weight = reg_weight
        self.negatives = Negatives(build_graph(edge_index, num_users, num_items))
        self.user_embedding = embedding(num_users, embedding_dim)
        self.item_embedding = embedding(num_items, embedding_dim)

    def embed(self) -> tuple[Tensor, Tensor]:
        """[U, D] and [I, D]: their dot products are the scores."""
        return self.user_embedding, self.item_embedding

    def loss(self, users: Tensor, items: Tensor, *, generator: torch.Generator | None = None) -> BPRLosses:
        """Losses of the interactions ``(users[b], items[b])``, both [B], each with a negative item drawn for it, from
        ``generator`` or PyTorch's global random numbers."""
        check_batch(users, items)
        both = torch.cat([items, self.negatives(users, generator)])
        user_rows, item_rows = take_rows(self.user_embedding, users), take_rows(self.item_embedding, both)
        ranking = ranking_loss(user_rows, *item_rows.chunk(2))
        return BPRLosses.of(ranking, mean_squares(user_rows, item_rows), self.reg_weight)
