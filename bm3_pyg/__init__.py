"""BM3 multimodal recommendation on PyTorch Geometric."""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    # Compiled loops alternate with PyTorch's operators on the same cores. Its idle threads should wait briefly: long
    # waits take the loops' cores, and without any each small operator has to wake them. Read when torch is loaded.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

if TYPE_CHECKING:
    from bm3_pyg.data import load_dataset
    from bm3_pyg.errors import BM3Error
    from bm3_pyg.eval import evaluate, recommend
    from bm3_pyg.nn import BM3, BM3LightGCN
    from bm3_pyg.optim import build_optimizer
    from bm3_pyg.train import TrainConfig, fit, load_run

__version__ = "0.1.0"
__all__ = [
    "BM3",
    "BM3Error",
    "BM3LightGCN",
    "TrainConfig",
    "build_optimizer",
    "evaluate",
    "fit",
    "load_dataset",
    "load_run",
    "recommend",
]
_HOMES = {
    "BM3": "nn",
    "BM3Error": "errors",
    "BM3LightGCN": "nn",
    "TrainConfig": "train",
    "build_optimizer": "optim",
    "evaluate": "eval",
    "fit": "train",
    "load_dataset": "data",
    "load_run": "train",
    "recommend": "eval",
}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for, so that ``bm3 --help`` does not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
