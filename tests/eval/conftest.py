from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData


class Fixed:
    """A recommender with given scores [U, I]."""

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores

    def scorer(self):  # type: ignore[no-untyped-def]
        return lambda users: self.scores[users].clone()


@pytest.fixture
def fixed() -> type[Fixed]:
    return Fixed


@pytest.fixture
def random_data():  # type: ignore[no-untyped-def]
    """Builds data with users without positives, without training interactions, and with repeated edges."""

    def build(num_users: int, num_items: int, density: float, seed: int) -> HeteroData:
        generator = torch.Generator().manual_seed(seed)
        split = torch.rand(num_users, num_items, generator=generator)
        split[0] = 1.0
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
        bounds = {"edge_index": (0.0, density), "val_edge_index": (density, 1.3 * density)}
        bounds["test_edge_index"] = (1.3 * density, 1.6 * density)
        for name, (low, high) in bounds.items():
            edges = ((split >= low) & (split < high)).nonzero().T
            edges = edges[:, torch.randperm(edges.size(1), generator=generator)]
            data["user", "rates", "item"][name] = torch.cat([edges, edges[:, :2]], dim=1)
        return data

    return build
