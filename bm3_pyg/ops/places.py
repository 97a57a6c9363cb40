"""Repeated ids and rows, without waiting for a GPU and with the same result every time."""

from __future__ import annotations

import torch
from torch import Tensor


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
    """``out[places[i]] += values[i]`` for every i, in place; in a fixed order, unlike ``index_add_`` on a GPU.

    Shapes: out [n, d], places [k] int64, values [k, d].
    """
    if out.is_cuda:
        return out.index_put_((places,), values, accumulate=True)
    return out.index_add_(0, places, values)
