"""Half of A-hat as a PyG message-passing layer whose aggregation torch_sparse fuses (extra ``sparse``)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.nn import MessagePassing
from torch_sparse import SparseTensor, matmul


class WeightedSum(MessagePassing):
    """Each node's weighted sum of its neighbours: the product of a ``SparseTensor`` [N, M] with x [M, D]."""

    def __init__(self) -> None:
        super().__init__(aggr="sum")

    def forward(self, x: Tensor, matrix: SparseTensor) -> Tensor:
        out: Tensor = self.propagate(matrix, x=x)
        return out

    def message_and_aggregate(self, matrix: Any, x: Tensor) -> Tensor:
        out: Tensor = matmul(matrix, x, reduce="sum")
        return out


weighted_sum = WeightedSum()
