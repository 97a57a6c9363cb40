"""Modules that are imported when something of them is first asked for.

So that reading arguments and files does not wait for PyTorch: wrong input is told at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for the module called ``name``; type checkers see the module itself::

    if TYPE_CHECKING:
        import torch
    else:
        torch = Later("torch")
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
