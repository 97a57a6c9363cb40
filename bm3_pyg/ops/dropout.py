"""Inverted dropout, without the gradient that targets do not have."""

from __future__ import annotations

import torch
from torch import Tensor

from bm3_pyg.ops.backend import backend_for


def dropout(x: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """``x`` [n, D] with each element 0 with probability ``rate``, else scaled by 1 / (1 - rate); no gradient flows.

    Compiled loops draw one number, the seed of a SplitMix64 stream, from ``generator`` (PyTorch's global one by
    default); elsewhere every element draws its own. Either way the generator's state decides the result.

    Args:
        x: [n, D].
        rate: in [0, 1).
        generator: on the device of ``x``.
    """
    x = x.detach()
    if rate == 0:
        return x
    scale = 1 / (1 - rate)
    if backend_for(x) != "numba":
        keep = torch.rand(x.shape, generator=generator, device=x.device) >= rate
        return (x * keep).mul_(scale)
    from bm3_pyg.ops import compiled_loss

    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    seed = torch.empty((), dtype=torch.int64).random_(generator=generator)
    values = x.contiguous().view(-1).numpy()
    number = values.dtype.type
    start, threshold = compiled_loss.words(int(seed), round(rate * 2**32))
    compiled_loss.drop(values, start, threshold, number(scale), out.view(-1).numpy())
    return out
