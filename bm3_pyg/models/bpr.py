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
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


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
