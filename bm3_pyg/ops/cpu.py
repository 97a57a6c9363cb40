"""Memory and threads of a CPU.

The first touch of fresh memory costs more than the arithmetic on it: filling a new [192403, 64] float32 tensor takes
five times as long as filling one that has been touched before. So large tensors are used again.

Compiled loops release the GIL and run on as many plain threads as PyTorch uses, which take the next part when they are
done with one. So there is no second OpenMP runtime beside PyTorch's (two of them spin against each other, and GNU's
ends a process that forks), a slow core does not hold up the others, and calls from several threads are safe.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

SMALL = 1 << 20  # bytes; below this the system's allocator does not go back to the kernel
ROUNDED = 512  # rows; of a table so many at a time
FREE_BLOCKS = 4  # of each size: what one training step holds at once


class Recycler:
    """Hands out uninitialised CPU tensors and takes their memory back when nobody can see it any more.

    A block returns only when the last tensor that shares its storage is gone: views, saved tensors and gradients
    included. So a tensor from here can be kept, returned to a user or saved for backward like any other.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Any]] = {}
        self._rows: dict[int, int] = {}  # the most that were asked for, by the size of a row

    def __reduce__(self) -> tuple[type[Recycler], tuple[()]]:
        """Copies and pickles begin without memory."""
        return Recycler, ()

    def empty_like(self, x: Tensor) -> Tensor:
        """A contiguous tensor with the shape, dtype and device of ``x``; only CPU memory is used again."""
        if not x.is_cpu:
            return torch.empty(x.shape, dtype=x.dtype, device=x.device)
        size = x.numel() * x.element_size()
        if size < SMALL:
            return torch.empty(x.shape, dtype=x.dtype)
        free = self._free.setdefault(size, [])
        try:
            block = free.pop()
        except IndexError:
            block = torch.empty(size, dtype=torch.uint8).numpy()
        # The tensor's storage owns this view, so the view dies with the storage.
        view = block[:]
        weakref.finalize(view, _take_back, free, block).atexit = False
        return torch.from_numpy(view).view(x.dtype).view(x.shape)

    def empty_rows(self, count: int, table: Tensor) -> Tensor:
        """A tensor [count, d] as :meth:`empty_like` a table [N, d]; all numbers of rows share memory."""
        if not table.is_cpu:
            return torch.empty(count, table.shape[1], dtype=table.dtype, device=table.device)
        width = table.shape[1] * table.element_size()
        before = self._rows.get(width, 0)
        capacity = max(before, -(-count // ROUNDED) * ROUNDED)
        if capacity > before:
            self._free.pop(before * width, None)
            self._rows[width] = capacity
        return self.empty_like(table.new_empty(1, table.shape[1]).expand(capacity, -1))[:count]


def _take_back(free: list[Any], block: Any) -> None:
    if len(free) < FREE_BLOCKS:
        free.append(block)


_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def parallel(function: Callable[..., object], parts: Iterable[tuple[Any, ...]]) -> None:
    """Call ``function(*part)`` for every part, in any order, on ``torch.get_num_threads()`` threads.

    Results must not depend on the order: each part writes its own rows.
    """
    queue = deque(parts)

    def work() -> None:
        while True:
            try:
                part = queue.popleft()
            except IndexError:
                return
            function(*part)

    helpers = min(torch.get_num_threads(), len(queue)) - 1
    if helpers < 1:
        return work()
    pool = _pools.get(helpers)
    if pool is None:
        pool = _pools.setdefault(helpers, ThreadPoolExecutor(helpers, thread_name_prefix="bm3-kernel"))
    running = [pool.submit(work) for _ in range(helpers)]
    work()
    for future in running:
        future.result()
