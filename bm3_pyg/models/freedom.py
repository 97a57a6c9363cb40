"""FREEDOM: a frozen item graph of similar features beside a pruned interaction graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError, shown
from bm3_pyg.models.bpr import Negatives, ranking_loss
from bm3_pyg.names import check_option
from bm3_pyg.nn.base import RecommenderModel, check_batch, embedding
from bm3_pyg.nn.features import FrozenFeatures
from bm3_pyg.ops import Graph, build_graph, propagate, propagate_rows
from bm3_pyg.ops.csr import take_rows
from bm3_pyg.ops.item_graph import item_graph


class FREEDOMLosses(NamedTuple):
    """Scalar losses of one batch; ``total`` is ranking + feature_weight * features."""

    total: Tensor
    ranking: Tensor
    features: Tensor


class FREEDOM(RecommenderModel):
    r"""The recommender of Zhou and Shen, `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal
    Recommendation" <https://arxiv.org/abs/2211.06924>`_, ACM MM 2023.

    With :math:`\hat{A}` of the interactions and S, the item graph of similar features
    (:mod:`bm3_pyg.ops.item_graph`), N the ``item_layers``,

    .. math::
        H = \frac{1}{L+1} \sum_{l=0}^{L} \hat{A}^l [E_U; E_I], \qquad h_u = H_u, \quad h_i = H_i + (S^N E_I)_i,

    and a user's score of an item is :math:`h_u \cdot h_i`. With negatives n drawn for positives p,

    .. math::
        L = \text{BPR}(h_u, h_p, h_n) + \lambda \sum_m \text{BPR}(h_u, W_m x_{mp}, W_m x_{mn}), \qquad
        \text{BPR}(a, b, c) = -\frac{1}{B} \sum \ln \sigma(a \cdot b - a \cdot c).

    In training :math:`\hat{A}` has a share :math:`1 - \rho` of the interactions, drawn anew for each epoch without
    replacement with probabilities proportional to :math:`(d_u d_i)^{-1/2}` and normalised by the degrees that are left;
    scores come from all of them. There is no other regularisation. Features are frozen as in the paper; the authors'
    code trains them. Embeddings are Xavier uniform; defaults are MMRec's.

    Args:
        num_users: number of users U.
        num_items: number of items I.
        edge_index: training interactions, as for :class:`~bm3_pyg.BM3`.
        modalities: ``{name: [I, d]}`` item features, one or more.
        embedding_dim: dimension D of the embeddings.
        num_layers: propagation layers L over the interactions.
        item_layers: propagation layers N over the item graph.
        neighbours: items each item is joined to in each modality, itself among them.
        image_weight: weight in [0, 1] of the modality called image in the item graph, where there are others.
        pruning: share :math:`\rho` of the interactions left out in training, in [0, 1).
        feature_weight: :math:`\lambda`, called ``reg_weight`` in the authors' code.

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
        num_layers: int = 2,
        item_layers: int = 1,
        neighbours: int = 10,
        image_weight: float = 0.1,
        pruning: float = 0.8,
        feature_weight: float = 1e-3,
    ) -> None:
        super().__init__()
        self.num_layers, self.item_layers = num_layers, item_layers
        self.pruning, self.feature_weight = pruning, feature_weight
        self.graph = build_graph(edge_index, num_users, num_items)
        self.negatives = Negatives(self.graph)
        self.user_embedding = embedding(num_users, embedding_dim)
        self.item_embedding = embedding(num_items, embedding_dim)
        self.features = FrozenFeatures(modalities, num_items, embedding_dim)
        weights = modality_weights([*modalities], image_weight)
        self.item_graph = item_graph([*modalities.values()], neighbours, weights, own=True)
        self._seed = -1  # of the pruned graph; none yet
        self._pruned: Graph | None = None

    def embed(self) -> tuple[Tensor, Tensor]:
        """h_u [U, D] and h_i [I, D] over all interactions: their dot products are the scores."""
        users, items = propagate(self.graph, self.user_embedding, self.item_embedding, self.num_layers)
        return users, items + self._over_items()

    def start_epoch(self, generator: torch.Generator | None = None) -> None:
        """Prune the interactions anew, as decided by one number from ``generator`` or PyTorch's global ones."""
        device = None if generator is None else generator.device
        self._seed, self._pruned = int(torch.randint(2**62, (), generator=generator, device=device)), None

    def loss(self, users: Tensor, items: Tensor, *, generator: torch.Generator | None = None) -> FREEDOMLosses:
        """Losses of the interactions ``(users[b], items[b])``, both [B], each with a negative item drawn for it, from
        ``generator`` or PyTorch's global random numbers.

        Call :meth:`start_epoch` before each epoch, as :func:`~bm3_pyg.fit` does.
        """
        check_batch(users, items)
        both = torch.cat([items, self.negatives(users, generator)])
        tables = self.user_embedding, self.item_embedding
        user_rows, item_rows, *_ = propagate_rows(self.pruned_graph(generator), *tables, self.num_layers, users, both)
        item_rows = item_rows + take_rows(self._over_items(), both)
        ranking = ranking_loss(user_rows, *item_rows.chunk(2))
        projected = self.features(both).values()
        features = torch.stack([ranking_loss(user_rows, *rows.chunk(2)) for rows in projected]).sum()
        return FREEDOMLosses(ranking + self.feature_weight * features, ranking, features)

    def pruned_graph(self, generator: torch.Generator | None = None) -> Graph:
        """The interactions of this epoch, drawn now if it has not been announced."""
        if self.pruning == 0:
            return self.graph
        if self._seed < 0:
            self.start_epoch(generator)
        if self._pruned is None:
            pruned = prune(self.graph.to("cpu"), self.pruning, torch.Generator().manual_seed(self._seed))
            self._pruned = pruned.to(self.user_embedding.device)
        return self._pruned

    def get_extra_state(self) -> Tensor:
        """What :meth:`start_epoch` drew, so that a resumed run has the same interactions."""
        return torch.tensor(self._seed)

    def set_extra_state(self, state: Tensor) -> None:
        self._seed, self._pruned = int(state), None

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: without the pruned graph, which follows from the number drawn for it."""
        return {**super().__getstate__(), "_pruned": None}

    def _over_items(self) -> Tensor:
        hidden: Tensor = self.item_embedding
        for _ in range(self.item_layers):
            hidden = self.item_graph.smooth(hidden)
        return hidden


def modality_weights(names: Sequence[str], image_weight: float) -> list[float]:
    """Weights in the item graph, of sum 1: image's as given, the others' alike; all alike without image or others.

    Raises:
        ConfigError: if ``image_weight`` is not a number from 0 to 1.
    """
    check_option("image_weight", image_weight)
    if image_weight > 1:
        raise ConfigError(f"image_weight: got {shown(image_weight)}, expected a number from 0 to 1")
    if "image" not in names or len(names) == 1:
        return [1 / len(names)] * len(names)
    return [image_weight if name == "image" else (1 - image_weight) / (len(names) - 1) for name in names]


def prune(graph: Graph, share: float, generator: torch.Generator) -> Graph:
    """``graph`` without ``share`` of its E interactions: int(E (1 - share)) are drawn without replacement, with
    probabilities proportional to (d_u d_i)^-1/2.

    The first of independent exponential waiting times, with these rates, are such a draw.
    """
    users, items = edges = graph.edge_index()
    rate = graph.by_user.row_scale[users] * graph.by_item.row_scale[items]
    waiting = torch.empty_like(rate).exponential_(generator=generator) / rate
    kept = waiting.topk(int(rate.numel() * (1 - share)), largest=False).indices
    return build_graph(edges[:, kept], graph.num_users, graph.num_items)
