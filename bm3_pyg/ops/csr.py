r"""Rows of sparse matrices, repeated rows of dense ones, the ids a row does not hold. Reproducible on a GPU too.

PyTorch's ``index_add_``, which is also the gradient of ``index_select``, adds up in any order on a GPU; ``index_put_``
with ``accumulate`` does so on a CPU.

For absent ids let :math:`p_0 < p_1 < \dots` be a row's ids. The r-th of the others, from 0, is :math:`r + c`, where c
counts the j with :math:`p_j - j \le r`. As :math:`p_j - j` never falls, one binary search over the values of all rows
finds c. With r uniform, an id outside the row is drawn and nothing is drawn in vain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, eq=False)
class CSR:
    """Where a sparse matrix has entries: row r in the columns ``indices[indptr[r]:indptr[r + 1]]``.

    Shapes: indptr [N + 1], indices [E], both of integers.
    """

    indptr: Tensor
    indices: Tensor

    @staticmethod
    def of(edge_index: Tensor, num_rows: int, num_columns: int) -> CSR:
        """The matrix with entries ``edge_index`` [2, E] (row ids above column ids), distinct and ascending in a row."""
        key = (edge_index[0] * num_columns + edge_index[1]).unique()
        lengths = torch.bincount(key // num_columns, minlength=num_rows)
        return CSR(offsets(lengths), key % num_columns)

    def to(self, device: torch.device | str) -> CSR:
        return CSR(self.indptr.to(device), self.indices.to(device))

    def lengths(self) -> Tensor:
        """Number of entries of every row, [N]."""
        return self.indptr.diff()

    def entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Of every entry of ``rows`` [n] its position in ``rows`` and its column, both int64, row after row."""
        start, count = self.indptr[rows].long(), self.lengths()[rows].long()
        position = torch.repeat_interleave(count)
        offset = torch.arange(position.numel(), device=position.device) - (count.cumsum(0) - count)[position]
        return position, self.indices[start[position] + offset].long()


def offsets(lengths: Tensor) -> Tensor:
    """``indptr`` [N + 1] of rows of these lengths [N]."""
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def first_places(ids: Tensor) -> Tensor:
    """Where each of ``ids`` [n] stands first: ``[5, 2, 5, 2] -> [0, 1, 0, 1]``.

    What ``unique(return_inverse=True)`` is for, but the result's shape is known beforehand, so that on a GPU nothing
    waits for the device.
    """
    ordered, order = ids.sort(stable=True)
    places = torch.arange(ids.numel(), device=ids.device)
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[1:] = ordered[1:] == ordered[:-1]
    start = torch.where(repeated, 0, places).cummax(0).values if ids.numel() else places
    return torch.empty_like(order).index_copy_(0, order, order[start])


def add_rows(out: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """``out[places[i]] += values[i]`` for every i, in place, in a fixed order.

    Shapes: out [n, d] or [n], places [k] int64, values [k, d] or [k].
    """
    if out.is_cuda:
        return out.index_put_((places,), values, accumulate=True)
    return out.index_add_(0, places, values)


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """``table[rows]``, whose gradient is added up in a fixed order. Differentiable once.

    Shapes: table [n, d], rows [k] int64, repeated or not -> [k, d].
    """
    result: Tensor = _TakeRows.apply(table, rows)
    return result


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.size = len(table)
        return table.index_select(0, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return add_rows(gradient.new_zeros(ctx.size, *gradient.shape[1:]), rows, gradient), None


def gaps(matrix: CSR, size: int) -> Tensor:
    """What :func:`absent` searches, [E]: ``row * size + p_j - j``.

    Args:
        matrix: of int64, its columns in [0, size), distinct and ascending within a row.
        size: number of ids there are.
    """
    rows = torch.repeat_interleave(matrix.lengths())
    places = torch.arange(rows.numel(), device=rows.device) - matrix.indptr[rows]
    return rows * size + matrix.indices - places


def absent(indptr: Tensor, row_gaps: Tensor, size: int, rows: Tensor, ranks: Tensor) -> Tensor:
    """For each of ``rows`` the id of that rank among those it does not hold.

    Args:
        indptr: [N + 1] int64.
        row_gaps: [E], of :func:`gaps`.
        size: number of ids there are.
        rows: int64, of a shape that broadcasts to that of ``ranks``.
        ranks: int64, from 0 to the number of absent ids - 1, of any shape.
    """
    before = torch.searchsorted(row_gaps, rows * size + ranks, right=True)
    return ranks + before - indptr[rows]
