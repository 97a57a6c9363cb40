"""Item features for models that do not train them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bm3_pyg.data.graph import check_features
from bm3_pyg.errors import ConfigError
from bm3_pyg.nn import RowTable
from bm3_pyg.nn.frozen import frozen_table
from bm3_pyg.ops.places import take_rows


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
        check_features(features, num_items)
        tables = {name: RowTable(frozen_table(feature), trainable=False) for name, feature in features.items()}
        linears = {name: nn.Linear(feature.size(1), dim, bias=False) for name, feature in features.items()}
        self.tables = nn.ModuleDict(tables)  # type: ignore[assignment]
        self.projections = nn.ModuleDict(linears)  # type: ignore[assignment]

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        """``{name: [n, dim]}``, the projected features of ``items`` [n], in any order and repeated or not."""
        distinct, places = items.unique(return_inverse=True)
        return {
            name: take_rows(table.project(distinct, self.projections[name]), places)
            for name, table in self.tables.items()
        }
