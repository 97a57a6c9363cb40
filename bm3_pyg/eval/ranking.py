"""Full ranking: every item is ranked for every user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.metrics.link_pred import LinkPredMetric

from bm3_pyg.eval.metrics import measured, metrics_at
from bm3_pyg.eval.sampled import rank_sampled
from bm3_pyg.eval.tasks import MEMORY_MB, RankingTask, check_dot_products, check_sizes, ranking_task, score_blocks
from bm3_pyg.ops import masked_topk
from bm3_pyg.ops.topk import DotProducts, dot_topk
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode

TOP_K = (5, 10, 20, 50)
USERS = 2**15  # whose lists are measured at once


def evaluate(
    model: Recommender,
    data: HeteroData,
    split: str = "test",
    k: Sequence[int] = TOP_K,
    mask: str = "train",
    memory_mb: int = MEMORY_MB,
    *,
    candidates: Tensor | Sequence[int] | None = None,
    sampled: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Metrics of a full ranking, means over the users with positives in ``split`` and training interactions.

    The model ranks in eval mode, and every submodule has its mode back afterwards; so in all that ranks.

    Args:
        model: any recommender.
        data: the dataset.
        split: ``train``, ``val`` or ``test``.
        k: cut-offs; one beyond the catalogue ranks the whole catalogue.
        mask: ``train`` hides training items from the ranking; ``seen`` hides validation items at test too.
        memory_mb: size in MiB of a block of scores.
        candidates: item ids to rank, for example the cold ones; all items by default. Positives that are no candidates
            do not count, and users without any others are left out.
        sampled: the result is that of :func:`bm3_pyg.eval.sampled.rank_sampled` instead, with this many negatives;
            ``k`` and ``mask`` have no say then.
        seed: of the sampled negatives.

    Returns:
        ``{"recall@5": ..., "ndcg@5": ..., ...}``, unrounded: Recall, NDCG, Precision, MAP, MRR and HitRate at each k.

    Raises:
        ConfigError: for an unknown split or mask, a k out of range, or a model that is no recommender.
        DataError: if no user has positives in the split, a candidate is out of range, or the model was made for other
            numbers of users or items.
    """
    task = ranking_task(data, split, mask, candidates)
    with ranking_mode(model) as model:
        check_sizes(model, data)
        if sampled is not None:
            return rank_sampled(model.scorer(), task, data, sampled, seed, memory_mb)
        return rank(model.scorer(), task, k, memory_mb)


def rank(scorer: Scorer, task: RankingTask, k: Sequence[int] = TOP_K, memory_mb: int = MEMORY_MB) -> dict[str, float]:
    """Rank all items for each user of ``task`` and measure the ranking; see :func:`evaluate`.

    The scorer's model is left in the mode it is in: see :func:`bm3_pyg.protocols.ranking_mode`.
    """
    metrics = metrics_at(k)
    return mean_metrics(metrics, task, best_items(scorer, task, max(k), memory_mb))


@torch.no_grad()
def best_items(scorer: Scorer, task: RankingTask, k: int, memory_mb: int = MEMORY_MB) -> Iterator[Tensor]:
    """The best items [n, min(k, I)] of the users of ``task``, at most USERS of them at once, on the CPU.

    Best first; I stands where only hidden or barred items are left.
    """
    hidden, barred = task.hidden, task.barred
    for users in task.users.split(USERS):
        if isinstance(scorer, DotProducts) and scorer.fused(k):
            check_dot_products(scorer, users, task.num_items)
            values, ids = dot_topk(scorer, users, k, hidden, barred)
            yield ids.masked_fill_(values == float("-inf"), task.num_items)
            continue
        lists = []
        for block, scores in score_blocks(scorer, users, task.num_items, memory_mb):
            hidden, barred = hidden.to(scores.device), None if barred is None else barred.to(scores.device)
            if barred is not None:
                scores = scores.masked_fill(barred, float("-inf"))
            values, ids = masked_topk(scores, k, hidden, rows=block.to(scores.device))
            # A hidden item is no recommendation. PyG reads -1 as the last item, so the id past the end stands for none.
            lists.append(ids.masked_fill(values == float("-inf"), task.num_items).cpu())
        yield torch.cat(lists)


@dataclass(frozen=True)
class Ranking:
    """The :func:`best_items` of the users of ``task`` [n] as one tensor, ``ids`` [n, k]."""

    task: RankingTask
    ids: Tensor

    def metrics(self, k: Sequence[int] = TOP_K) -> dict[str, float]:
        """What :func:`rank` gives."""
        return mean_metrics(metrics_at(k), self.task, self.ids.split(USERS))


def mean_metrics(metrics: Mapping[str, LinkPredMetric], task: RankingTask, lists: Iterable[Tensor]) -> dict[str, float]:
    """The mean of each of the ``metrics`` over the users of ``task``, whose :func:`best_items` are ``lists``."""
    totals = dict.fromkeys(metrics, 0.0)
    for users, ids in zip(task.users.split(USERS), lists, strict=True):
        for name, values in measured(metrics, ids, task.positives.entries(users)).items():
            totals[name] += float(values.sum())
    return {name: total / task.users.numel() for name, total in totals.items()}
