r"""The ids that a row of a CSR matrix does not hold, by their rank among them.

Let :math:`p_0 < p_1 < \dots` be a row's ids. The r-th of the others, from 0, is :math:`r + c`, where c counts the j
with :math:`p_j - j \le r`. As :math:`p_j - j` never falls, one binary search over the values of all rows finds c. With
r uniform, an id outside the row is drawn and nothing is drawn in vain.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gaps(indptr: Tensor, ids: Tensor, size: int) -> Tensor:
    """What :func:`absent` searches, [E]: ``row * size + p_j - j``.

    Args:
        indptr: [N + 1] int64.
        ids: [E] int64, in [0, size), distinct and ascending within a row.
        size: number of ids there are.
    """
    rows = torch.repeat_interleave(indptr.diff())
    return rows * size + ids - (torch.arange(ids.numel(), device=ids.device) - indptr[rows])


def absent(indptr: Tensor, found_gaps: Tensor, size: int, rows: Tensor, ranks: Tensor) -> Tensor:
    """For each of ``rows`` the id of that rank among those it does not hold.

    Args:
        indptr: [N + 1] int64.
        found_gaps: [E], of :func:`gaps`.
        size: number of ids there are.
        rows: int64, of a shape that broadcasts to that of ``ranks``.
        ranks: int64, from 0 to the number of absent ids - 1, of any shape.
    """
    before = torch.searchsorted(found_gaps, rows * size + ranks, right=True)
    return ranks + before - indptr[rows]
