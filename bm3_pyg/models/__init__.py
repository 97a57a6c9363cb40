"""Every recommender, BM3 first, each in one file, and all of them by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bm3_pyg import names
from bm3_pyg.models.bm3 import BM3
from bm3_pyg.models.bm3_lightgcn import BM3LightGCN
from bm3_pyg.models.bprmf import BPRMF
from bm3_pyg.models.freedom import FREEDOM
from bm3_pyg.models.itemknn import ItemKNN
from bm3_pyg.models.lightgcn import LightGCN
from bm3_pyg.models.popularity import Popularity
from bm3_pyg.models.vbpr import VBPR
from bm3_pyg.names import check_model, is_own, keyword_options, own_class

MODELS: Mapping[str, Any] = MappingProxyType(
    {name: getattr(sys.modules[__name__], cls) for name, (_, cls) in names.MODELS.items()}
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


def name_of(model: object, before: str | None = None) -> str:
    """What ``config.yaml`` calls the class of ``model``: its name in :data:`MODELS`, or ``module:Class`` for another.

    A class that cannot be imported, as one of a script or a function, has its own name in lower case, in full where a
    model here has the same. So all other classes were called once: where a run says so ``before``, that stays. And
    where it says ``module:Class``, a class of that name that cannot be imported now, as it stands in the script that
    runs or its module was loaded anew, is taken to be the same.
    """
    kind = type(model)
    name = kind.__name__.lower()
    if MODELS.get(name) is kind:
        return name
    own = f"{kind.__module__}.{kind.__qualname__}" if name in MODELS else name
    if kind.__module__ != "__main__" and getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind:
        return own if own == before else f"{kind.__module__}:{kind.__qualname__}"
    return before if before is not None and before.endswith(f":{kind.__qualname__}") else own


def model_named(name: object) -> Any:
    """The class of :data:`MODELS` called ``name``, or that of one's own called ``module:Class``.

    Raises:
        ConfigError: if there is none.
    """
    check_model(name)
    return own_class(str(name)) if is_own(name) else MODELS[str(name)]


def option_names(name: str) -> tuple[str, ...]:
    """The options of the model called ``name``: its constructor's keyword-only arguments."""
    return tuple(keyword_options(model_named(name)))
