"""Full ranking: every item is ranked for every user, in blocks of users so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.errors import ConfigError, DataError, one_line, shown
from bm3_pyg.eval.metrics import measured, metrics_at
from bm3_pyg.names import SPLITS
from bm3_pyg.ops import masked_topk
from bm3_pyg.ops.csr import CSR
from bm3_pyg.protocols import Recommender, Scorer, ranking_mode

HIDDEN = {"train": ("train",), "seen": ("train", "val")}
TOP_K = (5, 10, 20, 50)
MEMORY_MB = 24  # the C library keeps blocks up to 32 MiB; larger ones would be faulted in anew each time
USERS = 2**15  # whose lists are measured at once


@dataclass(frozen=True)
class RankingTask:
    """What one evaluation ranks: the users with positives, their positives, and the items hidden from them.

    ``dropped`` counts the users with positives but without training interactions, who are left out. ``barred`` [I] is
    true for the items that are not candidates, if not all are.
    """

    users: Tensor
    positives: CSR
    hidden: CSR
    num_items: int
    dropped: int
    barred: Tensor | None = None


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
        sampled: rank each positive among this many sampled negatives instead, as much of the literature does; see
            :func:`bm3_pyg.eval.sampled.rank_sampled` for the metrics and why a full ranking is to be preferred.
            ``k`` and ``mask`` have no say then.
        seed: of the sampled negatives.

    Returns:
        ``{"recall@5": ..., "ndcg@5": ..., ...}``, unrounded: Recall, NDCG, Precision, MAP, MRR and HitRate at each k;
        with ``sampled=100``, ``{"sampled-100 mrr": ..., "sampled-100 hits@1": ..., ...}``.

    Raises:
        ConfigError: for an unknown split or mask, a k out of range, or a model that is no recommender.
        DataError: if no user has positives in the split, a candidate is out of range, or the model was made for other
            numbers of users or items.
    """
    task = ranking_task(data, split, mask, candidates)
    with ranking_mode(model) as model:
        check_sizes(model, data)
        if sampled is None:
            return rank(model.scorer(), task, k, memory_mb)
        from bm3_pyg.eval.sampled import rank_sampled

        return rank_sampled(model.scorer(), task, data, sampled, seed, memory_mb)


def ranking_task(
    data: HeteroData, split: str, mask: str = "train", candidates: Tensor | Sequence[int] | None = None
) -> RankingTask:
    """Prepare an evaluation of ``split``, to be ranked as often as needed."""
    if split not in SPLITS:
        raise ConfigError(f"split: got {shown(split)}, expected one of {', '.join(SPLITS)}")
    if mask not in HIDDEN:
        raise ConfigError(f"mask: got {shown(mask)}, expected one of {', '.join(HIDDEN)}")
    num_users, num_items = count(data, "user"), count(data, "item")
    lists = {name: CSR.of(edges_of(data, name), num_users, num_items) for name in SPLITS}
    positives, barred = lists[split], None
    if candidates is not None:
        barred = others(candidates, num_items)
        edges = edges_of(data, split)
        positives = CSR.of(edges[:, ~barred[edges[1]]], num_users, num_items)
    has_positives = positives.lengths() > 0
    trained = lists["train"].lengths() > 0
    users = (has_positives & trained).nonzero().view(-1)
    if users.numel() == 0:
        among = "" if barred is None else f" with the {int((~barred).sum()):,} candidates"
        raise DataError(f"dataset: no user has both {split}{among} and training interactions, nothing to evaluate")
    hidden = [edges_of(data, name) for name in HIDDEN[mask] if name != split]
    hidden_edges = torch.cat(hidden, dim=1) if hidden else torch.empty(2, 0, dtype=torch.long)
    return RankingTask(
        users,
        positives,
        CSR.of(hidden_edges, num_users, num_items),
        num_items,
        int((has_positives & ~trained).sum()),
        barred,
    )


