"""The most similar rows of a table, by cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from bm3_pyg.errors import DataError, check_number
from bm3_pyg.ops.topk import masked_topk

GRID = 2.0**20  # cosines are rounded to multiples of 1 / GRID, so that rows that are alike tie however sums are split


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
        found = scores[: len(block)]
        for left in range(0, count, width):
            found[:, left : left + width] = block @ features[left : left + width].to(dtype).T
        found.mul_(scale).mul_(GRID).round_().div_(GRID)
        here = slice(low, low + len(block))
        cosines[here], ids[here] = masked_topk(found, rows, low + rows[:-1], k)
    return ids, cosines


def _inverse_norms(features: Tensor, dtype: torch.dtype, block: int) -> Tensor:
    """[I], 0 for zero rows."""
    norms = torch.cat([torch.linalg.vector_norm(rows.double(), dim=1) for rows in features.split(block)])
    if not norms.isfinite().all():
        row = int((~norms.isfinite()).nonzero()[0])
        raise DataError(f"nearest rows: row {row} holds NaN or infinity, expected finite features")
    return torch.where(norms > 0, norms.reciprocal(), 0).to(dtype)
