r"""The graph that joins items of similar features, as in LATTICE and FREEDOM.

Zhou and Shen, `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation"
<https://arxiv.org/abs/2211.06924>`_, MM 2023, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bm3_pyg.errors import check_number
from bm3_pyg.ops.csr import offsets
from bm3_pyg.ops.graph import Half
from bm3_pyg.ops.precision import full_precision
from bm3_pyg.ops.topk import nearest_rows


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """S [I, I], the sum of ``parts``, and their transposes; see :func:`item_graph`. Immutable."""

    parts: tuple[Half, ...]
    transposed: tuple[Half, ...]

    @full_precision
    def smooth(self, items: Tensor) -> Tensor:
        """S E, [I, D] -> [I, D]. Differentiable once."""
        result: Tensor = _Smooth.apply(items, self)
        return result

    def to(self, device: torch.device | str) -> ItemGraph:
        """The same graph on ``device``; itself if it is there already."""
        if self.parts[0].indptr.device == torch.empty(0, device=device).device:
            return self
        return ItemGraph(*(tuple(half.to(device) for half in halves) for halves in (self.parts, self.transposed)))

    def __deepcopy__(self, memo: dict[int, Any]) -> ItemGraph:
        return self


def item_graph(
    tables: Sequence[Tensor], k: int, weights: Sequence[float] | None = None, *, own: bool = False
) -> ItemGraph:
    r""":math:`S = \sum_m \alpha_m S_m`, where :math:`S_m` joins every item to its k nearest by cosine in table m.

    The k entries of a row of :math:`S_m` are 1/k each, which is FREEDOM's :math:`D^{-1/2} A D^{-1/2}` for the degrees D
    of the rows. S is not symmetric. Neighbours are found in blocks of bounded memory, never I x I.

    Args:
        tables: features [I, d_m], one or more.
        k: neighbours in each table; as many as there are where k is larger.
        weights: :math:`\alpha_m`, of sum 1; by default all alike, in one matrix rather than one for each table.
        own: an item is the first of its own k neighbours, as in FREEDOM; otherwise it is none of them.

    Raises:
        ConfigError: if ``k`` is not a positive integer.
        DataError: if a feature is NaN or infinite.
    """
    near = [_neighbours(table, k, own) for table in tables]
    joined = [(torch.cat(near, dim=1), 1.0)] if weights is None else list(zip(near, weights, strict=True))
    halves = [_halves(ids.sort(dim=1).values, weight) for ids, weight in joined]
    return ItemGraph(tuple(half for half, _ in halves), tuple(half for _, half in halves))


def _neighbours(table: Tensor, k: int, own: bool) -> Tensor:
    """[I, k], or fewer columns where there are fewer items."""
    check_number("k", k, int, 1)
    if not own:
        return nearest_rows(table, k)[0]
    items = torch.arange(len(table), device=table.device)[:, None]
    return items if k == 1 else torch.cat([items, nearest_rows(table, k - 1)[0]], dim=1)


def _halves(ids: Tensor, weight: float) -> tuple[Half, Half]:
    """The matrix whose row i is weight / n at the n places ``ids`` [I, n] of i, and its transpose."""
    count, each = ids.shape
    share = torch.full((count,), weight / max(1, each), dtype=torch.float64, device=ids.device)
    ones = torch.ones_like(share)
    targets = ids.flatten()
    indptr = torch.arange(count + 1, device=ids.device) * each
    sources = targets.argsort(stable=True) // max(1, each)
    return Half(indptr, targets, share, ones), Half(offsets(targets.bincount(minlength=count)), sources, ones, share)


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, graph: ItemGraph) -> Tensor:
        ctx.graph = graph
        return _sum(graph.parts, items)

    @staticmethod
    @once_differentiable
    @full_precision
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum(ctx.graph.transposed, gradient.contiguous()), None


def _sum(halves: tuple[Half, ...], x: Tensor) -> Tensor:
    total = halves[0].times(x)
    for half in halves[1:]:
        total += half.times(x)
    return total
