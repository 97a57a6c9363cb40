"""Compiled loops on as many threads as PyTorch uses.

The loops are compiled to release the GIL and run on plain threads, which take the next part when they are done with
one. So there is no second OpenMP runtime beside PyTorch's (two of them spin against each other, and GNU's ends a
process that forks), a slow core does not hold up the others, and calls from several threads are safe.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

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
