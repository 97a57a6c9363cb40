"""Features brought to one scale."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 2**22  # elements read at a time


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
