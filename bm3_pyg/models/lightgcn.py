"""LightGCN: torch_geometric's own, on a graph given once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import models

from bm3_pyg.models.bpr import BPRLosses, Negatives, mean_squares, ranking_loss
from bm3_pyg.nn.base import RecommenderModel, check_batch
from bm3_pyg.ops import build_graph, propagate, propagate_rows
from bm3_pyg.ops.csr import take_rows


class LightGCN(RecommenderModel, models.LightGCN):
    r"""``torch_geometric.nn.LightGCN`` of He et al., `"LightGCN: Simplifying and Powering Graph Convolution Network for
    Recommendation" <https://arxiv.org/abs/2002.02126>`_, SIGIR 2020.

    Embeddings are propagated over the interaction graph, :math:`H = \frac{1}{L+1} \sum_{l=0}^{L} \hat{A}^l E`, and a
    user's score of an item is :math:`h_u \cdot h_i`. Parameters, their initialisation and the names in ``state_dict()``
    are PyG's, users first in one table [U + I, D], and its methods can be called with any graph;
    here the training graph is propagated by :func:`bm3_pyg.ops.propagate`, with the same result as ``get_embedding``.

    :meth:`loss` is ``recommendation_loss`` with the nodes of every triple as ``node_id`` and ``reg_weight`` as
    ``lambda_reg``; see :mod:`bm3_pyg.models.bpr` for how it enters.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        edge_index: training interactions, as for :class:`~bm3_pyg.BM3`.
        embedding_dim: dimension D of the embeddings.
        num_layers: propagation layers L.
        reg_weight: weight of the squared embeddings before propagation.

    Raises:
        ConfigError: if an option is of the wrong type or out of range.
        DataError: if ``edge_index`` names a user or item outside the range, or a user has every item.
    """

    embedding: nn.Embedding
    num_layers: int

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edge_index: Any,
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        reg_weight: float = 1e-4,
    ) -> None:
        graph = build_graph(edge_index, num_users, num_items)
        super().__init__(num_users + num_items, embedding_dim, num_layers)
        self.reg_weight = reg_weight
        self.graph = graph
        self.negatives = Negatives(graph)

    def embed(self) -> tuple[Tensor, Tensor]:
        """h_u [U, D] and h_i [I, D]: their dot products are the scores."""
        users, items = self.embedding.weight.split([self.num_users, self.num_items])
        return propagate(self.graph, users, items, self.num_layers)

    __repr__ = nn.Module.__repr__
    reset_parameters = models.LightGCN.reset_parameters

    def loss(self, users: Tensor, items: Tensor, *, generator: torch.Generator | None = None) -> BPRLosses:
        """Losses of the interactions ``(users[b], items[b])``, both [B], each with a negative item drawn for it, from
        ``generator`` or PyTorch's global random numbers."""
        check_batch(users, items)
        both = torch.cat([items, self.negatives(users, generator)])
        user_table, item_table = self.embedding.weight.split([self.num_users, self.num_items])
        user_rows, item_rows, *_ = propagate_rows(self.graph, user_table, item_table, self.num_layers, users, both)
        ranking = ranking_loss(user_rows, *item_rows.chunk(2))
        squares = mean_squares(take_rows(user_table, users), take_rows(item_table, both))
        return BPRLosses.of(ranking, squares, self.reg_weight)
