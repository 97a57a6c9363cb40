"""VBPR: matrix factorisation with item features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bm3_pyg.models.bpr import BPRLosses, Negatives, mean_squares, ranking_loss
from bm3_pyg.nn.base import RecommenderModel, check_batch, embedding
from bm3_pyg.nn.features import FrozenFeatures
from bm3_pyg.ops import build_graph
from bm3_pyg.ops.csr import take_rows

BLOCK = 4096  # items projected at once when all are scored


class VBPR(RecommenderModel):
    r"""The recommender of He and McAuley, `"VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1510.01784>`_, AAAI 2016, with any number of modalities in the place of the visual one.

    .. math::
        \hat{x}_{ui} = \beta_i + \gamma_u \cdot \gamma_i + \sum_m \left(\theta_u \cdot E_m f_{mi} +
        \beta'_m \cdot f_{mi}\right)

    The paper's :math:`\alpha` and :math:`\beta_u` do not change a user's ranking and are left out. Features f are
    taken as they are, and frozen. :math:`\gamma` and :math:`\theta` have D dimensions each; they are Xavier uniform,
    :math:`E_m` Xavier normal, :math:`\beta` and :math:`\beta'` zero at first.

    The loss, and how ``reg_weight`` enters it, are in :mod:`bm3_pyg.models.bpr`: :math:`\gamma, \theta` and
    :math:`\beta_i` are regularised, :math:`E_m` and :math:`\beta'_m` are not. MMRec's VBPR has neither :math:`\beta_i`
    nor :math:`\beta'`, and regularises :math:`E f_i`.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        edge_index: training interactions, as for :class:`~bm3_pyg.BM3`.
        modalities: ``{name: [I, d]}`` item features, one or more.
        embedding_dim: dimension D of the embeddings.
        reg_weight: weight of the squared embeddings.

    Raises:
        ConfigError: if an option is of the wrong type or out of range, or features do not have one row per item.
        DataError: if ``edge_index`` names a user or item outside the range, or a user has every item.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edge_index: Any,
        *,
        modalities: Mapping[str, Tensor],
        embedding_dim: int = 64,
        reg_weight: float = 1e-4,
    ) -> None:
        super().__init__()
        self.reg_weight = reg_weight
        self.negatives = Negatives(build_graph(edge_index, num_users, num_items))
        self.user_embedding = embedding(num_users, 2 * embedding_dim)
        self.item_embedding = embedding(num_items, embedding_dim)
        self.item_bias = nn.Parameter(torch.zeros(num_items, 1))
        self.features = FrozenFeatures(modalities, num_items, embedding_dim + 1)  # E_m above beta'_m
        self._start_projections()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """All parameters anew, as for a new model."""
        super().reset_parameters()
        nn.init.zeros_(self.item_bias)
        self._start_projections()

    def embed(self) -> tuple[Tensor, Tensor]:
        """[U, 2D + 1] and [I, 2D + 1]: their dot products are the scores."""
        items = torch.arange(len(self.item_embedding), device=self.item_embedding.device)
        return _users(self.user_embedding), torch.cat([self._items(block)[0] for block in items.split(BLOCK)])

    def loss(self, users: Tensor, items: Tensor, *, generator: torch.Generator | None = None) -> BPRLosses:
        """Losses of the interactions ``(users[b], items[b])``, both [B], each with a negative item drawn for it, from
        ``generator`` or PyTorch's global random numbers."""
        check_batch(users, items)
        user_rows = take_rows(self.user_embedding, users)
        embedded, own = self._items(torch.cat([items, self.negatives(users, generator)]))
        ranking = ranking_loss(_users(user_rows), *embedded.chunk(2))
        return BPRLosses.of(ranking, mean_squares(user_rows, own), self.reg_weight)

    def _start_projections(self) -> None:
        for linear in self.features.projections.values():
            nn.init.xavier_normal_(linear.weight[:-1])
            nn.init.zeros_(linear.weight[-1])

    def _items(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [n, 2D + 1] of ``items`` [n], and the part [n, D + 1] of them that is not of features."""
        own = take_rows(self.item_embedding, items), take_rows(self.item_bias, items)
        projected = torch.stack([*self.features(items).values()]).sum(0)
        return torch.cat([own[0], projected[:, :-1], own[1] + projected[:, -1:]], dim=1), torch.cat(own, dim=1)


def _users(rows: Tensor) -> Tensor:
    """Users' embeddings with the 1 that an item's bias is multiplied by."""
    return functional.pad(rows, (0, 1), value=1.0)