@torch.no_grad()
def rank(scorer: Scorer, task: RankingTask, k: Sequence[int] = TOP_K, memory_mb: int = MEMORY_MB) -> dict[str, float]:
    """Rank all items for each user of ``task`` and measure the ranking; see :func:`evaluate`.

    The scorer's model is left in the mode it is in: see :func:`bm3_pyg.protocols.ranking_mode`.
    """
    metrics = metrics_at(k)
    totals = dict.fromkeys(metrics, 0.0)
    device = device_of(scorer, task)
    hidden, barred = task.hidden.to(device), None if task.barred is None else task.barred.to(device)
    size = block_size(task.num_items, memory_mb)
    for users in task.users.split(USERS):
        ids = torch.cat([best_items(scorer, block, hidden, barred, max(k)) for block in users.split(size)])
        for name, values in measured(metrics, ids, task.positives.entries(users)).items():
            totals[name] += float(values.sum())
    return {name: total / task.users.numel() for name, total in totals.items()}


def device_of(scorer: Scorer, task: RankingTask) -> torch.device:
    """Where the scores are; a :class:`DataError` where they are those of more or fewer items than the data has."""
    some_scores = scorer(task.users[:1])
    if some_scores.size(1) != task.num_items:
        raise DataError(f"scores: got those of {some_scores.size(1):,} items, the data has {task.num_items:,}")
    return some_scores.device


def best_items(scorer: Scorer, users: Tensor, hidden: CSR, barred: Tensor | None, k: int) -> Tensor:
    """The best items [B, min(k, I)] of ``users`` [B], on the CPU; I where only hidden or barred ones are left."""
    scores = scorer(users)
    check_numbers(scores)
    if barred is not None:
        scores = scores.masked_fill(barred, float("-inf"))
    values, ids = masked_topk(scores, k, hidden, rows=users.to(scores.device))
    # A hidden item is no recommendation. PyG reads -1 as the last item, so the id past the end stands for none.
    return ids.masked_fill(values == float("-inf"), scores.size(1)).cpu()


def check_sizes(model: object, data: HeteroData) -> None:
    """Raise :class:`DataError` if a model tells other numbers of users or items than the data has."""
    for kind in ("user", "item"):
        size, found = getattr(model, f"num_{kind}s", None), count(data, kind)
        if isinstance(size, int) and size != found:
            raise DataError(
                f"model: made for {size:,} {kind}s, the data has {found:,}: another dataset, or a part of it"
            )


def check_numbers(scores: Tensor) -> None:
    """Raise :class:`DataError` if scores [B, I] of the first user or item are NaN, as they are if a weight is."""
    if scores[:1].isnan().any() or scores[:, :1].isnan().any():
        raise DataError("scores: got NaN, expected numbers: the model's weights are not finite")


def others(candidates: Tensor | Sequence[int], num_items: int) -> Tensor:
    """[I] bool, true for the items that are not ``candidates``.

    Raises:
        DataError: as :func:`ids_of`.
    """
    candidates = ids_of("candidate", candidates, num_items)
    barred = torch.ones(num_items, dtype=torch.bool)
    barred[candidates] = False
    return barred


def ids_of(what: str, ids: Any, size: int | None = None) -> Tensor:
    """``ids`` [n] as int64 on the CPU.

    Raises:
        DataError: for anything but integers, such as a boolean mask, or for one outside [0, size).
    """
    try:
        found = torch.as_tensor(ids, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what}: got {type(ids).__name__}, expected integer ids ({one_line(error)})") from None
    if found.numel() == 0:
        return torch.empty(0, dtype=torch.long)
    if found.dtype == torch.bool or found.is_floating_point() or found.is_complex() or found.dim() > 1:
        way_out = "; mask.nonzero().view(-1) gives those of a mask" if found.dtype == torch.bool else ""
        raise DataError(f"{what}: got {found.dtype} {list(found.shape)}, expected integer ids [n]{way_out}")
    found = found.long().view(-1)
    if size is not None:
        check_range(what, found, size)
    return found


def check_range(what: str, ids: Tensor, size: int) -> None:
    """Raise :class:`DataError` for an id outside [0, size)."""
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.numel():
        raise DataError(f"{what}: got id {int(wrong[0])}, expected one from 0 to {size - 1}")


def block_size(num_items: int, memory_mb: int) -> int:
    """Number of users whose float32 scores of all items fill ``memory_mb`` MiB."""
    return max(1, memory_mb * 2**20 // (4 * num_items))
