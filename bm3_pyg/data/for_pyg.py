"""What PyG's transforms and loaders need, so that they leave a dataset right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import HeteroData
from torch_geometric.data.storage import EdgeStorage
from torch_geometric.typing import TensorFrame

from bm3_pyg.data.edges import RATES


class Rates(EdgeStorage):
    """Interactions of every split: what belongs to val and test is no attribute of the training interactions.

    PyG tells attributes of edges by their number, and would pick from a split that has as many as the training's.
    """

    def is_edge_attr(self, key: str) -> bool:
        return not key.startswith(("val_", "test_")) and bool(super().is_edge_attr(key))


class OwnIds(np.ndarray[Any, Any], TensorFrame):
    """An array of strings that PyG takes for what it has for strings, a column of PyTorch Frame.

    PyG's loaders turn the arrays of a node store into tensors, which strings cannot be; a ``TensorFrame`` they only
    index. So this is one by name, with the properties they ask for. Such graphs cannot be batched by PyG's ``Batch``.
    """

    @property
    def device(self) -> Literal["cpu"]:
        return "cpu"

    @property
    def num_rows(self) -> int:
        return len(self)

    @property
    def num_cols(self) -> int:
        return 1

    @property
    def col_names_dict(self) -> Mapping[str, list[str]]:
        """Another name for every array: ``to_homogeneous`` joins columns of one name, which ids are not."""
        return {"id": [str(id(self))]}


def new_graph() -> HeteroData:
    """A graph without anything but a place for interactions."""
    data = HeteroData()
    data._edge_store_dict[RATES] = Rates(_parent=data, _key=RATES)
    return data


def for_loaders(ids: NDArray[Any]) -> NDArray[Any]:
    """``ids`` as they are if they are integers, else as :class:`OwnIds`, without a copy."""
    return ids if ids.dtype.kind in "iu" else ids.view(OwnIds)
