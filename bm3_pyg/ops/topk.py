"""The k best columns of each row of scores, with hidden ones left out; the most similar rows of a table, by cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bm3_pyg.errors import DataError, check_number
from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.cpu import parallel
from bm3_pyg.ops.csr import CSR
from bm3_pyg.ops.precision import full_precision

ROWS = 16  # rows in a part
USERS = 128  # users in a part of dot products
LARGEST = 256  # beyond this k, sorting is faster than inserting
GRID = 2.0**20  # cosines are rounded to multiples of 1 / GRID, so that rows that are alike tie however sums are split


def masked_topk(scores: Tensor, k: int, hidden: CSR | None = None, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` highest scores of each row and their items, best first; of equal scores the lower item id comes first.

    Row b hides the items of row ``rows[b]`` of ``hidden``, so one matrix over all users serves any block of users.
    Hidden items score -inf: they come last, with that value, where fewer than k are left.

    Args:
        scores: [B, I]; hidden entries and NaN, which counts as -inf, may be overwritten.
        k: 1 or more; I is taken where k is larger.
        hidden: [N, I] of int64; nothing is hidden by default.
        rows: [B] int64 rows of ``hidden``; 0 to B - 1 by default.

    Returns:
        values [B, min(k, I)] and item ids [B, min(k, I)].

    Raises:
        DataError: if the shapes do not fit together.
    """
    if scores.dim() != 2 or k < 1:
        raise DataError(f"top-k: got scores {list(scores.shape)} and k = {k}, expected [B, I] and k of 1 or more")
    k = min(k, scores.size(1))
    first = torch.arange(scores.size(0), device=scores.device)
    rows = first if rows is None else rows
    if rows.shape != scores.shape[:1]:
        raise DataError(f"top-k: got {rows.numel()} rows for {scores.size(0)} rows of scores")
    scores = scores.detach()
    if hidden is None:
        hidden, rows = CSR(first.new_zeros(len(first) + 1), first[:0]), first
    if k <= LARGEST and scores.is_contiguous() and backend_for(scores) == "numba":
        return _compiled(scores, k, hidden, rows)
    scores[hidden.entries(rows)] = float("-inf")
    # torch would put NaN first
    return _by_torch(scores.nan_to_num_(nan=-math.inf, posinf=math.inf, neginf=-math.inf), k)


@dataclass(frozen=True, eq=False)
class DotProducts:
    """Scores that are dot products of ``users`` [U, D] and ``items`` [I, D]: user ids [B] -> scores [B, I]."""

    users: Tensor
    items: Tensor

    @full_precision
    def __call__(self, ids: Tensor) -> Tensor:
        return self.users[ids] @ self.items.T

    def fused(self, k: int) -> bool:
        """Whether :func:`dot_topk` ranks them, rather than :func:`masked_topk`."""
        tables = (self.users, self.items)
        return k <= LARGEST and all(x.dtype == torch.float32 and backend_for(x) == "numba" for x in tables)


