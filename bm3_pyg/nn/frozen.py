"""Feature tables that are not trained: half precision, and on disk where they are large."""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from torch import Tensor

LARGE_BYTES = 2**28
BLOCK_ROWS = 4096


def frozen_table(features: Tensor) -> Tensor:
    """A copy of ``features`` [I, d] in float16 (float32 if a value is beyond float16's range).

    A copy of more than LARGE_BYTES is memory-mapped from a temporary file (in TMPDIR) that vanishes with the process,
    so that the system can drop what is not in use. :meth:`bm3_pyg.nn.RowTable.gather` reads rows as float32.
    """
    blocks = features.detach().split(BLOCK_ROWS)
    largest = torch.finfo(torch.float16).max
    dtype = torch.float16 if all(block.abs().max() <= largest for block in blocks if block.numel()) else torch.float32
    if features.numel() * dtype.itemsize <= LARGE_BYTES or features.device.type != "cpu":
        return features.detach().to(dtype, copy=True)
    table = _on_disk(features.numel() * dtype.itemsize).view(dtype).view(features.shape)
    for block, start in zip(blocks, range(0, features.size(0), BLOCK_ROWS), strict=True):
        table[start : start + block.size(0)] = block
    return table


def _on_disk(size: int) -> Tensor:
    """Bytes [size] of a temporary file."""
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="r+", shape=(size,)))
