"""Top-k lists by position: items for users, and items like given ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.errors import ConfigError, DataError, check_number
from bm3_pyg.eval.metrics import LARGEST_K
from bm3_pyg.eval.tasks import (
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
        if users.numel() == 0:
            return _no_lists(users, k)
        scorer = model.scorer()
        some_scores = scorer(users[:1].clamp(0, 0))
        num_items, device = some_scores.size(1), some_scores.device
        seen = None if exclude is None else _seen(exclude, num_items).to(device)
        check_range("user", users, max(1, int(users.max()) + 1) if exclude is None else count(exclude, "user"))
        barred = None if candidates is None else others(candidates, num_items).to(device)

        def scores(block: Tensor) -> Tensor:
            try:
                found = scorer(block)
            except IndexError as error:
                raise DataError(f"user: got ids up to {int(block.max())}, more than the model has") from error
            check_numbers(found)
            return found if barred is None else found.masked_fill(barred, float("-inf"))

        return _best(scores, users, k, seen, block_size(num_items, memory_mb))


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
    unit = normalize(embeddings_of(model)[1], dim=1)
    num_items = unit.size(0)
    items = ids_of("item", items, num_items)
    pool = torch.arange(num_items)
    if candidates is not None:
        pool = ids_of("candidate", candidates, num_items).unique()
    if pool.numel() == 0:
        return _no_lists(items, k)
    pool_unit = unit[pool.to(unit.device)]

    def cosines(block: Tensor) -> Tensor:
        found = (unit[block.to(unit.device)] @ pool_unit.T).cpu()
        return found.masked_fill(block[:, None] == pool, float("-inf"))

    places, values = _best(cosines, items, k, None, block_size(pool.numel(), memory_mb))
    return pool[places].masked_fill(places < 0, -1), values


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


def _best(scores: Scorer, rows: Tensor, k: int, hidden: CSR | None, block: int) -> tuple[Tensor, Tensor]:
    """Columns and scores [B, k] of the k best of ``scores(rows)``, ``block`` rows at a time.

    Row r hides the columns that ``hidden`` has for it; where fewer than k are left, -1 and -inf.
    """
    columns, values = _no_lists(rows, k)
    for start in range(0, rows.numel(), block):
        part = rows[start : start + block]
        found = scores(part)
        best, at = masked_topk(found, k, hidden, rows=part.to(found.device))
        values[start : start + block, : best.size(1)] = best.to(values)
        columns[start : start + block, : at.size(1)] = at.masked_fill(best == float("-inf"), -1).to(columns)
    return columns, values


def _no_lists(rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Lists of the length k, for each of ``rows`` [B], with nothing in them."""
    return rows.new_full((rows.numel(), k), -1), torch.full((rows.numel(), k), float("-inf"))


def _seen(data: HeteroData, num_items: int) -> CSR:
    """Every interaction in ``data``, users by items."""
    edges = torch.cat([edges_of(data, split) for split in SPLITS], dim=1)
    if count(data, "item") != num_items:
        raise DataError(f"exclude: has {count(data, 'item'):,} items, the model scores {num_items:,}")
    return CSR.of(edges, count(data, "user"), num_items)
