"""Every recommender, BM3 first, each in one file, and all of them by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bm3_pyg.errors import ConfigError, nearest
from bm3_pyg.models.bm3 import BM3
from bm3_pyg.models.bm3_lightgcn import BM3LightGCN
from bm3_pyg.models.bprmf import BPRMF
from bm3_pyg.models.freedom import FREEDOM
from bm3_pyg.models.itemknn import ItemKNN
from bm3_pyg.models.lightgcn import LightGCN
from bm3_pyg.models.popularity import Popularity
from bm3_pyg.models.vbpr import VBPR

MODELS: Mapping[str, Any] = MappingProxyType(
    {cls.__name__.lower(): cls for cls in (BM3, BPRMF, FREEDOM, ItemKNN, LightGCN, Popularity, VBPR)}
)
"""Every model by its name in ``config.yaml`` and for ``bm3 train --model``."""

__all__ = [
    "BM3",
    "BPRMF",
    "FREEDOM",
    "MODELS",
    "VBPR",
    "BM3LightGCN",
    "ItemKNN",
    "LightGCN",
    "Popularity",
    "model_named",
    "name_of",
    "option_names",
]


def name_of(model: object) -> str:
    """What ``config.yaml`` calls the class of ``model``: its name in :data:`MODELS` if it is one of those.

    Another class has its own name in lower case, in full where one of those has the same.
    """
    kind = type(model)
    name = kind.__name__.lower()
    return name if MODELS.get(name, kind) is kind else f"{kind.__module__}.{kind.__qualname__}"


def model_named(name: object) -> Any:
    """The class of :data:`MODELS` called ``name``.

    Raises:
        ConfigError: if there is none.
    """
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(f"model: got {name!r}, {nearest(str(name), MODELS)}")
    return MODELS[name]


def option_names(name: str) -> tuple[str, ...]:
    """The options of the model called ``name``: its constructor's keyword-only arguments."""
    parameters = inspect.signature(model_named(name).__init__).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)
