"""What lists of recommendations are like, apart from being right."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch_geometric.data import HeteroData

from bm3_pyg.data.edges import count
from bm3_pyg.eval.tasks import degrees


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
    num_items = count(data, "item")
    ids = ids[:, :k]
    lengths = (ids < num_items).sum(dim=1)
    values = {
        f"coverage@{k}": ids[ids < num_items].unique().numel() / num_items,
        f"average_popularity@{k}": _popularity(ids[lengths > 0], lengths[lengths > 0], data),
    }
    full = ids[lengths == ids.size(1)]
    if len(full) > 1:
        values[f"personalization@{k}"] = _personalization(full)
    return values


def _popularity(ids: Tensor, lengths: Tensor, data: HeteroData) -> float:
    """LinkPredAveragePopularity's value, of lists of any lengths but 0, in double precision."""
    popularity = pad(degrees(data, "item"), (0, 1)).double()  # 0 where nothing is listed
    return float((popularity[ids].sum(1) / lengths).mean()) if len(ids) else 0.0


def _personalization(ids: Tensor) -> float:
    """LinkPredPersonalization's value over all pairs; an item in c lists is common to c (c - 1) / 2 pairs of them."""
    lists, length = ids.shape
    counts = torch.bincount(ids.flatten()).double()
    return 1 - float((counts * (counts - 1)).sum()) / (lists * (lists - 1) * length)
