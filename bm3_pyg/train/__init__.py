"""Training runs: settings, the loop, the run directory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bm3_pyg.train.config import TrainConfig
    from bm3_pyg.train.loop import TrainResult, fit
    from bm3_pyg.train.run import load_run

__all__ = ["TrainConfig", "TrainResult", "fit", "load_run"]
_HOMES = {"TrainConfig": "config", "TrainResult": "loop", "fit": "loop", "load_run": "run"}


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for, so that reading settings does not wait for PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
