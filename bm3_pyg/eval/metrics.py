"""The metrics of a ranking, by torch_geometric.metrics, in double precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)
from torch_geometric.metrics.link_pred import LinkPredMetric, LinkPredMetricData
from torch_geometric.utils import cumsum

from bm3_pyg.errors import ConfigError, check_number

METRICS = {
    "recall": LinkPredRecall,
    "ndcg": LinkPredNDCG,
    "precision": LinkPredPrecision,
    "map": LinkPredMAP,
    "mrr": LinkPredMRR,
    "hitrate": LinkPredHitRatio,
}
LARGEST_K = 10**6


def metrics_at(k: Sequence[int], names: Iterable[str] = tuple(METRICS)) -> dict[str, LinkPredMetric]:
    """``{"recall@10": ..., ...}``, for :func:`measured`.

    Raises:
        ConfigError: if a cut-off is not an integer from 1 to LARGEST_K, or there is none.
    """
    if not isinstance(k, Sequence) or not k:
        raise ConfigError(f"k: got {k!r}, expected cut-offs such as (10, 20)")
    for cutoff in k:
        check_number("k", cutoff, int, 1, LARGEST_K + 1)
    metrics = {f"{name}@{cutoff}": METRICS[name](k=cutoff) for cutoff in k for name in names}
    for metric in metrics.values():
        if isinstance(metric, LinkPredNDCG):
            metric.discount = torch.arange(2, metric.k + 2, dtype=torch.float64).log2()
            metric.idcg = cumsum(1 / metric.discount)
    return metrics


def measured(
    metrics: Mapping[str, LinkPredMetric], ids: Tensor, positives: Tensor | tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Each user's value of each metric, [n] float64.

    The metrics' own sums are in double precision only where torchmetrics is not installed, so they are not used.

    Args:
        metrics: from :func:`metrics_at`.
        ids: [n, m] the best items of n users, best first; an id past the last one stands for none.
        positives: [p] places 0 to n - 1 and [p] item ids, one or more for each place.
    """
    lists = LinkPredMetricData(ids, positives)
    lists._pred_rel_mat = lists.pred_rel_mat.double()
    return {name: metric._compute(lists).double() for name, metric in metrics.items()}
