"""A dataset in numbers, and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
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
    edges = {split: edges_of(data, split).numpy() for split in SPLITS}
    users, items = count(data, "user"), count(data, "item")
    degree = {
        "user": np.bincount(edges["train"][0], minlength=users),
        "item": np.bincount(edges["train"][1], minlength=items),
    }
    total = sum(part.shape[1] for part in edges.values())
    return {
        "name": getattr(data, "name", None),
        "users": users,
        "items": items,
        "interactions": total,
        "splits": {split: part.shape[1] for split, part in edges.items()},
        "split_users": {split: len(np.unique(part[0])) for split, part in edges.items()},
        "split_items": {split: len(np.unique(part[1])) for split, part in edges.items()},
        **_repeats(edges, items),
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


def facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each fact of :func:`describe`, but those that each split has."""
    rows = [(key, f"{card[key]:,}") for key in ("users", "items", "interactions")]
    rows.append(("sparsity", f"{card['sparsity']:.4%}"))
    for split, (first, last) in card["time"].items():
        rows.append((f"dates of {split}, UTC", f"{_date(first)} to {_date(last)}"))
    for kind, degree in card["degrees"].items():
        spread = f"{degree['min']:,} to {degree['max']:,}, median {degree['median']:g}, mean {degree['mean']:.2f}"
        rows.append((f"training interactions per {kind}", spread))
    rows.append(("users without training interactions", f"{card['users_without_training']:,}"))
    rows.append(("items without training interactions", f"{card['cold_items']:,}"))
    for name, modality in card["modalities"].items():
        rows.append((f"feature {name}", f"{modality['dim']:,}-d, {modality['missing']:,} items without"))
    return rows


def _add(digest: Any, name: str, values: Tensor) -> None:
    values = values.detach().cpu().contiguous()
    digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
    if values.numel():
        digest.update(values.view(torch.uint8).numpy().data)


def _repeats(edges: Mapping[str, NDArray[np.int64]], num_items: int) -> dict[str, dict[str, int]]:
    distinct = {split: np.unique(users * num_items + items) for split, (users, items) in edges.items()}
    duplicates = {split: part.shape[1] - len(distinct[split]) for split, part in edges.items()}
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


def _date(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))
