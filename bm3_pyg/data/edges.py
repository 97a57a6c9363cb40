"""The interactions of a graph, checked, in the numbers that its users and items have now."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Literal

from bm3_pyg.errors import DataError
from bm3_pyg.later import Later

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
    edges, kept = _edges(data, split)
    return edges if kept is None else edges[:, kept]


def edge_values(data: HeteroData, name: str, split: str) -> Tensor | None:
    """``time`` or ``rating`` [E] of the interactions of :func:`edges_of`, on the CPU; None where there is none."""
    values = data[RATES].get(attribute_of(name, split)) if RATES in data.edge_types else None
    if values is None:
        return None
    values = torch.as_tensor(values).detach().cpu()
    kept = _edges(data, split)[1]
    if kept is None:
        return values
    if len(values) != len(kept):
        where = f"data[{RATES}].{attribute_of(name, split)}"
        raise DataError(f"{where}: {len(values):,} values, expected one for each of {len(kept):,} interactions")
    return values[kept]


def attribute_of(name: str, split: str) -> str:
    """What holds ``edge_index``, ``time`` or ``rating`` of a split."""
    return name if split == "train" else f"{split}_{name}"


def _edges(data: HeteroData, split: str) -> tuple[Tensor, Tensor | None]:
    """Interactions [2, E] of a split in the nodes' present numbers, and which of them have both ends, if not all."""
    _check_kind(data)
    where = f"data[{RATES}].{attribute_of('edge_index', split)}"
    found = data[RATES].get(attribute_of("edge_index", split)) if RATES in data.edge_types else None
    if found is None:
        if split == "train":
            raise DataError(f"data[{RATES}] has no edge_index, expected training interactions [2, E]")
        return torch.empty(2, 0, dtype=torch.long), None
    edges = _integers(found, where)
    outside = _outside(data, edges)
    if split != "train" and (outside or any(_is_renumbered(data, kind) for kind in KINDS)):
        recorded = (getattr(data, "split_checksums", None) or {}).get(split)
        if isinstance(recorded, int) and recorded == checksum(edges):
            edges = torch.stack([_renumbered(data, kind, ids) for kind, ids in zip(KINDS, edges, strict=True)])
            kept = (edges >= 0).all(dim=0)
            return edges, None if kept.all() else kept
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


def _integers(found: Any, where: str) -> Tensor:
    """``found`` as int64 [2, E] on the CPU."""
    plain = found.as_tensor() if hasattr(found, "as_tensor") else found
    if not isinstance(plain, torch.Tensor):
        raise DataError(f"{where}: got a {type(plain).__name__}, expected a tensor [2, E]")
    if plain.dim() != 2 or plain.size(0) != 2 or plain.layout != torch.strided:
        raise DataError(f"{where}: got a tensor of shape {list(plain.shape)}, expected [2, E]")
    if plain.is_floating_point() or plain.is_complex() or plain.dtype == torch.bool:
        raise DataError(f"{where}: got {str(plain.dtype).removeprefix('torch.')}, expected integers")
    return plain.detach().cpu().long()


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
    found: Tensor = torch.as_tensor(n_id).detach().cpu()
    if found.dim() != 1 or found.is_floating_point():
        raise DataError(f"data[{kind!r}].n_id: {found.dtype} of shape {list(found.shape)}, expected integers [n]")
    return found.long()


def checksum(edges: Tensor) -> int:
    """Of interactions [2, E], int64."""
    return zlib.crc32(edges.contiguous().numpy().tobytes())
