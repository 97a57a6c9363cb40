"""What an evaluation ranks, for whom, and the scores that it takes, in blocks of users so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from bm3_pyg.data import edges_of
from bm3_pyg.data.edges import count
from bm3_pyg.errors import ConfigError, DataError, one_line, shown
from bm3_pyg.names import SPLITS
from bm3_pyg.ops.csr import CSR
from bm3_pyg.ops.topk import DotProducts
from bm3_pyg.protocols import Scorer

HIDDEN = {"train": ("train",), "seen": ("train", "val")}
MEMORY_MB = 24  # the C library keeps blocks up to 32 MiB; larger ones would be faulted in anew each time


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


def ranking_task(
    data: HeteroData, split: str, mask: str = "train", candidates: Tensor | Sequence[int] | None = None
) -> RankingTask:
    """Prepare an evaluation of ``split``, to be ranked as often as needed; see :func:`bm3_pyg.evaluate`.

    Raises:
        ConfigError: for an unknown split or mask.
        DataError: if no user has positives in the split, or a candidate is out of range.
    """
    if split not in SPLITS:
        raise ConfigError(f"split: got {shown(split)}, expected one of {', '.join(SPLITS)}")
    if mask not in HIDDEN:
        raise ConfigError(f"mask: got {shown(mask)}, expected one of {', '.join(HIDDEN)}")
    num_users, num_items = count(data, "user"), count(data, "item")
    edges = {name: edges_of(data, name) for name in SPLITS}
    positives, barred = edges[split], None
    if candidates is not None:
        barred = others(candidates, num_items)
        positives = positives[:, ~barred[positives[1]]]
    has_positives = positives[0].bincount(minlength=num_users) > 0
    trained = edges["train"][0].bincount(minlength=num_users) > 0
    users = (has_positives & trained).nonzero().view(-1)
    if users.numel() == 0:
        among = "" if barred is None else f" with the {int((~barred).sum()):,} candidates"
        raise DataError(f"dataset: no user has both {split}{among} and training interactions, nothing to evaluate")
    hidden = [torch.empty(2, 0, dtype=torch.long), *(edges[name] for name in HIDDEN[mask] if name != split)]
    return RankingTask(
        users,
        CSR.of(positives, num_users, num_items),
        CSR.of(torch.cat(hidden, dim=1), num_users, num_items),
        num_items,
        int((has_positives & ~trained).sum()),
        barred,
    )


def degrees(data: HeteroData, kind: str) -> Tensor:
    """Training interactions of every user or item, repeated ones counted once."""
    training = CSR.of(edges_of(data, "train"), count(data, "user"), count(data, "item"))
    return training.lengths() if kind == "user" else training.indices.bincount(minlength=count(data, "item"))


def score_blocks(
    scorer: Scorer, users: Tensor, num_items: int, memory_mb: int = MEMORY_MB
) -> Iterator[tuple[Tensor, Tensor]]:
    """``users`` in blocks [B], each with its scores [B, I], of about ``memory_mb`` MiB.

    Raises:
        DataError: the scores are of more or fewer than ``num_items`` items, or NaN.
    """
    for block in users.split(block_size(num_items, memory_mb)):
        scores = scorer(block)
        _check_count(scores.size(1), num_items)
        check_numbers(scores)
        yield block, scores


def check_dot_products(scorer: DotProducts, users: Tensor, num_items: int) -> None:
    """Raise :class:`DataError` as :func:`score_blocks` does for the first block of ``users``."""
    _check_count(len(scorer.items), num_items)
    check_numbers(scorer(users[:1]))
    check_numbers(DotProducts(scorer.users, scorer.items[:1])(users))


def _check_count(found: int, num_items: int) -> None:
    if found != num_items:
        raise DataError(f"scores: got those of {found:,} items, the data has {num_items:,}")


def block_size(num_items: int, memory_mb: int) -> int:
    """Number of users whose float32 scores of all items fill ``memory_mb`` MiB."""
    return max(1, memory_mb * 2**20 // (4 * num_items))


def check_numbers(scores: Tensor) -> None:
    """Raise :class:`DataError` if scores [B, I] of the first user or item are NaN, as they are if a weight is."""
    if scores[:1].isnan().any() or scores[:, :1].isnan().any():
        raise DataError("scores: got NaN, expected numbers: the model's weights are not finite")


def check_sizes(model: object, data: HeteroData) -> None:
    """Raise :class:`DataError` if a model has other numbers of users or items than the data."""
    for kind in ("user", "item"):
        size, expected = getattr(model, f"num_{kind}s", None), count(data, kind)
        if isinstance(size, int) and size != expected:
            raise DataError(
                f"model: made for {size:,} {kind}s, the data has {expected:,}: another dataset, or a part of it"
            )


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
        tensor = torch.as_tensor(ids, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what}: got {type(ids).__name__}, expected integer ids ({one_line(error)})") from None
    if tensor.numel() == 0:
        return torch.empty(0, dtype=torch.long)
    if tensor.dtype == torch.bool or tensor.is_floating_point() or tensor.is_complex() or tensor.dim() > 1:
        way_out = "; mask.nonzero().view(-1) gives those of a mask" if tensor.dtype == torch.bool else ""
        raise DataError(f"{what}: got {tensor.dtype} {list(tensor.shape)}, expected integer ids [n]{way_out}")
    tensor = tensor.long().view(-1)
    if size is not None:
        check_range(what, tensor, size)
    return tensor


def check_range(what: str, ids: Tensor, size: int) -> None:
    """Raise :class:`DataError` for an id outside [0, size)."""
    wrong = ids[(ids < 0) | (ids >= size)]
    if wrong.numel():
        raise DataError(f"{what}: got id {int(wrong[0])}, expected one from 0 to {size - 1}")
