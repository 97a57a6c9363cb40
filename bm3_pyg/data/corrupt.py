"""Features made useless on purpose, for ablations."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from bm3_pyg.data.hetero import missing_of, modalities
from bm3_pyg.errors import ConfigError, nearest, shown
from bm3_pyg.later import Later

if TYPE_CHECKING:
    import torch
    from torch_geometric.data import HeteroData
else:
    torch = Later("torch")

CORRUPTIONS = ("shuffled", "random")


def corrupt_features(data: HeteroData, how: str, seed: int = 0) -> HeteroData:
    """A copy of ``data``, sharing all but the features, whose features say nothing about their items.

    Args:
        data: the dataset.
        how: ``"shuffled"`` gives every item the features of another, the same one in each modality; ``"random"`` draws
            them anew from a normal distribution with each column's mean and standard deviation.
        seed: of the order or the draws.

    Raises:
        ConfigError: ``how`` is neither.
    """
    if how not in CORRUPTIONS:
        raise ConfigError(f"corrupt: got {shown(how)}, {nearest(how, CORRUPTIONS)}")
    generator = torch.Generator().manual_seed(seed)
    changed = copy.copy(data)
    order = torch.randperm(data["item"].num_nodes, generator=generator)
    for name, values in modalities(data).items():
        if how == "shuffled":
            changed["item"][name] = values[order]
            if f"{name}_missing" in data["item"]:
                changed["item"][f"{name}_missing"] = torch.from_numpy(missing_of(data, name))[order]
        else:
            drawn = torch.randn(values.shape, generator=generator)
            changed["item"][name] = drawn * values.std(dim=0, correction=0) + values.mean(dim=0)
    changed.notes = [*getattr(data, "notes", []), f"{data.name}: features {how} on purpose (seed {seed})"]
    return changed