def dot_topk(
    scorer: DotProducts, rows: Tensor, k: int, hidden: CSR, barred: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""What :func:`masked_topk` finds in ``scorer(rows)``, without ever storing the scores.

    Items are taken in descending order of their norms. A user whose k-th best score so far is above
    :math:`\lVert u \rVert \max_i \lVert i \rVert` over the items left is done (Teflioudi et al., `"LEMP: Fast Retrieval
    of Large Entries in a Matrix Product" <https://doi.org/10.1145/2723372.2747647>`_, SIGMOD 2015). The result is
    exact: only the order in which a dot product is summed differs.

    Args:
        scorer: of which :meth:`DotProducts.fused` holds.
        rows: [B] int64 users, which are rows of ``hidden`` too.
        k: from 1 to LARGEST; I is taken where k is larger.
        hidden: [U, I] of int64.
        barred: [I] bool, true for the items hidden from all.
    """
    from bm3_pyg.ops.numba_dots import WIDTH, dot_topk

    users, items = scorer.users.detach()[rows], scorer.items.detach()
    num_items, dim = items.shape
    # Rounding makes a sum of D products larger by less than D 2^-24 of its bound, or by D of the smallest numbers.
    margin = 1 + (dim + 2) * 2.0**-23
    lengths, norms = ((x.double().norm(dim=1) * margin).clamp(min=1e-20) for x in (users, items))
    order = norms.argsort(descending=True, stable=True)
    if barred is not None:
        order = order[~barred[order]]
    places = torch.full((num_items,), -1, dtype=torch.int32)
    places[order] = torch.arange(len(order), dtype=torch.int32)
    count = -(-len(order) // WIDTH)
    ordered = torch.full((count * WIDTH,), -1, dtype=torch.int32)
    ordered[: len(order)] = order.int()
    panels = items.new_empty(count, dim, WIDTH)
    panels.copy_(items[ordered.clamp(min=0).long()].view(count, WIDTH, dim).transpose(1, 2))
    peaks = norms[ordered[::WIDTH].long()]
    values = users.new_empty(len(rows), min(k, num_items))
    ids = torch.empty(values.shape, dtype=torch.long)
    start, stop = hidden.indptr[rows], hidden.indptr[1:][rows]
    tensors = (users, lengths, panels, ordered, places, peaks, start, stop, hidden.indices, values, ids)
    arrays = [tensor.numpy() for tensor in tensors]
    parallel(dot_topk, ((*arrays, low, min(low + USERS, len(rows))) for low in range(0, len(rows), USERS)))
    return values, ids


def nearest_rows(features: Tensor, k: int, *, memory_mb: float = 64) -> tuple[Tensor, Tensor]:
    """The ``k`` other rows most similar to each row, best first; of equal cosines the lower id comes first.

    Cosines are rounded to multiples of 2^-20, so that equal rows, as missing features filled alike, tie. A zero row has
    cosine 0 with every row. Exact search in blocks of rows: memory is bounded, never [I, I].

    Args:
        features: [I, d] of any dtype, possibly memory-mapped; similarities are computed in float32, or in float64 if
            the features are float64.
        k: 1 or more; I - 1 is taken where k is larger.
        memory_mb: about how much memory to use beside ``features`` and the result, in MiB.

    Returns:
        ids [I, min(k, I - 1)] int64 and cosines of the same shape.

    Raises:
        ConfigError: if ``k`` is not a positive integer.
        DataError: if ``features`` is not a matrix, or a row holds NaN or infinity.
    """
    check_number("k", k, int, 1)
    if features.dim() != 2:
        raise DataError(f"nearest rows: got features {list(features.shape)}, expected [I, d]")
    features = features.detach()
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    count, dim = features.shape
    k = min(k, count - 1)
    ids = torch.empty(count, max(0, k), dtype=torch.int64, device=features.device)
    cosines = torch.empty(ids.shape, dtype=dtype, device=features.device)
    if k < 1:
        return ids, cosines
    numbers = memory_mb * 2**20 / dtype.itemsize
    height = max(1, int(numbers / 2 / (count + dim)))
    width = max(1, int(numbers / 4 / (height + dim)))
    scale = _inverse_norms(features, dtype, width)
    scores = features.new_empty(min(height, count), count, dtype=dtype)
    for low in range(0, count, height):
        block = features[low : low + height].to(dtype) * scale[low : low + height, None]
        rows = torch.arange(len(block) + 1, device=features.device)
        similarity = scores[: len(block)]
        for left in range(0, count, width):
            similarity[:, left : left + width] = block @ features[left : left + width].to(dtype).T
        similarity.mul_(scale).mul_(GRID).round_().div_(GRID)
        here = slice(low, low + len(block))
        cosines[here], ids[here] = masked_topk(similarity, k, CSR(rows, low + rows[:-1]))
    return ids, cosines


def _compiled(scores: Tensor, k: int, hidden: CSR, rows: Tensor) -> tuple[Tensor, Tensor]:
    from bm3_pyg.ops.numba_kernels import topk

    size, start, stop = scores.size(0), hidden.indptr[rows], hidden.indptr[1:][rows]
    values, ids = scores.new_empty(size, k), torch.empty(size, k, dtype=torch.long)
    arrays = [tensor.numpy() for tensor in (scores, start, stop, hidden.indices, values, ids)]
    parallel(topk, ((*arrays, low, min(low + ROWS, size)) for low in range(0, size, ROWS)))
    return values, ids


def _by_torch(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if k == scores.size(1):
        values, ids = torch.sort(scores, dim=1, descending=True, stable=True)
        return values, ids
    # torch.topk settles ties as it likes: mend the rows where the best item left out ties with the worst one taken,
    # then order equal scores by id.
    values, ids = torch.topk(scores, k + 1, dim=1)
    torn = (values[:, k] == values[:, k - 1]).nonzero()[:, 0]
    ids = ids[:, :k].contiguous()
    if torn.numel():
        ids[torn] = _lowest_ids(scores[torn], values[torn, k - 1, None], k)
    ids = ids.sort(dim=1).values
    values, order = torch.sort(scores.gather(1, ids), dim=1, descending=True, stable=True)
    return values, ids.gather(1, order)


def _lowest_ids(scores: Tensor, lowest: Tensor, k: int) -> Tensor:
    """Items that score above ``lowest`` [B, 1], and of those that score just that the first, k in all."""
    above, tied = scores > lowest, scores == lowest
    tied &= tied.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True)
    return (above | tied).nonzero()[:, 1].view(-1, k)


def _inverse_norms(features: Tensor, dtype: torch.dtype, block: int) -> Tensor:
    """[I], 0 for zero rows."""
    norms = torch.cat([torch.linalg.vector_norm(rows.double(), dim=1) for rows in features.split(block)])
    if not norms.isfinite().all():
        row = int((~norms.isfinite()).nonzero()[0])
        raise DataError(f"nearest rows: row {row} holds NaN or infinity, expected finite features")
    return torch.where(norms > 0, norms.reciprocal(), 0).to(dtype)
