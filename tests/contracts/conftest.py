from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData


@pytest.fixture
def some_data() -> HeteroData:
    """70 users, 50 items, all three splits, two modalities."""
    generator = torch.Generator().manual_seed(0)
    split = torch.rand(70, 50, generator=generator)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 70, 50
    data["item"].image = torch.randn(50, 12, generator=generator)
    data["item"].text = torch.randn(50, 6, generator=generator)
    for name, low in (("edge_index", 0.0), ("val_edge_index", 0.2), ("test_edge_index", 0.3)):
        high = low + (0.2 if name == "edge_index" else 0.1)
        data["user", "rates", "item"][name] = ((split >= low) & (split < high)).nonzero().T.contiguous()
    return data
