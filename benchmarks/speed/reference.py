"""A plain BM3, done the straightforward way: what the speed benchmark compares with.

Propagation is a COO product per layer, every item's features are projected at every step, gradients and Adam are dense,
dropout and the predictor run over whole tables, each block of an evaluation propagates anew, and hits are counted in a
Python loop over users. The numbers it computes are those of :class:`bm3_pyg.BM3`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data.hetero import modalities

BLOCK = 4096  # users ranked at once
K = 50


class ReferenceBM3(nn.Module):
    """BM3 over ``data``, whose features, if there are any, it trains in place."""

    def __init__(self, data: HeteroData, num_layers: int, dropout: float, reg_weight: float, dim: int = 64) -> None:
        super().__init__()
        self.num_users, self.num_items = int(data["user"].num_nodes), int(data["item"].num_nodes)
        self.num_layers, self.dropout, self.reg_weight = num_layers, dropout, reg_weight
        self.user_embedding = nn.Embedding(self.num_users, dim)
        self.item_embedding = nn.Embedding(self.num_items, dim)
        nn.init.xavier_uniform_(self.user_embedding.weight)
        nn.init.xavier_uniform_(self.item_embedding.weight)
        self.predictor = nn.Linear(dim, dim)
        nn.init.xavier_normal_(self.predictor.weight)
        self.features, self.projections = nn.ModuleDict(), nn.ModuleDict()
        for name, feature in modalities(data).items():
            self.features[name] = nn.Embedding.from_pretrained(feature, freeze=False)
            projection = nn.Linear(feature.size(1), dim)
            self.projections[name] = projection
            nn.init.xavier_normal_(projection.weight)
        self.register_buffer("adjacency", self._adjacency(data["user", "rates", "item"].edge_index), persistent=False)

    def _adjacency(self, edge_index: Tensor) -> Tensor:
        """A-hat over all nodes, as a coalesced COO matrix."""
        edges = torch.stack([edge_index[0], edge_index[1] + self.num_users]).unique(dim=1)
        edges = torch.cat([edges, edges.flip(0)], dim=1)
        size = self.num_users + self.num_items
        scale = torch.bincount(edges[0], minlength=size).clamp(min=1).double().rsqrt()
        values = (scale[edges[0]] * scale[edges[1]]).float()
        return torch.sparse_coo_tensor(edges, values, (size, size), check_invariants=False).coalesce()

    def forward(self) -> tuple[Tensor, Tensor]:
        """h_u [U, D] and h_i [I, D]."""
        hidden = torch.cat([self.user_embedding.weight, self.item_embedding.weight])
        layers = [hidden]
        for _ in range(self.num_layers):
            hidden = torch.sparse.mm(self.adjacency, hidden)
            layers.append(hidden)
        users, items = torch.stack(layers, dim=1).mean(dim=1).split([self.num_users, self.num_items])
        return users, items + self.item_embedding.weight

    def loss(self, users: Tensor, items: Tensor) -> Tensor:
        """The total loss of positives ``users`` [B], ``items`` [B]."""
        hidden_users, hidden_items = self.forward()
        latents = {name: self.projections[name](self.features[name].weight) for name in self.features}
        with torch.no_grad():
            user_target = F.dropout(hidden_users.clone(), self.dropout)
            item_target = F.dropout(hidden_items.clone(), self.dropout)
            latent_targets = {name: F.dropout(latent.clone(), self.dropout) for name, latent in latents.items()}
        online_users, online_items = self.predictor(hidden_users), self.predictor(hidden_items)

        def distance(online: Tensor, target: Tensor) -> Tensor:
            return 1 - F.cosine_similarity(online, target.detach(), dim=-1).mean()

        total = distance(online_users[users], item_target[items]) + distance(online_items[items], user_target[users])
        for name, latent in latents.items():
            online = self.predictor(latent)[items]
            total = total + 2 * (distance(online, item_target[items]) + distance(online, latent_targets[name][items]))
        regularisation = (torch.norm(hidden_users) + torch.norm(hidden_items)) / self.num_items
        result: Tensor = total + self.reg_weight * regularisation
        return result

    @torch.no_grad()
    def top(self, users: Tensor, hidden: tuple[Tensor, Tensor]) -> Tensor:
        """The K best items [B, K] of ``users`` [B]; ``hidden`` are rows and items that training has shown them."""
        hidden_users, hidden_items = self.forward()
        scores = self.predictor(hidden_users)[users] @ self.predictor(hidden_items).T
        scores[hidden] = -1e10
        return torch.topk(scores, K, dim=-1).indices


def items_of(edge_index: Tensor, num_users: int) -> list[list[int]]:
    """Every user's items."""
    lists: list[list[int]] = [[] for _ in range(num_users)]
    for user, item in edge_index.T.tolist():
        lists[user].append(item)
    return lists


class ReferenceEvaluation:
    """Full ranking of the positives of a ``split``, ``val`` or ``test``, block by block."""

    def __init__(self, data: HeteroData, split: str = "test") -> None:
        edges, num_users = data["user", "rates", "item"], int(data["user"].num_nodes)
        self.train = items_of(edges.edge_index, num_users)
        self.positives = [np.asarray(items) for items in items_of(edges[f"{split}_edge_index"], num_users)]
        users = [user for user in range(num_users) if len(self.positives[user]) and self.train[user]]
        self.blocks = [torch.tensor(users[low : low + BLOCK]) for low in range(0, len(users), BLOCK)]
        self.num_users = len(users)

    def run(self, model: ReferenceBM3, blocks: Iterable[Tensor] | None = None) -> dict[str, float]:
        """Recall and NDCG over ``blocks`` (all by default)."""
        hits, positives = [], []
        device = model.user_embedding.weight.device
        for users in self.blocks if blocks is None else blocks:
            train = [self.train[user] for user in users.tolist()]
            rows = torch.tensor([row for row, items in enumerate(train) for _ in items], device=device)
            items = torch.tensor([item for items in train for item in items], device=device)
            top = model.top(users.to(device), (rows, items)).cpu().numpy()
            for user, ids in zip(users.tolist(), top, strict=True):
                relevant = self.positives[user]
                hits.append([item in relevant for item in ids])
                positives.append(len(relevant))
        return _metrics(np.asarray(hits), np.asarray(positives))


def _metrics(hits: np.ndarray, positives: np.ndarray) -> dict[str, float]:
    discount = 1 / np.log2(np.arange(2, K + 2))
    found, gained, ideal = hits.cumsum(1), (hits * discount).cumsum(1), discount.cumsum()
    metrics = {}
    for k in (5, 10, 20, 50):
        metrics[f"recall@{k}"] = float((found[:, k - 1] / positives).mean())
        metrics[f"ndcg@{k}"] = float((gained[:, k - 1] / ideal[np.minimum(positives, k) - 1]).mean())
    return metrics
