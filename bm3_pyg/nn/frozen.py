"""Feature tables that are not trained."""

from __future__ import annotations

import torch
from torch import Tensor

LARGE_BYTES = 2**28


def frozen_table(features: Tensor) -> Tensor:
    """What to read the rows of ``features`` [I, d] from; :meth:`bm3_pyg.nn.RowTable.gather` gives them as float32.

    A copy in float16 (float32 if a value is beyond float16's range); but ``features`` themselves where they take more
    than LARGE_BYTES on a CPU, so that large ones are held once, or stay on disk where they are memory-mapped, as those
    from the dataset cache are.
    """
    features = features.detach()
    if features.device.type == "cpu" and features.numel() * features.element_size() > LARGE_BYTES:
        return features
    fits = features.numel() == 0 or bool(features.abs().max() <= torch.finfo(torch.float16).max)
    return features.to(torch.float16 if fits else torch.float32, copy=True)
