"""What a command does not load before it needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

SELDOM_NEEDED = frozenset({"torch._dynamo", "torch_geometric.datasets"})
"""Modules that ``import torch_geometric`` imports, with half of all its time, and most commands never use: PyTorch's
compiler (optimizers look at it, ranking does not), and PyG's datasets, with transformers and pandas below them."""


def load_when_used() -> None:
    """Let the modules of :data:`SELDOM_NEEDED` be loaded when something of them is asked for, in this process.

    They are not replaced by anything: it is :class:`importlib.util.LazyLoader` that loads them.
    """
    if "torch" not in sys.modules and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in SELDOM_NEEDED:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec
