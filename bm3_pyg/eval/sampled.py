"""Sampled metrics, for comparison with articles that report them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.errors import ConfigError, DataError, check_number
from bm3_pyg.eval.tasks import MEMORY_MB, RankingTask, score_blocks
from bm3_pyg.names import SPLITS
from bm3_pyg.ops.csr import CSR, absent, gaps
from bm3_pyg.protocols import Scorer


@torch.no_grad()
def rank_sampled(
    scorer: Scorer, task: RankingTask, data: HeteroData, negatives: int, seed: int = 0, memory_mb: int = MEMORY_MB
) -> dict[str, float]:
    """MRR and Hits@1, @3, @10 of each positive among sampled negatives, by ogb's evaluator of ``ogbl-citation2``.

    Prefer a full ranking. Krichene and Rendle, `"On Sampled Metrics for Item Recommendation"
    <https://doi.org/10.1145/3394486.3403226>`_, KDD 2020, show that sampled metrics are inconsistent with the exact
    ones, even in expectation: they can reverse the order of two recommenders, and the fewer the negatives, the less
    they look at the top of the list, where recommendations are made.

    A positive's negatives are drawn uniformly, with replacement, from the items (the candidates, where the task has
    some) that the user has in no split. Users to whom no such item is left have no say. A positive that ties with
    negatives takes the mean of its best and worst rank. Means are over positives, not over users.

    Args:
        scorer: a recommender's.
        task: from :func:`~bm3_pyg.eval.ranking_task`; what it hides does not matter here.
        data: the dataset the task was made of.
        negatives: how many for each positive.
        seed: of the draw.
        memory_mb: size in MiB of a block of scores.

    Returns:
        ``{"sampled-100 mrr": ..., "sampled-100 hits@1": ..., "sampled-100 hits@3": ..., "sampled-100 hits@10": ...}``
        for 100 negatives.

    Raises:
        ConfigError: if ``negatives`` is not a positive integer, or ogb is not installed.
        DataError: if no user has an item left to draw.
    """
    check_number("sampled", negatives, int, 1)
    evaluator = _evaluator()
    rng = np.random.default_rng(seed)
    pool = torch.arange(task.num_items) if task.barred is None else (~task.barred).nonzero().view(-1)
    known = _known(data, pool, task.num_items)
    users = task.users[known.lengths()[task.users] < pool.numel()]
    if users.numel() == 0:
        raise DataError("sampled: every user has interacted with every item, expected some left to draw as negatives")
    parts: dict[str, list[Tensor]] = {}
    for block, scores in score_blocks(scorer, users, task.num_items, memory_mb):
        row, positive = task.positives.entries(block)
        drawn = pool[_draw(rng, known, pool.numel(), block[row], negatives)]
        scores = scores.cpu()
        measured = evaluator.eval({"y_pred_pos": scores[row, positive], "y_pred_neg": scores[row[:, None], drawn]})
        for name, values in measured.items():
            parts.setdefault(name.removesuffix("_list"), []).append(values)
    names = ("mrr", "hits@1", "hits@3", "hits@10")
    return {f"sampled-{negatives} {name}": float(torch.cat(parts[name]).double().mean()) for name in names}


def _evaluator() -> Any:
    try:
        from ogb.linkproppred import Evaluator
    except ImportError as error:
        raise ConfigError('sampled metrics need ogb: pip install "bm3-pyg[ogb]"') from error
    return Evaluator("ogbl-citation2")


def _known(data: HeteroData, pool: Tensor, num_items: int) -> CSR:
    """The users' items of all splits, as places in ``pool`` [n] (distinct, ascending); others are left out."""
    place = torch.full((num_items,), -1)
    place[pool] = torch.arange(pool.numel())
    edges = torch.cat([edges_of(data, split) for split in SPLITS], dim=1)
    edges = torch.stack([edges[0], place[edges[1]]])
    return CSR.of(edges[:, edges[1] >= 0], data["user"].num_nodes, pool.numel())


def _draw(rng: np.random.Generator, known: CSR, size: int, users: Tensor, count: int) -> Tensor:
    """For each of ``users`` [P], ``count`` places below ``size`` that are not in the user's list, [P, count]."""
    free = (size - known.lengths())[users].numpy()
    ranks = torch.from_numpy((rng.random((users.numel(), count)) * free[:, None]).astype(np.int64))
    return absent(known.indptr, gaps(known, size), size, users[:, None], ranks)
