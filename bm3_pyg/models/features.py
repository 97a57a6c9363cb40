"""The item features of a dataset, for models that do not train them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import HeteroData

from bm3_pyg.data import modalities as modalities_of
from bm3_pyg.data.graph import check_modality_name
from bm3_pyg.errors import ConfigError
from bm3_pyg.nn import RowTable
from bm3_pyg.nn.frozen import frozen_table


def chosen_features(data: HeteroData, chosen: Any) -> dict[str, Tensor]:
    """Features ``{name: [I, d]}`` of ``data``: all for None, those of a list of names, or a mapping as it is.

    Raises:
        ConfigError: if ``chosen`` is something else, or names a modality that is not in ``data``.
    """
    features = modalities_of(data)
    if chosen is None:
        return features
    if isinstance(chosen, Mapping):
        return dict(chosen)
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(name, str) for name in chosen):
        raise ConfigError(f"modalities: got {chosen!r}, expected a list of names")
    if unknown := [name for name in chosen if name not in features]:
        raise ConfigError(f"modalities: got {unknown[0]!r}, the dataset has {', '.join(features) or 'none'}")
    return {name: features[name] for name in chosen}


class FrozenFeatures(nn.Module):
    """Features that are not trained, each with a projection that is, for the rows asked for.

    Args:
        features: ``{name: [I, d]}``, one or more; kept as :func:`bm3_pyg.nn.frozen.frozen_table` says.
        num_items: I.
        dim: columns of the projections, which have no bias: in a difference of two items it would cancel.

    Raises:
        ConfigError: if there are no features, or not one row per item.
    """

    tables: Mapping[str, RowTable]
    projections: Mapping[str, nn.Linear]

    def __init__(self, features: Mapping[str, Tensor], num_items: int, dim: int) -> None:
        super().__init__()
        if not features:
            raise ConfigError("modalities: got none, expected item features")
        for name, feature in features.items():
            check_modality_name(name)
            if feature.dim() != 2 or feature.size(0) != num_items:
                raise ConfigError(f"modality {name}: got shape {list(feature.shape)}, expected [{num_items}, d]")
        tables = {name: RowTable(frozen_table(feature), trainable=False) for name, feature in features.items()}
        linears = {name: nn.Linear(feature.size(1), dim, bias=False) for name, feature in features.items()}
        self.tables = nn.ModuleDict(tables)  # type: ignore[assignment]
        self.projections = nn.ModuleDict(linears)  # type: ignore[assignment]

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        """``{name: [n, dim]}``, the projected features of ``items`` [n], in any order and repeated or not."""
        distinct, places = items.unique(return_inverse=True)
        return {
            name: table.project(distinct, self.projections[name]).index_select(0, places)
            for name, table in self.tables.items()
        }
