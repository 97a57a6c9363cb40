"""A dataset in numbers, and its identity."""

from __future__ import annotations

import hashlib
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bm3_pyg.data.edges import count, edge_values, edges_of
from bm3_pyg.data.hetero import missing_of, modalities, own_ids
from bm3_pyg.data.ids import to_series
from bm3_pyg.later import Later
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")

CONTENT = 64  # hexadecimal digits of a fingerprint without ids


def fingerprint(data: HeteroData) -> str:
    """A dataset's identity: SHA-256 of its content, a hyphen, and 16 digits of the SHA-256 of its own ids.

    The content is the counts, the edges of every split in their order and the feature values. Ids are compared by their
    string form; data without any has the indices. Runs from before ids counted have the first part alone, see
    :func:`same_fingerprint`.
    """
    content = hashlib.sha256(f"{count(data, 'user')} {count(data, 'item')}".encode())
    for split in SPLITS:
        _add(content, split, edges_of(data, split))
    for name, values in sorted(modalities(data).items()):
        _add(content, name, values)
    ids = hashlib.sha256()
    for kind in ("user", "item"):
        texts = to_series(own_ids(data, kind)).cast(pl.String)
        ids.update(texts.str.len_bytes().cast(pl.Int64).to_numpy().tobytes())
        ids.update("".join(texts.to_list()).encode())
    return f"{content.hexdigest()}-{ids.hexdigest()[:16]}"


def same_fingerprint(recorded: str, now: str) -> bool:
    """Whether two fingerprints are of one dataset; where one has no ids, its content decides."""
    return recorded == now or (recorded[:CONTENT] == now[:CONTENT] and CONTENT in (len(recorded), len(now)))


def describe(data: HeteroData) -> dict[str, Any]:
    """What ``bm3 data describe`` prints, ready for JSON; degrees count training interactions.

    ``duplicates`` counts repeated pairs within a split, ``leaks`` the pairs that stand in two splits; both are 0 in
    data of :func:`bm3_pyg.data.load_dataset`. ``time`` is the first and last time of each split that has any.
    """
    train = edges_of(data, "train")
    users, items = count(data, "user"), count(data, "item")
    splits = {split: edges_of(data, split).size(1) for split in SPLITS}
    degree = {
        "user": np.bincount(train[0].numpy(), minlength=users),
        "item": np.bincount(train[1].numpy(), minlength=items),
    }
    total = sum(splits.values())
    return {
        "name": getattr(data, "name", None),
        "users": users,
        "items": items,
        "interactions": total,
        "splits": splits,
        "split_users": {split: _distinct(data, split, 0) for split in SPLITS},
        "split_items": {split: _distinct(data, split, 1) for split in SPLITS},
        **_repeats(data),
        "time": _time_ranges(data),
        "modalities": {
            name: {"dim": values.size(1), "missing": int(missing_of(data, name).sum())}
            for name, values in modalities(data).items()
        },
        "sparsity": 1 - total / (users * items),
        "degrees": {kind: _spread(values) for kind, values in degree.items()},
        "users_without_training": int((degree["user"] == 0).sum()),
        "cold_items": int((degree["item"] == 0).sum()),
        "files": dict(getattr(data, "files", None) or {}),
        "fingerprint": fingerprint(data),
        "notes": list(getattr(data, "notes", None) or []),
    }


def _add(digest: Any, name: str, values: Tensor) -> None:
    values = values.detach().cpu().contiguous()
    digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
    if values.numel():
        digest.update(values.view(torch.uint8).numpy().data)


def _distinct(data: HeteroData, split: str, side: int) -> int:
    """Number of users (side 0) or items (1) with an interaction in the split."""
    return len(np.unique(edges_of(data, split)[side].numpy()))


def _repeats(data: HeteroData) -> dict[str, dict[str, int]]:
    distinct, duplicates = {}, {}
    for split in SPLITS:
        users, items = edges_of(data, split).numpy()
        distinct[split] = np.unique(users * count(data, "item") + items)
        duplicates[split] = len(users) - len(distinct[split])
    leaks = {
        f"{first}-{second}": len(np.intersect1d(distinct[first], distinct[second], assume_unique=True))
        for first, second in combinations(SPLITS, 2)
    }
    return {"duplicates": duplicates, "leaks": leaks}


def _time_ranges(data: HeteroData) -> dict[str, list[float]]:
    ranges = {}
    for split in SPLITS:
        times = edge_values(data, "time", split)
        if times is not None and len(times):
            ranges[split] = [times.min().item(), times.max().item()]
    return ranges


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "max": int(values.max()),
    }
