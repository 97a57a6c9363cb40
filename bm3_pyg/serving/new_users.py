"""Users who came after training, from the items they chose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

from bm3_pyg.errors import ConfigError
from bm3_pyg.eval.tasks import check_range, ids_of
from bm3_pyg.models import BM3
from bm3_pyg.ops.csr import add_rows
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode, unwrapped
from bm3_pyg.serving.top_k import recommend


@torch.no_grad()
def recommend_new(
    model: Recommender,
    histories: Sequence[Sequence[int]],
    k: int = 20,
    candidates: Tensor | Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best items for each new user, given the items the user has; those are not recommended again.

    See :func:`embed_new_users` for what stands for a user. A user for whom nothing does, of no items or only such as
    have no training interactions, is offered the most popular items, with their numbers of training interactions as
    scores.

    Args:
        model: a trained BM3.
        histories: item ids of each of the N users; may be empty.
        k: length of the lists.
        candidates: item ids to choose from; all items by default.

    Returns:
        Item ids [N, k] and scores [N, k]; where fewer than k items are left, id -1 and score -inf.

    Raises:
        ConfigError: for another model, or if k is not a positive integer.
        DataError: if an item is out of range, or not an integer.
    """
    users, items = embed_new_users(model, histories)
    model = unwrapped(model)
    assert isinstance(model, BM3)
    known = HeteroData()
    known["user"].num_nodes, known["item"].num_nodes = users.size(0), items.size(0)
    known["user", "rates", "item"].edge_index = _edges(histories)
    new = NewUsers(users, items, _popularity(model).to(items.dtype))
    return recommend(new, torch.arange(users.size(0)), k, known, candidates)


class NewUsers:
    """Scores by users [N, D] and items [I, D], or by ``popularity`` [I] where a user's row is zero."""

    def __init__(self, users: Tensor, items: Tensor, popularity: Tensor) -> None:
        self.users, self.items, self.popularity = users, items, popularity

    def scorer(self) -> Scorer:
        def scores(ids: Tensor) -> Tensor:
            rows = self.users[ids.to(self.users.device)]
            return torch.where(rows.any(1, keepdim=True), rows @ self.items.T, self.popularity)

        return scores


@torch.no_grad()
def embed_new_users(model: Recommender, histories: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    r"""What would be f(h_u) of new users with these items, and f(h_i).

    A user's part of the reconstruction loss is :math:`1 - \mathrm{mean}_i \cos(f(h_u), h_i)` over the user's items. If
    f(h_u) may be any vector, the loss is least in the direction of

    .. math:: \sum_i h_i / \lVert h_i \rVert,

    so that is where training would take it, everything else being as it is. Its length, which no ranking depends on, is
    the mean length of the trained users' f(h_u). Items without training interactions carry nothing; a user without
    others gets a row of zeros.

    Args:
        model: a trained BM3, with any encoder.
        histories: item ids of each of the N users.

    Returns:
        [N, D] and [I, D]: their dot products are the scores.

    Raises:
        ConfigError: for another model.
        DataError: if an item is out of range, or not an integer.
    """
    with ranking_mode(model) as model:
        if not isinstance(model, BM3):
            raise ConfigError(f"new users: got {type(model).__name__}, expected a BM3 model")
        return _embedded(model, histories)


def _embedded(model: BM3, histories: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    edges = _edges(histories)
    check_range("item", edges[1], model.num_items)
    edges = edges.to(model.item_embedding.device)
    targets = normalize(model.forward()[1], dim=1)
    rows, items_of = edges[:, _popularity(model)[edges[1]] > 0]
    sums = add_rows(targets.new_zeros(len(histories), targets.size(1)), rows, targets[items_of])
    users, items = model.embed()
    return normalize(sums, dim=1) * users.norm(dim=1).mean(), items


def _popularity(model: BM3) -> Tensor:
    """Number of training interactions of each item, [I]."""
    return model.graph.by_item.indptr.diff()


def _edges(histories: Sequence[Sequence[int]]) -> Tensor:
    """Distinct (user, item) pairs [2, n]."""
    users = torch.repeat_interleave(torch.tensor([len(history) for history in histories], dtype=torch.long))
    items = ids_of("item", [item for history in histories for item in history])
    pairs: Tensor = torch.stack([users, items]).unique(dim=1)
    return pairs
