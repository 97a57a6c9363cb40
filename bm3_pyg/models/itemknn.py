"""ItemKNN: items similar to those a user has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import modalities
from bm3_pyg.data.hetero import check_features, training_of
from bm3_pyg.errors import ConfigError, nearest, shown
from bm3_pyg.nn.base import RecommenderModel
from bm3_pyg.ops import Graph, build_graph, masked_topk
from bm3_pyg.ops.csr import CSR, add_rows
from bm3_pyg.ops.topk import nearest_rows
from bm3_pyg.protocols import Scorer

INTERACTIONS = "interactions"


class ItemKNN(RecommenderModel):
    r"""The item-based recommender of Deshpande and Karypis, `"Item-Based Top-N Recommendation Algorithms"
    <https://doi.org/10.1145/963770.963776>`_, ACM TOIS 2004.

    With :math:`N_k(j)` the k items most similar to j (of equal ones those of lower id) and :math:`P_u` the items of u,

    .. math::
        \hat{x}_{ui} = \sum_{j \in P_u, \, i \in N_k(j)} s_{ji}, \qquad
        s_{ji} = \frac{|U_j \cap U_i|}{\sqrt{|U_j| |U_i|} + \text{shrinkage}},

    :math:`U_i` being the users of item i. By a modality, :math:`s_{ji}` is the cosine of the items' features instead.
    Similarities are computed in blocks of items, never I x I at once.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        edge_index: training interactions, as for :class:`~bm3_pyg.BM3`.
        features: ``{name: [I, d]}`` item features; only those of ``by`` are read.
        by: ``interactions``, or the name of a modality.
        neighbours: k, the number of similar items that are kept of each item.
        shrinkage: added to the denominator, so that items of few users count for less; for interactions only.

    Raises:
        ConfigError: if an option is of the wrong type or out of range, or there are no features of that name.
        DataError: if ``edge_index`` names a user or item outside the range.
    """

    ids: Tensor
    similarities: Tensor
    indptr: Tensor
    items: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        edge_index: Any,
        features: Mapping[str, Tensor] | None = None,
        *,
        by: str = INTERACTIONS,
        neighbours: int = 20,
        shrinkage: float = 0.0,
    ) -> None:
        super().__init__()
        self.by = by
        graph = build_graph(edge_index, num_users, num_items)
        if by == INTERACTIONS:
            ids, similarities = nearest_items(graph, neighbours, shrinkage)
        else:
            features = features or {}
            if not isinstance(by, str) or by not in features:
                raise ConfigError(f"by: got {shown(by)}, {nearest(str(by), {INTERACTIONS, *features})}")
            check_features({by: features[by]}, num_items)
            if shrinkage > 0:
                raise ConfigError(f"shrinkage: got {shown(shrinkage)}, expected 0 where items are compared by features")
            ids, similarities = nearest_rows(features[by], neighbours)
        self.register_buffer("ids", ids)
        self.register_buffer("similarities", similarities.to(torch.float32))
        self.register_buffer("indptr", graph.by_user.indptr, persistent=False)
        self.register_buffer("items", graph.by_user.indices, persistent=False)

    @classmethod
    def from_data(cls, data: HeteroData, **options: Any) -> ItemKNN:
        """A model of the training interactions and item features in ``data``; options are the constructor's."""
        return cls(*training_of(data), modalities(data), **options)

    @torch.no_grad()
    def scorer(self) -> Scorer:
        return self._scores

    def _scores(self, users: Tensor) -> Tensor:
        users = users.to(self.ids.device)
        position, items = CSR(self.indptr, self.items).entries(users)
        scores = self.similarities.new_zeros(users.numel() * self.num_items)
        places = position[:, None] * self.num_items + self.ids[items]
        return add_rows(scores, places.flatten(), self.similarities[items].flatten()).view(-1, self.num_items)


def nearest_items(graph: Graph, k: int, shrinkage: float, memory_mb: float = 16) -> tuple[Tensor, Tensor]:
    """The ``k`` other items of the most similar users to each item, best first, as :class:`ItemKNN` defines it.

    Args:
        graph: the interactions.
        k: 1 or more; I - 1 is taken where k is larger.
        shrinkage: added to the denominator.
        memory_mb: size in MiB of a block of similarities, [items, I].

    Returns:
        ids [I, min(k, I - 1)] and similarities of the same shape.
    """
    degree = graph.by_item.lengths()
    root = degree.clamp(min=1).double().sqrt().float()
    items, k = torch.arange(graph.num_items, device=degree.device), min(k, graph.num_items - 1)
    ids, values = [items.new_empty(0, k)], [root.new_empty(0, k)]
    for block in items.split(max(1, int(memory_mb * 2**20 / 4 / graph.num_items))):
        similarity = _common_users(graph, block).div_(root[block, None] * root + shrinkage)
        itself = CSR(torch.arange(len(block) + 1, device=block.device), block)
        best, similar = masked_topk(similarity, max(1, k), itself)
        values.append(best[:, :k])
        ids.append(similar[:, :k])
    return torch.cat(ids), torch.cat(values)


def _common_users(graph: Graph, items: Tensor) -> Tensor:
    """[n, I], the number of users that each of ``items`` [n] shares with each item."""
    position, users = graph.by_item.entries(items)
    pair, others = graph.by_user.entries(users)
    counts = torch.zeros(len(items) * graph.num_items, device=items.device)
    places = position[pair] * graph.num_items + others
    return counts.index_add_(0, places, torch.ones(1, device=items.device).expand(places.numel())).view(len(items), -1)
