"""A bipartite interaction graph, prepared once for propagation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bm3_pyg.errors import DataError, check_number
from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.cpu import Recycler
from bm3_pyg.ops.csr import CSR, offsets

PART_WORK = 32768  # rows and entries in a part: enough to pay for handing it to a thread
MAX_PARTS = 256


@dataclass(frozen=True, eq=False)
class Half(CSR):
    """One half of A-hat as a CSR matrix [N, M]: R (users by items) or its transpose.

    Entry (r, c) is ``row_scale[r] * column_scale[c]``, the scales being degree^-1/2 in double precision, and 0 for
    isolated nodes.
    """

    row_scale: Tensor
    column_scale: Tensor

    def to(self, device: torch.device | str) -> Half:
        return Half(*(x.to(device) for x in (self.indptr, self.indices, self.row_scale, self.column_scale)))

    @cached_property
    def parts(self) -> list[tuple[int, int]]:
        """Ranges of rows with about equal work, the same for any number of threads."""
        work = self.indptr.numpy() + 2 * np.arange(self.indptr.numel())
        count = int(min(MAX_PARTS, work[-1] // PART_WORK)) + 1
        bounds = np.searchsorted(work, np.linspace(0, work[-1], count + 1)[1:-1]).tolist()
        bounds = [0, *bounds, self.indptr.numel() - 1]
        return list(pairwise(bounds))

    def __reduce__(self) -> tuple[type[Half], tuple[Tensor, ...]]:
        """Without what is computed when first asked for."""
        return Half, (self.indptr, self.indices, self.row_scale, self.column_scale)

    def times(self, w: Tensor) -> Tensor:
        """The product with w [M, D] by PyTorch's operators or torch_sparse, in the dtype of ``w``."""
        indptr, indices, values = self._matrix
        shape = self.row_scale.numel(), self.column_scale.numel()
        if backend_for(w) == "torch_sparse":
            from torch_sparse import SparseTensor

            from bm3_pyg.ops.fused import weighted_sum

            entries = {"rowptr": indptr, "col": indices, "value": values.to(w.dtype)}
            product: Tensor = weighted_sum(
                w, SparseTensor(**entries, sparse_sizes=shape, is_sorted=True, trust_data=True)
            )
            return product
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # CSR tensors call themselves beta
            matrix = torch.sparse_csr_tensor(indptr, indices, values.to(w.dtype), shape, check_invariants=False)
        return torch.sparse.mm(matrix, w, "sum") if w.is_cpu else matrix @ w

    @cached_property
    def _matrix(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row pointers, columns and values in double precision; on a CPU int64, for which PyTorch is faster."""
        rows = torch.repeat_interleave(self.row_scale, self.lengths(), output_size=self.indices.numel())
        index = torch.int64 if self.indptr.is_cpu else self.indptr.dtype
        return self.indptr.to(index), self.indices.to(index), rows * self.column_scale[self.indices.long()]


@dataclass(frozen=True, eq=False)
class Graph:
    """A bipartite interaction graph, prepared for propagation; see :func:`build_graph`. Immutable."""

    num_users: int
    num_items: int
    by_user: Half
    by_item: Half
    memory: Recycler = field(default_factory=Recycler, repr=False)

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on ``device``; itself if it is there already."""
        if self.by_user.indptr.device == torch.empty(0, device=device).device:
            return self
        return Graph(self.num_users, self.num_items, self.by_user.to(device), self.by_item.to(device))

    def edge_index(self) -> Tensor:
        """The distinct interactions [2, E] as int64, user ids above item ids, by user."""
        users = torch.repeat_interleave(self.by_user.lengths())
        return torch.stack([users.long(), self.by_user.indices.long()])

    def both_directions(self) -> Tensor:
        """[2, 2E] as int64, in one id space with users first: the distinct interactions, then the same reversed."""
        pairs = self.edge_index()
        pairs[1] += self.num_users
        return torch.cat([pairs, pairs.flip(0)], dim=1)

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self


def build_graph(edge_index: Any, num_users: int, num_items: int) -> Graph:
    """Prepare the training interactions for :func:`propagate`.

    Args:
        edge_index: user ids above item ids, an integer tensor [2, E] or PyG ``EdgeIndex``; or the [U, I] matrix of
            interactions as a sparse tensor of PyTorch (CSR or COO) or as a ``torch_sparse.SparseTensor``, whose values
            are ignored. Repeated interactions count once.
        num_users: U.
        num_items: I.

    Raises:
        ConfigError: if U or I is not a positive integer.
        DataError: if the shape or type is another, or an id is outside [0, U) or [0, I).
    """
    check_number("num_users", num_users, int, 1, 2**31)
    check_number("num_items", num_items, int, 1, 2**31)
    users, items = _interactions(edge_index, num_users, num_items)
    for name, ids, count in (("user", users, num_users), ("item", items, num_items)):
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < count:
            wrong = ids[(ids < 0) | (ids >= count)][0]
            raise DataError(f"edge_index: got {name} {int(wrong)}, expected ids from 0 to {count - 1}")
    key = torch.unique(users * num_items + items)
    users, items = key // num_items, key % num_items
    by_item = torch.argsort(items, stable=True)
    user_degree = torch.bincount(users, minlength=num_users)
    item_degree = torch.bincount(items, minlength=num_items)
    user_scale, item_scale = _inverse_root(user_degree), _inverse_root(item_degree)
    index = torch.int32 if max(key.numel(), num_users, num_items) < 2**31 else torch.int64  # half the memory to read
    return Graph(
        num_users,
        num_items,
        Half(offsets(user_degree).to(index), items.to(index), user_scale, item_scale),
        Half(offsets(item_degree).to(index), users[by_item].to(index), item_scale, user_scale),
    )


def _interactions(edge_index: Any, num_users: int, num_items: int) -> tuple[Tensor, Tensor]:
    """User ids [E] and item ids [E] of any accepted form, as int64."""
    if hasattr(edge_index, "coo"):  # torch_sparse.SparseTensor, without importing it
        shape, (users, items, _) = tuple(edge_index.sizes()), edge_index.coo()
    elif isinstance(edge_index, Tensor) and edge_index.layout != torch.strided:
        shape, (users, items) = tuple(edge_index.shape), edge_index.to_sparse_coo().coalesce().indices()
    elif isinstance(edge_index, Tensor):
        if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.is_floating_point():
            kind = f"{edge_index.dtype} {list(edge_index.shape)}"
            raise DataError(f"edge_index: got {kind}, expected an integer tensor [2, E]")
        shape, (users, items) = (num_users, num_items), edge_index
    else:
        raise DataError(f"edge_index: got {type(edge_index).__name__}, expected a tensor [2, E] or a sparse matrix")
    if shape != (num_users, num_items):
        raise DataError(f"edge_index: got a matrix {list(shape)}, expected [{num_users}, {num_items}]")
    return users.long(), items.long()


def _inverse_root(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.double().rsqrt(), 0)
