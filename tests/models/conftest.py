from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData


@pytest.fixture
def ugly_edges() -> Callable[[int], tuple[int, int, Tensor]]:
    """Users, items and interactions [2, E] with repeated edges, a user without any, cold items, a user of I - 1."""

    def build(seed: int) -> tuple[int, int, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        num_users, num_items = 7, 9
        edges = (torch.rand(num_users, num_items, generator=generator) < 0.3).nonzero().T
        edges = edges[:, (edges[0] != 3) & (edges[1] != 5) & (edges[0] != 6)]
        greedy = torch.tensor([i for i in range(num_items) if i != seed % num_items])
        edges = torch.cat([edges, torch.stack([torch.full_like(greedy, 6), greedy]), edges[:, :3]], dim=1)
        return num_users, num_items, edges[:, torch.randperm(edges.size(1), generator=generator)]

    return build


@pytest.fixture
def small_data(make_data: Callable[..., HeteroData]) -> HeteroData:
    """60 users, 40 items, all three splits, two modalities."""
    return make_data(60, 40, image=16, text=8)
