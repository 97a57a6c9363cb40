"""The k best items of each row, with hidden items left out."""

from __future__ import annotations

import torch
from torch import Tensor

from bm3_pyg.errors import DataError
from bm3_pyg.ops.backend import backend_for
from bm3_pyg.ops.parallel import parallel

ROWS = 16  # rows in a part
LARGEST = 256  # beyond this k, sorting is faster than inserting


def masked_topk(
    scores: Tensor, indptr: Tensor, hidden: Tensor, k: int, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ``k`` highest scores of each row and their items, best first; of equal scores the lower item id comes first.

    Row b hides the items ``hidden[indptr[r]:indptr[r + 1]]`` with ``r = rows[b]``, so one CSR matrix over all users
    serves any block of users. Hidden items score -inf: they come last, with that value, where fewer than k are left.

    Args:
        scores: [B, I]; hidden entries are overwritten. NaN counts as -inf.
        indptr: [N + 1] int64.
        hidden: [n] int64 item ids.
        k: 1 or more; I is taken where k is larger.
        rows: [B] int64 rows of the CSR matrix; 0 to B - 1 by default.

    Returns:
        values [B, min(k, I)] and item ids [B, min(k, I)].

    Raises:
        DataError: if the shapes do not fit together.
    """
    if scores.dim() != 2 or k < 1:
        raise DataError(f"top-k: got scores {list(scores.shape)} and k = {k}, expected [B, I] and k of 1 or more")
    k = min(k, scores.size(1))
    if rows is None:
        rows = torch.arange(scores.size(0), device=scores.device)
    if rows.shape != scores.shape[:1]:
        raise DataError(f"top-k: got {rows.numel()} rows for {scores.size(0)} rows of scores")
    start, count = indptr[rows], indptr.diff()[rows]
    if k <= LARGEST and scores.is_contiguous() and backend_for(scores) == "numba":
        return _compiled(scores.detach(), start, start + count, hidden, k)
    row = torch.repeat_interleave(count)
    offset = torch.arange(row.numel(), device=scores.device) - (count.cumsum(0) - count)[row]
    scores = scores.detach()
    scores[row, hidden[start[row] + offset]] = float("-inf")
    return _by_torch(scores.masked_fill(scores.isnan(), float("-inf")), k)  # torch would put NaN first


def _compiled(scores: Tensor, start: Tensor, stop: Tensor, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
    from bm3_pyg.ops.compiled import topk

    size = scores.size(0)
    values, ids = scores.new_empty(size, k), torch.empty(size, k, dtype=torch.long)
    arrays = [tensor.numpy() for tensor in (scores, start, stop, hidden, values, ids)]
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
