"""Kernels compute in the precision of their tables, also under autocast."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with autocast off: what it casts down is lost in the cosines' and the moments' cancellations."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        on = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
        if not on:
            return function(*args, **kwargs)
        with torch.autocast(on[0], enabled=False), torch.autocast(on[-1], enabled=False):
            return function(*args, **kwargs)

    return run
