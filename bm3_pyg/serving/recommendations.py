"""Top-k lists for given users."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.errors import DataError, check_number
from bm3_pyg.eval.metrics import LARGEST_K
from bm3_pyg.eval.ranking import (
    MEMORY_MB,
    block_size,
    check_numbers,
    check_range,
    check_sizes,
    ids_of,
    others,
)
from bm3_pyg.names import SPLITS
from bm3_pyg.ops import masked_topk
from bm3_pyg.ops.csr import CSR
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode


@torch.no_grad()
def recommend(
    model: Recommender,
    users: Tensor | Sequence[int],
    k: int = 20,
    exclude: HeteroData | None = None,
    candidates: Tensor | Sequence[int] | None = None,
    memory_mb: int = MEMORY_MB,
) -> tuple[Tensor, Tensor]:
    """The k best items for each user, best first.

    Args:
        model: any recommender.
        users: [B] user ids (positions, not the ids of the source files: see :func:`bm3_pyg.data.index_of`).
        k: length of the lists, at most a million.
        exclude: a dataset whose interactions (training, validation and test) are not recommended again.
        candidates: item ids to choose from; all items by default.
        memory_mb: size in MiB of a block of scores.

    Returns:
        Item ids [B, k] and scores [B, k], both on the CPU; where fewer than k items are left, id -1 and score -inf.

    Raises:
        ConfigError: if k is not a positive integer, or the model is no recommender.
        DataError: if a user or a candidate is out of range, or not an integer, or ``exclude`` has other numbers of
            users or items than the model.
    """
    check_number("k", k, int, 1, LARGEST_K + 1)
    with ranking_mode(model) as model:
        users = ids_of("user", users, getattr(model, "num_users", None))
        if exclude is not None:
            check_sizes(model, exclude)
        return _recommend(model.scorer(), users, k, exclude, candidates, memory_mb)


def _recommend(
    scorer: Scorer,
    users: Tensor,
    k: int,
    exclude: HeteroData | None,
    candidates: Tensor | Sequence[int] | None,
    memory_mb: int,
) -> tuple[Tensor, Tensor]:
    if users.numel() == 0:
        return users.new_empty(0, k), torch.empty(0, k)
    some_scores = scorer(users[:1].clamp(0, 0))
    num_items = some_scores.size(1)
    hidden = _hidden(exclude, max(1, int(users.max()) + 1), num_items).to(some_scores.device)
    check_range("user", users, hidden.indptr.numel() - 1)
    barred = None if candidates is None else others(candidates, num_items).to(some_scores.device)

    ids = users.new_full((users.numel(), k), -1)
    scores = torch.full((users.numel(), k), float("-inf"))
    size = block_size(num_items, memory_mb)
    for start in range(0, users.numel(), size):
        block = users[start : start + size]
        try:
            block_scores = scorer(block)
        except IndexError as error:
            raise DataError(f"user: got ids up to {int(block.max())}, more than the model has") from error
        check_numbers(block_scores)
        if barred is not None:
            block_scores = block_scores.masked_fill(barred, float("-inf"))
        values, best = masked_topk(block_scores, k, hidden, rows=block.to(block_scores.device))
        scores[start : start + size, : values.size(1)] = values.to(scores)
        ids[start : start + size, : best.size(1)] = best.masked_fill(values == float("-inf"), -1).to(ids)
    return ids, scores


def _hidden(exclude: HeteroData | None, num_users: int, num_items: int) -> CSR:
    if exclude is None:
        return CSR.of(torch.empty(2, 0, dtype=torch.long), num_users, num_items)
    seen = torch.cat([edges_of(exclude, split) for split in SPLITS], dim=1)
    if count(exclude, "item") != num_items:
        raise DataError(f"exclude: has {count(exclude, 'item'):,} items, the model scores {num_items:,}")
    return CSR.of(seen, count(exclude, "user"), num_items)
