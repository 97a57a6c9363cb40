r"""The item-item graph of features, as in FREEDOM.

Zhou and Shen, `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation"
<https://arxiv.org/abs/2211.06924>`_, MM 2023, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bm3_pyg.ops.graph import Half
from bm3_pyg.ops.neighbours import nearest_rows


@dataclass(frozen=True, eq=False)
class ItemGraph:
    r"""S [I, I] with :math:`(S E)_i` the mean of E over the neighbours of i; see :func:`item_graph`. Immutable."""

    matrix: Half
    transposed: Half

    def smooth(self, items: Tensor) -> Tensor:
        """S E, [I, D] -> [I, D]. Differentiable once."""
        result: Tensor = _Smooth.apply(items, self)  # type: ignore[no-untyped-call]
        return result

    def to(self, device: torch.device | str) -> ItemGraph:
        """The same graph on ``device``; itself if it is there already."""
        if self.matrix.indptr.device == torch.empty(0, device=device).device:
            return self
        return ItemGraph(self.matrix.to(device), self.transposed.to(device))

    def __deepcopy__(self, memo: dict[int, Any]) -> ItemGraph:
        return self


def item_graph(tables: Sequence[Tensor], k: int) -> ItemGraph:
    r"""The ``k`` nearest items of every item by cosine in each table: :math:`S = \frac{1}{M} \sum_m S_m`.

    :math:`S_m` has 1 / k at an item's neighbours by modality m: with k neighbours each, that is FREEDOM's normalisation
    by the rows' degrees. Where FREEDOM weighs two modalities as 0.1 and 0.9, all count alike here; an item is not its
    own neighbour.

    Args:
        tables: M features [I, d_m], one or more.
        k: neighbours per modality; I - 1 where k is larger.
    """
    ids = torch.cat([nearest_rows(table, k)[0] for table in tables], dim=1).sort(dim=1).values
    count, each = ids.shape
    share = torch.full((count,), 1 / max(1, each), dtype=torch.float64, device=ids.device)
    one = torch.ones_like(share)
    targets = ids.flatten()
    indptr = torch.arange(count + 1, device=ids.device) * each
    backwards = torch.cat([indptr[:1], targets.bincount(minlength=count).cumsum(0)])
    sources = targets.argsort(stable=True) // max(1, each)
    return ItemGraph(Half(indptr, targets, share, one), Half(backwards, sources, one, share))


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, graph: ItemGraph) -> Tensor:
        ctx.graph = graph
        return graph.matrix.times(items)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.graph.transposed.times(gradient.contiguous()), None
