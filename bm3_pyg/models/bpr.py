r"""Bayesian personalised ranking, the loss of the recommenders that learn from pairs of a positive and a negative item.

Rendle et al., `"BPR: Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_, UAI
2009. For a batch of B triples (user u, positive p, negative n) with embeddings h and parameters e,

.. math::
    L = \frac{1}{B} \sum_b -\ln \sigma(h_u \cdot h_p - h_u \cdot h_n)
        + \lambda \, \frac{1}{B} \sum_b \left(\lVert e_u \rVert^2 + \lVert e_p \rVert^2 + \lVert e_n \rVert^2\right).

:math:`\lambda` is ``reg_weight``. There is no factor 1/2, and a node counts as often as it stands in the batch. It is
``lambda_reg`` of ``torch_geometric.nn.LightGCN`` when ``node_id`` names the nodes of every triple, and half of the
``decay`` of the LightGCN authors' code. MMRec has :math:`\lVert E_u \rVert_F / B` in place of
:math:`\lVert E_u \rVert_F^2 / B`, so its ``reg_weight`` is on another scale.

Negatives are items a user has not interacted with in training, drawn uniformly.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from bm3_pyg.errors import DataError
from bm3_pyg.ops import Graph
from bm3_pyg.ops.csr import CSR, absent, gaps


class BPRLosses(NamedTuple):
    """Scalar losses of one batch; ``total`` is ranking + reg_weight * regularisation."""

    total: Tensor
    ranking: Tensor
    regularisation: Tensor

    @classmethod
    def of(cls, ranking: Tensor, regularisation: Tensor, reg_weight: float) -> BPRLosses:
        return cls(ranking + reg_weight * regularisation, ranking, regularisation)


def ranking_loss(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    r"""The mean of :math:`-\ln \sigma(h_u \cdot (h_p - h_n))` over the rows of three [B, D] tensors."""
    return -functional.logsigmoid((users * (positives - negatives)).sum(1)).mean()


def mean_squares(users: Tensor, items: Tensor) -> Tensor:
    """Sum of squares of ``users`` [B, D] and ``items`` [2B, D], positives and negatives, divided by B."""
    return (users.square().sum() + items.square().sum()) / len(users)


class Negatives(nn.Module):
    """Draws, for each user of a batch, one of the user's n non-positive items, each with probability 1/n.

    Nothing is drawn in vain: see :mod:`bm3_pyg.ops.csr`.

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
        self.register_buffer("gaps", gaps(CSR(indptr, items), graph.num_items), persistent=False)
        self.register_buffer("indptr", indptr, persistent=False)
        self.register_buffer("free", free, persistent=False)

    def extra_repr(self) -> str:
        return f"num_items={self.num_items}"

    def forward(self, users: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One negative item [B] for each of ``users`` [B], from ``generator`` or PyTorch's global random numbers."""
        # Of 2^63 numbers the remainder is uniform within 1e-12 for any catalogue.
        rank = torch.randint(2**63 - 1, users.shape, generator=generator, device=users.device) % self.free[users]
        return absent(self.indptr, self.gaps, self.num_items, users, rank)
