"""The interactions of a graph, checked, in the numbers that its users and items have now."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from bm3_pyg.data.splits import Interactions
from bm3_pyg.errors import DataError
from bm3_pyg.later import Later
from bm3_pyg.names import SPLITS

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")

RATES = ("user", "rates", "item")
RATED_BY = ("item", "rated_by", "user")
KINDS: tuple[Literal["user", "item"], ...] = ("user", "item")


def count(data: HeteroData, kind: str) -> int:
    """Number of users or items."""
    _check_kind(data)
    number = data[kind].num_nodes if kind in data.node_types else None
    if number is None:
        raise DataError(f"data[{kind!r}].num_nodes is not set, expected the number of {kind}s")
    return int(number)


def edges_of(data: HeteroData, split: str) -> Tensor:
    """Interactions [2, E] of a split on the CPU, int64; empty where hand-made data has no such split.

    Held-out interactions of nodes that PyG has renumbered since are renumbered too; those of nodes that are gone are
    left out.

    Raises:
        DataError: The split is no integer tensor [2, E], an id is out of range, or nothing tells how the nodes were
            renumbered.
    """
    edges, mask = _edges(data, split)
    return edges if mask is None else edges[:, mask]


def edge_values(data: HeteroData, name: str, split: str) -> Tensor | None:
    """``time`` or ``rating`` [E] of the interactions of :func:`edges_of`, on the CPU; None where there is none."""
    values = data[RATES].get(attribute_of(name, split)) if RATES in data.edge_types else None
    if values is None:
        return None
    values = torch.as_tensor(values).detach().cpu()
    mask = _edges(data, split)[1]
    if mask is None:
        return values
    if len(values) != len(mask):
        where = f"data[{RATES}].{attribute_of(name, split)}"
        raise DataError(f"{where}: {len(values):,} values, expected one for each of {len(mask):,} interactions")
    return values[mask]


def interactions_of(data: HeteroData) -> Interactions:
    """Every split's interactions, train first; with times and ratings where every split has them.

    Raises:
        DataError: A split has more or fewer times or ratings than interactions.
    """
    parts = [edges_of(data, split).numpy() for split in SPLITS]
    users, items = np.concatenate(parts, axis=1)
    codes = np.repeat(np.arange(len(SPLITS), dtype=np.int8), [part.shape[1] for part in parts])
    values = {name: _values_of_all(data, name, parts) for name in ("time", "rating")}
    return Interactions(users, items, codes, **values)


def _values_of_all(data: HeteroData, name: str, parts: Sequence[NDArray[np.int64]]) -> NDArray[Any] | None:
    """``time`` or ``rating`` of the interactions of all splits, ``parts`` [2, E]; None where any has none."""
    all_values = []
    for split, part in zip(SPLITS, parts, strict=True):
        values = edge_values(data, name, split)
        if values is not None and len(values) != part.shape[1]:
            where = f"data[{RATES}].{attribute_of(name, split)}"
            raise DataError(f"{where}: {len(values):,} values, expected one for each of {part.shape[1]:,} interactions")
        if values is not None:
            all_values.append(values.numpy())
    complete = all_values and sum(map(len, all_values)) == sum(part.shape[1] for part in parts)
    return np.concatenate(all_values) if complete else None


def attribute_of(name: str, split: str) -> str:
    """What holds ``edge_index``, ``time`` or ``rating`` of a split."""
    return name if split == "train" else f"{split}_{name}"


def _edges(data: HeteroData, split: str) -> tuple[Tensor, Tensor | None]:
    """Interactions [2, E] of a split in the nodes' present numbers; the mask [E] of those whose nodes are both there.

    The mask is None where all are.
    """
    _check_kind(data)
    where = f"data[{RATES}].{attribute_of('edge_index', split)}"
    held = data[RATES].get(attribute_of("edge_index", split)) if RATES in data.edge_types else None
    if held is None:
        if split == "train":
            raise DataError(f"data[{RATES}] has no edge_index, expected training interactions [2, E]")
        return torch.empty(2, 0, dtype=torch.long), None
    edges = _integers(held, where)
    outside = _outside(data, edges)
    if split != "train" and (outside or any(_is_renumbered(data, kind) for kind in KINDS)):
        recorded = (getattr(data, "split_checksums", None) or {}).get(split)
        if isinstance(recorded, int) and recorded == checksum(edges):
            edges = torch.stack([_renumbered(data, kind, ids) for kind, ids in zip(KINDS, edges, strict=True)])
            mask = (edges >= 0).all(dim=0)
            return edges, None if mask.all() else mask
        if recorded is None and not outside:
            raise DataError(f"{where}: the nodes were renumbered (n_id), expected new ids here too and n_id removed")
    if outside:
        raise DataError(f"{where}: {outside}")
    return edges, None


def _outside(data: HeteroData, edges: Tensor) -> str:
    """What is out of range in ``edges`` [2, E]; empty where nothing is."""
    for kind, ids in zip(KINDS, edges, strict=True):
        size = count(data, kind)
        if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= size):
            wrong = int(((ids < 0) | (ids >= size)).byte().argmax())
            return f"{kind} {int(ids[wrong])} in column {wrong}, expected 0 to {size - 1}"
    return ""


def _check_kind(data: HeteroData) -> None:
    from torch_geometric.data import HeteroData

    if not isinstance(data, HeteroData):
        raise DataError(f"data: got a {type(data).__name__}, expected a HeteroData (to_homogeneous() loses the splits)")


def _integers(edges: Any, where: str) -> Tensor:
    """``edges`` as int64 [2, E] on the CPU; an ``EdgeIndex`` of PyG as a plain tensor."""
    edges = edges.as_tensor() if hasattr(edges, "as_tensor") else edges
    if not isinstance(edges, torch.Tensor):
        raise DataError(f"{where}: got a {type(edges).__name__}, expected a tensor [2, E]")
    if edges.dim() != 2 or edges.size(0) != 2 or edges.layout != torch.strided:
        raise DataError(f"{where}: got a tensor of shape {list(edges.shape)}, expected [2, E]")
    if edges.is_floating_point() or edges.is_complex() or edges.dtype == torch.bool:
        raise DataError(f"{where}: got {str(edges.dtype).removeprefix('torch.')}, expected integers")
    return edges.detach().cpu().long()


def _is_renumbered(data: HeteroData, kind: str) -> bool:
    n_id = _n_id(data, kind)
    return n_id is not None and not torch.equal(n_id, torch.arange(len(n_id)))


def _renumbered(data: HeteroData, kind: str, ids: Tensor) -> Tensor:
    """Present numbers of nodes that had the numbers ``ids`` [E] at first, -1 for those that are gone."""
    n_id, number = _n_id(data, kind), count(data, kind)
    if n_id is None or not len(ids):
        return ids
    first, order = n_id.sort()
    if len(first) != number or (first.diff() == 0).any():
        raise DataError(
            f"data[{kind!r}].n_id: {len(first.unique()):,} distinct of {len(first):,} numbers, expected the first "
            f"number of each of the {number:,} {kind}s, to find the held-out interactions by"
        )
    if not number:
        return torch.full_like(ids, -1)
    at = torch.searchsorted(first, ids.contiguous()).clamp(max=number - 1)
    return torch.where(first[at] == ids, order[at], -1)


def _n_id(data: HeteroData, kind: str) -> Tensor | None:
    """The numbers that nodes had at first."""
    n_id = data[kind].get("n_id")
    if n_id is None:
        return None
    n_id = torch.as_tensor(n_id).detach().cpu()
    if n_id.dim() != 1 or n_id.is_floating_point():
        raise DataError(f"data[{kind!r}].n_id: {n_id.dtype} of shape {list(n_id.shape)}, expected integers [n]")
    return n_id.long()


def checksum(edges: Tensor) -> int:
    """Of interactions [2, E], int64."""
    return zlib.crc32(edges.contiguous().numpy().tobytes())
