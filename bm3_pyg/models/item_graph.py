r"""The graph that joins items of similar features, as in LATTICE and FREEDOM.

In modality m item i is joined to the k items most similar to it by cosine, itself among them. The k entries of a row
of :math:`S_m` are 1/k each, which is :math:`D^{-1/2} A D^{-1/2}` for the degrees D of the rows, and
:math:`S = \sum_m \alpha_m S_m` with weights :math:`\alpha_m` that sum to 1. S is not symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bm3_pyg.errors import check_number
from bm3_pyg.ops.graph import Half
from bm3_pyg.ops.neighbours import nearest_rows


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """S as one matrix for each modality, and their transposes."""

    parts: tuple[Half, ...]
    transposed: tuple[Half, ...]

    def propagate(self, x: Tensor) -> Tensor:
        """S x, for x [I, D]; differentiable."""
        result: Tensor = _Product.apply(self, x)  # type: ignore[no-untyped-call]
        return result

    def to(self, device: torch.device | str) -> ItemGraph:
        return ItemGraph(*(tuple(half.to(device) for half in halves) for halves in (self.parts, self.transposed)))

    def __deepcopy__(self, memo: dict[int, Any]) -> ItemGraph:
        return self


def build_item_graph(features: Mapping[str, Tensor], neighbours: int, image_weight: float) -> ItemGraph:
    """Join each item to its nearest ones, found in blocks of bounded memory.

    Args:
        features: ``{name: [I, d]}``, one or more.
        neighbours: k; I is taken where k is larger.
        image_weight: weight of the modality called image, in [0, 1]; the others share the rest alike. Without others,
            or without an image, all weigh the same.

    Raises:
        ConfigError: if an option is of the wrong type or out of range.
    """
    check_number("neighbours", neighbours, int, 1)
    check_number("image_weight", image_weight, float, 0, 1 + 1e-9)
    parts, transposed = [], []
    for name, feature in features.items():
        weight = 1 / len(features)
        if "image" in features and len(features) > 1:
            weight = image_weight if name == "image" else (1 - image_weight) / (len(features) - 1)
        items = torch.arange(len(feature), device=feature.device)
        near = items[:, None]
        if min(neighbours, len(items)) > 1:
            near = torch.cat([near, nearest_rows(feature, neighbours - 1)[0]], dim=1)
        count = near.size(1)
        indices, order = near.sort(dim=1).values.flatten(), near.sort(dim=1).values.flatten().argsort(stable=True)
        share, one = (torch.full((len(items),), value, dtype=torch.float64) for value in (weight / count, 1.0))
        starts = torch.cat([items.new_zeros(1), torch.bincount(indices, minlength=len(items)).cumsum(0)])
        parts.append(Half(torch.arange(len(items) + 1) * count, indices, share, one))
        transposed.append(Half(starts, items.repeat_interleave(count)[order], one, share))
    return ItemGraph(tuple(parts), tuple(transposed))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: ItemGraph, x: Tensor) -> Tensor:
        ctx.graph = graph
        return _sum(graph.parts, x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        transposed = ItemGraph(ctx.graph.transposed, ctx.graph.parts)
        return None, transposed.propagate(gradient)


def _sum(halves: tuple[Half, ...], x: Tensor) -> Tensor:
    total = halves[0].times(x.contiguous())
    for half in halves[1:]:
        total += half.times(x.contiguous())
    return total
