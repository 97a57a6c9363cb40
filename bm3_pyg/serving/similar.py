"""Items like given ones, by a recommender's embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bm3_pyg.errors import ConfigError, check_number
from bm3_pyg.eval.metrics import LARGEST_K
from bm3_pyg.eval.ranking import MEMORY_MB, block_size, ids_of
from bm3_pyg.ops import masked_topk
from bm3_pyg.protocols import Recommender, ranking_mode


@torch.no_grad()
def embeddings_of(model: Recommender) -> tuple[Tensor, Tensor]:
    """Users [U, D] and items [I, D] whose dot products are the model's scores, without gradients.

    Raises:
        ConfigError: if the model has no embeddings, as Popularity and ItemKNN have none.
    """
    with ranking_mode(model) as model:
        embed = getattr(model, "embed", None)
        if embed is None:
            name = type(model).__name__
            raise ConfigError(f"model: {name} has no embeddings, expected one with embed(), such as BM3")
        users, items = embed()
        return users.detach(), items.detach()


@torch.no_grad()
def similar_items(
    model: Recommender,
    items: Tensor | Sequence[int],
    k: int = 10,
    candidates: Tensor | Sequence[int] | None = None,
    memory_mb: int = MEMORY_MB,
) -> tuple[Tensor, Tensor]:
    """The k items most like each of the given ones by the cosine of their embeddings, best first, never itself.

    Args:
        model: a recommender with ``embed()``; :func:`~bm3_pyg.eval.with_cold_items` places cold items by features.
        items: [B] item ids.
        k: length of the lists.
        candidates: item ids to choose from; all items by default.
        memory_mb: size in MiB of a block of cosines.

    Returns:
        Item ids [B, k] and cosines [B, k], both on the CPU; where fewer than k items are left, id -1 and cosine -inf.

    Raises:
        ConfigError: if k is not a positive integer, or the model has no embeddings.
        DataError: if an item or a candidate is out of range, or not an integer.
    """
    check_number("k", k, int, 1, LARGEST_K + 1)
    table = torch.nn.functional.normalize(embeddings_of(model)[1], dim=1)
    num_items = table.size(0)
    items = ids_of("item", items, num_items)
    pool = torch.arange(num_items)
    if candidates is not None:
        pool = ids_of("candidate", candidates, num_items).unique()
    others = table[pool.to(table.device)]

    ids = items.new_full((items.numel(), k), -1)
    cosines = torch.full((items.numel(), k), float("-inf"))
    if pool.numel() == 0:
        return ids, cosines
    size = block_size(pool.numel(), memory_mb)
    for start in range(0, items.numel(), size):
        block = items[start : start + size]
        scores = (table[block.to(table.device)] @ others.T).cpu()
        scores[block[:, None] == pool] = float("-inf")
        values, best = masked_topk(scores, k)
        cosines[start : start + size, : values.size(1)] = values.float()
        ids[start : start + size, : best.size(1)] = pool[best].masked_fill(values == float("-inf"), -1)
    return ids, cosines
