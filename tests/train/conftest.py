from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData


@pytest.fixture
def small_data() -> HeteroData:
    """60 users, 40 items, all three splits, one modality."""
    generator = torch.Generator().manual_seed(0)
    split = torch.rand(60, 40, generator=generator)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 60, 40
    data["item"].image = torch.randn(40, 16, generator=generator)
    for name, low in (("edge_index", 0.0), ("val_edge_index", 0.2), ("test_edge_index", 0.3)):
        high = low + (0.2 if name == "edge_index" else 0.1)
        data["user", "rates", "item"][name] = ((split >= low) & (split < high)).nonzero().T.contiguous()
    return data
