"""How a command loads other libraries: what it never uses not at all, the rest so that its time is known."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from bm3_pyg.timeline import part
from bm3_pyg.waiting import waiting


def _disable(fn: Any = None, *_: Any, **__: Any) -> Any:
    """What is not compiled needs no keeping from it; without ``fn`` this is called as a decorator with arguments."""
    return _disable if fn is None else fn


SELDOM_NEEDED: dict[str, dict[str, Any]] = {
    "torch._dynamo": {"disable": _disable},
    "torch.distributed.tensor": {"DTensor": type("DTensor", (), {})},
    "torch_geometric.datasets": {},
}
"""Modules that PyTorch and PyG import, with half of all their time, and commands never use: PyTorch's compiler, tensors
spread over machines, and PyG's datasets, with transformers and pandas below them. And what they are asked nevertheless:
not to compile some methods of optimizers, and which tensors are spread: none."""
LARGE = frozenset({"numba", "numpy", "polars", "torch", "torch_geometric"})
"""Modules whose time, with all that they import, counts as "import" (:func:`bm3_pyg.timeline.part`)."""


def load_when_used() -> None:
    """Let the modules of :data:`SELDOM_NEEDED` be loaded when anything else of them is asked for, in this process."""
    if "torch" not in sys.modules and _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in SELDOM_NEEDED and name not in LARGE:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = (_Later if name in SELDOM_NEEDED else _Counted)(spec.loader)
        return spec


class _Counted(Loader):
    """Loads a module with the ``loader`` of its own."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        with part("import"), waiting(f"loading {module.__name__}"):
            self.loader.exec_module(module)


class _Later(_Counted):
    """Leaves a module to load itself."""

    def exec_module(self, module: ModuleType) -> None:
        del module.__path__  # so that submodules, which are looked for there, come after it
        module.__class__ = _StandIn


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name in (answers := SELDOM_NEEDED[self.__name__]):
            return answers[name]
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec = self.__spec__
        assert spec is not None
        assert isinstance(spec.loader, _Later)
        self.__path__ = spec.submodule_search_locations or []
        _Counted(spec.loader.loader).exec_module(self)
        return getattr(self, name)
