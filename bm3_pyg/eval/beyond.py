"""What lists of recommendations are like, apart from being right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.metrics import LinkPredCoverage

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.ops.csr import CSR

NONE = torch.empty(2, 0, dtype=torch.long)


def beyond_accuracy(ids: Tensor, data: HeteroData, k: int = 20) -> dict[str, float]:
    """Coverage, popularity and personalization of lists of recommendations.

    Args:
        ids: [n, m] the best items of n users, best first; the number of items I stands for none and is ignored.
        data: the dataset.
        k: length of the lists to look at.

    Returns:
        ``coverage@k``: the share of all items that stand in any list; ``average_popularity@k``: the mean number of
        training interactions of the items in a list, mean over users; ``personalization@k``: one minus the share of
        items that two users' lists have in common, mean over all pairs of users with full lists (absent where fewer
        than two have).
    """
    num_items = data["item"].num_nodes
    ids = ids[:, :k]
    lengths = (ids < num_items).sum(dim=1)
    values = {
        f"coverage@{k}": _coverage(ids[ids < num_items], num_items),
        f"average_popularity@{k}": _popularity(ids, lengths, data),
    }
    full = ids[lengths == ids.size(1)]
    if len(full) > 1:
        values[f"personalization@{k}"] = _personalization(full)
    return values


def _coverage(listed: Tensor, num_items: int) -> float:
    metric = LinkPredCoverage(max(1, listed.numel()), num_items)
    metric.update(listed.view(1, -1), NONE)
    return float(metric.mask.double().mean())


def _popularity(ids: Tensor, lengths: Tensor, data: HeteroData) -> float:
    """LinkPredAveragePopularity's value, of lists of any lengths, in double precision."""
    training = CSR.of(edges_of(data, "train"), count(data, "user"), count(data, "item"))
    popularity = training.indices.bincount(minlength=count(data, "item") + 1).double()  # 0 where nothing is listed
    listed = lengths > 0
    if not listed.any():
        return 0.0
    return float((popularity[ids[listed]].sum(1) / lengths[listed]).mean())


def _personalization(ids: Tensor) -> float:
    """LinkPredPersonalization's value over all pairs; an item in c lists is common to c (c - 1) / 2 pairs of them."""
    lists, length = ids.shape
    counts = torch.bincount(ids.flatten()).double()
    return 1 - float((counts * (counts - 1)).sum()) / (lists * (lists - 1) * length)
