"""How item features enter a model: brought to one scale, held in a table, projected for the rows that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from bm3_pyg.data.hetero import check_features
from bm3_pyg.errors import ConfigError
from bm3_pyg.ops.csr import take_rows
from bm3_pyg.optim import RowTable

LARGE_BYTES = 2**28  # of a table that is not copied
BLOCK = 2**22  # elements read at a time


class FrozenFeatures(nn.Module):
    """Features that are not trained, each with a projection that is, for the rows asked for.

    Args:
        features: ``{name: [I, d]}``, one or more; kept as :func:`feature_table` says.
        num_items: I.
        dim: columns of the projections, which have no bias: in a difference of two items it would cancel.

    Raises:
        ConfigError: if there are no features, or not one row per item.
    """

    def __init__(self, features: Mapping[str, Tensor], num_items: int, dim: int) -> None:
        super().__init__()
        if not features:
            raise ConfigError("modalities: got none, expected item features")
        check_features(features, num_items)
        tables = {name: feature_table(feature, trainable=False) for name, feature in features.items()}
        linears = {name: nn.Linear(feature.size(1), dim, bias=False) for name, feature in features.items()}
        self.tables = cast(Mapping[str, RowTable], nn.ModuleDict(tables))
        self.projections = cast(Mapping[str, nn.Linear], nn.ModuleDict(linears))

    def reset_parameters(self) -> None:
        for linear in self.projections.values():
            linear.reset_parameters()

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        """``{name: [n, dim]}``, the projected features of ``items`` [n], in any order and repeated or not."""
        distinct, places = items.unique(return_inverse=True)
        return {
            name: take_rows(table.project(distinct, self.projections[name]), places)
            for name, table in self.tables.items()
        }


def feature_table(features: Tensor, trainable: bool) -> RowTable:
    """A table of ``features`` [I, d]: a copy that is trained, or one that is frozen, see :func:`frozen_table`."""
    return RowTable(features.clone()) if trainable else RowTable(frozen_table(features), trainable=False)


def frozen_table(features: Tensor) -> Tensor:
    """What to read the rows of ``features`` [I, d] from; :meth:`bm3_pyg.optim.RowTable.gather` gives them as float32.

    A copy in float16 (float32 if a value is beyond float16's range); but ``features`` themselves where they take more
    than LARGE_BYTES on a CPU, so that large ones are held once, or stay on disk where they are memory-mapped, as those
    from the dataset cache are.
    """
    features = features.detach()
    if features.device.type == "cpu" and features.numel() * features.element_size() > LARGE_BYTES:
        return features
    most = torch.finfo(torch.float16).max
    fits = features.numel() == 0 or all(bool(end.abs() <= most) for end in features.aminmax())
    return features.to(torch.float16 if fits else torch.float32, copy=True)


def normalised(features: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Rows of unit length around the mean, :math:`(x_i - \bar{x}) / \lVert x_i - \bar{x} \rVert`, as a new tensor.

    A row equal to the mean, as of a missing feature filled with it, becomes zero; one closer to it than rounding can
    tell is taken for equal. Read in blocks, so that a memory-mapped table is never copied whole in a wider type.

    Args:
        features: [I, d] of any dtype.
        dtype: of the result.

    Returns:
        [I, d].
    """
    features = features.detach()
    blocks = features.split(max(1, BLOCK // max(1, features.size(1))))
    mean = torch.stack([block.double().sum(0) for block in blocks]).sum(0) / max(1, len(features))
    noise = max(1e-6, torch.finfo(features.dtype).eps) if features.is_floating_point() else 0.0
    out = torch.empty(features.shape, dtype=dtype, device=features.device)
    for block, rows in zip(blocks, out.split(len(blocks[0])), strict=True):
        centred = block.double() - mean
        norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        size = torch.linalg.vector_norm(block.double(), dim=1, keepdim=True)
        rows.copy_(torch.where(norm > noise * size, centred / norm, 0))
    return out
